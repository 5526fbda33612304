"""Decoding of pictures and sound by PyAV: only the given file is opened, sizes are bounded, and damaged
packets are skipped and counted. Also the sound of a file, piece by piece or whole."""
from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.stream import Disposition
from torch import Tensor

from .._common.lookalikes import on_disk
from .._common.substitutes import substitute
from .audio import SAMPLE_RATE, downmix, mono, resample
from .images import MAX_PIXELS

MAX_PACKET = 10_000_000  # samples that one packet may hold, for each channel: minutes
MAX_SAMPLES = 64_000_000  # of a track that is read whole: more than an hour at 16 kHz, 22 minutes at 48 kHz
RETRIES = 10  # errors in a row, without a packet between them, after which a file is not read on
ASIDE = Disposition.comment | Disposition.hearing_impaired | Disposition.visual_impaired

# By a stream's number: which of its packets begins to be shown so many seconds later than its stamps say.
Moves = dict[int, list[tuple[int, Fraction]]]


class NoSound(ValueError):
    """A readable file that holds no sound, or too much of it."""

    kind = "sound"


@contextmanager
def open_media(path: str | Path, kind: str) -> Iterator[av.container.InputContainer]:
    """Opens a file with PyAV, and nothing else: no other file and no address that the file names. kind:
    "sound" or "video", for error messages.

    Raises FileNotFoundError, or ValueError if FFmpeg fails, in the body too. Playlists, which only name other
    files, are refused, and so are pipes and devices, which may never end.
    """
    path = on_disk(Path(path))
    if not path.is_file():
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path}: is a pipe or a device; expected a regular file.")
        raise FileNotFoundError(f"{path}: no such {kind} file.")
    # Also while the file is only looked at, when FFmpeg decodes first pictures and covers to learn what they
    # are.
    options = {"protocol_whitelist": "none", **_bounds()}
    # Its header says all, but for DTS in disguise; reading on would take longest of all.
    if path.suffix.lower() == ".wav":
        options["max_probe_packets"] = "1"
    try:
        # Python reads the file, so that FFmpeg needs no protocol at all: it could open nothing if it were
        # told to.
        with path.open("rb") as file, av.open(file, metadata_errors="ignore", options=options) as container:
            yield container
    except (av.FFmpegError, OSError) as error:
        # The disk's fault is kept as the cause: whoever asks may try again. (In a file that is too short
        # FFmpeg looks for a place before its beginning, which is an invalid argument.)
        cause = None if isinstance(error, av.FFmpegError) or error.errno == errno.EINVAL else error
        why = str(error.strerror or error)
        advice = "Is it complete? Playlists are not followed: give the files that they name"
        if not cause and (instead := substitute(path)):
            why, advice = instead
        raise ValueError(f"{path}: cannot be decoded as {kind} ({why}). {advice}.") from cause


def _bounds() -> dict[str, str]:
    """FFmpeg's options that bound the size of a picture and of a packet of sound."""
    return {"max_pixels": str(MAX_PIXELS), "max_samples": str(MAX_PACKET)}


@dataclass
class Tally:
    """Counts the packets of one stream: how many were read, and how many of them could not be decoded."""

    read: int = 0
    damaged: int = 0
    reason: str = ""  # of the last

    def skip(self, reason: str) -> None:
        self.damaged += 1
        self.reason = reason

    def refusal(self, path: str | Path, kind: str) -> ValueError:
        large = f" or hold more than {MAX_PIXELS:,} pixels" if kind == "pictures" else ""
        return ValueError(
            f"{path}: {self.damaged:,} of its {self.read:,} packets of {kind} cannot be decoded{large} "
            f"({self.reason}). Record or convert it again, or leave it out."
        )


def check_codec(path: str | Path, stream: av.stream.Stream) -> None:
    if stream.codec_context is None:
        raise ValueError(
            f"{path}: this FFmpeg does not know the codec of its {stream.type}. Convert it first."
        )


def main_track(streams: Sequence[av.stream.Stream]) -> av.stream.Stream:
    """The track that players choose: the first that is marked as the default, otherwise the first; one with
    comments or descriptions only if there is no other."""

    def rank(stream: av.stream.Stream) -> int:
        return bool(stream.disposition & Disposition.default) - 2 * bool(stream.disposition & ASIDE)

    return max(streams, key=rank)  # of equal ones the first


def decode(
    container: av.container.InputContainer,
    stream: av.stream.Stream,
    path: str | Path,
    kind: str,
    tally: Tally,
    moves: Moves | None = None,
    as_coded: bool = False,
) -> Iterator[av.frame.Frame]:
    """A stream's pictures or pieces of sound, in display order. As in a player, packets that cannot be
    decoded are skipped; here they are also counted. moves: where time stamps are wrong, and by how much.
    as_coded: use decoding time stamps; FFmpeg guesses the others if a file has none.

    Raises ValueError at the end if more than half of the packets could not be decoded.
    """
    check_codec(path, stream)
    stream.codec_context.options = _bounds()
    moved, later = list(moves.get(stream.index, ())) if moves else [], Fraction(0)
    for number, packet in enumerate(packets(container, [stream], tally)):
        while moved and number >= moved[0][0]:
            later = moved.pop(0)[1]
        if later:
            _move(packet, later)
        if as_coded:
            packet.pts = packet.dts
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            tally.skip(error.strerror)
            continue
        yield from frames
    if 2 * tally.damaged > tally.read:
        raise tally.refusal(path, kind)


def _move(packet: av.Packet, seconds: Fraction) -> None:
    ticks = round(seconds / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts + ticks
    packet.dts = None if packet.dts is None else packet.dts + ticks


def packets(
    container: av.container.InputContainer, streams: Sequence[av.stream.Stream], tally: Tally
) -> Iterator[av.Packet]:
    """All packets of these streams that can be read, then an empty one for each stream, which flushes its
    decoder."""
    failures = 0
    while failures < RETRIES:
        try:
            for packet in container.demux(*streams):
                failures = 0
                tally.read += packet.size > 0
                yield packet
            return
        except av.FFmpegError as error:  # a container may go on behind a place that it cannot read
            failures += 1
            tally.read += 1
            tally.skip(error.strerror)
    for stream in streams:
        last = av.Packet()
        last.stream = stream
        yield last


def decode_audio(
    path: str | Path, tally: Tally, moves: Moves | None = None
) -> Iterator[tuple[float | None, int, np.ndarray]]:
    """A file's sound track, piece by piece as it is decoded: (time of the piece in seconds, rate in Hz,
    samples (n, channels) float32 with one or two channels, to which more are mixed down).

    Rate and channels may change from piece to piece. Pieces that cannot be decoded, or hold samples that are
    not finite, are left out and counted in `tally`. moves: see `decode`. Raises FileNotFoundError, or
    ValueError if there is no sound track, none that can be decoded, or more than half of its packets cannot
    be.
    """
    with open_media(path, "sound") as container:
        if not container.streams.audio:
            raise NoSound(f"{path}: has no sound track. Give a file that has one.")
        kind = to_float = None
        for frame in decode(container, main_track(container.streams.audio), path, "sound", tally, moves):
            if not 1_000 <= frame.sample_rate <= 1_000_000:
                raise ValueError(
                    f"{path}: claims a sample rate of {frame.sample_rate} Hz; expected 1,000 to 1,000,000. "
                    "Record it again, or leave it out."
                )
            if kind != (frame.sample_rate, frame.layout.name, frame.format.name):
                kind = frame.sample_rate, frame.layout.name, frame.format.name
                # FFmpeg converts the samples to float; mixing and resampling are ours, so that they are the
                # same on every FFmpeg. Interleaved ("flt"), because PyAV reads past the end of planar samples
                # of eight channels and more.
                to_float = av.AudioResampler(format="flt")
                weights = downmix([channel.name for channel in frame.layout.channels])
            # What most WAV files hold is converted here: setting up FFmpeg for it takes longer than reading.
            for piece in [frame] if frame.format.name == "s16" else to_float.resample(frame):
                samples = piece.to_ndarray().reshape(-1, piece.layout.nb_channels)
                if samples.dtype == np.int16:
                    samples = samples * np.float32(1 / 32768)
                if not np.isfinite(samples).all():
                    tally.skip("samples that are not finite numbers")
                    continue
                if samples.shape[1] > 2:
                    samples = mono(samples, weights)[:, None]
                yield frame.time, frame.sample_rate, samples


def read_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """`read_track`, resampled to sample_rate (Hz): (samples,) float32 in [-1, 1]."""
    rate, samples = read_track(path)
    return samples if rate == sample_rate else resample(samples, rate, sample_rate)


def read_track(path: str | Path) -> tuple[int, Tensor]:
    """A file's sound track: its rate in Hz, and (samples,) float32 in [-1, 1], mixed down to mono.

    Any rate, layout and container that PyAV opens; if the rate changes midway, the highest. Raises
    FileNotFoundError, or ValueError if there is no sound to decode, any of it is damaged, or there are more
    than MAX_SAMPLES: a small file may claim days of silence.
    """
    count, stretches, tally = 0, [], Tally()  # of one rate each: (rate, pieces)
    for _, rate, samples in decode_audio(path, tally):
        if not stretches or stretches[-1][0] != rate:
            stretches.append((rate, []))
            highest = max(rate for rate, _ in stretches)
            lowest = min(rate for rate, _ in stretches)
        stretches[-1][1].append(mono(samples))
        count += len(samples)
        if count * highest > MAX_SAMPLES * lowest:  # so many there may be at the highest rate
            raise NoSound(
                f"{path}: holds more than {MAX_SAMPLES / highest / 60:.0f} minutes of sound "
                f"({MAX_SAMPLES:,} samples at {highest} Hz); a clip lasts seconds. Cut it."
            )
    if tally.damaged:
        raise tally.refusal(path, "sound")
    if not count:
        raise NoSound(f"{path}: holds no sound samples. Record it again, or leave it out.")
    parts = []
    for rate, pieces in stretches:
        part = torch.from_numpy(np.concatenate(pieces))
        parts.append(part if rate == highest else resample(part, rate, highest))
    return highest, torch.cat(parts)

"""Files with pictures or sound: only the given one is opened, within bounds, and what is damaged in it is skipped and counted."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av

MAX_PIXELS = 64_000_000          # of one picture; where a header promises more, nothing is decoded
MAX_PACKET = 10_000_000          # samples that one packet may hold, for each channel: minutes
RETRIES = 10                     # errors in a row, without a packet between them, after which a file is not read on


@contextmanager
def open_media(path: str | Path, kind: str) -> Iterator[av.container.InputContainer]:
    """A file that PyAV opens; no other file is, nor any address, whatever the file names. kind: "sound" or "video", for what is said of a
    broken one.

    Raises FileNotFoundError, or ValueError where FFmpeg stumbles, in the body too; so it does over playlists, which only name other files,
    and for pipes and devices, which may never end.
    """
    path = Path(path)
    if not path.is_file():
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path}: not a regular file but a pipe or a device; only files are read.")
        raise FileNotFoundError(f"{path}: no such {kind} file.")
    # Also while the file is only looked at, when FFmpeg decodes first pictures and covers to learn what they are.
    options = {"protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS), "max_samples": str(MAX_PACKET)}
    try:
        # Python reads the file, so that FFmpeg needs no protocol at all: it could open nothing if it were told to.
        with path.open("rb") as file, av.open(file, metadata_errors="ignore", options=options) as container:
            yield container
    except (av.FFmpegError, OSError) as error:
        cause = None if isinstance(error, av.FFmpegError) else error        # the disk's fault: whoever asks may try again
        raise ValueError(f"{path}: cannot be decoded as {kind} ({error.strerror or error}). Is it complete? Playlists are not followed: "
                         "give the files that one names.") from cause


@dataclass
class Tally:
    """Packets of one stream: those that were read, and those of them that could not be decoded."""

    read: int = 0
    damaged: int = 0
    reason: str = ""             # of the last

    def skip(self, reason: str) -> None:
        self.damaged, self.reason = self.damaged + 1, reason

    def refusal(self, path: str | Path, kind: str) -> ValueError:
        large = f" or hold more than {MAX_PIXELS:,} pixels" if kind == "pictures" else ""
        return ValueError(f"{path}: {self.damaged:,} of its {self.read:,} packets of {kind} cannot be decoded{large} ({self.reason}). "
                          "Record or convert it again, or leave it out.")


def check_codec(path: str | Path, stream: av.stream.Stream) -> None:
    if stream.codec_context is None:
        raise ValueError(f"{path}: its {stream.type} is coded in a way that FFmpeg does not know here. Convert it first.")


def decode(container: av.container.InputContainer, stream: av.stream.Stream, path: str | Path, kind: str, tally: Tally) -> Iterator[av.frame.Frame]:
    """A stream's pictures or pieces of sound, in the order of showing. As players do, it skips packets that cannot be decoded, and counts them.

    Raises ValueError at the end where more than half of the packets are such.
    """
    check_codec(path, stream)
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS), "max_samples": str(MAX_PACKET)}
    for packet in _packets(container, stream, tally):
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            tally.skip(error.strerror)
            continue
        yield from frames
    if 2 * tally.damaged > tally.read:
        raise tally.refusal(path, kind)


def _packets(container: av.container.InputContainer, stream: av.stream.Stream, tally: Tally) -> Iterator[av.Packet]:
    """All packets that can be read, and an empty one, after which the decoder gives what it still holds."""
    failures = 0
    while failures < RETRIES:
        try:
            for packet in container.demux(stream):
                failures, tally.read = 0, tally.read + (packet.size > 0)
                yield packet
            return
        except av.FFmpegError as error:                            # a container may go on behind a place that it cannot read
            failures, tally.read = failures + 1, tally.read + 1
            tally.skip(error.strerror)
    last = av.Packet()
    last.stream = stream
    yield last

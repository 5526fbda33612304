"""Reads a video forwards: its pictures at chosen times, and the sound that belongs to them.

Memory does not grow with the length of the video.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from fractions import Fraction
from functools import lru_cache
from heapq import heappop, heappush
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from av.stream import Disposition
from torch import Tensor

from ..data.audio import mono, resample
from ..data.decoding import (
    MAX_PIXELS,
    Moves,
    Tally,
    check_codec,
    decode,
    decode_audio,
    main_track,
    open_media,
)
from .hdr import to_srgb
from .timeline import Jump, rate_of, timeline
from .upright import display_matrix, turned, upright

TOLERANCE = Fraction(1, 1000)  # seconds; Matroska and WebM round their times to this
LONGEST = 3600  # seconds that one picture may stay: broken time stamps would make a picture last for years
JITTER = (0.005, 0.05)  # seconds, least and most, by which sound may be off its time stamps until it is moved
UNORDERED = ("avi", "asf")  # formats that stamp pictures in the order of coding, whatever that of showing is
AHEAD = 8  # pictures by which the orders of coding and showing may differ; these are held in memory
BLOCK = 8  # seconds of sound that are resampled at a time

Pictures = Iterator[tuple[Fraction, np.ndarray]]  # time in seconds, picture (H, W, 3) uint8, RGB, upright
Sound = Iterator[tuple[int, np.ndarray]]  # pieces: rate in Hz, samples (n, channels) float32


class Video(NamedTuple):
    """What a video says about itself, and the size of its first picture."""

    width: int  # pixels, as shown: after rotation
    height: int
    origin: float  # the time stamp of the first picture, seconds; times are counted from there
    seconds: float | None  # None: it does not say
    sample_rate: int | None  # None: no sound track
    channels: int | None
    aspect: Fraction  # width of a pixel as shown, in its heights
    jumps: tuple[Jump, ...]  # of its time stamps; their times count from the first picture, as all others


def probe(path: str | Path) -> Video:
    """Looks into a video. Raises FileNotFoundError, or ValueError if no picture can be decoded."""
    with open_media(path, "video") as container:
        stream = moving(container, path)
        _, frame = next(_decode(container, path, Tally()))
        if frame is None:
            raise ValueError(f"{path}: holds no pictures. Is it complete?")
        matrix = display_matrix(frame)
        height, width = upright(frame, matrix).shape[:2]
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if not Fraction(1, 10) <= aspect <= 10:  # what nobody films
            aspect = Fraction(1)
        seconds = container.duration / av.time_base if container.duration else None
        rate = channels = None
        if container.streams.audio:
            sound = main_track(container.streams.audio)
            check_codec(path, sound)
            rate, channels = sound.codec_context.sample_rate, sound.codec_context.layout.nb_channels
        aspect = 1 / aspect if turned(matrix) else aspect
        origin = float(frame.time or 0)
        jumps = tuple(jump._replace(time=jump.time - origin) for jump in _timeline(path)[1])
        return Video(width, height, origin, seconds, rate, channels, aspect, jumps)


def _timeline(path: str | Path) -> tuple[Moves, tuple[Jump, ...]]:
    state = Path(path).stat()
    return _timeline_of(path, state.st_mtime_ns, state.st_size)


@lru_cache(16)  # pictures and sound are read several times each
def _timeline_of(path: str | Path, changed: int, size: int) -> tuple[Moves, tuple[Jump, ...]]:
    with open_media(path, "video") as container:
        sounds = container.streams.audio
        return timeline(container, moving(container, path), main_track(sounds) if sounds else None)


def read_frames(path: str | Path, fps: Fraction, tally: Tally | None = None) -> Pictures:
    """The picture that is shown at second k / fps, for k = 0, 1, ...

    This is the last picture whose time has come, even if pictures come irregularly or cannot be decoded,
    which `tally` counts. Raises FileNotFoundError or ValueError.
    """
    with open_media(path, "video") as container:
        k, shown, since, matrix, look = 0, None, Fraction(0), None, None
        for start, frame in _decode(container, path, tally or Tally()):
            if shown is None and frame is not None:
                matrix = display_matrix(frame)  # once, see there
                coder = moving(container, path).codec_context
                look = to_srgb(coder.color_trc, coder.color_primaries)
            if start - since > LONGEST:
                stays = f"{float(start - since):,.0f} s"
                raise ValueError(
                    f"{path}: one picture lasts {stays}; the time stamps are broken. Convert it first."
                )
            picture = None
            while shown is not None and k / fps + TOLERANCE < start:
                picture = upright(shown, matrix, look) if picture is None else picture
                yield k / fps, picture
                k += 1
            shown, since = frame, start


def moving(container: av.container.InputContainer, path: str | Path) -> av.VideoStream:
    """The main stream of moving pictures; the cover of a sound file does not count."""
    streams = container.streams.video
    if films := [stream for stream in streams if not stream.disposition & Disposition.attached_pic]:
        return main_track(films)
    advice = "Give a video, or one picture with its sound (--audio)."
    raise ValueError(f"{path}: has no moving pictures. {advice}")


def _decode(
    container: av.container.InputContainer, path: str | Path, tally: Tally
) -> Iterator[tuple[Fraction, av.VideoFrame | None]]:
    """(time from the first picture, picture) in display order; last, (end of the last picture, None)."""
    stream = moving(container, path)
    check_codec(path, stream)
    _check_size(path, stream.codec_context.width, stream.codec_context.height)
    stream.thread_type = "AUTO"
    step = 1 / rate_of(stream)
    origin, time, end = None, Fraction(0), Fraction(0)
    name = container.format.name
    frames = decode(container, stream, path, "pictures", tally, _timeline(path)[0], as_coded=name == "avi")
    for frame, pts in _stamped(frames, AHEAD if name in UNORDERED else 0):
        _check_size(path, frame.width, frame.height)
        base = frame.time_base
        stamp = None if pts is None or not base else pts * base
        origin = stamp if origin is None else origin
        time = end if stamp is None else max(time, stamp - origin)
        stays = frame.duration * base if frame.duration and base else step
        end = time + max(stays, 2 * TOLERANCE)
        yield time, frame
    yield end, None


def _stamped(frames: Iterator[av.VideoFrame], ahead: int) -> Iterator[tuple[av.VideoFrame, int | None]]:
    """Pictures in display order, each with the smallest time stamp left among those known once `ahead` more
    are decoded."""
    held, stamps = deque(), []
    for frame in frames:
        held.append(frame)
        if frame.pts is not None:
            heappush(stamps, frame.pts)
        if len(held) > ahead:
            yield held.popleft(), heappop(stamps) if stamps else None
    while held:
        yield held.popleft(), heappop(stamps) if stamps else None


def _check_size(path: str | Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{path}: claims {width} x {height} pixels; expected at most {MAX_PIXELS:,}.")


def read_sound(path: str | Path, origin: float | None = None, tally: Tally | None = None) -> Sound:
    """A file's sound, without gaps, from second `origin` of its time stamps.

    It begins exactly, to the sample, where its stamps say; anything before `origin` is dropped. Silence fills
    a late start, a pause, and pieces that cannot be decoded, which `tally` counts. Stamps that are off by
    less than most of a piece are jitter. origin None: it begins with the first piece, and stamps only tell
    how much was lost. Raises FileNotFoundError or ValueError.
    """
    tally = tally or Tally()
    given, end, damaged = Fraction(0), None, 0  # seconds, and where they end by the stamps
    moves, jumps = (None, ()) if origin is None else _timeline(path)
    begins = [jump.sound for jump in jumps if jump.sound is not None]
    for time, rate, samples in decode_audio(path, tally, moves):
        if time is None:
            off = 0
        elif origin is None:
            off = max(0, round((time - end) * rate)) if end is not None and tally.damaged > damaged else 0
        else:
            near = [round((begin - time) * rate) for begin in begins]
            samples = samples[: min((left for left in near if left > 0), default=None)]  # the rest is padding
            off = round((time - origin - float(given)) * rate)
            if given and 0 not in near and abs(off) < _jitter(len(samples), rate):
                off = 0
        if off > LONGEST * rate:
            pause = f"{off / rate:,.0f} s"
            raise ValueError(f"{path}: its sound pauses for {pause}; the time stamps are broken. Convert it.")
        damaged, end = tally.damaged, None if time is None else time + len(samples) / rate
        for start in range(0, off, rate):
            yield rate, np.zeros((min(rate, off - start), samples.shape[1]), np.float32)
        samples = samples[max(0, -off) :]
        given += Fraction(max(0, off) + len(samples), rate)
        if len(samples):
            yield rate, samples


def _jitter(samples: int, rate: int) -> float:
    """Samples by which a piece may be off: most of its length, so that a missing piece is noticed."""
    least, most = JITTER
    return min(max(0.75 * samples, least * rate), most * rate)


class Listener:
    """Mono sound at one rate, read forwards; only what later windows may still need is kept.

    pieces: from `read_sound`; without any, silence. sample_rate: Hz.
    """

    def __init__(self, pieces: Sound, sample_rate: int):
        self.pieces, self.sample_rate = resampled(pieces, sample_rate), sample_rate
        self.held = torch.zeros(0)
        self.start, self.end = 0, 0  # of what is held; `end` is also how far was read

    def window(self, start: int, samples: int) -> Tensor:
        """(samples,) from sample `start`, with silence after the end.

        Raises ValueError for a start before that of an earlier window.
        """
        if start < self.start:
            raise ValueError(f"sound is read forwards: sample {start} was requested after {self.start}.")
        self._read(start, start + samples)
        heard = self.held[:samples]
        return torch.nn.functional.pad(heard, (0, samples - len(heard)))

    def reaches(self, sample: int) -> bool:
        """Whether the sound is longer than `sample` samples."""
        self._read(self.start, sample + 1)
        return self.end > sample

    def _read(self, start: int, end: int) -> None:
        """Reads up to sample `end`, and keeps nothing before `start`, even while reading."""
        kept = [self.held[start - self.start :]]
        while self.end < end and (piece := next(self.pieces, None)) is not None:
            self.end += len(piece)
            if self.end > start:
                kept.append(piece[start - self.end :])  # from the piece's end; all where it has no more
        self.held, self.start = torch.cat(kept), start


def resampled(pieces: Sound, sample_rate: int) -> Iterator[Tensor]:
    """Pieces of sound as mono blocks (n,) at sample_rate: the result of `read_audio`, block by block.

    A block is resampled with the second before it and the second after it, which is more than the filter
    reaches, and whole seconds fall on whole samples at both rates: there are no seams. A block ends where the
    rate changes.
    """
    seconds, given = Fraction(0), 0  # that came in, and samples that went out
    for rate, stretch in groupby(pieces, itemgetter(0)):
        early = given - round(seconds * sample_rate)  # where the stretch before was rounded up
        read, gave = yield from _blocks(stretch, rate, sample_rate, early)
        seconds, given = seconds + Fraction(read, rate), given + gave


def _blocks(
    pieces: Sound, rate: int, sample_rate: int, early: int
) -> Generator[Tensor, None, tuple[int, int]]:
    """`resampled` at one rate, without the first `early` samples. Returns how many were read and yielded."""
    held, lead, count, read, gave = [], 0, 0, 0, -early  # lead: seconds in `held` that were given already
    for _, samples in pieces:
        held.append(torch.from_numpy(mono(samples)))
        count, read = count + len(samples), read + len(samples)
        if rate == sample_rate:
            ready = held.pop()
        elif count >= (lead + BLOCK + 1) * rate:
            known = torch.cat(held)
            seconds = len(known) // rate - 1  # all but the last second and what is beyond
            ready = resample(known[: (seconds + 1) * rate], rate, sample_rate)
            ready = ready[lead * sample_rate : seconds * sample_rate]
            held, lead = [known[(seconds - 1) * rate :]], 1
            count = len(held[0])
        else:
            continue
        yield ready[max(0, -gave) :]
        gave += len(ready)
    if held:
        ready = resample(torch.cat(held), rate, sample_rate)[lead * sample_rate :]
        yield ready[max(0, -gave) :]
        gave += len(ready)
    return read, max(0, gave)

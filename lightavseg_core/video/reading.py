"""A video read forwards: its pictures at chosen times, and the sound that belongs to them.

What is in memory does not grow with its length.
"""
from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from av.stream import Disposition
from torch import Tensor

from ..data.audio import resample
from ..data.decoding import MAX_PIXELS, Tally, check_codec, decode, decode_audio, open_media

TOLERANCE = Fraction(1, 1000)  # seconds; Matroska and WebM round their times to this
LONGEST = 3600  # seconds that one picture may stay: broken time stamps would make a picture last for years
JUMP = 0.1  # seconds by which sound may be off its time stamps before it is moved: codecs' padding is less
BLOCK = 8  # seconds of sound that are resampled at a time

Pictures = Iterator[tuple[Fraction, np.ndarray]]  # time in seconds, picture (H, W, 3) uint8, RGB, upright
Sound = Iterator[tuple[int, np.ndarray]]  # pieces: rate in Hz, samples (n, channels) float32


class Video(NamedTuple):
    """What a video says of itself, and the size of its first picture."""

    width: int  # pixels, as shown: after rotation
    height: int
    origin: float  # the time stamp of the first picture, seconds; times are counted from there
    seconds: float | None  # None: it does not say
    sample_rate: int | None  # None: no sound track
    channels: int | None
    aspect: Fraction  # width of a pixel as shown, in its heights


def probe(path: str | Path) -> Video:
    """Raises FileNotFoundError, or ValueError where no picture can be decoded."""
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
        for sound in container.streams.audio[:1]:
            check_codec(path, sound)
            rate, channels = sound.codec_context.sample_rate, sound.codec_context.layout.nb_channels
        aspect = 1 / aspect if turned(matrix) else aspect
        return Video(width, height, float(frame.time or 0), seconds, rate, channels, aspect)


def read_frames(path: str | Path, fps: Fraction, tally: Tally | None = None) -> Pictures:
    """The picture that is shown at second k / fps, for k = 0, 1, ...

    Shown is the last picture whose time has come, also where pictures come irregularly or cannot be decoded,
    which `tally` counts. Raises FileNotFoundError or ValueError.
    """
    with open_media(path, "video") as container:
        k, shown, since, matrix = 0, None, Fraction(0), None
        for start, frame in _decode(container, path, tally or Tally()):
            if shown is None and frame is not None:
                matrix = display_matrix(frame)  # once, see there
            if start - since > LONGEST:
                stays = f"{float(start - since):,.0f} s"
                raise ValueError(
                    f"{path}: one picture stays for {stays}; its time stamps are broken. Convert it first."
                )
            picture = None
            while shown is not None and k / fps + TOLERANCE < start:
                picture = upright(shown, matrix) if picture is None else picture
                yield k / fps, picture
                k += 1
            shown, since = frame, start


def moving(container: av.container.InputContainer, path: str | Path) -> av.VideoStream:
    """The first stream of pictures that is not a cover, as a sound file may have one."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    advice = "Give a video, or one picture with its sound (--audio)."
    raise ValueError(f"{path}: has no moving pictures. {advice}")


def _decode(
    container: av.container.InputContainer, path: str | Path, tally: Tally
) -> Iterator[tuple[Fraction, av.VideoFrame | None]]:
    """(time from the first picture, picture) in the order of showing; at last (the end of the last picture,
    None)."""
    stream = moving(container, path)
    check_codec(path, stream)
    _check_size(path, stream.codec_context.width, stream.codec_context.height)
    stream.thread_type = "AUTO"
    step = 1 / (stream.average_rate or Fraction(25))
    origin, time, end = None, Fraction(0), Fraction(0)
    for frame in decode(container, stream, path, "pictures", tally):
        _check_size(path, frame.width, frame.height)
        base = frame.time_base
        stamp = None if frame.pts is None or not base else frame.pts * base
        origin = stamp if origin is None else origin
        time = end if stamp is None else max(time, stamp - origin)
        stays = frame.duration * base if frame.duration and base else step
        end = time + max(stays, 2 * TOLERANCE)
        yield time, frame
    yield end, None


def _check_size(path: str | Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{path}: claims {width} x {height} pixels; at most {MAX_PIXELS:,} are read.")


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int] | None:
    """How the camera was held: (a, b, c, d), by which a point (x, y) is shown at (a x + c y, b x + d y), y
    downwards; None: upright.

    To be asked of a video's first picture only: PyAV's side data and its frame hold each other, so a frame
    that was asked stays in memory until Python's next full collection.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()  # a b u / c d v / x y w
    return a, b, c, d


def turned(matrix: tuple[int, int, int, int] | None) -> bool:
    """Whether width and height change places."""
    return matrix is not None and abs(matrix[1]) > abs(matrix[0])


def upright(frame: av.VideoFrame, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """A decoded picture as (H, W, 3) uint8, turned by right angles and mirrored as the matrix says."""
    picture = frame.to_ndarray(format="rgb24")
    if matrix is None:
        return picture
    a, b, c, d = matrix
    if turned(matrix):
        picture, a, d = picture.swapaxes(0, 1), c, b
    picture = picture[:, ::-1] if a < 0 else picture
    return np.ascontiguousarray(picture[::-1] if d < 0 else picture)


def read_sound(path: str | Path, origin: float | None = None, tally: Tally | None = None) -> Sound:
    """A file's sound, without gaps from second `origin` of its time stamps on.

    Where its stamps say that it begins later or pauses, silence is put in; what comes before is dropped.
    origin None: it begins where it begins, and stamps are ignored. Pieces that cannot be decoded are silence
    too; `tally` counts them. Raises FileNotFoundError or ValueError.
    """
    tally = tally or Tally()
    position, end, damaged = 0, origin, 0  # end: of the last piece, by its stamp
    for time, rate, samples in decode_audio(path, tally):
        off = 0 if origin is None or time is None else round((time - origin) * rate) - position
        if abs(off) <= JUMP * rate:  # then only what was lost just before is missing
            off = 0
            if tally.damaged > damaged and time is not None and end is not None:
                lost = round((time - end) * rate)
                off = lost if 0 < lost < LONGEST * rate else 0
        damaged, end = tally.damaged, None if time is None else time + len(samples) / rate
        for start in range(0, off, rate):
            yield rate, np.zeros((min(rate, off - start), samples.shape[1]), np.float32)
        samples = samples[max(0, -off) :]
        position += max(0, off) + len(samples)
        yield rate, samples


class Listener:
    """Sound at one rate, one channel, read forwards; only what is between the last question and the last
    answer is kept.

    pieces: of `read_sound`; none is silence. sample_rate: Hz.
    """

    def __init__(self, pieces: Sound, sample_rate: int):
        self.pieces = resampled(pieces, sample_rate)
        self.held = torch.zeros(0)
        self.start, self.end = 0, 0  # of what is held; `end` is also how far was read

    def window(self, start: int, samples: int) -> Tensor:
        """(samples,) from sample `start`, with silence after the end.

        Raises ValueError for a start before that of an earlier window.
        """
        if start < self.start:
            raise ValueError(f"sound is read forwards: sample {start} was asked for after {self.start}.")
        self._read(start, start + samples)
        heard = self.held[:samples]
        return torch.nn.functional.pad(heard, (0, samples - len(heard)))

    def reaches(self, sample: int) -> bool:
        """Whether the sound is longer than so many samples."""
        self._read(self.start, sample + 1)
        return self.end > sample

    def _read(self, start: int, end: int) -> None:
        """Reads on to sample `end`; of what is before `start` nothing is kept, also while reading."""
        kept = [self.held[start - self.start :]]
        while self.end < end and (piece := next(self.pieces, None)) is not None:
            self.end += len(piece)
            if self.end > start:
                kept.append(piece[start - self.end :])  # from the piece's end; all where it has no more
        self.held, self.start = torch.cat(kept), start


def resampled(pieces: Sound, sample_rate: int) -> Iterator[Tensor]:
    """Pieces of sound as pieces of (n,) at sample_rate, channels averaged: what `read_audio` gives of the
    whole, in blocks.

    A block is resampled with the second before it and the second after it, which is more than the filter
    looks at, and whole seconds fall on whole samples at both rates: there are no seams.
    """
    held, lead, count, rate = [], 0, 0, sample_rate  # lead: seconds in `held` that were given already, 0 or 1
    for rate, samples in pieces:
        held.append(torch.from_numpy(samples.mean(1)))
        count += len(samples)
        if rate == sample_rate:
            yield held.pop()
        elif count >= (lead + BLOCK + 1) * rate:
            known = torch.cat(held)
            seconds = len(known) // rate - 1  # all but the last second and what is beyond
            ready = resample(known[: (seconds + 1) * rate], rate, sample_rate)
            yield ready[lead * sample_rate : seconds * sample_rate]
            held, lead = [known[(seconds - 1) * rate :]], 1
            count = len(held[0])
    if held:
        yield resample(torch.cat(held), rate, sample_rate)[lead * sample_rate :]

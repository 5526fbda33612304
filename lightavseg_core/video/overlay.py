"""Masks painted over their pictures, and a video of them with its sound."""
from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import Colorspace
from PIL import Image

from .._common.files import whole
from ..data.audio import mono
from ..data.palette import voc_palette
from .reading import Sound

PAINT = (230, 159, 0)  # one class: Okabe and Ito's orange
RATE = 48_000  # Hz, of the sound in the overlay
SIDE = 8190  # pixels: MPEG-4 takes no more, H.264 twice that, and players less
HD = 720  # lines, from which on players take a video's colours to be BT.709's, where they do not look
BT709, BT601, LIMITED = 1, 6, 1  # of ITU-T H.273: how colours are coded, and that black is 16


def paint(picture: np.ndarray, mask: np.ndarray, classes: int = 1) -> np.ndarray:
    """picture (H, W, 3) uint8, mask (H, W) of 0 and 1 or of class indices (AVSS's colours) -> (H, W, 3)
    uint8: dimmed where nothing sounds."""
    palette = np.array([(0, 0, 0), PAINT], np.uint8) if classes == 1 else voc_palette(classes)
    image, marked = Image.fromarray(picture), Image.fromarray(mask)
    painted = image.point([3 * value // 5 for value in range(256)] * 3)  # tables: a third of numpy's time
    for index, pixels in enumerate(marked.histogram()):
        if index and pixels:
            colours = palette[index].tolist()
            table = [(2 * value + 3 * colour) // 5 for colour in colours for value in range(256)]
            there = marked.point([255 * (value == index) for value in range(256)], "1")
            painted.paste(image.point(table), mask=there)
    return np.array(painted)


def write_video(
    path: Path, pictures: Iterable[np.ndarray], fps: Fraction, sound: Sound, aspect: Fraction
) -> None:
    """Writes an MP4 that browsers play: H.264 if FFmpeg has it, otherwise MPEG-4; AAC.

    Each picture is shown for 1 / fps seconds, all at the first one's size, which is reduced if a side has
    more than SIDE pixels.

    pictures: (H, W, 3) uint8. sound: cut where the pictures end. aspect: width of a pixel as shown, divided
    by its height. Raises OSError if the disk is full, and ValueError if FFmpeg cannot write such a video.
    """
    options = {"movflags": "+faststart"}
    try:
        with (
            whole(path) as staging,
            av.open(str(staging.absolute()), "w", format="mp4", options=options) as container,
        ):
            _write(container, pictures, fps, sound, aspect)
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        why = error.strerror or error
        raise ValueError(f"{path}: cannot be written ({why}). The masks are complete.") from None


def _write(
    container: OutputContainer, pictures: Iterable[np.ndarray], fps: Fraction, sound: Sound, aspect: Fraction
) -> None:
    video, speaker = None, None
    for k, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        if video is None:  # streams must be there before anything is written
            video = _video_stream(container, frame, fps, aspect)
            speaker = _Speaker(container, sound)
        matrix = Colorspace.ITU709 if video.height >= HD else Colorspace.ITU601
        frame = frame.reformat(video.width, video.height, "yuv420p", dst_colorspace=matrix)
        frame.pts, frame.time_base, frame.duration = k, 1 / fps, 1
        container.mux(video.encode(frame))
        speaker.play_until((k + 1) / fps)
    if video is not None:
        container.mux(video.encode(None))
        speaker.end()


def _video_stream(
    container: OutputContainer, frame: av.VideoFrame, fps: Fraction, aspect: Fraction
) -> av.VideoStream:
    try:
        codec = av.codec.Codec("libx264", "w").name
        # Its macroblock tree reads what nobody has written: of a thousand encodings some five differ.
        options = {"preset": "veryfast", "crf": "20", "mbtree": "0"}
    except av.codec.codec.UnknownCodecError:
        codec, options = "mpeg4", {"qscale": "3"}
    scale = min(1, SIDE / max(frame.width, frame.height))
    stream = container.add_stream(codec, rate=fps, pix_fmt="yuv420p", options=options)
    stream.width, stream.height = _even(frame.width * scale), _even(frame.height * scale)
    coder = stream.codec_context
    coder.sample_aspect_ratio = aspect
    coder.max_b_frames = 0  # the first picture is at 0 in every player
    coder.gop_size = max(1, round(5 * fps))  # a place to jump to every 5 s
    coder.colorspace = BT709 if stream.height >= HD else BT601
    coder.color_primaries, coder.color_trc, coder.color_range = BT709, BT709, LIMITED
    return stream


def _even(side: float) -> int:
    """An even number of pixels, since colours are stored for 2 x 2 pixels."""
    return 2 * math.ceil(round(side) / 2) or 2


def _alike(sound: Sound) -> Sound:
    """All pieces at the rate and with the channels of the first, because encoders accept no change."""
    if (first := next(sound, None)) is None:
        return
    rate, channels = first[0], first[1].shape[1]
    layout = "stereo" if channels == 2 else "mono"
    for own, stretch in groupby(chain([first], sound), itemgetter(0)):
        to_rate = None if own == rate else av.AudioResampler("flt", layout, rate)
        for _, samples in stretch:
            if samples.shape[1] != channels:
                samples = mono(samples)[:, None] if channels == 1 else samples.repeat(2, 1)
            if to_rate is None:
                yield rate, samples
            else:
                yield from _samples(to_rate.resample(_frame(own, samples)), rate, channels)
        if to_rate is not None:
            yield from _samples(to_rate.resample(None), rate, channels)


def _frame(rate: int, samples: np.ndarray) -> av.AudioFrame:
    """samples (n, channels) float32, of one or two channels."""
    layout = "stereo" if samples.shape[1] == 2 else "mono"
    interleaved = np.ascontiguousarray(samples, np.float32).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
    frame.sample_rate = rate
    return frame


def _samples(frames: list[av.AudioFrame], rate: int, channels: int) -> Sound:
    for frame in frames:
        yield rate, frame.to_ndarray().reshape(-1, channels)


class _Speaker:
    """Encodes sound of one or two channels until a time."""

    def __init__(self, container: OutputContainer, sound: Sound):
        self.container, self.sound, self.position = container, _alike(sound), 0
        self.piece = next(self.sound, None)
        self.stream = None
        if self.piece is not None:
            layout = "stereo" if self.piece[1].shape[1] == 2 else "mono"
            self.stream = container.add_stream("aac", rate=RATE, layout=layout, options={"b": "128k"})

    def play_until(self, time: Fraction) -> None:
        while self.piece is not None and (left := round(time * self.piece[0]) - self.position) > 0:
            rate, samples = self.piece
            if len(samples):
                self._play(rate, samples[:left])
            self.piece = (rate, samples[left:]) if len(samples) > left else next(self.sound, None)

    def _play(self, rate: int, samples: np.ndarray) -> None:
        frame = _frame(rate, samples)
        frame.pts, frame.time_base = self.position, Fraction(1, rate)
        self.container.mux(self.stream.encode(frame))
        self.position += len(samples)

    def end(self) -> None:
        if self.stream is not None:
            self.container.mux(self.stream.encode(None))

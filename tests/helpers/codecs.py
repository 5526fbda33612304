"""Films in every format and codec that FFmpeg can write, whatever sizes and rates each of them takes."""

import os
from fractions import Fraction
from functools import cache
from itertools import product
from pathlib import Path

import av
import numpy as np

from .films import chirp

SECONDS, CHIRP_AT = 2.4, 1.0
# Width, height and pictures a second: what some codecs want.
SHAPES = [(64, 48, 5), (176, 144, 25), (720, 576, 25), (160, 128, 15), (64, 64, 30), (48, 48, 5)]
RATES = (48_000, 44_100, 22_050, 16_000, 8_000)
# The first of these that a codec takes; otherwise its own first.
PIXELS = ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "gbrp", "rgb24", "bgr24", "bgr0", "rgba", "rgb565le"]
BIT_RATES = {"wmav1": 128_000, "wmav2": 128_000, "g723_1": 6_300}
HARDWARE = ("_qsv", "_nvenc", "_amf", "_v4l2m2m", "_vaapi", "_vulkan", "_mf", "_videotoolbox")


class CannotBeWritten(Exception):
    pass


def encoders(kind: str) -> list[str]:
    """Names of all that need no special hardware."""
    found = []
    for name in sorted(av.codec.codecs_available):
        try:
            codec = av.codec.Codec(name, "w")
        except av.codec.codec.UnknownCodecError:  # it only decodes
            continue
        if codec.type == kind and not name.endswith(HARDWARE):
            found.append(name)
    return found


@cache
def takes(form: str, codec: str | None) -> bool:
    """As far as formats tell."""
    if codec is None:
        return True
    with av.open(os.devnull, "w", format=form) as container:
        return av.codec.Codec(codec, "w").canonical_name in container.supported_codecs


def first_that_works(folder: Path, forms, video: str | None, sounds, shapes=SHAPES):
    """A film in the first of some forms, sounds and shapes that can be written: its path, pictures a second,
    and colours (pictures, 3). Raises CannotBeWritten."""
    why = "no such format takes it"
    for form, sound, shape in product(forms, sounds, shapes):
        if len(forms) > 1 and not (takes(form, video) and takes(form, sound)):
            continue
        for rate, layout in product(RATES, ("mono", "stereo")) if sound else [(None, None)]:
            path = folder / f"film.{form}"
            try:
                return path, shape[2], write(path, form, video, sound, shape, rate, layout)
            except (av.FFmpegError, ValueError, OSError) as error:
                why = str(error)
    raise CannotBeWritten(why)


def write(path: Path, form: str, video: str | None, sound: str | None, shape, rate, layout) -> np.ndarray:
    """Flat pictures, each of another colour, and a chirp at CHIRP_AT. Returns what the colours are in the
    codec's own pixels, (pictures, 3)."""
    width, height, fps = shape
    colours = []
    with av.open(str(path), "w", format=form) as container:
        pictures = video and container.add_stream(
            video, rate=fps, width=width, height=height, pix_fmt=_pixels(video), bit_rate=6_000_000
        )
        speaker = _Speaker(container, sound, rate, layout) if sound else None
        count = round(SECONDS * fps)
        for k in range(count):
            grey = 20 + 215 * k // count
            colour = (grey, (grey + 40 * (k % 3)) % 256, 255 - grey // 2)
            if pictures:
                picture = np.full((height, width, 3), colour, np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=_pixels(video))
                colours.append(frame.to_ndarray(format="rgb24").reshape(-1, 3).mean(0))
                frame.pts, frame.time_base = k, Fraction(1, fps)
                container.mux(pictures.encode(frame))
            if speaker:
                speaker.play_until((k + 1) / fps)
        if pictures:
            container.mux(pictures.encode(None))
        if speaker:
            container.mux(speaker.stream.encode(None))
    return np.array(colours)


def _pixels(codec: str) -> str:
    own = [form.name for form in av.codec.Codec(codec, "w").video_formats or []]
    if codec in ("mjpeg", "ljpeg"):  # it lists what it takes only if told to
        return "yuvj420p"
    return next((form for form in PIXELS if form in own), own[0] if own else "yuv420p")


class _Speaker:
    def __init__(self, container, codec: str, rate: int, layout: str):
        own = av.codec.Codec(codec, "w").audio_rates
        if own and rate not in own:
            raise ValueError(f"{codec} takes {own}")
        options = {"strict": "experimental"} if codec == "vorbis" else {}
        self.container, self.layout = container, layout
        self.stream = container.add_stream(codec, rate=rate, layout=layout, options=options)
        if codec in BIT_RATES:
            self.stream.bit_rate = BIT_RATES[codec]
        self.samples = np.zeros(round(SECONDS * rate), np.float32)
        start = round(CHIRP_AT * rate)
        self.samples[start : start + rate // 10] = chirp(rate)
        self.position = 0

    def play_until(self, second: float) -> None:
        rate, channels = self.stream.rate, 2 if self.layout == "stereo" else 1
        end = min(round(second * rate), len(self.samples))
        while self.position < end:
            part = self.samples[self.position : min(self.position + 1024, end)]
            interleaved = np.repeat(part, channels)[None]
            frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=self.layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, self.position, Fraction(1, rate)
            self.container.mux(self.stream.encode(frame))
            self.position += len(part)

"""Small videos of every kind, made by PyAV, for tests."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def colour(k: int) -> tuple[int, int, int]:
    """Picture k's: far from its neighbours', so that it is known again after lossy coding."""
    return (40 + 60 * (k % 4), 40 + 60 * (k // 4 % 4), 40 + 60 * (k // 16 % 4))


def number(picture: np.ndarray) -> int:
    """Which k a picture of `colour` is, from its middle."""
    height, width = picture.shape[:2]
    middle = picture[height // 3:2 * height // 3, width // 3:2 * width // 3].reshape(-1, 3).mean(0)
    r, g, b = ((middle - 40) / 60).round().astype(int)
    return int(r + 4 * g + 16 * b)


def tone(hertz: float, rate: int, seconds: float, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def flat(k: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), colour(k), np.uint8)


def film(path: Path, pictures, times=None, fps: int = 5, sound=None, rate: int = 44_100, late: float = 0.0, matrix: float | None = None,
         codec: str = "libx264", audio_codec: str = "aac", pixels: str = "yuv420p") -> Path:
    """pictures: (H, W, 3) uint8 each, a generator will do; times: seconds, by default k / fps; sound (channels, samples), `late` seconds after
    the pictures; matrix: degrees in the display matrix."""
    with av.open(str(path), "w") as container:
        video = None
        for k, picture in enumerate(pictures):
            if video is None:
                height, width = picture.shape[:2]
                options = {"crf": "12", "preset": "ultrafast"} if codec == "libx264" else {}
                video = container.add_stream(codec, rate=fps, width=width, height=height, pix_fmt=pixels, options=options)
                video.codec_context.time_base = Fraction(1, 1000)
                if codec in ("libvpx", "mpeg4"):
                    video.codec_context.bit_rate = 2_000_000
                if matrix is not None:
                    video.set_display_rotation(matrix)
                if sound is not None:
                    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(sound)]
                    audio = container.add_stream(audio_codec, rate=rate, layout=layout)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * (k / fps if times is None else times[k])), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            for start in range(0, np.shape(sound)[1], rate):        # a second at a time: PCM makes a packet of each
                samples = np.ascontiguousarray(np.asarray(sound, np.float32)[:, start:start + rate].T).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, start + round(late * rate), Fraction(1, rate)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path

"""What a video player keeps of each picture, and the curve of the marked shares."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from ..plots.common import BLUE, RED
from ..video.prediction import Prediction
from .canvas import SIDE, encoded, enlarged

WIDTH, HEIGHT = 620, 90      # pixels of the curve


class Shot(NamedTuple):
    """What is kept of one picture, with a longer side of at most SIDE."""

    time: float
    picture: bytes           # JPEG
    levels: np.ndarray       # (h, w) uint8: 255 times the probability that it sounds
    labels: np.ndarray       # (h, w) uint8: the likeliest class, of a model of several; empty for one class
    heard: bytes             # WAV: what the model heard with it

    @classmethod
    def of(cls, found: Prediction, heard: bytes) -> Shot:
        small = enlarged(found.picture, min(SIDE, max(found.picture.shape[:2])))
        large = found.probabilities[None].float().cpu()
        chances = F.interpolate(large, small.shape[:2], mode="bilinear", antialias=True)[0]    # (K, h, w)
        sounds, labels = chances[0], np.zeros(0, np.uint8)
        if len(chances) > 1:
            sounds, labels = 1 - chances[0], chances.argmax(0).byte().numpy()
        levels = (255 * sounds).round().clamp(0, 255).byte().numpy()
        return cls(found.time, encoded(small, "jpeg"), levels, labels, heard)


def curve(times: Sequence[float], shares: Sequence[float], cursor: int) -> np.ndarray:
    """The marked share over time, with a line at the current picture: (HEIGHT, WIDTH, 3)."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, text = ImageDraw.Draw(image), {"fill": "black", "font": ImageFont.load_default(12)}
    left, right, top, bottom = 44, WIDTH - 12, 20, HEIGHT - 20
    most = max(*shares, 0.01)
    x = left + np.array(times) / max(times[-1], 1e-6) * (right - left)
    y = bottom - np.array(shares) / most * (bottom - top)
    places = list(zip(x.tolist(), y.tolist()))
    draw.line([(left, top), (left, bottom), (right, bottom)], fill="grey")
    draw.line([(x[cursor], top), (x[cursor], bottom)], fill=RED, width=2)
    draw.line(places, fill=BLUE, width=2)
    for place in places:
        draw.circle(place, 2, fill=BLUE)
    draw.text((left, 2), "marked share of the picture", **text)
    draw.text((left - 4, top), f"{most:.0%}", anchor="ra", **text)
    draw.text((left - 4, bottom), "0%", anchor="rb", **text)
    draw.text((left, HEIGHT - 16), f"{times[0]:g} s", **text)
    draw.text((right, HEIGHT - 16), f"{times[-1]:g} s", anchor="ra", **text)
    return np.asarray(image)

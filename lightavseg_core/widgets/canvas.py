"""Pictures drawn as arrays (H, W, 3) uint8: matplotlib redraws too slowly for a slider."""
from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..data.images import picture
from ..plots.common import BLUE, GREEN, ORANGE, RED, overlay

VIRIDIS = (matplotlib.colormaps["viridis"](np.arange(256))[:, :3] * 255).astype(np.uint8)
SIDE = 256      # pixels of a picture that is to be read
MAP = 112       # pixels of one of many pictures
CAPTION = 20    # pixels below a tile
GAP = 8         # pixels between tiles


# --- one picture ---


def eight_bit(image: Tensor | np.ndarray) -> np.ndarray:
    """0 to 1 -> 0 to 255, uint8."""
    return (np.asarray(image) * 255).round().astype(np.uint8)


def photo(frame: Tensor) -> np.ndarray:
    """A normalized frame (3, H, W) as a picture."""
    return eight_bit(picture(frame))


def truth(frame: Tensor, mask: Tensor) -> np.ndarray:
    """A frame (3, H, W) with what sounds (H, W) in green."""
    return eight_bit(overlay(frame, mask, GREEN))


def marked(frame: Tensor, mask: Tensor) -> np.ndarray:
    """A frame (3, H, W) with what a model marks (H, W) in orange."""
    return eight_bit(overlay(frame, mask, ORANGE))


def blank(height: int, width: int, grey: int = 255) -> np.ndarray:
    """A uniform grey picture."""
    return np.full((height, width, 3), grey, np.uint8)


def colours(values: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A map (h, w), 0 to 1, in viridis over a grey picture, resized to it without smoothing."""
    levels = Image.fromarray(eight_bit(values.clip(0, 1))).resize(image.shape[1::-1], Image.NEAREST)
    return (0.7 * VIRIDIS[np.asarray(levels)] + 0.3 * image.mean(-1, keepdims=True)).astype(np.uint8)


def bars(state: Tensor, most: float, width: int, height: int) -> np.ndarray:
    """An audio state (D,) as bars of |x| / most, one per channel, blue above 0 and orange below."""
    channel = np.arange(width) * len(state) // width
    values = state.numpy()[channel] / max(most, 1e-12)
    filled = np.arange(height, 0, -1)[:, None] <= np.abs(values) * height              # (height, width)
    signs = eight_bit([to_rgb(RED), to_rgb(BLUE)])
    paint = signs[(values > 0).astype(int)]                                            # (width, 3)
    return np.where(filled[..., None], paint, 235).astype(np.uint8)


def enlarged(image: np.ndarray, side: int) -> np.ndarray:
    """A picture resized so that its longer side has `side` pixels."""
    scale = side / max(image.shape[:2])
    size = tuple(max(round(length * scale), 1) for length in image.shape[1::-1])
    return np.asarray(Image.fromarray(image).resize(size, Image.BILINEAR))


def numbered(image: np.ndarray, places: Sequence[tuple[str, float, float]]) -> np.ndarray:
    """A picture with labels (text, x, y), with x and y in shares of its width and height."""
    drawn = Image.fromarray(image)
    draw, (width, height) = ImageDraw.Draw(drawn), drawn.size
    for text, x, y in places:
        x, y = np.clip((x * width, y * height), 11, (width - 11, height - 11)).tolist()
        draw.ellipse((x - 11, y - 11, x + 11, y + 11), fill="black", outline="white")
        draw.text((x, y), text, fill="white", font=ImageFont.load_default(15), anchor="mm")
    return np.asarray(drawn)


# --- many pictures ---


@lru_cache(256)
def _caption(text: str, width: int) -> np.ndarray:
    """A caption, cached: drawing text is the slowest part of a tile, and captions seldom change."""
    image = Image.new("RGB", (width, CAPTION), "white")
    ImageDraw.Draw(image).text((0, 3), text, fill="black", font=ImageFont.load_default(12))
    return np.asarray(image)


def tile(image: np.ndarray, caption: str, side: int = MAP) -> np.ndarray:
    """A picture, whose longer side has `side` pixels, with a caption below it."""
    image = enlarged(image, side)
    return np.concatenate([image, _caption(caption, image.shape[1])])


def grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Pictures in rows on white, with gaps between them; a row is as high as its highest picture."""
    heights = [max(image.shape[0] for image in row) for row in rows]
    widths = [sum(image.shape[1] + GAP for image in row) - GAP for row in rows]
    canvas = blank(sum(heights) + GAP * (len(rows) - 1), max(widths))
    top = 0
    for row, height in zip(rows, heights):
        left = 0
        for image in row:
            canvas[top:top + image.shape[0], left:left + image.shape[1]] = image
            left += image.shape[1] + GAP
        top += height + GAP
    return canvas


# --- as a file ---


def encoded(image: np.ndarray, format: str) -> bytes:
    """A picture as "png", exact, for masks and drawings, or "jpeg", a fifth of the size, for photographs."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format, compress_level=4, quality=85, subsampling=0)
    return buffer.getvalue()

"""Masks: reads every way in which AVSBench stores them."""
from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .images import open_image
from .palette import voc_palette

NO_CLASS = 255


class UnknownClass(ValueError):
    """A mask with a colour or a value that belongs to no class."""

    kind = "class"


@lru_cache(1)
def _class_of_colour(classes: int) -> np.ndarray:
    """Class of each colour R + 256 G + 65536 B: (2 ** 24,) uint8, 255 for a colour of no class."""
    table = np.full(1 << 24, NO_CLASS, np.uint8)
    table[_as_number(voc_palette(classes))] = np.arange(classes)
    return table


def _as_number(colours: np.ndarray) -> np.ndarray:
    """(..., 3) -> (...) int32, R + 256 G + 65536 B."""
    return colours.astype(np.int32) @ (1, 1 << 8, 1 << 16)


def read_mask(path: Path, subset: str, classes: int) -> Tensor:
    """A mask, upright, as (H, W) uint8: 0 or 1 in S4 and MS3 (any value above 0 is foreground), class indices
    in AVSS.

    AVSS: from the colours of `labels_rgb`, or the values of `labels_semantic` (index - 1, so 255 is
    background).
    """
    return mask_of(open_image(path), path, subset, classes)


def mask_of(image: Image.Image, path: Path, subset: str, classes: int) -> Tensor:
    """`read_mask` for a picture that is already open."""
    if subset != "avss":
        return _foreground(image)
    if path.parent.name == "labels_rgb":
        return _by_colour(image, path, classes)
    return _by_value(image, path, classes)


def _foreground(image: Image.Image) -> Tensor:
    if image.mode == "P" and _colours_count(image):
        image = image.convert("RGB")
    return torch.from_numpy((_values(image) > 0).astype(np.uint8))


def _values(image: Image.Image) -> np.ndarray:
    """(H, W) of any bit depth; for colours, the largest of R, G and B."""
    if len(image.getbands()) > 1:
        return np.array(image.convert("RGB")).max(-1)
    return np.array(image)


def _colours_count(image: Image.Image) -> bool:
    """Whether the foreground of a binary mask with a palette is told by its colours and not by its indices:
    if black is used, but not as index 0, or if only greys are used. Programs that shrink files reorder the
    palette."""
    used = np.bincount(np.asarray(image).ravel(), minlength=256)[:256] > 0
    palette = np.zeros((256, 3), np.uint8)
    known = np.array(image.getpalette() or (), np.uint8).reshape(-1, 3)
    palette[: len(known)] = known
    if not palette[0].any():  # black is background, as it should be
        return False
    black_is_used = not palette[used].any(1).all()
    return black_is_used or not np.ptp(palette[used].astype(int), axis=1).any()


def _by_colour(image: Image.Image, path: Path, classes: int) -> Tensor:
    known = _class_of_colour(classes)
    if image.mode == "P":  # its few colours are looked up, not every pixel's
        palette = np.array(image.getpalette() or (), np.uint8).reshape(-1, 3)
        pixels = np.asarray(image)
        known = np.append(known[_as_number(palette)], np.full(256, NO_CLASS, np.uint8))
    else:
        pixels = np.asarray(image.convert("RGBA")).view("<u4")[..., 0] & 0xFFFFFF
    index = np.take(known, pixels)
    if unknown := np.count_nonzero(index == NO_CLASS):
        raise UnknownClass(
            f"{path}: {unknown} pixels have a colour that belongs to none of the {classes} classes in "
            "label2idx.json."
        )
    return torch.from_numpy(index)


def _by_value(image: Image.Image, path: Path, classes: int) -> Tensor:
    values = _values(image)
    with np.errstate(invalid="ignore"):
        index = values.astype(np.uint8)
    if not np.array_equal(index, values):
        raise UnknownClass(
            f"{path}: holds values of no class, up to {values.max()}; labels_semantic has 0 to "
            f"{classes - 2}, and 255."
        )
    index += np.uint8(1)  # 255 becomes 0
    if (highest := int(index.max())) >= classes:
        raise UnknownClass(f"{path}: holds class {highest}; label2idx.json has {classes} classes.")
    return torch.from_numpy(index)


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one (width, height) could be the other, scaled by at most 16 up or down and rounded to whole
    pixels."""
    if any(max(a, b) > 16 * min(a, b) for a, b in zip(size, other, strict=True)):
        return False
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(*size, *other)

"""data.masks."""
from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .images import open_image


def voc_palette(classes: int) -> np.ndarray:
    """Colours of class indices by interleaving their bits over R, G, B (PASCAL VOC's rule). (classes, 3) uint8."""
    index = np.arange(classes)
    palette = np.zeros((classes, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


@lru_cache(1)
def _class_of_colour(classes: int) -> np.ndarray:
    """Class by colour, read as R + 256 G + 65536 B: (2 ** 24,) uint8, 255 where it is no class's."""
    table = np.full(1 << 24, 255, np.uint8)
    table[voc_palette(classes).astype(np.int32) @ (1, 1 << 8, 1 << 16)] = np.arange(classes)
    return table


def read_mask(path: Path, subset: str, classes: int) -> Tensor:
    """A mask as (H, W) uint8: 0 or 1 in S4 and MS3 (any value above 0 is foreground), class indices in AVSS.

    AVSS: the colours of `labels_rgb`, or the values of `labels_semantic` (index - 1, so that 255 is background).
    """
    image = open_image(path)
    if subset == "avss" and path.parent.name == "labels_rgb":
        known = _class_of_colour(classes)
        if image.mode == "P":                                      # its few colours are looked up, not every pixel's
            palette = np.array(image.getpalette() or (), np.int32).reshape(-1, 3)
            pixels, known = np.asarray(image), np.append(known[palette @ (1, 1 << 8, 1 << 16)], np.full(256, 255, np.uint8))
        else:
            pixels = np.asarray(image.convert("RGBA")).view("<u4")[..., 0] & 0xFFFFFF
        index = np.take(known, pixels)
        if unknown := np.count_nonzero(index == 255):
            raise ValueError(f"{path}: {unknown} pixels have a colour that is none of the {classes} classes' in label2idx.json.")
        return torch.from_numpy(index)
    if subset != "avss" and image.mode == "P" and _by_colour(image) or len(image.getbands()) > 1:
        values = np.array(image.convert("RGB")).max(-1)
    else:
        values = np.array(image)
    if subset != "avss":
        return torch.from_numpy((values > 0).astype(np.uint8))
    with np.errstate(invalid="ignore"):
        index = values.astype(np.uint8)
    if not np.array_equal(index, values):
        raise ValueError(f"{path}: holds values that are no class, up to {values.max()}; labels_semantic has 0 to {classes - 2}, and 255.")
    index += np.uint8(1)                                           # 255 becomes 0
    if (highest := int(index.max())) >= classes:
        raise ValueError(f"{path}: holds class {highest}; label2idx.json has {classes} classes.")
    return torch.from_numpy(index)


def _by_colour(image: Image.Image) -> bool:
    """Whether the colours of a binary mask with a palette say what is foreground, and not the indices: where black is used, but not as index 0,
    or where all that is used is grey. Programs that make files smaller sort the palette anew."""
    used = np.bincount(np.asarray(image).ravel(), minlength=256)[:256] > 0
    palette = np.zeros((256, 3), np.uint8)
    known = np.array(image.getpalette() or (), np.uint8).reshape(-1, 3)
    palette[:len(known)] = known
    return bool(palette[0].any()) and (not palette[used].any(1).all() or bool(np.ptp(palette[used].astype(int), axis=1).max() == 0))


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether a picture of one (width, height) could be the other's, made at most 16 times larger or smaller, and rounded to whole pixels."""
    return (abs(size[0] * other[1] - size[1] * other[0]) <= max(*size, *other)
            and all(max(a, b) <= 16 * min(a, b) for a, b in zip(size, other, strict=True)))

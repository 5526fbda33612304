"""The colours of classes. It needs no torch, which the generator's processes do not load."""
from __future__ import annotations

import numpy as np


def voc_palette(classes: int) -> np.ndarray:
    """Colours of class indices, made by spreading their bits over R, G and B (PASCAL VOC's rule):
    (classes, 3) uint8."""
    index = np.arange(classes)
    palette = np.zeros((classes, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette

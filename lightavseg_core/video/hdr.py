"""Converts wide colours and high dynamic range to the pictures that models know: sRGB, whose white is a sheet
of paper and not the sun."""
from __future__ import annotations

import av
import numpy as np

WHITE = 203  # cd/m2 of what is white in a scene (ITU-R BT.2408); what is brighter stays white
PEAK = 1000  # cd/m2 of the screen for which HLG is made
PQ, HLG = 16, 18  # transfer curves, by their numbers in ITU-T H.273
LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)  # BT.2020's
# Primaries to BT.709's, by the same numbers: BT.2020's, and those of DCI and Display P3.
P3 = [[1.2249, -0.2249, 0.0], [-0.0421, 1.0421, 0.0], [-0.0196, -0.0786, 1.0982]]
MATRICES = {
    9: [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    11: P3,
    12: P3,
}
STEPS = 65_535  # of a channel of 16 bits
ROWS = 64  # of a picture at a time, which is faster than all, and takes less memory


class ToSRGB:
    """Converts the pictures of one video, coded with a transfer curve and primaries (H.273's numbers)."""

    def __init__(self, transfer: int, primaries: int):
        self.hlg = transfer == HLG
        self.matrix = np.array(MATRICES.get(primaries, np.eye(3)), np.float32).T
        code = np.arange(STEPS + 1) / STEPS
        self.light = {PQ: _pq, HLG: _hlg}.get(transfer, _srgb)(code).astype(np.float32)
        self.code = np.round(255 * _coded(code)).astype(np.uint8)

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """-> (H, W, 3) uint8."""
        coded = frame.to_ndarray(format="rgb48")
        picture = np.empty(coded.shape, np.uint8)
        for top in range(0, len(coded), ROWS):
            light = self.light[coded[top : top + ROWS]]
            if self.hlg:  # its system gamma: what a screen makes of the light of a scene
                light *= (light @ LUMA)[..., None] ** 0.2 * np.float32(PEAK / WHITE)
            light = light @ self.matrix
            picture[top : top + ROWS] = self.code[(light.clip(0, 1) * STEPS + 0.5).astype(np.uint16)]
        return picture


def to_srgb(transfer: int, primaries: int) -> ToSRGB | None:
    """The converter of a video; None if its colours are close enough to sRGB."""
    if transfer in (PQ, HLG) or primaries in MATRICES:
        return ToSRGB(transfer, primaries)
    return None


def _pq(code: np.ndarray) -> np.ndarray:
    """Light, in units of white, by the PQ transfer curve of ITU-R BT.2100."""
    root = code ** (32 / 2523)
    light = ((root - 107 / 128).clip(0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)
    return light * 10_000 / WHITE


def _hlg(code: np.ndarray) -> np.ndarray:
    """Light of the scene, at most 1, by the HLG transfer curve of ITU-R BT.2100."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


def _srgb(code: np.ndarray) -> np.ndarray:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def _coded(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)

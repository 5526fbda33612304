"""Turns decoded pictures upright: rotated and mirrored according to how the camera was held."""
from __future__ import annotations

import math

import av
import numpy as np

from .hdr import ToSRGB


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int] | None:
    """How the camera was held: (a, b, c, d), which show a point (x, y) at (a x + c y, b x + d y), y pointing
    down; None: upright.

    Call it for a video's first picture only: PyAV's side data and its frame refer to each other, so the frame
    stays in memory until Python's next full garbage collection.
    """
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV stumbles over what it does not know beside it, such as the EXIF of cameras
        a, b = round(math.cos(math.radians(frame.rotation))), round(math.sin(math.radians(frame.rotation)))
        return (a, -b, b, a) if frame.rotation else None
    if matrix is None:
        return None
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()  # a b u / c d v / x y w
    return a, b, c, d


def turned(matrix: tuple[int, int, int, int] | None) -> bool:
    """Whether width and height are exchanged."""
    return matrix is not None and abs(matrix[1]) > abs(matrix[0])


def upright(
    frame: av.VideoFrame, matrix: tuple[int, int, int, int] | None, look: ToSRGB | None = None
) -> np.ndarray:
    """A decoded picture as (H, W, 3) uint8, rotated by right angles and mirrored as the matrix says."""
    picture = look(frame) if look else frame.to_ndarray(format="rgb24")
    if matrix is None:
        return picture
    a, b, c, d = matrix
    if turned(matrix):
        picture, a, d = picture.swapaxes(0, 1), c, b
    picture = picture[:, ::-1] if a < 0 else picture
    return np.ascontiguousarray(picture[::-1] if d < 0 else picture)

"""data.images."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .decoding import MAX_PIXELS


def picture(frame: Tensor) -> np.ndarray:
    """A normalised frame (3, H, W) as a picture (H, W, 3), 0 to 1."""
    return (frame.cpu() * STD + MEAN).clamp(0, 1).permute(1, 2, 0).numpy()


def prepare_frame(picture: np.ndarray, size: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 -> (3, *size) float32 with ImageNet's mean and deviation, as `data.AVSBench` does it."""
    frame = torch.from_numpy(picture).permute(2, 0, 1)[None]
    if frame.shape[-2:] != size:
        frame = F.interpolate(frame.float(), size, mode="bilinear", antialias=True).round().clamp(0, 255)
    return (frame[0].float() / 255 - MEAN) / STD

MEAN, STD = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1), torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")     # told by content, not by name; PIL reads others with outside programs


def open_image(path: Path, before: Callable[[Image.Image], object] | None = None) -> Image.Image:
    """A decoded picture. Raises FileNotFoundError or ValueError: missing, broken, truncated, or absurdly large.

    before: is given the picture when its header is read, and nothing decoded yet.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing{'; in its place is a folder, a pipe or a device' if path.exists() else ''}.")
    try:
        image = Image.open(path, formats=FORMATS)
        if small := image.width * image.height <= MAX_PIXELS:
            if before:
                before(image)
            image.load()
    except Exception as error:                                     # PIL raises almost anything over a broken file
        reason = str(error).replace(str(path), "").strip(" '\"") or type(error).__name__
        raise ValueError(f"{path}: not a readable picture ({' '.join(reason.split())[:100]}).") from None
    if not small:
        raise ValueError(f"{path}: claims {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read.")
    return image


def read_frame(path: Path) -> Tensor:
    """A frame as (3, H, W) uint8."""
    return torch.from_numpy(np.array(open_image(path).convert("RGB"))).permute(2, 0, 1)


def frame_size(path: Path) -> tuple[int, int]:
    """A frame's (width, height), once every byte of it was read. A JPEG is decoded in grey at an eighth of its size: that finds what is damaged
    as surely, in half the time."""
    sizes = []

    def coarse(image: Image.Image) -> None:
        sizes.append(image.size)
        image.draft("L", (image.width // 8, image.height // 8))

    open_image(path, coarse)
    return sizes[0]

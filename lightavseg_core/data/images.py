"""Pictures: one reader for the dataset, `data check` and prediction, and the frames that models read."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from .._common.lookalikes import on_disk
from .._common.substitutes import substitute

MAX_PIXELS = 64_000_000  # of one picture; where a header promises more, nothing is decoded
# Told by content, not by name; PIL reads others with outside programs.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
ORIENTATION = ExifTags.Base.Orientation
TURNS = {  # what sets a picture upright, by its EXIF orientation; from 5 on its sides change places
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)  # ImageNet's
STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


class NoRange(ValueError):
    """A frame whose values do not tell which of them is white."""

    kind = "range"


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """PIL raises almost anything for a broken file; here it becomes a ValueError of one line."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UnidentifiedImageError) and (instead := substitute(Path(path))):
            raise ValueError("{}: not a readable picture ({}). {}.".format(path, *instead)) from None
        reason = str(error).replace(str(path), "").strip(" '\"") or type(error).__name__
        raise ValueError(f"{path}: not a readable picture ({' '.join(reason.split())[:100]}).") from None


def _header(path: Path) -> Image.Image:
    """A picture that is opened but not decoded yet."""
    path = on_disk(path)
    if not path.is_file():
        instead = "; a folder, a pipe or a device is in its place" if path.exists() else ""
        raise FileNotFoundError(f"{path}: missing{instead}.")
    with _named(path):
        image = Image.open(path, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"{path}: claims {image.width} x {image.height} pixels; expected at most {MAX_PIXELS:,}."
        )
    return image


def _upright(image: Image.Image) -> tuple[Image.Image, int]:
    """A picture, decoded and turned upright, and its stored EXIF orientation, 1 to 8."""
    # PIL itself turns a TIFF while it decodes it.
    stored = image.tag_v2.get(ORIENTATION) if image.format == "TIFF" else None
    image.load()
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # a note that is broken spoils no picture
        orientation = None
    if orientation in TURNS:
        return image.transpose(TURNS[orientation]), orientation
    return image, stored if stored in TURNS else 1


def open_upright(path: Path) -> tuple[Image.Image, int]:
    """A picture, decoded and turned upright by its EXIF orientation, and that orientation, 1 to 8; 1: not
    turned.

    Raises FileNotFoundError if it is missing; ValueError if it is broken, truncated, or absurdly large.
    """
    image = _header(path)
    with _named(image.filename):
        return _upright(image)


def open_image(path: Path) -> Image.Image:
    """`open_upright`, the picture alone."""
    return open_upright(path)[0]


def _frame_header(path: Path) -> Image.Image:
    """`_header` of a picture that can be a frame."""
    image = _header(path)
    if image.mode == "F" or image.mode == "I" and image.format != "PPM":  # a PPM of mode I has 16 bits
        numbers = "fractions" if image.mode == "F" else "signed or 32-bit numbers"
        raise NoRange(f"{path}: stores grey as {numbers}, so white is unknown. Save it with 8 or 16 bits.")
    return image


def _rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8. 16-bit grey is scaled by its range; PIL would turn all values above 255 white."""
    if image.mode.startswith("I"):
        bits = image.tag_v2[258][0] if image.format == "TIFF" else 16  # BitsPerSample: 12 or 16
        white = (1 << bits) - 1
        grey = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((grey * 255 + white // 2) // white).astype(np.uint8))
    return np.array(image.convert("RGB"))


def read_picture(path: Path) -> np.ndarray:
    """A frame, upright: (H, W, 3) uint8. Raises what `open_upright` raises, and NoRange."""
    image = _frame_header(path)
    with _named(image.filename):
        return _rgb(_upright(image)[0])


def read_frame(path: Path) -> Tensor:
    """`read_picture` as (3, H, W) uint8."""
    return torch.from_numpy(read_picture(path)).permute(2, 0, 1)


def frame_size(path: Path) -> tuple[tuple[int, int], int]:
    """A frame's upright (width, height) and its EXIF orientation, after every byte has been read. A JPEG is
    decoded in grey at an eighth of its size: that finds damage just as surely, in half the time."""
    image = _frame_header(path)
    with _named(image.filename):
        size = image.size
        coarse = image.draft("L", (max(image.width // 8, 1), max(image.height // 8, 1)))
        image, orientation = _upright(image)
        height, width = _rgb(image).shape[:2]
    if coarse:
        width, height = size if orientation < 5 else size[::-1]
    return (width, height), orientation


def picture(frame: Tensor) -> np.ndarray:
    """A normalized frame (3, H, W) as a picture (H, W, 3), 0 to 1."""
    return (frame.cpu() * STD + MEAN).clamp(0, 1).permute(1, 2, 0).numpy()


def prepare_frame(picture: np.ndarray, size: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 -> (3, *size) float32, normalized with ImageNet's mean and std, as in
    `data.AVSBench`."""
    frame = torch.from_numpy(picture).permute(2, 0, 1)[None]
    if frame.shape[-2:] != size:
        frame = resized(frame, size)
    return (frame[0].float() / 255 - MEAN) / STD


def resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes frames (N, 3, H, W) uint8 to (N, 3, *size), whole numbers from 0 to 255 in float32."""
    return F.interpolate(frames.float(), size, mode="bilinear", antialias=True).round().clamp(0, 255)

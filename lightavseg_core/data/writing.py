"""Writes the files of a generated dataset, which is either complete or absent."""
from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import tempfile
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .._common.files import check_folder, disk_errors
from .layout import spec_of


def stands(root: Path, subset: str, recipe: str, is_same: Callable[[], bool]) -> bool:
    """Whether the dataset to make is already under root. recipe: the file that tells what was made.

    Raises FileExistsError if another one is there, and ValueError if none can be written.
    """
    spec = spec_of(subset)
    home = root / spec.folder
    if (home / spec.csv).exists():
        if (home / recipe).exists() and is_same():
            return True
        held = f"another {subset} dataset"
        raise FileExistsError(f"{home}: already holds {held}. Give another folder, or remove this one.")
    if not (home / recipe).exists() and any((home / part).exists() for part in spec.parts):
        origin = f"{subset} data from another source, without {spec.csv}"
        raise FileExistsError(f"{home}: already holds {origin}. Give another folder.")
    check_folder(home)
    return False


@contextlib.contextmanager
def new_subset(root: Path, subset: str, recipe: str) -> Iterator[Path]:
    """A folder to write a subset into, which moves to its place under root after the body. An interruption
    leaves nothing behind."""
    new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".generating_", dir=root))
    spec = spec_of(subset)
    try:
        with disk_errors(root):
            yield staging / spec.folder
            _move(staging / spec.folder, root / spec.folder, recipe, spec.csv)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if new:
            with contextlib.suppress(OSError):
                root.rmdir()  # only where it is empty: an interrupted generation


def _move(staged: Path, home: Path, recipe: str, table: str) -> None:
    """The recipe moves first: it marks the folder as generated. The table moves last: without it the folder
    is not a dataset. Raises FileExistsError if another process was faster."""
    home.mkdir(parents=True, exist_ok=True)
    if (home / table).exists():
        advice = "Run this again: it uses what is there if it is the same."
        raise FileExistsError(f"{home}: another process has just written it. {advice}")
    for part in sorted(staged.iterdir(), key=lambda path: (path.name == table) - (path.name == recipe)):
        if (home / part.name).is_dir():
            shutil.rmtree(home / part.name)
        os.replace(part, home / part.name)


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Writes pixels, (H, W) or (H, W, 3) uint8, as PNG, or as JPEG if the name ends in .jpg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"compress_level": 1} if path.suffix == ".png" else {"quality": 95}
    Image.fromarray(pixels).save(path, **options)


def write_table(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    """Writes a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def write_sound(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav(samples, sample_rate))


def wav(samples: np.ndarray, sample_rate: int) -> bytes:
    """A mono 16-bit WAV file. samples (n,) float in [-1, 1]; sample_rate in Hz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()

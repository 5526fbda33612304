"""The files of a dataset that is made here."""
from __future__ import annotations

import csv
import io
import wave
from pathlib import Path

import numpy as np
from PIL import Image


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """pixels: (H, W) or (H, W, 3) uint8; as PNG, or as JPEG where the name ends in .jpg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"compress_level": 1} if path.suffix == ".png" else {"quality": 95}
    Image.fromarray(pixels).save(path, **options)


def write_table(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    """A CSV."""
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

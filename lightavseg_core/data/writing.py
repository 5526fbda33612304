"""The files of a dataset that is made here."""
from __future__ import annotations

import io
import wave

import numpy as np


def wav(samples: np.ndarray, sample_rate: int) -> bytes:
    """A mono 16-bit WAV file. samples (n,) float in [-1, 1]; sample_rate in Hz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()

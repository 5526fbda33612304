"""Sound for a frame: decoding with PyAV, and the log-mel spectrogram that an audio encoder reads."""
from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np
import torch
import torchaudio.functional as AF
from torch import Tensor

SAMPLE_RATE = 16_000


def read_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """A file's first sound track as (samples,) float32 in [-1, 1]: channels averaged, resampled to sample_rate (Hz).

    Any rate, layout and container that PyAV opens. Raises FileNotFoundError, or ValueError where there is no sound to decode.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such sound file.")
    chunks, rate, found = [], 0, False
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            # FFmpeg converts the samples to float; averaging and resampling are ours, so that they are the same on every FFmpeg.
            # Interleaved ("flt"), because PyAV reads past the end of planar samples of eight channels and more.
            to_float, found = av.AudioResampler(format="flt"), bool(container.streams.audio)
            for frame in container.decode(audio=0) if found else ():
                rate = frame.sample_rate
                chunks += [piece.to_ndarray().reshape(-1, piece.layout.nb_channels).mean(1) for piece in to_float.resample(frame)]
    except (av.FFmpegError, ValueError) as error:
        raise ValueError(f"{path}: cannot be decoded as sound ({getattr(error, 'strerror', None) or error}). Is it complete?") from None
    if not found:
        raise ValueError(f"{path}: has no sound track. Give a file with sound.")
    if not chunks or not sum(map(len, chunks)):
        raise ValueError(f"{path}: holds no sound samples. Record it again, or leave the clip out.")
    samples = torch.from_numpy(np.concatenate(chunks).astype(np.float32))
    if not samples.isfinite().all():
        raise ValueError(f"{path}: holds samples that are not finite numbers. Record it again, or leave the clip out.")
    if not 1_000 <= rate <= 1_000_000:
        raise ValueError(f"{path}: claims {rate} samples per second; sound has 1,000 to 1,000,000. Record it again, or leave the clip out.")
    return samples if rate == sample_rate else _resample(samples, rate, sample_rate)


def _resample(samples: Tensor, rate: int, new_rate: int) -> Tensor:
    divisor = math.gcd(rate, new_rate)
    if rate // divisor * (new_rate // divisor) <= 10_000_000:
        return AF.resample(samples, rate, new_rate)
    # A rate such as 44,101 Hz: torchaudio's kernel would take gigabytes, so the spectrum is cut or extended instead.
    length = math.ceil(len(samples) * new_rate / rate)
    return (torch.fft.irfft(torch.fft.rfft(samples.double()), length) * (length / len(samples))).float()


def _mel_filters(bands: int, bins: int, sample_rate: int, low: float, high: float) -> Tensor:
    """Triangles that are linear in mel (HTK), as VGGish has them; torchaudio's are linear in Hz. (bins, bands), float64."""
    def mel(hz):
        return 1127.0 * torch.log1p(torch.as_tensor(hz, dtype=torch.float64) / 700.0)

    edges = torch.linspace(float(mel(low)), float(mel(high)), bands + 2, dtype=torch.float64)
    position = mel(torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64)).unsqueeze(1)       # (bins, 1)
    rising = (position - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - position) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp_min(0)
    filters[0] = 0                                                                                    # the DC bin
    return filters


class LogMel:
    """VGGish's log-mel at 16 kHz: 25 ms periodic Hann windows every 10 ms, 512-point magnitude, 64 mel bands 125-7500 Hz, log(x + 0.01).

    Calling it, (..., samples) and times (T,) in seconds -> (..., T, 1, 96, 64) float32: frame k hears the 15,600 samples (0.975 s) from
    times[k], which are exactly 96 windows. A track too short is padded with silence before the logarithm. Computed in float64.
    """

    sample_rate = SAMPLE_RATE
    samples = 15_600
    shape = (96, 64)
    silence = float(np.log(0.01))

    def __init__(self):
        with torch.device("cpu"):      # also where a model is built without numbers, on the meta device
            self.filters = _mel_filters(64, 257, self.sample_rate, 125.0, 7500.0)
            self.window = torch.hann_window(400, periodic=True, dtype=torch.float64)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """(..., samples) -> (..., windows, 64) float64; no centring: the first window starts at sample 0."""
        windows = waveform.double().unfold(-1, 400, 160) * self.window.to(waveform.device)
        magnitude = torch.fft.rfft(windows, n=512).abs()
        return torch.log(magnitude @ self.filters.to(waveform.device) + 0.01)

    def __call__(self, waveform: Tensor, times: Tensor) -> Tensor:
        starts = (torch.as_tensor(times, dtype=torch.float64, device="cpu") * self.sample_rate).round().long().tolist()
        if starts and min(starts) < 0:
            raise ValueError(f"times must be in seconds from the start of the track, at least 0; found {min(starts) / self.sample_rate}.")
        short = max(starts, default=0) + self.samples - waveform.shape[-1]
        if short > 0:
            waveform = torch.nn.functional.pad(waveform, (0, short))
        heard = torch.stack([waveform[..., s:s + self.samples] for s in starts], -2)                  # (..., T, 15600)
        return self.spectrogram(heard).float().unsqueeze(-3)                                         # (..., T, 1, 96, 64)

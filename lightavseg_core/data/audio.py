"""Front ends: they turn sound into the log-mel spectrograms that audio encoders read."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor

from .._common.names import unknown

SAMPLE_RATE = 16_000
# How loud each speaker is in one channel (ITU-R BS.775-3, table 2), where left and right alone are averaged.
SPEAKERS = {"FL": 0.5, "FR": 0.5, "FC": 0.5**0.5, "LFE": 0.0, "LFE2": 0.0}
BEHIND = 0.5**1.5  # and all others
CANCELLED = 0.04  # of the power that the loudest channel adds: less than this is no mix of them


def resample(samples: Tensor, rate: int, new_rate: int) -> Tensor:
    """Resamples (..., samples) from rate to new_rate, Hz; whole seconds stay whole seconds."""
    divisor = math.gcd(rate, new_rate)
    if rate // divisor * (new_rate // divisor) <= 10_000_000:
        return AF.resample(samples, rate, new_rate)
    # A rate such as 44,101 Hz: torchaudio's kernel would take gigabytes. The spectrum is cut or extended
    # instead.
    length = math.ceil(len(samples) * new_rate / rate)
    spectrum = torch.fft.rfft(samples.double())
    return (torch.fft.irfft(spectrum, length) * (length / len(samples))).float()


def mono(samples: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(n, channels) float32 -> (n,): the channels' mean, or their sum weighted by weights (channels,).

    If the channels cancel each other out, as with right = -left, one of them is used.
    """
    mixed = samples.mean(1) if weights is None else samples @ weights
    if samples.shape[1] == 1 or not len(samples):
        return mixed
    adds = np.square(samples).mean(0) * (1 / samples.shape[1] if weights is None else weights) ** 2
    if np.square(mixed).mean() >= CANCELLED * adds.max():
        return mixed
    return samples[:, np.argmax(adds >= adds.max() / 2)]  # the first that is loud: the same in every piece


def downmix(speakers: Sequence[str]) -> np.ndarray | None:
    """`mono`'s weights for channels with these names (FFmpeg's); None if the names are not known."""
    if not {"FL", "FR"} <= set(speakers):
        return None
    return np.array([SPEAKERS.get(name, BEHIND) for name in speakers], np.float32)


def _mel_filters(bands: int, bins: int, sample_rate: int, low: float, high: float) -> Tensor:
    """Triangular filters, linear in mel (HTK), as in VGGish; torchaudio's are linear in Hz.
    (bins, bands), float64."""

    def mel(hz):
        return 1127.0 * torch.log1p(torch.as_tensor(hz, dtype=torch.float64) / 700.0)

    edges = torch.linspace(float(mel(low)), float(mel(high)), bands + 2, dtype=torch.float64)
    hertz = torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64)
    position = mel(hertz).unsqueeze(1)  # (bins, 1)
    rising = (position - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - position) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp_min(0)
    filters[0] = 0  # the DC bin
    return filters


def _check_waveform(waveform: Tensor) -> None:
    """Raises ValueError for anything that cannot be a waveform (..., samples)."""
    if not isinstance(waveform, Tensor):
        found = f"waveform is {type(waveform).__name__}"
        raise ValueError(f"{found}; expected a tensor: convert an array with torch.from_numpy.")
    if not waveform.is_floating_point():
        todo = "divide 16-bit samples by 32768"
        raise ValueError(f"waveform is {waveform.dtype}; expected float, from -1 to 1: {todo}.")
    shape = tuple(waveform.shape)
    if not shape:
        raise ValueError(f"waveform has shape {shape}; expected (..., samples).")
    if len(shape) > 1 and shape[-1] <= 8 < shape[-2]:
        todo = "the channels are last; waveform.mean(-1) is mono"
        raise ValueError(f"waveform has shape {shape}; expected (..., samples): {todo}.")


class FrontEnd:
    """Turns sound into the spectrogram that an audio encoder reads; each encoder has its own front end.

    A call takes a waveform (..., samples) at `sample_rate` Hz and times (T,) in seconds and returns
    (..., T, 1, *shape) float32: frame k hears `samples` samples from times[k]. A track that is too short is
    padded with silence before the logarithm, so that the missing part reads `silence`, not 0. Computed in
    float64. Raises ValueError for a time before the track, and for anything that is not a waveform.
    """

    sample_rate: int
    samples: int
    shape: tuple[int, int]  # windows, mel bands
    silence: float  # the value of every bin where nothing sounds

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """(..., samples) -> (..., windows, bands) float64."""
        raise NotImplementedError

    def starts(self, times: Tensor) -> list[int]:
        """The first sample that each frame hears."""
        seconds = torch.as_tensor(times, dtype=torch.float64, device="cpu")
        if seconds.ndim != 1:
            raise ValueError(f"times has shape {tuple(seconds.shape)}; expected (T,), in seconds.")
        starts = (seconds * self.sample_rate).round().long().tolist()
        if starts and min(starts) < 0:
            raise ValueError(
                "times must be in seconds from the start of the track, at least 0; "
                f"found {min(starts) / self.sample_rate}."
            )
        return starts

    def __call__(self, waveform: Tensor, times: Tensor) -> Tensor:
        _check_waveform(waveform)
        if not (starts := self.starts(times)):
            raise ValueError("times is empty; expected (T,), the times of the frames in seconds.")
        short = max(starts, default=0) + self.samples - waveform.shape[-1]
        if short > 0:
            waveform = F.pad(waveform, (0, short))
        heard = torch.stack([waveform[..., s : s + self.samples] for s in starts], -2)  # (..., T, samples)
        return self.spectrogram(heard).float().unsqueeze(-3)  # (..., T, 1, windows, bands)


class LogMel(FrontEnd):
    """VGGish's log-mel at 16 kHz: 25 ms periodic Hann windows every 10 ms, 512-point magnitude, 64 mel bands
    125-7500 Hz, log(x + 0.01).

    mode "frame": frame k hears the 15,600 samples (0.975 s) from times[k], which are exactly 96 windows. mode
    "published": the windows of the whole track are cut into examples of 96, one every 0.96 s, and the frame
    of second k hears example k, as in AVSBench's features: the frame of second 4 hears the sound from 3.84 s.
    Five examples take 4.815 s, so a track of 4.8 s has four, and padding makes the fifth.
    """

    sample_rate = SAMPLE_RATE
    samples = 15_600
    shape = (96, 64)
    silence = float(np.log(0.01))

    def __init__(self, mode: str = "frame"):
        if mode not in ("frame", "published"):
            raise unknown("mode", mode, ("frame", "published"))
        self.mode = mode
        with torch.device("cpu"):  # also where a model is built without numbers, on the meta device
            self.filters = _mel_filters(64, 257, self.sample_rate, 125.0, 7500.0)
            self.window = torch.hann_window(400, periodic=True, dtype=torch.float64)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """(..., samples) -> (..., windows, 64) float64; no centring: the first window starts at sample 0."""
        windows = waveform.double().unfold(-1, 400, 160) * self.window.to(waveform.device)
        magnitude = torch.fft.rfft(windows, n=512).abs()
        return torch.log(magnitude @ self.filters.to(waveform.device) + 0.01)

    def starts(self, times: Tensor) -> list[int]:
        starts = super().starts(times)
        if self.mode == "frame":
            return starts
        return [start // self.sample_rate * 96 * 160 for start in starts]  # 160 samples a window


class PANNsLogMel(FrontEnd):
    """PANNs' log-mel at 32 kHz (Kong et al., 2020): 32 ms periodic Hann windows centred every 10 ms,
    reflected at the ends, power spectrum, 64 mel bands 50-14000 Hz (Slaney's scale and norm), in dB: 10
    log10(max(x, 1e-10)). Frame k hears one second from times[k]: 101 windows."""

    sample_rate = 32_000
    samples = 32_000
    shape = (101, 64)
    silence = -100.0

    def __init__(self):
        slaney = {"norm": "slaney", "mel_scale": "slaney"}
        with torch.device("cpu"):
            self.filters = AF.melscale_fbanks(513, 50.0, 14_000.0, 64, self.sample_rate, **slaney).double()
            self.window = torch.hann_window(1024, periodic=True, dtype=torch.float64)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """(..., samples) -> (..., windows, 64) float64; the first window is centred on sample 0."""
        window = self.window.to(waveform.device)
        steps = {"n_fft": 1024, "hop_length": 320, "win_length": 1024}
        power = AF.spectrogram(waveform.double(), 0, window, **steps, power=2.0, normalized=False)
        mel = power.mT @ self.filters.to(waveform.device)  # (..., windows, 513) @ (513, 64)
        return 10 * torch.log10(mel.clamp_min(1e-10))

"""Sound for a frame: decoding with PyAV, and the front ends, the log-mel spectrograms that audio encoders read."""
from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
import torchaudio.functional as AF
from torch import Tensor

from .decoding import Tally, decode, open_media

SAMPLE_RATE = 16_000
MAX_SAMPLES = 64_000_000         # of a track that is read whole: more than an hour at 16 kHz, 22 minutes at 48 kHz


def decode_audio(path: str | Path, tally: Tally) -> Iterator[tuple[float | None, int, np.ndarray]]:
    """A file's first sound track, piece by piece as it is decoded: (time of the piece in seconds, rate in Hz, samples (n, channels) float32).

    Pieces that cannot be decoded, or hold samples that are not finite, are left out and counted in `tally`. Raises FileNotFoundError, or
    ValueError where there is no sound track, or none that can be decoded, or where more than half of its packets cannot.
    """
    with open_media(path, "sound") as container:
        if not container.streams.audio:
            raise ValueError(f"{path}: has no sound track. Give a file with sound.")
        # FFmpeg converts the samples to float; averaging and resampling are ours, so that they are the same on every FFmpeg.
        # Interleaved ("flt"), because PyAV reads past the end of planar samples of eight channels and more.
        to_float = av.AudioResampler(format="flt")
        for frame in decode(container, container.streams.audio[0], path, "sound", tally):
            if not 1_000 <= frame.sample_rate <= 1_000_000:
                raise ValueError(f"{path}: claims {frame.sample_rate} samples per second; sound has 1,000 to 1,000,000. "
                                 "Record it again, or leave it out.")
            try:
                pieces = to_float.resample(frame)
            except ValueError as error:                # its rate or its channels change midway
                raise ValueError(f"{path}: cannot be decoded as sound ({error}).") from None
            for piece in pieces:
                samples = piece.to_ndarray().reshape(-1, piece.layout.nb_channels)
                if np.isfinite(samples).all():
                    yield frame.time, frame.sample_rate, samples
                else:
                    tally.skip("samples that are not finite numbers")


def read_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """`read_track`, resampled to sample_rate (Hz): (samples,) float32 in [-1, 1]."""
    rate, samples = read_track(path)
    return samples if rate == sample_rate else resample(samples, rate, sample_rate)


def read_track(path: str | Path) -> tuple[int, Tensor]:
    """A file's first sound track: its rate in Hz, and (samples,) float32 in [-1, 1], channels averaged.

    Any rate, layout and container that PyAV opens. Raises FileNotFoundError, or ValueError where there is no sound to decode, where any of it
    is damaged, or where there are more than MAX_SAMPLES: a small file may claim days of silence.
    """
    rate, count, chunks, tally = 0, 0, [], Tally()
    for _, rate, samples in decode_audio(path, tally):  # noqa: B007  the rate is that of all pieces
        chunks.append(samples.mean(1))
        count += len(samples)
        if count > MAX_SAMPLES:
            raise ValueError(f"{path}: holds more than {MAX_SAMPLES / rate / 60:.0f} minutes of sound ({MAX_SAMPLES:,} samples at {rate} Hz); "
                             "a clip has seconds. Cut it.")
    if tally.damaged:
        raise tally.refusal(path, "sound")
    if not count:
        raise ValueError(f"{path}: holds no sound samples. Record it again, or leave it out.")
    return rate, torch.from_numpy(np.concatenate(chunks))


def resample(samples: Tensor, rate: int, new_rate: int) -> Tensor:
    """(..., samples) from rate to new_rate, Hz; a second of one is a second of the other."""
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


class FrontEnd:
    """What turns sound into the picture that an audio encoder reads; each encoder brings its own.

    Calling it, waveform (..., samples) at `sample_rate` Hz and times (T,) in seconds -> (..., T, 1, *shape) float32: frame k hears `samples`
    samples from times[k]. A track too short is padded with silence before the logarithm, so that what is missing reads `silence`, not 0.
    Computed in float64. Raises ValueError for a time before the track.
    """

    sample_rate: int
    samples: int
    shape: tuple[int, int]    # windows, mel bands
    silence: float            # the value of every bin where nothing sounds

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """(..., samples) -> (..., windows, bands) float64."""
        raise NotImplementedError

    def starts(self, times: Tensor) -> list[int]:
        """The first sample that each frame hears."""
        starts = (torch.as_tensor(times, dtype=torch.float64, device="cpu") * self.sample_rate).round().long().tolist()
        if starts and min(starts) < 0:
            raise ValueError(f"times must be in seconds from the start of the track, at least 0; found {min(starts) / self.sample_rate}.")
        return starts

    def __call__(self, waveform: Tensor, times: Tensor) -> Tensor:
        starts = self.starts(times)
        short = max(starts, default=0) + self.samples - waveform.shape[-1]
        if short > 0:
            waveform = torch.nn.functional.pad(waveform, (0, short))
        heard = torch.stack([waveform[..., s:s + self.samples] for s in starts], -2)                  # (..., T, samples)
        return self.spectrogram(heard).float().unsqueeze(-3)                                         # (..., T, 1, windows, bands)


class LogMel(FrontEnd):
    """VGGish's log-mel at 16 kHz: 25 ms periodic Hann windows every 10 ms, 512-point magnitude, 64 mel bands 125-7500 Hz, log(x + 0.01).

    mode "frame": frame k hears the 15,600 samples (0.975 s) from times[k], which are exactly 96 windows. mode "published": the windows of the
    whole track are cut into examples of 96, one every 0.96 s, and a frame of second k hears example k, as in AVSBench's features: in second 4
    it hears what sounds from 3.84 s. Five examples take 4.815 s, so that a track of 4.8 s has four, and its fifth is made by the padding.
    """

    sample_rate = SAMPLE_RATE
    samples = 15_600
    shape = (96, 64)
    silence = float(np.log(0.01))

    def __init__(self, mode: str = "frame"):
        if mode not in ("frame", "published"):
            raise ValueError(f"unknown mode {mode!r} of the log-mel; known: frame, published.")
        self.mode = mode
        with torch.device("cpu"):      # also where a model is built without numbers, on the meta device
            self.filters = _mel_filters(64, 257, self.sample_rate, 125.0, 7500.0)
            self.window = torch.hann_window(400, periodic=True, dtype=torch.float64)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """(..., samples) -> (..., windows, 64) float64; no centring: the first window starts at sample 0."""
        windows = waveform.double().unfold(-1, 400, 160) * self.window.to(waveform.device)
        magnitude = torch.fft.rfft(windows, n=512).abs()
        return torch.log(magnitude @ self.filters.to(waveform.device) + 0.01)

    def starts(self, times: Tensor) -> list[int]:
        starts = super().starts(times)
        return starts if self.mode == "frame" else [start // self.sample_rate * 96 * 160 for start in starts]     # 160 samples a window


class PANNsLogMel(FrontEnd):
    """PANNs' log-mel at 32 kHz (Kong et al., 2020): 32 ms periodic Hann windows centred every 10 ms, reflected at the ends, power, 64 mel bands
    50-14000 Hz (Slaney's scale and norm), in dB: 10 log10(max(x, 1e-10)). Frame k hears one second from times[k]: 101 windows."""

    sample_rate = 32_000
    samples = 32_000
    shape = (101, 64)
    silence = -100.0

    def __init__(self):
        with torch.device("cpu"):
            self.filters = AF.melscale_fbanks(513, 50.0, 14_000.0, 64, self.sample_rate, norm="slaney", mel_scale="slaney").double()
            self.window = torch.hann_window(1024, periodic=True, dtype=torch.float64)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """(..., samples) -> (..., windows, 64) float64; the first window is centred on sample 0."""
        power = AF.spectrogram(waveform.double(), pad=0, window=self.window.to(waveform.device), n_fft=1024, hop_length=320, win_length=1024,
                               power=2.0, normalized=False)                                           # (..., 513, windows)
        return 10 * torch.log10((power.mT @ self.filters.to(waveform.device)).clamp_min(1e-10))

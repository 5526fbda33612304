"""The mixer: a clip's sound from its tracks, each at its own volume, with white noise and another clip's
sound. Pure functions."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor

from . import sounding_shapes
from .avsbench import AVSBench
from .cast import RATE
from .decoding import read_audio
from .scenes import SoundingObject


class Track(NamedTuple):
    """One sound of a clip. object: its source; None for a source out of view, for the noise floor, and for
    the only track of a clip without stems."""

    name: str
    sound: Tensor  # (samples,) float32
    object: SoundingObject | None = None


def tracks(dataset: AVSBench, index: int, sample_rate: int = RATE) -> list[Track]:
    """The tracks of clip `index` at sample_rate (Hz). A generated clip has a track for each object, one for a
    source out of view, if any, and the noise floor; any other clip has its WAV alone.

    Their sum is the WAV, at 16 kHz to 1 LSB of its 16 bits. Raises ValueError for an index out of range, and
    what reading raises.
    """
    if not 0 <= index < len(dataset):
        raise ValueError(f"clip {index}: the dataset has {len(dataset)} clips, numbered from 0.")
    clip = dataset.clips[index]
    try:
        sounding_shapes.read_recipe(dataset.root, dataset.subset)
    except FileNotFoundError:
        return [Track("its sound", read_audio(clip.audio, sample_rate))]
    number = sounding_shapes.clip_number(clip.name)
    objects = sounding_shapes.objects(dataset.root, dataset.subset, dataset.split, number)
    sounds = np.vstack(sounding_shapes.stems_and_noise(dataset.root, dataset.split, number, dataset.subset))
    sounds = AF.resample(torch.from_numpy(sounds).float(), RATE, sample_rate)
    names = [thing.name for thing in objects]
    unseen = [Track("out of view", sound) for sound in sounds[len(objects) : -1]]
    return [*map(Track, names, sounds, objects), *unseen, Track("noise floor", sounds[-1])]


def mix(
    sounds: Tensor,
    gains: Sequence[float],
    noise: float = 0.0,
    donor: Tensor | None = None,
    donor_gain: float = 1.0,
    seed: int = 0,
) -> tuple[Tensor, float]:
    """Waveform (samples,) float32 in [-1, 1], and the factor by which the whole mix was turned down, 1 if it
    fitted.

    sounds (K, samples): the tracks. gains: their amplitude factors, at least 0. noise: level of the white
    noise; 1 is as loud as the clip with all gains at 1 (what `AVSBench(sound="noise")` hears of clip `index`
    with the seed dataset.seed * 1,000,003 + index). donor (any length): cut, or followed by silence.
    A mix that would overload is turned down as a whole: clipping would add overtones that none of its
    sources made. Raises ValueError for a wrong number of gains, and for negative or infinite ones.
    """
    if sounds.ndim != 2 or len(gains) != len(sounds):
        found = f"{len(gains)} gains for sounds of shape {tuple(sounds.shape)}"
        raise ValueError(f"{found}; expected (tracks, samples) and one gain for each track.")
    if not all(0 <= gain < math.inf for gain in (*gains, noise, donor_gain)):
        factors = f"gains {list(gains)}, noise {noise}, donor_gain {donor_gain}"
        raise ValueError(f"{factors}: expected factors of at least 0.")
    waveform = torch.tensor(gains, dtype=sounds.dtype) @ sounds  # (samples,)
    if noise:
        white = torch.randn(waveform.shape, generator=torch.Generator().manual_seed(seed))
        waveform = waveform + noise * sounds.sum(0).square().mean().sqrt() * white
    if donor is not None and donor_gain:
        length = min(len(donor), len(waveform))
        waveform = waveform + F.pad(donor_gain * donor[:length], (0, len(waveform) - length))
    factor = 1 / max(waveform.abs().max().item(), 1.0)
    return (waveform * factor).clamp(-1, 1), factor

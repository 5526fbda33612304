"""Clips composed in memory: pictures from one source with sounds from another. If only one of the two is new
to a model, that one, the eye or the ear, explains the loss of the score."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .._common.files import digests
from ..data.audio import resample
from ..data.cast import RATE, Cast
from ..data.images import MEAN, STD
from ..data.scenes import Scene, draw_pictures, draw_tracks
from ..evaluation import evaluate
from ..models.base import AVSModel, load_model, model_file

Pictures = tuple[Tensor, Tensor]  # frames (T, 3, size, size) uint8, truth (T, size, size) uint8, 0 or 1


def model_with_files(folder: str) -> tuple[AVSModel, dict[str, str]]:
    """A model of binary masks, and the SHA-256 of its files. Raises FileNotFoundError or ValueError."""
    model = load_model(folder)
    if model.config.num_classes > 1:
        found = f"has {model.config.num_classes} classes"
        raise ValueError(f"{folder}: {found}; expected a model of binary masks, trained on s4 or ms3.")
    return model, digests([model_file(folder, name) for name in ("config.json", "model.safetensors")])


def pictures_of(scene: Scene, cast: Cast, size: int) -> Pictures:
    """The pictures of a scene; the ground truth is what sounds in it."""
    frames, objects = draw_pictures(scene, cast, size)
    truth = np.zeros(frames.shape[:3], bool)
    for thing in objects:
        truth |= thing.masks & thing.sounding[:, None, None]
    return torch.from_numpy(frames).permute(0, 3, 1, 2), torch.from_numpy(truth).to(torch.uint8)


def sound_of(scene: Scene, cast: Cast) -> Tensor:
    """The sound of a scene: (samples,) float32 at RATE."""
    tracks, noise = draw_tracks(scene, cast)
    return torch.from_numpy(tracks.sum(0) + noise).float()


def clip(model: AVSModel, name: str, pictures: Pictures, sound: Tensor) -> dict:
    """An item as in `data.AVSBench`, as long as the shorter of the two. sound: (samples,) at RATE."""
    frames, truth = pictures
    seconds = min(len(frames), len(sound) // RATE)
    heard = resample(sound, RATE, model.front_end.sample_rate)
    return {
        "frames": (frames[:seconds].float() / 255 - MEAN) / STD,
        "log_mel": model.front_end(heard, torch.arange(seconds)),
        "mask": truth[:seconds],
        "annotated": torch.ones(seconds, dtype=torch.bool),
        "name": name,
    }


def scores(model: AVSModel, clips: Sequence[dict]) -> dict[str, float]:
    """M_J, and the share of marked pixels."""
    found = evaluate(model, list(clips))
    return {name: found[name] for name in ("M_J", "foreground_share")}

"""Accounting: whose the parameters and the operations are, how cost grows with the picture, and what runs how long beside what."""
from __future__ import annotations

from typing import NamedTuple

import torch

from .methods import AVSModel, create_model
from .operations import Cost, count, owner
from .timing import latency  # noqa: F401  a temporary

PARTS = ("visual", "audio", "fusion", "decoder")


def skeleton(method: str, preset: str | None = None, **options) -> AVSModel:
    """`create_model` without numbers, on the meta device: all shapes, no memory, ready to be counted."""
    with torch.device("meta"):
        return create_model(method, preset, **options).eval()


def parts(model: AVSModel) -> dict[str, str]:
    """Submodule -> part: the encoders are "visual" and "audio", what the method names as its fusion is "fusion", the rest is "decoder"."""
    return {"": "decoder", "visual": "visual", "audio": "audio", **dict.fromkeys(model.fusion, "fusion")}


class Parameters(NamedTuple):
    total: int
    trainable: int


def parameters(model: AVSModel) -> dict[str, Parameters]:
    """Part -> how many parameters it has, and how many of them take a gradient."""
    table = dict.fromkeys(PARTS, Parameters(0, 0))
    for name, p in model.named_parameters():
        part = owner(name, parts(model))
        table[part] = Parameters(table[part].total + p.numel(), table[part].trainable + p.numel() * p.requires_grad)
    return table


def dead_parameters(model: AVSModel) -> dict[str, int]:
    """What the authors' code builds, saves and counts but never runs: their name of the module -> parameters, none of them in this model.

    Empty for other encoders than the authors', who published no code for them.
    """
    if model.config.visual != "resnet50":
        return {}
    return {name: sum(p.numel() for p in module.parameters()) for name, module in model.published_dead().items()}


def macs(model: AVSModel, size: int | tuple[int, int] = 224, seconds: int = 1) -> Cost:
    """What one clip costs, by part and operator: frames of size (H, W), or size x size, pixels, one a second. Counted on the meta device, not run.

    Raises ValueError for a model in training, whose losses ask for more than a mask.
    """
    if model.training:
        raise ValueError("the model is in training mode, in which it also makes what its losses need; call model.eval() first.")
    height, width = (size, size) if isinstance(size, int) else size
    with torch.device("meta"):
        frames, log_mel = torch.empty(1, seconds, 3, height, width), torch.empty(1, seconds, 1, *model.front_end.shape)
    return count(model, frames, log_mel, parts=parts(model))

"""Accounting: whose the parameters and the operations are, how cost grows with the picture, and what runs how long beside what."""
from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from .methods import AVSModel, create_model
from .operations import Cost, count, owner

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


# --- time ---


class Timing(NamedTuple):
    median: float          # milliseconds
    rounds: list[float]    # of each round, in the same order for all candidates: their ratio, round by round, is a paired comparison


def latency(candidates: Mapping[str, Callable[[], object]], repeats: int = 20, warmup: int = 3) -> dict[str, Timing]:
    """Name -> time of one call, in inference mode. Only ratios within one result mean something: machines change their pace.

    Candidates take turns, and each round begins with another one, so that what slows the machine down for a while slows all. Raises ValueError
    for nothing to time.
    """
    if not candidates or repeats < 1:
        raise ValueError(f"{len(candidates)} candidates, {repeats} repeats; expected at least one of each.")
    names, times = list(candidates), {name: [] for name in candidates}
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None      # a GPU returns before it is done
    with torch.inference_mode():
        for turn in range(warmup + repeats):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                wait()
                start = time.perf_counter()
                candidates[name]()
                wait()
                if turn >= warmup:
                    times[name].append((time.perf_counter() - start) * 1000)
    return {name: Timing(statistics.median(rounds), rounds) for name, rounds in times.items()}

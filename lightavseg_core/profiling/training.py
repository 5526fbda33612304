"""How a training step grows: memory and time against the clips in a batch, their seconds, and the sides of
their frames."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor

from .._common.recomputing import recomputed
from ..losses import total_loss
from ..models.base import AVSModel
from .memory import peak_memory
from .profiler import Candidate, Shape, in_turns
from .series import Point, Series


def step_of(model: AVSModel, recompute: bool = False) -> Callable[[Tensor, Tensor], None]:
    """A forward and a backward pass with the method's own losses and a frozen audio encoder, as a function of
    (frames, log_mel) from `Shape.inputs`. recompute: as in TrainConfig."""
    model.train().freeze_audio()

    @torch.inference_mode(False)
    @torch.enable_grad()
    def step(frames: Tensor, log_mel: Tensor) -> None:
        clips, seconds, _, height, width = frames.shape
        mask = torch.zeros(clips, seconds, height, width, device=frames.device)
        mask[..., : height // 2, :] = 1
        annotated = torch.ones(clips, seconds, dtype=torch.bool, device=frames.device)
        model.zero_grad()
        with recomputed(model) if recompute else nullcontext():
            output = model(frames, log_mel)
            loss, _ = total_loss(output, mask, annotated, auxiliary=model.auxiliary)
            loss.backward()

    return step


BASE = Shape(2, (128, 128), 2)


def growth(
    steps: Mapping[str, Callable[[Tensor, Tensor], None]],
    base: Shape = BASE,
    batches: tuple[int, ...] = (1, 2, 4),
    seconds: tuple[int, ...] = (1, 2, 5),
    sides: tuple[int, ...] = (96, 128, 224),
    repeats: int = 3,
    device: str = "cpu",
) -> Series:
    """Peak memory, without weights and inputs, and time, all in turns; one of the three grows, the others are
    those of `base`. steps: by name, from `step_of`."""
    shapes = [base._replace(batch=n) for n in batches] + [base._replace(seconds=t) for t in seconds]
    shapes = list(dict.fromkeys([*shapes, *(base._replace(size=(side, side)) for side in sides)]))
    models = {name: Candidate(step) for name, step in steps.items()}
    timed, card = in_turns(models, shapes, repeats, 1, device)
    points = []
    for name, step in steps.items():
        for shape in shapes:
            memory = peak_memory(partial(step, *shape.inputs((96, 64), device)), device)
            points.append(Point(name, *shape, timed[name, shape][1], memory))
    return Series(points, card)

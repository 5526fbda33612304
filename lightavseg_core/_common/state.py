"""Changes to a model's state that are undone: modes, trainable parameters, buffers."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """A model in evaluation mode. Afterwards, even if the body raises, each module is back in its mode, and
    torch's random generators, from which a model may draw, are as before."""
    modes = [(module, module.training) for module in model.modules()]
    gpus = {parameter.device.index for parameter in model.parameters() if parameter.is_cuda}
    try:
        with torch.random.fork_rng(devices=gpus):
            yield model.eval()
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def heard_already(model: nn.Module) -> Iterator[None]:
    """Within, a model takes its audio encoder's vectors (B, T, D) in place of log-mels: the encoder passes
    them on, however a method calls it."""
    audio, model.audio = model.audio, nn.Identity()
    try:
        yield
    finally:
        model.audio = audio


@contextmanager
def buffers_kept(model: nn.Module, always: bool = False) -> Iterator[None]:
    """If the body raises, restores a model's buffers, such as the statistics of batch norms, and clears the
    gradients. always: also if it does not raise."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    completed = False
    try:
        yield
        completed = not always
    finally:
        if not completed:
            with torch.no_grad():
                for buffer, before in kept:
                    buffer.copy_(before)
            model.zero_grad()


def learns(part: nn.Module) -> bool:
    """Whether any parameter of a part is trainable."""
    return any(parameter.requires_grad for parameter in part.parameters())


def freeze(part: nn.Module) -> None:
    """Makes a part untrainable until `unfreeze`."""
    learns = {name for name, parameter in part.named_parameters() if parameter.requires_grad}
    part._frozen = getattr(part, "_frozen", set()) | learns
    part.requires_grad_(False)


def unfreeze(part: nn.Module) -> None:
    """Undoes `freeze`; what was untrainable before stays so."""
    frozen = vars(part).pop("_frozen", ())
    for name, parameter in part.named_parameters():
        if name in frozen:
            parameter.requires_grad_(True)

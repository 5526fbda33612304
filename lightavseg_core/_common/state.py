"""A model's state that is put back: modes, what learns, buffers."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """A model in evaluation mode. Afterwards, also where the body raises, each of its modules is in the mode
    that it was in, and torch's random generators, from which a model may draw, stand where they stood."""
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
    """While a model is given its audio encoder's vectors, (B, T, D), in place of log-mels: the encoder passes
    them on, whichever way a method calls it."""
    audio, model.audio = model.audio, nn.Identity()
    try:
        yield
    finally:
        model.audio = audio


@contextmanager
def buffers_kept(model: nn.Module, always: bool = False) -> Iterator[None]:
    """Where the body raises, a model's buffers, such as the statistics of batch norms, are as before, and no
    gradient is left. always: also where it does not."""
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
    """Whether anything in it does."""
    return any(parameter.requires_grad for parameter in part.parameters())


def freeze(part: nn.Module) -> None:
    """Nothing in it learns, until `unfreeze`."""
    learns = {name for name, parameter in part.named_parameters() if parameter.requires_grad}
    part._frozen = getattr(part, "_frozen", set()) | learns
    part.requires_grad_(False)


def unfreeze(part: nn.Module) -> None:
    """What `freeze` froze learns again; what did not learn before still does not."""
    frozen = vars(part).pop("_frozen", ())
    for name, parameter in part.named_parameters():
        if name in frozen:
            parameter.requires_grad_(True)

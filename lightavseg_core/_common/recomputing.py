"""Training in less memory: a block's activations are not kept but recomputed in the backward pass."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .state import learns


@contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """Within, each block of a model keeps only its input. Gradients stay the same, even with dropout, and so
    do the statistics of batch norms: the second pass does not update them."""
    own = {block: vars(block).get("forward") for block in _blocks(model)}  # None: its class's
    for block in own:
        block.forward = partial(
            checkpoint, block.forward, use_reentrant=False, context_fn=partial(_both_passes, block)
        )
    try:
        yield
    finally:
        for block, forward in own.items():
            del block.forward
            if forward:
                block.forward = forward


def _blocks(module: nn.Module, root: bool = True) -> Iterator[nn.Module]:
    """The smallest trainable parts of several layers: a single layer keeps little more than its input. Looks
    inside lists and sequences of parts, and inside an encoder."""
    for name, part in module.named_children():
        rows = isinstance(part, nn.ModuleList) or type(part) is nn.Sequential
        nested = any(next(layer.children(), None) is not None for layer in part.children())
        if (rows and nested) or (root and name == "visual"):
            yield from _blocks(part, root=False)
        elif learns(part) and next(part.children(), None) is not None and type(part) is not nn.ModuleList:
            yield part


def _both_passes(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _still(block)


@contextmanager
def _still(block: nn.Module) -> Iterator[None]:
    """Batch norms normalize with the batch but do not update their running statistics."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)

"""Processes that work on one thing together, as `torchrun` starts them: who each one is, what all of them
know. In a process alone each function gives back what it was given."""
from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def _met() -> bool:
    return dist.is_available() and dist.is_initialized()


def meet() -> torch.device:
    """Waits for the other processes, if `torchrun` has started any, and returns where this one computes."""
    cuda = torch.cuda.is_available()
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return torch.device("cuda" if cuda else "cpu")
    from accelerate import PartialState

    return PartialState(cpu=not cuda).device


def rank() -> int:
    """This process's number; the first, 0, writes and speaks."""
    return dist.get_rank() if _met() else int(os.environ.get("RANK", 0))


def world() -> int:
    """How many processes have met."""
    return dist.get_world_size() if _met() else 1


def _tensor(numbers: Iterable[float]) -> Tensor:
    """Where all processes can reach it."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return torch.tensor(list(numbers), dtype=torch.float64, device=device)


def summed(*numbers: float) -> list[float]:
    """Of each number the sum over the processes."""
    if world() == 1:
        return list(numbers)
    total = _tensor(numbers)
    dist.all_reduce(total)
    return total.tolist()


def largest(*numbers: float) -> list[float]:
    """Of each number the largest of all processes."""
    if world() == 1:
        return list(numbers)
    most = _tensor(numbers)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return most.tolist()


def gathered(thing: Any) -> list:
    """Every process's, in their order."""
    if world() == 1:
        return [thing]
    things = [None] * world()
    dist.all_gather_object(things, thing)
    return things


def from_first(thing: Any) -> Any:
    """The first process's."""
    if world() == 1:
        return thing
    things = [thing]
    dist.broadcast_object_list(things)
    return things[0]


def average(tensors: Iterable[Tensor]) -> None:
    """In place: the mean over the processes, in one message."""
    tensors = list(tensors)
    if world() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world()
    with torch.no_grad():
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
            tensor.copy_(mean.view_as(tensor))


def average_statistics(model: nn.Module) -> None:
    """The running statistics of batch norms that learn: each process has moved its own by its own batch."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    average(statistic for norm in norms for statistic in (norm.running_mean, norm.running_var))


@contextmanager
def each_told_of_others() -> Iterator[None]:
    """Raises ConnectionError in place of what the network says when another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if world() == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error).lower()):
            raise
        raise ConnectionError(
            f"process {rank()} of {world()}: another one has ended, and so does this one. A training goes on "
            "from its last checkpoint with --resume."
        ) from None

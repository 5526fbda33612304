"""Processes that work on one thing together, as `torchrun` starts them: who each one is, what all of them
know. In a process alone each function gives back what it was given."""
from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .switches import no_settings_from_outside

T = TypeVar("T")


def _met() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def meeting(**patience: timedelta) -> Iterator[torch.device]:
    """Waits for the other processes, if `torchrun` has started any, and gives where this one computes.
    Afterwards it takes leave of them; not so where the body raises, since to take leave may wait for them.
    timeout: how long one may wait for another; by default torch's, which is minutes."""
    cuda = torch.cuda.is_available()
    if "LOCAL_RANK" not in os.environ or os.environ.get("WORLD_SIZE") == "1":
        yield torch.device("cuda" if cuda else "cpu")
        return
    from accelerate import PartialState

    with no_settings_from_outside():
        state = PartialState(cpu=not cuda, **patience)
    with each_told_of_others():
        yield state.device
        if world() > 1:
            dist.barrier()  # who leaves early would end the others
    state.destroy_process_group()


def rank() -> int:
    """This process's number among those that have met; the first, 0, writes and speaks."""
    return dist.get_rank() if _met() else 0


def world() -> int:
    """How many processes have met."""
    return dist.get_world_size() if _met() else 1


def _reduced(numbers: Iterable[float], how: str) -> list[float]:
    if world() == 1:
        return list(numbers)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"  # where all processes can reach it
    reduced = torch.tensor(list(numbers), dtype=torch.float64, device=device)
    dist.all_reduce(reduced, getattr(dist.ReduceOp, how))
    return reduced.tolist()


def summed(*numbers: float) -> list[float]:
    """Of each number the sum over the processes."""
    return _reduced(numbers, "SUM")


def largest(*numbers: float) -> list[float]:
    """Of each number the largest of all processes."""
    return _reduced(numbers, "MAX")


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


def alike(model: nn.Module, batches: Sequence[T]) -> Iterator[T]:
    """The batches of a step in this process. The running statistics of batch norms stand as before the step
    at each of them, and in the end are the mean over all batches in all processes: so they do not depend on
    how many there are."""
    if len(batches) * world() == 1:
        yield from batches
        return
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    moving = [statistic for norm in norms for statistic in (norm.running_mean, norm.running_var)]
    all_of = moving + [norm.num_batches_tracked for norm in norms]
    before = [statistic.clone() for statistic in all_of]
    means = [torch.zeros_like(statistic) for statistic in moving]
    for batch in batches:
        for statistic, old in zip(all_of, before):
            statistic.copy_(old)
        yield batch
        for mean, statistic in zip(means, moving):
            mean += statistic / len(batches)
    if moving and world() > 1:
        flat = torch.cat(means)
        dist.all_reduce(flat)  # in one message
        means = (flat / world()).split([len(mean) for mean in means])
    for statistic, mean in zip(moving, means):
        statistic.copy_(mean)


@contextmanager
def each_told_of_others() -> Iterator[None]:
    """Raises ConnectionError in place of what the network says when another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if world() == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error).lower()):
            raise
        why = str(error).strip().splitlines()[0][:200]
        raise ConnectionError(
            f"process {rank()} of {world()}: another one has ended or cannot be reached, so this one ends "
            f"too ({why}). A training goes on from its last checkpoint with --resume."
        ) from None

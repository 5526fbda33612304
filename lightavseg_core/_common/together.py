"""Processes that work together, as `torchrun` starts them: their ranks, and values exchanged among all of
them. In a single process each function returns what it was given."""
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

from .stopping import ignore_termination
from .switches import no_settings_from_outside

T = TypeVar("T")


def _met() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def meeting(**patience: timedelta) -> Iterator[torch.device]:
    """Waits for the other processes, if `torchrun` has started any, and gives this one's device. Leaves the
    group afterwards, but not if the body raises, since leaving may wait for the others.
    timeout: how long one process may wait for another; by default torch's, which is minutes."""
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
    """This process's number in the group; only the first, 0, writes and prints."""
    return dist.get_rank() if _met() else 0


def world() -> int:
    """How many processes are in the group."""
    return dist.get_world_size() if _met() else 1


def _reduced(numbers: Iterable[float], how: str) -> list[float]:
    if world() == 1:
        return list(numbers)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"  # where all processes can reach it
    reduced = torch.tensor(list(numbers), dtype=torch.float64, device=device)
    dist.all_reduce(reduced, getattr(dist.ReduceOp, how))
    return reduced.tolist()


def summed(*numbers: float) -> list[float]:
    """The sum of each number over the processes."""
    return _reduced(numbers, "SUM")


def largest(*numbers: float) -> list[float]:
    """The largest value of each number over the processes."""
    return _reduced(numbers, "MAX")


def gathered(thing: Any) -> list:
    """The things of all processes, in the order of their ranks."""
    if world() == 1:
        return [thing]
    things = [None] * world()
    dist.all_gather_object(things, thing)
    return things


def from_first(thing: Any) -> Any:
    """The first process's thing, in all processes."""
    if world() == 1:
        return thing
    things = [thing]
    dist.broadcast_object_list(things)
    return things[0]


def alike(model: nn.Module, batches: Sequence[T]) -> Iterator[T]:
    """The batches of a step in this process. For each, the running statistics of batch norms start from
    where they were before the step; in the end they are the mean over all batches of all processes, so they
    do not depend on the number of processes."""
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
    """Raises ConnectionError in place of the network's error when another process has ended. From then on the
    process ignores SIGTERM."""
    try:
        yield
    except RuntimeError as error:
        if world() == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error).lower()):
            raise
        ignore_termination()
        why = str(error).strip().splitlines()[0][:200]
        raise ConnectionError(
            f"process {rank()} of {world()}: another process has ended or cannot be reached, so this one "
            f"ends too ({why}). --resume continues a training from its last checkpoint."
        ) from None

"""How clips reach a training loop: in which order, by how many processes, and how long it waits for them."""
from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler
from tqdm.auto import tqdm

from .._common.together import rank, world
from .avsbench import AVSBench, collate


class _Drawn(Dataset):
    """Clips of which what is drawn, as AVSS's crops, depends on seed, epoch and index alone: not on which
    process loads them, nor on what else draws."""

    def __init__(self, clips: AVSBench, seed: int, workers: int):
        self.clips, self.seed, self.epoch = clips, seed, torch.zeros((), dtype=torch.int64)
        if workers:
            self.epoch.share_memory_()  # those that load are told of the next epoch

    def set_epoch(self, epoch: int) -> None:
        """Before each epoch, from 0."""
        self.epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict:
        mixed = np.random.SeedSequence((self.seed, int(self.epoch), index)).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(int(mixed[0]))
            return self.clips[index]


class _Shuffled(RandomSampler):
    """Another order in each epoch. An epoch draws a number more than it needs, as torch's loader does in each
    epoch without processes and in the first alone with them: the order is the same either way."""

    def __iter__(self) -> Iterator[int]:
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        return super().__iter__()


class _Dealt(Sampler[list[int]]):
    """Batches, dealt out to processes one by one: each has `accumulate` of a step's. What is left over at an
    epoch's end, clips or batches, is left out. `skipped` batches of the next epoch, of all processes, are
    left out too."""

    skipped = 0

    def __init__(self, batches: BatchSampler, accumulate: int):
        self.batches, self.generator = batches, batches.sampler.generator
        self.step = accumulate * world()
        self.steps = len(batches) // self.step
        if not self.steps:
            clips, size = len(batches.sampler), batches.batch_size
            raise ValueError(
                f"{clips} clips make {len(batches)} batches of {size}, and a step takes {self.step} "
                f"({accumulate} in each of {world()} processes). Give fewer, or a smaller batch_size."
            )

    def __len__(self) -> int:
        return self.steps * self.step // world()

    def __iter__(self) -> Iterator[list[int]]:
        start, self.skipped = self.skipped, 0
        # To the end of the order, which is where torch's draws its last number.
        for k, batch in enumerate(self.batches):
            if start <= k < self.steps * self.step and k % world() == rank():
                yield batch


def _goes_on_working(_: int) -> None:
    """Ctrl-C reaches all processes; the one that trains says when the others end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def training_loader(
    clips: AVSBench, batch_size: int, seed: int, workers: int, accumulate: int = 1
) -> DataLoader:
    """Batches of clips in an order that the seed draws anew in each epoch, the same with so many loading
    processes as without. What is left over at an epoch's end is left out, unless it is all there is.

    In one process of several these are its batches, in whole steps of `accumulate` from each (`_Dealt`).
    """
    order = _Shuffled(clips, generator=torch.Generator().manual_seed(seed))
    batches = BatchSampler(order, batch_size, drop_last=len(clips) >= batch_size)
    return DataLoader(
        _Drawn(clips, seed, workers),
        batch_sampler=_Dealt(batches, accumulate),
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=_goes_on_working,
        persistent_workers=workers > 0,
        generator=torch.Generator(),
    )


def shrunk(batch: dict, share: float) -> dict:
    """A batch with frames and masks of that share of their sides, in steps of 16 pixels, at least 32."""
    if share == 1:
        return batch
    frames, mask = batch["frames"], batch["mask"]
    sides = [max(32, round(share * side / 16) * 16) for side in mask.shape[-2:]]
    small = F.interpolate(frames.flatten(0, 1), sides, mode="bilinear", antialias=True)
    small_mask = F.interpolate(mask, sides, mode="nearest-exact")
    return {**batch, "frames": small.unflatten(0, frames.shape[:2]), "mask": small_mask}


def mirrored(batch: dict, flip: Tensor) -> dict:
    """A batch in which the clips that `flip`, (B,) bool, selects are mirrored, with their masks."""
    for key in ("frames", "mask"):
        batch[key][flip] = batch[key][flip].flip(-1)
    return batch


def augmented(step: list[dict], side: float, mirrors: torch.Generator | None) -> list[dict]:
    """This process's batches of a step, `shrunk`, and half of their clips mirrored. `mirrors` draws
    these: for all processes in each, so that a batch is the same in whichever it is."""
    step = [shrunk(batch, side) for batch in step]
    if mirrors is not None:
        shape = len(step) * world(), len(step[0]["name"])
        flips = torch.rand(shape, generator=mirrors) < 0.5
        step = [mirrored(batch, flip) for batch, flip in zip(step, flips[rank() :: world()])]
    return step


def names_in(step: list[dict]) -> tuple[list[str], list[str]]:
    """The clips of a step's batches, and those of them whose input is not finite."""
    names, broken = [], []
    for batch in step:
        names += batch["name"]
        for name, *inputs in zip(batch["name"], batch["frames"], batch["log_mel"]):
            if not all(x.isfinite().all() for x in inputs):
                broken.append(name)
    return names, broken


def smallest_batch(clips: AVSBench, batch_size: int) -> dict:
    """The first clip twice; where a batch holds but one, the shortest clip."""
    if min(batch_size, len(clips)) > 1:
        return collate([clips[0]] * 2)
    return collate([clips[min(range(len(clips)), key=lambda i: len(clips.clips[i].frames))]])


@contextmanager
def large_enough(batch: dict) -> Iterator[None]:
    """Around a training step: raises ValueError, with a remedy, where batch norms have one position to learn
    from."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        height, width = batch["frames"].shape[-2:]
        raise ValueError(
            f"clip {batch['name'][0]}: its one frame of {width} x {height} pixels, alone in a batch, has one "
            "position in the coarsest map, and batch norms need two. Give a batch_size of 2 or more, or "
            "frames of more than 64 pixels (--batch-size, --size)."
        ) from None


def loading_processes(asked: int | None, device: str) -> int:
    """So many as are asked for; else none on a CPU, whose cores the model needs, and on a GPU one for each
    core that this process may use, of which it has its share beside other GPUs' processes, at most 8."""
    if asked is not None or device != "cuda":
        return asked or 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def say_that_it_waits(bar: tqdm, share: float, workers: int) -> None:
    """share: of an epoch. bar: disabled in all processes but one."""
    if not bar.disable:
        words = f"{share:.0%} of this epoch was spent waiting for clips to be read"
        advice = "More workers read more at a time."
        bar.write(f"{words}, by {workers or 'no extra'} processes. {advice}", file=sys.stderr)


@contextmanager
def told_of_loaders() -> Iterator[None]:
    """Around a training: raises ChildProcessError, with a remedy, where a process that loads clips ended."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ChildProcessError(
            "a process that loads clips has ended, as where memory runs out. Give fewer of them (--workers); "
            "a training goes on from its last checkpoint with --resume."
        ) from None


def with_waits(loader: Iterable[dict], batches: int = 1) -> Iterator[tuple[list[dict], float]]:
    """So many batches at a time, and the seconds in which nothing was done but wait for their clips to be
    read."""
    given, asked = iter(loader), time.perf_counter()
    while found := list(islice(given, batches)):
        yield found, time.perf_counter() - asked
        asked = time.perf_counter()

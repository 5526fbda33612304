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
from torch.utils.data import DataLoader, Dataset, RandomSampler
from tqdm.auto import tqdm

from .avsbench import AVSBench, collate


class _Drawn(Dataset):
    """Clips of which what is drawn, as AVSS's crops, depends on seed, epoch and index alone: not on which
    process loads them, nor on what else draws."""

    def __init__(self, clips: AVSBench, seed: int, workers: int):
        self.clips, self.seed, self.epoch = clips, seed, torch.zeros((), dtype=torch.int64)
        if workers:
            self.epoch.share_memory_()  # those that load are told of the next epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Accelerate before each epoch, from 0."""
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
    epoch without processes and in the first alone with them: the order is the same either way. `skipped`
    clips of the next epoch are left out."""

    skipped = 0

    def __iter__(self) -> Iterator[int]:
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        start, self.skipped = self.skipped, 0
        return islice(super().__iter__(), start, None)


def _goes_on_working(_: int) -> None:
    """Ctrl-C reaches all processes; the one that trains says when the others end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def training_loader(clips: AVSBench, batch_size: int, seed: int, workers: int) -> DataLoader:
    """Batches of clips in an order that the seed draws anew in each epoch, the same with so many processes as
    without. What is left over at an epoch's end is left out, unless it is all there is."""
    return DataLoader(
        _Drawn(clips, seed, workers),
        batch_size,
        sampler=_Shuffled(clips, generator=torch.Generator().manual_seed(seed)),
        drop_last=len(clips) >= batch_size,
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
    core, at most 8."""
    if asked is not None:
        return asked
    return min(8, os.cpu_count() or 1) if device == "cuda" else 0


def say_that_it_waits(bar: tqdm, share: float, workers: int) -> None:
    """share: of an epoch. bar: disabled in all processes but one."""
    if not bar.disable:
        words = f"{share:.0%} of this epoch was spent waiting for clips to be read"
        advice = "More workers read more at a time."
        bar.write(f"{words}, by {workers or 'no extra'} processes. {advice}", file=sys.stderr)


def with_waits(loader: Iterable[dict]) -> Iterator[tuple[dict, float]]:
    """Batches, each with the seconds in which nothing was done but wait for its clips to be read."""
    asked = time.perf_counter()
    for batch in loader:
        yield batch, time.perf_counter() - asked
        asked = time.perf_counter()

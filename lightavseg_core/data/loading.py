"""How clips reach a training loop: their order, the processes that load them, and the time spent waiting."""
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
    """Clips whose random draws, such as AVSS's crops, depend only on seed, epoch and index: not on the
    process that loads them, nor on any other draws. frames: as in TrainConfig."""

    def __init__(self, clips: AVSBench, seed: int, workers: int, frames: int):
        self.clips, self.seed, self.frames = clips, seed, frames
        self.epoch = torch.zeros((), dtype=torch.int64)
        if workers:
            self.epoch.share_memory_()  # those that load are told of the next epoch

    def set_epoch(self, epoch: int) -> None:
        """To be called before each epoch, counted from 0."""
        self.epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict:
        mixed = np.random.SeedSequence((self.seed, int(self.epoch), index)).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(int(mixed[0]))
            return some_frames(self.clips[index], self.frames)


def some_frames(item: dict, count: int) -> dict:
    """A clip's item with `count` of its frames, drawn at random, annotated ones first, in their order; 0, or
    more than it has: all of them."""
    annotated = item["annotated"]
    if not 0 < count < len(annotated):
        return item
    chosen = (annotated + torch.rand(len(annotated))).topk(count).indices.sort().values
    return {key: part[chosen] if isinstance(part, Tensor) else part for key, part in item.items()}


class _Shuffled(RandomSampler):
    """A new order in each epoch. An epoch draws one number more than it needs, as torch's loader does in
    every epoch without workers but only in the first with them: so the order is the same either way."""

    def __iter__(self) -> Iterator[int]:
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        return super().__iter__()


class _Dealt(Sampler[list[int]]):
    """Batches, dealt out to processes one by one: each gets `accumulate` of a step's. Clips or batches left
    over at the end of an epoch are dropped. `skipped` batches of the next epoch, over all processes, are
    dropped too."""

    skipped = 0

    def __init__(self, batches: BatchSampler, accumulate: int):
        self.batches, self.generator = batches, batches.sampler.generator
        self.step = accumulate * world()
        self.steps = len(batches) // self.step
        if not self.steps:
            clips, size = len(batches.sampler), batches.batch_size
            raise ValueError(
                f"{clips} clips make {len(batches)} batches of {size}, but a step takes {self.step} "
                f"({accumulate} in each of {world()} processes). Use fewer, or a smaller batch_size."
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
    """Ctrl-C reaches all processes; the training process tells the others when to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def training_loader(
    clips: AVSBench, batch_size: int, seed: int, workers: int, accumulate: int = 1, frames: int = 0
) -> DataLoader:
    """Batches of clips in a new order in each epoch, drawn from the seed, whatever the number of loading
    processes. An incomplete batch at the end of an epoch is dropped, unless it is the only one. frames: as in
    TrainConfig.

    With several training processes these are one's own batches, in whole steps of `accumulate` (`_Dealt`).
    """
    order = _Shuffled(clips, generator=torch.Generator().manual_seed(seed))
    batches = BatchSampler(order, batch_size, drop_last=len(clips) >= batch_size)
    return DataLoader(
        _Drawn(clips, seed, workers, frames),
        batch_sampler=_Dealt(batches, accumulate),
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=_goes_on_working,
        persistent_workers=workers > 0,
        generator=torch.Generator(),
    )


def shrunk(batch: dict, side: float) -> dict:
    """A batch with the sides of frames and masks scaled by `side`: multiples of 16 pixels, at least 32."""
    if side == 1:
        return batch
    frames, mask = batch["frames"], batch["mask"]
    sides = [max(32, round(side * pixels / 16) * 16) for pixels in mask.shape[-2:]]
    small = F.interpolate(frames.flatten(0, 1), sides, mode="bilinear", antialias=True)
    small_mask = F.interpolate(mask, sides, mode="nearest-exact")
    return {**batch, "frames": small.unflatten(0, frames.shape[:2]), "mask": small_mask}


def mirrored(batch: dict, flip: Tensor) -> dict:
    """A batch in which the clips selected by `flip`, (B,) bool, are mirrored, with their masks."""
    for key in ("frames", "mask"):
        batch[key][flip] = batch[key][flip].flip(-1)
    return batch


def augmented(step: list[dict], side: float, mirrors: torch.Generator | None) -> list[dict]:
    """This process's batches of a step, `shrunk`, with half of their clips mirrored. `mirrors` draws these
    in each process for all of them, so that a batch is the same in whichever process it is."""
    step = [shrunk(batch, side) for batch in step]
    if mirrors is not None:
        shape = len(step) * world(), len(step[0]["name"])
        flips = torch.rand(shape, generator=mirrors) < 0.5
        step = [mirrored(batch, flip) for batch, flip in zip(step, flips[rank() :: world()])]
    return step


def names_in(step: list[dict]) -> tuple[list[str], list[str]]:
    """The names of the clips in a step, and of those whose input is not finite."""
    names, broken = [], []
    for batch in step:
        names += batch["name"]
        for name, *inputs in zip(batch["name"], batch["frames"], batch["log_mel"]):
            if not all(x.isfinite().all() for x in inputs):
                broken.append(name)
    return names, broken


def smallest_batch(clips: AVSBench, batch_size: int, frames: int = 0, side: float = 1.0) -> dict:
    """The first clip twice; if a batch holds only one clip, the shortest. frames: as in TrainConfig. side: as
    in `shrunk`."""
    items = [clips[0]] * 2
    if min(batch_size, len(clips)) == 1:
        items = [clips[min(range(len(clips)), key=lambda i: len(clips.clips[i].frames))]]
    return shrunk(collate([some_frames(item, frames) for item in items]), side)


@contextmanager
def large_enough(batch: dict) -> Iterator[None]:
    """Wraps a training step: raises ValueError, with a remedy, if batch norms have a single position to learn
    from."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        height, width = batch["frames"].shape[-2:]
        raise ValueError(
            f"clip {batch['name'][0]}: a single frame of {width} x {height} pixels, alone in a batch, has "
            "one position in the coarsest map, but batch norms need two. Use a batch_size of 2 or more, more "
            "of a clip's frames, or frames of more than 64 pixels (--batch-size, --frames, --size, --half 0)."
        ) from None


def loading_processes(asked: int | None, device: str) -> int:
    """The number asked for. By default 0 on a CPU, where the model needs the cores; on a GPU one for each
    core in this process's share (other GPUs have processes too), at most 8."""
    if asked is not None or device != "cuda":
        return asked or 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def say_that_it_waits(bar: tqdm, share: float, workers: int) -> None:
    """share: of the epoch, spent waiting. bar: disabled in all processes but one."""
    if not bar.disable:
        words = f"{share:.0%} of this epoch was spent waiting for clips to be read"
        advice = "More workers would read them faster."
        bar.write(f"{words}, by {workers or 'no extra'} processes. {advice}", file=sys.stderr)


@contextmanager
def told_of_loaders() -> Iterator[None]:
    """Wraps a training: raises ChildProcessError, with a remedy, if a process that loads clips has ended."""
    try:
        yield
    except Exception as error:
        # torch raises it from a signal, wherever the program is then: a reader may have put it in its words.
        if "DataLoader worker (pid" not in str(error):
            raise
        raise ChildProcessError(
            "a process that loads clips has ended; memory may have run out. Use fewer of them (--workers); "
            "--resume continues a training from its last checkpoint."
        ) from None


def with_waits(loader: Iterable[dict], batches: int = 1) -> Iterator[tuple[list[dict], float]]:
    """`batches` at a time, and the seconds spent only waiting for their clips to be read."""
    given, asked = iter(loader), time.perf_counter()
    while found := list(islice(given, batches)):
        yield found, time.perf_counter() - asked
        asked = time.perf_counter()

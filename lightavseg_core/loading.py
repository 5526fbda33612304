"""Does training wait for its data? Clips per second: read from the disk, from memory, and through the training step."""
from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import DataLoader

from .config import TrainConfig
from .data import AVSBench, collate
from .environment import card
from .methods import AVSModel
from .trainer import Trainer


def measure(model: AVSModel, root: str | Path, subset: str, split: str = "train", clips: int = 64, batch_size: int = 4,
            workers: Sequence[int] = (0, 2)) -> dict:
    """Clips per second of a dataset's first clips, beside those of the model's own training step on this machine, in one run.

    read: number of worker processes -> clips/s with every file decoded anew. memory: from the dataset's cache, in this process. step: of
    training alone, the loop's waiting for data not counted. waited: share of the epoch that was spent waiting, from the cache. Files are
    read once before, so that the system has them in memory: what is timed is decoding, not the disk. The model is trained by this.
    Raises FileNotFoundError or ValueError.
    """
    if clips < batch_size or not workers or min(workers) < 0:
        raise ValueError(f"clips is {clips}, batch_size {batch_size}, workers {tuple(workers)}; expected at least one batch of clips, and numbers "
                         "of processes from 0 on.")

    def first(split: str, count: int, **options) -> AVSBench:
        dataset = AVSBench(root, subset, split, model.config.size, model.front_end, **options)
        dataset.clips = dataset.clips[:count]
        return dataset

    def rate(dataset: AVSBench, count: int) -> float:
        begun = time.perf_counter()
        for _ in DataLoader(dataset, batch_size, collate_fn=collate, num_workers=count):
            pass
        return len(dataset) / (time.perf_counter() - begun)

    cached, bare = first(split, clips), first(split, clips, cache_bytes=0)
    if len(cached) < batch_size:
        raise ValueError(f"{root}: {len(cached)} {split} clips; expected at least one batch of {batch_size}.")
    rate(cached, 0)                                                        # fills the cache
    read = {count: rate(bare, count) for count in workers}
    memory = rate(cached, 0)
    trainer = Trainer(model, TrainConfig(epochs=2, batch_size=batch_size, audio_weights="joint", validate_every=2, workers=0))
    trainer.fit(cached, first(split, 1))
    epoch = [entry for entry in trainer.log if entry["event"] == "epoch"][-1]        # the first one warms up
    return {"subset": subset, "clips": len(cached), "size": model.config.size, "seconds": len(cached.clips[0].frames), "batch_size": batch_size,
            "method": model.config.method, "visual": model.config.visual, "read": read, "memory": memory,
            "step": epoch["clips"] / (epoch["seconds"] - epoch["waited"]), "waited": epoch["waited"] / epoch["seconds"], **card()}


def lines(found: dict) -> list[str]:
    """What `measure` found, for a reader."""
    rates = {**{f"read from disk, {count} extra processes" if count else "read from disk": rate for count, rate in found["read"].items()},
             "read from memory": found["memory"], "training step": found["step"]}
    return [f"{found['clips']} clips of {found['seconds']} frames at {found['size']} px, {found['method']} on {found['visual']}, "
            f"{found['device']}, {found['threads']} threads, torch {found['torch']}",
            *(f"{name:32} {rate:8.1f} clips/s" for name, rate in rates.items()),
            f"an epoch from memory waits for its data {found['waited']:.1%} of the time"]

"""The training loop: one loop for one CPU, one GPU, or many (Hugging Face Accelerate)."""
from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from .audio_pretraining import can_pretrain, load_audio, pretrain_audio
from .config import TrainConfig
from .data.avsbench import AVSBench, collate
from .evaluation import evaluate
from .losses import total_loss
from .models.base import AVSModel


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory for the next step instead of returning it to the system and zeroing it anew.

    A training step on a CPU frees and asks for the same activations again and again: this alone makes it 1.5 times as fast.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):                   # another C library: nothing is lost but speed
            libc = ctypes.CDLL("libc.so.6")
            if libc.mallopt(-3, 1 << 30):                                    # M_MMAP_THRESHOLD: tensors up to 1 GiB come from the heap
                libc.mallopt(-1, 2**31 - 1)                                  # M_TRIM_THRESHOLD: the heap is not given back


def loading_processes(asked: int | None, device: str) -> int:
    """So many as are asked for; else none on a CPU, whose cores the model needs, and on a GPU one for each core, at most 8."""
    if asked is not None:
        return asked
    return min(8, os.cpu_count() or 1) if device == "cuda" else 0


class Trainer:
    """Trains a model and keeps what it needs to be looked at later.

    out: a folder for train.json (configuration), log.jsonl (a line for each step, epoch and validation), `best` and `last` (model folders), which
    replace those of an earlier run; None writes nothing. On a CPU the same seed, data and threads give the same weights, bit for bit.
    """

    def __init__(self, model: AVSModel, config: TrainConfig, out: str | Path | None = None):
        config.check()
        self.model, self.config, self.out = model, config, Path(out) if out else None
        self.log: list[dict] = []

    def fit(self, train: AVSBench, validation: AVSBench) -> dict:
        """Returns the last validation's scores. Raises FloatingPointError, naming the clips, when the loss or its gradient is not finite:
        nothing was learned from them, and the checkpoints written until then stay."""
        config, start = self.config, time.perf_counter()
        keep_freed_memory()
        set_seed(config.seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False      # a check for debugging; it writes each tensor once more
        ddp = DistributedDataParallelKwargs(find_unused_parameters=True)  # an ablation's switch, or lambda = 0, leaves some without gradient
        self.accelerator = accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[ddp])
        if self.out and accelerator.is_main_process:
            self._clear(train)
        self._prepare_audio(train, validation, accelerator.device)
        self._record(event="audio", seconds=time.perf_counter() - start)

        workers = loading_processes(config.workers, accelerator.device.type)
        loader = DataLoader(train, config.batch_size, shuffle=True, drop_last=len(train) >= config.batch_size, collate_fn=collate,
                            num_workers=workers, persistent_workers=workers > 0,
                            generator=torch.Generator().manual_seed(config.seed))
        self.model.to(memory_format=torch.channels_last)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        model, optimizer, loader = accelerator.prepare(self.model, optimizer, loader)
        steps = config.epochs * len(loader)                               # of this process: each has its share of the clips
        if config.schedule == "constant":
            schedule = torch.optim.lr_scheduler.ConstantLR(optimizer.optimizer, factor=1)
        else:
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer.optimizer, config.learning_rate, total_steps=max(steps, 2), pct_start=0.2)
        auxiliary = self.model.auxiliary if config.auxiliary == "own" else config.auxiliary
        visual = [p for p in self.model.visual.parameters() if p.requires_grad]

        scores, best = {}, -math.inf
        bar = tqdm(total=steps, desc="training", mininterval=1, disable=not accelerator.is_main_process)
        for epoch in range(1, config.epochs + 1):
            model.train()
            for p in visual:
                p.requires_grad_(epoch > config.freeze_visual)
            begun = asked = time.perf_counter()
            waited, clips = 0.0, 0                                         # seconds in which nothing was done but wait for clips to be read
            for batch in loader:
                waited, clips = waited + time.perf_counter() - asked, clips + len(batch["name"])
                batch = self.augment(batch)
                with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                    output = model(batch["frames"], batch["log_mel"])
                loss, parts = total_loss(output, batch["mask"], batch["annotated"], config.alignment_weight, auxiliary, config.segmentation)
                optimizer.zero_grad()
                accelerator.backward(loss)
                norm = accelerator.clip_grad_norm_(parameters, config.clip_norm or math.inf)
                if not (torch.isfinite(loss) and torch.isfinite(norm)):
                    raise FloatingPointError(self._not_finite(loss.item(), epoch, batch))
                optimizer.step()
                schedule.step()
                # refresh=False: in a notebook each refresh of the bar is a message, and 2,000 of them are not free.
                bar.set_postfix({"loss": f"{loss.item():.3f}"} | {k: f"{scores[k]:.3f}" for k in ("M_J",) if k in scores}, refresh=False)
                bar.update()
                self._record(event="step", epoch=epoch, loss=loss.item(), **{name: value.item() for name, value in parts.items()})
                asked = time.perf_counter()
            self._record(event="epoch", epoch=epoch, clips=clips, seconds=(took := time.perf_counter() - begun), waited=waited)
            if epoch == 2 and waited > took / 5 and accelerator.is_main_process:        # in the first one the cache was filled
                bar.write(f"{waited / took:.0%} of this epoch was spent waiting for clips to be read, by {workers or 'no extra'} processes. "
                          "More workers read more at a time.", file=sys.stderr)
            if epoch % config.validate_every == 0 or epoch == config.epochs:
                scores = evaluate(self.model, validation)
                self._record(event="validation", epoch=epoch, seconds=time.perf_counter() - start, **scores)
                if scores["M_J"] > best:
                    best = scores["M_J"]
                    self._save("best")
            self._save("last")
        bar.close()
        return scores

    def _clear(self, train: AVSBench) -> None:
        """A folder for this run: what an earlier one left would be taken for ours."""
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "log.jsonl").unlink(missing_ok=True)
        for name in ("best", "last"):
            shutil.rmtree(self.out / name, ignore_errors=True)
        data = {"root": str(train.root), "subset": train.subset, "size": train.size, "sound": train.sound}
        (self.out / "train.json").write_text(json.dumps({**asdict(self.config), "data": data}, indent=1))

    def _not_finite(self, loss: float, epoch: int, batch: dict) -> str:
        """The message for a loss or gradient that is not finite: the clips whose input is not, or else all of the batch."""
        finite = [all(bool(torch.isfinite(batch[key][i]).all()) for key in ("frames", "log_mel")) for i in range(len(batch["name"]))]
        names = [name for name, fine in zip(batch["name"], finite) if not fine] or batch["name"]
        kept = f"The last good checkpoint is {self.out / 'last'}." if self.out and (self.out / "last").is_dir() else "There is no checkpoint yet."
        return f"the loss is {loss}, or its gradient is not finite, in epoch {epoch} with {', '.join(names)}. {kept}"

    def _prepare_audio(self, train: AVSBench, validation: AVSBench, device: torch.device) -> None:
        """Audio weights from tagging, from a file, or learned along; all but the last are frozen, as in the paper."""
        choice = self.config.audio_weights
        if choice == "auto":
            choice = "pretrain" if can_pretrain(train) else "joint"
        if choice == "joint":
            return
        if choice == "pretrain":
            self.model.audio.to(device)
            tagging = pretrain_audio(self.model.audio, train, validation, self.config, device)
            self._record(event="tagging", **tagging)
        else:
            load_audio(self.model.audio, choice)
        self.model.freeze_audio()

    def augment(self, batch: dict) -> dict:
        """Mirrors each clip, with its masks, half of the time."""
        if not self.config.flip:
            return batch
        flip = torch.rand(len(batch["frames"])) < 0.5
        for key in ("frames", "mask"):
            batch[key][flip] = batch[key][flip].flip(-1)
        return batch

    def _record(self, **entry) -> None:
        self.log.append(entry)
        if self.out and self.accelerator.is_main_process:
            with (self.out / "log.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")

    def _save(self, name: str) -> None:
        if self.out and self.accelerator.is_main_process:
            self.model.save_pretrained(self.out / name)

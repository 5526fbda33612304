"""The training loop: one loop for one CPU, one GPU, or many (Hugging Face Accelerate)."""

import json
import math
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from torch.optim import AdamW
from torch.optim.lr_scheduler import ConstantLR, OneCycleLR
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ._common.switches import deterministic_algorithms, keep_freed_memory
from .audio_pretraining import prepare_audio
from .config import TrainConfig
from .data.avsbench import AVSBench, collate
from .data.loading import loading_processes, with_waits
from .evaluation import evaluate
from .losses import total_loss
from .models.base import AVSModel


class Trainer:
    """Trains a model and keeps what it needs to be looked at later.

    out: a folder for train.json (configuration), log.jsonl (a line for each step, epoch and validation),
    `best` and `last` (model folders), which replace those of an earlier run; None writes nothing. On a CPU
    the same seed, data and threads give the same weights, bit for bit.
    """

    def __init__(self, model: AVSModel, config: TrainConfig, out: str | Path | None = None):
        config.check()
        self.model, self.config, self.out = model, config, Path(out) if out else None
        self.log: list[dict] = []

    @deterministic_algorithms()
    def fit(self, train: AVSBench, validation: AVSBench) -> dict:
        """Returns the last validation's scores. Raises FloatingPointError, naming the clips, when the loss or
        its gradient is not finite: nothing was learned from them, and what was saved until then stays.

        Torch's switches are as before afterwards. The random generators, which start from the seed, are not,
        nor is glibc, which keeps freed memory until the process ends.
        """
        config, start = self.config, time.perf_counter()
        keep_freed_memory()
        set_seed(config.seed)
        # An ablation's switch, or lambda = 0, leaves some parameters without gradient.
        ddp = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.accelerator = accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[ddp])
        self._clear(train)
        tagging = prepare_audio(self.model, train, validation, config, accelerator.device)
        if tagging:
            self._record(event="tagging", **tagging)
        self._record(event="audio", seconds=time.perf_counter() - start)

        workers = loading_processes(config.workers, accelerator.device.type)
        loader = DataLoader(
            train, config.batch_size, shuffle=True, drop_last=len(train) >= config.batch_size,
            collate_fn=collate, num_workers=workers, persistent_workers=workers > 0,
            generator=torch.Generator().manual_seed(config.seed),
        )
        self.model.to(memory_format=torch.channels_last)
        visual = [p for p in self.model.visual.parameters() if p.requires_grad]
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        rate = config.learning_rate
        optimizer = AdamW(parameters, rate, weight_decay=config.weight_decay, fused=True)
        model, optimizer, loader = accelerator.prepare(self.model, optimizer, loader)
        steps = config.epochs * len(loader)  # of this process: each has its share of the clips
        if config.schedule == "constant":
            schedule = ConstantLR(optimizer.optimizer, factor=1)
        else:
            schedule = OneCycleLR(optimizer.optimizer, rate, total_steps=max(steps, 2), pct_start=0.2)

        scores, shown, best = {}, {}, -math.inf
        bar = tqdm(total=steps, desc="training", mininterval=1, disable=not accelerator.is_main_process)
        for epoch in range(1, config.epochs + 1):
            model.train()
            for p in visual:
                p.requires_grad_(epoch > config.freeze_visual)
            begun, waited, clips = time.perf_counter(), 0.0, 0
            for batch, wait in with_waits(loader):
                waited += wait
                clips += len(batch["name"])
                batch = self.augment(batch)
                loss, parts = self._loss(model, batch)
                optimizer.zero_grad()
                accelerator.backward(loss)
                norm = accelerator.clip_grad_norm_(parameters, config.clip_norm or math.inf)
                if not (torch.isfinite(loss) and torch.isfinite(norm)):
                    raise FloatingPointError(self._not_finite(loss.item(), epoch, batch))
                optimizer.step()
                schedule.step()
                parts = {name: value.item() for name, value in parts.items()}
                self._record(event="step", epoch=epoch, **parts)
                # refresh=False: in a notebook each refresh of the bar is a message, and 2,000 are not free.
                bar.set_postfix({"loss": f"{parts['loss']:.3f}", **shown}, refresh=False)
                bar.update()
            seconds = time.perf_counter() - begun
            self._record(event="epoch", epoch=epoch, clips=clips, seconds=seconds, waited=waited)
            if epoch == 2 and waited > seconds / 5:  # in the first one the cache was filled
                self._say_that_it_waits(bar, waited / seconds, workers)
            if epoch % config.validate_every == 0 or epoch == config.epochs:
                scores = evaluate(self.model, validation)
                shown = {"M_J": f"{scores['M_J']:.3f}"}
                self._record(event="validation", epoch=epoch, seconds=time.perf_counter() - start, **scores)
                if scores["M_J"] > best:
                    best = scores["M_J"]
                    self._save("best")
            self._save("last")
        bar.close()
        return scores

    def _clear(self, train: AVSBench) -> None:
        """A folder for this run: what an earlier one left would be taken for ours."""
        if not (self.out and self.accelerator.is_main_process):
            return
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "log.jsonl").unlink(missing_ok=True)
        for name in ("best", "last"):
            shutil.rmtree(self.out / name, ignore_errors=True)
        data = {"root": str(train.root), "subset": train.subset, "size": train.size, "sound": train.sound}
        (self.out / "train.json").write_text(json.dumps({**asdict(self.config), "data": data}, indent=1))

    def augment(self, batch: dict) -> dict:
        """Mirrors each clip, with its masks, half of the time."""
        if not self.config.flip:
            return batch
        flip = torch.rand(len(batch["frames"])) < 0.5
        for key in ("frames", "mask"):
            batch[key][flip] = batch[key][flip].flip(-1)
        return batch

    def _loss(self, model: torch.nn.Module, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch, and what the log says of it: itself and its parts."""
        config, device = self.config, self.accelerator.device
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            output = model(batch["frames"], batch["log_mel"])
        auxiliary = self.model.auxiliary if config.auxiliary == "own" else config.auxiliary
        loss, parts = total_loss(
            output, batch["mask"], batch["annotated"], config.alignment_weight, auxiliary, config.segmentation
        )
        return loss, {"loss": loss, **parts}

    def _not_finite(self, loss: float, epoch: int, batch: dict) -> str:
        """The message for a loss or gradient that is not finite: the clips whose input is not, or else all of
        the batch."""
        broken = []
        for name, *inputs in zip(batch["name"], batch["frames"], batch["log_mel"]):
            if not all(x.isfinite().all() for x in inputs):
                broken.append(name)
        kept = "There is no checkpoint yet."
        if self.out and (self.out / "last").is_dir():
            kept = f"The last good checkpoint is {self.out / 'last'}."
        clips = ", ".join(broken or batch["name"])
        return f"the loss is {loss}, or its gradient is not finite, in epoch {epoch} with {clips}. {kept}"

    def _say_that_it_waits(self, bar: tqdm, share: float, workers: int) -> None:
        if self.accelerator.is_main_process:
            words = f"{share:.0%} of this epoch was spent waiting for clips to be read"
            advice = "More workers read more at a time."
            bar.write(f"{words}, by {workers or 'no extra'} processes. {advice}", file=sys.stderr)

    def _record(self, **entry) -> None:
        self.log.append(entry)
        if self.out and self.accelerator.is_main_process:
            with (self.out / "log.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")

    def _save(self, name: str) -> None:
        if self.out and self.accelerator.is_main_process:
            self.model.save_pretrained(self.out / name)

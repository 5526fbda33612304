"""The training loop: one loop for one CPU, one GPU, or many (Hugging Face Accelerate)."""

import math
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, send_to_device, set_seed
from torch.optim import AdamW
from tqdm.auto import tqdm

from ._common.bars import bars_closed
from ._common.files import alone
from ._common.learning import restore, scheduled, state_of
from ._common.recomputing import recomputed
from ._common.state import buffers_kept, evaluating, freeze, heard_already, learns, unfreeze
from ._common.stopping import requests
from ._common.switches import deterministic_algorithms, keep_freed_memory, no_settings_from_outside
from ._common.together import alike, each_told_of_others, from_first, gathered, rank, summed, world
from .audio_pretraining import prepare_audio
from .config import TrainConfig
from .data.avsbench import AVSBench
from .data.loading import (
    augmented,
    large_enough,
    loading_processes,
    names_in,
    say_that_it_waits,
    smallest_batch,
    told_of_loaders,
    training_loader,
    with_waits,
)
from .data.negatives import with_negatives
from .data.scored import check_datasets
from .evaluation import evaluate, predict
from .losses import total_loss
from .models.base import AVSModel
from .run_folder import RunFolder


class Trainer:
    """Trains a model and keeps what is needed to study the training later.

    out: a folder for train.json (the configuration and `about`), log.jsonl (a line for each step, epoch and
    validation), `best` and `last` (model folders), which replace those of an earlier run, and, until the
    training is done, its last checkpoints; None writes nothing. On a CPU the same seed, data and threads give
    the same weights, bit for bit, whatever the folder held before, however clips are loaded and validated,
    and however often the training was stopped and resumed. What an earlier training froze learns if the
    configuration says so; what was frozen by hand stays frozen.

    Under `torchrun` a step takes `accumulate` batches from each process, weighted by their annotated frames:
    up to rounding, the same as taking all of them in one process, one after the other. Batch norms see one
    batch at a time; their running statistics are updated once a step, with the mean over its batches.
    """

    def __init__(
        self, model: AVSModel, config: TrainConfig, out: str | Path | None = None, about: dict | None = None
    ):
        config.check()
        self.model, self.config, self.out = model, config, Path(out) if out else None
        self.about, self.log = about or {}, []

    @deterministic_algorithms()
    @no_settings_from_outside()
    @bars_closed()
    def fit(self, train: AVSBench, validation: AVSBench, resume: bool = False) -> dict:
        """Returns the scores of the last validation. resume: continue from the last checkpoint in `out`; if
        there is none, as after a finished run, start anew. Ctrl-C and SIGTERM stop it after a step and a
        checkpoint (`Stopped`).

        Raises FloatingPointError, with the names of the clips, if the loss or its gradient is not finite:
        nothing was learned from them, and what was saved before remains; ValueError for what cannot be used
        to train or validate, for a folder that another process writes, or that holds another training;
        ConnectionError if another process of this training has ended.

        Torch's settings are restored afterwards. The random generators, which start from the seed, are not,
        nor is glibc, which keeps freed memory until the process ends.
        """
        # An ablation's switch, or lambda = 0, leaves some parameters without gradient.
        ddp = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
        on_cpu = not torch.cuda.is_available()
        self.accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=[ddp])
        out = self.out if self.accelerator.is_main_process else None
        check_datasets(train=train, validation=validation)
        data = {name: getattr(train, name) for name in ("subset", "size", "sound")}
        data |= {"root": str(train.root.resolve()), "clips": len(train)}
        about = {**asdict(self.config), "data": data, "model": asdict(self.model.config), **self.about}
        about["processes"] = world()
        asked, told = requests(patient=world() > 1), (each_told_of_others(), told_of_loaders())
        with alone(out) if out else nullcontext(), asked as request, told[0], told[1]:
            self.folder = RunFolder(out, about, self.config.save_minutes, request)
            self.log = self.folder.log
            return self._fit(train, validation, resume)

    def _fit(self, train: AVSBench, validation: AVSBench, resume: bool) -> dict:
        config, accelerator, start = self.config, self.accelerator, time.perf_counter()
        folder, record = self.folder, self.folder.record
        keep_freed_memory()
        self._try(train, validation)
        state = from_first(folder.go_on()) if resume else None
        accumulate = config.accumulate if state is None else folder.share_of(state, config.accumulate)
        workers = loading_processes(config.workers, accelerator.device.type)
        mixed = with_negatives(train, config.negatives)
        loader = training_loader(mixed, config.batch_size, config.seed, workers, accumulate, config.frames)
        dealt = loader.batch_sampler
        set_seed(config.seed)
        prepare_audio(self.model, train, validation, config, accelerator.device, folder, state)
        stood = {"epoch": 1, "batches": 0, "clips": 0, "scores": {}, "best": -math.inf}
        goes_on = state is not None and "epoch" in state.values
        if goes_on:
            stood = {name: state.values[name] for name in stood}
            start -= state.values["seconds"]
        else:
            record(event="audio", seconds=time.perf_counter() - start)

        hears_once = accelerator.device.type == "cpu" and not learns(self.model.audio)
        if hears_once:
            loader.dataset.clips = mixed.heard_by(self.model.audio)
        generators = dealt.generator, torch.Generator().set_state(torch.get_rng_state())  # the second mirrors
        self.model.to(memory_format=torch.channels_last)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay, fused=True)
        model = accelerator.prepare(self.model)
        steps = config.epochs * dealt.steps
        schedule = scheduled(optimizer, config.schedule, steps)

        if goes_on:
            restore(state, self.model, optimizer, schedule, *generators)
            del state  # as large as the model
            dealt.skipped = stood["batches"]
        scores, best, shown = stood["scores"], stood["best"], {}
        bar = tqdm(total=steps, desc="training", mininterval=1, disable=rank() > 0)
        bar.update((stood["epoch"] - 1) * dealt.steps + stood["batches"] // dealt.step)
        for epoch in range(stood["epoch"], config.epochs + 1):
            loader.dataset.set_epoch(epoch - 1)
            model.train()
            (freeze if epoch <= config.freeze_visual else unfreeze)(self.model.visual)
            begun, waited = time.perf_counter(), 0.0
            clips, batches, stood = stood["clips"], stood["batches"], {"clips": 0, "batches": 0}
            ordered_by = torch.Generator().set_state(dealt.generator.get_state())
            for step, wait in with_waits(loader, accumulate):
                waited += wait
                batches += dealt.step
                step = send_to_device(step, accelerator.device)
                step = augmented(step, config.sides(epoch), generators[1] if config.flip else None)
                heard = heard_already(self.model) if hears_once else nullcontext()
                memory = recomputed(self.model) if config.recompute else nullcontext()
                with buffers_kept(self.model), heard, memory:
                    optimizer.zero_grad()
                    parts = self._learn_from(model, step, (epoch, batches))
                    norm = accelerator.clip_grad_norm_(parameters, config.clip_norm or math.inf)
                    if not (math.isfinite(parts["loss"]) and torch.isfinite(norm)):
                        raise FloatingPointError(self._not_finite(parts["loss"], epoch, step))
                optimizer.step()
                schedule.step()
                clips += int(parts.pop("clips"))
                record(event="step", epoch=epoch, **parts)
                # refresh=False: in a notebook each refresh of the bar is a message, which is not free.
                bar.set_postfix({"loss": f"{parts['loss']:.3f}", **shown}, refresh=False)
                bar.update()
                if folder.is_time(epoch_ends=batches == dealt.steps * dealt.step):
                    where = {"epoch": epoch, "batches": batches, "clips": clips}
                    where["seconds"] = time.perf_counter() - start
                    reached = state_of(self.model, optimizer, schedule, ordered_by, generators[1])
                    folder.keep(reached, **where, scores=scores, best=best)
            seconds = time.perf_counter() - begun
            record(event="epoch", epoch=epoch, clips=clips, seconds=seconds, waited=waited)
            if epoch == 2 and waited > seconds / 5:  # in the first one the cache was filled
                say_that_it_waits(bar, waited / seconds, workers)
            if epoch % config.validate_every == 0 or epoch == config.epochs:
                scores = evaluate(self.model, validation)
                shown = {"M_J": f"{scores['M_J']:.3f}"}
                record(event="validation", epoch=epoch, seconds=time.perf_counter() - start, **scores)
                if scores["M_J"] > best:
                    best = scores["M_J"]
                    folder.save("best", self.model)
            folder.save("last", self.model)
        folder.finish()
        bar.close()
        return scores

    def _try(self, train: AVSBench, validation: AVSBench) -> None:
        """Raises now what the first batch or validation would raise. The model does not change."""
        unfreeze(self.model.visual)
        if not learns(self.model):
            raise ValueError("nothing can learn: the whole model is frozen. Unfreeze it (requires_grad_).")
        self.model.to(self.accelerator.device)
        if self.folder.path:
            self.model.check_saveable()
        predict(self.model, validation[0])
        batch = smallest_batch(train, self.config.batch_size, self.config.frames, self.config.sides(1))
        batch["annotated"][:] = True  # in other clips something is
        with evaluating(self.model), buffers_kept(self.model, always=True), large_enough(batch):
            self._loss(self.model.train(), send_to_device(batch, self.accelerator.device))

    def _learn_from(self, model: torch.nn.Module, step: list[dict], place: tuple) -> dict[str, float]:
        """Gradients of the mean over all annotated frames of a step, in all processes; returns what to log.
        place: of the step in the training."""
        frames = [int(batch["annotated"].sum()) for batch in step]
        (total,), last = summed(sum(frames)), len(step) - 1
        means = {"clips": sum(len(batch["name"]) for batch in step)}
        for k, batch in enumerate(alike(self.model, step)):
            if len(step) * world() > 1:  # what dropout draws is the batch's, in whichever process it is
                torch.manual_seed(hash((self.config.seed, *place, k * world() + rank())))
            with nullcontext() if k == last else self.accelerator.no_sync(model):
                loss, parts = self._loss(model, batch)
                self.accelerator.backward(loss * (world() * frames[k] / total))  # DDP takes the mean
            for name, value in parts.items():
                means[name] = means.get(name, 0) + value.item() * frames[k] / total
        return dict(zip(means, summed(*means.values())))

    def _loss(self, model: torch.nn.Module, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch, and what is logged: the loss and its parts."""
        config, device = self.config, self.accelerator.device
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            output = model(batch["frames"], batch["log_mel"])
        auxiliary = self.model.auxiliary if config.auxiliary == "own" else config.auxiliary
        loss, parts = total_loss(
            output, batch["mask"], batch["annotated"], config.alignment_weight, auxiliary, config.segmentation
        )
        return loss, {"loss": loss, **parts}

    def _not_finite(self, loss: float, epoch: int, step: list[dict]) -> str:
        """The message for a loss or gradient that is not finite: the clips whose input is not finite, or all
        clips of the step."""
        names, broken = (sum(found, []) for found in zip(*gathered(names_in(step))))
        kept = "There is no checkpoint yet."
        if self.out and (self.out / "last").is_dir():
            kept = f"The last good checkpoint is {self.out / 'last'}."
        clips = ", ".join(broken or names)
        return f"the loss is {loss}, or its gradient is not finite, in epoch {epoch} with {clips}. {kept}"

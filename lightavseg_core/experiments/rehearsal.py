"""A rehearsal of the published trainings on a dataset: every file is checked; each recipe trains for a few
steps at its own size with the encoders' published files, is stopped, resumed, and scored with each sound.
Whatever breaks at that scale breaks within minutes, and the memory and the hours of the training are known.
"""
from __future__ import annotations

import os
import resource
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from .._common.names import unknown
from .._common.records import provenance, write
from .._common.stopping import Stopped
from ..config import TrainConfig
from ..data.avsbench import AVSBench
from ..data.check import check_all, several
from ..encoders.checkpoints import PUBLISHED
from ..evaluation import evaluate
from ..models import create_model
from ..models.base import load_model
from ..recipes import RECIPES
from ..trainer import Trainer
from .training import SOUNDS

AUDIO = {"paper": {"audio": "panns_mobilenetv2"}}  # an encoder whose weights are published
FILES = {"vggish_published": "vggish"}  # an encoder -> whose file it is


def rehearse(
    data: Path,
    weights: Path,
    out: Path,
    steps: int = 3,
    recipe: str | None = None,
    recompute: bool = False,
) -> list[dict]:
    """A row for the recipe, or for each, on every subset of the data, also written to out/rehearsal.json.

    weights: the folder with the encoders' files under their published names; an encoder without one starts
    from random weights, and its row says so. recompute: as in `TrainConfig`: less memory, more time. Each
    part runs in a process of its own, for its own memory.
    Raises FileNotFoundError if there is no dataset, and ValueError if `data check` finds problems, or for an
    unknown recipe.
    """
    if recipe and recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    rows, reports = [], check_all(data)
    for report in reports:
        if not report.ok:
            problems = several(len(report.problems), "problem")
            check = f"`lightavseg data check {data} --subset {report.subset}`"
            raise ValueError(f"{data}: {report.subset} has {problems}, which {check} lists. Fix them first.")
    found = [report.subset for report in reports]
    recipes = [recipe] if recipe else RECIPES
    parts = [(name, subset) for name in recipes for subset in RECIPES[name].train if subset in found]
    for name, subset in parts:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            try:
                rows.append(pool.submit(_part, name, subset, data, weights, out, steps, recompute).result())
            except BrokenProcessPool:
                rows.append({"recipe": name, "subset": subset, "ended": "killed; memory may have run out"})
        write(out / "rehearsal.json", {**provenance("lightavseg rehearse", seed=0), "rows": rows})
    return rows


def _part(
    name: str, subset: str, data: Path, weights: Path, out: Path, steps: int, recompute: bool
) -> dict:
    """One recipe on one subset: two epochs of `steps` steps, the second one stopped and resumed."""
    recipe, folder = RECIPES[name], out / f"{name}_{subset}"
    options, fields = recipe.of(subset)
    torch.manual_seed(0)
    classes = AVSBench(data, subset, "train").num_classes
    model = create_model(recipe.method, preset="paper", num_classes=classes, **AUDIO.get(name, {}), **options)
    files = {part: _file(weights, getattr(model.config, part)) for part in ("visual", "audio")}
    if files["visual"]:
        model.visual.load_published(files["visual"])
    config = TrainConfig(**{**fields, "audio_weights": str(files["audio"] or "joint")})
    splits = (AVSBench(data, subset, split, model.config.size, model.front_end) for split in ("train", "val"))
    train, validation = splits
    whole = config.epochs * (len(train) // config.batch_size)  # steps of the published training
    few = steps * config.batch_size
    train.clips = train.clips[:: max(1, len(train) // few)][:few]
    validation.clips, steps = validation.clips[:2], max(1, len(train) // config.batch_size)
    # The visual encoder learns, as most epochs have it do: that is what takes the memory.
    config = replace(config, epochs=2, validate_every=1, freeze_visual=0, recompute=recompute)
    trainer = Trainer(model, config, folder)
    _stop_after(trainer, steps + 1)
    with suppress(Stopped):
        trainer.fit(train, validation)
    stopped = len(_steps(trainer))
    trainer.fit(train, validation, resume=True)
    (first, *_) = (entry for entry in trainer.log if entry["event"] == "epoch")
    seconds = first["seconds"] / steps
    best = load_model(folder / "best").to(next(model.parameters()).device)
    scores = {sound: evaluate(best, validation, sound)["M_J"] for sound in SOUNDS}
    return {
        "recipe": name,
        "subset": subset,
        "size": model.config.size,
        "clips a step": config.batch_size,
        "recomputed": recompute,
        "published files": [file.name for file in files.values() if file],
        "seconds a step": round(seconds, 3),
        "peak, MiB": _peak(),
        "hours in all, computed": round(whole * seconds / 3600, 1),
        "stopped after steps": stopped,
        "M_J": scores,
    }


def _file(weights: Path, encoder: str) -> Path | None:
    """An encoder's weights under their published name, or as ENCODER.pth; None if there are none."""
    published = PUBLISHED.get(FILES.get(encoder, encoder))
    names = [published.file] if published else []
    return next(filter(Path.is_file, (weights / name for name in (*names, f"{encoder}.pth"))), None)


def _steps(trainer: Trainer) -> list[dict]:
    return [entry for entry in trainer.log if entry["event"] == "step"]


def _stop_after(trainer: Trainer, steps: int) -> None:
    """Sends SIGTERM, like a cluster that wants its machine back."""

    def watch() -> None:
        while len(_steps(trainer)) < steps:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _peak() -> int:
    """Peak memory of the GPU, otherwise of the process, MiB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

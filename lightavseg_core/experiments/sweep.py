"""The experiments of `experiments.py`: run by `lightavseg sweep`, read by the notebooks with `load`.

A run trains one model on SoundingShapes with one seed, scores it on the test clips, and leaves one JSON file: what is there is not run again.
The data are the same for all seeds; a seed draws the weights and the order of the clips. All runs but the twins share one audio encoder,
trained once to tag sounds and then frozen: it stands for the AudioSet pretraining that the published methods share.
"""
from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from .._common.processes import end_with_parent
from .._common.records import provenance, read, write
from .runs import BUDGET, EXPERIMENTS, RUNS, SEEDS, SHOWN, SMOKE, Budget, Run
from .statistics import Difference, paired

__all__ = ["BUDGET", "EXPERIMENTS", "RUNS", "SMOKE", "Budget", "Difference", "Run", "load", "load_maps", "paired", "sweep", "values"]

SOUNDS = ("normal", "silent", "swapped", "noise", "noisy")


def load(experiment: str, folder: str | Path = "results/sweep") -> dict[str, dict[int, dict]]:
    """The finished runs of an experiment: label -> seed -> result, with scores by sound, parameters, seconds, settings and provenance;
    "scales" is `decoding.survey`, and "attention" is `attention.survey`, of a method that attends.

    Raises ValueError for an unknown experiment, FileNotFoundError where none of its runs is finished.
    """
    found = {label: {seed: read(path) for seed in range(RUNS[run].seeds) if (path := _path(folder, run, seed)).exists()}
             for label, run in _runs_of(experiment).items()}
    if not any(found.values()):
        raise FileNotFoundError(f"{folder}: holds no finished run of {experiment}. Run `lightavseg sweep {experiment}`.")
    return {label: seeds for label, seeds in found.items() if seeds}


def values(seeds: Mapping[int, dict], score: str = "M_J", sound: str = "normal") -> dict[int, float]:
    """A score by seed, as `paired` takes it. seeds: what `load` gives for a label."""
    return {seed: result["scores"][sound][score] for seed, result in seeds.items()}


def _runs_of(experiment: str) -> dict[str, str]:
    if experiment not in EXPERIMENTS:
        from .._common.names import unknown
        raise unknown("experiment", experiment, EXPERIMENTS)
    return EXPERIMENTS[experiment]


def _path(folder: str | Path, name: str, seed: int) -> Path:
    return Path(folder, f"{name}_seed{seed}.json")


def _maps_path(folder: str | Path, name: str) -> Path:
    return Path(folder, f"{name}_maps.npz")


def load_maps(experiment: str, folder: str | Path = "results/sweep") -> dict:
    """Label -> `decoding.Maps` of its model of seed 0 for the test clips, of an experiment that keeps them ("scales"). Errors as of `load`."""
    from ..inspection.scales import load_maps
    found = {label: load_maps(path) for label, run in _runs_of(experiment).items() if (path := _maps_path(folder, run)).exists()}
    if not found:
        raise FileNotFoundError(f"{folder}: holds no maps of {experiment}. Run `lightavseg sweep {experiment}`.")
    return found


# --- one run, in a process of its own ---


def _work(log: Path, job: Callable, *arguments) -> None:
    """What a process does: one thread, bars, warnings and errors into a log; Ctrl-C is the parent's, and where the parent is killed this ends too."""
    end_with_parent()
    import torch
    torch.set_num_threads(1)
    with log.open("w") as file, contextlib.redirect_stderr(file):
        try:
            job(*arguments)
        except Exception:                                     # on its own stderr it would be printed after the log is closed
            traceback.print_exc()
            sys.exit(1)


def _start(log: Path, job: Callable, *arguments) -> BaseProcess:
    """A process of its own for each job: the same memory and random numbers whatever ran before it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = get_context("forkserver").Process(target=_work, args=(log, job, *arguments), daemon=True)
    process.start()
    return process


def _data(work: Path, run: Run, distractors: bool = True) -> Path:
    """The folder of a run's data, generated where it is not there yet."""
    from ..data.sounding_shapes import generate
    b = run.budget
    root = work / "data" / f"{run.subset}_{'mixed' if distractors else 'alone'}_{b.train}_{b.val}_{b.test}_{b.size}"
    return generate(root, run.subset, {"train": b.train, "val": b.val, "test": b.test}, b.size, seed=0, distractors=distractors)


def _audio_file(work: Path, budget: Budget) -> Path:
    return work / f"audio_{budget.train}_{budget.val}_{budget.audio_epochs}.safetensors"


def _pretrain(work: Path, budget: Budget) -> None:
    """The audio encoder that runs share, trained on the sounds of ms3; its scores are the file's metadata."""
    import torch
    from safetensors.torch import save_file

    from ..audio_pretraining import pretrain_audio
    from ..config import TrainConfig
    from ..data.avsbench import AVSBench
    from ..encoders import create_audio_encoder
    from ..models.presets import PRESETS
    torch.manual_seed(0)
    audio = create_audio_encoder(PRESETS["tiny"]["audio"])
    train, validation = (AVSBench(_data(work, Run(budget=budget)), "ms3", split, budget.size, audio.front_end) for split in ("train", "val"))
    tagging = pretrain_audio(audio, train, validation, TrainConfig(audio_epochs=budget.audio_epochs), torch.device("cpu"))
    path = _audio_file(work, budget)
    save_file(audio.state_dict(), path.with_suffix(".part"), {name: str(share) for name, share in tagging.items()})
    os.replace(path.with_suffix(".part"), path)


class Embedding:
    """A front end that goes on to the frozen audio encoder's vectors, (T, 1, 1, D): they are the same in every epoch, and a dataset keeps them."""

    def __init__(self, audio):
        self.audio, self.sample_rate = audio.eval(), audio.front_end.sample_rate

    def __call__(self, waveform, times):
        import torch
        with torch.no_grad():
            return self.audio(self.audio.front_end(waveform, times))[:, None, None]


def _look_inside(model, test, maps_path: Path | None) -> dict:
    """What each scale of the decoder knows of the mask, and the statistics of each layer of attention; the maps themselves into a file."""
    from ..inspection import attention, scales
    maps = scales.maps(model, test)
    if maps_path:
        scales.save_maps(maps_path, maps)
    inside = {"scales": scales.survey(maps, scales.truth(test))}
    return inside | ({"attention": attention.survey(model, test)} if attention.attends(model) else {})


def _execute(name: str, run: Run, seed: int, work: Path, out: Path, command: str) -> None:
    """Trains, scores, and writes the result."""
    import torch
    from safetensors.torch import save_file
    from torchmetrics import MetricCollection

    from ..audio_pretraining import load_audio
    from ..config import TrainConfig
    from ..data.avsbench import AVSBench
    from ..evaluation import deaf_oracle, evaluate
    from ..metrics import BoundaryScore, FalsePositiveShare, MaskScore
    from ..models import create_model
    from ..trainer import Trainer
    start, budget, root = time.perf_counter(), run.budget, _data(work, run, run.distractors)
    torch.manual_seed(seed)
    classes = AVSBench(root, run.subset, "train").num_classes
    model = create_model(run.method, preset="tiny", **{"size": budget.size, "num_classes": classes, **run.options})
    parameters = {part: sum(p.numel() for p in module.parameters()) for part, module in model.named_children()}
    if "audio_weights" not in run.train:
        load_audio(model.audio, _audio_file(work, budget))
        model.front_end, model.audio = Embedding(model.audio), torch.nn.Flatten()
    train, validation = (AVSBench(root, run.subset, split, budget.size, model.front_end, run.sound) for split in ("train", "val"))
    config = TrainConfig(**{"epochs": budget.epochs, "batch_size": budget.batch_size, "seed": seed, "validate_every": budget.epochs,
                            "audio_epochs": budget.audio_epochs, "audio_weights": "joint", **run.train})
    trainer = Trainer(model, config)
    trainer.fit(train, validation)
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, work / f"{name}_seed{seed}.safetensors")
    steps = [entry for entry in trainer.log if entry["event"] == "step"]
    result = {"name": name, "run": asdict(run), "steps": len(steps), "train_seconds": time.perf_counter() - start,
              "parameters": parameters,
              "loss": [statistics.fmean(s["loss"] for s in steps if s["epoch"] == epoch) for epoch in range(1, config.epochs + 1)]}

    tests = {"scores": True} if run.distractors else {"scores": True, "scores_alone": False}
    for place, distractors in tests.items():
        test = AVSBench(_data(work, run, distractors), run.subset, "test", budget.size, model.front_end)
        score = None if classes > 1 else MetricCollection([MaskScore(), BoundaryScore(), FalsePositiveShare()], compute_groups=False)
        result[place] = {sound: evaluate(model, test, sound, score=score and score.clone()) for sound in SOUNDS}
        if classes == 1 and distractors:
            result |= {"deaf_oracle": deaf_oracle(test), **_look_inside(model, test, _maps_path(out, name) if (name, seed) in SHOWN else None)}
    write(_path(out, name, seed), {**result, "seconds": time.perf_counter() - start, **provenance(command, seed)})


# --- all of them ---


def sweep(names: Sequence[str] = (), out: str | Path = "results", work: str | Path = "runs/sweep", workers: int = 2, seeds: int = SEEDS,
          budget: Budget | None = None) -> list[str]:
    """Runs experiments, all by default; what is finished is not run again. Returns the names of runs that failed.

    out: results land in its folder `sweep`, and the twins also in its twins.json. work: data and audio weights, made again where missing,
    and the trained models.
    seeds: 0 to seeds - 1; seed 0 of everything comes first. budget: instead of the declared ones; then twins.json stays as it is.
    Raises ValueError for unknown experiments, and where `out` holds runs of other settings.
    """
    names, out, work = list(names) or list(EXPERIMENTS), Path(out), Path(work)
    if workers < 1 or not 1 <= seeds <= SEEDS:
        raise ValueError(f"workers is {workers}, seeds is {seeds}; expected at least 1 worker, and 1 to {SEEDS} seeds.")
    runs = {name: replace(RUNS[name], **({"budget": budget} if budget else {})) for experiment in names for name in _runs_of(experiment).values()}
    queue = [(name, seed) for seed in range(seeds) for name, run in runs.items() if seed < run.seeds]
    waiting = [(name, seed) for name, seed in queue if not _is_finished(_path(out / "sweep", name, seed), runs[name])]
    done, failed, running, command = len(queue) - len(waiting), [], {}, f"lightavseg sweep {' '.join(names)}"
    print(f"{len(queue)} runs, {done} of them finished before", flush=True)
    get_context("forkserver").set_forkserver_preload(["lightavseg_core.trainer"])      # imported once: it takes seconds
    _prepare(work, [runs[name] for name, _ in waiting])
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name, seed = waiting.pop(0)
                process = _start(work / f"{name}_seed{seed}.log", _execute, name, runs[name], seed, work, out / "sweep", command)
                running[process.sentinel] = process, name, seed
            for sentinel in wait(running):
                process, name, seed = running.pop(sentinel)
                process.join()
                done += 1
                if process.exitcode == 0:
                    result = read(_path(out / "sweep", name, seed))
                    what = f"M_J {result['scores']['normal']['M_J']:.3f} in {result['seconds']:.0f} s"
                else:
                    failed.append(f"{name} seed {seed}")
                    what = f"FAILED, exit code {process.exitcode}"
                print(f"[{done}/{len(queue)}] {name} seed {seed}: {what}", flush=True)
    finally:
        for process, *_ in running.values():
            process.kill()
    if not budget:
        _write_twins(out)
    return failed


def _is_finished(path: Path, run: Run) -> bool:
    if not path.exists():
        return False
    if (found := read(path).get("run")) != asdict(run):
        raise ValueError(f"{path}: is of a run with other settings, {found}. Give another --out, or remove it.")
    return True


def _prepare(work: Path, runs: Sequence[Run]) -> None:
    """What runs share: data, and the audio encoder."""
    shared = {run.budget for run in runs if "audio_weights" not in run.train}
    for run in [*runs, *(Run(budget=budget) for budget in shared)]:
        for distractors in {True, run.distractors}:
            _data(work, run, distractors)
    for budget in shared:
        if not _audio_file(work, budget).exists():
            process = _start(work / "audio.log", _pretrain, work, budget)
            process.join()
            if process.exitcode:
                raise ValueError(f"the shared audio encoder could not be trained (exit code {process.exitcode}); "
                                 f"its error stands in {work / 'audio.log'}.")


def _write_twins(out: Path) -> None:
    """twins.json, as notebook 03 reads it, from the results of the three twins once they are all there."""
    results = {label: read(path) for label, run in EXPERIMENTS["twins"].items() if (path := _path(out / "sweep", run, 0)).exists()}
    if len(results) < len(EXPERIMENTS["twins"]):
        return
    first = results["listening"]
    models = {label: {"ms3": result["scores"], **({"alone": result["scores_alone"]} if "scores_alone" in result else {})}
              for label, result in results.items()}
    budget = first["run"]["budget"]
    write(out / "twins.json", {**{key: first[key] for key in ("command", "commit", "date", "seed")},
                               "clips": {split: budget[split] for split in ("train", "val", "test")}, "size": budget["size"],
                               "machine": first["machine"], "models": models, "deaf_oracle": first["deaf_oracle"]})

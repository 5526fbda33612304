"""Many runs, by `lightavseg sweep`: each in a process of its own, which writes one JSON file. Finished runs
are not repeated. The functions with which notebooks read them are available here too."""
from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from .._common.files import alone, check_folder, digests, sha256
from .._common.processes import end_with_parent, without_main
from .._common.ranges import within
from .._common.records import read
from ..data import exam
from ..data.photos import VARIATIONS
from . import training
from .outside import import_file
from .results import finished, load, load_maps, path_of, values, write_twins
from .runs import EXPERIMENTS, SEEDS, Budget, Run, chosen

__all__ = ["load", "load_maps", "run_all", "sweep", "values"]


def sweep(
    names: Sequence[str] = (),
    out: str | Path = "results",
    work: str | Path = "runs/sweep",
    workers: int = 2,
    seeds: int = SEEDS,
    budget: Budget | None = None,
    *,
    subset: str | None = None,
    method: str | None = None,
    file: Path | None = None,
) -> list[str]:
    """Runs experiments, all by default, except runs that are finished. Returns the runs that failed.

    out: results are written to its folder `sweep`, and the twins also to its twins.json. work: folder for
    data and audio weights, which are made if missing, and for the trained models. seeds: 0 to seeds - 1; seed
    0 of everything comes first. budget: replaces the declared ones; twins.json then stays as it is. subset,
    method: a part of the runs. file: of a method from outside, which takes part in the experiment `methods`.
    Raises ValueError for unknown experiments, and if `out` holds runs with other settings.
    """
    names, out, added = list(names) or list(EXPERIMENTS), Path(out), import_file(file) if file else []
    runs = chosen(names, added, subset, method)
    for name, run in runs.items():
        if run.method in added:
            runs[name] = run = replace(run, files=digests([file]))
        if budget:
            runs[name] = replace(run, budget=budget)
    command = f"lightavseg sweep {' '.join(names)}"
    failed = run_all(runs, out / "sweep", Path(work), workers, seeds, command, file)
    if not budget:
        write_twins(out)
    return failed


def check_numbers(workers: int, seeds: int) -> None:
    """Raises ValueError for numbers of workers or seeds out of range."""
    within(1, workers=workers)
    within(1, SEEDS, seeds=seeds)


def run_all(
    runs: Mapping[str, Run], folder: Path, work: Path, workers: int, seeds: int, command: str,
    file: Path | None = None
) -> list[str]:
    """Runs what is not finished in `folder`, `workers` at a time. Returns the runs that failed.

    command: for the provenance of the results. Raises ValueError if `folder` holds runs with other settings
    or another ear, and if another process prepares data in `work`; FileNotFoundError for a file that runs
    need.
    """
    check_numbers(workers, seeds)
    check_folder(folder)
    check_folder(work)
    queue = [(name, seed) for seed in range(seeds) for name, run in runs.items() if seed < run.seeds]
    waiting = [(name, seed) for name, seed in queue if not _finished(folder, name, seed, runs[name], work)]
    done, failed, running = len(queue) - len(waiting), [], {}
    print(f"{len(queue)} runs, {done} of them already finished; results go to {folder}", flush=True)
    get_context("forkserver").set_forkserver_preload([training.__name__])  # imported once: it takes seconds
    with alone(work):
        _prepare(work, [runs[name] for name, _ in waiting])
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name, seed = waiting.pop(0)
                log = work / f"{name}_seed{seed}.log"
                process = _start(log, file, training.execute, name, runs[name], seed, work, folder, command)
                running[process.sentinel] = process, name, seed, log
            for sentinel in wait(running):
                process, name, seed, log = running.pop(sentinel)
                process.join()
                done += 1
                if process.exitcode == 0:
                    result = read(path_of(folder, name, seed))
                    what = f"M_J {result['scores']['normal']['M_J']:.3f} in {result['seconds']:.0f} s"
                else:
                    failed.append(f"{name} seed {seed}")
                    what = f"FAILED, {_failure(process, log)}"
                print(f"[{done}/{len(queue)}] {name} seed {seed}: {what}", flush=True)
    finally:
        for process, *_ in running.values():
            process.kill()
    return failed


def _finished(folder: Path, name: str, seed: int, run: Run, work: Path) -> bool:
    """Whether a result is there. Raises ValueError if it comes from other settings or another ear."""
    result = finished(folder, name, seed, run)
    if result and "ear" in result:
        ear = training.ear_of(work, run)
        if ear.is_file() and sha256(ear) != result["ear"]:
            raise ValueError(
                f"{path_of(folder, name, seed)}: was trained with another ear than {ear}, so that results "
                "could not be compared. Restore that file, or give another --out."
            )
    return result is not None


def _prepare(work: Path, runs: Sequence[Run]) -> None:
    """Prepares what runs share: data and ears; files that must be downloaded first must be there."""
    for run in runs:
        training.visual_file(run)
        if run.cast in VARIATIONS:
            exam.questions()
    for run in runs:
        training.data_folder(work, run, run.distractors)
        training.tested_on(work, run)
        if "audio_weights" in run.train or (ear := training.ear_of(work, run)).exists():
            continue
        training.data_folder(work, training.heard_by_ear(run))  # here, where it may have processes
        log = work / "audio.log"
        process = _start(log, None, training.pretrain, ear, work, run)
        process.join()
        if process.exitcode:
            raise ValueError(f"the shared audio encoder could not be trained: {_failure(process, log)}")


# --- a process of its own for each job: the same memory and random numbers whatever ran before it ---


def _start(log: Path, file: Path | None, job: Callable, *arguments) -> BaseProcess:
    log.parent.mkdir(parents=True, exist_ok=True)
    process = get_context("forkserver").Process(target=_work, args=(log, file, job, *arguments), daemon=True)
    with without_main():
        process.start()
    return process


def _work(log: Path, file: Path | None, job: Callable, *arguments) -> None:
    """The work of a process: one thread, with bars, warnings and errors in a log."""
    end_with_parent()
    torch.set_num_threads(1)
    with log.open("w") as stream, contextlib.redirect_stderr(stream):
        try:
            if file:
                import_file(file)
            job(*arguments)
        except Exception:  # on its own stderr it would be printed after the log is closed
            traceback.print_exc()
            sys.exit(1)


def _failure(process: BaseProcess, log: Path) -> str:
    lines = log.read_text().split("\n") if log.exists() else []
    last = next((line for line in reversed(lines) if line.strip()), "nothing")
    shown = last.split("\r")[-1].strip()  # of a progress bar its last state
    return f"exit code {process.exitcode}; {log} ends with: {shown[:300]}"

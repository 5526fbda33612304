"""A method of your own beside the five: the same data, budget and seeds, latencies of one run, one table."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from .._common.files import alone, digests
from .._common.intervals import Interval
from .._common.records import provenance, read, write
from .._common.shipped import SHIPPED
from .._common.tables import in_columns
from ..data.avsbench import AVSBench
from ..data.layout import SPLITS, SUBSETS, is_generated, read_labels, subset_folder
from ..data.scenes import Recipe
from ..data.shapes import CATEGORIES
from ..data.sounding_shapes import RECIPE, read_recipe
from ..models import create_model
from ..models.base import AVSModel
from ..profiling.profiler import Profile, profile
from ..profiling.timing import threads
from .outside import blamed, import_file
from .results import is_of, path_of, values
from .runs import BUDGETS, METHODS, SEEDS, Budget, Run, settings, short_digest
from .statistics import over_seeds
from .sweep import check_numbers, run_all

STORED = SHIPPED / "results" / "sweep"


class Row(NamedTuple):
    """One method. Scores are M_J, averaged over the seeds."""

    name: str
    score: float
    low: float | None      # the 95% interval over seeds; None for a single one
    high: float | None
    swapped: float         # with another clip's sound
    parameters: int
    latency: float         # ms, median
    latency_low: float     # and its 95% interval
    latency_high: float
    times: Interval        # the latency as a multiple of the first row's, by pairs
    stored: bool           # trained before: its results come with the workbook


class Comparison(NamedTuple):
    """Rows, LightAVSeg first, and the notes that belong to them."""

    rows: list[Row]
    notes: list[str]


def compare(
    file: str | Path, data: Path | None = None, subset: str = "ms3", budget: str = "default",
    preset: str = "tiny", seeds: int = SEEDS, workers: int = 2, out: str | Path = "runs/compare"
) -> Comparison:
    """Trains the methods that a file registers as `sweep` trains the five, and puts all into one table.

    If data and budget are the sweep's own, the stored results of the five are used. data: a folder in
    AVSBench's layout; without it, SoundingShapes are generated. Finished runs in `out` are not repeated while
    the file and the data stay the same. Also writes comparison.json there. Raises ValueError or
    FileNotFoundError for an unsuitable file or folder, and for failed runs.
    """
    check_numbers(workers, seeds)
    file, out = Path(file), Path(out)
    own = import_file(file)
    if not own:
        raise ValueError(f"{file}: registers no method. Put @register above its class.")
    size = BUDGETS[budget]
    base = Run(subset=subset, budget=size, preset=preset, **_given(data, subset, size))
    runs = {method: replace(base, method=method) for method in METHODS}
    runs |= {method: replace(base, method=method, files=base.files | digests([file])) for method in own}
    with alone(out):
        with blamed(file):  # before anything is trained
            for method in own:
                _try(method, base)
            timed = _timed(runs, repeats=3 if budget == "smoke" else 30)
        found = {method: _stored(run, seeds) for method, run in runs.items()}
        stored = [method for method in runs if found[method]]
        todo = {_name(run): run for method, run in runs.items() if method not in stored}
        command = f"lightavseg compare {file}"
        done = out / "runs"
        failed = run_all(todo, done, out / "work", workers, seeds, command, file)
        if failed:
            raise ValueError(f"{', '.join(failed)} failed, see above. Correct that and run this again.")
        for name, run in todo.items():
            found[run.method] = {seed: read(path_of(done, name, seed)) for seed in range(seeds)}
        rows = [_row(method, found[method], timed, method in stored) for method in runs]
        first = {method: found[method][0] for method in runs}
        notes = _notes(base, data, seeds, first, stored, timed)
        table = {"rows": [row._asdict() for row in rows], "notes": notes, "runs": list(todo), "seeds": seeds}
        write(out / "comparison.json", {**table, "card": timed.card.to_dict(), **provenance(command, 0)})
    return Comparison(rows, notes)


# --- what is run ---


def _given(folder: Path | None, subset: str, budget: Budget) -> dict:
    """Fields of a run on a given dataset; none if the run would generate the same data."""
    if folder is None:
        return {}
    home = subset_folder(folder, subset)
    clips = {split: getattr(budget, split) for split in SPLITS}
    there = {split: len(AVSBench(folder, subset, split)) for split in SPLITS}
    whole = there == clips and (home / RECIPE).is_file()
    if whole and read_recipe(folder, subset) == Recipe(subset, clips, budget.size, seed=0):
        return {}
    tables = digests([home / SUBSETS[subset].csv, home / "events.csv", home / RECIPE])
    given = {"data": str(folder.resolve()), "files": tables}
    if not is_generated(home):  # nothing says what sounds when, so the ear learns along
        given["train"] = {"audio_weights": "joint"}
    return given


def _name(run: Run) -> str:
    """The name of a run's file, different for different settings."""
    return f"{run.subset}_{run.method}_{short_digest(settings(run))}"


def _stored(run: Run, seeds: int) -> dict[int, dict]:
    """Seed -> the result that ships with the workbook; of all seeds, or of none."""
    paths = {seed: path_of(STORED, f"{run.subset}_{run.method}", seed) for seed in range(seeds)}
    if not all(path.is_file() for path in paths.values()):
        return {}
    found = {seed: read(path) for seed, path in paths.items()}
    return found if all(is_of(result.get("run"), run) for result in found.values()) else {}


# --- before anything is trained: does it run, and how fast ---


def _model(method: str, run: Run) -> AVSModel:
    torch.manual_seed(0)
    classes = 1
    if run.subset == "avss":
        classes = len(read_labels(run.data)) if run.data else len(CATEGORIES) + 1
    return create_model(method, preset=run.preset, size=run.budget.size, num_classes=classes)


def _try(method: str, run: Run) -> None:
    """Tries two clips of two seconds, as in training. Raises what the method raises; ValueError for wrong
    logits."""
    model, size = _model(method, run).train(), run.budget.size
    frames = torch.randn(2, 2, 3, size, size)
    log_mel = torch.randn(2, 2, 1, *model.front_end.shape)
    found = tuple(model(frames, log_mel).logits.shape)
    expected = (2, 2, model.config.num_classes, size, size)
    if found != expected:
        raise ValueError(f"{method} gives logits {found}; expected (B, T, classes, H, W), here {expected}.")


def _timed(runs: Mapping[str, Run], repeats: int) -> Profile:
    """Times all methods in turns, with one frame of their training size, on one thread."""
    models = {method: _model(method, run).eval() for method, run in runs.items()}
    size = runs[METHODS[0]].budget.size
    with threads(1):
        return profile(models, size, repeats=repeats, device="cpu", with_floor=False)


# --- after: the table ---


def _row(method: str, seeds: Mapping[int, dict], timed: Profile, stored: bool) -> Row:
    score, low, high = over_seeds(list(values(seeds).values()))
    if len(seeds) == 1:
        low = high = None
    swapped = over_seeds(list(values(seeds, sound="swapped").values())).mean
    clock = next(row for row in timed.rows if row.name == method)
    measured = clock.parameters, *clock.timing.interval, timed.relative(clock)
    return Row(method, score, low, high, swapped, *measured, stored)


def _notes(
    run: Run, data: Path | None, seeds: int, first: Mapping[str, dict], stored: Sequence[str], timed: Profile
) -> list[str]:
    """The notes below the table. first: method -> its result of seed 0. stored: methods not trained now."""
    budget = run.budget
    notes = [
        f"M_J on {data or 'SoundingShapes'}, {run.subset}, preset {run.preset}: at most {budget.train} "
        f"training and {budget.test} test clips of {budget.size} px, epochs: {budget.epochs}."
    ]
    if seeds == 1:
        notes.append("One seed, so there is no interval; another seed may change the order: see --seeds.")
    else:
        notes.append(f"Means of {seeds} seeds; the interval (Student's t) tells what other seeds would give.")
    if run.train:
        notes.append("Without an events.csv, each method learns to hear by itself.")
    if stored:
        made = first[stored[0]]
        when = f"{made['date']}, {made['machine']['device']}, commit {made['commit']}"
        notes.append(f"* stored, not trained now: same data and budget, {when}.")
        if len({result.get("ear") for result in first.values()}) > 1:
            notes.append("  Their audio encoder was trained like the others', but to other weights.")
    return [*notes, f"Latency: {timed.card}"]


def lines(found: Comparison) -> list[str]:
    """The table in columns, and below it its notes."""
    table = [["", "M_J", "M_J, swapped sound", "parameters, M", "latency, ms", "times the first"]]
    for row in found.rows:
        name, score = row.name + " *" * row.stored, f"{row.score:.3f}"
        if row.low is not None:
            score += f" ({row.low:.3f} to {row.high:.3f})"
        latency = f"{row.latency:.1f} ({row.latency_low:.1f} to {row.latency_high:.1f})"
        times = "{:.2f} ({:.2f} to {:.2f})".format(*row.times)
        table.append([name, score, f"{row.swapped:.3f}", f"{row.parameters / 1e6:.2f}", latency, times])
    return [*in_columns(table), "", *found.notes]

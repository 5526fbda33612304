"""The results of runs, a JSON file each: found again here, and read by the notebooks with `load`."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

from .._common.records import read, write
from ..inspection import scales
from .runs import EXPERIMENTS, RUNS, Run, runs_of


def path_of(folder: str | Path, name: str, seed: int) -> Path:
    return Path(folder, f"{name}_seed{seed}.json")


def maps_path(folder: str | Path, name: str) -> Path:
    return Path(folder, f"{name}_maps.npz")


def load(experiment: str, folder: str | Path = "results/sweep") -> dict[str, dict[int, dict]]:
    """The finished runs of an experiment: label -> seed -> result, with scores by sound, parameters, seconds,
    settings and provenance; "scales" is from `inspection.scales.survey`, and "attention", for a method with
    attention, from `inspection.attention.survey`.

    Raises ValueError for an unknown experiment, FileNotFoundError if none of its runs is finished.
    """
    found = {}
    for label, name in runs_of(experiment).items():
        paths = {seed: path_of(folder, name, seed) for seed in range(RUNS[name].seeds)}
        seeds = {seed: read(path) for seed, path in paths.items() if path.exists()}
        if seeds:
            found[label] = seeds
    return _some(found, experiment, folder)


def _some(found: dict, experiment: str, folder: str | Path) -> dict:
    if not found:
        raise FileNotFoundError(f"{folder}: no results of {experiment}. Run `lightavseg sweep {experiment}`.")
    return found


def values(
    seeds: Mapping[int, dict], score: str = "M_J", sound: str = "normal", place: str = "scores"
) -> dict[int, float]:
    """A score by seed, for `statistics.paired`. seeds: from `load`, for a label. place: which test clips
    (`training.tested_on`)."""
    return {seed: result[place][sound][score] for seed, result in seeds.items()}


def load_maps(experiment: str, folder: str | Path = "results/sweep") -> dict[str, scales.Maps]:
    """Label -> `inspection.scales.Maps` of the test clips from its model of seed 0, for an experiment that
    keeps them ("scales"). Errors as in `load`."""
    paths = {label: maps_path(folder, name) for label, name in runs_of(experiment).items()}
    found = {label: scales.load_maps(path) for label, path in paths.items() if path.exists()}
    return _some(found, experiment, folder)


def is_of(stored: object, asked: object) -> bool:
    """Whether stored settings are the requested ones, a Run or a part of one.

    Stored fields must be equal. A field that is not stored was added later: it must have its default, which
    is what runs did before there was a choice.
    """
    if not is_dataclass(asked):
        return stored == asked
    known = {part.name: part for part in fields(asked)}
    if not isinstance(stored, Mapping) or not stored.keys() <= known.keys():
        return False
    for name, part in known.items():
        value = getattr(asked, name)
        default = part.default if part.default_factory is MISSING else part.default_factory()
        if not (is_of(stored[name], value) if name in stored else value == default):
            return False
    return True


def finished(folder: str | Path, name: str, seed: int, run: Run) -> dict | None:
    """The result of a run; None if there is none. Raises ValueError if it comes from other settings."""
    path = path_of(folder, name, seed)
    if not path.exists():
        return None
    result = read(path)
    if not is_of(result.get("run"), run):
        raise ValueError(f"{path}: comes from a run with other settings. Give another --out, or remove it.")
    return result


def write_twins(out: Path) -> None:
    """Writes twins.json, which notebook 03 reads, once the results of all three twins are there."""
    paths = {label: path_of(out / "sweep", name, 0) for label, name in EXPERIMENTS["twins"].items()}
    if not all(path.exists() for path in paths.values()):
        return
    results = {label: read(path) for label, path in paths.items()}
    first = results["listening"]
    budget = first["run"]["budget"]
    twins = {key: first[key] for key in ("command", "commit", "date", "seed", "machine", "deaf_oracle")}
    twins["clips"] = {split: budget[split] for split in ("train", "val", "test")}
    twins["size"] = budget["size"]
    twins["models"] = {label: {"ms3": result["scores"]} for label, result in results.items()}
    twins["models"]["salience"]["alone"] = results["salience"]["scores_alone"]
    write(out / "twins.json", twins)

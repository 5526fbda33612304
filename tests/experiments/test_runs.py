"""What is declared can be run, a part of it can be chosen, and stored results are of what is declared."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import pytest

from lightavseg_core._common import records
from lightavseg_core.config import TrainConfig
from lightavseg_core.experiments import results, runs, training
from lightavseg_core.models.base import METHODS

COMMITTED = Path(__file__).parents[2] / "results"


def test_experiments_name_runs_that_can_be_built():
    used = {name for runs in runs.EXPERIMENTS.values() for name in runs.values()}
    assert used == set(runs.RUNS)
    for name, run in runs.RUNS.items():
        assert set(run.options) <= METHODS[run.method].config_class.__dataclass_fields__.keys(), name
        TrainConfig(**{"audio_weights": "joint", **run.train}).check()
    settings = [json.dumps(asdict(run)) for run in runs.RUNS.values()]
    assert len(set(settings)) == len(settings), "a run is declared twice"
    assert {run.method for run in runs.RUNS.values()} == set(runs.METHODS) <= set(METHODS)
    shared = {"ablation": "all", "loss": "alignment", "backbone": "seaformer_t", "methods": "ms3_lightavseg"}
    for experiment, full in shared.items():
        assert runs.EXPERIMENTS[experiment][full] == "ms3_lightavseg"     # one run, shared
    ablation = [runs.EXPERIMENTS["ablation"][label] for label in ("static fusion", "+AGVE+CMFD", "+AGVE+HAR")]
    assert [runs.RUNS[name].options for name in ablation] == [
        {"agve": False, "har": False, "cmfd": False}, {"har": False}, {"cmfd": False}]


def test_a_part_is_chosen():
    part = runs.chosen(["methods"], subset="ms3")
    assert list(part) == [f"ms3_{method}" for method in runs.METHODS]
    assert list(runs.chosen(["methods", "loss"], method="selm")) == ["ms3_selm", "s4_selm"]
    mine = runs.chosen(["methods"], ["late_fusion"], "ms3", "late_fusion")
    assert mine == {"ms3_late_fusion": runs.Run("late_fusion", "ms3")}       # at the budget of the others
    assert runs.chosen(["loss"], ["late_fusion"]).keys() == set(runs.EXPERIMENTS["loss"].values())
    assert runs.chosen(runs.EXPERIMENTS) == runs.RUNS
    with pytest.raises(ValueError, match="did you mean 'selm'"):
        runs.chosen(["methods"], method="slm")
    with pytest.raises(ValueError, match="unknown subset of these runs 'avss'.*ms3, s4"):
        runs.chosen(["methods"], subset="avss", method="selm")


def test_committed_results_are_of_the_declared_runs():
    paths = sorted((COMMITTED / "sweep").glob("*.json"))
    assert len(paths) > 80
    for path in paths:
        result = records.read(path)
        assert results.is_of(result["run"], runs.RUNS[result["name"]])
        assert path == results.path_of(COMMITTED / "sweep", result["name"], result["seed"])
        assert {"command", "commit", "date", "machine", "versions", "seconds"} <= set(result)


def test_eyes_are_compared_with_one_ear():
    """It is stored apart from checkpoints/photos, which may be trained anew between two rows."""
    found = [records.read(path) for path in (COMMITTED / "sweep").glob("eyes_*.json")]
    assert len({result["ear"] for result in found}) <= 1
    assert all(("eyes" in result) == bool(result["run"]["visual_weights"]) for result in found)


def test_a_field_that_comes_later_leaves_stored_results_valid():
    @dataclass(frozen=True)
    class LongerBudget(runs.Budget):
        patience: int = 3

    @dataclass(frozen=True)
    class Later(runs.Run):
        mood: str = "calm"
        extras: dict = field(default_factory=dict)

    stored = json.loads(json.dumps(asdict(runs.Run("selm", train={"epochs": 2}))))
    now = Later("selm", train={"epochs": 2}, budget=LongerBudget(**asdict(runs.BUDGET)))
    assert results.is_of(stored, now)
    patient = replace(now.budget, patience=4)
    others = {"mood": "wild", "extras": {"a": 1}, "budget": patient, "method": "avsbench", "train": {}}
    for name, value in others.items():
        assert not results.is_of(stored, replace(now, **{name: value})), name
    assert not results.is_of({**stored, "unheard_of": 1}, now)           # written by a later version
    assert not results.is_of({**stored, "budget": {"train": 400}}, now)  # what has no default is missing
    assert not results.is_of(None, now)


def test_settings_are_what_differs():
    """So a run keeps the name that it got from them when a field comes later."""
    assert runs.settings(runs.Run()) == {} and runs.settings(runs.Run(subset="s4")) == {"subset": "s4"}
    assert {part.name for part in fields(runs.Run)} >= {"preset", "data", "files"}
    name = runs.short_digest({"a": 1, "b": 2})
    assert name == runs.short_digest({"b": 2, "a": 1}) != runs.short_digest({"a": 1})


def test_results_are_read(tmp_path):
    for seed, score in enumerate((0.5, 0.75)):
        scores = {"normal": {"M_J": score}, "swapped": {"M_J": score / 2}}
        records.write(results.path_of(tmp_path, "loss_none", seed), {"scores": scores})
    found = results.load("loss", tmp_path)
    assert list(found) == ["none"] and results.values(found["none"]) == {0: 0.5, 1: 0.75}
    assert results.values(found["none"], sound="swapped") == {0: 0.25, 1: 0.375}
    with pytest.raises(ValueError, match="did you mean 'ablation'"):
        results.load("ablatoin", tmp_path)
    for read in (results.load, results.load_maps):
        with pytest.raises(FileNotFoundError, match="lightavseg sweep ablation"):
            read("ablation", tmp_path)
    (tmp_path / "static_seed0.json").write_text('{"name": "stat')
    with pytest.raises(ValueError, match="static_seed0.json.*Remove it"):
        results.load("ablation", tmp_path)


def test_twins_are_written_as_notebook_3_reads_them(tmp_path):
    """The same keys, all the way down, as in the file that is there."""
    there = json.loads((COMMITTED / "twins.json").read_text())
    scores = {sound: dict(there["models"]["deaf"]["ms3"]["normal"]) for sound in training.SOUNDS}
    for label, name in runs.EXPERIMENTS["twins"].items():
        results.write_twins(tmp_path)
        assert not (tmp_path / "twins.json").exists()
        result = {"run": asdict(runs.RUNS[name]), "scores": scores, "deaf_oracle": there["deaf_oracle"]}
        if label == "salience":
            result["scores_alone"] = scores
        path = results.path_of(tmp_path / "sweep", name, 0)
        records.write(path, result | records.provenance("a command", 0))
    results.write_twins(tmp_path)
    written = json.loads((tmp_path / "twins.json").read_text())

    def holds(new, old):
        for key, value in old.items():
            if key not in new or isinstance(value, dict) and not holds(new[key], value):
                return False
        return True

    budget = asdict(runs.TWINS)
    assert holds(written, there) and written["size"] == budget["size"]
    assert written["clips"] == {split: budget[split] for split in ("train", "val", "test")}

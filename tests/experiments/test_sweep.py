"""What is declared can be run; a stopped sweep goes on where it was and leaves nothing half-written; differences are Student's."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lightavseg_core._common import records
from lightavseg_core.config import TrainConfig
from lightavseg_core.data import AVSBench
from lightavseg_core.encoders import create_audio_encoder
from lightavseg_core.experiments import runs, statistics, sweep
from lightavseg_core.models.base import METHODS

COMMITTED = Path(__file__).parents[2] / "results"


def small(**options):
    """A run that takes a second."""
    return runs.Run(**{"budget": runs.SMOKE, "seeds": 1, **options})


# --- declared ---


def test_experiments_name_runs_that_can_be_built():
    used = {name for runs in runs.EXPERIMENTS.values() for name in runs.values()}
    assert used == set(runs.RUNS)
    for name, run in runs.RUNS.items():
        assert set(run.options) <= METHODS[run.method].config_class.__dataclass_fields__.keys(), name
        TrainConfig(**{"audio_weights": "joint", **run.train}).check()
    settings = [json.dumps(asdict(run)) for run in runs.RUNS.values()]
    assert len(set(settings)) == len(settings), "a run is declared twice"
    assert {run.method for run in runs.RUNS.values()} == set(METHODS)
    for experiment, full in {"ablation": "all", "loss": "alignment", "backbone": "seaformer_t", "methods": "ms3_lightavseg"}.items():
        assert runs.EXPERIMENTS[experiment][full] == "ms3_lightavseg"     # one run, shared
    assert [runs.RUNS[runs.EXPERIMENTS["ablation"][label]].options for label in ("static fusion", "+AGVE+CMFD", "+AGVE+HAR")] == [
        {"agve": False, "har": False, "cmfd": False}, {"har": False}, {"cmfd": False}]


def test_committed_results_are_of_the_declared_runs():
    for path in sorted((COMMITTED / "sweep").glob("*.json")):
        result = records.read(path)
        assert result["run"] == asdict(runs.RUNS[result["name"]]) and path.name == f"{result['name']}_seed{result['seed']}.json"
        assert {"command", "commit", "date", "machine", "versions", "seconds"} <= set(result)


# --- run, stopped, run again ---


@pytest.mark.slow
def test_a_sweep_and_what_it_leaves(tmp_path, monkeypatch, capfd):
    """A run that fails does not keep the others from finishing; what is finished stays as it is; other settings are refused."""
    runs = {"good": small(options={"width": 8}), "bad": small(method="nothing"), "alone": small(options={"width": 8}, distractors=False)}
    monkeypatch.setattr(sweep, "RUNS", runs)
    monkeypatch.setattr(sweep, "EXPERIMENTS", {"mini": {"one": "good", "two": "bad", "three": "alone"}, **runs.EXPERIMENTS})
    arguments = {"out": tmp_path, "work": tmp_path / "work", "workers": 1}
    assert sweep.sweep(["mini"], **arguments) == ["bad seed 0"]
    printed = capfd.readouterr()
    assert "bad seed 0: FAILED" in printed.out and "unknown method 'nothing'" in (tmp_path / "work" / "bad_seed0.log").read_text()
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "sweep").iterdir()}
    assert set(files) == {"good_seed0.json", "alone_seed0.json"}

    found = sweep.load("mini", tmp_path / "sweep")
    assert list(found) == ["one", "three"] and list(found["one"]) == [0]
    result = found["one"][0]
    assert result["run"] == asdict(runs["good"]) and result["steps"] == 2 and len(result["loss"]) == 1
    assert set(result["scores"]) == {"normal", "silent", "swapped", "noise", "noisy"} and "scores_alone" in found["three"][0]
    assert {"M_J", "M_F", "foreground_share", "boundary_F", "false_positive_share"} < set(result["scores"]["noisy"])
    assert result["parameters"]["audio"] == sum(p.numel() for p in create_audio_encoder("mobilenetv2_050").parameters())
    assert result["machine"]["threads"] == 1 and result["command"] == "lightavseg sweep mini" and 0 < result["train_seconds"] < result["seconds"]
    assert sweep.values(found["one"], "M_F", "silent") == {0: result["scores"]["silent"]["M_F"]}

    runs.pop("bad"), runs.EXPERIMENTS["mini"].pop("two")
    assert sweep.sweep(["mini"], **arguments) == []
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "sweep").iterdir()} == files
    runs["good"] = replace(runs["good"], train={"learning_rate": 1e-3})
    with pytest.raises(ValueError, match="good_seed0.json.*other settings"):
        sweep.sweep(["mini"], **arguments)


@pytest.mark.long
def test_killed_and_continued(tmp_path):
    """Without a chance to clean up: results are whole or absent, no process stays, and the next call runs only the rest."""
    command = [sys.executable, "-m", "lightavseg_core.cli", "sweep", "backbone", "--budget", "smoke", "--workers", "1", "--seeds", "1",
               "--out", str(tmp_path), "--work", str(tmp_path / "work")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if line.startswith("[1/3]"):
            break
    process.send_signal(signal.SIGKILL)
    process.stdout.read()                                   # ends when the last process that could write to it has
    process.wait()
    folder = tmp_path / "sweep"
    before = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    assert 1 <= len(before) < 3 and all(json.loads(content)["seconds"] for content in before.values())
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(f"3 runs, {len(before)} of them finished before") and len(list(folder.iterdir())) == 3
    assert all((folder / name).read_bytes() == content for name, content in before.items())


def test_embedded_sound_is_what_the_encoder_gives(shapes):
    torch.manual_seed(0)
    audio = create_audio_encoder("mobilenetv2_050").eval()
    log_mel, embedded = (AVSBench(shapes, "ms3", "test", 64, front_end)[1]["log_mel"] for front_end in (audio.front_end, sweep.Embedding(audio)))
    with torch.no_grad():
        assert torch.equal(torch.nn.Flatten()(embedded), audio(log_mel)) and embedded.shape == (5, 1, 1, audio.channels)


def test_twins_are_written_as_notebook_3_reads_them(tmp_path):
    """The same keys, all the way down, as in the file that is there."""
    there = json.loads((COMMITTED / "twins.json").read_text())
    scores = {sound: dict(there["models"]["deaf"]["ms3"]["normal"]) for sound in sweep.SOUNDS}
    for label, name in runs.EXPERIMENTS["twins"].items():
        alone = {"scores_alone": scores} if label == "salience" else {}
        records.write(sweep._path(tmp_path / "sweep", name, 0), {
            "run": asdict(runs.RUNS[name]), "scores": scores, **alone, "deaf_oracle": there["deaf_oracle"], **records.provenance("a command", 0)})
        sweep._write_twins(tmp_path)
    written = json.loads((tmp_path / "twins.json").read_text())

    def holds(new, old):
        return all(key in new and (not isinstance(value, dict) or holds(new[key], value)) for key, value in old.items())

    assert holds(written, there) and written["clips"] == there["clips"] and written["size"] == there["size"]


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'ablation'"):
        sweep.load("ablatoin", tmp_path)
    with pytest.raises(FileNotFoundError, match="lightavseg sweep ablation"):
        sweep.load("ablation", tmp_path)
    with pytest.raises(ValueError, match="workers"):
        sweep.sweep(["loss"], tmp_path, tmp_path, workers=0)
    (tmp_path / "static_seed0.json").write_text('{"name": "stat')
    with pytest.raises(ValueError, match="static_seed0.json.*Remove it"):
        sweep.load("ablation", tmp_path)


# --- results ---


def test_results_are_written_whole(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.json"
    records.write(path, {"a": 1})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        records.write(path, {"a": 2})
    assert records.read(path) == {"a": 1} and [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_paired_by_hand():
    """Differences 0.01, 0.02, 0.06: mean 0.03, deviation sqrt(0.0014 / 2), so 4.3027 * 0.026458 / sqrt(3) either way."""
    found = statistics.paired({0: 0.51, 1: 0.62, 2: 0.76, 7: 9.0}, {2: 0.7, 1: 0.6, 0: 0.5})
    assert found.mean == pytest.approx(0.03) and found.seeds == 3
    assert (found.low, found.high) == (pytest.approx(0.03 - 0.065725, abs=1e-5), pytest.approx(0.03 + 0.065725, abs=1e-5))
    one = statistics.paired({0: 0.5}, {0: 0.25})
    assert one.mean == 0.25 and (one.low, one.high) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="common seeds"):
        statistics.paired({0: 0.5}, {1: 0.5})


def test_quantiles_are_those_of_student():
    """The density, integrated: 97.5% of it lies below."""
    for freedom, quantile in enumerate(statistics.T_QUANTILES, 1):
        x = np.linspace(0, quantile, 200_001)
        density = (1 + x * x / freedom) ** (-(freedom + 1) / 2)
        density *= math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
        assert 0.5 + np.trapezoid(density, x) == pytest.approx(0.975, abs=2e-6)


def test_provenance():
    found = records.provenance("lightavseg sweep loss", 2)
    assert found["seed"] == 2 and found["machine"]["threads"] == torch.get_num_threads() and found["versions"]["torch"]
    assert found["date"] == time.strftime("%Y-%m-%d") and found["commit"]
    assert {f.name for f in fields(runs.Budget)} >= {"size", "epochs"}

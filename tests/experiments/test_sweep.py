"""A stopped sweep goes on where it was and leaves nothing half-written; what failed is said."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
import torch

from lightavseg_core._common import records
from lightavseg_core.encoders import create_audio_encoder
from lightavseg_core.experiments import results, runs, sweep, training

# --- run, stopped, run again ---


def small(**options):
    """A run that takes a second."""
    return runs.Run(**{"budget": runs.SMOKE, "seeds": 1, **options})


@pytest.mark.slow
def test_a_sweep_and_what_it_leaves(tmp_path, monkeypatch, capfd):
    """A run that fails does not stop the others; what is finished stays; other settings are refused."""
    declared = {
        "good": small(options={"width": 8}),
        "bad": small(method="nothing"),
        "alone": small(options={"width": 8}, distractors=False),
    }
    for name, run in declared.items():
        monkeypatch.setitem(runs.RUNS, name, run)
    labels = {"one": "good", "two": "bad", "three": "alone"}
    monkeypatch.setitem(runs.EXPERIMENTS, "mini", labels)
    arguments = {"out": tmp_path, "work": tmp_path / "work", "workers": 1}
    assert sweep.sweep(["mini"], **arguments) == ["bad seed 0"]
    printed = capfd.readouterr()
    log = tmp_path / "work" / "bad_seed0.log"
    ended = f"{log} ends with: ValueError: unknown method 'nothing'"
    assert f"bad seed 0: FAILED, exit code 1; {ended}" in printed.out
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "sweep").iterdir()}
    assert set(files) == {"good_seed0.json", "alone_seed0.json"}

    found = sweep.load("mini", tmp_path / "sweep")
    assert list(found) == ["one", "three"] and list(found["one"]) == [0]
    result = found["one"][0]
    assert result["run"] == asdict(declared["good"]) and result["steps"] == 2 and len(result["loss"]) == 1
    assert set(result["scores"]) == {"normal", "silent", "swapped", "noise", "noisy"}
    assert "scores_alone" in found["three"][0] and "scores_alone" not in result
    measured = {"M_J", "M_F", "foreground_share", "boundary_F", "false_positive_share"}
    assert measured < set(result["scores"]["noisy"])
    encoder = create_audio_encoder("mobilenetv2_050")
    assert result["parameters"]["audio"] == sum(p.numel() for p in encoder.parameters())
    assert result["machine"]["threads"] == 1 and result["command"] == "lightavseg sweep mini"
    assert 0 < result["train_seconds"] < result["seconds"] and len(result["ear"]) == 64
    assert sweep.values(found["one"], "M_F", "silent") == {0: result["scores"]["silent"]["M_F"]}

    labels.pop("two")
    assert sweep.sweep(["mini"], **arguments) == []
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "sweep").iterdir()} == files
    records.write(results.path_of(tmp_path / "sweep", "good", 0), {**result, "ear": 64 * "0"})
    with pytest.raises(ValueError, match="good_seed0.json: was trained with another ear.*give another --out"):
        sweep.sweep(["mini"], **arguments)
    monkeypatch.setitem(runs.RUNS, "good", replace(declared["good"], train={"learning_rate": 1e-3}))
    with pytest.raises(ValueError, match="good_seed0.json.*other settings"):
        sweep.sweep(["mini"], **arguments)


@pytest.mark.long
def test_killed_and_continued(tmp_path):
    """Without a chance to clean up: results are whole or absent, no process stays, what is left runs next."""
    options = "--budget smoke --workers 1 --seeds 1 --out . --work work"
    command = [sys.executable, "-m", "lightavseg_core.cli", "sweep", "backbone", *options.split()]
    into = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": tmp_path}
    process = subprocess.Popen(command, **into)
    for line in process.stdout:
        if line.startswith("[1/3]"):
            break
    process.send_signal(signal.SIGKILL)
    process.stdout.read()  # ends when the last process that could write to it has
    process.wait()
    folder = tmp_path / "sweep"
    before = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    assert 1 <= len(before) < 3 and all(json.loads(content)["seconds"] for content in before.values())
    done = subprocess.run(command, timeout=300, **into)
    assert done.returncode == 0, done.stdout[-3000:]
    assert done.stdout.startswith(f"3 runs, {len(before)} of them already finished")
    assert len(list(folder.iterdir())) == 3
    assert all((folder / name).read_bytes() == content for name, content in before.items())


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'ablation'"):
        sweep.sweep(["ablatoin"], tmp_path, tmp_path)
    with pytest.raises(ValueError, match="did you mean 'selm'"):
        sweep.sweep(["methods"], tmp_path, tmp_path, method="sellm")
    for wrong in ({"workers": 0}, {"seeds": 4}):
        with pytest.raises(ValueError, match="(workers|seeds) is .*expected"):
            sweep.sweep(["loss"], tmp_path, tmp_path, **wrong)
    records.write(results.path_of(tmp_path / "sweep", "loss_none", 0), {"run": {"method": "selm"}})
    with pytest.raises(ValueError, match="loss_none_seed0.json.*other settings.*Give another --out"):
        sweep.sweep(["loss"], tmp_path, tmp_path)


def test_an_ear_that_is_missing_is_not_made_of_other_sounds(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "EAR_OF_PHOTOS", tmp_path / "photos.safetensors")
    with pytest.raises(FileNotFoundError, match="photos.safetensors: missing. Restore it"):
        training.ear_of(tmp_path, runs.RUNS["eyes_random"])


def test_results_are_written_whole(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.json"
    records.write(path, {"a": 1})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        records.write(path, {"a": 2})
    assert records.read(path) == {"a": 1} and [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_provenance():
    found = records.provenance("lightavseg sweep loss", 2)
    assert found["seed"] == 2 and found["machine"]["threads"] == torch.get_num_threads()
    assert found["versions"]["torch"] and found["date"] == time.strftime("%Y-%m-%d") and found["commit"]

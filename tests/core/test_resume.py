"""A training that was stopped goes on, and ends with the bits that it would have had."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.casts import folder_cast
from helpers.command import run
from helpers.tiny import create

from lightavseg_core import TrainConfig, Trainer
from lightavseg_core._common.stopping import Stopped
from lightavseg_core.cli import main
from lightavseg_core.data import AVSBench
from lightavseg_core.data.sounding_shapes import generate
from lightavseg_core.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]

CONFIG = {"epochs": 3, "batch_size": 2, "audio_epochs": 2, "validate_every": 1, "save_minutes": 60}


class Asked(RunFolder):
    """Is asked to stop, as by Ctrl-C, at the n-th entry of a kind."""

    asks, by = ("", 0), signal.SIGTERM

    def record(self, **entry):
        super().record(**entry)
        event, left = self.asks
        Asked.asks = event, left - (entry["event"] == event)
        if Asked.asks == (entry["event"], 0):
            signal.raise_signal(self.by)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    counts = {"train": 7, "val": 2}
    return generate(tmp_path_factory.mktemp("mini"), "ms3", counts, size=32, seed=0, workers=1)


def train(root, out, resume=False, weights=0, asks=("", 0), by=signal.SIGTERM, subset="ms3", **options):
    """weights: seed of the first ones. Returns what was said of the stop, or None."""
    torch.manual_seed(weights)
    model = create(size=32, num_classes=AVSBench(root, subset).num_classes)
    splits = (AVSBench(root, subset, split, 32, model.front_end) for split in ("train", "val"))
    Asked.asks, Asked.by = asks, by
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightavseg_core.trainer.RunFolder", Asked)
        try:
            Trainer(model, TrainConfig(**{**CONFIG, **options}), out).fit(*splits, resume=resume)
        except Stopped as stopped:
            assert stopped.number == by
            return str(stopped)


def left(out):
    """The bytes of both models, and the log without its times."""
    models = [(out / name / "model.safetensors").read_bytes() for name in ("best", "last")]
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return *models, [{k: v for k, v in entry.items() if k not in ("seconds", "waited")} for entry in log]


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert train(root, out) is None
    assert sorted(path.name for path in out.iterdir()) == ["best", "last", "log.jsonl", "train.json"]
    return left(out)


STOPS = {
    "the first step": [("step", 1)],
    "an epoch's last step": [("step", 3)],
    "again and again": [("step", 2), ("step", 1), ("step", 3)],
    "audio pretraining, and just after it": [("tagging step", 1), ("audio", 1)],
    "a validation": [("validation", 2)],
}


@pytest.mark.slow
@pytest.mark.parametrize("stops", STOPS.values(), ids=STOPS)
def test_stopped(root, tmp_path, whole, stops):
    """Each time it goes on in a process that began with other weights."""
    for k, asks in enumerate(stops):
        told = train(root, tmp_path, resume=k > 0, weights=k, asks=asks)
        assert told == "stopped after a step. `fit(..., resume=True)` continues from here."
        assert len(list(tmp_path.glob("checkpoints/*"))) <= 2
    assert train(root, tmp_path, resume=True, weights=9) is None
    assert left(tmp_path) == whole


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_crops_go_on_too(tmp_path, workers):
    """They depend on the epoch, which Accelerate counts."""
    root = generate(tmp_path / "avss", "avss", {"train": 4, "val": 1}, size=64, seed=0, workers=1)
    options = {"subset": "avss", "audio_weights": "joint", "workers": workers}
    assert train(root, tmp_path / "whole", **options) is None
    for k in range(2):
        assert train(root, tmp_path / "run", resume=k > 0, asks=("step", 2), **options)
    assert train(root, tmp_path / "run", resume=True, **options) is None
    assert left(tmp_path / "run") == left(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_mixtures_and_negatives_go_on_too(tmp_path, workers):
    """What an ear hears, and which clips are heard with what, depend on the step and the epoch."""
    cast = str(folder_cast(tmp_path / "cast"))
    counts = {"train": 4, "val": 1}
    root = generate(tmp_path / "data", "ms3", counts, size=32, seed=0, workers=1, cast=cast)
    options = {"negatives": 0.5, "workers": workers, "audio_epochs": 3}
    assert train(root, tmp_path / "whole", **options) is None
    for k, asks in enumerate((("tagging step", 2), ("step", 3))):
        assert train(root, tmp_path / "run", resume=k > 0, asks=asks, **options)
    assert train(root, tmp_path / "run", resume=True, **options) is None
    assert left(tmp_path / "run") == left(tmp_path / "whole")
    assert train(root, tmp_path / "plain", **{**options, "negatives": 0.0}) is None
    assert left(tmp_path / "plain")[0] != left(tmp_path / "whole")[0]


def test_what_is_through_is_not_begun_anew_unseen(root, tmp_path):
    """Asked in the last validation, it ends by itself and says that it was asked."""
    options = {"epochs": 1, "audio_weights": "joint"}
    assert train(root, tmp_path, asks=("validation", 1), **options) == "stopped; everything was done"
    assert not (tmp_path / "checkpoints").exists()


def test_without_a_folder_it_stops_too(root):
    assert train(root, None, asks=("step", 1)) == "stopped after a step."


@pytest.fixture(scope="module")
def stopped(root, tmp_path_factory):
    """In the second epoch: it has a checkpoint of the first one's end too."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    train(root, out, asks=("step", 4))
    assert sorted(path.stem for path in out.glob("checkpoints/*")) == ["000001", "000002"]
    return out


def cut(file):
    file.write_bytes(file.read_bytes()[:-1000])


def alter(file):
    """A bit of the last tensor."""
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)


def forge(file):
    """Where it stands, and nothing else."""
    content = file.read_bytes()
    assert content.count(b'\\"batches\\": 1') == 1
    file.write_bytes(content.replace(b'\\"batches\\": 1', b'\\"batches\\": 0'))


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, alter, forge])
def test_a_damaged_checkpoint_is_seen(root, stopped, tmp_path, whole, capsys, damage):
    out = shutil.copytree(stopped, tmp_path / "run")
    damage(out / "checkpoints" / "000002.safetensors")
    assert train(root, out, resume=True) is None
    told = capsys.readouterr().err
    assert "000002.safetensors: damaged" in told and "000001.safetensors, the one before it, is used" in told
    assert left(out) == whole


NONE = "none of its checkpoints can be used"
SPOILED = {  # how, and what is said
    "both checkpoints": (lambda out: [cut(file) for file in out.glob("checkpoints/*")], NONE),
    "the log": (lambda out: (out / "log.jsonl").write_text("{}"), NONE),
    "no log": (lambda out: (out / "log.jsonl").unlink(), NONE),
    "train.json": (lambda out: (out / "train.json").write_text("{"), "train.json: not what"),
    "no train.json": (lambda out: (out / "train.json").unlink(), "train.json: missing"),
}


@pytest.mark.parametrize("spoil,said", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_folder_says_so_and_stays(root, stopped, tmp_path, spoil, said):
    out = shutil.copytree(stopped, tmp_path / "run")
    spoil(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        train(root, out, resume=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_another_training_does_not_go_on(root, stopped, tmp_path):
    out = shutil.copytree(stopped, tmp_path / "run")
    with pytest.raises(ValueError, match="with other settings .epochs was 3, is 4; seed was 0, is 1"):
        train(root, out, resume=True, epochs=4, seed=1)


# --- the command ---

TRAIN = ("--preset", "tiny", "--size", 32, "--epochs", 2, "--batch-size", 2, "--audio-epochs", 2)
KILLED = """
import importlib, os, signal, sys
from lightavseg_core.cli import main
place, name, calls, *arguments = sys.argv[1:]
holder = importlib.import_module(place)
real, left = getattr(holder, name), [int(calls)]
def killing(*given, **named):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given, **named)
setattr(holder, name, killing)
main(arguments)
"""
KILLS = {  # what is called, and when it is the last thing that happens
    "audio pretraining": ("lightavseg_core.run_folder", "append", 2),
    "a write of a checkpoint": ("lightavseg_core.run_folder", "save_file", 1),
    "before a checkpoint has its name": ("os", "replace", 2),
    "a validation": ("lightavseg_core.trainer", "evaluate", 1),
    "a write of a model": ("lightavseg_core.models.base", "whole", 2),
}


@pytest.fixture(scope="module")
def command_whole(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("command") / "run"
    with pytest.raises(SystemExit):
        main([*map(str, ("train", "--data", root, "--out", out, *TRAIN))])
    return left(out)


@pytest.mark.slow
def test_killed_in_one_place_after_the_other(root, tmp_path, capsys, command_whole):
    """And so on from where it was, until nothing kills it."""
    out, environment = tmp_path / "run", {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = ("--data", root, "--out", out, *TRAIN)
    for where in KILLS.values():
        words = [sys.executable, "-c", KILLED, *map(str, (*where, "train", *arguments))]
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
        if (out / "train.json").exists():
            arguments = ("--resume", out)
    assert run(capsys, "train", "--resume", out)[0] == 0
    assert left(out) == command_whole
    code, said, _ = run(capsys, "train", "--resume", out)
    assert (code, said) == (0, f"{out}: the training is finished; there is nothing to resume.\n")


@pytest.mark.slow
def test_the_command_goes_on_as_it_was_begun(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lightavseg_core.trainer.RunFolder", Asked)
    Asked.asks, Asked.by = ("step", 1), signal.SIGTERM
    monkeypatch.chdir(root.parent)
    out = tmp_path / "run"
    begin = ("train", "--data", root.name, "--out", out, *TRAIN, "--audio-weights", "joint")
    code, _, said = run(capsys, *begin)
    assert code == 128 + signal.SIGTERM and f"`lightavseg train --resume {out}` continues" in said
    code, _, said = run(capsys, *begin)
    assert code == 2 and f"if it was stopped, use --resume {out}." in said
    monkeypatch.chdir(tmp_path)
    code, _, said = run(capsys, "train", "--resume", out, "--epochs", 3, "--size", 32)
    assert (code, said) == (
        2,
        f"lightavseg: {out}: resumes with its own options; found --epochs 3, which was 2. Leave that out.\n",
    )
    assert run(capsys, "train", "--resume", out, "--workers", 1)[0] == 0
    code, _, said = run(capsys, "train", "--resume", tmp_path / "none")
    assert code == 2 and "is not a run of `lightavseg train`" in said
    code, _, said = run(capsys, "train")
    assert (code, said) == (2, "lightavseg: give --data and --out, or --resume RUN.\n")


INSTANTS = np.random.default_rng(0).uniform(0, 5, 12).round(2)  # seconds after it began to learn


def marked(k):
    return pytest.param(INSTANTS[k], marks=pytest.mark.slow if k < 2 else pytest.mark.long)


@pytest.mark.parametrize("instant", map(marked, range(len(INSTANTS))))
def test_killed_at_an_instant(root, tmp_path, capsys, command_whole, instant):
    """Whatever it does just then."""
    words = [sys.executable, "-m", "lightavseg_core.cli", "train", "--data", root, "--out", tmp_path / "run"]
    words = [*map(str, (*words, *TRAIN))]
    began = time.monotonic()
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        next(line for line in process.stderr if "audio pretraining" in line)
        time.sleep(instant)
        process.kill()
    events = []
    if (tmp_path / "run" / "log.jsonl").exists():
        log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
        events = [json.loads(line)["event"] for line in log[-1:]]
    print(f"killed after {time.monotonic() - began:.1f} s; the last entry: {events}")
    if (tmp_path / "run" / "train.json").exists():
        words = ["train", "--resume", tmp_path / "run"]
    else:
        words = words[3:]
    assert not run(capsys, *words)[0]
    assert left(tmp_path / "run") == command_whole

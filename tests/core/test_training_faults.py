"""What happens to a training that is not its fault: it says so in one line, and goes on to the same end."""

import os
import shutil
import signal
import subprocess
import time

import numpy as np
import psutil
import pytest
import torch
from helpers.command import run
from helpers.launched import start
from PIL import Image

from lightavseg_core import TrainConfig, Trainer, create_model, evaluate, list_methods
from lightavseg_core.data import AVSBench
from lightavseg_core.data.sounding_shapes import generate
from lightavseg_core.data.writing import write_sound

WHOLE = "checkpoints/[0-9]*.safetensors"  # one that is being written is hidden, which * finds too


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    counts = {"train": 8, "val": 2}
    return generate(tmp_path_factory.mktemp("mini"), "ms3", counts, size=32, seed=0, workers=1)


def options(root, out):
    given = ("--epochs", 3, "--batch-size", 2, "--audio-weights", "joint", "--validate-every", 1)
    return ("train", "--data", root, "--size", 32, "--out", out, *given)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 48 MB: a checkpoint of 31 MB and a model of 10 MB fit, and no second checkpoint."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "small", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_disk_fills(root, small_disk, tmp_path, capsys):
    """In the second epoch: the first one's checkpoint stays, and with more room it goes on."""
    assert run(capsys, *options(root, tmp_path / "whole"))[0] == 0
    out = small_disk / "run"
    code, _, error = run(capsys, *options(root, out))
    (line,) = [line for line in error.splitlines() if line.startswith("lightavseg: ")]
    assert code == 2 and line.endswith("No space left on device. Make room and try again.")
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["000001.safetensors"]
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    assert run(capsys, "train", "--resume", out)[0] == 0
    for name in ("best", "last"):
        wanted = (tmp_path / "whole" / name / "model.safetensors").read_bytes()
        assert (out / name / "model.safetensors").read_bytes() == wanted


@pytest.mark.slow
def test_a_process_that_loads_is_killed(root, tmp_path):
    """One line says so, without a traceback; a checkpoint is there to go on from."""
    out = tmp_path / "run"
    running = start(1, *options(root, out), "--epochs", 999, "--workers", 2)
    end = time.monotonic() + 60
    while not list(out.glob(WHOLE)):
        assert time.monotonic() < end and running.poll() is None
        time.sleep(0.05)
    children = psutil.Process(running.pid).children(recursive=True)
    loading = [p for p in children if "resource_tracker" not in " ".join(p.cmdline())]
    os.kill(loading[-1].pid, signal.SIGKILL)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 2 and "Traceback" not in error
    assert "lightavseg: a process that loads clips has ended" in error
    assert list(out.glob(WHOLE))


def test_a_process_is_killed_while_a_picture_is_read(root, tmp_path, monkeypatch):
    """torch raises its error out of a signal, in the middle of anything: no picture is blamed for it."""
    model = create_model("lightavseg", preset="tiny", size=32)
    train, validation = (AVSBench(root, "ms3", split, 32, model.front_end) for split in ("train", "val"))
    trainer = Trainer(model, TrainConfig(epochs=1, batch_size=2, audio_weights="joint"), tmp_path)

    def signalled(*_, **__):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr(Image, "open", signalled)
    with pytest.raises(ChildProcessError, match="a process that loads clips has ended"):
        trainer.fit(train, validation)


def test_a_folder_that_cannot_be_written(root, capsys):
    code, _, error = run(capsys, *options(root, "/proc/run"))
    assert code == 2 and len(error.splitlines()) == 1 and "/proc" in error


@pytest.fixture(scope="module")
def odd_sounds(root, tmp_path_factory):
    """Digital silence, a clipped sound, 20 seconds of one, and a single sample."""
    own = shutil.copytree(root, tmp_path_factory.mktemp("odd") / "data")
    sounds = {
        0: np.zeros(5 * 16_000),
        1: np.sign(np.sin(np.arange(5 * 16_000) / 7)),
        2: 0.5 * np.sin(np.arange(20 * 16_000) / 9),
        3: np.ones(1),
    }
    for split in ("train", "val"):
        data = AVSBench(own, "ms3", split)
        for k, samples in list(sounds.items())[: len(data)]:
            write_sound(data.clips[k].audio, samples, 16_000)
    return own


@pytest.mark.slow
@pytest.mark.parametrize("method", list_methods())
def test_odd_sounds(odd_sounds, tmp_path, method):
    """Every method learns from them and marks by them, without a number that is not finite."""
    torch.manual_seed(0)
    model = create_model(method, preset="tiny", size=64)
    how = (64, model.front_end)
    train, validation = (AVSBench(odd_sounds, "ms3", split, *how) for split in ("train", "val"))
    trainer = Trainer(model, TrainConfig(epochs=1, batch_size=4, half=0, audio_epochs=1), tmp_path)
    trainer.fit(train, validation)
    losses = [entry["loss"] for entry in trainer.log if "loss" in entry]
    assert losses and all(np.isfinite(losses))
    for sound in ("normal", "silent", "swapped", "noise", "noisy"):
        assert 0 <= evaluate(model, validation, sound)["M_J"] <= 1

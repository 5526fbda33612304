"""A disk that is full, whoever writes: one line and exit code 2, and what stood there before is whole.

`predict` is in tests/video, since it goes on where it stopped.
"""

import errno
import io
import json
import os
import sys
from contextlib import contextmanager

import pytest
import torch
from helpers.edge import noise
from helpers.tiny import create
from matplotlib.figure import Figure
from safetensors.torch import save_file

import lightavseg_core as lav
from lightavseg_core._common import files, records
from lightavseg_core.cli import COMMANDS, main, profile
from lightavseg_core.cli import compare as comparing
from lightavseg_core.data import AVSBench
from lightavseg_core.deploy import export
from lightavseg_core.encoders import download
from lightavseg_core.encoders.checkpoints import PUBLISHED
from lightavseg_core.inspection import scales
from lightavseg_core.plots.common import save
from lightavseg_core.profiling import benchmark

resource = pytest.importorskip("resource")
FULL = "File too large. Make room and try again."  # what the limit below is called


@contextmanager
def full_disk(most=100):
    """No file may grow over so many bytes: what is written beyond fails as on a full disk, C code's too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def everything(folder):
    return {str(path): path.is_file() and path.read_bytes() for path in sorted(folder.rglob("*"))}


WRITERS = {  # of the files that commands write: each is given a path
    "a record": ("a.json", lambda path: records.write(path, {"a": "x" * 1000})),
    "a bench": ("a.json", lambda path: benchmark.Bench(provenance={"a": "x" * 1000}).write(path)),
    "a picture": ("a.png", lambda path: save(Figure(), path, dpi=50)),
    "a drawing": ("a.svg", lambda path: save(Figure(), path)),
    "a page": ("a.pdf", lambda path: save(Figure(), path)),
    "weights": ("a.safetensors", lambda path: _within(path, save_file, {"w": torch.ones(999)})),
    "maps": ("a.npz", lambda path: scales.save_maps(path, scales.Maps([], torch.randn(1, 9, 64, 64)))),
    "a line of a log": ("log.jsonl", lambda path: files.append(path, "x" * 1000)),
}


def _within(path, write, content):
    with files.whole(path) as staging:
        write(content, staging)


@pytest.mark.parametrize("there", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_leaves_the_old_file(tmp_path, writer, there):
    name, write = WRITERS[writer]
    path = tmp_path / name
    if there:
        path.write_text("an old line\n")
    before = everything(tmp_path)
    with full_disk(), pytest.raises(OSError) as caught:
        write(path)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert files.told(caught.value) == f"{path}: {FULL}"
    left = {file: content for file, content in everything(tmp_path).items() if content != b""}
    assert left == before
    write(path)
    assert path.stat().st_size > 100


def test_a_line_is_added_whole(tmp_path):
    for line in ("a", "é\u2028"):
        files.append(tmp_path / "log", line)
    assert (tmp_path / "log").read_text() == "a\né\u2028\n"


@pytest.mark.parametrize("there", [False, True], ids=["new", "old"])
@pytest.mark.slow
def test_a_model_is_the_old_one(tmp_path, there):
    folder = tmp_path / "best"
    if there:
        create().save_pretrained(folder)
    before = everything(tmp_path)
    with full_disk(50_000), pytest.raises(OSError, match="File too large") as caught:
        create(width=16).save_pretrained(folder)
    assert caught.value.filename == str(folder) and everything(tmp_path) == before
    create(width=16).save_pretrained(folder)
    assert lav.load_model(folder).config.width == 16 and not list(folder.glob(".*"))


def told(capsys, *arguments):
    """The one line that a command ends in."""
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert end.value.code == 2 and "Traceback" not in captured.err, captured
    return lines[-1].rpartition("\r")[-1].removeprefix("lightavseg: ")


@pytest.mark.slow
def test_train(shapes, tmp_path, capsys, monkeypatch):
    """At its checkpoint; and at its very start, which leaves nothing."""
    model = create(size=64)
    monkeypatch.setattr(lav.models, "create_model", lambda *_, **__: model)
    train = ("train", "--data", shapes, "--epochs", 1, "--audio-weights", "joint", "--batch-size", 6)
    with full_disk(20_000):
        checkpoint = tmp_path / "run" / "checkpoints" / "000001.safetensors"
        assert told(capsys, *train, "--out", tmp_path / "run") == f"{checkpoint}: {FULL}"
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "log.jsonl").open()]
    assert events == ["audio", "step"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["log.jsonl", "train.json"]
    other = tmp_path / "other"
    with full_disk(100):
        assert told(capsys, *train, "--out", other) == f"{other / 'train.json'}: {FULL}"
    assert not other.exists()


@pytest.mark.slow
def test_an_earlier_run_outlives_one_that_cannot_begin(shapes, tmp_path):
    model = create()
    (tmp_path / "log.jsonl").write_text("{}\n")
    model.save_pretrained(tmp_path / "best")
    data = AVSBench(shapes, "ms3", "val", size=64, front_end=model.front_end)
    before = everything(tmp_path)
    with full_disk(), pytest.raises(OSError, match="train.json"):
        lav.Trainer(model, lav.TrainConfig(epochs=1, audio_weights="joint"), tmp_path).fit(data, data)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("most", [0, 3000])
def test_data_make(tmp_path, capsys, most):
    root = tmp_path / "data"
    make = ("data", "make", root, "--train", 1, "--val", 1, "--test", 1, "--size", 64)
    with full_disk(most):
        assert told(capsys, *make) == f"{root}: {FULL}"
    assert not root.exists()


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "executorch"])
@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"), RuntimeError("basic_ios::clear: iostream error")
], ids=["python", "c++"])
def test_export(tmp_path, monkeypatch, runtime, error):
    path = tmp_path / f"m{export.SUFFIX[runtime]}"
    path.write_text("old")

    def write(program, staged, *_):
        staged.write_text("half")
        raise error

    monkeypatch.setattr(export, "checked", lambda path, *_: path)
    monkeypatch.setattr(export, "edge_graph", lambda *_: None)
    monkeypatch.setitem(export.WRITERS, runtime, (write,))
    with pytest.raises(OSError) as caught:
        export.export(create(), path, runtime, noise(1))
    assert caught.value.filename == str(path) and "cannot take it" not in files.told(caught.value)
    assert everything(tmp_path) == {str(path): b"old"}


def test_profile(tmp_path, capsys, monkeypatch):
    """Its numbers and its picture."""
    monkeypatch.setattr("lightavseg_core.profiling.profiler.profile", lambda *_, **__: Fake())
    monkeypatch.setattr("lightavseg_core.profiling.profiler.lines", lambda _: ["x"])
    monkeypatch.setattr("lightavseg_core.plots.latency.bars", lambda _: Figure())
    for option, name in (("--out", "a.json"), ("--plot", "a.png")):
        path = tmp_path / name
        path.write_text("old")
        with full_disk():
            assert told(capsys, "profile", "--preset", "tiny", option, path) == f"{path}: {FULL}"
        assert path.read_text() == "old"


class Fake:
    def to_dict(self):
        return {"a": "x" * 1000}


@pytest.mark.parametrize("module,names", [(profile, ("Profile", "Bench")), (comparing, ("Compare",))])
def test_no_command_writes_over_a_picture(module, names):
    """All take the way that was tried above."""
    with open(module.__file__) as file:
        text = file.read()
    assert ".savefig" not in text and text.count("save(") == len(names)
    assert set(names) <= {command.__name__ for command in COMMANDS}


def test_download(tmp_path, monkeypatch):
    """The disk is not the network."""

    def fetch(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    path = tmp_path / "new" / PUBLISHED["vggish"].file
    with pytest.raises(OSError) as caught:
        download("vggish", path)
    assert files.told(caught.value) == f"{path}: No space left on device. Make room and try again."
    assert not isinstance(caught.value, ConnectionError) and not path.parent.exists()


COMMANDS_THAT_PRINT = {
    "a report": "data check {data} --subset ms3",
    "scores": "evaluate {model} --data {data} --json",
    "help": "--help",
}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", COMMANDS_THAT_PRINT)
@pytest.mark.parametrize("buffered", [True, False], ids=["buffered", "at once"])
@pytest.mark.slow
def test_standard_output(shapes, tmp_path, capsys, monkeypatch, command, buffered):
    """What cannot be printed is told at once, and not again when Python ends."""
    create().save_pretrained(tmp_path)
    arguments = COMMANDS_THAT_PRINT[command].format(data=shapes, model=tmp_path).split()
    with open("/dev/full", "wb", buffering=0) as device:
        out = io.TextIOWrapper(io.BufferedWriter(device), write_through=not buffered)
        monkeypatch.setattr(sys, "stdout", out)
        line = told(capsys, *arguments)
        out.flush()  # as Python does at its end
    assert line.endswith("No space left on device. Make room and try again.")
    assert line.startswith("standard output") or not buffered


def test_what_is_said_of_other_errors():
    """The system's own words, with the name that it gives; ours as they are."""
    denied = PermissionError(errno.EACCES, "Permission denied", "a.json")
    assert files.told(denied) == "a.json: Permission denied."
    assert files.told(OSError(errno.EIO, "Input/output error")) == "Input/output error."
    assert files.told(FileNotFoundError("a: no such folder. Make it.")) == "a: no such folder. Make it."

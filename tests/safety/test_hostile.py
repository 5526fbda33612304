"""Files that mean harm: nothing in one is ever run, and each is refused in one line, by the functions and by
the commands. What would fill the memory is in test_bombs."""

import argparse
import io
import json
import os
import pickle
import subprocess
import tarfile
import warnings
import zipfile
from collections import OrderedDict

import pytest
import torch
from helpers.child import Child
from helpers.hostile import CONFIG, OLD, ROOT, audio, model, refused, visual

import lightavseg_core as lav
from lightavseg_core.audio_pretraining import load_audio
from lightavseg_core.cli import main
from lightavseg_core.encoders.checkpoints import read_tensors
from lightavseg_core.profiling.profiler import resolve
from lightavseg_core.video.segmenter import load

pytestmark = pytest.mark.filterwarnings("ignore")


class Mkdir:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


class Shell(Mkdir):
    def __reduce__(self):
        return subprocess.check_call, (["mkdir", self.marker],)


class Network(torch.nn.Linear):
    """A whole module as `torch.save(model)` writes it, which carries something."""


def module(marker):
    network = Network(2, 2)
    network.hook = Mkdir(marker)
    return network


def pickled(protocol, payload=Mkdir):
    return lambda path, marker: path.write_bytes(pickle.dumps(payload(marker), protocol))


def saved(wrap, **options):
    return lambda path, marker: torch.save(wrap(marker), path, **options)


def old_tar(path, marker):
    """What PyTorch wrote before version 0.1.10."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            content = pickle.dumps(Mkdir(marker), 2)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def with_a_command_line(marker):
    return {"model": {"w": torch.ones(2)}, "args": argparse.Namespace(lr=1, x=Mkdir(marker))}


PAYLOADS = {  # what writes a file that makes the folder `marker` where it is unpickled
    **{f"pickle {protocol}": pickled(protocol) for protocol in range(6)},
    "shell": pickled(2, Shell),
    "zip": saved(Mkdir),
    "old format": saved(Mkdir, **OLD),
    "zip, protocol 5": saved(Mkdir, pickle_protocol=5),
    "tar": old_tar,
    "in a state dict": saved(lambda marker: {"state_dict": {"w": torch.ones(2), "x": Mkdir(marker)}}),
    "in an old state dict": saved(lambda marker: {"w": torch.ones(2), "x": [Shell(marker)]}, **OLD),
    "in a command line": saved(with_a_command_line),
    "a key": saved(lambda marker: {"w": torch.ones(2), (1, Mkdir(marker)): 1}),
    "module": saved(module),
    "old module": saved(module, **OLD),
}


def published(make, name):
    return lambda path: make(name).load_published(path)


READERS = {  # all that opens weights
    "read_tensors": read_tensors,
    **{f"{name}.load_published": published(visual, name) for name in ("seaformer_t", "resnet50")},
    **{f"{name}.load_published": published(audio, name) for name in ("vggish", "panns_mobilenetv2")},
    **{f"{name}.load_published": published(model, name) for name in ("avsbench", "avsegformer", "selm")},
    "load_audio": lambda path: load_audio(audio("mobilenetv2_050"), path),
    "load_audio of VGGish": lambda path: load_audio(audio("vggish"), path),
}
PYTORCHS_ADVICE = ("weights_only` set", "trusted source", "safe_globals", "still be loaded")


@pytest.fixture(scope="module")
def payloads(tmp_path_factory):
    """Files with code in them, and the folder that would tell."""
    folder = tmp_path_factory.mktemp("payloads")
    for name, write in PAYLOADS.items():
        write(folder / f"{name}.pth", folder / "marker")
    return folder


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_payloads_are_real(payloads, name):
    """Unpickled as Python or an older PyTorch would, each runs."""
    path, marker = payloads / f"{name}.pth", payloads / "marker"
    try:
        if name == "shell" or name.startswith("pickle"):
            pickle.loads(path.read_bytes())
        else:
            torch.load(path, weights_only=False)
    except Exception:
        pass  # what it gives is no checkpoint
    assert marker.is_dir()
    marker.rmdir()


@pytest.mark.parametrize("reader", READERS)
def test_code_in_weights_is_not_run(payloads, reader):
    for name in PAYLOADS:
        with warnings.catch_warnings(action="error"):
            said = refused(READERS[reader], payloads / f"{name}.pth", "Nothing in it was run")
        assert not any(word in said for word in PYTORCHS_ADVICE), said
    assert not (payloads / "marker").exists()


def test_programs_of_torchscript_are_not_run(tmp_path):
    class Adder(torch.nn.Module):
        def forward(self, x):
            return x + 1

    script, plain = tmp_path / "script.pth", tmp_path / "stored.pth"
    torch.jit.script(Adder()).save(script)
    refused(read_tensors, script, "compressed")
    with zipfile.ZipFile(script) as archive, zipfile.ZipFile(plain, "w") as stored:
        for entry in archive.infolist():
            stored.writestr(entry.filename, archive.read(entry))
    assert torch.jit.load(plain)(torch.ones(())) == 2
    refused(read_tensors, plain, "TorchScript")


NAMES = ("pytorch_model.bin", "model.pt", "model.pkl", "model.safetensors")


@pytest.mark.slow
def test_no_pickle_is_a_models_weights(payloads, tmp_path):
    """A folder with other files than model.safetensors has none, and a pickle of that name is none."""
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(CONFIG))
        (folder / name).write_bytes((payloads / "pickle 2.pth").read_bytes())
        for call in (lav.load_model, load, resolve):
            said = refused(lambda folder, call=call: call(str(folder)), folder, "model.safetensors")
            assert ("not a checkpoint" if name == "model.safetensors" else "missing. A model") in said
        refused(lambda folder: load_audio(audio("mobilenetv2_050"), folder), folder, "model.safetensors")
        for call in (lav.load_model, load, lambda path: resolve(str(path))):
            refused(call, folder / name)
    assert not (payloads / "marker").exists()


def commands(path, folder, data):
    """Every command that opens weights, with a file and with a folder that holds it under all names."""
    out = ("--out", folder / "out")
    train = ("train", "--data", data, "--subset", "ms3", "--preset", "tiny", "--epochs", 1, *out)
    yield (*train, "--visual-weights", path)
    yield (*train, "--audio-weights", path)
    yield (*train, "--audio-weights", folder)
    for checkpoint in (path, folder):
        yield ("predict", checkpoint, data / "clip.mp4", *out)
        yield ("evaluate", checkpoint, "--data", data)
        yield ("profile", checkpoint, "--preset", "tiny", "--size", 64)
        yield ("export", checkpoint, "--runtime", "onnx", "--data", data)


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("zip", "pickle 4", "module")]


@pytest.mark.parametrize("name", ["in an old state dict", *LONG])
@pytest.mark.slow
def test_no_command_runs_code(payloads, shapes, tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for other in NAMES:
        (tmp_path / other).write_bytes((payloads / f"{name}.pth").read_bytes())
    with Child() as child:
        for command in commands(payloads / f"{name}.pth", tmp_path, shapes):
            outcome = child.run(*command)
            assert outcome.code == 2 and not outcome.out, (command, outcome)
            (line,) = outcome.err.splitlines()
            assert line.startswith("lightavseg: ") and line.isprintable(), (command, outcome)
            assert not (payloads / "marker").exists() and not (tmp_path / "out" / "best").exists(), outcome


def test_a_files_name_is_one_line_without_codes(tmp_path, capsys):
    """What would clear the screen, or look like another message, is told as Python writes it."""
    path = tmp_path / "a\nlightavseg: all is well\x1b[2J.mp4"
    path.write_bytes(b"no film")
    predict = ("predict", ROOT / "checkpoints/tiny", path, "--out", tmp_path / "out")
    for command in (predict, ("evaluate", path, "--data", tmp_path)):
        with pytest.raises(SystemExit) as exit:
            main([*map(str, command)])
        (said,) = capsys.readouterr().err.splitlines()
        assert exit.value.code and said.isprintable() and said.startswith("lightavseg: ")
        assert r"a\nlightavseg: all is well\x1b[2J.mp4" in said


class Hijacked:
    """A dictionary whose pickled attributes take the place of its methods."""

    def __reduce__(self):
        return OrderedDict, ([["w", torch.ones(2)]],), {"items": 3, "get": "x", "keys": None}


ODD = {  # what is no plain tensor
    "sparse": lambda: {"w": torch.eye(3).to_sparse()},
    "compressed": lambda: {"w": torch.eye(3).to_sparse_csr()},
    "meta": lambda: {"w": torch.ones(2, device="meta")},
    "complex": lambda: {"w": torch.ones(2, dtype=torch.complex64)},
    "quantized": lambda: {"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)},
    "nested": lambda: {"w": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])},
    "escape codes": lambda: {"\x1b[2J\n": torch.ones(2)},
    "a long name": lambda: {"w" * 9999: torch.ones(2)},
    "hijacked": Hijacked,
    "no names": lambda: {1: torch.ones(2), (2, "\n"): 3},
    "a number": lambda: 3,
    "keys with line breaks": lambda: {"a\nb": 1},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_tensors(tmp_path, name):
    path = tmp_path / "odd.pth"
    torch.save(ODD[name](), path)
    refused(visual("seaformer_t").load_published, path)
    refused(read_tensors, path, "not a checkpoint of plain tensors")

"""Files from outside: a broken or foreign one is one clear error, and none takes the process with it."""

import json
import pickle
import random
import shutil
import subprocess
import sys

import pytest
import torch
from helpers import unmappable
from helpers.edge import RUNTIMES, exported, long, noise, shaken

from lightavseg_core.deploy import export as writing
from lightavseg_core.deploy import runtimes
from lightavseg_core.deploy.export import checked, export
from lightavseg_core.deploy.runtimes import KEY, SUFFIX, Metadata, load, runtime_of
from lightavseg_core.profiling.profiler import resolve
from lightavseg_core.video import segmenter

LOAD_ALL = """
import pathlib, sys
from lightavseg_core.deploy.runtimes import load
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    if path.suffix in ('.onnx', '.xml', '.pte'):
        try: load(path, 1); print(path.name, 'LOADED')
        except ValueError as error: print(error)
"""


def refused(folder, count):
    """What `load` says of each file in a folder, in a process of its own.

    It must say ValueError, and the process must live on.
    """
    command = [sys.executable, "-c", LOAD_ALL, folder]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-500:])
    assert len(lines) == count, lines
    assert all(line.startswith(str(folder)) and len(line) < 500 for line in lines), lines


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.mark.slow
def test_what_is_no_model(tmp_path):
    files = {
        "noise": random.Random(0).randbytes(50_000),
        "empty": b"",
        "zeros": bytes(5000),
        "text": b"not a model\n" * 9,
        "pickled": pickle.dumps(Bomb(tmp_path / "exploded")),
        "named": b"\x10\0\0\0ET12" + bytes(5000),
        "headed": b"\x40\0\0\0ET12eh00" + random.Random(1).randbytes(5000),
        "tree": b"<?xml version='1.0'?><net><layers/></net>",
    }
    folder = tmp_path / "given"
    folder.mkdir()
    for name, content in files.items():
        for suffix in SUFFIX.values():
            (folder / f"{name}{suffix}").write_bytes(content)
    torch.save({"w": torch.ones(2)}, folder / "saved.onnx")
    refused(folder, 3 * len(files) + 1)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["executorch", *long("onnx", "openvino")])
def test_what_was_cut_short(base, tmp_path, runtime):
    path = exported(base, runtime)
    weights = path.with_suffix(".bin") if runtime == "openvino" else path
    whole = weights.read_bytes()
    lengths = (0, 7, 11, 39, 300, 4096, len(whole) // 2, -4096, -1)
    for k, length in enumerate(lengths):
        (tmp_path / f"{k}{weights.suffix}").write_bytes(whole[:length])
        if runtime == "openvino":
            shutil.copy(path, tmp_path / f"{k}.xml")
    count = len(lengths)
    if runtime == "openvino":
        text, count = path.read_bytes(), count + 4
        for k, length in enumerate((100, len(text) // 2, len(text) - 20)):
            (tmp_path / f"text{k}.xml").write_bytes(text[:length])
            shutil.copy(weights, tmp_path / f"text{k}.bin")
        shutil.copy(path, tmp_path / "alone.xml")
    refused(tmp_path, count)


META = {
    "method": "lightavseg",
    "runtime": "onnx",
    "precision": "fp32",
    "size": [32, 32],
    "seconds": 1,
    "log_mel": [96, 64],
    "front_end": "mobilenetv2_050",
    "num_classes": 1,
    "source": "here",
    "made": {},
}


def onnx_model(*initializers, before=(), **properties):
    """Frames + w, of nodes `before` it or of initializers: the bytes of its file."""
    import onnx
    from onnx import helper

    frames, log_mel, y = (helper.make_tensor_value_info(name, 1, [1]) for name in ("frames", "log_mel", "y"))
    nodes = [*before, helper.make_node("Add", ["frames", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [frames, log_mel], [y], list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, properties)
    return model.SerializeToString()


@pytest.mark.parametrize("place", ["initializer", "attribute", "branch"])
def test_numbers_in_another_file_are_never_read(tmp_path, monkeypatch, place):
    import onnx
    from onnx import helper

    folder = tmp_path / "given"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for file in (tmp_path / "secret", folder / "beside"):
        file.write_bytes(b"\0\0\x80?")
    path, said = folder / "m.onnx", {KEY: json.dumps(META)}
    for location in ("../secret", str(tmp_path / "secret"), "beside"):
        tensor = helper.make_tensor("w", 1, [1], [1.0])
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        constant = helper.make_node("Constant", [], ["w"], value=tensor)
        if place == "initializer":
            content = onnx_model(tensor, **said)
        elif place == "attribute":
            content = onnx_model(before=[constant], **said)
        else:
            graph = helper.make_graph([constant], "b", [], [helper.make_tensor_value_info("w", 1, [1])])
            branches = helper.make_node("If", ["true"], ["w"], then_branch=graph, else_branch=graph)
            content = onnx_model(helper.make_tensor("true", 9, [], [True]), before=[branches], **said)
        path.write_bytes(content)
        with pytest.raises(ValueError, match="m.onnx: onnx cannot load it .it keeps weights in another file"):
            load(path)


NOT_OURS = "its metadata is not what"
OTHERS = {
    "two sides": ({"size": [32]}, NOT_OURS),
    "three": ({"log_mel": [96, 64, 1]}, NOT_OURS),
    "no number": ({"size": ["a", 1]}, NOT_OURS),
    "no size": ({"size": None}, NOT_OURS),
    "text": ({"seconds": "1"}, NOT_OURS),
    "zero": ({"seconds": 0}, NOT_OURS),
    "many": ({"num_classes": 10**6}, NOT_OURS),
    "large": ({"size": [4096, 4096], "seconds": 4096}, NOT_OURS),
    "half": ({"num_classes": 1.5}, NOT_OURS),
    "no name": ({"front_end": 3}, NOT_OURS),
    "more": ({"more": 1}, NOT_OURS),
    "runtime": ({"runtime": "openvino"}, "metadata says openvino, its name onnx"),
}


def test_another_ones_model(tmp_path):
    from onnx import helper

    weight = helper.make_tensor("w", 1, [1], [1.0])
    path = tmp_path / "m.onnx"

    def refuses(words, **properties):
        path.write_bytes(onnx_model(weight, **properties))
        with pytest.raises(ValueError, match=words):
            load(path)

    refuses("has no metadata of `lightavseg export`", other="x")
    refuses("has no metadata of `lightavseg export`", **{KEY: ""})
    for values, words in OTHERS.values():
        refuses(words, **{KEY: json.dumps({**META, **values})})
    for text in ("{", "[]", "3", "null", "{}", "[" * 100_000):
        refuses(NOT_OURS, **{KEY: text})
    # Our words on another graph: it loads, and cannot run.
    path.write_bytes(onnx_model(weight, **{KEY: json.dumps(META)}))
    with pytest.raises(ValueError, match="m.onnx: onnx cannot run it"):
        load(path)(torch.zeros(1, 1, 3, 32, 32), torch.zeros(1, 1, 1, 96, 64))


@pytest.mark.parametrize("runtime", ["openvino", "executorch"])
@pytest.mark.slow
def test_a_models_name_is_another_formats(tmp_path, runtime):
    """OpenVINO would read an ONNX of any name, and what that reaches for."""
    path = tmp_path / f"m{SUFFIX[runtime]}"
    path.write_bytes(onnx_model(**{KEY: json.dumps(META)}))
    with pytest.raises(ValueError, match="cannot load it"):
        load(path)


SCRIPT = """
import sys, torch
from lightavseg_core.deploy.runtimes import load
given = torch.load(sys.argv[1], weights_only=True)
files = [load(path, 1) for path in sys.argv[2:]]
filled = [bytes(20_000_000) for _ in range(3)]  # whose room was free again is taken
torch.save([file(*given) for file in files], sys.argv[1] + ".out")
"""


@pytest.mark.slow
def test_a_disk_that_cannot_be_mapped(base, tmp_path):
    """The file is read instead, and what was read stays as long as the model may run."""
    folder, given = tmp_path / "disk", (torch.randn(1, 2, 3, 128, 128), torch.randn(1, 2, 1, 96, 64))
    folder.mkdir()
    paths = [exported(base, runtime) for runtime in RUNTIMES]
    for file in (*paths, exported(base, "openvino").with_suffix(".bin")):
        shutil.copy(file, folder)
    torch.save(given, tmp_path / "given")
    unmappable.run(folder, SCRIPT, tmp_path / "given", *(folder / path.name for path in paths))
    for path, found in zip(paths, torch.load(tmp_path / "given.out"), strict=True):
        torch.testing.assert_close(found, load(path, 1)(*given), rtol=0, atol=0)


# --- suffixes in upper case, as some systems write them ---


@pytest.mark.parametrize("name", ["m.ONNX", "m.Onnx", "m.XML", "m.PTE"])
def test_a_suffix_in_another_case(tmp_path, monkeypatch, name):
    for module in (runtimes, writing):  # no runtime is imported, which takes its time
        monkeypatch.setattr(module, "need", lambda runtime, *modules: [None] * len(modules))
    path = tmp_path / name
    runtime = {".onnx": "onnx", ".xml": "openvino", ".pte": "executorch"}[path.suffix.lower()]
    assert runtime_of(path) == runtime
    assert checked(path, runtime, "fp32") == path
    path.write_bytes(b"not a model")
    for call in (load, segmenter.load, lambda path: resolve(str(path))):
        with pytest.raises(ValueError, match=f"{name}: {runtime} cannot load it"):
            call(path)


def test_an_onnx_of_that_name_runs(tmp_path):
    from onnx import helper

    path = tmp_path / "m.ONNX"
    path.write_bytes(onnx_model(helper.make_tensor("w", 1, [1], [1.0]), **{KEY: json.dumps(META)}))
    for found in (load(path).metadata, segmenter.load(path).run.metadata):
        assert (found.runtime, found.size) == ("onnx", (32, 32))


@pytest.mark.slow
def test_an_openvino_of_that_name_runs(base, tmp_path):
    """Its numbers lie beside it under their usual name; another one it would not find."""
    path, given = exported(base, "openvino"), (torch.randn(1, 2, 3, 128, 128), torch.randn(1, 2, 1, 96, 64))
    shutil.copy(path, tmp_path / "m.XML")
    shutil.copy(path.with_suffix(".bin"), tmp_path / "m.bin")
    torch.testing.assert_close(load(tmp_path / "m.XML", 1)(*given), load(path, 1)(*given), rtol=0, atol=0)
    (tmp_path / "m.bin").rename(tmp_path / "m.BIN")
    with pytest.raises(ValueError, match="its weights are named m.BIN; rename them to m.bin"):
        load(tmp_path / "m.XML")


@pytest.mark.parametrize("name", ["m.ONNX", "m.XML", "m.PTE"])
def test_an_export_of_that_name(tmp_path, monkeypatch, name):
    """The runtimes' own writers want the usual suffix."""

    def write(program, staged, *_):
        assert staged.suffix == SUFFIX[runtime]
        for file in (staged, staged.with_suffix(".bin")):
            file.write_text(file.suffix)

    runtime = runtimes.runtime_of(tmp_path / name)
    monkeypatch.setitem(writing.WRITERS, runtime, (write,))
    monkeypatch.setattr(writing, "edge_graph", lambda *_: None)
    monkeypatch.setattr(writing, "load", lambda path: path)
    monkeypatch.setattr(writing, "compare", lambda *_: writing.Agreement(0, 1))
    export(shaken(), tmp_path / name, runtime, noise(1))
    made = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert made == {name: SUFFIX[runtime], "m.bin": ".bin"}


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="m.pte: no such file. Make it with `lightavseg export`"):
        load(tmp_path / "m.pte")
    (tmp_path / "m.xml").mkdir()
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "m.xml")
    with pytest.raises(ValueError, match="m.pt: expected an exported model, ending in .pte, .onnx, .xml"):
        load(tmp_path / "m.pt")


@pytest.mark.parametrize(
    "runtime, module",
    [
        ("onnx", "onnxruntime"),
        ("openvino", "openvino"),
        ("executorch", "executorch.extension.pybindings.portable_lib"),
    ],
)
def test_without_the_extra(tmp_path, monkeypatch, runtime, module):
    path = tmp_path / f"m{SUFFIX[runtime]}"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    said = rf"runtime '{runtime}' needs {module}, which is not installed: run `pip install -e '.\[edge\]'`"
    with pytest.raises(ValueError, match=said):
        load(path)


def test_metadata_come_back_as_they_were(tmp_path):
    front_end, made = "panns_mobilenetv2", {"seed": 0}
    meta = Metadata("selm", "executorch", "int8", (64, 96), 3, (101, 64), front_end, 5, "runs/é", made)
    assert Metadata.from_json(meta.to_json(), tmp_path) == meta


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_metadata_of_a_file(base, runtime):
    meta = load(exported(base, runtime)).metadata
    assert (meta.method, meta.runtime, meta.precision) == ("lightavseg", runtime, "fp32")
    assert (meta.size, meta.seconds, meta.log_mel) == ((128, 128), 2, (96, 64))
    assert (meta.front_end, meta.num_classes, meta.source) == ("mobilenetv2_050", 1, "tiny")
    assert meta.made["command"] == "as a test" and {"commit", "date", "machine"} < set(meta.made)
    versions = meta.made["versions"]
    assert torch.__version__.startswith(versions["torch"]) and versions["executorch"]


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_other_shapes_are_refused(base, runtime):
    file = load(exported(base, runtime))
    frames, log_mel = torch.zeros(1, 2, 3, 128, 128), torch.zeros(1, 2, 1, 96, 64)
    strided = log_mel.transpose(3, 4).contiguous().transpose(3, 4)
    assert file(frames.double(), strided).dtype == torch.float32
    short = r"frames has shape \(1, 1, 3, 128, 128\); tiny_fp32.* takes only \(1, 2, 3, 128, 128\)"
    wrong = {
        "short": (frames[:, :1], log_mel[:, :1], short),
        "narrow": (frames[..., :96], log_mel, "frames has shape"),
        "two clips": (frames.repeat(2, 1, 1, 1, 1), log_mel, "frames has shape"),
        "no batch": (frames[0], log_mel, "frames has shape"),
        "low": (frames, log_mel[..., :32], r"log_mel has shape \(1, 2, 1, 96, 32\)"),
    }
    for *given, words in wrong.values():
        with pytest.raises(ValueError, match=words):
            file(*given)

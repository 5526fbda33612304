"""Files from outside: a broken or foreign one is one clear error, whatever is in it; and none takes the process with it."""

import json
import pickle
import random
import shutil
import subprocess
import sys

import pytest
import torch
from helpers.edge import exported, folder

from lightavseg_core.deploy.runtimes import KEY, SUFFIX, Metadata, load

RUNTIMES = ["onnx", "openvino", "executorch"]


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return folder(tmp_path_factory)


def refused(folder, count, timeout=300):
    """What `load` says of each file in a folder, in a process of its own; it must say ValueError, and the process must live on."""
    script = ("import pathlib, sys; from lightavseg_core.deploy.runtimes import load\n"
              "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
              "    if path.suffix in ('.onnx', '.xml', '.pte'):\n"
              "        try: load(path, 1); print(path.name, 'LOADED')\n"
              "        except ValueError as error: print(error)")
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, errors="replace", timeout=timeout)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-500:])
    assert len(lines) == count and all(line.startswith(str(folder)) and len(line) < 500 for line in lines), lines
    return lines


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def test_what_is_no_model(tmp_path):
    files = {"noise": random.Random(0).randbytes(50_000), "empty": b"", "zeros": bytes(5000), "text": b"not a model\n" * 9,
             "pickled": pickle.dumps(Bomb(tmp_path / "exploded")), "named": b"\x10\0\0\0ET12" + bytes(5000),
             "headed": b"\x40\0\0\0ET12eh00" + random.Random(1).randbytes(5000), "tree": b"<?xml version='1.0'?><net><layers/></net>"}
    (tmp_path / "given").mkdir()
    for name, content in files.items():
        for suffix in SUFFIX.values():
            (tmp_path / "given" / f"{name}{suffix}").write_bytes(content)
    torch.save({"w": torch.ones(2)}, tmp_path / "given" / "saved.onnx")
    refused(tmp_path / "given", 3 * len(files) + 1)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["executorch", *(pytest.param(name, marks=pytest.mark.long) for name in ("onnx", "openvino"))])
def test_what_was_cut_short(base, tmp_path, runtime):
    path = exported(base, runtime)
    weights = path.with_suffix(".bin") if runtime == "openvino" else path
    whole, parts = weights.read_bytes(), (0, 7, 11, 39, 300, 4096, 0.5, -4096, -1)
    for k, part in enumerate(parts):
        (tmp_path / f"{k}{weights.suffix}").write_bytes(whole[:int(part * len(whole)) if isinstance(part, float) else part])
        if runtime == "openvino":
            shutil.copy(path, tmp_path / f"{k}.xml")
    count = len(parts)
    if runtime == "openvino":
        text, count = path.read_bytes(), count + 4
        for k, part in enumerate((100, len(text) // 2, len(text) - 20)):
            (tmp_path / f"text{k}.xml").write_bytes(text[:part])
            shutil.copy(weights, tmp_path / f"text{k}.bin")
        shutil.copy(path, tmp_path / "alone.xml")
    refused(tmp_path, count)


def onnx_model(*initializers, nodes=None, **properties):
    import onnx
    from onnx import helper
    value = helper.make_tensor_value_info
    nodes = nodes or [helper.make_node("Add", ["frames", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("frames", 1, [1]), value("log_mel", 1, [1])], [value("y", 1, [1])], list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, properties)
    return model


META = {"method": "lightavseg", "runtime": "onnx", "precision": "fp32", "size": [32, 32], "seconds": 1, "log_mel": [96, 64],
        "front_end": "mobilenetv2_050", "num_classes": 1, "source": "here", "made": {}}


@pytest.mark.parametrize("place", ["initializer", "attribute", "branch"])
def test_numbers_in_another_file_are_never_read(tmp_path, monkeypatch, place):
    import onnx
    from onnx import helper
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0\0\x80?")
    (tmp_path / "given").mkdir()
    monkeypatch.chdir(tmp_path / "given")
    for location in ("../secret", str(secret), "beside"):
        (tmp_path / "given" / "beside").write_bytes(b"\0\0\x80?")
        tensor = helper.make_tensor("w", 1, [1], [1.0])
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        constant = helper.make_node("Constant", [], ["w"], value=tensor)
        add = helper.make_node("Add", ["frames", "w"], ["y"])
        if place == "branch":
            graph = helper.make_graph([constant], "b", [], [helper.make_tensor_value_info("w", 1, [1])])
            true = helper.make_tensor("true", 9, [], [True])
            constant = helper.make_node("If", ["true"], ["w"], then_branch=graph, else_branch=graph)
            model = onnx_model(true, nodes=[constant, add], **{KEY: json.dumps(META)})
        else:
            model = onnx_model(*[tensor] * (place == "initializer"), nodes=[constant, add][place == "initializer":], **{KEY: json.dumps(META)})
        path = tmp_path / "given" / "m.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match="m.onnx: onnx cannot load it .it keeps numbers in another file"):
            load(path)


def test_another_ones_model(tmp_path):
    from onnx import helper
    weight = helper.make_tensor("w", 1, [1], [1.0])
    path = tmp_path / "m.onnx"
    changed = lambda **values: onnx_model(weight, **{KEY: json.dumps({**META, **values})})           # noqa: E731
    cases = {"has no metadata of ours": onnx_model(weight, other="x"), "metadata says openvino, its name onnx": changed(runtime="openvino")}
    for words, model in cases.items():
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match=words):
            load(path)
    broken = [{"size": [32]}, {"size": ["a", 1]}, {"size": None}, {"seconds": "1"}, {"seconds": 0}, {"num_classes": 1.5}, {"front_end": 3},
              {"more": 1}]
    for values in broken:
        path.write_bytes(changed(**values).SerializeToString())
        with pytest.raises(ValueError, match="its metadata is not what"):
            load(path)
    for text in ("", "{", "[]", "3", "null", "{}"):
        with pytest.raises(ValueError, match="its metadata is not what|has no metadata of ours"):
            path.write_bytes(onnx_model(weight, **{KEY: text}).SerializeToString())
            load(path)
    path.write_bytes(changed().SerializeToString())                 # our words on another graph: it loads, and cannot run
    with pytest.raises(ValueError, match="m.onnx: onnx cannot run it"):
        load(path)(torch.zeros(1, 1, 3, 32, 32), torch.zeros(1, 1, 1, 96, 64))


@pytest.mark.parametrize("runtime", ["openvino", "executorch"])
def test_a_models_name_is_another_formats(tmp_path, runtime):
    """OpenVINO would read an ONNX of any name, and what that reaches for."""
    path = tmp_path / f"m{SUFFIX[runtime]}"
    path.write_bytes(onnx_model(nodes=None, **{KEY: json.dumps(META)}).SerializeToString())
    with pytest.raises(ValueError, match="cannot load it"):
        load(path)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="m.pte: no such file. Make it with `lightavseg export`"):
        load(tmp_path / "m.pte")
    (tmp_path / "m.xml").mkdir()
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "m.xml")
    with pytest.raises(ValueError, match="m.pt: expected an exported model, which ends in .pte, .onnx, .xml"):
        load(tmp_path / "m.pt")


@pytest.mark.parametrize("runtime, module", [("onnx", "onnxruntime"), ("openvino", "openvino"),
                                             ("executorch", "executorch.extension.pybindings.portable_lib")])
def test_without_the_extra(tmp_path, monkeypatch, runtime, module):
    path = tmp_path / f"m{SUFFIX[runtime]}"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"runtime '{runtime}' needs {module}, which is not installed: `pip install -e '.\[edge\]'`"):
        load(path)


def test_metadata_come_back_as_they_were(tmp_path):
    meta = Metadata("selm", "executorch", "int8", (64, 96), 3, (101, 64), "panns_mobilenetv2", 5, "runs/é", {"seed": 0})
    assert Metadata.from_json(meta.to_json(), tmp_path) == meta


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_metadata_of_a_file(base, runtime):
    meta = load(exported(base, runtime)).metadata
    assert (meta.method, meta.runtime, meta.precision, meta.size, meta.seconds) == ("lightavseg", runtime, "fp32", (128, 128), 2)
    assert (meta.log_mel, meta.front_end, meta.num_classes, meta.source) == ((96, 64), "mobilenetv2_050", 1, "tiny")
    assert meta.made["command"] == "as a test" and {"commit", "date", "machine"} < set(meta.made)
    assert torch.__version__.startswith(meta.made["versions"]["torch"]) and meta.made["versions"]["executorch"]


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_other_shapes_are_refused(base, runtime):
    file = load(exported(base, runtime))
    frames, log_mel = torch.zeros(1, 2, 3, 128, 128), torch.zeros(1, 2, 1, 96, 64)
    assert file(frames.double(), log_mel.transpose(3, 4).contiguous().transpose(3, 4)).dtype == torch.float32
    short = r"frames has shape \(1, 1, 3, 128, 128\); tiny_fp32.* takes \(1, 2, 3, 128, 128\) and no other"
    for given, words in (((frames[:, :1], log_mel[:, :1]), short),
                         ((frames[..., :96], log_mel), "frames has shape"), ((frames.repeat(2, 1, 1, 1, 1), log_mel), "frames has shape"),
                         ((frames, log_mel[..., :32]), r"log_mel has shape \(1, 2, 1, 96, 32\)"), ((frames[0], log_mel), "frames has shape")):
        with pytest.raises(ValueError, match=words):
            file(*given)

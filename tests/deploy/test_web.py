"""The live page's form of a model: what it shows is what PyTorch computes, in whichever bits it is stored."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.command import run
from helpers.edge import TINY, noise, shaken
from helpers.tiny import inputs
from torch.testing import assert_close

import lightavseg_core as lav
from lightavseg_core.data.audio import FrontEnd
from lightavseg_core.deploy import web
from lightavseg_core.deploy.runtimes import load
from lightavseg_core.models.base import Output


def clips(count=2):
    return [(frames[:1, :1], log_mel[:1, :1]) for frames, log_mel in noise(count)]


@pytest.fixture(scope="module")
def traced():
    """A model of which every part has its effect."""
    return web.Traced(shaken(), clips(), "shaken", "as a test")


@pytest.mark.slow
def test_it_shows_what_pytorch_computes(traced, tmp_path):
    """The logits, each scale's map, each step's state and gate; nothing of this machine's folders."""
    path = tmp_path / "page.onnx"
    agreement = traced.write(path)
    assert agreement.precision == "fp32" and agreement.iou > 0.999 and agreement.deviation < 1e-4
    frames, log_mel = clips(3)[2]
    session = onnxruntime.InferenceSession(path)
    names = [given.name for given in session.get_outputs()]
    found = dict(zip(names, session.run(None, {"frames": frames.numpy(), "log_mel": log_mel.numpy()})))
    with torch.inference_mode():
        expected, steps = web.inside(traced.model, frames, log_mel)
        scales = traced.model(frames, log_mel, return_scales=True).scales
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert_close(torch.from_numpy(found[name]), value, atol=2e-4, rtol=2e-4)
    n = len(scales)
    assert steps == [*(f"A{i + 1}" for i in range(n)), *(f"Â{i + 1}" for i in reversed(range(n)))]
    for k, scale in enumerate(scales):  # the decoder's states follow the encoder's
        assert_close(torch.from_numpy(found[f"state_{n + k}"]), scale.audio[0, 0], atol=2e-4, rtol=2e-4)
        assert 0 <= found[f"gate_{n + k}"].min() and found[f"gate_{n + k}"].max() <= 1
        supervised = torch.sigmoid(scale.similarity[0, 0] / 0.1)  # tau of L_msa
        assert_close(torch.from_numpy(found[f"map_{k}"]), supervised, atol=2e-4, rtol=2e-4)
    assert load(path).metadata.runtime == "onnx", "so predict takes it too"
    assert b"site-packages" not in path.read_bytes() and b"lightavseg_core/models" not in path.read_bytes()


@pytest.mark.slow
def test_nodes_say_which_part_they_belong_to(traced):
    parts = {node.name.split("/")[0] for node in traced.graph.graph.node}
    assert parts == {"audio", "visual", "fusion", "decoder"}
    pools = [node.name for node in traced.graph.graph.node if node.op_type == "MaxPool"]
    stages = len(traced.model.rave)
    assert [name.split("/")[0] for name in pools].count("fusion") == 2 * stages, "each gate looks once"


@pytest.mark.slow
@pytest.mark.parametrize("form, share, most", [("int8", 0.9, 0.2), ("int16", 0.6, 1e-3)])
def test_fewer_bits_make_a_smaller_file(traced, tmp_path, monkeypatch, form, share, most):
    """The first form that agrees is taken; the arithmetic stays float32."""
    monkeypatch.setattr(web, "AGREES", -1)
    monkeypatch.setattr(web, "FORMS", {form: web.FORMS[form]})
    monkeypatch.setitem(web.FORMS, form, 3_000 if form == "int8" else web.FORMS[form])
    agreement = traced.write(tmp_path / "small.onnx", "smallest")
    assert agreement.precision == form == load(tmp_path / "small.onnx").metadata.precision
    assert 0 < agreement.deviation < most
    graph = onnx.load(tmp_path / "small.onnx").graph
    types = {tensor.data_type for tensor in graph.initializer if tensor.name.endswith("_integer")}
    assert types == {onnx.TensorProto.INT16, *([onnx.TensorProto.INT8] if form == "int8" else [])}
    assert all(given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for given in graph.output)
    traced.write(tmp_path / "whole.onnx")
    small, whole = ((tmp_path / f"{name}.onnx").stat().st_size for name in ("small", "whole"))
    assert small < share * whole


@pytest.mark.slow
def test_where_fewer_bits_change_masks_more_are_kept(traced, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "lowest_iou", lambda model, file, clips: 0.5)
    assert traced.write(tmp_path / "page.onnx", "smallest").precision == "fp32"


def test_masks_that_are_all_empty_say_nothing(monkeypatch):
    dark, frame = torch.full((1, 1, 8, 8), -1.0), clips(1)
    model = shaken()
    monkeypatch.setattr(model, "forward", lambda *_: Output(dark[None], None))
    assert np.isnan(web.lowest_iou(model, lambda *_: dark[None], frame))
    assert web.lowest_iou(model, lambda *_: -dark[None], frame) == 0


@pytest.mark.slow
def test_the_command_writes_it(capsys, tmp_path, shapes):
    out = tmp_path / "page.onnx"
    options = ["--runtime", "web", "--precision", "smallest", "--data", shapes, "--size", 32, "--clips", 2]
    code, text, _ = run(capsys, "export", TINY, *options, "--out", out)
    assert code == 0 and f"{out}: " in text and "weights in " in text
    page = json.loads({entry.key: entry.value for entry in onnx.load(out).metadata_props}[web.PAGE])
    assert page["shape"] == [96, 64] and page["parameters"] == 2_572_737 and len(page["steps"]) == 10


@pytest.mark.slow
def test_what_cannot_be_written_is_told_before(tmp_path, capsys):
    class Own(FrontEnd):
        pass

    model = shaken()
    with pytest.raises(ValueError, match="unknown precision 'int8'"):
        web.export(model, tmp_path / "page.onnx", clips(), "int8")
    with pytest.raises(ValueError, match="expected a name that ends in .onnx"):
        web.export(model, tmp_path / "page.pte", clips())
    with pytest.raises(ValueError, match="clips of 1 second"):
        web.export(model, tmp_path / "page.onnx", [inputs(1, 2, 64, 64)])
    with pytest.raises(ValueError, match="the front end is Own"):
        web.front_end_numbers(Own())
    code, _, error = run(capsys, "export", TINY, "--runtime", "onnx", "--precision", "smallest")
    assert code and "unknown precision 'smallest'" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["avsbench", "avsegformer"])
@pytest.mark.slow
def test_another_method_has_logits_and_maps(method, tmp_path):
    torch.manual_seed(0)
    model = lav.create_model(method, preset="tiny").eval()
    frames, log_mel = torch.randn(1, 1, 3, 64, 64), torch.randn(1, 1, 1, *model.front_end.shape)
    web.export(model, tmp_path / "page.onnx", [(frames, log_mel)])
    names = [given.name for given in onnx.load(tmp_path / "page.onnx").graph.output]
    assert names[0] == "logits" and all(name.startswith("map_") for name in names[1:])

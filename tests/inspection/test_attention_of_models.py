"""What the recorder says of models: statistics, attention dissipation, and a survey of a dataset."""

import json
import math
from itertools import product

import pytest
import torch
from helpers.attending import WIDTHS, create, hooks, shared
from helpers.tiny import inputs
from torch.utils.data import Subset

from lightavseg_core.data import AVSBench
from lightavseg_core.inspection.attention import AttentionRecorder, inert_parameters, survey
from lightavseg_core.inspection.attention_statistics import (
    attention_distance,
    effective_keys,
    effective_rank,
    entropy,
    relative_entropy,
    spatial_variance,
    top_share,
    uniform_distance,
)


@torch.inference_mode()
def test_deformable_distance_by_a_loop():
    model, outputs = shared("avsegformer"), []
    sampling = model.encoder[1].self_attn.sampling_offsets
    handle = sampling.register_forward_hook(lambda module, given, output: outputs.append(output))
    with AttentionRecorder(model, "encoder.1") as recorder:
        model(*inputs(1, 1, 48, 80))
    handle.remove()
    layer, shapes = recorder.layers["encoder.1.self_attn"], ((6, 10), (3, 5), (2, 3))
    offsets = outputs[0].unflatten(-1, (8, 3, 4, 2))[0].tolist()  # [query][head][level][point], in pixels
    weights = layer.weights[0].tolist()  # [head][query][place]
    total = 0
    for query, head in product(range(len(offsets)), range(8)):
        for level, (h, w) in enumerate(shapes):
            for point, (x, y) in enumerate(offsets[query][head][level]):
                total += weights[head][query][4 * level + point] * math.hypot(x, y) / max(h, w)
    found = recorder.statistics()["encoder.1.self_attn"]
    assert found["distance"] == pytest.approx(total / len(offsets) / 8, rel=1e-5) and found["keys"] == 12
    assert found["uniform_distance"] == uniform_distance(shapes, shapes)
    assert found["relative_distance"] == pytest.approx(found["distance"] / found["uniform_distance"])


@torch.inference_mode()
def test_tpavi_is_of_low_rank():
    """The whole (T h w)^2 has the effective rank that the recorder finds from one column a second; and it is
    refused where a softmax is expected."""
    model = shared("avsbench")
    with AttentionRecorder(model) as recorder:
        model(*inputs(2, 3))
    statistics = recorder.statistics()
    for name in ("tpavi.2", "tpavi.3"):
        layer, found = recorder.layers[name], statistics[name]
        pixels = math.prod(layer.query_grid)
        full = layer.weights[:, 0].repeat_interleave(pixels, -1)
        assert full.shape == (2, 3 * pixels, 3 * pixels)
        assert found["effective_rank"] == pytest.approx(effective_rank(full).mean().item(), rel=1e-4)
        assert 1 < found["effective_rank"] <= 3 and found["entropy"] is found["distance"] is None
        assert found["spatial_variance"] == pytest.approx(spatial_variance(layer.output).mean().item())
        with pytest.raises(ValueError, match="as TPAVI's, are no distribution"):
            entropy(layer.weights)


@torch.inference_mode()
@pytest.mark.parametrize("method", ["avesformer", "avsegformer", "selm"])
def test_statistics_are_means(method):
    with AttentionRecorder(shared(method)) as recorder:
        shared(method)(*inputs(1, 2))
    statistics = recorder.statistics()
    assert statistics.keys() == recorder.layers.keys()
    for name, layer in recorder.layers.items():
        found, weights = statistics[name], layer.weights
        assert (found["kind"], found["queries"], found["keys"]) == (layer.kind, *weights.shape[2:])
        expected = {"entropy": entropy(weights), "effective_keys": effective_keys(weights)}
        expected |= {"top_share": top_share(weights), "effective_rank": None}
        expected["relative_entropy"] = relative_entropy(weights) if found["keys"] > 1 else None
        if layer.kind == "softmax":
            grids = layer.query_grid, layer.key_grid
            expected["distance"] = attention_distance(weights, *grids) if all(grids) else None
        several = found["queries"] > 1 and layer.kind != "assignment"
        expected["spatial_variance"] = spatial_variance(layer.output) if several else None
        for key, value in expected.items():
            assert found[key] == (None if value is None else pytest.approx(value.mean().item(), rel=1e-5))
    assert any(layer["distance"] for layer in statistics.values()) == (method != "selm")


# --- attention dissipation ---


@pytest.mark.parametrize("prompts", [0, 16])
def test_one_key_and_many(prompts):
    """One key: one vector everywhere, and nothing to learn for query and key. Sixteen: neither."""
    model, name = create("avesformer", prompts=prompts), "decoder.2.cross_attn"
    with AttentionRecorder(model) as recorder:
        with pytest.raises(ValueError, match="backward"):
            recorder.gradients()
        model(*inputs(1, 2)).logits.square().mean().backward()
    found, gradients = recorder.statistics()[name], recorder.gradients()[name]
    assert gradients["value"] > 0
    if prompts:
        assert 1 < found["effective_keys"] < 16 and 0 < found["relative_entropy"] < 1
        assert found["spatial_variance"] > 1e-4
        assert min(gradients["query"], gradients["key"]) > 1e-3 * gradients["value"]
    else:
        assert found["effective_keys"] == found["top_share"] == 1 and found["entropy"] == 0
        assert found["relative_entropy"] is None and found["spatial_variance"] < 1e-12
        assert max(gradients["query"], gradients["key"]) < 1e-7 * gradients["value"]


@pytest.mark.slow
def test_gradient_norms():
    """Two projections in a row count together; frozen ones have none; deformable attention has no key."""
    selm, avsegformer = create("selm"), create("avsegformer")
    for parameter in selm.dam[0].to_audio.key.parameters():
        parameter.requires_grad_(False)
    found = {}
    some = ["dam.0.to_audio", "decoder.levels.0.attention"]
    for model, names in ((selm, some), (avsegformer, "encoder.0")):
        with AttentionRecorder(model, names) as recorder:
            model.train()(*inputs(2, 2)).logits.square().mean().backward()
        found |= recorder.gradients()

    def norm(*modules):
        gradients = torch.cat([module.weight.grad.flatten() for module in modules])
        return pytest.approx(gradients.norm().item(), rel=1e-4)

    module, assignment = selm.dam[0].to_audio, selm.decoder.levels[0].attention
    deformable = avsegformer.encoder[0].self_attn
    assert found == {
        "dam.0.to_audio": {
            "query": norm(module.query1, module.query2),
            "key": None,
            "value": norm(module.value),
        },
        "decoder.levels.0.attention": {
            "query": norm(assignment.key),
            "key": norm(assignment.query),
            "value": norm(assignment.value),
        },
        "encoder.0.self_attn": {
            "query": norm(deformable.sampling_offsets, deformable.attention_weights),
            "key": None,
            "value": norm(deformable.value),
        },
    }


@torch.inference_mode()
@pytest.mark.parametrize("method", ["avsegformer", "selm", "avesformer"])
def test_inert_parameters(method):
    """What is counted may be anything; the value beside it may not."""
    model = create(method, **({"prompts": 0} if method == "avesformer" else {}))
    given, width = inputs(1, 2), WIDTHS[method]
    inert = inert_parameters(model, *given)
    channels = model.visual.channels
    if method == "avsegformer":
        expected = {f"generator.layers.{i}.cross_attn": 2 * width**2 for i in range(2)}
    elif method == "avesformer":
        expected = {"decoder.2.cross_attn": 2 * (width**2 + width)}
    else:
        expected = {f"dam.{i}.to_pixels": 2 * (c * c + c) + width * c + c for i, c in enumerate(channels)}
        expected |= {f"decoder.levels.{i}.load": 2 * width**2 for i in range(3)}
    assert inert.layers == expected and inert.total == sum(expected.values())
    assert inert.share == pytest.approx(inert.total / sum(p.numel() for p in model.parameters()))
    assert not model.training
    plain = model(*given).logits
    for name in inert.layers:
        for part, module in model.get_submodule(name).named_children():
            if part.startswith(("query", "key")):
                for parameter in module.parameters():
                    parameter.copy_(torch.randn_like(parameter))
    assert torch.equal(model(*given).logits, plain)
    value = model.get_submodule(list(inert.layers)[-1]).value.weight
    value += 0.3 * torch.randn_like(value)
    assert (model(*given).logits - plain).abs().max() > 1e-2


@pytest.mark.slow
def test_what_is_inert_depends_on_the_input():
    """A frame of 32 px has one position at stride 32, and there the sound has one key to ask."""
    model = shared("selm")
    small, large = (set(inert_parameters(model, *inputs(1, 1, size, size)).layers) for size in (32, 64))
    assert small - large == {"dam.3.to_audio"} and not large - small
    assert inert_parameters(shared("avesformer"), *inputs()) == ({}, 0, 0.0)
    assert inert_parameters(shared("avsbench"), *inputs()).total == 0


# --- over a dataset ---


@pytest.mark.parametrize("method, batch_size", [("avesformer", 2), ("avsbench", 1)])
def test_survey(shapes, method, batch_size):
    """The mean over all frames, clip by clip, whatever the batch: frames that pad a shorter clip do not
    count. TPAVI, though, attends to them."""
    data = AVSBench(shapes, "avss", "test", 64)
    lengths = {len(clip.frames): i for i, clip in enumerate(data.clips)}
    clips = Subset(data, list(lengths.values()))
    model = shared(method).train()
    found = survey(model, clips, batch_size)
    assert model.training and hooks(model) == 0 and sorted(lengths) == [5, 10]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    model.eval()
    alone = []
    for clip in clips:
        with torch.inference_mode(), AttentionRecorder(model) as recorder:
            model(clip["frames"][None], clip["log_mel"][None])
        alone.append(recorder.statistics())
    for name, values in found.items():
        assert values.keys() == alone[0][name].keys()
        for key, value in values.items():
            each = [statistics[name][key] for statistics in alone]
            if value is None or key == "kind":
                assert each == [value, value], (name, key)
            else:
                expected = sum(x * n for x, n in zip(each, lengths)) / 15
                assert value == pytest.approx(expected, rel=1e-4, abs=1e-9), (name, key)
    one = next(iter(found))
    assert survey(model, clips, batch_size, names=one) == {one: found[one]}

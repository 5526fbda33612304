"""The attention recorder: its weights reproduce what each layer did, its statistics are those of formulas and loops, and it leaves no trace."""

import json
import math
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny import create as create_lightavseg
from helpers.tiny import inputs
from torch.utils.data import Subset

import lightavseg_core as lav
from lightavseg_core.data import AVSBench
from lightavseg_core.inspection.attention import (
    AttentionRecorder,
    attends,
    attention_distance,
    effective_keys,
    effective_rank,
    entropy,
    inert_parameters,
    relative_entropy,
    spatial_variance,
    survey,
    top_share,
    uniform_distance,
)
from lightavseg_core.models.avesformer import TransformerBlock
from lightavseg_core.models.avsbench import TPAVI
from lightavseg_core.models.blocks import Attention
from lightavseg_core.models.deformable import DeformableAttention
from lightavseg_core.models.selm import AudioToPixels, PixelsToAudio, instance_norm
from lightavseg_core.models.selm_decoder import LoadAudio

WIDTHS = {"avesformer": 16, "avsegformer": 16, "avsbench": 16, "selm": 64}
CASES = [("avesformer", {}), ("avesformer", {"prompts": 0, "decoder": "ttt"}), ("avesformer", {"prompts": 3, "seconds": True, "temperature": 0.3}),
         ("avsegformer", {}), ("avsbench", {}), ("avsbench", {"order": "associative"}), ("selm", {}), ("selm", {"published": True})]
METHODS = sorted(WIDTHS)


def create(method, **options):
    """Far from its start, where some weights are zero and all attention is nearly uniform."""
    torch.manual_seed(0)
    model = lav.create_model(method, preset="tiny", **{"width": WIDTHS[method], **options}).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(("visual.", "audio.")):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


@cache
def shared(method):
    """The method's own model; to be left as it is."""
    return create(method)


def hooks(model):
    return sum(len(found) for module in model.modules() for found in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks,
                                                                      module._forward_hooks_with_kwargs, module._forward_pre_hooks_with_kwargs))


# --- the weights are the true ones ---


def bilinear(grid, y, x):
    """Value of a map (h, w, c) at (y, x), pixels from the first one's centre, zero outside."""
    total, (h, w, _) = 0, grid.shape
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < h and 0 <= column < w:
                total = total + (1 - abs(y - row)) * (1 - abs(x - column)) * grid[row, column]
    return total


def reproduce(module, layer, given, weights):
    """The output of a module by what the recorder kept of it, and what its projection gave."""
    value = layer.value
    attended = (weights @ value).transpose(1, 2).flatten(2) if layer.kind == "softmax" else None       # (N, Q, C)
    if isinstance(module, Attention):
        return module.out(attended), module.out(attended)
    if isinstance(module, AudioToPixels):
        out = module.out(F.gelu(module.visual(given[0])) * instance_norm(module.heard(attended.transpose(1, 2))))
        return F.gelu(out), out.transpose(1, 2)
    if isinstance(module, PixelsToAudio):
        out = module.out(attended.transpose(1, 2))
        return out, out.transpose(1, 2)
    if isinstance(module, LoadAudio):
        out = module.out(attended)
        return module.mlp(module.norm(given[0] + F.pad(out, (0, 0, 1, 0)))), out
    if isinstance(module, TPAVI):
        visual, audio = given
        seconds, (h, w) = visual.shape[1], visual.shape[-2:]
        full = weights[:, 0].repeat_interleave(h * w, -1)                                                  # (N, T h w, T h w)
        x = visual.movedim(2, -1).flatten(1, 3)
        y = module.mu_norm(module.mu(full @ value[:, 0]).flatten(0, 1)).view_as(x)
        return (module.norm(x + y).unflatten(1, (seconds, h, w)).movedim(-1, 2), module.align(audio)), y
    if isinstance(module, DeformableAttention):
        centres, shapes = given[2:]
        starts = [sum(h * w for h, w in shapes[:i]) for i in range(len(shapes))]
        out = torch.zeros(*value.shape[:2], len(centres), value.shape[-1], dtype=value.dtype)
        for n, head, query, place in ((*i,) for i in torch.ones(weights.shape).nonzero().tolist()):
            level = place // module.points
            (h, w), start = shapes[level], starts[level]
            x, y = (centres[query] + layer.offsets[n, head, query, place] * max(h, w) / torch.tensor([w, h])).tolist()
            grid = value[n, head, start:start + h * w].unflatten(0, (h, w))
            out[n, head, query] += weights[n, head, query, place] * bilinear(grid, y * h - 0.5, x * w - 0.5)
        out = module.output(out.transpose(1, 2).flatten(2))
        return out, out
    tokens = given[0]                                                                                      # TokenAttention
    hits = F.one_hot(weights[:, 0].argmax(-1), 2).to(value).transpose(1, 2)                                # (N, 2, P)
    out = module.out(hits / (hits.sum(-1, keepdim=True) + 1) @ value[:, 0])
    return (module.mlp(module.norm(out + tokens)), hits), out


@torch.inference_mode()
@pytest.mark.parametrize("method, options", CASES, ids=str)
def test_weights_reproduce_every_layer(method, options):
    model, seen = create(method, **options).double(), {}
    for stage in model.visual.stages:                                          # on an untrained backbone's flat maps any weights would do
        stage.register_forward_hook(lambda _, __, x: x + 3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    with AttentionRecorder(model) as recorder:
        for name, module in model.named_modules():
            module.register_forward_hook(lambda _, given, output, name=name: seen.update({name: (given, output)}))
        model(*(x.double() for x in inputs(1, 2, 32, 48)))
    assert recorder.layers and list(recorder.layers) == [n for n in seen if n in recorder.layers], "all, in the order of the forward pass"
    for name, layer in recorder.layers.items():
        module, (given, output) = model.get_submodule(name), seen[name]
        if options.get("published") and layer.kind == "assignment":
            continue                                                           # Gumbel noise chose
        result, projected = reproduce(module, layer, given, layer.weights)
        for found, expected in zip(*((x,) if torch.is_tensor(x) else x for x in (result, output))):
            assert torch.allclose(found, expected, atol=1e-8), name
        assert torch.allclose(projected, layer.output, atol=1e-8), name
        if layer.weights.shape[-1] > 1 and layer.kind == "softmax":            # other weights do not pass
            wrong, _ = reproduce(module, layer, given, torch.full_like(layer.weights, 1 / layer.weights.shape[-1]))
            assert (wrong - output).abs().max() > 1e-3, name


@torch.inference_mode()
def test_grids():
    """Frames of 48 x 80 px: what is known of where queries and keys lie."""
    known = {}
    for method in METHODS:
        with AttentionRecorder(shared(method)) as recorder:
            shared(method)(*inputs(1, 2, 48, 80))
        for name, layer in recorder.layers.items():
            known[f"{method}.{name}"] = layer.query_grid, layer.key_grid
            queries, keys = layer.weights.shape[2:]
            if layer.kind in ("softmax", "assignment"):
                for grid, length in ((layer.query_grid, queries), (layer.key_grid, keys)):
                    assert grid is None or math.prod(grid) == length, name
            elif layer.kind == "signed":
                assert (queries, keys) == (2 * math.prod(layer.query_grid), 2)
            else:
                assert queries == sum(map(math.prod, layer.query_grid)) and layer.offsets.shape == (*layer.weights.shape, 2)
    levels = ((6, 10), (3, 5), (2, 3))
    for name, grids in {"avesformer.decoder.2.self_attn": (levels[0], levels[0]), "avesformer.decoder.2.cross_attn": (levels[0], None),
                        "avsegformer.generator.layers.0.cross_attn": (None, None), "avsegformer.mixer.attention": (None, (12, 20)),
                        "avsegformer.encoder.0.self_attn": (levels, None), "avsegformer.decoder.0.cross_attn": (None, None),
                        "selm.dam.0.to_pixels": ((12, 20), None), "selm.dam.1.to_audio": (None, levels[0]),
                        "selm.decoder.levels.0.attention": (levels[1], None), "selm.decoder.levels.0.load": (None, None),
                        "avsbench.tpavi.3": (levels[2], None)}.items():
        assert known[name] == grids, name


def test_a_block_by_itself():
    """Also the module that is recorded may be the one that knows the map, or the layer itself; and its arguments may be named."""
    block = TransformerBlock(16)
    with AttentionRecorder(block) as recorder:
        block(x=torch.randn(2, 16, 3, 4), sound=torch.randn(2, 5, 16))
    assert {name: layer.weights.shape for name, layer in recorder.layers.items()} == {"self_attn": (2, 8, 12, 12), "cross_attn": (2, 8, 12, 5)}
    assert recorder.layers["self_attn"].key_grid == (3, 4)
    with AttentionRecorder(block.self_attn) as recorder:
        block.self_attn(torch.randn(1, 2, 16), torch.randn(1, 3, 16))
    assert recorder.layers[""].weights.shape == (1, 8, 2, 3)


# --- it only looks ---


def run(model, context, recorded, training):
    torch.manual_seed(0)
    model.train(training).zero_grad()
    with context:
        if recorded:
            with AttentionRecorder(model) as recorder:
                logits = model(*inputs(2, 2)).logits
        else:
            recorder, logits = None, model(*inputs(2, 2)).logits
        if training:
            logits.square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), gradients, recorder


@pytest.mark.parametrize("method", METHODS)
def test_no_bit_changes(method):
    model = create(method)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for context, training in ((torch.inference_mode(), False), (torch.enable_grad(), True)):
        before, gradients, _ = run(model, context, False, training)
        model.load_state_dict(state)
        after, same, recorder = run(model, context, True, training)
        model.load_state_dict(state)
        assert torch.equal(before, after) and hooks(model) == 0 and bool(gradients) == training
        assert gradients.keys() == same.keys() and all(torch.equal(value, same[name]) for name, value in gradients.items())
        for layer in recorder.layers.values():
            assert not layer.weights.requires_grad and not layer.output.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_autocast(method):
    """Half precision changes the model, and the recorder follows; what it adds is in float32."""
    model = shared(method)
    plain, _, exact = run(model, torch.no_grad(), True, False)
    with torch.autocast("cpu", torch.bfloat16):
        half, _, _ = run(model, torch.no_grad(), False, False)
        recorded, _, recorder = run(model, torch.no_grad(), True, False)
        statistics, unchanged = recorder.statistics(), exact.statistics()
    assert torch.equal(half, recorded) and not torch.equal(half.float(), plain)
    for name, layer in recorder.layers.items():
        assert layer.weights.dtype == layer.output.dtype == torch.float32
        if layer.kind != "signed":
            assert (layer.weights.sum(-1) - 1).abs().max() < 1e-5
        if method == "avesformer":                                             # elsewhere a rounded score can move a whole peak
            assert statistics[name]["entropy"] == pytest.approx(unchanged[name]["entropy"], abs=0.1), name


def test_hooks_are_gone():
    model = shared("avesformer")
    assert hooks(model) == 0
    with pytest.raises(RuntimeError, match="in the body"):
        with AttentionRecorder(model):
            assert hooks(model) > 0
            raise RuntimeError("in the body")
    assert hooks(model) == 0
    with pytest.raises(ValueError, match="expected"):
        with AttentionRecorder(model):
            model(torch.randn(1), torch.randn(1))
    assert hooks(model) == 0


@torch.no_grad()
def test_the_last_forward_pass_stays():
    model = create("avesformer", prompts=4)
    with AttentionRecorder(model) as recorder:
        model(*inputs(1, 1))
        model(*inputs(2, 2, 48, 80))
    model(*inputs(1, 1))
    layer = recorder.layers["decoder.2.cross_attn"]
    assert layer.weights.shape == (4, 8, 60, 4)
    before = layer.weights
    model.decoder[2].cross_attn.temperature = 0.01
    model.decoder[2].cross_attn.query.weight.zero_()
    assert torch.equal(layer.weights, before), "recorded is what was, not what the model has become"


@torch.no_grad()
def test_names():
    model = shared("avsegformer")
    for names, expected in ((["decoder"], {f"decoder.{i}.{kind}_attn" for i in range(2) for kind in ("self", "cross")}),
                            ("mixer.attention", {"mixer.attention"}),
                            (["*.cross_attn", "mixer"], {"mixer.attention", *(f"{part}.{i}.cross_attn" for i in range(2)
                                                                              for part in ("decoder", "generator.layers"))})):
        with AttentionRecorder(model, names) as recorder:
            model(*inputs())
        assert set(recorder.layers) == expected
    with pytest.raises(ValueError, match="no layer of attention is called 'decode'; AVSegFormer has generator.layers.0.self_attn, "):
        AttentionRecorder(model, ["decoder", "decode"])


def test_lightavseg_has_none():
    with pytest.raises(ValueError, match="LightAVSeg has no attention to record: .* axial attention within its SeaFormer backbone is not recorded"):
        AttentionRecorder(create_lightavseg())
    assert not attends(create_lightavseg()) and all(attends(shared(method)) for method in METHODS)


# --- statistics: closed forms, and loops ---


@pytest.mark.parametrize("keys", [1, 2, 7, 1000])
def test_uniform_and_one_hot(keys):
    uniform, one_hot = torch.full((2, 3, keys), 1 / keys), F.one_hot(torch.arange(6).view(2, 3) % keys, keys).float()
    assert entropy(uniform) == pytest.approx(torch.full((2, 3), math.log(keys)), rel=1e-6)
    assert effective_keys(uniform) == pytest.approx(torch.full((2, 3), float(keys)), rel=1e-5)
    assert top_share(uniform) == pytest.approx(torch.full((2, 3), 1 / keys))
    assert (entropy(one_hot) == 0).all() and (effective_keys(one_hot) == 1).all() and (top_share(one_hot) == 1).all()
    if keys > 1:
        assert relative_entropy(uniform) == pytest.approx(torch.ones(2, 3), abs=1e-6) and (relative_entropy(one_hot) == 0).all()
    else:
        with pytest.raises(ValueError, match="one key; relative entropy is 0 / log 1"):
            relative_entropy(uniform)


@pytest.mark.parametrize("p", [0.5, 0.3, 1e-3, 1e-6])
def test_two_points(p):
    weights = torch.tensor([[0.0, p, 0.0, 1 - p]])
    expected = -p * math.log(p) - (1 - p) * math.log1p(-p)
    assert entropy(weights).item() == pytest.approx(expected, abs=1e-6)
    assert relative_entropy(weights).item() == pytest.approx(expected / math.log(4), abs=1e-6)
    assert effective_keys(weights).item() == pytest.approx(math.exp(expected), abs=1e-6) and top_share(weights).item() == pytest.approx(1 - p)


@pytest.mark.parametrize("level", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("gap", [0.0, 1.0, 8.0, 16.0, 100.0, 1000.0])
@pytest.mark.parametrize("keys", [2, 64])
def test_saturated(keys, gap, level):
    """One score above all others by a gap: with z = (K - 1) exp(-gap), H = log(1 + z) + gap z / (1 + z)."""
    scores = torch.full((keys,), level)
    scores[0] += gap
    z = (keys - 1) * math.exp(-gap)
    assert entropy(scores.softmax(-1)).item() == pytest.approx(math.log1p(z) + gap * z / (1 + z), abs=1e-6)


def test_entropy_by_a_loop():
    weights = (3 * torch.randn(2, 3, 5, 9, generator=torch.Generator().manual_seed(0))).softmax(-1)
    for index in torch.ones(2, 3, 5).nonzero().tolist():
        row = weights[(*index,)].tolist()
        expected = -sum(w * math.log(w) for w in row)
        assert entropy(weights)[(*index,)].item() == pytest.approx(expected, abs=1e-5)
        assert effective_keys(weights)[(*index,)].item() == pytest.approx(math.exp(expected), rel=1e-5)
        assert top_share(weights)[(*index,)].item() == max(row)


def test_what_is_no_softmax_is_refused():
    good = torch.rand(4, 5).softmax(-1)
    for bad in (good - 0.3, good * 1.01, good * 0, torch.full((4, 5), math.nan)):
        for statistic in (entropy, relative_entropy, effective_keys, top_share, lambda w: attention_distance(w, (2, 2), (1, 5))):
            with pytest.raises(ValueError, match="softmax weights expected"):
                statistic(bad)
    entropy(good.bfloat16().softmax(-1))                                       # rounded sums are let through


def test_distance_by_a_loop():
    generator = torch.Generator().manual_seed(0)
    for query_grid, key_grid in (((3, 5), (3, 5)), ((4, 4), (2, 2)), ((1, 1), (6, 2)), ((2, 3), ((4, 6), (2, 3)))):
        maps = [key_grid] if isinstance(key_grid[0], int) else key_grid
        places = [((y + 0.5) / max(h, w), (x + 0.5) / max(h, w)) for h, w in maps for y in range(h) for x in range(w)]
        h, w = query_grid
        weights = (2 * torch.randn(2, 3, h * w, len(places), generator=generator)).softmax(-1)
        from_place = [[math.dist(((q // w + 0.5) / max(h, w), (q % w + 0.5) / max(h, w)), place) for place in places] for q in range(h * w)]
        found = attention_distance(weights, query_grid, key_grid)
        for n, head in ((0, 0), (1, 2)):
            rows = weights[n, head].tolist()
            expected = sum(sum(a * d for a, d in zip(*pair)) for pair in zip(rows, from_place)) / len(rows)
            assert found[n, head].item() == pytest.approx(expected, rel=1e-5)
        expected = sum(map(sum, from_place)) / len(places) / h / w
        assert uniform_distance(query_grid, key_grid) == pytest.approx(expected, rel=1e-5)
        uniform = torch.full((h * w, len(places)), 1 / len(places))
        assert attention_distance(uniform, query_grid, key_grid).item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"has \(5, 5\) queries and keys; the grids \(2, 2\) and \(2, 2\) have \(4, 4\)"):
        attention_distance(torch.eye(5), (2, 2), (2, 2))


def test_distance_in_closed_form():
    assert attention_distance(torch.eye(12), (3, 4), (3, 4)).item() == 0
    assert attention_distance(torch.eye(8).roll(1, 0)[None], (1, 8), (1, 8)).item() == pytest.approx((7 / 8 + 7 * 1 / 8) / 8)
    assert uniform_distance((1, 1), (1, 1)) == 0 and uniform_distance((1, 2), (1, 2)) == pytest.approx(0.25)
    square = (2 + math.sqrt(2) + 5 * math.asinh(1)) / 15                       # of two points drawn from a unit square
    assert uniform_distance((32, 32), (32, 32)) == pytest.approx(square, rel=1e-3)


@torch.inference_mode()
def test_deformable_distance_by_a_loop():
    model = shared("avsegformer")
    layer_of = model.encoder[1].self_attn
    seen = {}
    handle = layer_of.sampling_offsets.register_forward_hook(lambda _, __, output: seen.update(offsets=output))
    with AttentionRecorder(model, "encoder.1") as recorder:
        model(*inputs(1, 1, 48, 80))
    handle.remove()
    layer, shapes = recorder.layers["encoder.1.self_attn"], ((6, 10), (3, 5), (2, 3))
    raw = seen["offsets"].unflatten(-1, (8, 3, 4, 2))[0].tolist()              # [query][head][level][point]: (x, y) in pixels of the level
    weights = layer.weights[0].tolist()                                        # [head][query][place]
    total = count = 0
    for query in range(len(raw)):
        for head in range(8):
            for level, (h, w) in enumerate(shapes):
                for point, (x, y) in enumerate(raw[query][head][level]):
                    total += weights[head][query][4 * level + point] * math.hypot(x, y) / max(h, w)
            count += 1
    statistics = recorder.statistics()["encoder.1.self_attn"]
    assert statistics["distance"] == pytest.approx(total / count, rel=1e-5) and statistics["keys"] == 12
    assert statistics["uniform_distance"] == uniform_distance(shapes, shapes)
    assert statistics["relative_distance"] == pytest.approx(statistics["distance"] / statistics["uniform_distance"])


def test_spatial_variance():
    torch.manual_seed(0)
    a, b, random = torch.randn(5), torch.randn(5), torch.randn(3, 7, 5)
    assert (spatial_variance(a.expand(2, 9, 5) * 1e3) < 1e-14).all() and (spatial_variance(torch.zeros(2, 4, 5)) == 0).all()
    assert spatial_variance(torch.stack([a, -a])[None]).item() == pytest.approx(1)
    expected = ((a - b).square().sum() / 4) / ((a.square().sum() + b.square().sum()) / 2)
    assert spatial_variance(torch.stack([a, b, a, b])[None]).item() == pytest.approx(expected.item(), rel=1e-5)
    for n, found in enumerate(spatial_variance(random)):
        variance = sum(random[n, :, c].var(correction=0).item() for c in range(5))
        assert found.item() == pytest.approx(variance / (random[n].square().sum().item() / 7), rel=1e-5)


def test_effective_rank():
    assert effective_rank(torch.diag(torch.tensor([2.0, 2, 2, 0]))).item() == pytest.approx(3)
    assert effective_rank(torch.outer(torch.randn(6), torch.randn(4))).item() == pytest.approx(1, abs=1e-4)
    p = [0.7, 0.2, 0.1]
    rotation = torch.linalg.qr(torch.randn(3, 3))[0]
    assert effective_rank(-5 * rotation @ torch.diag(torch.tensor(p))).item() == pytest.approx(math.exp(-sum(x * math.log(x) for x in p)), rel=1e-5)
    assert effective_rank(torch.zeros(2, 3, 3)).tolist() == [0, 0]


@torch.inference_mode()
def test_tpavi_is_of_low_rank():
    """The whole (T h w)^2 has the effective rank that the recorder finds from one column a second; and it is refused where a softmax is expected."""
    model = shared("avsbench")
    with AttentionRecorder(model) as recorder:
        model(*inputs(2, 3))
    statistics = recorder.statistics()
    for name in ("tpavi.2", "tpavi.3"):
        layer = recorder.layers[name]
        pixels = math.prod(layer.query_grid)
        full = layer.weights[:, 0].repeat_interleave(pixels, -1)
        assert full.shape == (2, 3 * pixels, 3 * pixels)
        assert statistics[name]["effective_rank"] == pytest.approx(effective_rank(full).mean().item(), rel=1e-4)
        assert 1 < statistics[name]["effective_rank"] <= 3 and statistics[name]["entropy"] is statistics[name]["distance"] is None
        assert statistics[name]["spatial_variance"] == pytest.approx(spatial_variance(layer.output).mean().item())
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
        for key, statistic in (("entropy", entropy), ("effective_keys", effective_keys), ("top_share", top_share)):
            assert found[key] == pytest.approx(statistic(weights).mean().item(), rel=1e-5)
        assert found["relative_entropy"] == (pytest.approx(relative_entropy(weights).mean().item()) if found["keys"] > 1 else None)
        if layer.kind == "softmax":
            grids = layer.query_grid, layer.key_grid
            assert found["distance"] == (pytest.approx(attention_distance(weights, *grids).mean().item()) if all(grids) else None)
        shown = found["queries"] > 1 and layer.kind != "assignment"
        assert found["spatial_variance"] == (pytest.approx(spatial_variance(layer.output).mean().item()) if shown else None)
        assert found["effective_rank"] is None
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
        assert 1 < found["effective_keys"] < 16 and 0 < found["relative_entropy"] < 1 and found["spatial_variance"] > 1e-4
        assert min(gradients["query"], gradients["key"]) > 1e-3 * gradients["value"]
    else:
        assert found["effective_keys"] == found["top_share"] == 1 and found["entropy"] == 0 and found["relative_entropy"] is None
        assert found["spatial_variance"] < 1e-12
        assert max(gradients["query"], gradients["key"]) < 1e-7 * gradients["value"]


def test_gradient_norms():
    """Two projections in a row count together; frozen ones have none; deformable attention has no key."""
    selm, avsegformer = create("selm"), create("avsegformer")
    for parameter in selm.dam[0].to_audio.key.parameters():
        parameter.requires_grad_(False)
    found = {}
    for model in (selm, avsegformer):
        model.zero_grad()
        with AttentionRecorder(model, ["dam.0.to_audio", "decoder.levels.0.attention"] if model is selm else "encoder.0") as recorder:
            model.train()(*inputs(2, 2)).logits.square().mean().backward()
        found |= recorder.gradients()
    module, assignment, deformable = selm.dam[0].to_audio, selm.decoder.levels[0].attention, avsegformer.encoder[0].self_attn
    norm = lambda *modules: pytest.approx(torch.cat([m.weight.grad.flatten() for m in modules]).norm().item(), rel=1e-4)  # noqa: E731
    assert found == {"dam.0.to_audio": {"query": norm(module.query1, module.query2), "key": None, "value": norm(module.value)},
                     "decoder.levels.0.attention": {"query": norm(assignment.key), "key": norm(assignment.query), "value": norm(assignment.value)},
                     "encoder.0.self_attn": {"query": norm(deformable.sampling_offsets, deformable.attention_weights), "key": None,
                                             "value": norm(deformable.value)}}


@torch.inference_mode()
@pytest.mark.parametrize("method", ["avsegformer", "selm", "avesformer"])
def test_inert_parameters(method):
    """What is counted may be anything; the value beside it may not."""
    model = create(method, **({"prompts": 0} if method == "avesformer" else {}))
    given, width = inputs(1, 2), WIDTHS[method]
    inert = inert_parameters(model, *given)
    channels = model.visual.channels
    expected = {"avsegformer": {f"generator.layers.{i}.cross_attn": 2 * width ** 2 for i in range(2)},
                "avesformer": {"decoder.2.cross_attn": 2 * (width ** 2 + width)},
                "selm": {f"dam.{i}.to_pixels": 2 * (c * c + c) + width * c + c for i, c in enumerate(channels)}
                | {f"decoder.levels.{i}.load": 2 * width ** 2 for i in range(3)}}[method]
    assert inert.layers == expected and inert.total == sum(expected.values())
    assert inert.share == pytest.approx(inert.total / sum(p.numel() for p in model.parameters())) and not model.training
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


def test_what_is_inert_depends_on_the_input():
    """A frame of 32 px has one position at stride 32, and there the sound has one key to ask."""
    model = shared("selm")
    small, large = (set(inert_parameters(model, *inputs(1, 1, size, size)).layers) for size in (32, 64))
    assert small - large == {"dam.3.to_audio"} and not large - small
    assert inert_parameters(shared("avesformer"), *inputs()) == ({}, 0, 0.0) and inert_parameters(shared("avsbench"), *inputs()).total == 0


# --- over a dataset ---


@pytest.mark.parametrize("method, batch_size", [("avesformer", 2), ("avsbench", 1)])
def test_survey(shapes, method, batch_size):
    """The mean over all frames, clip by clip, whatever the batch: frames that pad a shorter clip do not count. TPAVI, though, attends to them."""
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
            expected = each[0] if value is None or key == "kind" else sum(x * n for x, n in zip(each, lengths)) / 15
            assert value == (expected if isinstance(expected, str | None) else pytest.approx(expected, rel=1e-4, abs=1e-9)), (name, key)
    one = next(iter(found))
    assert survey(model, clips, batch_size, names=one) == {one: found[one]}

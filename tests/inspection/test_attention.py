"""The attention recorder: its weights reproduce what each layer did, and it leaves no trace."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers.attending import METHODS, create, hooks, shared
from helpers.tiny import create as create_lightavseg
from helpers.tiny import inputs

from lightavseg_core.inspection.attention import AttentionRecorder, attends
from lightavseg_core.models.avesformer import TransformerBlock
from lightavseg_core.models.avsbench import TPAVI
from lightavseg_core.models.blocks import Attention
from lightavseg_core.models.deformable import DeformableAttention
from lightavseg_core.models.selm import AudioToPixels, PixelsToAudio, instance_norm
from lightavseg_core.models.selm_decoder import LoadAudio

CASES = [
    ("avesformer", {}),
    ("avesformer", {"prompts": 0, "decoder": "ttt"}),
    ("avesformer", {"prompts": 3, "seconds": True, "temperature": 0.3}),
    ("avsegformer", {}),
    ("avsbench", {}),
    ("avsbench", {"order": "associative"}),
    ("selm", {}),
    ("selm", {"published": True}),
]


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
    if layer.kind == "softmax":
        attended = (weights @ value).transpose(1, 2).flatten(2)  # (N, Q, C)
    if isinstance(module, Attention):
        return module.out(attended), module.out(attended)
    if isinstance(module, AudioToPixels):
        heard = instance_norm(module.heard(attended.transpose(1, 2)))
        out = module.out(F.gelu(module.visual(given[0])) * heard)
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
        full = weights[:, 0].repeat_interleave(h * w, -1)  # (N, T h w, T h w)
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
            offset = layer.offsets[n, head, query, place] * max(h, w) / torch.tensor([w, h])
            x, y = (centres[query] + offset).tolist()
            grid = value[n, head, start:start + h * w].unflatten(0, (h, w))
            out[n, head, query] += weights[n, head, query, place] * bilinear(grid, y * h - 0.5, x * w - 0.5)
        out = module.output(out.transpose(1, 2).flatten(2))
        return out, out
    tokens = given[0]  # TokenAttention
    hits = F.one_hot(weights[:, 0].argmax(-1), 2).to(value).transpose(1, 2)  # (N, 2, P)
    out = module.out(hits / (hits.sum(-1, keepdim=True) + 1) @ value[:, 0])
    return (module.mlp(module.norm(out + tokens)), hits), out


@torch.inference_mode()
@pytest.mark.parametrize("method, options", CASES, ids=str)
@pytest.mark.slow
def test_weights_reproduce_every_layer(method, options):
    model, seen = create(method, **options).double(), {}

    def vary(module, given, output):
        """On an untrained backbone's flat maps any weights would do."""
        return output + 3 * torch.randn(output.shape, generator=torch.Generator().manual_seed(0))

    def see(name, module, given, output):
        seen[name] = given, output

    for stage in model.visual.stages:
        stage.register_forward_hook(vary)
    with AttentionRecorder(model) as recorder:
        for name, module in model.named_modules():
            module.register_forward_hook(partial(see, name))
        model(*(x.double() for x in inputs(1, 2, 32, 48)))
    in_order = [name for name in seen if name in recorder.layers]
    assert recorder.layers and list(recorder.layers) == in_order, "all, in the order of the forward pass"
    for name, layer in recorder.layers.items():
        module, (given, output) = model.get_submodule(name), seen[name]
        if options.get("published") and layer.kind == "assignment":
            continue  # Gumbel noise chose
        result, projected = reproduce(module, layer, given, layer.weights)
        for found, expected in zip(*((x,) if torch.is_tensor(x) else x for x in (result, output))):
            assert torch.allclose(found, expected, atol=1e-8), name
        assert torch.allclose(projected, layer.output, atol=1e-8), name
        keys = layer.weights.shape[-1]
        if keys > 1 and layer.kind == "softmax":  # other weights do not pass
            wrong, _ = reproduce(module, layer, given, torch.full_like(layer.weights, 1 / keys))
            assert (wrong - output).abs().max() > 1e-3, name


@torch.inference_mode()
@pytest.mark.slow
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
                assert queries == sum(map(math.prod, layer.query_grid))
                assert layer.offsets.shape == (*layer.weights.shape, 2)
    levels = ((6, 10), (3, 5), (2, 3))
    expected = {
        "avesformer.decoder.2.self_attn": (levels[0], levels[0]),
        "avesformer.decoder.2.cross_attn": (levels[0], None),
        "avsegformer.generator.layers.0.cross_attn": (None, None),
        "avsegformer.mixer.attention": (None, (12, 20)),
        "avsegformer.encoder.0.self_attn": (levels, None),
        "avsegformer.decoder.0.cross_attn": (None, None),
        "selm.dam.0.to_pixels": ((12, 20), None),
        "selm.dam.1.to_audio": (None, levels[0]),
        "selm.decoder.levels.0.attention": (levels[1], None),
        "selm.decoder.levels.0.load": (None, None),
        "avsbench.tpavi.3": (levels[2], None),
    }
    assert {name: known[name] for name in expected} == expected


def test_a_block_by_itself():
    """Also the module that is recorded may be the one that knows the map, or the layer itself; and its
    arguments may be named."""
    block = TransformerBlock(16)
    with AttentionRecorder(block) as recorder:
        block(x=torch.randn(2, 16, 3, 4), sound=torch.randn(2, 5, 16))
    shapes = {name: layer.weights.shape for name, layer in recorder.layers.items()}
    assert shapes == {"self_attn": (2, 8, 12, 12), "cross_attn": (2, 8, 12, 5)}
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
@pytest.mark.slow
def test_no_bit_changes(method):
    model = create(method)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for context, training in ((torch.inference_mode(), False), (torch.enable_grad(), True)):
        before, gradients, _ = run(model, context, False, training)
        model.load_state_dict(state)
        after, same, recorder = run(model, context, True, training)
        model.load_state_dict(state)
        assert torch.equal(before, after) and hooks(model) == 0 and bool(gradients) == training
        assert gradients.keys() == same.keys()
        assert all(torch.equal(value, same[name]) for name, value in gradients.items())
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
        if method == "avesformer":  # elsewhere a rounded score can move a whole peak
            assert statistics[name]["entropy"] == pytest.approx(unchanged[name]["entropy"], abs=0.1), name


def test_hooks_are_gone():
    model = shared("avesformer")
    assert hooks(model) == 0
    with pytest.raises(RuntimeError, match="in the body"), AttentionRecorder(model):
        assert hooks(model) > 0
        raise RuntimeError("in the body")
    assert hooks(model) == 0
    with pytest.raises(ValueError, match="expected"), AttentionRecorder(model):
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
    decoder = {f"decoder.{i}.{kind}_attn" for i in range(2) for kind in ("self", "cross")}
    crossing = {f"{part}.{i}.cross_attn" for i in range(2) for part in ("decoder", "generator.layers")}
    for names, expected in (
        (["decoder"], decoder),
        ("mixer.attention", {"mixer.attention"}),
        (["*.cross_attn", "mixer"], {"mixer.attention", *crossing}),
    ):
        with AttentionRecorder(model, names) as recorder:
            model(*inputs())
        assert set(recorder.layers) == expected
    message = "no attention layer is named 'decode'; AVSegFormer has generator.layers.0.self_attn, "
    with pytest.raises(ValueError, match=message):
        AttentionRecorder(model, ["decoder", "decode"])


def test_lightavseg_has_none():
    model = create_lightavseg()
    message = "LightAVSeg has no attention to record; .* axial attention within its SeaFormer backbone is not"
    with pytest.raises(ValueError, match=message):
        AttentionRecorder(model)
    assert not attends(model) and all(attends(shared(method)) for method in METHODS)

"""torch's own multi-head attention in the recorder, against the weights that torch itself can return."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import Subset

from lightavseg_core.data import AVSBench
from lightavseg_core.inspection.attention import AttentionRecorder, attends, inert_parameters, survey
from lightavseg_core.inspection.attention_statistics import entropy

N, HEADS, QUERIES, KEYS, WIDTH = 3, 4, 5, 7, 16


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def padding(dtype=torch.bool):
    """(N, K): the last key of the first sequence, the last three of the second."""
    hidden = torch.zeros(N, KEYS, dtype=torch.bool)
    hidden[0, -1:] = hidden[1, -3:] = True
    return hidden if dtype == torch.bool else torch.zeros(N, KEYS).masked_fill(hidden, -math.inf)


MASKS = {
    "all": {},
    "padded": {"key_padding_mask": padding()},
    "pairs": {"attn_mask": torch.ones(QUERIES, KEYS, dtype=torch.bool).triu(3)},
    "pairs of each head": {"attn_mask": noise(N * HEADS, QUERIES, KEYS)},
    "both": {"attn_mask": noise(QUERIES, KEYS), "key_padding_mask": padding(torch.float)},
}
OPTIONS = [{}, {"batch_first": True}, {"bias": False}, {"kdim": 6}, {"vdim": 10, "batch_first": True}]


def create(**options):
    """With biases other than the zeros at its start."""
    torch.manual_seed(0)
    module = nn.MultiheadAttention(WIDTH, HEADS, **options).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def given(module):
    """query, key, value as the module takes them."""
    widths = {QUERIES: (WIDTH,), KEYS: (module.kdim, module.vdim)}
    inputs = [noise(N, length, width, seed=width) for length in widths for width in widths[length]]
    return inputs if module.batch_first else [x.transpose(0, 1) for x in inputs]


def recorded(module, *args, **kwargs):
    with AttentionRecorder(module) as recorder:
        output = module(*args, **kwargs)
    return output, recorder


@torch.no_grad()
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-8)])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_weights_are_those_that_torch_returns(options, mask, dtype, tolerance):
    module = create(**options).to(dtype)
    inputs = [x.to(dtype) for x in given(module)]
    masks = {name: x if x.dtype == torch.bool else x.to(dtype) for name, x in MASKS[mask].items()}
    plain, expected = module(*inputs, **masks, average_attn_weights=False)
    for more in ({"average_attn_weights": False}, {"need_weights": False}):
        unwatched = module(*inputs, **masks, **more)[0]
        (output, _), recorder = recorded(module, *inputs, **masks, **more)
        layer = recorder.layers[""]
        assert torch.equal(output, unwatched)
        attended = module.out_proj((layer.weights @ layer.value).transpose(1, 2).flatten(2))
        own = plain if module.batch_first else plain.transpose(0, 1)
        assert layer.weights.dtype == dtype
        for found, wanted in ((layer.weights, expected), (attended, own), (layer.output, own)):
            assert torch.allclose(found, wanted, rtol=0, atol=tolerance)
    found = recorder.statistics()[""]
    assert (found["kind"], found["queries"], found["keys"]) == ("softmax", QUERIES, KEYS)
    assert found["entropy"] == pytest.approx(entropy(expected).mean().item(), rel=1e-4)
    assert found["spatial_variance"] > 0 and found["distance"] is None


@torch.no_grad()
def test_one_sequence_without_a_batch():
    module = create()
    query, key = noise(QUERIES, WIDTH), noise(KEYS, WIDTH, seed=1)
    masks = {"key_padding_mask": padding()[0], "attn_mask": noise(HEADS, QUERIES, KEYS) > 1}
    options = {"key": key, "value": key, "average_attn_weights": False}
    (output, weights), recorder = recorded(module, query, **masks, **options)
    assert torch.allclose(recorder.layers[""].weights, weights[None], atol=1e-6)
    assert torch.equal(recorder.layers[""].output, output[None])


@torch.no_grad()
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_within_torchs_encoder_layer(norm_first, padded):
    """In evaluation its fused kernel calls no submodule. With hooks there it takes the ordinary way, to the
    same output but for rounding."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True, norm_first=norm_first).eval()
    x, mask = noise(N, KEYS, WIDTH), padding() if padded else None
    expected = layer(x, src_key_padding_mask=mask)
    output, recorder = recorded(layer, x, src_key_padding_mask=mask)
    assert torch.allclose(output, expected, atol=1e-5)
    assert torch.equal(layer(x, src_key_padding_mask=mask), expected), "back on its fused kernel"
    seen = layer.norm1(x) if norm_first else x
    _, weights = layer.self_attn(seen, seen, seen, key_padding_mask=mask, average_attn_weights=False)
    assert torch.allclose(recorder.layers["self_attn"].weights, weights, atol=1e-6)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_nested_tensors_are_refused():
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    with pytest.raises(ValueError, match="nested tensor.*enable_nested_tensor=False"):
        recorded(encoder, noise(N, KEYS, WIDTH), src_key_padding_mask=padding())
    encoder.use_nested_tensor = False
    _, recorder = recorded(encoder, noise(N, KEYS, WIDTH), src_key_padding_mask=padding())
    assert list(recorder.layers) == ["layers.0.self_attn", "layers.1.self_attn"]


@pytest.mark.parametrize("options", [{}, {"kdim": 6, "vdim": 10}], ids=["one weight", "three"])
def test_no_gradient_changes(options):
    """And norms of those of query, key and value; with dropout, of which the recorder draws nothing."""
    module = create(dropout=0.3, batch_first=True, **options).train()

    def gradients(run):
        torch.manual_seed(0)
        module.zero_grad()
        output, recorder = run(module, *given(module))
        output[0].square().mean().backward()
        return {name: p.grad.clone() for name, p in module.named_parameters()}, recorder

    plain, _ = gradients(lambda module, *inputs: (module(*inputs), None))
    watched, recorder = gradients(recorded)
    assert plain.keys() == watched.keys() and all(torch.equal(plain[name], watched[name]) for name in plain)
    if options:
        made = [module.q_proj_weight.grad, module.k_proj_weight.grad, module.v_proj_weight.grad]
    else:
        made = module.in_proj_weight.grad.chunk(3)
    norms = dict(zip(("query", "key", "value"), (pytest.approx(x.norm().item(), rel=1e-5) for x in made)))
    assert recorder.gradients() == {"": norms}


@torch.no_grad()
def test_autocast():
    module = create(batch_first=True)
    inputs = given(module)
    exact = recorded(module, *inputs)[1].layers[""].weights
    with torch.autocast("cpu", torch.bfloat16):
        plain = module(*inputs)[0]
        (half, _), recorder = recorded(module, *inputs)
    assert torch.equal(half, plain) and half.dtype == torch.bfloat16
    assert torch.allclose(recorder.layers[""].weights, exact)


@pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
def test_keys_that_are_no_inputs_are_refused(option):
    model = nn.ModuleDict({"hears": create(**{option: True}), "sees": create()})
    with pytest.raises(ValueError, match=f"hears: nn.MultiheadAttention with {option} .* a learned token"):
        AttentionRecorder(model)
    AttentionRecorder(model, "sees")
    assert not attends(model) and attends(model["sees"])


class Late(nn.Module):
    """A method of one's own: pixels at stride 16 ask the sound of `windows` parts of their frame."""

    def __init__(self, keys=2, windows=1):
        super().__init__()
        self.windows, self.keys = windows, keys
        self.see, self.hear = nn.Conv2d(3, WIDTH, 16, 16), nn.Linear(96 * 64, WIDTH * keys)
        self.attend = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, frames, log_mel):
        pixels = self.see(frames.flatten(0, 1)).flatten(2).transpose(1, 2)  # (B*T, P, C)
        heard = self.hear(log_mel.flatten(2)).flatten(0, 1).unflatten(-1, (self.keys, -1))  # (B*T, K, C)
        pixels = pixels.unflatten(1, (self.windows, -1)).flatten(0, 1)  # (B*T*windows, P / windows, C)
        heard = heard.repeat_interleave(self.windows, 0)
        return self.attend(pixels, heard, heard, need_weights=False)[0]


@torch.no_grad()
@pytest.mark.parametrize("windows", [1, 4])
def test_survey(shapes, windows):
    """Clips of 5 and 10 seconds in one batch: what pads the shorter does not count."""
    torch.manual_seed(0)
    model, data = Late(windows=windows), AVSBench(shapes, "avss", "test", 64)
    assert attends(model)
    found = survey(model, data, batch_size=4)["attend"]
    frames, entropies = 0, 0.0
    for item in (data[i] for i in range(len(data))):
        recorder = recorded(model.eval(), item["frames"][None], item["log_mel"][None])[1]
        frames += len(item["frames"])
        entropies += len(item["frames"]) * recorder.statistics()["attend"]["entropy"]
    assert found["entropy"] == pytest.approx(entropies / frames, rel=1e-5)
    assert (found["queries"], found["keys"]) == (16 / windows, 2)


@torch.no_grad()
def test_survey_of_what_are_neither_clips_nor_frames(shapes):
    """Sixteen sequences along a clip, one for each pixel, count alike."""
    model, data = Late(keys=16).eval(), Subset(AVSBench(shapes, "ms3", "test", 64), [0])
    model.attend.batch_first = False
    recorder = recorded(model, data[0]["frames"][None], data[0]["log_mel"][None])[1]
    assert survey(model, data)["attend"] == pytest.approx(recorder.statistics()["attend"], rel=1e-5)


@torch.no_grad()
def test_with_one_key_query_and_key_are_inert():
    model, inputs = Late(keys=1).eval(), (noise(1, 2, 3, 64, 64), noise(1, 2, 1, 96, 64))
    inert = inert_parameters(model, *inputs)
    assert inert.layers == {"attend": 2 * (WIDTH**2 + WIDTH)}
    before = model(*inputs)
    model.attend.in_proj_weight[: 2 * WIDTH] = noise(2 * WIDTH, WIDTH)
    assert torch.equal(model(*inputs), before)
    assert inert_parameters(Late(keys=2), *inputs).total == 0

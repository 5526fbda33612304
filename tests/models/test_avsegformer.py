"""AVSegFormer is the published function, and its deformable attention is the formula, read place by place."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import parity
from helpers.tiny import inputs
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import lightavseg_core as lav
from lightavseg_core.encoders.checkpoints import Part
from lightavseg_core.models.avsegformer import QueryGenerator, sine_positions
from lightavseg_core.models.deformable import DeformableAttention, pixel_centres

VGGISH_MILLION, VGGISH_GMACS = 72.14, 0.864  # parameters; per frame
SHAPES = [(5, 7), (3, 4), (2, 1)]


def create(**options):
    torch.manual_seed(0)
    options = {"width": 16, "layers": 1, "queries": 6, **options}
    return lav.create_model("avsegformer", preset="tiny", **options).eval()


@pytest.fixture(scope="module")
def model():
    """A model none of whose numbers is at its start value, where deformable attention would not yet depend on
    the query."""
    model, g = create(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=g)
    return model


# --- deformable attention ---


def attention(levels=3, channels=16, heads=4, points=2, seed=0):
    torch.manual_seed(seed)
    module = DeformableAttention(channels, levels, heads, points).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)  # offsets of a few pixels: some fall outside the maps
    return module


def bilinear(value, x, y):
    """The map value (c, h, w) at pixel coordinates (x, y), a pixel's centre being an integer; zero
    outside."""
    left, top, total = math.floor(x), math.floor(y), torch.zeros(len(value), dtype=value.dtype)
    for j in (left, left + 1):
        for i in (top, top + 1):
            if 0 <= j < value.shape[2] and 0 <= i < value.shape[1]:
                total += value[:, i, j] * (1 - abs(x - j)) * (1 - abs(y - i))
    return total


@torch.no_grad()
def test_deformable_attention_by_loops():
    module, count = attention(), sum(h * w for h, w in SHAPES)
    query, source = torch.randn(2, 9, 16, dtype=torch.double), torch.randn(2, count, 16, dtype=torch.double)
    centres = torch.rand(9, 2, dtype=torch.double)
    found = module(query, source, centres, SHAPES)
    values, outside = module.value(source), 0
    for b in range(2):
        rows = values[b].split([h * w for h, w in SHAPES])
        maps = [v.T.reshape(16, h, w) for v, (h, w) in zip(rows, SHAPES)]
        for q in range(9):
            offsets = module.sampling_offsets(query[b, q]).reshape(4, 3, 2, 2)
            weights = module.attention_weights(query[b, q]).reshape(4, 6).softmax(-1).reshape(4, 3, 2)
            heads = torch.zeros(4, 4, dtype=torch.double)
            for head in range(4):
                for level, (h, w) in enumerate(SHAPES):
                    for point in range(2):
                        dx, dy = offsets[head, level, point].tolist()
                        x, y = centres[q, 0].item() * w + dx - 0.5, centres[q, 1].item() * h + dy - 0.5
                        outside += not (0 <= x <= w - 1 and 0 <= y <= h - 1)
                        seen = bilinear(maps[level][4 * head:4 * head + 4], x, y)
                        heads[head] += weights[head, level, point] * seen
            assert torch.allclose(found[b, q], module.output(heads.flatten()), rtol=1e-9, atol=1e-9)
    assert 50 < outside < 400, "of 432 places some lie inside and some outside"


@torch.no_grad()
@pytest.mark.parametrize("dx, dy", [(0, 0), (1, 0), (0, -1), (0.5, 0)])
def test_an_offset_is_in_pixels_and_moves_the_map(dx, dy):
    module = attention(levels=1, channels=4, heads=1, points=1)
    for linear in (module.value, module.output):
        linear.weight.copy_(torch.eye(4))
        linear.bias.zero_()
    module.sampling_offsets.weight.zero_()
    module.sampling_offsets.bias.copy_(torch.tensor([dx, dy]))
    image = torch.randn(1, 4, 5, 7, dtype=torch.double)
    padded = F.pad(image, (1, 1, 1, 1))

    def at(x, y):
        return padded[:, :, 1 + y:6 + y, 1 + x:8 + x]

    moved = (at(0, 0) + at(1, 0)) / 2 if dx == 0.5 else at(dx, dy)
    source = image.flatten(2).transpose(1, 2)
    found = module(torch.randn_like(source), source, pixel_centres([(5, 7)], source), [(5, 7)])
    assert torch.allclose(found.transpose(1, 2).unflatten(2, (5, 7)), moved, atol=1e-12)


def test_heads_start_by_looking_around():
    module = DeformableAttention(16, levels=3, heads=8, points=4)
    offsets = module.sampling_offsets.bias.reshape(8, 3, 4, 2)
    ring = {(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)}
    for point in range(4):
        for level in range(3):
            steps = offsets[:, level, point].div(point + 1).round(decimals=4).int()
            assert {tuple(xy) for xy in steps.tolist()} == ring
    weights = module.attention_weights
    assert not module.sampling_offsets.weight.any() and not weights.weight.any() and not weights.bias.any()


def test_positions():
    positions, centres = sine_positions(SHAPES, 16, torch.zeros(())), pixel_centres(SHAPES, torch.zeros(()))
    token = 0
    for h, w in SHAPES:
        for row in range(h):
            for column in range(w):
                expected = []
                for place in (row + 1, column + 1):
                    for k in range(4):
                        angle = place / 10000 ** (2 * k / 8)
                        expected += [math.sin(angle), math.cos(angle)]
                assert positions[token].tolist() == pytest.approx(expected, abs=1e-6)
                assert centres[token].tolist() == pytest.approx([(column + 0.5) / w, (row + 0.5) / h])
                token += 1
    assert len(positions) == len(centres) == token


# --- where sound comes in ---


def test_one_audio_token_adds_one_vector_to_every_query():
    """Softmax over one key is 1: cross-attention is a constant, and its query and key projections get no
    gradient."""
    torch.manual_seed(0)
    generator, audio = QueryGenerator(64, layers=2, queries=6), torch.randn(3, 1, 64)
    for layer in generator.layers:
        constant = audio @ layer.cross_attn.value.weight.T @ layer.cross_attn.out.weight.T
        added = layer.cross_attn(torch.randn(3, 6, 64), audio)
        assert torch.allclose(added, constant.expand(-1, 6, -1), atol=1e-6)
    # The fused kernel recomputes, and rounds, the softmax.
    for kernel, rounding in ((SDPBackend.MATH, 0), (SDPBackend.FLASH_ATTENTION, 1e-6)):
        generator.zero_grad()
        with sdpa_kernel(kernel):
            generator(audio).square().sum().backward()
        for layer in generator.layers:
            linears = (layer.cross_attn.query, layer.cross_attn.key, layer.cross_attn.value)
            query, key, value = (linear.weight.grad.abs().max() for linear in linears)
            assert max(query, key) <= rounding * value and value > 0


def test_everything_else_learns(model):
    model.zero_grad()
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel leaves rounding noise where the gradient is zero
        model(*inputs(2, 1)).logits.square().sum().backward()
    still = {name for name, p in model.named_parameters() if not p.grad.any()}
    own = {name for name in still if not name.startswith(("visual.", "audio."))}
    assert own == {f"generator.layers.0.cross_attn.{name}.weight" for name in ("query", "key")}


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2])
def test_mixer(model, frames):
    """One query, the sound, over all pixels; per head the values' weighted sum; then a sigmoid per
    channel."""
    attention = model.mixer.attention
    feature, audio = torch.randn(frames, 16, 3, 5), torch.randn(frames, 1, 16)
    mixed = model.mixer(feature, audio)
    for n in range(frames):
        pixels, gathered = feature[n].flatten(1).T, torch.empty(16)
        for head in range(8):
            part = slice(2 * head, 2 * head + 2)
            query = attention.query.weight[part] @ audio[n, 0]
            scores = pixels @ attention.key.weight[part].T @ query / 2 ** 0.5
            gathered[part] = scores.softmax(0) @ (pixels @ attention.value.weight[part].T)
        gate = (attention.out.weight @ gathered + attention.out.bias).sigmoid()
        assert torch.allclose(mixed[n], feature[n] * gate[:, None, None], atol=1e-5)


@torch.inference_mode()
def test_the_audio_reaches_the_logits_by_both_ways(model):
    frames, log_mel = inputs(1, 2)
    plain = model(frames, log_mel).logits
    for silenced in (model.mixer, model.generator):
        hook = silenced.register_forward_pre_hook(lambda _, given: (*given[:-1], torch.zeros_like(given[-1])))
        assert not torch.allclose(model(frames, log_mel).logits, plain, atol=1e-4)
        hook.remove()


# --- options ---


def test_dropout_is_for_training():
    model, given = create(dropout=0.5).train(), inputs(2, 2)
    assert not torch.equal(model(*given).logits, model(*given).logits)
    model.eval()
    assert torch.equal(model(*given).logits, model(*given).logits)


@pytest.mark.parametrize(
    "option, value", [("width", 20), ("width", 0), ("layers", 0), ("queries", 0), ("dropout", 1.0)]
)
def test_options_that_cannot_be(option, value):
    with pytest.raises(ValueError, match=f"{option} is {value}"):
        create(**{option: value})


# --- the published model ---


@pytest.fixture(scope="module")
def published():
    return parity.load("avsegformer_r50.json")


@pytest.mark.slow
def test_published_size_and_cost():
    """Measured from the authors' code: 150.90M parameters with those that never run, 41.8 GMACs for one frame
    of 224 px, 209.2 for five."""
    with torch.device("meta"):
        model = parity.create_published("avsegformer")
        built = (model, *model.published_dead().values())
        million = sum(p.numel() for module in built for p in module.parameters()) / 1e6
        assert million + VGGISH_MILLION == pytest.approx(150.90, abs=0.01)
        for seconds, expected in ((1, 41.8), (5, 209.2)):
            # The counter does not see the attention kernel of a CPU, 1.5 GMACs a frame; as separate matrix
            # products it does.
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
                model(torch.empty(1, seconds, 3, 224, 224), torch.empty(1, seconds, 1, 1, 128))
            gmacs = flops.get_total_flops() / 2e9 + seconds * VGGISH_GMACS
            assert gmacs == pytest.approx(expected, rel=0.005)


def test_packed_projections():
    names = parity.create_published("avsegformer", width=8, layers=1, queries=1).published_names()
    attention = "head.transformer.decoder.layers.0.cross_attn"
    assert names["decoder.0.cross_attn.key.bias"] == Part(f"{attention}.in_proj_bias", 1, 3)
    assert names["decoder.0.cross_attn.out.bias"] == f"{attention}.out_proj.bias"
    assert names["mixer.attention.query.weight"] == "head.fusion_block.q_proj.weight"
    assert names["mixer.attention.value.weight"] == Part("head.fusion_block.kv_proj.weight", 1, 2)
    assert names["generator.query.weight"] == "head.query_generator.query.weight"
    assert len(set(names.values())) == len(names)


@pytest.mark.slow
def test_published_numbers(published):
    model = parity.create_published("avsegformer")
    report = model.load_published(parity.state_dict(published["state_dict"], published["scale"]))
    assert (sorted(report.dead), report.absent, report.unexpected) == (sorted(published["dead"]), [], [])
    assert sorted(report.loaded) == sorted(published["state_dict"].keys() - set(published["dead"]))
    places = {
        "audio_proj": model.audio_projection,
        "queries": model.generator,
        "memory": model.encoder[-1],
        "dec0": model.decoder[0],
        "dec5": model.decoder[-1],
        "out_conv": model.smooth,
        "mask_feature": model.mixer,
        "mlp": model.mlp,
    }
    for i, stage in enumerate(model.visual.stages, 1):
        places[f"x{i}"] = stage
    seen = parity.record(places)
    with torch.inference_mode():
        seen["logits"] = model(*parity.clip()).logits[0]
    assert seen.keys() == published["outputs"].keys()
    for name, probe in published["outputs"].items():
        parity.assert_matches(seen[name], probe, name)

"""AVSBench is the published function, and TPAVI's two orders of evaluation are one function: one quadratic in
pixels, one linear."""

import pytest
import torch
from helpers import parity
from helpers.tiny import Largest, inputs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import lightavseg_core as lav
from lightavseg_core.models import avsbench
from lightavseg_core.models.avsbench import TPAVI, AVSBench

ORDERS = ("published", "associative")
PUBLISHED = parity.load("avsbench_r50.json")
VGGISH_GMACS = 0.864  # per second: six convolutions on 96 x 64 and three linear layers


@pytest.fixture(scope="module")
def published():
    """The authors' model with the weights of the parity numbers, and what loading these reported."""
    model = parity.create_published("avsbench")
    return model, model.load_published(parity.state_dict(PUBLISHED["state_dict"], PUBLISHED["scale"]))


def create(**options):
    torch.manual_seed(0)
    return lav.create_model("avsbench", preset="tiny", **{"width": 8, **options})


@pytest.fixture(scope="module")
def model():
    """Of everyday weights: norms that have seen something, and TPAVI open."""
    model = create().train()
    for block in model.tpavi:
        nn.init.normal_(block.mu_norm.weight)
    model(*inputs(2, 2))
    return model.eval()


def use(model, order):
    for block in model.tpavi:
        block.order = order


def block(order="published", audio_channels=5, width=6):
    """One TPAVI in float64 that is not at its start."""
    torch.manual_seed(0)
    block = TPAVI(audio_channels, width, order).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    return block


def clip(batch=2, seconds=3, height=2, width=4, audio_channels=5, channels=6):
    g = torch.Generator().manual_seed(1)
    shapes = (batch, seconds, channels, height, width), (batch, seconds, audio_channels)
    return [torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_() for shape in shapes]


# --- the published numbers ---


@pytest.mark.parametrize("order", ORDERS)
def test_published_tpavi(order):
    fixture = parity.load("tpavi.json")
    weights = parity.state_dict(fixture["state_dict"])
    block = TPAVI(128, 64, order).eval()
    for name, value in block.state_dict().items():
        theirs = AVSBench.published_name(f"tpavi.0.{name}").removeprefix("tpavi_b1.")
        if theirs in weights:
            value.copy_(weights.pop(theirs).view_as(value))
    assert not weights
    with torch.inference_mode():
        visual, audio = parity.image(2, 64, 5, 7, 9).transpose(1, 2), parity.image(2, 5, 1, 128)[:, :, 0]
        fused, audio = block(visual, audio)
    parity.assert_matches(fused.transpose(1, 2), fixture["outputs"]["fused"], "fused")
    parity.assert_matches(audio, fixture["outputs"]["audio"], "audio")


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_published_numbers(published, order):
    model, _ = published
    use(model, order)
    places = {}
    for i in range(4):
        places[f"x{i + 1}"], places[f"dil{i + 1}"] = model.visual.stages[i], model.context[i]
        places[f"path{i + 1}"], places[f"tpavi{i + 1}"] = model.decoder[i], model.tpavi[i]
    found = parity.record(places)
    with torch.inference_mode():
        found["logits"] = model(*parity.clip()).logits[0]
    use(model, "published")
    assert found.keys() == PUBLISHED["outputs"].keys()
    for name, probe in PUBLISHED["outputs"].items():
        given = found[name][0].transpose(1, 2) if name.startswith("tpavi") else found[name]
        parity.assert_matches(given, probe, name)


@pytest.mark.slow
def test_every_published_tensor_has_its_place(published):
    model, report = published
    assert report.dead == PUBLISHED["dead"] and not report.absent and not report.unexpected
    assert sorted(report.loaded + report.dead) == sorted(PUBLISHED["state_dict"])
    running = sum(p.numel() for p in model.parameters()) / 1e6
    dead = sum(p.numel() for module in model.published_dead().values() for p in module.parameters()) / 1e6
    # As measured from the published code: the backbone, and the rest.
    assert abs(running + dead - (45.57 + 45.83)) < 0.01


def test_published_checkpoint_of_many_classes():
    """AVSS: the last convolution has a channel for each class, and the projections of the audio have no
    bias."""
    shapes = {}
    for name, shape in PUBLISHED["state_dict"].items():
        if not name.endswith("align_channel.bias"):
            shapes[name] = [71, *shape[1:]] if name.startswith("output_conv.4") else shape
    with torch.device("meta"):
        model = parity.create_published("avsbench", num_classes=71)
        report = model.load_published({name: torch.empty(shape) for name, shape in shapes.items()})
    assert sorted(report.loaded + report.dead) == sorted(shapes)


def test_published_checkpoint_needs_its_encoders(model):
    with pytest.raises(ValueError, match="visual='resnet50', audio='vggish'.*seaformer_t"):
        model.load_published({"weight": torch.zeros(1)})


@pytest.mark.parametrize(
    "order, seconds, gmacs", [("published", 1, 37.4), ("published", 5, 240.6), ("associative", 5, 173)]
)
@pytest.mark.slow
def test_cost(order, seconds, gmacs):
    """As measured from the published code, VGGish included; the associative order saves what is quadratic."""
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as flops:
        model = parity.create_published("avsbench", order=order)
        model(torch.empty(1, seconds, 3, 224, 224), torch.empty(1, seconds, 1, 1, 128))
    assert flops.get_total_flops() / 2e9 + seconds * VGGISH_GMACS == pytest.approx(gmacs, rel=0.01)


# --- TPAVI ---


def test_tpavi_is_a_sum_over_all_positions():
    """y_i = 1/N sum_j (theta(V_i) . phi(A_j)) g(V_j), a pair at a time, before the residual and its norms."""
    tpavi, (visual, audio) = block(), clip(batch=1)
    _, seconds, channels, height, width = visual.shape
    places = [(t, i, j) for t in range(seconds) for i in range(height) for j in range(width)]
    vectors = [visual[0, t, :, i, j] for t, i, j in places]
    keys = [tpavi.phi(tpavi.align(audio[0, t])) for t, _, _ in places]
    values = [tpavi.g(v) / len(places) for v in vectors]
    expected = []
    for v in vectors:
        expected.append(sum(tpavi.theta(v) @ key * value for key, value in zip(keys, values)))
    expected, found = torch.stack(expected), []
    tpavi.mu.register_forward_pre_hook(lambda module, given: found.append(given[0][0]))
    for tpavi.order in ORDERS:
        tpavi(visual, audio)
        assert torch.allclose(found.pop(), expected, rtol=1e-10)


@settings(max_examples=25, deadline=None)
@given(batch=st.integers(1, 3), seconds=st.integers(1, 4), height=st.integers(1, 4), width=st.integers(2, 4),
       at_once=st.sampled_from([1, 7, 50, 2 ** 20]))
@pytest.mark.slow
def test_orders_agree_with_their_gradients(batch, seconds, height, width, at_once):
    """In training, for any share of the N x N products that is held at once."""
    visual, audio = clip(batch, seconds, height, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(avsbench, "AT_ONCE", at_once)
        results = []
        for order in ORDERS:
            tpavi = block(order).train()
            fused, aligned = tpavi(visual, audio)
            target = torch.linspace(-1, 1, fused.numel(), dtype=fused.dtype).view_as(fused).sin()
            leaves = [visual, audio, *tpavi.parameters()]
            results.append((fused, aligned, *torch.autograd.grad((fused * target).sum(), leaves)))
    assert all(torch.allclose(a, b, rtol=1e-8, atol=1e-9) for a, b in zip(*results))
    assert results[0][3].abs().max() > 0, "the gradient reaches the audio"


def test_starts_without_sound():
    torch.manual_seed(0)
    tpavi, (visual, audio) = TPAVI(5, 6).double(), clip()
    normed = nn.functional.layer_norm(visual.movedim(2, -1), (6,)).movedim(-1, 2)
    assert torch.allclose(tpavi(visual, audio)[0], normed)


def measured(order, side, training=False, seconds=2, width=8):
    """(multiplications of the product, elements of the largest tensor) of TPAVI on maps of side x side."""
    tpavi = TPAVI(5, width, order).train(training)
    pixels = seconds * side ** 2
    query, key, value = (torch.randn(1, n, width // 2, requires_grad=True) for n in (pixels, seconds, pixels))
    with FlopCounterMode(display=False) as flops, Largest() as largest:
        tpavi.interact(query, key, value).sum().backward() if training else tpavi.interact(query, key, value)
    return flops.get_total_flops() / 2, largest.elements


def test_published_order_is_quadratic_and_the_associative_linear():
    for side in (8, 16):
        positions, channels = 2 * side ** 2, 4
        assert measured("published", side) == (2 * positions ** 2 * channels, positions ** 2)
        flops, largest = measured("associative", side)
        assert flops == (positions + 2) * channels ** 2 and largest <= positions * channels


@pytest.mark.parametrize("training", [False, True])
def test_memory_of_the_published_order_is_bounded(monkeypatch, training):
    whole, _ = measured("published", 16)
    monkeypatch.setattr(avsbench, "AT_ONCE", 20_000)
    flops, largest = measured("published", 16, training)
    assert largest <= 20_000 < (2 * 16 ** 2) ** 2
    assert flops == whole if not training else whole * 3 <= flops <= whole * 4, "the cost stays quadratic"


# --- the model ---


def test_seconds_of_a_clip_see_each_other_and_clips_do_not(model):
    frames, log_mel = inputs(2, 3)
    with torch.inference_mode():
        together = model(frames, log_mel).logits
        alone = torch.cat([model(frames[b:b + 1], log_mel[b:b + 1]).logits for b in range(2)])
        log_mel[1, 2] = -log_mel[1, 2]
        after = model(frames, log_mel).logits
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.equal(after[0], together[0])
    assert all(not torch.allclose(after[1, t], together[1, t], atol=1e-6) for t in range(3))


def test_orders_agree_in_the_model(model):
    logits = []
    for order in ORDERS:
        use(model, order)
        logits.append(model(*inputs(2, 3)).logits)
    use(model, "published")
    assert torch.allclose(*logits, atol=1e-5)


def test_every_weight_learns():
    model = create(num_classes=3).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    for _ in range(2):  # TPAVI's norm starts at zero: only after a step does the audio have a gradient
        optimizer.zero_grad()
        output = model(*inputs(2, 2))
        assert output.logits.shape == (2, 2, 3, 64, 64)
        (output.logits.square().mean() + sum(scale.similarity.mean() for scale in output.scales)).backward()
        optimizer.step()
    learning = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    parts = {name.split(".")[0] for name in learning}
    assert parts == {"visual", "audio", "context", "tpavi", "decoder", "head"}
    for i in range(4):
        assert {f"tpavi.{i}.{name}.weight" for name in ("align", "theta", "phi", "g")} <= learning


def test_scales_are_rectified(model):
    scales = model(*inputs(1, 2), return_scales=True).scales
    assert all(scale.visual.min() >= 0 for scale in scales)


@pytest.mark.parametrize(
    "options, named",
    [
        ({"width": 7}, "width is 7; expected an even number"),
        ({"order": "linear"}, "order is 'linear'.*'associative'"),
        ({"ordre": "published"}, "did you mean 'order'"),
    ],
)
def test_options_that_do_not_fit_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        create(**options)


@pytest.mark.slow
def test_export_of_the_associative_order(model):
    use(model, "associative")
    given = inputs(1, 2, 64, 80)
    exported = torch.export.export(model, given).module()
    assert torch.allclose(exported(*given).logits, model(*given).logits, atol=1e-6)
    use(model, "published")

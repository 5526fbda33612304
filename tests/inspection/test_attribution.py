"""Attribution against closed forms, brute-force loops and sounds that are known; completeness on the model
that the workbook ships."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny import create, inputs
from torch import nn

import lightavseg_core as lav
from lightavseg_core import plots
from lightavseg_core.data.audio import LogMel, PANNsLogMel
from lightavseg_core.data.sounding_shapes import generate, noise, objects, stems
from lightavseg_core.inspection import attribution
from lightavseg_core.inspection.attribution import (
    grad_cam,
    integrated_gradients,
    occlusion,
    rank_correlation,
    share_on,
)
from lightavseg_core.models.base import Output

pytest.importorskip("captum")

SILENCE = math.log(0.01)
MASK = torch.zeros(16, 16, dtype=torch.bool)
MASK[2:7, 3:9] = True  # 30 pixels
ALL = torch.ones(64, 64, dtype=torch.bool)


class Additive(nn.Module):
    """What is seen plus what is heard, both linear; second t hears coupling ** |t - s| of second s: with 0,
    its own alone."""

    def __init__(self, coupling=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.config, self.front_end, self.coupling = SimpleNamespace(method="additive"), LogMel(), coupling
        self.weight = nn.Parameter(torch.randn(96, 64))
        self.features, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1)

    def forward(self, frames, log_mel):
        time = torch.arange(log_mel.shape[1])
        mix = torch.tensor(self.coupling) ** (time[:, None] - time).abs()  # (T, T)
        heard = (log_mel[:, :, 0] * self.weight).sum((-2, -1)) @ mix  # (B, T)
        seen = self.head(self.features(frames.flatten(0, 1)))  # (B*T, 1, H, W)
        return Output(seen.unflatten(0, frames.shape[:2]) + heard[..., None, None, None])


def clip(seconds=1, size=16):
    frames, log_mel = inputs(1, seconds, size, size)
    return frames[0], log_mel[0] - 2


@pytest.mark.parametrize(("coupling", "seconds"), [(0.0, 1), (0.0, 3), (0.5, 3)])
def test_of_a_linear_model_it_is_weight_times_difference(coupling, seconds):
    model, (frames, log_mel), second = Additive(coupling), clip(seconds), seconds - 1
    found = integrated_gradients(model, frames, log_mel, second, MASK)
    heard = torch.tensor([coupling ** (second - t) for t in range(seconds)]).view(-1, 1, 1, 1)
    wanted = 30 * heard * model.weight.detach() * (log_mel - SILENCE)
    assert torch.allclose(found.values, wanted, rtol=1e-4, atol=1e-3)
    assert found.difference == pytest.approx(wanted.sum().item(), rel=1e-4)
    assert found.error < 1e-4
    loss = occlusion(model, frames, log_mel, second, MASK, patch=(32, 16)).values
    patches = (F.avg_pool2d(wanted, (32, 16)) * 32 * 16).repeat_interleave(32, -2).repeat_interleave(16, -1)
    assert torch.allclose(loss, patches, rtol=1e-3, atol=0.1)


def test_a_sharp_switch_is_found():
    """A logit that jumps within a hundredth of the path: plain Gauss-Legendre of as many points misses it;
    the closed form is the difference."""
    model, (frames, log_mel) = Additive(), clip()
    scale = (model.weight * (log_mel - SILENCE)).sum().item()
    linear = model.forward
    start = linear(frames[None], torch.full_like(log_mel, SILENCE)[None]).logits.detach()

    def switch(frames, log_mel):
        along = (linear(frames, log_mel).logits - start) / scale  # 0 in silence, 1 at the sound
        return Output(10 * torch.tanh(400 * (along - 0.635)))

    model.forward = switch
    found = integrated_gradients(model, frames, log_mel, 0, MASK, steps=16)
    assert found.difference == pytest.approx(600, rel=1e-4)
    assert found.error <= 0.01
    # The switch is a function of one line through the input, and each bin has its share of that.
    wanted = found.difference * (model.weight * (log_mel[0, 0] - SILENCE) / scale)
    assert torch.allclose(found.values[0, 0], wanted, atol=0.02 * wanted.abs().max().item())
    assert integrated_gradients(model, frames, log_mel, 0, MASK, steps=16, tolerance=math.inf).error > 0.05


def test_grad_cam_against_its_formula():
    model, (frames, log_mel) = Additive(), clip(2)
    with torch.no_grad():
        feature = model.features(frames[1:])  # (1, 4, 16, 16)
        weights = model.head.weight[:, :, 0, 0] * 30 / 256  # the gradient's mean over positions, (1, 4)
        wanted = (weights[..., None, None] * feature).sum(1)[0]
    for layer in (None, model.features):
        assert torch.allclose(grad_cam(model, frames, log_mel, 1, MASK, layer).values, wanted, atol=1e-6)


@pytest.mark.slow
def test_occlusion_against_a_loop():
    """Patches that do not divide the log-mel; of two classes and a background, where each pixel's best
    category counts."""
    model = create(num_classes=3)
    frames, log_mel = clip(size=64)
    mask = torch.rand(64, 64, generator=torch.Generator().manual_seed(0)) > 0.97
    pixels = mask.nonzero().tolist()

    def target(heard):
        with torch.no_grad():
            return model(frames[None], heard[None]).logits[0, 0]

    best = target(log_mel)[1:].argmax(0)

    def score(logits):
        return sum((logits[1 + best[y, x], y, x] - logits[0, y, x]).item() for y, x in pixels)

    whole = score(target(log_mel))
    wanted = torch.zeros(96, 64)
    for top in range(0, 96, 40):
        for low in range(0, 64, 24):
            dark = log_mel.clone()
            dark[..., top:top + 40, low:low + 24] = SILENCE
            wanted[top:top + 40, low:low + 24] = whole - score(target(dark))
    found = occlusion(model, frames, log_mel, 0, mask, patch=(40, 24))
    assert torch.allclose(found.values[0, 0], wanted, atol=1e-3 * wanted.abs().max().item())
    silent = score(target(torch.full_like(log_mel, SILENCE)))
    assert found.difference == pytest.approx(whole - silent, rel=1e-3)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_gradients_are_switched_off(mode):
    """What was made there is explained too, and they stay switched off."""
    model = Additive()
    frames, log_mel = clip(2)
    explained = [
        lambda *given: integrated_gradients(model, *given, 1, MASK).values,
        lambda *given: occlusion(model, *given, 1, MASK, patch=(32, 16)).values,
        lambda *given: grad_cam(model, *given, 1, MASK).values,
    ]
    for explain in explained:
        wanted = explain(frames, log_mel)
        with mode():
            found = explain(frames + 0, log_mel + 0)
            assert not torch.is_grad_enabled() and torch.is_inference_mode_enabled() == (
                mode is torch.inference_mode
            )
        assert torch.equal(found, wanted)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.slow
def test_silence_has_no_attribution_and_the_model_is_left_as_it_was():
    model, (frames, log_mel) = create().train(), clip(2, 64)
    model.visual.requires_grad_(False)
    silence = torch.full_like(log_mel, SILENCE)
    wants = [p.requires_grad for p in model.parameters()]
    quiet = integrated_gradients(model, frames, silence, 0, ALL, steps=8)
    assert not quiet.values.any() and quiet.difference == 0 and quiet.error == 0
    assert integrated_gradients(model, frames, log_mel, 0, ALL, steps=8, tolerance=math.inf).values.any()
    assert not occlusion(model, frames, silence, 0, ALL, patch=(48, 32)).values.any()
    grad_cam(model, frames, log_mel, 0, ALL)
    assert model.training and all(p.grad is None for p in model.parameters())
    assert wants == [p.requires_grad for p in model.parameters()]


@pytest.mark.parametrize("method", ["avesformer", "avsegformer", "lightavseg", "avsbench", "selm"])
@pytest.mark.slow
def test_seconds_meet_only_in_methods_that_know_time(method):
    torch.manual_seed(0)
    model = lav.create_model(method, preset="tiny", size=64).eval()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)  # AVSBench's interaction starts at zero
    (frames, log_mel), once = clip(2, 64), {"steps": 4, "tolerance": math.inf}
    found = integrated_gradients(model, frames, log_mel, 1, ALL, **once).values
    assert found[1].any() and bool(found[0].any()) == (method in ("avsbench", "selm"))
    assert grad_cam(model, frames, log_mel, 1, ALL).values.shape == (64, 64)
    if method not in ("avsbench", "selm"):
        alone = integrated_gradients(model, frames[1:], log_mel[1:], 0, ALL, **once).values
        assert torch.allclose(found[1:], alone, atol=1e-5 * alone.abs().max().item())


def test_ranks_against_a_loop():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randint(0, 9, (6, 7), generator=g).float(), torch.randn(6, 7, generator=g)
    a_list, b_list = a.flatten().tolist(), b.flatten().tolist()

    def rank(values):
        return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]

    assert attribution.ranks(a).tolist() == rank(a_list)
    mean = (len(a_list) + 1) / 2
    x, y = ([r - mean for r in rank(values)] for values in (a_list, b_list))
    wanted = sum(i * j for i, j in zip(x, y)) / math.sqrt(sum(i * i for i in x) * sum(j * j for j in y))
    assert rank_correlation(a, b) == pytest.approx(wanted, abs=1e-12)
    assert rank_correlation(b, b.exp()) == pytest.approx(1) and rank_correlation(b, -b) == pytest.approx(-1)
    assert math.isnan(rank_correlation(a, torch.ones(6, 7)))


def test_share_and_where_a_sound_dominates():
    where = torch.zeros(4, 5, dtype=torch.bool)
    where[1] = True
    assert share_on(torch.ones(4, 5), where) == 0.25
    assert share_on(torch.where(where, -3.0, 1.0), where) == pytest.approx(15 / 30)
    time = torch.arange(16_000) / 16_000
    low, high = 0.1 * torch.sin(2 * torch.pi * 400 * time), 0.1 * torch.sin(2 * torch.pi * 4000 * time)
    cells = attribution.dominant(LogMel(), low, high, torch.zeros(1))[0, 0]
    centres = attribution.band_centres(LogMel())
    assert cells[:, abs(centres - 400).argmin()].all() and not cells[:, abs(centres - 4000).argmin()].any()


def test_band_centres():
    mel = torch.linspace(1127 * math.log1p(125 / 700), 1127 * math.log1p(7500 / 700), 66)
    edges = 700 * (torch.exp(mel / 1127) - 1)
    centres = torch.tensor(attribution.band_centres(LogMel()))
    assert ((centres > edges[:-2]) & (centres < edges[2:])).all()
    assert (abs(centres - edges[1:-1]) < (edges[2:] - edges[:-2]) / 4).all()
    assert (torch.tensor(attribution.band_centres(PANNsLogMel())).diff() > 0).all()


def test_bad_arguments():
    model, (frames, log_mel), mask = create(), clip(2, 64), ALL
    for second in (-1, 2):
        with pytest.raises(ValueError, match=f"second is {second}; this clip has seconds 0 to 1"):
            integrated_gradients(model, frames, log_mel, second, mask)
    for wrong in (mask[:32], mask.float(), ~mask):
        with pytest.raises(ValueError, match=r"mask is \(\d+, 64\).*expected bool, \(64, 64\)"):
            occlusion(model, frames, log_mel, 0, wrong)
    with pytest.raises(ValueError, match="steps is 0"):
        integrated_gradients(model, frames, log_mel, 0, mask, steps=0)
    with pytest.raises(ValueError, match="one clip"):
        integrated_gradients(model, frames, log_mel[:1], 0, mask)
    with pytest.raises(ValueError, match=r"patch is \(97, 8\)"):
        occlusion(model, frames, log_mel, 0, mask, patch=(97, 8))
    with pytest.raises(ValueError, match="no such layer"):
        grad_cam(model, frames, log_mel, 0, mask, nn.Conv2d(1, 1, 1))
    with pytest.raises(ValueError, match="a layer that returns a map"):
        grad_cam(model, frames, log_mel, 0, mask, model.audio)
    with pytest.raises(ValueError, match="parts is .'heads',.; expected names among"):
        attribution.randomised(model, 0, ("heads",))
    with pytest.raises(ValueError, match="one shape"):
        rank_correlation(torch.ones(3), torch.ones(4))
    with pytest.raises(ValueError, match="one shape"):
        share_on(torch.ones(3), torch.ones(4, dtype=torch.bool))
    with torch.no_grad():
        model.head[-1].weight.zero_()
        model.head[-1].bias.fill_(-1)
    with pytest.raises(ValueError, match="marks nothing in second 1"):
        integrated_gradients(model, frames, log_mel, 1)
    del model.head
    with pytest.raises(ValueError, match=r"lightavseg has no such layer \(head\)"):
        grad_cam(model, frames, log_mel, 0, mask)


def test_without_captum(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(ImportError, match="attribution needs Captum"):
        integrated_gradients(create(), *clip(size=64))


@pytest.mark.slow
def test_randomised_parts():
    model = create()
    state = torch.get_rng_state()
    head, everything = attribution.randomised(model, 1, ("head",)), attribution.randomised(model, 1)
    assert torch.equal(state, torch.get_rng_state())

    def changed(other):
        mine, others = model.state_dict(), other.state_dict()
        return {name.split(".")[0] for name, value in others.items() if not torch.equal(value, mine[name])}

    assert changed(head) == {"head"} and changed(everything) == {name for name, _ in model.named_children()}
    again = attribution.randomised(model, 1).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in everything.state_dict().items())


def test_figure():
    frames, log_mel = clip(2, 64)
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[:9, :9] = True
    sound, seen = (
        attribution.Attribution(torch.randn(shape), 1.0, mask, None) for shape in ((2, 1, 96, 64), (64, 64))
    )
    named = {"sound": sound, "seen": seen}
    figure = plots.attribution.attribution_figure(frames[1], log_mel, named, LogMel(), 1)
    axes = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in axes] == ["the mask explained", "heard", "sound", "seen"]
    assert axes[1].get_xlabel() == axes[2].get_xlabel() == "s" and axes[1].get_ylabel().endswith("Hz")
    assert axes[2].get_xlim() == (0, 0.96)
    drawn = axes[2].images[0]
    assert torch.equal(torch.tensor(drawn.get_array()), sound.values[1, 0].T)
    assert drawn.norm.vmin == -drawn.norm.vmax


# The model that the workbook ships, on clips that it never saw.

TINY = Path(__file__).resolve().parents[2] / "checkpoints" / "tiny"


@pytest.fixture(scope="module")
def shipped():
    return lav.load_model(TINY)


def clips_of(root, count):
    generate(root, "ms3", {"train": 1, "val": 1, "test": count}, size=128, seed=0, workers=1)
    return lav.data.AVSBench(root, "ms3", "test", 128)


@pytest.fixture(scope="module")
def test_clips(tmp_path_factory):
    """Three clips; the thirty of the long tests begin with them."""
    return clips_of(tmp_path_factory.mktemp("clips"), 3)


@pytest.fixture(scope="module")
def many_clips(tmp_path_factory):
    return clips_of(tmp_path_factory.mktemp("many_clips"), 30)


def interval(values):
    """Mean and the half width of its 95% interval (normal)."""
    values = torch.tensor(values)
    return values.mean().item(), 1.96 * values.std().item() / len(values) ** 0.5


def control(model, dataset, clips, **options):
    """Of each clip the first second in which two objects sound: for each object its share on its own bins,
    above the area, and above the share that the other object's attribution has there."""
    above_area, above_other = [], []
    for index in clips:
        sounding = sum(thing.sounding.astype(int) for thing in objects(dataset.root, "ms3", "test", index))
        for second in (sounding == 2).nonzero()[0][:1]:
            found = attribution.positive_control(model, dataset, index, int(second), **options)
            own, of_other = found.shares.diagonal(), found.shares.flip(0).diagonal()
            above_area.append((own - found.area).mean().item())
            above_other.append((own - of_other).mean().item())
    return above_area, above_other


def marked_seconds(model, dataset, clips):
    """Of each clip the first second in which the model marks something: (index, frame (1, 3, H, W), log-mel
    (1, 1, F, M), second)."""
    for index in clips:
        item = dataset[index]
        seconds = lav.evaluation.predict(model, item).flatten(1).any(1).nonzero().flatten().tolist()
        if seconds:
            t = seconds[0]
            yield index, item["frames"][t:t + 1], item["log_mel"][t:t + 1], t


def explain(model, dataset, clips):
    """Completeness errors and |rank correlation| with random weights, of the clips whose difference is at
    least 1."""
    fresh, errors, correlations = attribution.randomised(model, 0), [], []
    for _, frames, log_mel, _ in marked_seconds(model, dataset, clips):
        trained = integrated_gradients(model, frames, log_mel)
        if abs(trained.difference) >= 1:
            errors.append(abs(trained.values.sum().item() - trained.difference) / abs(trained.difference))
            random = integrated_gradients(fresh, frames, log_mel, 0, trained.mask, 32, math.inf)
            correlations.append(rank_correlation(trained.values.abs(), random.values.abs()))
    return errors, correlations


@pytest.mark.slow
def test_completeness_and_randomised_weights(shipped, test_clips):
    errors, correlations = explain(shipped, test_clips, range(2))
    assert len(errors) == 2 and max(errors) <= 0.01
    assert max(correlations) < 0.5


@pytest.mark.long
def test_completeness_and_randomised_weights_on_twenty_clips(shipped, many_clips):
    errors, correlations = explain(shipped, many_clips, range(22))
    assert len(errors) >= 20 and max(errors) <= 0.01
    assert max(correlations) < 0.5


def test_stem_cells_against_the_stems(test_clips):
    """Where two objects and the noise sound at once, bin by bin: each waveform's own log-mel says who is
    louder."""
    index, second = 1, 3
    front, root = test_clips.front_end, test_clips.root
    cells = attribution.stem_cells(test_clips, index)
    own, floor = stems(root, "test", index), noise(root, "test", index)
    for number, thing in enumerate(objects(root, "ms3", "test", index)):
        rest = sum(track for other, track in enumerate(own) if other != number) + floor
        tracks = (torch.from_numpy(track[second * 16_000:][:15_600]) for track in (own[number], rest))
        mine, theirs = (front.spectrogram(track).float() for track in tracks)
        assert (cells[number, second, 0] == (mine > theirs)).float().mean() > 0.999
        assert cells[number, second].any() == thing.sounding[second]


@pytest.mark.slow
def test_attribution_falls_on_what_sounds(shipped, test_clips):
    above_area, above_other = control(shipped, test_clips, range(1, 3), steps=32, tolerance=0.1)
    assert len(above_area) == 2 and min(above_area) > 0 and sum(above_other) > 0


@pytest.mark.long
def test_attribution_falls_on_what_sounds_in_twenty_clips(shipped, many_clips):
    for values in control(shipped, many_clips, range(25)):
        mean, half = interval(values)
        assert len(values) >= 20 and mean - half > 0

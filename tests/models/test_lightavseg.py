"""LightAVSeg is its equations, in any size, at a cost linear in pixels; its inference graph holds no loss."""

import itertools
import operator
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.tiny import create, inputs, trained
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import lightavseg_core as lav

OF_THE_LOSS = (
    "binary_cross_entropy", "clamp", "cosine", "linalg", "log", "norm", "pow", "rsqrt", "sigmoid", "sqrt",
    "square", "sum",
)


@pytest.fixture(scope="module")
def model():
    return trained()


# --- size and shape ---


def test_presets():
    models = {preset: lav.create_model("lightavseg", preset=preset) for preset in ("paper", "lean", "tiny")}
    count = {preset: sum(p.numel() for p in model.parameters()) for preset, model in models.items()}
    assert 20.0e6 <= count["paper"] <= 20.5e6  # reported: 20.5M
    assert count["lean"] <= 17.5e6 and count["tiny"] < 3e6
    paper = models["paper"].config
    assert (paper.visual, paper.audio, paper.size) == ("seaformer_l", "mobilenetv2_100", 224)


SIZES = [(32, 32, 1, 1), (33, 47, 1, 1), (64, 100, 2, 1), (40, 65, 1, 7)]


@pytest.mark.parametrize("height, width, clips, seconds", SIZES)
def test_any_size(model, height, width, clips, seconds):
    given = inputs(clips, seconds, height, width)
    with torch.inference_mode():
        output, scales = model(*given), model(*given, return_scales=True).scales
    assert output.logits.shape == (clips, seconds, 1, height, width) and output.logits.isfinite().all()
    assert output.scales is None and len(scales) == 5
    for scale, stride in zip(scales, (64, 32, 16, 8, 4)):  # coarse to fine
        h, w = -(-height // stride), -(-width // stride)
        assert scale.visual.shape == (clips, seconds, 8, h, w) and scale.audio.shape == (clips, seconds, 8)
        expected = F.cosine_similarity(scale.visual, scale.audio[..., None, None], dim=2)
        assert torch.allclose(scale.similarity, expected, atol=1e-5)
        assert scale.similarity.shape == (clips, seconds, h, w) and scale.similarity.abs().max() <= 1 + 1e-5


def test_frames_do_not_know_of_each_other(model):
    frames, log_mel = inputs(2, 3)
    with torch.inference_mode():
        together = model(frames, log_mel).logits
        alone = torch.empty_like(together)
        for b, t in itertools.product(range(2), range(3)):
            alone[b, t] = model(frames[b, t][None, None], log_mel[b, t][None, None]).logits[0, 0]
        changed = frames.clone()
        changed[1, 2] = 9
        others = torch.ones(2, 3, dtype=torch.bool)
        others[1, 2] = False
        after = model(changed, log_mel).logits
    assert torch.allclose(together, alone, atol=1e-4)
    assert torch.allclose(after[others], together[others], atol=1e-4)
    assert not torch.allclose(after[1, 2], together[1, 2], atol=1e-2)


def test_shapes_that_do_not_fit_are_named(model):
    frames, log_mel = inputs(1, 2)
    misfits = [
        (frames[0], log_mel, "frames has shape"),
        (frames[..., :31], log_mel, "at least 32"),
        (frames[:, :, :2], log_mel, "frames has shape"),
        (frames, log_mel[:, :1], "log_mel has shape"),
        (frames, log_mel[0], "log_mel has shape"),
    ]
    for seen, heard, named in misfits:
        with pytest.raises(ValueError, match=named):
            model(seen, heard)


# --- the equations ---


def pointwise(convolution, vector):
    """A 1x1 convolution of (C,) as a matrix product."""
    matrix, bias = convolution.weight[:, :, 0, 0].detach().numpy(), convolution.bias.detach().numpy()
    return np.einsum("oi,i->o", matrix, vector) + bias


def hsigmoid(x):
    return np.clip(x / 6 + 0.5, 0, 1)


def per_channel(vector):
    """(C,) of numpy -> (C, 1, 1) of torch, to be added to a map."""
    return torch.from_numpy(vector)[:, None, None]


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_equations(pooling):
    """RAVE and CMFD again, from the module's weights, for one frame, with loops over stages and numpy vectors
    for the audio."""
    model = create(pooling=pooling).double()
    frames, log_mel = (x.double() for x in inputs(height=64, width=96))

    def drop(positions):
        """(C, H, W) -> (C,)"""
        kept = positions.amax((1, 2)) if pooling == "max" else positions.mean((1, 2))
        return kept.numpy()

    with torch.inference_mode():
        output = model(frames, log_mel, return_scales=True)
        state, x, stages = model.audio(log_mel[0])[0].numpy(), frames[0], []
        for stage, rave in zip(model.visual.stages, model.rave):
            seen = stage(x)[0]                                        # V_i
            gate = hsigmoid(pointwise(rave.gate, drop(seen)))
            state = pointwise(rave.project, state) * gate             # A_i
            enhanced = seen + per_channel(state)                      # V_i^enc
            stages.append((enhanced, state))
            x = enhanced[None]                                        # what the next stage reads
        above, refined = None, None
        for i, scale in zip(reversed(range(5)), output.scales):
            enhanced, state = stages[i]
            cmfd, lateral = model.cmfd[i], model.lateral[i]
            state = pointwise(cmfd.lateral, state)
            merged = pointwise(cmfd.merge, state if refined is None else np.concatenate([refined, state]))
            refined = np.maximum(merged, 0) * hsigmoid(pointwise(cmfd.gate, drop(enhanced)))         # Â_i
            decoded = torch.einsum("oc,chw->ohw", lateral.weight[:, :, 0, 0], enhanced)
            decoded = decoded + lateral.bias[:, None, None]
            if above is not None:
                decoded = decoded + F.interpolate(above, size=decoded.shape[1:], mode="bilinear")[0]
            decoded = decoded + per_channel(pointwise(cmfd.broadcast, refined))                      # V_i^dec
            assert torch.allclose(scale.visual[0, 0], decoded, rtol=1e-8)
            assert np.allclose(scale.audio[0, 0], refined, rtol=1e-8)
            above = model.smooth[i](decoded[None])
        logits = F.interpolate(model.head(above), size=(64, 96), mode="bilinear")
        assert torch.allclose(output.logits[0], logits, rtol=1e-8)
    assert refined.any(), "the audio is not dead"


def test_audio_is_one_number_per_channel(model):
    """AGVE adds the same to every position, at every stage."""
    frames, log_mel = inputs(height=128, width=96)
    seen, hooks = [], []
    for stage in model.visual.stages:
        hooks.append(stage.register_forward_hook(lambda module, given, result: seen.append(result)))
    with torch.inference_mode():
        enhanced, _ = model.encode(frames[0], model.audio(log_mel[0])[..., None, None])
    for hook in hooks:
        hook.remove()
    assert len(seen) == 5
    for before, after in zip(seen, enhanced):
        added = after - before
        assert torch.allclose(added, added[..., :1, :1].expand_as(added), atol=1e-4)
        assert added.abs().max() > 1e-3


@pytest.mark.parametrize("agve, har, cmfd", itertools.product([False, True], repeat=3))
@pytest.mark.slow
def test_switches(agve, har, cmfd):
    model = create(agve=agve, har=har, cmfd=cmfd)
    frames, log_mel = inputs()
    with torch.inference_mode():
        one, other = (model(frames, sound, return_scales=True) for sound in (log_mel, -log_mel))
    assert not torch.equal(one.logits, other.logits), "the audio reaches the logits"
    assert len(one.scales) == 5
    assert all(not torch.equal(a.audio, b.audio) for a, b in zip(one.scales, other.scales))
    assert (model.static is not None) == (not agve and not cmfd)
    assert all((stage.gate is not None) == har for stage in model.rave)
    assert all(hasattr(stage, "merge") == cmfd for stage in model.cmfd)
    heard = [model.audio(sound[0])[..., None, None] for sound in (log_mel, -log_mel)]
    encoded = [model.encode(frames[0], audio)[0] for audio in heard]
    used = []
    model.cmfd[0].lateral.register_forward_hook(lambda *_: used.append(True))
    model(frames, log_mel)
    assert bool(used) == cmfd, "what is only compared is left out where no scales are asked for"
    inside = [torch.equal(a, b) for a, b in zip(*encoded)]
    assert inside == [not agve] * 5, "the encoder hears only through AGVE"


def test_pooling():
    logits = {how: create(pooling=how)(*inputs()).logits for how in ("max", "avg")}
    assert not torch.allclose(logits["max"], logits["avg"])


# --- cost, and what the inference graph holds ---


class Elements(TorchDispatchMode):
    """Counts the elements of every tensor that is made."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.count += result.numel() if isinstance(result, torch.Tensor) else 0
        return result


def cost(run, *arguments):
    """(Elements made and operations, operations alone) of run(*arguments)."""
    with Elements() as elements, FlopCounterMode(display=False) as flops:
        run(*arguments)
    return elements.count + flops.get_total_flops(), flops.get_total_flops()


@torch.inference_mode()
def test_fusion_is_linear_in_pixels(model):
    def fuse(maps, audios):
        for stage, visual, audio in zip(model.rave, maps, audios):
            stage(visual, audio)

    rave, cmfd = [], []
    for side in (64, 128, 256):
        frames, log_mel = inputs(height=side, width=side)
        audio, maps = model.audio(log_mel[0])[..., None, None], model.visual(frames[0])
        visuals, audios = model.encode(frames[0], audio)
        rave.append(cost(fuse, maps, [audio, *audios]))
        cmfd.append(cost(model.decode, visuals, audios, audio))
    assert len({flops for _, flops in rave}) == 1, "RAVE multiplies vectors only, whatever the resolution"
    for costs in (rave, cmfd):
        (a, _), (b, _), (c, _) = costs
        assert 1 < b / a <= 4.01 and 1 < c / b <= 4.01 and c / b >= b / a, costs
    small, large = (cost(torch.outer, torch.ones(side**2), torch.ones(side**2))[0] for side in (16, 32))
    assert large / small > 10, "attention between pixels would be seen"


@pytest.mark.slow
def test_inference_graph_holds_nothing_of_the_alignment_loss():
    model, (frames, log_mel) = create(), inputs(1, 2)

    def calls(program):
        return [node for node in program.graph.nodes if node.op == "call_function"]

    def operations(program):
        return Counter(str(node.target).removeprefix("aten.") for node in calls(program))

    program = torch.export.export(model, (frames, log_mel))
    plain, analysed = operations(program), operations(torch.export.export(model, (frames, log_mel, True)))
    assert not any(name.startswith(OF_THE_LOSS) for name in plain)
    assert any(name.startswith(OF_THE_LOSS) for name in analysed)
    assert not plain - analysed and analysed["conv2d.default"] == plain["conv2d.default"]
    # One scales the log-mel; the others are the cosines of five scales.
    assert plain["div.Tensor"] == 1 and analysed["div.Tensor"] > 5
    unused = {str(node.target) for node in calls(program) if not node.users}
    assert unused <= {str(operator.getitem)}, "all that is computed is used, but for the positions of maxima"
    exported = program.module()(frames, log_mel)
    assert exported.scales is None
    assert torch.allclose(exported.logits, model(frames, log_mel).logits, atol=1e-6)


# --- the audio encoder ---


def test_another_audio_encoder(model):
    class Louder(nn.Module):
        def forward(self, log_mel):  # (B, 1, F, M) -> (B, 1280)
            return log_mel.mean((1, 2)).repeat(1, 20)

    other = create()
    other.audio = Louder()
    frames, log_mel = inputs(2, 3)
    with torch.inference_mode():
        one, two = other(frames, log_mel).logits, other(frames, log_mel + 1).logits
    assert one.shape == (2, 3, 1, 64, 64) and not torch.equal(one, two)


def test_frozen_audio_keeps_its_statistics():
    model = create()
    model.freeze_audio()
    frozen = {name: value.clone() for name, value in model.audio.state_dict().items()}
    statistics = model.visual.stages[0][0][0].bn.running_mean.clone()
    model.train()
    assert model.training and model.visual.training
    assert not any(module.training for module in model.audio.modules())
    model(*inputs(2, 1)).logits.sum().backward()
    assert all(p.grad is None for p in model.audio.parameters())
    assert model.rave[0].project.weight.grad.abs().sum() > 0
    assert all(torch.equal(value, frozen[name]) for name, value in model.audio.state_dict().items())
    assert not torch.equal(statistics, model.visual.stages[0][0][0].bn.running_mean)

"""What a model is given, and what it is made of: one line that names the argument, at no cost elsewhere."""

import copy
import re

import pytest
import torch
from helpers.tiny import create, inputs
from torch import nn

import lightavseg_core as lav

FRAMES, LOG_MEL = inputs(1, 2)


@pytest.fixture(scope="module")
def model():
    return create()


class Ear(nn.Module):
    """An encoder of one's own, (N, 1, F, M) -> (N, width), of any F and M."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(1, width)

    def forward(self, log_mel):
        return self.linear(log_mel.mean((2, 3)))


WRONG = {
    "transposed": (FRAMES, LOG_MEL.mT, r"log_mel .*\(1, 2, 1, 64, 96\); expected \(1, 2, 1, 96, 64\)"),
    "another front end's": (FRAMES, torch.randn(1, 2, 1, 101, 64), r"expected \(1, 2, 1, 96, 64\)"),
    "of a stereo waveform": (FRAMES, torch.stack([LOG_MEL[0]] * 2)[None], "log_mel .*waveform.mean.0."),
    "8-bit frames": (FRAMES.byte(), LOG_MEL, "frames is torch.uint8; expected torch.float32.*prepare_frame"),
    "float64 frames": (FRAMES.double(), LOG_MEL, r"frames is torch.float64.*: frames.to\(torch.float32\)"),
    "float64 sound": (FRAMES, LOG_MEL.double(), r"log_mel is torch.float64.*: log_mel.to\(torch.float32\)"),
    "whole numbers of sound": (FRAMES, LOG_MEL.long(), "log_mel is torch.int64"),
    "half of it": (FRAMES.half(), LOG_MEL, "frames is torch.float16"),
    "an array": (FRAMES.numpy(), LOG_MEL, "frames is ndarray; expected a tensor: convert an array"),
    "an array of sound": (FRAMES, LOG_MEL.numpy(), "log_mel is ndarray"),
    "no clips": (FRAMES[:0], LOG_MEL[:0], r"frames has shape \(0, 2, 3, 64, 64\); .*B and T at least 1"),
    "no seconds": (FRAMES[:, :0], LOG_MEL[:, :0], r"frames has shape \(1, 0, 3, 64, 64\)"),
    "channels last": (FRAMES.movedim(2, -1), LOG_MEL, r"frames has shape \(1, 2, 64, 64, 3\)"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_model_does_not_take(model, what):
    frames, log_mel, words = WRONG[what]
    for of in (model, copy.deepcopy(model).train()):
        with pytest.raises(ValueError, match=words) as error:
            of(frames, log_mel)
        assert "\n" not in str(error.value)


def test_what_a_model_takes(model):
    with torch.inference_mode():
        whole = model(FRAMES, LOG_MEL).logits
        double = copy.deepcopy(model).double()(FRAMES.double(), LOG_MEL.double()).logits
        assert double.dtype == torch.float64 and torch.allclose(double.float(), whole, atol=1e-3)
        with torch.autocast("cpu", torch.bfloat16):
            assert model(FRAMES.bfloat16(), LOG_MEL).logits.shape == whole.shape


@pytest.mark.parametrize("method", lav.list_methods())
def test_a_single_position_in_training(method):
    """The remedy is in the message, and each of them is one."""
    model = lav.create_model(method, preset="tiny").train()
    frames, log_mel = inputs(1, 1, 32, 64)
    with pytest.raises(ValueError, match="more than 1 value per channel: call model.eval") as error:
        model(frames, log_mel)
    assert str(error.value).startswith("frames has shape (1, 1, 3, 32, 64)") and "\n" not in str(error.value)
    assert error.value.__suppress_context__
    model(*inputs(1, 2, 32, 64))
    model(*inputs(1, 1, 96, 96))
    model.eval()(frames, log_mel)


def test_other_errors_stay_as_they_are(model, monkeypatch):
    def segment(*_):
        raise ValueError("of a method's own")

    monkeypatch.setattr(type(model), "segment", segment)
    with pytest.raises(ValueError, match="^of a method's own$"):
        model(FRAMES, LOG_MEL)


@pytest.mark.slow
def test_the_checks_are_in_no_graph(model, monkeypatch):
    """What is compiled or exported has the same operators as without them, in one graph."""
    small = copy.deepcopy(model)
    small.audio = Ear(small.audio_channels)

    def segment(self, frames, log_mel, with_scales):
        heard = self.hear(log_mel.flatten(0, 1)).mean(1)
        return frames.mean(2, keepdim=True) + heard.view(1, -1, 1, 1, 1), None

    monkeypatch.setattr(type(model), "segment", segment)

    class Unchecked(nn.Module):
        def __init__(self):
            super().__init__()
            self.audio = small.audio

        def forward(self, frames, log_mel):
            heard = self.audio(log_mel.flatten(0, 1)).mean(1)
            return frames.mean(2, keepdim=True) + heard.view(1, -1, 1, 1, 1)

    def operators(module, strict):
        graph = torch.export.export(module, (FRAMES, LOG_MEL), strict=strict).graph
        return [str(node.target) for node in graph.nodes if node.op == "call_function"]

    for strict in (False, True):
        assert operators(small, strict) == operators(Unchecked(), strict)
    graphs = []

    def as_it_is(graph, _):
        graphs.append(graph)
        return graph.forward

    torch.compile(small, backend=as_it_is, fullgraph=True)(FRAMES, LOG_MEL)
    assert len(graphs) == 1


# --- an audio encoder of one's own ---


@pytest.mark.parametrize("method", lav.list_methods())
@pytest.mark.slow
def test_an_encoder_of_another_width_is_told_the_width(method):
    model = lav.create_model(method, preset="tiny").eval()
    model.audio = Ear(77)
    wanted = re.escape(f"audio returns shape (2, 77); expected (2, {model.audio_channels})")
    with pytest.raises(ValueError, match=wanted):
        model(FRAMES, LOG_MEL)
    model.audio = Ear(model.audio_channels)
    with torch.inference_mode():
        assert model(FRAMES, LOG_MEL).logits.isfinite().all()
        model(FRAMES, LOG_MEL.mT)  # it takes any, for all we know


PARTS = {
    "audio": lambda model: Ear(model.audio_channels),
    "visual": lambda model: nn.Identity(),
    "head": lambda model: nn.Conv2d(8, 3, 1),
    "more": lambda model: nn.Linear(2, 2),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.slow
def test_what_could_not_be_loaded_is_not_saved(part, tmp_path):
    model, folder = create(), tmp_path / "model"
    model.save_pretrained(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    setattr(model, part, PARTS[part](model))
    for place in (folder, tmp_path / "new"):
        words = f"^{part}: differs from what the configuration of lightavseg builds"
        with pytest.raises(ValueError, match=words) as error:
            model.save_pretrained(place)
        assert "could not be loaded" in str(error.value) and "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (tmp_path / "new").exists()
    setattr(model, part, getattr(create(), part, None))
    if part != "more":
        model.save_pretrained(tmp_path / "new")


@pytest.mark.slow
def test_training_begins_with_what_can_be_saved(shapes, tmp_path):
    """And nothing is lost to a checkpoint that is refused after an hour."""
    data = lav.data.AVSBench(shapes, "ms3", "test", 64)
    model = create()
    model.audio = Ear(model.audio_channels)
    with pytest.raises(ValueError, match="^audio: differs from what the configuration"):
        lav.Trainer(model, lav.TrainConfig(epochs=1), tmp_path / "run").fit(data, data)
    assert not (tmp_path / "run").exists()


def test_saving_draws_no_random_number(tmp_path):
    model, state = create(), torch.get_rng_state()
    model.save_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)

"""A recipe replaces defaults, what is given beside it wins, and it is said to be unverified."""

import json
from dataclasses import fields

import pytest
import torch
from helpers import parity
from safetensors.torch import save_file

from lightavseg_core import cli, load_model
from lightavseg_core.audio_pretraining import load_audio
from lightavseg_core.config import TrainConfig
from lightavseg_core.data.sounding_shapes import generate
from lightavseg_core.encoders import AUDIO, VISUAL, create_audio_encoder, create_visual_encoder
from lightavseg_core.models.base import METHODS
from lightavseg_core.recipes import RECIPES, UNVERIFIED


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    clips = {"train": 2, "val": 1, "test": 1}
    return generate(tmp_path_factory.mktemp("data"), "ms3", clips, size=64, workers=1)


def parsed(monkeypatch, *arguments) -> cli.train.Train:
    seen = []
    monkeypatch.setattr(cli.train.Train, "run", lambda self: seen.append(self) or 0)
    with pytest.raises(SystemExit) as exit:
        cli.main(["train", "--data", "d", "--out", "o", *arguments])
    assert not exit.value.code
    return seen[0]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_options_that_exist(name):
    recipe = RECIPES[name]
    for subset in recipe.train:
        model, train = recipe.of(subset)
        TrainConfig(**train).check()
        assert set(model) <= METHODS[recipe.method].config_class.__dataclass_fields__.keys()
        assert model.get("visual", "resnet50") in VISUAL and model.get("audio", "vggish") in AUDIO


# What the papers and the published code say: epochs, clips, rate, weight decay, auxiliary loss, frames' side.
PUBLISHED = {
    ("paper", "s4"): (60, 8, 1e-4, 0.01, "alignment", None),
    ("paper", "avss"): (60, 8, 1e-4, 0.01, "alignment", None),
    ("avsbench", "s4"): (15, 4, 1e-4, 0.0, "none", 224),
    ("avsbench", "ms3"): (30, 4, 1e-4, 0.0, "matching", 224),
    ("avsegformer", "s4"): (30, 2, 2e-5, 0.01, "mixing", 512),
    ("avsegformer", "ms3"): (60, 2, 2e-5, 0.01, "mixing", 512),
    ("selm", "s4"): (40, 2, 2e-5, 0.05, "selection", 224),
    ("selm", "ms3"): (100, 1, 2e-5, 0.05, "selection", 448),
}


@pytest.mark.parametrize("name, subset", PUBLISHED)
def test_a_recipe_replaces_the_defaults(monkeypatch, name, subset):
    command = parsed(monkeypatch, "--recipe", name, "--subset", subset)
    model, _ = RECIPES[name].of(subset)
    given = ("epochs", "batch_size", "learning_rate", "weight_decay", "auxiliary")
    found = *(getattr(command, option) for option in given), model.get("size")
    assert found == PUBLISHED[name, subset]
    assert (command.method, command.preset, command.schedule) == (RECIPES[name].method, "paper", "constant")


def test_what_is_given_wins(monkeypatch):
    """Also where it is the default's own value, before and after --recipe."""
    default = TrainConfig()
    epochs, rate = str(default.epochs), str(default.learning_rate)
    options = ["--epochs", epochs, "--recipe", "avsbench", "--learning-rate", rate, "--flip"]
    command = parsed(monkeypatch, *options)
    assert (command.epochs, command.learning_rate) == (default.epochs, default.learning_rate) and command.flip
    assert (command.weight_decay, command.segmentation) == (0.0, "bce")
    plain = parsed(monkeypatch)
    assert all(getattr(plain, f.name) == getattr(default, f.name) for f in fields(TrainConfig))
    assert plain.preset == "tiny"


@pytest.mark.slow
def test_training_by_a_recipe(data, tmp_path, capsys):
    """Its loss and schedule are used, and the reader is told what it is worth."""
    torch.manual_seed(0)
    visual, audio = create_visual_encoder("seaformer_t"), create_audio_encoder("mobilenetv2_050")
    published = {visual.published_name(name): value for name, value in visual.state_dict().items()}
    torch.save(published, tmp_path / "visual.pth")
    save_file(audio.state_dict(), tmp_path / "audio.safetensors")
    arguments = {
        "--data": data,
        "--out": tmp_path / "run",
        "--recipe": "avsbench",
        "--preset": "tiny",
        "--visual": "seaformer_t",
        "--audio": "mobilenetv2_050",
        "--size": 64,
        "--epochs": 1,
        "--learning-rate": 1e-9,
        "--visual-weights": tmp_path / "visual.pth",
        "--audio-weights": tmp_path / "audio.safetensors",
    }
    with pytest.raises(SystemExit) as exit:
        cli.main(["train", *(str(word) for pair in arguments.items() for word in pair)])
    out = capsys.readouterr().out
    assert not exit.value.code and UNVERIFIED in out
    assert "tensors from" in out and "give --visual-weights" not in out
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (step,) = [entry for entry in log if entry["event"] == "step"]
    assert step["loss"] == pytest.approx(step["segmentation"] + 0.5 * step["matching"], rel=1e-4)
    model = load_model(tmp_path / "run" / "last")
    assert model.config.method == "avsbench"
    for ours, given in zip(model.audio.parameters(), audio.parameters()):
        assert torch.equal(ours, given)
    for ours, given in zip(model.visual.parameters(), visual.parameters()):
        assert torch.allclose(ours, given, atol=1e-6)


ERRORS = {
    "misspelled": (["--recipe", "avsbenhc"], "did you mean 'avsbench'"),
    "subset": (["--recipe", "selm", "--subset", "avss"], "s4 and ms3"),
    "method": (["--recipe", "selm", "--method", "lightavseg"], "trains selm"),
    "encoder": (
        ["--recipe", "paper", "--audio-weights", "joint", "--visual", "seaformer_x"],
        "unknown visual encoder",
    ),
    "audio": (["--recipe", "avsbench"], "give --audio-weights"),
    "weights": (["--visual-weights", "absent.pth"], "absent.pth"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_mistakes_end_in_one_line(case, data, tmp_path, capsys):
    arguments, named = ERRORS[case]
    with pytest.raises(SystemExit) as exit:
        cli.main(["train", "--data", str(data), "--out", str(tmp_path / "run"), *arguments])
    error = capsys.readouterr().err
    assert exit.value.code == 2 and named in error and len(error.strip().splitlines()) == 1


def test_audio_weights_as_published(tmp_path):
    """The authors' file, by their names, which are not ours."""
    published = parity.state_dict(parity.load("panns_mobilenetv2.json")["state_dict"])
    torch.save({"model": published}, tmp_path / "panns.pth")
    ours, expected = create_audio_encoder("panns_mobilenetv2"), create_audio_encoder("panns_mobilenetv2")
    expected.load_published(tmp_path / "panns.pth")
    load_audio(ours, tmp_path / "panns.pth")
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), expected.parameters()))

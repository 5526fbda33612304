"""What a model saves is what it loads; everything else is refused in one line, and a save that fails leaves
the old model."""

import json
import os

import pytest
import safetensors.torch
import torch
from helpers.tiny import create, inputs, trained

import lightavseg_core as lav
from lightavseg_core.video import segmenter


@pytest.fixture(scope="module")
def model():
    return trained()


@pytest.mark.slow
def test_round_trip(model, tmp_path):
    assert not model.save_pretrained(tmp_path / "m")
    assert sorted(os.listdir(tmp_path / "m")) == ["README.md", "config.json", "model.safetensors"]
    loaded = lav.load_model(tmp_path / "m")
    assert loaded.config == model.config and type(loaded.config) is type(model.config) and not loaded.training
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    frames, log_mel = inputs(1, 2)
    with torch.inference_mode():
        assert torch.equal(loaded(frames, log_mel).logits, model(frames, log_mel).logits)
    loaded.save_pretrained(tmp_path / "again")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "m" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


@pytest.mark.parametrize("broken", ["weights", "rename"])
@pytest.mark.slow
def test_a_save_that_fails_leaves_the_old_model(model, tmp_path, monkeypatch, broken):
    model.save_pretrained(tmp_path)
    other = create()

    def write_half(tensors, filename, metadata=None):
        with open(filename, "wb") as file:
            file.write(b"\x10" * 1000)
        raise OSError("no space left on device")

    def refuse(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        if broken == "weights":
            patch.setattr(safetensors.torch, "save_file", write_half)
        else:
            patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="no space"):
            other.save_pretrained(tmp_path)
    kept = lav.load_model(tmp_path).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert sorted(os.listdir(tmp_path)) == ["README.md", "config.json", "model.safetensors"]


def refused(error, path, *expected):
    with pytest.raises(error) as caught:
        lav.load_model(path)
    assert type(caught.value) is error and "\n" not in str(caught.value)
    for text in (str(path), *expected):
        assert text in str(caught.value)


@pytest.mark.slow
def test_the_shipped_model_is_found_from_every_folder(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    assert lav.load_model("checkpoints/tiny").config.size == 128
    assert segmenter.load("checkpoints/tiny").about["sha256"].keys() == {"config.json", "model.safetensors"}
    model.save_pretrained("checkpoints/tiny")
    assert lav.load_model("checkpoints/tiny").config.width == 8, "what lies there wins"
    refused(FileNotFoundError, "checkpoints/ear", "no such folder")


@pytest.mark.slow
def test_the_class_loads_as_strictly_as_load_model(model, tmp_path):
    model.save_pretrained(tmp_path / "m")
    for cls in (lav.models.AVSModel, lav.models.LightAVSeg):
        loaded = cls.from_pretrained(tmp_path / "m")
        assert type(loaded) is lav.models.LightAVSeg and loaded.config == model.config and not loaded.training
        values = loaded.state_dict()
        assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"m: holds a LightAVSeg model; expected AVESFormer\."):
        lav.models.AVESFormer.from_pretrained(tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    del tensors["audio.network.conv_stem.weight"]
    safetensors.torch.save_file(tensors, weights)
    with pytest.raises(ValueError, match="1 of .* tensors are missing, first audio.network.conv_stem.weight"):
        lav.models.LightAVSeg.from_pretrained(tmp_path / "m")


@pytest.mark.slow
def test_folders_that_hold_no_model(model, tmp_path):
    refused(FileNotFoundError, tmp_path / "absent", "expected a model folder")
    refused(FileNotFoundError, "/absent", "expected a model folder")
    refused(FileNotFoundError, tmp_path, "config.json")
    model.save_pretrained(tmp_path / "m")
    refused(FileNotFoundError, tmp_path / "m" / "config.json", "expected a model folder")
    weights = tmp_path / "m" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    refused(ValueError, tmp_path / "m", "model.safetensors", "not a checkpoint")
    create(width=16).save_pretrained(tmp_path / "wide")
    weights.write_bytes((tmp_path / "wide" / "model.safetensors").read_bytes())
    refused(ValueError, tmp_path / "m", "another shape")
    weights.unlink()
    refused(FileNotFoundError, tmp_path / "m", "model.safetensors", "missing. A model folder needs")


NO_CONFIGURATIONS = ["{", "[]", "null", "{}", '"lightavseg"', "\xff"]
CHANGES = [
    {"method": "lightavsec"},
    {"method": ["lightavseg"]},
    {"widht": 8},
    {"width": "8"},
    {"width": 8.0},
    {"width": -8},
    {"width": 10**12},
    {"visual": 3},
    {"visual": "seaformer_xl"},
    {"audio": []},
    {"num_classes": 0},
    {"num_classes": 10**12},
    {"pooling": "median"},
    {"agve": "yes"},
    {"agve": None},
    {"cmfd": False},
]


@pytest.mark.parametrize("change", NO_CONFIGURATIONS + CHANGES, ids=repr)
@pytest.mark.slow
def test_a_tampered_configuration_is_refused(model, tmp_path, change):
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    if isinstance(change, dict):
        change = json.dumps(json.loads(path.read_text()) | change)
    path.write_bytes(change.encode("latin1"))
    with pytest.raises(ValueError) as caught:
        lav.load_model(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments, options, near",
    [
        (["lightavsegg"], {}, "lightavseg"),
        (["lightavseg", "tiney"], {}, "tiny"),
        (["lightavseg"], {"widht": 64}, "width"),
        (["lightavseg", "tiny"], {"visual": "seaformer-t"}, "seaformer_t"),
        (["lightavseg", "tiny"], {"audio": "mobilenetv2_05"}, "mobilenetv2_050"),
    ],
)
def test_misspelt_names_get_a_suggestion(arguments, options, near):
    with pytest.raises(ValueError, match=f"unknown .*did you mean '{near}'"):
        lav.create_model(*arguments, **options)

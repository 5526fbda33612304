"""What tests of files that mean harm share."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch

import lightavseg_core as lav
from lightavseg_core import encoders

ROOT = Path(__file__).parents[2]
CONFIG = json.loads((ROOT / "checkpoints/tiny/config.json").read_text())
OLD = {"_use_new_zipfile_serialization": False}  # PyTorch's older format


@cache
def visual(name):
    with torch.device("meta"):
        return encoders.create_visual_encoder(name)


@cache
def audio(name):
    with torch.device("meta"):
        return encoders.create_audio_encoder(name)


@cache
def model(name):
    with torch.device("meta"):
        return lav.create_model(name, visual="resnet50", audio="vggish")


def refused(call, path, *words):
    """What is said, in one line, of a file that is not taken."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        call(path)
    said = str(caught.value)
    assert said.isprintable() and len(said) < 600, said
    assert all(word in said for word in (Path(path).name, *words)), said
    return said

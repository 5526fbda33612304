"""A configuration that holds something else than its annotations say is refused in one line."""

import math
from dataclasses import fields
from pathlib import Path

import pytest

from lightavseg_core import TrainConfig
from lightavseg_core.recipes import RECIPES

WRONG = {
    "learning_rate": {-1: "at least 0", math.nan: "at least 0", math.inf: "at most", "1": "float"},
    "weight_decay": {-0.1: "at least 0", None: "float"},
    "alignment_weight": {-1: "at least 0", -math.inf: "at least 0"},
    "clip_norm": {-1: "at least 0", math.nan: "at least 0"},
    "epochs": {-1: "at least 0", 2.5: "int", True: "int", "3": "int"},
    "batch_size": {0: "at least 1"},
    "frames": {-1: "at least 0", 0.5: "int"},
    "accumulate": {0: "at least 1", 1.5: "int"},
    "audio_epochs": {0: "at least 1"},
    "validate_every": {0: "at least 1"},
    "half": {-0.1: "at least 0", 1.5: "at most 1"},
    "three_quarters": {2: "at most 1"},
    "negatives": {-0.1: "at least 0", 1.5: "at most 1"},
    "freeze_visual": {-1: "at least 0"},
    "save_minutes": {-1: "at least 0", math.nan: "at least 0"},
    "seed": {-1: "at least 0", 2**32: "at most 4294967295", None: "int"},
    "workers": {-1: "at least 0", 1.5: "int"},
    "flip": {1: "True or False"},
    "recompute": {0: "True or False"},
    "schedule": {"cosine": "Known: constant, one_cycle"},
    "precision": {"fp16": "did you mean 'bf16'"},
    "segmentation": {"dice": "unknown segmentation 'dice'"},
    "auxiliary": {"alignmnet": "did you mean 'alignment'"},
    "audio_weights": {3: "str"},
}
RIGHT = [
    {"epochs": 0}, {"learning_rate": 1}, {"learning_rate": 0.0}, {"clip_norm": math.inf}, {"workers": None},
    {"seed": 2**32 - 1}, {"audio_weights": Path("a.pth")}, {"freeze_visual": 99},
]


def test_values_that_cannot_be_trained_with():
    assert WRONG.keys() == {field.name for field in fields(TrainConfig)}
    for name, values in WRONG.items():
        for value, wanted in values.items():
            with pytest.raises(ValueError) as error:
                TrainConfig(**{name: value}).check()
            said = str(error.value)
            assert name in said and wanted in said and str(value) in said and "\n" not in said


def test_values_that_can_be_trained_with():
    published = [options for recipe in RECIPES.values() for options in recipe.train.values()]
    for options in [{}, *RIGHT, *published]:
        TrainConfig(**options).check()

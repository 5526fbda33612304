"""checkpoints/photos: what its card says, and whether it knows the photographs or the generator."""

from pathlib import Path

import pytest
from helpers.casts import photographs
from helpers.composed import compose

import lightavseg_core as lav
from lightavseg_core.data.sounding_shapes import generate

MODEL = Path(__file__).resolve().parents[2] / "checkpoints" / "photos"


@pytest.mark.slow
def test_its_clips_and_those_of_another_program(tmp_path):
    cast, model = photographs(), lav.load_model(MODEL)
    card = (MODEL / "README.md").read_text()
    told = float(next(line for line in card.splitlines() if line.startswith("| its own |")).split("|")[2])
    generate(tmp_path / "own", "ms3", {"test": 40}, 128, cast="photos", workers=1)
    own = lav.data.AVSBench(tmp_path / "own", "ms3", "test", 128, model.front_end)
    scores = {sound: lav.evaluate(model, own, sound) for sound in ("normal", "swapped", "silent")}
    assert abs(scores["normal"]["M_J"] - told) < 0.06  # of 320 clips these are the first
    assert scores["normal"]["M_J"] > lav.deaf_oracle(own)["M_J"] + 0.1 > scores["swapped"]["M_J"] + 0.1
    assert scores["silent"]["foreground_share"] < 0.005
    compose(tmp_path / "other", [one for one in cast.cutouts if not one.unseen], 40)
    other = lav.data.AVSBench(tmp_path / "other", "ms3", "test", 128, model.front_end)
    assert lav.evaluate(model, other)["M_J"] > 0.6

"""Eyes that have seen ImageNet against eyes that have not: one difference, one ear, scored on who was seen
and on who was not."""

from dataclasses import replace

import pytest
from helpers.casts import exam_questions, photographs
from helpers.published import imagenet_weights
from safetensors.torch import load_file

import lightavseg_core as lav
from lightavseg_core._common.files import sha256
from lightavseg_core.encoders.checkpoints import read_tensors
from lightavseg_core.experiments import results, runs, sweep, training

PLACES = ("scores", "scores_siblings", "scores_unseen")


def test_they_differ_in_the_weights_that_they_begin_with():
    seen, blind = (runs.RUNS[name] for name in runs.EXPERIMENTS["eyes"].values())
    assert seen.visual_weights == seen.options["visual"] == "efficientnet_lite0"
    assert replace(seen, visual_weights="") == blind and blind.seeds == 3 and blind.cast == "photos"


def test_what_varies_in_training_is_tested_as_it_is(tmp_path, monkeypatch):
    """And each run of that experiment has the same recipe; its data are made before its process, which may
    have none of its own, begins."""
    made, tested = [], []

    def generate(root, *asked, cast, **how):
        made.append(root / cast)
        return root / cast

    monkeypatch.setattr(training, "generate", generate)
    monkeypatch.setattr(sweep.exam, "questions", list)
    for name in runs.EXPERIMENTS["variation"].values():
        run = replace(runs.RUNS[name], budget=runs.SMOKE)
        assert replace(run, cast="photos", budget=runs.VARIED.budget) == runs.VARIED
        sweep._prepare(tmp_path, [run])
        tested.append(training.tested_on(tmp_path, run))
        learned_from = training.data_folder(tmp_path, run)
        assert made.count(learned_from) > 1 and {*tested[-1].values()} <= {*made}
        assert (learned_from == tested[0]["scores"]) == (run.cast == "photos")
    assert set(tested[0]) == set(PLACES) and all(one == tested[0] for one in tested)


def test_missing_weights_are_said_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match="57934424.pth: missing. Run `lightavseg download "):
        sweep.sweep(["eyes"], tmp_path / "out", tmp_path / "work", budget=runs.SMOKE)
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_the_smallest_comparison(tmp_path):
    published = read_tensors(imagenet_weights())["_conv_stem.weight"]
    photographs()
    exam_questions()
    shipped = load_file(training.EAR_OF_PHOTOS)
    asked = ["eyes"], tmp_path, tmp_path / "work"
    assert sweep.sweep(*asked, workers=2, seeds=1, budget=runs.SMOKE) == []
    found = results.load("eyes", tmp_path / "sweep")
    for label, seeds in found.items():
        result = seeds[0]
        assert result["seconds"] > result["train_seconds"] > 0
        assert result["ear"] == sha256(training.EAR_OF_PHOTOS)
        assert ("eyes" in result) == (label == "ImageNet")
        for place in PLACES:
            assert set(result[place]) == set(training.SOUNDS)
            clips = result[place.replace("scores", "clips")]
            mean = results.values(seeds, place=place)[0]
            assert len(clips) == runs.SMOKE.test and sum(clips) / len(clips) == pytest.approx(mean, abs=1e-6)
            assert 0 < result[place.replace("scores", "deaf_oracle")]["M_J"] < 1
        assert len(result["exam"]["animals"]) == 9 and result["exam"]["scenes"] == runs.SMOKE.test
        state = lav.load_model(tmp_path / "work" / f"eyes_{label.lower()}_seed0").state_dict()
        moved = (state["visual.stages.0.1.weight"] - published).abs().max()
        # In two steps of Adam a weight moves by twice the rate at most.
        assert (moved < 0.01) == (label == "ImageNet")
        assert shipped and all((state[f"audio.{name}"] == value).all() for name, value in shipped.items())

"""Unseen individuals against their siblings: the same scenes, of which only who is shown or heard changes;
and the probe that asks the ear."""

import json

import numpy as np
import pytest
import torch
from helpers.casts import folder_cast, photographs
from helpers.command import run
from helpers.tiny import create

import lightavseg_core as lav
from lightavseg_core.data import AVSBench, sounding_shapes
from lightavseg_core.data.casting import cast_named
from lightavseg_core.data.cutouts import Cutouts
from lightavseg_core.data.hearing import Seconds
from lightavseg_core.experiments import probe, unseen
from lightavseg_core.experiments.composed import clip, pictures_of, sound_of


@pytest.fixture(scope="module")
def cast(tmp_path_factory):
    """Six categories, of each of which one individual is unseen: it looks and sounds as the next category."""
    seen = cast_named(str(folder_cast(tmp_path_factory.mktemp("cast")))).cutouts
    seen = [one for one in seen if one.individual != "other"]
    others = [
        one._replace(individual="new", unseen=True, picture=after.picture, sounds=after.sounds)
        for one, after in zip(seen, seen[1:] + seen[:1])
    ]
    return Cutouts("apart", seen + others)


def names(cast, scene):
    return [cast.cutouts[thing].individual for thing in scene.things]


def test_only_the_individuals_change(cast):
    for index in range(5):
        siblings, others = (unseen.scene_of(cast, who, index) for who in unseen.WHO)
        assert "new" not in names(cast, siblings) and set(names(cast, others)) == {"new"}
        of_categories = ([cast.things[k].category for k in scene.things] for scene in (siblings, others))
        assert len(set(map(tuple, of_categories))) == 1
        for part in ("area", "centers", "angles", "sounding", "gains"):
            assert np.array_equal(getattr(siblings, part), getattr(others, part))
        heard, of_others = sound_of(siblings, cast), sound_of(others, cast)
        assert torch.equal(heard, of_others) != siblings.sounding.any()
        (seen, truth), (new, of_new) = (pictures_of(scene, cast, 64) for scene in (siblings, others))
        assert not torch.equal(seen, new) and not torch.equal(truth, of_new)
        assert torch.equal(truth.flatten(1).any(1), of_new.flatten(1).any(1))


@pytest.mark.slow
def test_a_result(cast, tmp_path, monkeypatch, capsys):
    """By a model that sees nothing of individuals, with a probe that says that all is silent."""
    monkeypatch.setattr(unseen, "cast_named", lambda name: cast)
    deaf = lambda log_mel: torch.zeros(len(log_mel), 6, dtype=torch.bool)  # noqa: E731
    monkeypatch.setattr(unseen, "probe", lambda model, cast, seed: deaf)
    create(size=32).save_pretrained(tmp_path / "model")
    out = tmp_path / "results"
    code, printed, _ = run(capsys, "unseen", tmp_path / "model", "--out", out, "--clips", 4)
    result = json.loads((out / "model.json").read_text())
    assert code == 0 and "lost by: eye" in printed and result["command"].startswith("lightavseg unseen")
    assert result["clips"] == 4 and result["sha256"]
    model = lav.load_model(tmp_path / "model")
    scenes = [{who: unseen.scene_of(cast, who, index) for who in unseen.WHO} for index in range(4)]
    for shown in unseen.WHO:
        pictures = [pictures_of(scene[shown], cast, 32) for scene in scenes]
        scenes_again = [{who: unseen.scene_of(cast, who, index) for who in unseen.WHO} for index in range(4)]
        sounds = {who: [sound_of(scene[who], cast) for scene in scenes_again] for who in unseen.WHO}
        sounds["swapped"] = sounds[shown][1:] + sounds[shown][:1]
        sounds["silent"] = [torch.zeros(80_000)] * 4
        for heard, of_clips in sounds.items():
            items = [clip(model, "", *of_clip) for of_clip in zip(pictures, of_clips)]
            expected = lav.evaluate(model, items)
            for score in ("M_J", "foreground_share"):
                interval = result[score][shown][heard]
                assert interval["estimate"] == pytest.approx(expected[score], abs=1e-5)
                assert interval["low"] <= interval["estimate"] <= interval["high"]
            mean = np.mean(result["by_clip"][shown][heard])
            assert mean == pytest.approx(expected["M_J"], abs=1e-5)
    by_clip, losses = result["by_clip"], result["losses"]
    eye = np.subtract(by_clip["siblings"]["siblings"], by_clip["unseen"]["siblings"]).mean()
    ear = np.subtract(by_clip["siblings"]["siblings"], by_clip["siblings"]["unseen"]).mean()
    assert [losses["eye"]["estimate"], losses["ear"]["estimate"]] == pytest.approx([eye, ear], abs=1e-6)
    silent = np.mean([not scene["siblings"].sounding[:, t].any() for scene in scenes for t in range(5)])
    assert result["sets_right"]["unseen"]["estimate"] == pytest.approx(silent)
    assert result["sets_right"]["loss"]["estimate"] == 0


@pytest.mark.slow
def test_a_probe_finds_what_is_in_the_vectors(cast, tmp_path, monkeypatch):
    """By an ear whose vectors are the spectrum: six tones are told apart, and those of other individuals are
    taken for what they sound like."""
    for module in (unseen, sounding_shapes):
        monkeypatch.setattr(module, "cast_named", lambda name: cast)
    model = create()
    monkeypatch.setattr(type(model), "hear", lambda self, log_mel: log_mel.mean((1, 2)))  # (N, bands)
    monkeypatch.setattr(probe, "MIXTURES", 1500)
    tagger = probe.probe(model, cast)
    shares = {}
    for who in unseen.WHO:
        root = tmp_path / who
        sounding_shapes.generate(root, "ms3", {"test": 10}, 32, cast="apart", individuals=who, workers=1)
        seconds = Seconds(AVSBench(root, "ms3", "test"), cast.categories)
        log_mel = model.front_end(seconds.heard, torch.zeros(1))[:, 0]
        sounds = seconds.labels.bool().any(1)
        shares[who] = (tagger(log_mel) == seconds.labels.bool()).all(1)[sounds].float().mean()
    assert shares["siblings"] > 0.6 and shares["unseen"] < 0.2


@pytest.mark.slow
def test_the_real_individuals(tmp_path, monkeypatch):
    """The siblings' scenes are the generator's, so the scores are those of its clips."""
    cast, root = photographs(), tmp_path / "data"
    model = lav.load_model("checkpoints/photos")
    how = {"cast": "photos", "individuals": "siblings", "workers": 1}
    sounding_shapes.generate(root, "ms3", {"test": 4}, 128, **how)
    clips = AVSBench(root, "ms3", "test", 128, model.front_end)
    scenes = [unseen.scene_of(cast, "siblings", index) for index in range(4)]
    items = [clip(model, "", pictures_of(scene, cast, 128), sound_of(scene, cast)) for scene in scenes]
    for item, written in zip(items, clips):
        assert torch.equal(item["frames"], written["frames"]) and torch.equal(item["mask"], written["mask"])
        assert (item["log_mel"] - written["log_mel"]).abs().mean() < 0.01
    assert lav.evaluate(model, items)["M_J"] == pytest.approx(lav.evaluate(model, clips)["M_J"], abs=0.01)

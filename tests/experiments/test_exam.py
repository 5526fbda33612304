"""The exam's scores: each picture with each recording, and crosswise with SoundingPhotos, so that each cell
holds what it says."""

import json
from pathlib import Path

import pytest
import torch
from helpers.casts import folder_cast
from helpers.command import run
from helpers.farm import kept_here
from helpers.tiny import create
from PIL import Image

import lightavseg_core as lav
from lightavseg_core._common.files import sha256
from lightavseg_core._common.records import read
from lightavseg_core.data import AVSBench, exam
from lightavseg_core.data.casting import cast_named
from lightavseg_core.data.scenes import LEVEL
from lightavseg_core.experiments import composed, unseen
from lightavseg_core.experiments import exam as experiment

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "checkpoints" / "photos"


@pytest.fixture
def farm(tmp_path, monkeypatch):
    """A small exam, of whose animals a small cast knows the cat; and the folder of a small model."""
    cast = cast_named(str(folder_cast(tmp_path / "cast")))
    monkeypatch.setattr(experiment, "cast_named", lambda name: cast)
    create(size=64).save_pretrained(tmp_path / "model")
    return kept_here(tmp_path, monkeypatch)


@pytest.mark.slow
def test_what_a_result_holds(farm, tmp_path, capsys):
    figure = tmp_path / "exam.png"
    given = "--out", tmp_path / "results", "--scenes", 1, "--figure", figure
    code, out, _ = run(capsys, "exam", tmp_path / "model", *given)
    result = json.loads((tmp_path / "results" / "model.json").read_text())
    assert code == 0 and str(tmp_path / "results" / "model.json") in out
    assert result["command"] == f"lightavseg exam {tmp_path / 'model'}" and result["seed"] == 0
    assert result["sha256"].keys() == {"config.json", "model.safetensors"} and "machine" in result
    cat, yak = result["animals"]
    assert (cat["seconds"], yak["seconds"]) == (3, 1) and cat["agreement"] == 1
    assert set(experiment.CROSSWISE) <= cat.keys() and not set(experiment.CROSSWISE) & yak.keys()
    assert cat["both new"] == cat["own"] == cat["heard_with"]["cat"]
    assert cat["swapped"] == cat["heard_with"]["yak"]
    means = result["means"]
    assert means["of those known"]["own"] == cat["own"]
    silent = [row["silent"]["M_J"] for row in (cat, yak)]
    assert means["of all"]["silent"]["M_J"] == pytest.approx(sum(silent) / 2)
    assert f"{cat['own']['M_J']:.3f}" in out and "of all" in out
    assert Image.open(figure).size[0] > 300


def test_what_is_marked_is_what_is_scored(farm, tmp_path):
    result = experiment.examine(tmp_path / "model", tmp_path / "result.json", scenes=1)
    for row, (frame, truth, masks) in zip(result["animals"], experiment.marks(tmp_path / "model")):
        assert frame.shape == (3, 64, 64) and truth.float().mean().item() == pytest.approx(row["share"])
        silent = masks["silence"].float().mean().item()
        assert silent == pytest.approx(row["silent"]["foreground_share"], abs=1e-6)


def test_its_scores_are_those_of_the_written_clips(farm, tmp_path):
    model = lav.load_model(tmp_path / "model")
    result = experiment.examine(tmp_path / "model", tmp_path / "result.json", scenes=1)
    clips = AVSBench(exam.write(tmp_path / "data", size=64), "ms3", "test", 64, model.front_end)
    for index, row in enumerate(result["animals"]):
        for name, sound in {"own": "normal", "silent": "silent"}.items():
            written = lav.evaluate(model, [clips.with_sound(sound)[index]])
            for score in ("M_J", "foreground_share"):  # the written sound is rounded to 16 bits
                assert row[name][score] == pytest.approx(written[score], abs=0.01)


def test_what_is_shown_and_heard_in_each_cell(farm, tmp_path, monkeypatch):
    """Instead of scores: how bright the pictures are, how loud the sound is, and how long."""
    given = {}

    def scores(model, clips):
        pictures = torch.stack([clip["frames"].mean() for clip in clips])
        sounds = torch.stack([clip["log_mel"].mean() for clip in clips])
        found = {"M_J": pictures.mean().item(), "foreground_share": sounds.mean().item()}
        given.setdefault(len(clips), []).append([len(clip["annotated"]) for clip in clips])
        return found

    monkeypatch.setattr(experiment, "scores", scores)
    cat, yak = experiment.examine(tmp_path / "model", tmp_path / "result.json", scenes=3)["animals"]
    seen, heard = ({name: cat[name][part] for name in ("own", *experiment.CROSSWISE)} for part in cat["own"])
    assert seen["new to the eye"] == pytest.approx(seen["own"]) != pytest.approx(seen["both known"])
    assert heard["new to the eye"] == pytest.approx(heard["both known"]) != pytest.approx(heard["own"])
    assert seen["new to the ear"] != pytest.approx(seen["own"])
    assert heard["new to the ear"] == pytest.approx(heard["own"])
    assert cat["heard_with"]["yak"]["foreground_share"] == pytest.approx(yak["own"]["foreground_share"])
    assert cat["silent"]["foreground_share"] == pytest.approx(yak["silent"]["foreground_share"])
    assert cat["silent"]["foreground_share"] < cat["level"]["foreground_share"] < heard["own"]
    assert given[3] == [[5] * 3, [5] * 3, [3] * 3]  # as long as the shorter: the cat is heard for 3 s
    assert sorted(map(sum, given[1])) == [1] * 4 + [3] * 4  # with four sounds each


def test_in_a_crosswise_scene_the_kind_alone_sounds_and_is_the_truth(farm):
    cast = experiment.cast_named("photos")
    scenes = experiment._scenes({"cat", "dog"}, cast, 3, 0)
    assert {name: len(of_kind) for name, of_kind in scenes.items()} == {"cat": 3, "dog": 3}
    for name, of_kind in scenes.items():
        for scene in of_kind:
            assert cast.categories[cast.things[scene.things[0]].category] == name
            assert scene.sounding[0].all() and not scene.sounding[1:].any() and len(scene.things) > 1
            frames, truth = composed.pictures_of(scene, cast, 64)
            assert frames.shape == (5, 3, 64, 64) and 0.005 < truth.float().mean() < 0.16


def test_the_level_is_that_of_the_scenes(farm, tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(experiment, "clip", lambda model, name, pictures, sound: heard.append(sound))
    monkeypatch.setattr(experiment, "scores", lambda model, clips: {"M_J": 0.0, "foreground_share": 0.0})
    experiment._alone(None, "cat", None, {one.name: exam.heard(one) for one in farm})
    assert heard[-1].square().mean().sqrt().item() == pytest.approx(LEVEL)


def test_the_page_says_what_was_measured_of_what_ships():
    """Where this fails after a training: `lightavseg exam checkpoints/photos --figure figures/exam.png`, the
    same with `unseen`, and the tables of the page."""
    page = (ROOT / "docs" / "exam.md").read_text()
    measured = {name: read(ROOT / "results" / name / "photos.json") for name in ("exam", "unseen")}
    for result in measured.values():
        assert result["sha256"] == {name: sha256(PHOTOS / name) for name in result["sha256"]}
    for row in measured["exam"]["animals"]:
        scores = [f"{row[name]['M_J']:.2f}" if name in row else "" for name in experiment.SHOWN]
        own, swapped, known, eye, ear = scores
        facts = f"| {row['name']} | {row['seconds']} | {row['share']:.0%} | {row['agreement']:.3f} "
        assert " ".join(f"{facts}| {own} | {swapped} | {eye} | {ear} | {known} |".split()) in page
    for shown, cells in measured["unseen"]["M_J"].items():
        assert f"| {shown} shown | {' | '.join(map(unseen._told, cells.values()))} |" in page
    for loss in measured["unseen"]["losses"].values():
        assert unseen._told(loss) in page


@pytest.mark.slow
def test_what_cannot_be_scored(farm, tmp_path, capsys):
    create(size=64, num_classes=3).save_pretrained(tmp_path / "classes")
    for command in ("exam", "unseen"):
        code, _, error = run(capsys, command, tmp_path / "classes", "--out", tmp_path / "results")
        assert code == 2 and "classes: has 3 classes; expected a model of binary masks" in error
    farm[0].sound.unlink()
    code, _, error = run(capsys, "exam", tmp_path / "model", "--out", tmp_path / "results")
    assert code == 2 and "`lightavseg data fetch exam`" in error and not (tmp_path / "results").exists()

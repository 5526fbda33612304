"""The exam: fetched from whatever holds it, written as clips, and true by two drawings that agree."""

import numpy as np
import pytest
import torch
from helpers.casts import exam_questions
from helpers.command import run
from helpers.ear import contents
from helpers.farm import DRAWN, FOLDER, RESOURCE, drawn_here, inside, kept_here, resource_file
from helpers.packages import deb
from PIL import Image

from lightavseg_core.data import AVSBench, exam, fetching
from lightavseg_core.data.cast import RATE
from lightavseg_core.data.decoding import read_audio
from lightavseg_core.data.images import prepare_frame, read_picture
from lightavseg_core.data.sounding_shapes import generate

WHOLE = ["cat.ogg", "cat.webp", "yak.ogg", "yak.webp"]


@pytest.fixture
def farm(tmp_path, monkeypatch):
    return kept_here(tmp_path, monkeypatch)


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


@pytest.mark.parametrize("of", ("resource", "other name", "folder", "package", "packages"))
def test_from_what_there_is(tmp_path, monkeypatch, of):
    paths = drawn_here(tmp_path, monkeypatch)
    resource = resource_file(tmp_path / "usr" / "rcc", paths, packed=list(paths)[:1])
    (resource.parent / "other.rcc").write_bytes(b"qres, and then nothing")
    package = deb(tmp_path / "farm-data_1.deb", tmp_path / "usr", at="./usr/share/gcompris-qt")
    named = {"resource": resource, "folder": tmp_path / "usr", "package": package, "packages": tmp_path}
    if of == "packages":
        resource.unlink()
    if of == "other name":
        named[of] = resource.rename(resource.with_name("renamed"))
    monkeypatch.setattr(fetching.shutil, "which", lambda name: None)
    assert fetching.fetch(exam.collection(), named[of]) == (tmp_path / "cache" / "exam", [])
    assert kept(tmp_path) == WHOLE and [one.name for one in exam.questions()] == ["cat", "yak"]
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name.startswith(".")]


def test_unpacked_by_somebody(tmp_path, monkeypatch):
    paths = drawn_here(tmp_path, monkeypatch)
    for path, content in paths.items():
        (tmp_path / "out" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / path).write_bytes(content)
    assert fetching.fetch(exam.collection(), tmp_path / "out")[1] == [] and kept(tmp_path) == WHOLE


def test_what_is_broken_or_another_release(tmp_path, monkeypatch, capsys):
    paths = drawn_here(tmp_path, monkeypatch)
    resource = resource_file(tmp_path / "usr", paths)
    whole = resource.read_bytes()
    resource.write_bytes(whole[:-200])
    package = deb(tmp_path / "farm-data_1.deb", tmp_path / "usr", at="./usr/share/gcompris-qt")
    for where in (resource, package):
        code, _, error = run(capsys, "data", "fetch", "exam", "--from", where)
        assert code == 2 and error.startswith(f"lightavseg: {where}") and error.count("\n") == 1
        assert f"{RESOURCE}: not a readable resource file: it is cut off" in error
    resource.write_bytes(b"<html>Sign in</html>")
    assert "begins with b'<htm'" in run(capsys, "data", "fetch", "exam", "--from", tmp_path / "usr")[2]
    resource_file(tmp_path / "usr", {**paths, f"gcompris/{FOLDER}/yak.ogg": b"another release"})
    code, _, error = run(capsys, "data", "fetch", "exam", "--from", resource)
    assert code == 2 and f"{FOLDER}/yak.ogg: missing or from another release; left out" in error
    assert "1 of the exam's 4 files are missing. Run `lightavseg data fetch exam`" in error
    code, _, error = run(capsys, "data", "make", tmp_path / "data", "--cast", "exam")
    assert code == 2 and "1 of the exam's 4 files are missing" in error and not (tmp_path / "data").exists()
    resource.write_bytes(whole)
    monkeypatch.setattr(fetching, "LARGEST", len(whole) - 1)
    assert fetching.fetch(exam.collection(), resource)[1] == [f"{FOLDER}/yak.ogg"]


# --- clips ---


@pytest.mark.parametrize("subset", ("ms3", "s4"))
def test_clips_in_the_layout(farm, tmp_path, capsys, subset):
    root = tmp_path / "data"
    code, out, _ = run(capsys, "data", "make", root, "--cast", "exam", "--subset", subset, "--size", 48)
    assert code == 0 and "9 test clips of 48 px" in out
    assert run(capsys, "data", "check", root, "--subset", subset)[0] == 0
    dataset = AVSBench(root, subset, "test")
    assert [clip.name for clip in dataset.clips] == ["cat", "yak"]
    assert [clip.category for clip in dataset.clips] == (["cat", "yak"] if subset == "s4" else [None] * 2)
    for item, question, seconds in zip(dataset, farm, (3, 1)):
        assert item["annotated"].tolist() == [True] * seconds  # 2.6 s and 0.8 s of sound
        shown = prepare_frame(read_picture(question.picture), (48, 48))
        assert all(torch.equal(frame, shown) for frame in item["frames"])  # as `predict` shows it
        truth = exam.still(question, 48)[1]
        assert all(torch.equal(mask, truth) for mask in item["mask"]) and truth.any()
    sound = dataset.waveform(0)
    assert len(sound) == 3 * RATE and not sound[int(2.6 * RATE) :].any()
    original = read_audio(farm[0].sound)
    assert (sound[: len(original)] - original).abs().max() <= 1 / 32767
    assert dataset.donors == {0: 1, 1: 0}


def test_the_same_bytes_once(farm, tmp_path, capsys):
    roots = [exam.write(tmp_path / name, size=40) for name in ("one", "two")]
    assert contents(roots[0]) == contents(roots[1])
    before = {path: path.stat().st_mtime_ns for path in roots[0].rglob("*")}
    exam.write(roots[0], size=40)
    assert before == {path: path.stat().st_mtime_ns for path in roots[0].rglob("*")}
    with pytest.raises(FileExistsError, match="another ms3 dataset"):
        exam.write(roots[0], size=48)
    with pytest.raises(FileExistsError, match="another ms3 dataset"):
        generate(roots[0], "ms3", {"test": 1}, 32, workers=1)
    generate(tmp_path / "shapes", "ms3", {"test": 1}, 32, workers=1)
    with pytest.raises(FileExistsError, match="another ms3 dataset"):
        exam.write(tmp_path / "shapes", size=32)
    with pytest.raises(ValueError, match="masks are binary, but avss needs classes"):
        exam.write(tmp_path / "avss", "avss")
    given = "--twins", "--seed", 3
    code, _, error = run(capsys, "data", "make", tmp_path / "x", "--cast", "exam", *given)
    assert code == 2 and "nine fixed clips. Leave out --seed and --twins." in error
    assert not (tmp_path / "avss").exists() and not (tmp_path / "x").exists()


def test_nothing_half_written(farm, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exam, "write_sound", full)
    with pytest.raises(OSError):
        exam.write(tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", DRAWN)
def test_what_polygons_enclose(farm, name):
    """Every pixel is asked whether it lies in a polygon and in none of its holes, but for those at a side."""
    mask, (width, height) = exam.outlined(name), DRAWN[name]["size"]
    assert mask.shape == (height, width)

    def enclosed(x, y):
        return any(
            inside(one["outline"], x, y) and not any(inside(hole, x, y) for hole in one["holes"])
            for one in DRAWN[name]["objects"]
        )

    asked = 0
    for y, x in np.ndindex(mask.shape):
        around = {enclosed(x + dx, y + dy) for dx in (-0.97, 0.01, 0.99) for dy in (-0.97, 0.01, 0.99)}
        if len(around) == 1:
            assert mask[y, x] == around.pop()
            asked += 1
    assert asked > 0.8 * mask.size


def test_how_far_drawings_agree(farm, monkeypatch):
    assert exam.agreement("yak") == 1
    half = {"size": [60, 60], "objects": [{"outline": [[40, 20], [59, 20], [59, 29], [40, 29]], "holes": []}]}
    monkeypatch.setattr(exam, "drawing", lambda which: DRAWN if which == "first" else {"yak": half})
    assert exam.agreement("yak") == pytest.approx(0.5)


def test_a_loud_recording_is_turned_down(farm, monkeypatch):
    monkeypatch.setattr(exam, "read_audio", lambda path, rate: torch.full((rate * 9,), 1.5))
    assert torch.equal(exam.heard(farm[0]), torch.ones(5 * RATE))
    monkeypatch.setattr(exam, "read_audio", lambda path, rate: torch.full((rate // 3,), 0.5))
    short = exam.heard(farm[0])
    assert len(short) == RATE and short.sum() == 0.5 * (RATE // 3)


# --- the real one ---


NAMES = ["cat", "chicken", "cow", "dog", "duck", "horse", "owl", "pig", "sheep"]


def test_what_the_manifest_names():
    named = exam.manifest()
    assert [animal["name"] for animal in named["animals"]] == NAMES
    assert [animal["category"] for animal in named["animals"]] == [None, "hen", *NAMES[2:]]
    assert {animal["picture"]["licence"] for animal in named["animals"]} == {"public domain", "CC0-1.0"}
    assert all(animal["picture"]["credit"] and animal["picture"]["source"] for animal in named["animals"])
    assert named["sounds"]["licence"] == "GPL-3.0-only" and named["sounds"]["credit"]
    assert len({source.sha256 for source in exam.collection().sources}) == 18


@pytest.mark.parametrize("name", NAMES)
def test_the_two_drawings_agree(name):
    first, second = exam.drawing("first"), exam.drawing("second")
    assert list(first) == list(second) == NAMES and first[name] != second[name]
    assert first[name]["size"] == second[name]["size"]
    for drawn in (first[name], second[name]):
        polygons = [polygon for one in drawn["objects"] for polygon in (one["outline"], *one["holes"])]
        points = np.array([point for polygon in polygons for point in polygon])
        assert (points >= 0).all() and (points <= drawn["size"]).all() and min(map(len, polygons)) > 2
    assert 0.02 < exam.outlined(name).mean() < 0.8
    assert exam.agreement(name) >= 0.9


def test_the_real_pictures_and_recordings():
    asked = exam_questions()
    seconds = {one.name: len(exam.heard(one)) // RATE for one in asked}
    assert seconds == dict(zip(NAMES, (2, 5, 4, 1, 5, 3, 2, 5, 1)))
    for one in asked:
        assert list(Image.open(one.picture).size) == exam.drawing("first")[one.name]["size"]
        loud = exam.heard(one).view(-1, RATE).square().mean(1).sqrt()
        assert (loud > 0.02).all()  # in every second it sounds

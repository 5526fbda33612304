"""SoundingShapes: its difficulty is what it says, everything follows from the seed, and the files say what
the generator knows."""

import csv
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import wave
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightavseg_core.cli import main
from lightavseg_core.data import scenes, sounding_shapes
from lightavseg_core.data.layout import read_clips
from lightavseg_core.data.masks import voc_palette
from lightavseg_core.data.shapes import CATEGORIES
from lightavseg_core.data.sounding_shapes import Recipe, generate, noise, objects, stems

made = functools.cache(objects)  # many tests look at the same clips
SUBSETS = ("s4", "ms3", "avss")
SPLITS = {"train": 6, "val": 3, "test": 4}
PLACES = [(split, index) for split, count in SPLITS.items() for index in range(count)]
EVERY_CLIP = [(subset, *place) for subset in SUBSETS for place in PLACES]


def contents(root):
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def samples_of(path):
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(int)


def described(root, subset="ms3", clips=100, **options):
    """A folder with a recipe alone: objects and stems are made from it without writing pictures."""
    folder = root / sounding_shapes.SUBSETS[subset].folder
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(subset, {"train": clips}, 64, 0, **options)
    (folder / sounding_shapes.RECIPE).write_text(json.dumps(asdict(recipe)))
    return root


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The objects of 100 clips of MS3."""
    root = described(tmp_path_factory.mktemp("many"))
    return [objects(root, "ms3", "train", index) for index in range(100)]


@pytest.mark.slow
def test_two_to_four_objects_of_the_stated_size(many):
    counts = np.bincount([len(things) for things in many], minlength=6)
    assert counts[2:5].sum() == 100 and counts[2:5].min() > 20
    area = np.concatenate([thing.masks.mean((1, 2)) for things in many for thing in things])
    assert area.min() > 0.0195 and area.max() < 0.1205 and area.mean() == pytest.approx(0.06, abs=0.005)
    assert np.quantile(area, 0.05) < 0.032 and np.quantile(area, 0.95) > 0.085


def test_an_object_sounds_in_a_second_with_probability_0_4(many):
    sounding = np.concatenate([thing.sounding for things in many for thing in things])
    assert sounding.mean() == pytest.approx(0.4, abs=0.04)
    silent = np.mean([not any(thing.sounding[t] for thing in things) for things in many for t in range(5)])
    assert 0.1 < silent < 0.35  # 0.6 ** count, on average 0.235


def test_all_objects_move_and_are_of_different_categories(many):
    for things in many:
        assert len({thing.category for thing in things}) == len(things)
        for thing in things:
            centers = np.array([np.argwhere(mask).mean(0) for mask in thing.masks])
            assert np.ptp(centers, axis=0).max() > 2  # pixels of 64
            x0, y0, x1, y1 = thing.boxes[2]
            mask = thing.masks[2]
            assert mask[y0:y1, x0:x1].sum() == mask.sum() and mask[y0].any() and mask[:, x1 - 1].any()


def test_size_and_place_do_not_tell_the_category(many):
    everything = [thing for things in many for thing in things]
    of = [[thing for thing in everything if thing.category == c] for c in range(len(CATEGORIES))]
    assert len(CATEGORIES) >= 7 and min(map(len, of)) >= 20
    area = [[thing.masks.mean() for thing in group] for group in of]
    across = [[thing.boxes[0, ::2].mean() for thing in group] for group in of]
    down = [[thing.boxes[0, 1::2].mean() for thing in group] for group in of]
    for values in (area, across, down):
        everything = np.concatenate(values)
        for group in values:
            assert abs(np.mean(group) - everything.mean()) < 4 * everything.std() / np.sqrt(len(group))


@pytest.mark.slow
def test_gains_and_noise_floor(tmp_path):
    root = described(tmp_path, "s4")  # object 0 sounds all the time
    level = np.array([np.sqrt((stems(root, "train", i, "s4")[0] ** 2).mean()) for i in range(30)])
    floor = np.array([noise(root, "train", i, "s4").std() for i in range(30)])
    decibels, below = 20 * np.log10(level / scenes.LEVEL), -20 * np.log10(floor / scenes.LEVEL)
    assert -6.01 < decibels.min() < -4 and 4 < decibels.max() < 6.01
    assert 9.9 < below.min() < 13 and 27 < below.max() < 30.1


@pytest.mark.parametrize("subset", SUBSETS)
def test_without_distractors_and_with_twins(tmp_path, subset):
    alone = described(tmp_path / "alone", subset, distractors=False)
    both = described(tmp_path / "twins", subset, twins=True)
    heard = 0
    for index in range(6):
        (thing,) = objects(alone, subset, "train", index)
        assert thing.sounding.all()
        first, second, *others = objects(both, subset, "train", index)
        assert first.category == second.category not in {other.category for other in others}
        assert not second.sounding.any() and not (first.masks & second.masks).any()
        heard += first.sounding.sum()
    assert heard >= 6


@pytest.mark.slow
def test_stems_and_noise_are_the_wav(shapes):
    for subset, split, index in EVERY_CLIP[::2]:
        tracks, things = stems(shapes, split, index, subset), made(shapes, subset, split, index)
        whole = (tracks.sum(0) + noise(shapes, split, index, subset)) * 32767
        assert np.abs(whole - samples_of(read_clips(shapes, subset, split)[index].audio)).max() <= 1
        for track, thing in zip(tracks, things, strict=True):  # a stem is silent exactly where its object is
            loud = np.abs(track.reshape(-1, 16_000)).max(1) > 1e-6
            assert (loud == thing.sounding).all()


@pytest.mark.slow
def test_masks_on_disk_are_what_sounds(shapes):
    seen = set()
    for subset, split, index in EVERY_CLIP:
        clip, things = read_clips(shapes, subset, split)[index], made(shapes, subset, split, index)
        for t, path in enumerate(clip.masks):
            expected = np.zeros((64, 64), np.uint8)
            for thing in things:
                if thing.sounding[t]:
                    expected[thing.masks[t]] = thing.category + 1
            if path is None:
                assert split == "train" and t > 0
                continue
            seen |= set(expected.ravel().tolist())
            stored = {"s4": (expected > 0) * 255, "ms3": expected, "avss": voc_palette(8)[expected]}
            assert np.array_equal(Image.open(path), stored[subset])
    assert len(seen) >= 6  # classes, background included


@pytest.mark.slow
def test_events_say_what_sounds_and_where(shapes):
    for subset in SUBSETS:
        with (shapes / sounding_shapes.SUBSETS[subset].folder / "events.csv").open() as file:
            found = [tuple(row) for row in csv.reader(file)]
        expected = set()
        for split, index in PLACES:
            name = read_clips(shapes, subset, split)[index].name
            for thing in made(shapes, subset, split, index):
                for t in np.flatnonzero(thing.sounding).tolist():
                    event = (name, t, CATEGORIES[thing.category].name, *thing.boxes[t].tolist())
                    expected.add(tuple(map(str, event)))
        assert found[0] == ("clip", "second", "category", "x0", "y0", "x1", "y1")
        assert set(found[1:]) == expected and len(found) == len(expected) + 1


def test_annotated_frames_and_lengths(shapes):
    kinds = set()
    for subset, split, index in EVERY_CLIP:
        clip = read_clips(shapes, subset, split)[index]
        seconds = 10 if clip.kind == "v2" else 5
        first_only = split == "train" and clip.kind in ("s4", "v1s")
        kinds.add((clip.kind, split))
        assert len(clip.frames) == seconds and all(path.is_file() for path in clip.frames)
        assert len(samples_of(clip.audio)) == seconds * 16_000
        masks = sorted(clip.masks[0].parent.iterdir(), key=lambda path: (len(path.name), path.name))
        assert masks == clip.masks[: 1 if first_only else seconds]
        if clip.kind == "s4":
            assert clip.category == CATEGORIES[made(shapes, subset, split, index)[0].category].name
    assert len(kinds) == 15


def test_nothing_is_shared_between_splits(shapes):
    owner, files = {}, 0
    for place in EVERY_CLIP:
        subset, split, index = place
        clip = read_clips(shapes, subset, split)[index]
        for path in [*clip.frames, clip.audio]:
            files += 1
            assert owner.setdefault(hashlib.sha256(path.read_bytes()).digest(), place) == place
    assert len(owner) == files == 13 * 6 * 3 + 4 * 5  # four clips of AVSS have ten frames


@pytest.mark.slow
def test_same_seed_same_bytes_with_any_number_of_processes(tmp_path):
    clips = {"train": 14, "val": 2, "test": 3}  # enough for three processes
    one = contents(generate(tmp_path / "one", "ms3", clips, 32, 5, workers=1))
    three = contents(generate(tmp_path / "three", "ms3", clips, 32, 5, workers=3))
    other = contents(generate(tmp_path / "other", "ms3", clips, 32, 6, workers=2))
    assert one == three and one.keys() == other.keys()
    drawn = [name for name in one if name.endswith(".wav") or "visual_frames" in name]
    assert len(drawn) == 19 * 6 and not [name for name in drawn if one[name] == other[name]]


def test_the_same_arguments_change_nothing_and_others_are_refused(own_copy):
    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in own_copy.rglob("*")}

    before = state()
    assert generate(own_copy, "ms3", SPLITS, 64, 0) == own_copy
    same = {"clips": SPLITS, "size": 64, "seed": 0}
    more = {"clips": {**SPLITS, "val": 4}}
    for options in ({"seed": 1}, {"size": 96}, {"twins": True}, {"distractors": False}, more):
        with pytest.raises(FileExistsError, match="another ms3 dataset"):
            generate(own_copy, "ms3", **{**same, **options})
    assert state() == before


@pytest.mark.parametrize(
    "subset, part", [("s4", "Single-source/s4_data"), ("ms3", "Multi-sources/ms3_data"), ("avss", "v2")]
)
def test_somebody_elses_data_is_never_removed(tmp_path, subset, part):
    (tmp_path / part).mkdir(parents=True)
    (tmp_path / part / "precious.png").write_bytes(b"the only copy")
    with pytest.raises(FileExistsError, match="from another source"):
        generate(tmp_path, subset, {"train": 1}, 32)
    assert contents(tmp_path) == {f"{part}/precious.png": b"the only copy"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_an_interrupted_generation_leaves_nothing_behind(shapes, tmp_path, monkeypatch, stop):
    write, done = sounding_shapes._write_clip, []

    def write_some(*arguments):
        done.append(1)
        if len(done) == 3:
            raise stop
        return write(*arguments)

    monkeypatch.setattr(sounding_shapes, "_write_clip", write_some)
    (tmp_path / "old").mkdir()
    for root in (tmp_path / "new", tmp_path / "old"):
        done.clear()
        with pytest.raises(stop):
            generate(root, "s4", SPLITS, 64, workers=1)
    assert os.listdir(tmp_path) == ["old"] and not os.listdir(tmp_path / "old")
    generate(tmp_path / "new", "s4", SPLITS, 64, workers=1)  # and the next one is whole
    whole = contents(tmp_path / "new")
    assert whole and whole.items() <= contents(shapes).items()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_generation_leaves_no_processes(tmp_path):
    """Ctrl-C cleans up; after a kill the workers end too, and the same command works again."""

    def start():
        script = f"""if True:
            import signal
            signal.signal(signal.SIGINT, signal.default_int_handler)
            from lightavseg_core.data.sounding_shapes import generate
            generate({str(tmp_path / "data")!r}, clips=10_000, size=64, workers=2)"""
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(Path(sounding_shapes.__file__).parents[2])},
        )
        while not list(tmp_path.rglob("*.wav")):
            assert process.poll() is None
            time.sleep(0.2)
        return process

    process = start()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=120)
    assert not os.listdir(tmp_path)
    process = start()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)  # ends when the last worker has closed its end of stderr


@pytest.mark.parametrize(
    "options, words",
    [
        ({"subset": "s5"}, "Known: avss, ms3, s4"),
        ({"clips": {"training": 5}}, "train, val, test"),
        ({"clips": -1}, "at least 0"),
        ({"size": 16}, "at least 32"),
        ({"seed": -1}, "at least 0"),
    ],
)
def test_wrong_arguments(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        generate(tmp_path / "data", **options)
    assert not os.listdir(tmp_path)


def test_a_clip_that_is_not_there(shapes):
    for split, index in (("train", 6), ("training", 0), ("val", -1)):
        with pytest.raises(ValueError, match="has no clip"):
            objects(shapes, "ms3", split, index)
    with pytest.raises(FileNotFoundError, match="that SoundingShapes made"):
        stems(shapes / "v2", "train", 0)


def test_command_line(tmp_path, capsys):
    data = str(tmp_path / "data")
    make = f"--subset s4 --train 2 --val 1 --test 1 --size 32 --seed 3 {data}".split()
    checked = ["check", data, "--subset", "s4"]
    for arguments, code in ((["make", *make], 0), (["make", *make, "--twins"], 2), (checked, 0)):
        with pytest.raises(SystemExit) as end:
            main(["data", *arguments])
        assert end.value.code == code
    out, err = capsys.readouterr()
    assert "2 train, 1 val, 1 test clips" in out and "all files are there and readable" in out
    said = [line for line in err.splitlines() if line.startswith("lightavseg:")]
    assert said[0].endswith("Give another folder, or remove this one.")
    again = generate(tmp_path / "again", "s4", {"train": 2, "val": 1, "test": 1}, 32, 3)
    assert contents(tmp_path / "data") == contents(again)

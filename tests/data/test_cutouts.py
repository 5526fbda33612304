"""Casts of pictures and recordings: the clips are the same each time, their truth is the alpha, and what is
no cast is told."""

import csv
import shutil

import numpy as np
import pytest
import torch
from helpers.casts import call, cutout, folder_cast
from helpers.ear import contents
from PIL import Image, ImageDraw

from lightavseg_core.cli import main
from lightavseg_core.data import AVSBench, sounding_shapes
from lightavseg_core.data.cast import RATE
from lightavseg_core.data.casting import cast_named
from lightavseg_core.data.cutouts import Cutouts, Variation, _placed, _reach, _Small
from lightavseg_core.data.mixing import mix, tracks
from lightavseg_core.data.scenes import Recipe, draw_pictures, draw_scene, draw_tracks
from lightavseg_core.data.sounding_shapes import generate, noise, objects, stems

CLIPS = {"train": 4, "val": 3, "test": 3}


@pytest.fixture(scope="module")
def cast_folder(tmp_path_factory):
    return folder_cast(tmp_path_factory.mktemp("cast"))


@pytest.fixture(scope="module")
def made(cast_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    for subset in ("s4", "ms3", "avss"):
        generate(root, subset, CLIPS, 64, cast=str(cast_folder), workers=1)
    return root


@pytest.mark.slow
def test_the_same_bytes_and_no_file_in_two_splits(made, cast_folder, tmp_path):
    generate(tmp_path, "ms3", CLIPS, 64, cast=str(cast_folder), workers=2)
    again = contents(tmp_path / "Multi-sources")
    assert again == contents(made / "Multi-sources")
    files = {name: content for name, content in again.items() if name.endswith((".png", ".wav"))}
    masks = {name for name in files if "gt_masks" in name}  # empty ones are alike
    of_split = [{files[n] for n in files if f"_{split}_" in n and n not in masks} for split in CLIPS]
    assert all(of_split) and len(set().union(*of_split)) == sum(map(len, of_split))


@pytest.mark.parametrize("subset", ("s4", "ms3", "avss"))
def test_truth_and_sound_are_what_the_generator_knows(made, cast_folder, subset):
    dataset = AVSBench(made, subset, "test")
    names = cast_named(str(cast_folder)).categories
    assert names == ["ant", "bee", "cat", "dog", "eel", "fox"]
    for index in range(len(dataset)):
        item, things = dataset[index], objects(made, subset, "test", index)
        truth = np.zeros(item["mask"].shape, int)
        for thing in things:
            assert thing.name == names[thing.category] and 0.005 < thing.masks.mean() < 0.16
            value = thing.category + 1 if subset == "avss" else 1
            truth[thing.masks & thing.sounding[:, None, None]] = value
        assert (item["mask"].numpy() == truth).all()
        whole = stems(made, "test", index, subset).sum(0) + noise(made, "test", index, subset)
        assert np.abs(whole - dataset.waveform(index).numpy()).max() <= 1 / 32767
    sounds = tracks(dataset, 0)
    assert [track.name for track in sounds[:-1]] == [thing.name for thing in objects(made, subset, "test", 0)]
    mixed, factor = mix(torch.stack([track.sound for track in sounds]), [1.0] * len(sounds))
    assert factor == 1 and (mixed - dataset.waveform(0)).abs().max() <= 1 / 32767 + 1e-6


def test_each_second_that_sounds_is_heard(cast_folder):
    cast = cast_named(str(cast_folder))
    recipe = Recipe("ms3", {"train": 30}, 32, 0, cast=str(cast_folder))
    for index in range(30):
        scene = draw_scene(recipe, cast, "train", index)
        for track, on, gain in zip(draw_tracks(scene, cast)[0], scene.sounding, scene.gains):
            level = np.sqrt((track.reshape(-1, RATE) ** 2).mean(1))
            assert (level[on] > gain / 3).all() and (level[~on] < gain / 5).all()


def test_one_category_looks_and_sounds_different_each_time(cast_folder):
    cast, rng = cast_named(str(cast_folder)), np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    bee = cast.categories.index("bee")
    thing = next(k for k, one in enumerate(cast.things) if one.category == bee)
    peaks = []
    for _ in range(12):
        spectrum = np.abs(np.fft.rfft(cast.sound(thing, time, rng)))
        peaks.append(spectrum.argmax() / 2)
    assert max(peaks) / min(peaks) > 1.05  # another pitch, by two semitones at most
    assert all(300 * 2 ** (-2.5 / 12) < peak < 300 * 2 ** (2.5 / 12) for peak in peaks)
    colours = []
    for _ in range(12):
        _, (paint,) = cast.dress([thing], 64, rng)
        alpha, pixels = paint((32.0, 32.0), 20.0, 0.1, 64)
        colours.append(pixels[alpha > 0.9].mean())
    assert np.std(colours) > 5


def test_how_much_it_varies_can_be_changed(cast_folder):
    usual = cast_named(str(cast_folder))
    varied = Variation(semitones=12, rooms=0, hiss=(0, 0), clouds=0, stretch=1)
    more = Cutouts(usual.name, usual.cutouts, usual.backgrounds, varied)
    assert more.categories == usual.categories and more.digest != usual.digest
    thing = next(k for k, one in enumerate(usual.cutouts) if one.category == "bee")
    time, rng = np.arange(2 * RATE) / RATE, np.random.default_rng(0)
    sounds = [more.sound(thing, time, rng) for _ in range(12)]
    peaks = [np.abs(np.fft.rfft(sound)).argmax() / 2 for sound in sounds]
    assert 150 < min(peaks) < 240 and 380 < max(peaks) < 620, "an octave from 300 Hz at most"
    assert all((sound == 0).sum() < 10 for sound in sounds), "no pause without hiss"
    assert any((usual.sound(thing, time, rng) == 0).sum() > 1000 for _ in range(12))

    def proportions(cast):
        found = []
        for _ in range(12):
            _, (paint,) = cast.dress([thing], 64, rng)
            rows, columns = np.nonzero(paint((32.0, 32.0), 20.0, 0.0, 64)[0] > 0.5)
            found.append(np.ptp(columns) / np.ptp(rows))
        return max(found) / min(found)

    assert proportions(usual) < 1.1 and 1.4 < proportions(more) < 4.2

    def grey(cast):  # in the one photograph, red and green differ by little
        pictures = [cast.dress([thing], 64, rng)[0] for _ in range(12)]
        return sum(np.abs(picture[..., 0] - picture[..., 1]).mean() < 2 for picture in pictures)

    assert grey(more) == 12 > grey(usual)


def test_a_picture_lies_where_it_should(tmp_path):
    """Against a mask drawn by hand: a bar, turned by a right angle, at a place between two pixels."""
    image = Image.new("RGBA", (80, 20), (200, 50, 50, 255))
    reach = _reach(np.asarray(image)[..., 3])
    assert reach[:2] == (40, 10)
    alpha, _ = _placed(_Small(image), reach, (0, 0), (50.0, 60.0), reach[2] / 2, np.pi / 2, 100)
    rows, columns = np.nonzero(alpha > 0.5)
    assert (rows.min(), rows.max() + 1) == (40, 80) and (columns.min(), columns.max() + 1) == (45, 55)
    level, _ = _placed(_Small(image), reach, (0, 0), (50.0, 60.0), reach[2] / 2, 0.0, 100)
    assert level.sum() == pytest.approx(40 * 10, rel=0.03)


@pytest.mark.slow
def test_something_out_of_view(cast_folder, tmp_path):
    """Is heard, stands in the events without a place, and changes nothing that is seen."""
    for name in ("shapes", str(cast_folder)):
        plain, more = tmp_path / name[-3:] / "plain", tmp_path / name[-3:] / "more"
        for root, offscreen in ((plain, False), (more, True)):
            generate(root, "ms3", {"test": 6}, 32, cast=name, offscreen=offscreen, workers=1)
        there, here = contents(plain / "Multi-sources"), contents(more / "Multi-sources")
        assert {n: c for n, c in there.items() if n.endswith(".png")} == {
            n: c for n, c in here.items() if n.endswith(".png")
        }
        with (more / "Multi-sources" / "events.csv").open() as file:
            unseen = [row for row in csv.DictReader(file) if row["x1"] == "0"]
        assert len(unseen) > 3
        heard = 0
        for index in range(6):
            own, things = stems(more, "test", index), objects(more, "ms3", "test", index)
            assert len(own) == len(things) + 1
            seconds = [int(r["second"]) for r in unseen if r["clip"] == f"ms3_test_{index:05d}"]
            loud = (own[-1].reshape(-1, RATE) ** 2).mean(1) > 0
            assert np.flatnonzero(loud).tolist() == seconds
            names = {r["category"] for r in unseen if r["clip"] == f"ms3_test_{index:05d}"}
            assert not names & {thing.name for thing in things}
            heard += loud.any()
        assert heard
        found = tracks(AVSBench(more, "ms3", "test"), 0)
        assert [track.name for track in found[-2:]] == ["out of view", "noise floor"]


def individuals(cast, which):
    return {cast.cutouts[k].individual for of_category in cast.choice(which) for k in of_category}


def test_individuals_are_kept_apart(cast_folder):
    cast = cast_named(str(cast_folder))
    kept = [one._replace(unseen=one.individual in ("other", "new")) for one in cast.cutouts]
    more = [one._replace(individual="new", unseen=True) for one in kept if one.individual != "other"]
    apart = Cutouts("apart", kept + more)
    assert individuals(apart, "seen") == {"ant", "bee", "cat", "dog", "eel", "fox"}
    assert individuals(apart, "unseen") == {"other", "new"}
    assert individuals(apart, "siblings") == individuals(apart, "seen")
    few = Cutouts("few", kept)
    for which, found in (("siblings", "1 categories of siblings"), ("others", "'others'")):
        with pytest.raises(ValueError, match=found):
            few.choice(which)


@pytest.mark.slow
def test_what_is_no_cast_is_told(cast_folder, tmp_path):
    def refused(error, words, folder):
        with pytest.raises(error, match=words) as told:
            generate(tmp_path / "data", "ms3", {"train": 8}, 32, cast=str(folder), workers=1)
        assert not (tmp_path / "data").exists()
        return str(told.value)

    refused(FileNotFoundError, "no such cast", tmp_path / "missing")
    own = tmp_path / "own"
    folder = shutil.copytree(cast_folder, own)
    (folder / "bee.wav").rename(folder / "be.wav")
    assert str(folder / "bee.png") in refused(ValueError, "has no sound beside it", folder)
    (folder / "be.wav").write_bytes(b"RIFF")
    (folder / "be.wav").rename(folder / "bee.wav")
    assert str(folder / "bee.wav") in refused((ValueError, FileNotFoundError), "bee.wav", folder)
    call(folder / "bee.wav", 0)
    assert str(folder / "bee.wav") in refused(ValueError, "is silent", folder)
    call(folder / "bee.wav", 300)
    Image.new("RGB", (9, 9)).save(folder / "dog.png")
    assert "dog.png" in refused(ValueError, "no transparent part.*Cut it out first", folder)
    (folder / "dog.png").write_bytes(b"\x89PNG")
    assert "dog.png" in refused(ValueError, "not a readable picture", folder)
    image = Image.new("RGBA", (900, 12), (9, 9, 9, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(folder / "dog.png")
    assert "dog.png" in refused(ValueError, "too thin for a scene", folder)
    image = Image.new("RGBA", (4000, 4000))
    ImageDraw.Draw(image).ellipse((9, 9, 3990, 3990), outline=(9, 9, 9, 255), width=2)
    image.save(folder / "dog.png")
    assert "dog.png" in refused(ValueError, "thin lines", folder)
    (folder / "dog.png").unlink()
    (folder / "bee.png").rename(folder / "background.png")
    (folder / "bee.wav").rename(folder / "background.wav")
    refused(ValueError, "a category called background", folder)
    (folder / "background.png").unlink()
    refused(ValueError, "4 categories of seen individuals; scenes need 5. Add pictures", folder)


def test_what_is_hidden_is_no_part(cast_folder, tmp_path):
    folder = shutil.copytree(cast_folder, tmp_path / "cast")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "owl.png").write_bytes(b"none")
    (folder / "notes.txt").write_text("mine")
    assert cast_named(str(folder)).digest == cast_named(str(cast_folder)).digest
    (folder / "eel.png").rename(folder / "elk.png")
    (folder / "eel.wav").rename(folder / "elk.wav")
    assert cast_named(str(folder)).digest != cast_named(str(cast_folder)).digest


def test_clips_of_a_cast_that_changed(made, cast_folder, tmp_path):
    folder = shutil.copytree(cast_folder, tmp_path / "cast")
    root = generate(tmp_path / "data", "ms3", {"train": 1}, 32, cast=str(folder), workers=1)
    assert len(stems(root, "train", 0)) >= 2
    cutout(folder / "fox.png", 12)
    with pytest.raises(ValueError, match="pictures or sounds of the cast .* have changed since"):
        stems(root, "train", 0)
    with pytest.raises(FileExistsError, match="another ms3 dataset"):
        generate(root, "ms3", {"train": 1}, 32, cast=str(folder), workers=1)


def test_the_command(cast_folder, tmp_path, capsys):
    given = ["data", "make", str(tmp_path / "data"), "--cast", str(cast_folder), "--train", "2", "--val", "1"]
    with pytest.raises(SystemExit) as ended:
        main([*given, "--test", "1", "--size", "32", "--offscreen"])
    assert ended.value.code == 0 and "2 train, 1 val, 1 test clips" in capsys.readouterr().out
    recipe = sounding_shapes.read_recipe(tmp_path / "data", "ms3")
    assert recipe.offscreen and recipe.cast == str(cast_folder) and len(recipe.digest) == 64
    scene = draw_scene(recipe, cast_named(recipe.cast), "train", 0)
    assert len(draw_pictures(scene, cast_named(recipe.cast), 32)[1]) == len(scene.things) - 1

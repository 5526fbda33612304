"""Real files in AVSBench's layouts that this project did not make: pictures that ship with matplotlib, sounds from Python's own tests, masks of each
flavour that AVSBench comes in. And trees as they are unpacked: where a dataset is found, what is counted, and clips that end early."""

import csv
import json
import shutil
import sysconfig
import wave
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image

from lightavseg_core.cli import main
from lightavseg_core.data.avsbench import AVSBench, collate
from lightavseg_core.data.check import ADVICE, PUBLISHED, check, check_all
from lightavseg_core.data.images import MEAN, STD
from lightavseg_core.data.layout import as_stored, read_clips, subset_folder
from lightavseg_core.data.masks import voc_palette

PICTURES = {name: Path(matplotlib.cbook.get_sample_data(name, asfileobj=False))
            for name in ("grace_hopper.jpg", "logo2.png", "Minduka_Present_Blue_Pack.png")}               # JPEG, and PNG with transparency
SOUNDS = Path(sysconfig.get_path("stdlib"), "test", "audiodata")
LABELS = {"background": 0, **{f"thing {i}": i for i in range(1, 71)}}


def area(picture):
    """What the masks mark: what is brighter than the picture's mean. (H, W) bool."""
    grey = np.asarray(Image.open(PICTURES[picture]).convert("L"))
    return grey > grey.mean()


def indexed(values):
    image = Image.fromarray(values, "P")
    image.putpalette(voc_palette(256).tobytes())
    return image


FLAVOURS = {                                                       # of a binary mask; marked pixels -> picture
    "0 and 255": lambda on: Image.fromarray(on * np.uint8(255)),
    "class values": lambda on: Image.fromarray(on * np.uint8(23)),
    "0 and 1": lambda on: Image.fromarray(on * np.uint8(1)),
    "one bit": lambda on: Image.fromarray(on),
    "palette": lambda on: indexed(on * np.uint8(7)),
    "RGBA": lambda on: Image.fromarray(np.dstack([*[on * np.uint8(200)] * 3, np.full(on.shape, 255, np.uint8)])),
    "half as large": lambda on: Image.fromarray(on * np.uint8(255)).resize((on.shape[1] // 2, on.shape[0] // 2), Image.Resampling.NEAREST),
}
COLOURS = {                                                        # of a semantic mask; classes -> picture, folder
    "RGB": lambda classes: (Image.fromarray(voc_palette(71)[classes]), "labels_rgb"),
    "RGBA": lambda classes: (Image.fromarray(voc_palette(71)[classes]).convert("RGBA"), "labels_rgb"),
    "palette": lambda classes: (indexed(classes), "labels_rgb"),
    "semantic": lambda classes: (Image.fromarray(classes - np.uint8(1)), "labels_semantic"),
}


def put(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="PNG")


def copy(source, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)


def tone(path, seconds, rate=16_000, channels=1):
    """A WAV with 1 kHz in its last channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave_form = 0.4 * np.sin(2 * np.pi * 1000 * np.arange(round(seconds * rate)) / rate)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(np.round(32767 * np.outer(wave_form, np.arange(channels) == channels - 1)).astype("<i2").tobytes())


def table(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def binary_tree(root, subset, flavours=FLAVOURS, split="val", seconds=5.0):
    """A clip of each flavour, each of one real picture, as S4 or MS3. -> picture of each clip, by its name."""
    folder = root / {"s4": "Single-source", "ms3": "Multi-sources"}[subset]
    base, shown = folder / f"{subset}_data", {}
    for number, flavour in enumerate(flavours):
        name, picture = f"clip_{number}", list(PICTURES)[number % 3]
        inner = Path(split, "dog_barking") if subset == "s4" else Path(split)
        for t in range(1, 6):
            frame = f"{inner}/{name}/{name}_{t}.png" if subset == "s4" else f"{name}/{name}.mp4_{t}.png"
            copy(PICTURES[picture], base / "visual_frames" / frame)                           # JPEG, too, in a file that is called .png
            put(FLAVOURS[flavour](area(picture)), base / "gt_masks" / inner / name / f"{name}_{t}.png")
        tone(base / "audio_wav" / inner / f"{name}.wav", seconds)
        shown[name] = picture
    row = (lambda name: [name, 0, "dog_barking", split]) if subset == "s4" else (lambda name: [name, 0, split])
    columns = ["name", "start", "category", "split"] if subset == "s4" else ["name", "start", "split"]
    table(folder / f"{subset}_meta_data.csv", columns, map(row, shown))
    return shown


def semantic_tree(root):
    """A clip of each flavour and kind, of the photograph, as AVSS. -> classes of every clip's pixels."""
    classes = area("grace_hopper.jpg") * np.uint8(5) + np.uint8(2) * (np.arange(600)[:, None] > 400)
    rows, kinds = [], {"RGB": "v1s", "RGBA": "v1m", "palette": "v2", "semantic": "v1m"}
    for flavour, kind in kinds.items():
        base = root / kind / f"{flavour}_0"
        for t in range(10 if kind == "v2" else 5):
            copy(PICTURES["grace_hopper.jpg"], base / "frames" / f"{t}.jpg")
            image, folder = COLOURS[flavour](classes)
            put(image, base / folder / f"{t}.png")
        tone(base / "audio.wav", 10.02 if kind == "v2" else 5.0)
        rows.append(["https", base.name, 0, 5, "thing 5_thing 2", "test", kind])
    table(root / "metadata.csv", ["vid", "uid", "s_min", "s_sec", "a_obj", "split", "label"], rows)
    (root / "label2idx.json").write_text(json.dumps(LABELS))
    return classes


def stored(picture):
    return torch.from_numpy(np.array(Image.open(PICTURES[picture]).convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("subset", ["s4", "ms3"])
def test_real_pictures_and_binary_masks_of_every_flavour(tmp_path, subset):
    shown = binary_tree(tmp_path, subset)
    data = AVSBench(tmp_path, subset, "val")
    for item in (data[i] for i in range(len(shown))):
        picture = shown[item["name"]]
        assert (item["frames"] * STD * 255 + MEAN * 255 - stored(picture)).abs().max() < 0.01 and item["annotated"].all()
        marked = area(picture)
        if list(shown).index(item["name"]) == list(FLAVOURS).index("half as large"):
            small = Image.fromarray(marked).resize((marked.shape[1] // 2, marked.shape[0] // 2), Image.Resampling.NEAREST)
            marked = np.asarray(small.resize(marked.shape[::-1], Image.Resampling.NEAREST))
        assert np.array_equal(item["mask"], np.broadcast_to(marked, item["mask"].shape)) and 0.01 < item["mask"].float().mean() < 0.99
    batch = collate([AVSBench(tmp_path, subset, "val", size=64)[i] for i in range(3)])       # three shapes, one size
    assert batch["frames"].shape == (3, 5, 3, 64, 64)
    report = check(tmp_path, subset)
    assert report.ok and report.files == 11 * len(shown)


def test_real_photographs_and_semantic_masks_of_every_flavour(tmp_path):
    classes = torch.from_numpy(semantic_tree(tmp_path))
    data = AVSBench(tmp_path, "avss", "test")
    assert data.num_classes == 71 and [len(item["frames"]) for item in data] == [5, 5, 10, 5]
    for item in data:
        assert torch.equal(item["mask"], classes.expand(len(item["frames"]), -1, -1)) and classes.unique().tolist() == [0, 2, 5, 7]
        assert (item["frames"] * STD * 255 + MEAN * 255 - stored("grace_hopper.jpg")).abs().max() < 0.01
    report = check(tmp_path, "avss")
    assert report.ok and report.files == 3 * 11 + 21


@pytest.mark.skipif(not SOUNDS.is_dir(), reason="this Python comes without its tests")
def test_real_sounds(tmp_path):
    binary_tree(tmp_path, "ms3", ["0 and 255"] * 4)
    clips = read_clips(tmp_path, "ms3")
    for clip, name in zip(clips, ("pluck-pcm8", "pluck-pcm16", "pluck-pcm24", "pluck-pcm32"), strict=False):
        copy(SOUNDS / f"{name}.wav", clip.audio)                   # stereo at 11,025 Hz, 0.3 s
    with wave.open(str(clips[0].audio)) as file:
        expected = round(16_000 * file.getnframes() / file.getframerate())
    data = AVSBench(tmp_path, "ms3", "val")
    waves = [data.waveform(i) for i in range(len(clips))]
    assert all(abs(len(wave_form) - expected) <= 1 and wave_form.std() > 0.01 for wave_form in waves)
    assert all((wave_form - waves[3]).abs().max() < 0.02 for wave_form in waves)             # one recording in four formats
    item = data[0]
    assert item["log_mel"][0].std() > 0.1 and torch.allclose(item["log_mel"][1:], torch.tensor(0.01).log())
    report = check(tmp_path, "ms3")
    assert report.ok and any("4 sounds shorter than the clip" in note for note in report.notes)


@pytest.mark.parametrize("seconds, rate, channels", [(4.8, 16_000, 1), (5.0, 16_000, 1), (10.02, 16_000, 1), (5.0, 48_000, 2), (5.0, 22_050, 1)])
def test_sounds_as_long_as_the_real_ones(tmp_path, seconds, rate, channels):
    binary_tree(tmp_path, "s4", ["0 and 1"])
    tone(read_clips(tmp_path, "s4")[0].audio, seconds, rate, channels)
    data = AVSBench(tmp_path, "s4", "val")
    item = data[0]
    assert item["log_mel"].shape == (5, 1, 96, 64) and abs(len(data.waveform(0)) - 16_000 * seconds) <= 1
    assert item["log_mel"][0, 0].mean(0).argmax() == item["log_mel"][3, 0].mean(0).argmax()
    report = check(tmp_path, "s4")
    assert report.ok and any("shorter" in note for note in report.notes) == (seconds < 5)


@pytest.mark.parametrize("gone", [1, 2])
def test_a_clip_that_ends_early_is_shorter(tmp_path, gone):
    binary_tree(tmp_path, "ms3", ["0 and 255", "palette"])
    clips = read_clips(tmp_path, "ms3")
    whole = AVSBench(tmp_path, "ms3", "val", size=32)[0]
    for path in clips[0].frames[-gone:]:
        path.unlink()
    item = AVSBench(tmp_path, "ms3", "val", size=32)[0]
    for key in ("frames", "mask", "log_mel", "annotated"):
        assert torch.equal(item[key], whole[key][:5 - gone])
    problems = check(tmp_path, "ms3").problems
    assert [(p.clip, p.kind, p.part) for p in problems] == [("clip_0", "missing", "frame")] * gone
    assert all(p.found.endswith(f"missing; the clip is read with {5 - gone} frames") for p in problems)
    assert [str(path) in p.found for path, p in zip(clips[0].frames[-gone:], problems, strict=True)] == [True] * gone
    batch = next(iter(torch.utils.data.DataLoader(AVSBench(tmp_path, "ms3", "val", size=32), 2, collate_fn=collate)))
    assert batch["lengths"].tolist() == [5 - gone, 5] and not batch["annotated"][0, 5 - gone:].any()
    for path in clips[1].frames:
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"clip_1\.mp4_1\.png: missing"):              # without any frame it is no shorter clip
        AVSBench(tmp_path, "ms3", "val")[1]
    assert len(as_stored(clips[1]).frames) == 5


def test_a_frame_or_a_mask_that_is_missing_in_between(tmp_path):
    binary_tree(tmp_path, "s4", ["0 and 255", "palette", "RGBA"], split="val")
    clips = read_clips(tmp_path, "s4")
    for path in (clips[0].frames[2], clips[1].masks[3], clips[2].masks[4]):
        path.unlink()
    data = AVSBench(tmp_path, "s4", "val")
    for index, path in enumerate((clips[0].frames[2], clips[1].masks[3], clips[2].masks[4])):
        with pytest.raises(FileNotFoundError, match=f"{path.name}: missing"):
            data[index]
    assert [(p.clip, p.kind, p.part) for p in check(tmp_path, "s4").problems] == \
        [("clip_0", "missing", "frame"), ("clip_1", "missing", "mask"), ("clip_2", "missing", "mask")]


@pytest.mark.parametrize("size, fine", [((256, 300), True), ((1024, 1200), True), ((171, 200), True), ((32, 38), True), ((512, 512), False),
                                        ((600, 512), False), ((16, 19), False), ((1, 1), False)])
def test_masks_of_another_size_but_of_the_same_shape(tmp_path, size, fine):
    binary_tree(tmp_path, "ms3", ["0 and 255"])
    clip = read_clips(tmp_path, "ms3")[0]                          # its frames have 512 x 600 pixels
    put(Image.new("L", size, 255), clip.masks[2])
    report = check(tmp_path, "ms3")
    if fine:
        assert AVSBench(tmp_path, "ms3", "val")[0]["mask"][2].all() and report.ok
    else:
        with pytest.raises(ValueError, match=rf"clip_0_3\.png: is {size[0]} x {size[1]} pixels, which is not the shape of its frame, 512 x 600"):
            AVSBench(tmp_path, "ms3", "val", size=32)[0]
        assert [(p.kind, p.part) for p in report.problems] == [("size", "mask")] and f"{size[0]} x {size[1]}" in report.problems[0].found


def test_frames_of_different_sizes_in_one_semantic_clip(tmp_path):
    semantic_tree(tmp_path)
    clip = read_clips(tmp_path, "avss")[2]
    Image.open(clip.frames[4]).resize((256, 300)).save(clip.frames[4])
    with pytest.raises(ValueError, match="frames differ in size.*Make them one size"):
        AVSBench(tmp_path, "avss", "test", size=224)[2]
    assert [(p.clip, p.kind) for p in check(tmp_path, "avss").problems] == [(clip.name, "size")]


def test_every_place_where_a_download_may_lie(tmp_path):
    objects, semantic = tmp_path / "AVSBench_object", tmp_path / "AVSBench_semantic"
    binary_tree(objects, "s4", ["palette"])
    binary_tree(objects, "ms3", ["palette"])
    semantic_tree(semantic)
    roots = {"s4": [tmp_path, objects, objects / "Single-source", objects / "Single-source" / "s4_data"],
             "ms3": [tmp_path, objects, objects / "Multi-sources", objects / "Multi-sources" / "ms3_data"],
             "avss": [tmp_path, semantic]}
    for subset, places in roots.items():
        assert len({subset_folder(root, subset).resolve() for root in places}) == 1
        assert all(check(root, subset).ok for root in places)
        assert all(torch.equal(AVSBench(root, subset, "test" if subset == "avss" else "val", size=32)[0]["frames"],
                               AVSBench(places[0], subset, "test" if subset == "avss" else "val", size=32)[0]["frames"]) for root in places[1:])
    assert [report.subset for report in check_all(tmp_path)] == ["s4", "ms3", "avss"] and all(report.ok for report in check_all(tmp_path))
    assert [report.subset for report in check_all(objects)] == ["s4", "ms3"] and [report.subset for report in check_all(semantic)] == ["avss"]
    assert [report.subset for report in check_all(objects / "Multi-sources")] == ["ms3"]
    table(tmp_path / "other" / "metadata.csv", ["file", "caption"], [])                      # of another dataset
    assert subset_folder(tmp_path, "avss") == semantic


def test_two_copies_are_not_guessed_between(tmp_path, shapes, capsys):
    binary_tree(tmp_path / "real", "ms3", ["palette"])
    shutil.copytree(shapes / "Multi-sources", tmp_path / "made" / "Multi-sources")
    for use in (lambda: AVSBench(tmp_path, "ms3", "val"), lambda: check(tmp_path, "ms3")):
        with pytest.raises(ValueError, match=r"2 copies of ms3: .*made.Multi-sources \(generated\), .*real.Multi-sources \(real\)\. Give the folder"):
            use()
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(tmp_path)])
    assert end.value.code == 1 and "2 copies of ms3" in capsys.readouterr().out
    shutil.copytree(tmp_path / "real" / "Multi-sources", tmp_path / "Multi-sources")          # what lies at ROOT itself is meant, and the rest named
    report = check(tmp_path, "ms3")
    assert report.ok and report.folder == tmp_path / "Multi-sources"
    assert sorted("generated" in note for note in report.notes if "not checked" in note) == [False, True]


def hint(root, capsys):
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(root)])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith("lightavseg: ") and len(error.splitlines()) == 1
    return error


def test_what_is_said_where_nothing_is_found(tmp_path, capsys):
    binary_tree(tmp_path / "whole", "s4", ["palette"])
    folder = tmp_path / "whole" / "Single-source"
    assert f"it is in {folder}: give that folder" in hint(folder / "s4_data" / "visual_frames", capsys)
    (folder / "s4_meta_data.csv").unlink()
    for root in (tmp_path / "whole", folder):
        assert f"s4_meta_data.csv is missing beside {folder / 's4_data'}" in hint(root, capsys)
    assert f"s4_meta_data.csv is missing beside {folder / 's4_data'}" in hint(folder / "s4_data", capsys)
    semantic_tree(tmp_path / "avss")
    (tmp_path / "avss" / "metadata.csv").unlink()
    assert "metadata.csv is missing beside" in hint(tmp_path / "avss", capsys)
    (tmp_path / "packed").mkdir()
    archive = tmp_path / "packed" / "AVSBench_object.zip"
    archive.write_bytes(b"PK")
    assert "is an archive: unpack it first" in hint(archive, capsys) and "AVSBench_object.zip is an archive" in hint(tmp_path / "packed", capsys)
    assert "is a file: give the folder" in hint(tmp_path / "avss" / "label2idx.json", capsys)
    assert "no such folder" in hint(tmp_path / "nowhere", capsys)
    (tmp_path / "bare").mkdir()
    assert "it holds nothing" in hint(tmp_path / "bare", capsys)
    with pytest.raises(FileNotFoundError, match=r"s4_meta_data\.csv is missing beside .*lightavseg data make"):
        AVSBench(folder, "s4")


def test_counts_stand_beside_the_published_ones(tmp_path, shapes, capsys):
    folder = tmp_path / "Multi-sources"
    names = [(f"n{i}", 0, split) for split, n in PUBLISHED["ms3"].items() for i in range(n)]
    table(folder / "ms3_meta_data.csv", ["name", "start", "split"], names)
    report = check(tmp_path, "ms3")                                # not a file is there, and each is named
    assert sum(PUBLISHED["ms3"].values()) == 424 and sum(PUBLISHED["s4"].values()) == 4932
    assert "as many clips as published: 296 train, 64 val, 64 test" in report.notes and len(report.problems) == 424 * 11
    assert report.summary() == {"missing": {"frame": 424 * 5, "mask": 424 * 5, "sound": 424}} and report.files == 0
    table(folder / "ms3_meta_data.csv", ["name", "start", "split"], [*names[3:], ("more", 0, "test")])
    notes = check(tmp_path, "ms3").notes
    assert "train has 293 clips, 3 fewer than the published 296" in notes and "test has 65 clips, 1 more than the published 64" in notes
    binary_tree(tmp_path, "s4", ["palette"])
    report = check(tmp_path, "s4")                                 # a partial copy is no mistake
    assert report.ok and report.categories == {"dog_barking": 1} and "categories: 1; published are 23" in report.notes
    semantic_tree(tmp_path)
    report = check(tmp_path, "avss")
    assert report.kinds == {"v1s": 1, "v1m": 2, "v2": 1} and "v2 has 1 clip, 5,999 fewer than the published 6,000" in report.notes
    assert not any("categories" in note for note in report.notes)
    for report in check_all(shapes):
        assert report.ok and report.notes[0].startswith("generated") and not any("published 4" in note for note in report.notes)
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(shapes), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert end.value.code == 0 and list(found["subsets"]) == ["s4", "ms3", "avss"]
    assert all(part["clips"] == {"train": 6, "val": 3, "test": 4} and not part["problems"] for part in found["subsets"].values())


def test_the_page_about_avsbench_is_true(tmp_path, monkeypatch, capsys):
    """Its example is what `data check` prints of such a copy; it has the published sizes, and each kind of problem."""
    page = (Path(__file__).parents[2] / "docs" / "avsbench.md").read_text()
    monkeypatch.chdir(tmp_path)
    binary_tree(root := Path("AVSBench", "AVSBench_object"), "ms3", ["palette", "0 and 255", "RGBA"])
    first, second, third = read_clips(root, "ms3")
    for path in (first.frames[4], first.masks[4], third.audio):
        path.unlink()
    second.frames[0].write_bytes(second.frames[0].read_bytes()[:900])
    with pytest.raises(SystemExit):
        main(["data", "check", "AVSBench"])
    assert f"\n```\n{capsys.readouterr().out}```\n" in page
    assert all(f"{n:,}" in page for counts in PUBLISHED.values() for n in counts.values()) and all(f"`{kind}`" in page for kind in ADVICE)

"""Real files in AVSBench's layouts that this project did not make: pictures that ship with matplotlib, sounds
from Python's own tests, masks of each flavour that AVSBench comes in; and clips that end early."""

import sysconfig
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.trees import FLAVOURS, NEAREST, PICTURES, area, binary_tree, copy, put, semantic_tree, tone
from PIL import Image

from lightavseg_core._common.lookalikes import on_disk
from lightavseg_core.data.avsbench import AVSBench, collate
from lightavseg_core.data.check import check
from lightavseg_core.data.images import MEAN, STD
from lightavseg_core.data.layout import as_stored, read_clips

SOUNDS = Path(sysconfig.get_path("stdlib"), "test", "audiodata")


def off(item, picture):
    """How far an item's frames are from a picture, of 255."""
    stored = torch.from_numpy(np.array(Image.open(PICTURES[picture]).convert("RGB"))).permute(2, 0, 1)
    return (item["frames"] * STD * 255 + MEAN * 255 - stored).abs().max()


@pytest.mark.parametrize("subset", ["s4", "ms3"])
@pytest.mark.slow
def test_real_pictures_and_binary_masks_of_every_flavour(tmp_path, subset):
    shown = binary_tree(tmp_path, subset)
    data = AVSBench(tmp_path, subset, "val")
    for item in (data[i] for i in range(len(shown))):
        picture = shown[item["name"]]
        assert off(item, picture) < 0.01 and item["annotated"].all()
        marked = area(picture)
        if list(shown).index(item["name"]) == list(FLAVOURS).index("half as large"):
            small = FLAVOURS["half as large"](marked)
            marked = np.asarray(small.resize(marked.shape[::-1], NEAREST)) > 0
        assert np.array_equal(item["mask"], np.broadcast_to(marked, item["mask"].shape))
        assert 0.01 < item["mask"].float().mean() < 0.99
    small = AVSBench(tmp_path, subset, "val", size=64)
    batch = collate([small[i] for i in range(3)])  # three shapes, one size
    assert batch["frames"].shape == (3, 5, 3, 64, 64)
    report = check(tmp_path, subset)
    assert report.ok and report.files == 11 * len(shown)


@pytest.mark.slow
def test_real_photographs_and_semantic_masks_of_every_flavour(tmp_path):
    classes = torch.from_numpy(semantic_tree(tmp_path))
    data = AVSBench(tmp_path, "avss", "test")
    assert data.num_classes == 71 and [len(item["frames"]) for item in data] == [5, 5, 10, 5]
    assert classes.unique().tolist() == [0, 2, 5, 7]
    for item in data:
        assert torch.equal(item["mask"], classes.expand(len(item["frames"]), -1, -1))
        assert off(item, "grace_hopper.jpg") < 0.01
    report = check(tmp_path, "avss")
    assert report.ok and report.files == 3 * 11 + 21


@pytest.mark.skipif(not SOUNDS.is_dir(), reason="this Python comes without its tests")
def test_real_sounds(tmp_path):
    binary_tree(tmp_path, "ms3", ["0 and 255"] * 4)
    clips = read_clips(tmp_path, "ms3")
    for clip, name in zip(clips, ("pluck-pcm8", "pluck-pcm16", "pluck-pcm24", "pluck-pcm32"), strict=False):
        copy(SOUNDS / f"{name}.wav", clip.audio)  # stereo at 11,025 Hz, 0.3 s
    with wave.open(str(clips[0].audio)) as file:
        expected = round(16_000 * file.getnframes() / file.getframerate())
    data = AVSBench(tmp_path, "ms3", "val")
    waves = [data.waveform(i) for i in range(len(clips))]
    assert all(abs(len(wave_form) - expected) <= 1 and wave_form.std() > 0.01 for wave_form in waves)
    assert all((wave_form - waves[3]).abs().max() < 0.02 for wave_form in waves)  # one recording
    item = data[0]
    assert item["log_mel"][0].std() > 0.1 and torch.allclose(item["log_mel"][1:], torch.tensor(0.01).log())
    report = check(tmp_path, "ms3")
    assert report.ok and any("4 sounds shorter than the clip" in note for note in report.notes)


@pytest.mark.parametrize(
    "seconds, rate, channels",
    [(4.8, 16_000, 1), (5.0, 16_000, 1), (10.02, 16_000, 1), (5.0, 48_000, 2), (5.0, 22_050, 1)],
)
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
        assert torch.equal(item[key], whole[key][: 5 - gone])
    problems = check(tmp_path, "ms3").problems
    more = f"missing; the clip is read with {5 - gone} frames"
    expected = [("clip_0", "missing", "frame", f"{path}: {more}") for path in clips[0].frames[-gone:]]
    assert problems == expected
    data = AVSBench(tmp_path, "ms3", "val", size=32)
    batch = next(iter(torch.utils.data.DataLoader(data, 2, collate_fn=collate)))
    assert batch["lengths"].tolist() == [5 - gone, 5] and not batch["annotated"][0, 5 - gone :].any()
    for path in clips[1].frames:
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"clip_1\.mp4_1\.png: missing"):  # not a shorter clip
        AVSBench(tmp_path, "ms3", "val")[1]
    assert len(as_stored(clips[1]).frames) == 5


@pytest.mark.parametrize("seconds, ends_there", [(3.0, True), (3.3, True), (4.8, False)])
def test_a_clip_whose_sound_ends_with_its_frames_is_whole(tmp_path, seconds, ends_there):
    binary_tree(tmp_path, "ms3", ["0 and 255"])
    (clip,) = read_clips(tmp_path, "ms3")
    tone(clip.audio, seconds)
    for path in (*clip.frames[3:], *clip.masks[3:]):
        path.unlink()
    assert len(AVSBench(tmp_path, "ms3", "val")[0]["frames"]) == 3
    assert check(tmp_path, "ms3").ok == ends_there
    clip.audio.unlink()
    assert len(check(tmp_path, "ms3").problems) == 5


def test_a_frame_or_a_mask_that_is_missing_in_between(tmp_path):
    binary_tree(tmp_path, "s4", ["0 and 255", "palette", "RGBA"], split="val")
    clips = read_clips(tmp_path, "s4")
    gone = (clips[0].frames[2], clips[1].masks[3], clips[2].masks[4])
    for path in gone:
        path.unlink()
    data = AVSBench(tmp_path, "s4", "val")
    for index, path in enumerate(gone):
        with pytest.raises(FileNotFoundError, match=f"{path.name}: missing"):
            data[index]
    assert [(p.clip, p.kind, p.part) for p in check(tmp_path, "s4").problems] == [
        ("clip_0", "missing", "frame"),
        ("clip_1", "missing", "mask"),
        ("clip_2", "missing", "mask"),
    ]


FINE = [(256, 300), (1024, 1200), (171, 200), (32, 38)]
OTHER_SHAPES = [(512, 512), (600, 512), (16, 19), (1, 1)]


@pytest.mark.parametrize("size", [*FINE, *OTHER_SHAPES])
def test_masks_of_another_size_but_of_the_same_shape(tmp_path, size):
    binary_tree(tmp_path, "ms3", ["0 and 255"])
    clip = read_clips(tmp_path, "ms3")[0]  # its frames have 512 x 600 pixels
    put(Image.new("L", size, 255), clip.masks[2])
    report = check(tmp_path, "ms3")
    if size in FINE:
        assert AVSBench(tmp_path, "ms3", "val")[0]["mask"][2].all() and report.ok
        return
    is_large = f"is {size[0]} x {size[1]} pixels"
    words = rf"clip_0_3\.png: {is_large}, but its frame is 512 x 600"
    with pytest.raises(ValueError, match=words):
        AVSBench(tmp_path, "ms3", "val", size=32)[0]
    (problem,) = report.problems
    assert (problem.kind, problem.part) == ("size", "mask") and is_large in problem.found


def test_frames_of_different_sizes_in_one_semantic_clip(tmp_path):
    semantic_tree(tmp_path)
    clip = read_clips(tmp_path, "avss")[2]
    Image.open(clip.frames[4]).resize((256, 300)).save(clip.frames[4])
    with pytest.raises(ValueError, match="frames differ in size.*Make them one size"):
        AVSBench(tmp_path, "avss", "test", size=224)[2]
    assert [(p.clip, p.kind) for p in check(tmp_path, "avss").problems] == [(clip.name, "size")]


def as_on_a_mac(root, subset):
    """Renames a generated tree's clips: accents in the tables, apart from their letters on the disk, and all
    suffixes in upper case."""
    for table in root.rglob("*.csv"):
        text = table.read_text()
        for split in ("train", "val", "test"):
            text = text.replace(f"{subset}_{split}_", f"é_{split}_")
        table.write_text(text, encoding="utf-8")
    for path in sorted(root.rglob("*"), reverse=True):  # what is in a folder before the folder
        name = path.name
        for split in ("train", "val", "test"):
            name = name.replace(f"{subset}_{split}_", f"e\u0301_{split}_")
        if path.suffix in (".png", ".jpg", ".wav"):
            name = Path(name).stem + path.suffix.upper()
        path.rename(path.with_name(name))


@pytest.mark.parametrize("subset", ["s4", "ms3", "avss"])
@pytest.mark.slow
def test_names_that_another_system_wrote(shapes, own_copy, subset):
    as_on_a_mac(own_copy, subset)
    data = AVSBench(own_copy, subset, "test", 64)
    assert data.clips[0].name.startswith("é_") and not data.clips[0].frames[0].exists()
    for found, expected in zip(data, AVSBench(shapes, subset, "test", 64)):
        for part in ("frames", "mask", "log_mel", "annotated"):
            assert torch.equal(found[part], expected[part])
    as_it_was, report = check(shapes, subset), check(own_copy, subset)
    assert report.ok and report.files == as_it_was.files and report.notes == as_it_was.notes
    lengths = [len(clip.frames) for clip in data.clips]
    on_disk(data.clips[1].frames[-1]).unlink()
    lengths[1] -= 1
    assert [len(clip.frames) for clip in AVSBench(own_copy, subset, "test").clips] == lengths

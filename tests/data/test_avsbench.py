"""The dataset: items in all three layouts, padding, sounds that are swapped, and the ways in which real files
differ."""

import csv
import json
import os
import pickle
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image
from torch import nn

import lightavseg_core as lav
from lightavseg_core.data.avsbench import AVSBench, collate
from lightavseg_core.data.check import check
from lightavseg_core.data.layout import read_clips
from lightavseg_core.evaluation import score_for, update_score


def clip(root, subset="ms3", split="val", index=0):
    return read_clips(root, subset, split)[index]


def pixels(frames):
    """Normalised frames back to 0 to 255."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (frames * std + mean) * 255


def write_wav(path, samples, rate=16_000):
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())


@pytest.mark.parametrize("subset", ["s4", "ms3", "avss"])
@pytest.mark.parametrize("split, count", [("train", 6), ("val", 3), ("test", 4)])
def test_items(shapes, subset, split, count):
    data = AVSBench(shapes, subset, split)
    assert len(data) == count and data.num_classes == (8 if subset == "avss" else 1)
    for item, files in zip((data[i] for i in range(count)), data.clips, strict=True):
        seconds = 10 if files.kind == "v2" else 5
        assert item["frames"].shape == (seconds, 3, 64, 64) and item["frames"].dtype == torch.float32
        assert item["log_mel"].shape == (seconds, 1, 96, 64)
        assert item["log_mel"].isfinite().all() and item["log_mel"].std() > 0.1
        assert item["mask"].shape == (seconds, 64, 64) and item["mask"].dtype == torch.uint8
        first_only = split == "train" and files.kind in ("s4", "v1s")
        assert item["annotated"].tolist() == [not first_only or t == 0 for t in range(seconds)]
        assert item["name"] == files.name
        stored = np.stack([Image.open(path).convert("RGB") for path in files.frames])
        assert (pixels(item["frames"]) - torch.from_numpy(stored).permute(0, 3, 1, 2)).abs().max() < 0.01
        assert not item["mask"][~item["annotated"]].any()
        if subset != "avss":
            truth = np.stack([Image.open(path) for path in files.masks if path]) > 0
            assert np.array_equal(item["mask"][item["annotated"]], truth) and item["mask"].max() <= 1


def test_avss_classes_are_those_of_the_events(shapes):
    labels = json.loads((shapes / "label2idx.json").read_text())
    with (shapes / "events.csv").open() as file:
        heard = {(row["clip"], int(row["second"]), labels[row["category"]]) for row in csv.DictReader(file)}
    data = AVSBench(shapes, "avss", "test")
    found = set()
    for item in data:
        for t, mask in enumerate(item["mask"]):
            found |= {(item["name"], t, c) for c in mask.unique().tolist() if c}
    names = {files.name for files in data.clips}
    assert found == {event for event in heard if event[0] in names}


def test_other_sizes_and_jpeg(own_copy):
    files = clip(own_copy)
    for path in files.frames:  # JPEG in a file called .png, not square; left red, right blue
        picture = np.zeros((48, 96, 3), np.uint8)
        picture[:, :48, 0], picture[:, 48:, 2] = 200, 100
        Image.fromarray(picture).save(path, format="JPEG", quality=95)
    for path in files.masks:  # and masks of yet another size: the left third
        Image.fromarray(np.repeat([[9] * 40 + [0] * 80], 60, 0).astype(np.uint8)).save(path)
    item = AVSBench(own_copy, "ms3", "val", size=32)[0]
    assert item["frames"].shape == (5, 3, 32, 32) and item["mask"].shape == (5, 32, 32)
    colour = pixels(item["frames"])
    left, right = colour[..., :13], colour[..., 19:]
    assert (left[:, 0] - 200).abs().max() < 8 and left[:, 2].max() < 8 and (right[:, 2] - 100).abs().max() < 8
    assert item["mask"][:, :, :10].all() and not item["mask"][:, :, 12:].any()
    stored = AVSBench(own_copy, "ms3", "val")[0]
    assert stored["frames"].shape == (5, 3, 48, 96)
    assert stored["mask"][:, :, :31].all() and not stored["mask"][:, :, 33:].any()


@pytest.mark.parametrize("size", [32, 64, 96])
@pytest.mark.slow
def test_avss_crops_in_training_and_resizes_otherwise(shapes, size):
    torch.manual_seed(0)
    train, whole = AVSBench(shapes, "avss", "train", size), AVSBench(shapes, "avss", "train")
    places = set()
    for index in range(6):
        item, full = train[index], whole[index]
        assert item["frames"].shape[2:] == item["mask"].shape[1:] == (size, size)
        if size == 32:  # the same square of frames and mask
            squares = full["frames"].unfold(2, 32, 1).unfold(3, 32, 1)  # (T, 3, 33, 33, 32, 32)
            off = (squares - item["frames"][:, :, None, None]).abs().amax((0, 1, 4, 5))
            top, left = divmod(off.argmin().item(), 33)
            square = full["mask"][:, top : top + 32, left : left + 32]
            assert off.min() == 0 and torch.equal(item["mask"], square)
            places.add((top, left))
    assert size != 32 or len(places) > 3
    assert AVSBench(shapes, "avss", "test", size)[0]["frames"].shape[2:] == (size, size)


class Guess(nn.Module):
    """Says class by brightness, but marks all of the second half of a clip of ten frames that shows one
    picture throughout: padding."""

    def __init__(self, classes):
        super().__init__()
        self.config = SimpleNamespace(num_classes=classes)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, frames, log_mel):
        of_class = torch.linspace(-1, 1, self.config.num_classes).view(-1, 1, 1)
        logits = frames.mean(2, keepdim=True) * of_class * self.weight  # (B, T, C, H, W)
        for row, picture in zip(logits, frames, strict=True):
            if len(row) == 10 and (picture[5:] == picture[4]).all():
                row[5:, -1] += 50
        return SimpleNamespace(logits=logits)


def test_padding_is_not_annotated_and_never_scored(shapes):
    data = AVSBench(shapes, "avss", "test")
    items = [data[i] for i in range(4)]  # of 5, 5, 10 and 5 seconds
    batch = collate(items)
    assert batch["frames"].shape == (4, 10, 3, 64, 64) and batch["mask"].shape == (4, 10, 64, 64)
    assert batch["log_mel"].shape == (4, 10, 1, 96, 64)
    assert batch["lengths"].tolist() == batch["annotated"].sum(1).tolist() == [5, 5, 10, 5]
    assert batch["name"] == [clip.name for clip in data.clips]
    for row, item in enumerate(items):
        assert torch.equal(batch["frames"][row, : len(item["frames"])], item["frames"])
    padding = ~batch["annotated"][:, 5:, None, None, None]
    results = []
    for garbage in (0.0, 1.0, -7.0):
        score = score_for(8)
        logits = torch.randn(4, 10, 8, 64, 64, generator=torch.Generator().manual_seed(0))
        logits[:, 5:] += garbage * torch.arange(8).view(8, 1, 1) * padding
        update_score(score, logits, batch)
        results.append(score.compute())
    assert all(torch.equal(results[0][name], other[name]) for other in results[1:] for name in results[0])
    alone = lav.evaluate(Guess(8), data, batch_size=1)  # needs no padding
    together = lav.evaluate(Guess(8), data, batch_size=4)
    assert alone["frames"] == together["frames"] == 25
    assert alone["M_J"] == pytest.approx(together["M_J"], abs=1e-6)
    assert alone["foreground_share"] == pytest.approx(together["foreground_share"])


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_collate_pads_to_the_longest(lengths):
    items = []
    for n in lengths:
        item = {"frames": torch.rand(n, 3, 4, 5), "log_mel": torch.rand(n, 1, 6, 2), "name": str(n)}
        item["mask"] = torch.ones(n, 4, 5, dtype=torch.uint8)
        item["annotated"] = torch.ones(n, dtype=torch.bool)
        items.append(item)
    batch, longest = collate(items), max(lengths)
    there = torch.arange(longest) < torch.tensor(lengths)[:, None]
    assert batch["lengths"].tolist() == lengths
    assert batch["frames"].shape == (len(lengths), longest, 3, 4, 5)
    assert torch.equal(batch["annotated"], there)
    assert torch.equal(batch["mask"].flatten(2).amax(2) > 0, there)
    for row, n in enumerate(lengths):
        for key in ("frames", "log_mel"):  # the last one is repeated
            assert torch.equal(batch[key][row, :n], items[row][key])
            assert (batch[key][row, n:] == items[row][key][-1]).all()


OPENED = []  # an audit hook stays for good: one for the whole run


@pytest.mark.slow
def test_no_pickle_is_ever_opened(own_copy, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    for subset in ("s4", "ms3"):
        for files in read_clips(own_copy, subset):
            path = Path(str(files.audio.with_suffix(".pkl")).replace("audio_wav", "audio_log_mel"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(Bomb()))
    sys.addaudithook(lambda event, arguments: OPENED.append(str(arguments[0])) if event == "open" else None)
    for subset in ("s4", "ms3"):
        assert check(own_copy, subset).ok
        assert sum(len(list(AVSBench(own_copy, subset, split))) for split in ("train", "val", "test")) == 13
    opened = [path for path in OPENED if path.startswith(str(own_copy))]
    assert len(opened) > 100 and not [path for path in opened if path.endswith(".pkl")]
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_other_sounds_leave_the_truth(shapes):
    data = AVSBench(shapes, "ms3", "test")
    normal = [data[i] for i in range(4)]
    for sound in ("silent", "swapped", "noise"):
        heard = data.with_sound(sound)
        for index, item in enumerate(heard[i] for i in range(4)):
            assert all(torch.equal(item[key], normal[index][key]) for key in ("frames", "mask"))
            assert not torch.equal(item["log_mel"], normal[index]["log_mel"])
            waveform, own = heard.waveform(index), data.waveform(index)
            assert len(waveform) == len(own)
            if sound == "silent":
                assert not waveform.any() and torch.allclose(item["log_mel"], torch.tensor(0.01).log())
            elif sound == "swapped":
                donor = heard.donor(index)
                assert donor != index and torch.equal(item["log_mel"], normal[donor]["log_mel"])
            else:
                level, own_level = (sound.square().mean().sqrt().item() for sound in (waveform, own))
                assert level == pytest.approx(own_level, rel=0.02)
                spectrum = torch.fft.rfft(waveform).abs().square()[:40_000].view(8, -1).mean(1)
                assert spectrum.max() < 1.2 * spectrum.min() and torch.equal(waveform, heard.waveform(index))
    noise = data.with_sound("noise").waveform(0)
    assert torch.equal(data.with_sound("noisy").waveform(0), data.waveform(0) + noise)
    with pytest.raises(ValueError, match="'loud'. Known: noise, noisy, normal, silent, swapped"):
        data.with_sound("loud")
    with pytest.raises(ValueError, match="'loud'. Known: noise, noisy, normal, silent, swapped"):
        AVSBench(shapes, "ms3", "test", sound="loud")


@settings(max_examples=40, deadline=None)
@given(categories=st.lists(st.sampled_from("abcd"), min_size=2, max_size=12))
def test_swapping_is_a_derangement_that_changes_what_sounds(shapes, categories):
    data = AVSBench(shapes, "s4", "train").with_sound("swapped")
    data.clips, data.events = [data.clips[0]._replace(category=c) for c in categories], None
    donors = [data.donor(i) for i in range(len(categories))]
    assert sorted(donors) == list(range(len(categories)))
    assert all(donor != i for i, donor in enumerate(donors))
    if max(map(categories.count, categories)) <= len(categories) / 2:
        assert all(categories[donor] != categories[i] for i, donor in enumerate(donors))


def test_swapping_without_knowing_what_sounds(own_copy):
    (own_copy / "Multi-sources" / "events.csv").unlink()  # as in the real MS3: the next clip's
    data = AVSBench(own_copy, "ms3", "test", sound="swapped")
    assert [data.donor(i) for i in range(4)] == [1, 2, 3, 0]
    alone = AVSBench(own_copy, "ms3", "test", sound="swapped")
    alone.clips = alone.clips[:1]
    with pytest.raises(ValueError, match="swapping sounds needs at least two"):
        alone[0]


@pytest.mark.slow
def test_44_khz_stereo(own_copy):
    files = clip(own_copy)
    time = np.arange(5 * 44_100) / 44_100
    write_wav(files.audio, np.stack([0.4 * np.sin(2 * np.pi * 1000 * time), 0 * time], 1), 44_100)
    data = AVSBench(own_copy, "ms3", "val")
    expected = torch.from_numpy(0.2 * np.sin(2 * np.pi * 1000 * np.arange(80_000) / 16_000))
    assert (data.waveform(0)[100:-100] - expected[100:-100]).abs().max() < 0.004
    assert check(own_copy, "ms3").ok

"""What an ear learns from: mixtures that nobody heard before, which hold what their labels say."""

import numpy as np
import pytest
import torch
from helpers.casts import folder_cast

from lightavseg_core.data import AVSBench
from lightavseg_core.data.hearing import Mixtures, Seconds, learned_from
from lightavseg_core.data.sounding_shapes import generate

HERTZ = [200 * 1.5**k for k in range(6)]  # of the folder's calls, by category


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    cast = folder_cast(tmp_path_factory.mktemp("cast"))
    root = generate(tmp_path_factory.mktemp("made"), "ms3", {"train": 4}, 32, cast=str(cast), workers=1)
    return AVSBench(root, "ms3", "train")


def drawn(source, steps, count=16):
    generator = torch.Generator().manual_seed(3)
    return [source.draw(count, step, generator) for step in steps]


def test_labels_say_what_is_heard(clips):
    """A tone's band is loud where its label says so, and only there: two semitones are 12%, bands are 50%
    apart, and the noise floor is flat."""
    mixtures = Mixtures(clips, 0)
    assert mixtures.categories == ["ant", "bee", "cat", "dog", "eel", "fox"] and len(mixtures) == 20
    found = drawn(mixtures, range(8))
    sounds, labels = (torch.cat(parts) for parts in zip(*found))
    assert sounds.shape == (128, 15_600) and 0.5 < labels.sum(1).mean() < 2
    assert (sounds == 0).all(1).float().mean() == pytest.approx(0.05, abs=0.06)
    hertz = np.fft.rfftfreq(15_600, 1 / 16_000)
    power = np.abs(np.fft.rfft(sounds.numpy())) ** 2
    for category, middle in enumerate(HERTZ[1:], start=1):  # of the first there is a second call
        band = (hertz > middle * 0.85) & (hertz < middle * 1.17)
        loud = power[:, band].sum(1) / 15_600**2
        on = labels[:, category] == 1
        assert np.median(loud[on]) > 10 * np.quantile(loud[~on], 0.8)


def test_a_step_is_the_same_whatever_was_drawn_before(clips):
    """So a training goes on, or begins, anywhere."""
    whole = drawn(Mixtures(clips, 0), range(60), count=4)
    generator = torch.Generator().manual_seed(3)
    for _ in range(45):
        torch.randint(2**63 - 1, (), generator=generator)
    later = Mixtures(clips, 0)
    for step in range(45, 60):
        sound, label = later.draw(4, step, generator)
        assert torch.equal(sound, whole[step][0]) and torch.equal(label, whole[step][1])
    other = Mixtures(clips, 1)
    assert not torch.equal(other.draw(4, 59, torch.Generator().manual_seed(3))[0], whole[59][0])


def test_the_pool_is_renewed(clips):
    mixtures = Mixtures(clips, 0)
    places = len(mixtures.things) * 8
    before = mixtures._track(5, 0)
    assert mixtures._track(5, 2) is before and mixtures._track(5, 3) is not before  # places 4 and 5 in step 3
    assert (mixtures._track(5, 2 + places // 2) == mixtures._track(5, 3)).all()
    assert (mixtures._track(5, 3 + places // 2) != mixtures._track(5, 3)).any()


def test_who_learns_from_what(clips, shapes):
    assert isinstance(learned_from(clips, 0), Mixtures)
    timbres = learned_from(AVSBench(shapes, "ms3", "train"), 0)
    assert isinstance(timbres, Seconds) and len(timbres) == 30 and len(timbres.categories) == 7
    held_out = Seconds(clips, Mixtures(clips, 0).categories)
    assert held_out.labels.shape == (20, 6)

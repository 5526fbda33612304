"""The mix is what is on disk where nothing is changed, and a sum that a loop can make where something is."""

import io
import shutil
import wave

import numpy as np
import pytest
import torch

from lightavseg_core.data import AVSBench
from lightavseg_core.data.decoding import read_audio
from lightavseg_core.data.mixing import mix, tracks
from lightavseg_core.data.writing import wav

LSB = 1 / 32768


@pytest.mark.parametrize("subset", ["s4", "ms3", "avss"])
@pytest.mark.slow
def test_unity_gains_are_the_wav_on_disk(shapes, subset):
    dataset = AVSBench(shapes, subset, "test")
    for index, clip in enumerate(dataset.clips):
        found = tracks(dataset, index)
        sounds = torch.stack([track.sound for track in found])
        waveform, factor = mix(sounds, [1.0] * len(found))
        with wave.open(str(clip.audio)) as file:
            on_disk = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        assert waveform.dtype == torch.float32 and factor == 1
        assert (
            np.abs(waveform.numpy() - on_disk).max() <= 1.6 * LSB
        )  # the generator writes 32767 for 1, and rounds
        assert [track.object is None for track in found] == [False] * (len(found) - 1) + [True]


def test_tracks_follow_the_clip_not_its_place(shapes):
    """A dataset that holds some of a split's clips only has their stems."""
    dataset = AVSBench(shapes, "ms3", "test")
    last = tracks(dataset, 3)
    dataset.clips = dataset.clips[3:]
    assert all(torch.equal(a.sound, b.sound) for a, b in zip(tracks(dataset, 0), last, strict=True))


def test_another_sample_rate(shapes):
    dataset = AVSBench(shapes, "ms3", "test")
    summed = torch.stack([track.sound for track in tracks(dataset, 1, 32_000)]).sum(0)
    assert (summed - read_audio(dataset.clips[1].audio, 32_000)).abs().max() < 4 * LSB  # resampling is linear


def test_a_clip_without_recipe_has_one_track(own_copy):
    (own_copy / "Multi-sources" / "sounding_shapes.json").unlink()
    dataset = AVSBench(own_copy, "ms3", "test")
    (only,) = tracks(dataset, 2)
    assert only.object is None and torch.equal(only.sound, dataset.waveform(2))
    shutil.rmtree(own_copy / "Multi-sources" / "ms3_data" / "audio_wav")
    with pytest.raises(FileNotFoundError, match="no such sound file"):
        tracks(dataset, 2)


def test_mix_is_a_sum_over_samples():
    generator = torch.Generator().manual_seed(0)
    sounds, donor = 0.1 * torch.randn(3, 50, generator=generator), 0.1 * torch.randn(30, generator=generator)
    gains = [0.5, 0.0, 1.75]
    waveform, factor = mix(sounds, gains, donor=donor, donor_gain=0.6)
    for i in range(50):
        expected = sum(gain * float(sound[i]) for gain, sound in zip(gains, sounds))
        expected += 0.6 * float(donor[i]) if i < 30 else 0
        assert waveform[i] == pytest.approx(expected, abs=1e-6)
    assert factor == 1
    twice = torch.cat([donor, donor])
    assert torch.equal(mix(sounds, [0.0] * 3, donor=twice)[0], twice[:50])


def test_noise_is_that_of_the_dataset(shapes):
    """Muted tracks and noise of volume 1 are what AVSBench(sound="noise") hears."""
    dataset = AVSBench(shapes, "ms3", "test", seed=3)
    sounds = torch.stack([track.sound for track in tracks(dataset, 1)])
    waveform, _ = mix(sounds, [0.0] * len(sounds), noise=1.0, seed=3 * 1_000_003 + 1)
    heard = dataset.with_sound("noise").waveform(1)
    assert torch.allclose(waveform, heard, atol=1e-3 * heard.abs().max().item())
    half, _ = mix(sounds, [1.0] * len(sounds), noise=0.5, seed=3 * 1_000_003 + 1)
    assert torch.allclose(half - sounds.sum(0), 0.5 * waveform, atol=1e-6)


def test_an_overload_is_turned_down_as_a_whole():
    sounds = torch.stack([torch.linspace(-0.9, 0.9, 11), torch.linspace(0.1, -0.4, 11)])
    waveform, factor = mix(sounds, [2.0, 1.0])
    loud = 2 * sounds[0] + sounds[1]
    assert factor == pytest.approx(1 / 1.7, rel=1e-5)  # the peak is at -0.9: -1.8 + 0.1
    assert waveform.abs().max() <= 1 and torch.allclose(waveform, loud / 1.7, atol=1e-6)


def test_wav_is_what_a_reader_reads(tmp_path):
    waveform = torch.tensor([-1.0, -0.25, 0.0, 0.5, 1.0])
    (tmp_path / "a.wav").write_bytes(wav(waveform.numpy(), 8_000))
    with wave.open(io.BytesIO(wav(waveform.numpy(), 8_000))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8_000, 1, 5)
    assert (read_audio(tmp_path / "a.wav", 8_000) - waveform).abs().max() <= 1.5 * LSB


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([1.0],), "1 gains for sounds of shape"),
        (([1.0, -1.0],), "expected factors of at least 0"),
        (([1.0, float("nan")],), "expected factors of at least 0"),
        (([1.0, 1.0], float("inf")), "noise inf"),
        (([1.0, 1.0], 0.0, torch.zeros(3), -1.0), "donor_gain -1.0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        mix(torch.zeros(2, 10), *arguments)


@pytest.mark.parametrize("index", [-1, 4])
def test_a_clip_that_is_not_there(shapes, index):
    with pytest.raises(ValueError, match=f"clip {index}: the dataset has 4"):
        tracks(AVSBench(shapes, "ms3", "test"), index)

"""What a frame hears: the log-mel of VGGish to the last digit."""

import math

import numpy as np
import pytest
import torch
from helpers import parity

from lightavseg_core.data.audio import LogMel, PANNsLogMel

RATE = 16_000


def test_log_mel_is_vggish():
    i, n = np.arange(RATE * 5, dtype=np.float64), RATE * 5
    rising = 200 + 150 * (i / n) * 5
    waveform = 0.4 * np.sin(2 * np.pi * 440 * i / RATE) + 0.2 * np.sin(2 * np.pi * rising * i / RATE)
    outputs, front_end = parity.load("vggish.json")["outputs"], LogMel()
    whole = front_end.spectrogram(torch.from_numpy(waveform))
    parity.assert_matches(whole, outputs["log_mel"], "log_mel", 1e-5)
    # Examples of 0.96 s are those that frames hear at 0, 0.96, ... seconds.
    parity.assert_matches(
        front_end(torch.from_numpy(waveform), 0.96 * torch.arange(5)), outputs["examples"], "examples", 1e-5
    )


def test_a_frame_hears_exactly_96_windows():
    waveform = torch.randn(2, 3 * RATE, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0.0, 0.4, 1.0, 1.99])
    heard, whole = LogMel()(waveform, times), LogMel().spectrogram(waveform)
    assert heard.shape == (2, 4, 1, 96, 64) and heard.dtype == torch.float32
    for k, row in enumerate((0, 40, 100, 199)):
        torch.testing.assert_close(heard[:, k, 0], whole[:, row : row + 96].float(), rtol=0, atol=1e-5)
    for sample, is_heard in (
        (16_000, False),
        (16_001, True),
        (31_599, True),
        (31_600, False),
    ):  # a Hann window begins at 0
        changed = waveform.clone()
        changed[:, sample] += 1000
        assert torch.equal(LogMel()(changed, times)[:, 2], heard[:, 2]) != is_heard, sample


@pytest.mark.parametrize("samples", [0, 100, 8000, 15_599])
def test_a_short_track_is_padded_before_the_logarithm(samples):
    waveform = torch.randn(samples, generator=torch.Generator().manual_seed(1))
    heard = LogMel()(waveform, torch.arange(2))
    silent_before = torch.cat([waveform, torch.zeros(40_000)])
    torch.testing.assert_close(heard, LogMel()(silent_before, torch.arange(2)), rtol=0, atol=0)
    assert torch.allclose(heard[1], torch.tensor(math.log(0.01)))


def test_times_before_the_track():
    with pytest.raises(ValueError, match="at least 0"):
        LogMel()(torch.zeros(RATE), torch.tensor([-0.5]))


SECOND = torch.zeros(RATE)
WRONG = {
    "waveform is ndarray; expected a tensor": (SECOND.numpy(), [0]),
    "waveform is torch.int16; .*divide 16-bit samples by 32768": (SECOND.short(), [0]),
    r"waveform has shape \(16000, 2\); .*waveform.mean\(-1\) is mono": (torch.stack([SECOND] * 2, 1), [0]),
    r"waveform has shape \(\)": (torch.tensor(0.0), [0]),
    r"times has shape \(\); expected \(T,\), in seconds": (SECOND, 0),
    r"times has shape \(1, 2\)": (SECOND, torch.zeros(1, 2)),
    "times is empty": (SECOND, torch.zeros(0)),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_no_waveform(words):
    for front_end in (LogMel(), LogMel("published"), PANNsLogMel()):
        with pytest.raises(ValueError, match=words) as error:
            front_end(*WRONG[words])
        assert "\n" not in str(error.value)


def test_what_is_one():
    """Channels or clips first, any length, any float; seconds in any form."""
    assert LogMel()(torch.zeros(2, RATE), np.arange(3)).shape == (2, 3, 1, 96, 64)
    assert LogMel()(torch.zeros(2, 0), range(3)).shape == (2, 3, 1, 96, 64)
    assert LogMel()(torch.zeros(9, 4, dtype=torch.float64)[:8], [0]).dtype == torch.float32

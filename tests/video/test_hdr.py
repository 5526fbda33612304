"""High dynamic range and wide colours, as phones film them: seen as on a usual screen."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from helpers.films import film, flat

from lightavseg_core.video.hdr import ROWS, to_srgb
from lightavseg_core.video.reading import read_frames

BARS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 100), (128, 128, 128), (255, 255, 0)]
BARS += [(20, 20, 20), (255, 255, 255)]
WIDTH = 32  # pixels, of a bar
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087
TO_P3 = np.array([[0.8225, 0.1774, 0], [0.0332, 0.9669, 0], [0.0171, 0.0724, 0.9108]])
SDR, PQ, HLG = 1, 16, 18


def light(colours):
    """sRGB of 8 bits -> linear, white is 1."""
    code = np.asarray(colours) / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def to_pq(nits):
    root = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375


def to_hlg(nits):
    """Of a screen of 1000 cd/m2, whose system gamma is 1.2, back to the scene."""
    shown = nits / 1000
    luma = np.maximum(shown @ (0.2627, 0.6780, 0.0593), 1e-9)[..., None]
    scene = np.maximum(shown * luma ** (1 / 1.2 - 1), 0)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def to_sdr(nits):
    linear = nits / 203
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.abs(linear) ** (1 / 2.4) - 0.055)


def bars(path, codec, pixels, transfer, primaries=9, brighter=1.0, height=64):
    """A video of a second, of upright bars."""
    matrix = {1: np.eye(3), 9: TO_2020, 12: TO_P3}[primaries]
    code = {PQ: to_pq, HLG: to_hlg, SDR: to_sdr}[transfer](203 * brighter * light(BARS) @ matrix.T)
    row = np.round(code.clip(0, 1).repeat(WIDTH, 0) * 1023).astype(np.uint16)
    frame = av.VideoFrame.from_ndarray(np.stack([row] * height), format="gbrp10le")
    if not pixels.startswith("gbr"):
        frame = frame.reformat(format=pixels, dst_colorspace=Colorspace.BT2020)
    frame.color_trc, frame.color_primaries = transfer, primaries
    with av.open(str(path), "w") as container:
        options = {"crf": "5"} if codec.startswith("lib") else {}
        options |= {"x265-params": "log-level=none"} if codec == "libx265" else {}
        size = {"width": frame.width, "height": frame.height}
        stream = container.add_stream(codec, rate=5, pix_fmt=pixels, options=options, **size)
        coder = stream.codec_context
        coder.color_trc, coder.color_primaries, coder.color_range = transfer, primaries, 1
        if not pixels.startswith("gbr"):
            coder.colorspace = 9
        for k in range(5):
            frame.pts, frame.time_base = k, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def error(path, wanted=BARS):
    """Of each bar's middle."""
    _, picture = next(read_frames(path, Fraction(1)))
    middles = picture[len(picture) // 2, WIDTH // 2 :: WIDTH].astype(int)
    return np.abs(middles - np.array(wanted))


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize(
    "name,codec,pixels",
    [
        ("a.mp4", "libx265", "yuv420p10le"),
        ("a.webm", "libsvtav1", "yuv420p10le"),
        ("a.mov", "prores_ks", "yuv422p10le"),
        ("a.mkv", "ffv1", "gbrp10le"),
    ],
)
def test_high_dynamic_range(tmp_path, name, codec, pixels, transfer):
    """What is white in the scene, 203 cd/m2, is white."""
    found = error(bars(tmp_path / name, codec, pixels, transfer))
    assert found.mean() < 4 and found.max() < 25


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_what_is_brighter_than_white_is_white(tmp_path, transfer):
    found = error(bars(tmp_path / "a.mkv", "ffv1", "gbrp10le", transfer, brighter=3), [(255,) * 3] * 8)
    assert found[-1].max() == 0 and found[4].max() < 90  # and 128 is 210


@pytest.mark.parametrize("primaries", [9, 12])
def test_wide_colours_alone(tmp_path, primaries):
    found = error(bars(tmp_path / "a.mkv", "ffv1", "gbrp10le", SDR, primaries))
    assert found.mean() < 1.5 and found.max() < 10


def test_usual_videos_are_as_they_were(tmp_path):
    assert to_srgb(1, 1) is to_srgb(2, 2) is to_srgb(6, 6) is to_srgb(13, 5) is None
    path = film(tmp_path / "a.mp4", [flat(1)])
    with av.open(str(path)) as container:
        expected = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.array_equal(next(read_frames(path, Fraction(1)))[1], expected)


def test_all_rows_of_a_picture(tmp_path):
    """They are made a few at a time."""
    path = bars(tmp_path / "a.mkv", "ffv1", "gbrp10le", HLG, height=2 * ROWS + 3)
    _, picture = next(read_frames(path, Fraction(1)))
    assert len(picture) == 2 * ROWS + 3 and np.all(picture == picture[0])

"""The overlay as players show it: its colours, and the same bytes run after run."""

from fractions import Fraction

import av
import numpy as np
import pytest

from lightavseg_core.video.overlay import PAINT, write_video

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (20, 20, 20), (255, 255, 255), PAINT]
LUMA = {1: (0.2126, 0.0722), 6: (0.299, 0.114)}  # of red and blue, by how a video says that it is coded


def write(path, pictures, fps=1):
    write_video(path, pictures, Fraction(fps), iter(()), Fraction(1))
    return path


def as_players_show_it(path):
    """The first picture (H, W, 3) as ITU-R BT.601 and BT.709 say it, from what is stored."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        planes.append(rows[:, : plane.width].astype(float))
    luma, blue, red = planes
    luma = (luma - 16) / 219
    blue, red = ((plane.repeat(2, 0).repeat(2, 1) - 128) / 112 for plane in (blue, red))
    of_red, of_blue = LUMA[frame.colorspace]
    r, b = luma + (1 - of_red) * red, luma + (1 - of_blue) * blue
    g = (luma - of_red * r - of_blue * b) / (1 - of_red - of_blue)
    return 255 * np.stack([r, g, b], -1).clip(0, 1)


@pytest.mark.parametrize("lines,matrix", [(64, 6), (718, 6), (720, 1), (722, 1)])
def test_its_colours_in_a_player(tmp_path, lines, matrix):
    """Players that look at no tag take 720 lines and more for BT.709, fewer for BT.601."""
    picture = np.zeros((lines, 16 * len(COLOURS), 3), np.uint8)
    for k, colour in enumerate(COLOURS):
        picture[:, 16 * k : 16 * (k + 1)] = colour
    path = write(tmp_path / "o.mp4", [picture])
    with av.open(str(path)) as container:
        coder = container.streams.video[0].codec_context
        assert (coder.colorspace, coder.color_primaries, coder.color_trc) == (matrix, 1, 1)
        assert coder.color_range == 1
    shown = as_players_show_it(path)
    for k, colour in enumerate(COLOURS):
        assert np.abs(shown[lines // 2, 16 * k + 8] - colour).max() < 8, colour


def test_the_same_bytes_in_every_run(tmp_path):
    """x264's macroblock tree reads memory that nobody has written, so of a thousand encodings some five gave
    other bytes: it is left out, as x264 itself says in what it writes."""
    content = write(tmp_path / "o.mp4", [np.zeros((128, 128, 3), np.uint8)]).read_bytes()
    assert b"x264 - core" in content and b"mbtree=0 " in content

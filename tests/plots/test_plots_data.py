"""The pictures of notebook 1 show what they are given, where it belongs."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from lightavseg_core import plots
from lightavseg_core.data import images
from lightavseg_core.data.masks import voc_palette


@pytest.fixture(autouse=True)
def closed():
    matplotlib.use("agg")
    yield
    plt.close("all")


def shown(axis):
    return np.asarray(axis.images[0].get_array())


def painted(axis, frame, colour):
    """Where a picture is the frame under three quarters of a colour, (H, W) bool; it is grey elsewhere."""
    mixed = 0.25 * images.picture(frame) + 0.75 * np.array(to_rgb(colour))
    inside = np.abs(shown(axis) - mixed).max(-1) < 1e-6
    assert np.ptp(shown(axis)[~inside], axis=-1).max() < 1e-6
    return inside


def clip(frames=2, annotated=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(frames, 6, 6, dtype=torch.uint8)
    mask[:, 1:3, 1:4] = 1
    mask[:, 4:, 4:] = 2
    pictures = torch.randn(frames, 3, 6, 6, generator=generator)
    return {"frames": pictures, "mask": mask, "annotated": torch.tensor([True] + [annotated] * (frames - 1))}


def test_truths_are_painted_row_by_row():
    item = clip()
    masks = {"one": item["mask"] == 1, "two": item["mask"] == 2, "none": item["mask"] == 9}
    axes = np.array(plots.data.truths(item["frames"], masks, "title").axes).reshape(4, 2)
    assert np.array_equal(shown(axes[0, 1]), images.picture(item["frames"][1]))
    for line, mask in zip(axes[1:], masks.values(), strict=True):
        for t, axis in enumerate(line):
            assert np.array_equal(painted(axis, item["frames"][t], plots.GREEN), mask[t].numpy())


def test_frames_without_a_mask_are_left_as_they_are_and_classes_have_their_colours():
    binary, semantic = clip(annotated=False), clip(frames=3, seed=1)
    names = ["background", "disc", "bell"]
    figure = plots.data.annotations({"S4": binary, "AVSS": semantic}, ["AVSS"], names, "title")
    axes = np.array(figure.axes).reshape(2, 3)
    sounds = painted(axes[0, 0], binary["frames"][0], plots.GREEN)
    assert np.array_equal(sounds, binary["mask"][0].numpy() > 0)
    assert np.array_equal(shown(axes[0, 1]), images.picture(binary["frames"][1]))
    assert not axes[0, 2].axison and not axes[0, 2].images, "S4 has one frame less"
    for axis, frame, mask in zip(axes[1], semantic["frames"], semantic["mask"], strict=True):
        colours = np.array([(0, 0, 0), *map(to_rgb, plots.data.CLASSES[:2])])
        mixed = 0.25 * images.picture(frame) + 0.75 * colours[mask]
        np.testing.assert_allclose(shown(axis)[mask > 0], mixed[mask > 0], atol=1e-6)
        assert np.ptp(shown(axis)[mask == 0], axis=-1).max() < 1e-6, "the background is grey"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sounds", "disc", "bell"]


def test_palette_writes_the_indices_that_lie_in_the_white_square():
    index = np.zeros((20, 24), np.uint8)
    index[5:15, 8:20], index[5:9, 8:11] = 3, 1
    figure = plots.data.palette(index, voc_palette(4), ["background", "a", "b", "c"], side=7)
    whole, square, legend = figure.axes
    assert shown(whole)[6, 15].tolist() == [128, 128, 0] and shown(whole)[6, 9].tolist() == [128, 0, 0]
    left, top = (round(v + 0.5) for v in whole.patches[0].get_xy())
    part = index[top:top + 7, left:left + 7]
    assert len(np.unique(part)) > 1, "the square lies on an edge"
    assert [int(text.get_text()) for text in square.texts] == part.flatten().tolist()
    assert [text.get_text() for text in legend.texts][3::2] == ["255", "0", "1", "2"]


def test_log_mel_steps_follow_one_window():
    torch.manual_seed(0)
    sound, log_mel, spectrum = torch.randn(15_600), torch.randn(96, 64), torch.rand(96, 257)
    hann = torch.hann_window(400)
    figure = plots.data.log_mel_steps(sound, hann, spectrum, torch.rand(257, 64), log_mel, window=7)
    wave, cut, bins, _, _, result = figure.axes[:6]
    assert (wave.patches[0].get_x(), wave.patches[0].get_width()) == pytest.approx((0.07, 0.025))
    product = next(line for line in cut.lines if line.get_label() == "product").get_ydata()
    np.testing.assert_allclose(product, sound[1120:1520] * hann, rtol=1e-6)
    np.testing.assert_array_equal(bins.lines[0].get_ydata(), spectrum[7])
    np.testing.assert_array_equal(shown(result), log_mel.T)
    assert result.images[0].origin == "lower" and result.images[0].get_extent() == [0, 0.96, 0, 64]


def test_pixels_frame_the_true_ones():
    probability = torch.tensor([[0.1, 0.9], [0.25, 0.5]])
    truth = torch.tensor([[False, True], [True, False]])
    axis = plots.data.pixels({"x": (probability, truth)}, "title").axes[0]
    assert [text.get_text() for text in axis.texts] == ["0.10", "0.90", "0.25", "0.50"]
    framed = [tuple(np.round(np.add(patch.get_xy(), 0.45)).astype(int)) for patch in axis.patches]
    assert sorted(framed) == [(0, 1), (1, 0)]


def test_f_curves_mark_the_maximum_of_the_mean_not_the_mean_of_the_maxima():
    curves = {"a": torch.tensor([0.0, 0.6, 1.0]), "b": torch.tensor([1.0, 0.6, 0.0])}
    axis = plots.data.f_curves(torch.tensor([0.0, 0.5, 1.0]), curves, "title").axes[0]
    points = [line.get_xydata()[0] for line in axis.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points, [(1, 1), (0, 1), (0.5, 0.6)])


def test_batch_curves_end_beside_the_score_of_one_curve():
    scores = {"s4": {1: 0.9, 4: 0.8}, "ms3": {1: 0.7, 4: 0.6}}
    axis = plots.data.batch_curves(scores, {"s4": 0.75, "ms3": 0.5}, "title").axes[0]
    solid, dashed = ([line for line in axis.lines if line.get_linestyle() == style] for style in ("-", "--"))
    assert [list(line.get_ydata()) for line in solid] == [[0.9, 0.8], [0.7, 0.6]]
    assert [line.get_ydata()[0] for line in dashed] == [0.75, 0.5]
    assert [line.get_color() for line in solid] == [line.get_color() for line in dashed]


def test_swaps_are_listed_from_the_top():
    axis = plots.data.swaps({"first": (0.8, 0.4), "second": (0.5, 0.5)}, "title").axes[0]
    _, own, swapped = (collection.get_offsets().tolist() for collection in axis.collections)
    assert own == [[0.8, 1], [0.5, 0]] and swapped == [[0.4, 1], [0.5, 0]]

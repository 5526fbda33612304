"""What several pictures share, and the comparison of methods."""

from itertools import combinations
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text

from lightavseg_core import plots
from lightavseg_core.models import METHODS


@pytest.fixture(autouse=True)
def closed():
    matplotlib.use("agg")
    yield
    plt.close("all")


def test_a_method_has_its_colour_whichever_others_are_drawn():
    everyone = plots.method_colours(["mine", *METHODS])
    assert len(set(everyone.values())) == 1 + len(METHODS)
    for name in METHODS:
        assert plots.method_colours(["a", "b", name])[name] == everyone[name]
    assert everyone["mine"] == plots.common.COLOURS[len(METHODS)], "after those that everybody knows"
    assert len(plots.method_colours([str(n) for n in range(20)])) == 20


def test_the_front_is_joined_and_points_have_their_methods_colours():
    points = {"lightavseg": (1, 0.7), "selm": (3, 0.5), "avsbench": (2, 0.8)}
    axis = plots.pareto(points, "title", "cost", "score").axes[0]
    assert axis.lines[0].get_xydata().tolist() == [[1, 0.7], [2, 0.8]]
    colours = plots.method_colours(points)
    for name, scatter in zip(points, axis.collections):
        assert scatter.get_offsets().tolist() == [list(points[name])]
        assert to_hex(scatter.get_facecolor()).upper() == colours[name]


def test_a_grid_leaves_places_empty_and_outlines_the_truth_in_the_maps_cells():
    truth = torch.zeros(8, 8, dtype=torch.bool)
    truth[:4, 4:] = True
    rows = {"a": [np.zeros((8, 8, 3)), torch.rand(2, 2)], "b": [np.zeros((8, 8, 3)), None]}
    figure = plots.scales.map_grid(rows, ["frame", "map"], "title", truth={"a": truth, "b": truth})
    frame, drawn, _, empty = figure.axes[:4]
    assert torch.equal(torch.tensor(np.asarray(drawn.images[0].get_array())), rows["a"][1])
    assert not empty.axison and not empty.images and not frame.collections
    outline = drawn.collections[0].get_paths()[0].vertices
    assert outline[:, 0].min() == 0.5 and outline[:, 1].max() == 0.5, "the upper right cell of two by two"


# --- methods side by side ---


def row(name, score, interval=None, swapped=0.3, latency=20.0, stored=True):
    low, high = interval or (None, None)
    return SimpleNamespace(name=name, score=score, low=low, high=high, swapped=swapped, parameters=2_800_000,
                           latency=latency, stored=stored)


ROWS = [row("lightavseg", 0.71, (0.69, 0.73), 0.31), row("avesformer", 0.66, (0.6, 0.7)), row("selm", 0.66),
        row("avsbench", 0.5, (0.4, 0.6), 0.5, 80.0), row("mine", 0.58, latency=9.0, stored=False)]


def test_a_comparison_draws_scores_intervals_and_latencies_in_the_methods_colours():
    left, right = plots.method_comparison(ROWS).axes
    colours = plots.method_colours([row.name for row in ROWS])
    dots = [drawn for drawn in left.collections if isinstance(drawn, PathCollection)]
    for k, one in enumerate(ROWS):
        own, swapped = dots[2 * k:2 * k + 2]
        height = len(ROWS) - 1 - k
        assert own.get_offsets().tolist() == [[one.score, height]]
        assert swapped.get_offsets().tolist() == [[one.swapped, height]]
        assert to_hex(swapped.get_facecolor()) == "#ffffff", "hollow"
        assert right.collections[k].get_offsets().tolist() == [[one.latency, one.score]]
        for drawn in (own.get_facecolor(), swapped.get_edgecolor(), right.collections[k].get_facecolor()):
            assert to_hex(drawn).upper() == colours[one.name]
    intervals = [bar.lines[2][0].get_segments()[0][:, 0].tolist() for bar in left.containers]
    np.testing.assert_allclose(intervals, [(one.low, one.high) for one in ROWS if one.low])


def legend(rows):
    return plots.method_comparison(rows).axes[0].get_legend().get_texts()[0].get_text()


def test_the_legend_tells_of_an_interval_where_one_is_drawn():
    assert legend(ROWS) == "own sound, 95% interval over seeds"
    assert legend([one for one in ROWS if one.low is None]) == "own sound"


def test_no_name_lies_on_another_and_stored_rows_say_so():
    figure = plots.method_comparison(ROWS)
    figure.canvas.draw()
    left, right = figure.axes
    for texts in (left.get_yticklabels(), right.texts):
        assert sorted("(stored)" in text.get_text() for text in texts) == [False, True, True, True, True]
        boxes = [Text.get_window_extent(text) for text in texts]       # without the line to the point
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        assert all(figure.bbox.contains(*box.min) and figure.bbox.contains(*box.max) for box in boxes)

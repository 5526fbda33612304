"""Methods side by side: how well they mark, what a wrong sound costs them, and how long they take."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .common import GREY, STYLES, from_the_top, method_colours, open_frame, subplots

if TYPE_CHECKING:
    from ..experiments.compare import Row


def method_comparison(rows: Sequence[Row]) -> Figure:
    """M_J of each method with its interval, and with a swapped sound; and M_J against latency."""
    colours = method_colours([row.name for row in rows])
    markers = {row.name: marker for row, (_, marker) in zip(rows, STYLES * len(rows))}
    size = 12, max(3.2, 0.45 * len(rows) + 1.6)
    figure, (left, right) = subplots(1, 2, figsize=size, width_ratios=(1.2, 1))
    for y, row in zip(from_the_top(left, [_label(row) for row in rows]), rows):
        look = {"color": colours[row.name], "marker": markers[row.name]}
        left.hlines(y, row.swapped, row.score, color=GREY, linewidth=1, alpha=0.5, zorder=1)
        if row.low is not None:
            reach = [[row.score - row.low], [row.high - row.score]]
            left.errorbar(row.score, y, xerr=reach, color=colours[row.name], capsize=4)
        left.scatter(row.score, y, s=70, zorder=2, **look)
        hollow = {"marker": "D", "facecolors": "white", "edgecolors": colours[row.name]}
        left.scatter(row.swapped, y, s=30, zorder=3, **hollow)
        right.scatter(row.latency, row.score, s=60, zorder=2, alpha=0.6, **look)
    left.set(title="With its own and with a swapped sound", xlabel="$M_J$", xlim=(0, 1))
    left.grid(axis="x", alpha=0.3)
    plain = {"linestyle": "", "color": "black"}
    own = "own sound, 95% interval over seeds" if any(row.low is not None for row in rows) else "own sound"
    handles = [
        Line2D([], [], marker="o", label=own, **plain),
        Line2D([], [], marker="D", fillstyle="none", label="swapped sound", **plain),
    ]
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2}
    left.legend(handles=handles, frameon=False, fontsize=9, **below)
    right.set(title="Accuracy against latency", xlabel="latency, ms", ylabel="$M_J$")
    right.margins(0.12)
    open_frame(right, "both")
    _name_points(right, rows, colours)
    return figure


def _label(row: Row) -> str:
    return f"{row.name} (stored)" if row.stored else row.name


def _name_points(axis: Axes, rows: Sequence[Row], colours: dict[str, str]) -> None:
    """Writes the points' names in a column beside the axes, with lines to them, so that none overlap."""
    ranked = sorted(rows, key=lambda row: (row.score, -row.latency))
    for place, row in enumerate(ranked):
        text = f"{_label(row)}, {row.parameters / 1e6:.2f}M parameters"
        at = {"xytext": (1.06, (place + 0.5) / len(rows)), "textcoords": "axes fraction", "va": "center"}
        line = {"arrowstyle": "-", "color": colours[row.name], "linewidth": 0.8, "relpos": (0, 0.5)}
        axis.annotate(text, (row.latency, row.score), fontsize=9, arrowprops=line, **at)

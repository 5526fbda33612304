"""What the figures share, and figures that several notebooks draw.

The colours are Okabe and Ito's, which colour-blind readers can tell apart.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from .._common.files import whole
from ..data.images import picture
from ..models.base import METHODS

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"
PURPLE, SKY, YELLOW = "#CC79A7", "#56B4E9", "#F0E442"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY, "black", YELLOW)
STYLES = tuple(zip(COLOURS, "osD^vP*<>"))      # of the first curve, the second, ...
subplots = partial(plt.subplots, layout="constrained")


def method_colours(names: Collection[str]) -> dict[str, str]:
    """A colour for each method, the same in every figure: by its place in METHODS; other names follow."""
    places = {name: place for place, name in enumerate(dict.fromkeys([*METHODS, *names]))}
    return {name: COLOURS[places[name] % len(COLOURS)] for name in names}


def overlay(frame: Tensor, mask: Tensor, color: str = ORANGE) -> np.ndarray:
    """A frame (3, H, W) with a mask (H, W) painted over it and the rest dark grey: (H, W, 3)."""
    image = picture(frame)
    inside = (mask.cpu() > 0).numpy()[..., None]
    painted = 0.25 * image + 0.75 * np.array(to_rgb(color))
    return np.where(inside, painted, 0.45 * image.mean(-1, keepdims=True))


def save(figure: Figure, path: Path, **options) -> None:
    """Writes a figure in the format of its suffix, or as PNG: completely, or not at all. Makes its folder."""
    path = path if path.suffix else path.with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as staging:
        figure.savefig(staging, **options)


# --- axes ---


def bare(axis: Axes) -> None:
    """Removes the ticks, for a picture."""
    axis.set(xticks=[], yticks=[])


def open_frame(axis: Axes, grid: str | None = None) -> None:
    """Removes the lines above and to the right. grid: lines for "x", "y" or "both"."""
    axis.spines[["top", "right"]].set_visible(False)
    if grid:
        axis.grid(axis=grid, alpha=0.3)


def legend_beside(axis: Axes, **options) -> None:
    """A legend to the right of the axes."""
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), **options)


def doubling(axis: Axes, values: Sequence[int]) -> None:
    """A logarithmic x axis with ticks only at these values."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(values, [str(value) for value in values])
    axis.minorticks_off()


def from_the_top(axis: Axes, names: Collection[str]) -> range:
    """Names down the left side, the first at the top; returns the heights of their rows, in this order."""
    heights = range(len(names))
    axis.set_yticks(heights, list(names)[::-1])
    axis.set_ylim(-0.6, len(names) - 0.4)
    open_frame(axis)
    return heights[::-1]


# --- pictures ---


def heard_place(windows: int, bands: float) -> dict:
    """Options of `imshow` for a log-mel (bands, windows): seconds across, low bands at the bottom."""
    return {"origin": "lower", "aspect": "auto", "extent": (0, windows / 100, 0, bands)}  # 100 a second


def picture_grid(
    rows: Mapping[str, Sequence[np.ndarray | Tensor | None]], columns: Sequence[str] = (), title: str = "",
    cell: tuple[float, float] = (1.5, 1.5), margin: tuple[float, float] = (0, 0), most: float = 1
) -> tuple[Figure, np.ndarray]:
    """Pictures (H, W, 3), 0 to 1, and maps (h, w), 0 to `most`, a row for each name; figure and axes.

    None, or a row that is shorter than others, leaves places empty. columns: titles above the first row.
    cell: width and height of a picture, and margin: of the figure's margin, in inches.
    """
    longest = max(len(pictures) for pictures in rows.values())
    size = cell[0] * longest + margin[0], cell[1] * len(rows) + margin[1]
    figure, axes = subplots(len(rows), longest, figsize=size, squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items()):
        for axis in line:
            bare(axis)
        for axis, image in zip(line, [*pictures, *[None] * (longest - len(pictures))]):
            if image is None:
                axis.axis("off")
                continue
            smoothing = "nearest" if np.ndim(image) == 2 else None
            axis.imshow(np.asarray(image), cmap="viridis", vmin=0, vmax=most, interpolation=smoothing)
        line[0].set_ylabel(name, fontsize=9)
    for axis, name in zip(axes[0], columns):
        axis.set_title(name, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure, axes


def clip_figure(item: dict) -> Figure:
    """A clip: its frames, what sounds in them, and the log-mel of each frame, window by window.

    item: of `AVSBench`.
    """
    seconds, heard = len(item["frames"]), item["log_mel"]
    scale = {"vmin": heard.min().item(), "vmax": heard.max().item(), "cmap": "magma"}
    place = heard_place(*heard.shape[-2:])
    figure, axes = subplots(3, seconds, figsize=(1.9 * seconds, 5.6))
    for t, (above, middle, below) in enumerate(axes.T):
        above.imshow(picture(item["frames"][t]))
        above.set_title(f"second {t}", fontsize=9)
        middle.imshow(overlay(item["frames"][t], item["mask"][t], GREEN))
        below.imshow(heard[t, 0].T.numpy(), **scale, **place)
        below.set_xlabel("s", fontsize=8)
        below.tick_params(labelsize=7)
        bare(above)
        bare(middle)
    for axis, label in zip(axes[:, 0], ("frame", "truth: what sounds", "heard: mel band")):
        axis.set_ylabel(label, fontsize=9)
    return figure


def prediction_grid(
    items: Sequence[tuple[Tensor, Tensor, dict[str, Tensor]]], titles: Sequence[str] = ()
) -> Figure:
    """Frame, ground truth and predictions one below the other, a column for each item.

    items: frame (3, H, W), truth (H, W), and a dict of predictions by name, each (H, W) bool.
    """
    rows = {
        "frame": [picture(frame) for frame, _, _ in items],
        "truth": [overlay(frame, truth, GREEN) for frame, truth, _ in items],
    }
    for name in items[0][2]:
        rows[name] = [overlay(frame, predictions[name]) for frame, _, predictions in items]
    side = min(1.7, 11 / len(items))       # no wider than a page
    return picture_grid(rows, titles, cell=(side, side + 0.05))[0]


def attention_maps(frame: Tensor, truth: Tensor, maps: Tensor, titles: Sequence[str], title: str) -> Figure:
    """A frame (3, H, W), what sounds in it (H, W), and the weights of some keys at every position.

    maps (K, h, w), all on one colour scale from 0.
    """
    pictures = [picture(frame), overlay(frame, truth, GREEN), *maps.cpu()]
    columns = "frame", "what sounds", *titles
    figure, axes = picture_grid({"": pictures}, columns, title, (1.75, 2.5), (0.6, 0), most=maps.max().item())
    figure.colorbar(axes[0, -1].images[0], ax=axes[0, 2:], label="weight of the key", shrink=0.75)
    return figure


# --- curves and dots ---


def training_curves(log: Sequence[dict]) -> Figure:
    """The loss and its parts by step, and the validation M_J by epoch, from a trainer's log."""
    steps = [entry for entry in log if entry["event"] == "step"]
    validations = [entry for entry in log if entry["event"] == "validation"]
    window = max(1, len(steps) // 50)
    kernel = np.ones(window) / window
    figure, (left, right) = subplots(1, 2, figsize=(9, 3))
    parts = ("loss", GREY, "total"), ("segmentation", BLUE, "Dice + BCE"), ("alignment", ORANGE, "$L_{msa}$")
    for key, color, label in parts:
        if key in steps[0]:
            smooth = np.convolve([entry[key] for entry in steps], kernel, "valid")
            left.plot(smooth, color=color, label=label)
    left.set(title=f"Training loss (mean of {window} steps)", xlabel="step", ylabel="loss", ylim=(0, None))
    left.legend(frameon=False)
    right.plot([v["epoch"] for v in validations], [v["M_J"] for v in validations], "o-", color=GREEN)
    right.set(title="Validation", xlabel="epoch", ylabel="$M_J$", ylim=(0, 1))
    return figure


def bars(values: dict[str, float], title: str, xlabel: str, colors: dict[str, str] | None = None) -> Figure:
    """Horizontal bars with their values, in the given order."""
    figure, axis = subplots(figsize=(7, 0.42 * len(values) + 0.9))
    for y, (name, value) in zip(from_the_top(axis, values), values.items()):
        axis.barh(y, value, color=(colors or {}).get(name, GREY))
        axis.text(value + 0.01, y, f"{value:.3f}", va="center", fontsize=9)
    axis.set(title=title, xlabel=xlabel, xlim=(0, 1))
    return figure


def cost_curves(sides: Sequence[int], curves: dict[str, Sequence[float]], title: str, ylabel: str) -> Figure:
    """Cost against the frame's side, both logarithmic: slope 2 is linear in pixels, slope 4 is quadratic.

    A curve may be shorter than `sides` if it was measured only up to there.
    """
    figure, axis = subplots(figsize=(7, 4))
    for (name, values), (color, marker) in zip(curves.items(), STYLES):
        axis.plot(sides[:len(values)], values, marker + "-", color=color, label=name, markersize=5)
    axis.set(title=title, xlabel="side of the frame, pixels", ylabel=ylabel, yscale="log")
    doubling(axis, sides)
    axis.legend(frameon=False)
    open_frame(axis, "both")
    return figure


def intervals(rows: dict[str, tuple[float, float, float]], title: str, xlabel: str) -> Figure:
    """Differences with their intervals, (mean, low, high) by name, from the top; 0 means no difference."""
    figure, axis = subplots(figsize=(7, 0.42 * len(rows) + 1))
    for y, (mean, low, high) in zip(from_the_top(axis, rows), rows.values()):
        color = BLUE if low > 0 else RED if high < 0 else GREY
        axis.plot([low, high], [y, y], color=color, linewidth=2)
        axis.plot(mean, y, "o", color=color)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(title=title, xlabel=xlabel)
    return figure


def seed_dots(
    panels: dict[str, dict[str, Collection[float | None]]], title: str,
    lines: dict[str, tuple[float, str]] | None = None
) -> Figure:
    """Panels side by side with the same rows: a dot for each seed, a bar at their mean.

    A row without values is "not defined". panels: axis label -> row -> values; beyond a factor of 20 the axis
    is logarithmic. lines: axis label -> position and name of a dashed line.
    """
    rows = list(next(iter(panels.values())))
    size = 2.2 + 2.7 * len(panels), 0.36 * len(rows) + 1.3
    figure, axes = subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, (label, values) in zip(axes[0], panels.items()):
        everything = []
        for y, row in zip(from_the_top(axis, rows), rows):
            found = [value for value in values[row] if value is not None]
            everything += found
            if found:
                axis.plot(found, [y] * len(found), "o", color=BLUE, alpha=0.55, markeredgewidth=0)
                axis.plot(np.mean(found), y, "|", color="black", markersize=14)
            else:
                place = {"xycoords": axis.get_yaxis_transform(), "ha": "center", "va": "center"}
                axis.annotate("not defined", (0.5, y), fontsize=8, color=GREY, **place)
        if lines and label in lines:
            x, name = lines[label]
            axis.axvline(x, color=RED, linestyle="--", linewidth=1, label=name)
            axis.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1))
        if everything and 0 < 20 * min(everything) < max(everything):
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter("{x:g}")
        else:
            axis.locator_params(axis="x", nbins=4)
        axis.margins(x=0.12)
        axis.set_xlabel(label)
        axis.grid(axis="x", alpha=0.3)
    figure.suptitle(title, fontsize=11)
    return figure


def pareto_front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the points (cost, score) that no other point beats, by increasing cost."""
    front = []
    for name, (cost, score) in sorted(points.items(), key=lambda item: item[1]):
        others = points.values()
        if not any((c <= cost and s > score) or (c < cost and s >= score) for c, s in others):
            front.append(name)
    return front


def pareto(points: dict[str, tuple[float, float]], title: str, xlabel: str, ylabel: str) -> Figure:
    """Score against cost, each method a point in its colour, and the front of those that no other beats."""
    figure, axis = subplots(figsize=(7, 4))
    front = [points[name] for name in pareto_front(points)]
    axis.plot(*zip(*front), "--", color=GREY, linewidth=1, zorder=1)
    colours = method_colours(points)
    for (name, point), (_, marker) in zip(points.items(), cycle(STYLES)):
        axis.scatter(*point, color=colours[name], marker=marker, s=55, zorder=2, label=name)
    legend_beside(axis)
    axis.margins(x=0.2, y=0.2)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    open_frame(axis, "both")
    return figure

"""Pictures that several notebooks draw. Colours are Okabe and Ito's, which colour-blind readers can tell apart."""
from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import cycle

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from ..data.images import picture

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"


def overlay(frame: Tensor, mask: Tensor, color: str = ORANGE) -> np.ndarray:
    """A frame (3, H, W) with a mask (H, W) painted over it, and the rest dark and grey: (H, W, 3)."""
    image = picture(frame)
    inside = (mask.cpu() > 0).numpy()[..., None]
    paint = np.array([int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(inside, 0.25 * image + 0.75 * paint, 0.45 * image.mean(-1, keepdims=True))


def clip_figure(item: dict) -> Figure:
    """A clip: its frames, what sounds in them, and the log-mel that each frame hears, window by window. item: of `AVSBench`."""
    seconds, heard = len(item["frames"]), item["log_mel"]
    scale = {"vmin": heard.min().item(), "vmax": heard.max().item(), "extent": (0, heard.shape[-2] / 100, 0, heard.shape[-1])}  # 100 windows a second
    figure, axes = plt.subplots(3, seconds, figsize=(1.9 * seconds, 5.6), layout="constrained")
    for t in range(seconds):
        axes[0, t].imshow(picture(item["frames"][t]))
        axes[0, t].set_title(f"second {t}", fontsize=9)
        axes[1, t].imshow(overlay(item["frames"][t], item["mask"][t], GREEN))
        axes[2, t].imshow(heard[t, 0].T, origin="lower", aspect="auto", cmap="magma", **scale)
        axes[2, t].set_xlabel("s", fontsize=8)
        axes[2, t].tick_params(labelsize=7)
        for axis in axes[:2, t]:
            axis.set_xticks([])
            axis.set_yticks([])
    for row, label in enumerate(("frame", "truth: what sounds", "heard: mel band")):
        axes[row, 0].set_ylabel(label, fontsize=9)
    return figure


def training_curves(log: Sequence[dict]) -> Figure:
    """Loss and its parts by step, and validation M_J by epoch, from a trainer's log."""
    steps = [entry for entry in log if entry["event"] == "step"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    window = max(1, len(steps) // 50)
    kernel = np.ones(window) / window
    for key, color, label in (("loss", GREY, "total"), ("segmentation", BLUE, "Dice + BCE"), ("alignment", ORANGE, "$L_{msa}$")):
        if key in steps[0]:
            left.plot(np.convolve([entry[key] for entry in steps], kernel, "valid"), color=color, label=label)
    left.set(title=f"Training loss (mean of {window} steps)", xlabel="step", ylabel="loss", ylim=(0, None))
    left.legend(frameon=False)
    validations = [entry for entry in log if entry["event"] == "validation"]
    right.plot([v["epoch"] for v in validations], [v["M_J"] for v in validations], "o-", color=GREEN)
    right.set(title="Validation", xlabel="epoch", ylabel="$M_J$", ylim=(0, 1))
    return figure


def prediction_grid(items: Sequence[tuple[Tensor, Tensor, dict[str, Tensor]]], titles: Sequence[str] | None = None) -> Figure:
    """Frame, truth and predictions side by side, a column for each item.

    items: frame (3, H, W), truth (H, W), and a dict of predictions by name, each (H, W) bool.
    """
    names = ["frame", "truth", *items[0][2]]
    figure, axes = plt.subplots(len(names), len(items), figsize=(1.7 * len(items), 1.75 * len(names)), layout="constrained", squeeze=False)
    for column, (frame, truth, predictions) in enumerate(items):
        pictures = [picture(frame), overlay(frame, truth, GREEN), *(overlay(frame, p) for p in predictions.values())]
        for row, image in enumerate(pictures):
            axis = axes[row, column]
            axis.imshow(image)
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(names[row], fontsize=9)
        if titles:
            axes[0, column].set_title(titles[column], fontsize=9)
    return figure


def bars(values: dict[str, float], title: str, xlabel: str, colors: dict[str, str] | None = None) -> Figure:
    """Horizontal bars with their values, in the order given."""
    figure, axis = plt.subplots(figsize=(7, 0.42 * len(values) + 0.9), layout="constrained")
    names = list(values)[::-1]
    axis.barh(names, [values[name] for name in names], color=[(colors or {}).get(name, GREY) for name in names])
    for y, name in enumerate(names):
        axis.text(values[name] + 0.01, y, f"{values[name]:.3f}", va="center", fontsize=9)
    axis.set(title=title, xlabel=xlabel, xlim=(0, 1))
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def cost_curves(sides: Sequence[int], curves: dict[str, Sequence[float]], title: str, ylabel: str) -> Figure:
    """Cost against the frame's side, both axes logarithmic: a straight line of slope 2 is linear in pixels, of slope 4 quadratic.

    A curve may be shorter than `sides`: it was measured up to there.
    """
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for (name, values), color, marker in zip(curves.items(), (RED, ORANGE, BLUE, GREEN, GREY), "osD^v"):
        axis.loglog(sides[:len(values)], values, marker + "-", color=color, label=name, markersize=5)
    axis.set_xticks(sides, [str(side) for side in sides])
    axis.minorticks_off()
    axis.set(title=title, xlabel="side of the frame, pixels", ylabel=ylabel)
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    return figure


def intervals(rows: dict[str, tuple[float, float, float]], title: str, xlabel: str) -> Figure:
    """Differences with their intervals, (mean, low, high) by name, in the order given; the line at 0 is no difference."""
    figure, axis = plt.subplots(figsize=(7, 0.42 * len(rows) + 1), layout="constrained")
    names = list(rows)[::-1]
    for y, name in enumerate(names):
        mean, low, high = rows[name]
        color = BLUE if low > 0 else RED if high < 0 else GREY
        axis.plot([low, high], [y, y], color=color, linewidth=2)
        axis.plot(mean, y, "o", color=color)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(names)), names)
    axis.set(title=title, xlabel=xlabel)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def pareto_front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the points (cost, score) that no other point beats, by rising cost."""
    return [name for name, (cost, score) in sorted(points.items(), key=lambda item: item[1])
            if not any((c <= cost and s > score) or (c < cost and s >= score) for c, s in points.values())]


def pareto(points: dict[str, tuple[float, float]], title: str, xlabel: str, ylabel: str) -> Figure:
    """Score against cost, each method a point, and the front: those that no other beats."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    front = pareto_front(points)
    axis.plot([points[name][0] for name in front], [points[name][1] for name in front], "--", color=GREY, linewidth=1, zorder=1)
    for (name, (cost, score)), color, marker in zip(points.items(), cycle((RED, GREY, BLUE, ORANGE, GREEN)), cycle("sD^ov<>pP")):
        axis.scatter(cost, score, color=color, marker=marker, s=55, zorder=2, label=name)
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.margins(x=0.2, y=0.2)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)
    return figure


def seed_dots(panels: dict[str, dict[str, Collection[float | None]]], title: str, lines: dict[str, tuple[float, str]] | None = None) -> Figure:
    """Panels side by side with the same rows: a dot for each seed, a bar at their mean; a row without values is "not defined".

    panels: axis label -> row -> values; beyond a factor of 20 the axis is logarithmic. lines: axis label -> where a dashed line stands, and what
    it is.
    """
    rows = list(next(iter(panels.values())))[::-1]
    size = (2.2 + 2.7 * len(panels), 0.36 * len(rows) + 1.3)
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for axis, (label, values) in zip(axes[0], panels.items()):
        for y, row in enumerate(rows):
            if found := [value for value in values[row] if value is not None]:
                axis.plot(found, [y] * len(found), "o", color=BLUE, alpha=0.55, markeredgewidth=0)
                axis.plot(np.mean(found), y, "|", color="black", markersize=14)
            else:
                axis.text(0.5, y, "not defined", transform=axis.get_yaxis_transform(), ha="center", va="center", fontsize=8, color=GREY)
        if label in (lines or {}):
            x, name = lines[label]
            axis.axvline(x, color=RED, linestyle="--", linewidth=1, label=name)
            axis.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1))
        everything = [value for of_row in values.values() for value in of_row if value is not None]
        if everything and min(everything) > 0 and max(everything) > 20 * min(everything):
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter("{x:g}")
        else:
            axis.locator_params(axis="x", nbins=4)
        axis.margins(x=0.12)
        axis.set_xlabel(label)
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_yticks(range(len(rows)), rows)
    axes[0, 0].set_ylim(-0.6, len(rows) - 0.4)
    figure.suptitle(title, fontsize=11)
    return figure


def attention_maps(frame: Tensor, truth: Tensor, maps: Tensor, titles: Sequence[str], title: str) -> Figure:
    """A frame (3, H, W), what sounds in it (H, W), and the weight of some keys at every position, maps (K, h, w), on one colour scale from 0."""
    figure, axes = plt.subplots(1, 2 + len(maps), figsize=(1.75 * (2 + len(maps)) + 0.6, 2.5), layout="constrained")
    axes[0].imshow(picture(frame))
    axes[1].imshow(overlay(frame, truth, GREEN))
    for axis, weights in zip(axes[2:], maps):
        shown = axis.imshow(weights.cpu(), cmap="viridis", vmin=0, vmax=maps.max().item())
    for axis, name in zip(axes, ("frame", "what sounds", *titles)):
        axis.set_title(name, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(shown, ax=axes[2:], label="weight of the key", shrink=0.75)
    figure.suptitle(title, fontsize=11)
    return figure

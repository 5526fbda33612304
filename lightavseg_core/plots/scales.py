"""Pictures of a decoder at work: maps side by side, scores along its scales, and the audio state before and after a refinement."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from ..inspection.scales import DecoderStep, Interval
from .common import BLUE, GREEN, GREY, ORANGE, RED

COLOURS = (BLUE, ORANGE, GREEN, RED, GREY, "#CC79A7", "#56B4E9")
MARKERS = "osD^vPX"


def map_grid(rows: Mapping[str, Sequence[Tensor | np.ndarray | None]], columns: Sequence[str], title: str, label: str | None = "probability",
             truth: Mapping[str, Tensor] | None = None, height: float = 1.5) -> Figure:
    """Pictures (H, W, 3), 0 to 1, and maps (h, w), 0 to 1, side by side, a row of them for each name; None leaves a place empty.

    label: what the maps' colours mean. truth: by row, the true mask (H, W), whose outline is drawn on the row's maps.
    """
    figure, axes = plt.subplots(len(rows), len(columns), figsize=(height * len(columns) + 1, height * len(rows) + 0.6),
                                layout="constrained", squeeze=False)
    shown = None
    for line, (name, pictures) in zip(axes, rows.items()):
        for axis, picture in zip(line, pictures, strict=True):
            axis.set(xticks=[], yticks=[])
            if picture is None:
                axis.axis("off")
                continue
            picture = np.asarray(picture)
            height_width = np.shape(truth[name]) if truth else picture.shape[:2]
            frame = (-0.5, height_width[1] - 0.5, height_width[0] - 0.5, -0.5)
            image = axis.imshow(picture, cmap="viridis", vmin=0, vmax=1, interpolation="nearest", extent=frame)
            if picture.ndim == 2:
                shown = image
                if truth and np.any(np.asarray(truth[name])):
                    axis.contour(np.asarray(truth[name]) > 0, [0.5], colors="white", linewidths=0.8)
        first = line[0]
        first.axis("on")
        first.set_ylabel(name, fontsize=9)
    for axis, name in zip(axes[0], columns):
        axis.set_title(name, fontsize=9)
    if shown is not None and label:
        figure.colorbar(shown, ax=axes, label=label, shrink=min(1.0, 2 / len(rows)), fraction=0.03)
    figure.suptitle(title, fontsize=11)
    return figure


def scale_curves(panels: Mapping[str, Mapping[str, Mapping[str, Interval]]], scales: Sequence[str], title: str) -> Figure:
    """Scores along the decoder, a panel for each score: panel -> curve -> scale -> (mean, low, high). A curve may lack scales."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.9 * len(panels), 3.5), layout="constrained", squeeze=False)
    several = max(len(curves) for curves in panels.values())
    for axis, (ylabel, curves) in zip(axes[0], panels.items()):
        for k, (name, points) in enumerate(curves.items()):
            here = [scale for scale in scales if scale in points]
            x = np.array([scales.index(scale) for scale in here]) + (k - (len(curves) - 1) / 2) * 0.5 / several
            mean, low, high = np.array([points[scale][:3] for scale in here]).T
            bars = np.maximum((mean - low, high - mean), 0)
            axis.errorbar(x, mean, bars, color=COLOURS[k % len(COLOURS)], marker=MARKERS[k % len(MARKERS)],
                          markersize=4, linewidth=1.2, capsize=2, label=name)
        axis.set_xticks(range(len(scales)), scales, fontsize=8)
        axis.set(xlabel="scale, cells", ylabel=ylabel, ylim=(min(0, axis.get_ylim()[0]), max(1.02, axis.get_ylim()[1])))
        axis.grid(alpha=0.3)
    handles, names = axes[0, 0].get_legend_handles_labels()
    if all(list(curves) == names for curves in panels.values()):
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 6), frameon=False, fontsize=9)
    else:
        for axis in axes[0]:
            axis.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def state_figure(steps: Mapping[str, DecoderStep], clip: int, title: str) -> Figure:
    """One clip's audio state at one scale, before the gate, the gate, and after: a column for each channel, a line for each second.

    steps: by the sound that was heard, the same scale of `decoding.trace`s. Raises ValueError where CMFD is off: there is no gate.
    """
    if any(step.gate is None for step in steps.values()):
        raise ValueError("the model has CMFD off, so its decoder has no gate to draw.")
    parts = [(name, np.concatenate([getattr(step, field)[clip].cpu().numpy() for step in steps.values()]))
             for name, field in (("before: $A^*$", "merged"), ("gate, 0 to 1", "gate"), (r"after: $\hat{A}$", "audio"))]
    largest, seconds = parts[0][1].max(), len(next(iter(steps.values())).gate[clip])
    figure, axes = plt.subplots(3, 1, figsize=(9, 1.6 + 0.35 * len(steps) * 3), layout="constrained", sharex=True)
    for axis, (name, values) in zip(axes, parts):
        image = axis.imshow(values, cmap="cividis", aspect="auto", vmin=0, vmax=1 if name.startswith("gate") else largest, interpolation="nearest")
        figure.colorbar(image, ax=axis, label=name, fraction=0.03)
        axis.set_yticks([seconds * (k + 0.5) - 0.5 for k in range(len(steps))], list(steps), fontsize=9)
        axis.tick_params(axis="y", length=0)
        for k in range(1, len(steps)):
            axis.axhline(seconds * k - 0.5, color="white", linewidth=2)
    axes[-1].set_xlabel("channel of the decoder")
    figure.suptitle(title, fontsize=11)
    return figure

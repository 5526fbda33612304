"""Figures of a decoder at work: maps, scores by scale, and the audio state before and after its gate."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from .._common.intervals import Interval
from ..inspection.scales import DecoderStep
from .common import STYLES, open_frame, picture_grid, subplots


def map_grid(
    rows: Mapping[str, Sequence[Tensor | np.ndarray | None]], columns: Sequence[str], title: str,
    label: str = "probability", truth: Mapping[str, Tensor] | None = None
) -> Figure:
    """Pictures (H, W, 3), 0 to 1, and maps (h, w), 0 to 1, a row for each name; None leaves a place empty.

    label: meaning of the maps' colours. truth: by row, the ground truth (H, W), whose outline is drawn on the
    row's maps.
    """
    figure, axes = picture_grid(rows, columns, title, margin=(1, 0.6))
    maps = None
    for line, name in zip(axes, rows):
        for axis in line:
            if not axis.images or axis.images[0].get_array().ndim > 2:
                continue
            maps = axis.images[0]
            if truth and truth[name].any():
                inside = np.asarray(truth[name]) > 0
                place = {"origin": "upper", "extent": maps.get_extent()}   # it has fewer cells than the mask
                axis.contour(inside, [0.5], colors="white", linewidths=0.8, **place)
    if maps is not None:
        figure.colorbar(maps, ax=axes, label=label, shrink=min(1.0, 2 / len(rows)), fraction=0.03)
    return figure


def scale_curves(
    panels: Mapping[str, Mapping[str, Mapping[str, Interval]]], scales: Sequence[str], title: str
) -> Figure:
    """Scores along the decoder: panel -> curve -> scale -> interval. A curve may lack scales."""
    size = 3.9 * len(panels), 3.5
    figure, axes = subplots(1, len(panels), figsize=size, squeeze=False)
    for axis, (ylabel, curves) in zip(axes[0], panels.items()):
        for k, ((name, points), (color, marker)) in enumerate(zip(curves.items(), STYLES)):
            aside = (k - (len(curves) - 1) / 2) * 0.5 / len(curves)     # no interval covers another
            here = [scale for scale in scales if scale in points]
            x = np.array([scales.index(scale) for scale in here]) + aside
            mean, low, high = np.array([points[scale][:3] for scale in here]).T
            bars = np.maximum((mean - low, high - mean), 0)
            look = {"color": color, "marker": marker, "markersize": 4, "linewidth": 1.2, "capsize": 2}
            axis.errorbar(x, mean, bars, label=name, **look)
        low, high = axis.get_ylim()
        axis.set(xlabel="scale, cells", ylabel=ylabel, ylim=(min(0, low), max(1.02, high)))
        axis.set_xticks(range(len(scales)), scales, fontsize=8)
        open_frame(axis, "both")
    handles, names = axes[0, 0].get_legend_handles_labels()
    if all(list(curves) == names for curves in panels.values()):
        look = {"ncols": min(len(names), 6), "frameon": False, "fontsize": 9}
        figure.legend(handles, names, loc="outside lower center", **look)
    else:
        for axis in axes[0]:
            axis.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def state_figure(steps: Mapping[str, DecoderStep], clip: int, title: str) -> Figure:
    """One clip's audio state at one scale: before the gate, the gate itself, and after, channel by second.

    steps: by sound, the same scale from `inspection.scales.trace`, of a model with CMFD.
    """
    merged, gate, audio = (
        np.concatenate([getattr(step, part)[clip].cpu().numpy() for step in steps.values()])
        for part in ("merged", "gate", "audio")
    )                                                                                 # (sounds * T, D) each
    seconds = len(gate) // len(steps)
    most = merged.max()
    parts = ("before: $A^*$", merged, most), ("gate, 0 to 1", gate, 1), (r"after: $\hat{A}$", audio, most)
    figure, axes = subplots(3, 1, figsize=(9, 1.6 + 1.05 * len(steps)), sharex=True)
    for axis, (name, values, top) in zip(axes, parts):
        image = axis.imshow(values, cmap="cividis", aspect="auto", vmin=0, vmax=top, interpolation="nearest")
        figure.colorbar(image, ax=axis, label=name, fraction=0.03)
        axis.set_yticks(seconds * (np.arange(len(steps)) + 0.5) - 0.5, list(steps), fontsize=9)
        for k in range(1, len(steps)):
            axis.axhline(seconds * k - 0.5, color="white", linewidth=2)
    axes[-1].set_xlabel("channel of the decoder")
    figure.suptitle(title, fontsize=11)
    return figure

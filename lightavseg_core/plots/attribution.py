"""Figures of attributions: by time and band of the sound, and by place in the frame."""
from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ..data.audio import FrontEnd
from ..inspection.attribution import Attribution, band_centres
from .common import bare, heard_place, overlay, subplots


def attribution_figure(
    frame: Tensor, log_mel: Tensor, attributions: dict[str, Attribution], front_end: FrontEnd, second: int = 0
) -> Figure:
    """The mask on the frame, the log-mel of its second, and attributions by name, each centred on zero.

    Blue raised the logits, red lowered them. frame (3, H, W); log_mel (T, 1, F, M) of the clip. Attributions
    of the log-mel are drawn for `second`; those of the frame as they are. The strongest 0.5% of the bins are
    clipped to the end of the colour scale, or the others would be pale.
    """
    count, (windows, bands) = 2 + len(attributions), log_mel.shape[-2:]
    figure, axes = subplots(1, count, figsize=(2.9 * count, 2.9))
    place = heard_place(windows, bands)
    ticks = np.linspace(0, bands - 1, 5).round().astype(int)
    hertz = [f"{centre:.0f}" for centre in band_centres(front_end)[ticks]]

    axes[0].imshow(overlay(frame, next(iter(attributions.values())).mask))
    bare(axes[0])
    shown = [("heard", log_mel, "log-mel", {"cmap": "magma"})]
    for name, attribution in attributions.items():
        values = attribution.values
        if values.ndim == 4:
            label, limit = "logits", values[second].abs().quantile(0.995)
        else:
            label, limit = "gradient x feature", values.abs().max()
        limit = limit.clamp_min(1e-12).item()
        shown.append((name, values, label, {"cmap": "RdBu", "vmin": -limit, "vmax": limit}))
    for axis, (_, values, label, colors) in zip(axes[1:], shown):
        if values.ndim == 4:
            image = axis.imshow(values[second, 0].T.numpy(), **colors, **place)                     # (M, F)
            axis.set_yticks(ticks + 0.5, hertz, fontsize=7)
            axis.set_xlabel("s", fontsize=8)
        else:
            image = axis.imshow(values.numpy(), **colors)
            bare(axis)
        figure.colorbar(image, ax=axis, shrink=0.9).set_label(label, fontsize=8)
    axes[1].set_ylabel("centre of the mel band, Hz", fontsize=8)
    for axis, title in zip(axes, ("the mask explained", *(name for name, *_ in shown))):
        axis.set_title(title, fontsize=9)
    return figure

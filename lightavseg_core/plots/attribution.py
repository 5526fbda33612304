"""plots.attribution."""
from __future__ import annotations

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..data.audio import FrontEnd
from ..inspection.attribution import Attribution, band_centres
from .common import overlay


def attribution_figure(frame: Tensor, log_mel: Tensor, attributions: dict[str, Attribution], front_end: FrontEnd, second: int = 0) -> Figure:
    """The mask on the frame, the log-mel of its second, and attributions by name, each about its own zero: blue raised the logits, red lowered them.

    frame (3, H, W); log_mel (T, 1, F, M) of the clip. Attributions of the log-mel are drawn for `second`; those of the frame as they are. The 0.5%
    strongest bins, which would leave the others pale, have the colour of the scale's end.
    """
    figure, axes = plt.subplots(1, 2 + len(attributions), figsize=(2.9 * (2 + len(attributions)), 2.9), layout="constrained")
    windows, bands = log_mel.shape[-2:]
    ticks = np.linspace(0, bands - 1, 5).round().astype(int)
    hertz = [f"{centre:.0f}" for centre in band_centres(front_end)[ticks]]

    def draw(axis: Axes, values: Tensor, title: str, label: str, **colors) -> None:
        if values.ndim == 4:
            values = values[second, 0].T                                                              # (M, F)
            axis.set_yticks(ticks + 0.5, hertz, fontsize=7)
            axis.set_xlabel("s", fontsize=8)
            place = {"origin": "lower", "aspect": "auto", "extent": (0, windows / 100, 0, bands)}      # 100 windows a second, in both front ends
        else:
            axis.set(xticks=[], yticks=[])
            place = {}
        figure.colorbar(axis.imshow(values, **colors, **place), ax=axis, shrink=0.9).set_label(label, fontsize=8)
        axis.set_title(title, fontsize=9)

    axes[0].imshow(overlay(frame, next(iter(attributions.values())).mask))
    axes[0].set(xticks=[], yticks=[])
    axes[0].set_title("the mask explained", fontsize=9)
    draw(axes[1], log_mel, "heard", "log-mel", cmap="magma")
    axes[1].set_ylabel("centre of the mel band, Hz", fontsize=8)
    for axis, (name, attribution) in zip(axes[2:], attributions.items()):
        values = attribution.values
        of_sound = values.ndim == 4
        limit = (values[second].abs().quantile(0.995) if of_sound else values.abs().max()).clamp_min(1e-12).item()
        draw(axis, values, name, "logits" if of_sound else "gradient x feature", cmap="RdBu", vmin=-limit, vmax=limit)
    return figure

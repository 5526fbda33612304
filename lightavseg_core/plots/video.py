"""Figures of a whole video and of what is marked in it."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from ..data.images import prepare_frame
from .common import BLUE, GREEN, GREY, ORANGE, RED, STYLES, legend_beside, overlay, subplots

TILE = 128      # pixels of a picture in the strip


def film_strip(
    pictures: Sequence[np.ndarray], truth: Sequence[np.ndarray], masks: Sequence[np.ndarray],
    iou: Sequence[float], title: str, act: int
) -> Figure:
    """All pictures (H, W, 3) uint8 with what sounds, below them with what is marked, and the IoU of each.

    truth, masks: (H, W) bool each. A line follows every `act` pictures.
    """
    count = len(pictures)
    frames = [prepare_frame(picture, (TILE, TILE)) for picture in pictures]
    strips = []
    for areas, color in ((truth, GREEN), (masks, ORANGE)):
        tiles = [overlay(frame, _small(mask), color) for frame, mask in zip(frames, areas)]
        strips.append(np.concatenate(tiles, 1))
    figure, (above, below) = subplots(2, 1, sharex=True, figsize=(13, 2.9), height_ratios=(1.3, 1))
    above.imshow(np.concatenate(strips), extent=(0, count, 0, 2), aspect="auto")
    above.set_yticks([1.5, 0.5], ["what sounds", "marked"])
    above.set_title(title)
    colors = [BLUE if value > 0.9 else RED for value in iou]
    below.bar(np.arange(count) + 0.5, np.maximum(iou, 0.02), 0.9, color=colors)
    below.set(xlabel="second (blue: IoU above 0.9)", xlim=(0, count), xticks=range(0, count + 1, act))
    below.set(ylabel="IoU", ylim=(0, 1))
    for edge in range(act, count, act):
        above.axvline(edge, color="white", linewidth=3)
        below.axvline(edge, color=GREY, linewidth=0.8)
    return figure


def _small(mask: np.ndarray) -> torch.Tensor:
    """A mask (H, W), subsampled: (TILE, TILE)."""
    rows, columns = (np.arange(TILE) * side // TILE for side in mask.shape)
    return torch.from_numpy(mask[np.ix_(rows, columns)])


def threshold_curves(thresholds: Sequence[float], scores: dict[str, Sequence[float]]) -> Figure:
    """IoU against the threshold, a line for each name; all steps between thresholds have equal width."""
    figure, axis = subplots(figsize=(9, 3.2))
    for (name, values), (color, marker) in zip(scores.items(), STYLES):
        axis.plot(values, marker + "-", color=color, markersize=5, label=name)
    axis.set_xticks(range(len(thresholds)), [f"{x:g}" for x in thresholds])
    axis.set(title="IoU against the threshold", xlabel="threshold (unequal steps)")
    axis.set(ylabel="mean IoU", ylim=(-0.03, 1.03))
    legend_beside(axis, fontsize=9)
    return figure


def against_sound(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]], sounds: Sequence[tuple[float, float]],
    title: str
) -> Figure:
    """The marked share of an object over time, over the intervals in which it sounds.

    curves: (seconds, shares) by name. sounds: (start, end) of each interval.
    """
    figure, axis = subplots(figsize=(9, 2.6))
    for k, (start, end) in enumerate(sounds):
        axis.axvspan(start, end, color=GREEN, alpha=0.35, label=None if k else "it sounds")
    for (name, (seconds, shares)), style, color in zip(curves.items(), ("o-", "D"), (ORANGE, BLUE)):
        axis.plot(seconds, shares, style, color=color, markersize=5, label=name)
    axis.set(title=title, xlabel="second", ylabel="share of it marked", ylim=(-0.05, 1.1))
    legend_beside(axis, fontsize=9)
    return figure

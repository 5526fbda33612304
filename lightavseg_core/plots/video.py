"""Pictures of a whole video and of what is marked in it."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..data.images import prepare_frame
from .common import BLUE, GREEN, GREY, ORANGE, RED, overlay

TILE = 128      # pixels of a picture in the strip


def film_strip(pictures: Sequence[np.ndarray], truth: Sequence[np.ndarray], masks: Sequence[np.ndarray], iou: Sequence[float], title: str,
               act: int) -> Figure:
    """All pictures (H, W, 3) uint8 side by side with what sounds, below with what is marked, and the IoU of each; lines after every `act`."""
    def small(mask: np.ndarray) -> torch.Tensor:
        rows, columns = (np.arange(TILE) * side // TILE for side in mask.shape)
        return torch.from_numpy(mask[np.ix_(rows, columns)])

    count = len(pictures)
    frames = [prepare_frame(picture, (TILE, TILE)) for picture in pictures]
    rows = [np.concatenate([overlay(frame, small(mask), color) for frame, mask in zip(frames, areas)], 1)
            for areas, color in ((truth, GREEN), (masks, ORANGE))]
    figure, (above, below) = plt.subplots(2, 1, figsize=(13, 2.9), sharex=True, height_ratios=(1.3, 1), layout="constrained")
    above.imshow(np.concatenate(rows), extent=(0, count, 0, 2), aspect="auto")
    above.set_yticks([1.5, 0.5], ["what sounds", "marked"])
    above.set_title(title)
    below.bar(np.arange(count) + 0.5, np.maximum(iou, 0.02), 0.9, color=[BLUE if value > 0.9 else RED for value in iou])
    below.set(xlabel="second (blue: IoU above 0.9)", ylabel="IoU", ylim=(0, 1), xlim=(0, count), xticks=range(0, count + 1, act))
    for edge in range(act, count, act):
        above.axvline(edge, color="white", linewidth=3)
        below.axvline(edge, color=GREY, linewidth=0.8)
    return figure


def threshold_curves(thresholds: Sequence[float], scores: dict[str, Sequence[float]]) -> Figure:
    """IoU against the threshold, a line for each name; the steps between thresholds are drawn alike, whatever they are."""
    figure, axis = plt.subplots(figsize=(9, 3.2), layout="constrained")
    for (name, values), color, marker in zip(scores.items(), (BLUE, GREEN, RED, ORANGE, GREY, "black"), "osD^vx"):
        axis.plot(values, marker + "-", color=color, markersize=5, label=name)
    axis.set_xticks(range(len(thresholds)), [f"{x:g}" for x in thresholds])
    axis.set(title="IoU against the threshold", xlabel="threshold (unequal steps)", ylabel="mean IoU", ylim=(-0.03, 1.03))
    figure.legend(frameon=False, fontsize=9, loc="outside right upper")
    return figure


def against_sound(curves: dict[str, tuple[Sequence[float], Sequence[float]]], sounds: Sequence[tuple[float, float]], title: str) -> Figure:
    """Which share of an object is marked over time, (seconds, shares) by name, on the stretches (start, end) in which it sounds."""
    figure, axis = plt.subplots(figsize=(9, 2.6), layout="constrained")
    for k, (start, end) in enumerate(sounds):
        axis.axvspan(start, end, color=GREEN, alpha=0.35, label=None if k else "it sounds")
    for (name, (seconds, shares)), style, color in zip(curves.items(), ("o-", "D"), (ORANGE, BLUE)):
        axis.plot(seconds, shares, style, color=color, markersize=5, label=name)
    axis.set(title=title, xlabel="second", ylabel="share of it marked", ylim=(-0.05, 1.1))
    figure.legend(frameon=False, fontsize=9, loc="outside right upper")
    return figure

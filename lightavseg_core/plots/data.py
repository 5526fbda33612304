"""Figures of the data: what is annotated, how sound becomes a log-mel, and how both scores are computed."""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from ..data.images import picture
from .common import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    STYLES,
    YELLOW,
    bare,
    doubling,
    from_the_top,
    heard_place,
    legend_beside,
    open_frame,
    overlay,
    picture_grid,
    subplots,
)

# Of classes 1, 2, ...; green is "sounds", of whatever class.
CLASSES = (BLUE, ORANGE, RED, PURPLE, SKY, YELLOW, "white")


def truths(frames: Tensor, rows: Mapping[str, Tensor], title: str) -> Figure:
    """Frames (T, 3, H, W), and below them a row for each sound: masks (T, H, W) of what sounds then."""
    pictures = {"frame": [picture(frame) for frame in frames]}
    for name, masks in rows.items():
        pictures[name] = [overlay(frame, mask, GREEN) for frame, mask in zip(frames, masks, strict=True)]
    seconds = [f"second {t}" for t in range(len(frames))]
    return picture_grid(pictures, seconds, title, margin=(0, 0.4))[0]


def annotations(
    rows: Mapping[str, dict], by_class: Collection[str], names: Sequence[str], title: str
) -> Figure:
    """All frames of a clip in each row, painted if they have a mask, and plain if not.

    rows: items of `AVSBench`. by_class: the rows that are painted by class; the others are green.
    names: of class 0, 1, ...
    """
    shown, pictures = set(), {}
    for name, item in rows.items():
        values = set(item["mask"].unique().tolist()) - {0} if name in by_class else set()
        shown |= values
        pictures[name] = []
        for frame, mask, annotated in zip(item["frames"], item["mask"], item["annotated"]):
            image = overlay(frame, mask, GREEN) if annotated else picture(frame)
            for value in values if annotated else ():
                image = np.where((mask == value)[..., None], overlay(frame, mask, CLASSES[value - 1]), image)
            pictures[name].append(image)
    figure, axes = picture_grid(pictures, title=title, cell=(0.95, 1.05), margin=(1, 1.1))
    for line, item in zip(axes, rows.values()):
        for axis, annotated in zip(line, item["annotated"]):
            axis.set_xlabel("" if annotated else "no mask", fontsize=8, color=GREY, labelpad=2)
    handles = [Patch(facecolor=GREEN, label="sounds")]
    for value in sorted(shown):
        handles.append(Patch(facecolor=CLASSES[value - 1], edgecolor=GREY, label=names[value]))
    place = {"loc": "outside lower center", "ncols": len(handles)}
    figure.legend(handles=handles, frameon=False, fontsize=9, **place)
    return figure


def palette(index: np.ndarray, colours: np.ndarray, names: Sequence[str], side: int = 11) -> Figure:
    """A mask of class indices (H, W) in its file's colours, a square of it with the indices, and a legend.

    colours: (classes, 3) uint8. side: of the square, in pixels.
    """
    top, left = _edge_square(index, side)
    part = index[top:top + side, left:left + side]
    figure, (whole, square, legend) = subplots(1, 3, figsize=(10, 3.7), width_ratios=(1, 1, 1.1))
    whole.imshow(colours[index], interpolation="nearest")
    around = {"fill": False, "edgecolor": "white", "linewidth": 1.5}
    whole.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, **around))
    whole.set_title("the file: colours", fontsize=10)
    square.imshow(colours[part], interpolation="nearest")
    for (i, j), value in np.ndenumerate(part):
        square.text(j, i, value, ha="center", va="center", fontsize=8, color="white")
    square.set_title("the white square: class indices", fontsize=10)
    bare(whole)
    bare(square)
    legend.axis("off")
    legend.set(xlim=(0, 1), ylim=(len(names) + 0.5, -1))
    text = {"fontsize": 9, "va": "center"}
    legend.text(0.14, -0.5, "index   class", color=GREY, **text)
    legend.text(1, -0.5, "labels_semantic", color=GREY, ha="right", **text)
    for value, name in enumerate(names):
        paint = {"facecolor": colours[value] / 255, "edgecolor": GREY}
        legend.add_patch(Rectangle((0, value + 0.1), 0.1, 0.8, **paint))
        legend.text(0.14, value + 0.5, f"{value}          {name}", **text)
        legend.text(1, value + 0.5, (value - 1) % 256, ha="right", **text)
    return figure


def _edge_square(index: np.ndarray, side: int) -> tuple[int, int]:
    """Top and left of a square in a mask (H, W), around the edge nearest to the centre of the mask."""
    y, x = (np.median(axis) for axis in np.nonzero(index))
    rows, columns = np.nonzero(index[:, 1:] != index[:, :-1])
    nearest = np.argmin((rows - y) ** 2 + (columns - x) ** 2)
    middle = np.array([rows[nearest], columns[nearest]])
    top, left = np.clip(middle - side // 2, 0, np.array(index.shape) - side)
    return int(top), int(left)


def log_mel_steps(
    sound: Tensor, hann: Tensor, spectrum: Tensor, triangles: Tensor, log_mel: Tensor, window: int
) -> Figure:
    """From samples to the model's input, in six steps, all at 16 kHz.

    sound (samples,), cut into windows of length len(hann) every 10 ms, of which number `window` is followed;
    spectrum (windows, bins), triangles (bins, bands), log_mel (windows, bands).
    """
    figure, axes = subplots(2, 3, figsize=(10.5, 5.6))
    wave, cut, bins, bank, spectra, result = axes.flat
    seconds, hertz = np.arange(len(sound)) / 16_000, np.linspace(0, 8000, len(triangles))
    start, end = window * 160, window * 160 + len(hann)
    wave.plot(seconds, sound, color=BLUE, linewidth=0.5)
    wave.axvspan(start / 16_000, end / 16_000, color=ORANGE, alpha=0.6)
    wave.set(title=f"1. The sound; window {window} in orange", xlabel="s", ylabel="amplitude")
    wave.set_xlim(0, seconds[-1])
    milliseconds, piece = np.arange(len(hann)) / 16, sound[start:end]
    loudest = piece.abs().max().item()
    cut.plot(milliseconds, piece, color=GREY, linewidth=0.8, label="samples")
    cut.plot(milliseconds, hann * loudest, "--", color=ORANGE, label="Hann window, scaled")
    cut.plot(milliseconds, piece * hann, color=BLUE, linewidth=1.2, label="product")
    cut.set(title="2. 25 ms, faded in and out", xlabel="ms", ylabel="amplitude", ylim=(None, 2 * loudest))
    cut.legend(frameon=False, fontsize=8, loc="upper left")
    bins.plot(hertz, spectrum[window], color=BLUE, linewidth=1)
    bins.set(title="3. Its spectrum: 257 bins", xlabel="Hz", ylabel="magnitude")
    for band in range(0, triangles.shape[1], 4):
        bank.plot(hertz, triangles[:, band], color=(BLUE, ORANGE)[band // 4 % 2], linewidth=1)
    bank.set(title="4. Every fourth of 64 mel triangles", xlabel="Hz", ylabel="weight")
    _heard(spectra, (spectrum + 0.01).log10(), 8, "log10 magnitude")
    spectra.set(title="5. All spectra, before the triangles", xlabel="s", ylabel="kHz")
    _heard(result, log_mel, log_mel.shape[1], "log(magnitude + 0.01)")
    result.set(title="6. The log-mel: 96 windows, 64 bands", xlabel="s", ylabel="mel band")
    for axis in axes.flat:
        axis.title.set_size(10)
    return figure


def _heard(axis: Axes, values: Tensor, top: float, label: str) -> None:
    """Draws values (windows, bands) over time, with bands from 0 to `top`."""
    place = heard_place(len(values), top)
    image = axis.imshow(values.T.numpy(), cmap="magma", interpolation="nearest", **place)
    axis.figure.colorbar(image, ax=axis, label=label)


def pixels(frames: Mapping[str, tuple[Tensor, Tensor]], title: str) -> Figure:
    """Small frames, a probability (H, W) and a ground truth (H, W) each: numbers shown, true ones framed."""
    figure, axes = subplots(1, len(frames), figsize=(2.6 * len(frames), 3), squeeze=False)
    for axis, (name, (probability, truth)) in zip(axes[0], frames.items()):
        axis.imshow(probability.numpy(), cmap="Greys", vmin=0, vmax=1.3)
        for (i, j), value in np.ndenumerate(probability.numpy()):
            color = "white" if value > 0.75 else "black"
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9, color=color)
            if truth[i, j]:
                corner = j - 0.45, i - 0.45
                axis.add_patch(Rectangle(corner, 0.9, 0.9, fill=False, edgecolor=GREEN, linewidth=2.5))
        axis.set_title(name, fontsize=10)
        bare(axis)
    figure.suptitle(title, fontsize=11)
    return figure


def f_curves(thresholds: Tensor, curves: Mapping[str, Tensor], title: str) -> Figure:
    """F of single frames against the threshold, their mean, and the maxima. curves: name -> (thresholds,)."""
    figure, axis = subplots(figsize=(7, 3.4))
    mean = sum(curves.values()) / len(curves)
    drawn = [(name, curve, color, 1.2) for (name, curve), color in zip(curves.items(), COLOURS)]
    for name, curve, color, width in [*drawn, ("mean of the frames", mean, "black", 2.2)]:
        axis.plot(thresholds, curve, color=color, linewidth=width, label=name)
        best = int(curve.argmax())
        axis.plot(thresholds[best], curve[best], "o", color=color, markersize=7)
    axis.set(title=title, xlabel="threshold", ylabel="F", xlim=(0, 1), ylim=(0, 1.05))
    legend_beside(axis)
    open_frame(axis, "both")
    return figure


def batch_curves(scores: Mapping[str, Mapping[int, float]], exact: Mapping[str, float], title: str) -> Figure:
    """The per-batch M_F against the batch size, and, dashed, the M_F over the whole split.

    scores: name -> batch size -> score; exact: name -> score.
    """
    figure, axis = subplots(figsize=(7, 3.6))
    for (name, by_size), (color, marker) in zip(scores.items(), STYLES):
        sizes, values = zip(*by_size.items())
        axis.plot(sizes, values, marker + "-", color=color, label=f"{name}: batch by batch")
        label = f"{name}: one curve over the split"
        axis.axhline(exact[name], color=color, linestyle="--", linewidth=1, label=label)
    doubling(axis, sorted(set().union(*scores.values())))
    axis.set(title=title, xlabel="clips in a batch", ylabel="$M_F$")
    legend_beside(axis, fontsize=9)
    open_frame(axis, "both")
    return figure


def swaps(rows: Mapping[str, tuple[float, float]], title: str) -> Figure:
    """M_J with own and with swapped sound, joined by a line, a row for each name."""
    figure, axis = subplots(figsize=(8, 0.5 * len(rows) + 1.5))
    heights = from_the_top(axis, rows)
    own, swapped = zip(*rows.values())
    hollow = {"marker": "D", "facecolors": "white", "edgecolors": RED, "linewidths": 1.8}
    axis.hlines(heights, swapped, own, color=GREY, linewidth=1.5, zorder=1)
    axis.scatter(own, heights, s=110, color=BLUE, zorder=2, label="own sound")
    axis.scatter(swapped, heights, s=32, zorder=3, label="swapped sound", **hollow)
    axis.set(title=title, xlabel="$M_J$", xlim=(0, 1))
    axis.grid(axis="x", alpha=0.3)
    legend_beside(axis)
    return figure

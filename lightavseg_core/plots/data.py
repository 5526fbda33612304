"""Pictures of the data: what is annotated, how sound becomes a log-mel, and how both scores come about."""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from ..data.images import picture
from .common import BLUE, GREEN, GREY, ORANGE, RED, overlay

CLASSES = (BLUE, ORANGE, RED, "#CC79A7", "#56B4E9", "#F0E442", "#FFFFFF")      # of classes 1, 2, ...; green is "sounds", of whatever class


def _bare(axis: Axes) -> None:
    axis.set(xticks=[], yticks=[])


def truths(frames: Tensor, rows: Mapping[str, Tensor], title: str) -> Figure:
    """Frames (T, 3, H, W), and below them a row for each sound: what sounds then, masks (T, H, W)."""
    figure, axes = plt.subplots(1 + len(rows), len(frames), figsize=(1.45 * len(frames), 1.5 * (1 + len(rows)) + 0.4), layout="constrained")
    for t, frame in enumerate(frames):
        axes[0, t].imshow(picture(frame), interpolation="nearest")
        axes[0, t].set_title(f"second {t}", fontsize=9)
        for axis, masks in zip(axes[1:, t], rows.values(), strict=True):
            axis.imshow(overlay(frame, masks[t], GREEN), interpolation="nearest")
    for axis in axes.flat:
        _bare(axis)
    for axis, name in zip(axes[:, 0], ("frame", *rows)):
        axis.set_ylabel(name, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def annotations(rows: Mapping[str, dict], by_class: Collection[str], names: Sequence[str], title: str) -> Figure:
    """A clip a row, all its frames: painted where there is a mask, as they are where there is none.

    rows: items of `AVSBench`. by_class: the rows that are painted by class; the others are green. names: of class 0, 1, ...
    """
    longest, shown = max(len(item["frames"]) for item in rows.values()), set()
    figure, axes = plt.subplots(len(rows), longest, figsize=(0.95 * longest + 1, 1.05 * len(rows) + 1.1), layout="constrained", squeeze=False)
    for line, (name, item) in zip(axes, rows.items()):
        values = set(item["mask"].unique().tolist()) - {0} if name in by_class else set()
        shown |= values
        for axis, frame, mask, annotated in zip(line, item["frames"], item["mask"], item["annotated"]):
            image = picture(frame)
            if annotated:
                image = overlay(frame, mask, GREEN)
                for value in values:
                    image = np.where((mask == value)[..., None], overlay(frame, mask, CLASSES[value - 1]), image)
            else:
                axis.set_xlabel("no mask", fontsize=8, color=GREY, labelpad=2)
            axis.imshow(image)
        for axis in line:
            _bare(axis)
        for axis in line[len(item["frames"]):]:
            axis.axis("off")
        line[0].set_ylabel(name, fontsize=9)
    handles = [Patch(facecolor=GREEN, label="sounds")]
    handles += [Patch(facecolor=CLASSES[value - 1], edgecolor=GREY, label=names[value]) for value in sorted(shown)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def palette(index: np.ndarray, colours: np.ndarray, names: Sequence[str], side: int = 11) -> Figure:
    """A mask of class indices (H, W) in its file's colours (classes, 3) uint8; a square of it with the indices written in; and what they mean."""
    y, x = (int(np.median(axis)) for axis in np.nonzero(index))
    rows, columns = np.nonzero(index[:, 1:] != index[:, :-1])                      # the square lies on the edge nearest to the middle
    nearest = np.argmin((rows - y) ** 2 + (columns - x) ** 2)
    top, left = (int(np.clip(v - side // 2, 0, n - side)) for v, n in zip((rows[nearest], columns[nearest]), index.shape))
    figure, (whole, square, legend) = plt.subplots(1, 3, figsize=(10, 3.7), layout="constrained", width_ratios=(1, 1, 1.1))
    whole.imshow(colours[index], interpolation="nearest")
    whole.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor="white", linewidth=1.5))
    whole.set_title("the file: colours", fontsize=10)
    part = index[top:top + side, left:left + side]
    square.imshow(colours[part], interpolation="nearest")
    for (i, j), value in np.ndenumerate(part):
        square.text(j, i, value, ha="center", va="center", fontsize=8, color="white")
    square.set_title("the white square: class indices", fontsize=10)
    for axis in (whole, square):
        _bare(axis)
    legend.axis("off")
    legend.set(xlim=(0, 1), ylim=(len(names) + 0.5, -1))
    legend.text(0.14, -0.5, "index   class", fontsize=9, color=GREY, va="center")
    legend.text(1, -0.5, "labels_semantic", fontsize=9, color=GREY, va="center", ha="right")
    for value, name in enumerate(names):
        legend.add_patch(Rectangle((0, value + 0.1), 0.1, 0.8, facecolor=colours[value] / 255, edgecolor=GREY))
        legend.text(0.14, value + 0.5, f"{value}          {name}", fontsize=9, va="center")
        legend.text(1, value + 0.5, (value - 1) % 256, fontsize=9, va="center", ha="right")
    return figure


def log_mel_steps(sound: Tensor, hann: Tensor, spectrum: Tensor, triangles: Tensor, log_mel: Tensor, window: int) -> Figure:
    """From samples to the picture that the model hears, in six steps, all at 16 kHz.

    sound (samples,), of which `window` of length len(hann) every 10 ms is followed; spectrum (windows, bins), triangles (bins, bands),
    log_mel (windows, bands).
    """
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 5.6), layout="constrained")
    seconds, hertz = np.arange(len(sound)) / 16_000, np.linspace(0, 8000, len(triangles))
    start, end = window * 160, window * 160 + len(hann)
    wave, cut, bins, bank, picture_of_bins, result = axes.flat
    wave.plot(seconds, sound, color=BLUE, linewidth=0.5)
    wave.axvspan(start / 16_000, end / 16_000, color=ORANGE, alpha=0.6)
    wave.set(title=f"1. The sound; window {window} in orange", xlabel="s", ylabel="amplitude", xlim=(0, seconds[-1]))
    milliseconds = np.arange(len(hann)) / 16
    piece = sound[start:end]
    cut.plot(milliseconds, piece, color=GREY, linewidth=0.8, label="samples")
    cut.plot(milliseconds, hann * piece.abs().max(), "--", color=ORANGE, label="Hann window, scaled")
    cut.plot(milliseconds, piece * hann, color=BLUE, linewidth=1.2, label="product")
    cut.set(title="2. 25 ms, faded in and out", xlabel="ms", ylabel="amplitude", ylim=(None, 2 * float(piece.abs().max())))
    cut.legend(frameon=False, fontsize=8, loc="upper left")
    bins.plot(hertz, spectrum[window], color=BLUE, linewidth=1)
    bins.set(title="3. Its spectrum: 257 bins", xlabel="Hz", ylabel="magnitude")
    for band in range(0, triangles.shape[1], 4):
        bank.plot(hertz, triangles[:, band], color=(BLUE, ORANGE)[band // 4 % 2], linewidth=1)
    bank.set(title="4. Every fourth of 64 mel triangles", xlabel="Hz", ylabel="weight")
    extent = (0, len(log_mel) / 100, 0, 8)
    image = picture_of_bins.imshow(np.log10(spectrum.T + 0.01), origin="lower", aspect="auto", cmap="magma", interpolation="nearest", extent=extent)
    picture_of_bins.set(title="5. All spectra, before the triangles", xlabel="s", ylabel="kHz")
    figure.colorbar(image, ax=picture_of_bins, label="log10 magnitude")
    extent = (0, len(log_mel) / 100, 0, log_mel.shape[1])
    image = result.imshow(log_mel.T, origin="lower", aspect="auto", cmap="magma", interpolation="nearest", extent=extent)
    result.set(title="6. The log-mel: 96 windows, 64 bands", xlabel="s", ylabel="mel band")
    figure.colorbar(image, ax=result, label="log(magnitude + 0.01)")
    for axis in axes.flat:
        axis.title.set_size(10)
    return figure


def pixels(frames: Mapping[str, tuple[Tensor, Tensor]], title: str) -> Figure:
    """Small frames, a probability (H, W) and a truth (H, W) each: the numbers written in, the true pixels framed."""
    figure, axes = plt.subplots(1, len(frames), figsize=(2.6 * len(frames), 3), layout="constrained", squeeze=False)
    for axis, (name, (probability, truth)) in zip(axes[0], frames.items()):
        axis.imshow(probability, cmap="Greys", vmin=0, vmax=1.3)
        for (i, j), value in np.ndenumerate(probability.numpy()):
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9, color="white" if value > 0.75 else "black")
            if truth[i, j]:
                axis.add_patch(Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, fill=False, edgecolor=GREEN, linewidth=2.5))
        axis.set_title(name, fontsize=10)
        _bare(axis)
    figure.suptitle(title, fontsize=11)
    return figure


def f_curves(thresholds: Tensor, curves: Mapping[str, Tensor], title: str) -> Figure:
    """F of single frames by threshold, their mean, and the maxima. curves: name -> (thresholds,)."""
    figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
    mean = sum(curves.values()) / len(curves)
    styles = [*zip((BLUE, ORANGE, RED), (1.2,) * len(curves)), ("black", 2.2)]
    for (name, curve), (colour, width) in zip({**curves, "mean of the frames": mean}.items(), [*styles[:len(curves)], styles[-1]], strict=True):
        axis.plot(thresholds, curve, color=colour, linewidth=width, label=name)
        best = int(curve.argmax())
        axis.plot(thresholds[best], curve[best], "o", color=colour, markersize=7)
    axis.set(title=title, xlabel="threshold", ylabel="F", xlim=(0, 1), ylim=(0, 1.05))
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.grid(alpha=0.3)
    return figure


def batch_curves(scores: Mapping[str, Mapping[int, float]], exact: Mapping[str, float], title: str) -> Figure:
    """The per-batch M_F by batch size, and dashed the M_F over the whole split. scores: name -> batch size -> score; exact: name -> score."""
    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for (name, by_size), colour, marker in zip(scores.items(), (BLUE, RED, GREEN), "osD"):
        axis.plot(list(by_size), list(by_size.values()), marker + "-", color=colour, label=f"{name}: batch by batch")
        axis.axhline(exact[name], color=colour, linestyle="--", linewidth=1, label=f"{name}: one curve over the split")
    axis.set_xscale("log", base=2)
    sizes = sorted({size for by_size in scores.values() for size in by_size})
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set(title=title, xlabel="clips in a batch", ylabel="$M_F$")
    axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.grid(alpha=0.3)
    return figure


def swaps(rows: Mapping[str, tuple[float, float]], title: str, xlabel: str = "$M_J$") -> Figure:
    """Two scores a row, with its own sound and with a swapped one, joined by a line: what the wrong sound costs."""
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(rows) + 1.5), layout="constrained")
    for y, (own, swapped) in enumerate(list(rows.values())[::-1]):
        axis.plot([swapped, own], [y, y], color=GREY, linewidth=1.5, zorder=1)
        axis.scatter(own, y, s=110, color=BLUE, zorder=2, label="own sound" if y == 0 else None)
        axis.scatter(swapped, y, s=32, marker="D", facecolors="white", edgecolors=RED, linewidths=1.8, zorder=3,
                     label="swapped sound" if y == 0 else None)
    axis.set_yticks(range(len(rows)), list(rows)[::-1])
    axis.set(title=title, xlabel=xlabel, xlim=(0, 1), ylim=(-0.6, len(rows) - 0.4))
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return figure

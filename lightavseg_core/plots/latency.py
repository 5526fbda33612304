"""Figures of latency: by part, by pixels, by batch, by kind of operation, and the roofline."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, LogFormatter, NullFormatter

from ..profiling.breakdown import KINDS, MAIN, KindLatency, main_parts
from ..profiling.machine import Floor
from ..profiling.profiler import Profile, Row, Shape
from ..profiling.series import Point, Series
from ..profiling.training import BASE
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
    from_the_top,
    legend_beside,
    open_frame,
    subplots,
)

PARTS = dict(zip(MAIN, (BLUE, ORANGE, YELLOW, PURPLE, RED, GREEN, SKY), strict=True))


def bars(profile: Profile, title: str = "Latency of one clip") -> Figure:
    """A bar for each row with its interval, divided by part if shares were measured.

    Other methods' places of fusion count as one part.
    """
    figure, axis = subplots(figsize=(8, 0.5 * len(profile.rows) + 1.6))
    _bars(axis, profile.rows, title)
    return figure


def overview(methods: Profile, runtimes: Profile) -> Figure:
    """The benchmark in one figure: every method in PyTorch, by part, and one model in every runtime.

    Each panel is a separate run.
    """
    others = "no fusion", "avsegformer"
    of_one_model = [row for row in runtimes.rows if not any(other in row.name for other in others)]
    height = 0.4 * max(len(methods.rows), len(of_one_model)) + 1.6
    figure, (left, right) = subplots(1, 2, figsize=(13, height))
    _bars(left, methods.rows, f"Every method, eager, {_threads(methods)}")
    _bars(right, of_one_model, f"LightAVSeg lean by runtime, {_threads(runtimes)}")
    card = methods.card
    title = f"One frame of 224 x 224 px and its sound, measured {card.date} on {card.device}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _threads(profile: Profile) -> str:
    threads = profile.card.threads
    return f"{threads} thread{'s' * (threads > 1)}"


def _bars(axis: Axes, rows: Sequence[Row], title: str) -> None:
    largest = max(row.timing.interval.high for row in rows)
    labelled = set()
    for y, row in zip(from_the_top(axis, [row.name for row in rows]), rows):
        median, low, high = row.timing.interval
        left = 0.0
        for part, share in (main_parts(row.shares) if row.shares else {"": 1.0}).items():
            color = PARTS.get(part, GREY)
            axis.barh(y, share * median, left=left, color=color, edgecolor="white", linewidth=0.5)
            labelled.add(part)
            left += share * median
        reach = [[median - low], [high - median]]
        axis.errorbar(median, y, xerr=reach, color="black", capsize=3, linewidth=1)
        axis.text(high + 0.015 * largest, y, f"{median:.3g}", va="center", fontsize=9)
    axis.set(xlabel="milliseconds: median and its 95% interval", xlim=(0, 1.12 * largest))
    shown = [part for part in MAIN if part in labelled]
    axis.set_title(title, loc="left", fontsize=11, pad=24 if shown else 6)             # above the legend
    if shown:
        patches = [Patch(color=PARTS[part], label=part) for part in shown]
        place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
        look = {"frameon": False, "ncols": len(shown), "fontsize": 8, "columnspacing": 1, "handlelength": 1}
        axis.legend(handles=patches, **place, **look)


def growth(series: Series, title: str = "Latency against pixels") -> Figure:
    """Latency against all pixels of a clip, both logarithmic; the dotted line is proportional to the pixels.

    A line with intervals for each name and, if there are several, each number of seconds.
    """
    figure, axis = subplots(figsize=(7, 4))
    lines: dict[tuple[str, int], list[Point]] = {}
    for point in sorted(series.points, key=lambda point: point.pixels):
        lines.setdefault((point.name, point.seconds), []).append(point)
    names = list(dict.fromkeys(point.name for point in series.points))
    lengths = sorted({point.seconds for point in series.points})
    for i, ((name, seconds), points) in enumerate(lines.items()):
        aside = 1.015 ** (i - (len(lines) - 1) / 2)            # so that no interval covers another
        places = [aside * point.pixels for point in points]
        median, low, high = np.array([point.timing.interval for point in points]).T
        color, marker = COLOURS[names.index(name)], STYLES[lengths.index(seconds)][1]
        look = {"color": color, "marker": marker, "markersize": 5, "capsize": 2}
        label = f"{name}, {seconds} s" if len(lengths) > 1 else name
        axis.errorbar(places, median, [median - low, high - median], label=label, **look)
    pixels = np.array(sorted({point.pixels for point in series.points}), float)
    least = min(point.timing.median for point in series.points if point.pixels == pixels[0])
    in_proportion = 0.8 * least * pixels / pixels[0]
    axis.plot(pixels, in_proportion, ":", color=GREY, linewidth=1, label="in proportion to pixels")
    axis.set(title=title, xlabel="pixels of all frames of a clip", ylabel="milliseconds a clip")
    axis.set(xscale="log", yscale="log")
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axis.legend(frameon=False, fontsize=9)
    open_frame(axis, "both")
    return figure


def kinds(latency: KindLatency, title: str = "Counted and measured") -> Figure:
    """The share of the MACs beside the share of the time, for each kind of operation."""
    rows = latency.kinds
    figure, axis = subplots(figsize=(7, 0.55 * len(rows) + 1.3))
    heights = np.array(from_the_top(axis, [f"{kind.kind} ({kind.calls})" for kind in rows]))
    shares = (
        ("multiply-accumulates", 0.2, SKY, [kind.share_of_macs for kind in rows]),
        ("time", -0.2, RED, [kind.share_of_time for kind in rows]),
    )
    for name, offset, color, values in shares:
        axis.barh(heights + offset, values, 0.38, color=color, label=f"share of {name}")
        for y, value in zip(heights + offset, values):
            axis.text(value + 0.008, y, f"{value:.1%}", va="center", fontsize=8)
    axis.xaxis.set_major_formatter("{x:.0%}")
    axis.set(title=title, xlabel="share of all operators (in brackets: calls)", xlim=(0, 1.1))
    axis.legend(frameon=False, loc="lower right")
    return figure


def roofline(latency: KindLatency, floor: Floor, title: str = "Roofline") -> Figure:
    """The rate of each operator against its operations per byte; its area is its time.

    Above are the machine's two limits. Bytes are counted as if nothing stayed in a cache: an operator whose
    tensors do stay there may lie above the slope. Operators without multiply-accumulates are not drawn; the
    legend gives their share of the time.
    """
    shown = [op for op in latency.operators if op.macs]
    total = sum(op.milliseconds for op in latency.operators)
    figure, axis = subplots(figsize=(7.5, 4.6))
    ridge = floor.gflops / floor.bandwidth
    least, most = min(op.intensity for op in shown), max(op.intensity for op in shown)
    x = np.array([least / 2, ridge, max(2 * most, 4 * ridge)])
    axis.plot(x, np.minimum(x * floor.bandwidth, floor.gflops), color="black", linewidth=1.2)
    lowest = min(op.gflops for op in shown)
    axis.set(xscale="log", yscale="log", ylim=(lowest / 2, 3 * floor.gflops), xlim=(x[0], x[2]))
    for kind, (color, marker) in zip(KINDS, STYLES):
        if of_kind := [op for op in shown if op.kind == kind]:
            share = sum(op.milliseconds for op in of_kind) / total
            areas = [10 + 4000 * op.milliseconds / total for op in of_kind]
            look = {"color": color, "marker": marker, "alpha": 0.55, "linewidth": 0}
            x_y = [op.intensity for op in of_kind], [op.gflops for op in of_kind]
            axis.scatter(*x_y, areas, label=f"{kind}, {share:.0%} of the time", **look)
    rest = 1 - sum(op.milliseconds for op in shown) / total
    axis.scatter([], [], color="white", label=f"without multiply-accumulates, {rest:.0%}")
    figure.canvas.draw()                                    # the slope of the line as it stands on the page
    ends = [(ridge / 10, floor.gflops / 10), (ridge, floor.gflops)]
    right, up = np.diff(axis.transData.transform(ends), axis=0)[0]
    slope = {"rotation": np.degrees(np.arctan2(up, right)), "rotation_mode": "anchor"}
    text = {"textcoords": "offset points", "ha": "right", "fontsize": 8}
    axis.annotate(f"{floor.gflops:.0f} GFLOP/s ({floor.library})", (x[2], floor.gflops), (0, 5), **text)
    on_the_slope = ridge / 4, floor.gflops / 4
    axis.annotate(f"{floor.bandwidth:.0f} GB/s (triad)", on_the_slope, (-4, 4), **text, **slope)
    axis.set(title=title, xlabel="operations a byte (two for a multiply-accumulate)")
    axis.set_ylabel("GFLOP/s reached")
    legend_beside(axis, fontsize=8)
    for handle in axis.get_legend().legend_handles:
        handle.set_sizes([30])
    open_frame(axis, "both")
    return figure


AXES = {
    "clips of a batch": lambda point: point.batch,
    "seconds of a clip": lambda point: point.seconds,
    "sides of the frames, pixels": lambda point: point.size[0],
}


def training(series: Series, base: Shape = BASE) -> Figure:
    """Memory and time of a training step while one of three things grows and the others are those of `base`;
    all logarithmic. series: from `profiling.training.growth`."""
    figure, axes = subplots(2, 3, figsize=(10, 5.5), sharex="col", sharey="row")
    names = list(dict.fromkeys(point.name for point in series.points))
    for column, (label, along) in enumerate(AXES.items()):
        kept = [k for k in range(3) if k != (0, 2, 1)[column]]
        for name, color, style in zip(names, COLOURS, STYLES * 2):
            points = []
            for point in series.points:
                shape = point.batch, point.size, point.seconds
                if point.name == name and all(shape[k] == base[k] for k in kept):
                    points.append(point)
            points.sort(key=along)
            places = [along(point) for point in points]
            frames = [point.batch * point.seconds for point in points]
            memory = [point.memory / 2**20 for point in points]
            times = [point.timing.median / n for point, n in zip(points, frames)]
            for axis, values in zip(axes[:, column], (memory, times)):
                axis.plot(places, values, color=color, marker=style[1], markersize=5, label=name)
                axis.set(xscale="log", yscale="log")
                axis.set_xticks(places, [str(place) for place in places])
                axis.minorticks_off()
        axes[1, column].set_xlabel(label)
    axes[0, 0].set_ylabel("peak of a step, MiB")
    axes[1, 0].set_ylabel("ms a frame")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(names), frameon=False, fontsize=9)
    return figure

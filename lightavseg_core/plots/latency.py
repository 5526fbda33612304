"""Pictures of where time goes: bars by part, growth with pixels, throughput by batch, kinds of operation, and the roofline."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, LogFormatter, NullFormatter

from ..profiling.breakdown import KINDS, MAIN, KindLatency, main_parts
from ..profiling.machine import Floor
from ..profiling.profiler import Profile, Row, Series
from .common import BLUE, GREEN, GREY, ORANGE, RED

SKY, YELLOW, PURPLE = "#56B4E9", "#F0E442", "#CC79A7"          # with those of plots.py all of Okabe and Ito's
COLORS, MARKERS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY, "black", YELLOW), "osD^vP*<>"
PARTS = dict(zip(MAIN, (BLUE, ORANGE, YELLOW, PURPLE, RED, GREEN, SKY), strict=True))


def bars(profile: Profile, title: str = "Latency of one clip") -> Figure:
    """A bar for each row with its interval; where shares were measured it is divided by part. Other methods' places of fusion are one part."""
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(profile.rows) + 1.6), layout="constrained")
    _bars(axis, profile.rows, title)
    return figure


def overview(methods: Profile, runtimes: Profile) -> Figure:
    """The benchmark in one picture: every method as PyTorch runs it, by part, and one model in every runtime. Each panel is a run of its own."""
    rows = [row for row in runtimes.rows if "no fusion" not in row.name and "avsegformer" not in row.name]
    height = 0.4 * max(len(methods.rows), len(rows)) + 1.6
    figure, axes = plt.subplots(1, 2, figsize=(13, height), layout="constrained")
    for axis, shown, run, what in zip(axes, (methods.rows, rows), (methods, runtimes), ("Every method, eager", "LightAVSeg lean by runtime")):
        _bars(axis, shown, f"{what}, {run.card.threads} thread{'s' * (run.card.threads > 1)}")
    figure.suptitle(f"One frame of 224 x 224 px and its sound, measured {methods.card.date} on {methods.card.device}", x=0.01, ha="left", fontsize=11)
    return figure


def _bars(axis: plt.Axes, rows: Sequence[Row], title: str) -> None:
    rows = rows[::-1]
    largest, labelled = max(row.timing.interval.high for row in rows), set()
    for y, row in enumerate(rows):
        median, low, high = row.timing.interval
        left = 0.0
        for part, share in (main_parts(row.shares) if row.shares else {"": 1.0}).items():
            axis.barh(y, share * median, left=left, color=PARTS.get(part, GREY), edgecolor="white", linewidth=0.5)
            labelled.add(part)
            left += share * median
        axis.errorbar(median, y, xerr=[[median - low], [high - median]], color="black", capsize=3, linewidth=1)
        axis.text(high + 0.015 * largest, y, f"{median:.3g}", va="center", fontsize=9)
    axis.set_yticks(range(len(rows)), [row.name for row in rows])
    axis.set(xlabel="milliseconds: median and its 95% interval", xlim=(0, 1.12 * largest))
    shown = [part for part in MAIN if part in labelled]
    axis.set_title(title, loc="left", fontsize=11, pad=24 if shown else 6)             # above the legend
    if shown:
        axis.legend([Patch(color=PARTS[part]) for part in shown], shown, frameon=False, ncols=len(shown), fontsize=8, loc="lower right",
                    bbox_to_anchor=(1, 1), borderaxespad=0.2, columnspacing=1, handlelength=1)
    axis.spines[["top", "right"]].set_visible(False)


def _curves(series: Series, x, y) -> tuple[Figure, plt.Axes]:
    """A line with intervals for each name and, where there are several, each number of seconds."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    several = len({point.seconds for point in series.points}) > 1
    names = dict.fromkeys((point.name, point.seconds) for point in series.points)
    colours = dict(zip(dict.fromkeys(name for name, _ in names), cycle(COLORS)))
    markers = dict(zip(dict.fromkeys(seconds for _, seconds in names), cycle(MARKERS)))
    for i, (name, seconds) in enumerate(names):
        aside = 1.015 ** (i - (len(names) - 1) / 2)           # so that intervals at one place do not cover each other
        points = sorted((p for p in series.points if (p.name, p.seconds) == (name, seconds)), key=x)
        median, low, high = np.array([y(point) for point in points]).T
        axis.errorbar([aside * x(point) for point in points], median, yerr=[median - low, high - median], color=colours[name],
                      marker=markers[seconds], markersize=5, capsize=2, linestyle="-", label=f"{name}, {seconds} s" if several else name)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    return figure, axis


def growth(series: Series, title: str = "Latency against pixels") -> Figure:
    """Latency against all pixels of a clip, both logarithmic; the dotted line doubles where the pixels do."""
    figure, axis = _curves(series, lambda p: p.pixels, lambda p: p.timing.interval)
    pixels = np.array(sorted({point.pixels for point in series.points}), float)
    least = min(point.timing.median for point in series.points if point.pixels == pixels[0])
    axis.plot(pixels, 0.8 * least * pixels / pixels[0], ":", color=GREY, linewidth=1, label="in proportion to pixels")
    axis.set(title=title, xscale="log", yscale="log", xlabel="pixels of all frames of a clip", ylabel="milliseconds a clip")
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_formatter("{x:,g}" if one is axis.yaxis else EngFormatter(sep=""))
        one.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)) if one is axis.yaxis else NullFormatter())
    axis.legend(frameon=False, fontsize=9)
    return figure


def throughput(series: Series, title: str = "Throughput against the batch") -> Figure:
    figure, axis = _curves(series, lambda p: p.batch, lambda p: p.clips_per_second)
    batches = sorted({point.batch for point in series.points})
    axis.set_xscale("log", base=2)
    axis.set_xticks(batches, [str(batch) for batch in batches])
    axis.minorticks_off()
    axis.set(title=title, xlabel="clips in a batch", ylabel="clips a second", ylim=(0, None))
    return figure


def kinds(latency: KindLatency, title: str = "Counted and measured") -> Figure:
    """For each kind of operation its share of the MACs beside its share of the time."""
    rows = latency.kinds[::-1]
    figure, axis = plt.subplots(figsize=(7, 0.55 * len(rows) + 1.3), layout="constrained")
    at = np.arange(len(rows))
    for offset, name, values, color in ((0.2, "multiply-accumulates", [k.share_of_macs for k in rows], SKY),
                                        (-0.2, "time", [k.share_of_time for k in rows], RED)):
        axis.barh(at + offset, values, 0.38, color=color, label=f"share of {name}")
        for y, value in zip(at + offset, values):
            axis.text(value + 0.008, y, f"{value:.1%}", va="center", fontsize=8)
    axis.set_yticks(at, [f"{k.kind} ({k.calls})" for k in rows])
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set(title=title, xlabel="share of all operators (in brackets: calls)", xlim=(0, 1.1))
    axis.legend(frameon=False, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def roofline(latency: KindLatency, floor: Floor, title: str = "Roofline", names: Sequence[str] = KINDS) -> Figure:
    """What each operator reaches against the operations that it does a byte; its area is its time. Above it the machine's two limits.

    Bytes are counted as if nothing stayed in a cache: an operator whose tensors do may stand above the slope. Operators without
    multiply-accumulates have no place here; the legend says how much of the time theirs is.
    """
    shown = [op for op in latency.operators if op.macs and op.kind in names]
    figure, axis = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    total, least = sum(op.milliseconds for op in latency.operators), min(op.intensity for op in shown)
    ridge, most = floor.gflops / floor.bandwidth, max(op.intensity for op in shown)
    x = np.array([least / 2, ridge, max(2 * most, 4 * ridge)])
    axis.plot(x, np.minimum(x * floor.bandwidth, floor.gflops), color="black", linewidth=1.2)
    axis.annotate(f"{floor.gflops:.0f} GFLOP/s ({floor.library})", (x[2], floor.gflops), (0, 5), textcoords="offset points", ha="right", fontsize=8)
    axis.set(xscale="log", yscale="log", ylim=(min(op.gflops for op in shown) / 2, 3 * floor.gflops), xlim=(x[0], x[2]))
    for kind, color, marker in zip(KINDS, COLORS, MARKERS):
        if of_kind := [op for op in shown if op.kind == kind]:
            share = sum(op.milliseconds for op in of_kind) / total
            axis.scatter([op.intensity for op in of_kind], [op.gflops for op in of_kind], [10 + 4000 * op.milliseconds / total for op in of_kind],
                         color=color, marker=marker, alpha=0.55, linewidth=0, label=f"{kind}, {share:.0%} of the time")
    rest = 1 - sum(op.milliseconds for op in shown) / total
    axis.scatter([], [], color="white", label=f"without multiply-accumulates, {rest:.0%}")
    figure.canvas.draw()                                       # the slope of the line as it stands on the page
    (x0, y0), (x1, y1) = axis.transData.transform([(ridge / 10, floor.gflops / 10), (ridge, floor.gflops)])
    axis.annotate(f"{floor.bandwidth:.0f} GB/s (triad)", (ridge / 4, floor.gflops / 4), (-4, 4), textcoords="offset points", fontsize=8,
                  rotation=np.degrees(np.arctan2(y1 - y0, x1 - x0)), rotation_mode="anchor", ha="right")
    axis.set(title=title, xlabel="operations a byte (two for a multiply-accumulate)", ylabel="GFLOP/s reached")
    handles = axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5)).legend_handles
    for handle in handles:
        handle.set_sizes([30])
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return figure

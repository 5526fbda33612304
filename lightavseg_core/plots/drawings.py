"""Drawings: LightAVSeg's architecture, how methods fuse a map with a sound, and a map of the notebooks."""
from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from ..models.lightavseg import LightAVSeg
from .common import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, bare, subplots

EYE, EAR, PLAIN = SKY, ORANGE, "#DDDDDD"  # what keeps positions, what has one number per channel, the frame
STEP = 1.5  # from scale to scale
ROWS = (  # from below
    "CMFD: decoder, coarse to fine",
    r"audio state $\hat A_i$",
    "audio state $A_i$",
    "RAVE: encoder, fine to coarse",
)
TOLD = (
    "Blue squares keep positions; orange bars are one number per channel. Blue arrows: the maximum over all\n"
    "positions, which gates the sound. Orange arrows into squares: the state is added to every position.\n"
    "Not drawn: the decoder gates the state once more, by the encoder's map."
)


class Stop(NamedTuple):
    """A notebook on the map: its number, its question, its place (across, up), and the notebooks it needs."""

    number: str
    asks: str
    place: tuple[float, float]
    needs: tuple[str, ...] = ()


STOPS = (
    Stop("00", "Start: silence it,\nand watch the mask", (0, 2.5)),
    Stop("01", "Data and task:\nwhich pixels do you hear?", (1, 2.5), ("00",)),
    Stop("02", "The model, step by step:\nwhat does listening cost?", (2, 4), ("01",)),
    Stop("03", "Training:\ndoes it listen?", (2, 1), ("01",)),
    Stop("04", "Latency:\nwhere does the time go?", (3, 5), ("02",)),
    Stop("05", "Coarse to fine:\nwhat does each scale know?", (3, 3), ("02", "03")),
    Stop("06", "Attention dissipation:\none key, nothing to choose", (3, 4), ("02", "03")),
    Stop("07", "Ablations and methods:\nwhat does each part bring?", (3, 2), ("03",)),
    Stop("08", "Your own video:\nwhen does it fail?", (3, 1), ("03",)),
    Stop("09", "When the world is real:\nanother dog, another bark", (3, 0), ("03",)),
)
PATHS = {  # by colour: who walks it, and where
    GREEN: ("an evening", ("00", "01", "03", "08")),
    BLUE: ("a course", tuple(stop.number for stop in STOPS)),
    PURPLE: ("a researcher", ("02", "04", "06", "07", "09")),
}


Places = list[tuple[float, float]]


class Meeting(NamedTuple):
    """How a map meets a sound: in words, the places of the sound's vectors, the places of queries between
    them, and whether each position is treated separately."""

    told: str
    sound: Places
    between: Places = []
    each: bool = True


SPOTS = [(0.2 * column, 0.2 * row) for row in range(4) for column in range(4)]  # a map of N = 16 positions
ONE = [(1.5, 0.3)]
MEETINGS = {
    "LightAVSeg": Meeting("one vector is added\nto all positions: O(N)", ONE, each=False),
    "AVSBench": Meeting(
        "the sound is copied; each position\nmeets each other: N x N", [(x + 1.3, y) for x, y in SPOTS]
    ),
    "AVESFormer": Meeting("each position asks\nK keys: N x K", [(1.6, 0.2 * k) for k in range(4)]),
    "AVSegFormer": Meeting(
        "queries ask the sound,\nthen look at the map", ONE, [(0.95, 0.3 * k) for k in range(3)]
    ),
    "SelM": Meeting(
        "each position chooses one of\ntwo tokens; one has heard", ONE, [(0.95, 0.15), (0.95, 0.45)]
    ),
}


class Shapes(NamedTuple):
    """For each scale, fine to coarse: channels, height and width of the encoder's and the decoder's maps, and
    the lengths of the audio states."""

    heard: int
    encoder: list[tuple[int, int, int]]
    states: list[int]
    decoder: list[tuple[int, int, int]]
    refined: list[int]


def shapes(model: LightAVSeg, size: int) -> Shapes:
    """The shapes in a model for a frame of `size` pixels, from a run on the meta device."""
    on_meta = copy.deepcopy(model).to("meta").eval()
    with torch.inference_mode(), torch.device("meta"):
        heard = torch.empty(1, model.audio.channels, 1, 1)
        visuals, audios = on_meta.encode(torch.empty(1, 3, size, size), heard)
        _, scales = on_meta.decode(visuals, audios, heard, with_scales=True)
    decoded = [x for x, _ in scales][::-1]
    return Shapes(
        heard=model.audio.channels,
        encoder=[tuple(x.shape[1:]) for x in visuals],
        states=[x.shape[1] for x in audios],
        decoder=[tuple(x.shape[1:]) for x in decoded],
        refined=[x.shape[1] for _, x in scales][::-1],
    )


def architecture(model: LightAVSeg, size: int | None = None) -> Figure:
    """LightAVSeg, drawn from the model itself: squares keep positions, bars are one number per channel.

    size: pixels of a frame's side; None: the model's. Raises TypeError for another method.
    """
    if not isinstance(model, LightAVSeg):
        raise TypeError(f"model is a {type(model).__name__}; expected a LightAVSeg.")
    size = size or model.config.size
    found = shapes(model, size)
    figure, axis = subplots(figsize=(11, 5))
    sides = [_side(seen[1], found.encoder[0][1]) for seen in found.encoder]
    places = [STEP * i for i in range(len(sides))]                   # across: fine to coarse
    _square(axis, -STEP, 3, 1, PLAIN, f"frame\n3 x {size} x {size}")
    _bar(axis, -STEP, 2, f"sound, {found.heard}")
    _square(axis, -STEP, 0, 1, GREEN, f"mask\n{model.config.num_classes} x {size} x {size}")
    for i, (x, side) in enumerate(zip(places, sides)):
        edge = side / 2
        before = 0.5 if i == 0 else sides[i - 1] / 2
        _square(axis, x, 3, side, EYE, "{}\n{} x {}".format(*found.encoder[i]))
        _square(axis, x, 0, side, EYE, "{}\n{} x {}".format(*found.decoder[i]))
        _bar(axis, x, 2, f"{found.states[i]}")
        _bar(axis, x, 1, f"{found.refined[i]}")
        _arrow(axis, (x - STEP + before, 3), (x - edge, 3))           # stage by stage
        _arrow(axis, (x - edge, 0), (x - STEP + before, 0))
        _arrow(axis, (x - STEP + 0.1, 2), (x - 0.1, 2), EAR)
        _arrow(axis, (x - 0.06, 3 - edge), (x - 0.06, 2.25), BLUE)    # what is seen gates the sound
        _arrow(axis, (x + 0.06, 2.25), (x + 0.06, 3 - edge), EAR)     # the sound is added
        _arrow(axis, (x, 1.75), (x, 1.25), EAR)
        _arrow(axis, (x, 0.75), (x, edge), EAR)
        _arrow(axis, (x + edge, 3 - edge / 2), (x + edge, edge / 2), GREY, bend=-0.12)
    for x in places[:-1]:
        _arrow(axis, (x + STEP - 0.1, 1), (x + 0.1, 1), EAR)
    beside = places[-1] + 1.1
    for y, name in enumerate(ROWS):
        axis.text(beside, y, name, va="center", fontsize=10)
    axis.text(-STEP - 0.5, -1.2, TOLD, fontsize=9, color="#333333")
    axis.set(xlim=(-STEP - 0.6, beside + 2.5), ylim=(-1.3, 3.6))
    axis.set_title(f"LightAVSeg, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")
    bare(axis)
    axis.set_aspect("equal")
    axis.spines[:].set_visible(False)
    return figure


def meetings() -> Figure:
    """How a map of N = 16 positions meets a sound, with a panel for each method."""
    figure, axes = subplots(1, len(MEETINGS), figsize=(11, 2.5))
    for axis, (name, meeting) in zip(axes, MEETINGS.items()):
        if meeting.each:
            _links(axis, meeting.sound, meeting.between or SPOTS, EAR)
        else:
            _arrow(axis, (1.4, 0.3), (0.75, 0.3), EAR)
        _links(axis, meeting.between, SPOTS, PURPLE)
        for places, color in ((SPOTS, EYE), (meeting.between, PURPLE), (meeting.sound, EAR)):
            if places:
                axis.scatter(*zip(*places), s=26, color=color, edgecolor="black", linewidth=0.5)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(meeting.told, fontsize=8)
        axis.set(xlim=(-0.2, 2.1), ylim=(-0.3, 0.9), aspect="equal")
        bare(axis)
    return figure


def _links(axis: Axes, these: Places, those: Places, color: str) -> None:
    """A thin line from each of these places to each of those."""
    for x, y in these:
        for u, v in those:
            axis.plot([x, u], [y, v], color=color, linewidth=0.3, alpha=0.7, zorder=0)


def way_through() -> Figure:
    """The notebooks, their questions, which others they need, and three paths through them."""
    figure, axis = subplots(figsize=(11, 5.8))
    across, up, wide, high = 2.9, 1.05, 2.3, 0.75
    middle = {stop.number: (across * stop.place[0], up * stop.place[1]) for stop in STOPS}
    for stop in STOPS:
        x, y = middle[stop.number]
        box = FancyBboxPatch((x - wide / 2, y - high / 2), wide, high, boxstyle="round,pad=0.04",
                             facecolor="#F4F4F4", edgecolor="black")
        axis.add_patch(box)
        axis.text(x - wide / 2 + 0.05, y, stop.number, fontsize=13, weight="bold", va="center")
        axis.text(x - wide / 2 + 0.4, y, stop.asks, fontsize=7.5, va="center")
        for k, (color, (_, numbers)) in enumerate(PATHS.items()):
            if stop.number in numbers:
                axis.plot(x + wide / 2 - 0.12 - 0.17 * k, y + high / 2 - 0.06, "o", color=color, markersize=5)
        for needed in stop.needs:
            before = middle[needed]
            _arrow(axis, (before[0] + wide / 2 + 0.04, before[1]), (x - wide / 2 - 0.04, y), GREY)
    for x, (color, (who, numbers)) in zip((-1, 1.2, 4.4), PATHS.items()):
        axis.plot(x, -0.8, "o", color=color)
        axis.text(x + 0.15, -0.8, f"{who}: {' '.join(numbers)}", fontsize=8.5, va="center")
    axis.set(xlim=(-1.3, 3 * across + 1.3), ylim=(-1, 5 * up + 0.6))
    bare(axis)
    axis.spines[:].set_visible(False)
    return figure


def _side(height: int, most: int) -> float:
    """The side of the square that is drawn for a map: by the logarithm of its height."""
    return 0.45 + 0.55 * math.log2(height + 1) / math.log2(most + 1)


def _square(axis: Axes, x: float, y: float, side: float, color: str, label: str) -> None:
    axis.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, facecolor=color, edgecolor="black"))
    axis.text(x, y, label, ha="center", va="center", fontsize=7)


def _bar(axis: Axes, x: float, y: float, label: str) -> None:
    axis.add_patch(Rectangle((x - 0.1, y - 0.25), 0.2, 0.5, facecolor=EAR, edgecolor="black"))
    axis.text(x + 0.14, y + 0.16, label, fontsize=7, va="center")


def _arrow(axis: Axes, start: tuple, end: tuple, color: str = "black", bend: float = 0) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "shrinkA": 0, "shrinkB": 1}
    axis.add_patch(FancyArrowPatch(start, end, connectionstyle=f"arc3,rad={bend}", color=color, **style))

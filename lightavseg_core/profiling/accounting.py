"""Accounting: how cost grows with the picture, and what the published column of parameters counts."""
from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch

from ..models.avsbench import TPAVI
from ..models.blocks import Attention
from ..models.lightavseg import LightAVSegConfig, RAVEStage
from .flops import Cost, count
from .profiler import Parameters, parameters, skeleton
from .reported import AUTHORS_CODE, COMPARISON, Row

# --- how cost grows ---


class Fit(NamedTuple):
    """cost = c0 + c1 pixels + c2 pixels^2"""

    c0: float
    c1: float
    c2: float


def fit_cost(pixels: Sequence[float], cost: Sequence[float]) -> Fit:
    """Least squares in rational numbers: counts that are a polynomial give its very coefficients, and a c2 of 0 is 0.

    Raises ValueError for fewer than three different sizes.
    """
    if len(set(pixels)) < 3 or len(pixels) != len(cost):
        raise ValueError(f"{len(pixels)} sizes, {len(set(pixels))} different, and {len(cost)} costs; expected three different sizes or more, "
                         "each with its cost.")
    x, y = [Fraction(p) for p in pixels], [Fraction(c) for c in cost]
    moments = [sum(p ** k for p in x) for k in range(5)]
    rows = [[*moments[i:i + 3], sum(c * p ** i for p, c in zip(x, y))] for i in range(3)]      # the normal equations
    for i in range(3):                                                                          # Gauss-Jordan
        rows[i] = [value / rows[i][i] for value in rows[i]]
        rows = [row if j == i else [a - row[i] * b for a, b in zip(row, rows[i])] for j, row in enumerate(rows)]
    return Fit(*(float(row[3]) for row in rows))


def slope(pixels: Sequence[float], cost: Sequence[float]) -> float:
    """The exponent between the first and the last size: 1 where cost is proportional to the pixels, 2 to their square."""
    return math.log(cost[-1] / cost[0]) / math.log(pixels[-1] / pixels[0])


def interaction_cost(side: int, seconds: int = 1, width: int = 256, tokens: int = 16, strides: Sequence[int] = (4, 8, 16, 32)) -> dict[str, Cost]:
    """What the meeting of sound and picture alone costs in four designs, all on the same maps of `width` channels. side: of the frames, pixels.

    "TPAVI, published": the sound repeated over all positions, products of every pair first. "TPAVI, re-associated": the same function, the
    other product first. "cross-attention": every position asks `tokens` audio tokens. "RAVE": one gated bias per channel.
    """
    with torch.device("meta"):
        maps = [torch.empty(seconds, width, math.ceil(side / stride), math.ceil(side / stride)) for stride in strides]
        audio, sounds = torch.empty(seconds, width, 1, 1), torch.empty(seconds, tokens, width)
        first, second = (TPAVI(width, width, order).eval() for order in ("published", "associative"))
        attention, rave = Attention(width), RAVEStage(width, width, LightAVSegConfig())
    one_clip = audio[None, :, :, 0, 0]                                                             # (1, T, C)
    designs = {"TPAVI, published": lambda x: first(x[None], one_clip), "TPAVI, re-associated": lambda x: second(x[None], one_clip),
               "cross-attention": lambda x: attention(x.flatten(2).transpose(1, 2), sounds), "RAVE": lambda x: rave(x, audio)}
    return {name: count(lambda design=design: [design(x) for x in maps]) for name, design in designs.items()}


# --- the published column ---

# (method, visual encoder) -> the code whose parts make the reported figure, which parts, and what that means.
_HOLDS = {
    ("avsbench", "resnet50"): (("avsbench", "resnet50"), ("visual", "rest"), "without VGGish; with copies of two stages that never run"),
    ("avsegformer", "resnet50"): (("avsegformer", "resnet50"), ("visual", "audio", "rest"), "with VGGish; with the same copies"),
    ("selm", "resnet50"): (("selm, MS3", "resnet50"), ("visual", "rest"), "its code for MS3, without VGGish; with the same copies"),
    ("avsbench", "seaformer_l"): (None, (), "unknown: the code has 33.5, or 31.3 without MobileNetV2"),
    ("avsegformer", "seaformer_l"): (None, (), "unknown: the code has 48.6, or 46.4 without MobileNetV2"),
    ("selm", "seaformer_l"): (("selm", "seaformer_l"), ("visual", "rest"), "without MobileNetV2; with a stage that is never read"),
    ("lightavseg", "seaformer_l"): (None, (), "unknown: there is no code; the width of our decoder is chosen to come near"),
}


class Accounting(NamedTuple):
    """One row of the published comparison; parameters, in millions where they are floats."""

    row: Row                           # as reported
    counts: str                        # what the reported figure counts
    explained: float | None            # the parameters of the authors' code, counted so; None where nothing explains the figure
    parts: dict[str, Parameters]       # one accounting for all: our model, every part, nothing that never runs

    @property
    def total(self) -> int:
        return sum(part.total for part in self.parts.values())


def published_accounting() -> list[Accounting]:
    """The reported parameters of the seven compared models, what each figure counts, and the same count for all."""
    table = []
    for row in COMPARISON:
        code, held, counts = _HOLDS[row.method, row.visual]
        explained = round(sum(getattr(AUTHORS_CODE[code], part) for part in held), 2) if code else None
        model = skeleton(row.method, preset="paper", visual=row.visual, audio=row.audio)
        table.append(Accounting(row, counts, explained, parameters(model)))
    return table

"""Accounting: which part has which parameters and operations, how cost grows, what the papers count."""
from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch

from .._common.ranges import COUNT, SIDE, within
from ..models import create_model
from ..models.avsbench import TPAVI
from ..models.base import AVSModel
from ..models.blocks import Attention
from ..models.lightavseg import LightAVSegConfig, RAVEStage
from .flops import Cost, count, owner, refuse_training
from .reported import AUTHORS_CODE, COMPARISON, Row

PARTS = ("visual", "audio", "fusion", "decoder")


# --- one model ---


def skeleton(method: str, preset: str | None = None, **options) -> AVSModel:
    """`create_model` without weights, on the meta device: all shapes, no memory, ready for counting."""
    with torch.device("meta"):
        return create_model(method, preset, **options).eval()


def parts(model: AVSModel) -> dict[str, str]:
    """Submodule -> part: "visual" and "audio" are the encoders, "fusion" is what the method declares.

    The rest is "decoder".
    """
    return {"": "decoder", "visual": "visual", "audio": "audio", **dict.fromkeys(model.fusion, "fusion")}


class Parameters(NamedTuple):
    total: int
    trainable: int


def parameters(model: AVSModel) -> dict[str, Parameters]:
    """Part -> how many parameters it has, and how many of them take a gradient."""
    table = dict.fromkeys(PARTS, Parameters(0, 0))
    for name, p in model.named_parameters():
        part = owner(name, parts(model))
        total, trainable = table[part]
        table[part] = Parameters(total + p.numel(), trainable + p.numel() * p.requires_grad)
    return table


def macs(model: AVSModel, size: int | tuple[int, int] = 224, seconds: int = 1) -> Cost:
    """The cost of one clip by part and operator: frames of (H, W), or size x size, pixels, one per second.

    Counted on the meta device, without running; a method that needs values (`item()`) is run on zeros. Raises
    ValueError for an impossible size or number of seconds, and for a model in training, which also computes
    what its losses need.
    """
    refuse_training(model)
    height, width = (size, size) if isinstance(size, int) else size
    for side in (height, width):
        within(*SIDE, size=side)
    within(*COUNT, seconds=seconds)
    first = next(model.parameters())
    shapes = (1, seconds, 3, height, width), (1, seconds, 1, *model.front_end.shape)
    try:
        return count(model, *(first.new_empty(shape, device="meta") for shape in shapes), parts=parts(model))
    except RuntimeError:  # NotImplementedError is one
        if first.is_meta:
            raise
        return count(model, *(first.new_zeros(shape) for shape in shapes), parts=parts(model), numbers=True)


# --- how cost grows ---


class Fit(NamedTuple):
    """cost = c0 + c1 pixels + c2 pixels^2"""

    c0: float
    c1: float
    c2: float


def fit_cost(pixels: Sequence[float], cost: Sequence[float]) -> Fit:
    """Least squares in rational numbers: exact for a polynomial, so that a c2 of 0 is exactly 0.

    Raises ValueError for fewer than three different sizes.
    """
    if len(set(pixels)) < 3 or len(pixels) != len(cost):
        raise ValueError(
            f"found {len(pixels)} sizes, {len(set(pixels))} different, and {len(cost)} costs; "
            "expected at least three different sizes, each with its cost."
        )
    x, y = [Fraction(p) for p in pixels], [Fraction(c) for c in cost]
    moments = [sum(p**k for p in x) for k in range(5)]
    # The normal equations, solved as Gauss and Jordan do.
    rows = [[*moments[i : i + 3], sum(c * p**i for p, c in zip(x, y))] for i in range(3)]
    for i in range(3):
        pivot = [value / rows[i][i] for value in rows[i]]
        rows = [[a - row[i] * b for a, b in zip(row, pivot)] for row in rows]
        rows[i] = pivot
    return Fit(*(float(row[3]) for row in rows))


def slope(pixels: Sequence[float], cost: Sequence[float]) -> float:
    """The exponent between the first and the last size: 1 for a proportional cost, 2 for a quadratic one."""
    return math.log(cost[-1] / cost[0]) / math.log(pixels[-1] / pixels[0])


def interaction_cost(side: int, tokens: int = 16) -> dict[str, Cost]:
    """The cost of fusing sound and picture alone, in four designs, for one frame. side: of the frame, pixels.

    All on the same maps of 256 channels, at strides 4 to 32.
    "TPAVI, published": the sound repeated over all positions, products of every pair first. "TPAVI,
    re-associated": the same function, the other product first. "cross-attention": every position asks
    `tokens` audio tokens. "RAVE": one gated bias per channel.
    """
    width = 256
    with torch.device("meta"):
        maps = [torch.empty(1, width, math.ceil(side / s), math.ceil(side / s)) for s in (4, 8, 16, 32)]
        audio, sounds = torch.empty(1, width, 1, 1), torch.empty(1, tokens, width)
        first, second = (TPAVI(width, width, order).eval() for order in ("published", "associative"))
        attention, rave = Attention(width), RAVEStage(width, width, LightAVSegConfig())
    one_clip = audio[None, :, :, 0, 0]  # (1, T, C)
    designs = {
        "TPAVI, published": lambda x: first(x[None], one_clip),
        "TPAVI, re-associated": lambda x: second(x[None], one_clip),
        "cross-attention": lambda x: attention(x.flatten(2).transpose(1, 2), sounds),
        "RAVE": lambda x: rave(x, audio),
    }
    return {name: count(lambda design=design: [design(x) for x in maps]) for name, design in designs.items()}


# --- the published column ---


# By method and visual encoder: which parts of the authors' code make the reported figure, and what that
# means.
_WITHOUT_AUDIO = ("visual", "rest")
_HOLDS = {
    ("avsbench", "resnet50"): (_WITHOUT_AUDIO, "without VGGish; with copies of two stages that never run"),
    ("avsegformer", "resnet50"): (("visual", "audio", "rest"), "with VGGish; with the same copies"),
    ("selm", "resnet50"): (_WITHOUT_AUDIO, "its code for MS3, without VGGish; with the same copies"),
    ("avsbench", "seaformer_l"): ((), "unknown: the code has 33.5, or 31.3 without MobileNetV2"),
    ("avsegformer", "seaformer_l"): ((), "unknown: the code has 48.6, or 46.4 without MobileNetV2"),
    ("selm", "seaformer_l"): (_WITHOUT_AUDIO, "without MobileNetV2; with a stage that is never read"),
    ("lightavseg", "seaformer_l"): (
        (),
        "unknown: there is no code; the width of our decoder is chosen to come near",
    ),
}
_FOR_MS3 = {("selm", "resnet50"): ("selm, MS3", "resnet50")}


class Accounting(NamedTuple):
    """One row of the published comparison; parameters, in millions if they are floats."""

    row: Row  # as reported
    counts: str  # what the reported figure counts
    explained: float | None  # the parameters of the authors' code, counted so; None where nothing explains it
    parts: dict[str, Parameters]  # one accounting for all: our model, every part, nothing that never runs

    @property
    def total(self) -> int:
        return sum(part.total for part in self.parts.values())


def published_accounting() -> list[Accounting]:
    """The reported parameters of the seven compared models, what each counts, and the same count for all."""
    table = []
    for row in COMPARISON:
        key = row.method, row.visual
        held, counts = _HOLDS[key]
        code = AUTHORS_CODE.get(_FOR_MS3.get(key, key))
        explained = round(sum(getattr(code, part) for part in held), 2) if held else None
        model = skeleton(row.method, preset="paper", visual=row.visual, audio=row.audio)
        table.append(Accounting(row, counts, explained, parameters(model)))
    return table

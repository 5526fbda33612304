"""Series: how the latency grows with the frames and with the batch."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from ..models.base import AVSModel
from .profiler import Candidate, Shape, in_turns
from .timing import Interval, LatencyCard, Timing, here, read_as


class Point(NamedTuple):
    name: str
    batch: int
    size: tuple[int, int]
    seconds: int
    timing: Timing
    memory: int | None = None  # bytes at the peak, without weights and inputs, where they were counted

    @property
    def pixels(self) -> int:
        """The pixels of all frames of a clip."""
        return self.seconds * self.size[0] * self.size[1]

    @property
    def clips_per_second(self) -> Interval:
        median, low, high = self.timing.interval
        return Interval(*(1000 * self.batch / ms for ms in (median, high, low)))


@dataclass
class Series:
    """Points of one run, with its card."""

    points: list[Point]
    card: LatencyCard

    def to_dict(self) -> dict:
        points = [{**point._asdict(), "timing": point.timing.rounds} for point in self.points]
        return {"card": self.card.to_dict(), "points": points}

    @classmethod
    def from_dict(cls, values: dict) -> Series:
        """Reads `to_dict`. Raises ValueError for other fields."""
        points = []
        with read_as("a series as `lightavseg bench`"):
            card = LatencyCard.from_dict(values["card"])
            for point in values["points"]:
                timing = Timing.of(point["timing"], card)
                points.append(Point(**{**point, "size": tuple(point["size"]), "timing": timing}))
        return cls(points, card)


def scaling(
    models: Mapping[str, AVSModel | Candidate],
    sizes: Sequence[int] = (128, 224, 320, 448),
    seconds: Sequence[int] = (1,),
    batches: Sequence[int] = (1,),
    *,
    repeats: int = 10,
    warmup: int = 2,
    device: str | None = None,
) -> Series:
    """Latency against the size of frames, their number (`seconds`), and the batch size, all in turns.

    Each point uses the faster of two memory layouts. `Point.clips_per_second` is the throughput.
    """
    shapes = [Shape(batch, (size, size), t) for batch, size, t in product(batches, sizes, seconds)]
    timed, card = in_turns(models, shapes, repeats, warmup, device or here())
    points = [Point(name, *shape, timed[name, shape][1]) for name, shape in product(models, shapes)]
    return Series(points, card)

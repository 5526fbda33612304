"""A cast: the things that may appear in a generated clip, how each looks and what it sounds like.

`scenes` moves the things and decides what sounds when; everything that differs between silhouettes with
timbres and photographs with recordings is here. Each cast is a subclass.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from .._common.names import unknown

if TYPE_CHECKING:  # the command line reads Individuals, and starts without NumPy
    import numpy as np

RATE = 16_000  # Hz, of all that is heard
# seen: those that a model is trained on. unseen: others of the same categories, never seen or heard in
# training. siblings: of the categories that have unseen ones, those that are seen.
Individuals = Literal["seen", "unseen", "siblings"]

# Where it is, (x, y) of its centre and its radius in pixels, its angle in radians, the frame's side
# -> how much of each pixel it covers, (side, side) in 0 to 1, and its colours, (side, side, 3) in 0 to 255.
Painter = Callable[[tuple[float, float], float, float, int], "tuple[np.ndarray, np.ndarray]"]


class Thing(NamedTuple):
    """category: an index. area: what the thing covers of the unit disc that marks its place in the frame:
    3.14 is the whole disc."""

    category: int
    area: float
    unseen: bool = False


class Cast(ABC):
    """name: as in `generate` and in a recipe. digest: of the cast's content; clips with another digest cannot
    be regenerated. turns: whether things may be upside down."""

    name: str
    digest = ""
    turns = True
    categories: Sequence[str]
    things: Sequence[Thing]

    @abstractmethod
    def sound(self, thing: int, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A thing's sound at the given times, (N,) in seconds at RATE -> (N,), at any level. It may pause,
        but it sounds for most of each second."""

    @abstractmethod
    def dress(
        self, things: Sequence[int], size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, list[Painter]]:
        """A clip's background, (size, size, 3) from 0 to 255, and a painter for each thing."""

    def choice(self, individuals: Individuals) -> list[list[int]]:
        """The things of each category that may appear. Raises ValueError if these are too few categories."""
        if individuals not in get_args(Individuals):
            raise unknown("individuals", individuals, get_args(Individuals))
        unseen = individuals == "unseen"
        found = []
        for category in range(len(self.categories)):
            own = [k for k, thing in enumerate(self.things) if thing.category == category]
            several = any(self.things[k].unseen for k in own)
            kept = [k for k in own if self.things[k].unseen == unseen]
            if kept and (several or individuals == "seen"):
                found.append(kept)
        if len(found) < 5:  # four may be visible at once, and one out of view
            few = f"{len(found)} categories of {individuals} individuals"
            advice = "Add pictures and sounds." if individuals == "seen" else "The cast photos has enough."
            raise ValueError(f"the cast {self.name} has {few}; scenes need 5. {advice}")
        return found

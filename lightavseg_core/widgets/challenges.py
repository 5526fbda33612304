"""Challenges at the mixing desk, and what its setting is worth. The live page reads the same file and counts
the same points (site/live/src/challenges.js)."""
from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

MARKED = 0.5  # of an object's pixels: from here on it counts as marked


class Thing(NamedTuple):
    """A visible object of a second: whether it sounds in the recording, whether it is heard in the mix, its
    level (0 to 2), and the share of its pixels that is marked."""

    sounding: bool
    audible: bool
    level: float
    marked: float


WORTH: dict[str, Callable[[Thing], float]] = {
    "marked": lambda thing: thing.marked,
    "hidden": lambda thing: 1 - thing.marked,
    "quiet": lambda thing: 1 - thing.level,
}


@cache
def challenges() -> list[dict]:
    """Each with id, title, text, hint, the points from which on it is passed, and its rule (`points`)."""
    return json.loads((files(__package__) / "challenges.json").read_text(encoding="utf-8"))


def points(challenge: dict, things: Sequence[Thing], untouched: bool) -> int:
    """0 to 100: the most that one of the things is worth by the challenge's `score`, of those that are as it
    `needs`. others_kept: all others that are heard stay marked, and there is one. untouched: nobody has
    changed the clip's sound, which is worth nothing."""
    worth = [0] if untouched else [0, *(_worth(challenge, thing, things) for thing in things)]
    return max(worth)


def _worth(challenge: dict, thing: Thing, things: Sequence[Thing]) -> int:
    needs = challenge["needs"]
    for name in ("sounding", "audible"):
        if name in needs and getattr(thing, name) != needs[name]:
            return 0
    for name in ("level", "marked"):
        low, high = needs.get(name, (0, 2))
        if not low <= getattr(thing, name) <= high:
            return 0
    if challenge.get("others_kept"):
        others = [one for one in things if one is not thing and one.audible]
        if not others or any(one.marked < MARKED for one in others):
            return 0
    return int(100 * WORTH[challenge["score"]](thing) + 0.5)  # as JavaScript rounds

"""Challenges at the mixing desk, and the points for a setting. The live page reads the same file and counts
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
    """The challenges, each with id, title, text, hint, the points needed to pass, and its rule (`points`)."""
    return json.loads((files(__package__) / "challenges.json").read_text(encoding="utf-8"))


def points(challenge: dict, things: Sequence[Thing], untouched: bool) -> int:
    """0 to 100: the highest `score` among the things that meet the challenge's `needs`. others_kept: all
    others that are heard must stay marked, and there must be one. untouched: the clip's sound is unchanged,
    which is worth nothing."""
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

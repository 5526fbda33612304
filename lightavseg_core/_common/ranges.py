"""Checks that numbers are in range."""
from __future__ import annotations

import math

SIDE = 32, 4096  # pixels of a frame's side: what models read, and what fits any memory
COUNT = 1, 4096  # clips of a batch, seconds of a clip


def within(least: float, most: float = math.inf, **numbers: float | None) -> None:
    """Raises ValueError, with its name, for the first number that is not between `least` and `most`. NaN
    never is; None, for an absent value, always passes."""
    for name, value in numbers.items():
        if value is not None and not least <= value <= most:
            wanted = f"at least {least}" if not value >= least else f"at most {most}"
            raise ValueError(f"{name} is {value}; expected {wanted}.")

"""An estimate with its interval."""
from __future__ import annotations

from typing import NamedTuple


class Interval(NamedTuple):
    """An estimate, a mean or a median, and its 95% interval; who makes it says of what."""

    estimate: float
    low: float
    high: float

"""An estimate with its interval."""
from __future__ import annotations

from typing import NamedTuple


class Interval(NamedTuple):
    """A mean or a median with its 95% confidence interval."""

    estimate: float
    low: float
    high: float

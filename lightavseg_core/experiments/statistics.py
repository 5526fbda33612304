"""Statistics over seeds: means with Student's interval."""
from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

# The 97.5% quantiles of Student's t for 1 to 9 degrees of freedom.
T_QUANTILES = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


class Mean(NamedTuple):
    """The mean of a score or of a difference over seeds."""

    mean: float
    low: float     # the 95% interval; without bounds for a single seed
    high: float


def over_seeds(values: Sequence[float]) -> Mean:
    """The mean of one value per seed, with its 95% interval by Student's t.

    The interval tells what other seeds would give on these data, not what other data would give.
    Raises ValueError without values, or for more than there are quantiles for.
    """
    n = len(values)
    if not 1 <= n <= len(T_QUANTILES) + 1:
        raise ValueError(f"found values of {n} seeds; expected 1 to {len(T_QUANTILES) + 1} seeds.")
    mean = sum(values) / n
    half = math.inf if n == 1 else T_QUANTILES[n - 2] * statistics.stdev(values) / math.sqrt(n)
    return Mean(mean, mean - half, mean + half)


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Mean:
    """a - b, seed by seed: the mean difference of scores by seed. Raises ValueError without a common seed."""
    common = sorted(a.keys() & b.keys())
    if not common:
        raise ValueError(f"no common seed: {sorted(a)} and {sorted(b)}; expected at least one.")
    return over_seeds([a[seed] - b[seed] for seed in common])

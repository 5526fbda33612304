"""experiments.statistics."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

# The 97.5% quantiles of Student's t for 1 to 9 degrees of freedom.
T_QUANTILES = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


class Difference(NamedTuple):
    """How much more one has than another, over the seeds that both have."""

    mean: float
    low: float     # the 95% interval; without bounds for a single seed
    high: float
    seeds: int


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """a - b, seed by seed: the mean difference and its 95% interval of Student's t. Scores by seed. Raises ValueError without a common seed.

    The interval says what other seeds would give on these data, not what other data would.
    """
    differences = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
    n = len(differences)
    if not 1 <= n <= len(T_QUANTILES) + 1:
        raise ValueError(f"{n} common seeds of {sorted(a)} and {sorted(b)}; expected 1 to {len(T_QUANTILES) + 1}.")
    mean = sum(differences) / n
    if n == 1:
        return Difference(mean, -math.inf, math.inf, 1)
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1))
    half = T_QUANTILES[n - 2] * deviation / math.sqrt(n)
    return Difference(mean, mean - half, mean + half, n)

"""Means over seeds and differences are Student's."""

import math

import numpy as np
import pytest

from lightavseg_core.experiments import statistics


def test_paired_by_hand():
    """Differences 0.01, 0.02, 0.06: mean 0.03, deviation sqrt(0.0014 / 2), so 4.3027 * 0.026458 / sqrt(3)."""
    found = statistics.paired({0: 0.51, 1: 0.62, 2: 0.76, 7: 9.0}, {2: 0.7, 1: 0.6, 0: 0.5})
    assert found.mean == pytest.approx(0.03)
    assert found.low == pytest.approx(0.03 - 0.065725, abs=1e-5)
    assert found.high == pytest.approx(0.03 + 0.065725, abs=1e-5)
    assert found == statistics.over_seeds([0.51 - 0.5, 0.62 - 0.6, 0.76 - 0.7])
    one = statistics.paired({0: 0.5}, {0: 0.25})
    assert one.mean == 0.25 and (one.low, one.high) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="no common seed"):
        statistics.paired({0: 0.5}, {1: 0.5})
    for values in ([], [0.5] * 11):
        with pytest.raises(ValueError, match=f"{len(values)} seeds; expected 1 to 10"):
            statistics.over_seeds(values)


def test_quantiles_are_those_of_student():
    """The density, integrated: 97.5% of it lies below."""
    for freedom, quantile in enumerate(statistics.T_QUANTILES, 1):
        x = np.linspace(0, quantile, 200_001)
        density = (1 + x * x / freedom) ** (-(freedom + 1) / 2)
        density *= math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
        assert 0.5 + np.trapezoid(density, x) == pytest.approx(0.975, abs=2e-6)

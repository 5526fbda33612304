"""Accounting: what is quadratic, fits that are exact, and what explains the published parameters."""

import pytest

from lightavseg_core.profiling import accounting, reported
from lightavseg_core.profiling.accounting import fit_cost, slope
from lightavseg_core.profiling.profiler import macs, skeleton


def test_published_accounting():
    rows = {(row.row.method, row.row.visual): row for row in accounting.published_accounting()}
    assert len(rows) == len(reported.COMPARISON) == 7
    for key, within in ((("avsbench", "resnet50"), 0.06), (("avsegformer", "resnet50"), 0.25), (("selm", "resnet50"), 0.06),
                        (("selm", "seaformer_l"), 0.06)):
        assert abs(rows[key].explained - rows[key].row.parameters) < within, key
    assert [key for key, row in rows.items() if row.explained is None] == [(m, "seaformer_l") for m in ("avsbench", "avsegformer", "lightavseg")]
    assert 20.0e6 < rows["lightavseg", "seaformer_l"].total < 20.5e6
    # One accounting: the audio encoder is in every row, a second copy of two stages in none.
    assert all(row.parts["audio"].total > 70e6 and row.parts["visual"].total < 24e6 for (_, visual), row in rows.items() if visual == "resnet50")


def test_fit_is_exact():
    pixels = [side ** 2 for side in (96, 224, 448, 896, 1344)]
    for c in ((7, 3, 2), (10 ** 9, 12345, 0), (5, 0, 0), (0, 0, 1)):
        assert fit_cost(pixels, [c[0] + c[1] * p + c[2] * p ** 2 for p in pixels]) == c
    noisy = [4.0 + 0.5 * p + 0.25 * p * p + e for p, e in zip((1, 2, 3, 4, 5), (1e-3, -1e-3, 2e-3, 0, -1e-3))]
    assert fit_cost((1, 2, 3, 4, 5), noisy) == pytest.approx((4.0, 0.5, 0.25), abs=1e-2)
    for pixels, cost in (((1, 2), (1, 2)), ((1, 1, 2), (1, 1, 2)), ((1, 2, 3), (1, 2))):
        with pytest.raises(ValueError, match="three different sizes"):
            fit_cost(pixels, cost)
    assert slope((100, 400), (3, 48)) == pytest.approx(2)


def test_what_is_quadratic():
    sides = (224, 448, 672, 896)
    pixels, costs = [side ** 2 for side in sides], [accounting.interaction_cost(side) for side in sides]
    multiplied = {name: [cost[name].total_macs for cost in costs] for name in costs[0]}
    fits = {name: fit_cost(pixels, values) for name, values in multiplied.items()}
    # Two products of N x N x 128, N = pixels / stride^2, at four strides.
    assert fits["TPAVI, published"].c2 == pytest.approx(2 * 128 * sum(stride ** -4 for stride in (4, 8, 16, 32)), rel=1e-12)
    assert slope(pixels[1::2], multiplied["TPAVI, published"][1::2]) == pytest.approx(1.97, abs=0.05)
    for name in ("TPAVI, re-associated", "cross-attention", "RAVE"):
        assert fits[name].c2 == 0 == fit_cost(pixels, [cost[name].total_other for cost in costs]).c2
    assert set(multiplied["RAVE"]) == {4 * 2 * 256 ** 2}, "two matrices on one vector at each of four scales, however large the picture"
    # About 3.2, 45 and 696 GMACs in the authors' code, which also projects the sound again at every pixel.
    assert [round(multiplied["TPAVI, published"][i] / 1e9) for i in (0, 1, 3)] == [3, 45, 694]


def test_whole_models_grow_as_their_interaction_does():
    sides, share = (128, 512, 1024), {}
    models = {order: skeleton("avsbench", preset="tiny", visual="resnet50", order=order) for order in ("published", "associative")}
    for name, model in {**models, "lightavseg": skeleton("lightavseg", preset="tiny", visual="resnet50")}.items():
        cost = [macs(model, side).total_macs for side in sides]
        share[name] = fit_cost([side ** 2 for side in sides], cost).c2 * sides[-1] ** 4 / cost[-1]
    assert share["published"] > 0.1 and share["associative"] == share["lightavseg"] == 0

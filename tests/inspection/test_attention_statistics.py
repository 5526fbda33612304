"""What maps of attention are asked: closed forms, and loops."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from lightavseg_core.inspection.attention_statistics import (
    attention_distance,
    effective_keys,
    effective_rank,
    entropy,
    relative_entropy,
    spatial_variance,
    top_share,
    uniform_distance,
)


@pytest.mark.parametrize("keys", [1, 2, 7, 1000])
def test_uniform_and_one_hot(keys):
    uniform = torch.full((2, 3, keys), 1 / keys)
    one_hot = F.one_hot(torch.arange(6).view(2, 3) % keys, keys).float()
    assert entropy(uniform) == pytest.approx(torch.full((2, 3), math.log(keys)), rel=1e-6)
    assert effective_keys(uniform) == pytest.approx(torch.full((2, 3), float(keys)), rel=1e-5)
    assert top_share(uniform) == pytest.approx(torch.full((2, 3), 1 / keys))
    for statistic, value in ((entropy, 0), (effective_keys, 1), (top_share, 1)):
        assert (statistic(one_hot) == value).all()
    if keys > 1:
        assert relative_entropy(uniform) == pytest.approx(torch.ones(2, 3), abs=1e-6)
        assert (relative_entropy(one_hot) == 0).all()
    else:
        with pytest.raises(ValueError, match="one key, for which relative entropy is 0 / log 1"):
            relative_entropy(uniform)


@pytest.mark.parametrize("p", [0.5, 0.3, 1e-3, 1e-6])
def test_two_points(p):
    weights = torch.tensor([[0.0, p, 0.0, 1 - p]])
    expected = -p * math.log(p) - (1 - p) * math.log1p(-p)
    assert entropy(weights).item() == pytest.approx(expected, abs=1e-6)
    assert relative_entropy(weights).item() == pytest.approx(expected / math.log(4), abs=1e-6)
    assert effective_keys(weights).item() == pytest.approx(math.exp(expected), abs=1e-6)
    assert top_share(weights).item() == pytest.approx(1 - p)


@pytest.mark.parametrize("level", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("gap", [0.0, 1.0, 8.0, 16.0, 100.0, 1000.0])
@pytest.mark.parametrize("keys", [2, 64])
def test_saturated(keys, gap, level):
    """One score above all others by a gap: with z = (K - 1) exp(-gap), H = log(1 + z) + gap z / (1 + z)."""
    scores = torch.full((keys,), level)
    scores[0] += gap
    z = (keys - 1) * math.exp(-gap)
    assert entropy(scores.softmax(-1)).item() == pytest.approx(math.log1p(z) + gap * z / (1 + z), abs=1e-6)


def test_entropy_by_a_loop():
    weights = (3 * torch.randn(2, 3, 5, 9, generator=torch.Generator().manual_seed(0))).softmax(-1)
    for index in torch.ones(2, 3, 5).nonzero().tolist():
        row = weights[(*index,)].tolist()
        expected = -sum(w * math.log(w) for w in row)
        assert entropy(weights)[(*index,)].item() == pytest.approx(expected, abs=1e-5)
        assert effective_keys(weights)[(*index,)].item() == pytest.approx(math.exp(expected), rel=1e-5)
        assert top_share(weights)[(*index,)].item() == max(row)


def test_what_is_no_softmax_is_refused():
    good = torch.rand(4, 5).softmax(-1)
    distance = partial(attention_distance, query_grid=(2, 2), key_grid=(1, 5))
    for bad in (good - 0.3, good * 1.01, good * 0, torch.full((4, 5), math.nan)):
        for statistic in (entropy, relative_entropy, effective_keys, top_share, distance):
            with pytest.raises(ValueError, match="softmax weights expected"):
                statistic(bad)
    entropy(good.bfloat16().softmax(-1))  # rounded sums are let through


def test_distance_by_a_loop():
    def centres(h, w):
        return [((y + 0.5) / max(h, w), (x + 0.5) / max(h, w)) for y in range(h) for x in range(w)]

    generator = torch.Generator().manual_seed(0)
    grids = ((3, 5), (3, 5)), ((4, 4), (2, 2)), ((1, 1), (6, 2)), ((2, 3), ((4, 6), (2, 3)))
    for query_grid, key_grid in grids:
        maps = [key_grid] if isinstance(key_grid[0], int) else key_grid
        queries, keys = centres(*query_grid), [place for grid in maps for place in centres(*grid)]
        apart = [[math.dist(query, key) for key in keys] for query in queries]
        weights = (2 * torch.randn(2, 3, len(queries), len(keys), generator=generator)).softmax(-1)
        found = attention_distance(weights, query_grid, key_grid)
        for n, head in ((0, 0), (1, 2)):
            total = 0
            for row, distances in zip(weights[n, head].tolist(), apart):
                total += sum(weight * distance for weight, distance in zip(row, distances))
            assert found[n, head].item() == pytest.approx(total / len(queries), rel=1e-5)
        expected = sum(map(sum, apart)) / len(keys) / len(queries)
        assert uniform_distance(query_grid, key_grid) == pytest.approx(expected, rel=1e-5)
        uniform = torch.full((len(queries), len(keys)), 1 / len(keys))
        assert attention_distance(uniform, query_grid, key_grid).item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"\(5, 5\) queries .* grids \(2, 2\) and \(2, 2\) have \(4, 4\)"):
        attention_distance(torch.eye(5), (2, 2), (2, 2))


def test_distance_in_closed_form():
    assert attention_distance(torch.eye(12), (3, 4), (3, 4)).item() == 0
    shifted = attention_distance(torch.eye(8).roll(1, 0)[None], (1, 8), (1, 8))
    assert shifted.item() == pytest.approx((7 / 8 + 7 * 1 / 8) / 8)
    assert uniform_distance((1, 1), (1, 1)) == 0 and uniform_distance((1, 2), (1, 2)) == pytest.approx(0.25)
    square = (2 + math.sqrt(2) + 5 * math.asinh(1)) / 15  # of two points drawn from a unit square
    assert uniform_distance((32, 32), (32, 32)) == pytest.approx(square, rel=1e-3)


def test_spatial_variance():
    torch.manual_seed(0)
    a, b, random = torch.randn(5), torch.randn(5), torch.randn(3, 7, 5)
    assert (spatial_variance(a.expand(2, 9, 5) * 1e3) < 1e-14).all()
    assert (spatial_variance(torch.zeros(2, 4, 5)) == 0).all()
    assert spatial_variance(torch.stack([a, -a])[None]).item() == pytest.approx(1)
    expected = (((a - b).square().sum() / 4) / ((a.square().sum() + b.square().sum()) / 2)).item()
    assert spatial_variance(torch.stack([a, b, a, b])[None]).item() == pytest.approx(expected, rel=1e-5)
    for n, found in enumerate(spatial_variance(random)):
        variance = sum(random[n, :, c].var(correction=0).item() for c in range(5))
        assert found.item() == pytest.approx(7 * variance / random[n].square().sum().item(), rel=1e-5)


def test_effective_rank():
    assert effective_rank(torch.diag(torch.tensor([2.0, 2, 2, 0]))).item() == pytest.approx(3)
    assert effective_rank(torch.outer(torch.randn(6), torch.randn(4))).item() == pytest.approx(1, abs=1e-4)
    p, rotation = torch.tensor([0.7, 0.2, 0.1]), torch.linalg.qr(torch.randn(3, 3))[0]
    expected = math.exp(-(p * p.log()).sum())
    assert effective_rank(-5 * rotation @ torch.diag(p)).item() == pytest.approx(expected, rel=1e-5)
    assert effective_rank(torch.zeros(2, 3, 3)).tolist() == [0, 0]

"""Statistics of attention weights: over how many keys they spread, how far they reach, and whether the output
differs between positions."""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# (h, w) of a map whose positions lie row by row; or of several maps, map after map.
Grid = tuple[int, int] | Sequence[tuple[int, int]]


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def softmax_weights(weights: Tensor) -> Tensor:
    """The same weights, at least in float32. Raises ValueError if they are negative or do not sum to 1 over
    the last dimension, within 1e-3."""
    weights = at_least_float32(weights)
    least, off = weights.amin().item(), (weights.sum(-1) - 1).abs().amax().item()
    if not (least >= 0 and off <= 1e-3):
        raise ValueError(
            "softmax weights expected: none negative, and a sum of 1 over the last dimension; found a least "
            f"weight of {least:.3g} and sums that miss 1 by up to {off:.3g}. Signed weights, as TPAVI's, are "
            "no distribution over keys and have no entropy: ask for effective_rank."
        )
    return weights


def entropy(weights: Tensor) -> Tensor:
    """Shannon's entropy -sum_k w_k log w_k in nats, 0 (one key has all the weight) to log K (all are equal).
    weights (..., K) -> (...).

    Raises ValueError for weights that do not come from a softmax.
    """
    return torch.special.entr(softmax_weights(weights)).sum(-1)  # 0 log 0 = 0


def relative_entropy(weights: Tensor) -> Tensor:
    """Entropy in units of its maximum log K, 0 to 1. weights (..., K) -> (...). Not to be confused with the
    Kullback-Leibler divergence.

    Raises ValueError for one key: 0 / log 1 is not defined.
    """
    if weights.shape[-1] == 1:
        raise ValueError("weights has one key, for which relative entropy is 0 / log 1; use entropy, 0.")
    return entropy(weights) / math.log(weights.shape[-1])


def effective_keys(weights: Tensor) -> Tensor:
    """exp(entropy), the distribution's perplexity: the number of equally weighted keys with the same spread.
    1 to K. (..., K) -> (...)."""
    return entropy(weights).exp()


def top_share(weights: Tensor) -> Tensor:
    """The weight of the most attended key, 1 / K to 1. weights (..., K) -> (...)."""
    return softmax_weights(weights).amax(-1)


def positions(grid: Grid) -> Tensor:
    """The centres (y, x) of a grid's positions in units of their map's longer side -> (h * w, 2), map after
    map."""
    maps = [grid] if isinstance(grid[0], int) else grid
    centres = []
    for h, w in maps:
        y, x = torch.arange(h) + 0.5, torch.arange(w) + 0.5
        centres.append(torch.cartesian_prod(y, x) / max(h, w))
    return torch.cat(centres)


def _distances(query_grid: Grid, key_grid: Grid) -> Tensor:
    """(Q, K), in units of the map's longer side."""
    difference = positions(query_grid)[:, None] - positions(key_grid)  # (Q, K, 2)
    return difference.square().sum(-1).sqrt()  # cdist would lose digits


def attention_distance(weights: Tensor, query_grid: Grid, key_grid: Grid) -> Tensor:
    """Mean distance between a query and what it attends to, in units of the map's longer side. weights (...,
    Q, K) -> (...), a mean over queries.

    "Mean attention distance" of Dosovitskiy et al. (ICLR 2021, appendix), there in pixels. On a small map no
    query can look far, so compare with `uniform_distance` of the same grids. Raises ValueError if the grids
    do not have Q and K positions.
    """
    distances = _distances(query_grid, key_grid)
    if weights.shape[-2:] != distances.shape:
        raise ValueError(
            f"weights has {tuple(weights.shape[-2:])} queries and keys, but the grids {query_grid} and "
            f"{key_grid} have {tuple(distances.shape)} positions."
        )
    weights = softmax_weights(weights)
    return (weights * distances.to(weights)).sum(-1).mean(-1)


def uniform_distance(query_grid: Grid, key_grid: Grid) -> float:
    """The attention distance of uniform attention on these grids: about 0.52 on a large square map, less on a
    small one, 0 on a single position."""
    return _distances(query_grid, key_grid).mean(dtype=torch.double).item()


def spatial_variance(output: Tensor) -> Tensor:
    """Variance over positions, in units of the mean square: from 0, the same vector everywhere, to 1, vectors
    with mean zero. (N, Q, C) -> (N,).

    (mean |x_q|^2 - |mean x_q|^2) / mean |x_q|^2; also 0 if all are zero.
    """
    output = output.double()  # a constant's rounding must not look like variance
    centred = output - output.mean(1, keepdim=True)
    square = output.square().sum((1, 2))
    return centred.square().sum((1, 2)) / square.clamp_min(torch.finfo(square.dtype).tiny)


def effective_rank(matrix: Tensor) -> Tensor:
    """exp of the entropy of the singular values, scaled to sum 1 (Roy and Vetterli, EUSIPCO 2007).
    (..., M, N) -> (...).

    1 to min(M, N); 0 for a matrix of zeros. It needs no distribution: it is defined for signed and
    unnormalized weights too, and a factor does not change it.
    """
    values = torch.linalg.svdvals(matrix.double())  # (..., min(M, N))
    total = values.sum(-1, keepdim=True)
    rank = torch.special.entr(values / total.clamp_min(torch.finfo(values.dtype).tiny)).sum(-1).exp()
    return torch.where(total[..., 0] > 0, rank, 0.0)

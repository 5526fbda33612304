"""Counting: every formula against a case by hand, torch's own counter, and whatever is not known by name."""

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny import create, inputs
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lightavseg_core.models.blocks import Attention
from lightavseg_core.profiling.accounting import macs
from lightavseg_core.profiling.flops import FORMULAS, Operations, count

T = torch.empty  # only shapes matter


def zeros(x):
    made = torch.zeros(9), torch.ones(9), torch.empty(9), torch.arange(9)
    return *made, torch.zeros_like(x), torch.empty_like(x)


# A computation, its inputs, and its multiply-accumulates by hand.
MACS = {
    "convolution": (lambda x: F.conv2d(x, T(4, 2, 3, 3), T(4), padding=1), [T(1, 2, 5, 6)], 4 * 2 * 9 * 30),
    "strided": (
        lambda x: F.conv2d(x, T(4, 2, 3, 3), stride=2, padding=1), [T(2, 2, 5, 6)], 2 * 4 * 2 * 9 * 3 * 3
    ),
    "depthwise": (lambda x: F.conv2d(x, T(6, 1, 3, 3), groups=6), [T(1, 6, 5, 5)], 6 * 9 * 9),
    "on a line": (lambda x: F.conv1d(x, T(3, 1, 4), groups=3), [T(1, 3, 8)], 3 * 4 * 5),
    "linear": (nn.Linear(8, 5), [T(7, 8)], 7 * 8 * 5),
    "matrices": (lambda a, b: a @ b, [T(2, 3, 4), T(2, 4, 5)], 2 * 3 * 4 * 5),
    "einsum": (
        lambda q, m: torch.einsum("bqd,bdhw->bqhw", q, m), [T(2, 3, 4), T(2, 4, 5, 6)], 2 * 3 * 4 * 5 * 6
    ),
    "attention": (
        F.scaled_dot_product_attention, [T(2, 3, 5, 8), T(2, 3, 7, 8), T(2, 3, 7, 4)], 2 * 3 * 5 * 7 * (8 + 4)
    ),
}


@pytest.mark.parametrize("name", MACS)
def test_macs_by_hand(name):
    run, given, expected = MACS[name]
    assert count(run, *given).total_macs == expected


# Operator -> a computation, its inputs, and its operations by hand.
OTHER = {
    "relu": (F.relu, [T(2, 3)], 6),
    "add": (lambda a, b: a + b, [T(2, 3, 4), T(3, 1)], 24),  # broadcast: one for each result
    "gelu": (F.gelu, [T(5)], 5),
    "hardtanh": (F.relu6, [T(5)], 5),
    "hardtanh_": (lambda x: F.relu6(x, inplace=True), [T(5)], 5),
    "mean": (lambda x: x.mean(-1), [T(2, 3, 4)], 24),
    "sum": (lambda x: x.sum(), [T(2, 3, 4)], 24),
    "argmax": (lambda x: x.argmax(1), [T(2, 7)], 14),
    "linalg_vector_norm": (lambda x: x.norm(dim=-1), [T(3, 4)], 12 + 12),  # squares, sums
    # Maximum, difference, exponential, sum, quotient.
    "_softmax": (lambda x: x.softmax(-1), [T(2, 3)], 6 * (1 + 1 + 1 + 1 + 1)),
    "native_batch_norm": (nn.BatchNorm2d(3).eval(), [T(2, 3, 4, 5)], 120 * 2),  # scale, shift
    # Mean, variance, normalised, scale and shift.
    "native_layer_norm": (nn.LayerNorm(4), [T(3, 4)], 12 * (1 + 3 + 2 + 2)),
    "native_group_norm": (nn.GroupNorm(2, 4), [T(2, 4, 3, 3)], 72 * 8),
    "max_pool2d_with_indices": (lambda x: F.max_pool2d(x, 3, 2, 1), [T(1, 2, 8, 6)], 2 * 4 * 3 * 9),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, (2, 3)), [T(1, 2, 4, 6)], 2 * 2 * 2 * 6),
    # Five rows to two: windows 0-2 and 2-4, six rows read; seven columns to three: 0-2, 2-4, 4-6, nine read.
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, (2, 3)), [T(1, 2, 5, 7)], 2 * 6 * 9),
    "_adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (2, 2)), [T(1, 2, 4, 6)], 2 * 24),
    "upsample_bilinear2d": (
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), [T(1, 3, 4, 5)], 3 * 8 * 10 * 4
    ),
    "upsample_linear1d": (lambda x: F.interpolate(x, size=9, mode="linear"), [T(1, 3, 4)], 3 * 9 * 2),
    "grid_sampler_2d": (
        lambda x, at: F.grid_sample(x, at, align_corners=False), [T(1, 3, 8, 8), T(1, 5, 6, 2)], 3 * 30 * 4
    ),
    "cat": (lambda a, b: torch.cat([a, b]), [T(2, 3), T(4, 3)], 18),
    "stack": (lambda a, b: torch.stack([a, b]), [T(3), T(3)], 6),
    "repeat": (lambda x: x.repeat(2, 5), [T(2, 3)], 60),
    "clone": (lambda x: x.t().contiguous(), [T(2, 3)], 6),
    "index": (lambda x: x[:, torch.arange(4)], [T(2, 9)], 8),
    "scatter": (lambda x: torch.zeros(2, 6).scatter(1, x.argmax(1, keepdim=True), 1.0), [T(2, 6)], 12),
    "constant_pad_nd": (lambda x: F.pad(x, (1, 2)), [T(2, 3)], 12),
    "copy_": (lambda x: torch.zeros(4).copy_(x), [T(4)], 4),
    "_to_copy": (lambda x: x.double(), [T(4)], 4),
    "rand": (lambda x: torch.rand(x.shape), [T(2, 3)], 6),
    "randn": (lambda x: torch.randn(x.shape), [T(2, 3)], 6),
    "bernoulli_": (lambda x: torch.empty(3).bernoulli_(0.5), [T(1)], 3),
    "view": (lambda x: x.view(6)[1:].unsqueeze(0).expand(4, 5), [T(2, 3)], 0),
    "zeros": (zeros, [T(9)], 0),
    "_unsafe_view": (lambda a, b: torch.ops.aten._unsafe_view(a, [3, 2]), [T(2, 3), T(1)], 0),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_operations_by_hand(name):
    run, given, expected = OTHER[name]
    cost = count(run, *given)
    found = {operator: other for operator, (_, other) in cost.by_operator().items()}
    assert found.get(name.rstrip("_"), 0) == expected and cost.total_macs == 0 and not cost.unknown


def test_every_formula_has_its_case():
    below = {"_safe_softmax", "_scaled_dot_product_flash_attention_for_cpu"}
    in_zeros = {"ones", "empty", "arange", "zeros_like", "empty_like"}
    assert {operator.__name__ for operator in FORMULAS} <= {*OTHER, *below, *in_zeros}


def test_training_normalises_by_what_it_sees():
    found = count(nn.BatchNorm2d(3).train(), T(2, 3, 4, 5)).by_operator()
    assert found["native_batch_norm"] == (0, 120 * (1 + 3 + 2))


def test_an_operator_without_formula_is_named():
    cost = count(lambda x: x.cumsum(0), T(5))
    assert cost.unknown == {"cumsum"} and cost.total_other == 5


def test_fused_attention_on_a_cpu():
    """torch's counter does not see the CPU's kernel.

    By the formula it costs what the same attention costs in matrix products.
    """
    attention, (query, key) = Attention(64), (torch.randn(2, 49, 64), torch.randn(2, 7, 64))
    with torch.no_grad(), FlopCounterMode(display=False) as torchs, Operations() as operations:
        attention(query, key)
    projections, products = 2 * 64 * 64 * (49 + 7 + 7 + 49), 2 * 49 * 7 * (64 + 64)
    assert torchs.get_total_flops() == 2 * projections, "if this fails, torch counts it now: drop the formula"
    cost, shaped = operations.cost, count(attention, query, key)
    softmax = 5 * 8 * 2 * 49 * 7
    assert cost.by_operator()["_scaled_dot_product_flash_attention_for_cpu"] == (products, softmax)
    assert cost.total_macs == shaped.total_macs == projections + products
    assert shaped.by_operator()["_safe_softmax"] == (0, softmax)


def test_as_torch_counts_a_run():
    """No attention is fused in this model: by shapes is counted what torch's counter sees when it runs.

    In inference mode too.
    """
    model, (frames, log_mel) = create(), inputs(1, 2, 64, 96)
    with torch.no_grad(), FlopCounterMode(display=False) as torchs, Operations() as operations:
        model(frames, log_mel)
    with torch.inference_mode():
        cost = macs(model, (64, 96), seconds=2)
    assert 2 * cost.total_macs == torchs.get_total_flops() > 0
    assert cost.by_operator() == operations.cost.by_operator() and not cost.unknown
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks, "nothing is left on the model"

"""Counting: every formula against a case by hand, torch's own counter, and whatever is not known by name."""

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny import create, inputs
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import deform_conv2d

from lightavseg_core.models.blocks import Attention
from lightavseg_core.profiling.accounting import macs
from lightavseg_core.profiling.flops import Operations, count
from lightavseg_core.profiling.formulas import FORMULAS, PRODUCTS

T = torch.empty  # only shapes matter
COMPLEX = torch.complex64


def places(*shape):
    return T(*shape, dtype=torch.long)


def zeros(x):
    made = torch.zeros(9), torch.ones(9), torch.empty(9), torch.arange(9), torch.full((9,), 2.0)
    like = torch.zeros_like(x), torch.empty_like(x), x.new_zeros(9), x.new_empty(9), x.zero_()
    return *made, *like, torch.scalar_tensor(1.0)


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
    "a vector": (lambda a, w: a @ w, [T(5, 7), T(7)], 5 * 7),
    "a vector, clip by clip": (lambda a, w: a @ w, [T(2, 5, 7), T(7)], 2 * 5 * 7),
    "a linear layer of a vector": (nn.Linear(8, 5, bias=False), [T(8)], 8 * 5),
    "addmv": (torch.addmv, [T(5), T(5, 7), T(7)], 5 * 7),
    "addmv_": (lambda b, a, w: b.addmv_(a, w), [T(5), T(5, 7), T(7)], 5 * 7),
    "mv into a tensor": (lambda a, w: torch.mv(a, w, out=T(5)), [T(5, 7), T(7)], 5 * 7),
    "dot": (torch.dot, [T(7), T(7)], 7),
    "vdot": (torch.vdot, [T(7), T(7)], 7),
    "addr": (torch.addr, [T(5, 3), T(5), T(3)], 5 * 3),
    "addmm_": (lambda b, x, y: b.addmm_(x, y), [T(5, 3), T(5, 7), T(7, 3)], 5 * 7 * 3),
    "baddbmm_": (lambda b, x, y: b.baddbmm_(x, y), [T(2, 5, 3), T(2, 5, 7), T(2, 7, 3)], 2 * 5 * 7 * 3),
    "addbmm": (torch.addbmm, [T(5, 3), T(2, 5, 7), T(2, 7, 3)], 2 * 5 * 7 * 3),
    "with relu": (torch._addmm_activation, [T(3), T(5, 7), T(7, 3)], 5 * 7 * 3),
    "integers": (
        torch._int_mm, [T(32, 16, dtype=torch.int8), T(16, 8, dtype=torch.int8)], 32 * 16 * 8
    ),
    # x W y for each of three W (4, 5): first x W, then that by y.
    "bilinear": (nn.Bilinear(4, 5, 3), [T(2, 6, 4), T(2, 6, 5)], 2 * 6 * 3 * (4 * 5 + 5)),
    "bilinear as einsum": (
        lambda x, w, y: torch.einsum("bi,oij,bj->bo", x, w, y),
        [T(2, 4), T(3, 4, 5), T(2, 5)],
        2 * 3 * (4 * 5 + 5),
    ),
    "einsum of vectors": (lambda a, b: torch.einsum("i,i->", a, b), [T(7), T(7)], 7),
    "einsum by rows": (lambda a, b: torch.einsum("bij,bj->bi", a, b), [T(2, 5, 7), T(2, 7)], 2 * 5 * 7),
    "distances": (torch.cdist, [T(2, 40, 7), T(2, 30, 7)], 2 * 40 * 30 * (7 + 2)),
    "in time": (torch.conv_tbc, [T(9, 2, 4), T(3, 4, 5), T(5)], 7 * 2 * 5 * 3 * 4),
    "transposed": (nn.ConvTranspose2d(4, 5, 3), [T(1, 4, 6, 6)], 4 * 5 * 9 * 36),
    # Of each of the four gates, for three steps of two clips.
    "recurrent": (nn.LSTM(4, 5), [T(3, 2, 4)], 3 * 2 * 4 * (4 * 5 + 5 * 5)),
    "attention": (
        F.scaled_dot_product_attention, [T(2, 3, 5, 8), T(2, 3, 7, 8), T(2, 3, 7, 4)], 2 * 3 * 5 * 7 * (8 + 4)
    ),
}


@pytest.mark.parametrize("name", MACS)
def test_macs_by_hand(name):
    run, given, expected = MACS[name]
    cost = count(run, *given)
    assert cost.total_macs == expected and not cost.unknown


def test_every_product_has_its_case():
    counted = {name for run, given, _ in MACS.values() for name in count(run, *given).by_operator()}
    fused = {"_scaled_dot_product_flash_attention_for_cpu"}
    below = {*fused, "_native_multi_head_attention", "_transformer_encoder_layer_fwd"}
    assert {operator.__name__ for operator in PRODUCTS} <= counted | below


# Operator -> a computation, its inputs, and its operations by hand.
OTHER = {
    "relu": (F.relu, [T(2, 3)], 6),
    "add": (lambda a, b: a + b, [T(2, 3, 4), T(3, 1)], 24),  # broadcast: one for each result
    "gelu": (F.gelu, [T(5)], 5),
    "hardtanh": (F.relu6, [T(5)], 5),
    "hardtanh_": (lambda x: F.relu6(x, inplace=True), [T(5)], 5),
    "mean": (lambda x: x.mean(-1), [T(2, 3, 4)], 24),
    "sum": (lambda x: x.sum(), [T(2, 3, 4)], 24),
    "_cdist_forward": (torch.cdist, [T(2, 4, 7), T(2, 3, 7)], 2 * 4 * 3 * 7 * (1 + 1 + 1)),
    # 5 n log2 n of each complex transform, here over both axes; of a real one half.
    "_fft_c2c": (torch.fft.fft2, [T(3, 4, 8, dtype=COMPLEX)], 3 * 5 * 32 * 5),
    "_fft_r2c": (torch.fft.rfft, [T(3, 16)], 3 * 5 * 16 * 4 // 2),
    "_fft_c2r": (torch.fft.irfft, [T(3, 9, dtype=COMPLEX)], 3 * 5 * 16 * 4 // 2),
    "argmax": (lambda x: x.argmax(1), [T(2, 7)], 14),
    "linalg_vector_norm": (lambda x: x.norm(dim=-1), [T(3, 4)], 12 + 12),  # squares, sums
    # Maximum, difference, exponential, sum, quotient.
    "_softmax": (lambda x: x.softmax(-1), [T(2, 3)], 6 * (1 + 1 + 1 + 1 + 1)),
    "_log_softmax": (lambda x: x.log_softmax(-1), [T(2, 3)], 6 * (1 + 1 + 1 + 1 + 1)),
    "leaky_relu": (nn.LeakyReLU(), [T(5)], 5),
    "hardswish": (nn.Hardswish(), [T(5)], 5),
    "_prelu_kernel": (nn.PReLU(), [T(1, 2, 3)], 6),
    "glu": (nn.GLU(), [T(4, 6)], 12 * (1 + 1)),
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
    "upsample_bicubic2d": (
        lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), [T(1, 3, 4, 5)], 3 * 8 * 10 * 16
    ),
    "upsample_nearest1d": (lambda x: F.interpolate(x, scale_factor=2), [T(1, 3, 4)], 24),
    "upsample_nearest2d": (lambda x: F.interpolate(x, scale_factor=2), [T(1, 3, 4, 5)], 3 * 8 * 10),
    "_upsample_nearest_exact2d": (
        lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"), [T(1, 3, 4, 5)], 3 * 8 * 10
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
    "gather": (lambda x, i: x.gather(1, i), [T(2, 9), places(2, 3)], 6),
    "index_select": (lambda x, i: x.index_select(1, i), [T(2, 9), places(3)], 6),
    "index_put": (lambda x, i: x.index_put((i,), x[:3]), [T(9), places(3)], 9),
    "embedding": (lambda i, x: F.embedding(i, x), [places(5), T(7, 3)], 15),
    "roll": (lambda x: x.roll(1), [T(5)], 5),
    "flip": (lambda x: x.flip(0), [T(5)], 5),
    "tril": (torch.tril, [T(3, 3)], 9),
    "triu": (torch.triu, [T(3, 3)], 9),
    "fill_": (lambda x: x.fill_(1), [T(3)], 3),
    "im2col": (lambda x: F.unfold(x, 3), [T(1, 2, 5, 5)], 2 * 9 * 9),
    "pixel_shuffle": (nn.PixelShuffle(2), [T(1, 8, 3, 3)], 72),
    "reflection_pad2d": (nn.ReflectionPad2d(1), [T(1, 2, 4, 4)], 72),
    "replication_pad2d": (nn.ReplicationPad2d(1), [T(1, 2, 4, 4)], 72),
    "rand_like": (torch.rand_like, [T(3)], 3),
    "normal_": (lambda x: torch.empty(3).normal_(), [T(1)], 3),
    "constant_pad_nd": (lambda x: F.pad(x, (1, 2)), [T(2, 3)], 12),
    "copy_": (lambda x: torch.zeros(4).copy_(x), [T(4)], 4),
    "_to_copy": (lambda x: x.double(), [T(4)], 4),
    "rand": (lambda x: torch.rand(x.shape), [T(2, 3)], 6),
    "randn": (lambda x: torch.randn(x.shape), [T(2, 3)], 6),
    "bernoulli_": (lambda x: torch.empty(3).bernoulli_(0.5), [T(1)], 3),
    "view": (lambda x: x.view(6)[1:].unsqueeze(0).expand(4, 5), [T(2, 3)], 0),
    "unsafe_split": (lambda x: x.unsafe_split(2), [T(4)], 0),
    "squeeze_": (lambda x: x.squeeze_(), [T(1, 4)], 0),
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
    in_zeros = {"ones", "empty", "arange", "full", "zero"}
    in_zeros |= {"zeros_like", "empty_like", "new_zeros", "new_empty", "scalar_tensor"}
    cases = {name.rstrip("_") for name in OTHER}
    assert {operator.__name__ for operator in FORMULAS} <= {*cases, *below, *in_zeros}


def test_training_normalises_by_what_it_sees():
    found = count(nn.BatchNorm2d(3).train(), T(2, 3, 4, 5)).by_operator()
    assert found["native_batch_norm"] == (0, 120 * (1 + 3 + 2))


def test_an_operator_without_formula_is_named():
    cost = count(lambda x: x.cumsum(0), T(5))
    assert cost.unknown == {"cumsum"} and cost.total_other == 5


def test_what_is_unknown_is_no_zero_in_silence():
    """Of all that torch has, an operator is known to cost one for each number, has a formula, or is named."""
    given = {
        "linalg_inv_ex": (torch.linalg.inv, [T(4, 4)]),
        "_linalg_svd": (torch.linalg.svd, [T(4, 3)]),
        "linalg_matrix_exp": (torch.linalg.matrix_exp, [T(4, 4)]),
        "linalg_cross": (torch.linalg.cross, [T(4, 3), T(4, 3)]),
        "avg_pool3d": (nn.AvgPool3d(2), [T(1, 2, 4, 4, 4)]),
        "deform_conv2d": (deform_conv2d, [T(1, 4, 6, 6), T(1, 18, 4, 4), T(5, 4, 3, 3)]),
    }
    for name, (run, inputs_) in given.items():
        cost = count(run, *inputs_)
        assert name in cost.unknown and not cost.total_macs


def test_whole_layers_on_a_cpu():
    """Which torch runs at once there: as many as on the meta device, where it runs them step by step."""
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), torch.randn(2, 5, 8)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    for run, given in ((layer, [x]), (attention, [x, x, x])):
        with torch.no_grad(), Operations() as operations:
            run(*given)
        assert operations.cost.total_macs == count(run, *given).total_macs > 0
        assert len(operations.cost.macs) == 1, "at once"


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


@pytest.mark.slow
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


class Asking(nn.Module):
    """What a method of one's own may do: it looks at a number, and takes what a mask marks."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x):
        logits = self.head(x)
        return logits * 2 if logits.max().item() > 1e9 or len(logits[logits > 1e9]) else logits


@pytest.mark.slow
def test_a_method_that_asks_for_numbers_is_counted_too():
    """It is run, on zeros."""
    model = create()
    wanted = macs(model, 64).by_part()
    model.head = Asking(model.head)
    with pytest.raises(RuntimeError):
        count(model.head, T(1, 8, 4, 4))
    found = macs(model, 64).by_part()
    assert {part: products for part, (products, _) in found.items()} == {
        part: products for part, (products, _) in wanted.items()
    }
    assert not next(model.parameters()).is_meta

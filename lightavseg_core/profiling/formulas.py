"""The formulas of torch's operators: multiply-accumulates, and elementary operations of all others."""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


def out_of_place(func: OpOverload) -> OpOverload:
    """`addmm` for `addmm_`, which costs the same but about which torch tells less."""
    name = func._overloadpacket.__name__
    twin = getattr(aten, name[:-1], None) if name.endswith("_") and func.namespace == "aten" else None
    if twin is None:
        return func
    overloads = twin.overloads()
    return getattr(twin, func._overloadname if func._overloadname in overloads else overloads[0])


# --- multiply-accumulates: (arguments, keyword arguments, result) -> how many ---


def product_of(func: OpOverload) -> Callable | None:
    """The formula of an operator that multiplies and accumulates: torch's own, or one of PRODUCTS."""
    operator = out_of_place(func)._overloadpacket
    if operator in flop_registry:
        return partial(_as_torch, flop_registry[operator])
    return PRODUCTS.get(operator)


def _as_torch(formula: Callable, args, kwargs, made) -> int:
    """Two operations of torch's flop counter are one multiply-accumulate."""
    return formula(*args, **kwargs, out_val=made) // 2


def of(i: int) -> Callable:
    """One for each element of the i-th argument: a product with a vector."""
    return lambda args, kwargs, made: args[i].numel()


def columns(i: int) -> Callable:
    """The i-th argument's elements, each times the result's columns: a product with a matrix."""
    return lambda args, kwargs, made: args[i].numel() * made.shape[-1]


def conv_tbc(args, kwargs, made) -> int:
    """A convolution in time, (T, B, C), with a weight (width, C, channels of the result)."""
    return made.numel() * args[1].shape[:2].numel()


def euclidean_dist(args, kwargs, made) -> int:
    """|a - b|^2 as a product: (..., P, C) and (..., R, C), each with two more columns."""
    return made.numel() * (args[0].shape[-1] + 2)


def trilinear(args, kwargs, made) -> int:
    """sum a b c over some dimensions, as torch computes it: first a b, summed where c is one number, then c.

    So nn.Bilinear takes I J + J operations for each of its results.
    """
    shapes, summed = [list(tensor.shape) for tensor in args[:3]], args[6]
    for shape, expanded in zip(shapes, args[3:6]):
        for place in sorted(expanded):
            shape.insert(place, 1)
    a, b, c = shapes
    first = [max(sizes) for sizes in zip(a, b)]
    left = [1 if place in summed and place in args[5] else size for place, size in enumerate(first)]
    return math.prod(first) + math.prod(max(sizes) for sizes in zip(left, c))


def attention(args, kwargs, made) -> int:
    """query, key, value (B, heads, Q or K, C): Q K C_qk for the scores, Q K C_v for the values."""
    query, key, value = args[:3]
    return query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def self_attention(args, kwargs, made) -> int:
    """(B, N, C): four projections, scores and values."""
    query, key = args[:2]
    n, channels = query.shape[:-1].numel(), query.shape[-1]
    return 4 * n * channels**2 + 2 * n * key.shape[-2] * channels


def encoder_layer(args, kwargs, made) -> int:
    """Self-attention, and two linear layers."""
    source, first, second = args[0], args[14], args[16]
    linear = source.shape[:-1].numel() * (first.numel() + second.numel())
    return self_attention((source, source), {}, made) + linear


# The processor's kernel, which torch's counter does not see.
FUSED_ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu
PRODUCTS: dict[object, Callable] = {
    **dict.fromkeys((aten.mv, aten.dot, aten.vdot), of(0)),
    aten.addmv: of(1),
    aten.addr: lambda args, kwargs, made: made.numel(),
    **dict.fromkeys((aten.addbmm, aten._addmm_activation), columns(1)),
    aten._int_mm: columns(0),
    aten.conv_tbc: conv_tbc,
    aten._euclidean_dist: euclidean_dist,
    aten._trilinear: trilinear,
    FUSED_ATTENTION: attention,
    aten._native_multi_head_attention: self_attention,
    aten._transformer_encoder_layer_fwd: encoder_layer,
}


# --- all else: (arguments, result) -> elementary operations ---
# What torch calls pointwise is one operation per element of the result, and a reduction one per element that
# it reads; the others are here.


def each(operations: int) -> Callable:
    """`operations` per element of the result."""
    return lambda args, made: operations * made.numel()


def read(operations: int) -> Callable:
    """`operations` per element of the first argument: sums, means, maxima."""
    return lambda args, made: operations * args[0].numel()


def distance(args, made) -> int:
    """For each pair: difference, power and sum over their C numbers."""
    return 3 * args[0].shape[-1] * made.numel()


def fourier(args, made) -> int:
    """The FFT of Cooley and Tukey: 5 N log2 N for N complex numbers, half of that if one side is real."""
    whole = max(args[0], made, key=Tensor.numel)
    n = math.prod(whole.shape[place] for place in args[1])
    full = args[0].is_complex() and made.is_complex()
    return round((5 if full else 2.5) * whole.numel() * math.log2(n))


def window(args, made) -> int:
    """Pooling: each result reads kernel height x kernel width elements (a single number means square)."""
    kernel = args[1]
    return kernel[0] * kernel[-1] * made.numel()


def adaptive(args, made) -> int:
    """Pooling to a given size: window i of n over a length L goes from floor(i L / n) to ceil((i + 1) L / n).

    So windows may overlap.
    """
    read = made.shape[:-2].numel()
    for length, n in zip(args[0].shape[-2:], made.shape[-2:]):
        read *= sum(math.ceil((i + 1) * length / n) - i * length // n for i in range(n))
    return read


def batch_norm(args, made) -> int:
    """In evaluation a scale and a shift; in training also the mean and the variance, as in a layer norm."""
    training = args[5]
    return (6 if training else 2) * made.numel()


def attention_softmax(args, made) -> int:
    """The softmax inside fused attention, over scores (B, heads, Q, K)."""
    query, key = args[:2]
    return 5 * query.shape[:-1].numel() * key.shape[-2]


_VIEWS = (aten._unsafe_view, aten.unsafe_split)
_CONSTANTS = (
    aten.empty, aten.empty_like, aten.new_empty, aten.zeros, aten.zeros_like, aten.new_zeros, aten.zero,
    aten.ones, aten.full, aten.arange, aten.scalar_tensor,
)
_COPIES = (
    aten.cat, aten.stack, aten.repeat, aten.scatter, aten.copy, aten._to_copy, aten.fill, aten.gather,
    aten.index, aten.index_select, aten.index_put, aten.embedding, aten.roll, aten.flip, aten.tril, aten.triu,
    aten.constant_pad_nd, aten.reflection_pad2d, aten.replication_pad2d, aten.im2col, aten.pixel_shuffle,
    aten.upsample_nearest1d, aten.upsample_nearest2d, aten._upsample_nearest_exact2d, aten.rand, aten.randn,
    aten.rand_like, aten.bernoulli, aten.normal,
)
FORMULAS: dict[object, Callable] = {
    # Maximum, difference, exponential, sum, quotient (or difference, of logarithms).
    **dict.fromkeys((aten._softmax, aten._safe_softmax, aten._log_softmax), each(5)),
    FUSED_ATTENTION: attention_softmax,
    aten.native_batch_norm: batch_norm,
    # Mean, variance (difference, square, sum), difference, quotient, scale, shift.
    **dict.fromkeys((aten.native_layer_norm, aten.native_group_norm), each(8)),
    aten.linalg_vector_norm: read(2),  # square, sum
    aten._cdist_forward: distance,
    **dict.fromkeys((aten._fft_c2c, aten._fft_r2c, aten._fft_c2r), fourier),
    **dict.fromkeys((aten.max_pool2d_with_indices, aten.avg_pool2d), window),
    **dict.fromkeys((aten.adaptive_max_pool2d, aten._adaptive_avg_pool2d), adaptive),
    aten.upsample_linear1d: each(2),  # the two neighbours on a line
    **dict.fromkeys((aten.upsample_bilinear2d, aten.grid_sampler_2d), each(4)),  # the corners around a place
    aten.upsample_bicubic2d: each(16),
    # Element-wise, which torch does not say of them.
    **dict.fromkeys((aten.leaky_relu, aten.hardswish, aten._prelu_kernel), each(1)),
    aten.glu: each(2),  # sigmoid, product
    **dict.fromkeys(_COPIES, each(1)),
    # No arithmetic: another view of the same numbers, and constants.
    **dict.fromkeys((*_VIEWS, *_CONSTANTS), each(0)),
}

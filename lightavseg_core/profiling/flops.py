"""What a computation costs, operation by operation: multiply-accumulates, and by formula whatever else touches numbers.

Counting runs on torch's meta device, where a tensor has a shape and no numbers: an image of 896 pixels takes no memory and no time.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


class Cost(NamedTuple):
    """Counts by (part, operator), in two columns that are not to be added up."""

    macs: Counter        # multiply-accumulates of convolutions, linear layers, matrix products and attention; adding a bias is not counted
    other: Counter       # elementary operations of all else: additions, comparisons, exponentials; a copy is one per element. See FORMULAS
    unknown: set[str]    # operators without a formula, taken for one operation per element that they make

    @property
    def total_macs(self) -> int:
        return self.macs.total()

    @property
    def total_other(self) -> int:
        return self.other.total()

    def by_part(self) -> dict[str, tuple[int, int]]:
        """part -> (multiply-accumulates, other operations)."""
        return self._by(0)

    def by_operator(self) -> dict[str, tuple[int, int]]:
        """torch's name of the operator -> (multiply-accumulates, other operations)."""
        return self._by(1)

    def _by(self, place: int) -> dict[str, tuple[int, int]]:
        table = {}
        for column, counts in enumerate((self.macs, self.other)):
            for key, count in counts.items():
                table.setdefault(key[place], [0, 0])[column] += count
        return {name: tuple(row) for name, row in table.items()}


# --- the formulas: (arguments, result) -> elementary operations ---
# What torch calls pointwise is one operation per element of the result, and a reduction one per element that it reads; the others are here.


def each(operations: int) -> Callable:
    """So many per element of the result."""
    return lambda args, made: operations * made.numel()


def read(operations: int) -> Callable:
    """So many per element of the first argument: sums, means, maxima."""
    return lambda args, made: operations * args[0].numel()


def window(args, made) -> int:
    """Pooling: every result looks at kernel height x kernel width elements (a kernel of one number is square)."""
    kernel = args[1]
    return kernel[0] * kernel[-1] * made.numel()


def adaptive(args, made) -> int:
    """Pooling to a given size: window i of n over a length L goes from floor(i L / n) to ceil((i + 1) L / n), so windows may overlap."""
    lengths = [sum(math.ceil((i + 1) * L / n) - i * L // n for i in range(n)) for L, n in zip(args[0].shape[-2:], made.shape[-2:])]
    return made.shape[:-2].numel() * math.prod(lengths)


def batch_norm(args, made) -> int:
    """In evaluation a scale and a shift; in training the mean (1) and the variance (difference, square, sum) before them."""
    training = args[5]
    return (6 if training else 2) * made.numel()


def attention_softmax(args, made) -> int:
    """The softmax inside fused attention, over scores (B, heads, Q, K)."""
    query, key = args[:2]
    return 5 * query.shape[:-1].numel() * key.shape[-2]


FORMULAS: dict[object, Callable] = {
    **dict.fromkeys((aten._softmax, aten._safe_softmax), each(5)),                      # maximum, difference, exponential, sum, quotient
    aten._scaled_dot_product_flash_attention_for_cpu: attention_softmax,
    aten.native_batch_norm: batch_norm,
    # Mean, variance (difference, square, sum), difference, quotient, scale, shift.
    **dict.fromkeys((aten.native_layer_norm, aten.native_group_norm), each(8)),
    aten.linalg_vector_norm: read(2),                                                   # square, sum
    **dict.fromkeys((aten.max_pool2d_with_indices, aten.avg_pool2d), window),
    **dict.fromkeys((aten.adaptive_max_pool2d, aten._adaptive_avg_pool2d), adaptive),
    aten.upsample_linear1d: each(2),                                                    # the two neighbours on a line
    **dict.fromkeys((aten.upsample_bilinear2d, aten.grid_sampler_2d), each(4)),         # the four corners around a place
    aten.hardtanh_: each(1),                                                            # element-wise, which torch does not say of it
    **dict.fromkeys((aten.cat, aten.stack, aten.repeat, aten.scatter, aten.index, aten.copy_, aten._to_copy, aten.constant_pad_nd), each(1)),
    **dict.fromkeys((aten.rand, aten.randn, aten.bernoulli_), each(1)),
    # No arithmetic: another view of the same numbers, and constants.
    **dict.fromkeys((aten._unsafe_view, aten.empty, aten.empty_like, aten.zeros, aten.zeros_like, aten.ones, aten.arange), each(0)),
}


def fused_attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Multiply-accumulates of attention in one kernel: scores B heads Q K C_qk, then their product with the values B heads Q K C_v."""
    return query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


class Operations(TorchDispatchMode):
    """Counts what runs inside it, for whichever part is on top of `parts`."""

    def __init__(self, part: str = "all"):
        super().__init__()
        self.cost = Cost(Counter(), Counter(), set())
        self.parts = [part]

    def enter(self, part: str, module: nn.Module, inputs: tuple) -> None:
        self.parts.append(part)

    def leave(self, module: nn.Module, inputs: tuple, output: object) -> None:
        self.parts.pop()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        operator, key = func._overloadpacket, (self.parts[-1], func._overloadpacket.__name__.rstrip("_"))    # in place or not
        made = next((x for x in (result if isinstance(result, (tuple, list)) else [result]) if isinstance(x, Tensor)), None)
        if operator in flop_registry:                                     # torch's flop counter; two of its operations are one MAC
            self.cost.macs[key] += flop_registry[operator](*args, **kwargs, out_val=result) // 2
            return result
        if operator is aten._scaled_dot_product_flash_attention_for_cpu:  # which it does not see
            self.cost.macs[key] += fused_attention(*args[:3])
        if made is None or func.is_view:
            return result
        if operator in FORMULAS:
            found = FORMULAS[operator](args, made)
        elif torch.Tag.reduction in func.tags:
            found = read(1)(args, made)
        else:
            found = made.numel()
            if torch.Tag.pointwise not in func.tags:
                self.cost.unknown.add(operator.__name__)
        if found:
            self.cost.other[key] += found
        return result


def owner(name: str, parts: Mapping[str, str]) -> str:
    """Whose a submodule or parameter is: of the part named for it, or for the nearest module around it; parts[""] is the rest."""
    while name and name not in parts:
        name = name.rpartition(".")[0]
    return parts.get(name, "all")


def count(run: nn.Module | Callable, *inputs: Tensor, parts: Mapping[str, str] | None = None) -> Cost:
    """Counts run(*inputs) without computing it: of the module's tensors and of the inputs, wherever they are, only the shapes matter.

    parts: names of submodules -> whose their operations are, "" for the rest. A module is counted in the mode that it is in: call `eval()`
    where inference is meant. Raises what the module raises where it needs numbers (`item()`, masks as indices).
    """
    parts = parts or {}
    operations, handles = Operations(owner("", parts)), []
    # Not in inference mode, where torch would report whole layers; without autograd, which would copy.
    with torch.inference_mode(False), torch.no_grad():
        inputs = [x.to("meta") for x in inputs]
        if not isinstance(run, nn.Module):
            with torch.device("meta"), operations:
                run(*inputs)
            return operations.cost
        tensors = {name: x.to("meta") for name, x in (*run.named_parameters(), *run.named_buffers())}
        for name, module in run.named_modules():
            part = owner(name, parts)
            handles += [module.register_forward_pre_hook(partial(operations.enter, part)), module.register_forward_hook(operations.leave)]
        try:
            with operations:
                torch.func.functional_call(run, tensors, tuple(inputs))
        finally:
            for handle in handles:
                handle.remove()
    return operations.cost

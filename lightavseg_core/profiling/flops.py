"""What a computation costs, operation by operation: multiply-accumulates, and by formula all else.

Counting runs on torch's meta device, where a tensor has a shape and no numbers: an image of 896 pixels takes
no memory and no time.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


class Cost(NamedTuple):
    """Counts by (part, operator), in two columns that are not to be added up."""

    # Multiply-accumulates of convolutions, linear layers, matrix products and attention; adding a bias is not
    # counted.
    macs: Counter
    # Elementary operations of all else: additions, comparisons, exponentials; a copy is one per element. See
    # FORMULAS.
    other: Counter
    unknown: set[str]  # operators without a formula, taken for one operation per element that they make

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
        macs, other = Counter(), Counter()
        for column, counts in ((macs, self.macs), (other, self.other)):
            for key, count in counts.items():
                column[key[place]] += count
        return {name: (macs[name], other[name]) for name in {**macs, **other}}


# --- the formulas: (arguments, result) -> elementary operations ---
# What torch calls pointwise is one operation per element of the result, and a reduction one per element that
# it reads; the others are here.


def each(operations: int) -> Callable:
    """So many per element of the result."""
    return lambda args, made: operations * made.numel()


def read(operations: int) -> Callable:
    """So many per element of the first argument: sums, means, maxima."""
    return lambda args, made: operations * args[0].numel()


def window(args, made) -> int:
    """Pooling: a result looks at kernel height x kernel width elements (a kernel of one number is square)."""
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
    """In evaluation a scale and a shift; in training also the mean, and the variance as in a layer norm."""
    training = args[5]
    return (6 if training else 2) * made.numel()


def attention_softmax(args, made) -> int:
    """The softmax inside fused attention, over scores (B, heads, Q, K)."""
    query, key = args[:2]
    return 5 * query.shape[:-1].numel() * key.shape[-2]


FUSED_ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu
FORMULAS: dict[object, Callable] = {
    # Maximum, difference, exponential, sum, quotient.
    **dict.fromkeys((aten._softmax, aten._safe_softmax), each(5)),
    FUSED_ATTENTION: attention_softmax,
    aten.native_batch_norm: batch_norm,
    # Mean, variance (difference, square, sum), difference, quotient, scale, shift.
    **dict.fromkeys((aten.native_layer_norm, aten.native_group_norm), each(8)),
    aten.linalg_vector_norm: read(2),  # square, sum
    **dict.fromkeys((aten.max_pool2d_with_indices, aten.avg_pool2d), window),
    **dict.fromkeys((aten.adaptive_max_pool2d, aten._adaptive_avg_pool2d), adaptive),
    aten.upsample_linear1d: each(2),  # the two neighbours on a line
    **dict.fromkeys((aten.upsample_bilinear2d, aten.grid_sampler_2d), each(4)),  # the corners around a place
    aten.hardtanh_: each(1),  # element-wise, which torch does not say of it
    **dict.fromkeys((aten.cat, aten.stack, aten.repeat, aten.scatter, aten.index, aten.copy_), each(1)),
    **dict.fromkeys((aten._to_copy, aten.constant_pad_nd, aten.rand, aten.randn, aten.bernoulli_), each(1)),
    # No arithmetic: another view of the same numbers, and constants.
    **dict.fromkeys((aten._unsafe_view, aten.empty, aten.empty_like, aten.ones, aten.arange), each(0)),
    **dict.fromkeys((aten.zeros, aten.zeros_like), each(0)),
}


def multiplied(operator: object, args: tuple, kwargs: dict, result: object) -> int:
    """Multiply-accumulates of a call, as torch's flop counter counts them: two of its operations are one."""
    if operator in flop_registry:
        return flop_registry[operator](*args, **kwargs, out_val=result) // 2
    if operator is FUSED_ATTENTION:  # which it does not see
        query, key, value = args[:3]  # (B, heads, Q or K, C): Q K C_qk for the scores, Q K C_v for the values
        return query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    return 0


class Operations(TorchDispatchMode):
    """Counts what runs inside it, for whichever part is on top of `parts`."""

    def __init__(self, part: str = "all"):
        super().__init__()
        self.cost = Cost(Counter(), Counter(), set())
        self.parts = [part]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        operator = func._overloadpacket
        key = self.parts[-1], operator.__name__.rstrip("_")  # in place or not
        if macs := multiplied(operator, args, kwargs, result):
            self.cost.macs[key] += macs
        made = next((x for x in tree_leaves(result) if isinstance(x, Tensor)), None)
        if made is None or func.is_view or operator in flop_registry:
            return result
        formula = FORMULAS.get(operator) or (read(1) if torch.Tag.reduction in func.tags else each(1))
        if operations := formula(args, made):
            self.cost.other[key] += operations
        if operator not in FORMULAS and not {torch.Tag.reduction, torch.Tag.pointwise} & set(func.tags):
            self.cost.unknown.add(operator.__name__)
        return result


# --- by part ---


def owner(name: str, parts: Mapping[str, str]) -> str:
    """Whose a submodule or parameter is: of the part named for it, or for the nearest module around it.

    parts[""] is the rest.
    """
    while name and name not in parts:
        name = name.rpartition(".")[0]
    return parts.get(name, "all")


@contextmanager
def hooked(modules: Mapping[nn.Module, Any], enter: Callable, leave: Callable) -> Iterator[None]:
    """Calls enter(what is said of it) before each of the modules runs, and leave() afterwards."""

    def before(said: Any, module: nn.Module, inputs: tuple) -> None:
        enter(said)

    def after(module: nn.Module, inputs: tuple, output: object) -> None:
        leave()

    handles = []
    try:
        for module, said in modules.items():
            handles.append(module.register_forward_pre_hook(partial(before, said)))
            handles.append(module.register_forward_hook(after))
        yield
    finally:
        for handle in handles:
            handle.remove()


def refuse_training(model: nn.Module) -> None:
    """Raises ValueError for a model in training."""
    if model.training:
        raise ValueError(
            "the model is in training mode, in which it also makes what its losses need; "
            "call model.eval() first."
        )


def count(run: nn.Module | Callable, *inputs: Tensor, parts: Mapping[str, str] | None = None) -> Cost:
    """Counts run(*inputs) without computing it: of the module's tensors and the inputs, only shapes matter.

    parts: names of submodules -> whose their operations are, "" for the rest. A module is counted in the mode
    that it is in: call `eval()` where inference is meant. Raises what the module raises where it needs
    numbers (`item()`, masks as indices).
    """
    parts = parts or {}
    operations = Operations(owner("", parts))
    # Not in inference mode, where torch would report whole layers; without autograd, which would copy.
    with torch.inference_mode(False), torch.no_grad():
        inputs = tuple(x.to("meta") for x in inputs)
        if not isinstance(run, nn.Module):
            with torch.device("meta"), operations:
                run(*inputs)
            return operations.cost
        tensors = {name: x.to("meta") for name, x in (*run.named_parameters(), *run.named_buffers())}
        owners = {module: owner(name, parts) for name, module in run.named_modules()}
        with hooked(owners, operations.parts.append, operations.parts.pop), operations:
            torch.func.functional_call(run, tensors, inputs)
    return operations.cost

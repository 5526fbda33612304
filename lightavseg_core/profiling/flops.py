"""What a computation costs, operation by operation: multiply-accumulates, and, by formula, everything else.

Counting runs on torch's meta device, where a tensor has a shape but no values: an image of 896 pixels takes
no memory and no time.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .formulas import FORMULAS, each, out_of_place, product_of, read


class Cost(NamedTuple):
    """Counts by (part, operator), in two columns that must not be added."""

    # Multiply-accumulates of convolutions, linear layers, matrix products and attention; adding a bias is not
    # counted.
    macs: Counter
    # Elementary operations of all else: additions, comparisons, exponentials; a copy is one per element. See
    # FORMULAS.
    other: Counter
    # Operators without a formula, by torch's names: taken for one operation per element that they make, and
    # for no multiplication. What else they do is missing in both sums.
    unknown: set[str]

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


class Operations(TorchDispatchMode):
    """Counts what runs inside it, for the part on top of `parts`."""

    def __init__(self, part: str = "all"):
        super().__init__()
        self.cost = Cost(Counter(), Counter(), set())
        self.parts = [part]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        func = out_of_place(func)
        made = next((x for x in tree_leaves(result) if isinstance(x, Tensor)), None)
        if made is None or func.is_view:
            return result
        name, product = func._overloadpacket.__name__, product_of(func)
        key = self.parts[-1], name
        if product:
            self.cost.macs[key] += product(args, kwargs, result)
        formula = FORMULAS.get(func._overloadpacket)
        if formula is None and product is None:
            formula = read(1) if torch.Tag.reduction in func.tags else each(1)
            if not {torch.Tag.reduction, torch.Tag.pointwise} & set(func.tags):
                self.cost.unknown.add(name)
        if formula and (operations := formula(args, made)):
            self.cost.other[key] += operations
        return result


# --- by part ---


def owner(name: str, parts: Mapping[str, str]) -> str:
    """The part of a submodule or parameter: its own, or that of the nearest module around it.

    parts[""] is the rest.
    """
    while name and name not in parts:
        name = name.rpartition(".")[0]
    return parts.get(name, "all")


@contextmanager
def hooked(modules: Mapping[nn.Module, Any], enter: Callable, leave: Callable) -> Iterator[None]:
    """Calls enter(value) with a module's value before the module runs, and leave() afterwards."""

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
            "the model is in training mode, where it also computes what its losses need; "
            "call model.eval() first."
        )


def count(
    run: nn.Module | Callable, *inputs: Tensor, parts: Mapping[str, str] | None = None, numbers: bool = False
) -> Cost:
    """Counts run(*inputs) without computing it: only the shapes of the module's tensors and inputs matter.

    parts: names of submodules -> the part their operations belong to, "" for the rest. A module is counted in
    its current mode: call `eval()` for inference. Raises what the module raises if it needs values
    (`item()`, masks as indices). numbers: provides values, so the module is computed after all.
    """
    parts = parts or {}
    operations = Operations(owner("", parts))
    # Not in inference mode, where torch would report whole layers; without autograd, which would copy.
    with torch.inference_mode(False), torch.no_grad():
        if not numbers:
            inputs = tuple(x.to("meta") for x in inputs)
        if not isinstance(run, nn.Module):
            with torch.device(inputs[0].device if inputs else "meta"), operations:
                run(*inputs)
            return operations.cost
        tensors = {}
        if not numbers:
            tensors = {name: x.to("meta") for name, x in (*run.named_parameters(), *run.named_buffers())}
        owners = {module: owner(name, parts) for name, module in run.named_modules()}
        with hooked(owners, operations.parts.append, operations.parts.pop), operations:
            torch.func.functional_call(run, tensors, inputs)
    return operations.cost

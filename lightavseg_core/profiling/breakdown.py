"""Where the time goes: part by part of a model, by hooks, and operator by operator, by kind.

Both time an eager model (a compiled one has neither parts nor operators), and both tell how well the pieces
add up to the model's latency without hooks.
"""
from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..deploy.eager import Precision, autocast
from ..models.base import AVSModel
from .flops import hooked, owner, refuse_training
from .formulas import aten, out_of_place, product_of
from .timing import Clock, Interval, Timing, clock, latency, ratio

MAIN = ("visual", "audio", "RAVE", "CMFD", "fusion", "decoder", "head")


def latency_parts(model: AVSModel) -> dict[str, str]:
    """Submodule -> the part its time belongs to: the encoders, a place of fusion, or the rest.

    The rest is "decoder", and "head" for LightAVSeg, as in its paper: visual, audio, RAVE, CMFD, head.
    """
    rest = "head" if model.config.method == "lightavseg" else "decoder"
    named = {"rave": "RAVE", "cmfd": "CMFD"}
    fusion = {name: named.get(name, name) for name in model.fusion}
    return {"": rest, "visual": "visual", "audio": "audio", **fusion}


def main_parts(shares: Mapping[str, float]) -> dict[str, float]:
    """Shares by part, with all places of fusion joined as "fusion", since only one method has each.

    So one table or picture can show several methods.
    """
    grouped = Counter()
    for part, share in shares.items():
        grouped[part if part in MAIN else "fusion"] += share
    return {part: grouped[part] for part in MAIN if part in grouped}


def _runnable(
    model: nn.Module, frames: Tensor, log_mel: Tensor, precision: Precision = "fp32"
) -> Callable[[], object]:
    refuse_training(model)

    def run() -> object:
        with autocast(frames.device, precision):
            return model(frames, log_mel)

    return run


# --- by part ---


class Stopwatch:
    """Assigns each time between two hooks to the part on top of the stack.

    Times are exclusive and complete.
    """

    def __init__(self, timer: Clock):
        self.timer, self.stack, self.marks = timer, [], []

    def enter(self, part: str) -> None:
        self.marks.append((self.stack[-1] if self.stack else part, self.timer.stamp()))
        self.stack.append(part)

    def leave(self) -> None:
        self.marks.append((self.stack.pop(), self.timer.stamp()))

    def totals(self) -> dict[str, float]:
        """Part -> milliseconds. The stamps are read here, at the end: on a GPU a hook must not wait."""
        self.timer.wait()
        table = Counter()
        for (_, start), (part, end) in pairwise(self.marks):
            table[part] += self.timer.milliseconds(start, end)
        return dict(table)


def boundaries(model: nn.Module, parts: Mapping[str, str], run: Callable[[], object]) -> dict[nn.Module, str]:
    """The modules, with their parts, at which `run` passes from one part to another.

    Only these need a time stamp.
    """
    stack, found = [], {}

    def enter(said: tuple[nn.Module, str]) -> None:
        module, part = said
        if not stack or stack[-1] != part:
            found[module] = part
        stack.append(part)

    owners = {module: (module, owner(name, parts)) for name, module in model.named_modules()}
    with hooked(owners, enter, stack.pop):
        run()
    return found


class PartLatency(NamedTuple):
    """The latency of a model, and of its parts, measured in turns with it."""

    whole: Timing  # without hooks
    parts: dict[str, Timing]  # exclusive

    @property
    def shares(self) -> dict[str, float]:
        total = sum(timing.median for timing in self.parts.values())
        return {part: timing.median / total for part, timing in self.parts.items()}

    @property
    def agreement(self) -> Interval:
        """The sum of the parts over the whole, round by round: above 1 by the cost of the hooks."""
        sums = [sum(rounds) for rounds in zip(*(timing.rounds for timing in self.parts.values()))]
        return ratio(Timing(sums, self.whole.threads), self.whole)


def module_latency(
    model: nn.Module,
    frames: Tensor,
    log_mel: Tensor,
    repeats: int = 30,
    warmup: int = 3,
    *,
    parts: Mapping[str, str] | None = None,
    precision: Precision = "fp32",
) -> PartLatency:
    """The time of a forward pass by part, on the inputs' device, of the model as given (see `eager.place`).

    parts: names of submodules -> the part their time belongs to, "" for the rest; by default `latency_parts`.
    Parts are in the order in which they begin. Raises ValueError for a model in training.
    """
    run = _runnable(model, frames, log_mel, precision)
    with torch.inference_mode():
        modules = boundaries(model, parts or latency_parts(model), run)
    timer, totals = clock(frames.device), []

    def with_hooks() -> None:
        watch = Stopwatch(timer)
        with hooked(modules, watch.enter, watch.leave):
            run()
        totals.append(watch.totals())

    whole = latency({"whole": run, "parts": with_hooks}, repeats, warmup, frames.device.type)["whole"]
    table = {}
    for part in dict.fromkeys(modules.values()):
        if part in totals[-1]:
            table[part] = Timing([total[part] for total in totals[warmup:]], whole.threads)
    return PartLatency(whole, table)


# --- by kind of operation ---

KINDS = (
    "dense 1x1",
    "dense k x k",
    "depthwise",
    "matrix product",
    "norm, element-wise",
    "pooling",
    "resizing",
    "copies",
    "other",
)
_COPIES = (
    "cat", "stack", "clone", "copy", "_to_copy", "repeat", "index", "constant_pad_nd",
    "fill", "zeros", "ones", "empty", "arange", "full",
)


def kind_of(func: torch._ops.OpOverload, args: tuple) -> str:
    """The kind of a torch operator, one of KINDS."""
    func = out_of_place(func)
    name = func._overloadpacket.__name__
    if name in ("convolution", "_convolution"):
        weight, groups = args[1], args[8]
        if groups > 1 and weight.shape[1] == 1:
            return "depthwise"
        return "dense 1x1" if weight.shape[2:].numel() == 1 else "dense k x k"
    if product_of(func):
        return "matrix product"
    if "pool" in name or torch.Tag.reduction in func.tags:
        return "pooling"
    if "upsample" in name or "grid_sampler" in name:
        return "resizing"
    if "norm" in name or "softmax" in name or torch.Tag.pointwise in func.tags:
        return "norm, element-wise"
    return "copies" if name.startswith(_COPIES) else "other"


class Operator(NamedTuple):
    """One call of one operator in a forward pass."""

    kind: str
    name: str
    macs: int
    bytes: int  # of the tensors that it reads and writes, each once, as if nothing stayed in a cache
    milliseconds: float  # median over the rounds

    @property
    def intensity(self) -> float:
        """Operations per byte, two for a multiply-accumulate."""
        return 2 * self.macs / max(self.bytes, 1)

    @property
    def gflops(self) -> float:
        return 2 * self.macs / self.milliseconds / 1e6


class _Operators(TorchDispatchMode):
    """Takes a time stamp around each operator; its own work is not timed."""

    def __init__(self, timer: Clock):
        super().__init__()
        self.timer, self.calls = timer, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        start = self.timer.stamp()
        result = func(*args, **kwargs)
        end = self.timer.stamp()
        if func.is_view or func is aten._unsafe_view.default:  # no work
            return result
        product = product_of(func)
        macs = product(args, kwargs, result) if product else 0
        moved = sum(x.nbytes for x in tree_leaves((args, result)) if isinstance(x, Tensor))
        name = func._overloadpacket.__name__
        self.calls.append((Operator(kind_of(func, args), name, macs, moved, 0.0), start, end))
        return result


class Kind(NamedTuple):
    """All operators of one kind together, with their shares of the total."""

    kind: str
    calls: int
    macs: int
    bytes: int
    milliseconds: float
    share_of_macs: float
    share_of_time: float


class KindLatency(NamedTuple):
    whole: Timing  # of the model, when nobody looks
    operators: list[Operator]  # in the order in which they run

    @property
    def kinds(self) -> list[Kind]:
        """The kinds, slowest first. Where the shares of MACs and of time are far apart, counting misleads."""
        all_macs = max(sum(op.macs for op in self.operators), 1)
        all_time = sum(op.milliseconds for op in self.operators)
        table = []
        for kind in KINDS:
            if of_kind := [op for op in self.operators if op.kind == kind]:
                macs, moved, time = (sum(column) for column in list(zip(*of_kind))[2:])
                table.append(Kind(kind, len(of_kind), macs, moved, time, macs / all_macs, time / all_time))
        return sorted(table, key=lambda kind: -kind.milliseconds)

    @property
    def covered(self) -> float:
        """The operators' time divided by the total time.

        The rest, up to 1, is Python, and torch's overhead between operators.
        """
        return sum(op.milliseconds for op in self.operators) / self.whole.median


def by_kind(
    model: nn.Module, frames: Tensor, log_mel: Tensor, repeats: int = 30, warmup: int = 3
) -> KindLatency:
    """Every operator's time in a forward pass, its multiply-accumulates and the bytes that it moves.

    On the device of the inputs; on a GPU, very short operators include the wait for their launch. Raises
    ValueError for a model in training.
    """
    run, timer, rounds = _runnable(model, frames, log_mel), clock(frames.device), []

    def watched() -> None:
        # Not in inference mode, where torch would report whole layers.
        with torch.inference_mode(False), torch.no_grad(), _Operators(timer) as watch:
            run()
        timer.wait()
        rounds.append([call._replace(milliseconds=timer.milliseconds(*at)) for call, *at in watch.calls])

    whole = latency({"whole": run, "operators": watched}, repeats, warmup, frames.device.type)["whole"]
    operators = []
    for calls in zip(*rounds[warmup:], strict=True):
        median = statistics.median(call.milliseconds for call in calls)
        operators.append(calls[0]._replace(milliseconds=median))
    return KindLatency(whole, operators)

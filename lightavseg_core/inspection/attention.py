"""Looks at a model's attention from outside: a recorder made of hooks, and statistics of its maps.

    with AttentionRecorder(model) as recorder:
        model(frames, log_mel)
    recorder.layers["decoder.2.cross_attn"].weights     # (N, heads, Q, K)
    recorder.statistics()["decoder.2.cross_attn"]       # entropy, effective keys, distance, ...

Fused attention returns no weights, but hooks see the inputs of its queries and keys, from which the weights
are recomputed.
"""
from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..data.avsbench import AVSBench, collate
from ..evaluation import evaluating
from .attention_layers import MAPS, READINGS, Layer, added_key, projections
from .attention_statistics import (
    at_least_float32,
    attention_distance,
    effective_rank,
    entropy,
    spatial_variance,
    top_share,
    uniform_distance,
)

Statistics = dict[str, float | int | str | None]
MEASURED = ("entropy", "relative_entropy", "effective_keys", "top_share")
MEASURED += ("distance", "uniform_distance", "relative_distance", "spatial_variance", "effective_rank")


def attends(model: nn.Module) -> bool:
    """Whether a model has attention, all of which can be recorded."""
    layers = [module for module in model.modules() if type(module) in READINGS]
    return bool(layers) and not any(map(added_key, layers))


def _arguments(module: nn.Module, args: tuple, kwargs: dict) -> dict:
    return inspect.signature(module.forward).bind(*args, **kwargs).arguments


class AttentionRecorder:
    """A context that records a model's attention with hooks only: outputs and gradients are the same as
    without it.

    `layers`: name of the module -> Layer, of the last forward pass, even after the context. It knows every
    method with attention: avesformer, avsegformer, selm, and avsbench's TPAVI; and in your own methods
    `blocks.Attention` and torch's `nn.MultiheadAttention`, also within `nn.TransformerEncoderLayer`. (In
    evaluation without gradients the latter has a fused kernel, which it does not use while hooked: a padded
    output may then differ by rounding.) The axial attention within a SeaFormer backbone is not recorded.

    names: which layers, by name, by the name of a module around them, or by a pattern: ("decoder.2",
    "*.cross_attn"). None: all. Raises ValueError for a model without attention, for a name that no layer has,
    and for an nn.MultiheadAttention with keys that are not among its inputs (add_bias_kv, add_zero_attn).
    """

    def __init__(self, model: nn.Module, names: str | Sequence[str] | None = None):
        self.model, self.layers = model, {}
        self._modules = {name: module for name, module in model.named_modules() if type(module) in READINGS}
        if not self._modules:
            raise ValueError(
                f"{type(model).__name__} has no attention to record; avesformer, avsegformer, selm and "
                "avsbench do. LightAVSeg adds a bias per channel instead; the axial attention within its "
                "SeaFormer backbone is not recorded."
            )
        if names is not None:
            chosen = self._chosen([names] if isinstance(names, str) else names)
            self._modules = {name: module for name, module in self._modules.items() if name in chosen}
        for name, module in self._modules.items():
            if option := added_key(module):
                raise ValueError(
                    f"{name or 'the model'}: nn.MultiheadAttention with {option} attends to a key that is "
                    f"not among its inputs; expected one without. Build it with {option}=False and append a "
                    "learned token to key and value instead, or name the other layers."
                )
        self._seen, self._grids, self._hooks = defaultdict(dict), {}, ExitStack()

    def _chosen(self, patterns: Sequence[str]) -> set[str]:
        chosen = set()
        for pattern in patterns:
            found = [
                name for name in self._modules if fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")
            ]
            if not found:
                known, model = ", ".join(self._modules), type(self.model).__name__
                raise ValueError(f"no attention layer is named {pattern!r}; {model} has {known}.")
            chosen.update(found)
        return chosen

    def __enter__(self) -> AttentionRecorder:
        hook = self._hooks.enter_context  # a hook's handle is a context: leaving it removes the hook
        hook(self.model.register_forward_pre_hook(self._start))
        for name, module in self.model.named_modules():
            if type(module) in MAPS:
                hook(module.register_forward_pre_hook(partial(self._see_map, name), with_kwargs=True))
        for name, module in self._modules.items():
            reading = READINGS[type(module)]
            for part in (*reading.query, *reading.key, *reading.value, reading.output):
                hook(module.get_submodule(part).register_forward_hook(partial(self._see, name, part)))
            hook(module.register_forward_hook(partial(self._record, name), with_kwargs=True))
        return self

    def __exit__(self, *error) -> None:
        self._hooks.close()
        self._seen.clear()

    def _start(self, *_) -> None:
        self.layers.clear()

    def _see_map(self, name: str, module: nn.Module, args: tuple, kwargs: dict) -> None:
        argument, layers = MAPS[type(module)]
        grid = tuple(_arguments(module, args, kwargs)[argument].shape[-2:])
        for layer, sides in layers.items():
            self._grids[f"{name}.{layer}".lstrip(".")] = dict.fromkeys(sides, grid)

    def _see(self, name: str, part: str, module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
        output = output[0] if isinstance(output, tuple) else output
        self._seen[name][part] = output.detach()

    @torch.no_grad()
    def _record(self, name: str, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        reading = READINGS[type(module)]
        seen = {part: at_least_float32(x) for part, x in self._seen.pop(name).items()}
        with torch.autocast(seen[reading.output].device.type, enabled=False):
            fields = reading.read(module, seen, _arguments(module, args, kwargs))
        fields = {"output": seen[reading.output], **self._grids.get(name, {}), **fields}
        self.layers[name] = Layer(reading.kind, **fields)

    def statistics(self) -> dict[str, Statistics]:
        """Name of a layer -> its statistics, each the mean over frames, heads and queries; None if undefined.

        kind, queries and keys (deformable: points); entropy, relative_entropy (None for one key; masked keys
        count as keys), effective_keys, top_share; distance, uniform_distance and their ratio,
        relative_distance, if queries and keys have positions; spatial_variance over the queries of the
        output, if there are several and the output has them; effective_rank, for signed weights only.
        """
        return {name: _means(layer) for name, layer in self.layers.items()}

    def gradients(self) -> dict[str, dict[str, float | None]]:
        """After a backward pass: name -> {"query", "key", "value"}: the Frobenius norms of the gradients of
        the projections' weights.

        For several projections in a row, their common norm; None without a projection or a gradient (frozen).
        Deformable attention makes offsets and weights from the query: both count as its projection, and the
        key has none. In TokenAttention the pixels are the queries, see Layer. The fused kernel rounds: if the
        true gradient is zero, it leaves about 1e-9 of the value's. Raises ValueError before any backward
        pass.
        """
        found = {}
        for name, module in self._modules.items():
            found[name] = {role: _gradient_norm(module, role) for role in ("query", "key", "value")}
        if all(norm is None for norms in found.values() for norm in norms.values()):
            raise ValueError("no recorded layer has a gradient; call loss.backward() first.")
        return found


def _gradient_norm(module: nn.Module, role: str) -> float | None:
    squares = [
        parameter.grad[rows].double().square().sum().item()
        for parameter, rows in projections(module, role)
        if parameter.grad is not None and parameter.ndim > 1  # no biases
    ]
    return math.sqrt(sum(squares)) if squares else None


def _measure(layer: Layer) -> dict[str, Tensor | int | float | str | None]:
    """A layer's statistics for each frame (N,); those that depend only on its shape are numbers."""
    weights = layer.weights  # (N, heads, Q, K)
    queries, keys = weights.shape[2:]
    result = {"kind": layer.kind, "queries": queries, "keys": keys, **dict.fromkeys(MEASURED)}
    if layer.kind == "signed":
        # Of (Q, T): a repeated column adds no singular value.
        result["effective_rank"] = effective_rank(weights[:, 0])
    else:
        spread = entropy(weights)  # (N, heads, Q)
        result["entropy"] = spread.mean((1, 2))
        result["effective_keys"] = spread.exp().mean((1, 2))
        result["top_share"] = top_share(weights).mean((1, 2))
        if keys > 1:
            result["relative_entropy"] = (spread / math.log(keys)).mean((1, 2))
    if layer.kind == "deformable":
        result["distance"] = (weights * layer.offsets.norm(dim=-1)).sum(-1).mean((1, 2))
        result["uniform_distance"] = uniform_distance(layer.query_grid, layer.query_grid)
    elif layer.query_grid and layer.key_grid:
        result["distance"] = attention_distance(weights, layer.query_grid, layer.key_grid).mean(1)
        result["uniform_distance"] = uniform_distance(layer.query_grid, layer.key_grid)
    if result["uniform_distance"]:  # neither None nor 0, a map of one position
        result["relative_distance"] = result["distance"] / result["uniform_distance"]
    if layer.kind != "assignment" and queries > 1:
        result["spatial_variance"] = spatial_variance(layer.output)
    return result


def _means(layer: Layer) -> Statistics:
    measured = _measure(layer).items()
    return {key: value.mean().item() if isinstance(value, Tensor) else value for key, value in measured}


def _counted(number: int, batch: dict) -> Tensor:
    """The weight of each of a layer's N frames or clips, (N,): 0 for padding, the length for clips; if N
    counts something else, all are equal."""
    lengths = batch["lengths"]
    own = torch.arange(batch["annotated"].shape[1]) < lengths[:, None]  # (B, T)
    if number == len(lengths):
        return lengths
    parts, rest = divmod(number, own.numel())  # windows, say: several of each frame
    if rest:  # of a method of one's own: neither clips nor frames
        return torch.ones(number)
    return own.flatten().repeat_interleave(parts)


@torch.inference_mode()
def survey(
    model: nn.Module, dataset: AVSBench, batch_size: int = 8, names: str | Sequence[str] | None = None
) -> dict[str, Statistics]:
    """`AttentionRecorder.statistics` averaged over all frames of a dataset, in evaluation mode; for JSON.

    Frames that pad a shorter clip are left out (TPAVI attends over whole clips, weighted by their length).
    They still count as keys if a method hears all seconds of a clip: use clips of one length there.
    """
    device = next(model.parameters()).device
    totals, counts, kinds = defaultdict(float), defaultdict(float), {}
    with evaluating(model), AttentionRecorder(model, names) as recorder:
        for batch in DataLoader(dataset, batch_size, collate_fn=collate):
            model(batch["frames"].to(device), batch["log_mel"].to(device))
            for name, layer in recorder.layers.items():
                share = _counted(len(layer.query), batch).double()  # (N,)
                measured = _measure(layer)
                kinds[name] = measured.pop("kind")
                for key, value in measured.items():
                    if value is not None:
                        value = torch.as_tensor(value).cpu().double()
                        totals[name, key] += (value * share).sum().item()
                        counts[name, key] += share.sum().item()
    result = {name: {"kind": kind, **dict.fromkeys(MEASURED)} for name, kind in kinds.items()}
    for (name, key), total in totals.items():
        result[name][key] = total / counts[name, key]
    return result


class Inert(NamedTuple):
    """Parameters that can have no effect."""

    layers: dict[str, int]  # how many in each layer that has some
    total: int
    share: float  # of all parameters of the model


@torch.inference_mode()
def inert_parameters(model: nn.Module, frames: Tensor, log_mel: Tensor) -> Inert:
    """How many query and key parameters can have no effect, because for this input their layer has one key:
    the softmax over it is 1.

    This counts weights and biases of the projections, but not a layer norm that feeds only such a query, nor
    parameters that are inert for other reasons (a key's bias in any softmax; in SelM's AudioToPixels also the
    value, which the instance norm removes). frames, log_mel: the model's inputs.
    """
    with evaluating(model), AttentionRecorder(model) as recorder:
        model(frames, log_mel)
    layers = {}
    for name, layer in recorder.layers.items():
        if layer.kind == "softmax" and layer.key.shape[2] == 1:
            module = model.get_submodule(name)
            made_by = [*projections(module, "query"), *projections(module, "key")]
            layers[name] = sum(p[rows].numel() for p, rows in made_by)
    total = sum(layers.values())
    return Inert(layers, total, total / sum(p.numel() for p in model.parameters()))

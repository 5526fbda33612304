"""Looks at a model's attention from outside: a recorder made of hooks, and what its maps say.

    with AttentionRecorder(model) as recorder:
        model(frames, log_mel)
    recorder.layers["decoder.2.cross_attn"].weights     # (N, heads, Q, K)
    recorder.statistics()["decoder.2.cross_attn"]       # entropy, effective keys, distance, ...

Fused attention returns no weights. But queries and keys are made by submodules, whose outputs hooks see; from these the weights are computed again.
"""
from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..data.avsbench import AVSBench, collate
from ..evaluation import evaluating
from ..models.avesformer import TransformerBlock
from ..models.avsbench import TPAVI
from ..models.avsegformer import Mixer
from ..models.blocks import Attention
from ..models.deformable import DeformableAttention
from ..models.selm import DAM, AudioToPixels, PixelsToAudio, instance_norm
from ..models.selm_decoder import Level, LoadAudio, TokenAttention
from .attention_statistics import (
    Grid,
    at_least_float32,
    attention_distance,
    effective_keys,
    effective_rank,
    entropy,
    relative_entropy,
    spatial_variance,
    top_share,
    uniform_distance,
)

__all__ = ["AttentionRecorder", "Inert", "Layer", "attends", "attention_distance", "effective_keys", "effective_rank", "entropy", "inert_parameters",
           "relative_entropy", "spatial_variance", "survey", "top_share", "uniform_distance"]


class Layer(NamedTuple):
    """What one layer of attention did in one forward pass: N frames (TPAVI: clips), Q queries, K keys. No gradients, no dropout; at least float32.

    kind, and what `weights` are:
    - "softmax": softmax(query key^T) over the keys, (N, heads, Q, K).
    - "deformable": a softmax over the places that a query looks at, (N, heads, Q, places); places are levels times points.
      A place outside the map has a weight and a distance like others, and gives zero.
    - "assignment": SelM's TokenAttention. Pixels choose between two tokens: here the pixels are the queries and the tokens the keys,
      though the module's projections are named the other way. weights (N, 1, Q, 2) is the softmax by which the layer learns, without Gumbel
      noise. Forward, each pixel goes wholly to its argmax: top_share says how clear the choice was, not how much was mixed.
    - "signed": TPAVI's query key^T / N, no softmax, (N, 1, Q, T). All h w pixels of a second have one key, so that the whole matrix,
      (T h w)^2, is this one with each column repeated for the pixels of its second.
    """

    kind: str
    query: Tensor                       # (N, heads, Q, c)  with all that scales the scores; deformable: the scores (N, heads, Q, places)
    key: Tensor | None                  # (N, heads, K, c); None: deformable attention has none
    value: Tensor                       # (N, heads, L, c)  of the keys; of all positions for deformable and signed, of the pixels for assignment
    output: Tensor                      # (N, Q, C)         what the last projection gives to the queries; assignment: (N, 2, C), to the tokens
    query_grid: Grid | None = None      # (h, w) where the queries are a map's positions (signed: of each second); deformable: (h, w) of each level
    key_grid: Grid | None = None        # (h, w) where the keys are. None also for AVSegFormer's decoder, whose keys are three maps in a row
    offsets: Tensor | None = None       # (N, heads, Q, places, 2)  deformable: (x, y) from a query to its places, in units of the map's longer side

    @property
    def weights(self) -> Tensor:
        """Computed when asked for: between all positions of a large map they are too many to keep."""
        with torch.no_grad(), torch.autocast(self.query.device.type, enabled=False):
            scores = self.query if self.key is None else self.query @ self.key.transpose(-2, -1)
            return scores if self.kind == "signed" else scores.softmax(-1)


# What each class of layer holds. seen: the outputs of its projections by name; arguments: of its forward, by name.


def _attention(module: Attention, seen: dict[str, Tensor], arguments: dict) -> dict:
    query, key, value = (seen[name].unflatten(-1, (module.heads, -1)).transpose(1, 2) for name in ("query", "key", "value"))
    return {"query": query * module.scale, "key": key, "value": value}


def _audio_to_pixels(module: AudioToPixels, seen: dict[str, Tensor], arguments: dict) -> dict:
    query = instance_norm(seen["query2"]) * module.visual.in_channels ** -0.5                      # (N, C, P)
    return {name: x.transpose(1, 2)[:, None] for name, x in (("query", query), ("key", seen["key"]), ("value", seen["value"]))}


def _pixels_to_audio(module: PixelsToAudio, seen: dict[str, Tensor], arguments: dict) -> dict:
    query = seen["query2"] * module.key.in_channels ** -0.5                                        # (N, D, 1)
    key, value = instance_norm(seen["key"]), instance_norm(seen["value"])                          # (N, D, P)
    return {name: x.transpose(1, 2)[:, None] for name, x in (("query", query), ("key", key), ("value", value))}


def _load_audio(module: LoadAudio, seen: dict[str, Tensor], arguments: dict) -> dict:
    return {"query": seen["query"][:, None] * seen["query"].shape[-1] ** -0.5, "key": seen["key"][:, None], "value": seen["value"][:, None]}


def _token_attention(module: TokenAttention, seen: dict[str, Tensor], arguments: dict) -> dict:
    pixels, tokens = F.normalize(seen["key"], dim=-1), F.normalize(seen["query"], dim=-1)          # (N, P, D), (N, 2, D)
    return {"query": (pixels / module.tau.clamp(max=0).exp())[:, None], "key": tokens[:, None], "value": seen["value"][:, None]}


def _tpavi(module: TPAVI, seen: dict[str, Tensor], arguments: dict) -> dict:
    query = seen["theta"][:, None]                                                                 # (B, 1, T h w, C)
    return {"query": query / query.shape[2], "key": seen["phi"][:, None], "value": seen["g"][:, None],
            "query_grid": tuple(arguments["visual"].shape[-2:])}


def _deformable(module: DeformableAttention, seen: dict[str, Tensor], arguments: dict) -> dict:
    shapes = tuple(map(tuple, arguments["shapes"]))
    offsets = seen["sampling_offsets"].unflatten(-1, (module.heads, module.levels, module.points, 2)).transpose(1, 2)
    offsets = offsets / offsets.new_tensor([max(shape) for shape in shapes])[:, None, None]        # (N, heads, Q, levels, points, 2)
    scores = seen["attention_weights"].unflatten(-1, (module.heads, -1)).transpose(1, 2)           # (N, heads, Q, levels * points)
    value = seen["value"].unflatten(-1, (module.heads, -1)).transpose(1, 2)                        # (N, heads, S, c)
    return {"query": scores, "key": None, "value": value, "offsets": offsets.flatten(3, 4), "query_grid": shapes}


class _Class(NamedTuple):
    """How to read a class of layers: the names of its projections, those of the query etc. in the order in which they are applied."""

    kind: str
    read: Callable[[nn.Module, dict[str, Tensor], dict], dict]
    query: tuple[str, ...] = ("query",)
    key: tuple[str, ...] = ("key",)
    value: tuple[str, ...] = ("value",)
    output: str = "out"


_CLASSES = {
    Attention: _Class("softmax", _attention),
    AudioToPixels: _Class("softmax", _audio_to_pixels, query=("query1", "query2")),
    PixelsToAudio: _Class("softmax", _pixels_to_audio, query=("query1", "query2")),
    LoadAudio: _Class("softmax", _load_audio),
    TokenAttention: _Class("assignment", _token_attention, query=("key",), key=("query",)),
    TPAVI: _Class("signed", _tpavi, query=("theta",), key=("phi",), value=("g",), output="mu_norm"),
    DeformableAttention: _Class("deformable", _deformable, query=("sampling_offsets", "attention_weights"), key=(), output="output"),
}

# Layers do not know which of their queries and keys are positions of a map; the module around them does. Its class -> the argument that is
# the map (..., h, w), and for each layer within: "q" where its queries are the map's positions, "k" where its keys are.
_MAPS = {TransformerBlock: ("x", {"self_attn": "qk", "cross_attn": "q"}), Mixer: ("feature", {"attention": "k"}),
         DAM: ("x", {"to_pixels": "q", "to_audio": "k"}), Level: ("skip", {"attention": "q"})}


def attends(model: nn.Module) -> bool:
    """Whether a model has attention that can be recorded."""
    return any(type(module) in _CLASSES for module in model.modules())


def _arguments(module: nn.Module, args: tuple, kwargs: dict) -> dict:
    return inspect.signature(module.forward).bind(*args, **kwargs).arguments


class AttentionRecorder:
    """A context in which a model's attention is recorded, by hooks alone: its outputs and its gradients are the same as without.

    `layers`: name of the module -> Layer, of the last forward pass, also after the context. Every method that attends: avesformer,
    avsegformer, selm, and avsbench's TPAVI. The axial attention within a SeaFormer backbone is not recorded.

    names: which layers, by name, by the name of a module they are in, or by a pattern: ("decoder.2", "*.cross_attn"). None: all.
    Raises ValueError for a model without attention, and for a name that no layer has.
    """

    def __init__(self, model: nn.Module, names: str | Sequence[str] | None = None):
        self.model, self.layers = model, {}
        self._modules = {name: module for name, module in model.named_modules() if type(module) in _CLASSES}
        if not self._modules:
            raise ValueError(f"{type(model).__name__} has no attention to record: avesformer, avsegformer, selm and avsbench have. LightAVSeg adds "
                             "a bias per channel instead; the axial attention within its SeaFormer backbone is not recorded.")
        if names is not None:
            wanted = {pattern: {name for name in self._modules if fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")}
                      for pattern in ([names] if isinstance(names, str) else names)}
            if missing := [pattern for pattern, found in wanted.items() if not found]:
                raise ValueError(f"no layer of attention is called {missing[0]!r}; {type(model).__name__} has {', '.join(self._modules)}.")
            self._modules = {name: module for name, module in self._modules.items() if any(name in found for found in wanted.values())}
        self._seen, self._grids, self._hooks = defaultdict(dict), {}, ExitStack()

    def __enter__(self) -> AttentionRecorder:
        hook = self._hooks.enter_context                                       # a hook's handle is a context: leaving it removes the hook
        hook(self.model.register_forward_pre_hook(self._start))
        for name, module in self.model.named_modules():
            if type(module) in _MAPS:
                hook(module.register_forward_pre_hook(partial(self._see_map, name), with_kwargs=True))
        for name, module in self._modules.items():
            layer = _CLASSES[type(module)]
            for part in (*layer.query, *layer.key, *layer.value, layer.output):
                hook(module.get_submodule(part).register_forward_hook(partial(self._see, name, part)))
            hook(module.register_forward_hook(partial(self._record, name), with_kwargs=True))
        return self

    def __exit__(self, *error) -> None:
        self._hooks.close()
        self._seen.clear()

    def _start(self, *_) -> None:
        self.layers.clear()

    def _see_map(self, name: str, module: nn.Module, args: tuple, kwargs: dict) -> None:
        argument, layers = _MAPS[type(module)]
        grid = tuple(_arguments(module, args, kwargs)[argument].shape[-2:])
        for layer, sides in layers.items():
            self._grids[f"{name}.{layer}".lstrip(".")] = {"query_grid": grid if "q" in sides else None, "key_grid": grid if "k" in sides else None}

    def _see(self, name: str, part: str, module: nn.Module, args: tuple, output: Tensor) -> None:
        self._seen[name][part] = output.detach()

    @torch.no_grad()
    def _record(self, name: str, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        layer, seen = _CLASSES[type(module)], {part: at_least_float32(x) for part, x in self._seen.pop(name).items()}
        given, grids = seen[layer.output], self._grids.get(name, {})
        with torch.autocast(given.device.type, enabled=False):
            fields = layer.read(module, seen, _arguments(module, args, kwargs))
        if layer.kind == "signed":
            given = given.unflatten(0, fields["query"].shape[::2])             # (N, Q, C)  the batch norm takes all positions in a row
        elif isinstance(module, (AudioToPixels, PixelsToAudio)):
            given = given.transpose(1, 2)                                      # (N, Q, C)
        self.layers[name] = Layer(layer.kind, output=given, **{**grids, **fields})

    def statistics(self) -> dict[str, dict[str, float | int | str | None]]:
        """Name of a layer -> its statistics, each the mean over frames, heads and queries; None where not defined.

        kind, queries and keys (deformable: places); entropy, relative_entropy (None for one key), effective_keys, top_share; distance,
        uniform_distance and relative_distance, which is their ratio, where both queries and keys have positions; spatial_variance,
        over the queries of the output, where there are several and the output is theirs; effective_rank, of signed weights only.
        """
        return {name: {key: value.mean().item() if isinstance(value, Tensor) else value for key, value in _measure(layer).items()}
                for name, layer in self.layers.items()}

    def gradients(self) -> dict[str, dict[str, float | None]]:
        """After a backward pass: name -> {"query", "key", "value"}: the Frobenius norms of the gradients of the projections' weights.

        Of several projections in a row the norm of all; None without a projection, or without a gradient (frozen). Deformable attention makes
        offsets and weights of the query: both count as its projection, and there is none of the key. In TokenAttention the pixels are the
        queries, see Layer. The fused kernel rounds: where the true gradient is zero it leaves about 1e-9 of the value's.
        Raises ValueError before any backward pass.
        """
        found = {}
        for name, module in self._modules.items():
            layer = _CLASSES[type(module)]
            found[name] = {role: _norm([module.get_submodule(part).weight.grad for part in getattr(layer, role)])
                           for role in ("query", "key", "value")}
        if all(norm is None for norms in found.values() for norm in norms.values()):
            raise ValueError("no recorded layer has a gradient; expected a backward pass of a loss before: loss.backward().")
        return found


def _norm(gradients: list[Tensor | None]) -> float | None:
    gradients = [gradient for gradient in gradients if gradient is not None]
    return math.sqrt(sum(gradient.double().square().sum().item() for gradient in gradients)) if gradients else None


def _measure(layer: Layer) -> dict[str, Tensor | int | float | str | None]:
    """A layer's statistics for each frame (N,); what depends on its shape alone is a number."""
    weights = layer.weights                                                    # (N, heads, Q, K)
    queries, keys = weights.shape[2:]
    result = {"kind": layer.kind, "queries": queries, "keys": keys}
    result |= dict.fromkeys(("entropy", "relative_entropy", "effective_keys", "top_share", "distance", "uniform_distance", "relative_distance",
                             "spatial_variance", "effective_rank"))
    if layer.kind == "signed":
        result["effective_rank"] = effective_rank(weights[:, 0])               # of (Q, T): a repeated column adds no singular value
    else:
        spread = entropy(weights)                                              # (N, heads, Q)
        per_query = {"entropy": spread, "effective_keys": spread.exp(), "top_share": top_share(weights)}
        per_query |= {"relative_entropy": spread / math.log(keys)} if keys > 1 else {}
        result |= {name: value.mean((1, 2)) for name, value in per_query.items()}
    if layer.kind == "deformable":
        result["distance"] = (weights * layer.offsets.norm(dim=-1)).sum(-1).mean((1, 2))
        result["uniform_distance"] = uniform_distance(layer.query_grid, layer.query_grid)
    elif layer.query_grid and layer.key_grid:
        result["distance"] = attention_distance(weights, layer.query_grid, layer.key_grid).mean(1)
        result["uniform_distance"] = uniform_distance(layer.query_grid, layer.key_grid)
    if result["uniform_distance"]:                                             # neither None nor 0, a map of one position
        result["relative_distance"] = result["distance"] / result["uniform_distance"]
    if layer.kind != "assignment" and queries > 1:
        result["spatial_variance"] = spatial_variance(layer.output)
    return result


@torch.inference_mode()
def survey(model: nn.Module, dataset: AVSBench, batch_size: int = 8, names: str | Sequence[str] | None = None) -> dict[str, dict]:
    """`AttentionRecorder.statistics` averaged over all frames of a dataset, in evaluation mode; for JSON.

    Frames that pad a shorter clip are left out (TPAVI attends over whole clips, which count by their length). As keys they do
    count, where a method hears all seconds of a clip: there take clips of one length.
    """
    device = next(model.parameters()).device
    totals, counts, kinds = defaultdict(float), defaultdict(float), {}
    with evaluating(model), AttentionRecorder(model, names) as recorder:
        for batch in DataLoader(dataset, batch_size, collate_fn=collate):
            model(batch["frames"].to(device), batch["log_mel"].to(device))
            own = torch.arange(batch["annotated"].shape[1]) < batch["lengths"][:, None]            # (B, T)
            for name, layer in recorder.layers.items():
                share = (own.flatten() if len(layer.query) == own.numel() else batch["lengths"]).double()      # (N,)
                measured = _measure(layer)
                kinds[name] = measured.pop("kind")
                for key, value in measured.items():
                    counts[name, key] += 0.0 if value is None else share.sum().item()
                    totals[name, key] += 0.0 if value is None else (torch.as_tensor(value).cpu().double() * share).sum().item()
    result = {name: {"kind": kind} for name, kind in kinds.items()}
    for (name, key), total in totals.items():
        result[name][key] = total / counts[name, key] if counts[name, key] else None
    return result


class Inert(NamedTuple):
    """Parameters that can have no effect."""

    layers: dict[str, int]     # how many in each layer that has some
    total: int
    share: float               # of all parameters of the model


@torch.inference_mode()
def inert_parameters(model: nn.Module, frames: Tensor, log_mel: Tensor) -> Inert:
    """How many query and key parameters can have no effect, because for this input their layer has one key: the softmax over it is 1.

    Counted are weights and biases of the projections; not a layer norm that feeds nothing but such a query, nor what other causes make inert
    (a key's bias in any softmax; in SelM's AudioToPixels also the value, which the instance norm removes). frames, log_mel: as the model takes them.
    """
    with evaluating(model), AttentionRecorder(model) as recorder:
        model(frames, log_mel)
    layers = {}
    for name, layer in recorder.layers.items():
        if layer.kind == "softmax" and layer.key.shape[2] == 1:
            module = model.get_submodule(name)
            parts = (*_CLASSES[type(module)].query, *_CLASSES[type(module)].key)
            layers[name] = sum(p.numel() for part in parts for p in module.get_submodule(part).parameters())
    total = sum(layers.values())
    return Inert(layers, total, total / sum(p.numel() for p in model.parameters()))

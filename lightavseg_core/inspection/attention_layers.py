"""The attention layers that a recorder knows: what it keeps of each, and how its hooks read it."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.avesformer import TransformerBlock
from ..models.avsbench import TPAVI
from ..models.avsegformer import Mixer
from ..models.blocks import Attention
from ..models.deformable import DeformableAttention
from ..models.selm import DAM, AudioToPixels, PixelsToAudio, instance_norm
from ..models.selm_decoder import Level, LoadAudio, TokenAttention
from .attention_statistics import Grid, at_least_float32


class Layer(NamedTuple):
    """What one layer of attention did in one forward pass: N frames (TPAVI: clips), Q queries, K keys. No
    gradients, no dropout; at least float32.

    kind, and what `weights` are:
    - "softmax": softmax(query key^T + mask) over the keys, (N, heads, Q, K).
    - "deformable": a softmax over the places that a query looks at, (N, heads, Q, places); places are levels
      times points. A place outside the map has a weight and a distance like others, but its value is zero.
    - "assignment": SelM's TokenAttention. Pixels choose between two tokens: here the pixels are the queries
      and the tokens the keys, though the module's projections are named the other way. weights (N, 1, Q, 2)
      is the softmax through which the layer learns, without Gumbel noise. In the forward pass each pixel goes
      entirely to its argmax: top_share tells how clear the choice was, not how much was mixed.
    - "signed": TPAVI's query key^T / N, no softmax, (N, 1, Q, T). All h w pixels of a second have one key, so
      the whole matrix, (T h w)^2, is this one with each column repeated for the pixels of its second.
    """

    kind: str
    # (N, heads, Q, c), with all that scales the scores; deformable: the scores (N, heads, Q, places).
    query: Tensor
    # (N, heads, K, c); None: deformable attention has none.
    key: Tensor | None
    # (N, heads, L, c) of the keys; of all positions for deformable and signed, of the pixels for assignment.
    value: Tensor
    # (N, Q, C), what the last projection gives to the queries; assignment: (N, 2, C), to the tokens.
    output: Tensor
    # (h, w) where the queries are a map's positions (signed: of each second); deformable: of each level.
    query_grid: Grid | None = None
    # (h, w) where the keys are. None also for AVSegFormer's decoder, whose keys are three maps in a row.
    key_grid: Grid | None = None
    # (N, heads, Q, places, 2), deformable: (x, y) from a query to its places, in units of the longer side.
    offsets: Tensor | None = None
    # What is added to the scores, -inf where a query may not look; broadcasts to them.
    mask: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        """Computed on access: between all positions of a large map there are too many to keep."""
        with torch.no_grad(), torch.autocast(self.query.device.type, enabled=False):
            scores = self.query if self.key is None else self.query @ self.key.transpose(-2, -1)
            if self.mask is not None:
                scores = scores + self.mask
            return scores if self.kind == "signed" else scores.softmax(-1)


# How each class is read. seen: what its submodules gave, by name; given: its forward's arguments, by name.


def _heads(x: Tensor, heads: int) -> Tensor:
    """(N, L, heads * c) -> (N, heads, L, c)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attention(module: Attention, seen: dict[str, Tensor], given: dict) -> dict:
    query, key, value = (_heads(seen[name], module.heads) for name in ("query", "key", "value"))
    return {"query": query * module.scale, "key": key, "value": value}


def _audio_to_pixels(module: AudioToPixels, seen: dict[str, Tensor], given: dict) -> dict:
    query = instance_norm(seen["query2"]) * module.visual.in_channels ** -0.5  # (N, C, P)
    return _positions_last(query=query, key=seen["key"], value=seen["value"], output=seen["out"])


def _pixels_to_audio(module: PixelsToAudio, seen: dict[str, Tensor], given: dict) -> dict:
    query = seen["query2"] * module.key.in_channels ** -0.5  # (N, D, 1)
    key, value = instance_norm(seen["key"]), instance_norm(seen["value"])  # (N, D, P)
    return _positions_last(query=query, key=key, value=value, output=seen["out"])


def _positions_last(output: Tensor, **projected: Tensor) -> dict:
    """For a single head, (N, C, L) -> (N, 1, L, C); output -> (N, L, C)."""
    fields = {name: x.transpose(1, 2)[:, None] for name, x in projected.items()}
    return {**fields, "output": output.transpose(1, 2)}


def _load_audio(module: LoadAudio, seen: dict[str, Tensor], given: dict) -> dict:
    query, key, value = (seen[name][:, None] for name in ("query", "key", "value"))  # (N, 1, L, C)
    return {"query": query * query.shape[-1] ** -0.5, "key": key, "value": value}


def _token_attention(module: TokenAttention, seen: dict[str, Tensor], given: dict) -> dict:
    pixels, tokens = F.normalize(seen["key"], dim=-1), F.normalize(seen["query"], dim=-1)
    pixels = pixels / module.tau.clamp(max=0).exp()
    pixels, tokens, value = (x[:, None] for x in (pixels, tokens, seen["value"]))  # (N, 1, P or 2, D)
    return {"query": pixels, "key": tokens, "value": value}


def _tpavi(module: TPAVI, seen: dict[str, Tensor], given: dict) -> dict:
    query, key, value = (seen[name][:, None] for name in ("theta", "phi", "g"))  # (B, 1, T h w or T, C)
    clips, positions = len(query), query.shape[2]
    output = seen["mu_norm"].unflatten(0, (clips, positions))  # (B * T h w, C) -> (B, T h w, C)
    grid = tuple(given["visual"].shape[-2:])
    return {"query": query / positions, "key": key, "value": value, "output": output, "query_grid": grid}


def _deformable(module: DeformableAttention, seen: dict[str, Tensor], given: dict) -> dict:
    shapes = tuple(map(tuple, given["shapes"]))
    offsets = seen["sampling_offsets"].unflatten(-1, (module.heads, module.levels, module.points, 2))
    longer = offsets.new_tensor([max(shape) for shape in shapes])[:, None, None]
    offsets = (offsets.transpose(1, 2) / longer).flatten(3, 4)  # (N, heads, Q, levels * points, 2)
    scores = _heads(seen["attention_weights"], module.heads)  # (N, heads, Q, levels * points)
    value = _heads(seen["value"], module.heads)  # (N, heads, S, c)
    return {"query": scores, "key": None, "value": value, "offsets": offsets, "query_grid": shapes}


def _multihead(module: nn.MultiheadAttention, seen: dict[str, Tensor], given: dict) -> dict:
    """torch's own layer projects without submodules, so the inputs are projected again here."""
    if given["query"].is_nested:
        raise ValueError(
            "nn.MultiheadAttention was given a nested tensor, which nn.TransformerEncoder makes of padding; "
            "expected a padded one: build the encoder with enable_nested_tensor=False."
        )

    def batched(x: Tensor) -> Tensor:
        """A sequence in the module's batch_first layout, or one without a batch -> (N, L, E)."""
        if x.ndim == 2:
            return x[None]
        return x if module.batch_first else x.transpose(0, 1)

    def projected(role: str) -> Tensor:
        weight, *bias = (at_least_float32(p[rows]) for p, rows in projections(module, role))
        x = F.linear(batched(at_least_float32(given[role])), weight, *bias)  # (N, L, E)
        return _heads(x, module.num_heads)

    masks = []  # each broadcasts to (N, heads, Q, K)
    if (keys := given.get("key_padding_mask")) is not None:  # (N, K) or (K,)
        masks.append(_added(keys).reshape(-1, 1, 1, keys.shape[-1]))
    if (pairs := given.get("attn_mask")) is not None:  # (Q, K) or (N * heads, Q, K)
        pairs = _added(pairs)
        masks.append(pairs if pairs.ndim == 2 else pairs.unflatten(0, (-1, module.num_heads)))
    fields = {role: projected(role) for role in ("query", "key", "value")}
    fields["query"] = fields["query"] * module.head_dim ** -0.5
    return {**fields, "output": batched(seen[""]), "mask": sum(masks) if masks else None}


def _added(mask: Tensor) -> Tensor:
    """A mask to add to scores: -inf where a bool mask is True."""
    if mask.dtype != torch.bool:
        return at_least_float32(mask)
    return torch.zeros(mask.shape, device=mask.device).masked_fill(mask, -math.inf)


class Reading(NamedTuple):
    """How to read a class of layers: the names of its projections, for each role in the order in which they
    are applied. The name "" is the layer itself, whose first output counts."""

    kind: str
    read: Callable[[nn.Module, dict[str, Tensor], dict], dict]
    query: tuple[str, ...] = ("query",)
    key: tuple[str, ...] = ("key",)
    value: tuple[str, ...] = ("value",)
    output: str = "out"


READINGS = {
    Attention: Reading("softmax", _attention),
    AudioToPixels: Reading("softmax", _audio_to_pixels, query=("query1", "query2")),
    PixelsToAudio: Reading("softmax", _pixels_to_audio, query=("query1", "query2")),
    LoadAudio: Reading("softmax", _load_audio),
    TokenAttention: Reading("assignment", _token_attention, query=("key",), key=("query",)),
    TPAVI: Reading("signed", _tpavi, query=("theta",), key=("phi",), value=("g",), output="mu_norm"),
    DeformableAttention: Reading(
        "deformable", _deformable, query=("sampling_offsets", "attention_weights"), key=(), output="output"
    ),
    nn.MultiheadAttention: Reading("softmax", _multihead, query=(), key=(), value=(), output=""),
}

# Layers do not know which of their queries and keys are positions of a map; the module around them does. Its
# class -> the argument that is the map (..., h, w), and for each layer within what its positions are.
MAPS = {
    TransformerBlock: ("x", {"self_attn": ("query_grid", "key_grid"), "cross_attn": ("query_grid",)}),
    Mixer: ("feature", {"attention": ("key_grid",)}),
    DAM: ("x", {"to_pixels": ("query_grid",), "to_audio": ("key_grid",)}),
    Level: ("skip", {"attention": ("query_grid",)}),
}


def projections(module: nn.Module, role: str) -> list[tuple[nn.Parameter, slice]]:
    """The parameters that make a layer's "query", "key" or "value", each with the rows that do so."""
    if not isinstance(module, nn.MultiheadAttention):
        parts = getattr(READINGS[type(module)], role)
        return [(p, slice(None)) for part in parts for p in module.get_submodule(part).parameters()]
    start = ("query", "key", "value").index(role) * module.embed_dim
    rows = slice(start, start + module.embed_dim)
    if module.in_proj_weight is None:  # three widths, three weights
        weight = (getattr(module, f"{role[0]}_proj_weight"), slice(None))
    else:
        weight = (module.in_proj_weight, rows)
    return [weight] if module.in_proj_bias is None else [weight, (module.in_proj_bias, rows)]


def added_key(module: nn.Module) -> str | None:
    """The option that lets an nn.MultiheadAttention attend to a key outside its inputs, if any."""
    if not isinstance(module, nn.MultiheadAttention):
        return None
    if module.bias_k is not None:
        return "add_bias_kv"
    return "add_zero_attn" if module.add_zero_attn else None

"""A model's graph for the runtimes of phones: the same function at one size, in operations that run well.

The model's own code stays readable; the changes are made on a copy, just before export:

- SeaFormer's squeeze-axial attention averages before it projects (both are linear), adds positional
  embeddings that were resized once, and attends along rows and columns in one pass;
- batch norms are folded into the convolutions before them;
- the pooling that drops positions is max pooling with the whole map as its window, since some runtimes do not
  know adaptive pooling;
- operations that add an axis become reshapes, for the same reason.
"""
from __future__ import annotations

import copy
from collections.abc import Callable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..encoders.seaformer import ConvNorm, SqueezeAxialAttention
from ..models.base import AVSModel

aten = torch.ops.aten


class FixedAxialAttention(nn.Module):
    """`SqueezeAxialAttention` for maps of one size H x W: the same function, (N, C, H, W) -> (N, C, H, W).

    Averages commute with the 1x1 projections, so the map is averaged first, over C channels instead of those
    of queries, keys and values: one product with a constant matrix gives its H row and W column averages.
    Rows and columns then attend together, L = H + W tokens, under a mask that keeps them apart. The depthwise
    branch adds the contributions of queries with keys and of values, where the model joins their channels.
    """

    def __init__(self, attention: SqueezeAxialAttention, height: int, width: int):
        super().__init__()
        a, self.height, self.heads = attention, height, attention.heads
        query, key, value = folded(a.to_q), folded(a.to_k), folded(a.to_v)
        self.to_qk = like(query, torch.cat([query.weight, key.weight]), torch.cat([query.bias, key.bias]))
        self.to_v = value
        self.token_q = like(query, query.weight * a.scale, query.bias * a.scale)
        self.token_k, self.token_v = copy.deepcopy(key), copy.deepcopy(value)
        position = positions(a.pos_emb_rowq, a.pos_emb_columnq, height, width)
        self.register_buffer("position_q", a.scale * position)
        self.register_buffer("position_k", positions(a.pos_emb_rowk, a.pos_emb_columnk, height, width))
        self.register_buffer("average", averages(height, width))
        apart = torch.block_diag(torch.ones(height, height), torch.ones(width, width)) == 0
        # Finite: a quotient of infinities is no number.
        self.register_buffer("mask", torch.zeros(apart.shape).masked_fill(apart, -1e4))
        deep, mix = folded(a.dwconv), folded(a.pwconv)
        n = len(self.to_qk.weight)
        self.detail_qk = like(deep, deep.weight[:n], deep.bias[:n])
        self.detail_v = like(deep, deep.weight[n:], deep.bias[n:])
        self.mix_qk, self.mix_v = like(mix, mix.weight[:, :n], mix.bias), like(mix, mix.weight[:, n:], None)
        self.row, self.column = folded(a.proj_encode_row[1]), folded(a.proj_encode_column[1])
        self.project = folded(a.proj[1])

    def forward(self, x: Tensor) -> Tensor:
        value = self.to_v(x)  # (N, C_v, H, W)
        detail = self.mix_qk(F.relu6(self.detail_qk(self.to_qk(x))))  # (N, C, H, W)
        detail = detail + self.mix_v(F.relu6(self.detail_v(value)))
        tokens = F.linear(x.flatten(2), self.average).unsqueeze(-1)  # (N, C, L, 1)
        q = self.by_head(self.token_q(tokens) + self.position_q)  # (N heads, c, L)
        k = self.by_head(self.token_k(tokens) + self.position_k)
        v = self.by_head(self.token_v(tokens))
        weights = (torch.bmm(q.transpose(1, 2), k) + self.mask).softmax(-1)  # (N heads, L, L)
        context = torch.bmm(v, weights.transpose(1, 2)).reshape(len(x), -1, weights.shape[-1], 1)
        context = F.relu6(context)  # (N, C_v, L, 1)
        row, column = self.row(context[:, :, : self.height]), self.column(context[:, :, self.height :])
        return F.hardsigmoid(self.project(F.relu6(value + row + column.transpose(2, 3)))) * detail

    def by_head(self, tokens: Tensor) -> Tensor:
        n, channels, length = tokens.shape[:3]
        return tokens.reshape(n * self.heads, channels // self.heads, length)


def folded(block: ConvNorm) -> nn.Conv2d:
    """A convolution and its batch norm as one convolution with a bias."""
    bn = block.bn
    weight, bias = fuse_conv_bn_weights(
        block.c.weight, None, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    return like(block.c, weight, bias)


def like(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A convolution with other weights, which determine its channels."""
    groups = len(weight) if conv.groups > 1 else 1
    shape = weight.shape[1] * groups, len(weight), conv.kernel_size, conv.stride, conv.padding
    made = nn.Conv2d(*shape, groups=groups, bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach().clone())
    made.bias = None if bias is None else nn.Parameter(bias.detach().clone())
    return made


def positions(row: nn.Module, column: nn.Module, height: int, width: int) -> Tensor:
    """Two learned positional embeddings, resized to the map and joined end to end: (1, C, H + W, 1)."""
    rows = F.interpolate(row.pos_embed, size=height, mode="linear", align_corners=False)
    columns = F.interpolate(column.pos_embed, size=width, mode="linear", align_corners=False)
    return torch.cat([rows, columns], 2).unsqueeze(-1).detach()


def averages(height: int, width: int) -> Tensor:
    """(H + W, H W): the matrix that turns a flat map into the averages of its rows and then its columns."""
    rows = torch.eye(height)[:, :, None].expand(-1, -1, width) / width
    columns = torch.eye(width)[:, None].expand(-1, height, -1) / height
    return torch.cat([rows, columns]).flatten(1)


def fix_attention(model: AVSModel, frames: Tensor, log_mel: Tensor) -> AVSModel:
    """A copy of the model whose attention is fixed to the size of these frames."""
    model, sizes = copy.deepcopy(model).eval().requires_grad_(False), {}

    def note(module: nn.Module, given: tuple[Tensor]) -> None:
        sizes[module] = given[0].shape[-2:]

    for module in model.modules():
        if isinstance(module, SqueezeAxialAttention):
            module.register_forward_pre_hook(note)
    with torch.inference_mode():
        model(frames, log_mel)
    for name, module in list(model.named_modules()):
        if module in sizes:
            fixed = FixedAxialAttention(module, *sizes[module])
            model.set_submodule(name, fixed.eval().requires_grad_(False))
    return model


def fold_batch_norms(graph: GraphModule) -> None:
    """Folds each batch norm that only a convolution feeds into that convolution."""

    def tensor(node: Node | None) -> Tensor | None:
        return None if node is None else reduce(getattr, node.target.split("."), graph)

    for norm in graph.graph.find_nodes(op="call_function", target=aten.batch_norm.default):
        conv = norm.args[0]
        if conv.target is not aten.conv2d.default or len(conv.users) > 1:
            continue
        source, weight, bias, *rest = (*conv.args, None)[: max(3, len(conv.args))]
        scale, shift, mean, variance = map(tensor, norm.args[1:5])
        fused = fuse_conv_bn_weights(tensor(weight), tensor(bias), mean, variance, norm.args[7], scale, shift)
        names = [f"{conv.name}_weight", f"{conv.name}_bias"]
        for name, value in zip(names, fused):
            graph.register_buffer(name, value.detach())
        with graph.graph.inserting_before(conv):
            conv.args = (source, *map(graph.graph.get_attr, names), *rest)
        norm.replace_all_uses_with(conv)
        graph.graph.erase_node(norm)


def pool_by_window(graph: GraphModule) -> None:
    """Replaces adaptive max pooling to one position by max pooling with the whole map as its window."""
    for pool in graph.graph.find_nodes(op="call_function", target=aten.adaptive_max_pool2d.default):
        window = list(pool.args[0].meta["val"].shape[-2:])
        largest = [user for user in pool.users if user.args[1] == 0]  # and not where it was
        if list(pool.args[1]) == [1, 1] and all(user in largest or not user.users for user in pool.users):
            with graph.graph.inserting_before(pool):
                pooled = graph.graph.call_function(aten.max_pool2d.default, (pool.args[0], window, window))
                pooled.meta = dict(largest[0].meta)
            for user in largest:
                user.replace_all_uses_with(pooled)


def reshape_by_view(graph: GraphModule) -> None:
    """Replaces operations that only add an axis by a general reshape, which XNNPACK delegates can take."""
    for node in graph.graph.find_nodes(op="call_function", target=aten.unsqueeze.default):
        node.target, node.args = aten.view.default, (node.args[0], list(node.meta["val"].shape))


class Logits(nn.Module):
    """The model with the logits as its only result."""

    def __init__(self, model: AVSModel):
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, log_mel: Tensor) -> Tensor:
        return self.model(frames, log_mel).logits


def edge_graph(
    model: AVSModel,
    frames: Tensor,
    log_mel: Tensor,
    results: Callable[[AVSModel], nn.Module] = Logits,
) -> ExportedProgram:
    """The model's inference graph for inputs of exactly these shapes, (B, T, 3, H, W) and (B, T, 1, F, M).

    results: makes the graph's outputs; by default only the logits. The model itself does not change. The
    graph computes the same function, up to rounding.
    """
    model = results(fix_attention(model, frames, log_mel))
    graph = torch.export.export(model, (frames, log_mel)).module()
    fold_batch_norms(graph)
    pool_by_window(graph)
    reshape_by_view(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return torch.export.export(graph, (frames, log_mel))  # once more: only what is used is left

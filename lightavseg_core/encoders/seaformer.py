"""SeaFormer (Wan et al., ICLR 2023, arXiv 2301.13156): a mobile backbone whose attention is squeezed to rows and columns.

Written from the paper and the tensor names of the published ImageNet checkpoints, which `load_published` reads.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoints import LoadReport, load_checkpoint


class SeaFormerSize(NamedTuple):
    stages: list[list[tuple[int, int, int, int]]]    # per stage, per block: kernel, expansion, channels, stride
    depths: list[int]                                # attention blocks of the last len(depths) stages
    key_dims: list[int]                              # per head; values are twice as wide
    mlp_ratios: list[int]
    heads: int


def _stages(channels: tuple[int, ...], first: int, expand: int, fourth: int) -> list[list[tuple[int, int, int, int]]]:
    """Blocks (kernel, expansion, channels, stride) of the five stages: the sizes differ in width and in a few expansions only."""
    stem, c1, c2, c3, c4, c5 = channels
    return [[(3, first, stem, 1), (3, 4, c1, 2), (3, expand, c1, 1)], [(5, expand, c2, 2), (5, expand, c2, 1)],
            [(3, expand, c3, 2), (3, expand, c3, 1)], [(5, fourth, c4, 2)], [(3, 6, c5, 2)]]


SIZES = {
    "t": SeaFormerSize(_stages((16, 16, 32, 64, 128, 160), first=1, expand=3, fourth=3), [2, 2], [16, 24], [2, 4], 4),
    "s": SeaFormerSize(_stages((16, 24, 48, 96, 160, 192), first=1, expand=3, fourth=4), [3, 3], [16, 24], [2, 4], 6),
    "b": SeaFormerSize(_stages((16, 32, 64, 128, 192, 256), first=1, expand=3, fourth=4), [4, 4], [16, 24], [2, 4], 8),
    "l": SeaFormerSize(_stages((32, 64, 128, 192, 256, 320), first=3, expand=4, fourth=4), [3, 3, 3], [16, 20, 24], [2, 4, 6], 8),
}


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch norm. zero: the norm starts at weight 0, so a residual branch starts closed."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, zero: bool = False):
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        if zero:
            nn.init.zeros_(self.bn.weight)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen 1x1, depthwise, narrow 1x1; a skip where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        widen = [ConvNorm(inputs, hidden), nn.ReLU(inplace=True)] if expansion != 1 else []
        self.conv = nn.Sequential(*widen, ConvNorm(hidden, hidden, kernel, stride, groups=hidden), nn.ReLU(inplace=True), ConvNorm(hidden, outputs))
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)


class AxialPosition(nn.Module):
    """A learned position along one axis, stretched to its length."""

    def __init__(self, channels: int, length: int = 16):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, channels, length))

    def forward(self, x: Tensor) -> Tensor:                                                     # (B, C, L)
        return x + F.interpolate(self.pos_embed, size=x.shape[-1], mode="linear", align_corners=False)


class SqueezeAxialAttention(nn.Module):
    """Attention along rows and along columns of averaged features, gated by a depthwise branch that keeps the details.

    O(C (H^2 + W^2)) instead of O(C (HW)^2): each axis is averaged away before the other attends (paper, Section 3.2).
    """

    def __init__(self, channels: int, heads: int, key_dim: int, value_ratio: int = 2):
        super().__init__()
        self.heads, self.scale = heads, key_dim ** -0.5
        keys, values = heads * key_dim, heads * key_dim * value_ratio
        self.to_q, self.to_k, self.to_v = ConvNorm(channels, keys), ConvNorm(channels, keys), ConvNorm(channels, values)
        self.pos_emb_rowq, self.pos_emb_rowk = AxialPosition(keys), AxialPosition(keys)
        self.pos_emb_columnq, self.pos_emb_columnk = AxialPosition(keys), AxialPosition(keys)
        self.proj_encode_row = nn.Sequential(nn.ReLU6(), ConvNorm(values, values, zero=True))
        self.proj_encode_column = nn.Sequential(nn.ReLU6(), ConvNorm(values, values, zero=True))
        self.proj = nn.Sequential(nn.ReLU6(), ConvNorm(values, channels, zero=True))
        self.dwconv = ConvNorm(2 * keys + values, 2 * keys + values, 3, groups=2 * keys + values)
        self.pwconv = ConvNorm(2 * keys + values, channels)

    def axis(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Multi-head attention along one axis: (B, C, L) each -> (B, C_v, L)."""
        query, key, value = (x.unflatten(1, (self.heads, -1)) for x in (query, key, value))     # (B, heads, c, L)
        weights = (query.transpose(-2, -1) @ key * self.scale).softmax(-1)                      # (B, heads, L, L)
        return (value @ weights.transpose(-2, -1)).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_q(x), self.to_k(x), self.to_v(x)                                      # (B, C_qkv, H, W)
        detail = self.pwconv(F.relu6(self.dwconv(torch.cat([q, k, v], 1)), inplace=True))                     # (B, C, H, W)
        row = self.axis(self.pos_emb_rowq(q.mean(-1)), self.pos_emb_rowk(k.mean(-1)), v.mean(-1))            # (B, C_v, H)
        column = self.axis(self.pos_emb_columnq(q.mean(-2)), self.pos_emb_columnk(k.mean(-2)), v.mean(-2))   # (B, C_v, W)
        context = v + self.proj_encode_row(row.unsqueeze(-1)) + self.proj_encode_column(column.unsqueeze(-2))
        return F.hardsigmoid(self.proj(context)) * detail


class FeedForward(nn.Module):
    """Two 1x1 convolutions with a depthwise 3x3 between them."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = ConvNorm(channels, hidden), ConvNorm(hidden, channels)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu6(self.dwconv(self.fc1(x)), inplace=True))


class SeaFormerBlock(nn.Module):
    def __init__(self, channels: int, heads: int, key_dim: int, mlp_ratio: int):
        super().__init__()
        self.attn = SqueezeAxialAttention(channels, heads, key_dim)
        self.mlp = FeedForward(channels, channels * mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class SeaFormer(nn.Module):
    """The five stages of SeaFormer, without the classifier.

    size "t", "s", "b" or "l". forward: (B, 3, H, W), any H, W >= 32 -> five maps (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])).
    `stages` may be run one by one, so that a method can change a map before the next stage reads it.
    """

    def __init__(self, size: str):
        super().__init__()
        spec = SIZES[size]
        self.size = size
        self.channels = [blocks[-1][2] for blocks in spec.stages]
        self.strides = [4, 8, 16, 32, 64]
        stem = spec.stages[0][0][2]                                                             # channels at stride 2
        self.stages = nn.ModuleList()
        inputs = stem
        first_attention = len(spec.stages) - len(spec.depths)
        for index, blocks in enumerate(spec.stages):
            layers = [nn.Sequential(ConvNorm(3, stem, 3, 2), nn.ReLU(inplace=True))] if index == 0 else []
            for kernel, expansion, outputs, stride in blocks:
                layers.append(InvertedResidual(inputs, outputs, kernel, stride, expansion))
                inputs = outputs
            if index >= first_attention:
                a = index - first_attention
                layers += [SeaFormerBlock(inputs, spec.heads, spec.key_dims[a], spec.mlp_ratios[a]) for _ in range(spec.depths[a])]
            self.stages.append(nn.Sequential(*layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def _published(self, name: str) -> str:
        """Our name -> the published one: stages.1.0.conv -> smb2.layer1.conv; stages.3.1.attn -> trans1.transformer_blocks.0.attn."""
        stage, block, rest = re.fullmatch(r"stages\.(\d+)\.(\d+)\.(.+)", name).groups()
        stage, block = int(stage), int(block)
        convolutions = len(SIZES[self.size].stages[stage]) + (stage == 0)
        if stage == 0 and block == 0:
            return f"smb1.stem_block.{rest}"
        if block < convolutions:
            return f"smb{stage + 1}.layer{block + (stage > 0)}.{rest}"
        trans = stage - (len(SIZES[self.size].stages) - len(SIZES[self.size].depths)) + 1
        return f"trans{trans}.transformer_blocks.{block - convolutions}.{rest}"

    def load_published(self, source: str | Path | Mapping[str, Tensor]) -> LoadReport:
        """Loads the authors' ImageNet classification checkpoint (SeaFormer repository, model zoo). The classifier, and stages that this encoder
        was made without, are reported as dead.

        source: path or state dict. Raises FileNotFoundError or ValueError (missing tensors, other shapes: usually another size), saying
        where the file is published.
        """
        renamed = {name: self._published(name) for name in self.state_dict()}
        with torch.device("meta"):
            whole = SeaFormer(self.size).state_dict()
        dead = {self._published(name) for name in whole.keys() - renamed.keys()} | {"linear.weight", "linear.bias"}
        return load_checkpoint(f"seaformer_{self.size}", self, source, renamed, dead)

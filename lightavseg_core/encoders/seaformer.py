"""SeaFormer (Wan et al., ICLR 2023, arXiv 2301.13156): a mobile backbone whose attention is squeezed to rows
and columns.

Written from the paper and the tensor names of the published ImageNet checkpoints, which `load_published`
reads.
"""

import re
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .visual import VisualEncoder


class SeaFormerSize(NamedTuple):
    """The differences between the sizes: widths, a few expansions, and the attention of the last stages."""

    channels: tuple[int, ...]  # of the stem and of the five stages
    first: int                 # expansion of the first block,
    expand: int                # of the following, to the third stage,
    fourth: int                # and of the fourth stage
    depths: list[int]          # attention blocks of the last len(depths) stages
    key_dims: list[int]        # per head; values are twice as wide
    mlp_ratios: list[int]
    heads: int

    def blocks(self) -> list[list[tuple[int, int, int, int]]]:
        """Kernel, expansion, channels and stride of each convolution block, by stage."""
        stem, c1, c2, c3, c4, c5 = self.channels
        expand = self.expand
        return [
            [(3, self.first, stem, 1), (3, 4, c1, 2), (3, expand, c1, 1)],
            [(5, expand, c2, 2), (5, expand, c2, 1)],
            [(3, expand, c3, 2), (3, expand, c3, 1)],
            [(5, self.fourth, c4, 2)],
            [(3, 6, c5, 2)],
        ]


SIZES = {
    "t": SeaFormerSize((16, 16, 32, 64, 128, 160), 1, 3, 3, [2, 2], [16, 24], [2, 4], 4),
    "s": SeaFormerSize((16, 24, 48, 96, 160, 192), 1, 3, 4, [3, 3], [16, 24], [2, 4], 6),
    "b": SeaFormerSize((16, 32, 64, 128, 192, 256), 1, 3, 4, [4, 4], [16, 24], [2, 4], 8),
    "l": SeaFormerSize((32, 64, 128, 192, 256, 320), 3, 4, 4, [3, 3, 3], [16, 20, 24], [2, 4, 6], 8),
}


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch norm. zero: the norm starts at weight 0, so a residual branch
    starts closed."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, zero: bool = False
    ):
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        if zero:
            nn.init.zeros_(self.bn.weight)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen 1x1, depthwise, narrow 1x1; with a skip connection if the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        layers = [ConvNorm(inputs, hidden), nn.ReLU(inplace=True)] if expansion != 1 else []
        layers += [ConvNorm(hidden, hidden, kernel, stride, groups=hidden), nn.ReLU(inplace=True)]
        self.conv = nn.Sequential(*layers, ConvNorm(hidden, outputs))
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)


class AxialPosition(nn.Module):
    """A learned positional embedding along one axis, resized to its length."""

    def __init__(self, channels: int, length: int = 16):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, channels, length))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, L)
        return x + F.interpolate(self.pos_embed, size=x.shape[-1], mode="linear", align_corners=False)


class SqueezeAxialAttention(nn.Module):
    """Attention along rows and along columns of averaged features, gated by a depthwise branch that keeps the
    details.

    O(C (H^2 + W^2)) instead of O(C (HW)^2): each axis is averaged away before the other attends (paper,
    Section 3.2).
    """

    def __init__(self, channels: int, heads: int, key_dim: int, value_ratio: int = 2):
        super().__init__()
        self.heads, self.scale = heads, key_dim ** -0.5
        keys, values = heads * key_dim, heads * key_dim * value_ratio
        self.to_q, self.to_k = ConvNorm(channels, keys), ConvNorm(channels, keys)
        self.to_v = ConvNorm(channels, values)
        self.pos_emb_rowq, self.pos_emb_rowk = AxialPosition(keys), AxialPosition(keys)
        self.pos_emb_columnq, self.pos_emb_columnk = AxialPosition(keys), AxialPosition(keys)
        self.proj_encode_row = nn.Sequential(nn.ReLU6(), ConvNorm(values, values, zero=True))
        self.proj_encode_column = nn.Sequential(nn.ReLU6(), ConvNorm(values, values, zero=True))
        self.proj = nn.Sequential(nn.ReLU6(), ConvNorm(values, channels, zero=True))
        together = 2 * keys + values
        self.dwconv = ConvNorm(together, together, 3, groups=together)
        self.pwconv = ConvNorm(together, channels)

    def axis(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Multi-head attention along one axis: (B, C, L) each -> (B, C_v, L)."""
        heads = (self.heads, -1)
        query, key, value = (x.unflatten(1, heads) for x in (query, key, value))  # (B, heads, c, L)
        weights = (query.transpose(-2, -1) @ key * self.scale).softmax(-1)        # (B, heads, L, L)
        return (value @ weights.transpose(-2, -1)).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_q(x), self.to_k(x), self.to_v(x)                    # (B, C_qkv, H, W)
        detail = F.relu6(self.dwconv(torch.cat([q, k, v], 1)), inplace=True)  # (B, 2 C_k + C_v, H, W)
        detail = self.pwconv(detail)                                          # (B, C, H, W)
        query, key = self.pos_emb_rowq(q.mean(-1)), self.pos_emb_rowk(k.mean(-1))
        row = self.axis(query, key, v.mean(-1))                               # (B, C_v, H)
        query, key = self.pos_emb_columnq(q.mean(-2)), self.pos_emb_columnk(k.mean(-2))
        column = self.axis(query, key, v.mean(-2))                            # (B, C_v, W)
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


class SeaFormer(VisualEncoder):
    """The five stages of SeaFormer, without the classifier. size: "t", "s", "b" or "l"."""

    def __init__(self, size: str):
        super().__init__()
        spec = SIZES[size]
        self.size, self.checkpoint = size, f"seaformer_{size}"
        inputs, *self.channels = spec.channels
        self.strides = [4, 8, 16, 32, 64]
        self.stages = nn.ModuleList()
        layers = [nn.Sequential(ConvNorm(3, inputs, 3, 2), nn.ReLU(inplace=True))]  # stride 2
        for index, blocks in enumerate(spec.blocks(), len(spec.depths) - 5):  # attention begins at 0
            for kernel, expansion, outputs, stride in blocks:
                layers.append(InvertedResidual(inputs, outputs, kernel, stride, expansion))
                inputs = outputs
            if index >= 0:
                sizes = (inputs, spec.heads, spec.key_dims[index], spec.mlp_ratios[index])
                layers += [SeaFormerBlock(*sizes) for _ in range(spec.depths[index])]
            self.stages.append(nn.Sequential(*layers))
            layers = []
        # Those of stages that it may lose after this, too.
        self.dead = {"linear.weight", "linear.bias", *map(self.published_name, self.state_dict())}

    def published_name(self, name: str) -> str:
        """Our name -> the published one: stages.1.0.conv -> smb2.layer1.conv; stages.3.1.attn ->
        trans1.transformer_blocks.0.attn."""
        stage, block, rest = re.fullmatch(r"stages\.(\d+)\.(\d+)\.(.+)", name).groups()
        stage, block = int(stage), int(block)
        spec = SIZES[self.size]
        convolutions = len(spec.blocks()[stage]) + (stage == 0)
        if stage == 0 and block == 0:
            return f"smb1.stem_block.{rest}"
        if block < convolutions:
            return f"smb{stage + 1}.layer{block + (stage > 0)}.{rest}"
        return f"trans{stage + len(spec.depths) - 4}.transformer_blocks.{block - convolutions}.{rest}"

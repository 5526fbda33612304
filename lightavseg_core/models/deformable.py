"""Multi-scale deformable attention (Zhu et al., "Deformable DETR", ICLR 2021), in plain PyTorch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pixel_centres(shapes: list[tuple[int, int]], like: Tensor) -> Tensor:
    """Centres of the pixels of maps of (h, w) as (x, y), 0 to 1 across the map, map after map -> (S, 2)."""
    centres = []
    for h, w in shapes:
        y = (torch.arange(h, device=like.device, dtype=like.dtype) + 0.5) / h
        x = (torch.arange(w, device=like.device, dtype=like.dtype) + 0.5) / w
        centres.append(torch.stack([x.repeat(h), y.repeat_interleave(w)], -1))
    return torch.cat(centres)


class DeformableAttention(nn.Module):
    """Each query looks at a few points around itself, in maps of several scales, instead of at every
    position.

    The query alone, without a product with keys, determines where to look and how much each point weighs: per
    head, `points` offsets for each of `levels` maps, in pixels of that map, and a softmax over all these
    points. The values there are read bilinearly, zero outside the map (Eq. 3 of the paper). Over S positions
    this takes O(S C^2), full attention O(S^2 C).
    """

    def __init__(self, channels: int, levels: int = 3, heads: int = 8, points: int = 4):
        super().__init__()
        self.levels, self.heads, self.points = levels, heads, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As in the paper's appendix: at first each head looks 1, 2, ... pixels in its own direction and
        weighs all points equally."""
        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
        for linear in (self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
        for linear in (self.attention_weights, self.value, self.output):
            nn.init.zeros_(linear.bias)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)  # (heads, 2)  onto a square
        steps = torch.arange(1, self.points + 1)
        offsets = direction[:, None, None] * steps[:, None]             # (heads, 1, points, 2)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.levels, -1, -1).flatten())

    def forward(
        self, query: Tensor, source: Tensor, centres: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        """query (B, Q, C) at centres (Q, 2); source (B, S, C): the maps' positions, row by row, map after
        map; shapes: their (h, w). -> (B, Q, C)."""
        split = (self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*split, 2))  # (B, Q, heads, levels, points, 2)
        offsets = offsets.permute(3, 0, 2, 4, 1, 5).flatten(1, 2)          # (levels, B * heads, points, Q, 2)
        weights = self.attention_weights(query).unflatten(-1, (self.heads, -1)).softmax(-1)
        weights = weights.unflatten(-1, split[1:])                         # (B, Q, heads, levels, points)
        weights = weights.permute(3, 0, 2, 4, 1).flatten(1, 2)             # (levels, B * heads, points, Q)
        sizes = offsets.new_tensor([(w, h) for h, w in shapes])            # (levels, 2)
        places = centres + offsets / sizes[:, None, None, None]            # 0 to 1 across each map
        places = 2 * places - 1                                            # -1 to 1 from edge to edge
        lengths = [h * w for h, w in shapes]
        values = self.value(source).transpose(1, 2).split(lengths, dim=-1)  # per level (B, C, h * w)
        out = 0
        for value, place, weight, (h, w) in zip(values, places, weights, shapes, strict=True):
            value = value.reshape(-1, value.shape[1] // self.heads, h, w)  # (B * heads, c, h, w)
            seen = F.grid_sample(value, place, mode="bilinear", padding_mode="zeros", align_corners=False)
            out = out + (seen * weight[:, None]).sum(2)                    # (B * heads, c, Q)
        out = out.unflatten(0, (-1, self.heads)).flatten(1, 2)             # (B, C, Q)
        return self.output(out.transpose(1, 2))

"""Small blocks that the methods share."""

import torch.nn.functional as F
from torch import Tensor, nn


def conv_block(inputs: int, outputs: int, separable: bool = False) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU; separable: a depthwise 3x3, then a 1x1 that mixes channels."""
    if separable:
        layers = [
            nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 1, bias=False),
        ]
    else:
        layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al., NeurIPS 2017). Query, key, value and output projections are
    submodules, so that hooks see them.

    forward: query (B, Q, C), key (B, K, C), and value, shaped like key, if it differs -> (B, Q, C); softmax
    over the K keys. dropout: of the attention weights, in training. temperature: divides the scores, beside
    the usual square root of the head's width; a plain attribute, so it can be changed in a trained model.
    """

    def __init__(
        self, channels: int, heads: int = 8, bias: bool = True, dropout: float = 0.0, temperature: float = 1.0
    ):
        super().__init__()
        if channels % heads:
            raise ValueError(f"width is {channels}; expected a multiple of {heads}, the attention heads.")
        self.heads, self.dropout, self.temperature = heads, dropout, temperature
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels, bias) for _ in range(4))

    @property
    def scale(self) -> float:
        """The factor of the query-key products before the softmax."""
        return (self.query.out_features // self.heads) ** -0.5 / self.temperature

    def forward(self, query: Tensor, key: Tensor, value: Tensor | None = None) -> Tensor:
        value = key if value is None else value
        projected = (self.query(query), self.key(key), self.value(value))
        # (B, L, C) -> (B, heads, L, C / heads)
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in projected)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=self.scale)
        return self.out(attended.transpose(1, 2).flatten(2))


def resize_as(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of x (B, C, h, w) to the height and width of `like`."""
    size = like.shape[-2:]
    return x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def cosine(visual: Tensor, audio: Tensor) -> Tensor:
    """Cosine similarity of every position with one vector: visual (B, C, H, W), audio (B, C, 1, 1)
    -> (B, H, W) float32.

    The same numbers as F.cosine_similarity, which first broadcasts the vector to all positions and takes
    three times as long. In float32 even under autocast: divided by tau = 0.1, a cosine needs more precision
    than bfloat16 has.
    """
    visual, audio = visual.float(), audio.float()
    return (visual * F.normalize(audio, dim=1)).sum(1) / visual.square().sum(1).clamp_min(1e-16).sqrt()

"""Small blocks that methods share."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def conv_block(inputs: int, outputs: int, kernel: int = 3, separable: bool = False) -> nn.Sequential:
    """Convolution, batch norm, ReLU; separable: a depthwise kernel and then a 1x1 that mixes channels."""
    if separable:
        layers = [nn.Conv2d(inputs, inputs, kernel, padding=kernel // 2, groups=inputs, bias=False), nn.BatchNorm2d(inputs),
                  nn.Conv2d(inputs, outputs, 1, bias=False)]
    else:
        layers = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)]
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def resize_as(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of x (B, C, h, w) to the height and width of `like`."""
    return x if x.shape[-2:] == like.shape[-2:] else F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def cosine(visual: Tensor, audio: Tensor) -> Tensor:
    """Cosine similarity of every position with one vector: visual (B, C, H, W), audio (B, C, 1, 1) -> (B, H, W) float32.

    The same numbers as F.cosine_similarity, which broadcasts the vector over all positions first and takes three times as long. In float32
    also under autocast: divided by tau = 0.1 a cosine does not survive bfloat16.
    """
    visual, audio = visual.float(), audio.float()
    return (visual * F.normalize(audio, dim=1)).sum(1) / visual.square().sum(1).clamp_min(1e-16).sqrt()

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

"""EfficientNet-Lite0 (Tan and Le, ICML 2019, arXiv 1905.11946, in its version for phones) from timm, in four
stages: a visual encoder that may be pretrained on ImageNet.

The published weights were converted from TensorFlow, so edges are padded as there ("SAME"), and pictures are
scaled to -1 to 1. Their tensors have the names of lukemelas' EfficientNet.
"""

import re

import timm
import torch
from torch import Tensor, nn

from ..data.images import MEAN, STD
from .checkpoints import PUBLISHED, Source, load_renamed, read_tensors
from .visual import VisualEncoder

NAME = "tf_efficientnet_lite0"  # timm's
# Places of the stem in the first stage; its blocks come after them.
_STEM = {"1": "_conv_stem", "2": "_bn0"}
# The number of each stage's first block, less its place in the stage.
_FIRST = (-3, 3, 5, 11)
# Layers of a block: widen 1x1, filter each channel, narrow 1x1. Block 0 does not widen.
_LAYERS = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
_LAYERS_OF_0 = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_HEAD = {"0": "_conv_head", "1": "_bn1", "3": "_fc"}  # places of `imagenet_head`
_DEAD = (
    "_conv_head.weight", "_bn1.weight", "_bn1.bias", "_bn1.running_mean", "_bn1.running_var", "_fc.weight",
    "_fc.bias",
)


class Rescaled(nn.Module):
    """Frames normalized with ImageNet's mean and std, as all methods get them, rescaled to -1 to 1: mean and
    std of 0.5."""

    def __init__(self):
        super().__init__()
        # Made here of numbers, and so on the device on which the model is built.
        for name, values in {"scale": 2 * STD, "shift": 2 * MEAN - 1}.items():
            self.register_buffer(name, torch.tensor(values.tolist()), persistent=False)  # (3, 1, 1)

    def forward(self, frames: Tensor) -> Tensor:
        return frames * self.scale + self.shift


class EfficientNetLite0(VisualEncoder):
    """EfficientNet-Lite0 without its classifier. The weights are random until some are loaded."""

    checkpoint = "efficientnet_lite0"  # for ImageNet

    def __init__(self):
        super().__init__()
        net = timm.create_model(NAME, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4))
        self.channels, self.strides = net.feature_info.channels(), net.feature_info.reduction()
        blocks = net.blocks
        stem = nn.Sequential(Rescaled(), net.conv_stem, net.bn1, *blocks[0], *blocks[1])
        deeper = nn.Sequential(*blocks[3], *blocks[4]), nn.Sequential(*blocks[5], *blocks[6])
        self.stages = nn.ModuleList([stem, nn.Sequential(*blocks[2]), *deeper])
        # The classifier, and stages that it may lose after this.
        self.dead = {*map(self.published_name, self.state_dict()), *_DEAD}

    @staticmethod
    def published_name(name: str) -> str:
        """Our name of a tensor -> lukemelas': stages.0.1.weight -> _conv_stem.weight,
        stages.1.0.conv_pw.weight -> _blocks.3._expand_conv.weight."""
        stage, place, rest = re.fullmatch(r"stages\.(\d)\.(\d+)\.(.+)", name).groups()
        if stage == "0" and place in _STEM:
            return f"{_STEM[place]}.{rest}"
        block = _FIRST[int(stage)] + int(place)
        layer, kind = rest.split(".")
        return f"_blocks.{block}.{(_LAYERS if block else _LAYERS_OF_0)[layer]}.{kind}"


def imagenet_head(source: Source) -> nn.Sequential:
    """The published classifier, which the encoder leaves out: (B, 320, h, w), its last map -> logits
    (B, 1000). timm's `ImageNetInfo` names the classes.

    Raises what `EfficientNetLite0.load_published` raises.
    """
    net = timm.create_model(NAME, pretrained=False)
    head = nn.Sequential(net.conv_head, net.bn2, net.global_pool, net.classifier).eval()
    names = {name: _HEAD[name[0]] + name[1:] for name in head.state_dict()}
    load_renamed(head, read_tensors(source), names, PUBLISHED[EfficientNetLite0.checkpoint].file)
    return head

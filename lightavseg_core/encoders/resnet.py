"""ResNet-50 (He et al., CVPR 2016) from timm, in four stages: the backbone of AVSBench, AVSegFormer and
SelM."""

import re

import timm
from torch import nn

from .visual import VisualEncoder

# Places in the first stage; between them stand a ReLU and a max-pooling.
_STEM = {"0": "conv1", "1": "bn1", "4": "layer1"}


class ResNet50(VisualEncoder):
    """ResNet-50 without its classifier; the stride of a bottleneck is on its 3x3, as in torchvision.

    The weights are random until some are loaded.
    """

    checkpoint = "resnet50"          # for ImageNet; torchvision's and timm's names are the same
    dead = ("fc.weight", "fc.bias")  # the classifier
    channels = [256, 512, 1024, 2048]
    strides = [4, 8, 16, 32]

    def __init__(self):
        super().__init__()
        net = timm.create_model("resnet50", pretrained=False)
        stem = nn.Sequential(net.conv1, net.bn1, net.act1, net.maxpool, net.layer1)
        self.stages = nn.ModuleList([stem, net.layer2, net.layer3, net.layer4])

    @staticmethod
    def published_name(name: str) -> str:
        """Our name of a tensor -> torchvision's: stages.0.0.weight -> conv1.weight, stages.2.1.bn1.bias ->
        layer3.1.bn1.bias."""
        _, stage, rest = name.split(".", 2)
        if stage == "0":
            place, rest = rest.split(".", 1)
            return f"{_STEM[place]}.{rest}"
        return f"layer{int(stage) + 1}.{rest}"


def two_branch_name(name: str) -> str:
    """Our name of a tensor of ResNet50 -> its name in the authors' checkpoints of AVSBench, AVSegFormer and
    SelM: layer3_1.0.conv1.weight.

    Their "two-branch" ResNet-50 is torchvision's with layer3 and layer4 named layer3_1 and layer4_1. Second
    copies, layer3_2 and layer4_2, start from layer2: they are built and saved (22.06M parameters) but never
    run.
    """
    return re.sub(r"^(layer[34])", r"\1_1", ResNet50.published_name(name))

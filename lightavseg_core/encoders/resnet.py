"""ResNet-50 (He et al., CVPR 2016) from timm, in four stages: the backbone of AVSBench, AVSegFormer and SelM."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import timm
from torch import Tensor, nn

from .checkpoints import LoadReport, load_checkpoint

_STEM = {"0": "conv1", "1": "bn1", "4": "layer1"}    # places in the first stage; between them stand a ReLU and a max-pooling


class ResNet50(nn.Module):
    """ResNet-50 without its classifier; the stride of a bottleneck sits on its 3x3, as in torchvision.

    forward: (B, 3, H, W), any H, W >= 32 -> four maps (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])). `stages` may be run one by
    one, so that a method can change a map before the next stage reads it. The weights are random: load some.
    """

    channels = [256, 512, 1024, 2048]
    strides = [4, 8, 16, 32]

    def __init__(self):
        super().__init__()
        net = timm.create_model("resnet50", pretrained=False)
        stem = nn.Sequential(net.conv1, net.bn1, net.act1, net.maxpool, net.layer1)
        self.stages = nn.ModuleList([stem, net.layer2, net.layer3, net.layer4])

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    @staticmethod
    def published_name(name: str) -> str:
        """Our name of a tensor -> torchvision's: stages.0.0.weight -> conv1.weight, stages.2.1.bn1.bias -> layer3.1.bn1.bias."""
        _, stage, rest = name.split(".", 2)
        if stage == "0":
            place, rest = rest.split(".", 1)
            return f"{_STEM[place]}.{rest}"
        return f"layer{int(stage) + 1}.{rest}"

    def load_published(self, source: str | Path | Mapping[str, Tensor]) -> LoadReport:
        """Loads an ImageNet checkpoint of torchvision's or timm's ResNet-50. The classifier is reported as dead.

        source: path or state dict. Raises FileNotFoundError or ValueError (missing tensors, other shapes: usually another network), saying
        where the file is published.
        """
        renamed = {name: self.published_name(name) for name in self.state_dict()}
        return load_checkpoint("resnet50", self, source, renamed, dead={"fc.weight", "fc.bias"})


def two_branch_name(name: str) -> str:
    """Our name of a tensor of ResNet50 -> its name in the authors' checkpoints of AVSBench, AVSegFormer and SelM: layer3_1.0.conv1.weight.

    Their "two-branch" ResNet-50 is torchvision's with layer3 and layer4 as layer3_1 and layer4_1. Second copies, layer3_2 and layer4_2, start
    from layer2: they are built and saved (22.06M parameters) and never run.
    """
    published = ResNet50.published_name(name)
    for layer in ("layer3", "layer4"):
        published = published.replace(f"{layer}.", f"{layer}_1.")
    return published

"""What visual encoders have in common: stages, each with its own map."""

from torch import Tensor, nn

from .checkpoints import Published


class VisualEncoder(Published):
    """forward: (B, 3, H, W), any H, W >= 32 -> for each stage a map (B, channels[i], ceil(H / strides[i]),
    ceil(W / strides[i])).

    `stages` may be run one by one, so that a method can change a map before the next stage reads it.
    """

    stages: nn.ModuleList
    channels: list[int]
    strides: list[int]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


"""MobileNetV2 (Sandler et al., CVPR 2018) from timm, with one input channel, as an audio encoder."""

import timm
from torch import Tensor, nn

from ..data.audio import LogMel


class MobileNetV2Audio(nn.Module):
    """Maps a log-mel to one vector. forward: (B, 1, F, M), 96 x 64 from its front end -> (B, 1280).

    name: timm's, "mobilenetv2_050" or "mobilenetv2_100". The weights are random: train them
    (`pretrain_audio`) or load some.
    """

    def __init__(self, name: str):
        super().__init__()
        self.front_end = LogMel()
        self.network = timm.create_model(name, pretrained=False, in_chans=1, num_classes=0)
        self.channels = self.network.num_features

    def forward(self, log_mel: Tensor) -> Tensor:
        # The log-mel of silence is log 0.01; shifted and scaled so that silence is about -1 and loud sound
        # about 1.
        return self.network((log_mel + 1.3) / 3.3)

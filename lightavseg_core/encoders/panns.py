"""The MobileNetV2 of PANNs (Kong et al., TASLP 2020, arXiv 1912.10211), trained to tag AudioSet."""

from torch import Tensor, nn

from ..data.audio import PANNsLogMel
from .checkpoints import Published

# Expansion, channels, blocks, stride of the first: as Sandler et al. have them, but for the last halving,
# which comes three blocks earlier.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 2),
    (6, 160, 3, 1),
    (6, 320, 1, 1),
)


def _filter(inputs: int, outputs: int, stride: int, groups: int = 1) -> list[nn.Module]:
    """A 3x3 convolution at full resolution, then average pooling: where MobileNetV2 has a stride, PANNs has
    pooling, which drops odd edges."""
    pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=False)
    return [convolution, pool, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True)]


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]


class InvertedResidual(nn.Module):
    """Widen 1x1, depthwise 3x3, narrow 1x1; with a skip connection if the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        widen = [*_pointwise(inputs, hidden), nn.ReLU6(inplace=True)] if expansion != 1 else []
        each = _filter(hidden, hidden, stride, groups=hidden)
        self.conv = nn.Sequential(*widen, *each, *_pointwise(hidden, outputs))
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)


class PANNsMobileNetV2(Published):
    """Maps a log-mel in dB to the vector that the tagging head reads. forward: (B, 1, F, 64), F >= 32, 101
    from its front end -> (B, 1280).

    The weights are random: load the published ones, or train them. The modules have the names of the
    published tensors.
    """

    checkpoint = "panns_mobilenetv2"
    # The tagging head, and the front end's windows and filters.
    dead = (
        "fc1.weight",
        "fc1.bias",
        "fc_audioset.weight",
        "fc_audioset.bias",
        "spectrogram_extractor.stft.conv_real.weight",
        "spectrogram_extractor.stft.conv_imag.weight",
        "logmel_extractor.melW",
    )
    channels = 1280

    def __init__(self):
        super().__init__()
        self.front_end = PANNsLogMel()
        self.bn0 = nn.BatchNorm2d(self.front_end.shape[1])
        layers, inputs = [nn.Sequential(*_filter(1, 32, stride=2))], 32
        for expansion, outputs, blocks, stride in STAGES:
            for block in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, stride if block == 0 else 1, expansion))
                inputs = outputs
        layers.append(nn.Sequential(*_pointwise(inputs, self.channels), nn.ReLU6(inplace=True)))
        self.features = nn.Sequential(*layers)

    def forward(self, log_mel: Tensor) -> Tensor:
        if log_mel.shape[1] != 1 or log_mel.shape[2] < 32 or log_mel.shape[3] != self.front_end.shape[1]:
            raise ValueError(
                f"log_mel has shape {tuple(log_mel.shape)}; expected (B, 1, F, 64) with F at least 32, from "
                "PANNs' front end."
            )
        x = self.bn0(log_mel.transpose(1, 3)).transpose(1, 3)  # (B, 1, F, 64)  each mel band by itself
        x = self.features(x).mean(3)                           # (B, 1280, F / 32)  averaged over frequency
        return x.amax(2) + x.mean(2)                           # (B, 1280)

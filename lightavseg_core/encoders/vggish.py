"""VGGish (Hershey et al., ICASSP 2017, arXiv 1609.09430): the audio encoder of AVSBench, AVSegFormer and
SelM."""

from torch import Tensor, nn

from ..data.audio import LogMel
from .checkpoints import Published


def _convolutions() -> nn.Sequential:
    """Six 3x3 convolutions with ReLU; "pool" halves the map."""
    layers, inputs = [], 1
    for outputs in (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool"):
        if outputs == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
    return nn.Sequential(*layers)


class VGGish(Published):
    """Maps a log-mel of 0.975 s to the embedding after the last ReLU, neither whitened (PCA) nor quantized.
    forward: (B, 1, 96, 64) -> (B, 128).

    mode: how its front end cuts a track, "frame" or "published" (see `LogMel`). Its 72.1M parameters are
    random: load the published ones, or train them. The modules have the names of the published tensors.
    """

    checkpoint = "vggish"
    channels = 128

    def __init__(self, mode: str = "frame"):
        super().__init__()
        self.front_end = LogMel(mode)
        self.features = _convolutions()
        layers = []
        for inputs, outputs in ((6 * 4 * 512, 4096), (4096, 4096), (4096, self.channels)):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        self.embeddings = nn.Sequential(*layers)

    def forward(self, log_mel: Tensor) -> Tensor:
        if log_mel.shape[1:] != (1, *self.front_end.shape):
            raise ValueError(
                f"log_mel has shape {tuple(log_mel.shape)}; expected (B, 1, 96, 64), from VGGish's front "
                "end."
            )
        x = self.features(log_mel)            # (B, 512, 6, 4)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (B, 12288)  channels last, as where it was first trained
        return self.embeddings(x)             # (B, 128)

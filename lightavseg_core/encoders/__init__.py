"""What turns pixels and sound into features."""
from __future__ import annotations

from torch import nn

from .._common.names import unknown
from .checkpoints import LoadReport
from .downloads import download
from .mobilenetv2 import MobileNetV2Audio
from .panns import PANNsMobileNetV2
from .resnet import ResNet50
from .seaformer import SeaFormer
from .vggish import VGGish

VISUAL = {**{f"seaformer_{size}": lambda size=size: SeaFormer(size) for size in "tsbl"}, "resnet50": ResNet50}
AUDIO = {**{name: lambda name=name: MobileNetV2Audio(name) for name in ("mobilenetv2_050", "mobilenetv2_100")},
         "panns_mobilenetv2": PANNsMobileNetV2, "vggish": VGGish, "vggish_published": lambda: VGGish("published")}

__all__ = ["AUDIO", "VISUAL", "LoadReport", "create_audio_encoder", "create_visual_encoder", "download"]


def create_visual_encoder(name: str, stages: int | None = None) -> nn.Module:
    """name: "seaformer_t", "_s", "_b", "_l" or "resnet50". The encoder has .stages, .channels and .strides; (B, 3, H, W) -> a list of maps.

    stages: only so many of them, from the finest; by default all.
    """
    if name not in VISUAL:
        raise unknown("visual encoder", name, VISUAL)
    encoder = VISUAL[name]()
    encoder.stages, encoder.channels, encoder.strides = encoder.stages[:stages], encoder.channels[:stages], encoder.strides[:stages]
    return encoder


def create_audio_encoder(name: str, mode: str = "frame") -> nn.Module:
    """name: "mobilenetv2_050", "mobilenetv2_100", "panns_mobilenetv2" or "vggish". The encoder has .channels and .front_end; (B, 1, F, M) ->
    (B, channels).

    mode: "published" gives VGGish the reference's way of cutting a track (see `LogMel`); "vggish_published" is the same by name, for a model's
    configuration.
    """
    if mode not in ("frame", "published") or (mode == "published" and name != "vggish"):
        raise ValueError(f"mode is {mode!r} for {name!r}; expected 'frame', or for 'vggish' also 'published'.")
    name = name if mode == "frame" else f"{name}_{mode}"
    if name not in AUDIO:
        raise unknown("audio encoder", name, AUDIO)
    return AUDIO[name]()

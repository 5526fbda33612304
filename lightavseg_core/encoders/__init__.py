"""Encoders turn pixels and sound into features."""

from functools import partial

from torch import nn

from .._common.names import unknown
from .downloads import download
from .efficientnet import EfficientNetLite0
from .mobilenetv2 import MobileNetV2Audio
from .panns import PANNsMobileNetV2
from .resnet import ResNet50
from .seaformer import SeaFormer
from .vggish import VGGish

VISUAL = {
    **{f"seaformer_{size}": partial(SeaFormer, size) for size in "tsbl"},
    "resnet50": ResNet50,
    "efficientnet_lite0": EfficientNetLite0,
}
AUDIO = {
    "mobilenetv2_050": partial(MobileNetV2Audio, "mobilenetv2_050"),
    "mobilenetv2_100": partial(MobileNetV2Audio, "mobilenetv2_100"),
    "panns_mobilenetv2": PANNsMobileNetV2,
    "vggish": VGGish,
    "vggish_published": partial(VGGish, "published"),
}

__all__ = ["AUDIO", "VISUAL", "create_audio_encoder", "create_visual_encoder", "download"]


def create_visual_encoder(name: str, stages: int | None = None) -> nn.Module:
    """name: "seaformer_t", "_s", "_b", "_l", "resnet50" or "efficientnet_lite0". The encoder has .stages,
    .channels and .strides; (B, 3, H, W) -> a list of maps.

    stages: how many to keep, from the finest; by default all.
    """
    if name not in VISUAL:
        raise unknown("visual encoder", name, VISUAL)
    encoder = VISUAL[name]()
    for kept in ("stages", "channels", "strides"):
        setattr(encoder, kept, getattr(encoder, kept)[:stages])
    return encoder


def create_audio_encoder(name: str) -> nn.Module:
    """name: "mobilenetv2_050", "mobilenetv2_100", "panns_mobilenetv2", "vggish", or "vggish_published", which
    cuts a track as the reference does (see `LogMel`). The encoder has .channels and .front_end;
    (B, 1, F, M) -> (B, channels).
    """
    if name not in AUDIO:
        raise unknown("audio encoder", name, AUDIO)
    return AUDIO[name]()

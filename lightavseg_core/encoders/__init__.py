"""What turns pixels and sound into features."""
from __future__ import annotations

import difflib

from torch import nn

from .mobilenetv2 import MobileNetV2Audio
from .published import LoadReport
from .resnet import ResNet50
from .seaformer import SeaFormer

VISUAL = {**{f"seaformer_{size}": lambda size=size: SeaFormer(size) for size in "tsbl"}, "resnet50": ResNet50}
AUDIO = {name: lambda name=name: MobileNetV2Audio(name) for name in ("mobilenetv2_050", "mobilenetv2_100")}

__all__ = ["AUDIO", "VISUAL", "LoadReport", "create_audio_encoder", "create_visual_encoder"]


def unknown(kind: str, name: str, known) -> ValueError:
    """An error for a name that is not known, with the nearest one that is."""
    near = difflib.get_close_matches(str(name).lower(), list(known), n=1)
    return ValueError(f"unknown {kind} {name!r}{f': did you mean {near[0]!r}?' if near else '.'} Known: {', '.join(sorted(known))}.")


def create_visual_encoder(name: str) -> nn.Module:
    """name: "seaformer_t", "_s", "_b", "_l" or "resnet50". The encoder has .stages, .channels and .strides; (B, 3, H, W) -> a list of maps."""
    if name not in VISUAL:
        raise unknown("visual encoder", name, VISUAL)
    return VISUAL[name]()


def create_audio_encoder(name: str) -> nn.Module:
    """name: "mobilenetv2_050" or "mobilenetv2_100". The encoder has .channels and .front_end; (B, 1, F, M) -> (B, channels)."""
    if name not in AUDIO:
        raise unknown("audio encoder", name, AUDIO)
    return AUDIO[name]()

"""LightAVSeg (ICML 2026, arXiv 2605.08805): audio tells what is sounding, vision tells where.

A global audio vector meets the visual features only as one number per channel: what is seen refines it, stage
by stage (RAVE); it is added to the features, and refined again from coarse to fine in the decoder (CMFD).
Only visual features keep positions, so the cost is O(H W). The paper has no public code; where it leaves a
choice, the comment says "chosen".
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import AVSModel, ModelConfig, Scale, register
from .blocks import conv_block, cosine, resize_as


@dataclass
class LightAVSegConfig(ModelConfig):
    method: str = "lightavseg"
    width: int = 216           # D, the decoder's channels (chosen)
    separable: bool = False    # depthwise-separable 3x3 convolutions in the decoder
    agve: bool = True          # add the audio state to each encoder stage
    har: bool = True           # refine the audio state by the visual gate, stage by stage
    cmfd: bool = True          # refine it again in the decoder, and add it there
    pooling: str = "max"       # "max" (the paper) or "avg": how positions are dropped


def pool(visual: Tensor, how: str) -> Tensor:
    """(B, C, H, W) -> (B, C, 1, 1): what is there, without where."""
    return F.adaptive_max_pool2d(visual, 1) if how == "max" else visual.mean((-2, -1), keepdim=True)


class RAVEStage(nn.Module):
    """One stage of the Reciprocal Audio-Visual Encoder (Eq. 3-5)."""

    def __init__(self, audio_channels: int, channels: int, config: LightAVSegConfig):
        super().__init__()
        self.config = config
        self.project = nn.Conv2d(audio_channels, channels, 1)
        self.gate = nn.Conv2d(channels, channels, 1) if config.har else None

    def forward(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """visual V_i (B, C, H, W), audio (B, C_prev, 1, 1) -> V_i^enc (B, C, H, W), A_i (B, C, 1, 1)."""
        audio = self.project(audio)                         # (B, C, 1, 1)
        if self.config.har:
            what = pool(visual, self.config.pooling)        # (B, C, 1, 1)  v_i: positions dropped on purpose
            audio = audio * F.hardsigmoid(self.gate(what))  # A_i, HAR: keep what something seen can make
        if self.config.agve:
            visual = visual + audio                         # V_i^enc, AGVE: one bias per channel, O(H W)
        return visual, audio


class CMFDStage(nn.Module):
    """One audio refinement of the Cross-Modal Fusion Decoder: A_i, with the coarser Â, to Â_i."""

    def __init__(self, channels: int, config: LightAVSegConfig, coarsest: bool):
        super().__init__()
        self.config = config
        self.lateral = nn.Conv2d(channels, config.width, 1)  # A_i to the decoder's width
        if config.cmfd:
            self.merge = nn.Conv2d(config.width * (1 if coarsest else 2), config.width, 1)
            self.gate = nn.Conv2d(channels, config.width, 1)
            self.broadcast = nn.Conv2d(config.width, config.width, 1)

    def forward(
        self, x: Tensor, visual: Tensor, audio: Tensor, coarser: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """x (B, D, H, W), visual V_i^enc (B, C, H, W), audio A_i (B, C, 1, 1), coarser Â (B, D, 1, 1)
        -> V_i^dec (B, D, H, W), Â_i (B, D, 1, 1)."""
        audio = self.lateral(audio)                     # (B, D, 1, 1)
        if not self.config.cmfd:
            return x, audio                             # only compared with V_dec, not added (chosen)
        merged = audio if coarser is None else torch.cat([coarser, audio], 1)
        audio = F.relu(self.merge(merged))              # A_i*
        what = pool(visual, self.config.pooling)        # (B, C, 1, 1)
        audio = audio * F.hardsigmoid(self.gate(what))  # Â_i
        return x + self.broadcast(audio), audio         # V_i^dec: again one bias per channel


@register
class LightAVSeg(AVSModel):
    """LightAVSeg. Paper: arXiv 2605.08805, Section 3. Chosen here: five stages if the encoder has five, the
    decoder's width and its 3x3 blocks, the head, and where static fusion (agve = har = cmfd = False) adds the
    audio: once, at the decoder's coarsest scale."""

    config_class = LightAVSegConfig
    auxiliary = "alignment"
    fusion = ("rave", "cmfd", "static")
    presets = {
        "paper": {"width": 216, "separable": False},
        "lean": {"width": 128, "separable": True},
        "tiny": {"width": 64, "separable": True},
    }

    def __init__(self, config: LightAVSegConfig):
        super().__init__(config)
        if not 1 <= config.width <= 4096:
            raise ValueError(f"width is {config.width}; expected 1 to 4096 channels.")
        if config.pooling not in ("max", "avg"):
            raise ValueError(f"pooling is {config.pooling!r}; expected 'max' (the paper) or 'avg'.")
        channels, width = self.visual.channels, config.width
        heard, last = self.audio.channels, len(channels) - 1
        # With HAR the audio state passes from stage to stage; without it each stage projects A_0 by itself.
        sources = [heard, *channels[:-1]] if config.har else [heard] * len(channels)
        self.rave = nn.ModuleList(RAVEStage(a, c, config) for a, c in zip(sources, channels, strict=True))
        self.cmfd = nn.ModuleList(CMFDStage(c, config, coarsest=i == last) for i, c in enumerate(channels))
        self.static = None if config.agve or config.cmfd else nn.Conv2d(heard, width, 1)
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(conv_block(width, width, separable=config.separable) for _ in channels)
        block = conv_block(width, width, separable=config.separable)
        self.head = nn.Sequential(block, nn.Conv2d(width, config.num_classes, 1))

    def encode(self, frames: Tensor, audio: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """RAVE: frames (B, 3, H, W), A_0 (B, C_a, 1, 1) -> V_i^enc and A_i of each stage, fine to coarse."""
        visuals, audios, visual, state = [], [], frames, audio
        for stage, rave in zip(self.visual.stages, self.rave, strict=True):
            visual, refined = rave(stage(visual), state)  # the next stage reads V_i^enc
            state = refined if self.config.har else audio
            visuals.append(visual)
            audios.append(refined)
        return visuals, audios

    def decode(
        self, visuals: list[Tensor], audios: list[Tensor], audio: Tensor, with_scales: bool = False
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor | None]]]:
        """CMFD, coarse to fine -> the finest map (B, D, h, w), and (V_dec, Â) of each scale."""
        scales, x, state = [], None, None
        for i in reversed(range(len(visuals))):
            lateral = self.lateral[i](visuals[i])    # (B, D, h, w)
            if x is None:
                x = lateral if self.static is None else lateral + self.static(audio)
            else:
                x = lateral + resize_as(x, lateral)
            if self.config.cmfd or with_scales:      # with CMFD off, Â is only for comparison
                x, state = self.cmfd[i](x, visuals[i], audios[i], state)
            scales.append((x, state))
            x = self.smooth[i](x)
        return x, scales

    def segment(
        self, frames: Tensor, log_mel: Tensor, with_scales: bool
    ) -> tuple[Tensor, list[Scale] | None]:
        clips = frames.shape[:2]                                       # B, T
        frames, log_mel = frames.flatten(0, 1), log_mel.flatten(0, 1)  # (B*T, ...): frames are independent
        audio = self.hear(log_mel)[..., None, None]                    # (B*T, C_a, 1, 1)  A_0
        visuals, audios = self.encode(frames, audio)
        x, states = self.decode(visuals, audios, audio, with_scales)
        logits = F.interpolate(self.head(x), size=frames.shape[-2:], mode="bilinear", align_corners=False)
        if not with_scales:
            return logits.unflatten(0, clips), None
        scales = []
        for decoded, heard in states:                                  # V_dec, Â
            parts = decoded, heard.flatten(1), cosine(decoded, heard)
            scales.append(Scale(*(part.unflatten(0, clips) for part in parts)))
        return logits.unflatten(0, clips), scales

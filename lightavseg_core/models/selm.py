"""SelM (Li et al., ACM MM 2024): state spaces over time select what to listen to, hard token attention
selects where.

Sound meets the image three times: in the backbone (DAM), once per second and channel (BCSM), and in the
decoder, where two tokens, one of which has heard the sound, divide the pixels between them. Written from the
published code's behaviour and checked against its numbers.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import AVSModel, ModelConfig, Scale, register
from .mamba import Mamba
from .selm_decoder import Decoder, DynamicHead, Mlp, stretch
from .selm_names import published_name

STAGES = 4  # of the encoder that are read: strides 4 to 32


@dataclass
class SelMConfig(ModelConfig):
    method: str = "selm"
    width: int = 256         # D: channels of the projected maps, the audio state and the tokens
    layers: int = 3          # Mamba blocks in each of BCSM's eight encoders
    upsamplings: int = 2     # of the head: as published 2 for S4 and AVSS, 1 for MS3, at size 448
    published: bool = False  # as the published code behaves: random also in eval, and clips mix (see BCSM)


def instance_norm(x: Tensor) -> Tensor:
    """Normalizes each channel of each frame to mean 0 and variance 1 over its positions: (N, C, L), any
    L >= 1. torch's own refuses L = 1."""
    return F.layer_norm(x, x.shape[-1:])


class AudioToPixels(nn.Module):
    """DAM, visual side: every pixel asks the sound of its second. x (N, C, P), audio (N, D, 1) -> (N, C, P).

    Computed as published, yet without effect: there is one key, so the softmax over it is 1, every pixel
    hears the same vector, and the instance norm subtracts the mean from a constant. What remains is
    GELU(bias of `out`), one number per channel, whatever is seen or heard: attention dissipation again, and
    here the norm removes even the broadcast vector. (In floating point a constant differs from its mean by a
    rounding error, which the norm divides by sqrt(1e-5): about 1e-5 instead of 0.)
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.visual = nn.Conv1d(channels, channels, 1)
        self.query1, self.query2 = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, channels, 1)
        self.key, self.value = nn.Conv1d(width, channels, 1), nn.Conv1d(width, channels, 1)
        self.weight = nn.Parameter(torch.ones(1))
        self.heard = nn.Conv1d(channels, channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, audio: Tensor) -> Tensor:
        query = instance_norm(self.query2(instance_norm(self.query1(x))))         # (N, C, P)
        attention = query.transpose(1, 2) @ self.key(audio) * x.shape[1] ** -0.5  # (N, P, 1)
        attention = attention.softmax(-1) * self.weight.softmax(0)                # 1: one key, one weight
        heard = self.value(audio) @ attention.transpose(1, 2)                     # (N, C, P)  one vector,
        heard = instance_norm(self.heard(heard))                                  # so 0
        return F.gelu(self.out(F.gelu(self.visual(x)) * heard))                   # GELU(bias)


class PixelsToAudio(nn.Module):
    """DAM, audio side: the sound asks all pixels. x (N, C, P), audio (N, D, 1) -> (N, D, 1). Here the image
    reaches the sound."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.query1, self.query2 = nn.Conv1d(width, channels, 1), nn.Conv1d(channels, width, 1)
        self.key, self.value = nn.Conv1d(channels, width, 1), nn.Conv1d(channels, width, 1)
        self.weight = nn.Parameter(torch.ones(1))
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, audio: Tensor) -> Tensor:
        query = self.query2(self.query1(audio))                                # (N, D, 1)
        key, value = instance_norm(self.key(x)), instance_norm(self.value(x))  # (N, D, P)
        attention = query.transpose(1, 2) @ key * x.shape[1] ** -0.5           # (N, 1, P)  as published by C
        attention = attention.softmax(-1) * self.weight.softmax(0)
        return self.out(value @ attention.transpose(1, 2))                     # (N, D, 1)


class DAM(nn.Module):
    """Dual Alignment Module, after a stage of the backbone; both sides read the module's input.
    x (N, C, h, w), audio (N, D, 1) -> the same shapes."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.to_pixels, self.to_audio = AudioToPixels(channels, width), PixelsToAudio(channels, width)
        self.gate1, self.gate2 = (nn.Linear(channels, channels, bias=False) for _ in range(2))
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        pixels = x.flatten(2)                                   # (N, C, P)
        update = self.to_pixels(pixels, audio).transpose(1, 2)  # (N, P, C)
        update = self.gate2(F.relu(self.gate1(update))).tanh() * update
        audio = audio + F.gelu(self.out(self.to_audio(pixels, audio)))
        return x + update.transpose(1, 2).unflatten(2, x.shape[-2:]), audio


class MambaLayer(nn.Module):
    """Layer norm, then a Mamba block whose residual is the *normed* signal (published). (B, T, D) -> the same
    shape."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.mamba = nn.LayerNorm(width), Mamba(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return x + self.mamba(x)


class BCSM(nn.Module):
    """Bidirectional gates over time: at each scale the sound gates the image's channels, and the images
    together gate the sound's.

    maps: four of (B*T, D, h, w), clips (B, T), audio (B*T, D) -> the same shapes. Each frame has its own
    gate. With `published`, as in the authors' code, all but the first audio gate are flattened with time
    before clip, but the features with clip before time: frame k of the batch takes the gate of second k // B
    of clip k % B. For one clip that is right; with more, clips mix, and the scores were measured that way.
    """

    def __init__(self, width: int, layers: int, published: bool):
        super().__init__()
        self.published = published

        def linears() -> nn.ModuleList:
            return nn.ModuleList(nn.Linear(width, width) for _ in range(STAGES))

        def encoder() -> nn.Sequential:
            return nn.Sequential(*(MambaLayer(width) for _ in range(layers)))

        self.visual_in, self.visual_gate, self.audio_gate = linears(), linears(), linears()
        self.visual_encoder = nn.ModuleList(encoder() for _ in range(STAGES))
        self.audio_encoder = nn.ModuleList(encoder() for _ in range(STAGES))

    def forward(
        self, maps: list[Tensor], audio: Tensor, clips: tuple[int, int]
    ) -> tuple[list[Tensor], Tensor]:
        sound, gated, total = audio.unflatten(0, clips), [], 0                       # (B, T, D)
        for i, x in enumerate(maps):
            seen = self.visual_in[i](x.mean((-2, -1))).unflatten(0, clips)           # (B, T, D)
            visual_gate = F.silu(self.visual_gate[i](self.visual_encoder[i](seen)))  # (B, T, D)
            audio_gate = F.silu(self.audio_gate[i](self.audio_encoder[i](sound)))    # (B, T, D)
            if self.published:
                visual_gate = visual_gate.transpose(0, 1)
                audio_gate = audio_gate.transpose(0, 1) if i else audio_gate
            gate = audio_gate.flatten(0, 1)[..., None, None]                         # (B*T, D, 1, 1)
            gated.append(x + gate * x)                                               # (B*T, D, h, w)
            total = total + visual_gate.flatten(0, 1)                                # (B*T, D)
        return gated, audio + total / len(maps) * audio


@register
class SelM(AVSModel):
    """SelM. Paper: Li, Yu, Wang, Wang and Lu, "SelM: Selective Mechanism based Audio-Visual Segmentation",
    ACM MM 2024.

    Found in the published code and kept: the early fusion adds one constant per channel (AudioToPixels), so
    sound reaches the pixels only through BCSM's gates and the decoder. Found and kept with `published=True`:
    clips of a batch mix in the gates, and Gumbel noise is drawn in evaluation too, so the published model is
    random. By default evaluation is deterministic and clips are independent. Removed: the restriction to one
    image size (positional embeddings are resized) and to five frames, and a temperature that never learned
    (TokenAttention). Chosen here: of SeaFormer the first four stages, strides 4 to 32 as in ResNet-50. As
    published, several classes (AVSS) have one generated kernel each, without the bias that the binary head
    generates. `scales`: at each token attention the map, the second token, which has heard the sound, and its
    hit map: 1 where a pixel chose it, else 0.
    """

    config_class = SelMConfig
    stages = STAGES
    auxiliary = "selection"
    fusion = (
        "audio_proj",
        "audio_norm",
        "dam",
        "bcsm",
        *(f"decoder.levels.{i}.load" for i in range(STAGES - 1)),
    )
    published_visual = "resnet"
    presets = {"tiny": {"width": 64, "layers": 2}}

    def __init__(self, config: SelMConfig):
        super().__init__(config)
        width = config.width
        if not 64 <= width <= 4096 or width % 32:
            raise ValueError(
                f"width is {width}; expected a multiple of 32 (the groups of its norms) from 64 to 4096."
            )
        for name, least, most in (("layers", 1, 64), ("upsamplings", 0, 4), ("size", 32, 4096)):
            value = getattr(config, name)
            if not least <= value <= most:
                raise ValueError(f"{name} is {value}; expected {least} to {most}.")
        channels = self.visual.channels
        # Of the maps, at the size that it is trained at.
        sides = [-(-config.size // stride) for stride in self.visual.strides]
        self.audio_proj, self.audio_norm = nn.Linear(self.audio.channels, width), nn.LayerNorm(width)
        self.dam = nn.ModuleList(DAM(c, width) for c in channels)
        self.in_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1), nn.GroupNorm(32, width)) for c in channels
        )
        self.bcsm = BCSM(width, config.layers, config.published)
        self.decoder = Decoder(width, sides[-2::-1], config.published)
        self.head = DynamicHead(width, config.num_classes, config.upsamplings)

    def encode(self, frames: Tensor, audio: Tensor) -> tuple[list[Tensor], Tensor]:
        """frames (N, 3, H, W), audio (N, D, 1) -> the stages' fused maps at width D, fine to coarse, and the
        audio (N, D, 1)."""
        x, maps = frames, []
        for stage, dam, project in zip(self.visual.stages, self.dam, self.in_proj):
            x, audio = dam(stage(x), audio)  # the next stage reads the fused map
            maps.append(project(x))
        return maps, audio

    def segment(
        self, frames: Tensor, log_mel: Tensor, with_scales: bool
    ) -> tuple[Tensor, list[Scale] | None]:
        clips, size = frames.shape[:2], frames.shape[-2:]
        frames, log_mel = frames.flatten(0, 1), log_mel.flatten(0, 1)   # (B*T, 3, H, W), (B*T, 1, F, M)
        audio = self.audio_norm(self.audio_proj(self.hear(log_mel)))    # (B*T, D)
        maps, audio = self.encode(frames, audio[..., None])             # (B*T, D, h, w) each, (B*T, D, 1)
        maps, audio = self.bcsm(maps, audio[..., 0], clips)             # the only step that knows of time
        levels = self.decoder(maps, audio)
        visual, tokens, _ = levels[-1]                                  # (B*T, D, h, w), (B*T, 2, D)
        logits = stretch(self.head(visual, tokens[:, -1]), size)        # (B*T, K, H, W)
        logits = logits.unflatten(0, clips)
        if not with_scales:
            return logits, None
        scales = []
        for visual, tokens, hits in levels:
            listening = (visual, tokens[:, -1], hits[:, -1])
            scales.append(Scale(*(x.unflatten(0, clips) for x in listening)))
        return logits, scales

    def published_name(self, name: str) -> str:
        return published_name(name, self.config.upsamplings)

    def published_dead(self) -> dict[str, nn.Module]:
        dead, width = super().published_dead(), self.config.width
        with torch.device("meta"):
            for i in range(STAGES - 1):
                load = f"decoder.layers.{i}.loadtoken"
                dead |= {f"{load}.norm": nn.LayerNorm(width), f"{load}.mlp": Mlp(width, 0.0)}
        return dead

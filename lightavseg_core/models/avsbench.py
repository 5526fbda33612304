"""AVSBench's TPAVI (Zhou et al., ECCV 2022, "Audio-Visual Segmentation", arXiv 2207.05042): every pixel of the clip meets every pixel.

Temporal pixel-wise audio-visual interaction reads like attention over all N = T h w positions of a clip, but it has no softmax:

    y = theta(V) phi(A)^T g(V) / N        (N, C) = (N, C) (C, N) (N, C)

A product of three matrices may be taken in either order. The authors take the left one first: N x N numbers, 15,680 squared for five frames
of 224 pixels at stride 4. Taking phi(A)^T g(V) first needs C x C numbers and a cost linear in N, and gives the same y, to rounding. So the
quadratic cost belongs to the order of evaluation, not to the function; softmax attention, where each row is normalised before it meets g,
has no such choice.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..encoders.checkpoints import LoadReport, read_tensors
from ..encoders.resnet import two_branch_name
from .base import AVSModel, ModelConfig, Scale, register
from .blocks import cosine, resize_as

LEVELS = 4               # the method reads four maps, of strides 4 to 32
AT_ONCE = 2 ** 26        # entries of the N x N product that are held at one time: 256 MiB in float32

# Our names of a TPAVI block's modules -> the authors'.
_TPAVI = {"align": "align_channel", "theta": "theta", "phi": "phi", "g": "g", "mu": "W_z.0", "mu_norm": "W_z.1", "norm": "norm_layer"}


@dataclass
class AVSBenchConfig(ModelConfig):
    method: str = "avsbench"
    width: int = 256            # channels of TPAVI and of the decoder
    order: str = "published"    # of TPAVI's product: "published", N x N first, or "associative", the same in O(N)


class Context(nn.ModuleList):
    """Four 3x3 convolutions of one map, summed: dilation 3, 6, 12, 18 look near and far. (B, C, h, w) -> (B, width, h, w)."""

    def __init__(self, channels: int, width: int):
        super().__init__(nn.Conv2d(channels, width, 3, padding=d, dilation=d) for d in (3, 6, 12, 18))
        for convolution in self:
            nn.init.normal_(convolution.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        near, middle, far, farthest = (convolution(x) for convolution in self)
        return near + middle + far + farthest


def _pairs_first(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return query @ key.transpose(1, 2) @ value


class TPAVI(nn.Module):
    """Temporal pixel-wise audio-visual interaction: Z = LayerNorm(V + mu(theta(V) phi(A)^T g(V) / N)), N = T h w; mu is linear with a batch norm.

    order: "published" or "associative", see the module's docstring. The published order holds all N x N products at once while they are few;
    where they are many it takes the queries in turns, and in training computes each turn's products again in the backward pass, so that memory
    stays bounded and the cost quadratic.
    """

    def __init__(self, audio_channels: int, width: int, order: str = "published", bias: bool = True):
        super().__init__()
        self.order = order
        self.align = nn.Linear(audio_channels, width, bias)
        self.theta, self.phi, self.g = (nn.Linear(width, width // 2) for _ in range(3))
        self.mu, self.mu_norm = nn.Linear(width // 2, width), nn.BatchNorm1d(width)
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.mu_norm.weight)                                    # training starts from LayerNorm(V), without sound

    def interact(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query, value (B, N, C) of every pixel, key (B, T, C) of every second -> (B, N, C): query key^T value / N, keys repeated over pixels."""
        batch, positions, _ = query.shape
        seconds = key.shape[1]
        pixels = positions // seconds
        if self.order == "associative":
            value = value.unflatten(1, (seconds, pixels)).mean(2)              # (B, T, C)  all pixels of a second have one key
            return query @ (key.transpose(1, 2) @ (value / seconds))           # (B, N, C)  by way of (B, C, C)
        query, key = query / positions, key.repeat_interleave(pixels, 1)       # (B, N, C)
        rows = max(1, AT_ONCE // (batch * positions))
        if rows >= positions:
            return _pairs_first(query, key, value)                             # (B, N, C)  by way of (B, N, N)
        parts = [checkpoint(_pairs_first, part, key, value, use_reentrant=False) if self.training else _pairs_first(part, key, value)
                 for part in query.split(rows, 1)]
        return torch.cat(parts, 1)

    def forward(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """visual V (B, T, C, h, w), audio (B, T, C_a) -> Z (B, T, C, h, w), A (B, T, C)."""
        audio = self.align(audio)                                              # (B, T, C)     A
        x = visual.movedim(2, -1).flatten(1, 3)                                # (B, N, C)     V, all pixels of all seconds in a row
        y = self.interact(self.theta(x), self.phi(audio), self.g(x))           # (B, N, C / 2)
        y = self.mu_norm(self.mu(y).flatten(0, 1)).view_as(x)                  # (B, N, C)
        z = self.norm(x + y)                                                   # (B, N, C)     Z
        return z.unflatten(1, (visual.shape[1], *visual.shape[-2:])).movedim(-1, 2), audio


class ResidualUnit(nn.Module):
    """relu(x) + conv(relu(conv(relu(x)))). The skip carries the rectified map: the authors rectify x in place before they add it."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return x + self.conv2(F.relu(self.conv1(x), inplace=True))


class DecoderStage(nn.Module):
    """One map joins what comes from the coarser ones; the result goes to the size of the next finer map."""

    def __init__(self, width: int, coarsest: bool):
        super().__init__()
        self.join = None if coarsest else ResidualUnit(width)
        self.refine = ResidualUnit(width)

    def forward(self, visual: Tensor, coarser: Tensor | None, size: tuple[int, int]) -> Tensor:
        """visual (B, D, h, w), coarser (B, D, h, w) or None -> (B, D, *size)."""
        x = visual if coarser is None else coarser + self.join(visual)
        return F.interpolate(self.refine(x), size=size, mode="bilinear", align_corners=True)


@register
class AVSBench(AVSModel):
    """AVSBench. Paper: Zhou et al., ECCV 2022: dilated convolutions bring four maps to one width, TPAVI lets each meet the sound of
    all seconds, a decoder of residual units goes from coarse to fine. With ResNet-50 and VGGish it is the authors' function on their
    checkpoints; of SeaFormer it has the first four stages. Frames of one clip see each other, clips do not; frames
    that pad a clip, beside a longer one in its batch, count as its own.

    scales: the rectified Z_i, A_i and their cosine. Chosen here: any T and any size (the authors' code runs for five frames, whose maps halve
    exactly), each map upsampled to the next finer one's size; a last resize where the strides do not lead back to the frame's size.
    """

    config_class = AVSBenchConfig
    stages = LEVELS
    auxiliary = "matching"
    fusion = ("tpavi",)

    def __init__(self, config: AVSBenchConfig):
        super().__init__(config)
        if config.width % 2 or not 2 <= config.width <= 4096:
            raise ValueError(f"width is {config.width}; expected an even number of 2 to 4096 channels.")
        if config.order not in ("published", "associative"):
            raise ValueError(f"order is {config.order!r}; expected 'published' (N x N first) or 'associative' (the same in O(N)).")
        width, binary = config.width, config.num_classes == 1
        self.context = nn.ModuleList(Context(channels, width) for channels in self.visual.channels)
        # The authors' model for many classes (AVSS) projects the sound without a bias.
        self.tpavi = nn.ModuleList(TPAVI(self.audio.channels, width, config.order, bias=binary) for _ in range(LEVELS))
        self.decoder = nn.ModuleList(DecoderStage(width, coarsest=i == LEVELS - 1) for i in range(LEVELS))
        self.head = nn.Sequential(nn.Conv2d(width, width // 2, 3, padding=1), nn.Upsample(scale_factor=2, mode="bilinear"),
                                  nn.Conv2d(width // 2, 32, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(32, config.num_classes, 1))

    def decode(self, visuals: list[Tensor]) -> Tensor:
        """Four maps (B, D, h, w), fine to coarse -> (B, D, 2 h, 2 w) of the finest."""
        x = None
        for i in reversed(range(LEVELS)):
            height, width = visuals[max(i - 1, 0)].shape[-2:]
            x = self.decoder[i](visuals[i], x, (height, width) if i else (2 * height, 2 * width))
        return x

    def segment(self, frames: Tensor, log_mel: Tensor, with_scales: bool) -> tuple[Tensor, list[Scale] | None]:
        clips = frames.shape[:2]
        frames, log_mel = frames.flatten(0, 1), log_mel.flatten(0, 1)          # (B*T, 3, H, W), (B*T, 1, F, M)
        audio = self.audio(log_mel).unflatten(0, clips)                        # (B, T, C_a)
        maps = [context(x) for context, x in zip(self.context, self.visual(frames))]                 # (B*T, D, h, w) each
        fused = [tpavi(x.unflatten(0, clips), audio) for tpavi, x in zip(self.tpavi, maps)]                    # (B, T, D, h, w), (B, T, D)
        x = self.decode([visual.flatten(0, 1) for visual, _ in fused])         # (B*T, D, H / 2, W / 2)
        logits = resize_as(self.head(x), frames)                               # (B*T, classes, H, W)
        scales = None
        if with_scales:
            scales = [self.scale(F.relu(visual), audio) for visual, audio in reversed(fused)]
        return logits.unflatten(0, clips), scales

    @staticmethod
    def scale(visual: Tensor, audio: Tensor) -> Scale:
        similarity = cosine(visual.flatten(0, 1), audio.flatten(0, 1)[..., None, None])
        return Scale(visual, audio, similarity.unflatten(0, visual.shape[:2]))

    def published_names(self) -> dict[str, str]:
        return {name: self.published_name(name) for name in self.state_dict() if not name.startswith("audio.")}

    @staticmethod
    def published_name(name: str) -> str:
        """Our name of a tensor -> the authors': context.0.1.bias -> conv1.conv2d_list.1.bias, tpavi.2.mu.bias -> tpavi_b3.W_z.0.bias."""
        part, level, rest = name.split(".", 2)
        if part == "visual":
            return f"resnet.{two_branch_name(name.removeprefix('visual.'))}"
        if part == "head":
            return name.replace("head", "output_conv")
        number, (module, *rest_of) = int(level) + 1, rest.split(".")
        if part == "context":
            return f"conv{number}.conv2d_list.{rest}"
        if part == "tpavi":
            return ".".join([f"tpavi_b{number}", _TPAVI[module], *rest_of])
        return ".".join([f"path{number}", {"join": "resConfUnit1", "refine": "resConfUnit2"}[module], *rest_of])

    def published_dead(self) -> dict[str, nn.Module]:
        return {"resnet.layer3_2": self.visual.stages[2], "resnet.layer4_2": self.visual.stages[3],
                "path4.resConfUnit1": self.decoder[-1].refine}

    def load_published(self, source: str | Path | Mapping[str, Tensor]) -> LoadReport:
        # TPAVI's projections act on each position alone: the authors' 1x1x1 convolutions (C, C', 1, 1, 1) are our linear layers (C, C').
        return super().load_published({name: value.flatten(1) if value.ndim == 5 else value for name, value in read_tensors(source).items()})

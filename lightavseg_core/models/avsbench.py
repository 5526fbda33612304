"""AVSBench's TPAVI (Zhou et al., ECCV 2022, "Audio-Visual Segmentation", arXiv 2207.05042): every pixel of
a clip meets every other.

Temporal pixel-wise audio-visual interaction looks like attention over all N = T h w positions of a clip, but
it has no softmax:

    y = theta(V) phi(A)^T g(V) / N        (N, C) = (N, C) (C, N) (N, C)

A product of three matrices can be computed in either order. The authors compute the left one first: N x N
numbers, 15,680 squared for five frames of 224 pixels at stride 4. Starting with phi(A)^T g(V) needs C x C
numbers, has a cost linear in N, and gives the same y up to rounding. So the quadratic cost comes from the
order of evaluation, not from the function. Softmax attention, which normalizes each row before it meets g,
has no such choice.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .base import AVSModel, ModelConfig, Scale, register
from .blocks import resize_as

LEVELS = 4         # the method reads four maps, of strides 4 to 32
AT_ONCE = 2 ** 26  # entries of the N x N product that are held at one time: 256 MiB in float32

# Our names of the modules of a TPAVI block, where they differ, and of a decoder stage -> the authors'.
_TPAVI = {"align": "align_channel", "mu": "W_z.0", "mu_norm": "W_z.1", "norm": "norm_layer"}
_STAGE = {"join": "resConfUnit1", "refine": "resConfUnit2"}


@dataclass
class AVSBenchConfig(ModelConfig):
    method: str = "avsbench"
    width: int = 256  # channels of TPAVI and of the decoder
    order: str = "published"  # of TPAVI's product: N x N first, or "associative", the same in O(N)


class Context(nn.ModuleList):
    """The sum of four 3x3 convolutions of one map, with dilations 3, 6, 12 and 18, to look near and far.
    (B, C, h, w) -> (B, width, h, w)."""

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
    """Temporal pixel-wise audio-visual interaction: Z = LayerNorm(V + mu(theta(V) phi(A)^T g(V) / N)), N = T
    h w; mu is linear with a batch norm.

    order: "published" or "associative", see the module's docstring. The published order holds all N x N
    products at once while they are few. If they are many, it takes the queries in chunks, and in training
    recomputes each chunk's products in the backward pass: memory stays bounded, the cost stays quadratic.
    """

    def __init__(self, audio_channels: int, width: int, order: str = "published", bias: bool = True):
        super().__init__()
        self.order = order
        self.align = nn.Linear(audio_channels, width, bias)
        self.theta, self.phi, self.g = (nn.Linear(width, width // 2) for _ in range(3))
        self.mu, self.mu_norm = nn.Linear(width // 2, width), nn.BatchNorm1d(width)
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.mu_norm.weight)  # training starts from LayerNorm(V), without sound

    def interact(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query, value (B, N, C) of every pixel, key (B, T, C) of every second -> (B, N, C): query key^T
        value / N, keys repeated over pixels."""
        batch, positions, _ = query.shape
        seconds = key.shape[1]
        pixels = positions // seconds
        if self.order == "associative":
            value = value.unflatten(1, (seconds, pixels)).mean(2)     # (B, T, C)  a second has one key
            return query @ (key.transpose(1, 2) @ (value / seconds))  # (B, N, C)  by way of (B, C, C)
        query, key = query / positions, key.repeat_interleave(pixels, 1)  # (B, N, C)
        rows = max(1, AT_ONCE // (batch * positions))
        if rows >= positions:
            return _pairs_first(query, key, value)                    # (B, N, C)  by way of (B, N, N)
        parts = []
        for part in query.split(rows, 1):                             # (B, rows, C)  by way of (B, rows, N)
            if self.training:
                parts.append(checkpoint(_pairs_first, part, key, value, use_reentrant=False))
            else:
                parts.append(_pairs_first(part, key, value))
        return torch.cat(parts, 1)

    def forward(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """visual V (B, T, C, h, w), audio (B, T, C_a) -> Z (B, T, C, h, w), A (B, T, C)."""
        audio = self.align(audio)                                     # (B, T, C)  A
        x = visual.movedim(2, -1).flatten(1, 3)                       # (B, N, C)  V, pixels of all seconds
        y = self.interact(self.theta(x), self.phi(audio), self.g(x))  # (B, N, C / 2)
        y = self.mu_norm(self.mu(y).flatten(0, 1)).view_as(x)         # (B, N, C)
        z = self.norm(x + y)                                          # (B, N, C)  Z
        return z.unflatten(1, (visual.shape[1], *visual.shape[-2:])).movedim(-1, 2), audio


class ResidualUnit(nn.Module):
    """relu(x) + conv(relu(conv(relu(x)))). The skip connection carries the rectified map: the authors rectify
    x in place before they add it."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return x + self.conv2(F.relu(self.conv1(x), inplace=True))


class DecoderStage(nn.Module):
    """Adds one map to the result of the coarser ones and resizes the sum to the next finer map."""

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
    """AVSBench. Paper: Zhou et al., ECCV 2022: dilated convolutions bring four maps to one width, TPAVI lets
    each meet the sound of all seconds, and a decoder of residual units goes from coarse to fine. With
    ResNet-50 and VGGish it computes the authors' function on their checkpoints; of SeaFormer it uses the
    first four stages. Frames of one clip see each other, clips do not; frames that pad a clip to the length
    of its batch count as its own.

    scales: the rectified Z_i, A_i and their cosine. Chosen here: any T and any size (the authors' code takes
    five frames whose maps halve exactly), each map upsampled to the size of the next finer one, and a last
    resize if the strides do not lead back to the frame's size.
    """

    config_class = AVSBenchConfig
    stages = LEVELS
    auxiliary = "matching"
    fusion = ("tpavi",)
    published_visual = "resnet"
    presets = {"tiny": {"width": 64}}

    def __init__(self, config: AVSBenchConfig):
        super().__init__(config)
        if config.width < 2 or config.width % 2:
            raise ValueError(f"width is {config.width}; expected an even number of channels, at least 2.")
        if config.order not in ("published", "associative"):
            raise ValueError(
                f"order is {config.order!r}; expected 'published' (N x N first) or 'associative' (the same "
                "in O(N))."
            )
        width, binary = config.width, config.num_classes == 1
        self.context = nn.ModuleList(Context(channels, width) for channels in self.visual.channels)
        # The authors' model for many classes (AVSS) projects the sound without a bias.
        heard = self.audio.channels
        self.tpavi = nn.ModuleList(TPAVI(heard, width, config.order, bias=binary) for _ in range(LEVELS))
        self.decoder = nn.ModuleList(DecoderStage(width, coarsest=i == LEVELS - 1) for i in range(LEVELS))
        self.head = nn.Sequential(
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(width // 2, 32, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, config.num_classes, 1),
        )

    def decode(self, visuals: list[Tensor]) -> Tensor:
        """Four maps (B, D, h, w), fine to coarse -> (B, D, 2 h, 2 w) of the finest."""
        x = None
        for i in reversed(range(LEVELS)):
            height, width = visuals[max(i - 1, 0)].shape[-2:]
            size = (height, width) if i else (2 * height, 2 * width)
            x = self.decoder[i](visuals[i], x, size)
        return x

    def segment(
        self, frames: Tensor, log_mel: Tensor, with_scales: bool
    ) -> tuple[Tensor, list[Scale] | None]:
        clips = frames.shape[:2]                                       # B, T
        frames, log_mel = frames.flatten(0, 1), log_mel.flatten(0, 1)  # (B*T, 3, H, W), (B*T, 1, F, M)
        audio = self.hear(log_mel).unflatten(0, clips)                 # (B, T, C_a)
        visuals, audios = [], []                                       # Z and A of each level, fine to coarse
        for x, context, tpavi in zip(self.visual(frames), self.context, self.tpavi, strict=True):
            x = context(x).unflatten(0, clips)                         # (B, T, D, h, w)
            visual, heard = tpavi(x, audio)                            # (B, T, D, h, w), (B, T, D)
            visuals.append(visual.flatten(0, 1))                       # (B*T, D, h, w)
            audios.append(heard.flatten(0, 1))                         # (B*T, D)
        x = self.decode(visuals)                                       # (B*T, D, H / 2, W / 2)
        logits = resize_as(self.head(x), frames)                       # (B*T, classes, H, W)
        scales = None
        if with_scales:
            scales = [Scale.compared(F.relu(v), a, clips) for v, a in zip(visuals[::-1], audios[::-1])]
        return logits.unflatten(0, clips), scales

    @staticmethod
    def published_name(name: str) -> str:
        """Our name of a tensor -> the authors': context.0.1.bias -> conv1.conv2d_list.1.bias, tpavi.2.mu.bias
        -> tpavi_b3.W_z.0.bias."""
        part, level, rest = name.split(".", 2)
        if part == "head":
            return name.replace("head", "output_conv")
        number = int(level) + 1
        if part == "context":
            return f"conv{number}.conv2d_list.{rest}"
        module, rest = rest.split(".", 1)
        if part == "tpavi":
            return f"tpavi_b{number}.{_TPAVI.get(module, module)}.{rest}"
        return f"path{number}.{_STAGE[module]}.{rest}"

    def published_dead(self) -> dict[str, nn.Module]:
        return {**super().published_dead(), "path4.resConfUnit1": self.decoder[-1].refine}

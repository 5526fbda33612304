"""AVESFormer (Wang et al., 2024, arXiv 2408.01708): where a transformer for audio-visual segmentation needs
attention, and where it does not.

Its two findings. *Attention dissipation*: with sound as key and value, cross-attention has one key per frame.
The softmax over one key is 1, so every position gets the same vector, a bias per channel, and the query and
key projections get no gradient. *Narrow attention*: in early decoder stages attention looks at neighbours,
which a convolution does at a lower cost. Its two remedies: the prompt query generator makes many keys from
one sound, and the early focus decoder begins with convolutions and ends with transformer blocks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base import AVSModel, ModelConfig, Scale, register
from .blocks import Attention, conv_block, resize_as

STAGES = "ct"  # kinds of a decoder stage


@dataclass
class AVESFormerConfig(ModelConfig):
    method: str = "avesformer"
    width: int = 256  # D; 8 heads
    prompts: int = 16  # keys that the generator makes of a sound; 0: no generator, the sound is the only key
    seconds: bool = False  # keys of all seconds of the clip, the frame's own among them; False: of its own
    temperature: float = 1.0  # of the softmax over keys: below 1 sharper, above 1 flatter
    # A letter for each stage, coarse to fine: "c" convolution, which hears nothing, "t" transformer block.
    decoder: str = "cct"


def feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class PromptQueryGenerator(nn.Module):
    """Many keys from one sound: the audio is added to learned prompts p_k, then each token passes through a
    feed-forward network.

    The feed-forward network is ours, since the sum alone is not enough. A softmax ignores what all keys
    share, and q W_K (a + p_k) shares q W_K a: the weights would be those of the prompts, even in silence, and
    the output W_V a + sum_k w_k W_V p_k, in which the sound is again one bias per channel. A function that is
    not linear in a + p_k lets the sound decide which positions look where.
    """

    def __init__(self, width: int, prompts: int):
        super().__init__()
        self.prompts = nn.Parameter(torch.randn(prompts, width))
        self.norm, self.ffn = nn.LayerNorm(width), feed_forward(width)

    def forward(self, audio: Tensor) -> Tensor:
        """audio A (B, D) -> (B, K, D)."""
        tokens = audio[:, None] + self.prompts  # (B, K, D)
        return tokens + self.ffn(self.norm(tokens))


class TransformerBlock(nn.Module):
    """Positions attend to each other, then to the sound, then a feed-forward network; layer norm before each
    (chosen). Without positional encoding, any size works."""

    def __init__(self, width: int, temperature: float = 1.0):
        super().__init__()
        self.self_attn = Attention(width)
        self.cross_attn = Attention(width, temperature=temperature)
        self.ffn = feed_forward(width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, sound: Tensor) -> Tensor:
        """x (B, D, h, w), sound (B, K, D): the keys and values -> (B, D, h, w)."""
        query = x.flatten(2).transpose(1, 2)                       # (B, h * w, D)
        normed = self.norm1(query)
        query = query + self.self_attn(normed, normed)             # O((h w)^2)
        query = query + self.cross_attn(self.norm2(query), sound)  # O(h w K); one key: one vector everywhere
        query = query + self.ffn(self.norm3(query))
        return query.transpose(1, 2).unflatten(2, x.shape[-2:])


@register
class AVESFormer(AVSModel):
    """AVESFormer. Wang et al., "AVESFormer: Efficient Transformer Design for Real-Time Audio-Visual
    Segmentation" (arXiv 2408.01708). An implementation in its spirit: there is no public code, and its sizes,
    losses and recipe were not available. From the abstract, the captions and the public reviews: visual
    queries, audio keys and values, prompts to which the audio is added, convolutions first and transformer
    blocks last, frames without exchange between them. Chosen here: all numbers, the generator's feed-forward
    network, self-attention in the transformer blocks, and a decoder like a feature pyramid. It starts at the
    coarsest of four maps (strides 4 to 32), and each stage adds the next finer one. The finest map takes part
    only in a last convolution, because attention among its positions would be most of the cost.

    scales: one for each stage. visual is its map, audio the projected A, the same in all, similarity their
    cosine, -1 to 1. The paper's own losses are unknown, so there is no auxiliary loss.
    """

    config_class = AVESFormerConfig
    stages = 4  # as many as ResNet-50 has
    presets = {"tiny": {"width": 64}}

    def __init__(self, config: AVESFormerConfig):
        super().__init__(config)
        if config.width < 8 or config.width % 8:
            raise ValueError(f"width is {config.width}; expected a multiple of 8, for 8 attention heads.")
        if config.prompts < 0:
            raise ValueError(f"prompts is {config.prompts}; expected at least 0.")
        if not 0 < config.temperature < float("inf"):
            raise ValueError(f"temperature is {config.temperature}; expected a number above 0.")
        kinds = config.decoder
        if len(kinds) != self.stages - 1 or set(kinds) - set(STAGES) or "t" not in kinds:
            raise ValueError(
                f"decoder is {kinds!r}; expected {self.stages - 1} letters, one for each stage, coarse to "
                "fine: 'c' for a convolution, 't' for a transformer block. At least one must be 't', since "
                "only those blocks hear the sound."
            )
        width = config.width
        self.audio_projection = nn.Linear(self.audio.channels, width)
        self.generator = PromptQueryGenerator(width, config.prompts) if config.prompts else None
        # Marks the keys of the frame's own second.
        self.now = nn.Parameter(torch.zeros(width)) if config.seconds else None
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in self.visual.channels)
        self.decoder, attending = nn.ModuleList(), []
        for i, kind in enumerate(kinds):
            if kind == "t":
                self.decoder.append(TransformerBlock(width, config.temperature))
                attending.append(f"decoder.{i}.cross_attn")
            else:
                self.decoder.append(conv_block(width, width))
        self.smooth = conv_block(width, width)
        self.head = nn.Conv2d(width, config.num_classes, 1)
        self.fusion = ("audio_projection", "generator", *attending)

    def all_seconds(self, sound: Tensor, seconds: int) -> Tensor:
        """Keys of each frame (B*T, K, D) -> keys of all frames of its clip (B*T, T*K, D), own ones marked."""
        keys = sound.unflatten(0, (-1, 1, seconds))                       # (B, 1, T, K, D)
        keys = keys.repeat(1, seconds, 1, 1, 1)                           # (B, T, T, K, D)  frame, second
        own = torch.eye(seconds, device=sound.device, dtype=sound.dtype)  # (T, T)
        marked = keys + own[..., None, None] * self.now                   # (B, T, T, K, D)
        return marked.flatten(2, 3).flatten(0, 1)

    def decode(self, maps: list[Tensor], sound: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The early focus decoder: maps, fine to coarse, and sound (B, K, D) -> mask feature (B, D, h, w) at
        the finest scale, and each stage's map."""
        finest, *coarser = (lateral(x) for lateral, x in zip(self.lateral, maps, strict=True))
        x, stages = None, []
        for stage, kind, lateral in zip(self.decoder, self.config.decoder, reversed(coarser), strict=True):
            x = lateral if x is None else lateral + resize_as(x, lateral)  # (B, D, h_i, w_i)
            x = stage(x, sound) if kind == "t" else stage(x)
            stages.append(x)
        return self.smooth(finest + resize_as(x, finest)), stages

    def segment(
        self, frames: Tensor, log_mel: Tensor, with_scales: bool
    ) -> tuple[Tensor, list[Scale] | None]:
        clips = frames.shape[:2]                                             # B, T: frames are independent
        frames, log_mel = frames.flatten(0, 1), log_mel.flatten(0, 1)        # (B*T, 3, H, W), (B*T, 1, F, M)
        audio = self.audio_projection(self.hear(log_mel))                    # (B*T, D)  A
        sound = self.generator(audio) if self.generator else audio[:, None]  # (B*T, K, D)
        if self.config.seconds:
            sound = self.all_seconds(sound, clips[1])                        # (B*T, T*K, D)
        feature, stages = self.decode(self.visual(frames), sound)            # (B*T, D, h, w)
        logits = resize_as(self.head(feature), frames)                       # (B*T, classes, H, W)
        scales = [Scale.compared(x, audio, clips) for x in stages] if with_scales else None
        return logits.unflatten(0, clips), scales

"""AVSegFormer (Gao et al., AAAI 2024, arXiv 2307.01146): a transformer whose queries are made from the sound,
which also gates its features.

Sound enters twice: it makes the queries of the decoder (the paper's "sparse" way), and it gates the channels
of the mask feature ("dense"). Each query's product with that feature is a map. Frames are independent:
nothing is exchanged over time.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..encoders.checkpoints import Part
from .base import AVSModel, ModelConfig, Scale, register
from .blocks import Attention, resize_as
from .deformable import DeformableAttention, pixel_centres

LEVELS = 3  # maps that the encoder reads, of strides 8 to 32; beside them the mask feature has stride 4
GROUP = 8   # channels that a group norm takes together: 32 groups at the published width


@dataclass
class AVSegFormerConfig(ModelConfig):
    method: str = "avsegformer"
    width: int = 256      # D; hidden sizes are multiples of it
    layers: int = 6       # of the query generator, of the encoder, and of the decoder
    queries: int = 300
    dropout: float = 0.1  # in training, in encoder and decoder


def project(inputs: int, outputs: int, kernel: int = 1) -> nn.Sequential:
    """Convolution and group norm."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    return nn.Sequential(convolution, nn.GroupNorm(outputs // GROUP, outputs))


def feed_forward(width: int, hidden: int, dropout: float = 0.0) -> nn.Sequential:
    widen, narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
    return nn.Sequential(widen, nn.GELU(), nn.Dropout(dropout), narrow, nn.Dropout(dropout))


def mask_head(width: int, classes: int) -> nn.Sequential:
    """Mask feature (B, D, h, w) -> logits (B, classes, 4h, 4w)."""
    return nn.Sequential(
        nn.Conv2d(width, width // 2, 3, padding=1),
        nn.Upsample(scale_factor=4, mode="bilinear"),
        nn.Conv2d(width // 2, width // 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width // 8, classes, 1, bias=False),
    )


def sine_positions(shapes: list[tuple[int, int]], width: int, like: Tensor) -> Tensor:
    """Sine positional encoding of maps of (h, w), map after map -> (S, D): D/2 channels for y, then D/2 for x
    (Carion et al., "DETR", ECCV 2020).

    Channels 2k and 2k + 1 are the sine and cosine of p / 10000^(2k / (D/2)), with p counted from 1 as in the
    published code.
    """
    half = width // 2
    rates = 10000 ** (-torch.arange(0, half, 2, device=like.device, dtype=like.dtype) / half)  # (D/4,)

    def axis(length: int) -> Tensor:
        places = torch.arange(1, length + 1, device=like.device, dtype=like.dtype)
        angles = places[:, None] * rates                                 # (length, D/4)
        return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)  # (length, D/2)

    maps = []
    for h, w in shapes:
        y, x = axis(h)[:, None].expand(-1, w, -1), axis(w).expand(h, -1, -1)  # (h, w, D/2) each
        maps.append(torch.cat([y, x], -1).flatten(0, 1))                      # (h * w, D)
    return torch.cat(maps)


class QueryLayer(nn.Module):
    """A layer for queries: self-attention, attention to a context, feed-forward network; layer norm after
    each (post-norm)."""

    def __init__(self, width: int, hidden: int, bias: bool = True, dropout: float = 0.0):
        super().__init__()
        self.self_attn = Attention(width, bias=bias, dropout=dropout)
        self.cross_attn = Attention(width, bias=bias, dropout=dropout)
        self.ffn = feed_forward(width, hidden, dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        """As published, where query, key and value are one matrix (3 D, D), so the Xavier bound is smaller by
        the square root of 2."""
        for attention in (self.self_attn, self.cross_attn):
            for linear in (attention.query, attention.key, attention.value):
                nn.init.xavier_uniform_(linear.weight, gain=0.5 ** 0.5)
            for linear in (attention.query, attention.key, attention.value, attention.out):
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """query (B, Q, D), context (B, K, D) -> (B, Q, D)."""
        query = self.norm1(query + self.dropout(self.self_attn(query, query)))
        query = self.norm2(query + self.dropout(self.cross_attn(query, context)))
        return self.norm3(query + self.ffn(query))


class QueryGenerator(nn.Module):
    """Queries from sound: learned tokens attend to the audio, which is one token.

    The softmax over one key is 1, whatever query and key are. So the cross-attention adds one vector, W_out
    W_value A, to every query; its query and key projections change nothing and get no gradient. They are kept
    because the published checkpoints hold them, and because they teach this. Only their embeddings, through
    self-attention and the feed-forward network, tell the queries apart.
    """

    def __init__(self, width: int, layers: int, queries: int):
        super().__init__()
        self.query = nn.Embedding(queries, width)
        self.layers = nn.ModuleList(QueryLayer(width, 4 * width, bias=False) for _ in range(layers))

    def forward(self, audio: Tensor) -> Tensor:
        """audio A (B, 1, D) -> (B, Q, D)."""
        query = self.query.weight.repeat(len(audio), 1, 1)  # (B, Q, D)
        for layer in self.layers:
            query = layer(query, audio)
        return query


class EncoderLayer(nn.Module):
    """Deformable attention over all positions of all levels, feed-forward network; layer norm after each."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.self_attn = DeformableAttention(width, LEVELS)
        self.ffn = feed_forward(width, 8 * width, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, source: Tensor, positions: Tensor, centres: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        """source (B, S, D), positions (S, D), centres (S, 2) -> (B, S, D)."""
        seen = self.self_attn(source + positions, source, centres, shapes)
        source = self.norm1(source + self.dropout(seen))
        return self.norm2(source + self.ffn(source))


class Mixer(nn.Module):
    """Gates channels by sound: the audio, as the only query, attends to all pixels, and the result becomes a
    gate per channel.

    Here the softmax runs over pixels, so query and key matter; in the query generator it runs over one token.
    """

    def __init__(self, width: int):
        super().__init__()
        self.attention = Attention(width, bias=False)
        self.attention.out = nn.Linear(width, width)  # the only projection with a bias

    def forward(self, feature: Tensor, audio: Tensor) -> Tensor:
        """feature M (B, D, h, w), audio A (B, 1, D) -> (B, D, h, w)."""
        pixels = feature.flatten(2).transpose(1, 2)     # (B, h * w, D)
        gate = self.attention(audio, pixels).sigmoid()  # (B, 1, D)
        return feature * gate.transpose(1, 2)[..., None]


@register
class AVSegFormer(AVSModel):
    """AVSegFormer. Gao et al., "AVSegFormer: Audio-Visual Segmentation with Transformer", AAAI 2024
    (arXiv 2307.01146). A is the projected audio:

        Q = generator(A) + learned queries                memory = encoder(f1, f2, f3)
        M = mixer(conv(lateral(f0) + up(memory_1)), A)    Z = decoder(Q, memory)
        E_q = <Z_q, M>: a map per query                   logits = head(M + mlp(E))

    It computes what the published code computes, and loads its tensors. Chosen: any size of frames,
    `num_classes`, and narrower models, whose hidden sizes are in proportion to `width` (published: 256). Of
    SeaFormer it uses the first four stages: strides 4 to 32, as in ResNet-50. The published scores on S4 and
    MS3 were computed on frames of 512 px, though the configuration says 224: compare costs at 512.

    scales: one. visual = M, audio = A, similarity = their cosine, -1 to 1. The auxiliary loss ("mixing")
    makes M's mean over channels match the mask. M is a ReLU times a gate, so the sigmoid of that mean is at
    least 0.5, and the loss stays high: it can only increase contrast.
    """

    config_class = AVSegFormerConfig
    stages = LEVELS + 1
    auxiliary = "mixing"
    fusion = ("audio_projection", "generator", "mixer")
    presets = {"tiny": {"width": 64, "layers": 2, "queries": 32}}
    published_visual = "backbone"

    def __init__(self, config: AVSegFormerConfig):
        super().__init__(config)
        if config.width < GROUP or config.width % GROUP:
            raise ValueError(
                f"width is {config.width}; expected a multiple of {GROUP}, for 8 heads and group norms of "
                f"{GROUP} channels."
            )
        if not 1 <= config.layers <= 64 or config.queries < 1:
            raise ValueError(
                f"layers is {config.layers} and queries is {config.queries}; expected 1 to 64 layers and at "
                "least 1 query."
            )
        if not 0 <= config.dropout < 1:
            raise ValueError(f"dropout is {config.dropout}; expected 0 to less than 1.")
        width = config.width
        self.audio_projection = nn.Linear(self.audio.channels, width)
        self.inputs = nn.ModuleList(project(c, width) for c in self.visual.channels)
        self.level_embedding = nn.Parameter(torch.empty(LEVELS, width))
        self.generator = QueryGenerator(width, config.layers, config.queries)
        self.learnable_query = nn.Embedding(config.queries, width)
        self.encoder = nn.ModuleList(EncoderLayer(width, config.dropout) for _ in range(config.layers))
        self.decoder = nn.ModuleList(
            QueryLayer(width, 8 * width, dropout=config.dropout) for _ in range(config.layers)
        )
        self.lateral = project(width, width)
        self.smooth = nn.Sequential(*project(width, width, 3), nn.ReLU(inplace=True))
        self.mixer = Mixer(width)
        self.mlp = nn.Sequential(
            nn.Conv2d(config.queries, 8 * width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(8 * width, 8 * width, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(8 * width, width, 1),
        )
        self.head = mask_head(width, config.num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The published initialization of everything but the encoders and the audio projection."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and not name.startswith(("visual.", "audio.", "audio_projection.")):
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, (DeformableAttention, QueryLayer)):
                module.reset_parameters()
        nn.init.normal_(self.level_embedding)

    def encode(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps f1..f3 (B, D, h_l, w_l), fine to coarse -> memory (B, S, D), its first level as a map
        (B, D, h_1, w_1)."""
        shapes = [tuple(x.shape[-2:]) for x in maps]
        memory = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], 1)  # (B, S, D), S = sum of h_l * w_l
        levels = [e.expand(h * w, -1) for e, (h, w) in zip(self.level_embedding, shapes)]
        positions = sine_positions(shapes, self.config.width, memory)        # (S, D)
        positions = positions + torch.cat(levels)
        centres = pixel_centres(shapes, memory)                              # (S, 2)
        for layer in self.encoder:
            memory = layer(memory, positions, centres, shapes)
        h, w = shapes[0]
        return memory, memory[:, :h * w].transpose(1, 2).unflatten(2, (h, w))

    def segment(
        self, frames: Tensor, log_mel: Tensor, with_scales: bool
    ) -> tuple[Tensor, list[Scale] | None]:
        clips = frames.shape[:2]                                       # B, T
        frames, log_mel = frames.flatten(0, 1), log_mel.flatten(0, 1)  # (B*T, 3, H, W), (B*T, 1, F, M)
        audio = self.audio_projection(self.hear(log_mel)[:, None])     # (B*T, 1, D)  A: one token
        fine, *maps = (project(x) for project, x in zip(self.inputs, self.visual(frames), strict=True))
        memory, coarse = self.encode(maps)                             # (B*T, S, D), (B*T, D, h_1, w_1)
        query = self.generator(audio) + self.learnable_query.weight    # (B*T, Q, D)
        for layer in self.decoder:
            query = layer(query, memory)
        feature = self.lateral(fine)                                   # (B*T, D, h, w)
        feature = self.smooth(feature + resize_as(coarse, feature))
        feature = self.mixer(feature, audio)                           # (B*T, D, h, w)  M
        masks = torch.einsum("bqd,bdhw->bqhw", query, feature)         # (B*T, Q, h, w)  E: a map per query
        logits = self.head(feature + self.mlp(masks))                  # (B*T, classes, 4h, 4w)
        logits = resize_as(logits, frames)                             # (B*T, classes, H, W)
        scales = [Scale.compared(feature, audio[:, 0], clips)] if with_scales else None
        return logits.unflatten(0, clips), scales

    @staticmethod
    def published_name(name: str) -> str | Part:
        """Our name of a tensor -> the authors': decoder.0.ffn.3.bias ->
        head.transformer.decoder.layers.0.linear2.bias.

        There, query, key and value are parts of one packed tensor; in the mixer only key and value are.
        """
        for ours, theirs in _PUBLISHED:
            name = re.sub(ours, theirs, name)
        packed = re.fullmatch(r"(.+_attn|.+_block)\.(query|key|value)\.(weight|bias)", name)
        if not packed:
            return name
        module, projection, kind = packed.groups()
        if module.endswith("fusion_block"):
            return Part(f"{module}.kv_proj.{kind}", ("key", "value").index(projection), 2)
        return Part(f"{module}.in_proj_{kind}", ("query", "key", "value").index(projection), 3)

    def published_dead(self) -> dict[str, nn.Module]:
        dead, width = super().published_dead(), self.config.width
        with torch.device("meta"):
            dead |= {f"head.fpn.up{i}.1": nn.Conv2d(width, width, 3) for i in (1, 2, 3)}
        return {**dead, "head.attn_fc": self.head}


# Our names -> the authors', by regular expressions, each applied to what the one before it gave.
_PUBLISHED = (
    (r"^audio_projection", "audio_proj"),
    (r"^inputs", "head.in_proj"),
    (r"^level_embedding", "head.level_embed"),
    (r"^learnable_query", "head.learnable_query"),
    (r"^generator", "head.query_generator"),
    (r"^(..coder)", r"head.transformer.\1.layers"),
    (r"^lateral", "head.lateral_conv"),
    (r"^smooth", "head.out_conv"),
    (r"^mixer\.attention", "head.fusion_block"),
    (r"^head\.(\d)", r"head.fc.\1"),
    (r"^mlp\.0", "head.mlp.layers.0"),
    (r"^mlp\.2", "head.mlp.layers.1"),
    (r"^mlp\.4", "head.mlp.layers.2"),
    (r"(generator.*)ffn\.3", r"\1ffn.2"),
    (r"(transformer.*)ffn\.0", r"\1linear1"),
    (r"(transformer.*)ffn\.3", r"\1linear2"),
    (r"block\.query", "block.q_proj"),
    (r"block\.out", "block.proj"),
    (r"attn\.out\.", "attn.out_proj."),
    (r"(transformer.encoder.*)\.(value|output)", r"\1.\2_proj"),
)

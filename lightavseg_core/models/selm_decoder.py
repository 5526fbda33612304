"""SelM's decoder: two tokens divide the pixels between them, coarse to fine, and the one that has heard the
sound becomes the mask's kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import resize_as

DROPOUT = 0.1


def stretch(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (N, C, h, w) that maps corners to corners, as the published decoder resizes maps and
    logits."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def conv_norm(inputs: int, outputs: int, bias: bool = True) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
    return convolution, nn.GroupNorm(32, outputs), nn.ReLU(inplace=True)


def gumbel_noise(scores: Tensor) -> Tensor:
    """Gumbel(0, 1) noise for each score, from torch's global generator: the highest of score + noise is a
    draw from their softmax."""
    uniform = torch.rand(scores.shape, device=scores.device).clamp_min(1e-30)  # float32 also under autocast
    return -(-uniform.log()).log()


class Mlp(nn.Module):
    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))


class LoadAudio(nn.Module):
    """Adds the sound to the second token by cross-attention, then an MLP without a residual (published).
    tokens (N, 2, D), audio (N, D).

    One frame has one second of sound, so one key: its weight is 1 whatever the query. Query, key and the
    query's norm never matter and never learn.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm_query, self.norm_key, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out, self.drop, self.mlp = nn.Linear(width, width), nn.Dropout(DROPOUT), Mlp(width, 0.0)

    def forward(self, tokens: Tensor, audio: Tensor) -> Tensor:
        first, second = tokens[:, :1], tokens[:, 1:]                                     # (N, 1, D) each
        audio = self.norm_key(audio)[:, None]                                            # (N, 1, D)
        query, key = self.query(self.norm_query(second)), self.key(audio)                # (N, 1, D)
        attention = (query @ key.transpose(1, 2) * query.shape[-1] ** -0.5).softmax(-1)  # (N, 1, 1)  1
        heard = self.drop(self.out(self.drop(attention) @ self.value(audio)))            # (N, 1, D)
        return self.mlp(self.norm(torch.cat([first, second + heard], 1)))                # (N, 2, D)


class TokenAttention(nn.Module):
    """Each pixel chooses one of two tokens, and each token gathers its pixels (SelM's cross-level
    attention; GroupViT's assignment).

    tokens (N, 2, D), visual (N, P, D) -> tokens, and the hit maps (N, 2, P): 1 where a pixel chose the token,
    else 0. The choice is an argmax of cosines, with Gumbel noise in training; its gradient is that of the
    softmax (straight-through). `tau` sets the softmax's temperature, exp(min(tau, 0)). In the published code
    tau starts at 1, where the minimum cuts off its gradient for good; here at 0: the same temperature, and it
    learns.
    """

    def __init__(self, width: int, dropout: float, published: bool):
        super().__init__()
        self.published = published
        self.norm_visual, self.norm_tokens, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.drop, self.mlp = nn.Dropout(dropout), Mlp(width, dropout)
        self.tau = nn.Parameter(torch.zeros(1))

    def forward(self, tokens: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        visual = self.norm_visual(visual)                                    # (N, P, D)
        query = F.normalize(self.query(self.norm_tokens(tokens)), dim=-1)    # (N, 2, D)
        key = F.normalize(self.key(visual), dim=-1)                          # (N, P, D)
        scores = query @ key.transpose(1, 2)                                 # (N, 2, P)  cosines
        if self.training or self.published:
            scores = scores + gumbel_noise(scores)
        chosen = scores.argmax(1, keepdim=True)                              # (N, 1, P)  whatever tau is
        hits = torch.zeros_like(scores).scatter(1, chosen, 1.0)              # (N, 2, P)
        if self.training:
            soft = (scores / self.tau.clamp(max=0).exp()).softmax(1)
            hits = hits + (soft - soft.detach())                             # 0 or 1; its gradient soft's
        mean = hits / (hits.sum(-1, keepdim=True) + 1) @ self.value(visual)  # (N, 2, D)  of a token's pixels
        return self.mlp(self.norm(self.drop(self.out(mean)) + tokens)), hits


class Level(nn.Module):
    """One level: fuse the coarser map with the finer, let the second token hear, assign the pixels.

    x (N, D, h', w'), skip (N, D, h, w), tokens (N, 2, D), audio (N, D) -> map (N, D, h, w), tokens (N, 2, D),
    hits (N, 2, h, w).
    """

    def __init__(self, width: int, side: int, dropout: float, published: bool):
        super().__init__()
        self.side = side
        self.fuse = nn.Sequential(*conv_norm(2 * width, width), *conv_norm(width, width))
        self.load = LoadAudio(width)
        self.position = nn.Parameter(torch.randn(side**2, width) * width**-0.5)
        self.attention = TokenAttention(width, dropout, published)

    def forward(
        self, x: Tensor, skip: Tensor, tokens: Tensor, audio: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = self.fuse(torch.cat([stretch(x, skip.shape[-2:]), skip], 1))        # (N, D, h, w)
        tokens = self.load(tokens, audio)                                       # (N, 2, D)
        learned = self.position.T.unflatten(1, (self.side, self.side))          # (D, side, side)
        placed = x + resize_as(learned[None], x)                                # (N, D, h, w)
        tokens, hits = self.attention(tokens, placed.flatten(2).transpose(1, 2))
        return x, tokens, hits.unflatten(2, x.shape[-2:])


class Decoder(nn.Module):
    """maps: four of (N, D, h, w), fine to coarse; audio (N, D) -> the outputs of the levels, coarse to fine.

    sides: of the levels' square maps at the training size, coarse to fine.
    """

    def __init__(self, width: int, sides: list[int], published: bool):
        super().__init__()
        self.tokens = nn.Parameter(nn.init.trunc_normal_(torch.empty(2, width), std=0.02))
        rates = (DROPOUT, DROPOUT, 0.0)
        self.levels = nn.ModuleList(Level(width, side, rate, published) for side, rate in zip(sides, rates))

    def forward(self, maps: list[Tensor], audio: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        *skips, x = maps
        tokens, results = self.tokens.expand(len(x), -1, -1), []  # (N, 2, D)
        for level, skip in zip(self.levels, reversed(skips)):
            x, tokens, hits = level(x, skip, tokens, audio)
            results.append((x, tokens, hits))
        return results


class DynamicHead(nn.Module):
    """Upsamples the finest map and reads it with kernels made from a token. x (N, D, h, w), token (N, D) ->
    (N, K, h', w').

    Binary: one kernel of D weights and a bias. K > 1 classes: K kernels of D weights without a bias, as in
    the published AVSS model.
    """

    def __init__(self, width: int, classes: int, upsamplings: int):
        super().__init__()
        self.classes = classes
        self.up = nn.ModuleList(
            nn.Sequential(*conv_norm(width, width, bias=False)) for _ in range(upsamplings)
        )
        self.out = nn.Conv2d(width, width, 1)
        self.kernel = nn.Linear(width, width + 1 if classes == 1 else classes * width)

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        for block in self.up:
            x = block(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        x = self.out(x)                                               # (N, D, h', w')
        kernel = self.kernel(token).unflatten(1, (self.classes, -1))  # (N, K, D or D + 1)
        logits = kernel[..., :x.shape[1]] @ x.flatten(2)              # (N, K, h' * w')  each frame's own 1x1
        logits = logits.unflatten(2, x.shape[-2:])                    # (N, K, h', w')
        return logits + kernel[..., -1:, None] if self.classes == 1 else logits

"""A model's results on a clip's frames, as the widgets show them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .._common.outputs import check_finite
from ..evaluation import evaluating, frame_iou
from ..inspection.scales import probability


class Seen(NamedTuple):
    """A model's result on one frame."""

    mask: Tensor              # (H, W) bool
    similarity: list[Tensor]  # (h, w) of each scale, coarse to fine; empty for a method that has no scales
    audio: list[Tensor]       # (D,)   the audio state of each scale


def logits_and_scales(model: nn.Module, frames: Tensor, log_mel: Tensor) -> tuple[Tensor, list]:
    """frames (T, 3, H, W), log_mel (T, 1, F, M) of one clip -> logits (T, classes, H, W), and any scales.

    In eval mode.
    """
    device = next(model.parameters()).device
    with torch.inference_mode(), evaluating(model):
        output = model(frames[None].to(device), log_mel[None].to(device), return_scales=True)
    return output.logits[0].float().cpu(), output.scales or []


def look(
    model: nn.Module, frames: Tensor, log_mel: Tensor, clip: str, seconds: Sequence[int] | None = None
) -> list[Seen]:
    """A model's results on frames of a clip: frames (T, 3, H, W), log_mel (T, 1, F, M).

    seconds: of the frames, for error messages; by default the first ones. Raises ValueError, with clip and
    second, if the logits are not finite.
    """
    logits, scales = logits_and_scales(model, frames, log_mel)
    check_finite(logits, lambda t: f"clip {clip}, second {t if seconds is None else seconds[t]}")
    masks = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1) > 0          # (T, H, W)
    similarity = [scale.similarity[0].float().cpu() for scale in scales]                # (T, h, w) each
    audio = [scale.audio[0].float().cpu() for scale in scales]                          # (T, D) each
    return [Seen(mask, [s[t] for s in similarity], [a[t] for a in audio]) for t, mask in enumerate(masks)]


def frames_are_independent(model: nn.Module, frames: Tensor, log_mel: Tensor) -> bool:
    """Whether a model's result on the last frame alone is the same as within its clip, whatever is heard.

    Tested with random log-mels. A clip of one frame cannot tell: False.
    """
    if len(frames) == 1:
        return False
    heard = log_mel + torch.randn(log_mel.shape, generator=torch.Generator().manual_seed(0))
    within = logits_and_scales(model, frames, heard)[0][-1:]
    alone = logits_and_scales(model, frames[-1:], heard[-1:])[0]
    return torch.allclose(within, alone, rtol=1e-4, atol=1e-4 * within.abs().max().item())


def most(clip: Sequence[Seen]) -> list[float]:
    """The largest number in each scale's audio state, over a clip's frames: the scale of its bars."""
    return [max(seen.audio[i].abs().max().item() for seen in clip) for i in range(len(clip[0].audio))]


def is_supervised(model: nn.Module) -> bool:
    """Whether a method trains its similarity maps to match the mask (L_msa): they are then probabilities."""
    return model.auxiliary.startswith("alignment")


def heat(similarity: Tensor, model: nn.Module) -> np.ndarray:
    """A similarity map as (h, w), 0 to 1.

    The probability that L_msa supervises if the method trains with it; otherwise from minimum to maximum.
    """
    if is_supervised(model):
        return probability(similarity).numpy()
    low, high = similarity.min(), similarity.max()
    return ((similarity - low) / (high - low).clamp_min(1e-12)).numpy()


def about_mask(mask: Tensor, truth: Tensor) -> str:
    """How much of a frame is marked, and how well it agrees with the ground truth; masks (H, W) bool."""
    agreement = "rightly: nothing sounds"
    if (mask | truth).any():
        agreement = f"IoU with the truth {frame_iou(mask[None], truth[None]).item():.2f}"
    return f"{mask.float().mean():.1%} of the frame is marked; {agreement}"

"""Training losses: Dice, binary cross-entropy, and LightAVSeg's multi-scale alignment."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .methods import Output, Scale

TEMPERATURE = 0.1   # tau of the alignment loss
SCALES = 3          # S: the alignment loss looks at the last three decoder scales


def dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """1 - (2 sum(p m) + 1) / (sum p + sum m + 1) per frame, then the mean. probability, target (N, H, W), 0 to 1."""
    overlap, total = (probability * target).sum((-2, -1)), probability.sum((-2, -1)) + target.sum((-2, -1))
    return (1 - (2 * overlap + 1) / (total + 1)).mean()


def alignment_loss(scales: list[Scale], target: Tensor, annotated: Tensor) -> Tensor:
    """L_msa (LightAVSeg, Section 3.4): at each scale, sigmoid(cosine / tau), resized to the mask, binary cross-entropy with it; the mean.

    target (N, H, W), 0 or 1: the annotated frames' masks, in the order of `annotated` (B, T) bool.
    """
    losses = []
    for scale in scales[-SCALES:]:
        probability = torch.sigmoid(scale.similarity[annotated].float() / TEMPERATURE)                          # (N, h, w)
        probability = F.interpolate(probability[:, None], size=target.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        probability = probability.clamp(1e-6, 1 - 1e-6)
        # Written out: torch's own refuses a NaN (on a GPU it ends the process), and the trainer is to name the clip that it came from.
        losses.append(-(target * probability.log() + (1 - target) * (-probability).log1p()).mean())
    return torch.stack(losses).mean()


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Dice + BCE of the mask; with several classes cross-entropy + Dice over the classes present. logits (N, C, H, W), target (N, H, W)."""
    if logits.shape[1] == 1:
        target = target.to(logits.dtype)
        return dice_loss(logits[:, 0].sigmoid(), target) + F.binary_cross_entropy_with_logits(logits[:, 0], target)
    probability, target = logits.softmax(1), target.long()
    dice = [dice_loss(probability[:, c], (target == c).to(logits.dtype)) for c in target.unique().tolist()]
    return F.cross_entropy(logits, target) + torch.stack(dice).mean()


def total_loss(output: Output, mask: Tensor, annotated: Tensor, alignment_weight: float = 0.5) -> tuple[Tensor, dict[str, Tensor]]:
    """L = L_dice + L_bce + lambda L_msa on annotated frames. mask (B, T, H, W) class indices, annotated (B, T) bool.

    Returns the loss and its parts (detached). Raises ValueError where no frame is annotated.
    """
    if not annotated.any():
        raise ValueError("the batch has no annotated frame, so there is nothing to learn from.")
    # In float32 whatever the forward pass ran in: a sigmoid at tau = 0.1 and sums over a mask do not survive bfloat16.
    with torch.autocast(mask.device.type, enabled=False):
        target = mask[annotated]
        parts = {"segmentation": segmentation_loss(output.logits[annotated].float(), target)}
        loss = parts["segmentation"]
        if alignment_weight and output.scales is not None:
            parts["alignment"] = alignment_loss(output.scales, (target > 0).float(), annotated)
            loss = loss + alignment_weight * parts["alignment"]
    return loss, {name: value.detach() for name, value in parts.items()}

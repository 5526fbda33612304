"""Training losses: masks (Dice, cross-entropy), and what each method adds from inside its decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ._common.names import unknown
from .models.base import Output, Scale

TEMPERATURE = 0.1                        # tau of the alignment loss
SCALES = 3                               # S: the alignment loss looks at the last three decoder scales
SELECTION_WEIGHTS = (0.001, 0.01, 0.1)   # SelM's, coarse to fine


def dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """1 - (2 sum(p m) + 1) / (sum p + sum m + 1) per frame, then the mean. Both (N, H, W), 0 to 1."""
    overlap = (probability * target).sum((-2, -1))  # (N,)
    total = probability.sum((-2, -1)) + target.sum((-2, -1))
    return (1 - (2 * overlap + 1) / (total + 1)).mean()


def squared_dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """1 - 2 sum(p m) / (sum p^2 + sum m^2 + 0.002) per frame, then the mean: AVSegFormer's and SelM's.

    Both (N, H, W), 0 to 1. A frame without foreground costs 1 whatever is predicted, so it teaches nothing.
    """
    overlap = (probability * target).sum((-2, -1))  # (N,)
    total = probability.square().sum((-2, -1)) + target.square().sum((-2, -1))
    return (1 - 2 * overlap / (total + 0.002)).mean()


# Kind -> its Dice, and whether BCE is added: LightAVSeg's, AVSBench's, AVSegFormer's, SelM's.
SEGMENTATION = {
    "dice_bce": (dice_loss, True),
    "bce": (None, True),
    "squared_dice": (squared_dice_loss, False),
    "squared_dice_bce": (squared_dice_loss, True),
}


def segmentation_loss(logits: Tensor, target: Tensor, kind: str = "dice_bce") -> Tensor:
    """Dice + BCE of the mask; with several classes, cross-entropy + Dice over the classes present.

    logits (N, C, H, W), target (N, H, W). kind: a name of `SEGMENTATION` (ValueError otherwise).
    """
    if kind not in SEGMENTATION:
        raise unknown("segmentation loss", kind, SEGMENTATION)
    dice, with_bce = SEGMENTATION[kind]
    terms = []
    if logits.shape[1] == 1:
        logits, target = logits[:, 0], target.to(logits.dtype)  # (N, H, W)
        entropy = F.binary_cross_entropy_with_logits
        if dice:
            terms.append(dice(logits.sigmoid(), target))
    else:
        target, entropy = target.long(), F.cross_entropy
        if dice:
            probability = logits.softmax(1)
            present = target.unique().tolist()
            of_class = [dice(probability[:, c], (target == c).to(logits.dtype)) for c in present]
            terms.append(torch.stack(of_class).mean())
    if with_bce:
        terms.append(entropy(logits, target))
    return torch.stack(terms).sum()


# The auxiliary losses: scales of the decoder, coarse to fine; foreground (N, H, W), 0 or 1, the masks of the
# frames that `annotated` (B, T) bool selects, in its order; logits (N, C, H, W) of the same frames, which the
# matching loss alone reads.


def _resized(maps: Tensor, foreground: Tensor, mode: str = "bilinear") -> Tensor:
    """(N, h, w) -> (N, H, W), the size of the masks."""
    corners = None if mode == "nearest" else False
    # As N channels of one picture: the gradient of N pictures of one channel takes twice as long.
    return F.interpolate(maps[None], size=foreground.shape[-2:], mode=mode, align_corners=corners)[0]


def alignment_loss(scales: list[Scale], foreground: Tensor, annotated: Tensor, *_: Tensor) -> Tensor:
    """L_msa (LightAVSeg, Section 3.4): the mean over scales of the binary cross-entropy between the mask and
    sigmoid(cosine / tau), resized to it."""
    losses = []
    for scale in scales[-SCALES:]:
        agreement = torch.sigmoid(scale.similarity[annotated].float() / TEMPERATURE)  # (N, h, w)
        probability = _resized(agreement, foreground).clamp(1e-6, 1 - 1e-6)           # (N, H, W)
        # Written out: torch's own refuses a NaN (on a GPU it ends the process), and the trainer is to name
        # the clip that it came from.
        losses.append(-(foreground * probability.log() + (1 - foreground) * (-probability).log1p()).mean())
    return torch.stack(losses).mean()


def alignment_kl_loss(scales: list[Scale], foreground: Tensor, annotated: Tensor, *_: Tensor) -> Tensor:
    """"Alignment by KL" of LightAVSeg's ablation, for which the paper gives no formula. Chosen: KL(mask ||
    softmax), where the softmax of cosine / tau, resized to the mask, runs over positions, and the mask is
    normalized to sum 1; frames without foreground are left out."""
    sounding = foreground.flatten(1).any(1)
    if not sounding.any():
        return foreground.new_zeros(())
    mask = foreground[sounding].flatten(1)                                # (N', H*W)
    mask = mask / mask.sum(1, keepdim=True)
    losses = []
    for scale in scales[-SCALES:]:
        agreement = scale.similarity[annotated].float() / TEMPERATURE         # (N, h, w)
        where = _resized(agreement, foreground)[sounding].flatten(1).log_softmax(1)
        losses.append((torch.xlogy(mask, mask) - mask * where).sum(1).mean())
    return torch.stack(losses).mean()


def matching_loss(scales: list[Scale], foreground: Tensor, annotated: Tensor, logits: Tensor) -> Tensor:
    """L_AVM (AVSBench): KL(softmax(a) || softmax(v)), with v the features' spatial mean weighted by the
    predicted mask. It is averaged over scales but, as in the published code, summed over frames and channels,
    so it grows with the batch."""
    if logits.shape[1] > 1:  # the logit of "any but the background"
        logits = logits[:, 1:].logsumexp(1, keepdim=True) - logits[:, :1]
    losses = []
    for scale in scales:
        visual = scale.visual[annotated].float()                                # (N, D, h, w)
        audio = scale.audio[annotated].float()                                  # (N, D)
        predicted = F.adaptive_avg_pool2d(logits, visual.shape[-2:]).sigmoid()  # (N, 1, h, w)
        pooled = (visual * predicted).mean((-2, -1))                            # (N, D)
        losses.append(F.kl_div(pooled.log_softmax(1), audio.log_softmax(1), reduction="sum", log_target=True))
    return torch.stack(losses).mean()


def mixing_loss(scales: list[Scale], foreground: Tensor, annotated: Tensor, *_: Tensor) -> Tensor:
    """L_mix (AVSegFormer): the channel mean of the finest features that audio has gated, resized, should
    match the mask."""
    mean = scales[-1].visual[annotated].float().mean(1)  # (N, h, w)
    return squared_dice_loss(_resized(mean, foreground).sigmoid(), foreground)


def selection_loss(scales: list[Scale], foreground: Tensor, annotated: Tensor, *_: Tensor) -> Tensor:
    """SelM's loss: Dice of the mask with the sigmoid of the maps of pixels that the audio token selects;
    finer scales weigh more."""
    losses = []
    for weight, scale in zip(SELECTION_WEIGHTS[::-1], scales[::-1]):
        selected = _resized(scale.similarity[annotated].float(), foreground, "nearest")  # (N, H, W)
        losses.append(weight * squared_dice_loss(selected.sigmoid(), foreground))
    return torch.stack(losses).sum()


# Name -> loss and its published weight; None: lambda, `alignment_weight`.
AUXILIARY = {
    "none": (None, 0.0),
    "alignment": (alignment_loss, None),
    "alignment_kl": (alignment_kl_loss, None),
    "matching": (matching_loss, 0.5),
    "mixing": (mixing_loss, 0.1),
    "selection": (selection_loss, 1.0),
}


def total_loss(
    output: Output, mask: Tensor, annotated: Tensor,
    alignment_weight: float = 0.5, auxiliary: str = "alignment", segmentation: str = "dice_bce",
) -> tuple[Tensor, dict[str, Tensor]]:
    """L = L_dice + L_bce + lambda L_msa on annotated frames, or with another method's losses.

    mask (B, T, H, W) class indices, annotated (B, T). auxiliary: a name of `AUXILIARY`; its foreground is
    everything but class 0. segmentation: a name of `SEGMENTATION`. Returns the loss and its parts (detached,
    unweighted). Raises ValueError if no frame is annotated, and for unknown names.
    """
    if auxiliary not in AUXILIARY:
        raise unknown("auxiliary loss", auxiliary, AUXILIARY)
    if not annotated.any():
        raise ValueError("the batch has no annotated frame, so there is nothing to learn from.")
    # In float32 whatever the forward pass ran in: a sigmoid at tau = 0.1 and sums over a mask do not survive
    # bfloat16.
    with torch.autocast(mask.device.type, enabled=False):
        target, logits = mask[annotated], output.logits[annotated].float()  # (N, H, W), (N, C, H, W)
        loss = segmentation_loss(logits, target, segmentation)
        parts = {"segmentation": loss}
        extra, weight = AUXILIARY[auxiliary]
        weight = alignment_weight if weight is None else weight
        if weight and output.scales is not None:
            parts[auxiliary] = extra(output.scales, (target > 0).float(), annotated, logits)
            loss = loss + weight * parts[auxiliary]
    return loss, {name: value.detach() for name, value in parts.items()}

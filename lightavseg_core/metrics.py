"""M_J and M_F of AVSBench, and scores of boundaries and false positives, as torchmetrics metrics: exact over a split, whatever the batch size."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

BETA_SQUARED = 0.3
THRESHOLDS = 255


def f_curve(probability: Tensor, target: Tensor) -> Tensor:
    """F-measure (beta squared 0.3) of each frame at 255 thresholds linspace(0, 1 - 1e-10), prediction p >= t. (N, P), (N, P) bool -> (N, 255)."""
    thresholds = torch.linspace(0, 1 - 1e-10, THRESHOLDS, device=probability.device)
    # A pixel counts at every threshold up to its probability: a histogram of the last one it reaches, summed from above.
    reached = torch.searchsorted(thresholds, probability.contiguous(), right=True) - 1                       # (N, P), 0 to 254
    flat = reached + THRESHOLDS * torch.arange(len(reached), device=reached.device).unsqueeze(1)
    count = lambda weight: torch.bincount(flat.flatten(), weight.flatten().double(), len(flat) * THRESHOLDS)  # noqa: E731
    above = lambda histogram: histogram.view(-1, THRESHOLDS).flip(-1).cumsum(-1).flip(-1)                     # noqa: E731
    hits, predicted = above(count(target)), above(count(torch.ones_like(target)))
    precision, recall = hits / (predicted + 1e-20), hits / (target.sum(1, keepdim=True) + 1e-20)
    score = (1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
    return torch.nan_to_num(score, nan=0.0)


class MaskScore(Metric):
    """M_J and M_F of binary masks over a whole split, and the reference's M_F, which depends on the batch.

    update(logits (..., H, W), target (..., H, W) 0 or 1): call it once a batch with the annotated frames only.
    compute() -> dict of float tensors, 0 to 1:
    M_J: mean over frames of IoU at sigmoid(logit) > 0.5; a frame with an empty truth scores the share of pixels predicted as background.
    M_F: the maximum over 255 thresholds of the F-measure averaged over all frames with a non-empty truth.
    M_F_batch: the reference's rule: that maximum per update, averaged over updates (a batch without foreground counts 0).
    foreground_share: the share of pixels predicted as foreground.
    Source: AVSBench (Zhou et al., ECCV 2022), Section 5.1, and its published evaluation.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        for name in ("iou", "frames", "foreground", "pixels", "occupied", "batch_f", "batches"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("curve", torch.zeros(THRESHOLDS, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        if logits.shape != target.shape or logits.ndim < 2:
            raise ValueError(f"logits {tuple(logits.shape)} and target {tuple(target.shape)}: expected (..., H, W) of both.")
        if not target.numel():
            return
        pixels = target.shape[-2] * target.shape[-1]
        probability = logits.detach().float().sigmoid().reshape(-1, pixels)                        # (N, H*W)
        target = target.reshape(-1, pixels) > 0
        predicted = probability > 0.5
        overlap, union = (predicted & target).sum(1).double(), (predicted | target).sum(1).double()
        empty = ~target.any(1)
        iou = torch.where(empty, (~predicted).double().mean(1), overlap / (union + 1e-7))
        self.iou += iou.sum()
        self.frames += len(iou)
        self.foreground += predicted.sum()
        self.pixels += predicted.numel()
        curve = f_curve(probability[~empty], target[~empty]).sum(0)
        self.curve += curve
        self.occupied += (~empty).sum()
        self.batch_f += (curve / (~empty).sum().clamp_min(1)).max()
        self.batches += 1

    def compute(self) -> dict[str, Tensor]:
        return {"M_J": (self.iou / self.frames).float(), "M_F": (self.curve / self.occupied.clamp_min(1)).max().float(),
                "M_F_batch": (self.batch_f / self.batches).float(), "foreground_share": (self.foreground / self.pixels).float()}


class SemanticScore(Metric):
    """M_J and M_F of AVSBench-semantic over a whole split.

    update(logits (..., C, H, W), target (..., H, W) class indices): annotated frames only, padding left out by the caller.
    Per frame and class IoU and F are summed, divided by the number of frames in which the class occurs in prediction or truth, and
    averaged over all classes, background included; a class that never occurs counts 0, as in the reference. compute() -> M_J, M_F,
    foreground_share, and iou, f (C,) per class. The states iou_sum, f_sum and count (C,) are the reference's.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        for name in ("iou_sum", "f_sum", "count"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("foreground", "pixels"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        if logits.ndim < 3 or logits.shape[-3] != self.num_classes or logits.shape[:-3] + logits.shape[-2:] != target.shape:
            raise ValueError(f"logits {tuple(logits.shape)} and target {tuple(target.shape)}: "
                             f"expected (..., {self.num_classes}, H, W) and (..., H, W).")
        if not target.numel():
            return
        pixels = target.shape[-2] * target.shape[-1]
        predicted = logits.detach().argmax(-3).reshape(-1, pixels)                                    # (N, P)
        target = target.long().reshape(-1, pixels)
        n, c = len(target), self.num_classes
        if target.min() < 0 or target.max() >= c:
            raise ValueError(f"target holds classes {int(target.min())} to {int(target.max())}; expected 0 to {c - 1}.")
        offset = c * torch.arange(n, device=target.device).unsqueeze(1)
        area = lambda labels, keep: torch.bincount((labels + offset)[keep], minlength=n * c).view(n, c).double()  # noqa: E731
        everywhere = torch.ones_like(target, dtype=torch.bool)
        hits, of_prediction, of_truth = area(target, predicted == target), area(predicted, everywhere), area(target, everywhere)
        union = of_prediction + of_truth - hits
        occurs = union > 0
        iou = hits / union.clamp_min(1)
        precision, recall = hits / of_prediction.clamp_min(1), hits / of_truth.clamp_min(1)
        f = torch.nan_to_num((1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall), nan=0.0)
        self.iou_sum += (iou * occurs).sum(0)
        self.f_sum += (f * occurs).sum(0)
        self.count += occurs.sum(0)
        self.foreground += (predicted > 0).sum()
        self.pixels += predicted.numel()

    def compute(self) -> dict[str, Tensor]:
        iou, f = self.iou_sum / self.count.clamp_min(1), self.f_sum / self.count.clamp_min(1)
        return {"M_J": iou.mean().float(), "M_F": f.mean().float(), "foreground_share": (self.foreground / self.pixels).float(),
                "iou": iou.float(), "f": f.float()}


def contour(mask: Tensor) -> Tensor:
    """Pixels that differ from their right, lower or lower right neighbour. (N, H, W) bool -> (N, H, W) bool."""
    padded = F.pad(mask[:, None].float(), (0, 1, 0, 1), mode="replicate")[:, 0] > 0
    return (mask ^ padded[:, :-1, 1:]) | (mask ^ padded[:, 1:, :-1]) | (mask ^ padded[:, 1:, 1:])


class BoundaryScore(Metric):
    """How well the contour of a binary mask runs along that of the truth, the boundary measure F of DAVIS.

    update(logits (..., H, W), target (..., H, W) 0 or 1): annotated frames only. Precision is the share of the predicted contour (of
    sigmoid(logit) > 0.5) within a tolerance of the true one, recall the share of the true contour within that of the predicted one; the
    tolerance is a disk of 0.8% of the frame's diagonal, rounded up to pixels (2 at 128 x 128). compute() -> boundary_F: the mean over frames
    with a non-empty truth of 2 P R / (P + R), 0 to 1; a frame left dark counts 0.
    Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016, with the
    tolerance of its published evaluation. DAVIS averages over all frames; here an empty truth has no contour to find, as in M_F.
    """

    full_state_update = False
    higher_is_better = True

    def __init__(self, tolerance: float = 0.008, **kwargs):
        super().__init__(**kwargs)
        self.tolerance = tolerance
        for name in ("total", "frames"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        height, width = target.shape[-2:]
        predicted, target = (logits.detach() > 0).reshape(-1, height, width), target.reshape(-1, height, width) > 0
        sounding = target.flatten(1).any(1)
        if not sounding.any():
            return
        found, true = contour(predicted[sounding]), contour(target[sounding])                                   # (N, H, W)
        radius = math.ceil(self.tolerance * math.hypot(height, width))
        offset = torch.arange(-radius, radius + 1, device=target.device).square()
        disk = (offset[:, None] + offset <= radius**2).float()[None, None]
        near = lambda edge: F.conv2d(edge[:, None].float(), disk, padding=radius)[:, 0] > 0.5                   # noqa: E731
        share = lambda edge, of: (edge & of).sum((1, 2)) / edge.sum((1, 2)).clamp_min(1)                        # noqa: E731
        precision, recall = share(found, near(true)), share(true, near(found))
        self.total += (2 * precision * recall / (precision + recall).clamp_min(1e-9)).double().sum()
        self.frames += len(found)

    def compute(self) -> dict[str, Tensor]:
        return {"boundary_F": (self.total / self.frames.clamp_min(1)).float()}


class FalsePositiveShare(Metric):
    """What is marked and does not sound. update(logits (..., H, W), target (..., H, W) 0 or 1): annotated frames only.

    compute() -> false_positive_share: of all background pixels, the share with sigmoid(logit) > 0.5.
    """

    full_state_update = False
    higher_is_better = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        for name in ("marked", "background"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        background = target == 0
        self.marked += ((logits.detach() > 0) & background).sum()
        self.background += background.sum()

    def compute(self) -> dict[str, Tensor]:
        return {"false_positive_share": (self.marked / self.background.clamp_min(1)).float()}

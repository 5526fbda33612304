"""M_J and M_F of AVSBench, boundary F and false positives: exact over a split, whatever the batch size."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from ._common.outputs import check_pair

BETA_SQUARED = 0.3
THRESHOLDS = 255
TOLERANCE = 0.008  # of a contour, as a share of the frame's diagonal


def f_measure(precision: Tensor, recall: Tensor) -> Tensor:
    """F-measure with beta squared 0.3, which favours precision; 0 where both are 0."""
    score = (1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
    return torch.nan_to_num(score, nan=0.0)


def histogram(values: Tensor, bins: int, keep: Tensor | None = None) -> Tensor:
    """How many of a frame's pixels, of those to keep (bool), have each value: (N, P) -> (N, bins) float64."""
    flat = values + bins * torch.arange(len(values), device=values.device).unsqueeze(1)
    chosen = flat.flatten() if keep is None else flat[keep]
    return torch.bincount(chosen, minlength=len(values) * bins).view(-1, bins).double()


def f_curve(probability: Tensor, target: Tensor) -> Tensor:
    """F-measure of each frame for p >= t at the 255 thresholds t of linspace(0, 1 - 1e-10).

    probability (N, P), target (N, P) bool -> (N, 255).
    """
    thresholds = torch.linspace(0, 1 - 1e-10, THRESHOLDS, device=probability.device)
    # A pixel counts at each threshold up to its probability: a histogram of the last one, summed from above.
    reached = torch.searchsorted(thresholds, probability.contiguous(), right=True) - 1  # (N, P), 0 to 254
    hits = histogram(reached, THRESHOLDS, keep=target).flip(-1).cumsum(-1).flip(-1)
    predicted = histogram(reached, THRESHOLDS).flip(-1).cumsum(-1).flip(-1)
    return f_measure(hits / (predicted + 1e-20), hits / (target.sum(1, keepdim=True) + 1e-20))


class Sums(Metric):
    """A metric whose states are sums over frames, so that batches, and processes, add up exactly.

    `update` raises ValueError for shapes that do not match, and for logits that are not finite.
    """

    full_state_update = False
    higher_is_better = True
    numbers: tuple[str, ...]  # names of the states that are single numbers

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.add_sums(*self.numbers)

    def add_sums(self, *names: str, size: tuple[int, ...] = ()) -> None:
        for name in names:
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")


class MaskScore(Sums):
    """M_J and M_F of binary masks over a whole split, and the reference's M_F, which depends on the batch.

    update(logits (..., H, W), target (..., H, W) 0 or 1): once per batch, with annotated frames only.
    compute() -> dict of float tensors, 0 to 1:
    M_J: mean over frames of IoU at sigmoid(logit) > 0.5; a frame with an empty ground truth scores the share
    of pixels predicted as background.
    M_F: F-measure averaged over all frames with a non-empty ground truth, at the best of 255 thresholds.
    M_F_batch: the reference's rule: that value per update, averaged over updates (a batch without
    foreground counts 0).
    foreground_share: the share of pixels predicted as foreground.
    Source: AVSBench (Zhou et al., ECCV 2022), Section 5.1, and its published evaluation.
    """

    numbers = ("iou", "frames", "foreground", "pixels", "occupied", "batch_f", "batches")

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.add_sums("curve", size=(THRESHOLDS,))

    def update(self, logits: Tensor, target: Tensor) -> None:
        check_pair(logits, target)
        if not target.numel():
            return
        pixels = target.shape[-2] * target.shape[-1]
        probability = logits.detach().float().sigmoid().reshape(-1, pixels)  # (N, P)
        target = target.reshape(-1, pixels) > 0
        predicted = probability > 0.5
        overlap = (predicted & target).sum(1).double()
        union = (predicted | target).sum(1).double()
        occupied = target.any(1)  # (N,)
        iou = torch.where(occupied, overlap / (union + 1e-7), (~predicted).double().mean(1))
        self.iou += iou.sum()
        self.frames += len(iou)
        self.foreground += predicted.sum()
        self.pixels += predicted.numel()
        curve = f_curve(probability[occupied], target[occupied]).sum(0)
        self.curve += curve
        self.occupied += occupied.sum()
        self.batch_f += (curve / occupied.sum().clamp_min(1)).max()
        self.batches += 1

    def compute(self) -> dict[str, Tensor]:
        return {
            "M_J": (self.iou / self.frames).float(),
            "M_F": (self.curve / self.occupied.clamp_min(1)).max().float(),
            "M_F_batch": (self.batch_f / self.batches).float(),
            "foreground_share": (self.foreground / self.pixels).float(),
        }


class SemanticScore(Sums):
    """M_J and M_F of AVSBench-semantic over a whole split.

    update(logits (..., C, H, W), target (..., H, W) class indices): annotated frames only, without padding.
    IoU and F of each class are summed over frames, divided by the number of frames in which the class occurs
    in prediction or ground truth, and averaged over all classes, background included. A class that never
    occurs counts 0, as in the reference. compute() -> M_J, M_F, foreground_share, and iou, f (C,) per class.
    The states iou_sum, f_sum and count (C,) are the reference's.
    """

    numbers = ("foreground", "pixels")

    def __init__(self, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.add_sums("iou_sum", "f_sum", "count", size=(num_classes,))

    def update(self, logits: Tensor, target: Tensor) -> None:
        classes = self.num_classes
        check_pair(logits, target, classes)
        if not target.numel():
            return
        pixels = target.shape[-2] * target.shape[-1]
        predicted = logits.detach().argmax(-3).reshape(-1, pixels)  # (N, P)
        target = target.long().reshape(-1, pixels)
        if target.min() < 0 or target.max() >= classes:
            found = f"{int(target.min())} to {int(target.max())}"
            raise ValueError(f"target holds classes {found}; expected 0 to {classes - 1}.")
        hits = histogram(target, classes, keep=predicted == target)  # (N, C) pixels
        of_prediction, of_truth = histogram(predicted, classes), histogram(target, classes)
        union = of_prediction + of_truth - hits
        occurs = union > 0
        iou = hits / union.clamp_min(1)
        f = f_measure(hits / of_prediction.clamp_min(1), hits / of_truth.clamp_min(1))
        self.iou_sum += (iou * occurs).sum(0)
        self.f_sum += (f * occurs).sum(0)
        self.count += occurs.sum(0)
        self.foreground += (predicted > 0).sum()
        self.pixels += predicted.numel()

    def compute(self) -> dict[str, Tensor]:
        iou, f = self.iou_sum / self.count.clamp_min(1), self.f_sum / self.count.clamp_min(1)
        marked = self.foreground / self.pixels
        scores = {"M_J": iou.mean(), "M_F": f.mean(), "foreground_share": marked, "iou": iou, "f": f}
        return {name: value.float() for name, value in scores.items()}


def contour(mask: Tensor) -> Tensor:
    """Pixels that differ from their right, lower or lower-right neighbour, (N, H, W) bool."""
    padded = F.pad(mask[:, None].float(), (0, 1, 0, 1), mode="replicate")[:, 0] > 0
    right, lower, lower_right = padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]
    return (mask ^ right) | (mask ^ lower) | (mask ^ lower_right)


def share_within(edge: Tensor, other: Tensor, disk: Tensor) -> Tensor:
    """The share of a contour's pixels with the other one in a disk around them: (N, H, W) bool -> (N,)."""
    near = F.conv2d(other[:, None].float(), disk, padding="same")[:, 0] > 0.5
    return (edge & near).sum((1, 2)) / edge.sum((1, 2)).clamp_min(1)


class BoundaryScore(Sums):
    """How well the contour of a binary mask follows that of the ground truth: the boundary F of DAVIS.

    update(logits (..., H, W), target (..., H, W) 0 or 1): annotated frames only. Precision is the share of
    the predicted contour (of sigmoid(logit) > 0.5) within a tolerance of the true one, recall the share of
    the true contour within that of the predicted one; the tolerance is a disk of 0.8% of the frame's
    diagonal, rounded up to whole pixels (2 at 128 x 128). compute() -> boundary_F: 2 P R / (P + R), 0 to 1,
    averaged over frames with a non-empty ground truth; a frame left dark counts 0.
    Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
    CVPR 2016, with the tolerance of its published evaluation. DAVIS averages over all frames; here frames
    with an empty ground truth, which has no contour, are left out, as in M_F.
    """

    numbers = ("total", "frames")

    def update(self, logits: Tensor, target: Tensor) -> None:
        check_pair(logits, target)
        height, width = target.shape[-2:]
        predicted = (logits.detach() > 0).reshape(-1, height, width)  # (N, H, W)
        target = target.reshape(-1, height, width) > 0
        sounding = target.flatten(1).any(1)
        if not sounding.any():
            return
        found, true = contour(predicted[sounding]), contour(target[sounding])
        radius = math.ceil(TOLERANCE * math.hypot(height, width))
        offset = torch.arange(-radius, radius + 1, device=target.device).square()
        disk = (offset[:, None] + offset <= radius**2).float()[None, None]  # (1, 1, D, D), D = 2 radius + 1
        precision, recall = share_within(found, true, disk), share_within(true, found, disk)
        self.total += (2 * precision * recall / (precision + recall).clamp_min(1e-9)).double().sum()
        self.frames += len(found)

    def compute(self) -> dict[str, Tensor]:
        return {"boundary_F": (self.total / self.frames.clamp_min(1)).float()}


class FalsePositiveShare(Sums):
    """How much is marked that does not sound.

    update(logits (..., H, W), target (..., H, W) 0 or 1): annotated frames only.
    compute() -> false_positive_share: of all background pixels, the share with sigmoid(logit) > 0.5.
    """

    higher_is_better = False
    numbers = ("marked", "background")

    def update(self, logits: Tensor, target: Tensor) -> None:
        check_pair(logits, target)
        background = target == 0
        self.marked += ((logits.detach() > 0) & background).sum()
        self.background += background.sum()

    def compute(self) -> dict[str, Tensor]:
        return {"false_positive_share": (self.marked / self.background.clamp_min(1)).float()}

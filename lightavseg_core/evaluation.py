"""Scores of a model on a dataset, also with another sound; and the deaf oracle."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchmetrics import Metric, SumMetric

from .data.avsbench import AVSBench, collate
from .data.sounding_shapes import clip_number, objects
from .metrics import MaskScore, SemanticScore

BATCH = 8


def score_for(num_classes: int) -> Metric:
    """The metric of a task: MaskScore for binary masks, SemanticScore for more classes."""
    return MaskScore() if num_classes == 1 else SemanticScore(num_classes)


def update_score(score: Metric, logits: Tensor, batch: dict) -> None:
    """Adds a batch's annotated frames; padding and frames without annotation are never scored. logits (B, T, C, H, W)."""
    annotated = batch["annotated"].to(logits.device)
    logits, mask = logits[annotated], batch["mask"].to(logits.device)[annotated]
    score.update(logits[:, 0] if logits.shape[1] == 1 else logits, mask)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """A model in evaluation mode; afterwards in the mode that it was in, also where the body raises."""
    training = model.training
    try:
        yield model.eval()
    finally:
        model.train(training)


@torch.inference_mode()
def evaluate(model: nn.Module, dataset: AVSBench, sound: str | None = None, batch_size: int = BATCH, score: Metric | None = None) -> dict:
    """M_J, M_F and M_F_batch (with its batch_size), foreground_share, frames and sound.

    sound: None, the dataset's own; "normal"; or, with the truth as it is, "silent" (a zero waveform), "swapped" (another clip's), "noise"
    (white, at the clip's level), "noisy" (its own and that noise). *Going dark* with silence means a foreground_share near 0, not M_J, which
    an empty prediction raises on silent seconds. score: what is measured instead, a metric or a collection whose update takes logits and masks.
    """
    device = next(model.parameters()).device
    score, frames = (score or score_for(model.config.num_classes)).to(device), SumMetric().to(device)
    # Across processes each scores its own clips; torchmetrics adds them up.
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, world = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
    dataset = dataset.with_sound(sound or dataset.sound)
    clips = Subset(dataset, range(rank, len(dataset), world))
    with evaluating(model):
        for batch in DataLoader(clips, batch_size, collate_fn=collate):
            output = model(batch["frames"].to(device), batch["log_mel"].to(device))
            update_score(score, output.logits, batch)
            frames.update(batch["annotated"].sum())
    result = {name: value.item() for name, value in score.compute().items() if value.ndim == 0}
    return {**result, "batch_size": batch_size, "frames": int(frames.compute()), "sound": dataset.sound}


def score_segmenter(segment: Callable[[Tensor, Tensor], Tensor], dataset: AVSBench) -> dict:
    """M_J, M_F and M_F_batch of what marks one second at a time, (1, 1, 3, H, W) and (1, 1, 1, F, M) -> logits: an exported file, say."""
    score = score_for(dataset.num_classes)
    for index in range(len(dataset)):
        batch = collate([dataset[index]])
        seconds = zip(batch["frames"].split(1, 1), batch["log_mel"].split(1, 1))
        update_score(score, torch.cat([segment(*second) for second in seconds], 1), batch)
    return {name: value.item() for name, value in score.compute().items() if value.ndim == 0}


def deaf_oracle(dataset: AVSBench) -> dict:
    """What a perfect mask of all visible objects scores when the sound is ignored: what a model that listens must beat.

    Only for binary masks of data that SoundingShapes made, whole frames (FileNotFoundError or ValueError otherwise).
    """
    if dataset.num_classes > 1:
        raise ValueError(f"{dataset.subset} scores categories; the deaf oracle marks all that is visible, which has none. Use s4 or ms3.")
    score = MaskScore()
    for index, clip in enumerate(dataset.clips):
        item = dataset[index]
        visible = torch.from_numpy(sum(thing.masks for thing in objects(dataset.root, dataset.subset, dataset.split, clip_number(clip.name))) > 0)
        visible = visible[:len(item["mask"])]                       # of a clip that ends early, the frames that are there
        if visible.shape != item["mask"].shape:
            visible = torch.nn.functional.interpolate(visible[None].float(), item["mask"].shape[-2:], mode="nearest-exact")[0] > 0.5
        score.update((visible.float() * 20 - 10)[item["annotated"]], item["mask"][item["annotated"]] > 0)
    return {name: value.item() for name, value in score.compute().items()}


def predict(model: torch.nn.Module, item: dict, log_mel: Tensor | None = None) -> Tensor:
    """Binary masks (T, H, W) bool of one item of a dataset, hearing its own log-mel (T, 1, F, M) or another."""
    heard = item["log_mel"] if log_mel is None else log_mel
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = model.eval()(item["frames"][None].to(device), heard[None].to(device)).logits[0]
    return ((logits[:, 0] > 0) if logits.shape[1] == 1 else logits.argmax(1) > 0).cpu()


def frame_iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """IoU of each frame, (T,): predicted (T, H, W) bool, truth (T, H, W); 1 where both are empty."""
    truth = truth > 0
    union = (predicted | truth).flatten(1).sum(1)
    return torch.where(union > 0, (predicted & truth).flatten(1).sum(1) / union.clamp_min(1), 1.0)


def ranked_frames(model: torch.nn.Module, dataset: AVSBench) -> list[tuple[float, int, int]]:
    """The frames in which something sounds, from the worst to the best: (IoU, clip index, second)."""
    ranked = []
    for index in range(len(dataset)):
        item = dataset[index]
        scores = frame_iou(predict(model, item), item["mask"])
        ranked += [(float(iou), index, t) for t, iou in enumerate(scores) if item["annotated"][t] and item["mask"][t].any()]
    return sorted(ranked)

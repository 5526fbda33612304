"""Scores of a model on a dataset, with its own or another sound; the deaf oracle; masks of single clips."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader
from torchmetrics import Metric

from ._common.outputs import check_finite
from ._common.scores import put, taken
from ._common.state import evaluating
from ._common.together import gathered, rank, summed, world
from .data.avsbench import AVSBench, collate
from .data.scored import Clips, check_datasets, scored
from .data.sounding_shapes import clip_number, objects
from .metrics import MaskScore, SemanticScore


def score_for(num_classes: int) -> Metric:
    """The metric of a task: MaskScore for binary masks, SemanticScore for more classes."""
    return MaskScore() if num_classes == 1 else SemanticScore(num_classes)


def update_score(score: Metric, logits: Tensor, batch: dict) -> None:
    """Adds a batch's annotated frames; padding and other frames are never scored. logits (B, T, C, H, W).

    Raises ValueError, with clip and second, if they are not finite.
    """
    annotated = batch["annotated"].to(logits.device)
    logits, mask = logits[annotated], batch["mask"].to(logits.device)[annotated]

    def place(k: int) -> str:
        clip, second = annotated.nonzero()[k].tolist()
        return f"clip {batch['name'][clip]}, second {second}"

    check_finite(logits, place)
    score.update(logits[:, 0] if logits.shape[1] == 1 else logits, mask)


def computed(score: Metric) -> dict[str, float]:
    """A metric's results as numbers, without those per class."""
    return {name: value.item() for name, value in score.compute().items() if value.ndim == 0}


@torch.inference_mode()
def evaluate(
    model: nn.Module, dataset: Clips,
    sound: str | None = None, batch_size: int = 8, score: Metric | None = None,
) -> dict:
    """M_J, M_F and M_F_batch (with its batch_size), foreground_share, frames and sound.

    dataset: also a Subset, ConcatDataset or DataLoader of one, or a list of its items. sound: None for the
    dataset's own; "normal"; or, with the same ground truth, "silent" (a zero waveform), "swapped" (another
    clip's), "noise" (white, at the clip's level), "noisy" (its own plus that noise). *Going dark* in silence
    means a foreground_share near 0, not a low M_J: an empty prediction scores well on silent seconds. score:
    what to measure instead, a metric or a collection whose update takes logits and masks.

    With several processes (torchrun), all must call it. Each sees its share of the batches, and all return
    what a single process would, to the last bit. There `score` must keep only sums (ValueError).
    """
    clips, heard = scored(model, dataset, sound)
    device = next(model.parameters()).device
    score = (score or score_for(model.config.num_classes)).to(device)
    # Whole batches are dealt out to processes, since M_F_batch depends on them.
    batches = BatchSampler(range(len(clips)), batch_size, drop_last=False)
    mine, frames, states = list(batches)[rank() :: world()], 0, []
    with evaluating(model):
        for batch in DataLoader(clips, batch_sampler=mine, collate_fn=collate):
            output = model(batch["frames"].to(device), batch["log_mel"].to(device))
            update_score(score, output.logits, batch)
            frames += int(batch["annotated"].sum())
            if world() > 1:
                states.append(taken(score))
    if world() > 1:
        put(score, gathered(states))
    (frames,) = summed(frames)
    return {**computed(score), "batch_size": batch_size, "frames": int(frames), "sound": heard}


def deaf_oracle(dataset: AVSBench) -> dict:
    """The score of perfect masks of all visible objects, without sound; a model that listens must beat it.

    Only for binary masks of whole frames that SoundingShapes made (otherwise FileNotFoundError, ValueError).
    """
    check_datasets(dataset=dataset)
    if dataset.num_classes > 1:
        raise ValueError(f"{dataset.subset} scores categories, which the deaf oracle ignores. Use s4 or ms3.")
    score = MaskScore()
    for index, clip in enumerate(dataset.clips):
        item = dataset[index]
        things = objects(dataset.root, dataset.subset, dataset.split, clip_number(clip.name))
        visible = torch.from_numpy(sum(thing.masks for thing in things) > 0)  # (T, H, W)
        visible = visible[: len(item["mask"])]  # of a clip that ends early, the frames that are there
        if visible.shape != item["mask"].shape:
            size = item["mask"].shape[-2:]
            visible = F.interpolate(visible[None].float(), size, mode="nearest-exact")[0] > 0.5
        logits = visible.float() * 20 - 10
        score.update(logits[item["annotated"]], item["mask"][item["annotated"]])
    return computed(score)


def predict(model: nn.Module, item: dict, log_mel: Tensor | None = None) -> Tensor:
    """Binary masks (T, H, W) bool of a dataset's item, for its own log-mel (T, 1, F, M) or another.

    Raises ValueError, with clip and second, if the model's logits are not finite.
    """
    heard = item["log_mel"] if log_mel is None else log_mel
    device = next(model.parameters()).device
    with torch.inference_mode(), evaluating(model):
        logits = model(item["frames"][None].to(device), heard[None].to(device)).logits[0]
    check_finite(logits, lambda second: f"clip {item['name']}, second {second}")
    return (logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1) > 0).cpu()


def frame_iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """IoU of each frame, (T,): predicted (T, H, W) bool, truth (T, H, W); 1 if both are empty."""
    truth = truth > 0
    overlap = (predicted & truth).flatten(1).sum(1)
    union = (predicted | truth).flatten(1).sum(1)
    return torch.where(union > 0, overlap / union.clamp_min(1), 1.0)


def ranked_frames(model: nn.Module, dataset: AVSBench) -> list[tuple[float, int, int]]:
    """The frames in which something sounds, worst first: (IoU, clip index, second)."""
    ranked = []
    for index in range(len(dataset)):
        item = dataset[index]
        sounding = item["annotated"] & item["mask"].flatten(1).any(1)  # (T,)
        for t, iou in enumerate(frame_iou(predict(model, item), item["mask"])):
            if sounding[t]:
                ranked.append((float(iou), index, t))
    return sorted(ranked)

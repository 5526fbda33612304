"""What a decoder knows at each of its scales, coarse to fine: maps, scores with intervals, and LightAVSeg's
audio state step by step.

`maps` runs a model over a dataset once; `per_frame` scores its maps, or those of `load_maps`; `survey` puts
the means into one table.
"""
from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._common import files
from .._common.intervals import Interval
from .._common.outputs import check_finite
from ..data.avsbench import AVSBench
from ..data.sounding_shapes import clip_number, objects
from ..evaluation import evaluating
from ..losses import TEMPERATURE
from ..models.blocks import resize_as
from ..models.lightavseg import LightAVSeg

MOST_BYTES = 100_000_000  # of saved maps, unpacked
LARGEST_LOGIT = 8.0  # what is saved is cut there: sigmoid(8) is 0.9997
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError, MemoryError)
SAVED_STRIDE = 4  # at which the methods compute the mask: in full size it takes several times the space


class Maps(NamedTuple):
    """Where a model sees what sounds, of N clips with T frames each."""

    similarity: list[Tensor]  # coarse to fine, (N, T, h, w), -1 to 1: of the methods' `Scale`
    logits: Tensor  # (N, T, H, W) of the mask; (N, T, H / 4, W / 4) where `load_maps` read them


def probability(similarity: Tensor) -> Tensor:
    """What L_msa matches to the mask: sigmoid(similarity / tau) with tau = 0.1 (LightAVSeg, Section 3.4)."""
    return torch.sigmoid(similarity.float() / TEMPERATURE)


# --- maps of a whole dataset ---


@torch.inference_mode()
def maps(model: nn.Module, dataset: AVSBench) -> Maps:
    """The maps of every clip. Raises ValueError for a model of several classes, whose logits are not a mask,
    and for logits that are not finite."""
    if model.config.num_classes > 1:
        raise ValueError(
            f"the model has {model.config.num_classes} classes; expected one whose logits are a binary mask "
            "(num_classes=1)."
        )
    device = next(model.parameters()).device
    similarity, logits = [], []
    with evaluating(model):
        for index in range(len(dataset)):
            item = dataset[index]
            inputs = (item[name][None].to(device) for name in ("frames", "log_mel"))
            output = model(*inputs, return_scales=True)
            check_finite(output.logits[0], partial("clip {}, second {}".format, item["name"]))
            similarity.append([scale.similarity.float().cpu() for scale in output.scales])
            logits.append(output.logits[:, :, 0].float().cpu())
    return Maps([torch.cat(scale) for scale in zip(*similarity)], torch.cat(logits))


def truth(dataset: AVSBench) -> Tensor:
    """The ground truth masks (N, T, H, W) bool. Raises ValueError if frames are not annotated, as in the
    training clips of S4."""
    items = [dataset[index] for index in range(len(dataset))]
    if not all(item["annotated"].all() for item in items):
        raise ValueError(
            f"{dataset.subset}, split {dataset.split}: not every frame is annotated; use a split in which "
            "all are, such as val or test."
        )
    return torch.stack([item["mask"] for item in items]) > 0


def _quantised(values: Tensor, limit: float) -> np.ndarray:
    return (values.clamp(-limit, limit) * (127 / limit)).round().to(torch.int8).numpy()


def save_maps(path: str | Path, found: Maps) -> None:
    """Writes maps as compressed 8-bit numbers: similarities in steps of 1/127; the mask's logits, averaged
    over 4 x 4 pixels and cut at -8 and 8, in steps of 8/127."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"similarity_{i}": _quantised(scale, 1) for i, scale in enumerate(found.similarity)}
    arrays["logits"] = _quantised(F.avg_pool2d(found.logits, SAVED_STRIDE), LARGEST_LOGIT)
    with files.whole(path) as staging, staging.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_maps(path: str | Path) -> Maps:
    """Reads what `save_maps` wrote. Nothing in the file is executed. Raises FileNotFoundError, or ValueError
    for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if (size := sum(entry.file_size for entry in file.zip.infolist())) > MOST_BYTES:
                raise ValueError(f"it unpacks to {size:,} bytes; expected at most {MOST_BYTES:,}")
            names = [*(f"similarity_{i}" for i in range(len(file.files) - 1)), "logits"]
            arrays = [file[name] for name in names]
    except FileNotFoundError:
        raise
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
        reason = f"{type(error).__name__}: {str(error)[:100]}"
        raise ValueError(f"{path}: not a file of maps from save_maps ({reason}).") from None
    clips = arrays[-1].shape[:2]
    if any(array.dtype != np.int8 or array.ndim != 4 or array.shape[:2] != clips for array in arrays):
        found = [(str(array.dtype), array.shape) for array in arrays]
        raise ValueError(
            f"{path}: holds arrays {found}; expected int8 of shape (N, T, h, w), with N and T the same in "
            "all. Write it again with save_maps."
        )
    *similarity, logits = (torch.from_numpy(array).float() for array in arrays)
    return Maps([scale / 127 for scale in similarity], logits * (LARGEST_LOGIT / 127))


# --- scores ---


def _sorted(values: Tensor, truth: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each frame, the sorted values inside and outside the ground truth. numpy sorts several times faster
    than torch here."""
    for value, inside in zip(values.flatten(1).numpy(), truth.flatten(1).numpy()):
        yield np.sort(value[inside]), np.sort(value[~inside])


def auroc(values: Tensor, truth: Tensor) -> Tensor:
    """The share of pairs, a pixel inside the ground truth and one outside, in which the first has the higher
    value; equal values count half.

    values, truth (N, H, W) -> (N,), NaN for a frame that is all foreground or all background. It is the area
    under the ROC curve and needs no threshold: any increasing function of the values gives the same.
    """
    shares = torch.full((len(truth),), torch.nan)
    for i, (inside, outside) in enumerate(_sorted(values, truth)):
        if len(inside) and len(outside):
            below, upto = (np.searchsorted(outside, inside, side) for side in ("left", "right"))
            shares[i] = (below + upto).mean() / (2 * len(outside))
    return shares


def ceiling(truth: Tensor, height: int, width: int) -> Tensor:
    """What the size of a scale allows: the IoU of the ground truth with itself, averaged down to height x
    width cells and resized back bilinearly.

    truth (N, H, W) bool -> (N,), each frame at its best threshold; NaN without foreground. Not a bound in the
    strict sense, since a map may hold other numbers than averages; but such a map knows everything and is
    limited only by its size.
    """
    coarse = F.adaptive_avg_pool2d(truth[:, None].float(), (height, width))
    best = torch.full((len(truth),), torch.nan)
    for i, (inside, outside) in enumerate(_sorted(resize_as(coarse, truth[:, None]), truth)):
        if len(inside):
            # The best threshold is a value of the truth: any other marks more outside, and no more inside.
            hits, false = (len(values) - np.searchsorted(values, inside) for values in (inside, outside))
            best[i] = (hits / (len(inside) + false)).max()
    return best


def per_frame(found: Maps, truth: Tensor) -> list[dict[str, Tensor]]:
    """Scores of each frame at each scale, coarse to fine, and finally of the mask: dicts of (N, T). truth (N,
    T, H, W) bool.

    Maps are resized to the ground truth as in L_msa. Scores that need foreground are NaN in frames without
    any. inside, outside: the mean probability inside the ground truth and outside it. contrast: inside -
    outside. auroc: how well the similarity (for the mask: the logit) ranks pixels, see `auroc`. iou: of
    probability > 0.5. ceiling: see `ceiling`. marked: the share of pixels outside the ground truth with
    probability > 0.5.
    """
    if found.logits.shape[:2] != truth.shape[:2]:
        raise ValueError(
            f"maps of {tuple(found.logits.shape)} (clips, frames, height, width) and a ground truth of "
            f"{tuple(truth.shape)} do not belong to the same dataset."
        )
    target = truth.flatten(0, 1)  # (N*T, H, W)
    within = target.flatten(1).float()  # (N*T, H*W)
    without = 1 - within
    area, rest = within.sum(1), without.sum(1)

    def resized(x: Tensor) -> Tensor:
        return resize_as(x.flatten(0, 1)[:, None], target[:, None])[:, 0]  # (N*T, H, W)

    known = [(resized(scale), resized(probability(scale))) for scale in found.similarity]
    logits = resized(found.logits)
    known.append((logits, logits.sigmoid()))
    table = []
    for (value, likely), cells in zip(known, (*found.similarity, found.logits)):
        likely = likely.flatten(1)  # (N*T, H*W)
        predicted = (likely > 0.5).float()
        false = (predicted * without).sum(1)
        inside, outside = (likely * within).sum(1) / area, (likely * without).sum(1) / rest  # 0 / 0 is NaN
        scores = {
            "inside": inside,
            "outside": outside,
            "contrast": inside - outside,
            "auroc": auroc(value, target),
            "iou": torch.where(area > 0, (predicted * within).sum(1) / (area + false), torch.nan),
            "ceiling": ceiling(target, *cells.shape[-2:]),
            "marked": false / rest,
        }
        table.append({name: score.unflatten(0, truth.shape[:2]) for name, score in scores.items()})
    return table


def survey(found: Maps, truth: Tensor) -> list[dict]:
    """The scores of `per_frame` as plain numbers, averaged over the frames that have them; each with its
    `scale`, "4 x 4" or "mask".

    For a method that was trained without L_msa, only the scales' AUROC can be compared with others.
    """
    names = [*(f"{scale.shape[-2]} x {scale.shape[-1]}" for scale in found.similarity), "mask"]
    rows = []
    for name, scores in zip(names, per_frame(found, truth)):
        means = {score: value.nanmean().item() for score, value in scores.items()}
        rows.append({"scale": name, **means})
    return rows


def bootstrap(values: Tensor, draws: int = 2000, seed: int = 0) -> Interval:
    """Mean of (N, T) over the frames that have a value (not NaN), with its 95% percentile interval (Efron
    1979).

    Clips are resampled, not frames, since the frames of a clip are alike. Raises ValueError without any
    value.
    """
    counted, summed = (~values.isnan()).sum(1).double(), values.nansum(1).double()  # (N,)
    if not counted.any():
        raise ValueError(f"values of shape {tuple(values.shape)} are all NaN: no frame has this score.")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(values), (draws, len(values)), generator=generator)
    means = summed[drawn].sum(1) / counted[drawn].sum(1)
    low, high = means[~means.isnan()].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval((summed.sum() / counted.sum()).item(), low, high)


class MarkedObject(NamedTuple):
    """How much of one visible object a model marks in one second."""

    clip: int  # of the dataset
    second: int
    number: int  # of the object in its clip; with twins 0 is the one that sounds and 1 the silent one
    category: int
    sounding: bool
    share: float  # of its visible pixels that are marked


def marked_objects(found: Maps, dataset: AVSBench) -> list[MarkedObject]:
    """Every visible object of every frame, with the share of it that is marked. Only for data that
    SoundingShapes made (otherwise FileNotFoundError)."""
    marked = []
    for index, (clip, logits) in enumerate(zip(dataset.clips, found.logits, strict=True)):
        things = objects(dataset.root, dataset.subset, dataset.split, clip_number(clip.name))
        for number, thing in enumerate(things):
            masks = torch.from_numpy(thing.masks)  # (T, H, W)
            predicted = resize_as(logits[:, None], masks[:, None])[:, 0] > 0
            area = masks.flatten(1).sum(1)
            shares = (predicted & masks).flatten(1).sum(1) / area  # (T,)
            for second in area.nonzero().flatten().tolist():  # where it is not hidden
                sounding, share = bool(thing.sounding[second]), shares[second].item()
                marked.append(MarkedObject(index, second, number, thing.category, sounding, share))
    return marked


# --- LightAVSeg's audio state on its way ---


class EncoderStep(NamedTuple):
    """A stage of RAVE (Eq. 3-5): audio = projected * gate."""

    visual: Tensor  # (B, T, C, h, w)  V_i^enc
    projected: Tensor  # (B, T, C)  A_{i-1}, or without HAR A_0, at this stage's channels
    gate: Tensor | None  # (B, T, C)  0 to 1, from what is seen; None without HAR
    audio: Tensor  # (B, T, C)  A_i


class DecoderStep(NamedTuple):
    """A scale of CMFD: audio = merged * gate."""

    visual: Tensor  # (B, T, D, h, w)  V_dec, to which `bias` has been added
    merged: Tensor  # (B, T, D)  A_i*, before the refinement; without CMFD the projected A_i
    gate: Tensor | None  # (B, T, D)  0 to 1; None without CMFD
    audio: Tensor  # (B, T, D)  Â_i
    bias: Tensor | None  # (B, T, D)  what is broadcast; None without CMFD
    similarity: Tensor  # (B, T, h, w)  cosine of V_dec and Â_i


class Trace(NamedTuple):
    """LightAVSeg's steps from a sound to a mask."""

    audio: Tensor  # (B, T, C_a)  A_0
    encoder: list[EncoderStep]  # fine to coarse
    decoder: list[DecoderStep]  # coarse to fine
    logits: Tensor  # (B, T, 1, H, W)


@torch.inference_mode()
def trace(model: LightAVSeg, frames: Tensor, log_mel: Tensor) -> Trace:
    """The audio state at each step, read by hooks. frames (B, T, 3, H, W), log_mel as the model takes it.

    Raises ValueError for another method: only LightAVSeg has such an audio state.
    """
    if not isinstance(model, LightAVSeg):
        raise ValueError(
            f"{type(model).__name__}: has no audio state that is refined; trace needs a LightAVSeg model."
        )
    name_of = {module: name for name, module in model.named_modules()}
    seen: dict[str, Tensor | tuple] = {}

    def see(module: nn.Module, _: tuple, output: Tensor | tuple) -> None:
        seen[name_of[module]] = output

    with evaluating(model), ExitStack() as hooks:  # a hook's handle is a context: leaving it removes the hook
        for module in (model.audio, *model.rave.modules(), *model.cmfd.modules()):
            hooks.enter_context(module.register_forward_hook(see))
        output = model(frames, log_mel, return_scales=True)
    clips = frames.shape[:2]

    def vector(x: Tensor | None) -> Tensor | None:  # (B*T, C, 1, 1) -> (B, T, C)
        return None if x is None else x.flatten(1).unflatten(0, clips)

    def gate(name: str) -> Tensor | None:
        return vector(F.hardsigmoid(seen[name])) if name in seen else None

    encoder, decoder = [], []
    for i in range(len(model.rave)):
        visual, audio = seen[f"rave.{i}"]
        projected = vector(seen[f"rave.{i}.project"])
        step = visual.unflatten(0, clips), projected, gate(f"rave.{i}.gate"), vector(audio)
        encoder.append(EncoderStep(*step))
    for scale, i in zip(output.scales, reversed(range(len(model.cmfd)))):
        merged = F.relu(seen[f"cmfd.{i}.merge"]) if model.config.cmfd else seen[f"cmfd.{i}.lateral"]
        bias = vector(seen.get(f"cmfd.{i}.broadcast"))
        step = scale.visual, vector(merged), gate(f"cmfd.{i}.gate"), scale.audio, bias, scale.similarity
        decoder.append(DecoderStep(*step))
    return Trace(vector(seen["audio"]), encoder, decoder, output.logits)


def pca_colours(features: Tensor | Sequence[Tensor]) -> np.ndarray | list[np.ndarray]:
    """Features (N, D, h, w), D at least 3, as pictures (N, h, w, 3), 0 to 1: red, green and blue are the
    first three principal components of all positions.

    Several maps with the same D, in a list, share the components, so that their colours are comparable; they
    may differ in size. Each component's sign makes its largest weight positive, and its 1st to 99th
    percentile fills the range.
    """
    several = [features] if isinstance(features, Tensor) else list(features)
    if any(x.ndim != 4 or x.shape[1] != several[0].shape[1] or x.shape[1] < 3 for x in several):
        shapes = [tuple(x.shape) for x in several]
        raise ValueError(f"features have shapes {shapes}; expected (N, D, h, w), one D of at least 3.")
    points = torch.cat([x.movedim(1, -1).flatten(0, 2) for x in several]).double().cpu()  # (positions, D)
    points = points - points.mean(0)
    _, axes = torch.linalg.eigh(points.T @ points)  # by rising variance
    axes = axes[:, -3:].flip(1)  # (D, 3)
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    colours = points @ axes  # (positions, 3)
    low, high = (torch.from_numpy(np.percentile(colours.numpy(), q, axis=0)) for q in (1, 99))
    colours = ((colours - low) / (high - low).clamp_min(1e-9)).clamp(0, 1).float()
    parts = colours.split([x[:, 0].numel() for x in several])
    pictures = [part.unflatten(0, x[:, 0].shape).numpy() for part, x in zip(parts, several)]
    return pictures[0] if isinstance(features, Tensor) else pictures

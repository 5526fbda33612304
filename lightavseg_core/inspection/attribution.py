"""Why these pixels? Attribution with Captum: which bins of the log-mel, and which places of the frame, made a
mask.

An attribution explains one number, the *target*: the logits of one second summed over a mask, the predicted
one or a chosen object's. (With several classes: the logit of each pixel's best category minus that of the
background.) The baseline is *silence*, the log-mel of a zero waveform: log 0.01 for VGGish's, where a zero
would be loud. An attribution is only as good as its checks: it adds up (completeness), it changes with the
weights (`randomised`, `rank_correlation`), and it finds what is known to sound (`stem_cells`, `share_on`).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._common.shipped import how_to_install
from ..data.audio import FrontEnd
from ..data.avsbench import AVSBench
from ..data.sounding_shapes import clip_number, noise, objects, stems
from ..models.base import AVSModel
from .attribution_target import explaining

AT_ONCE = 8  # inputs in one batch
POINTS = 2  # Gauss-Legendre points on a piece of the path from silence to the sound


class Attribution(NamedTuple):
    """How much each part of an input contributed to the target. Positive: it raised the mask's logits."""

    values: Tensor  # (T, 1, F, M), like the log-mel; of Grad-CAM (H, W)
    difference: float  # target(input) - target(silence), in logits
    mask: Tensor  # (H, W) bool: the pixels whose logits are summed
    # Integrated Gradients: |sum of values - difference| / |difference|; else None, nothing promises a sum.
    error: float | None


def captum_attr():
    """captum.attr. Raises ImportError, in one line, if Captum is not installed."""
    try:
        from captum import attr
    except ImportError:
        extra = how_to_install("notebooks")
        raise ImportError(f"attribution needs Captum, which is not installed: run `{extra}`.") from None
    return attr


class Piece(NamedTuple):
    """A piece of the path from silence, 0, to the sound, 1."""

    start: float
    end: float
    values: Tensor  # (S, 1, F, M)
    missed: float  # the sum of values, minus what the target changes from start to end


def integrated_gradients(
    model: AVSModel,
    frames: Tensor,
    log_mel: Tensor,
    second: int = 0,
    mask: Tensor | None = None,
    steps: int = 64,
    tolerance: float = 0.01,
) -> Attribution:
    """Integrated Gradients of the log-mel (Sundararajan et al., ICML 2017, arXiv 1703.01365), from silence to
    the sound in all seconds at once.

    frames (T, 3, H, W), log_mel (T, 1, F, M): a clip, of which the logits of one `second` are explained. mask
    (H, W) bool, None: what the model marks there. values (T, 1, F, M): what each bin added; 0 in all other
    seconds if a method treats them separately. They sum to `difference`, up to the quadrature's error.

    A trained model switches an object on within a few hundredths of the path, which Gauss-Legendre points
    spread over the whole path would miss. So the path is cut into pieces of 2 points, `steps` in all.
    Completeness holds for each piece too, which shows where points are too few: the worst pieces are halved
    until neither the worst nor the sum is off by more than `tolerance` of the difference (if that is at least
    1), or there are 16 x `steps` points. Raises ValueError for an impossible second, mask or number of steps,
    and if nothing is marked.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected at least 1, and 64 for a real model.")
    attr = captum_attr()
    with explaining(model, frames, log_mel, second, mask) as target:
        method, change = attr.IntegratedGradients(target.of_sound), target.log_mel - target.silence
        reached = {}  # place on the path -> target

        def sounds(places: Sequence[float]) -> Tensor:
            along = torch.tensor(places, device=change.device).view(-1, 1, 1, 1, 1)
            return target.silence + along * change  # (places, S, 1, F, M)

        def measured(borders: list[tuple[float, float]]) -> Iterator[Piece]:
            new = sorted({place for border in borders for place in border} - reached.keys())
            if new:
                with torch.no_grad():
                    reached.update(zip(new, target.of_sound(sounds(new)).tolist()))
            starts, ends = (sounds(places) for places in zip(*borders))
            for (start, end), values in zip(borders, method.attribute(ends, starts, n_steps=POINTS)):
                missed = values.double().sum().item() - (reached[end] - reached[start])
                yield Piece(start, end, values, missed)

        count, several = -(-steps // POINTS), AT_ONCE // POINTS
        allowed = tolerance * max(abs(target.difference), 1)
        pieces, borders = [], [(i / count, (i + 1) / count) for i in range(count)]
        while True:
            for i in range(0, len(borders), several):
                pieces += measured(borders[i : i + several])
            pieces.sort(key=lambda piece: abs(piece.missed))
            missed = max(abs(pieces[-1].missed), abs(sum(piece.missed for piece in pieces)))
            if missed <= allowed or len(pieces) >= 16 * count:
                break
            borders = []
            for start, end, *_ in pieces[-2:]:  # the worst, whose halves fill a batch
                middle = (start + end) / 2
                borders += [(start, middle), (middle, end)]
            del pieces[-2:]
        values = target.in_clip(sum(piece.values for piece in pieces)[None], len(frames))
    missed = abs(values.double().sum().item() - target.difference)
    error = missed / max(abs(target.difference), 1e-12)
    return Attribution(values, target.difference, target.mask.cpu(), error)


def occlusion(
    model: AVSModel,
    frames: Tensor,
    log_mel: Tensor,
    second: int = 0,
    mask: Tensor | None = None,
    patch: tuple[int, int] = (8, 8),
) -> Attribution:
    """What the target loses when a patch of the log-mel becomes silent (Zeiler and Fergus, ECCV 2014,
    arXiv 1311.2901).

    Inputs, mask and errors as in `integrated_gradients`. patch: windows and bands, side by side without
    overlap. Each bin has the value of its patch, so values do not sum to the difference.
    """
    if min(patch) < 1 or patch[0] > log_mel.shape[-2] or patch[1] > log_mel.shape[-1]:
        most = tuple(log_mel.shape[-2:])
        raise ValueError(f"patch is {patch}; expected (windows, bands) from (1, 1) to {most}.")
    attr = captum_attr()
    with explaining(model, frames, log_mel, second, mask) as target, torch.no_grad():
        method, window = attr.Occlusion(target.of_sound), (1, 1, *patch)
        values = method.attribute(
            target.log_mel, window, window, target.silence, perturbations_per_eval=AT_ONCE
        )
    return Attribution(target.in_clip(values, len(frames)), target.difference, target.mask.cpu(), None)


def grad_cam(
    model: AVSModel,
    frames: Tensor,
    log_mel: Tensor,
    second: int = 0,
    mask: Tensor | None = None,
    layer: nn.Module | None = None,
) -> Attribution:
    """Layer Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391): channels of a map, each weighted by its
    mean gradient, and summed.

    Inputs, mask and errors as in `integrated_gradients`. layer: a submodule that returns a map (B*T, C, h,
    w), such as `model.visual.stages[2]`; None: the map that `model.head` reads, the last one in every method
    here. values (H, W): resized to the frame (bilinear), with negative ones, which speak against the mask.
    Raises ValueError for a layer outside the model or without a map, and for a model without a head.
    """
    reads = layer is None
    layer = getattr(model, "head", None) if reads else layer
    if not any(layer is module for module in model.modules()):
        name = "head" if reads else type(layer).__name__
        raise ValueError(
            f"{model.config.method} has no such layer ({name}); give one of its submodules that returns "
            "a map (B*T, C, h, w)."
        )
    attr = captum_attr()
    with explaining(model, frames, log_mel, second, mask) as target:
        method = attr.LayerGradCam(target.of_frames, layer)
        values = method.attribute(target.frames, attribute_to_layer_input=reads)
        values = values[0] if isinstance(values, tuple) else values  # SelM's head reads a token too
    if values.ndim != 4 or len(values) != target.frames.shape[1]:
        raise ValueError(
            f"{type(layer).__name__} gives values of shape {tuple(values.shape)}; expected a layer that "
            "returns a map (B*T, C, h, w)."
        )
    values = F.interpolate(values[target.second, None].detach(), frames.shape[-2:], mode="bilinear")[0, 0]
    return Attribution(values.cpu(), target.difference, target.mask.cpu(), None)


def randomised(model: AVSModel, seed: int, parts: Sequence[str] | None = None) -> AVSModel:
    """A copy with random weights, for the sanity check of Adebayo et al. (NeurIPS 2018, arXiv 1810.03292).

    parts: names of the model's submodules, such as ("head",) or, from the head downward, ("head", "smooth",
    "lateral"); None: all. An attribution that hardly changes does not explain what the model has learned.
    Raises ValueError for a part that it does not have.
    """
    known = [name for name, _ in model.named_children()]
    if parts is not None and (isinstance(parts, str) or not set(parts) <= set(known)):
        raise ValueError(f"parts is {parts!r}; expected names among {', '.join(known)}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(replace(model.config)).to(next(model.parameters()).device)
    if parts is None:
        return fresh.eval()
    copy = deepcopy(model)
    for name in parts:
        setattr(copy, name, getattr(fresh, name))
    return copy.eval()


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1, where equal values share their mean rank: any shape -> (N,) float64."""
    _, index, counts = values.flatten().unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[index]


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two tensors of one shape, -1 to 1; nan if one is constant. Raises
    ValueError for different shapes."""
    if a.shape != b.shape or a.numel() < 2:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"shapes {shapes}; expected one shape, with at least two values.")
    return torch.corrcoef(torch.stack([ranks(a), ranks(b)]))[0, 1].item()


def dominant(front_end: Callable, sound: Tensor, rest: Tensor, times: Tensor) -> Tensor:
    """The bins of the log-mel in which a sound is louder than the rest: the ideal binary mask at 0 dB (Wang,
    2005). Waveforms (samples,) at the front end's rate -> (T, 1, F, M) bool, False where both are silent."""
    return front_end(sound, times) > front_end(rest, times)


def stem_cells(dataset: AVSBench, index: int) -> Tensor:
    """For each visible object of a SoundingShapes clip, the bins where its sound is louder than everything
    else, noise included: (objects, T, 1, F, M) bool, in the order of `sounding_shapes.objects`. Raises
    ValueError for a front end at another rate than the stems."""
    if dataset.front_end.sample_rate != 16_000:
        raise ValueError(
            f"the front end works at {dataset.front_end.sample_rate} Hz, the stems at 16000 Hz. Resample the "
            "stems and call `dominant`."
        )
    clip = dataset.clips[index]
    where = dataset.root, dataset.split, clip_number(clip.name), dataset.subset
    own = torch.from_numpy(stems(*where))  # (objects, samples), and what is out of view
    total = own.sum(0) + torch.from_numpy(noise(*where))
    things = objects(dataset.root, dataset.subset, dataset.split, clip_number(clip.name))
    times = torch.arange(len(clip.frames))
    cells = [dominant(dataset.front_end, sound, total - sound, times) for _, sound in zip(things, own)]
    return torch.stack(cells)


def share_on(values: Tensor, where: Tensor) -> float:
    """Share of |values| where `where` is True, 0 to 1; both of one shape. An attribution that knows nothing
    scores the share of the area, `where.float().mean()`; one that only follows loudness,
    `share_on(log_mel - silence, where)`. nan if all values are 0."""
    if values.shape != where.shape:
        raise ValueError(f"values {tuple(values.shape)} and where {tuple(where.shape)}; expected one shape.")
    return (values.abs()[where].sum() / values.abs().sum()).item()


class Control(NamedTuple):
    """Where the attribution for each object falls, in a second in which several sound. n sounding objects, in
    the order of `objects`."""

    objects: list[int]  # which ones sound
    # (n, n)  of the attribution for object i's mask, the share on the bins where j is louder than all else.
    shares: Tensor
    area: Tensor  # (n,)  share of the bins: what an attribution scores that knows nothing
    loudness: Tensor  # (n,)  share of log-mel - silence: what it scores that only sees where it is loud


def positive_control(
    model: AVSModel, dataset: AVSBench, index: int, second: int, steps: int = 64, tolerance: float = 0.05
) -> Control:
    """Integrated Gradients for each sounding object in a second of a SoundingShapes clip, with its true mask,
    compared with the objects' own sounds.

    Does the model listen to the object that it marks? Then shares[i, i] is above area[i], above loudness[i],
    and above shares[j, i], the same bins with another object's mask. Raises ValueError if no visible object
    sounds.
    """
    item, clip = dataset[index], dataset.clips[index]
    things = objects(dataset.root, dataset.subset, dataset.split, clip_number(clip.name))
    made = torch.stack([torch.from_numpy(thing.masks[second]) for thing in things]).float()
    masks = F.interpolate(made[None], item["frames"].shape[-2:], mode="nearest-exact")[0] > 0
    heard = [i for i, thing in enumerate(things) if thing.sounding[second] and masks[i].any()]
    if not heard:
        raise ValueError(f"{clip.name}: no visible object sounds in second {second}; choose another.")
    cells = stem_cells(dataset, index)[heard, second]  # (n, 1, F, M)
    scene = item["frames"], item["log_mel"], second
    shares = []
    for i in heard:
        values = integrated_gradients(model, *scene, masks[i], steps, tolerance).values[second]
        shares.append([share_on(values, where) for where in cells])
    loud = item["log_mel"][second] - dataset.front_end.silence
    loudness = torch.tensor([share_on(loud, where) for where in cells])
    return Control(heard, torch.tensor(shares), cells.flatten(1).float().mean(1), loudness)


def band_centres(front_end: FrontEnd) -> np.ndarray:
    """Centre of each mel band in Hz, (M,): the mean frequency of its filter."""
    filters = front_end.filters  # (bins, M)
    hertz = torch.linspace(0, front_end.sample_rate / 2, len(filters), dtype=filters.dtype)
    return (hertz @ filters / filters.sum(0)).numpy()


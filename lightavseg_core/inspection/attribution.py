"""Why these pixels? Attribution with Captum: which bins of the log-mel, and which places of the frame, decided about a mask.

What is explained is one number, the *target*: the logits of one second summed over a mask, the predicted one or a chosen object's. (Of more
than one class: the logit of each pixel's best category above that of the background.) What is not there is *silence*, the log-mel of a zero
waveform: log 0.01 for VGGish's, where a zero would be loud. An attribution is worth what its checks say: it adds up (completeness), it
changes with the weights (`randomised`, `rank_correlation`), and it finds what is known to sound (`stem_cells`, `share_on`).
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.audio import FrontEnd
from ..data.avsbench import AVSBench
from ..data.sounding_shapes import clip_number, noise, objects, stems
from ..evaluation import evaluating
from ..models.base import AVSModel

PIECE = 8    # steps on a piece of the path from silence to the sound, and inputs in one batch


class Attribution(NamedTuple):
    """How much each part of an input did for the target. Positive: it raised the logits of the mask."""

    values: Tensor            # (T, 1, F, M), like the log-mel; of Grad-CAM (H, W)
    difference: float         # target(input) - target(silence), in logits
    mask: Tensor              # (H, W) bool: the pixels whose logits are summed
    error: float | None       # Integrated Gradients: |sum of values - difference| / |difference|; else None, nothing promises a sum


def captum_attr():
    """captum.attr. Raises ImportError, in one line, where Captum is not installed."""
    try:
        from captum import attr
    except ImportError:
        raise ImportError("attribution needs Captum, which the notebooks' extra brings: pip install 'lightavseg-workbook[notebooks]'.") from None
    return attr


class Target:
    """What is explained: frames (N, T, 3, H, W), log_mel (N, T, 1, F, M) -> (N,). Made by `explaining`; `seconds` are those of the clip it reads."""

    def __init__(self, model: AVSModel, frames: Tensor, log_mel: Tensor, second: int, mask: Tensor | None):
        length = len(frames)
        if frames.ndim != 4 or log_mel.ndim != 4 or len(log_mel) != length:
            raise ValueError(f"frames {tuple(frames.shape)} and log_mel {tuple(log_mel.shape)}; expected one clip, (T, 3, H, W) and (T, 1, F, M).")
        if not 0 <= second < length:
            raise ValueError(f"second is {second}; this clip has seconds 0 to {length - 1}.")
        if mask is not None and (mask.shape != frames.shape[-2:] or mask.dtype != torch.bool or not mask.any()):
            raise ValueError(f"mask is {tuple(mask.shape)} {mask.dtype} with {int(mask.count_nonzero())} pixels set; expected bool, "
                             f"{tuple(frames.shape[-2:])} like the frames, with at least one.")
        device = next(model.parameters()).device
        self.model, frames, log_mel = model, frames.to(device), log_mel.to(device)
        with torch.no_grad():
            logits = model(frames[None], log_mel[None]).logits[0, second]      # (K, H, W)
        self.classes = logits[1:].argmax(0) if len(logits) > 1 else None       # (H, W)  held fixed while the sound changes
        self.mask = self.above_background(logits) > 0 if mask is None else mask.to(device)
        if not self.mask.any():
            raise ValueError(f"the model marks nothing in second {second}; choose a second in which it does, or give a mask.")
        self.seconds = range(length) if self.reads_clip(frames, log_mel, second) else range(second, second + 1)
        self.second = second - self.seconds.start
        self.frames, self.log_mel = frames[None, self.seconds], log_mel[None, self.seconds]
        self.silence = torch.full_like(self.log_mel, model.front_end.silence)
        with torch.no_grad():
            self.difference = (self(self.frames, self.log_mel) - self(self.frames, self.silence)).item()

    def above_background(self, logits: Tensor) -> Tensor:
        """(..., K, H, W) -> (..., H, W): the logit of the mask; of more classes, that of each pixel's category minus the background's."""
        if self.classes is None:
            return logits[..., 0, :, :]
        index = self.classes.expand(*logits.shape[:-3], 1, *logits.shape[-2:])
        return logits[..., 1:, :, :].gather(-3, index)[..., 0, :, :] - logits[..., 0, :, :]

    def reads_clip(self, frames: Tensor, log_mel: Tensor, second: int) -> bool:
        """Whether other seconds reach the logits of this one (AVSBench, SelM): has any of them a gradient? Where none has, one second is enough."""
        if len(frames) == 1:
            return False
        inputs = frames[None].clone().requires_grad_(), log_mel[None].clone().requires_grad_()
        score = self.model(*inputs).logits[0, second].square().sum()
        others = [t for t in range(len(frames)) if t != second]
        return any(gradient[0, others].any() for gradient in torch.autograd.grad(score, inputs, materialize_grads=True))

    def __call__(self, frames: Tensor, log_mel: Tensor) -> Tensor:
        frames = frames.expand(len(log_mel), *frames.shape[1:])
        logits = self.model(frames, log_mel).logits[:, self.second]            # (N, K, H, W)
        return (self.above_background(logits) * self.mask).sum((-2, -1))       # (N,)

    def of_sound(self, log_mel: Tensor) -> Tensor:
        return self(self.frames, log_mel)

    def of_frames(self, frames: Tensor) -> Tensor:
        return self(frames, self.log_mel)

    def in_clip(self, values: Tensor, length: int) -> Tensor:
        """Values of the seconds that were read (1, S, 1, F, M) -> (T, 1, F, M), 0 elsewhere."""
        clip = torch.zeros(length, *values.shape[2:])
        clip[self.seconds] = values[0].detach().cpu()
        return clip


@contextmanager
def explaining(model: AVSModel, *inputs) -> Iterator[Target]:
    """A Target of a model in eval mode, which is put back. Gradients go to inputs only: no parameter gets a `.grad`."""
    with evaluating(model):
        yield Target(model, *inputs)


def integrated_gradients(model: AVSModel, frames: Tensor, log_mel: Tensor, second: int = 0, mask: Tensor | None = None,
                         steps: int = 128, tolerance: float = 0.01) -> Attribution:
    """Integrated Gradients of the log-mel (Sundararajan et al., ICML 2017, arXiv 1703.01365), from silence to the sound in all seconds at once.

    frames (T, 3, H, W), log_mel (T, 1, F, M): a clip, of which the logits of one `second` are explained. mask (H, W) bool, None: what the model
    marks there. values (T, 1, F, M): what each bin added; where a method treats seconds apart, 0 in all others. They sum to `difference`,
    but for the quadrature's error.

    A trained model switches an object on within a few hundredths of the path, and Gauss-Legendre points spread over all of it miss that. So the
    path is cut into pieces of 8 points, `steps` in all. Completeness holds for each piece too, which tells where the points are too
    few: the worst piece is halved, until neither it nor the sum misses by more than `tolerance` of the difference (if that is at least 1), or
    there are 8 x `steps` points.
    Raises ValueError for a second, mask or steps that cannot be, and where nothing is marked.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; expected at least 1, for a real model 128.")
    attr = captum_attr()
    with explaining(model, frames, log_mel, second, mask) as target:
        method, change = attr.IntegratedGradients(target.of_sound), target.log_mel - target.silence

        def piece(start: float, end: float) -> tuple[float, float, float, Tensor]:
            """(sum of values - difference, start, end, values) of the path's part from start to end, 0 to 1."""
            values, delta = method.attribute(target.silence + end * change, target.silence + start * change, n_steps=PIECE,
                                             internal_batch_size=PIECE, return_convergence_delta=True)
            return delta.item(), start, end, values

        count = -(-steps // PIECE)
        pieces = [piece(i / count, (i + 1) / count) for i in range(count)]
        allowed = tolerance * max(abs(target.difference), 1)
        while len(pieces) < 8 * count:
            worst = max(pieces, key=lambda p: abs(p[0]))
            if max(abs(worst[0]), abs(sum(p[0] for p in pieces))) <= allowed:
                break
            pieces.remove(worst)
            _, start, end, _ = worst
            middle = (start + end) / 2
            pieces += [piece(start, middle), piece(middle, end)]
        values = target.in_clip(sum(p[3] for p in pieces), len(frames))
    missed = abs(values.double().sum().item() - target.difference)
    error = missed / abs(target.difference) if target.difference else math.inf if missed else 0.0
    return Attribution(values, target.difference, target.mask.cpu(), error)


def occlusion(model: AVSModel, frames: Tensor, log_mel: Tensor, second: int = 0, mask: Tensor | None = None,
              patch: tuple[int, int] = (8, 8)) -> Attribution:
    """What the target loses when a patch of the log-mel falls silent (Zeiler and Fergus, ECCV 2014, arXiv 1311.2901).

    Inputs, mask and errors as in `integrated_gradients`. patch: windows and bands, side by side without overlap; each bin of a patch has
    its patch's value, so values do not sum to the difference.
    """
    if min(patch) < 1 or patch[0] > log_mel.shape[-2] or patch[1] > log_mel.shape[-1]:
        raise ValueError(f"patch is {patch}; expected (windows, bands) from (1, 1) to {tuple(log_mel.shape[-2:])}.")
    attr = captum_attr()
    with explaining(model, frames, log_mel, second, mask) as target, torch.no_grad():
        window = (1, 1, *patch)
        values = attr.Occlusion(target.of_sound).attribute(target.log_mel, window, window, target.silence, perturbations_per_eval=PIECE)
    return Attribution(target.in_clip(values, len(frames)), target.difference, target.mask.cpu(), None)


def grad_cam(model: AVSModel, frames: Tensor, log_mel: Tensor, second: int = 0, mask: Tensor | None = None,
             layer: nn.Module | None = None) -> Attribution:
    """Layer Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391): channels of a map, each weighted by its mean gradient, and summed.

    Inputs, mask and errors as in `integrated_gradients`. layer: a submodule that returns a map (B*T, C, h, w), such as `model.visual.stages[2]`;
    None: the map that `model.head` reads, the last of every method here. values (H, W): resized to the frame (bilinear), negative
    ones kept: what speaks against the mask.
    Raises ValueError for a layer that is not of the model or returns no map, and for a model without a head.
    """
    reads = layer is None
    layer = getattr(model, "head", None) if reads else layer
    if not any(layer is module for module in model.modules()):
        raise ValueError(f"{model.config.method} has no such layer ({'head' if reads else type(layer).__name__}); give one of its submodules "
                         "that returns a map (B*T, C, h, w).")
    attr = captum_attr()
    with explaining(model, frames, log_mel, second, mask) as target:
        values = attr.LayerGradCam(target.of_frames, layer).attribute(target.frames, attribute_to_layer_input=reads)
        values = values[0] if isinstance(values, tuple) else values           # SelM's head reads the map and a token
    if values.ndim != 4 or len(values) != len(target.seconds):
        raise ValueError(f"{type(layer).__name__} gives values {tuple(values.shape)}; expected a layer that returns a map (B*T, C, h, w).")
    values = F.interpolate(values[target.second, None].detach(), frames.shape[-2:], mode="bilinear")[0, 0]
    return Attribution(values.cpu(), target.difference, target.mask.cpu(), None)


def randomised(model: AVSModel, seed: int, parts: Sequence[str] | None = None) -> AVSModel:
    """A copy whose weights are drawn at random, for the sanity check of Adebayo et al. (NeurIPS 2018, arXiv 1810.03292).

    parts: names of the model's submodules, such as ("head",) or, from the head downward, ("head", "smooth", "lateral"); None: all.
    An attribution that hardly changes does not explain what the model has learnt. Raises ValueError for a part that it does not have.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(replace(model.config)).to(next(model.parameters()).device)
    known = [name for name, _ in model.named_children()]
    if parts is None:
        return fresh.eval()
    if isinstance(parts, str) or not set(parts) <= set(known):
        raise ValueError(f"parts is {parts!r}; expected names among {', '.join(known)}.")
    copy = deepcopy(model)
    for name in parts:
        setattr(copy, name, getattr(fresh, name))
    return copy.eval()


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1, equal values sharing the mean of theirs: any shape -> (N,) float64."""
    _, index, counts = values.flatten().unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[index]


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two tensors of one shape, -1 to 1; nan where one is constant. Raises ValueError for two shapes."""
    if a.shape != b.shape or a.numel() < 2:
        raise ValueError(f"shapes {tuple(a.shape)} and {tuple(b.shape)}; expected one shape, with at least two values.")
    return torch.corrcoef(torch.stack([ranks(a), ranks(b)]))[0, 1].item()


def dominant(front_end: Callable, sound: Tensor, rest: Tensor, times: Tensor) -> Tensor:
    """The bins of the log-mel in which a sound is louder than the rest: the ideal binary mask at 0 dB (Wang, 2005). Waveforms (samples,)
    at the front end's rate -> (T, 1, F, M) bool. Where both are silent, neither is."""
    return front_end(sound, times) > front_end(rest, times)


def stem_cells(dataset: AVSBench, index: int) -> Tensor:
    """Of each visible object of a SoundingShapes clip, the bins where its own sound is louder than all else, noise included:
    (objects, T, 1, F, M) bool, in the order of `sounding_shapes.objects`. Raises ValueError for a front end of another rate than the stems'."""
    if dataset.front_end.sample_rate != 16_000:
        raise ValueError(f"the front end hears {dataset.front_end.sample_rate} Hz; the stems have 16000. Resample them, and call `dominant`.")
    clip = dataset.clips[index]
    where = dataset.root, dataset.split, clip_number(clip.name), dataset.subset
    own = torch.from_numpy(stems(*where))                 # (objects, samples)
    total = own.sum(0) + torch.from_numpy(noise(*where))
    times = torch.arange(len(clip.frames))
    return torch.stack([dominant(dataset.front_end, sound, total - sound, times) for sound in own])


def share_on(values: Tensor, where: Tensor) -> float:
    """Share of |values| that falls where `where` is True, 0 to 1; both of one shape. An attribution that knows nothing scores the share of the area,
    `where.float().mean()`; one that only sees loudness, `share_on(log_mel - silence, where)`. nan where all values are 0."""
    if values.shape != where.shape:
        raise ValueError(f"values {tuple(values.shape)} and where {tuple(where.shape)}; expected one shape.")
    return (values.abs()[where].sum() / values.abs().sum()).item()


class Control(NamedTuple):
    """A second in which several objects sound: where the attribution for each falls. n sounding objects, in the order of `objects`."""

    objects: list[int]        # which ones sound
    shares: Tensor            # (n, n)  of the attribution for object i's mask, the share on the bins where j is louder than all else
    area: Tensor              # (n,)    share of the bins: what an attribution scores that knows nothing
    loudness: Tensor          # (n,)    share of log-mel - silence: what it scores that only sees where it is loud


def positive_control(model: AVSModel, dataset: AVSBench, index: int, second: int, steps: int = 64, tolerance: float = 0.05) -> Control:
    """Integrated Gradients for each sounding object of a SoundingShapes clip's second, its mask the truth, compared with the objects' own sounds.

    Does the model listen to the object that it marks? Then shares[i, i] is above area[i], above loudness[i], and, the same bins but another
    object's mask, above shares[j, i]. Raises ValueError where no object that sounds can be seen.
    """
    item, clip = dataset[index], dataset.clips[index]
    things = objects(dataset.root, dataset.subset, dataset.split, clip_number(clip.name))
    masks = torch.stack([torch.from_numpy(thing.masks[second]) for thing in things]).float()           # at the size that they were made at
    masks = F.interpolate(masks[None], item["frames"].shape[-2:], mode="nearest-exact")[0] > 0
    heard = [i for i, thing in enumerate(things) if thing.sounding[second] and masks[i].any()]
    if not heard:
        raise ValueError(f"{clip.name}: no visible object sounds in second {second}; choose another.")
    cells = stem_cells(dataset, index)[heard]                                                         # (n, T, 1, F, M)
    loud, rows = item["log_mel"] - dataset.front_end.silence, []
    for i in heard:
        values = integrated_gradients(model, item["frames"], item["log_mel"], second, masks[i], steps, tolerance).values
        rows.append([share_on(values[second], where[second]) for where in cells])
    loudness = torch.tensor([share_on(loud[second], where[second]) for where in cells])
    return Control(heard, torch.tensor(rows), cells[:, second].flatten(1).float().mean(1), loudness)


def band_centres(front_end: FrontEnd) -> np.ndarray:
    """Centre of each mel band in Hz, (M,): the mean frequency of its filter."""
    filters = front_end.filters                                                                       # (bins, M)
    hertz = torch.linspace(0, front_end.sample_rate / 2, len(filters), dtype=filters.dtype)
    return (hertz @ filters / filters.sum(0)).numpy()


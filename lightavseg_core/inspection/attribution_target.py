"""What an attribution explains: one number of a model, its target."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..evaluation import evaluating
from ..models.base import AVSModel


class Target:
    """The number to explain: frames (N, T, 3, H, W), log_mel (N, T, 1, F, M) -> (N,). Made by `explaining`;
    `seconds` are the seconds of the clip that it reads."""

    def __init__(self, model: AVSModel, frames: Tensor, log_mel: Tensor, second: int, mask: Tensor | None):
        length, size = len(frames), frames.shape[-2:]
        if frames.ndim != 4 or log_mel.ndim != 4 or len(log_mel) != length:
            raise ValueError(
                f"found frames {tuple(frames.shape)} and log_mel {tuple(log_mel.shape)}; expected one clip, "
                "(T, 3, H, W) and (T, 1, F, M)."
            )
        if not 0 <= second < length:
            raise ValueError(f"second is {second}; this clip has seconds 0 to {length - 1}.")
        if mask is not None and (mask.shape != size or mask.dtype != torch.bool or not mask.any()):
            raise ValueError(
                f"mask is {tuple(mask.shape)} {mask.dtype} with {int(mask.count_nonzero())} pixels set; "
                f"expected bool, {tuple(size)} like the frames, with at least one."
            )
        self.model = model
        device = next(model.parameters()).device
        inputs = [x[None].to(device).clone().requires_grad_() for x in (frames, log_mel)]
        logits = model(*inputs).logits[0, second]  # (K, H, W)
        # Other seconds reach these logits (AVSBench, SelM) where they have a gradient. Else one is enough.
        gradients = torch.autograd.grad(logits.square().sum(), inputs, materialize_grads=True)
        others = [t for t in range(length) if t != second]
        reads_clip = any(gradient[0, others].any() for gradient in gradients)
        self.seconds = slice(0, length) if reads_clip else slice(second, second + 1)
        self.second = second - self.seconds.start
        self.frames, self.log_mel = (x.detach()[:, self.seconds] for x in inputs)
        self.silence = torch.full_like(self.log_mel, model.front_end.silence)

        # (H, W), the best category, held fixed while the sound changes.
        self.classes = logits[1:].argmax(0) if len(logits) > 1 else None
        self.mask = self.above_background(logits) > 0 if mask is None else mask.to(device).clone()
        if not self.mask.any():
            raise ValueError(
                f"the model marks nothing in second {second}; choose another one, or give a mask."
            )
        with torch.no_grad():
            self.difference = (self.of_sound(self.log_mel) - self.of_sound(self.silence)).item()

    def above_background(self, logits: Tensor) -> Tensor:
        """(..., K, H, W) -> (..., H, W): the logit of the mask; with several classes, that of each pixel's
        category minus the background's."""
        if self.classes is None:
            return logits[..., 0, :, :]
        index = self.classes.expand(*logits.shape[:-3], 1, *logits.shape[-2:])
        return logits[..., 1:, :, :].gather(-3, index)[..., 0, :, :] - logits[..., 0, :, :]

    def __call__(self, frames: Tensor, log_mel: Tensor) -> Tensor:
        frames = frames.expand(len(log_mel), *frames.shape[1:])
        logits = self.model(frames, log_mel).logits[:, self.second]  # (N, K, H, W)
        return (self.above_background(logits) * self.mask).sum((-2, -1))  # (N,)

    def of_sound(self, log_mel: Tensor) -> Tensor:
        return self(self.frames, log_mel)

    def of_frames(self, frames: Tensor) -> Tensor:
        return self(frames, self.log_mel)

    def in_clip(self, values: Tensor, length: int) -> Tensor:
        """Values of the seconds that were read, (1, S, 1, F, M) -> (T, 1, F, M), 0 in the others."""
        clip = torch.zeros(length, *values.shape[2:])
        clip[self.seconds] = values[0].detach().cpu()
        return clip


@contextmanager
def explaining(model: AVSModel, *inputs) -> Iterator[Target]:
    """A Target of a model in eval mode and frozen, so that gradients go only to inputs; afterwards both are
    undone. Gradients are computed here even if they are switched off outside."""
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        try:
            for parameter in learnt:
                parameter.requires_grad_(False)
            yield Target(model, *inputs)
        finally:
            for parameter in learnt:
                parameter.requires_grad_(True)

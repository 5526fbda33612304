"""A stepper through a decoder: what each scale sees and hears, coarse to fine, and the mask at the end."""
from __future__ import annotations

import ipywidgets
import numpy as np
import torch.nn.functional as F
from ipywidgets import HBox
from torch import nn

from ..evaluation import frame_iou
from ..inspection.scales import probability
from . import canvas, seen
from .panel import WRAPPED, Panel, Picture, all_or_nothing, control, second_slider, titled


class DecoderStepper(Panel):
    """A slider through the decoder: each scale's map over the frame and its audio state, then the mask.

    model: any method; without scales only the mask is shown. item: of `AVSBench`, with the model's front end.
    second: the first one shown. If the method trains with L_msa, a map is the probability that it supervises,
    and has an IoU with the ground truth, above 0.5 and resized to the frame; otherwise a map is scaled from
    its minimum to its maximum. The bars of the audio state are scaled by its maximum in the clip.
    """

    @all_or_nothing
    def __init__(self, model: nn.Module, item: dict, second: int = 0):
        super().__init__("lav-stepper")
        self.second = second_slider(item, second)
        self.model, self.frames, self.truth = model, item["frames"], item["mask"] > 0
        self.seen = seen.look(model, item["frames"], item["log_mel"], item["name"])
        self.most = seen.most(self.seen)
        last = len(self.most)
        self.step = control("step", ipywidgets.IntSlider, "400px", min=0, max=last, description="step")
        self.frame, self.target = Picture("frame"), Picture("truth", "png")
        self.view = Picture("step-view", "png")
        self.state = Picture("step-state", "png", width="578px")
        self.show()
        for slider in (self.step, self.second):
            slider.observe(self._on_change, "value")
        pictures = {"frame": self.frame, "truth: what sounds": self.target, "this step": self.view}
        self.lay_out(HBox([self.step, self.second], layout=WRAPPED), titled(pictures), self.state)

    def _view(self, step: int, t: int) -> np.ndarray:
        """(H, W, 3): a scale's map over the frame; after the last scale, the mask."""
        frame, now = self.frames[t], self.seen[t]
        if step == len(self.most):
            return canvas.marked(frame, now.mask)
        return canvas.colours(seen.heat(now.similarity[step], self.model), canvas.photo(frame))

    def _words(self, step: int, t: int) -> str:
        now, truth, scales = self.seen[t], self.truth[t], len(self.most)
        if step == scales:
            return f"the mask: {seen.about_mask(now.mask, truth)}"
        similarity, state = now.similarity[step], now.audio[step]
        height, width = similarity.shape
        words = f"scale {step + 1} of {scales}, {height} x {width}: "
        words += f"similarity {similarity.min():.2f} to {similarity.max():.2f}"
        if seen.is_supervised(self.model):
            chance = probability(similarity)[None, None]
            found = F.interpolate(chance, truth.shape, mode="bilinear")[0] > 0.5       # (1, H, W)
            words += f", IoU of the map with the truth {frame_iou(found, truth[None]).item():.2f}"
        opened = f"{int((state != 0).sum())} of {len(state)} channels open"
        return f"{words}; audio state: {opened}, most {state.abs().max():.2f}"

    def show(self) -> None:
        step, t = self.step.value, self.second.value
        view, told, bars = self._view(step, t), self._words(step, t), canvas.blank(60, 768)
        if step < len(self.most):
            bars = canvas.bars(self.seen[t].audio[step], self.most[step], 768, 60)
        self.frame.show(canvas.photo(self.frames[t]))
        self.target.show(canvas.truth(self.frames[t], self.truth[t]))
        self.view.show(view)
        self.state.show(bars)
        self.status.value = f"step {step}: {told}"

    def still(self) -> tuple[list[list[np.ndarray]], str]:
        t, scales = self.second.value, range(len(self.most))
        tiles = [canvas.tile(self._view(step, t), f"scale {step + 1}") for step in scales]
        tiles.append(canvas.tile(self._view(len(scales), t), "mask"))
        tiles.append(canvas.tile(canvas.truth(self.frames[t], self.truth[t]), "truth"))
        told = "; ".join(self._words(step, t) for step in range(len(scales) + 1))
        return [tiles], f"From left to right: {told}; and the truth, in green."

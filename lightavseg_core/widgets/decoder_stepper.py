"""Widgets for the notebooks: the mixing desk, a stepper through a decoder, an explorer of attention."""
from __future__ import annotations

import ipywidgets
import numpy as np
import torch.nn.functional as F
from ipywidgets import HBox
from torch import nn

from ..data.images import picture
from ..evaluation import frame_iou
from ..plots.common import GREEN, ORANGE, overlay
from . import canvas
from .canvas import MAP, SIDE, Panel, about_mask, eight_bit, image_widget, jpeg, png, second_slider, tile


class DecoderStepper(Panel):
    """A slider through the decoder, coarse to fine: each scale's map over the frame, its audio state, and at the end the mask.

    model: any method; without scales only the mask is left. item: of `AVSBench`, through the model's front end. second: what is shown first.
    A map is the probability that L_msa supervises where the method trains with it, and then has an IoU with the truth, above 0.5 and
    resized to the frame; of other methods it goes from its least to its most. The audio state's bars are high by its most in the clip.
    """

    def __init__(self, model: nn.Module, item: dict, second: int = 0):
        self.model, self.frames, self.truth = model, item["frames"], item["mask"] > 0
        self.second = second_slider(item, second)
        self.seen = canvas.look(model, item["frames"], item["log_mel"])
        self.most = canvas.most(self.seen)
        self.step = ipywidgets.IntSlider(0, min=0, max=len(self.most), description="step", layout={"width": "400px"})
        self.step.add_class("lav-step")
        self.frame, self.target, self.view = (image_widget(name, width=canvas.SHOWN) for name in ("frame", "truth", "step-view"))
        self.state = image_widget("step-state", "jpeg", width="578px")
        self.status = ipywidgets.HTML()
        self.status.add_class("lav-status")
        self._show()
        for slider in (self.step, self.second):
            slider.observe(self._on_change, "value")
        pictures = HBox([canvas.titled("frame", self.frame), canvas.titled("truth: what sounds", self.target), canvas.titled("this step", self.view)])
        super().__init__([HBox([self.step, self.second], layout={"flex_flow": "row wrap"}), pictures, self.state, self.status], "lav-stepper")

    def _on_change(self, change: dict) -> None:
        with self.telling():
            self._show()

    def _view(self, step: int, t: int) -> np.ndarray:
        """(H, W, 3): a scale's map over the frame; after the last scale the mask."""
        if step == len(self.most):
            return eight_bit(overlay(self.frames[t], self.seen[t].mask, ORANGE))
        return canvas.colours(canvas.heat(self.seen[t].similarity[step], self.model), eight_bit(picture(self.frames[t])))

    def _words(self, step: int, t: int) -> str:
        if step == len(self.most):
            return f"the mask: {about_mask(self.seen[t].mask, self.truth[t])}"
        similarity, state = self.seen[t].similarity[step], self.seen[t].audio[step]
        words = f"scale {step + 1} of {len(self.most)}, {similarity.shape[0]} x {similarity.shape[1]}: " \
                f"similarity {similarity.min():.2f} to {similarity.max():.2f}"
        if canvas.is_supervised(self.model):
            found = F.interpolate(canvas.probability(similarity)[None, None], self.truth.shape[1:], mode="bilinear", align_corners=False)[0] > 0.5
            words += f", IoU of the map with the truth {frame_iou(found, self.truth[t][None]).item():.2f}"
        return f"{words}; audio state: {int((state != 0).sum())} of {len(state)} channels open, most {state.abs().max():.2f}"

    def _show(self) -> None:
        step, t = self.step.value, self.second.value
        self.frame.value = png(eight_bit(picture(self.frames[t])))
        self.target.value = png(eight_bit(overlay(self.frames[t], self.truth[t], GREEN)))
        self.view.value = png(self._view(step, t))
        width = 3 * SIDE
        bars = np.full((60, width, 3), 255, np.uint8) if step == len(self.most) else \
            canvas.bars(self.seen[t].audio[step], self.most[step], width, 60)
        self.state.value = jpeg(bars)
        self.status.value = f"step {step}: {self._words(step, t)}"

    def still(self) -> tuple[np.ndarray, str]:
        t, steps = self.second.value, range(len(self.most) + 1)
        tiles = [tile(canvas.enlarged(self._view(step, t), MAP), "mask" if step == len(self.most) else f"scale {step + 1}") for step in steps]
        target = tile(canvas.enlarged(eight_bit(overlay(self.frames[t], self.truth[t], GREEN)), MAP), "truth")
        return canvas.grid([[*tiles, target]]), f"From left to right: {'; '.join(self._words(step, t) for step in steps)}; and the truth, in green."


"""widgets.attention_explorer."""
from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import ipywidgets
import numpy as np
from ipywidgets import HBox, VBox
from torch import Tensor

from ..data.images import picture
from ..inspection.attention import (
    AttentionRecorder,
    Layer,
    effective_keys,
    entropy,
    spatial_variance,
)
from ..models.avesformer import AVESFormer, TransformerBlock
from ..plots.common import GREEN, ORANGE, overlay
from . import canvas
from .canvas import MAP, Panel, Seen, about_mask, eight_bit, image_widget, jpeg, png, second_slider, tile

LARGEST = 16     # so many keys are drawn


class AttentionExplorer(Panel):
    """What an AVESFormer's positions look at, with fewer of its keys and at another temperature, and what becomes of the mask.

    Keys are kept from the first of the prompt query generator's on, by a hook; the temperature divides the scores of every cross-attention.
    Shown of one layer, of one head or of their mean: each key's weight over the positions, brightest where it is most among the keys shown
    (with keys of all seconds, those of the frame's own), and entropy, effective keys and variance of the output over positions.
    The model is left as it was after every look, whether that failed or not.

    model: an AVESFormer. item: of `AVSBench`. second: what is shown first. Raises ValueError for another method.
    """

    def __init__(self, model: AVESFormer, item: dict, second: int = 0):
        if not isinstance(model, AVESFormer):
            raise ValueError(f"the model is a {type(model).__name__}; expected an AVESFormer: lav.create_model('avesformer').")
        self.model, self.item, self.truth = model, item, item["mask"] > 0
        blocks = {f"decoder.{i}": stage for i, stage in enumerate(model.decoder) if isinstance(stage, TransformerBlock)}
        self.attentions = {f"{name}.cross_attn": block.cross_attn for name, block in blocks.items()}
        keys, now = max(model.config.prompts, 1), math.log10(next(iter(self.attentions.values())).temperature)
        self.prompts = ipywidgets.IntSlider(keys, min=1, max=keys, description="keys kept")
        self.temperature = ipywidgets.FloatLogSlider(10**now, min=min(now, -1.5), max=max(now, 1.5), step=0.05, description="temperature",
                                                     readout_format=".2f")
        self.second = second_slider(item, second)
        self.layer = ipywidgets.Dropdown(options=list(self.attentions), description="layer")
        heads = next(iter(self.attentions.values())).heads
        self.head = ipywidgets.Dropdown(options=[("mean of heads", -1), *((f"head {i}", i) for i in range(heads))], description="shown")
        controls = {"prompts": self.prompts, "temperature": self.temperature, "second": self.second, "layer": self.layer, "head": self.head}
        self.target, self.mask = (image_widget(name, width=canvas.SHOWN) for name in ("truth", "mask"))
        self.maps = image_widget("maps", "jpeg", max_width="100%")
        self.status = ipywidgets.HTML()
        self.status.add_class("lav-status")
        self._show()
        for name, control in controls.items():
            control.layout.width, control.style.description_width = "320px", "85px"
            control.add_class(f"lav-{name}")
            control.observe(self._on_change, "value")
        pictures = HBox([canvas.titled("truth: what sounds", self.target), canvas.titled("what the model marks", self.mask)])
        super().__init__([HBox([VBox(list(controls.values())), pictures], layout={"flex_flow": "row wrap", "grid_gap": "16px"}),
                          self.maps, self.status], "lav-explorer")

    def _on_change(self, change: dict) -> None:
        with self.telling():
            self._show()

    @contextmanager
    def _changed(self) -> Iterator[None]:
        """The model with the sliders' keys and temperature; as it was, afterwards."""
        before, kept = {attention: attention.temperature for attention in self.attentions.values()}, self.prompts.value
        with ExitStack() as undo:
            for attention, temperature in before.items():
                undo.callback(setattr, attention, "temperature", temperature)
                attention.temperature = self.temperature.value
            if self.model.generator:
                undo.enter_context(self.model.generator.register_forward_hook(lambda module, given, tokens: tokens[:, :kept]))
            yield

    def _look(self) -> tuple[Seen, Layer, int]:
        """What the model makes of the shown second, what the shown layer did, and which of its frames that second is."""
        t = self.second.value
        seconds = list(range(len(self.truth))) if self.model.config.seconds else [t]
        with self._changed(), AttentionRecorder(self.model, self.layer.value) as recorder:
            seen = canvas.look(self.model, self.item["frames"][seconds], self.item["log_mel"][seconds])
        n = seconds.index(t)
        return seen[n], recorder.layers[self.layer.value], n

    def _show(self) -> None:
        t, (seen, layer, n) = self.second.value, self._look()
        weights, output = layer.weights[n].cpu(), layer.output[n].cpu()         # (heads, Q, K), (Q, C)
        weights = weights if self.head.value < 0 else weights[self.head.value, None]
        self.target.value = png(eight_bit(overlay(self.item["frames"][t], self.truth[t], GREEN)))
        self.mask.value = png(eight_bit(overlay(self.item["frames"][t], seen.mask, ORANGE)))
        self.maps.value = jpeg(self._maps(weights.mean(0), layer.query_grid, n))
        keys, nats = weights.shape[-1], entropy(weights).mean().item()
        share = f" ({nats / math.log(keys):.0%} of its maximum)" if keys > 1 else ""
        self.status.value = (f"{keys} key{'s' * (keys > 1)}, temperature {self.temperature.value:.2f}: entropy {nats:.3f} nats{share}; "
                             f"effective keys {effective_keys(weights).mean():.2f}; variance of the output over positions, in units of its mean "
                             f"square, {spatial_variance(output[None]).item():.3g}<br>{about_mask(seen.mask, self.truth[t])}")

    def _maps(self, weights: Tensor, size: tuple[int, int], n: int) -> np.ndarray:
        """weights (Q, K) -> a map over the frame for each key of frame n, eight in a row."""
        own = n * self.prompts.value if self.model.config.seconds else 0
        shown = weights[:, own:own + min(self.prompts.value, LARGEST)].T.unflatten(1, size)        # (keys, h, w)
        small = canvas.enlarged(eight_bit(picture(self.item["frames"][self.second.value])), MAP)
        tiles = [tile(canvas.colours((x / shown.max()).numpy(), small), f"key {k}: {x.mean():.3f}") for k, x in enumerate(shown)]
        return canvas.grid([tiles[i:i + 8] for i in range(0, len(tiles), 8)])

    def still(self) -> tuple[np.ndarray, str]:
        t, (seen, layer, n) = self.second.value, self._look()
        weights = layer.weights[n].cpu()
        weights = weights if self.head.value < 0 else weights[self.head.value, None]
        frame = self.item["frames"][t]
        above = [tile(canvas.enlarged(eight_bit(x), MAP), name) for name, x in (
            ("frame", picture(frame)), ("truth", overlay(frame, self.truth[t], GREEN)), ("mask", overlay(frame, seen.mask, ORANGE)))]
        alt = f"Frame, truth, mask, and the weight of each key over the positions. {self.status.value.replace('<br>', '. ')}."
        return canvas.grid([above, [self._maps(weights.mean(0), layer.query_grid, n)]]), alt

"""An explorer of attention: which keys the positions of an AVESFormer attend to."""
from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
from ipywidgets import Dropdown, FloatLogSlider, HBox, IntSlider, VBox
from torch import Tensor

from ..inspection.attention import AttentionRecorder, Layer
from ..inspection.attention_statistics import effective_keys, entropy, spatial_variance
from ..models.avesformer import AVESFormer, TransformerBlock
from . import canvas, seen
from .panel import WRAPPED, Panel, Picture, all_or_nothing, control, second_slider, titled

LARGEST = 16     # so many keys are drawn


class AttentionExplorer(Panel):
    """Which keys an AVESFormer's positions attend to, with fewer keys or at another temperature, and the mask
    that results.

    A hook keeps the first keys of the prompt query generator; the temperature divides the scores of every
    cross-attention. For one layer, and one head or their mean, it shows each key's weight over the positions,
    brightest where it is largest among the keys shown (with keys of all seconds, those of the frame's own),
    and entropy, effective keys and the variance of the output over positions. The model is restored after
    every look, even a failed one.

    model: an AVESFormer. item: of `AVSBench`. second: the first one shown. Raises ValueError for another
    method.
    """

    @all_or_nothing
    def __init__(self, model: AVESFormer, item: dict, second: int = 0):
        if not isinstance(model, AVESFormer):
            raise ValueError(f"model is a {type(model).__name__}; expected an AVESFormer.")
        super().__init__("lav-explorer")
        self.model, self.item, self.truth = model, item, item["mask"] > 0
        self.attentions = {
            f"decoder.{i}.cross_attn": stage.cross_attn
            for i, stage in enumerate(model.decoder) if isinstance(stage, TransformerBlock)
        }
        first = next(iter(self.attentions.values()))
        most, now = max(model.config.prompts, 1), math.log10(first.temperature)
        ends = {"min": min(now, -1.5), "max": max(now, 1.5), "step": 0.05, "readout_format": ".2f"}
        heads = {"mean of heads": -1, **{f"head {i}": i for i in range(first.heads)}}
        self.prompts = control("prompts", IntSlider, value=most, min=1, max=most, description="keys kept")
        ends |= {"value": 10**now, "description": "temperature"}
        self.temperature = control("temperature", FloatLogSlider, **ends)
        self.second = second_slider(item, second)
        self.layer = control("layer", Dropdown, options=list(self.attentions), description="layer")
        self.head = control("head", Dropdown, options=heads, description="shown")
        self.target, self.mask = Picture("truth", "png"), Picture("mask", "png")
        self.maps = Picture("maps", max_width="100%")
        self.show()
        controls = VBox([self.prompts, self.temperature, self.second, self.layer, self.head])
        for one in controls.children:
            one.layout.width = "320px"
            one.observe(self._on_change, "value")
        pictures = {"truth: what sounds": self.target, "what the model marks": self.mask}
        self.lay_out(HBox([controls, titled(pictures)], layout=WRAPPED), self.maps)

    @contextmanager
    def _changed(self) -> Iterator[None]:
        """The model with the sliders' keys and temperature; it is restored afterwards."""
        kept = self.prompts.value
        with ExitStack() as undo:
            for attention in self.attentions.values():
                undo.callback(setattr, attention, "temperature", attention.temperature)
                attention.temperature = self.temperature.value
            if generator := self.model.generator:
                hook = generator.register_forward_hook(lambda module, given, tokens: tokens[:, :kept])
                undo.enter_context(hook)
            yield

    def _look(self) -> tuple[seen.Seen, Layer, int]:
        """What the model sees in the second, what the layer did, and the index of the second's frame."""
        t = self.second.value
        seconds = list(range(len(self.truth))) if self.model.config.seconds else [t]
        with self._changed(), AttentionRecorder(self.model, self.layer.value) as recorder:
            shown = self.item["frames"][seconds], self.item["log_mel"][seconds]
            answers = seen.look(self.model, *shown, self.item["name"], seconds)
        n = seconds.index(t)
        return answers[n], recorder.layers[self.layer.value], n

    def show(self) -> None:
        answer, layer, n = self._look()
        weights, output = layer.weights[n].cpu(), layer.output[n].cpu()         # (heads, Q, K), (Q, C)
        if self.head.value >= 0:
            weights = weights[self.head.value, None]
        frame, truth = self.item["frames"][self.second.value], self.truth[self.second.value]
        self.pictures = {"frame": canvas.photo(frame), "truth": canvas.truth(frame, truth)}
        self.pictures["mask"] = canvas.marked(frame, answer.mask)
        self.key_maps = self._key_maps(weights.mean(0), layer.query_grid, n)
        self.target.show(self.pictures["truth"])
        self.mask.show(self.pictures["mask"])
        self.maps.show(canvas.grid(self.key_maps))
        keys, nats = weights.shape[-1], entropy(weights).mean().item()
        share = f" ({nats / math.log(keys):.0%} of its maximum)" if keys > 1 else ""
        self.status.value = (
            f"{keys} key{'s' * (keys > 1)}, temperature {self.temperature.value:.2f}: "
            f"entropy {nats:.3f} nats{share}; effective keys {effective_keys(weights).mean():.2f}; "
            "variance of the output over positions, in units of its mean square, "
            f"{spatial_variance(output[None]).item():.3g}<br>{seen.about_mask(answer.mask, truth)}"
        )

    def _key_maps(self, weights: Tensor, size: tuple[int, int], n: int) -> list[list[np.ndarray]]:
        """weights (Q, K) -> a map over the frame for each key of frame n, eight per row."""
        own = n * self.prompts.value if self.model.config.seconds else 0
        shown = weights[:, own:own + min(self.prompts.value, LARGEST)].T.unflatten(1, size)     # (keys, h, w)
        small = canvas.enlarged(self.pictures["frame"], canvas.MAP)
        tiles = []
        for k, share in enumerate(shown):
            image = canvas.colours((share / shown.max()).numpy(), small)
            tiles.append(canvas.tile(image, f"key {k}: {share.mean():.3f}"))
        return [tiles[i:i + 8] for i in range(0, len(tiles), 8)]

    def still(self) -> tuple[list[list[np.ndarray]], str]:
        above = [canvas.tile(image, name) for name, image in self.pictures.items()]
        told = self.status.value.replace("<br>", ". ")
        alt = f"Frame, truth, mask, and the weight of each key over the positions. {told}."
        return [above, *self.key_maps], alt

"""Clips that are heard with what is not there, so that a model learns to stay dark: silence, noise, another
clip's sound, or something out of view beside its own. The truth is what sounds and is seen."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from .avsbench import AVSBench
from .sounding_shapes import clip_number, objects, read_recipe

KINDS = ("silent", "noise", "swapped", "offscreen")


def with_negatives(clips: AVSBench, share: float) -> AVSBench | Negatives:
    """share: 0 to 1, of the clips that are heard with something else."""
    return Negatives(clips, share) if share else clips


class Negatives(Dataset):
    """A dataset of which a share of the clips is such a negative; which ones and of what kind, torch's
    generator draws. Of clips that no generator made nobody knows what else is seen: they are heard with
    silence or noise alone."""

    def __init__(self, clips: AVSBench, share: float):
        self.clips, self.share = clips, share
        try:
            self.recipe = read_recipe(clips.root, clips.subset)
        except FileNotFoundError:
            self.recipe = None
        self.kinds = KINDS if self.recipe and len(clips) > 1 else KINDS[:2]

    def __len__(self) -> int:
        return len(self.clips)

    def heard_by(self, audio: Callable[[Tensor], Tensor]) -> Negatives:
        """As `AVSBench.heard_by`."""
        return Negatives(self.clips.heard_by(audio), self.share)

    def __getitem__(self, index: int) -> dict:
        if torch.rand(()) >= self.share:
            return self.clips[index]
        kind = self.kinds[torch.randint(len(self.kinds), ())]
        donor = (index + 1 + int(torch.randint(max(1, len(self) - 1), ()))) % len(self)
        return self.negative(index, kind, donor)

    def negative(self, index: int, kind: str, donor: int) -> dict:
        """The item of a clip with a sound of that kind, of which a donor, another clip, gives its own."""
        if kind in ("silent", "noise"):
            waveform, sounding = self.clips.with_sound(kind).waveform(index), []
        else:
            waveform, sounding = self.clips.waveform(donor), [donor]
            if kind == "offscreen":
                own, sounding = self.clips.waveform(index), [index, donor]
                waveform = own + F.pad(waveform, (0, max(0, len(own) - len(waveform))))[: len(own)]
        return self.clips.item(index, waveform, self._truth(index, sounding))

    def _truth(self, index: int, sounding: list[int]) -> Tensor:
        """(T, H, W) uint8: what is visible in a clip and sounds in one of others."""
        mask = torch.zeros_like(self.clips.stored_mask(index))
        if not sounding:
            return mask
        names, visible = self._visible(index)
        visible = visible[: len(mask)]
        if visible.shape != mask.shape:
            visible = F.interpolate(visible[None], mask.shape[-2:], mode="nearest-exact")[0]
        for clip in sounding:
            for second, category in self.clips.events.get(self.clips.clips[clip].name, ()):
                if second < len(mask) and category in names:
                    value = names[category] if self.clips.num_classes > 1 else 1
                    mask[second][visible[second] == names[category]] = value
        return mask

    def _visible(self, index: int) -> tuple[dict[str, int], Tensor]:
        """Categories, by their class; and (T, size, size) uint8, the class that is seen, 0 for none."""

        def make():
            number = clip_number(self.clips.clips[index].name)
            things = objects(self.clips.root, self.clips.subset, self.clips.split, number)
            classes = np.zeros(things[0].masks.shape, np.uint8)
            for thing in things:
                classes[thing.masks] = thing.category + 1
            return {thing.name: thing.category + 1 for thing in things}, torch.from_numpy(classes)

        return self.clips.cached(("visible", index), make)

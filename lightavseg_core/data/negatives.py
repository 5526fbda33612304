"""Negatives: clips with a sound that is not theirs, so that a model learns to stay dark: silence, noise,
another clip's sound, or that beside their own. The ground truth is what both sounds and is seen."""
from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from .avsbench import AVSBench
from .sounding_shapes import cast_of, clip_number, objects, read_recipe

KINDS = ("silent", "noise", "swapped", "offscreen")


def with_negatives(clips: AVSBench, share: float) -> AVSBench | Negatives:
    """share: 0 to 1, of the clips that get another sound. Raises ValueError for clips that are not heard with
    their own sound, and what `cast_of` raises."""
    if share and clips.sound != "normal":
        found = f"clips are heard as {clips.sound!r}"
        raise ValueError(f"{found}; negatives need their own sounds. Use only one of the two.")
    return Negatives(clips, share) if share else clips


class Negatives(Dataset):
    """A dataset in which a share of the clips are negatives; torch's generator draws which ones and of what
    kind. For clips that were not generated, or whose events.csv is missing, what sounds is not known: their
    negatives are silence and noise only."""

    def __init__(self, clips: AVSBench, share: float):
        self.clips, self.share, self.kinds = clips, share, KINDS[:2]
        with suppress(FileNotFoundError):
            recipe = read_recipe(clips.root, clips.subset)
            cast_of(recipe, clips.root)  # with which what is seen is made again
            if clips.events is not None and len(clips) > 1:
                self.kinds = KINDS

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
        """A clip's item with a sound of this kind; donor: the other clip whose sound may be used."""
        own = self.clips.stored_mask(index)
        if kind in ("silent", "noise"):
            return self.clips.item(index, self.clips.with_sound(kind).waveform(index), torch.zeros_like(own))
        waveform = self.clips.waveform(donor)
        if kind == "swapped":
            return self.clips.item(index, waveform, self._also(index, torch.zeros_like(own), donor))
        heard = self.clips.waveform(index)
        both = heard + F.pad(waveform, (0, max(0, len(heard) - len(waveform))))[: len(heard)]
        return self.clips.item(index, both, self._also(index, own.clone(), donor))

    def _also(self, index: int, mask: Tensor, donor: int) -> Tensor:
        """A clip's mask (T, H, W), plus what is visible in it and sounds in the donor; 0 in frames that are
        not annotated."""
        names, visible = self._visible(index)
        visible = visible[: len(mask)]
        if visible.shape != mask.shape:
            visible = F.interpolate(visible[None], mask.shape[-2:], mode="nearest-exact")[0]
        annotated = [path is not None for path in self.clips.clips[index].masks]
        for second, category in self.clips.events.get(self.clips.clips[donor].name, ()):
            if second < len(mask) and annotated[second] and category in names:
                value = names[category] if self.clips.num_classes > 1 else 1
                mask[second][visible[second] == names[category]] = value
        return mask

    def _visible(self, index: int) -> tuple[dict[str, int], Tensor]:
        """The class of each category, and (T, size, size) uint8, the class that is visible, 0 for none."""

        def make():
            number = clip_number(self.clips.clips[index].name)
            things = objects(self.clips.root, self.clips.subset, self.clips.split, number)
            classes = np.zeros(things[0].masks.shape, np.uint8)
            for thing in things:
                classes[thing.masks] = thing.category + 1
            return {thing.name: thing.category + 1 for thing in things}, torch.from_numpy(classes)

        return self.clips.cached(("visible", index), make)

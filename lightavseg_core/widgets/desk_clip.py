"""A clip on the mixing desk: its pictures, its sounds, and the object in the picture of each sound."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.mixing import Track
from . import canvas, seen


class Source(NamedTuple):
    """A track's object in the picture: masks (T, H, W) bool, and the seconds when it sounds, (T,) bool."""

    label: str
    masks: Tensor
    sounding: Tensor

    @classmethod
    def of(cls, i: int, track: Track, truth: Tensor) -> Source:
        """The source of a clip's i-th track: its object, or everything in the ground truth (T, H, W)."""
        if track.object is None:
            return cls(track.name, truth, truth.flatten(1).any(1))
        masks = torch.from_numpy(track.object.masks).float()
        masks = F.interpolate(masks[None], truth.shape[1:], mode="nearest-exact")[0] > 0
        return cls(f"{i + 1} {track.name}", masks, torch.from_numpy(track.object.sounding))

    def cut(self, frames: Tensor) -> np.ndarray:
        """The object, cut out of the first frame (T, 3, H, W) that shows it."""
        t = int(self.masks.flatten(1).any(1).float().argmax())
        rows, columns = self.masks[t].any(1).nonzero()[:, 0], self.masks[t].any(0).nonzero()[:, 0]
        frame = canvas.photo(frames[t])
        return frame[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1] if len(rows) else frame


class DeskClip(NamedTuple):
    index: int
    frames: Tensor              # (T, 3, H, W)
    tracks: list[Track]
    sounds: Tensor              # (tracks, samples)
    sources: list[Source]       # of the first tracks; what follows is out of view, or a noise floor
    most: list[float]           # of each scale, the most in its audio state
    pictures: list[np.ndarray]  # the frames with the objects' numbers

    @classmethod
    def of(cls, index: int, item: dict, tracks: list[Track], model: nn.Module) -> DeskClip:
        """A clip from a dataset's item and its tracks, as the model sees and hears it."""
        frames, truth = item["frames"], item["mask"] > 0
        sounds = torch.stack([track.sound for track in tracks])
        in_picture = [track for track in tracks if len(tracks) == 1 or track.object]
        sources = [Source.of(i, track, truth) for i, track in enumerate(in_picture)]
        heard = model.front_end(sounds.sum(0), torch.arange(len(frames)))
        most = seen.most(seen.look(model, frames, heard, item["name"]))
        numbered = sources if len(tracks) > 1 else []
        pictures = [_numbered(frame, t, numbered) for t, frame in enumerate(frames)]
        return cls(index, frames, tracks, sounds, sources, most, pictures)

    def truth(self, levels: Sequence[float], t: int) -> Tensor:
        """(H, W) bool: the objects that sound in second t of a mix of the tracks at these volumes."""
        truth = torch.zeros(self.frames.shape[-2:], dtype=torch.bool)
        for source, level in zip(self.sources, levels):
            if level and source.sounding[t]:
                truth |= source.masks[t]
        return truth


def _numbered(frame: Tensor, t: int, sources: list[Source]) -> np.ndarray:
    """A clip's frame t with the objects' numbers."""
    places = []
    for i, source in enumerate(sources):
        area = source.masks[t]
        if area.any():
            y, x = (area.nonzero().float().mean(0) / torch.tensor(area.shape)).tolist()
            places.append((str(i + 1), x, y))
    return canvas.numbered(canvas.enlarged(canvas.photo(frame), canvas.SIDE), places)

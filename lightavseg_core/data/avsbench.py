"""The one dataset class: AVSBench's S4, MS3 and AVSS layouts, real or generated."""
from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .._common.names import unknown
from .audio import FrontEnd, LogMel
from .images import MEAN, STD, read_frame, resized
from .layout import Clip, read_events, read_labels, stored_clips
from .masks import read_mask, same_shape

SOUNDS = ("normal", "silent", "swapped", "noise", "noisy")


class AVSBench(torch.utils.data.Dataset):
    """Clips of a subset's split, in AVSBench's layout.

    An item is a dict: frames (T, 3, size, size) float32 with ImageNet mean and std; log_mel (T, 1, F, M) from
    `front_end`; mask (T, size, size) uint8, class indices (binary: 0 and 1), 0 where not annotated; annotated
    (T,) bool; name. T is 5, or 10 for AVSS v2; less if a clip's last frames are missing.

    root: the folder that holds `Single-source`, `Multi-sources` or `metadata.csv`, or one above or below it.
    size: side in pixels, None: as stored. AVSS frames are resized for testing and cropped for training.
    front_end: that of the model; None: VGGish's. sound: "normal", or another sound with the same ground
    truth: "silent" (a zero waveform), "swapped" (another clip's: see `donor`), "noise" (white, at the clip's
    level), "noisy" (its own plus that noise, 0 dB).
    Pictures are turned upright by their EXIF orientation. Clips are decoded once and cached while they fit
    into `cache_bytes`. `.pkl` files are never opened: log-mels come from the WAV.
    Raises FileNotFoundError or ValueError, with the name of the file.
    """

    def __init__(
        self,
        root: str | Path,
        subset: str = "ms3",
        split: str = "train",
        size: int | None = None,
        front_end: FrontEnd | None = None,
        sound: str = "normal",
        seed: int = 0,
        cache_bytes: int = 2 << 30,
    ):
        if size is not None and size < 1:
            raise ValueError(f"size is {size}; expected a side in pixels, or None for the stored size.")
        self.root, self.subset, self.split = Path(root), subset, split
        self.size, self.sound, self.seed = size, _known(sound), seed
        self.clips = stored_clips(root, subset, split)
        if not self.clips:
            raise ValueError(f"{root}: the metadata of {subset} has no {split} clips.")
        self.front_end, self.ear = front_end or LogMel(), None
        self.num_classes = len(read_labels(root)) if subset == "avss" else 1
        self._cache: dict[tuple, tuple] = {}
        self._cache_left = [cache_bytes]  # shared, like the cache, by with_sound and heard_by
        self._cache_bytes = cache_bytes

    def __len__(self) -> int:
        return len(self.clips)

    def with_sound(self, sound: str) -> AVSBench:
        """The same clips with another sound; decoded pictures are shared."""
        other = copy.copy(self)
        other.sound = _known(sound)
        return other

    def heard_by(self, audio: Callable[[Tensor], Tensor]) -> AVSBench:
        """The same clips, with a frozen encoder's vectors (T, D) in place of log-mels. They are the same in
        every epoch, and cached while they fit into another `cache_bytes`."""
        other = copy.copy(self)
        other.ear, other._kept, other._kept_left = audio, {}, self._cache_bytes
        return other

    def __getitem__(self, index: int) -> dict:
        return self.item(index)

    def item(self, index: int, waveform: Tensor | None = None, mask: Tensor | None = None) -> dict:
        """A clip's item, optionally with another sound, (samples,), or mask, shaped like `stored_mask`."""
        frames, own, annotated, name = self._seen(index)
        mask = own if mask is None else mask
        if self.subset == "avss" and self.split == "train" and self.size:
            frames, mask = self._crop(frames, mask)
        heard = self._heard(index) if waveform is None else self._listened(waveform, len(annotated))
        return {
            "frames": (frames.float() / 255 - MEAN) / STD,
            "log_mel": heard,
            "mask": mask,
            "annotated": annotated,
            "name": name,
        }

    def stored_mask(self, index: int) -> Tensor:
        """(T, H, W) uint8: the ground truth of a clip before cropping."""
        return self._seen(index)[1]

    def _seen(self, index: int) -> tuple[Tensor, Tensor, Tensor, str]:
        def make():
            clip = self.clips[index]
            annotated = torch.tensor([path is not None for path in clip.masks])
            return *self._pictures(clip), annotated, clip.name

        return self.cached(("pictures", index), make)

    def cached(self, key: tuple, make: Callable[[], tuple]) -> tuple:
        """What `make` returns, cached under the key while there is room."""
        if key in self._cache:
            return self._cache[key]
        value = make()
        # Each process that loads data keeps what it read, and all share the room.
        worker = torch.utils.data.get_worker_info()
        size = sum(x.nbytes for x in value if isinstance(x, Tensor)) * (worker.num_workers if worker else 1)
        if size <= self._cache_left[0]:
            self._cache_left[0] -= size
            self._cache[key] = value
        return value

    def _heard(self, index: int) -> Tensor:
        if self.ear is None:
            return self.cached((self.sound, index), lambda: (self.log_mel(index),))[0]
        if (self.sound, index) in self._kept:
            return self._kept[self.sound, index]
        # Its log-mel, which nothing needs again, would only take room from pictures.
        vectors = self._vectors(self.log_mel(index))
        if vectors.nbytes <= self._kept_left:
            self._kept_left -= vectors.nbytes
            self._kept[self.sound, index] = vectors
        return vectors

    def _listened(self, waveform: Tensor, seconds: int) -> Tensor:
        log_mel = self.front_end(waveform, torch.arange(seconds))
        return log_mel if self.ear is None else self._vectors(log_mel)

    @torch.no_grad()
    def _vectors(self, log_mel: Tensor) -> Tensor:
        return self.ear(log_mel)

    def waveform(self, index: int) -> Tensor:
        """The sound of clip `index`: (samples,) at the front end's rate, padded with silence if it is too
        short."""
        own = self._sound(index)
        if self.sound == "silent":
            return torch.zeros_like(own)
        if self.sound == "swapped":
            return self._sound(self.donor(index))
        if self.sound in ("noise", "noisy"):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
            noise = torch.randn(own.shape, generator=generator) * own.square().mean().sqrt()
            return noise if self.sound == "noise" else own + noise
        return own

    def _sound(self, index: int) -> Tensor:
        # Here, so that PyAV, which no picture needs, is loaded when the first sound is read.
        from .decoding import read_audio

        return read_audio(self.clips[index].audio, self.front_end.sample_rate)

    def log_mel(self, index: int) -> Tensor:
        """(T, 1, F, M): the sound of frame k begins at second k."""
        return self.front_end(self.waveform(index), torch.arange(len(self.clips[index].frames)))

    def donor(self, index: int) -> int:
        """The clip whose sound clip `index` gets when swapped. Each clip's sound goes to one other clip, if
        possible one in which not the same sounds in the same seconds; a part of it still may.

        With clips grouped by what sounds in them, sounds move on by the size of the largest group: to the
        next clip if all differ.
        """
        return self.donors[index]

    @cached_property
    def donors(self) -> dict[int, int]:
        if len(self) < 2:
            raise ValueError(f"{self.root}: the split has one clip; swapping sounds needs at least two.")
        groups: dict[object, list[int]] = {}
        for i in range(len(self)):
            heard = self._sounding_set(i)
            groups.setdefault(i if heard is None else heard, []).append(i)
        order = [i for group in groups.values() for i in group]
        step = max(map(len, groups.values())) % len(self) or 1
        return dict(zip(order, order[step:] + order[:step]))

    @cached_property
    def events(self) -> dict[str, list[tuple[int, str]]] | None:
        return read_events(self.root, self.subset)

    def _sounding_set(self, index: int) -> frozenset | None:
        """What sounds when in a clip, from events.csv; without it, its category in S4; None if neither."""
        clip = self.clips[index]
        if self.events is not None:
            return frozenset(self.events.get(clip.name, ()))
        return frozenset([clip.category]) if clip.category else None

    def _pictures(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """Frames (T, 3, H, W) uint8 and mask (T, H, W) uint8, at `size` (AVSS train: the shorter side is at
        least `size`)."""
        frames = [read_frame(path) for path in clip.frames]
        if len({frame.shape for frame in frames}) > 1:
            sizes = sorted({tuple(frame.shape[1:]) for frame in frames})
            raise ValueError(f"{clip.frames[0].parent}: frames differ in size: {sizes}. Make them one size.")
        # Pixel by pixel in memory, as decoded.
        frames = torch.stack([frame.permute(1, 2, 0) for frame in frames]).permute(0, 3, 1, 2)
        height, width = frames.shape[-2:]
        masks = torch.zeros(len(frames), height, width, dtype=torch.uint8)
        for mask, path in zip(masks, clip.masks, strict=True):
            if path is not None:
                mask.copy_(self._mask(path, height, width))
        target = (height, width)
        if self.size and self.subset == "avss" and self.split == "train":
            scale = max(1.0, self.size / min(height, width))
            target = (max(round(height * scale), self.size), max(round(width * scale), self.size))
        elif self.size:
            target = (self.size, self.size)
        if target != (height, width):
            # One by one: ten frames of 1280 x 720 take 110 MB as float32, and longer than one at a time.
            frames = torch.cat([resized(frame[None], target).byte() for frame in frames])
            masks = F.interpolate(masks[None], target, mode="nearest-exact")[0]
        return frames.contiguous(), masks

    def _mask(self, path: Path, height: int, width: int) -> Tensor:
        """(height, width) uint8, the size of its frame."""
        mask = read_mask(path, self.subset, self.num_classes)
        if mask.shape == (height, width):
            return mask
        if not same_shape(mask.shape, (height, width)):
            raise ValueError(
                f"{path}: is {mask.shape[1]} x {mask.shape[0]} pixels, but its frame is {width} x {height}. "
                "Copy the clip again."
            )
        return F.interpolate(mask[None, None], (height, width), mode="nearest-exact")[0, 0]

    def _crop(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """A random square of side `size`, the same in all frames (AVSS train). Uses torch's generator, which
        the trainer seeds for each clip of each epoch."""
        top = int(torch.randint(frames.shape[-2] - self.size + 1, ()))
        left = int(torch.randint(frames.shape[-1] - self.size + 1, ()))
        area = (..., slice(top, top + self.size), slice(left, left + self.size))
        return frames[area], mask[area]


def _known(sound: str) -> str:
    if sound not in SOUNDS:
        raise unknown("sound", sound, SOUNDS)
    return sound


def collate(items: list[dict]) -> dict:
    """Collates items into a batch (B, T, ...); `lengths` (B,) tells how many frames are the clip's own.

    Shorter clips are padded to the longest by repeating their last frame and sound, so that batch norms see
    nothing unusual. Padding is not annotated, so it is neither trained on nor scored.
    """
    lengths = [len(item["annotated"]) for item in items]
    batch = {}
    for key in ("frames", "log_mel", "mask", "annotated"):
        padded = []
        for item, length in zip(items, lengths):
            last = item[key][-1:] if key in ("frames", "log_mel") else torch.zeros_like(item[key][-1:])
            padding = last.expand(max(lengths) - length, *last.shape[1:])
            padded.append(torch.cat([item[key], padding]))
        batch[key] = torch.stack(padded)
    return {**batch, "lengths": torch.tensor(lengths), "name": [item["name"] for item in items]}

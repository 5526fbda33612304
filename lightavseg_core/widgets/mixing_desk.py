"""The mixing desk: a clip's sounds on faders, and what a model marks of its picture."""
from __future__ import annotations

import io
import time
from functools import lru_cache
from typing import NamedTuple

import ipywidgets
import numpy as np
import torch
import torch.nn.functional as F
from ipywidgets import HBox, VBox
from PIL import Image
from torch import Tensor, nn

from ..data.audio import read_audio
from ..data.avsbench import AVSBench
from ..data.images import picture
from ..data.mixing import Track, mix, tracks
from ..data.writing import wav
from ..evaluation import frame_iou
from ..plots.common import GREEN, ORANGE, overlay
from . import canvas
from .canvas import MAP, Panel, Seen, eight_bit, image_widget, png


class Source(NamedTuple):
    """What a track is in the picture: masks (T, H, W) bool, and the seconds in which it sounds, (T,) bool."""

    label: str
    masks: Tensor
    sounding: Tensor


class Strip(NamedTuple):
    """The controls of one sound."""

    on: ipywidgets.Checkbox
    gain: ipywidgets.FloatSlider

    @property
    def level(self) -> float:
        return self.gain.value if self.on.value else 0.0


def _strip(label: str, name: str, on: bool = True) -> Strip:
    box = ipywidgets.Checkbox(on, description=label, indent=False, layout={"width": "130px"})
    gain = ipywidgets.FloatSlider(1, min=0, max=2, step=0.05, readout_format=".2f", layout={"width": "220px"})
    box.add_class(f"lav-{name}-on")
    gain.add_class(f"lav-{name}-gain")
    return Strip(box, gain)


class MixingDesk(Panel):
    """A clip with its sounds on faders, and the mask, the coarse-to-fine maps and the audio state that a model makes of the mix.

    A generated clip has a track for each object and one for its noise floor, a real one a single track; white noise and another clip's
    sound, a donor's, may be added. Volumes are amplitude factors, 0 to 2; noise of volume 1 is as loud as the clip. A mix that would
    overload is turned down as a whole. The truth is what sounds in the mix. A method that looks at each frame by itself is asked for
    the shown second only, another for the whole clip. While a change is worked on, the front end of ipywidgets keeps only the newest value
    of a slider that moves, so none queue up. An error appears in the last line. Where no widget can run, a grid of pictures takes its place.

    model: any method. dataset: its size is that of the pictures; heard is through the model's front end. index, second: what is shown first.
    Raises ValueError for a clip or second that is not there, and for the training split of AVSS at a fixed size, whose frames are random crops.
    """

    def __init__(self, model: nn.Module, dataset: AVSBench, index: int = 0, second: int = 0):
        if not 0 <= index < len(dataset):
            raise ValueError(f"clip {index}: the dataset has {len(dataset)}, numbered from 0.")
        item = dataset[index]
        if not 0 <= second < len(item["frames"]):
            raise ValueError(f"second {second}: clip {index} has {len(item['frames'])}, numbered from 0.")
        if dataset.subset == "avss" and dataset.split == "train" and dataset.size:
            raise ValueError("the frames of AVSS's training split are cropped at random; give its split val or test, or size=None.")
        self.model, self.dataset, self.rate = model, dataset, model.front_end.sample_rate
        self._tracks = lru_cache(8)(lambda i: tracks(dataset, i, self.rate))
        self._donor = lru_cache(8)(lambda i: read_audio(dataset.clips[i].audio, self.rate))
        self.frame_by_frame = canvas.frames_are_independent(model, item["frames"], model.front_end(torch.zeros(1), torch.arange(len(item["frames"]))))

        clips = [(f"{i}: {clip.name}", i) for i, clip in enumerate(dataset.clips)]
        self.clip = ipywidgets.Dropdown(options=clips, value=index, description="clip", layout={"width": "300px"})
        self.clip.add_class("lav-clip")
        self.play = ipywidgets.Play(min=0, interval=1000, description="through time", layout={"width": "120px"})
        self.second = ipywidgets.IntSlider(0, min=0, max=0, description="second", layout={"width": "230px"})
        self.second.add_class("lav-second")
        ipywidgets.jslink((self.play, "value"), (self.second, "value"))
        self.strips: list[Strip] = []
        self.faders = VBox()
        self.noise = _strip("white noise", "noise", on=False)
        self.donor = _strip("donor's sound", "donor", on=False)
        self.donor_clip = ipywidgets.Dropdown(options=clips, value=dataset.donor(index) if len(dataset) > 1 else index, layout={"width": "220px"})
        self.donor_clip.add_class("lav-donor-clip")
        self.audio = ipywidgets.Audio(format="wav", autoplay=False, loop=False, layout={"width": "360px"})
        self.audio.add_class("lav-audio")
        self.frame, self.truth, self.mask = (image_widget(name, width=canvas.SHOWN) for name in ("frame", "truth", "mask"))
        self.maps = image_widget("maps", "jpeg", max_width="100%")
        self.status = ipywidgets.HTML()
        self.status.add_class("lav-status")

        self.started = time.perf_counter()
        self._load(index)
        self.second.value = second
        self._hear()
        self._show()
        self.clip.observe(self._on_clip, "value")
        self.second.observe(self._on_second, "value")
        for control in (*self.noise, *self.donor, self.donor_clip):
            control.observe(self._on_sound, "value")
        pictures = [canvas.titled(title, image) for title, image in
                    (("frame", self.frame), ("truth: what sounds here", self.truth), ("what the model marks", self.mask))]
        controls = VBox([self.faders, self._row(self.noise, 0), self._row(self.donor, 0),
                         HBox([ipywidgets.Label("of clip", layout={"width": "130px"}), self.donor_clip], layout={"margin": "0 0 0 36px"}),
                         self.audio])
        super().__init__([HBox([self.clip, self.play, self.second], layout={"flex_flow": "row wrap"}),
                          HBox([controls, VBox([HBox(pictures), self.maps])], layout={"flex_flow": "row wrap", "grid_gap": "16px"}),
                          self.status], "lav-desk")

    @staticmethod
    def _row(strip: Strip, thumbnail: ipywidgets.Widget | int) -> HBox:
        """A sound's controls, in columns: its small picture (0: none), its switch, its volume."""
        image = thumbnail or ipywidgets.Box(layout={"width": "28px", "height": "28px"})
        image.layout.margin = "2px 4px 2px 4px"
        return HBox([image, *strip], layout={"align_items": "center"})

    @property
    def seen(self) -> Seen:
        """What the model makes of the shown second."""
        return self._answers[self.second.value]

    # What changes, from the rarest to the most frequent: the clip, its sound, the second.

    def _on_clip(self, change: dict) -> None:
        with self.telling():
            self.second.unobserve(self._on_second, "value")      # a shorter clip moves it, before its sound is mixed
            try:
                self._load(change["new"])
            finally:
                self.second.observe(self._on_second, "value")
            self._hear()
            self._show()

    def _on_sound(self, change: dict) -> None:
        with self.telling():
            self._hear()
            self._show()

    def _on_second(self, change: dict) -> None:
        with self.telling():
            self._show()

    def _load(self, index: int) -> None:
        """Another clip: its pictures, its tracks and a row of controls for each; all tracks on."""
        item, found = self.dataset[index], self._tracks(index)
        masks = item["mask"] > 0
        self.frames, self.sounds = item["frames"], torch.stack([track.sound for track in found])
        self.sources = [self._source(i, track, masks) for i, track in enumerate(found) if len(found) == 1 or track.object]
        times = torch.arange(len(self.frames))
        self.most = canvas.most(canvas.look(self.model, self.frames, self.model.front_end(self.sounds.sum(0), times)))
        old, self.strips, rows = self.faders.children, [], []
        for i in range(len(found)):
            is_source = i < len(self.sources)
            self.strips.append(_strip(self.sources[i].label if is_source else found[i].name, f"object-{i}" if is_source else "floor"))
            rows.append(self._row(self.strips[-1], self._thumbnail(self.sources[i]) if is_source and found[i].object else 0))
            for control in self.strips[-1]:
                control.observe(self._on_sound, "value")
        self.faders.children = rows
        for row in old:
            for widget in (*row.children, row):
                widget.close()
        self.pictures = [self._numbered(t) for t in range(len(self.frames))]
        self.play.max = self.second.max = len(self.frames) - 1

    def _source(self, i: int, track: Track, truth: Tensor) -> Source:
        if track.object is None:
            return Source(track.name, truth, truth.flatten(1).any(1))
        masks = torch.from_numpy(track.object.masks).float()
        masks = F.interpolate(masks[None], truth.shape[1:], mode="nearest-exact")[0] > 0
        return Source(f"{i + 1} {track.name}", masks, torch.from_numpy(track.object.sounding))

    def _thumbnail(self, source: Source) -> ipywidgets.Image:
        """The object, cut out of the first frame that shows it."""
        t = int(source.masks.flatten(1).any(1).float().argmax())
        rows, columns = source.masks[t].any(1).nonzero()[:, 0], source.masks[t].any(0).nonzero()[:, 0]
        cut = eight_bit(picture(self.frames[t]))
        if len(rows):
            cut = cut[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        layout = {"width": "28px", "height": "28px", "object_fit": "contain"}
        return ipywidgets.Image(value=png(canvas.enlarged(cut, 56)), format="png", layout=layout)

    def _mixed(self, gains: list[float], noise: float, donor: float) -> tuple[Tensor, float]:
        other = self._donor(self.donor_clip.value) if donor else None
        seed = self.dataset.seed * 1_000_003 + self.clip.value                     # the noise that the dataset's sound="noise" has
        return mix(self.sounds, gains, noise, other, donor, seed)

    def _hear(self) -> None:
        """The mix has changed."""
        self.waveform, self.factor = self._mixed([strip.level for strip in self.strips], self.noise.level, self.donor.level)
        self.audio.value = wav(self.waveform.numpy(), self.rate)
        self._answers: dict[int, Seen] = {}

    def _look(self, waveform: Tensor, second: int) -> dict[int, Seen]:
        """By second, what the model makes of a waveform: of the one asked for, or of all where frames depend on each other."""
        seconds = [second] if self.frame_by_frame else list(range(len(self.frames)))
        heard = self.model.front_end(waveform, torch.tensor(seconds))
        return dict(zip(seconds, canvas.look(self.model, self.frames[seconds], heard)))

    def _truth(self, levels: list[float], t: int) -> Tensor:
        """(H, W) bool: the objects that sound in second t of a mix."""
        on = [source.masks[t] for source, level in zip(self.sources, levels) if level and source.sounding[t]]
        return torch.stack(on).any(0) if on else torch.zeros(self.frames.shape[-2:], dtype=torch.bool)

    def _numbered(self, t: int) -> bytes:
        """The frame with the objects' numbers, as a PNG."""
        places = []
        for i, source in enumerate(self.sources):
            if len(self.strips) > 1 and source.masks[t].any():
                y, x = (source.masks[t].nonzero().float().mean(0) / torch.tensor(source.masks[t].shape)).tolist()
                places.append((str(i + 1), x, y))
        return png(canvas.numbered(canvas.enlarged(eight_bit(picture(self.frames[t])), canvas.SIDE), places))

    def _show(self) -> None:
        """The pictures and the numbers of the shown second."""
        t, levels = self.second.value, [strip.level for strip in self.strips]
        if t not in self._answers:
            self._answers |= self._look(self.waveform, t)
        seen, truth = self.seen, self._truth(levels, t)
        self.frame.value = self.pictures[t]
        self.truth.value = png(eight_bit(overlay(self.frames[t], truth, GREEN)))
        self.mask.value = png(eight_bit(overlay(self.frames[t], seen.mask, ORANGE)))
        self.maps.value = canvas.jpeg(self._maps(seen, t))
        self.status.value = self._numbers(seen.mask, truth, levels, t)

    def _maps(self, seen: Seen, t: int) -> np.ndarray:
        """Each scale's map over the frame; below it the audio state that it was compared with, at full height where it is most in this clip."""
        if not seen.similarity:
            return canvas.tile(np.full((1, 4 * MAP, 3), 255, np.uint8), "this method has no scales to show")
        small = canvas.enlarged(eight_bit(picture(self.frames[t])), MAP)
        above = [canvas.tile(canvas.colours(canvas.heat(x, self.model), small), f"map {x.shape[0]} x {x.shape[1]}") for x in seen.similarity]
        below = [canvas.tile(canvas.bars(a, most, small.shape[1], 40), f"audio, {len(a)} ch.") for a, most in zip(seen.audio, self.most)]
        return canvas.grid([above, below])

    def _numbers(self, mask: Tensor, truth: Tensor, levels: list[float], t: int) -> str:
        lines = []
        for source, level in zip(self.sources, levels):
            area = source.masks[t]
            marked = f"marked {(mask & area).sum() / area.sum():.0%} of its pixels" if area.any() else "nothing of it is visible"
            lines.append(f"{source.label}: {'sounding' if level and source.sounding[t] else 'silent'}, {marked}")
        agreement = f"IoU with the truth {frame_iou(mask[None], truth[None]).item():.2f}" if (mask | truth).any() else "rightly: nothing sounds"
        turned = f"; the mix is turned down to {self.factor:.0%}" if self.factor < 1 else ""
        milliseconds = (time.perf_counter() - self.started) * 1e3
        lines.append(f"{mask.float().mean():.1%} of the frame is marked; {agreement}{turned}; updated in {milliseconds:.0f} ms")
        return "<br>".join(lines)

    def still(self) -> tuple[np.ndarray, str]:
        t, tracks_on = self.second.value, [1.0] * len(self.sounds)
        mixes = {"full mix": (tracks_on, 0.0, 0.0)}
        for i, source in enumerate(self.sources if len(self.sounds) > 1 else ()):
            mixes[f"without {source.label}"] = ([float(k != i) for k in range(len(self.sounds))], 0.0, 0.0)
        mixes |= {"only noise": ([0.0] * len(self.sounds), 1.0, 0.0), "the donor's sound": ([0.0] * len(self.sounds), 0.0, 1.0)}
        def small(frame: np.ndarray) -> np.ndarray:
            return canvas.enlarged(frame, MAP + 16)

        frame = small(np.asarray(Image.open(io.BytesIO(self.pictures[t]))))
        above, below = [canvas.tile(frame, f"frame, second {t}")], [canvas.tile(np.full_like(frame, 255), "up: truth, down: mask")]
        for name, (gains, noise, donor) in mixes.items():
            truth, mask = self._truth(gains, t), self._look(self._mixed(gains, noise, donor)[0], t)[t].mask
            above.append(canvas.tile(small(eight_bit(overlay(self.frames[t], truth, GREEN))), name))
            below.append(canvas.tile(small(eight_bit(overlay(self.frames[t], mask, ORANGE))), f"{mask.float().mean():.1%} marked"))
        alt = (f"Second {t} of clip {self.dataset.clips[self.clip.value].name}: its frame, and for each of {len(mixes)} mixes ({', '.join(mixes)}) "
               "what sounds, in green, and what the model marks, in orange.")
        return canvas.grid([above, below]), alt


class ResponseTimes(NamedTuple):
    """In milliseconds."""

    median: float
    p95: float


def response_times(desk: MixingDesk, changes: int = 100, seed: int = 0) -> ResponseTimes:
    """How long a desk takes to answer: seeded random changes of its switches, volumes and second, as messages from a front end.

    Picking another clip, which loads files, is not among them. The controls are put back. Raises RuntimeError where a change fails.
    """
    if changes < 1:
        raise ValueError(f"changes is {changes}; expected at least 1.")
    rng = np.random.default_rng(seed)
    controls = [*([desk.second] if desk.second.max else []), *(control for strip in (*desk.strips, desk.noise, desk.donor) for control in strip)]
    before, times = [control.value for control in controls], []
    try:
        for _ in range(changes):
            control = controls[rng.integers(len(controls))]
            if isinstance(control, ipywidgets.Checkbox):
                value = not control.value
            elif control is desk.second:
                value = int((control.value + rng.integers(1, control.max + 1)) % (control.max + 1))
            else:
                value = float(rng.choice([v for v in np.arange(41) / 20 if v != control.value]))
            start = time.perf_counter()
            control.set_state({"value": value})
            times.append((time.perf_counter() - start) * 1e3)
            if desk.message.value:
                raise RuntimeError(f"the desk failed: {desk.message.value}")
    finally:
        for control, value in zip(controls, before):
            control.value = value
    return ResponseTimes(*np.percentile(times, (50, 95)).tolist())

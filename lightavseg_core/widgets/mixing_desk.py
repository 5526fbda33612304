"""The mixing desk: a clip's sounds on faders, and what a model marks of its picture."""
from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import ipywidgets
import numpy as np
import torch
from ipywidgets import Dropdown, HBox, VBox
from torch import Tensor, nn

from ..data.avsbench import AVSBench
from ..data.decoding import read_audio
from ..data.mixing import mix, tracks
from ..data.scored import check_datasets
from ..data.writing import wav
from . import canvas, seen
from .challenges import Thing, challenges, points
from .desk_clip import DeskClip, Source
from .panel import WRAPPED, Panel, Picture, all_or_nothing, control, discard, second_slider, titled


class Strip(HBox):
    """The controls of one sound: its small picture, its switch, its volume."""

    def __init__(
        self, label: str, name: str, changed: Callable, on: bool = True, cut: np.ndarray | None = None
    ):
        image = Picture("thumbnail", width="28px", height="28px", object_fit="contain")
        image.show(canvas.blank(1, 1) if cut is None else canvas.enlarged(cut, 56))
        switch = {"value": on, "description": label, "indent": False}
        volume = {"value": 1, "max": 2, "step": 0.05}
        self.on = control(f"{name}-on", ipywidgets.Checkbox, "130px", **switch)
        self.gain = control(f"{name}-gain", ipywidgets.FloatSlider, "220px", **volume)
        super().__init__([image, self.on, self.gain])
        self.on.observe(changed, "value")
        self.gain.observe(changed, "value")

    @property
    def level(self) -> float:
        return self.gain.value if self.on.value else 0.0


class MixingDesk(Panel):
    """A clip with its sounds on faders, and the mask, the coarse-to-fine maps and the audio state of the mix.

    A generated clip has a track for each object and one for its noise floor, a real clip a single track;
    white noise and the sound of another clip, the donor, can be added. Volumes are amplitude factors, 0 to 2;
    noise of volume 1 is as loud as the clip. A mix that would overload is turned down as a whole. The ground
    truth is what sounds in the mix. A method that treats each frame separately computes only the second that
    is shown, any other the whole clip. A challenge sets a task and counts points. During an update, the front
    end of ipywidgets keeps only the newest value of a moving slider, so none queue up. An error appears in
    the last line and leaves the pictures as they were; if a clip cannot be read, the list also returns to the
    clip that they show. Where no widget can run, it is a grid of pictures.

    model: any method. dataset: its size is that of the pictures; sounds pass through the model's front end.
    index, second: those shown first. Raises ValueError for a clip or second out of range, and for the
    training split of AVSS at a fixed size, whose frames are random crops.
    """

    @all_or_nothing
    def __init__(self, model: nn.Module, dataset: AVSBench, index: int = 0, second: int = 0):
        check_datasets(dataset=dataset)
        if dataset.subset == "avss" and dataset.split == "train" and dataset.size:
            raise ValueError("AVSS's training frames are cropped at random; give val or test, or size=None.")
        super().__init__("lav-desk")
        self.model, self.dataset, self.rate = model, dataset, model.front_end.sample_rate
        self._tracks = lru_cache(8)(lambda i: tracks(dataset, i, self.rate))
        self._donor = lru_cache(8)(lambda i: read_audio(dataset.clips[i].audio, self.rate))
        self._tracks(index)
        item = dataset[index]
        self.second = second_slider(item, second)
        silence = model.front_end(torch.zeros(1), torch.arange(len(item["frames"])))
        self.frame_by_frame = seen.frames_are_independent(model, item["frames"], silence)

        clips = [(f"{i}: {clip.name}", i) for i, clip in enumerate(dataset.clips)]
        donor = dataset.donor(index) if len(dataset) > 1 else index
        self.clip = control("clip", Dropdown, "300px", options=clips, value=index, description="clip")
        self.play = control("play", ipywidgets.Play, "120px", min=0, interval=1000)
        self.link = ipywidgets.jslink((self.play, "value"), (self.second, "value"))
        self.on_desk, self.strips, self._asked = None, [], None
        self.faders = VBox()
        self.noise = Strip("white noise", "noise", self._on_change, on=False)
        self.donor = Strip("donor's sound", "donor", self._on_change, on=False)
        others = {"options": clips, "value": donor, "description": "of clip"}
        self.donor_clip = control("donor-clip", Dropdown, "300px", **others)
        tasks = [("none", None), *((task["title"], k) for k, task in enumerate(challenges()))]
        dared = {"options": tasks, "value": None, "description": "challenge"}
        self.challenge = control("challenge", Dropdown, "300px", **dared)
        self.audio = control("audio", ipywidgets.Audio, "360px", format="wav", autoplay=False, loop=False)
        self.frame, self.truth, self.mask = Picture("frame"), Picture("truth", "png"), Picture("mask", "png")
        self.maps = Picture("maps", max_width="100%")

        self.started = time.perf_counter()
        self._load(index)
        self.clip.observe(self._on_clip, "value")
        self.second.observe(self._on_change, "value")
        self.donor_clip.observe(self._on_change, "value")
        self.challenge.observe(self._on_change, "value")
        mixer = [self.faders, self.noise, self.donor, self.donor_clip]
        controls = VBox([*mixer, self.challenge, self.audio])
        shown = {"frame": self.frame, "truth: what sounds": self.truth, "what the model marks": self.mask}
        row = HBox([self.clip, self.play, self.second], layout=WRAPPED)
        self.lay_out(row, HBox([controls, VBox([titled(shown), self.maps])], layout=WRAPPED))

    def _on_clip(self, change: dict) -> None:
        if change["new"] == self.on_desk.index:                    # it was put back, below
            return
        with self.telling():
            try:
                self._load(change["new"])
            except BaseException:
                self.clip.value = self.on_desk.index
                raise

    def _load(self, index: int) -> None:
        """Loads another clip, with a row of controls for each of its tracks, all on; or changes nothing."""
        found = DeskClip.of(index, self.dataset[index], self._tracks(index), self.model)
        before = self.on_desk, self.strips
        self.on_desk, self.strips = found, []
        try:
            for i, track in enumerate(found.tracks):
                name = "floor" if i == len(found.tracks) - 1 else "out-of-view"
                label, cut = track.name, None
                if i < len(found.sources):
                    label, name = found.sources[i].label, f"object-{i}"
                if track.object:
                    cut = found.sources[i].cut(found.frames)
                self.strips.append(Strip(label, name, self._on_change, cut=cut))
            self.show()
        except BaseException:
            discard(self.strips)
            self.on_desk, self.strips = before
            raise
        self.faders.children = self.strips
        discard(before[1])
        self.play.max = self.second.max = len(found.frames) - 1     # of a shorter clip it moves the second

    @property
    def sources(self) -> list[Source]:
        return self.on_desk.sources

    def _mixed(self, gains: list[float], noise: float = 0, donor: float = 0) -> tuple[Tensor, float]:
        other = self._donor(self.donor_clip.value) if donor else None
        seed = self.dataset.seed * 1_000_003 + self.on_desk.index   # the noise of the dataset's sound="noise"
        return mix(self.on_desk.sounds, gains, noise, other, donor, seed)

    def _hear(self, levels: list[float]) -> None:
        """Makes the mix, unless it is the same as the last one."""
        donor = self.donor_clip.value if self.donor.level else None
        asked = self.on_desk.index, levels, self.noise.level, self.donor.level, donor
        if asked != self._asked:
            self.waveform, self.factor = self._mixed(*asked[1:4])
            self._asked, self._answers = asked, {}

    def _look(self, waveform: Tensor, second: int) -> dict[int, seen.Seen]:
        """The model's results on a waveform by second: only that one, or all if frames see each other."""
        frames, name = self.on_desk.frames, self.dataset.clips[self.on_desk.index].name
        seconds = [second] if self.frame_by_frame else list(range(len(frames)))
        heard = self.model.front_end(waveform, torch.tensor(seconds))
        return dict(zip(seconds, seen.look(self.model, frames[seconds], heard, name, seconds)))

    def show(self) -> None:
        clip, levels = self.on_desk, [strip.level for strip in self.strips]
        t = min(self.second.value, len(clip.frames) - 1)
        self._hear(levels)
        if t not in self._answers:
            self._answers |= self._look(self.waveform, t)
        answer, truth = self._answers[t], clip.truth(levels, t)
        maps = self._maps(answer, t)
        self.seen, self.audio.value = answer, wav(self.waveform.numpy(), self.rate)
        self.frame.show(clip.pictures[t])
        self.truth.show(canvas.truth(clip.frames[t], truth))
        self.mask.show(canvas.marked(clip.frames[t], answer.mask))
        self.maps.show(maps)
        self.status.value = self._numbers(truth, levels, t)

    def _maps(self, answer: seen.Seen, t: int) -> np.ndarray:
        """Each scale's map over the frame; below it the audio state that it was compared with.

        The bars of the state are scaled by its maximum in this clip.
        """
        clip = self.on_desk
        if not clip.most:
            return canvas.tile(canvas.blank(1, 4 * canvas.MAP), "this method has no scales", 4 * canvas.MAP)
        small = canvas.enlarged(canvas.photo(clip.frames[t]), canvas.MAP)
        above, below = [], []
        for similarity, audio, most in zip(answer.similarity, answer.audio, clip.most):
            image = canvas.colours(seen.heat(similarity, self.model), small)
            above.append(canvas.tile(image, "map {} x {}".format(*similarity.shape)))
            bars = canvas.bars(audio, most, small.shape[1], 40)
            below.append(canvas.tile(bars, f"audio, {len(audio)} ch."))
        return canvas.grid([above, below])

    def _numbers(self, truth: Tensor, levels: list[float], t: int) -> str:
        mask, lines = self.seen.mask, []
        for source, level in zip(self.sources, levels):
            area, marked = source.masks[t], "nothing of it is visible"
            if area.any():
                marked = f"marked {(mask & area).sum() / area.sum():.0%} of its pixels"
            state = "sounding" if level and source.sounding[t] else "silent"
            lines.append(f"{source.label}: {state}, {marked}")
        turned = f"; the mix is turned down to {self.factor:.0%}" if self.factor < 1 else ""
        milliseconds = (time.perf_counter() - self.started) * 1e3
        lines.append(f"{seen.about_mask(mask, truth)}{turned}; updated in {milliseconds:.0f} ms")
        if self.challenge.value is not None:
            lines.append(self._points(challenges()[self.challenge.value], levels, t))
        return "<br>".join(lines)

    def _points(self, challenge: dict, levels: list[float], t: int) -> str:
        """The points for the current setting, with the objects that second t shows."""
        things = []
        for source, level in zip(self.sources, levels):
            area = source.masks[t]
            if area.any():
                sounding, marked = bool(source.sounding[t]), (self.seen.mask & area).sum() / area.sum()
                things.append(Thing(sounding, sounding and level > 0, level, marked.item()))
        as_recorded = set(levels) == {1} and not self.noise.level and not self.donor.level
        found = points(challenge, things, as_recorded)
        passed = ", done" if found >= challenge["pass"] else f". Hint: {challenge['hint']}"
        return f"<b>{challenge['text']}</b> {found} of 100 points{passed}"

    def still(self) -> tuple[list[list[np.ndarray]], str]:
        t, side, clip, count = self.second.value, canvas.MAP + 16, self.on_desk, len(self.on_desk.sounds)
        mixes = {"full mix": ([1] * count,)}
        for i, source in enumerate(clip.sources if count > 1 else ()):
            mixes[f"without {source.label}"] = ([int(k != i) for k in range(count)],)
        mixes |= {"only noise": ([0] * count, 1), "the donor's sound": ([0] * count, 0, 1)}
        frame = clip.pictures[t]
        above = [canvas.tile(frame, f"frame, second {t}", side)]
        below = [canvas.tile(np.full_like(frame, 255), "up: truth, down: mask", side)]
        for name, mixed in mixes.items():
            waveform, _ = self._mixed(*mixed)
            truth, mask = clip.truth(mixed[0], t), self._look(waveform, t)[t].mask
            above.append(canvas.tile(canvas.truth(clip.frames[t], truth), name, side))
            share = f"{mask.float().mean():.1%} marked"
            below.append(canvas.tile(canvas.marked(clip.frames[t], mask), share, side))
        name = self.dataset.clips[clip.index].name
        alt = (
            f"Second {t} of clip {name}: its frame, and for each of {len(mixes)} mixes ({', '.join(mixes)}) "
            "what sounds, in green, and what the model marks, in orange."
        )
        return [above, below], alt

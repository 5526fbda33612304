"""Labelled seconds of sound to pretrain an audio encoder: from the clips of any dataset with an events.csv,
or, for a cast of recordings, any number of new mixtures."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor

from .avsbench import AVSBench
from .cast import RATE
from .layout import AVSS_SECONDS, read_events
from .scenes import LEVEL, SOUNDING
from .sounding_shapes import cast_of, read_recipe

POOL = 8  # sounds of each thing that are at hand
LENGTH = 5  # seconds of each
RENEWED = 2  # in each draw


def learned_from(dataset: AVSBench, seed: int) -> Seconds | Mixtures:
    """The sounds that an audio encoder learns from. Raises ValueError if events.csv is missing or wrong, and
    what `cast_of` raises."""
    try:
        recipe = read_recipe(dataset.root, dataset.subset)
    except FileNotFoundError:
        return Seconds(dataset)
    # Silhouettes' timbres are told apart from the clips' own seconds.
    return Seconds(dataset) if recipe.cast == "shapes" else Mixtures(dataset, seed)


class Seconds:
    """heard (N, samples): the seconds of a dataset. labels (N, categories): which of `categories` sound in
    each; by default the categories of its events."""

    def __init__(self, dataset: AVSBench, categories: list[str] | None = None):
        events = read_events(dataset.root, dataset.subset)
        if events is None:
            advice = "Train with --audio-weights joint."
            raise ValueError(f"{dataset.root}: has no events.csv, so nothing says what sounds when. {advice}")
        self.categories = categories or sorted({category for own in events.values() for _, category in own})
        rate, samples = dataset.front_end.sample_rate, dataset.front_end.samples
        heard, labels = [], []
        for index, clip in enumerate(dataset.clips):
            waveform, seconds = dataset.waveform(index), len(clip.frames)
            if not waveform.isfinite().all():
                advice = "Replace its file."
                raise FloatingPointError(f"{dataset.root}: the sound of {clip.name} is not finite. {advice}")
            waveform = F.pad(waveform, (0, max(0, (seconds - 1) * rate + samples - len(waveform))))
            heard += [waveform[t * rate : t * rate + samples] for t in range(seconds)]
            own = events.get(clip.name, [])
            labels.append(_label(own, self.categories, seconds, clip.name, clip.kind, dataset.root))
        self.heard, self.labels = torch.stack(heard), torch.cat(labels)

    def __len__(self) -> int:
        return len(self.heard)

    def draw(self, count: int, _: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sounds (count, samples) and labels (count, categories). Half of them are mixed with another second
        at a random level, so that few clips make many mixtures. One in twenty is silent, which no clip with a
        noise floor ever is."""
        first, second = torch.randint(len(self), (2, count), generator=generator)
        mixed = torch.rand(count, 1, generator=generator) < 0.5
        level = 10 ** (torch.empty(count, 1).uniform_(-6, 6, generator=generator) / 20)  # +-6 dB
        audible = torch.rand(count, 1, generator=generator) > 0.05
        sound = audible * (self.heard[first] + mixed * level * self.heard[second])
        return sound, audible * torch.maximum(self.labels[first], mixed * self.labels[second])


def _label(events: list, categories: list[str], seconds: int, name: str, kind: str, root: Path) -> Tensor:
    """(seconds, categories): 1 where a category sounds."""
    label = torch.zeros(seconds, len(categories))
    for second, category in events:
        if category not in categories:
            what = f"{category!r} sounds in {name}; training knows {', '.join(categories[:12])} ..."
            raise ValueError(f"{root}: {what} Use clips with the same categories.")
        if seconds <= second < AVSS_SECONDS.get(kind, 5):  # the clip's last frames are missing
            continue
        if not 0 <= second < seconds:
            where = f"in second {second} of {name}, which has {seconds}"
            advice = "Correct the line, or train with --audio-weights joint."
            raise ValueError(f"{root}: events.csv says that {category} sounds {where}. {advice}")
        label[second, categories.index(category)] = 1
    return label


class Mixtures:
    """New mixtures of recordings, at no cost: seconds as in ms3 clips, with a dataset's things and
    individuals, and its levels, noise and variations. None occurs twice."""

    def __init__(self, dataset: AVSBench, seed: int):
        recipe = read_recipe(dataset.root, dataset.subset)
        self.cast, self.seed = cast_of(recipe, dataset.root), seed
        self.choice = self.cast.choice(recipe.individuals)
        self.things = [thing for own in self.choice for thing in own]
        self.categories = list(self.cast.categories)
        self.seconds = sum(len(clip.frames) for clip in dataset.clips)
        self.rate, self.samples = dataset.front_end.sample_rate, dataset.front_end.samples
        self.pool: dict[int, tuple[int, np.ndarray]] = {}

    def __len__(self) -> int:
        return self.seconds

    def draw(self, count: int, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sounds (count, samples) and labels (count, categories). step: from 0; it alone determines the pool
        of sounds, whichever steps were drawn before."""
        rng = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))
        length = -(-self.samples * RATE // self.rate)  # samples at RATE
        sounds = np.zeros((count, length), np.float32)
        labels = torch.zeros(count, len(self.categories))
        for sound, label in zip(sounds, labels):
            if rng.random() < 0.05:
                continue  # silence, as no clip with a noise floor ever is
            for k in rng.permutation(len(self.choice))[: rng.integers(2, 5)]:
                if rng.random() < SOUNDING:
                    thing = self.choice[k][rng.integers(len(self.choice[k]))]
                    track = self._track(self.things.index(thing) * POOL + int(rng.integers(POOL)), step)
                    start = int(rng.integers(len(track) - length))
                    sound += LEVEL * 10 ** (rng.uniform(-6, 6) / 20) * track[start : start + length]
                    label[self.cast.things[thing].category] = 1
            noise = LEVEL * 10 ** (-rng.uniform(10, 30) / 20)
            sound += noise * rng.standard_normal(length, np.float32)
        return AF.resample(torch.from_numpy(sounds), RATE, self.rate)[:, : self.samples], labels

    def _track(self, place: int, step: int) -> np.ndarray:
        """The sound at a place of the pool, with RMS 1; each step renews the sounds at a few places."""
        places = len(self.things) * POOL
        age = (step * RENEWED + places - 1 - place) // places  # how often this place got another
        if self.pool.get(place, (None,))[0] != age:
            rng = np.random.default_rng([self.seed, place, age])
            track = self.cast.sound(self.things[place // POOL], np.arange(LENGTH * RATE) / RATE, rng)
            self.pool[place] = age, (track / np.sqrt((track**2).mean())).astype(np.float32)
        return self.pool[place][1]

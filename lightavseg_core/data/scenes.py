"""Scenes of generated clips: things of a cast that move, the seconds in which each sounds, the pictures and
the sound.

Everything is a function of (cast, seed, subset, split, clip index). Size, place, motion and background are
random and never reveal the category; gains vary by 6 dB either way and the noise floor lies 10 to 30 dB
below, so that a score means something.
"""
from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .cast import RATE, Cast, Individuals

SECONDS = {"s4": 5, "ms3": 5, "v1s": 5, "v1m": 5, "v2": 10}
# Share of the frame that one object covers; 6% on average, for large ones find no place more often.
AREA = (0.02, 0.12)
SOUNDING = 0.4  # ms3 and avss: probability that an object sounds in a second
LEVEL = 0.05  # RMS of an object at 0 dB, full scale 1
FADE = 0.01  # seconds in which a sound starts and ends
UPRIGHT = 0.25  # of the turns of things that have no upper side: radians at first, at most
TRIES = 10_000  # to find places for a clip's things


@dataclass(frozen=True)
class Recipe:
    """What a folder was generated from; stored beside the data, so that stems and objects can be regenerated
    from it."""

    subset: str
    clips: dict[str, int]
    size: int
    seed: int
    distractors: bool = True
    twins: bool = False
    offscreen: bool = False
    cast: str = "shapes"
    individuals: Individuals = "seen"
    digest: str = ""  # the cast's


class SoundingObject(NamedTuple):
    """One visible object. boxes (T, 4): x0, y0, x1, y1 of the visible part in pixels; masks (T, size, size)
    bool; sounding (T,) bool."""

    category: int
    sounding: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    name: str  # the category's


class Scene(NamedTuple):
    """The random draws of a clip, in units of the frame's side and seconds: the same at every size. The last
    thing may be out of view: then `sounding` and `gains` have one row more than the others."""

    kind: str
    things: list[int]  # of the cast
    area: np.ndarray  # (objects,)
    centers: np.ndarray  # (objects, T, 2)
    angles: np.ndarray  # (objects, T)
    sounding: np.ndarray  # (things, T) bool
    gains: np.ndarray  # amplitude
    noise: float  # amplitude of the noise floor
    rngs: dict[str, np.random.Generator]


def _rng(recipe: Recipe, split: str, index: int, purpose: str) -> np.random.Generator:
    key = zlib.crc32(f"{recipe.subset}/{split}/{purpose}".encode())
    return np.random.default_rng([recipe.seed, key, index])


def _paths(rng: np.random.Generator, radii: np.ndarray, seconds: int) -> np.ndarray | None:
    """Centres (objects, T, 2) of discs that move in straight lines, bounce off the frame's edges and stay
    apart; None if no such paths were found."""
    placed: list[np.ndarray] = []
    for radius in radii:
        span = 1 - 2 * radius
        speed = rng.uniform(0.05, 0.2, (64, 1))
        heading = rng.uniform(0, 2 * np.pi, (64, 1))
        velocity = speed * np.concatenate([np.cos(heading), np.sin(heading)], 1)
        start = rng.uniform(0, span, (64, 1, 2))
        lines = start + velocity[:, None] * np.arange(seconds)[:, None]  # (candidates, T, 2)
        paths = radius + span - np.abs(lines % (2 * span) - span)
        free = np.ones(64, bool)
        for other, reach in zip(placed, radii):
            # Discs may touch a little: silhouettes seldom fill them.
            distance = np.hypot(*(paths - other).transpose(2, 0, 1))  # (candidates, T)
            free &= (distance > 0.85 * (radius + reach)).all(1)
        if not free.any():
            return None
        placed.append(paths[np.argmax(free)])
    return np.stack(placed)


def _radii(area: np.ndarray, cast: Cast, things: list[int]) -> np.ndarray:
    """The radius of each thing's disc, in units of the frame's side, that gives the thing its area."""
    return np.sqrt(area / np.array([cast.things[k].area for k in things]))


def draw_scene(recipe: Recipe, cast: Cast, split: str, index: int) -> Scene:
    rng = _rng(recipe, split, index, "scene")
    kind = ("v1s", "v1m", "v2")[index % 3] if recipe.subset == "avss" else recipe.subset
    seconds = SECONDS[kind]
    count = int(rng.integers(2, 5)) if recipe.distractors else 1
    choice = cast.choice(recipe.individuals)
    order = [int(c) for c in rng.permutation(len(choice))]
    categories = order[:count]
    if recipe.twins:
        categories = [categories[0], categories[0], *categories[1:]][:max(count, 2)]
    count = len(categories)
    of_category = _rng(recipe, split, index, "individuals")
    things = [choice[c][of_category.integers(len(choice[c]))] for c in categories]
    for _ in range(TRIES):
        area = AREA[0] + (AREA[1] - AREA[0]) * rng.beta(2.7, 3, count)
        centers = _paths(rng, _radii(area, cast, things), seconds)
        if centers is not None:
            break
    else:
        names = ", ".join(cast.categories[cast.things[k].category] for k in things)
        raise ValueError(f"a frame has no room for {names}. Leave out long and thin things.")
    turn = rng.uniform(0, 2 * np.pi, (count, 1))
    drift = rng.uniform(-0.4, 0.4, (count, 1)) * np.arange(seconds)  # (count, T)
    angles = turn + drift if cast.turns else UPRIGHT * (turn / np.pi - 1 + drift)
    if kind in ("s4", "v1s") or not recipe.distractors:
        sounding = np.zeros((count, seconds), bool)
        sounding[0] = True  # one object sounds through the clip, the others are silent
    else:
        sounding = rng.random((count, seconds)) < SOUNDING
        if recipe.twins:
            sounding[1] = False  # the silent twin
    gains = LEVEL * 10 ** (rng.uniform(-6, 6, count) / 20)
    noise = LEVEL * 10 ** (-rng.uniform(10, 30) / 20)
    if recipe.offscreen:  # of a category that is not in view
        out = _rng(recipe, split, index, "offscreen")
        of_another = choice[order[4]]  # four are in view at most
        things.append(of_another[out.integers(len(of_another))])
        sounding = np.vstack([sounding, out.random(seconds) < SOUNDING])
        gains = np.append(gains, LEVEL * 10 ** (out.uniform(-6, 6) / 20))
    rngs = {name: _rng(recipe, split, index, name) for name in ("sound", "noise", "picture")}
    return Scene(kind, things, area, centers, angles, sounding, gains, noise, rngs)


def at_times(scene: Scene, times: Sequence[float]) -> Scene:
    """The scene at times other than whole seconds, for a film: things move in straight lines between their
    drawn places. Its sound is that of the given scene."""

    def along(values: np.ndarray) -> np.ndarray:
        return np.interp(times, np.arange(values.shape[-1]), values)

    ways = [np.stack([along(x), along(y)], -1) for x, y in scene.centers.transpose(0, 2, 1)]
    angles = np.stack([along(turn) for turn in scene.angles])
    sounding = scene.sounding[:, np.minimum(np.asarray(times, int), scene.sounding.shape[1] - 1)]
    return scene._replace(centers=np.stack(ways), angles=angles, sounding=sounding)


def draw_tracks(scene: Scene, cast: Cast) -> tuple[np.ndarray, np.ndarray]:
    """The sound of each thing (things, samples), and the noise floor (samples,)."""
    seconds = scene.sounding.shape[1]
    time = np.arange(seconds * RATE) / RATE
    ramp = np.linspace(0, 1, int(FADE * RATE))
    tracks = []
    for thing, on, gain in zip(scene.things, scene.sounding, scene.gains):
        sound = cast.sound(thing, time, scene.rngs["sound"])
        sound = sound / np.sqrt((sound ** 2).mean())
        envelope = np.repeat(on.astype(np.float64), RATE)
        for second in np.flatnonzero(np.diff(on.astype(int))) + 1:  # no click where a sound starts or ends
            place = second * RATE
            if on[second]:
                envelope[place : place + len(ramp)] = ramp
            else:
                envelope[place - len(ramp) : place] = ramp[::-1]
        tracks.append(gain * sound * envelope)
    noise = scene.noise * scene.rngs["noise"].standard_normal(len(time))
    tracks = np.stack(tracks)
    peak = np.abs(tracks.sum(0) + noise).max()
    scale = min(1.0, 0.98 / peak)  # the rare clip that would overload
    return tracks * scale, noise * scale


def draw_pictures(scene: Scene, cast: Cast, size: int) -> tuple[np.ndarray, list[SoundingObject]]:
    """Frames (T, size, size, 3) uint8, and the objects with their visible parts."""
    rng, seconds, count = scene.rngs["picture"], scene.sounding.shape[1], len(scene.area)
    things = scene.things[:count]
    background, painters = cast.dress(things, size, rng)
    radii = _radii(scene.area, cast, things) * size
    frames = np.empty((seconds, size, size, 3), np.uint8)
    masks = np.zeros((count, seconds, size, size), bool)
    for t in range(seconds):
        picture = background.copy()
        for i, paint in enumerate(painters):
            alpha, colors = paint(tuple(scene.centers[i, t] * size), radii[i], scene.angles[i, t], size)
            picture += alpha[..., None] * (colors - picture)
            masks[:, t] &= ~(alpha > 0.5)  # a later object hides an earlier one
            masks[i, t] = alpha > 0.5
        frames[t] = np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255)
    boxes = [np.stack([_box(mask) for mask in of_object]) for of_object in masks]
    categories = [cast.things[k].category for k in things]
    names = [cast.categories[category] for category in categories]
    return frames, list(map(SoundingObject, categories, scene.sounding, boxes, masks, names))


def _box(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4, int)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])

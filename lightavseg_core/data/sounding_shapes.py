"""SoundingShapes: a generated dataset in AVSBench's layout. Silhouettes move, each with its timbre; the truth is those that sound.

Everything is a function of (seed, subset, split, clip index). Colour, size, place, motion and background are random and never tell the
category; gains vary by 6 dB either way and the noise floor lies 10 to 30 dB below, so that a score means something.
"""
from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import tempfile
import threading
import wave
import zlib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from .layout import AVSS_SECONDS, SPLITS, SUBSETS, voc_palette
from .shapes import CATEGORIES, RATE, UNIT_AREA, coverage

RECIPE = "sounding_shapes.json"
SECONDS = {"s4": 5, "ms3": 5, "v1s": 5, "v1m": 5, "v2": 10}
AREA = (0.02, 0.12)                     # share of the frame that one object covers; 6% on average, for large ones find no place more often
SOUNDING = 0.4                          # ms3 and avss: probability that an object sounds in a second
LEVEL = 0.05                            # RMS of an object at 0 dB, full scale 1
FADE = 0.01                             # seconds in which a sound starts and ends


@dataclass(frozen=True)
class Recipe:
    """What a folder was generated from; written beside the data, so that stems and objects can be made again."""

    subset: str
    clips: dict[str, int]
    size: int
    seed: int
    distractors: bool = True
    twins: bool = False


class SoundingObject(NamedTuple):
    """One visible object. Boxes (T, 4) are x0, y0, x1, y1 in pixels of what is visible, masks (T, size, size) bool, sounding (T,) bool."""

    category: int
    sounding: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray


class _Scene(NamedTuple):
    """The draws of a clip, in units of the frame's side and seconds: the same at every size."""

    kind: str
    categories: list[int]
    area: np.ndarray          # (objects,)
    centers: np.ndarray       # (objects, T, 2)
    angles: np.ndarray        # (objects, T)
    sounding: np.ndarray      # (objects, T) bool
    gains: np.ndarray         # (objects,) amplitude
    noise: float              # amplitude of the noise floor
    rngs: dict[str, np.random.Generator]


def _rng(recipe: Recipe, split: str, index: int, purpose: str) -> np.random.Generator:
    key = zlib.crc32(f"{recipe.subset}/{split}/{purpose}".encode())
    return np.random.default_rng([recipe.seed, key, index])


def _kind(recipe: Recipe, index: int) -> str:
    return ("v1s", "v1m", "v2")[index % 3] if recipe.subset == "avss" else recipe.subset


def _paths(rng: np.random.Generator, radii: np.ndarray, seconds: int) -> np.ndarray | None:
    """Centers (objects, T, 2) of discs that move on straight lines, bouncing off the frame's edges, and stay apart; None where none was found."""
    placed: list[np.ndarray] = []
    for radius in radii:
        span = 1 - 2 * radius
        speed, heading = rng.uniform(0.05, 0.2, (64, 1)), rng.uniform(0, 2 * np.pi, (64, 1))
        velocity = speed * np.concatenate([np.cos(heading), np.sin(heading)], 1)
        lines = rng.uniform(0, span, (64, 1, 2)) + velocity[:, None] * np.arange(seconds)[:, None]     # (candidates, T, 2)
        paths = radius + span - np.abs(lines % (2 * span) - span)
        free = np.ones(64, bool)
        for other, reach in zip(placed, radii):
            # Discs may touch a little: silhouettes seldom fill them.
            free &= (np.hypot(*(paths - other).transpose(2, 0, 1)) > 0.85 * (radius + reach)).all(1)
        if not free.any():
            return None
        placed.append(paths[np.argmax(free)])
    return np.stack(placed)


def _radii(area: np.ndarray, categories: list[int]) -> np.ndarray:
    """Radius of the unit disc of each silhouette, in units of the frame's side, that gives it its area."""
    return np.sqrt(area / np.array([UNIT_AREA[c] for c in categories]))


def _scene(recipe: Recipe, split: str, index: int) -> _Scene:
    rng, kind = _rng(recipe, split, index, "scene"), _kind(recipe, index)
    seconds = SECONDS[kind]
    count = int(rng.integers(2, 5)) if recipe.distractors else 1
    categories = [int(c) for c in rng.permutation(len(CATEGORIES))[:count]]
    if recipe.twins:
        categories = [categories[0], categories[0], *categories[1:]][:max(count, 2)]
    count = len(categories)
    centers = None
    while centers is None:
        area = AREA[0] + (AREA[1] - AREA[0]) * rng.beta(2.7, 3, count)
        centers = _paths(rng, _radii(area, categories), seconds)
    angles = rng.uniform(0, 2 * np.pi, (count, 1)) + rng.uniform(-0.4, 0.4, (count, 1)) * np.arange(seconds)
    if kind in ("s4", "v1s") or not recipe.distractors:
        sounding = np.zeros((count, seconds), bool)
        sounding[0] = True                                          # one object sounds through the clip, the others are silent
    else:
        sounding = rng.random((count, seconds)) < SOUNDING
        if recipe.twins:
            sounding[1] = False                                     # the silent twin
    gains = LEVEL * 10 ** (rng.uniform(-6, 6, count) / 20)
    noise = LEVEL * 10 ** (-rng.uniform(10, 30) / 20)
    rngs = {name: _rng(recipe, split, index, name) for name in ("sound", "noise", "picture")}
    return _Scene(kind, categories, area, centers, angles, sounding, gains, noise, rngs)


def _tracks(scene: _Scene) -> tuple[np.ndarray, np.ndarray]:
    """Each object's sound (objects, samples), and the noise floor (samples,)."""
    seconds = scene.sounding.shape[1]
    time, ramp = np.arange(seconds * RATE) / RATE, np.linspace(0, 1, int(FADE * RATE))
    tracks = []
    for category, on, gain in zip(scene.categories, scene.sounding, scene.gains):
        sound = CATEGORIES[category].sound(time, scene.rngs["sound"])
        sound = sound / np.sqrt((sound ** 2).mean())
        envelope = np.repeat(on.astype(np.float64), RATE)
        for second in np.flatnonzero(np.diff(on.astype(int))) + 1:                         # no click where a sound starts or ends
            if on[second]:
                envelope[second * RATE:second * RATE + len(ramp)] = ramp
            else:
                envelope[second * RATE - len(ramp):second * RATE] = ramp[::-1]
        tracks.append(gain * sound * envelope)
    noise = scene.noise * scene.rngs["noise"].standard_normal(len(time))
    tracks = np.stack(tracks)
    peak = np.abs(tracks.sum(0) + noise).max()
    scale = min(1.0, 0.98 / peak)                                                          # the rare clip that would overload
    return tracks * scale, noise * scale


def _pictures(scene: _Scene, size: int) -> tuple[np.ndarray, list[SoundingObject]]:
    """Frames (T, size, size, 3) uint8, and the objects with what is visible of each."""
    rng, seconds = scene.rngs["picture"], scene.sounding.shape[1]
    low = rng.uniform(30, 225, 3) + rng.uniform(-40, 40, (4, 4, 3))
    background = np.stack([np.asarray(Image.fromarray(low[..., c].astype(np.float32)).resize((size, size), Image.BICUBIC)) for c in range(3)], -1)
    colors = []
    while len(colors) < len(scene.categories):
        color = rng.uniform(0, 255, 3)
        if np.linalg.norm(color - low.mean((0, 1))) > 90:                                  # visible against the background
            colors.append(color)
    shading = rng.uniform(-25, 25, (len(colors), 2))
    radii = _radii(scene.area, scene.categories) * size
    axis = (np.arange(size) / size - 0.5)
    frames = np.empty((seconds, size, size, 3), np.uint8)
    masks = np.zeros((len(colors), seconds, size, size), bool)
    for t in range(seconds):
        picture = background.copy()
        for i, category in enumerate(scene.categories):
            alpha = coverage(category, tuple(scene.centers[i, t] * size), radii[i], scene.angles[i, t], size)
            shade = shading[i, 0] * axis + shading[i, 1] * axis[:, None]
            picture += alpha[..., None] * (colors[i] + shade[..., None] - picture)
            masks[:, t] &= ~(alpha > 0.5)                                                  # a later object hides an earlier one
            masks[i, t] = alpha > 0.5
        frames[t] = np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255)
    return frames, [SoundingObject(c, scene.sounding[i], np.stack([_box(m) for m in masks[i]]), masks[i])
                    for i, c in enumerate(scene.categories)]


def _box(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4, int)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def _wav(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _png(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, compress_level=1) if path.suffix == ".png" else Image.fromarray(array).save(path, quality=95)


def _write_clip(root: Path, recipe: Recipe, job: tuple[str, int]) -> tuple[dict, list[dict]]:
    """Writes one clip's files; returns its row of the metadata and of the events."""
    split, index = job
    scene = _scene(recipe, split, index)
    seconds = scene.sounding.shape[1]
    tracks, noise = _tracks(scene)
    frames, objects = _pictures(scene, recipe.size)
    name = f"{recipe.subset}_{split}_{index:05d}"
    labels = np.zeros((seconds, recipe.size, recipe.size), np.uint8)
    for thing in objects:
        labels[thing.masks & thing.sounding[:, None, None]] = thing.category + 1
    first_only = split == "train" and scene.kind in ("s4", "v1s")
    annotated = range(1 if first_only else seconds)
    category = CATEGORIES[scene.categories[0]].name
    if recipe.subset == "s4":
        base, inner = root / "Single-source" / "s4_data", Path(split, category, name)
        frame = lambda t: base / "visual_frames" / inner / f"{name}_{t + 1}.png"     # noqa: E731
        mask = lambda t: base / "gt_masks" / inner / f"{name}_{t + 1}.png"           # noqa: E731
        sound, values = base / "audio_wav" / split / category / f"{name}.wav", (labels > 0) * np.uint8(255)
        row = {"name": name, "start": 0, "category": category, "split": split}
    elif recipe.subset == "ms3":
        base = root / "Multi-sources" / "ms3_data"
        frame = lambda t: base / "visual_frames" / name / f"{name}.mp4_{t + 1}.png"  # noqa: E731
        mask = lambda t: base / "gt_masks" / split / name / f"{name}_{t + 1}.png"    # noqa: E731
        sound, values = base / "audio_wav" / split / f"{name}.wav", labels           # class values, as in the real MS3
        row = {"name": name, "start": 0, "split": split}
    else:
        base = root / scene.kind / name
        frame, mask = (lambda t: base / "frames" / f"{t}.jpg"), (lambda t: base / "labels_rgb" / f"{t}.png")
        sound, values = base / "audio.wav", voc_palette(len(CATEGORIES) + 1)[labels]
        row = {"uid": name, "label": scene.kind, "split": split}
    for t in range(seconds):
        _png(frames[t], frame(t))
    for t in annotated:
        _png(values[t], mask(t))
    sound.parent.mkdir(parents=True, exist_ok=True)
    sound.write_bytes(_wav(tracks.sum(0) + noise))
    events = [{"clip": name, "second": t, "category": CATEGORIES[o.category].name, **dict(zip(("x0", "y0", "x1", "y1"), map(int, o.boxes[t])))}
              for o in objects for t in range(seconds) if o.sounding[t]]
    return row, events


def _csv(path: Path, columns: list[str], rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _start_worker() -> None:
    """A worker leaves Ctrl-C to its parent, and ends with it, also where the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


def _write_clips(root: Path, recipe: Recipe, workers: int, chunk: int = 8) -> list[tuple[dict, list[dict]]]:
    """All clips, in processes of which each writes at least `chunk`: a small set needs none but this one."""
    jobs = [(split, index) for split in SPLITS for index in range(recipe.clips[split])]
    workers = min(workers, -(-len(jobs) // chunk))
    if workers <= 1:
        return [_write_clip(root, recipe, job) for job in jobs]
    context = get_context("forkserver")                            # a fork of this process would inherit torch's threads
    context.set_forkserver_preload([__name__])                     # imported once, not by each worker
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        return list(pool.map(partial(_write_clip, root, recipe), jobs, chunksize=chunk))


def generate(root: str | Path, subset: str = "ms3", clips: Mapping[str, int] | int = 400, size: int = 128, seed: int = 0,
             distractors: bool = True, twins: bool = False, workers: int | None = None) -> Path:
    """Writes a subset in AVSBench's layout under root, and an extra events.csv (what sounds when); returns root.

    clips: a number for each of train, val and test, or one number of training clips (a fifth of it for val and for test).
    size: side of the frames, pixels. distractors=False: one visible object, which sounds, as in most of the real S4. twins=True: two
    objects of one category, of which one sounds. The same arguments again change nothing; other arguments raise FileExistsError, and a
    generation that was interrupted leaves nothing behind.
    """
    root = Path(root)
    if subset not in SUBSETS:
        raise ValueError(f"unknown subset {subset!r}; known: {', '.join(SUBSETS)}.")
    if not isinstance(clips, Mapping):
        clips = {"train": clips, "val": max(clips // 5, 1), "test": max(clips // 5, 1)}
    if set(clips) - set(SPLITS) or min(clips.values(), default=0) < 0:
        raise ValueError(f"clips is {dict(clips)}; expected a count of at least 0 for each of {', '.join(SPLITS)}.")
    if size < 32:
        raise ValueError(f"size is {size} pixels; the models read 32 or more.")
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more.")
    recipe = Recipe(subset, {split: clips.get(split, 0) for split in SPLITS}, size, seed, distractors, twins)
    home = root / SUBSETS[subset].folder
    if (home / SUBSETS[subset].csv).exists():
        if (home / RECIPE).exists() and read_recipe(root, subset) == recipe:
            return root
        raise FileExistsError(f"{home}: holds another {subset} dataset. Give another folder, or remove this one.")
    if not (home / RECIPE).exists() and any((home / part).exists() for part in (f"{subset}_data", *AVSS_SECONDS)):
        raise FileExistsError(f"{home}: holds {subset} data of another origin, without {SUBSETS[subset].csv}. Give another folder.")
    new = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".generating_", dir=root))
    try:
        results = _write_clips(staging, recipe, workers or os.cpu_count() or 1)
        staged = staging / SUBSETS[subset].folder
        _csv(staged / "events.csv", ["clip", "second", "category", "x0", "y0", "x1", "y1"], [e for _, events in results for e in events])
        (staged / RECIPE).write_text(json.dumps(asdict(recipe), indent=1))
        if subset == "avss":
            labels = {"background": 0, **{c.name: i + 1 for i, c in enumerate(CATEGORIES)}}
            (staged / "label2idx.json").write_text(json.dumps(labels, indent=1))
        _csv(staging / "meta.csv", list(SUBSETS[subset].columns), [row for row, _ in results])
        os.replace(staging / "meta.csv", staged / SUBSETS[subset].csv)
        home.mkdir(parents=True, exist_ok=True)
        # The recipe moves first: what stands beside it is ours. The metadata moves last: without it the folder is no dataset.
        for part in sorted(staged.iterdir(), key=lambda path: (path.name == SUBSETS[subset].csv) - (path.name == RECIPE)):
            if (home / part.name).is_dir():
                shutil.rmtree(home / part.name)
            os.replace(part, home / part.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if new:
            with contextlib.suppress(OSError):
                root.rmdir()                                        # only where it is empty: an interrupted generation
    return root


def read_recipe(root: str | Path, subset: str) -> Recipe:
    """The recipe of a generated folder. Raises FileNotFoundError for data that this generator did not make."""
    if subset not in SUBSETS:
        raise ValueError(f"unknown subset {subset!r}; known: {', '.join(SUBSETS)}.")
    places = Path(root, SUBSETS[subset].folder, RECIPE), Path(root, RECIPE)      # root may be the subset's own folder
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{places[0]}: missing. Objects and stems exist only for data that SoundingShapes made.")
    try:
        recipe = Recipe(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: is no recipe of this generator ({error}). Generate the data again.") from None
    if recipe.subset != subset:
        raise FileNotFoundError(f"{places[0]}: missing; {path} is the recipe of {recipe.subset}.")
    return recipe


def _scene_of(root: str | Path, subset: str, split: str, index: int) -> tuple[_Scene, int]:
    recipe = read_recipe(root, subset)
    if not 0 <= index < recipe.clips.get(split, 0):
        raise ValueError(f"{root}: {subset} has no clip {index} of split {split!r}; it has {recipe.clips}.")
    return _scene(recipe, split, index), recipe.size


def objects(root: str | Path, subset: str, split: str, index: int) -> list[SoundingObject]:
    """The visible objects of a clip, sounding or not (made again from the recipe)."""
    return _pictures(*_scene_of(root, subset, split, index))[1]


def stems(root: str | Path, split: str, index: int, subset: str = "ms3") -> np.ndarray:
    """Each object's own sound, (objects, samples) float64 at 16 kHz; their sum and `noise` are the WAV to 1 LSB."""
    return _tracks(_scene_of(root, subset, split, index)[0])[0]


def noise(root: str | Path, split: str, index: int, subset: str = "ms3") -> np.ndarray:
    """The noise floor of a clip, (samples,) float64 at 16 kHz."""
    return _tracks(_scene_of(root, subset, split, index)[0])[1]

"""SoundingShapes: a generated dataset in AVSBench's layout. Silhouettes move, each with its timbre; the truth is those that sound."""
from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from .._common.processes import end_with_parent
from .layout import AVSS_SECONDS, SPLITS, SUBSETS
from .masks import voc_palette
from .scenes import Recipe, Scene, SoundingObject, draw_pictures, draw_scene, draw_tracks
from .shapes import CATEGORIES, RATE
from .writing import wav

RECIPE = "sounding_shapes.json"


def _png(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, compress_level=1) if path.suffix == ".png" else Image.fromarray(array).save(path, quality=95)


def _write_clip(root: Path, recipe: Recipe, job: tuple[str, int]) -> tuple[dict, list[dict]]:
    """Writes one clip's files; returns its row of the metadata and of the events."""
    split, index = job
    scene = draw_scene(recipe, split, index)
    seconds = scene.sounding.shape[1]
    tracks, noise = draw_tracks(scene)
    frames, objects = draw_pictures(scene, recipe.size)
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
    sound.write_bytes(wav(tracks.sum(0) + noise, RATE))
    events = [{"clip": name, "second": t, "category": CATEGORIES[o.category].name, **dict(zip(("x0", "y0", "x1", "y1"), map(int, o.boxes[t])))}
              for o in objects for t in range(seconds) if o.sounding[t]]
    return row, events


def _csv(path: Path, columns: list[str], rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _write_clips(root: Path, recipe: Recipe, workers: int, chunk: int = 8) -> list[tuple[dict, list[dict]]]:
    """All clips, in processes of which each writes at least `chunk`: a small set needs none but this one."""
    jobs = [(split, index) for split in SPLITS for index in range(recipe.clips[split])]
    workers = min(workers, -(-len(jobs) // chunk))
    if workers <= 1:
        return [_write_clip(root, recipe, job) for job in jobs]
    # A fork of this process would inherit torch's threads.
    with ProcessPoolExecutor(workers, get_context("forkserver"), end_with_parent) as pool:
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


def clip_number(name: str) -> int:
    """The index of a clip in its split's recipe, from its name: a dataset may hold only some of them."""
    return int(name.rpartition("_")[2])


def _scene_of(root: str | Path, subset: str, split: str, index: int) -> tuple[Scene, int]:
    recipe = read_recipe(root, subset)
    if not 0 <= index < recipe.clips.get(split, 0):
        raise ValueError(f"{root}: {subset} has no clip {index} of split {split!r}; it has {recipe.clips}.")
    return draw_scene(recipe, split, index), recipe.size


def objects(root: str | Path, subset: str, split: str, index: int) -> list[SoundingObject]:
    """The visible objects of a clip, sounding or not (made again from the recipe)."""
    return draw_pictures(*_scene_of(root, subset, split, index))[1]


def stems(root: str | Path, split: str, index: int, subset: str = "ms3") -> np.ndarray:
    """Each object's own sound, (objects, samples) float64 at 16 kHz; their sum and `noise` are the WAV to 1 LSB."""
    return draw_tracks(_scene_of(root, subset, split, index)[0])[0]


def noise(root: str | Path, split: str, index: int, subset: str = "ms3") -> np.ndarray:
    """The noise floor of a clip, (samples,) float64 at 16 kHz."""
    return draw_tracks(_scene_of(root, subset, split, index)[0])[1]

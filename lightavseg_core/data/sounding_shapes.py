"""SoundingShapes and SoundingPhotos: generated datasets in AVSBench's layout. Silhouettes with timbres move,
or photographs with recordings (`casting`); the ground truth is those that sound."""
from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from .._common.processes import end_with_parent, without_main
from .._common.ranges import SIDE, within
from .._common.stopping import requests
from .cast import RATE, Cast, Individuals
from .casting import cast_named
from .layout import SPLITS, SUBSETS, clip_of, spec_of, subset_folder
from .palette import voc_palette
from .scenes import Recipe, Scene, SoundingObject, draw_pictures, draw_scene, draw_tracks
from .writing import new_subset, stands, write_picture, write_sound, write_table

RECIPE = "sounding_shapes.json"
CHUNK = 8  # clips that a process writes, before it asks for more
EVENTS = ("clip", "second", "category", "x0", "y0", "x1", "y1")


@lru_cache(maxsize=1)
def _cast(name: str, _: str) -> Cast:
    """The cast with this digest, cached so that its files are read once and not for each clip."""
    return cast_named(name)


def _write_clip(folder: Path, recipe: Recipe, job: tuple[str, int]) -> tuple[tuple, list[tuple]]:
    """Writes one clip's files into the subset's folder; returns its row of the metadata and of the events."""
    split, index = job
    cast = _cast(recipe.cast, recipe.digest)
    scene = draw_scene(recipe, cast, split, index)
    tracks, noise = draw_tracks(scene, cast)
    frames, objects = draw_pictures(scene, cast, recipe.size)
    name = f"{recipe.subset}_{split}_{index:05d}"
    row = {"name": name, "start": 0, "category": objects[0].name, "split": split}
    row |= {"uid": name, "label": scene.kind}  # AVSS' names for its columns
    labels = np.zeros(frames.shape[:3], np.uint8)  # (T, size, size)
    for thing in objects:
        labels[thing.masks & thing.sounding[:, None, None]] = thing.category + 1
    if recipe.subset == "s4":
        values = (labels > 0) * np.uint8(255)
    elif recipe.subset == "ms3":
        values = labels  # class values, as in the real MS3
    else:
        values = voc_palette(len(cast.categories) + 1)[labels]
    clip = clip_of(folder, recipe.subset, row)
    for t, (frame, mask) in enumerate(zip(clip.frames, clip.masks)):
        write_picture(frame, frames[t])
        if mask:
            write_picture(mask, values[t])
    write_sound(clip.audio, tracks.sum(0) + noise, RATE)
    events = []
    for thing in objects:
        for t in np.flatnonzero(thing.sounding):
            events.append((name, t, thing.name, *thing.boxes[t]))
    for thing, sounding in zip(scene.things[len(objects) :], scene.sounding[len(objects) :]):
        category = cast.categories[cast.things[thing].category]
        events += [(name, t, category, 0, 0, 0, 0) for t in np.flatnonzero(sounding)]  # out of view
    return tuple(row[column] for column in SUBSETS[recipe.subset].columns), events


def _write_clips(folder: Path, recipe: Recipe, workers: int) -> list[tuple[tuple, list[tuple]]]:
    """Writes all clips, in processes that write at least CHUNK each: a small set needs only this one."""
    jobs = [(split, index) for split in SPLITS for index in range(recipe.clips[split])]
    workers = min(workers, math.ceil(len(jobs) / CHUNK))
    if workers <= 1:
        return [_write_clip(folder, recipe, job) for job in jobs]
    # A fork of this process would inherit torch's threads.
    with ProcessPoolExecutor(workers, get_context("forkserver"), end_with_parent) as pool:
        try:
            # All are started here; to stop in the middle of that would leave one that nobody knows.
            with requests(), without_main():
                written = pool.map(partial(_write_clip, folder, recipe), jobs, chunksize=CHUNK)
            return list(written)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # before what they wrote is removed
            raise


def generate(
    root: str | Path,
    subset: str = "ms3",
    clips: Mapping[str, int] | int = 400,
    size: int = 128,
    seed: int = 0,
    distractors: bool = True,
    twins: bool = False,
    workers: int | None = None,
    offscreen: bool = False,
    cast: str = "shapes",
    individuals: Individuals = "seen",
) -> Path:
    """Writes a subset in AVSBench's layout under root, and an extra events.csv (what sounds when); returns
    root.

    clips: a number for each of train, val and test, or only the number of training clips (a fifth of it each
    for val and test). size: side of the frames, pixels. distractors=False: one visible object, which sounds,
    as in most of the real S4. twins=True: two objects of one category, only one of which sounds.
    offscreen=True: something that is out of view sounds too. cast: shapes, photos, or a folder of pictures
    and sounds (`casting`). individuals: which things of a category with several (`cast.Individuals`).
    The same arguments again change nothing; other arguments raise FileExistsError. An interrupted generation
    leaves nothing behind.
    """
    root = Path(root)
    spec_of(subset)
    if not isinstance(clips, Mapping):
        clips = {"train": clips, "val": max(clips // 5, 1), "test": max(clips // 5, 1)}
    if set(clips) - set(SPLITS) or min(clips.values(), default=0) < 0:
        splits = ", ".join(SPLITS)
        raise ValueError(f"clips is {dict(clips)}; expected a count of at least 0 for each of {splits}.")
    within(*SIDE, size=size)
    within(0, seed=seed)
    within(1, workers=workers)
    counts = {split: clips.get(split, 0) for split in SPLITS}
    among = cast_named(cast)
    among.choice(individuals)
    what = distractors, twins, offscreen, among.name, individuals, among.digest
    recipe = Recipe(subset, counts, size, seed, *what)
    if not stands(root, subset, RECIPE, lambda: read_recipe(root, subset) == recipe):
        with new_subset(root, subset, RECIPE) as folder:
            _write(folder, recipe, workers or os.cpu_count() or 1)
    return root


def _write(folder: Path, recipe: Recipe, workers: int) -> None:
    """A subset's folder: its clips, tables and recipe."""
    rows, events = [], []
    for row, of_clip in _write_clips(folder, recipe, workers):
        rows.append(row)
        events += of_clip
    spec = SUBSETS[recipe.subset]
    write_table(folder / "events.csv", EVENTS, events)
    write_table(folder / spec.csv, spec.columns, rows)
    (folder / RECIPE).write_text(json.dumps(asdict(recipe), indent=1))
    if recipe.subset == "avss":
        categories = _cast(recipe.cast, recipe.digest).categories
        labels = {"background": 0, **{name: i + 1 for i, name in enumerate(categories)}}
        (folder / "label2idx.json").write_text(json.dumps(labels, indent=1))


def read_recipe(root: str | Path, subset: str) -> Recipe:
    """The recipe of a generated folder. Raises FileNotFoundError for data that this generator has not
    made."""
    wanted, own = Path(root, spec_of(subset).folder, RECIPE), Path(root, RECIPE)
    path = next(filter(Path.is_file, (wanted, own)), wanted)
    with contextlib.suppress(FileNotFoundError):
        path = path if path.is_file() else subset_folder(root, subset) / RECIPE
    if not path.is_file():
        raise FileNotFoundError(
            f"{wanted}: missing. Objects and stems exist only for data that SoundingShapes made."
        )
    try:
        recipe = Recipe(**json.loads(path.read_text()))
        for name in ("cast", "individuals", "digest"):
            if not isinstance(getattr(recipe, name), str):
                raise ValueError(f"{name} is {getattr(recipe, name)!r}")
    except (ValueError, TypeError) as error:
        what = f"not a recipe of this generator ({error})"
        raise ValueError(f"{path}: {what}. Generate the data again.") from None
    if recipe.subset != subset:
        raise FileNotFoundError(f"{wanted}: missing; {path} is the recipe of {recipe.subset}.")
    return recipe


def clip_number(name: str) -> int:
    """The index of a clip in its split's recipe, from its name: a dataset may hold only some of the clips."""
    return int(name.rpartition("_")[2])


def cast_of(recipe: Recipe, root: str | Path) -> Cast:
    """The cast that the clips under root were made from. Raises ValueError if it is missing or no longer the
    same."""
    try:
        cast = cast_named(recipe.cast)
    except FileNotFoundError as error:
        raise ValueError(f"{root}: was made from the cast {recipe.cast}, which is missing: {error}") from None
    if cast.digest != recipe.digest:
        raise ValueError(
            f"{root}: the pictures or sounds of the cast {recipe.cast} have changed since these clips were "
            "made. Generate them again."
        )
    return cast


def _scene_of(root: str | Path, subset: str, split: str, index: int) -> tuple[Scene, Cast, int]:
    recipe = read_recipe(root, subset)
    if not 0 <= index < recipe.clips.get(split, 0):
        raise ValueError(f"{root}: {subset} has no clip {index} of split {split!r}; it has {recipe.clips}.")
    cast = cast_of(recipe, root)
    return draw_scene(recipe, cast, split, index), cast, recipe.size


def objects(root: str | Path, subset: str, split: str, index: int) -> list[SoundingObject]:
    """The visible objects of a clip, sounding or not (regenerated from the recipe)."""
    return draw_pictures(*_scene_of(root, subset, split, index))[1]


def stems_and_noise(
    root: str | Path, split: str, index: int, subset: str = "ms3"
) -> tuple[np.ndarray, np.ndarray]:
    """`stems` and `noise`, drawn once."""
    scene, cast, _ = _scene_of(root, subset, split, index)
    return draw_tracks(scene, cast)


def stems(root: str | Path, split: str, index: int, subset: str = "ms3") -> np.ndarray:
    """Each object's own sound, (objects, samples) float64 at 16 kHz, and last that of a source out of view,
    if any; they and `noise` add up to the WAV, to 1 LSB."""
    return stems_and_noise(root, split, index, subset)[0]


def noise(root: str | Path, split: str, index: int, subset: str = "ms3") -> np.ndarray:
    """The noise floor of a clip, (samples,) float64 at 16 kHz."""
    return stems_and_noise(root, split, index, subset)[1]

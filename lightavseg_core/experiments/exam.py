"""Scores of a model in the exam (`data.exam`): each picture with its own recording, with the others', and in
silence; and crosswise with SoundingPhotos, which tells whether the eye or the ear fails.

Nine pictures are too few for an interval: each is reported singly, and means are means of these pictures.
"""
from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from .._common.records import provenance, write
from .._common.tables import in_columns
from ..data import exam
from ..data.cast import RATE, Cast
from ..data.casting import cast_named
from ..data.scenes import LEVEL, Recipe, Scene, draw_scene
from ..evaluation import predict
from ..models.base import AVSModel
from .composed import Pictures, clip, model_with_files, pictures_of, scores, sound_of

SCENES = 20  # of SoundingPhotos, for each kind: one thing of it sounds throughout, among others
ALONE = ("own", "swapped", "silent", "level")
CROSSWISE = ("both known", "new to the eye", "new to the ear", "both new")
SHOWN = ("own", "swapped", *CROSSWISE[:3])  # in the table


def examine(folder: str | Path, out: Path, scenes: int = SCENES, seed: int = 0) -> dict:
    """Scores a model of binary masks in the exam; writes the result, with its provenance, to `out`.

    `animals` holds a row for each picture: agreement, the IoU of the two drawings; share, of the picture that
    is in the ground truth; and scores, each with M_J and foreground_share:
    heard_with: each of the nine recordings. own: its own. swapped: the mean of the others. silent: silence.
    level: its own, as loud as the sounds of SoundingPhotos.
    both known, new to the eye, new to the ear, both new: crosswise, for the eight kinds that are also in
    SoundingPhotos. Picture and recording are from SoundingPhotos; only the picture is from the exam; only the
    recording is; both are, which equals `own`.
    `means`: over the pictures, without intervals.
    Raises FileNotFoundError, with the command to run, if photographs or the exam are missing.
    """
    model, files = model_with_files(folder)
    asked, cast, size = exam.questions(), cast_named("photos"), model.config.size
    sounds = {one.name: exam.heard(one) for one in asked}
    drawn = _scenes({one.category for one in asked} & {*cast.categories}, cast, scenes, seed)
    animals = []
    for one in asked:
        still = _held(one, size)
        row = {"name": one.name, "category": one.category, "seconds": len(sounds[one.name]) // RATE}
        row |= {"agreement": exam.agreement(one.name), "share": still[1].float().mean().item()}
        row |= _alone(model, one.name, still, sounds)
        if one.category in drawn:
            row |= _crosswise(model, cast, still, sounds[one.name], drawn[one.category], size)
            row["both new"] = row["own"]
        animals.append(row)
    known = [row for row in animals if "both new" in row]
    found = {
        "model": Path(folder).name,
        "sha256": files,
        "size": size,
        "scenes": scenes,
        "means": {"of all": _means(animals, ALONE), "of those known": _means(known, (*ALONE, *CROSSWISE))},
        "animals": animals,
    }
    write(out, {**found, **provenance(f"lightavseg exam {folder}", seed)})
    return found


def lines(found: Mapping) -> list[str]:
    """The result of `examine` as a table."""
    table = [["M_J", *SHOWN, "marked", "in silence", "second drawing"]]
    rows = {row["name"]: row for row in found["animals"]} | found["means"]
    for name, row in rows.items():
        cells = [f"{row[score]['M_J']:.3f}" if score in row else "" for score in SHOWN]
        cells += [f"{row[score]['foreground_share']:.1%}" for score in ("own", "silent")]
        table.append([name, *cells, f"{row['agreement']:.3f}" if "agreement" in row else ""])
    return in_columns(table)


def marks(folder: str | Path) -> list[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """What a model marks in the first second of each picture, for `plots.prediction_grid`: the frame, the
    ground truth, and the masks with its own sound and in silence. Raises what `examine` raises."""
    model, _ = model_with_files(folder)
    shown = []
    for one in exam.questions():
        still, own = _held(one, model.config.size), exam.heard(one)
        sounds = {"own sound": own, "silence": torch.zeros_like(own)}
        items = {name: clip(model, one.name, still, sound) for name, sound in sounds.items()}
        masks = {name: predict(model, item)[0] for name, item in items.items()}
        shown.append((items["silence"]["frames"][0], still[1][0], masks))
    return shown


def _held(question: exam.Question, size: int) -> Pictures:
    """A picture and its ground truth, held as long as the longest recording."""
    picture, truth = exam.still(question, size)
    return picture.expand(exam.LONGEST, -1, -1, -1), truth.expand(exam.LONGEST, -1, -1)


def _means(animals: Sequence[Mapping], names: Sequence[str]) -> dict[str, dict[str, float]]:
    return {name: _mean([row[name] for row in animals]) for name in names}


def _mean(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(one[name] for one in several) for name in several[0]}


def _alone(model: AVSModel, name: str, still: Pictures, sounds: Mapping[str, Tensor]) -> dict:
    """Scores of a picture with each recording, held as long as it lasts, and in silence."""
    own = sounds[name]
    heard_with = {other: scores(model, [clip(model, name, still, sound)]) for other, sound in sounds.items()}
    as_loud = own * LEVEL / own.square().mean().sqrt()
    return {
        "own": heard_with[name],
        "swapped": _mean([found for other, found in heard_with.items() if other != name]),
        "silent": scores(model, [clip(model, name, still, torch.zeros_like(own))]),
        "level": scores(model, [clip(model, name, still, as_loud)]),
        "heard_with": heard_with,
    }


def _scenes(categories: Collection[str], cast: Cast, most: int, seed: int) -> dict[str, list[Scene]]:
    """For each category the first scenes of SoundingPhotos' s4 in which it sounds."""
    recipe, found = Recipe("s4", {}, 0, seed, cast=cast.name), {category: [] for category in categories}
    for index in count():
        if all(len(of_category) == most for of_category in found.values()):
            return found
        scene = draw_scene(recipe, cast, "test", index)
        category = cast.categories[cast.things[scene.things[0]].category]  # the first thing is what sounds
        if category in found and len(found[category]) < most:
            found[category].append(scene)


def _crosswise(
    model: AVSModel, cast: Cast, still: Pictures, sound: Tensor, scenes: Sequence[Scene], size: int
) -> dict:
    """Scores of the combinations with something from SoundingPhotos."""
    clips = {name: [] for name in CROSSWISE[:3]}
    for number, scene in enumerate(scenes):
        name, pictures, own = f"scene {number}", pictures_of(scene, cast, size), sound_of(scene, cast)
        clips["both known"].append(clip(model, name, pictures, own))
        clips["new to the eye"].append(clip(model, name, still, own))
        clips["new to the ear"].append(clip(model, name, pictures, sound))
    return {name: scores(model, of_cell) for name, of_cell in clips.items()}

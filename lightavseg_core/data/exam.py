"""The exam: nine photographs of farm animals with a recording of each, from GCompris. They show other
individuals than SoundingPhotos, in other recordings, before real backgrounds.

The workbook ships none of them: exam.json lists the files, with SHA-256 and credits, and `fetching` downloads
them. Every animal of the kind is in the ground truth, distant ones too. They were outlined twice,
point by point, before any model had seen the pictures, and each time from the bare picture: the first drawing
is the ground truth, the second shows how far two drawings agree.
"""
from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from .._common.ranges import SIDE, within
from . import sources
from .cast import RATE
from .decoding import read_audio
from .images import read_frame, resized
from .layout import clip_of, spec_of
from .sources import Collection, Source
from .writing import new_subset, stands, write_picture, write_sound, write_table

RECIPE = "exam_recipe.json"
LONGEST = 5  # seconds of a recording, as a clip of AVSBench has


class Question(NamedTuple):
    """An animal of the exam. category: its name in SoundingPhotos, None if it is not there. credit: of the
    picture."""

    name: str
    category: str | None
    picture: Path
    sound: Path
    credit: str


@cache
def manifest() -> dict:
    """The content of exam.json: animals (name, category, picture and sound with their SHA-256), and
    credits."""
    return json.loads((files(__package__) / "exam.json").read_text(encoding="utf-8"))


def collection() -> Collection:
    """All files that are used, and their sources."""
    named, found = manifest(), []
    for animal in named["animals"]:
        for one in (animal["picture"], animal["sound"]):
            found.append(Source(f"{named['folder']}/{one['file']}", one["file"], one["sha256"]))
    resource = named["resource"]
    otherwise = f"{resource}, or a folder that holds it, of an installed GCompris"
    exam = Collection(sources.cache("exam"), (named["package"],), found, otherwise, bool, resource)
    return exam._replace(is_enough=lambda: not exam.missing())


def questions() -> list[Question]:
    """All nine. Raises FileNotFoundError, with the command to run, if files are missing."""
    exam, found = collection(), []
    if missing := exam.missing():
        raise FileNotFoundError(
            f"{exam.folder}: {len(missing)} of the exam's {len(exam.sources)} files are missing. "
            "Run `lightavseg data fetch exam`; its --help tells where they come from."
        )
    for animal in manifest()["animals"]:
        of_animal = (exam.folder / animal[part]["file"] for part in ("picture", "sound"))
        credit = f"{animal['picture']['credit']}, {animal['picture']['licence']}"
        found.append(Question(animal["name"], animal["category"], *of_animal, credit))
    return found


# --- what is true ---


@cache
def drawing(which: str) -> dict[str, dict]:
    """The first or the second drawing: name -> size, [width, height], and objects, each with an outline and
    holes, polygons [[x, y], ...] in the picture's pixels."""
    return json.loads((files(__package__) / f"exam_{which}.json").read_text(encoding="utf-8"))


def outlined(name: str, which: str = "first") -> np.ndarray:
    """(H, W) bool: every animal of the kind, at the size of the stored picture."""
    size = tuple(drawing(which)[name]["size"])
    mask = np.zeros(size[::-1], bool)
    for one in drawing(which)[name]["objects"]:
        image = Image.new("1", size)
        pen = ImageDraw.Draw(image)
        pen.polygon([tuple(point) for point in one["outline"]], fill=1)
        for hole in one["holes"]:
            pen.polygon([tuple(point) for point in hole], fill=0)
        mask |= np.asarray(image)
    return mask


def agreement(name: str) -> float:
    """IoU of the two drawings of a picture."""
    first, second = outlined(name, "first"), outlined(name, "second")
    return float((first & second).sum() / (first | second).sum())


# --- what is seen and heard ---


def still(question: Question, size: int) -> tuple[Tensor, Tensor]:
    """The whole picture, whatever its shape, as (3, size, size) uint8, as `predict` shows it to a model; and
    the ground truth (size, size) uint8, 0 or 1."""
    picture = resized(read_frame(question.picture)[None], (size, size))[0].byte()
    mask = torch.from_numpy(outlined(question.name)).to(torch.uint8)
    return picture, F.interpolate(mask[None, None], (size, size), mode="nearest-exact")[0, 0]


def heard(question: Question) -> Tensor:
    """The recording, (T x RATE,) float32 in [-1, 1] at RATE, rounded to whole seconds, at least one, so that
    each frame hears at least half a second of a longer one; at most LONGEST."""
    samples = read_audio(question.sound, RATE)
    length = RATE * min(max(round(len(samples) / RATE), 1), LONGEST)
    samples = F.pad(samples, (0, max(0, length - len(samples))))[:length]
    return samples / samples.abs().max().clamp_min(1)


def write(root: str | Path, subset: str = "ms3", size: int = 128) -> Path:
    """Writes the exam as test clips in AVSBench's layout, s4's or ms3's, under root; returns root.

    A still is held as long as its recording sounds: a clip has 1 to 5 frames, like an AVSBench clip whose
    video ends early. More frames would be silent, which the other conditions test. size: side of the frames,
    pixels. The same arguments again change nothing; otherwise as in `sounding_shapes.generate`. Raises
    FileNotFoundError, with the command to run, if the exam is not downloaded.
    """
    root, spec = Path(root), spec_of(subset)
    if subset == "avss":
        raise ValueError("the exam's masks are binary, but avss needs classes. Give s4 or ms3.")
    within(*SIDE, size=size)
    asked = questions()
    truth = hashlib.sha256(json.dumps(drawing("first")).encode()).hexdigest()
    recipe = json.dumps({"exam": truth, "size": size})
    if stands(root, subset, RECIPE, lambda: (root / spec.folder / RECIPE).read_text() == recipe):
        return root
    with new_subset(root, subset, RECIPE) as folder:
        rows = []
        for question in asked:
            row = {"name": question.name, "start": 0, "category": question.name, "split": "test"}
            clip, sound = clip_of(folder, subset, row), heard(question)
            picture, mask = still(question, size)
            for t in range(len(sound) // RATE):
                write_picture(clip.frames[t], picture.permute(1, 2, 0).numpy())
                write_picture(clip.masks[t], 255 * mask.numpy())
            write_sound(clip.audio, sound.numpy(), RATE)
            rows.append(tuple(row[column] for column in spec.columns))
        write_table(folder / spec.csv, spec.columns, rows)
        (folder / RECIPE).write_text(recipe)
    return root

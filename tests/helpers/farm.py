"""A small exam of our own, drawn and synthesised: two animals, of which the casts here know one."""

import hashlib

import numpy as np
from helpers.casts import call
from helpers.resources import resource
from PIL import Image, ImageDraw

from lightavseg_core.data import exam

RESOURCE, FOLDER = "farm.rcc", "farm/resource/animals"
SECONDS = {"cat": 2.1, "yak": 0.3}  # between two quarters of a second of silence: clips of 3 and 1 frames
# A triangle with a hole, and a square; in pixels of 80 x 60.
CAT = {"outline": [[10, 50], [40, 50], [25, 10]], "holes": [[[22, 40], [28, 40], [25, 32]]]}
SQUARE = {"outline": [[40, 20], [59, 20], [59, 39], [40, 39]], "holes": []}
DRAWN = {"cat": {"size": [80, 60], "objects": [CAT, SQUARE]}, "yak": {"size": [60, 60], "objects": [SQUARE]}}


def drawn_here(folder, monkeypatch):
    """The exam's files by their paths in the resource file, and a manifest that names them. None is kept
    yet."""
    (folder / "made").mkdir()
    paths, animals = {}, []
    for number, (name, drawn) in enumerate(DRAWN.items()):
        image = Image.new("RGB", tuple(drawn["size"]), (40 * number, 90, 60))
        for one in drawn["objects"]:
            outline = [tuple(point) for point in one["outline"]]
            ImageDraw.Draw(image).polygon(outline, (230, 200, 40 + 80 * number))
        image.save(folder / "made" / "picture.png")
        call(folder / "made" / "sound.wav", 300 * (1 + number), SECONDS[name])
        animal = {"name": name, "category": "cat" if name == "cat" else None}
        for part, ending, made in (("picture", "webp", "picture.png"), ("sound", "ogg", "sound.wav")):
            file = f"{name}.{ending}"
            content = (folder / "made" / made).read_bytes()  # nobody asks the name what a file is
            paths[f"gcompris/{FOLDER}/{file}"] = content
            of_us = {"credit": "us", "licence": "CC0-1.0", "source": "here"}
            animal[part] = {"file": file, "sha256": hashlib.sha256(content).hexdigest(), **of_us}
        animals.append(animal)
    named = {"package": "farm-data", "resource": RESOURCE, "folder": FOLDER, "animals": animals}
    monkeypatch.setattr(exam, "manifest", lambda: named)
    monkeypatch.setattr(exam, "drawing", lambda which: DRAWN)
    monkeypatch.setattr(exam.sources, "cache", lambda name: folder / "cache" / name)
    return paths


def kept_here(folder, monkeypatch):
    """The same, and fetched."""
    paths = drawn_here(folder, monkeypatch)
    kept = folder / "cache" / "exam"
    kept.mkdir(parents=True)
    for path, content in paths.items():
        (kept / path.rpartition("/")[2]).write_bytes(content)
    return exam.questions()


def inside(polygon, x, y):
    """Whether the middle of a pixel lies in a polygon, by the angles that its sides make."""
    corners = np.array(polygon, float) - (x, y)
    turns = np.angle(np.roll(corners @ (1, 1j), -1) / (corners @ (1, 1j)))
    return abs(turns.sum()) > np.pi


def resource_file(folder, paths, **options):
    path = folder / RESOURCE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(resource(paths, **options))
    return path

"""A small cast of cut-outs, drawn and synthesised here, and the real photographs, SoundingPhotos' and the
exam's, where they can be had."""

import functools
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lightavseg_core.data import exam, photos
from lightavseg_core.data.fetching import fetch
from lightavseg_core.data.writing import wav

INSTALLED = {photos: Path("/usr/share/tuxpaint"), exam: Path("/usr/share/gcompris-qt/rcc")}


def cutout(path, sides, turn=0, size=60):
    """A polygon with a soft edge, on nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGBA", (4 * size, 4 * size))
    colour = tuple(int(value) for value in np.random.default_rng(sides).integers(60, 220, 3))
    ImageDraw.Draw(image).regular_polygon((2 * size, 2 * size, 1.8 * size), sides, turn, (*colour, 255))
    image.resize((size, size)).save(path)


def call(path, hertz, seconds=0.7, rate=16_000):
    """A tone that swells, between two silences."""
    time = np.arange(int(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * hertz * time) * np.sin(np.pi * time / seconds)
    silence = np.zeros(rate // 4)
    path.write_bytes(wav(0.5 * np.concatenate([silence, tone, silence]), rate))


def folder_cast(folder):
    """Six categories; of the first there are two pictures with two recordings."""
    for k, name in enumerate(("ant", "bee", "cat", "dog", "eel", "fox")):
        where = folder / name if name == "ant" else folder
        cutout(where / f"{name}.png", k + 3)
        call(where / f"{name}.wav", 200 * 1.5**k)
    cutout(folder / "ant" / "other.png", 3, turn=40)
    call(folder / "ant" / "other.wav", 260, 0.4)
    (folder / "backgrounds").mkdir(parents=True)
    ramp = np.linspace(0, 255, 200 * 160 * 3).reshape(160, 200, 3).astype(np.uint8)
    Image.fromarray(ramp).save(folder / "backgrounds" / "ramp.jpg")
    return folder


def fetch_installed():
    for module, installed in INSTALLED.items():
        if installed.is_dir():
            fetch(module.collection(), installed)


def real(module, make):
    """Skips without the photographs, and fails where continuous integration has not installed them."""
    try:
        collection, installed = module.collection(), INSTALLED[module]
        fetch(collection, installed if installed.is_dir() else collection.folder)
        return make()
    except FileNotFoundError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"photographs are missing: {error}")


@functools.cache
def photographs():
    """SoundingPhotos' cast."""
    from lightavseg_core.data.casting import cast_named

    return real(photos, lambda: cast_named("photos"))


@functools.cache
def exam_questions():
    """The exam's photographs and recordings."""
    return real(exam, exam.questions)

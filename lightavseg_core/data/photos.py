"""SoundingPhotos' cast: photographs of animals, instruments and things, cut out, with recordings of their
sounds, from two packages of Tux Paint.

Nothing of them comes with the workbook: photos.json names the files that are used, by their SHA-256, with
credits; `fetching` gets them. Chosen before anything was trained: photographs that are not thin, with a
recording of their own of a third of a second and more; what is silent, drawn or shares a recording is not
there, nor what is not offered under the GPL. Of a category with several individuals the last is unseen.
"""
from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_cache_path

from .._common.files import sha256
from .cutouts import BACKGROUNDS, Cutout, Cutouts

FEWEST = 36  # categories: another release may have changed some


class Source(NamedTuple):
    """A file of a package. package: its name; path: within the folder that it has there, `stamps` or
    `templates`."""

    package: str
    path: str
    sha256: str


@cache
def manifest() -> dict:
    """What photos.json says: things (category, stem, credit, SHA-256 of picture and sound), backgrounds."""
    return json.loads((files(__package__) / "photos.json").read_text(encoding="utf-8"))


def sources() -> list[Source]:
    """Every file that is used."""
    named = manifest()
    stamps, templates = named["packages"]
    found = []
    for thing in named["things"]:
        found.append(Source(stamps, thing["stem"] + ".png", thing["picture"]))
        found.append(Source(stamps, thing["stem"] + ".ogg", thing["sound"]))
    return found + [Source(templates, one["file"], one["sha256"]) for one in named["backgrounds"]]


def photos_folder() -> Path:
    """Where they are kept on this machine, whether they are there or not."""
    return user_cache_path("lightavseg-workbook") / "photos"


def kept_at(folder: Path, source: Source) -> Path:
    """Where a file lies in the folder that `fetching` fills."""
    stamps, _ = manifest()["packages"]
    return folder / ("stamps" if source.package == stamps else BACKGROUNDS) / source.path


def photos(folder: Path) -> Cutouts:
    """The cast of what is in a folder. Files with other contents than the manifest's are left out.

    Raises FileNotFoundError, with what to type, where fewer than FEWEST categories are there.
    """
    cutouts, backgrounds = _kept(folder)
    seen = {cutout.category for cutout in cutouts if not cutout.unseen}
    if len(seen) < FEWEST:
        found = f"photographs of {len(seen)} categories" if seen else "no photographs"
        raise FileNotFoundError(
            f"{folder}: {found}; at least {FEWEST} are needed. `lightavseg data fetch photos` fetches them, "
            "and says with --help from where."
        )
    return Cutouts("photos", cutouts, backgrounds)


def is_enough(folder: Path) -> bool:
    """Whether `photos` would do with what is in a folder."""
    with suppress(FileNotFoundError):
        return bool(photos(folder))
    return False


def _kept(folder: Path) -> tuple[list[Cutout], list[Path]]:
    """Cut-outs and backgrounds in a folder, as the manifest names them."""
    there = {source.path: path for source in sources() if is_right(path := kept_at(folder, source), source)}
    cutouts = []
    for thing in manifest()["things"]:
        picture, sound = (there.get(thing["stem"] + ending) for ending in (".png", ".ogg"))
        if picture and sound:
            individual, unseen = thing["stem"].rpartition("/")[2], thing.get("unseen", False)
            credit = f"{thing['credit']}, {manifest()['licence']}"
            cutouts.append(Cutout(thing["category"], individual, picture, (sound,), unseen, credit))
    return cutouts, [path for path in there.values() if path.parent.name == BACKGROUNDS]


def is_right(path: Path, source: Source) -> bool:
    """Whether a file is there, with the contents that the manifest names."""
    return path.is_file() and sha256(path) == source.sha256

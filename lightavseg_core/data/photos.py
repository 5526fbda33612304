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

from . import sources
from .cutouts import BACKGROUNDS, Cutout, Cutouts
from .sources import Collection, Source

FEWEST = 36  # categories: another release may have changed some
STAMPS = "stamps"


@cache
def manifest() -> dict:
    """What photos.json says: things (category, stem, credit, SHA-256 of picture and sound), backgrounds."""
    return json.loads((files(__package__) / "photos.json").read_text(encoding="utf-8"))


def collection() -> Collection:
    """All that is used, and where it is from."""
    named, found = manifest(), []
    for thing in named["things"]:
        for ending, part in ((".png", "picture"), (".ogg", "sound")):
            path = f"{STAMPS}/{thing['stem']}{ending}"
            found.append(Source(path, path, thing[part]))
    for one in named["backgrounds"]:
        found.append(Source(f"templates/{one['file']}", f"{BACKGROUNDS}/{one['file']}", one["sha256"]))
    folder, otherwise = photos_folder(), "the folder of an installed Tux Paint that holds `stamps`"
    return Collection(folder, tuple(named["packages"]), found, otherwise, lambda: is_enough(folder))


def photos_folder() -> Path:
    """Where they are kept on this machine, whether they are there or not."""
    return sources.cache("photos")


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
    known = collection()._replace(folder=folder)
    there = {source.kept for source in known.sources} - {source.kept for source in known.missing()}
    cutouts = []
    for thing in manifest()["things"]:
        picture, sound = (f"{STAMPS}/{thing['stem']}{ending}" for ending in (".png", ".ogg"))
        if {picture, sound} <= there:
            individual, unseen = thing["stem"].rpartition("/")[2], thing.get("unseen", False)
            credit = f"{thing['credit']}, {manifest()['licence']}"
            of_thing = folder / picture, (folder / sound,)
            cutouts.append(Cutout(thing["category"], individual, *of_thing, unseen, credit))
    kept = (f"{BACKGROUNDS}/{one['file']}" for one in manifest()["backgrounds"])
    return cutouts, [folder / path for path in kept if path in there]

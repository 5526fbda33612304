"""SoundingPhotos' cast: cut-out photographs of animals, instruments and things with recordings of their
sounds, from two packages of Tux Paint.

The workbook ships none of them: photos.json lists the files that are used, with SHA-256 and credits, and
`fetching` downloads them. They were chosen before any training: photographs of things that are not thin, each
with its own recording of at least a third of a second. Left out are things that are silent, drawn, share a
recording, or are not under the GPL. In a category with several individuals, the last one is unseen.
"""
from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path

from . import sources
from .cutouts import BACKGROUNDS, USUAL, Cutout, Cutouts, Variation
from .sources import Collection, Source

FEWEST = 36  # categories: another release may have changed some
STAMPS = "stamps"
HEARD = {"semitones": 5, "rooms": 0.9, "decay": (0.1, 1.2), "echo": (-15, 0), "hiss": (-30, -3)}
SHOWN = {"clouds": 0, "light": 0.8, "colour": (0.2, 1.6), "contrast": (0.6, 1.4), "stretch": 0.5}
# SoundingPhotos as it is; and to train on, to see what helps with individuals that a model does not know:
# sounds, pictures or both vary more. The ranges were chosen before the first trial.
VARIATIONS = {
    "photos": USUAL,
    "photos_heard": Variation(**HEARD),
    "photos_shown": Variation(**SHOWN),
    "photos_varied": Variation(**HEARD, **SHOWN),
}


@cache
def manifest() -> dict:
    """photos.json: things (category, stem, credit, SHA-256 of picture and sound), the ear twin, and
    backgrounds."""
    return json.loads((files(__package__) / "photos.json").read_text(encoding="utf-8"))


def collection() -> Collection:
    """All files that are used, and their sources."""
    named, found = manifest(), []
    for thing in named["things"]:
        for ending, part in ((".png", "picture"), (".ogg", "sound")):
            path = f"{STAMPS}/{thing['stem']}{ending}"
            found.append(Source(path, path, thing[part]))
    twin = f"{STAMPS}/{named['ear twin']['stem']}.png"
    found.append(Source(twin, twin, named["ear twin"]["picture"]))
    for one in named["backgrounds"]:
        found.append(Source(f"templates/{one['file']}", f"{BACKGROUNDS}/{one['file']}", one["sha256"]))
    folder, otherwise = photos_folder(), "the folder of an installed Tux Paint that holds `stamps`"
    return Collection(folder, tuple(named["packages"]), found, otherwise, lambda: is_enough(folder))


def photos_folder() -> Path:
    """The folder for them on this machine, whether it exists or not."""
    return sources.cache("photos")


def photos(folder: Path, name: str = "photos") -> Cutouts:
    """The cast from the files in a folder. Files whose content is not the manifest's are left out. name: one
    of VARIATIONS.

    Raises FileNotFoundError, with the command to run, if there are fewer than FEWEST categories.
    """
    cutouts, backgrounds = _kept(folder)
    seen = {cutout.category for cutout in cutouts if not cutout.unseen}
    cutouts = [cutout for cutout in cutouts if cutout.category in seen]  # of others no model knows anything
    if len(seen) < FEWEST:
        found = f"photographs of {len(seen)} categories" if seen else "no photographs"
        raise FileNotFoundError(
            f"{folder}: {found}; at least {FEWEST} are needed. Run `lightavseg data fetch photos`; its "
            "--help tells where they come from."
        )
    return Cutouts(name, cutouts, backgrounds, VARIATIONS[name])


def ear_twins(folder: Path) -> tuple[Cutout, Cutout]:
    """The goat of the cast, and a ram with the goat's bleat, as Tux Paint has it: no ear can tell them apart.
    The ram is in no cast. Raises FileNotFoundError, with the command to run, if a file is missing."""
    goat = next((cutout for cutout in _kept(folder)[0] if cutout.category == "goat"), None)
    twin = manifest()["ear twin"]
    picture = folder / STAMPS / f"{twin['stem']}.png"
    if goat is None or not picture.is_file():
        advice = "Remove this folder, then run `lightavseg data fetch photos`."
        raise FileNotFoundError(f"{folder}: the goat or the ram is missing. {advice}")
    credit = f"{twin['credit']}, {manifest()['licence']}"
    return goat, Cutout(twin["category"], twin["category"], picture, goat.sounds, credit=credit)


def is_enough(folder: Path) -> bool:
    """Whether a folder holds enough for `photos`."""
    with suppress(FileNotFoundError):
        return bool(photos(folder))
    return False


def _kept(folder: Path) -> tuple[list[Cutout], list[Path]]:
    """The cut-outs and backgrounds of the manifest that are in a folder."""
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

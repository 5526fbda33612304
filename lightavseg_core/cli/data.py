"""Datasets: `lightavseg data make`, `data fetch`, `data sample` and `data check`."""
from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from ..config import Subset
from ..data.cast import Individuals


@dataclass
class DataMake:
    """Generate SoundingShapes or SoundingPhotos in AVSBench's layout, or write the exam.

    Example: lightavseg data make data/shapes --subset ms3 --size 128 --seed 0
    """

    root: Annotated[Path, tyro.conf.Positional]
    """Folder to write into."""
    subset: Subset = "ms3"
    train: int = 1600
    """Training clips; --val and --test: clips of these splits."""
    val: int = 80
    test: int = 80
    size: int = 128
    """Side of the frames, pixels."""
    seed: int = 0
    distractors: bool = True
    """Without distractors, the only visible object sounds, so a model can ignore the sound."""
    twins: bool = False
    """Two objects of one category, only one of which sounds."""
    offscreen: bool = False
    """Something that is out of view sounds too."""
    cast: str = "shapes"
    """shapes, photos (`data fetch photos`), or a folder of pictures with transparency and sounds: dog.png and
    dog.wav, or a folder dog with several of them. exam (`data fetch exam`): nine test clips, for which only
    --subset and --size can be set."""
    individuals: Individuals = "seen"
    """In a category with several individuals: seen, those that models are trained on; unseen, the others;
    siblings, the seen ones of only those categories that have unseen ones."""

    def run(self) -> int:
        if self.cast == "exam":
            return self._write_exam()
        from ..data.sounding_shapes import generate

        clips = {"train": self.train, "val": self.val, "test": self.test}
        scene = {name: getattr(self, name) for name in ("distractors", "twins", "offscreen")}
        generate(
            self.root, self.subset, clips, self.size, self.seed, **scene, cast=self.cast,
            individuals=self.individuals,
        )
        counts = ", ".join(f"{count} {split}" for split, count in clips.items())
        print(f"{self.root}: {self.subset}, {counts} clips of {self.size} px, seed {self.seed}")
        return 0

    def _write_exam(self) -> int:
        """Raises ValueError for options that nine fixed clips do not have."""
        from ..data import exam

        changed = (field.name for field in fields(self) if getattr(self, field.name) != field.default)
        if given := sorted({*changed} - {"root", "subset", "size", "cast"}):
            raise ValueError(f"the exam has nine fixed clips. Leave out --{' and --'.join(given)}.")
        exam.write(self.root, self.subset, self.size)
        print(f"{self.root}: {self.subset}, the exam's 9 test clips of {self.size} px")
        return 0


@dataclass
class DataFetch:
    """Get photographs and recordings: for SoundingPhotos about 5 MB from two packages of Tux Paint
    (GPL-2.0-or-later), for the exam 0.8 MB from one of GCompris (pictures public domain or CC0, recordings
    GPL-3.0-only).

    On Debian and Ubuntu, apt downloads them without root; elsewhere use --from. Only files whose SHA-256 the
    workbook knows are kept, in the user's cache.

    Example: lightavseg data fetch photos
    """

    what: Annotated[Literal["photos", "exam"], tyro.conf.Positional]
    where: Annotated[Path | None, tyro.conf.arg(name="from", metavar="FOLDER_OR_FILE")] = None
    """A .deb, or a folder of them; for photos, the folder of an installed Tux Paint that holds `stamps`; for
    the exam, explore_farm_animals.rcc, or the folder of an installed GCompris that holds it."""

    def run(self) -> int:
        from ..data import exam, photos
        from ..data.fetching import fetch

        collection = {"photos": photos, "exam": exam}[self.what].collection()
        folder, left_out = fetch(collection, self.where)
        for path in left_out:
            print(f"lightavseg: {path}: missing or from another release; left out", file=sys.stderr)
        if self.what == "exam":
            exam.questions()  # or an error that says what is missing
        else:
            photos.photos(folder)
        use = f"`lightavseg data make ROOT --cast {self.what}` uses them"
        print(f"{folder}: photographs and recordings; {use}")
        return 0


@dataclass
class DataSample:
    """Make a film of ten seconds to try a model on: the things of a cast move and sound now and then.

    Example: lightavseg data sample runs/shapes.mp4 --cast shapes --seed 3
    """

    path: Annotated[Path, tyro.conf.Positional]
    """The MP4 to write."""
    cast: str = "photos"
    """photos (`data fetch photos`), shapes, or a folder, as in `data make`."""
    seed: int = 0

    def run(self) -> int:
        from ..video.sample import write_sample

        write_sample(self.path, self.cast, self.seed)
        print(f"{self.path}: ten seconds, cast {self.cast}, seed {self.seed}")
        return 0


@dataclass
class DataCheck:
    """Read every file of a dataset, real or generated, and list all that is missing or broken.

    Exit code: 0 if nothing is wrong, 1 if something is, 2 if there is no such dataset.

    Example: lightavseg data check path/to/AVSBench
    """

    root: Annotated[Path, tyro.conf.Positional]
    """The folder that holds Single-source, Multi-sources or metadata.csv, or one above or below it."""
    subset: Subset | None = None
    """By default all subsets that are found."""
    json: bool = False
    """Print the report as JSON: of the given --subset, or of all of them under `subsets`."""

    def run(self) -> int:
        from ..data.check import SUBSETS, check_all

        reports = check_all(self.root, [self.subset] if self.subset else SUBSETS)
        if self.json:
            found = {part["subset"]: part for part in (report.as_json() for report in reports)}
            shown = found[self.subset] if self.subset else {"root": str(self.root), "subsets": found}
            print(json.dumps(shown, indent=1))
        else:
            print("\n\n".join("\n".join(report.lines()) for report in reports))
        return 0 if all(report.ok for report in reports) else 1


@dataclass
class Data:
    """Make or check a dataset folder, make a film, or fetch the photographs for them."""

    WHAT: ClassVar = ("make", "fetch", "sample", "check")
    command: (
        Annotated[DataMake, tyro.conf.subcommand("make")]
        | Annotated[DataFetch, tyro.conf.subcommand("fetch")]
        | Annotated[DataSample, tyro.conf.subcommand("sample")]
        | Annotated[DataCheck, tyro.conf.subcommand("check")]
    )

    def run(self) -> int:
        return self.command.run()

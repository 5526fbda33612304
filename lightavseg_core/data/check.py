"""`lightavseg data check`: everything that is wrong with a dataset folder, in one report, and how to fix
it."""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import av
from tqdm.auto import tqdm

from .._common.lookalikes import on_disk
from .._common.names import printable
from .decoding import read_track
from .images import frame_size, open_upright
from .layout import (
    SPLITS,
    SUBSETS,
    Clip,
    as_stored,
    described,
    is_generated,
    nothing_found,
    places,
    read_clips,
    read_events,
    read_labels,
    subset_folder,
)
from .masks import mask_of, same_shape

ADVICE = {
    "table": "correct it, or copy it again from the download",
    "line": "correct or remove the line",
    "empty": "copy it again from the download",
    "missing": "copy it again from the download",
    "disk": "the system could not read it: check the disk and the file's permissions, then check again",
    "broken": "it is damaged: copy it again from the download",
    "sound": "copy it again; if it has no sound there either, remove its line from the metadata",
    "size": "give the clip's frames one size, and its masks the same shape",
    "range": "save it with 8 bits, or with 16 bits where 65,535 is white",
    "class": "check label2idx.json, or copy the mask again",
    "copies": "give the folder of one of them",
}
# Reported sizes, with their sources in docs/avsbench.md: clips of S4 and MS3 by split, of AVSS by kind (of
# its splits two counts circulate).
PUBLISHED = {
    "s4": {"train": 3452, "val": 740, "test": 740},
    "ms3": {"train": 296, "val": 64, "test": 64},
    "avss": {"v1s": 4932, "v1m": 424, "v2": 6000},
}
PUBLISHED_CATEGORIES = {"s4": 23, "avss": 70}


def several(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _first(names: list[str]) -> str:
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)


class Problem(NamedTuple):
    clip: str  # or the line of the metadata
    kind: str  # a key of ADVICE
    part: str  # frame, mask, sound or metadata
    found: str


@dataclass
class Report:
    """What the check of one subset found."""

    subset: str
    folder: Path
    clips: dict[str, int] = field(default_factory=dict)  # by split
    kinds: dict[str, int] = field(default_factory=dict)  # AVSS: v1s, v1m, v2
    categories: dict[str, int] = field(default_factory=dict)  # S4: clips of each
    files: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def summary(self) -> dict[str, Counter]:
        """Problems by kind, and within each kind by part."""
        found: dict[str, Counter] = {}
        for problem in self.problems:
            found.setdefault(problem.kind, Counter())[problem.part] += 1
        return dict(sorted(found.items(), key=lambda item: -item[1].total()))

    def as_json(self) -> dict:
        found = {**vars(self), "folder": str(self.folder), "summary": self.summary()}
        del found["problems"]
        problems = [{**problem._asdict(), "to_do": ADVICE[problem.kind]} for problem in self.problems]
        return {**found, "problems": problems}

    def lines(self) -> list[str]:
        """The report for a reader: a summary by kind, then every problem, by kind and clip."""
        counts = ", ".join(f"{n:,} {name}" for name, n in self.clips.items())
        counts = f"{counts} clips; {several(self.files, 'file')} read"
        if not self.clips:
            counts = "clips unknown, no file read"
        text = [f"{self.subset} in {self.folder}: {counts}", *(f"note: {note}" for note in self.notes)]
        if self.ok:
            return [*text, f"{self.subset}: all files are there and readable"]
        rows = [("problem", "number", "of these", "to do")]
        for kind, parts in self.summary().items():
            these = ", ".join(f"{n:,} {part}" for part, n in parts.most_common())
            rows.append((kind, f"{parts.total():,}", these, ADVICE[kind]))
        kinds, numbers, these = (max(map(len, column)) for column in list(zip(*rows))[:3])
        text.append("")
        text += [f"{a:<{kinds}}  {b:>{numbers}}  {c:<{these}}  {to_do}" for a, b, c, to_do in rows]
        for kind in self.summary():
            text += ["", f"{kind}:"]
            of_kind = [problem for problem in self.problems if problem.kind == kind]
            for clip, problems in groupby(of_kind, key=lambda problem: problem.clip):
                text.append(f"  {clip}")
                text += [f"    {p.part}: {p.found.removeprefix(f'{self.folder}/')}" for p in problems]
        number = several(len(self.problems), "problem")
        return [*text, "", f"{self.subset}: {number}; paths are under {self.folder}"]


@dataclass
class _Found:
    """What was found while reading one clip."""

    read: int = 0
    problems: list[Problem] = field(default_factory=list)
    turned: list[tuple[str, Path]] = field(default_factory=list)  # by their EXIF notes: part, file
    short: bool = False  # the sound, shorter than the clip
    links: set[Path] = field(default_factory=set)


def _as_meant(clip: Clip) -> Clip:
    """The clip as it is stored, if its masks and its sound end with its last frame: nothing is missing there.
    Otherwise the clip with all frames."""
    stored = as_stored(clip)
    beyond = clip.masks[len(stored.frames) :]
    if beyond and not any(path and os.path.lexists(on_disk(path)) for path in beyond):
        with suppress(ValueError, OSError):  # which the check then finds
            rate, samples = read_track(clip.audio)
            if len(samples) / rate < len(stored.frames) + 0.5:
                return stored
    return clip


def _check_clip(clip: Clip, subset: str, classes: int, home: Path) -> _Found:
    """Every file is decoded once."""
    found, clip = _Found(), _as_meant(clip)
    length = len(as_stored(clip).frames)

    def problem(kind: str, part: str, said: str) -> None:
        found.problems.append(Problem(clip.name, kind, part, said))

    def use(part: str, path: Path, reader: Callable, more: str = ""):
        """What a reader returns; None if it cannot read the file."""
        try:
            result = reader(path)
        except (ValueError, OSError) as error:
            kind = "missing" if isinstance(error, FileNotFoundError) else _kind(error, "broken")
            problem(kind, part, str(error).rstrip(".") + more)
            return None
        found.read += 1
        return result

    def look(part: str, path: Path, reader: Callable, more: str = "") -> tuple[int, int] | None:
        """A picture's size."""
        size, orientation = use(part, path, reader, more) or (None, 1)
        if orientation > 1:
            found.turned.append((part, path))
        return size

    def mask_size(path: Path) -> tuple[tuple[int, int], int]:
        image, orientation = open_upright(path)
        mask_of(image, path, subset, classes)
        return image.size, orientation

    sizes = []
    for index, path in enumerate(clip.frames):
        more = f"; the clip is read with {length} frames" if index >= length else ""
        sizes.append(look("frame", path, frame_size, more))
    if len(different := {size for size in sizes if size}) > 1:
        problem("size", "frame", f"{clip.frames[0].parent}: frames differ in size: {sorted(different)}")
    for path, size in zip(clip.masks, sizes, strict=True):
        mask = path and look("mask", path, mask_size)
        if mask and size and not same_shape(mask, size):
            said = f"{path}: is {mask[0]} x {mask[1]} pixels, but its frame is {size[0]} x {size[1]}"
            problem("size", "mask", said)
    if track := use("sound", clip.audio, read_track):
        rate, samples = track
        found.short = len(samples) / rate < len(clip.frames) - 0.025
    files = [*clip.frames, *filter(None, clip.masks), clip.audio]
    found.links = _links([on_disk(path) for path in files], home)
    return found


def _kind(error: Exception, other: str) -> str:
    """The kind of a problem: "disk" where the system refused to read, so the file may be fine."""
    for why in (error, error.__context__):
        if isinstance(why, OSError) and why.errno and not isinstance(why, av.FFmpegError):
            return "disk"
    return getattr(error, "kind", other)


def _links(files: list[Path], home: Path) -> set[Path]:
    """The links among these files and the folders between them and home."""
    steps: set[Path] = set()
    for path in files:
        while path != home and path not in steps:
            steps.add(path)
            path = path.parent
    return {step for step in steps if step.is_symlink()}


def _compared(report: Report, labels: int | None) -> list[str]:
    """The counts beside the published ones, as notes: a partial copy is not an error."""
    if is_generated(report.folder):
        return ["generated (it has an events.csv), so its size is not compared with the published one"]
    counts, published = report.kinds or report.clips, PUBLISHED[report.subset]
    notes = []
    for name, number in published.items():
        if less := number - counts[name]:
            less = f"{abs(less):,} {'fewer' if less > 0 else 'more'}"
            notes.append(f"{name} has {several(counts[name], 'clip')}, {less} than the published {number:,}")
    categories = labels - 1 if labels else len(report.categories)
    expected = PUBLISHED_CATEGORIES.get(report.subset, categories)
    if categories != expected:
        notes.append(f"categories: {categories}; published: {expected}")
    if notes:
        return notes
    return ["as many clips as published: " + ", ".join(f"{n:,} {name}" for name, n in published.items())]


def _of_turned(turned: list[tuple[str, Path]], folder: Path) -> Iterator[str]:
    for part in ("frame", "mask"):
        names = [printable(path.relative_to(folder)) for which, path in turned if which == part]
        if names:
            carry, are = ("carries", "it is") if len(names) == 1 else ("carry", "they are")
            number = several(len(names), part)
            yield f"{number} {carry} an EXIF rotation; {are} turned upright when read: {_first(names)}"


def _of_links(links: set[Path], home: Path, most: int = 10) -> Iterator[str]:
    """Links that lead out of home, those nearest to it first; home itself may be reached through a link."""
    top = os.path.realpath(home)
    leads_to = {link: Path(os.path.realpath(link)) for link in links}
    out = [link for link, target in leads_to.items() if not target.is_relative_to(top)]
    out.sort(key=lambda link: (len(link.parts), link))
    for link in out[:most]:
        nothing = "" if link.exists() else ", which does not exist"
        yield f"{printable(link)} is a link out of the dataset, to {printable(leads_to[link])}{nothing}"
    if len(out) > most:
        yield f"and {several(len(out) - most, 'more link')} out of the dataset"


def check(root: str | Path, subset: str, workers: int = 2) -> Report:
    """Reads every file of a subset and reports all that is missing or broken; changes nothing.

    Raises FileNotFoundError or ValueError if there is no such dataset (no metadata, missing columns, unknown
    subset).
    """
    refused: list[tuple[str, str]] = []
    clips = read_clips(root, subset, refused=refused)
    labels = len(read_labels(root)) if subset == "avss" else None
    report = Report(subset, subset_folder(root, subset))
    report.clips = {split: sum(clip.split == split for clip in clips) for split in SPLITS}
    report.problems += [Problem(line, "line", "metadata", found) for line, found in refused]
    if subset == "avss":
        report.kinds = {kind: sum(clip.kind == kind for clip in clips) for kind in PUBLISHED["avss"]}
    report.categories = dict(sorted(Counter(clip.category for clip in clips if clip.category).items()))
    report.notes += _compared(report, labels)
    for other in places(root, subset)[1]:
        if other != report.folder:
            report.notes.append(f"not checked: {described(other)}, one folder down")
    if not clips:
        report.problems.append(Problem(SUBSETS[subset].csv, "empty", "metadata", "names no clip"))
    if others := len(clips) - sum(report.clips.values()):
        known = ", ".join(SPLITS)
        report.notes.append(f"{several(others, 'clip')} in a split other than {known}: never used")
    if twice := [name for name, n in Counter(clip.name for clip in clips).items() if n > 1]:
        report.notes.append(f"{several(len(twice), 'name')} in the metadata more than once: {_first(twice)}")
    try:
        read_events(root, subset)
    except ValueError as error:
        report.problems.append(Problem("events.csv", "line", "metadata", str(error).split(". ")[0]))
    _read_all(report, clips, Path(root), labels or 1, workers)
    return report


def _read_all(report: Report, clips: list[Clip], root: Path, classes: int, workers: int) -> None:
    """Reads every file of these clips."""
    home = root if report.folder.is_relative_to(root) else report.folder
    tables = (SUBSETS[report.subset].csv, "label2idx.json", "events.csv")
    links = _links([report.folder / name for name in tables], home)
    short, turned = 0, []
    use = partial(_check_clip, subset=report.subset, classes=classes, home=home)
    pool = ThreadPoolExecutor(workers)  # PIL decodes without holding Python's lock
    try:
        results = pool.map(use, clips)
        for found in tqdm(results, total=len(clips), desc=f"checking {report.subset}", leave=False):
            report.files += found.read
            report.problems += found.problems
            short += found.short
            turned += found.turned
            links |= found.links
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    if short:
        report.notes.append(f"{several(short, 'sound')} shorter than the clip; the rest is silence")
    report.notes += [*_of_turned(turned, report.folder), *_of_links(links, home)]


def check_all(root: str | Path, subsets: Iterable[str] = SUBSETS) -> list[Report]:
    """`check` of each of these subsets that is found at root. If it cannot begin, the fault of the table is
    the only problem.

    Raises FileNotFoundError if none of them is there.
    """
    reports = []
    for subset in subsets:
        folder = None
        try:
            folder = subset_folder(root, subset)
            reports.append(check(root, subset))
        except (ValueError, OSError) as error:
            if folder is None and isinstance(error, FileNotFoundError):
                continue
            problem = Problem(SUBSETS[subset].csv, _kind(error, "table"), "metadata", str(error).rstrip("."))
            reports.append(Report(subset, folder or Path(root), problems=[problem]))
    if not reports:
        raise FileNotFoundError(nothing_found(root, subsets))
    return reports

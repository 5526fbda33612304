"""`lightavseg data check`: everything that is wrong with a dataset folder, at once, and what to do about it."""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from .audio import read_track
from .images import frame_size
from .layout import (
    SPLITS,
    SUBSETS,
    Clip,
    Copies,
    LinkOut,
    as_stored,
    described,
    is_generated,
    nothing_found,
    places,
    read_clips,
    read_events,
    read_labels,
    stay_inside,
    subset_folder,
)
from .masks import read_mask, same_shape

ADVICE = {
    "table": "correct it, or copy it again from the download",
    "line": "correct or remove the line",
    "empty": "copy it again from the download",
    "missing": "copy it again from the download",
    "broken": "it is damaged: copy it again from the download",
    "sound": "copy it again; if it has no sound there either, remove its line from the metadata",
    "size": "make the clip's frames one size, and its masks of the same shape",
    "class": "check label2idx.json, or copy the mask again",
    "link": "give a folder that holds all of the dataset, or put the file or folder itself into it",
    "copies": "give the folder of one of them",
}
# Reported sizes, with their sources in docs/avsbench.md: clips of S4 and MS3 by split, of AVSS by kind (of its splits two counts circulate).
PUBLISHED = {
    "s4": {"train": 3452, "val": 740, "test": 740},
    "ms3": {"train": 296, "val": 64, "test": 64},
    "avss": {"v1s": 4932, "v1m": 424, "v2": 6000},
}
PUBLISHED_CATEGORIES = {"s4": 23, "avss": 70}


def several(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


class Problem(NamedTuple):
    clip: str       # or the line of the metadata
    kind: str       # a key of ADVICE
    part: str       # frame, mask, sound or metadata
    found: str


@dataclass
class Report:
    """What a check of one subset found."""

    subset: str
    folder: Path
    clips: dict[str, int] = field(default_factory=dict)        # by split
    kinds: dict[str, int] = field(default_factory=dict)        # AVSS: v1s, v1m, v2
    categories: dict[str, int] = field(default_factory=dict)   # S4: clips of each
    files: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def summary(self) -> dict[str, Counter]:
        """Problems by kind, and of each kind by part."""
        found: dict[str, Counter] = {}
        for problem in self.problems:
            found.setdefault(problem.kind, Counter())[problem.part] += 1
        return dict(sorted(found.items(), key=lambda item: -item[1].total()))

    def as_json(self) -> dict:
        return {"subset": self.subset, "folder": str(self.folder), "clips": self.clips, "kinds": self.kinds, "categories": self.categories,
                "files": self.files, "notes": self.notes, "summary": self.summary(),
                "problems": [{**problem._asdict(), "to_do": ADVICE[problem.kind]} for problem in self.problems]}

    def lines(self) -> list[str]:
        """The report for a reader: a summary by kind, then every problem, by kind and clip."""
        counts = f"{', '.join(f'{n:,} {name}' for name, n in self.clips.items())} clips; {several(self.files, 'file')} read"
        counts = counts if self.clips else "its clips are unknown, and no file was read"
        text = [f"{self.subset} in {self.folder}: {counts}", *(f"note: {note}" for note in self.notes)]
        if self.ok:
            return [*text, f"{self.subset}: all files are there and readable"]
        summary = self.summary()
        rows = [(kind, f"{parts.total():,}", ", ".join(f"{n:,} {part}" for part, n in parts.most_common()), ADVICE[kind])
                for kind, parts in summary.items()]
        rows.insert(0, ("problem", "number", "of these", "to do"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        text += ["", *("  ".join((row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].ljust(widths[2]), row[3])) for row in rows)]
        for kind in summary:
            text += ["", f"{kind}:"]
            for clip, problems in groupby((p for p in self.problems if p.kind == kind), key=lambda problem: problem.clip):
                text += [f"  {clip}", *(f"    {p.part}: {p.found.removeprefix(f'{self.folder}/')}" for p in problems)]
        return [*text, "", f"{self.subset}: {several(len(self.problems), 'problem')}; paths are under {self.folder}"]


def _check_clip(clip: Clip, subset: str, classes: int) -> tuple[int, list[Problem], float | None]:
    """Files read, problems, and the length of the sound in seconds. Every file is decoded once."""
    problems: list[Problem] = []
    length, read = len(as_stored(clip).frames), 0

    def use(part: str, path: Path, reader: Callable, more: str = ""):
        nonlocal read
        try:
            stay_inside(path, clip.home)
            result = reader(path)
        except (ValueError, OSError) as error:
            said = str(error).replace(str(path), "")
            kind = ("missing" if isinstance(error, FileNotFoundError) else "link" if isinstance(error, LinkOut) else "class" if "class" in said
                    else "sound" if part == "sound" and any(words in said for words in ("no sound", "minutes of sound")) else "broken")
            problems.append(Problem(clip.name, kind, part, str(error).rstrip(".") + more))
            return None
        read += 1
        return result

    sizes = [use("frame", path, frame_size, f"; the clip is read with {length} frames" if index >= length else "")
             for index, path in enumerate(clip.frames)]
    if len(different := {size for size in sizes if size}) > 1:
        problems.append(Problem(clip.name, "size", "frame", f"{clip.frames[0].parent}: frames of different sizes, {sorted(different)}"))
    for path, size in zip(clip.masks, sizes, strict=True):
        mask = use("mask", path, lambda path: tuple(read_mask(path, subset, classes).shape)[::-1]) if path else None
        if mask and size and not same_shape(mask, size):
            problems.append(Problem(clip.name, "size", "mask", f"{path}: is {mask[0]} x {mask[1]} pixels, its frame {size[0]} x {size[1]}"))
    track = use("sound", clip.audio, read_track)
    return read, problems, track and len(track[1]) / track[0]


def _compared(report: Report, labels: int | None) -> list[str]:
    """The counts beside the published ones, as notes: a partial copy is no mistake."""
    if is_generated(report.folder):
        return ["generated (it has an events.csv), so its size is not compared with the published one"]
    counts = report.kinds or report.clips
    notes = []
    for name, published in PUBLISHED[report.subset].items():
        if less := published - counts[name]:
            notes.append(f"{name} has {several(counts[name], 'clip')}, {abs(less):,} {'fewer' if less > 0 else 'more'} than the published "
                         f"{published:,}")
    categories = labels - 1 if labels else len(report.categories)
    if report.subset in PUBLISHED_CATEGORIES and categories != PUBLISHED_CATEGORIES[report.subset]:
        notes.append(f"categories: {categories}; published are {PUBLISHED_CATEGORIES[report.subset]}")
    return notes or [f"as many clips as published: {', '.join(f'{n:,} {name}' for name, n in PUBLISHED[report.subset].items())}"]


def check(root: str | Path, subset: str, workers: int = 2) -> Report:
    """Reads every file of a subset and reports all that is missing or broken; changes nothing.

    Raises FileNotFoundError or ValueError where there is no such dataset to look into (no metadata, missing columns, unknown subset).
    """
    refused: list[tuple[str, str]] = []
    clips = read_clips(root, subset, refused=refused)
    labels = len(read_labels(root)) if subset == "avss" else None
    report = Report(subset, subset_folder(root, subset), {split: sum(clip.split == split for clip in clips) for split in SPLITS})
    report.problems += [Problem(line, "line", "metadata", found) for line, found in refused]
    if subset == "avss":
        report.kinds = {kind: sum(clip.kind == kind for clip in clips) for kind in PUBLISHED["avss"]}
    report.categories = dict(sorted(Counter(clip.category for clip in clips if clip.category).items()))
    report.notes += _compared(report, labels)
    report.notes += [f"not checked: {described(other)}, one folder down" for found in list(places(root, subset))[1:] for other in found
                     if other != report.folder]
    if not clips:
        report.problems.append(Problem(SUBSETS[subset].csv, "empty", "metadata", "names no clip"))
    if others := len(clips) - sum(report.clips.values()):
        report.notes.append(f"{several(others, 'clip')} of a split other than {', '.join(SPLITS)}: never used")
    if twice := [name for name, n in Counter(clip.name for clip in clips).items() if n > 1]:
        report.notes.append(f"{several(len(twice), 'name')} in the metadata more than once: {', '.join(twice[:5])}{', ...' * (len(twice) > 5)}")
    try:
        read_events(root, subset)
    except ValueError as error:
        report.problems.append(Problem("events.csv", "link" if isinstance(error, LinkOut) else "line", "metadata", str(error).split(". ")[0]))
    short, links = 0, set()
    pool = ThreadPoolExecutor(workers)                             # PIL decodes without holding Python's lock
    try:
        results = pool.map(partial(_check_clip, subset=subset, classes=labels or 1), clips)
        for clip, (read, problems, seconds) in tqdm(zip(clips, results, strict=True), total=len(clips), desc=f"checking {subset}", leave=False):
            report.files += read
            for problem in problems:
                if problem.found not in links:
                    report.problems.append(problem)
                if problem.kind == "link":                         # of a folder: said once, not for each of its files
                    links.add(problem.found)
            short += seconds is not None and seconds < len(clip.frames) - 0.025
    finally:
        pool.shutdown(cancel_futures=True)                         # Ctrl-C does not wait for the rest
    if short:
        report.notes.append(f"{several(short, 'sound')} shorter than the clip; the rest is heard as silence")
    return report


def check_all(root: str | Path, subsets: Iterable[str] = SUBSETS) -> list[Report]:
    """`check` of every one of these subsets that is found at root. Where it cannot begin, what is wrong with the table is the one problem.

    Raises FileNotFoundError where there is none of them.
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
            kind = "copies" if isinstance(error, Copies) else "link" if isinstance(error, LinkOut) else "table"
            reports.append(Report(subset, folder or Path(root), problems=[Problem(SUBSETS[subset].csv, kind, "metadata", str(error).rstrip("."))]))
    if not reports:
        raise FileNotFoundError(nothing_found(root, subsets))
    return reports

"""`lightavseg data check`: everything that is wrong with a dataset folder, at once, and what to do about it."""
from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from .audio import LogMel, read_audio
from .avsbench import open_image, read_mask
from .layout import SPLITS, SUBSETS, Clip, read_clips, read_events, read_labels

ADVICE = {
    "line": "correct or remove the line",
    "empty": "copy it again from the download",
    "missing": "copy it again from the download",
    "broken": "it is damaged: copy it again from the download",
    "sound": "give the clip a sound, or remove its line from the metadata",
    "size": "make the clip's frames one size",
    "class": "check label2idx.json, or copy the mask again",
}


@dataclass
class Report:
    """What a check found. problems: (clip or line of the metadata, kind, what was found); kinds are the keys of ADVICE."""

    subset: str
    clips: dict[str, int] = field(default_factory=dict)
    files: int = 0
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        """The report for a reader, one line each."""
        text = [f"{self.subset}: {', '.join(f'{n} {split}' for split, n in self.clips.items())} clips, {self.files} files read"]
        text += [f"{clip}: {found}. To do: {ADVICE[kind]}." for clip, kind, found in self.problems]
        text += [f"note: {note}" for note in self.notes]
        return [*text, "all files are there and readable" if self.ok else f"{len(self.problems)} problems"]


def _check_clip(clip: Clip, subset: str, classes: int) -> tuple[int, list[tuple[str, str, str]], float | None]:
    """Files read, problems, and the length of the sound in seconds."""
    problems, sizes, read = [], set(), 0
    for path in clip.frames:
        try:
            sizes.add(open_image(path).size)
            read += 1
        except FileNotFoundError as error:
            problems.append((clip.name, "missing", f"frame {error}".rstrip(".")))
        except ValueError as error:
            problems.append((clip.name, "broken", f"frame {error}".rstrip(".")))
    if len(sizes) > 1:
        problems.append((clip.name, "size", f"frames of different sizes {sorted(sizes)} in {clip.frames[0].parent}"))
    for path in filter(None, clip.masks):
        try:
            read_mask(path, subset, classes)
            read += 1
        except FileNotFoundError as error:
            problems.append((clip.name, "missing", f"mask {error}".rstrip(".")))
        except ValueError as error:
            kind = "class" if "class" in str(error).replace(str(path), "") else "broken"
            problems.append((clip.name, kind, f"mask {error}".rstrip(".")))
    seconds = None
    try:
        seconds = len(read_audio(clip.audio)) / LogMel.sample_rate
        read += 1
    except FileNotFoundError as error:
        problems.append((clip.name, "missing", f"sound {error}".rstrip(".")))
    except ValueError as error:
        problems.append((clip.name, "sound", str(error)[:str(error).rfind(". ")]))
    return read, problems, seconds


def check(root: str | Path, subset: str, workers: int = 2) -> Report:
    """Reads every file of a subset and reports all that is missing or broken; changes nothing.

    Raises FileNotFoundError or ValueError where there is no such dataset to look into (no metadata, missing columns, unknown subset).
    """
    refused: list[tuple[str, str]] = []
    clips = read_clips(root, subset, refused=refused)
    classes = len(read_labels(root)) if subset == "avss" else 1
    report = Report(subset, {split: len(read_clips(root, subset, split, refused=[])) for split in SPLITS})
    report.problems += [(line, "line", found) for line, found in refused]
    if not clips:
        report.problems.append((SUBSETS[subset].csv, "empty", "names no clip"))
    if others := len(clips) - sum(report.clips.values()):
        report.notes.append(f"{others} clips belong to a split other than {', '.join(SPLITS)}; they are never used")
    report.notes += [f"{name} is in the metadata {n} times" for name, n in Counter(clip.name for clip in clips).items() if n > 1]
    try:
        read_events(root, subset)
    except ValueError as error:
        report.problems.append(("events.csv", "line", str(error).split(". ")[0]))
    short = 0
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(lambda clip: _check_clip(clip, subset, classes), clips)
        for clip, (read, problems, seconds) in tqdm(zip(clips, results, strict=True), total=len(clips), desc="checking", leave=False):
            report.files += read
            report.problems += problems
            short += seconds is not None and seconds < len(clip.frames) - 0.025
    if short:
        report.notes.append(f"{short} sounds are shorter than their clip; the rest is heard as silence")
    return report

"""AVSBench's three layouts on disk: where a subset lies, which files a clip consists of, and which of its frames are annotated."""
from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from .._common.names import printable

SPLITS = ("train", "val", "test")
MAX_TABLE, MAX_CLIPS, MAX_CLASSES = 16 << 20, 100_000, 255         # bytes of a CSV or JSON file, clips, classes: many times the real ones
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


class Subset(NamedTuple):
    folder: str                 # under the root
    csv: str
    columns: tuple[str, ...]    # as written; of these `needed` are read
    needed: tuple[str, ...]


SUBSETS = {
    "s4": Subset("Single-source", "s4_meta_data.csv", ("name", "start", "category", "split"), ("name", "category", "split")),
    "ms3": Subset("Multi-sources", "ms3_meta_data.csv", ("name", "start", "split"), ("name", "split")),
    "avss": Subset(".", "metadata.csv", ("uid", "label", "split"), ("uid", "label", "split")),
}
AVSS_SECONDS = {"v1s": 5, "v1m": 5, "v2": 10}


class Clip(NamedTuple):
    """One row of the metadata: where its files must be. Frame k is heard from second k."""

    name: str
    split: str
    kind: str                       # s4, ms3, v1s, v1m or v2
    category: str | None            # s4: the sounding category
    frames: list[Path]
    masks: list[Path | None]        # None: not annotated
    audio: Path
    home: Path                      # the dataset's folder: no link may lead out of it


class LinkOut(ValueError):
    """A link leads out of the dataset's folder."""


class Copies(ValueError):
    """A subset lies in several places, of which none is meant before the others."""


def stay_inside(path: Path, home: Path) -> None:
    """Raises LinkOut where a link leads path out of the folder home, which may itself be reached through links. Names the link nearest to home."""
    top = os.path.realpath(home)
    if Path(os.path.realpath(path)).is_relative_to(top):
        return
    steps = (path, *(step for step in path.parents if step != home and step.is_relative_to(home)))
    link = next(step for step in reversed(steps) if not Path(os.path.realpath(step)).is_relative_to(top))
    target = Path(os.path.realpath(link))
    whole = [place for place in (target, target.parent) if link.is_dir() for spec in SUBSETS.values()
             if (place / spec.csv).is_file() or (place / spec.folder / spec.csv).is_file()]
    advice = f"Give {printable(whole[0])}" if whole else f"Put the {'folder' if link.is_dir() else 'file'} itself there"
    raise LinkOut(f"{link}: a link leads out of the dataset's folder, to {printable(target)}. {advice}, or give a folder that holds both.")


def _around(root: Path, part: str) -> Path | None:
    """The folder around root where root is the part of a dataset that is called so, also as `.` or through a link; else None."""
    named = root if root.name == part else Path(os.path.realpath(root))
    return named.parent if named.name == part else None


def _home(root: Path, folder: Path) -> Path:
    """No link may lead out of it: root, or the folder that holds the table where that is around root."""
    return root if folder.is_relative_to(root) else folder


def places(root: str | Path, subset: str) -> Iterator[list[Path]]:
    """Folders that hold the subset's metadata: at root (under it, root itself, or around it where root is its `_data` folder); then one level down.

    Links are followed, also those that lead out of root.
    """
    root, spec = Path(root), SUBSETS[subset]
    around = _around(root, f"{subset}_data")
    at_root = [root / spec.folder, root, *([around] if around else [])]
    one_down = (place for folder in _folders(root) for place in (folder / spec.folder, folder))
    seen: set[str] = set()
    for candidates in (at_root, one_down):
        found = []
        for folder in candidates:
            if _holds(folder, subset) and (real := os.path.realpath(folder)) not in seen:
                seen.add(real)
                found.append(folder)
        yield found


def _holds(folder: Path, subset: str) -> bool:
    """Whether the subset's table lies in a folder. Other datasets have a metadata.csv, too: AVSS has more beside it, or its columns."""
    path = folder / SUBSETS[subset].csv
    if not path.is_file() or subset != "avss" or any((folder / part).exists() for part in ("label2idx.json", *AVSS_SECONDS)):
        return path.is_file()
    with path.open("rb") as file:
        return {column.encode() for column in SUBSETS[subset].needed} <= set(re.findall(rb"\w+", file.readline(10_000)))


def _folders(root: Path) -> list[Path]:
    """Folders in root, by name; hidden ones left out, of many the first thousand."""
    return sorted(path for path in islice(root.iterdir(), 1000) if path.is_dir() and not path.name.startswith(".")) if root.is_dir() else []


def subset_folder(root: str | Path, subset: str) -> Path:
    """The folder that holds a subset's metadata: at root, or else one level down (`places`).

    Raises ValueError, as Copies where there are several and as LinkOut where a link leads to it from root, or FileNotFoundError.
    """
    if subset not in SUBSETS:
        raise ValueError(f"unknown subset {subset!r}; known: {', '.join(SUBSETS)}.")
    for found in places(root, subset):
        if len(found) > 1:
            raise Copies(f"{root}: holds {len(found)} copies of {subset}: {', '.join(map(described, found))}. Give the folder of one of them.")
        if found:
            stay_inside(found[0], _home(Path(root), found[0]))
            return found[0]
    raise FileNotFoundError(f"{nothing_found(root, [subset])} `lightavseg data make {root} --subset {subset}` generates one.")


def is_generated(folder: Path) -> bool:
    """Whether SoundingShapes made this subset: only then is it known what sounds when."""
    return (folder / "events.csv").is_file()


def described(folder: Path) -> str:
    return f"{folder} ({'generated' if is_generated(folder) else 'real'})"


def nothing_found(root: str | Path, subsets: Iterable[str] = SUBSETS) -> str:
    """What to say where none of the subsets is at root: what is there, and what to do."""
    root, specs = Path(root), {subset: SUBSETS[subset] for subset in subsets}
    wanted = " or ".join(str(Path(spec.folder, spec.csv)) for spec in specs.values())
    if not root.exists():
        return f"{root}: no such folder. Give the folder that holds {wanted}."
    if not root.is_dir():
        what = "an archive: unpack it first, and give the folder" if root.name.lower().endswith(ARCHIVES) else "a file: give the folder"
        return f"{root}: is {what} that holds {wanted}."
    hints = []
    for subset, spec in specs.items():
        parts = tuple(AVSS_SECONDS) if subset == "avss" else (f"{subset}_data",)
        bare = [folder / part for folder in (root, *_folders(root)) for part in parts if (folder / part).is_dir()]
        bare += [root] if any(_around(root, part) for part in parts) else []
        hints += [f"its {spec.csv} is another dataset's: it has no columns {', '.join(spec.needed)}"] if (root / spec.csv).is_file() else []
        hints += [f"{spec.csv} is missing beside {bare[0]}: copy it there from the download"] if bare else []
        hints += [f"it is in {folder}: give that folder" for folder in islice(root.resolve().parents, 6) if (folder / spec.csv).is_file()]
    names = sorted(path.name for path in islice(root.iterdir(), 1000))
    hints += [f"{name} is an archive: unpack it first" for name in names if name.lower().endswith(ARCHIVES)]
    shown = ", ".join(name[:60] for name in names[:6] if name.isprintable()) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    found = f"{root}: found no {wanted}, there or one folder down; it holds {shown or 'nothing'}"
    return ". ".join([found, *hints[:3]]) + "."


def _read(path: Path, home: Path) -> str:
    """The text of a table. Raises ValueError where it is none or too large, LinkOut behind a link out of home."""
    stay_inside(path, home)
    if (size := path.stat().st_size) > MAX_TABLE:
        raise ValueError(f"{path}: has {size:,} bytes; at most {MAX_TABLE:,} are read. It is no table of this dataset.")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not a {path.suffix[1:].upper()} text file in UTF-8 ({error.reason}). Save it as UTF-8.") from None


def read_rows(path: Path, needed: tuple[str, ...], home: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV with their line numbers: the needed columns, stripped. Raises ValueError where columns are missing or it is no text."""
    reader = csv.DictReader(io.StringIO(_read(path, home), newline=""))
    try:
        missing = [column for column in needed if column not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(f"{path}, line 1: has no column {', '.join(missing)}; found {str(reader.fieldnames or 'nothing')[:200]}. "
                             f"Expected at least {', '.join(needed)}.")
        for row in reader:
            yield reader.line_num, {column: (row[column] or "").strip() for column in needed}
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num + 1}: not a CSV text file ({error}). Correct the line.") from None


def _is_plain(name: str) -> bool:
    """Whether a file or folder may be called so: nothing that leads elsewhere, is invisible, or longer than file systems take."""
    return 0 < len(name.encode(errors="replace")) <= 200 and name.isprintable() and name not in (".", "..") and not set(name) & set("/\\")


def read_clips(root: str | Path, subset: str, split: str | None = None, refused: list[tuple[str, str]] | None = None) -> list[Clip]:
    """The clips of a split (None: of all), in the metadata's order. Files are named, not opened, and need not be there.

    Raises FileNotFoundError or ValueError. A line that names no clip, or a name that leaves the dataset's folder, raises ValueError too,
    or is left out and told in `refused` (line, what was found) where that is given.
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}.")
    root, folder, spec = Path(root), subset_folder(root, subset), SUBSETS[subset]
    home = _home(root, folder)
    for part in AVSS_SECONDS if subset == "avss" else (f"{subset}_data/{part}" for part in ("visual_frames", "gt_masks", "audio_wav")):
        stay_inside(folder / part, home)                           # at once, and not at each of its files
    clips: list[Clip] = []
    for count, (line, values) in enumerate(read_rows(folder / spec.csv, spec.needed, home), start=1):
        if count > MAX_CLIPS:
            raise ValueError(f"{folder / spec.csv}, line {line}: names more than {MAX_CLIPS:,} clips. It is no table of this dataset.")
        found = [f"{value[:60]!r} is not a plain name" for value in values.values() if not _is_plain(value)]
        if subset == "avss" and not found and values["label"] not in AVSS_SECONDS:
            found = [f"label {values['label'][:60]!r} is none of {', '.join(AVSS_SECONDS)}"]
        if found and refused is None:
            raise ValueError(f"{folder / spec.csv}, line {line}: {found[0]}. Correct or remove the line.")
        if found:
            refused.append((f"{spec.csv}, line {line}", found[0]))
        elif split is None or values["split"] == split:
            clips.append(_clip(folder, home, subset, values))
    return clips


def _clip(folder: Path, home: Path, subset: str, row: dict[str, str]) -> Clip:
    split = row["split"]
    if subset == "avss":
        kind, name = row["label"], row["uid"]
        base, seconds = folder / kind / name, range(AVSS_SECONDS[kind])
        # labels_semantic is read only where the colours are missing.
        colours = "labels_semantic" if not (base / "labels_rgb").is_dir() and (base / "labels_semantic").is_dir() else "labels_rgb"
        frames = [base / "frames" / f"{t}.jpg" for t in seconds]
        masks, audio = [base / colours / f"{t}.png" for t in seconds], base / "audio.wav"
        category = None
    else:
        kind, name, seconds, category = subset, row["name"], range(1, 6), row.get("category")
        base = folder / f"{subset}_data"
        if subset == "s4":
            inner = Path(split, category)
            frames = [base / "visual_frames" / inner / name / f"{name}_{t}.png" for t in seconds]
            masks = [base / "gt_masks" / inner / name / f"{name}_{t}.png" for t in seconds]
            audio = base / "audio_wav" / inner / f"{name}.wav"
        else:
            frames = [base / "visual_frames" / name / f"{name}.mp4_{t}.png" for t in seconds]
            masks = [base / "gt_masks" / split / name / f"{name}_{t}.png" for t in seconds]
            audio = base / "audio_wav" / split / f"{name}.wav"
    first_only = split == "train" and kind in ("s4", "v1s")
    return Clip(name, split, kind, category, frames, [mask if not first_only or i == 0 else None for i, mask in enumerate(masks)], audio, home)


def as_stored(clip: Clip) -> Clip:
    """The clip without its last frames where these are missing, as in videos that end early. A clip without any frame stays as it is: an error."""
    length = len(clip.frames)
    while length and not os.path.lexists(clip.frames[length - 1]):
        length -= 1
    return clip._replace(frames=clip.frames[:length], masks=clip.masks[:length]) if length else clip


def read_labels(root: str | Path) -> dict[str, int]:
    """label2idx.json of an AVSS folder: class name to index, background 0. Raises FileNotFoundError or ValueError."""
    path = (folder := subset_folder(root, "avss")) / "label2idx.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing. It maps class names to indices and comes with AVSBench-semantic.")
    text = _read(path, _home(Path(root), folder))
    try:
        labels = {str(name): int(index) for name, index in json.loads(text).items()}
    except (AttributeError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{path}: does not map class names to indices ({str(error)[:100]}).") from None
    if sorted(labels.values()) != list(range(len(labels))) or not 0 < len(labels) <= MAX_CLASSES:
        raise ValueError(f"{path}: indices are not 0 to {len(labels) - 1}, each once, and at most {MAX_CLASSES} of them.")
    return labels


def read_events(root: str | Path, subset: str) -> dict[str, list[tuple[int, str]]] | None:
    """events.csv, where there is one: clip -> (second, category) of what sounds. None without it."""
    path = (folder := subset_folder(root, subset)) / "events.csv"
    if not path.is_file():
        return None
    events: dict[str, list[tuple[int, str]]] = {}
    for line, row in read_rows(path, ("clip", "second", "category"), _home(Path(root), folder)):
        if not row["second"].isdecimal() or len(row["second"]) > 4 or not row["category"]:
            raise ValueError(f"{path}, line {line}: second is {row['second'][:60]!r}, category {row['category'][:60]!r}; expected a number and a "
                             "name. Correct the line, or remove the file: only audio pretraining needs it.")
        events.setdefault(row["clip"], []).append((int(row["second"]), row["category"]))
    return events

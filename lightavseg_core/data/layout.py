"""AVSBench's three layouts on disk: where a subset is, which files a clip has, and which of its frames are
annotated."""
from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from .._common.lookalikes import on_disk
from .._common.names import unknown
from .._common.substitutes import substitute

SPLITS = ("train", "val", "test")
# Many times the real ones: bytes of a CSV or JSON file, clips, classes.
MAX_TABLE, MAX_CLIPS, MAX_CLASSES = 16 << 20, 100_000, 255
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
AVSS_SECONDS = {"v1s": 5, "v1m": 5, "v2": 10}


class Subset(NamedTuple):
    folder: str  # under the root
    csv: str
    columns: tuple[str, ...]  # as written; all but `start` are read
    parts: tuple[str, ...]  # the folders beside the CSV

    @property
    def needed(self) -> tuple[str, ...]:
        return tuple(column for column in self.columns if column != "start")


SUBSETS = {
    "s4": Subset("Single-source", "s4_meta_data.csv", ("name", "start", "category", "split"), ("s4_data",)),
    "ms3": Subset("Multi-sources", "ms3_meta_data.csv", ("name", "start", "split"), ("ms3_data",)),
    "avss": Subset(".", "metadata.csv", ("uid", "label", "split"), tuple(AVSS_SECONDS)),
}


def spec_of(subset: str) -> Subset:
    """The layout of a subset. Raises ValueError for an unknown one."""
    if subset not in SUBSETS:
        raise unknown("subset", subset, SUBSETS)
    return SUBSETS[subset]


class Clip(NamedTuple):
    """One row of the metadata, with the paths of its files. The sound of frame k begins at second k."""

    name: str
    split: str
    kind: str  # s4, ms3, v1s, v1m or v2
    category: str | None  # s4: the sounding category
    frames: list[Path]
    masks: list[Path | None]  # None: not annotated
    audio: Path


class Copies(ValueError):
    """A subset is in several places, and none of them comes first."""

    kind = "copies"


def _around(root: Path, part: str) -> Path | None:
    """The folder around root if root is the part of a dataset with this name, even as `.` or through a link;
    otherwise None."""
    for named in (root, Path(os.path.realpath(root))):
        if named.name == part:
            return named.parent
    return None


def places(root: str | Path, subset: str) -> tuple[list[Path], list[Path]]:
    """Folders that hold the subset's metadata: at root (under it, root itself, or around it if root is its
    `_data` folder), and one level down. Links are followed, and each folder is listed once."""
    root, spec = Path(root), spec_of(subset)
    at_root = [root / spec.folder, root]
    if around := _around(root, f"{subset}_data"):
        at_root.append(around)
    one_down = [place for folder in _folders(root) for place in (folder / spec.folder, folder)]
    seen: set[str] = set()
    return _holding(at_root, spec, seen), _holding(one_down, spec, seen)


def _holding(folders: list[Path], spec: Subset, seen: set[str]) -> list[Path]:
    found = []
    for folder in folders:
        real = os.path.realpath(folder)
        if real not in seen and _holds(folder, spec):
            seen.add(real)
            found.append(folder)
    return found


def _holds(folder: Path, spec: Subset) -> bool:
    """Whether a folder holds the subset's table. Other datasets have a metadata.csv too: AVSS is told by its
    columns, or by what is beside it."""
    path = folder / spec.csv
    if not path.is_file():
        return False
    beside = ("label2idx.json", *spec.parts)
    if path.name != "metadata.csv" or any((folder / part).exists() for part in beside):
        return True
    with path.open("rb") as file:
        return {column.encode() for column in spec.needed} <= set(re.findall(rb"\w+", file.readline(10_000)))


def _folders(root: Path) -> list[Path]:
    """Folders in root, by name, without hidden ones: at most the first thousand."""
    if not root.is_dir():
        return []
    inside = islice(root.iterdir(), 1000)
    return sorted(path for path in inside if path.is_dir() and not path.name.startswith("."))


def subset_folder(root: str | Path, subset: str) -> Path:
    """The folder that holds a subset's metadata: at root, otherwise one level down (`places`).

    Raises ValueError, namely Copies if there are several, or FileNotFoundError.
    """
    at_root, one_down = places(root, subset)
    found = at_root or one_down
    if len(found) > 1:
        copies = f"{len(found)} copies of {subset}: {', '.join(map(described, found))}"
        raise Copies(f"{root}: holds {copies}. Give the folder of one of them.")
    if not found:
        make = f" `lightavseg data make {root} --subset {subset}` generates one."
        raise FileNotFoundError(nothing_found(root, [subset]) + ("" if Path(root).is_file() else make))
    return found[0]


def is_generated(folder: Path) -> bool:
    """Whether SoundingShapes made this subset: only then is it known what sounds and when."""
    return (folder / "events.csv").is_file()


def described(folder: Path) -> str:
    return f"{folder} ({'generated' if is_generated(folder) else 'real'})"


def nothing_found(root: str | Path, subsets: Iterable[str] = SUBSETS) -> str:
    """The message if none of the subsets is at root: what was found there, and what to do."""
    root = Path(root)
    specs = [SUBSETS[subset] for subset in subsets]
    wanted = " or ".join(str(Path(spec.folder, spec.csv)) for spec in specs)
    if not root.exists():
        return f"{root}: no such folder. Give the folder that holds {wanted}."
    if not root.is_dir():
        archive = root.name.lower().endswith(ARCHIVES)
        what = "an archive: unpack it first, and give the folder" if archive else "a file: give the folder"
        return f"{root}: is {what} that holds {wanted}."
    inside = sorted(islice(root.iterdir(), 1000))
    shown = ", ".join(path.name[:60] for path in inside[:6] if path.name.isprintable()) or "nothing"
    if len(inside) > 6:
        shown += f" and {len(inside) - 6} more"
    found = f"{root}: found no {wanted}, here or one folder down; it holds {shown}"
    return ". ".join([found, *islice(_hints(root, specs, inside), 3)]) + "."


def _hints(root: Path, specs: list[Subset], inside: list[Path]) -> Iterator[str]:
    """Why a folder with these files is not a dataset, and where one may be."""
    for spec in specs:
        if (root / spec.csv).is_file():
            yield f"its {spec.csv} belongs to another dataset: it lacks the columns {', '.join(spec.needed)}"
        bare = [folder / part for folder in (root, *_folders(root)) for part in spec.parts]
        bare = [path for path in bare if path.is_dir()]
        if any(_around(root, part) for part in spec.parts):
            bare.append(root)
        if bare:
            yield f"{spec.csv} is missing beside {bare[0]}: copy it there from the download"
        for folder in islice(root.resolve().parents, 6):
            if (folder / spec.csv).is_file():
                yield f"it is in {folder}: give that folder"
    for path in inside:
        if path.name.lower().endswith(ARCHIVES):
            yield f"{path.name} is an archive: unpack it first"
        if not path.exists():
            yield f"{path.name} is a link to {os.path.realpath(path)}, which does not exist"


def _read(path: Path) -> str:
    """The text of a table. Raises ValueError if it is not text or too large."""
    with path.open("rb") as file:
        content = file.read(MAX_TABLE + 1)
    if len(content) > MAX_TABLE:
        large = f"more than {MAX_TABLE:,} bytes"
        raise ValueError(f"{path}: holds {large}. It is not a table of this dataset.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"not a {path.suffix[1:].upper()} text file in UTF-8 ({error.reason})"
        raise ValueError(f"{path}, line {line}: {what}. Save it as UTF-8.") from None


def read_rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV with their line numbers: the needed columns, stripped. Raises ValueError if columns are
    missing or the file is not text."""
    reader = csv.DictReader(io.StringIO(_read(path), newline=""))
    try:
        columns = reader.fieldnames or []
        if missing := [column for column in needed if column not in columns]:
            found, wanted = f"found {columns}"[:200], f"Expected at least {', '.join(needed)}"
            there, todo = substitute(path) or (found, wanted)
            raise ValueError(f"{path}, line 1: has no column {', '.join(missing)}; {there}. {todo}.")
        for row in reader:
            yield reader.line_num, {column: (row[column] or "").strip() for column in needed}
    except csv.Error as error:
        line = reader.line_num + 1
        raise ValueError(f"{path}, line {line}: not a CSV text file ({error}). Correct the line.") from None


def _is_plain(name: str) -> bool:
    """Whether this may name a file or folder: it leads nowhere else, is printable, and is not too long for a
    file system."""
    length = len(name.encode(errors="replace"))
    return 0 < length <= 200 and name.isprintable() and name not in (".", "..") and not set(name) & set("/\\")


class Clips(Sequence):
    """Clips of a table, each built on access, as it is stored (`as_stored`): of 100,000 clips only the rows
    are in memory. A slice is a `Clips` too."""

    def __init__(self, folder: Path, subset: str, rows: list[tuple[str, ...]]):
        self.folder, self.subset, self.rows = folder, subset, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice) -> Clip | Clips:
        if isinstance(index, slice):
            return Clips(self.folder, self.subset, self.rows[index])
        row = dict(zip(SUBSETS[self.subset].needed, self.rows[index]))
        return as_stored(clip_of(self.folder, self.subset, row))


def stored_clips(root: str | Path, subset: str, split: str) -> Clips:
    """The clips of a split, as stored; errors as in `read_clips`."""
    folder = _folder(root, subset, split)
    return Clips(folder, subset, [tuple(row.values()) for row in _rows(folder, subset, split)])


def read_clips(
    root: str | Path, subset: str, split: str | None = None, refused: list[tuple[str, str]] | None = None
) -> list[Clip]:
    """The clips of a split (None: of all), in the metadata's order. Files are named, not opened, and need not
    exist.

    Raises FileNotFoundError or ValueError. A line that names no clip, or a name that leads out of the
    dataset's folder, raises ValueError too; with `refused`, it is left out and appended there as (line, what
    was found).
    """
    folder = _folder(root, subset, split)
    return [clip_of(folder, subset, row) for row in _rows(folder, subset, split, refused)]


def _folder(root: str | Path, subset: str, split: str | None) -> Path:
    if split is not None and split not in SPLITS:
        raise unknown("split", split, SPLITS)
    return subset_folder(root, subset)


def _rows(
    folder: Path, subset: str, split: str | None, refused: list[tuple[str, str]] | None = None
) -> Iterator[dict[str, str]]:
    """The rows that name a clip of the split."""
    spec = SUBSETS[subset]
    table = folder / spec.csv
    for count, (line, row) in enumerate(read_rows(table, spec.needed), start=1):
        if count > MAX_CLIPS:
            many = f"names more than {MAX_CLIPS:,} clips"
            raise ValueError(f"{table}, line {line}: {many}. It is not a table of this dataset.")
        if wrong := _wrong(row):
            if refused is None:
                raise ValueError(f"{table}, line {line}: {wrong}. Correct or remove the line.")
            refused.append((f"{spec.csv}, line {line}", wrong))
        elif split is None or row["split"] == split:
            yield row


def _wrong(row: dict[str, str]) -> str | None:
    """What is wrong with a row, if anything is."""
    for value in row.values():
        if not _is_plain(value):
            return f"{value[:60]!r} is not a plain name"
    if "label" in row and row["label"] not in AVSS_SECONDS:
        return f"label {row['label'][:60]!r} is none of {', '.join(AVSS_SECONDS)}"
    return None


def clip_of(folder: Path, subset: str, row: dict[str, str]) -> Clip:
    """The clip of a row of the metadata in a folder."""
    split, category = row["split"], row.get("category")
    if subset == "avss":
        kind, name = row["label"], row["uid"]
        base = on_disk(folder / kind / name)
        colours, instead = base / "labels_rgb", base / "labels_semantic"
        if not colours.is_dir() and instead.is_dir():  # read only where the colours are missing
            colours = instead
        frames = [base / "frames" / f"{t}.jpg" for t in range(AVSS_SECONDS[kind])]
        masks = [colours / f"{t}.png" for t in range(AVSS_SECONDS[kind])]
        audio = base / "audio.wav"
    else:
        kind, name = subset, row["name"]
        base = folder / f"{subset}_data"
        if subset == "s4":
            inner = Path(split, category)
            frames = [base / "visual_frames" / inner / name / f"{name}_{t}.png" for t in range(1, 6)]
        else:
            inner = Path(split)
            frames = [base / "visual_frames" / name / f"{name}.mp4_{t}.png" for t in range(1, 6)]
        masks = [base / "gt_masks" / inner / name / f"{name}_{t}.png" for t in range(1, 6)]
        audio = base / "audio_wav" / inner / f"{name}.wav"
    if split == "train" and kind in ("s4", "v1s"):  # the first frame alone is annotated
        masks[1:] = [None] * (len(masks) - 1)
    return Clip(name, split, kind, category, frames, masks, audio)


def as_stored(clip: Clip) -> Clip:
    """The clip without missing frames at its end, as in videos that end early. A clip without any frame stays
    as it is: an error."""
    length = len(clip.frames)
    while length and not os.path.lexists(on_disk(clip.frames[length - 1])):
        length -= 1
    if not length:
        return clip
    return clip._replace(frames=clip.frames[:length], masks=clip.masks[:length])


def read_labels(root: str | Path) -> dict[str, int]:
    """label2idx.json of an AVSS folder: class name to index, background 0. Raises FileNotFoundError or
    ValueError."""
    path = subset_folder(root, "avss") / "label2idx.json"
    if not path.is_file():
        what = "It maps class names to indices and comes with AVSBench-semantic."
        raise FileNotFoundError(f"{path}: missing. {what}")
    text = _read(path)
    try:
        labels = {str(name): int(index) for name, index in json.loads(text).items()}
    except (AttributeError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        why, todo = substitute(path) or (str(error)[:100], "Copy it again from the download")
        raise ValueError(f"{path}: does not map class names to indices ({why}). {todo}.") from None
    if sorted(labels.values()) != list(range(len(labels))) or not 0 < len(labels) <= MAX_CLASSES:
        expected = f"0 to {len(labels) - 1}, each once, and at most {MAX_CLASSES} of them"
        raise ValueError(f"{path}: indices are not {expected}.")
    return labels


def read_events(root: str | Path, subset: str) -> dict[str, list[tuple[int, str]]] | None:
    """events.csv: clip -> (second, category) of everything that sounds. None if there is no such file."""
    path = subset_folder(root, subset) / "events.csv"
    if not path.is_file():
        return None
    events: dict[str, list[tuple[int, str]]] = {}
    for line, row in read_rows(path, ("clip", "second", "category")):
        second, category = row["second"], row["category"]
        if not second.isdecimal() or len(second) > 4 or not category:
            raise ValueError(
                f"{path}, line {line}: second is {second[:60]!r}, category {category[:60]!r}; expected a "
                "number and a name. Correct the line, or remove the file: only pretraining and negatives "
                "need it."
            )
        events.setdefault(row["clip"], []).append((int(second), category))
    return events

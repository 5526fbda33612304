"""AVSBench's three layouts on disk: which files a clip consists of, and which of its frames are annotated."""
from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

SPLITS = ("train", "val", "test")


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
    kind: str                       # s4, ms3, v1s, v1m or v2
    category: str | None            # s4: the sounding category
    frames: list[Path]
    masks: list[Path | None]        # None: not annotated
    audio: Path


def voc_palette(classes: int) -> np.ndarray:
    """Colours of class indices by interleaving their bits over R, G, B (PASCAL VOC's rule). (classes, 3) uint8."""
    index = np.arange(classes)
    palette = np.zeros((classes, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def subset_folder(root: str | Path, subset: str) -> Path:
    """The folder of a subset: under root, or root itself where it is that folder. Raises ValueError or FileNotFoundError."""
    if subset not in SUBSETS:
        raise ValueError(f"unknown subset {subset!r}; known: {', '.join(SUBSETS)}.")
    root, spec = Path(root), SUBSETS[subset]
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder. Give the folder that holds {Path(spec.folder, spec.csv)}.")
    for folder in (root / spec.folder, root):
        if (folder / spec.csv).is_file():
            return folder
    raise FileNotFoundError(f"{root}: holds no {Path(spec.folder, spec.csv)}, so it is no {subset} dataset. "
                            f"`lightavseg data make {root} --subset {subset}` generates one.")


def read_rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows of a CSV by column name. Raises ValueError where columns are missing or it is no text."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in needed if column not in (reader.fieldnames or [])]
            if missing:
                raise ValueError(f"{path}: has no column {', '.join(missing)}; found {', '.join(map(str, reader.fieldnames or ['nothing']))}. "
                                 f"Expected at least {', '.join(needed)}.")
            return list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: is not a CSV text file ({error}).") from None


def read_clips(root: str | Path, subset: str, split: str | None = None, refused: list[tuple[str, str]] | None = None) -> list[Clip]:
    """The clips of a split (None: of all), in the metadata's order. Files are named, not opened.

    Raises FileNotFoundError or ValueError. A line that names no clip, or a name that leaves the dataset's folder, raises ValueError too,
    or is left out and told in `refused` (line, what was found) where that is given.
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}.")
    folder, spec = subset_folder(root, subset), SUBSETS[subset]
    clips = []
    for line, row in enumerate(read_rows(folder / spec.csv, spec.needed), start=2):
        values = {column: (row[column] or "").strip() for column in spec.needed}
        found = [f"{value!r} is not a plain name" for value in values.values()
                 if not value or "/" in value or "\\" in value or value in (".", "..") or "\0" in value]
        if subset == "avss" and not found and values["label"] not in AVSS_SECONDS:
            found = [f"label {values['label']!r} is none of {', '.join(AVSS_SECONDS)}"]
        if found and refused is None:
            raise ValueError(f"{folder / spec.csv}, line {line}: {found[0]}. Correct or remove the line.")
        if found:
            refused.append((f"{spec.csv}, line {line}", found[0]))
        elif split is None or values["split"] == split:
            clips.append(_clip(folder, subset, values))
    return clips


def _clip(folder: Path, subset: str, row: dict[str, str]) -> Clip:
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
    return Clip(name, kind, category, frames, [m if not first_only or i == 0 else None for i, m in enumerate(masks)], audio)


def read_labels(root: str | Path) -> dict[str, int]:
    """label2idx.json of an AVSS folder: class name to index, background 0. Raises FileNotFoundError or ValueError."""
    path = subset_folder(root, "avss") / "label2idx.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing. It maps class names to indices and comes with AVSBench-semantic.")
    try:
        labels = {str(name): int(index) for name, index in json.loads(path.read_text()).items()}
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: does not map class names to indices ({error}).") from None
    if sorted(labels.values()) != list(range(len(labels))):
        raise ValueError(f"{path}: indices are not 0 to {len(labels) - 1}, each once.")
    return labels


def read_events(root: str | Path, subset: str) -> dict[str, list[tuple[int, str]]] | None:
    """events.csv, where there is one: clip -> (second, category) of what sounds. None without it."""
    path = subset_folder(root, subset) / "events.csv"
    if not path.is_file():
        return None
    events: dict[str, list[tuple[int, str]]] = {}
    for line, row in enumerate(read_rows(path, ("clip", "second", "category")), start=2):
        second = (row["second"] or "").strip()
        if not second.isdecimal() or not row["category"]:
            raise ValueError(f"{path}, line {line}: second is {second!r}, category {row['category']!r}; expected a number and a name. Correct the "
                             "line, or remove the file: only audio pretraining needs it.")
        events.setdefault(row["clip"], []).append((int(second), row["category"]))
    return events

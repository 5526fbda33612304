"""Files that were damaged at random, each a function of the whole file and of a number:
`python tests/helpers/mutations.py 17` writes that of case 17."""

import csv
import io
import json
import shutil
import struct
import sys
import wave
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from helpers.films import film, tone

TEXTS = [
    b"<html>Sorry, this video is not available.</html>\n",
    b"\0" * 17,
    b"%s%n%s%n",
    b"\x1b[2J\x1b]0;title\x07",
    b"#EXTM3U\nfile:///etc/passwd\n",
    "\ufeff\u202e\N{PILE OF POO}".encode(),
    b"../../../etc/passwd",
    b"\r\n\r\n",
    b'","' * 5,
    b"A" * 5000,
    b"RIFF",
    b"\x89PNG\r\n\x1a\n",
]
CELLS = [
    "",
    "..",
    "../../x",
    "/etc/passwd",
    "\0",
    "9" * 400,
    "-1",
    "nan",
    "a" * 5000,
    "\x1b[2J",
    "line\nbreak",
    '"',
    "train",
    "=cmd()",
    "\u202e\N{PILE OF POO}",
    "{0.__class__}",
]
VALUES = [None, -1, 10**30, 1.5, "1", [0], {}, True, "x" * 5000]
SIZES = {1: "B", 2: "H", 4: "I", 8: "Q"}


def flip(content, other, rng):
    """Bytes are replaced, from one to one in twenty."""
    content = bytearray(content)
    for place in rng.integers(0, len(content), int(len(content) ** rng.random() / 20) + 1):
        content[place] = rng.integers(256)
    return bytes(content)


def cut(content, other, rng):
    return content[: rng.integers(0, len(content))]


def block(content, rng):
    """Where some of the content lies: start and end."""
    length = int(len(content) ** rng.random())
    start = int(rng.integers(0, len(content) - length + 1))
    return start, start + length


def double(content, other, rng):
    start, end = block(content, rng)
    return content[:end] + content[start:end] * int(rng.integers(1, 4)) + content[end:]


def drop(content, other, rng):
    start, end = block(content, rng)
    return content[:start] + content[end:]


def zero(content, other, rng):
    start, end = block(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def splice(content, other, rng):
    """Begins as the one file and ends as the other."""
    return content[: rng.integers(0, len(content))] + other[rng.integers(0, len(other)) :]


def insert(content, other, rng):
    place = rng.integers(0, len(content) + 1)
    return content[:place] + TEXTS[rng.integers(len(TEXTS))] + content[place:]


def extreme(content, other, rng):
    """A number, most likely one of the header or of the index at the end, is the smallest or largest of its
    kind; PNG's checksums hold."""
    content = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        width = int(rng.choice([1, 2, 4, 8]))
        span = min(len(content) - width, int(rng.choice([64, 400, 4000])))
        place = int(rng.integers(0, span + 1))
        if rng.random() < 0.3:
            place = len(content) - width - place
        half = 2 ** (8 * width - 1)
        value = int(rng.choice(np.array([0, 1, half - 1, half, 2 * half - 1], object)))
        content[place : place + width] = struct.pack(rng.choice(["<", ">"]) + SIZES[width], value)
    return checksums(bytes(content)) if content[:4] == b"\x89PNG" else bytes(content)


def checksums(content):
    """A PNG whose chunks' checksums are right again, so that a decoder reads on."""
    found, place = content[:8], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        body = content[place + 4 : place + 8 + length]
        found += content[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return found


def extreme_cell(content, other, rng):
    rows = list(csv.reader(io.StringIO(content.decode())))
    for _ in range(int(rng.integers(1, 4))):
        row = rows[rng.integers(len(rows))]
        row[rng.integers(len(row))] = CELLS[rng.integers(len(CELLS))]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def extreme_value(content, other, rng):
    labels = json.loads(content)
    labels[rng.choice([*labels, "x"])] = VALUES[rng.integers(len(VALUES))]
    return json.dumps(labels if rng.random() < 0.8 else list(labels)).encode()


OPERATORS = [flip, cut, double, drop, zero, splice, insert, extreme]


class Kind(NamedTuple):
    """Of files. `place` is in a dataset's folder; None: the file is predicted from."""

    name: str
    subset: str | None = None
    place: str | None = None


KINDS = [
    Kind("film.mp4"),
    Kind("film.mkv"),
    Kind("film.webm"),
    Kind("sound.wav"),
    Kind("sound", "ms3", "audio_wav/*/*.wav"),
    Kind("frame", "ms3", "visual_frames/*/*.png"),
    Kind("mask", "s4", "gt_masks/*/*/*/*.png"),
    Kind("jpeg", "avss", "v*/*/frames/*.jpg"),
    Kind("colours", "avss", "v*/*/labels_rgb/*.png"),
    Kind("table", "s4", "s4_meta_data.csv"),
    Kind("table", "ms3", "ms3_meta_data.csv"),
    Kind("table", "avss", "metadata.csv"),
    Kind("labels", "avss", "label2idx.json"),
]


class Case(NamedTuple):
    """`seed` alone says what it is; any number will do."""

    seed: int

    @property
    def kind(self) -> Kind:
        return KINDS[self.seed % len(KINDS)]

    @property
    def operator(self):
        return OPERATORS[(self.seed + self.seed // len(KINDS)) % len(OPERATORS)]

    def __str__(self):
        return f"{self.seed}-{self.kind.subset or 'predict'}-{self.kind.name}-{self.operator.__name__}"

    def file(self, whole: Path) -> Path:
        """Which file of the folder that `make` wrote is damaged."""
        if self.kind.place is None:
            return whole / self.kind.name
        files = sorted((whole / "data").glob(f"**/{self.kind.place}"))
        return files[np.random.default_rng(self.seed).integers(len(files))]

    def damaged(self, whole: Path) -> bytes:
        path = self.file(whole)
        others = [other for other in sorted(whole.glob(f"**/*{path.suffix}")) if other != path]
        others = others or [whole / "film.mkv"]
        rng = np.random.default_rng((7, self.seed))
        operator = self.operator
        if operator is extreme:
            operator = {".csv": extreme_cell, ".json": extreme_value}.get(path.suffix, extreme)
        return operator(path.read_bytes(), others[rng.integers(len(others))].read_bytes(), rng)


def make(root: Path) -> Path:
    """The whole files: three seconds of film in three formats, with sound; a sound; a picture; and a small
    dataset of each subset."""
    from lightavseg_core.data.sounding_shapes import generate

    for subset in ("s4", "ms3", "avss"):
        generate(root / "data", subset, {"train": 1, "val": 1, "test": 1}, size=64, seed=0, workers=1)
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (12, 6, 8, 3))
    pictures = colours.repeat(8, 1).repeat(8, 2).astype(np.uint8)
    sound = np.stack([tone(440, 16_000, 3), tone(660, 16_000, 3)])
    film(root / "film.mp4", pictures, fps=4, sound=sound, rate=16_000)
    film(root / "film.mkv", pictures, fps=4, sound=sound, rate=16_000, codec="mpeg4", audio_codec="pcm_s16le")
    webm = {"codec": "libvpx", "audio_codec": "libopus"}
    film(root / "film.webm", pictures, fps=4, sound=tone(440, 48_000, 3)[None], rate=48_000, **webm)
    with wave.open(str(root / "sound.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((sound.T * 32767).astype("<i2").tobytes())
    shutil.copy(next((root / "data").glob("**/visual_frames/*/*.png")), root / "picture.png")
    return root


if __name__ == "__main__":
    import tempfile

    for seed in map(int, sys.argv[1:]):
        case = Case(seed)
        with tempfile.TemporaryDirectory() as folder:
            whole = make(Path(folder))
            Path(f"{case}{case.file(whole).suffix}").write_bytes(case.damaged(whole))
            print(f"{case}{case.file(whole).suffix}: {case.file(whole).relative_to(whole)}")

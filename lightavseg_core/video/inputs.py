"""The inputs of prediction, and how the command line names them.

An input is a video, a folder of frames with its sound, or one picture with its sound.
"""
from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, count
from pathlib import Path

import av

from .._common.files import digests
from ..data.decoding import Tally, decode_audio
from ..data.images import read_picture
from .reading import Pictures, Sound, probe, read_frames, read_sound

PICTURES = set(".png .jpg .jpeg .jpe .jfif .bmp .dib .webp .tif .tiff .ppm .pgm .pbm .pnm".split())
VIDEOS = set(
    ".mp4 .m4v .mov .qt .mkv .webm .avi .divx .mpg .mpeg .mpe .m1v .m2v .vob .ts .mts .m2ts .m2t .tod .mod "
    ".trp .3gp .3g2 .flv .f4v .wmv .asf .ogv .ogm .mxf .dv .rm .rmvb .wtv .nut .gif".split()
)


class Broken(ValueError):
    """An input is broken, and reading it again will not help."""


def is_picture(path: str | Path) -> bool:
    return Path(path).suffix.lower() in PICTURES and not Path(path).is_dir()


def frames_in(folder: str | Path) -> list[Path]:
    """A folder's pictures, ordered by the numbers in their names: 2.png before 10.png."""

    def numbers(file: Path) -> list[int | str]:
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)]

    return sorted(_files_in(Path(folder), PICTURES), key=numbers)


def _files_in(folder: Path, suffixes: set[str]) -> list[Path]:
    """The files of these suffixes in a folder, by name, without hidden ones."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes)
    return [file for file in files if file.is_file() and not file.name.startswith(".")]


def pictures_of(path: str | Path, fps: Fraction, tally: Tally | None = None) -> Pictures:
    """The pictures of a video, or of a folder, 1 / fps seconds apart, or a single picture.

    Raises Broken, or ValueError if it is not the input's fault.
    """
    path = Path(path)
    if path.is_dir():
        return _reading((k / fps, read_picture(file)) for k, file in enumerate(frames_in(path)))
    if is_picture(path):
        return iter([(Fraction(0), read_picture(path))])
    return _reading(read_frames(path, fps, tally))


def _reading(pieces: Iterator) -> Iterator:
    """The same pieces; errors from reading them are told apart from errors of the code that uses them."""
    try:
        yield from pieces
    except ValueError as error:
        why = error.__context__
        disk = isinstance(why, OSError) and why.errno and not isinstance(why, av.FFmpegError)
        if disk or isinstance(why, MemoryError):
            raise  # what memory or disk could not do now may be done later
        raise Broken(str(error)) from None


def sound_of(path: str | Path, audio: str | Path | None, tally: Tally | None = None) -> Sound:
    """The sound of an input; nothing if a video has none. Raises what `pictures_of` raises."""
    if audio is not None:
        return _reading(read_sound(audio, None, tally))
    if Path(path).is_dir() or is_picture(path):
        silent = "a picture has" if is_picture(path) else "pictures have"
        raise ValueError(f"{path}: {silent} no sound. Give a sound file with --audio FILE.")
    video = probe(path)
    return iter(()) if video.sample_rate is None else _reading(read_sound(path, video.origin, tally))


def describe(path: Path, audio: str | Path | None) -> dict:
    """What the manifest records about an input and its sound.

    Raises FileNotFoundError or ValueError if one of them cannot be decoded.
    """
    if audio is not None and next(decode_audio(audio, Tally()), None) is None:
        raise ValueError(f"{audio}: holds no sound samples. Record it again.")
    if path.is_dir() or is_picture(path):
        sound_of(path, audio)
        if next(pictures_of(path, Fraction(1)), None) is None:
            raise ValueError(f"{path}: holds no pictures.")
        return {"heard": Path(audio).name}
    video = probe(path)
    # A track may be there and hold nothing; and where nothing of it can be decoded, that is said before
    # anything is written.
    sounds = video.sample_rate and (audio is not None or next(sound_of(path, None), None))
    own = {"rate": video.sample_rate, "channels": video.channels} if sounds else None
    heard = Path(audio).name if audio else "its own sound" if own else "silence"
    size = {"width": video.width, "height": video.height, "pixel_aspect": str(video.aspect)}
    jumps = [{"time": round(jump.time, 3), "by": round(jump.by, 3)} for jump in video.jumps]
    return {"video": {**size, "seconds": video.seconds, "sound": own, "jumps": jumps}, "heard": heard}


def digest(path: Path) -> str | None:
    """SHA-256 of a file, or of a folder's pictures and their names; None if there is nothing."""
    if not path.is_dir():
        return digests([path]).get(path.name)
    return hashlib.sha256(repr(list(digests(frames_in(path)).items())).encode()).hexdigest()


def inputs_of(paths: Sequence[str | Path], audio: str | Path | None = None) -> list[Path]:
    """What to predict from: the given files; the videos of a folder, or, with `audio`, the folder itself if
    it has only pictures; for a list, NAME.txt, the paths on its lines, relative to its own folder.

    Raises FileNotFoundError, or ValueError for a folder without videos and for anything but a regular file.
    """
    found: dict[Path, Path] = {}  # in order, each once
    for path in chain.from_iterable(map(_listed, map(Path, paths))):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder.")
        if not path.is_dir() and not path.is_file():
            raise ValueError(f"{path}: is a pipe or a device; expected a regular file.")
        for file in _inputs_in(path, audio) if path.is_dir() else [path]:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _listed(path: Path) -> list[Path]:
    """The paths in a list, line by line; the path itself if it is not a list."""
    if path.suffix.lower() != ".txt" or not path.is_file():
        return [path]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a list of videos; expected a path on each line, in UTF-8.") from None
    return [path.parent / line for line in map(str.strip, lines) if line]


def _inputs_in(folder: Path, audio: str | Path | None) -> list[Path]:
    if videos := _files_in(folder, VIDEOS):
        return videos
    frames = len(frames_in(folder))
    if not frames:
        advice = "Give a video, a folder of videos, or a folder of frames with --audio FILE."
        raise ValueError(f"{folder}: holds no video. {advice}")
    if audio is None:
        raise ValueError(
            f"{folder}: holds no video, but {frames} pictures. Give their sound with --audio FILE; they are "
            "then taken as 1 / --fps seconds apart."
        )
    return [folder]


def skipped_in(folder: Path) -> list[str]:
    """In words, what `inputs_of` leaves out of a folder because of its suffix; hidden files are not told."""
    videos = _files_in(folder, VIDEOS)
    taken = set(videos or frames_in(folder))
    left = [file.name for file in sorted(folder.iterdir()) if file.is_file() and file not in taken]
    left = [name for name in left if not name.startswith(".")]
    if not left:
        return []
    names = ", ".join(left[:5]) + (f" and {len(left) - 5:,} more" if len(left) > 5 else "")
    if videos:
        return [f"skipped, not a video by its suffix: {names}. Name a file to have it read anyway."]
    return [f"skipped, not a frame by its suffix: {names}. Later frames move up in time."]


def notes_on(described: dict) -> list[str]:
    """In words, what a user should know about an input, from `describe`."""
    notes = []
    if described["heard"] == "silence":
        notes.append("has no sound; the model hears silence.")
    if jumps := described.get("video", {}).get("jumps"):
        told = [f"by {jump['by']:+,g} s at {jump['time']:,g} s" for jump in jumps[:3]]
        more = f" and {len(jumps) - 3:,} times more" if len(jumps) > 3 else ""
        notes.append(
            f"its time stamps jump {', '.join(told)}{more} (forward: a gap; back: joined recordings); "
            "pictures and sound continue without a pause."
        )
    return notes


def names_of(paths: Sequence[Path]) -> list[str]:
    """A folder name for each input: its stem without dots and spaces at its ends, so that it is neither
    hidden nor "..", which would lead out of --out; "video" if nothing is left; with -2, -3, ... if the name
    is taken, as manifest.json is."""
    names = {"manifest.json": ""}  # without case, because some file systems do not know it
    for path in paths:
        stem = name = (path.resolve().name if path.is_dir() else path.stem).strip(". ") or "video"
        numbers = count(2)
        while name.casefold() in names:
            name = f"{stem}-{next(numbers)}"
        names[name.casefold()] = name
    return list(names.values())[1:]

"""A reader of Qt's resource files (.rcc), which hold a tree of named files. Whatever their numbers claim,
nothing is read beyond the end, no entry is read twice, and the unpacked size is bounded."""
from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

MAGIC = b"qres"
VERSIONS = (1, 2, 3)
ZLIB, DIRECTORY, ZSTD = 1, 2, 4  # an entry's flags
ENTRIES = 10_000  # of a file: the largest of GCompris has some hundreds
DEPTH = 32  # of folders in folders
LONGEST = 255  # characters of a name
UNPACKED = 64 << 20  # bytes of all that is asked for


def wanted_files(content: bytes, is_wanted: Callable[[str], object]) -> Iterator[tuple[str, bytes]]:
    """Path and content of those files whose path is wanted, such as gcompris/src/.../animals/cat.webp.

    content: of the whole .rcc. Raises ValueError, without the file's name, if it is not a resource file, is
    cut off or damaged, or unpacks to too much; and for a wanted file that is compressed by zstd.
    """
    if content[:4] != MAGIC:
        raise ValueError(f"begins with {content[:4]!r}, but a Qt resource file with {MAGIC!r}")
    version, tree, data, names = _read(content, ">4I", 4)
    if version not in VERSIONS:
        raise ValueError(f"has version {version}; expected {VERSIONS[0]} to {VERSIONS[-1]}")
    entry = 14 if version == 1 else 22  # bytes: later versions add a date
    seen, waiting, left = {0}, [(0, "", 0)], UNPACKED
    while waiting:
        number, path, depth = waiting.pop()
        place = tree + number * entry
        name, flags = _read(content, ">IH", place)
        if number:  # the root has no name
            path = f"{path}/{_name(content, names + name)}".lstrip("/")
        if flags & DIRECTORY:
            count, first = _read(content, ">II", place + 6)
            inside = range(first, first + count)
            if len(seen) + count > ENTRIES or depth == DEPTH:
                raise ValueError(f"has more than {ENTRIES:,} entries, or folders {DEPTH} deep")
            if not seen.isdisjoint(inside):
                raise ValueError(f"reaches an entry of the folder {path[-80:]!r} twice")
            seen.update(inside)
            waiting += [(child, path, depth + 1) for child in inside]
        elif is_wanted(path):
            (offset,) = _read(content, ">I", place + 10)
            unpacked = _unpacked(content, data + offset, flags, left, path)
            left -= len(unpacked)
            yield path, unpacked


def _read(content: bytes, form: str, place: int) -> tuple[int, ...]:
    """Numbers from an offset. Raises ValueError if the file ends before."""
    return struct.unpack(form, _bytes(content, place, struct.calcsize(form)))


def _bytes(content: bytes, place: int, length: int) -> bytes:
    if place + length > len(content):
        ends = f"it has {len(content):,} bytes but refers to byte {place + length:,}"
        raise ValueError(f"is cut off or damaged: {ends}")
    return content[place : place + length]


def _name(content: bytes, place: int) -> str:
    length, _ = _read(content, ">HI", place)  # and a hash
    if not 0 < length <= LONGEST:
        raise ValueError(f"has a name of {length:,} characters; expected 1 to {LONGEST}")
    try:
        name = _bytes(content, place + 6, 2 * length).decode("utf-16-be")
    except UnicodeDecodeError:
        raise ValueError("has a name that is not text") from None
    if name in (".", "..") or set(name) & {"/", "\\", "\0"}:
        raise ValueError(f"has the name {name!r}, which is not allowed")
    return name


def _unpacked(content: bytes, place: int, flags: int, most: int, path: str) -> bytes:
    (length,) = _read(content, ">I", place)
    stored = _bytes(content, place + 4, length)
    if flags & ZSTD:
        raise ValueError(f"has {path[-80:]!r} compressed by zstd, which is not read")
    if flags & ZLIB:
        (length,) = _read(stored, ">I", 0)
    if length > most:
        raise ValueError(f"unpacks to more than {UNPACKED:,} bytes")
    if not flags & ZLIB:
        return stored
    stream = zlib.decompressobj()
    try:
        unpacked = stream.decompress(stored[4:], length + 1)  # 0 would be no limit
    except zlib.error as error:
        raise ValueError(f"has {path[-80:]!r} damaged ({error})") from None
    if not stream.eof or len(unpacked) != length:
        raise ValueError(f"has {path[-80:]!r} damaged: it does not unpack to the length it claims")
    return unpacked

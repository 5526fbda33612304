"""Qt's resource files (.rcc), written from the description of the format, whole and damaged."""

import struct
import zlib

DIRECTORY, ZLIB = 2, 1
HEADER = 24  # bytes before what follows, of version 3


def folders(paths):
    """{"a/b": 1} -> {"a": {"b": 1}}"""
    tree = {}
    for path, content in paths.items():
        *above, name = path.split("/")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        place[name] = content
    return tree


def resource(paths, version=3, packed=()):
    """path -> bytes, as a .rcc. packed: the paths that zlib compresses."""
    entries, names, data = [], b"", b""
    waiting = [("", "", folders(paths))]  # (path, name, content): an entry's place is its number
    for path, name, content in waiting:  # which grows: level by level
        place = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        if isinstance(content, dict):
            first = len(waiting)
            waiting += [(f"{path}/{inner}".lstrip("/"), inner, below) for inner, below in content.items()]
            entry = struct.pack(">IHII", place, DIRECTORY, len(content), first)
        else:
            flags = ZLIB * (path in packed)
            stored = struct.pack(">I", len(content)) + zlib.compress(content) if flags else content
            entry = struct.pack(">IHHHI", place, flags, 0, 1, len(data))
            data += struct.pack(">I", len(stored)) + stored
        entries.append(entry + bytes(8 * (version > 1)))
    tree = b"".join(entries)
    start = HEADER - 4 * (version < 3)
    places = start + len(data) + len(names), start, start + len(data)
    return b"qres" + struct.pack(">4I", version, *places) + bytes(4 * (version > 2)) + data + names + tree

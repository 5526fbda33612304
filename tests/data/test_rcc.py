"""Qt's resource files: what is in them is read, and what is damaged or meant to do harm is refused, soon."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from helpers.mutations import OPERATORS
from helpers.resources import resource

from lightavseg_core.data import rcc

FILES = {"a/animals/cat.webp": b"cat" * 50, "a/animals/cat.ogg": b"mew", "a/README": b"", "b": bytes(5000)}


def read(content, is_wanted=lambda path: True):
    return dict(rcc.wanted_files(content, is_wanted))


@pytest.mark.parametrize("version", (1, 2, 3))
@pytest.mark.parametrize("packed", ((), ("a/animals/cat.webp", "a/README", "b")))
def test_what_is_in_it(version, packed):
    content = resource(FILES, version, packed)
    assert read(content) == FILES
    assert read(content, lambda path: path.endswith(".ogg")) == {"a/animals/cat.ogg": b"mew"}
    assert read(resource({}, version)) == {}


def tree_of(content):
    return struct.unpack(">I", content[8:12])[0]


def patched(content, place, form, *values):
    """With other numbers at a place."""
    new = struct.pack(form, *values)
    return content[:place] + new + content[place + len(new) :]


def entry(content, number, form, *values, at=0):
    return patched(content, tree_of(content) + 22 * number + at, form, *values)


WHOLE = resource(FILES, 3, ["b"])  # entries: 0 the root, 1 a, 2 b, 3 a/animals, 4 a/README, 5 and 6 the cat's
LONG = resource({"/".join(f"{k}" for k in range(40)): b""})
HOSTILE = {
    "nothing": (b"", "begins with b''"),
    "something else": (b"PK\3\4" + WHOLE[4:], "begins with b'PK"),
    "a header alone": (WHOLE[:15], "cut off"),
    "a later version": (patched(WHOLE, 4, ">I", 4), "has version 4"),
    "no tree": (patched(WHOLE, 8, ">I", 2**32 - 1), "cut off or damaged"),
    "no data": (patched(WHOLE, 12, ">I", 2**32 - 1), "cut off or damaged"),
    "no names": (patched(WHOLE, 16, ">I", len(WHOLE) - 3), "cut off or damaged"),
    "a name that is far off": (entry(WHOLE, 2, ">I", 2**31), "cut off or damaged"),
    "a name of nothing": (resource({"": b"x"}), "a name of 0 characters"),
    "a long name": (resource({"x" * 300: b"x"}), "a name of 300 characters"),
    "a name that leads out": (resource({"..": b"x"}), "the name '..', which is not allowed"),
    "a name with folders": (resource({"..\\..\\x": b"x"}), "which is not allowed"),
    "a name that is no text": (WHOLE.replace(b"\0c\0a\0t\0.\0o", b"\xdc\0\0a\0t\0.\0o"), "not text"),
    "a folder in itself": (entry(WHOLE, 1, ">II", 2, 1, at=6), "reaches an entry of the folder 'a' twice"),
    "a folder that holds the root": (entry(WHOLE, 3, ">II", 1, 0, at=6), "twice"),
    "four billion entries": (entry(WHOLE, 1, ">II", 2**32 - 1, 1, at=6), "more than 10,000 entries"),
    "entries that are far off": (entry(WHOLE, 1, ">II", 5, 2**32 - 9, at=6), "cut off or damaged"),
    "deep folders": (LONG, "folders 32 deep"),
    "a file that is too long": (patched(WHOLE, 24, ">I", 2**32 - 1), "cut off or damaged"),
    "zstd": (entry(WHOLE, 2, ">H", rcc.ZSTD, at=4), "'b' compressed by zstd, which is not read"),
    "no zlib": (entry(WHOLE, 6, ">H", rcc.ZLIB, at=4), "damaged"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_refused(case):
    content, said = HOSTILE[case]
    with pytest.raises(ValueError, match=said) as error:
        read(content)
    assert len(str(error.value)) < 300 and str(error.value).isprintable()


def bomb(length, promised, name="b"):
    """A file that unpacks to `length` bytes, and says that it is `promised`."""
    content = resource({name: b"x"}, packed=[name])
    stored = struct.pack(">I", promised) + zlib.compress(bytes(length))
    data, names = struct.unpack(">II", content[12:20])
    grown = content[:data] + struct.pack(">I", len(stored)) + stored + content[names:]
    moved = len(grown) - len(content)
    return patched(grown, 8, ">III", tree_of(content) + moved, data, names + moved)


@pytest.mark.parametrize(
    "content, said",
    [
        (bomb(20 << 20, 80 << 20), "unpacks to more than 67,108,864 bytes"),
        (bomb(20 << 20, 100), "does not unpack to the length"),
        (bomb(20 << 20, 0), "does not unpack to the length"),
        (bomb(100, 101), "does not unpack to the length"),
    ],
)
def test_no_more_is_unpacked_than_is_allowed(content, said):
    assert len(content) < 30_000
    tracemalloc.start()
    with pytest.raises(ValueError, match=said):
        read(content)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_all_of_them_together_are_bounded(monkeypatch):
    monkeypatch.setattr(rcc, "UNPACKED", 9_999)
    for packed in ((), ("a", "b")):
        with pytest.raises(ValueError, match="unpacks to more than 9,999 bytes"):
            read(resource({"a": bytes(5000), "b": bytes(5000)}, packed=packed))


def test_cut_off_anywhere():
    """But for its last eight bytes, a date."""
    for end in range(len(WHOLE) - 8):
        with pytest.raises(ValueError):
            read(WHOLE[:end])


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_damaged_at_random(operator):
    """It is read, or refused."""
    refused = 0
    for seed in range(200):
        damaged = operator(WHOLE, LONG, np.random.default_rng(seed))
        try:
            assert sum(map(len, read(damaged).values())) <= rcc.UNPACKED
        except ValueError:
            refused += 1
    assert refused

"""Others' files that are used and do not come with the workbook: known by their SHA-256, kept in the user's
cache. `fetching` gets them."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_cache_path

from .._common.files import sha256


class Source(NamedTuple):
    """A file. path: how its path ends wherever it is found. kept: its path in its collection's folder."""

    path: str
    kept: str
    sha256: str


class Collection(NamedTuple):
    """Files that are fetched together. folder: where they are kept, whether they are there or not. packages:
    Debian's that hold them. otherwise: what else may hold them, in words. is_enough: whether what is kept
    will do. resource: the name of Qt's resource file in which they lie there, if they do."""

    folder: Path
    packages: tuple[str, ...]
    sources: list[Source]
    otherwise: str
    is_enough: Callable[[], bool]
    resource: str = ""

    def missing(self) -> list[Source]:
        return [source for source in self.sources if not is_right(self.folder / source.kept, source)]


def cache(name: str) -> Path:
    """Where a collection is kept on this machine."""
    return user_cache_path("lightavseg-workbook") / name


def is_right(path: Path, source: Source) -> bool:
    """Whether a file is there, with the contents that are known."""
    return path.is_file() and sha256(path) == source.sha256

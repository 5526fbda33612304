"""Files of others that are used but not shipped with the workbook: identified by SHA-256 and kept in the
user's cache. `fetching` downloads them."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_cache_path

from .._common.files import sha256


class Source(NamedTuple):
    """A file. path: the end of its path, wherever it is found. kept: its path in its collection's folder."""

    path: str
    kept: str
    sha256: str


class Collection(NamedTuple):
    """Files that are downloaded together. folder: where they are kept, whether it exists or not. packages:
    the Debian packages with them. otherwise: other places for them, in words. is_enough: whether the kept
    files are enough. resource: the name of the Qt resource file that holds them there, if any."""

    folder: Path
    packages: tuple[str, ...]
    sources: list[Source]
    otherwise: str
    is_enough: Callable[[], bool]
    resource: str = ""

    def missing(self) -> list[Source]:
        return [source for source in self.sources if not is_right(self.folder / source.kept, source)]


def cache(name: str) -> Path:
    """The folder of a collection on this machine."""
    return user_cache_path("lightavseg-workbook") / name


def is_right(path: Path, source: Source) -> bool:
    """Whether a file exists and has the known content."""
    return path.is_file() and sha256(path) == source.sha256

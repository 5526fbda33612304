"""The cast that a name means: shapes, photos, or a folder of pictures and sounds."""
from __future__ import annotations

from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

from .cast import Cast
from .shapes import Shapes


def cast_named(name: str) -> Cast:
    """shapes: silhouettes with timbres. photos: photographs with recordings, from `lightavseg data fetch
    photos`; others of `photos.VARIATIONS` vary more. Anything else: a folder (`cutouts.from_folder`). All but
    shapes are cached until their files change.

    Raises FileNotFoundError, with the command to run, if photographs or folder are missing, and ValueError
    for a folder that is not a cast.
    """
    if name == "shapes":
        return _shapes()
    from .cutouts import media_in
    from .photos import VARIATIONS, photos_folder

    folder = photos_folder() if name in VARIATIONS else Path(name).expanduser().resolve()
    states = []
    for path in media_in(folder):
        with suppress(FileNotFoundError):  # it was there a moment ago
            states.append((path, path.stat().st_mtime_ns, path.stat().st_size))
    return _of_files(name, folder, tuple(states))


@cache
def _shapes() -> Cast:
    return Shapes()


@lru_cache(maxsize=2)
def _of_files(name: str, folder: Path, files: tuple) -> Cast:
    """files: with their state, so that changed files make another cast."""
    from .cutouts import from_folder
    from .photos import VARIATIONS, photos

    return photos(folder, name) if name in VARIATIONS else from_folder(folder)

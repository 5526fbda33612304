"""Files whose names differ from the requested ones only as other systems write them."""
from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from pathlib import Path


def on_disk(path: Path) -> Path:
    """The path that exists under an equivalent name: a suffix in another case (.PNG), or accents stored apart
    from their letters, as on macOS. The path itself if there is none."""
    if os.path.lexists(path) or path == path.parent:
        return path
    folder = on_disk(path.parent)
    try:
        name = _names(folder, folder.stat().st_mtime_ns).get(_key(path.name))
    except OSError:  # no folder, or none that may be read
        name = None
    return folder / name if name else path


@lru_cache(64)
def _names(folder: Path, changed: int) -> dict[str, str]:
    """The names in a folder, cached until a file is added or removed."""
    return {_key(name): name for name in sorted(os.listdir(folder))}


def _key(name: str) -> str:
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))
    return stem + suffix.lower()

"""Files whose names are almost those that are asked for, as other systems write them."""
from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from pathlib import Path


def on_disk(path: Path) -> Path:
    """The path under which something is there: another case of a suffix (.PNG), and accents that stand apart
    from their letters, as macOS stores them, are the same name. The path itself where nothing is."""
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
    """Of what is in a folder, as long as nothing was added or taken away."""
    return {_key(name): name for name in sorted(os.listdir(folder))}


def _key(name: str) -> str:
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))
    return stem + suffix.lower()

"""Uploads from a browser, kept as files in a folder."""
from __future__ import annotations

import re
from itertools import count
from pathlib import Path

from .._common.files import whole
from ..video.inputs import VIDEOS

# Bytes, what a Jupyter server takes in one message unless it is told otherwise. At a larger one it drops the
# connection: no kernel hears of it, and the widget's further messages are not sent. So it is said beforehand.
UPLOAD = 10 * 2**20


def keep(name: str, content: bytes, folder: Path) -> Path:
    """Writes an upload into a folder, under its own name without any path, and returns its path.

    The same content is not written twice. Raises ValueError for a name that is not a video's, and for an
    empty or too large file.
    """
    plain = Path(re.sub(r"[^\w.-]+", "_", re.split(r"[/\\]", name)[-1]).lstrip(".-"))
    stem, suffix = plain.stem[:80] or "video", plain.suffix
    if suffix.lower() not in VIDEOS:
        found, endings = plain.name[:80] or "the file", ", ".join(sorted(VIDEOS))
        raise ValueError(f"{found}: not a video by its name; expected one that ends in {endings}.")
    if not 0 < len(content) <= UPLOAD:
        size, most = len(content) / 2**20, UPLOAD / 2**20
        raise ValueError(
            f"{stem}{suffix}: {size:.1f} MB; an upload must not be empty and has at most {most:.0f} MB. "
            f"Put a larger file into {folder} and create the player again."
        )
    numbers, path = count(2), folder / f"{stem}{suffix}"
    while path.exists():
        if path.read_bytes() == content:
            return path
        path = folder / f"{stem}-{next(numbers)}{suffix}"
    with whole(path) as staging:
        staging.write_bytes(content)
    return path

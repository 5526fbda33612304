"""Files that are whole or not there, folders that one process has for itself, and what a file's bytes are."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write under. The file gets its own name when the body is through and the disk has it.

    Whoever is stopped here, also by a power cut, leaves the old file or none.
    """
    staging = path.with_name(f".{path.name}")
    try:
        yield staging
        with staging.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Makes a folder and keeps other processes out of it.

    A process that is killed keeps nobody out, since its lock is the system's. Raises ValueError where another
    process is in it, or where there is something else than a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: not a folder. Give another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Another process may have taken the folder away just now.
        if not _lock(handle) or not os.path.samestat(os.fstat(handle), os.stat(folder)):
            raise ValueError(
                f"{folder}: another process is writing it. Wait until that is done, then run the same again."
            )
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """False where another process has the lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network drives have no locks
        pass
    return True


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(paths: list[Path]) -> dict[str, str]:
    """SHA-256 of those files that are there, by name."""
    return {path.name: sha256(path) for path in paths if path.is_file()}

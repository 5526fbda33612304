"""Files that are complete or absent, folders that one process has to itself, and checksums."""
from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


# There is no room, on the disk or within the share of it that one may have.
FULL = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG")}


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name to write under. The file gets its real name once the body is done and the disk has it.

    If this is interrupted, even by a power cut or a full disk, the old file or none remains. Errors: see
    `disk_errors`.
    """
    staging = _hidden(path)
    try:
        with disk_errors(path):
            yield staging
            with staging.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Wraps writing a file or into a folder: a refusal by the disk is raised as OSError with its number, and
    with this path if it names none, even when a library reports it as an error of its own."""
    try:
        yield
    except Exception as error:
        if "iostream error" in str(error):  # C++ says no more
            raise OSError(errno.EIO, "cannot be written; the disk may be full", str(path)) from None
        in_words = re.search(r"\(os error (\d+)\)", str(error))  # as Rust's do
        number = error.errno if isinstance(error, OSError) else in_words and int(in_words[1])
        name = getattr(error, "filename", None) or _hidden(path)
        if number and Path(name) == _hidden(path):
            raise OSError(number, os.strerror(number), str(path)) from None
        raise


def append(path: Path, line: str) -> None:
    """Adds a line to a file: all of it, or nothing if the disk is full."""
    left = f"{line}\n".encode()
    with disk_errors(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(before)
            raise


def told(error: OSError) -> str:
    """A system error in words, with what to do if the disk is full."""
    if not error.errno:
        return str(error)
    name = f"{error.filename}: " if error.filename else ""
    advice = ""
    if error.errno in FULL:
        advice = " Make room and try again."
    return f"{name}{str(error.strerror).rstrip('.')}.{advice}"


def check_folder(path: Path) -> None:
    """Raises ValueError, before work begins, if the folder cannot be written: it or one of its parents is a
    file, or is read-only."""
    there = next(filter(os.path.lexists, (path, *path.parents)))
    if not there.is_dir():
        raise ValueError(f"{there}: not a folder; expected a folder to write into. Give another name.")
    if not os.access(there, os.W_OK):
        raise ValueError(f"{there}: you may not write into this folder. Give another name.")


def check_file(path: Path) -> None:
    """The same for a file; also raises if a folder has its name."""
    if path.is_dir():
        raise ValueError(f"{path}: a folder; expected a file to write. Give another name.")
    check_folder(path.parent)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Makes a folder and keeps other processes out of it. A folder that was made here and is still empty at
    the end is removed again.

    The lock belongs to the system, so a killed process keeps nobody out. Raises ValueError if another process
    is in the folder, or if the path is not a folder.
    """
    check_folder(folder)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if handle is not None and not (_lock(handle) and _is_at(handle, folder)):
            raise ValueError(
                f"{folder}: another process is writing there. Wait until it is done and run this again, "
                "or give another --out."
            )
        try:
            yield
        finally:
            for place in made:
                with suppress(OSError):  # something is in it
                    place.rmdir()
    finally:
        if handle is not None:
            os.close(handle)


def _is_at(handle: int, folder: Path) -> bool:
    """False if another process has just removed the folder."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(folder))
    except FileNotFoundError:
        return False


def _lock(handle: int) -> bool:
    """False if another process has the lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network drives have no locks
        pass
    return True


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(paths: list[Path]) -> dict[str, str]:
    """SHA-256 of those files that exist, by name."""
    return {path.name: sha256(path) for path in paths if path.is_file()}

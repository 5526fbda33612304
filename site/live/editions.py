"""What an edition of the live page says of itself: its footer, its licences and notices, and, where it shows
photographs, its sources."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from lightavseg_core.data.cast import Cast
from lightavseg_core.data.cutouts import Cutout, Cutouts

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NAME = "Part of the audio-visual segmentation workbook"
OURS = ("site/live", "lightavseg_core", "Makefile", "pyproject.toml", "LICENSE", "README.md")


def write(edition: str, folder: Path, cast: Cast) -> None:
    """footer.html and notices.txt, and any sources.tar. cast: as it was left by what made the clips."""
    repository = os.environ.get("GITHUB_REPOSITORY")  # where a workflow builds the page
    workbook = f'<a href="https://github.com/{repository}">{NAME}</a>' if repository else NAME
    footer = (HERE / "notices" / f"{edition}.html").read_text().format(workbook=workbook)
    (folder / "footer.html").write_text(footer)
    parts = {"This workbook: Apache-2.0": ROOT / "LICENSE"}
    parts["ONNX Runtime Web: MIT"] = HERE / "notices" / "onnxruntime.txt"
    texts = [f"{title}\n\n{path.read_text()}" for title, path in parts.items()]
    if edition == "photos":
        things = [cutout for cutout in cast.cutouts if cast.used.intersection(cutout.sounds)]
        texts.insert(0, credits(things))
        texts.append("This page as a whole: GPL-3.0-or-later\n\n" + licence("GPL-3.0-or-later"))
        texts.append("Photographs and recordings: GPL-2.0-or-later\n\n" + licence("GPL-2.0-or-later"))
        write_sources(folder / "sources.tar", cast, things)
    (folder / "notices.txt").write_text("\n\n".join(texts))


def licence(name: str) -> str:
    return (ROOT / "LICENSES" / f"{name}.txt").read_text()


def credits(things: list[Cutout]) -> str:
    lines = [f"{thing.category} ({thing.individual}): {thing.credit}" for thing in things]
    return "Photographs and recordings in these clips, of Tux Paint's packages\n\n" + "\n".join(lines)


def write_sources(path: Path, cast: Cutouts, things: list[Cutout]) -> None:
    """The code that makes the page, and the pictures and recordings that its clips were composed of."""

    def kept(file: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if any(part in ("node_modules", "__pycache__") for part in Path(file.name).parts):
            return None
        file.uid = file.gid = file.mtime = 0
        file.uname = file.gname = ""
        return file

    with tarfile.open(path, "w") as archive:
        for name in OURS:
            archive.add(ROOT / name, f"source/{name}", filter=kept)
        for thing in things:
            for file in (thing.picture, *thing.sounds):
                archive.add(file, f"media/{thing.category}/{file.name}", filter=kept)
        for file in sorted(cast.used.intersection(cast.backgrounds)):
            archive.add(file, f"media/backgrounds/{file.name}", filter=kept)

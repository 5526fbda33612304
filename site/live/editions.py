"""What an edition of the live page says of itself: its footer, its licences and notices, and, where it shows
photographs, its sources."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

from lightavseg_core.data.casting import cast_named
from lightavseg_core.data.cutouts import Cutout, Cutouts

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NAME = "Part of the audio-visual segmentation workbook"
OURS = ("site/live", "lightavseg_core", "Makefile", "pyproject.toml", "LICENSE", "README.md")


def write(edition: str, folder: Path) -> None:
    """footer.html and notices.txt into a folder that clips.py has written into, and any sources.tar.gz."""
    repository = os.environ.get("GITHUB_REPOSITORY")  # where a workflow builds the page
    workbook = f'<a href="https://github.com/{repository}">{NAME}</a>' if repository else NAME
    footer = (HERE / "notices" / f"{edition}.html").read_text().format(workbook=workbook)
    (folder / "footer.html").write_text(footer)
    parts = {"This workbook: Apache-2.0": ROOT / "LICENSE"}
    parts["ONNX Runtime Web: MIT"] = HERE / "notices" / "onnxruntime.txt"
    texts = [f"{title}\n\n{path.read_text()}" for title, path in parts.items()]
    if edition == "photos":
        cast = cast_named("photos")
        things = shown(cast, folder)
        texts.insert(0, credits(things))
        texts.append("This page as a whole: GPL-3.0-or-later\n\n" + licence("GPL-3.0-or-later"))
        texts.append("Photographs and recordings: GPL-2.0-or-later\n\n" + licence("GPL-2.0-or-later"))
        write_sources(folder / "sources.tar", cast, things)
    (folder / "notices.txt").write_text("\n\n".join(texts))


def licence(name: str) -> str:
    return (ROOT / "LICENSES" / f"{name}.txt").read_text()


def shown(cast: Cutouts, folder: Path) -> list[Cutout]:
    """Those of a cast that are in the clips, by their categories."""
    clips = json.loads((folder / "clips.json").read_text())["clips"]
    names = {thing["name"] for clip in clips for thing in clip["objects"]}
    return [cutout for cutout in cast.cutouts if cutout.category in names and not cutout.unseen]


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
        for file in cast.backgrounds:
            archive.add(file, f"media/backgrounds/{file.name}", filter=kept)

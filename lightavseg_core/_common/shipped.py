"""What comes with the package beside its code, wherever it was installed from, and how to install more."""
from __future__ import annotations

import os
import shutil
from pathlib import Path

from .files import alone

PACKAGE = Path(__file__).resolve().parents[1]
DISTRIBUTION = "lightavseg-workbook"
_IN_WHEEL = PACKAGE / "_shipped"  # as pyproject.toml says
CHECKOUT = not _IN_WHEEL.is_dir()
SHIPPED = PACKAGE.parent if CHECKOUT else _IN_WHEEL
WORKBOOK = (
    "checkpoints/ear", "checkpoints/photos", "checkpoints/tiny", "docs", "figures", "notebooks", "results",
)
TINY, PHOTOS = Path("checkpoints/tiny"), Path("checkpoints/photos")  # which help and documentation name


def how_to_install(extra: str = "") -> str:
    """The command that brings an extra, or whatever the package itself needs and lacks.

    pip takes the installed package itself for this: it looks for its name nowhere else.
    """
    if CHECKOUT:
        return f"pip install -e '.[{extra}]'" if extra else "pip install -r requirements.lock"
    return f"pip install '{DISTRIBUTION}[{extra}]'" if extra else f"pip install {DISTRIBUTION}"


def write_workbook(folder: str | Path) -> None:
    """Copies the workbook of this version, notebooks and all that they read, into a new or an empty folder.

    What fails half-way, as on a full disk, leaves nothing in it. Raises FileExistsError for a folder that
    holds something, and for a file.
    """
    folder = Path(folder)
    staging = folder / ".writing"
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder}: a file. Give a new folder.")
    with alone(folder):
        if any(path != staging for path in folder.iterdir()):
            raise FileExistsError(f"{folder}: holds something already. Give a new folder.")
        try:
            for name in WORKBOOK:
                left_out = shutil.ignore_patterns("__pycache__", ".*")
                shutil.copytree(SHIPPED / name, staging / name, ignore=left_out, dirs_exist_ok=True)
            for path in staging.iterdir():
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

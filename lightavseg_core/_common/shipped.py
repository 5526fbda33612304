"""What ships with the package beside its code, and how to install more."""
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
    """The command that installs an extra, or the package's own missing requirements.

    pip finds the name among the installed packages; it looks nowhere else.
    """
    if CHECKOUT:
        return f"pip install -e '.[{extra}]'" if extra else "pip install -r requirements.lock"
    return f"pip install '{DISTRIBUTION}[{extra}]'" if extra else f"pip install {DISTRIBUTION}"


def write_workbook(folder: str | Path) -> None:
    """Copies this version's workbook, the notebooks and all that they read, into a new or empty folder.

    A failure halfway, such as a full disk, leaves nothing there. Raises FileExistsError for a file, or a
    folder that is not empty.
    """
    folder = Path(folder)
    staging = folder / ".writing"
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder}: not a folder. Give a new folder.")
    with alone(folder):
        if any(path != staging for path in folder.iterdir()):
            raise FileExistsError(f"{folder}: is not empty. Give a new folder.")
        try:
            for name in WORKBOOK:
                left_out = shutil.ignore_patterns("__pycache__", ".*")
                shutil.copytree(SHIPPED / name, staging / name, ignore=left_out, dirs_exist_ok=True)
            for path in staging.iterdir():
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

"""Measured results on disk, one JSON file each, with its provenance."""
from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path

from .environment import card, versions
from .files import whole
from .shipped import DISTRIBUTION, PACKAGE


def provenance(command: str, seed: int) -> dict:
    """What must stand beside a measured number: command, commit, seed, date, machine and versions."""
    return {
        "command": command,
        "commit": commit(),
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "machine": card(),
        "versions": versions(("torch", "torchvision", "torchaudio", "timm", "torchmetrics", "numpy")),
    }


def commit() -> str:
    """The package's commit, with "-dirty" if files differ from it.

    A repository around the package counts only if it tracks the package: a virtual environment may lie in
    another project's. Otherwise "version X" of the installed package, or "unknown".
    """
    try:
        _git("ls-files", "--error-unmatch", "__init__.py")
        return _git("describe", "--always", "--dirty")
    except (OSError, subprocess.CalledProcessError):  # there is no git, or it does not know the package
        version = versions((DISTRIBUTION,))[DISTRIBUTION]
        return f"version {version}" if version else "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write(path: Path, result: dict) -> None:
    """Writes a result; the file is complete before it gets its name.

    If this is killed, no file or the old one remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as staging:
        staging.write_text(json.dumps(result, indent=1) + "\n")


def read(path: Path) -> dict:
    """Reads a result. Raises ValueError, with the file's name, if it is not a JSON object."""
    try:
        result = json.loads(path.read_text())
        if isinstance(result, dict):
            return result
    except (json.JSONDecodeError, UnicodeDecodeError):
        pass
    raise ValueError(f"{path}: not a result of `lightavseg sweep` or `bench`. Remove it, and run that again.")

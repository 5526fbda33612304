"""Measured results on disk, one JSON file each, with what made it."""
from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path

from .environment import card, versions
from .files import whole
from .shipped import DISTRIBUTION, PACKAGE


def provenance(command: str, seed: int) -> dict:
    """What a measured number must be read with: command, commit, seed, date, machine and versions."""
    return {
        "command": command,
        "commit": commit(),
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "machine": card(),
        "versions": versions(("torch", "torchvision", "torchaudio", "timm", "torchmetrics", "numpy")),
    }


def commit() -> str:
    """The commit that the package is of, with "-dirty" where files differ from it.

    A repository around the package is only believed if it tracks the package: a virtual environment may lie
    in somebody else's. Elsewhere it is "version X" of what is installed, or "unknown".
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

    Whoever is killed here leaves none, or the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as staging:
        staging.write_text(json.dumps(result, indent=1) + "\n")


def read(path: Path) -> dict:
    """Raises ValueError, naming the file, where it is no JSON object."""
    try:
        result = json.loads(path.read_text())
        if isinstance(result, dict):
            return result
    except (json.JSONDecodeError, UnicodeDecodeError):
        pass
    raise ValueError(f"{path}: not a result of `lightavseg sweep` or `bench`. Remove it, and run that again.")

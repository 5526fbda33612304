"""Measured results on disk, one JSON file each, with what made it."""
from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path

from .environment import card, versions
from .files import whole


def provenance(command: str, seed: int) -> dict:
    """What a measured number must be read with: command, commit, seed, date, machine (device, threads) and versions."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True)
    return {"command": command, "commit": done.stdout.strip() or "unknown", "seed": seed, "date": datetime.date.today().isoformat(),
            "machine": card(), "versions": versions(("torch", "torchvision", "torchaudio", "timm", "torchmetrics", "numpy"))}


def write(path: Path, result: dict) -> None:
    """Writes a result; the file is complete before it gets its name, so whoever is killed here leaves none, or the old one."""
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
    raise ValueError(f"{path}: not a result as `lightavseg sweep` writes them. Remove it, and run the sweep again.")


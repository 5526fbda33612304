"""Measured results on disk, one JSON file each with what made it, and their comparison over seeds."""
from __future__ import annotations

import datetime
import json
import math
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .environment import card, versions

# The 97.5% quantiles of Student's t for 1 to 9 degrees of freedom.
T_QUANTILES = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


def provenance(command: str, seed: int) -> dict:
    """What a measured number must be read with: command, commit, seed, date, machine (device, threads) and versions."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True)
    return {"command": command, "commit": done.stdout.strip() or "unknown", "seed": seed, "date": datetime.date.today().isoformat(),
            "machine": card(), "versions": versions(("torch", "torchvision", "torchaudio", "timm", "torchmetrics", "numpy"))}


def write(path: Path, result: dict) -> None:
    """Writes a result; the file is complete before it gets its name, so whoever is killed here leaves none, or the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        staging.write_text(json.dumps(result, indent=1) + "\n")
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


def read(path: Path) -> dict:
    """Raises ValueError, naming the file, where it is no JSON object."""
    try:
        result = json.loads(path.read_text())
        if isinstance(result, dict):
            return result
    except (json.JSONDecodeError, UnicodeDecodeError):
        pass
    raise ValueError(f"{path}: not a result as `lightavseg sweep` writes them. Remove it, and run the sweep again.")


class Difference(NamedTuple):
    """How much more one has than another, over the seeds that both have."""

    mean: float
    low: float     # the 95% interval; without bounds for a single seed
    high: float
    seeds: int


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """a - b, seed by seed: the mean difference and its 95% interval of Student's t. Scores by seed. Raises ValueError without a common seed.

    The interval says what other seeds would give on these data, not what other data would.
    """
    differences = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
    n = len(differences)
    if not 1 <= n <= len(T_QUANTILES) + 1:
        raise ValueError(f"{n} common seeds of {sorted(a)} and {sorted(b)}; expected 1 to {len(T_QUANTILES) + 1}.")
    mean = sum(differences) / n
    if n == 1:
        return Difference(mean, -math.inf, math.inf, 1)
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1))
    half = T_QUANTILES[n - 2] * deviation / math.sqrt(n)
    return Difference(mean, mean - half, mean + half, n)

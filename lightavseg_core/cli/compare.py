"""A method of one's own, beside the five: `lightavseg compare`."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..config import Subset
from ..experiments.runs import SEEDS


@dataclass
class Compare:
    """Train a method of your own as the five were trained, and put all six into one table and one picture.

    Scores, scores with another clip's sound, parameters, and latencies that are measured now, in turns. Where
    the data are generated and the budget is the default one, the five's stored results are taken, and the
    table says so. What is finished is kept: stopped, it goes on where it was.

    Example: lightavseg compare my_method.py --seeds 1
    """

    file: Annotated[Path, tyro.conf.Positional]
    """The Python file of the method, as docs/adding_a_method.md describes it; `lightavseg notebooks` writes
    that page, too."""
    data: Path | None = None
    """A dataset folder; by default SoundingShapes are generated, as for `sweep`."""
    subset: Subset = "ms3"
    budget: Literal["default", "smoke"] = "default"
    """smoke: seconds for each run, in which nothing is learnt."""
    preset: Literal["tiny", "lean", "paper"] = "tiny"
    seeds: int = SEEDS
    """Runs of each method; one takes a minute or two, and gives no interval."""
    workers: int = 2
    """Runs at a time; each takes one core."""
    out: Path = Path("runs/compare")
    """Folder for data, runs, the table as comparison.json, and the picture."""
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
        print(f"{self.out / 'comparison.json'}, {plot}: the table, also as a picture")
        return 0

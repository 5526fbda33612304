"""Many runs: `lightavseg sweep`."""
from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass
class Sweep:
    """Run the experiments that the notebooks show, on generated data and over seeds. What is finished is kept: stopped, it goes on where it was.

    The experiments: methods, ablation, loss, backbone, twins. Example: lightavseg sweep ablation loss --workers 2
    """

    names: Annotated[list[str], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = field(default_factory=list)
    """Experiments; without any, all of them."""
    out: Path | None = None
    """A JSON file for each run lands in its folder `sweep`; by default results, and for the smoke budget WORK/results."""
    work: Path = Path("runs/sweep")
    """Data and the shared audio encoder, made again where they are missing."""
    workers: int = 2
    """Runs at a time; each takes one core."""
    seeds: int = 3
    budget: Literal["default", "smoke"] = "default"
    """smoke: seconds for each run, in which nothing is learnt."""

    def run(self) -> int:
        from ..experiments.runs import SMOKE
        from ..experiments.sweep import sweep
        smoke = self.budget == "smoke"
        out = self.out or (self.work / "results" if smoke else Path("results"))
        failed = sweep(self.names, out, self.work, self.workers, self.seeds, SMOKE if smoke else None)
        if failed:
            print(f"lightavseg: {len(failed)} runs failed: {', '.join(failed)}. Their logs are in {self.work}.", file=sys.stderr)
        return 1 if failed else 0

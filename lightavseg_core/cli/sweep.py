"""Many runs: `lightavseg sweep`, and `rehearse` before long ones."""
from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..config import Subset
from ..experiments.runs import BUDGETS, EXPERIMENTS, SEEDS


@dataclass
class Sweep:
    __doc__ = f"""Run the experiments that the notebooks show, on generated data and with several seeds.

    Finished runs are kept: if it is stopped, the same command resumes.
    The experiments: {", ".join(EXPERIMENTS)}.

    Example: lightavseg sweep ablation loss --workers 2
    """

    names: Annotated[list[str], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = field(
        default_factory=list
    )
    """Experiments; by default all of them."""
    subset: Subset | None = None
    """Only the runs on this subset."""
    method: str | None = None
    """Only the runs of this method."""
    file: Annotated[Path | None, tyro.conf.arg(name="import", metavar="FILE")] = None
    """A Python file with a method of your own, which takes part in the experiment `methods`."""
    out: Path | None = None
    """Folder for a JSON file of each run, in its subfolder `sweep`; by default results, or WORK/results for
    the smoke budget."""
    work: Path | None = None
    """Folder for data, the shared audio encoder, and each run's trained model and log; by default runs/sweep,
    or runs/smoke for the smoke budget."""
    workers: int = 2
    """Runs at a time, one core each."""
    seeds: int = SEEDS
    budget: Literal["default", "smoke"] = "default"
    """smoke: a test of a few seconds per run, in which nothing is learned."""

    def run(self) -> int:
        from ..experiments.sweep import sweep

        smoke = self.budget == "smoke"
        work = self.work or Path("runs/smoke" if smoke else "runs/sweep")
        out = self.out or (work / "results" if smoke else Path("results"))
        budget = BUDGETS["smoke"] if smoke else None
        part = {"subset": self.subset, "method": self.method, "file": self.file}
        failed = sweep(self.names, out, work, self.workers, self.seeds, budget, **part)
        if failed:
            print(f"lightavseg: {len(failed)} runs failed: {', '.join(failed)}.", file=sys.stderr)
        return 1 if failed else 0


@dataclass
class Rehearse:
    """Run the published trainings on AVSBench for a few steps, before they run for days.

    Checks every file; then each recipe trains at its own size, stops, resumes, and is scored with each sound.
    Reports the memory and the time of a step, and computes the hours of the whole training.

    Example: lightavseg rehearse path/to/AVSBench --weights weights
    """

    data: Annotated[Path, tyro.conf.Positional]
    """Folder of the dataset; whichever of S4, MS3 and AVSS are there are used."""
    weights: Path = Path("weights")
    """Folder with the encoders' published files, under their own names or as ENCODER.pth; an encoder without
    one starts from random weights."""
    out: Path = Path("runs/rehearsal")
    """Folder for a run of each recipe and for rehearsal.json."""
    steps: int = 3
    """Steps in each of two epochs."""
    recipe: str | None = None
    """One published recipe, as in `train`; by default every one."""
    recompute: bool = False
    """As in `train`: less memory, more time."""

    def run(self) -> int:
        from ..experiments.rehearsal import rehearse

        rows = rehearse(self.data, self.weights, self.out, self.steps, self.recipe, self.recompute)
        for row in rows:
            if "ended" in row:
                print(f"{row['recipe']}, {row['subset']}: {row['ended']}")
                continue
            files = " and ".join(row["published files"]) or "random weights"
            batch = f"{row['clips a step']} clips of {row['size']} px"
            print(
                f"{row['recipe']}, {row['subset']}, {batch}, {files}: {row['seconds a step']} s a step, "
                f"{row['peak, MiB']:,} MiB; {row['hours in all, computed']} hours in all, computed"
            )
        return int(any("ended" in row for row in rows))

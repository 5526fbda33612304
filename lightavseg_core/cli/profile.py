"""Measuring latency: `lightavseg profile` and `bench`."""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .options import Import


@dataclass
class Profile:
    """Time models in turns: medians with intervals, paired ratios, operation counts, and the roofline.

    Example: lightavseg profile lightavseg avesformer --preset lean --threads 1 --parts --plot latency.png
    """

    names: Annotated[
        list[str], tyro.conf.Positional, tyro.conf.arg(metavar="[METHOD_OR_CHECKPOINT ...]")
    ] = field(default_factory=lambda: ["lightavseg"])
    """Methods, with random weights; model folders; hf:owner/name; exported files (.onnx, .xml, .pte). The
    others are compared with the first."""
    preset: Literal["tiny", "lean", "paper"] = "lean"
    """Preset of the methods."""
    size: int = 224
    """Side of the frames, pixels."""
    seconds: int = 1
    """Frames of a clip, one per second."""
    batch: int = 1
    threads: int | None = None
    """Threads of torch; by default its own choice."""
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: Literal["none", "default", "graphs"] = "none"
    """default: torch.compile; graphs: with CUDA graphs."""
    repeats: int = 30
    """Rounds; every model runs once in each."""
    imports: Import = None
    parts: bool = False
    """Show the shares of the encoders, the fusion and the rest too; not with --compile."""
    json: bool = False
    """Print JSON, with the time of every round."""
    out: Path | None = None
    """Write the JSON into this file."""
    plot: Path | None = None
    """Draw the latencies into this file (.png, .svg, .pdf)."""

    def run(self) -> int:
        from .._common.files import check_file
        from .._common.records import write
        from ..profiling.profiler import lines, profile, resolve
        from ..profiling.timing import threads

        for file in filter(None, (self.out, self.plot)):
            check_file(file)
        shape = self.size, self.seconds
        with threads(self.threads):
            found = profile(
                {name: resolve(name, self.preset, *shape, self.device) for name in self.names},
                *shape,
                self.batch,
                repeats=self.repeats,
                device=self.device,
                precision=self.precision,
                compile=self.compile,
                part_repeats=self.repeats * self.parts,
            )
        if self.out:
            write(self.out, found.to_dict())
        if self.plot:
            from ..plots.common import save
            from ..plots.latency import bars

            save(bars(found), self.plot, dpi=120)
        print(json.dumps(found.to_dict(), indent=1) if self.json else "\n".join(lines(found)))
        return 0


@dataclass
class Bench:
    """Measure what the README shows: every method, every runtime, the trained small model, growth with size.

    Takes 40 minutes on 2 cores. Finished runs are kept.

    Example: lightavseg bench --figure figures/latency.png
    """

    out: Path | None = None
    """JSON file to write; by default results/latency.json, and on a GPU results/latency_gpu.json."""
    figure: Path | None = None
    """Picture to write of the runs on the processor; beside it, growth.png shows a training's growth."""
    device: Literal["cpu", "cuda"] | None = None
    """By default a GPU if there is one."""
    repeats: int = 30
    """Rounds; every candidate runs once in each."""
    only: Annotated[list[str], tyro.conf.arg(metavar="NAME ...")] = field(default_factory=list)
    """Runs to measure again, such as methods, runtimes, tiny, scaling; the others are kept."""

    def run(self) -> int:
        from .._common.files import check_file
        from ..profiling.benchmark import run

        if self.figure:
            check_file(self.figure)
        bench = run(self.out, self.device, self.repeats, self.only)
        if not self.figure:
            return 0
        from ..plots.common import save
        from ..plots.latency import overview, training

        drawn = {}
        if {"methods", "runtimes"} <= bench.profiles.keys():
            drawn[self.figure] = overview(bench.profiles["methods"], bench.profiles["runtimes"])
        if "training" in bench.series:
            drawn[self.figure.with_name("growth.png")] = training(bench.series["training"])
        for path, figure in drawn.items():
            save(figure, path, dpi=110)
        return 0

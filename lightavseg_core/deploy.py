"""The commands that run a trained model elsewhere or time it: `lightavseg predict`, `export`, `profile` and `bench`."""
from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .config import Subset


@dataclass
class Predict:
    """Masks of what sounds in videos: PNG files, a video with masks and sound, manifest.json. Stopped, the same command goes on where it was.

    Broken inputs are told of and leave nothing; what is damaged in a video is skipped.
    Example: lightavseg predict runs/first concert.mp4 --out masks --fps 2
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A model folder, a run of `train`, or a file of `export`."""
    inputs: Annotated[list[Path], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT [INPUT ...]")]
    """Videos, folders of videos; or with --audio a folder of frames, or one picture."""
    out: Path
    """Folder; each input gets a folder in it."""
    fps: float = 1.0
    """Frames per second that are looked at; of a folder of frames, how many there are in a second."""
    audio: Path | None = None
    """A file to hear with one input, instead of its own sound."""
    probabilities: bool = False
    """Write them too: float16 (classes, height, width), an .npz file for each frame."""
    runtime: Literal["pytorch", "onnx", "openvino", "executorch"] | None = None
    """By default what the checkpoint is for."""
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: Literal["none", "default", "graphs"] = "none"
    size: int | None = None
    """Side of the frames that the model sees, pixels; by default what it was trained at."""
    threshold: float = 0.5
    """Probability from which on a pixel is marked, of one class."""

    def run(self) -> int:
        from .predict import load, write_all
        segmenter = load(self.checkpoint, self.runtime, self.precision, self.compile, self.size)
        failed = write_all(segmenter, self.inputs, self.out, self.audio, fps=self.fps, probabilities=self.probabilities, threshold=self.threshold)
        return 1 if failed else 0


@dataclass
class Export:
    """Write a model as a file for ONNX Runtime, ExecuTorch (phones) or OpenVINO, which then runs without PyTorch's code. Needs the extra `edge`.

    The file takes frames of one size and clips of one length. Before it gets its name its own runtime runs it on clips, beside PyTorch.
    Example: lightavseg export checkpoints/tiny --runtime executorch --precision int8 --data data/shapes --subset ms3
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A model folder, or a run of `train` (its best)."""
    runtime: Literal["onnx", "executorch", "openvino"]
    precision: Literal["fp32", "int8"] = "fp32"
    """int8: 8-bit integers, of which the ranges are measured on the clips."""
    data: Path | None = None
    """A dataset whose training clips are compared on, and what int8 is measured on. Without, SoundingShapes are generated for it: they say
    whether the file does what the model does, but give the int8 of a model for real videos wrong ranges."""
    subset: Subset = "ms3"
    size: int | None = None
    """Side of the frames, pixels; by default what the model was trained at."""
    seconds: int = 1
    """Frames of a clip, one a second."""
    clips: int = 64
    """How many are compared on."""
    out: Path | None = None
    """File to write; by default runs/export/NAME_RUNTIME_PRECISION with the runtime's suffix."""
    json: bool = False
    """Print one line of JSON."""

    def run(self) -> int:
        from tempfile import TemporaryDirectory

        from . import load_model
        from .data import AVSBench
        from .data.sounding_shapes import generate
        from .export import checked, clips_of, export
        from .runtimes import SUFFIX
        model, name = load_model(self.checkpoint), self.checkpoint.resolve().name
        out = self.out or Path("runs/export", f"{name}_{self.runtime}_{self.precision}{SUFFIX[self.runtime]}")
        checked(out, self.runtime, self.precision)                  # before the clips, which take their time
        size = self.size or model.config.size
        with TemporaryDirectory() as folder:
            if not self.data:
                generate(folder, self.subset, {"train": self.clips}, size)
            clips = clips_of(AVSBench(self.data or folder, self.subset, "train", size, model.front_end), self.seconds, self.clips)
        given = [f"--{f.name} {getattr(self, f.name)}" for f in fields(self)[1:] if f.name != "json" and getattr(self, f.name) != f.default]
        found = export(model, out, self.runtime, clips, self.precision, name, " ".join(["lightavseg export", str(self.checkpoint), *given]))
        files = [out, out.with_suffix(".bin")] if self.runtime == "openvino" else [out]
        mb = sum(file.stat().st_size for file in files) / 1e6
        print(json.dumps({"file": str(out), "mb": round(mb, 3), "clips": len(clips), **found._asdict()}) if self.json else
              f"{out}: {mb:.1f} MB; logits deviate from PyTorch's by {100 * found.deviation:.2g}% of their mean absolute value, "
              f"{found.pixels:.2%} of the pixels are marked alike ({len(clips)} clips)")
        return 0


@dataclass
class Profile:
    """Time models in turns: medians with intervals, ratios by pairs, what is counted, and how far from the machine's best.

    Example: lightavseg profile lightavseg avesformer --preset lean --size 224 --seconds 1 --threads 1 --parts --plot latency.png
    """

    names: Annotated[list[str], tyro.conf.Positional, tyro.conf.arg(metavar="[METHOD_OR_CHECKPOINT ...]")] = field(
        default_factory=lambda: ["lightavseg"])
    """Methods, with random weights; model folders; exported files (.onnx, .xml, .pte). The first is what the others are compared with."""
    preset: Literal["tiny", "lean", "paper"] = "lean"
    """Of the methods."""
    size: int = 224
    """Side of the frames, pixels."""
    seconds: int = 1
    """Frames of a clip, one a second."""
    batch: int = 1
    threads: int | None = None
    """Of torch; by default as many as it takes."""
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: Literal["none", "default", "graphs"] = "none"
    """default: torch.compile; graphs: with CUDA graphs."""
    repeats: int = 30
    """Rounds, in each of which every model takes its turn."""
    parts: bool = False
    """Also the shares of the encoders, of fusion and of the rest; without --compile."""
    json: bool = False
    """Print JSON, with the time of every round."""
    out: Path | None = None
    """Write the JSON into this file."""
    plot: Path | None = None
    """Draw the latencies into this file (.png, .svg, .pdf)."""

    def run(self) -> int:
        from .profiling import lines, profile, resolve
        from .results import write
        from .timing import threads
        with threads(self.threads):
            models = {name: resolve(name, self.preset, self.size, self.seconds, self.device) for name in self.names}
            found = profile(models, self.size, self.seconds, self.batch, repeats=self.repeats, device=self.device, precision=self.precision,
                            compile=self.compile, part_repeats=self.repeats * self.parts)
        if self.out:
            write(self.out, found.to_dict())
        if self.plot:
            found.figure().savefig(self.plot, dpi=120)
        print(found.to_json() if self.json else "\n".join(lines(found)))
        return 0


@dataclass
class Bench:
    """Measure what the README shows: every method, every runtime, the trained small model, growth. Half an hour on 2 cores; what is done is kept.

    Example: lightavseg bench --figure figures/latency.png
    """

    out: Path | None = None
    """JSON file to write; by default results/latency.json, and on a GPU results/latency_gpu.json."""
    figure: Path | None = None
    """Picture to write, of the runs on the processor."""
    device: Literal["cpu", "cuda"] | None = None
    """By default a GPU where there is one."""
    repeats: int = 30
    """Rounds; each candidate runs once in each."""
    only: Annotated[list[str], tyro.conf.arg(metavar="NAME ...")] = field(default_factory=list)
    """Runs to measure again, such as methods, runtimes, tiny, scaling; the others stay as the file has them."""

    def run(self) -> int:
        from .bench import run
        bench = run(self.out, self.device, self.repeats, self.only)
        if self.figure and {"methods", "runtimes"} <= bench.profiles.keys():
            from .latency_plots import overview
            self.figure.parent.mkdir(parents=True, exist_ok=True)
            overview(bench.profiles["methods"], bench.profiles["runtimes"]).savefig(self.figure, dpi=110)
        return 0

"""The command line, `lightavseg`: made from dataclasses by tyro. Each command says in --help what it does, with an example.

A command imports what it needs when it runs: --help answers at once, and `check` where packages are missing.
"""
from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .config import TrainConfig
from .recipes import RECIPES, UNVERIFIED

Subset = Literal["s4", "ms3", "avss"]
Split = Literal["train", "val", "test"]
Sound = Literal["normal", "silent", "swapped", "noise", "noisy"]


@dataclass
class Check:
    """Versions, device and threads of this machine, and what is missing.

    Example: lightavseg check
    """

    def run(self) -> int:
        from .environment import report
        lines, complete = report()
        print("\n".join(lines))
        return 0 if complete else 1


@dataclass
class DataMake:
    """Generate SoundingShapes in AVSBench's layout.

    Example: lightavseg data make data/shapes --subset ms3 --train 400 --val 80 --test 80 --size 128 --seed 0
    """

    root: Annotated[Path, tyro.conf.Positional]
    """Folder to write into."""
    subset: Subset = "ms3"
    train: int = 400
    """Clips of each split."""
    val: int = 80
    test: int = 80
    size: int = 128
    """Side of the frames, pixels."""
    seed: int = 0
    distractors: bool = True
    """Without: the one visible object sounds, so a model can ignore the sound."""
    twins: bool = False
    """Two objects of one category, of which one sounds."""

    def run(self) -> int:
        from .data.sounding_shapes import generate
        generate(self.root, self.subset, {"train": self.train, "val": self.val, "test": self.test}, self.size, self.seed,
                 self.distractors, self.twins)
        print(f"{self.root}: {self.subset}, {self.train} train, {self.val} val, {self.test} test clips of {self.size} px, seed {self.seed}")
        return 0


@dataclass
class DataCheck:
    """Read every file of a dataset, real or generated, and list all that is missing or broken; exit code 1 where something is.

    Example: lightavseg data check data/shapes --subset ms3
    """

    root: Annotated[Path, tyro.conf.Positional]
    subset: Subset = "ms3"
    json: bool = False
    """Print the report as JSON."""

    def run(self) -> int:
        from .data.check import ADVICE, check
        report = check(self.root, self.subset)
        if self.json:
            print(json.dumps({"subset": report.subset, "clips": report.clips, "files": report.files, "notes": report.notes,
                              "problems": [{"clip": c, "kind": k, "found": f, "to_do": ADVICE[k]} for c, k, f in report.problems]}, indent=1))
        else:
            print("\n".join(report.lines()))
        return 0 if report.ok else 1


@dataclass
class Data:
    """Make or check a dataset folder."""

    command: Annotated[DataMake, tyro.conf.subcommand("make")] | Annotated[DataCheck, tyro.conf.subcommand("check")]

    def run(self) -> int:
        return self.command.run()


@dataclass
class _TrainOptions:
    data: Path
    """Folder of the dataset."""
    out: Path
    """Folder for configuration, log, best and last checkpoint."""
    subset: Subset = "ms3"
    recipe: str | None = None
    """A published training recipe: paper (LightAVSeg), avsbench, avsegformer or selm. What is given beside it wins."""
    method: str = "lightavseg"
    preset: Literal["tiny", "lean", "paper"] = "tiny"
    visual: str | None = None
    """Visual encoder; by default the preset's, or the recipe's."""
    audio: str | None = None
    """Audio encoder, likewise."""
    visual_weights: Path | None = None
    """A published ImageNet checkpoint of the visual encoder; by default it starts at random. For the audio encoder: --audio-weights."""
    size: int | None = None
    """Side of the frames, pixels; by default what the preset, or the recipe, is meant for."""
    sound: Sound = "normal"
    """What is heard in training; `silent` trains a deaf twin."""


@dataclass
class Train(TrainConfig, _TrainOptions):
    """Train a model on a dataset folder. Ctrl-C keeps the checkpoints written so far.

    Example: lightavseg train --data data/shapes --subset ms3 --preset tiny --epochs 20 --seed 0 --out runs/first
    """

    def with_recipe(self) -> Train:
        """This command with the recipe's values as defaults. Raises ValueError where there is no such recipe for the subset."""
        from .encoders import unknown
        if self.recipe not in RECIPES:
            raise unknown("recipe", self.recipe, RECIPES)
        recipe = RECIPES[self.recipe]
        return replace(self, method=recipe.method, preset="paper", **recipe.of(self.subset)[1])

    def run(self) -> int:
        import torch

        from . import Trainer, create_model
        from .data import AVSBench
        if (self.out / "log.jsonl").exists():
            raise FileExistsError(f"{self.out}: holds an earlier run. Give another --out, or remove it.")
        config = TrainConfig(**{f.name: getattr(self, f.name) for f in fields(TrainConfig)})
        given = {name: value for name in ("visual", "audio", "size") if (value := getattr(self, name)) is not None}
        if self.recipe:
            recipe = RECIPES[self.recipe]
            if self.method != recipe.method:
                raise ValueError(f"--recipe {self.recipe} trains {recipe.method}; found --method {self.method}. Leave one of them out.")
            given = {**recipe.of(self.subset)[0], **given}
            print(f"recipe {self.recipe} ({recipe.source}), {UNVERIFIED}")
            if self.audio_weights == "auto":
                raise ValueError(f"the published run of {self.recipe} freezes an audio encoder trained on AudioSet: give --audio-weights FILE (for "
                                 "VGGish see `lightavseg download vggish`; PANNs' file goes with --audio panns_mobilenetv2), or joint, or pretrain.")
            if not self.visual_weights:
                print("the published run starts from ImageNet weights: give --visual-weights FILE")
        classes = AVSBench(self.data, self.subset, "train").num_classes
        torch.manual_seed(config.seed)
        model = create_model(self.method, preset=self.preset, num_classes=classes, **given)
        if self.visual_weights:
            print(f"visual encoder: {len(model.visual.load_published(self.visual_weights).loaded)} tensors from {self.visual_weights}")
        size = model.config.size
        train, validation = (AVSBench(self.data, self.subset, split, size, model.front_end, self.sound, config.seed) for split in ("train", "val"))
        scores = Trainer(model, config, self.out).fit(train, validation)
        print(json.dumps({"out": str(self.out), **scores}))
        return 0


@dataclass
class Evaluate:
    """Score a run's best checkpoint, or a model folder, also with another sound.

    Example: lightavseg evaluate runs/first --data data/shapes --subset ms3 --split test --sound swapped --json
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """What `train` wrote with --out, or a model folder such as checkpoints/tiny."""
    data: Path
    subset: Subset = "ms3"
    split: Split = "test"
    sound: Sound = "normal"
    size: int | None = None
    """Side of the frames, pixels; by default what the model was trained at."""
    batch_size: int = 8
    json: bool = False
    """Print one line of JSON."""

    def run(self) -> int:
        import torch

        from . import evaluate, load_model
        from .data import AVSBench
        model = load_model(self.folder).to("cuda" if torch.cuda.is_available() else "cpu")
        size = self.size or model.config.size
        dataset = AVSBench(self.data, self.subset, self.split, size, model.front_end)
        if dataset.num_classes != model.config.num_classes:
            raise ValueError(f"{self.folder} has {model.config.num_classes} classes, {self.subset} has {dataset.num_classes}: "
                             "evaluate it on what it was trained for.")
        scores = evaluate(model, dataset, self.sound, self.batch_size)
        lines = (f"{name:18} {value:.4f}" if isinstance(value, float) else f"{name:18} {value}" for name, value in scores.items())
        print(json.dumps(scores) if self.json else "\n".join(lines))
        return 0


@dataclass
class Predict:
    """Masks of what sounds in videos: PNG files, a video with masks and sound, manifest.json. Stopped, the same command goes on where it was.

    Example: lightavseg predict checkpoints/tiny concert.mp4 --out masks --fps 2
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A model folder, a run of `train`, or a file of `export`."""
    inputs: Annotated[list[Path], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT [INPUT ...]")]
    """Videos, folders of videos, or one picture with --audio."""
    out: Path
    """Folder; each input gets a folder in it."""
    fps: float = 1.0
    """Frames per second that are looked at."""
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
        from .sweep import SMOKE, sweep
        smoke = self.budget == "smoke"
        out = self.out or (self.work / "results" if smoke else Path("results"))
        failed = sweep(self.names, out, self.work, self.workers, self.seeds, SMOKE if smoke else None)
        if failed:
            print(f"lightavseg: {len(failed)} runs failed: {', '.join(failed)}. Their logs are in {self.work}.", file=sys.stderr)
        return 1 if failed else 0


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


@dataclass
class Download:
    """Fetch an encoder's published weights from where its authors keep them, and check the SHA-256. No other command does.

    Example: lightavseg download vggish --out vggish.pth
    """

    name: Annotated[str, tyro.conf.Positional]
    """vggish or resnet50; for panns_mobilenetv2 and seaformer_t to seaformer_l it says where to get the file by hand."""
    out: Path = Path(".")
    """File to write, or a folder, where it gets its published name."""

    def run(self) -> int:
        from .encoders import download
        print(download(self.name, self.out))
        return 0


def main(arguments: list[str] | None = None) -> None:
    """Entry point. A mistake of the user's ends in one line on stderr and exit code 2, without a traceback."""
    commands = (Annotated[Check, tyro.conf.subcommand("check")] | Annotated[Data, tyro.conf.subcommand("data")]
                | Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
                | Annotated[Predict, tyro.conf.subcommand("predict")]
                | Annotated[Profile, tyro.conf.subcommand("profile")]
                | Annotated[Export, tyro.conf.subcommand("export")]
                | Annotated[Bench, tyro.conf.subcommand("bench")]
                | Annotated[Sweep, tyro.conf.subcommand("sweep")] | Annotated[Download, tyro.conf.subcommand("download")])
    parse = partial(tyro.cli, commands, prog="lightavseg", description=__doc__, args=arguments,
                    config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes))
    command = parse()
    try:
        if isinstance(command, Train) and command.recipe:
            command = parse(default=command.with_recipe())         # once more: what is given wins over the recipe
        sys.exit(command.run())
    except KeyboardInterrupt:
        print("stopped; what was written until now is kept", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"lightavseg: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

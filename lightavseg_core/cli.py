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

from .config import Subset, TrainConfig
from .deploy import Bench, Export, Predict, Profile
from .environment import printable
from .recipes import RECIPES, UNVERIFIED

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
    """Read every file of a dataset, real or generated, and list all that is missing or broken.

    Exit code: 0 nothing is wrong, 1 something is, 2 there is no such dataset.

    Example: lightavseg data check path/to/AVSBench
    """

    root: Annotated[Path, tyro.conf.Positional]
    """The folder that holds Single-source, Multi-sources or metadata.csv, or one above or below it."""
    subset: Subset | None = None
    """By default all that are found."""
    json: bool = False
    """Print the report as JSON: of one --subset, or of all under `subsets`."""

    def run(self) -> int:
        from .data.check import SUBSETS, check_all
        reports = check_all(self.root, [self.subset] if self.subset else SUBSETS)
        if self.json:
            found = [report.as_json() for report in reports]
            print(json.dumps(found[0] if self.subset else {"root": str(self.root), "subsets": {part["subset"]: part for part in found}}, indent=1))
        else:
            print("\n\n".join("\n".join(report.lines()) for report in reports))
        return 0 if all(report.ok for report in reports) else 1


@dataclass
class DataSpeed:
    """Does training wait for its data? Clips per second read from disk and from memory, beside those of the training step.

    Example: lightavseg data speed data/shapes --subset ms3 --preset tiny
    """

    root: Annotated[Path, tyro.conf.Positional]
    subset: Subset = "ms3"
    method: str = "lightavseg"
    preset: Literal["tiny", "lean", "paper"] = "tiny"
    clips: int = 64
    """So many of the training split, at most."""
    batch_size: int = 4
    workers: tuple[int, ...] = (0, 2)
    """Numbers of reading processes to try; 0 reads in the training process."""
    json: bool = False
    """Print one line of JSON."""

    def run(self) -> int:
        from . import create_model
        from .data import AVSBench
        from .loading import lines, measure
        classes = AVSBench(self.root, self.subset, "train").num_classes
        model = create_model(self.method, preset=self.preset, num_classes=classes)
        found = measure(model, self.root, self.subset, clips=self.clips, batch_size=self.batch_size, workers=self.workers)
        print(json.dumps(found) if self.json else "\n".join(lines(found)))
        return 0


@dataclass
class Data:
    """Make or check a dataset folder, or time how fast it is read."""

    command: (Annotated[DataMake, tyro.conf.subcommand("make")] | Annotated[DataCheck, tyro.conf.subcommand("check")]
              | Annotated[DataSpeed, tyro.conf.subcommand("speed")])

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
        print(f"lightavseg: {printable(error)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

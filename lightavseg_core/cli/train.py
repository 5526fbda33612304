"""Training and scoring: `lightavseg train` and `evaluate`."""
from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..config import Subset, TrainConfig
from ..recipes import RECIPES, UNVERIFIED
from .options import Import, is_first

Split = Literal["train", "val", "test"]
Sound = Literal["normal", "silent", "swapped", "noise", "noisy"]


PATHS = ("data", "visual_weights")


def _said(value: object) -> object:
    """As train.json has it."""
    return str(value.resolve()) if isinstance(value, Path) else value


@dataclass
class _TrainOptions:
    data: Path | None = None
    """Folder of the dataset."""
    out: Path | None = None
    """Folder for configuration, log, best and last checkpoint."""
    resume: Path | None = None
    """In place of all else: a run that was stopped, which goes on from its last checkpoint."""
    subset: Subset = "ms3"
    recipe: str | None = None
    """A published training recipe: paper (LightAVSeg), avsbench, avsegformer or selm. What is given beside it
    wins."""
    method: str = "lightavseg"
    preset: Literal["tiny", "lean", "paper"] = "tiny"
    visual: str | None = None
    """Visual encoder; by default the preset's, or the recipe's."""
    audio: str | None = None
    """Audio encoder, likewise."""
    visual_weights: Path | None = None
    """A published ImageNet checkpoint of the visual encoder; by default it starts at random. For the audio
    encoder: --audio-weights."""
    size: int | None = None
    """Side of the frames, pixels; by default what the preset, or the recipe, is meant for."""
    sound: Sound = "normal"
    """What is heard in training; `silent` trains a deaf twin."""
    imports: Import = None


@dataclass
class Train(TrainConfig, _TrainOptions):
    """Train a model on a dataset folder. Ctrl-C and SIGTERM stop it after a step, from which --resume goes
    on; it does so too, from the last checkpoint, after whatever else ended it.

    Example: lightavseg train --data data/shapes --subset ms3 --preset tiny --out runs/first
    """

    def with_recipe(self) -> Train:
        """This command with the recipe's values as defaults. Raises ValueError where the subset has none."""
        from .._common.names import unknown

        if self.recipe not in RECIPES:
            raise unknown("recipe", self.recipe, RECIPES)
        recipe = RECIPES[self.recipe]
        return replace(self, method=recipe.method, preset="paper", **recipe.of(self.subset)[1])

    def run(self) -> int:
        import torch

        from .._common.together import meeting
        from ..data.avsbench import AVSBench
        from ..models import create_model
        from ..trainer import Trainer

        if not (self.data and self.out):
            raise ValueError("give --data and --out, or --resume RUN.")
        if not self.resume:
            self._refuse_earlier_run()
        config = TrainConfig(**{f.name: getattr(self, f.name) for f in fields(TrainConfig)})
        if config.audio_weights not in ("auto", "pretrain", "joint"):
            config.audio_weights = _said(Path(config.audio_weights))
        config.check()
        options = {name: getattr(self, name) for name in ("visual", "audio", "size")}
        options = {name: value for name, value in options.items() if value is not None}
        if self.recipe:
            options = self._published_options() | options
        classes = AVSBench(self.data, self.subset, "train").num_classes
        torch.manual_seed(config.seed)
        model = create_model(self.method, preset=self.preset, num_classes=classes, **options)
        if self.visual_weights:
            loaded = model.visual.load_published(self.visual_weights).loaded
            print(f"visual encoder: {len(loaded)} tensors from {self.visual_weights}")
        how = (model.config.size, model.front_end, self.sound, config.seed)
        train, validation = (AVSBench(self.data, self.subset, split, *how) for split in ("train", "val"))
        trainer = Trainer(model, config, self.out, {"command": self._command()})
        if not self.resume:
            self._refuse_earlier_run()  # of a command that was given just before this one, and is through
        with meeting():
            scores = trainer.fit(train, validation, resume=self.resume is not None)
        print(json.dumps({"out": str(self.out), **scores}))
        return 0

    def _command(self) -> dict:
        """What was given beside the configuration, by name, with whole paths; for `--resume`."""
        given = {f.name: getattr(self, f.name) for f in fields(_TrainOptions)}
        return {name: _said(value) for name, value in given.items() if name not in ("out", "resume")}

    def begun(self) -> Train:
        """The command by which the run that is to go on was begun. Raises FileNotFoundError or ValueError:
        there is no such run, or another option was given. Where it is through the program ends, well."""
        from ..run_folder import FREE, RunFolder, read_about

        about = read_about(self.resume)
        if (self.resume / "last").is_dir() and not RunFolder(self.resume, about, 0).checkpoints:
            print(f"{self.resume}: is through; there is nothing left to go on with.")
            sys.exit()  # no mistake: a job that is begun again and again ends here
        try:
            values = about["command"] | {f.name: about[f.name] for f in fields(TrainConfig)}
            options = {name: values[name] for name in (f.name for f in fields(Train)) if name in values}
            paths = {name: Path(options[name]) for name in PATHS if options[name]}
            imports = options["imports"] and Path(options["imports"])
            same = {"imports": imports, "out": self.resume, "resume": self.resume}
            begun = Train(**{**options, **paths, **same})
        except (KeyError, TypeError):
            advice = "It was not begun by this version of `lightavseg train`. Start anew with another --out."
            raise ValueError(f"{self.resume}: cannot go on. {advice}") from None
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        told, values["out"] = [], _said(self.resume)
        for name in given.keys() - {"resume", *FREE}:
            if _said(given[name]) != values[name]:
                flag = "import" if name == "imports" else name.replace("_", "-")
                told.append(f"--{flag} {given[name]}, and it was {values[name]}")
        if told:
            found = "; ".join(sorted(told))
            raise ValueError(f"{self.resume}: goes on as it was begun; found {found}. Leave that out.")
        return replace(begun, **{name: given[name] for name in FREE if name in given})

    def _refuse_earlier_run(self) -> None:
        from .._common.files import alone
        if is_first() and (self.out / "log.jsonl").exists():
            with alone(self.out):  # not earlier, but running: that is refused otherwise
                advice = f"Give another --out, or remove it; if it was stopped, --resume {self.out} goes on."
                raise FileExistsError(f"{self.out}: holds an earlier run. {advice}")

    def _published_options(self) -> dict:
        """The recipe's options of the model. Raises ValueError for what does not go with the recipe."""
        recipe = RECIPES[self.recipe]
        if self.method != recipe.method:
            trains = f"--recipe {self.recipe} trains {recipe.method}"
            raise ValueError(f"{trains}; found --method {self.method}. Leave one of them out.")
        print(f"recipe {self.recipe} ({recipe.source}), {UNVERIFIED}")
        if self.audio_weights == "auto":
            raise ValueError(
                f"the published run of {self.recipe} freezes an audio encoder trained on AudioSet: give "
                "--audio-weights FILE (for VGGish see `lightavseg download vggish`; PANNs' file goes with "
                "--audio panns_mobilenetv2), or joint, or pretrain."
            )
        if not self.visual_weights:
            print("the published run starts from ImageNet weights: give --visual-weights FILE")
        return recipe.of(self.subset)[0]


@dataclass
class Evaluate:
    """Score a run's best checkpoint, or a model folder, also with another sound.

    Example: lightavseg evaluate runs/first --data data/shapes --subset ms3 --sound swapped --json
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """What `train` wrote with --out, a model folder such as checkpoints/tiny, or hf:owner/name of the Hugging
    Face Hub."""
    data: Path
    subset: Subset = "ms3"
    split: Split = "test"
    sound: Sound = "normal"
    size: int | None = None
    """Side of the frames, pixels; by default what the model was trained at."""
    batch_size: int = 8
    imports: Import = None
    json: bool = False
    """Print one line of JSON."""

    def run(self) -> int:
        from .._common.together import meeting
        from ..data.avsbench import AVSBench
        from ..evaluation import evaluate
        from ..models.base import load_model

        model = load_model(self.folder)
        size = model.config.size if self.size is None else self.size
        dataset = AVSBench(self.data, self.subset, self.split, size, model.front_end)
        if dataset.num_classes != model.config.num_classes:
            raise ValueError(
                f"{self.folder} has {model.config.num_classes} classes, {self.subset} has "
                f"{dataset.num_classes}: evaluate it on what it was trained for."
            )
        with meeting() as device:
            scores = evaluate(model.to(device), dataset, self.sound, self.batch_size)
        if self.json:
            print(json.dumps(scores))
            return 0
        for name, value in scores.items():
            print(f"{name:18} {value:.4f}" if isinstance(value, float) else f"{name:18} {value}")
        return 0

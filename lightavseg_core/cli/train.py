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
    """A value as train.json holds it."""
    return str(value.resolve()) if isinstance(value, Path) else value


@dataclass
class _TrainOptions:
    data: Path | None = None
    """Folder of the dataset."""
    out: Path | None = None
    """Folder for configuration, log, and best and last model."""
    resume: Path | None = None
    """Instead of all other options: a stopped run, which continues from its last checkpoint."""
    subset: Subset = "ms3"
    recipe: str | None = None
    """A published training recipe: paper (LightAVSeg), avsbench, avsegformer or selm. Other options override
    it."""
    method: str = "lightavseg"
    preset: Literal["tiny", "lean", "paper"] = "tiny"
    visual: str | None = None
    """Visual encoder; by default that of the preset or the recipe."""
    audio: str | None = None
    """Audio encoder, likewise."""
    visual_weights: Path | None = None
    """A published ImageNet checkpoint of the visual encoder; by default it starts from random weights. For
    the audio encoder use --audio-weights."""
    size: int | None = None
    """Side of the frames, pixels; by default that of the preset or the recipe."""
    sound: Sound = "normal"
    """The sound in training; `silent` trains a deaf twin."""
    imports: Import = None


@dataclass
class Train(TrainConfig, _TrainOptions):
    """Train a model on a dataset folder. Ctrl-C and SIGTERM stop it after a step, from which --resume
    continues; after any other end, --resume continues from the last checkpoint.

    Example: lightavseg train --data data/shapes --subset ms3 --preset tiny --out runs/first
    """

    def with_recipe(self) -> Train:
        """This command with the recipe's values as defaults. Raises ValueError if the subset has none."""
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
        """The options beside the configuration, by name, with absolute paths; for `--resume`."""
        given = {f.name: getattr(self, f.name) for f in fields(_TrainOptions)}
        return {name: _said(value) for name, value in given.items() if name not in ("out", "resume")}

    def begun(self) -> Train:
        """The command that started the run to resume. Raises FileNotFoundError or ValueError if there is no
        such run, or if another option was given. If the run is finished, the program ends with success."""
        from ..run_folder import FREE, RunFolder, read_about

        about = read_about(self.resume)
        if (self.resume / "last").is_dir() and not RunFolder(self.resume, about, 0).checkpoints:
            print(f"{self.resume}: the training is finished; there is nothing to resume.")
            sys.exit()  # no mistake: a job that is begun again and again ends here
        try:
            values = about["command"] | {f.name: about[f.name] for f in fields(TrainConfig)}
            options = {name: values[name] for name in (f.name for f in fields(Train)) if name in values}
            paths = {name: Path(options[name]) for name in PATHS if options[name]}
            imports = options["imports"] and Path(options["imports"])
            same = {"imports": imports, "out": self.resume, "resume": self.resume}
            begun = Train(**{**options, **paths, **same})
        except (KeyError, TypeError):
            advice = "Another version of `lightavseg train` started it. Start anew with another --out."
            raise ValueError(f"{self.resume}: cannot be resumed. {advice}") from None
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        told, values["out"] = [], _said(self.resume)
        for name in given.keys() - {"resume", *FREE}:
            if _said(given[name]) != values[name]:
                flag = "import" if name == "imports" else name.replace("_", "-")
                told.append(f"--{flag} {given[name]}, which was {values[name]}")
        if told:
            found = "; ".join(sorted(told))
            raise ValueError(f"{self.resume}: resumes with its own options; found {found}. Leave that out.")
        return replace(begun, **{name: given[name] for name in FREE if name in given})

    def _refuse_earlier_run(self) -> None:
        from .._common.files import alone
        if is_first() and (self.out / "log.jsonl").exists():
            with alone(self.out):  # not earlier, but running: that is refused otherwise
                advice = f"Give another --out, or remove it; if it was stopped, use --resume {self.out}."
                raise FileExistsError(f"{self.out}: holds an earlier run. {advice}")

    def _published_options(self) -> dict:
        """The recipe's options of the model. Raises ValueError for options that contradict the recipe."""
        recipe = RECIPES[self.recipe]
        if self.method != recipe.method:
            trains = f"--recipe {self.recipe} trains {recipe.method}"
            raise ValueError(f"{trains}; found --method {self.method}. Leave out one of them.")
        print(f"recipe {self.recipe} ({recipe.source}), {UNVERIFIED}")
        if self.audio_weights == "auto":
            raise ValueError(
                f"the published run of {self.recipe} freezes an audio encoder trained on AudioSet: give "
                "--audio-weights FILE (for VGGish see `lightavseg download vggish`; PANNs' file needs "
                "--audio panns_mobilenetv2), joint, or pretrain."
            )
        if not self.visual_weights:
            print("the published run starts from ImageNet weights: give --visual-weights FILE")
        return recipe.of(self.subset)[0]


@dataclass
class Evaluate:
    """Score a run's best model, or a model folder, with its own or another sound.

    Example: lightavseg evaluate runs/first --data data/shapes --subset ms3 --sound swapped --json
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run (the --out of `train`), a model folder such as checkpoints/tiny, or hf:owner/name on the Hugging
    Face Hub."""
    data: Path
    subset: Subset = "ms3"
    split: Split = "test"
    sound: Sound = "normal"
    size: int | None = None
    """Side of the frames, pixels; by default the model's training size."""
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
                f"{dataset.num_classes}. Evaluate the model on the subset it was trained for."
            )
        with meeting() as device:
            scores = evaluate(model.to(device), dataset, self.sound, self.batch_size)
        if self.json:
            print(json.dumps(scores))
            return 0
        for name, value in scores.items():
            print(f"{name:18} {value:.4f}" if isinstance(value, float) else f"{name:18} {value}")
        return 0

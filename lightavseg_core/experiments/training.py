"""One run, in a process of its own: its data, the shared audio encoder, training, and the scores.

The data are the same for all seeds; a seed draws the weights and the order of the clips. All runs but the
twins share one audio encoder, the ear, trained once to tag sounds and then frozen: it stands for the AudioSet
pretraining that the published methods share. Runs on photographs share checkpoints/ear/photos.safetensors.
"""
from __future__ import annotations

import statistics
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.utils.data import Subset
from torchmetrics import MetricCollection

from .._common.files import sha256, whole
from .._common.records import provenance, write
from .._common.shipped import SHIPPED
from ..audio_pretraining import pretrain_audio
from ..config import TrainConfig
from ..data.avsbench import AVSBench
from ..data.cast import Individuals
from ..data.photos import VARIATIONS
from ..data.sounding_shapes import generate
from ..encoders import create_audio_encoder
from ..encoders.downloads import kept_at
from ..encoders.weights import read_metadata
from ..evaluation import deaf_oracle, evaluate
from ..inspection import attention, scales
from ..metrics import BoundaryScore, FalsePositiveShare, MaskScore
from ..models import create_model
from ..models.base import AVSModel
from ..models.presets import PRESETS
from ..trainer import Trainer
from .exam import SCENES, examine
from .results import maps_path, path_of
from .runs import SHOWN, Run, short_digest

SOUNDS = ("normal", "silent", "swapped", "noise", "noisy")
# Fields of a budget that are those of TrainConfig.
TRAINED = ("epochs", "batch_size", "half", "three_quarters", "learning_rate", "audio_epochs")
EAR = SHIPPED / "checkpoints" / "ear" / "ear.safetensors"
EAR_OF_PHOTOS = EAR.with_name("photos.safetensors")


# --- data ---


def data_folder(
    work: Path, run: Run, distractors: bool = True, individuals: Individuals = "seen"
) -> Path:
    """The folder of a run's data, generated if none is given and it is missing; for other individuals than
    the seen ones, only test clips."""
    if run.data:
        return Path(run.data)
    budget = run.budget
    clips = {"train": budget.train, "val": budget.val, "test": budget.test}
    if individuals != "seen":
        clips |= {"train": 0, "val": 0}
    kind = "mixed" if distractors else "alone"
    name = f"{run.subset}_{kind}_{clips['train']}_{clips['val']}_{clips['test']}_{budget.size}"
    if run.cast != "shapes":
        name = f"{run.cast}_{individuals}_{name}"
    scene = {"distractors": distractors, "cast": run.cast, "individuals": individuals}
    return generate(work / "data" / name, run.subset, clips, budget.size, seed=0, **scene)


def tested_on(work: Path, run: Run) -> dict[str, Path]:
    """The folders of test clips on which a run is scored, by the name of the scores in its result. Whatever
    varies more in training, photographs are tested as they are."""
    if of_photos := run.cast in VARIATIONS:
        run = replace(run, cast="photos")
    found = {"scores": data_folder(work, run)}
    if not run.distractors:
        found["scores_alone"] = data_folder(work, run, distractors=False)
    if of_photos:  # the same scenes with individuals that it knows, and with others
        for individuals in ("siblings", "unseen"):
            found[f"scores_{individuals}"] = data_folder(work, run, individuals=individuals)
    return found


def dataset(root: Path, run: Run, split: str, front_end=None, sound: str = "normal") -> AVSBench:
    """A split of a run's data: if it has more clips than the budget, that many, spread evenly over it."""
    found = AVSBench(root, run.subset, split, run.budget.size, front_end, sound)
    most, there = getattr(run.budget, split), len(found)
    if there > most:
        found.clips = [found.clips[k * there // most] for k in range(most)]
    return found


# --- the ear ---


def heard_by_ear(run: Run) -> Run:
    """The run whose data train a run's ear: itself if its data are given, otherwise one of ms3."""
    return run if run.data else Run(budget=run.budget)


def ear_recipe(run: Run) -> dict[str, str]:
    """The recipe of a run's ear: runs with the same recipe share it."""
    budget = run.budget
    return {
        "encoder": PRESETS[run.preset]["audio"],
        "data": f"{run.data} {run.subset} {run.files}" if run.data else "SoundingShapes ms3, seed 0",
        "train": str(budget.train),
        "val": str(budget.val),
        "audio_epochs": str(budget.audio_epochs),
    }


def ear_of(work: Path, run: Run) -> Path:
    """The file of a run's ear: the workbook's if it has the same recipe, otherwise one in `work`.

    Raises FileNotFoundError if a run on photographs lacks its own, which no sweep trains.
    """
    if run.cast in VARIATIONS:
        if not EAR_OF_PHOTOS.is_file():
            raise FileNotFoundError(f"{EAR_OF_PHOTOS}: missing. Restore it from the workbook's repository.")
        return EAR_OF_PHOTOS
    recipe = ear_recipe(run)
    if EAR.is_file():
        if recipe.items() <= read_metadata(EAR).items():
            return EAR
    return work / f"ear_{short_digest(recipe)}.safetensors"


def pretrain(path: Path, work: Path, run: Run) -> None:
    """Trains a run's ear and writes it to a file, with its recipe and scores as metadata."""
    torch.manual_seed(0)
    recipe = ear_recipe(run)
    audio = create_audio_encoder(recipe["encoder"])
    heard = heard_by_ear(run)
    root = data_folder(work, heard)
    train, validation = (dataset(root, heard, split, audio.front_end) for split in ("train", "val"))
    config = TrainConfig(audio_epochs=run.budget.audio_epochs, learning_rate=run.budget.learning_rate)
    tagging = pretrain_audio(audio, train, validation, config, torch.device("cpu"))
    scores = {name: str(share) for name, share in tagging.items()}
    with whole(path) as staging:
        save_file(audio.state_dict(), staging, {**recipe, **scores})


# --- the eyes ---


def visual_file(run: Run) -> Path | None:
    """The published file that a run's visual encoder starts from. Raises FileNotFoundError if it is not
    downloaded."""
    if not run.visual_weights:
        return None
    path = kept_at(run.visual_weights)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing. Run `lightavseg download {run.visual_weights}`.")
    return path


# --- the run ---


def execute(name: str, run: Run, seed: int, work: Path, out: Path, command: str) -> None:
    """Trains and scores a run, and writes its result."""
    start, budget = time.perf_counter(), run.budget
    root = data_folder(work, run, run.distractors)
    torch.manual_seed(seed)
    classes = dataset(root, run, "train").num_classes
    options = {"size": budget.size, "num_classes": classes, **run.options}
    model = create_model(run.method, preset=run.preset, **options)
    parameters = {}
    for part, module in model.named_children():
        parameters[part] = sum(p.numel() for p in module.parameters())
    given = {}
    if "audio_weights" not in run.train:
        _check_ear(model, ear_recipe(run)["encoder"])
        given["ear"] = sha256(ear_of(work, run))
    if eyes := visual_file(run):
        model.visual.load_published(eyes)
        given["eyes"] = sha256(eyes)
    train, validation = (dataset(root, run, split, model.front_end, run.sound) for split in ("train", "val"))
    how = {name: getattr(budget, name) for name in TRAINED}
    how |= {"seed": seed, "validate_every": budget.epochs}
    how["workers"] = 0  # this process may have none of its own
    if "audio_weights" not in run.train:
        how["audio_weights"] = str(ear_of(work, run))
    trainer = Trainer(model, TrainConfig(**how | run.train))
    trainer.fit(train, validation)
    folder = work / f"{name}_seed{seed}"
    model.save_pretrained(folder)
    steps = [entry for entry in trainer.log if entry["event"] == "step"]
    losses = {}
    for step in steps:
        losses.setdefault(step["epoch"], []).append(step["loss"])
    result = {
        "name": name,
        "run": asdict(run),
        **given,
        "steps": len(steps),
        "train_seconds": time.perf_counter() - start,
        "parameters": parameters,
        "loss": [statistics.fmean(epoch) for epoch in losses.values()],
        **_scores(model, run, work, maps_path(out, name) if (name, seed) in SHOWN else None),
    }
    if run.cast in VARIATIONS:
        result["exam"] = examine(folder, folder / "exam.json", min(SCENES, budget.test))
    seconds = time.perf_counter() - start
    write(path_of(out, name, seed), {**result, "seconds": seconds, **provenance(command, seed)})


def _check_ear(model: AVSModel, encoder: str) -> None:
    if model.config.audio != encoder:
        found = f"{model.config.method} hears with {model.config.audio}"
        raise ValueError(f"{found}; runs share a trained {encoder}. Leave out the option `audio`.")


def _scores(model: AVSModel, run: Run, work: Path, maps_file: Path | None) -> dict:
    """Scores by sound; for binary masks also the deaf oracle's and a look inside the model; for photographs
    also the M_J of each clip, for intervals."""
    binary = model.config.num_classes == 1
    metric = MetricCollection([MaskScore(), BoundaryScore(), FalsePositiveShare()], compute_groups=False)
    found = {}
    for place, root in tested_on(work, run).items():
        test = dataset(root, run, "test", model.front_end)
        found[place] = {}
        for sound in SOUNDS:
            found[place][sound] = evaluate(model, test, sound, score=metric.clone() if binary else None)
        if binary and not run.data and place != "scores_alone":
            found[place.replace("scores", "deaf_oracle")] = deaf_oracle(test)
        if run.cast in VARIATIONS:
            each = (Subset(test, [index]) for index in range(len(test)))
            found[place.replace("scores", "clips")] = [evaluate(model, clip)["M_J"] for clip in each]
        elif binary and place == "scores" and not run.files:  # another's decoder may have nothing to show
            found |= _look_inside(model, test, maps_file)
    return found


def _look_inside(model: AVSModel, test: AVSBench, maps_file: Path | None) -> dict:
    """What each scale of the decoder knows about the mask, and the statistics of each attention layer."""
    maps = scales.maps(model, test)
    if maps_file:
        scales.save_maps(maps_file, maps)
    inside = {"scales": scales.survey(maps, scales.truth(test))}
    if attention.attends(model):
        inside["attention"] = attention.survey(model, test)
    return inside

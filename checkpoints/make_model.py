"""Trains a model that the workbook ships, scores it, and writes its card.

    make checkpoint            checkpoints/tiny, which knows silhouettes: half an hour on two cores
    make checkpoint-photos     checkpoints/photos, which knows photographs: 90 minutes; fetches them first

Data and run land in runs/NAME; stopped, it goes on, and what is trained is not trained again. The test clips
of tiny are those of notebook 3 (seed 0): a clip is a function of seed, subset, split and index, whatever the
number of clips.
"""
from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch

import lightavseg_core as lav
from lightavseg_core import evaluation, plots
from lightavseg_core._common.records import provenance, write
from lightavseg_core.data import photos
from lightavseg_core.data.casting import cast_named
from lightavseg_core.data.fetching import fetch
from lightavseg_core.plots.common import save

HERE = Path(__file__).resolve().parent
SIZE, SEED = 128, 0
SOUNDS = {
    "its own": "normal",
    "swapped": "swapped",
    "its own and white noise": "noisy",
    "white noise": "noise",
    "silence": "silent",
}


class Shipped(NamedTuple):
    """clips: of each split. command: that makes it. title, knows: what its card says of it."""

    cast: str
    command: str
    clips: dict[str, int]
    config: lav.TrainConfig
    title: str
    knows: str


MODELS = {
    "tiny": Shipped(
        "shapes",
        "make checkpoint",
        {"train": 2000, "val": 80, "test": 80},
        lav.TrainConfig(epochs=20, audio_epochs=4, seed=SEED),
        "trained on SoundingShapes",
        """**It knows seven silhouettes and their timbres, and nothing else**: {names}.
They were generated; no photograph and no recording was ever seen or heard. On a real video it will mark
nothing, or anything: what it marks there means nothing. It shows how the method works, and lets `predict` and
the notebooks run at once.""",
    ),
    "photos": Shipped(
        "photos",
        "make checkpoint-photos",
        {"train": 8000, "val": 160, "test": 320},
        lav.TrainConfig(
            epochs=17,
            audio_epochs=7,
            half=0.36,
            learning_rate=4e-3,
            weight_decay=0.01,
            negatives=0.05,
            validate_every=5,
            seed=SEED,
        ),
        "trained on SoundingPhotos",
        """**It knows {categories} animals, instruments and things, most by one picture and one recording**:
{names}.

Clips were composed of cut-out photographs and recordings of Tux Paint's packages. It is no AVSBench model,
and its scores are no AVSBench scores. Another dog, or another bark, it may not know. Of these individuals
nothing was seen or heard: {unseen}.

Its weights were trained on media under GPL-2.0-or-later, none of which is included; whether weights inherit
such terms is unsettled. Tux Paint is its owners' name; we are not of them.""",
    ),
}

CARD = """---
license: apache-2.0
tags: [audio-visual-segmentation]
---

# LightAVSeg, preset `tiny`, {title}

{millions:.2f} million parameters: SeaFormer-T, MobileNetV2-0.5, decoder width {width}.
For frames of {size} px.

{knows}

Two objects of one sound cannot be told apart by a global audio vector: it marks both, or one without knowing
which.

| | |
|---|---|
| data | {data} `ms3`, {train} training, {val} validation clips of 5 frames, {size} px, seed {seed} |
| command | `{command}` (commit {commit}) |
| training | {epochs} epochs, batch of {batch}, AdamW, one-cycle to {rate:g}; negatives {negatives:.0%} |
| machine | {device}, {threads} thread(s), torch {torch}, {date}: {minutes:.0f} minutes |
| audio encoder | pretrained to tag each second, then frozen; whole sounding sets right {sets_right:.1%} |

Measured on {test} unseen test clips ({frames} frames):

| sound | M_J | M_F | pixels marked |
|---|---|---|---|
{scores}
{oracle}

```python
import lightavseg_core as lav
model = lav.load_model("checkpoints/{name}")
```
"""


def datasets(data: Path, model: lav.models.AVSModel) -> list[lav.data.AVSBench]:
    """Those of training, validation and test."""
    splits = "train", "val", "test"
    read = {"front_end": model.front_end, "cache_bytes": 3 << 30}  # which 8,000 clips fit into
    return [lav.data.AVSBench(data, "ms3", split, SIZE, **read) for split in splits]


def train(shipped: Shipped, runs: Path) -> tuple[lav.models.AVSModel, list[dict]]:
    """The trained model, and the log of its training."""
    lav.data.sounding_shapes.generate(runs / "data", "ms3", shipped.clips, SIZE, SEED, cast=shipped.cast)
    if (runs / "run/last").is_dir() and (log := whole_log(runs / "run", shipped)):
        return lav.load_model(runs / "run/last"), log
    torch.manual_seed(SEED)
    model = lav.create_model("lightavseg", preset="tiny")
    trainer = lav.Trainer(model, shipped.config, runs / "run")
    train, validation, _ = datasets(runs / "data", model)
    trainer.fit(train, validation, resume=True)
    return model, trainer.log


def whole_log(run: Path, shipped: Shipped) -> list[dict]:
    """The log of a training that has ended; empty for another training, or one that is to go on."""
    about = json.loads((run / "train.json").read_text())
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    same = asdict(shipped.config).items() <= about.items()
    as_many = about["data"]["clips"] == shipped.clips["train"]
    ended = log[-1]["event"] == "validation" and log[-1]["epoch"] == shipped.config.epochs
    return log if same and as_many and ended else []


def row(label: str, scores: dict) -> str:
    return f"| {label} | {scores['M_J']:.3f} | {scores['M_F']:.3f} | {scores['foreground_share']:.2%} |"


def draw(model: lav.models.AVSModel, test: lav.data.AVSBench, path: Path) -> None:
    """The picture of README: five frames by rule, from the worst to the best, as in notebook 3."""
    ranked, columns = evaluation.ranked_frames(model, test), []
    chosen = [ranked[round(k * (len(ranked) - 1) / 4)] for k in range(5)]
    for _, i, t in chosen:
        item, silent = test[i], test.with_sound("silent")[i]
        marked = {"own sound": evaluation.predict(model, item)[t]}
        marked["silence"] = evaluation.predict(model, silent)[t]
        columns.append((item["frames"][t], item["mask"][t], marked))
    figure = plots.prediction_grid(columns, [f"IoU {iou:.2f}" for iou, _, _ in chosen])
    save(figure, path, dpi=110, bbox_inches="tight")


def known(shipped: Shipped) -> str:
    cast = cast_named(shipped.cast)
    cutouts = getattr(cast, "cutouts", ())
    unseen = ", ".join(one.individual.replace("_", " ") for one in cutouts if one.unseen)
    names = ", ".join(cast.categories)
    return shipped.knows.format(names=names, categories=len(cast.categories), unseen=unseen)


def losses(log: list[dict]) -> list[float]:
    """The mean training loss of each epoch."""
    by_epoch = {}
    for entry in log:
        if entry["event"] == "step":
            by_epoch.setdefault(entry["epoch"], []).append(entry["loss"])
    return [fmean(values) for values in by_epoch.values()]


def ship(name: str, model: lav.models.AVSModel, log: list[dict], data: Path, made: dict) -> None:
    """Scores the model, and writes its folder with its card, and results/NAME.json.

    These are the last weights, not the best of the validations. made: `provenance`, from before the training.
    """
    shipped, (_, _, test) = MODELS[name], datasets(data, model)
    scores = {label: lav.evaluate(model, test, sound) for label, sound in SOUNDS.items()}
    found = {entry["event"]: entry for entry in log}
    measured = {
        "size": SIZE,
        "clips": shipped.clips,
        "epochs": shipped.config.epochs,
        "loss": losses(log),
        "validations": [(one["epoch"], one["M_J"]) for one in log if one["event"] == "validation"],
        "minutes": found["validation"]["seconds"] / 60,
        "sets_right": found["tagging"]["sets_right"],
        "scores": scores,
        "deaf_oracle": lav.deaf_oracle(test),
    }
    write(HERE.parent / "results" / f"{name}.json", {**measured, **made})
    text = CARD.format(
        name=name,
        title=shipped.title,
        data=shipped.title.split()[-1],
        millions=sum(p.numel() for p in model.parameters()) / 1e6,
        knows=known(shipped),
        width=model.config.width,
        size=SIZE,
        seed=SEED,
        command=shipped.command,
        commit=made["commit"],
        date=made["date"],
        epochs=shipped.config.epochs,
        batch=shipped.config.batch_size,
        rate=shipped.config.learning_rate,
        negatives=shipped.config.negatives,
        minutes=measured["minutes"],
        sets_right=measured["sets_right"],
        device=made["machine"]["device"],
        threads=made["machine"]["threads"],
        torch=made["machine"]["torch"],
        frames=scores["its own"]["frames"],
        scores="\n".join(row(label, of_sound) for label, of_sound in scores.items()),
        oracle=row("deaf oracle (perfect masks of all visible objects)", measured["deaf_oracle"]),
        **shipped.clips,
    )
    model.save_pretrained(HERE / name)
    (HERE / name / "README.md").write_text(text)
    print(text)
    if shipped.cast == "photos":  # a picture of what nothing else may show: figures/CREDITS.md
        draw(model, test, HERE.parent / "figures" / "photos.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Trains a model that the workbook ships.")
    parser.add_argument("name", choices=MODELS)
    name = parser.parse_args().name
    runs, made = HERE.parent / "runs" / name, provenance(MODELS[name].command, SEED)
    if MODELS[name].cast == "photos":
        _, left_out = fetch(photos.collection())
        if left_out:
            sys.exit(f"It is trained on all photographs and recordings; left out: {', '.join(left_out)}.")
    ship(name, *train(MODELS[name], runs), runs / "data", made)

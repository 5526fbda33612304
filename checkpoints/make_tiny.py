"""Trains the model that the workbook ships, checkpoints/tiny, scores it, and writes its card.

    make checkpoint        (half an hour on two cores; the data and the run land in runs/tiny)

The test clips are those of notebook 3 (seed 0): a clip is a function of seed, subset, split and index,
whatever the number of clips.
"""
from __future__ import annotations

import time
from pathlib import Path

import torch

import lightavseg_core as lav
from lightavseg_core._common.records import provenance
from lightavseg_core.data.shapes import CATEGORIES

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs" / "tiny"
CLIPS, SIZE, SEED = {"train": 2000, "val": 80, "test": 80}, 128, 0
CONFIG = lav.TrainConfig(epochs=20, audio_epochs=4, seed=SEED)
SOUNDS = {"its own": "normal", "swapped": "swapped", "white noise": "noise", "silence": "silent"}

CARD = """---
license: apache-2.0
tags: [audio-visual-segmentation]
---

# LightAVSeg, preset `tiny`, trained on SoundingShapes

{millions:.2f} million parameters: SeaFormer-T, MobileNetV2-0.5, decoder width {width}.
For frames of {size} px.

**It knows seven silhouettes and their timbres, and nothing else**: {names}.
They were generated; no photograph and no recording was ever seen or heard. On a real video it will mark
nothing, or anything: what it marks there means nothing. It shows how the method works, and lets `predict` and
the notebooks run at once.

Two objects of one timbre cannot be told apart by a global audio vector: it marks both, or one without knowing
which.

| | |
|---|---|
| data | SoundingShapes `ms3`, {train} training, {val} validation clips of 5 frames, {size} px, seed {seed} |
| command | `make checkpoint` (commit {commit}) |
| training | {epochs} epochs, batch of {batch} clips, AdamW, one-cycle to {rate:g} |
| machine | {device}, {threads} thread(s), torch {torch}, {date}: {minutes:.0f} minutes |
| audio encoder | pretrained on the same clips to tag each second, then frozen |

Measured on {test} unseen test clips ({frames} frames):

| sound | M_J | M_F | pixels marked |
|---|---|---|---|
{scores}
{oracle}

```python
import lightavseg_core as lav
model = lav.load_model("checkpoints/tiny")
```
"""


def dataset(split: str, model: lav.models.AVSModel) -> lav.data.AVSBench:
    return lav.data.AVSBench(RUNS / "data", "ms3", split, SIZE, model.front_end)


def train() -> tuple[lav.models.AVSModel, float]:
    """The trained model, and the minutes that it took."""
    lav.data.sounding_shapes.generate(RUNS / "data", "ms3", CLIPS, SIZE, SEED)
    torch.manual_seed(SEED)
    model = lav.create_model("lightavseg", preset="tiny")
    start = time.perf_counter()
    trainer = lav.Trainer(model, CONFIG, RUNS / "run")
    trainer.fit(dataset("train", model), dataset("val", model), resume=True)  # stopped, it goes on
    return model, (time.perf_counter() - start) / 60


def row(label: str, scores: dict) -> str:
    return f"| {label} | {scores['M_J']:.3f} | {scores['M_F']:.3f} | {scores['foreground_share']:.2%} |"


def ship(model: lav.models.AVSModel, minutes: float, made: dict) -> None:
    """Scores the model, and writes checkpoints/tiny with its card.

    These are the last weights, not the best of the validations. made: `provenance`, from before the training.
    """
    test = dataset("test", model)
    scores = {label: lav.evaluate(model, test, sound) for label, sound in SOUNDS.items()}
    text = CARD.format(
        millions=sum(p.numel() for p in model.parameters()) / 1e6,
        names=", ".join(category.name for category in CATEGORIES),
        width=model.config.width,
        size=SIZE,
        seed=SEED,
        commit=made["commit"],
        date=made["date"],
        epochs=CONFIG.epochs,
        batch=CONFIG.batch_size,
        rate=CONFIG.learning_rate,
        minutes=minutes,
        device=made["machine"]["device"],
        threads=made["machine"]["threads"],
        torch=made["machine"]["torch"],
        frames=scores["its own"]["frames"],
        scores="\n".join(row(label, found) for label, found in scores.items()),
        oracle=row("deaf oracle (perfect masks of all visible objects)", lav.deaf_oracle(test)),
        **CLIPS,
    )
    model.save_pretrained(HERE / "tiny")
    (HERE / "tiny" / "README.md").write_text(text)
    print(text)


if __name__ == "__main__":
    made = provenance("make checkpoint", SEED)
    ship(*train(), made)

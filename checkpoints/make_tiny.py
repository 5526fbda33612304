"""Trains the model that the workbook ships, checkpoints/tiny, scores it, and writes its card.

    make checkpoint        (about an hour on two cores; the data and the run land in runs/tiny)

The test clips are those of notebook 3 (seed 0): a clip is a function of seed, subset, split and index, whatever the number of clips.
"""
from __future__ import annotations

import datetime
import subprocess
import time
from pathlib import Path

import torch

import lightavseg_core as lav
from lightavseg_core._common.environment import card
from lightavseg_core.data.shapes import CATEGORIES

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs" / "tiny"
CLIPS, SIZE, SEED = {"train": 2000, "val": 80, "test": 80}, 128, 0
CONFIG = lav.TrainConfig(epochs=16, seed=SEED)
SOUNDS = {"its own": "normal", "swapped": "swapped", "white noise": "noise", "silence": "silent"}

CARD = """---
license: apache-2.0
tags: [audio-visual-segmentation]
---

# LightAVSeg, preset `tiny`, trained on SoundingShapes

{millions:.2f} million parameters: SeaFormer-T, MobileNetV2-0.5, decoder width {width}. For frames of {size} px.

**It knows seven silhouettes and their timbres, and nothing else**: {names}. They were generated; no photograph and no recording was ever
seen or heard. On a real video it will mark nothing, or anything: what it marks there means nothing. It shows how the method works, and lets
`predict` and the notebooks run at once.

Two objects of one timbre cannot be told apart by a global audio vector: it marks both, or one without knowing which.

| | |
|---|---|
| data | SoundingShapes `ms3`, {train} training, {val} validation clips of 5 frames, {size} px, seed {seed} |
| command | `make checkpoint` (commit {commit}) |
| training | {epochs} epochs, batch of {batch} clips, AdamW, one-cycle to {rate:g} |
| machine | {device}, {threads} thread(s), torch {torch}, {date}: {minutes:.0f} minutes, other work running beside it |
| audio encoder | pretrained on the same clips to tag each second, then frozen |

Measured on {test} unseen test clips ({frames} frames):

| sound | M_J | M_F | pixels marked |
|---|---|---|---|
{scores}
| deaf oracle (perfect masks of all visible objects) | {oracle[M_J]:.3f} | {oracle[M_F]:.3f} | {oracle[foreground_share]:.2%} |

```python
import lightavseg_core as lav
model = lav.load_model("checkpoints/tiny")
```
"""


def train() -> tuple[lav.models.AVSModel, float]:
    """The trained model, and the minutes that it took."""
    lav.data.sounding_shapes.generate(RUNS / "data", "ms3", CLIPS, SIZE, SEED)
    torch.manual_seed(SEED)
    model = lav.create_model("lightavseg", preset="tiny")
    clips, validation = (lav.data.AVSBench(RUNS / "data", "ms3", split, SIZE, model.front_end) for split in ("train", "val"))
    start = time.perf_counter()
    lav.Trainer(model, CONFIG, RUNS / "run").fit(clips, validation)
    return model, (time.perf_counter() - start) / 60


def ship(model: lav.models.AVSModel, minutes: float, commit: str, machine: dict) -> None:
    """Scores the model and writes checkpoints/tiny with its card. These are the last weights, not the best of the validations."""
    test = lav.data.AVSBench(RUNS / "data", "ms3", "test", SIZE, model.front_end)
    scores = {label: lav.evaluate(model, test, sound) for label, sound in SOUNDS.items()}
    rows = "\n".join(f"| {label} | {s['M_J']:.3f} | {s['M_F']:.3f} | {s['foreground_share']:.2%} |" for label, s in scores.items())
    model.save_pretrained(HERE / "tiny")
    (HERE / "tiny" / "README.md").write_text(CARD.format(
        millions=sum(p.numel() for p in model.parameters()) / 1e6, names=", ".join(c.name for c in CATEGORIES), width=model.config.width,
        size=SIZE, **CLIPS, seed=SEED, commit=commit, epochs=CONFIG.epochs, batch=CONFIG.batch_size, rate=CONFIG.learning_rate, minutes=minutes,
        device=machine["device"], threads=machine["threads"], torch=machine["torch"], date=datetime.date.today().isoformat(),
        frames=scores["its own"]["frames"], scores=rows, oracle=lav.deaf_oracle(test)))
    print((HERE / "tiny" / "README.md").read_text())


if __name__ == "__main__":
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    ship(*train(), commit, card())

"""Trains the ear that sweeps and `lightavseg compare` share, checkpoints/ear, and writes its card.

    OMP_NUM_THREADS=1 python checkpoints/make_ear.py        (a few minutes on one core; the data land in runs/ear)
"""
from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lightavseg_core._common.environment import card
from lightavseg_core._common.files import whole
from lightavseg_core.data.shapes import CATEGORIES
from lightavseg_core.experiments import runs, training

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / "runs" / "ear"

CARD = """---
license: apache-2.0
tags: [audio-tagging]
---

# The ear: an audio encoder that knows seven timbres

{name} ({thousands:.0f} thousand parameters, stored as float16), trained to tag the sounds of SoundingShapes: {names}.
Runs of `lightavseg sweep` and `lightavseg compare` share it, frozen, so that methods differ in nothing but what they
do with the sound. It stands for the AudioSet pretraining that the published methods share, and knows nothing of real
sounds.

| | |
|---|---|
| data | {data}: {train} training, {val} validation clips of 5 seconds |
| command | `python checkpoints/make_ear.py` (commit {commit}) |
| training | {audio_epochs} epochs, batches of 32 seconds, half of them mixed with another, torch's seed 0 |
| validation | {sets_right:.1%} of seconds have their whole sounding set right, {tags_right:.1%} of the single tags |
| machine | {device}, {threads} thread(s), torch {torch}, {date} |

The results in `results/sweep` of {stored} are older: their ear was trained by the same recipe, to other weights. How
much that matters, `ms3_lightavseg`, seed 0, says: $M_J$ 0.496 with theirs, 0.488 with this one in float32, 0.493 as it
is stored. Seeds differ by more.
"""


def ship() -> None:
    """Halves what was trained, and writes it with its card."""
    run = runs.Run()
    trained = WORK / "ear.safetensors"
    training.data_folder(WORK, run)
    training.pretrain(trained, WORK, run)
    with safe_open(trained, "pt") as file:
        metadata = file.metadata()
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in load_file(trained).items()}
    training.EAR.parent.mkdir(exist_ok=True)
    with whole(training.EAR) as staging:
        save_file(tensors, staging, metadata)
    training.EAR.chmod(0o644)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True)
    scores = {name: float(metadata.pop(name)) for name in ("sets_right", "tags_right")}
    text = CARD.format(
        name=metadata["encoder"],
        thousands=sum(t.numel() for t in tensors.values() if t.is_floating_point()) / 1e3,
        names=", ".join(category.name for category in CATEGORIES),
        commit=commit.stdout.strip(),
        date=datetime.date.today().isoformat(),
        stored="2026-11-21",
        **metadata,
        **scores,
        **{key: value for key, value in card().items() if key in ("device", "threads", "torch")},
    )
    (HERE / "ear" / "README.md").write_text(text)
    print(f"{training.EAR}: {training.EAR.stat().st_size / 1e6:.1f} MB, and its card, README.md beside it")


if __name__ == "__main__":
    torch.set_num_threads(1)
    ship()

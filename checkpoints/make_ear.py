"""Trains the ear that sweeps and `lightavseg compare` share, checkpoints/ear, and writes its card.

    python checkpoints/make_ear.py        (a few minutes on one core; the data land in runs/ear)
"""
from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lightavseg_core._common.files import whole
from lightavseg_core._common.records import provenance
from lightavseg_core.data.shapes import CATEGORIES
from lightavseg_core.encoders import create_audio_encoder
from lightavseg_core.experiments import runs, training

WORK = Path(__file__).resolve().parents[1] / "runs" / "ear"

CARD = """---
license: apache-2.0
tags: [audio-tagging]
---

# The ear: an audio encoder that knows seven timbres

{encoder} ({thousands:.0f} thousand parameters, stored as float16), trained to tag the sounds of
SoundingShapes: {names}. Runs of `lightavseg sweep` and
`lightavseg compare` share it, frozen, so that methods differ only in what they do with the sound. It stands
for the AudioSet pretraining that the published methods share, and knows nothing of real sounds.

| | |
|---|---|
| data | {data}: {train} training, {val} validation clips of 5 seconds |
| command | `{command}` (commit {commit}) |
| training | {audio_epochs} epochs, batches of 32 seconds, half of them mixed with another, seed {seed} |
| validation | seconds whose whole sounding set is right: {sets_right}; of single tags: {tags_right} |
| machine | {device}, {threads} thread(s), torch {torch}, {date} |

The results of 2026-11-21 in `results/sweep` are older: their ear was trained by the same recipe, to other
weights. What that makes: `ms3_lightavseg`, seed 0, has $M_J$ 0.496 with theirs (seeds 0 to 2: 0.477 to
0.496), 0.488 with this one in float32, and 0.493 with it as it is stored.

`photos.safetensors` is the ear that [checkpoints/photos](../photos/README.md) had until commit bb80717,
stored as float16: 8,433 steps, whole sounding sets right in 90.4% of the validation seconds. It knows
recordings of Tux Paint's packages, and serves the runs of `lightavseg sweep eyes` and `sweep variation`,
which can be compared only as long as all have the same.
"""


def store(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Writes an ear as float16."""
    halves = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    path.parent.mkdir(exist_ok=True)
    with whole(path) as staging:
        save_file(halves, staging, metadata)
    path.chmod(0o644)


def ship() -> None:
    """Trains it, unless runs/ear holds it already; halves it, and writes it with its card."""
    run, trained = runs.Run(), WORK / "ear.safetensors"
    if not trained.exists():
        training.data_folder(WORK, run)
        training.pretrain(trained, WORK, run)
    with safe_open(trained, "pt") as file:
        metadata = file.metadata()
    store(training.EAR, load_file(trained), metadata)
    made = provenance("python checkpoints/make_ear.py", 0)
    audio = create_audio_encoder(metadata["encoder"])
    thousands = sum(p.numel() for p in audio.parameters()) / 1e3
    names = ", ".join(category.name for category in CATEGORIES)
    text = CARD.format(**{**metadata, **made, **made["machine"]}, thousands=thousands, names=names)
    training.EAR.with_name("README.md").write_text(text)
    print(f"{training.EAR}: {training.EAR.stat().st_size / 1e6:.1f} MB, and its card, README.md beside it")


if __name__ == "__main__":
    torch.set_num_threads(1)
    ship()

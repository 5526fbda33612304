"""Does it listen? Trains the listening model of notebook 03 and its two twins with the same budget, and writes results/twins.json.

    python results/twins.py        (about 20 minutes on two cores; the data and the runs land in runs/twins)

deaf: the same model and data, trained on silence. salience: trained where the one visible object always sounds, so it need not listen.
"""
from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path

import torch

import lightavseg_core as lav
from lightavseg_core.environment import card

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs" / "twins"
CLIPS, SIZE, SEED = {"train": 400, "val": 80, "test": 80}, 128, 0
TWINS = {"listening": ("ms3", "normal"), "deaf": ("ms3", "silent"), "salience": ("alone", "normal")}


def main() -> None:
    roots = {"ms3": RUNS / "ms3", "alone": RUNS / "alone"}
    for name, root in roots.items():
        lav.data.sounding_shapes.generate(root, "ms3", CLIPS, SIZE, SEED, distractors=name == "ms3")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    models = {}
    for name, (data, sound) in TWINS.items():
        torch.manual_seed(SEED)
        model = lav.create_model("lightavseg", preset="tiny")
        train, validation = (lav.data.AVSBench(roots[data], "ms3", split, SIZE, model.front_end, sound) for split in ("train", "val"))
        lav.Trainer(model, lav.TrainConfig(seed=SEED), RUNS / name).fit(train, validation)
        tests = {"ms3": roots["ms3"], **({"alone": roots["alone"]} if name == "salience" else {})}
        models[name] = {test: {s: lav.evaluate(model, lav.data.AVSBench(root, "ms3", "test", SIZE, model.front_end), s)
                               for s in ("normal", "silent", "swapped", "noise")} for test, root in tests.items()}
    oracle = lav.deaf_oracle(lav.data.AVSBench(roots["ms3"], "ms3", "test", SIZE))
    result = {"command": "python results/twins.py", "commit": commit, "date": datetime.date.today().isoformat(), "seed": SEED, "clips": CLIPS,
              "size": SIZE, "machine": card(), "models": models, "deaf_oracle": oracle}
    (HERE / "twins.json").write_text(json.dumps(result, indent=1) + "\n")
    print(HERE / "twins.json")


if __name__ == "__main__":
    main()

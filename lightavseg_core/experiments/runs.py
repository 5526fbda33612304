"""The experiments of many runs, declared: what each trains, on what, and how long. `sweep` runs them."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

from .._common.names import unknown

SEEDS = 3


@dataclass(frozen=True)
class Budget:
    """How many clips a run learns from, and for how long."""

    train: int            # clips
    val: int
    test: int
    size: int             # of the frames, pixels
    epochs: int
    audio_epochs: int = 8
    batch_size: int = 4   # clips
    learning_rate: float = 2e-3
    half: float = 0.0     # until which share of the epochs frames have half their sides
    three_quarters: float = 0.0


BUDGET = Budget(train=400, val=20, test=60, size=64, epochs=5)
# Until models tell sounds apart.
LONGER = replace(BUDGET, epochs=16)
# Maps of up to 32 positions a side: where there is a near and a far.
LARGER = replace(BUDGET, size=128, epochs=6)
# Touches everything, teaches nothing.
SMOKE = Budget(train=8, val=2, test=3, size=32, epochs=1, audio_epochs=1)
BUDGETS = {"default": BUDGET, "smoke": SMOKE}


@dataclass(frozen=True)
class Run:
    """One model, its training data, and its training."""

    method: str = "lightavseg"
    subset: str = "ms3"
    options: dict = field(default_factory=dict)  # of `create_model`, over the preset
    train: dict = field(default_factory=dict)    # of `TrainConfig`
    distractors: bool = True                     # False: the one visible object sounds
    sound: str = "normal"                        # heard in training
    budget: Budget = BUDGET
    seeds: int = SEEDS
    preset: str = "tiny"
    data: str = ""                               # a dataset's folder; without, SoundingShapes are generated
    files: dict = field(default_factory=dict)    # SHA-256 by name: a method's own file, tables in `data`
    cast: str = "shapes"                         # of the generated data; photos have an ear
    visual_weights: str = ""                     # the published file (`download`) that the eyes begin with


def short_digest(values: dict) -> str:
    """A name for settings: eight hexadecimal digits, the same for the same settings everywhere."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def settings(run: Run) -> dict:
    """The fields of a run that differ from the defaults, so that new fields do not change old settings."""
    defaults = asdict(Run())
    return {name: value for name, value in asdict(run).items() if value != defaults[name]}


NO_FUSION = {"agve": False, "har": False, "cmfd": False}
METHODS = ("lightavseg", "avesformer", "avsbench", "avsegformer", "selm")  # what is declared below
# As notebook 3 trains.
TWINS = Budget(1600, 80, 80, 128, 7, 2, 8, 8e-3, half=0.3, three_quarters=0.75)
TWIN = Run(budget=TWINS, train={"audio_weights": "pretrain"}, seeds=1)
ONE_LARGER = Run(budget=LARGER, seeds=1)  # to be looked into, clip by clip
# Two rows at a time, each on one core, all six take less than three hours. The rate is one with which both
# learn: on 400 clips a third of it taught less.
EYES = Budget(2400, 80, 160, 128, 8, batch_size=8, learning_rate=3e-3, half=0.3, three_quarters=0.75)
LITE = Run(options={"visual": "efficientnet_lite0"}, train={"weight_decay": 0.01}, budget=EYES, cast="photos")
# What helps with individuals that are new: a cast that varies more in training, each with an ear of its own.
# Like checkpoints/photos, but shorter, and with a higher rate.
VARIED = Run(
    budget=Budget(1600, 80, 160, 128, 7, 12, 8, 8e-3, half=0.3, three_quarters=0.75),
    train={"audio_weights": "pretrain", "weight_decay": 0.01, "negatives": 0.05}, seeds=2, cast="photos",
)
DECODERS = ("ttt", "ctt", "cct", "tcc")
LOSSES = ("none", "alignment_kl", "matching", "mixing")

# A run's name is its file's, so that experiments which share a run share its file.
RUNS: dict[str, Run] = {
    **{f"{subset}_{method}": Run(method, subset) for subset in ("ms3", "s4") for method in METHODS},
    **{f"avss_{method}": Run(method, "avss") for method in ("lightavseg", "avesformer")},
    "static": Run(options=NO_FUSION),
    "agve": Run(options={**NO_FUSION, "agve": True}),
    "agve_cmfd": Run(options={"har": False}),
    "agve_har": Run(options={"cmfd": False}),
    "average_pooling": Run(options={"pooling": "avg"}),
    **{f"loss_{name}": Run(train={"auxiliary": name}) for name in LOSSES},
    "keys_sound": Run("avesformer", options={"prompts": 0}, budget=LONGER),
    "keys_seconds": Run("avesformer", options={"prompts": 0, "seconds": True}, budget=LONGER),
    **{f"keys_{n}": Run("avesformer", options={"prompts": n}, budget=LONGER) for n in (1, 2, 16, 64)},
    "keys_sharp": Run("avesformer", options={"temperature": 0.25}, budget=LONGER),
    "keys_flat": Run("avesformer", options={"temperature": 4.0}, budget=LONGER),
    **{f"decoder_{name}": Run("avesformer", options={"decoder": name}, budget=LARGER) for name in DECODERS},
    "scales_lightavseg": ONE_LARGER,
    "scales_no_alignment": replace(ONE_LARGER, train={"auxiliary": "none"}),
    "scales_no_har": replace(ONE_LARGER, options={"har": False}),
    "scales_no_cmfd": replace(ONE_LARGER, options={"cmfd": False}),
    **{f"scales_{name}": replace(ONE_LARGER, method=name) for name in ("avsbench", "avsegformer")},
    **{f"seaformer_{size}": Run(options={"visual": f"seaformer_{size}"}) for size in "sb"},
    "twin_listening": TWIN,
    "twin_deaf": replace(TWIN, sound="silent"),
    "twin_salience": replace(TWIN, distractors=False),
    "eyes_imagenet": replace(LITE, visual_weights="efficientnet_lite0"),
    "eyes_random": LITE,
    "varied_nothing": VARIED,
    "varied_heard": replace(VARIED, cast="photos_heard"),
    "varied_shown": replace(VARIED, cast="photos_shown"),
    "varied_both": replace(VARIED, cast="photos_varied"),
}

# Experiment -> label -> run. Every row of the ablation is trained with L_msa, so that rows differ in one part
# of the model.
EXPERIMENTS: dict[str, dict[str, str]] = {
    "methods": {name: name for name in RUNS if name.startswith(("ms3_", "s4_", "avss_"))},
    "ablation": {
        "static fusion": "static",
        "+AGVE": "agve",
        "+AGVE+CMFD": "agve_cmfd",
        "+AGVE+HAR": "agve_har",
        "all": "ms3_lightavseg",
        "all, average pooling": "average_pooling",
    },
    "loss": {
        "none": "loss_none",
        "alignment": "ms3_lightavseg",
        "alignment by KL": "loss_alignment_kl",
        "matching (AVSBench)": "loss_matching",
        "mixing (AVSegFormer)": "loss_mixing",
    },
    "backbone": {"seaformer_t": "ms3_lightavseg", "seaformer_s": "seaformer_s", "seaformer_b": "seaformer_b"},
    "keys": {
        "the sound": "keys_sound",
        "a sound per second": "keys_seconds",
        "1 prompt": "keys_1",
        **{f"{n} prompts": f"keys_{n}" for n in (2, 16, 64)},
        "16 prompts, temperature 1/4": "keys_sharp",
        "16 prompts, temperature 4": "keys_flat",
    },
    "early_focus": {name: f"decoder_{name}" for name in DECODERS},
    "scales": {
        "LightAVSeg": "scales_lightavseg",
        "without L_msa": "scales_no_alignment",
        "without HAR": "scales_no_har",
        "without CMFD": "scales_no_cmfd",
        "AVSBench": "scales_avsbench",
        "AVSegFormer": "scales_avsegformer",
    },
    "twins": {"listening": "twin_listening", "deaf": "twin_deaf", "salience": "twin_salience"},
    "eyes": {"ImageNet": "eyes_imagenet", "random": "eyes_random"},
    "variation": {
        "as it is": "varied_nothing",
        "sounds": "varied_heard",
        "pictures": "varied_shown",
        "both": "varied_both",
    },
}

# Runs and seeds of which the maps of the test clips are kept.
SHOWN = {(name, 0) for name in EXPERIMENTS["scales"].values()}


def runs_of(experiment: str) -> dict[str, str]:
    """Label -> run. Raises ValueError for an unknown experiment."""
    if experiment not in EXPERIMENTS:
        raise unknown("experiment", experiment, EXPERIMENTS)
    return EXPERIMENTS[experiment]


def chosen(
    experiments: Iterable[str], added: Iterable[str] = (), subset: str | None = None,
    method: str | None = None
) -> dict[str, Run]:
    """Name -> run, for some experiments or a part of them: one subset, one method.

    added: methods from outside, which take part in the experiment `methods`. Raises ValueError for unknown
    experiments, methods and subsets.
    """
    found = {}
    for experiment in experiments:
        found |= {name: RUNS[name] for name in runs_of(experiment).values()}
        if experiment == "methods":
            subsets = dict.fromkeys(run.subset for run in found.values())
            found |= {f"{part}_{name}": Run(name, part) for part in subsets for name in added}
    for field_, wanted in (("method", method), ("subset", subset)):
        known = {getattr(run, field_) for run in found.values()}
        if wanted and wanted not in known:
            raise unknown(f"{field_} of these runs", wanted, known)
        found = {name: run for name, run in found.items() if wanted in (None, getattr(run, field_))}
    return found

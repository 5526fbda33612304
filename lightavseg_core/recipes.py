"""How the published methods were trained on AVSBench, as far as papers and code tell; for `train --recipe`.

Unverified: none of these has been run here on the real data, so it is not known whether they reach the
published scores.
"""

from dataclasses import dataclass

UNVERIFIED = "unverified: it was never run on the real data here, and may not reach the published scores"


@dataclass(frozen=True)
class Recipe:
    """For each subset: options of `create_model` that override preset paper, and fields of `TrainConfig`."""

    method: str
    source: str
    model: dict[str, dict]
    train: dict[str, dict]

    def of(self, subset: str) -> tuple[dict, dict]:
        """The options of the model and the fields of the training configuration for a subset.

        Raises ValueError for a subset that the recipe does not cover.
        """
        if subset in self.train:
            return self.model[subset], self.train[subset]
        known = " and ".join(self.train)
        advice = "Train on it without --recipe."
        raise ValueError(f"the recipe of {self.method} is for {known}, not for {subset}. {advice}")


_RESNET = {"visual": "resnet50", "audio": "vggish_published"}
_WHOLE = {"half": 0.0, "three_quarters": 0.0}  # frames have one size
# The published code of the three: a constant rate, no augmentation, gradients as they are, the best of all
# epochs on validation kept.
_PLAIN = {"schedule": "constant", "flip": False, "clip_norm": 0.0, "validate_every": 1, **_WHOLE}
_AVSBENCH = {
    **_PLAIN, "batch_size": 4, "learning_rate": 1e-4, "weight_decay": 0.0,  # no decay: Adam
    "segmentation": "bce", "seed": 123,
}
_AVSEGFORMER = {
    **_PLAIN, "batch_size": 2, "learning_rate": 2e-5, "weight_decay": 0.01,
    "segmentation": "squared_dice", "auxiliary": "mixing", "seed": 123,
}
_SELM = {
    **_PLAIN, "learning_rate": 2e-5, "weight_decay": 0.05,
    "segmentation": "squared_dice_bce", "auxiliary": "selection",
}
# The paper tells AdamW, rate, batch, epochs and size. A constant rate, PyTorch's decay, and clips as they
# are, are chosen.
_PAPER = {
    **_PLAIN, "batch_size": 8, "epochs": 60, "learning_rate": 1e-4, "weight_decay": 0.01,
    "segmentation": "dice_bce", "auxiliary": "alignment", "alignment_weight": 0.5,
}

RECIPES: dict[str, Recipe] = {
    "paper": Recipe(
        "lightavseg",
        "LightAVSeg, arXiv 2605.08805",
        model=dict.fromkeys(("s4", "ms3", "avss"), {}),
        train=dict.fromkeys(("s4", "ms3", "avss"), _PAPER),
    ),
    "avsbench": Recipe(
        "avsbench",
        "Zhou et al., ECCV 2022, and its code",
        model=dict.fromkeys(("s4", "ms3"), {**_RESNET, "size": 224}),
        train={
            "s4": {**_AVSBENCH, "epochs": 15, "auxiliary": "none"},
            "ms3": {**_AVSBENCH, "epochs": 30, "auxiliary": "matching"},
        },
    ),
    "avsegformer": Recipe(
        "avsegformer",
        "Gao et al., AAAI 2024, and its code",
        model=dict.fromkeys(("s4", "ms3"), {**_RESNET, "size": 512}),
        train={
            "s4": {**_AVSEGFORMER, "epochs": 30, "freeze_visual": 5},
            "ms3": {**_AVSEGFORMER, "epochs": 60, "freeze_visual": 10},
        },
    ),
    "selm": Recipe(
        "selm",
        "Li et al., ACM MM 2024, and its code",
        model={"s4": {**_RESNET, "size": 224}, "ms3": {**_RESNET, "size": 448, "upsamplings": 1}},
        train={
            "s4": {**_SELM, "epochs": 40, "batch_size": 2},
            "ms3": {**_SELM, "epochs": 100, "batch_size": 1, "freeze_visual": 15},
        },
    ),
}

"""How a model is trained: one dataclass, from which the command line is made too."""

import math
from dataclasses import dataclass
from typing import Literal

from ._common.fields import check_fields

Subset = Literal["s4", "ms3", "avss"]


@dataclass
class TrainConfig:
    """How to train. Defaults: what two cores do in about eight minutes with preset `tiny` and 1,600 clips."""

    epochs: int = 7
    batch_size: int = 8
    """Clips."""
    accumulate: int = 1
    """Batches of a step, one after the other, in each process."""
    recompute: bool = False
    """Blocks keep their input alone and are computed again in the backward pass: the same in less memory."""
    half: float = 0.3
    """Until this share of the epochs is over, frames have half their sides: what sounds and roughly where is
    learned in less than half of the time."""
    three_quarters: float = 0.75
    """Until this share is over, three quarters of them."""
    learning_rate: float = 8e-3
    """With one_cycle, its peak."""
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm; 0: never."""
    segmentation: Literal["dice_bce", "bce", "squared_dice", "squared_dice_bce"] = "dice_bce"
    """Loss of the masks: LightAVSeg's, AVSBench's, AVSegFormer's, SelM's."""
    auxiliary: Literal["own", "alignment", "alignment_kl", "matching", "mixing", "selection", "none"] = "own"
    """What is added to it: the method's own, or another's: LightAVSeg's (and with KL) and so on."""
    alignment_weight: float = 0.5
    """Lambda of L_msa; the others have their published weights."""
    freeze_visual: int = 0
    """Epochs at the start in which the visual encoder learns nothing (its batch norms' statistics move)."""
    flip: bool = True
    """Mirror clips at random."""
    negatives: float = 0.0
    """Share of the clips that are heard with silence, noise, another sound, or another beside their own."""
    audio_weights: str = "auto"
    """pretrain (needs events.csv), joint, or a checkpoint's path; auto: pretrain if possible, else joint."""
    audio_epochs: int = 2
    """Of pretraining."""
    validate_every: int = 2
    """Epochs."""
    save_minutes: float = 5.0
    """Between checkpoints, from which a training that was stopped goes on; each epoch ends with one too."""
    seed: int = 0
    precision: Literal["no", "bf16"] = "no"
    """bf16: autocast, on a device that has it."""
    workers: int | None = None
    """Processes that load data; by default none on a CPU, whose cores the model needs, and on a GPU one for
    each core, at most 8."""

    def sides(self, epoch: int) -> float:
        """What of their sides frames have in an epoch, from 1 on."""
        if epoch <= self.half * self.epochs:
            return 1 / 2
        return 3 / 4 if epoch <= self.three_quarters * self.epochs else 1

    def check(self) -> None:
        """Raises ValueError for values that cannot be trained with."""
        least = dict.fromkeys(("batch_size", "accumulate", "validate_every", "audio_epochs"), 1)
        most = {"seed": 2**32 - 1, "clip_norm": math.inf, "half": 1, "three_quarters": 1, "negatives": 1}
        check_fields(self, least=least, most=most)

"""How a model is trained: one dataclass, which also defines the options of the command line."""

import math
from dataclasses import dataclass
from typing import Literal

from ._common.fields import check_fields

Subset = Literal["s4", "ms3", "avss"]


@dataclass
class TrainConfig:
    """How to train. With preset `tiny` and 1,600 clips the defaults take about eight minutes on two cores."""

    epochs: int = 7
    batch_size: int = 8
    """Clips in a batch."""
    frames: int = 0
    """Frames of each clip in a batch, drawn anew each time, annotated ones first; 0: all. A few of each of
    more clips can teach more than all of fewer. Methods that look across frames see only these."""
    accumulate: int = 1
    """Batches of a step in each process, one after the other (gradient accumulation)."""
    recompute: bool = False
    """Keep only the inputs of blocks and recompute them in the backward pass: same result, less memory."""
    half: float = 0.3
    """Up to this share of the epochs, frames have half their sides: enough for what sounds, roughly where."""
    three_quarters: float = 0.75
    """Up to this share of the epochs, frames have three quarters of their sides."""
    learning_rate: float = 8e-3
    """The peak of one_cycle."""
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    """Gradients are clipped to this norm; 0: never."""
    segmentation: Literal["dice_bce", "bce", "squared_dice", "squared_dice_bce"] = "dice_bce"
    """The mask loss: LightAVSeg's, AVSBench's, AVSegFormer's or SelM's."""
    auxiliary: Literal["own", "alignment", "alignment_kl", "matching", "mixing", "selection", "none"] = "own"
    """The auxiliary loss: the method's own, LightAVSeg's (or with KL), AVSBench's, AVSegFormer's, SelM's."""
    alignment_weight: float = 0.5
    """Lambda of L_msa; the other auxiliary losses have their published weights."""
    freeze_visual: int = 0
    """First epochs with a frozen visual encoder (its batch norms still update their statistics)."""
    flip: bool = True
    """Mirror clips at random."""
    negatives: float = 0.0
    """Share of the clips that get silence, noise, another clip's sound, or that beside their own."""
    audio_weights: str = "auto"
    """pretrain (needs events.csv), joint, or a checkpoint's path; auto: pretrain if possible, else joint."""
    audio_epochs: int = 2
    """Epochs of audio pretraining."""
    validate_every: int = 2
    """Epochs between validations."""
    save_minutes: float = 5.0
    """Minutes between checkpoints, from which a stopped training resumes; each epoch ends with one too."""
    seed: int = 0
    precision: Literal["no", "bf16"] = "no"
    """bf16: autocast, on a device that supports it."""
    workers: int | None = None
    """Processes that load data. By default none on a CPU, where the model needs the cores; on a GPU one for
    each core, at most 8."""

    def sides(self, epoch: int) -> float:
        """The share of their sides that frames have in an epoch, counted from 1."""
        if epoch <= self.half * self.epochs:
            return 1 / 2
        return 3 / 4 if epoch <= self.three_quarters * self.epochs else 1

    def check(self) -> None:
        """Raises ValueError for values that training cannot use."""
        least = dict.fromkeys(("batch_size", "accumulate", "validate_every", "audio_epochs"), 1)
        most = {"seed": 2**32 - 1, "clip_norm": math.inf, "half": 1, "three_quarters": 1, "negatives": 1}
        check_fields(self, least=least, most=most)

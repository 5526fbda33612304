"""Scores of an exported file."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._common.outputs import NotFinite
from ..data.avsbench import AVSBench, collate
from ..data.scored import check_datasets
from ..evaluation import computed, score_for, update_score


def score_segmenter(segment: Callable[[Tensor, Tensor], Tensor], dataset: AVSBench) -> dict:
    """M_J, M_F and M_F_batch of anything that segments one second at a time, such as an exported file.

    segment: (1, 1, 3, H, W) and (1, 1, 1, F, M) -> logits.
    """
    check_datasets(dataset=dataset)
    score = score_for(dataset.num_classes)
    for index in range(len(dataset)):
        batch, logits = collate([dataset[index]]), []
        for given in zip(batch["frames"].split(1, 1), batch["log_mel"].split(1, 1)):
            try:
                logits.append(segment(*given))
            except NotFinite as error:
                raise error.at(f"clip {batch['name'][0]}, second {len(logits)}") from None
        update_score(score, torch.cat(logits, 1), batch)
    return computed(score)

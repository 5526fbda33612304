"""Takes out what a metric has counted and puts it together again: a score counted batch by batch in several
processes equals that of a single process, to the last bit."""
from __future__ import annotations

from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_sum

States = list[dict[str, Tensor]]  # of each metric of a collection, or of the only one


def _metrics(score: Metric | MetricCollection) -> list[Metric]:
    return list(score.values()) if isinstance(score, MetricCollection) else [score]


def taken(score: Metric | MetricCollection) -> States:
    """What was counted; the metric is then reset. Raises ValueError if it keeps anything but sums."""
    for metric in _metrics(score):
        if metric.full_state_update is not False or {*metric._reductions.values()} - {dim_zero_sum}:
            found = f"{type(metric).__name__} keeps more than sums over frames"
            raise ValueError(f"{found}, so it can be measured in one process only. Run without the launcher.")
    states = [{name: value.cpu() for name, value in m.metric_state.items()} for m in _metrics(score)]
    score.reset()
    return states


def put(score: Metric | MetricCollection, dealt: list[list[States]]) -> None:
    """Adds what was taken from each batch, as dealt out to the processes, in the order of the batches: sums
    of floats depend on it. The metric then holds everything and needs no other process."""
    batches = sum(map(len, dealt))
    for metric in _metrics(score):
        metric.sync_on_compute = metric._to_sync = False
        metric._update_count = batches  # else torchmetrics warns that nothing was counted
    for k in range(batches):
        for metric, state in zip(_metrics(score), dealt[k % len(dealt)][k // len(dealt)]):
            metric.merge_state({name: value.to(metric.device) for name, value in state.items()})

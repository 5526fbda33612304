"""How clips reach a training loop: by how many processes, and how long it waits for them."""
from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator


def loading_processes(asked: int | None, device: str) -> int:
    """So many as are asked for; else none on a CPU, whose cores the model needs, and on a GPU one for each
    core, at most 8."""
    if asked is not None:
        return asked
    return min(8, os.cpu_count() or 1) if device == "cuda" else 0


def with_waits(loader: Iterable[dict]) -> Iterator[tuple[dict, float]]:
    """Batches, each with the seconds in which nothing was done but wait for its clips to be read."""
    asked = time.perf_counter()
    for batch in loader:
        yield batch, time.perf_counter() - asked
        asked = time.perf_counter()

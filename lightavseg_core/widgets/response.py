"""The response times of a mixing desk."""
from __future__ import annotations

import time
from typing import NamedTuple

import ipywidgets
import numpy as np

from .mixing_desk import MixingDesk


class ResponseTimes(NamedTuple):
    """Response times in milliseconds."""

    median: float
    p95: float


def response_times(desk: MixingDesk, changes: int = 100, seed: int = 0) -> ResponseTimes:
    """Times seeded random changes of a desk's switches, volumes and second, as if a front end made them.

    Picking another clip, which loads files, is not among them. The controls are restored. Raises RuntimeError
    if a change fails, and ValueError without changes.
    """
    if changes < 1:
        raise ValueError(f"changes is {changes}; expected at least 1.")
    rng, times, volumes = np.random.default_rng(seed), [], np.arange(41) / 20
    controls = [desk.second] if desk.second.max else []
    for strip in (*desk.strips, desk.noise, desk.donor):
        controls += [strip.on, strip.gain]
    before = [control.value for control in controls]
    try:
        for _ in range(changes):
            control = controls[rng.integers(len(controls))]
            if isinstance(control, ipywidgets.Checkbox):
                value = not control.value
            elif control is desk.second:
                value = int((control.value + rng.integers(1, control.max + 1)) % (control.max + 1))
            else:
                value = float(rng.choice(volumes[volumes != control.value]))
            start = time.perf_counter()
            control.set_state({"value": value})
            times.append((time.perf_counter() - start) * 1e3)
            if desk.message.value:
                raise RuntimeError(f"the desk failed: {desk.message.value}")
    finally:
        for control, value in zip(controls, before):
            control.value = value
    return ResponseTimes(*np.percentile(times, (50, 95)).tolist())

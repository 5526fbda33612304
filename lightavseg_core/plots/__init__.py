"""Figures. Those of several notebooks are here; those of one subject are in the module of that name."""
from . import attribution, data, drawings, latency, scales, video
from .common import (
    BLUE,
    GREEN,
    ORANGE,
    attention_maps,
    bars,
    clip_figure,
    cost_curves,
    intervals,
    method_colours,
    overlay,
    pareto,
    pareto_front,
    prediction_grid,
    seed_dots,
    training_curves,
)
from .methods import method_comparison

__all__ = [
    "BLUE", "GREEN", "ORANGE", "attribution", "data", "drawings", "latency", "scales", "video",
    "attention_maps", "bars", "clip_figure", "cost_curves", "intervals", "method_colours",
    "method_comparison", "overlay", "pareto", "pareto_front", "prediction_grid", "seed_dots",
    "training_curves",
]

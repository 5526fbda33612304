"""One file per paper, and one factory for all methods."""

from .._common.names import unknown
from .base import METHODS, AVSModel, ModelConfig, Output, Scale, build, class_of, load_model, register

# In the order in which tables and plots show them.
# isort: off
from .lightavseg import LightAVSeg, LightAVSegConfig
from .avesformer import AVESFormer, AVESFormerConfig
from .avsbench import AVSBench, AVSBenchConfig
from .avsegformer import AVSegFormer, AVSegFormerConfig
from .selm import SelM, SelMConfig
# isort: on
from .presets import PRESETS

__all__ = [
    "AVESFormer", "AVESFormerConfig", "AVSBench", "AVSBenchConfig", "AVSModel", "AVSegFormer",
    "AVSegFormerConfig", "LightAVSeg", "LightAVSegConfig", "ModelConfig", "Output", "Scale", "SelM",
    "SelMConfig", "create_model", "list_methods", "load_model", "register",
]


def list_methods() -> list[str]:
    """The names that `create_model` knows, sorted."""
    return sorted(METHODS)


def create_model(method: str, preset: str | None = None, **options) -> AVSModel:
    """A model with random weights. preset: "tiny", "lean" or "paper"; options override it (visual, audio,
    num_classes, and the method's own).

    Raises ValueError, with the nearest known name, for anything misspelled.
    """
    if preset is not None and preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    own = class_of(method).presets
    return build(method, {**PRESETS.get(preset, {}), **own.get(preset, {}), **options})

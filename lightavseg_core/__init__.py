"""LightAVSeg and its relatives: audio-visual segmentation, small enough to read."""
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import (
        data,
        deploy,
        encoders,
        experiments,
        inspection,
        losses,
        metrics,
        models,
        plots,
        profiling,
        video,
        widgets,
        workbook,
    )
    from .config import TrainConfig
    from .evaluation import deaf_oracle, evaluate
    from .models import create_model, list_methods
    from .models.base import load_model
    from .trainer import Trainer

# ONNX Runtime, and OpenVINO's tools with NNCF, keep an identifier in the home folder and report their use
# over the network, unless the first finds this in the environment, and the others do not find the package
# that reports, when they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules.setdefault("openvino_telemetry", None)

__all__ = [
    "TrainConfig", "Trainer", "create_model", "deaf_oracle", "evaluate", "list_methods", "load_model",
    "data", "deploy", "encoders", "experiments", "inspection", "losses", "metrics", "models", "plots",
    "profiling", "video", "widgets", "workbook",
]  # fmt: skip

_HOMES = {
    "TrainConfig": "config",
    "Trainer": "trainer",
    "create_model": "models",
    "deaf_oracle": "evaluation",
    "evaluate": "evaluation",
    "list_methods": "models",
    "load_model": "models.base",
}


def __getattr__(name: str):
    """Imports a part when it is first asked for: torch takes seconds, and `lightavseg check` does without."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"lightavseg_core has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)

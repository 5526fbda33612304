"""LightAVSeg and its relatives: audio-visual segmentation, small enough to read."""
import os
import sys
from importlib import import_module

# ONNX Runtime, and OpenVINO's tools with NNCF, keep an identifier in the home folder and report their use over the network, unless the first
# finds this in the environment, and the others do not find the package that reports, when they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules.setdefault("openvino_telemetry", None)

_HOMES = {"TrainConfig": "config", "Trainer": "trainer", "create_model": "methods", "deaf_oracle": "evaluation", "evaluate": "evaluation",
          "list_methods": "methods", "load_model": "methods"}
_PARTS = ("accounting", "attention", "attribution", "bench", "data", "encoders", "export", "losses", "methods", "metrics", "plots", "predict",
          "profiling", "runtimes", "sweep", "widgets", "workbook")

__all__ = [*_HOMES, *_PARTS]


def __getattr__(name: str):
    """Imports a part when it is first asked for: torch and its relatives take seconds, and `lightavseg check` must run without them."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"lightavseg_core has no {name!r}; it has {', '.join(__all__)}")

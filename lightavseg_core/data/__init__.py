"""Data on disk, in one layout: AVSBench's. Nothing here knows of models."""
from importlib import import_module

_HOMES = {"AVSBench": "avsbench", "collate": "avsbench"}
_PARTS = ("audio", "avsbench", "check", "layout", "scenes", "shapes", "sounding_shapes", "video")

__all__ = ["AVSBench", "audio", "collate", "sounding_shapes"]


def __getattr__(name: str):
    """Imports a part when it is first asked for: the generator's processes do without torch, and so start at once."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"lightavseg_core.data has no {name!r}; it has {', '.join(__all__)}")

"""Data on disk, in one layout: AVSBench's. Nothing here knows about models."""
from importlib import import_module

__all__ = ["AVSBench", "audio", "collate", "sounding_shapes"]


def __getattr__(name: str):
    """Imports a part when it is first used: the generator's processes need no torch, so they start at
    once."""
    if name in ("AVSBench", "collate"):
        return getattr(import_module(f"{__name__}.avsbench"), name)
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"lightavseg_core.data has no {name!r}; it has {', '.join(__all__)}")

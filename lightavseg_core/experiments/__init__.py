"""Many runs, declared and resumable, with statistics over seeds; a method of your own beside the five; models
on pictures and sounds that are new to them."""
from importlib import import_module

__all__ = [
    "compare", "exam", "outside", "probe", "results", "runs", "statistics", "sweep", "training", "unseen",
]


def __getattr__(name: str):
    """Imports a part when it is first used: --help needs only `runs`, and torch takes seconds."""
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"{__name__} has no {name!r}; it has {', '.join(__all__)}")

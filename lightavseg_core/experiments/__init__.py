"""Many runs, declared and resumable, and what they say over seeds; a method of one's own beside the five; how
models do on what they have never seen or heard."""
from importlib import import_module

__all__ = [
    "compare", "exam", "outside", "probe", "results", "runs", "statistics", "sweep", "training", "unseen",
]


def __getattr__(name: str):
    """Imports a part when it is first asked for: a --help needs `runs` alone, and torch takes seconds."""
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"{__name__} has no {name!r}; it has {', '.join(__all__)}")

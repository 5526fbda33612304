"""What every notebook leans on: checked parameters, exercises that answer, pictures that are read aloud."""

import base64
import difflib
import io
import os
import reprlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
from PIL import Image

from ._common import records
from ._common.environment import card
from ._common.places import places

__all__ = ["card", "check", "places", "record", "settings", "show", "table"]

PROFILES = ("default", "smoke")
PLAIN = (bool, int, float, str, list, tuple, dict, type(None))  # what a parameter can be


def settings(namespace: dict[str, Any], **types: Any) -> SimpleNamespace:
    """Check the parameters cell above, and return its values: `s = settings(globals(), clips=int, seed=int)`.

    namespace: the notebook's globals(). types: the type of each parameter; an int does for a float, None only
    for `... | None`.
    `profile` is always a parameter: "default", or "smoke" for the shortest run that touches everything.
    The first call in a kernel, which stands before any other cell, also refuses every other plain value that
    it finds (papermill's `-p clps 20`, a misspelt line): nobody would read it. Later calls, in a notebook
    being worked on, cannot tell.

    Raises ValueError that lists all that is wrong: unknown or missing parameters, values of another type.
    """
    types = {"profile": str, **types}
    wrong = []
    for name, kind in types.items():
        if name not in namespace:
            wrong.append(f"{name} is missing: the parameters cell must set it")
        elif not _is(namespace[name], kind):
            found, expected = namespace[name], getattr(kind, "__name__", kind)
            wrong.append(f"{name} is {found!r}, of type {type(found).__name__}; expected {expected}")
    profile = namespace.get("profile")
    if isinstance(profile, str) and profile not in PROFILES:
        wrong.append(f"profile is {profile!r}; expected one of {', '.join(map(repr, PROFILES))}")
    if "_parameters" not in namespace:
        for name, value in namespace.items():
            if name in (*types, "In", "Out") or name.startswith("_") or not isinstance(value, PLAIN):
                continue
            close = difflib.get_close_matches(name, types, n=1)
            meant = f"did you mean {close[0]}?" if close else f"it has {', '.join(types)}."
            advice = f"{meant} Correct it and restart the kernel."
            wrong.append(f"{name} is not a parameter of this notebook; {advice}")
    if wrong:
        raise ValueError("parameters: " + "\n            ".join(wrong))
    namespace["_parameters"] = SimpleNamespace(**{name: namespace[name] for name in types})
    return namespace["_parameters"]


def _is(value: Any, kind: Any) -> bool:
    kinds = get_args(kind) or (kind,)
    if isinstance(value, bool):  # Python's bool is an int; clips=True is a mistake all the same
        return bool in kinds
    return isinstance(value, kind) or (isinstance(value, int) and float in kinds)


def check(
    name: str,
    candidate: Any,
    *,
    hint: str,
    expected: Any = None,
    cases: list[tuple[Any, Any]] | None = None,
    tolerance: float = 1e-4,
) -> None:
    """Say whether an exercise is solved: "✔ name: pass", or "✘ name: not yet. Hint: ...".

    Where it is not, what was found is told too.
    expected: what candidate should be; a candidate that is a function is called without arguments
    (`lambda: answer` may be undefined yet).
    cases: pairs (arguments, expected) for a candidate that is a function; several arguments come as a tuple.
    What is expected is a number, an array, a tensor of any shape (compared within tolerance, relative and
    absolute), a string, a list, tuple or dict of these, or a function that returns True for a right result.

    Never raises for what the candidate does, or returns, or leaves open (`...`, None), but under LAV_STRICT=1
    raises AssertionError.
    """
    if (expected is None) == (cases is None):
        raise TypeError("check() takes either expected=... or cases=[(arguments, expected), ...]")
    plain = cases is None and not callable(candidate)
    cases = [((), expected)] if cases is None else cases
    for arguments, wanted in cases:
        several = arguments if isinstance(arguments, tuple) else (arguments,)
        try:
            found = candidate if plain else candidate(*several)
            problem = _problem(found, wanted, tolerance)
        except Exception as error:
            problem = f"it raises {type(error).__name__}: {error}"
        if problem is None:
            continue
        message = f"✘ {name}: not yet. Hint: {hint}"
        if problem:
            given = f" for {_brief(arguments)}" if len(cases) > 1 else ""
            message += f"\n  Now{given}: {problem}"
        if os.environ.get("LAV_STRICT") == "1":
            raise AssertionError(message)
        print(message)
        return
    print(f"✔ {name}: pass")


def _problem(found: Any, wanted: Any, tolerance: float) -> str | None:
    """What is wrong with a result, in words, "" where there is none yet; None if it is right."""
    if found is None or found is ...:
        return ""
    if callable(wanted):
        return None if wanted(found) else f"found {_brief(found)}"
    return None if _equal(found, wanted, tolerance) else f"found {_brief(found)}, expected {_brief(wanted)}"


def _equal(found: Any, wanted: Any, tolerance: float) -> bool:
    if isinstance(wanted, dict):
        if not isinstance(found, dict) or found.keys() != wanted.keys():
            return False
        return all(_equal(found[key], wanted[key], tolerance) for key in wanted)
    if isinstance(wanted, (list, tuple)) and isinstance(found, (list, tuple)):
        return len(found) == len(wanted) and all(_equal(f, w, tolerance) for f, w in zip(found, wanted))
    if isinstance(wanted, str) or wanted is None:
        return isinstance(found, type(wanted)) and found == wanted
    found, wanted = _array(found), _array(wanted)
    if found.dtype.kind not in "biufc" or found.shape != wanted.shape:
        return False
    return np.allclose(found, wanted, tolerance, tolerance, equal_nan=True)


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a torch tensor, maybe on a device, with a gradient, in bfloat16
        value = value.detach().cpu()
        value = value.double() if value.is_floating_point() else value
    return np.asarray(value)


def _brief(value: Any) -> str:
    shape = tuple(getattr(value, "shape", ()))
    if not shape:
        return reprlib.repr(value.item() if hasattr(value, "item") else value)
    array = _array(value)
    span = f" from {array.min():.4g} to {array.max():.4g}" if array.size else ""
    return f"values of shape {shape}{span}"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Any:
    """A Markdown table to end a cell with; what is not a string yet is shown by str()."""
    from IPython.display import Markdown

    lines = [columns, ["---"] * len(columns), *rows]
    return Markdown("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))


def record(path: Path, what: str, seed: int, **result: Any) -> None:
    """Write a result as JSON, with what a measured number must be read with; what: how it was made."""
    records.write(path, {**records.provenance(what, seed), **result})


def show(figure, alt: str) -> None:
    """Display a matplotlib figure, once, with alt, one sentence: what a reader sees in it.

    The sentence goes where the notebook format keeps it, the picture's `alt` metadata, and is the picture's
    form in plain text. Lines and letters are PNG; a figure of photograph-like pictures, which JPEG brings to
    less than two thirds, is JPEG, or the notebooks would weigh three times as much.
    Raises ValueError when alt is empty.
    """
    from IPython.display import display
    from matplotlib import pyplot

    if not alt.strip():
        raise ValueError("show(figure, alt): alt is empty; say in one sentence what the picture shows")
    png, jpeg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)  # or the notebook would show it again at the end of the cell
    small = {"quality": 75, "subsampling": 0, "optimize": True, "progressive": True}  # colours at full size
    Image.open(png).convert("RGB").save(jpeg, "JPEG", **small)
    photographs = len(jpeg.getvalue()) < 2 / 3 * len(png.getvalue())
    kind, content = ("image/jpeg", jpeg) if photographs else ("image/png", png)
    encoded = base64.b64encode(content.getvalue()).decode()
    display({kind: encoded, "text/plain": alt}, metadata={kind: {"alt": alt}}, raw=True)

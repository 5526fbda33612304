"""Exercises that answer: what is right, what is missing, and which mistake it looks like; and guesses, shown
later beside what was measured."""
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

FEW = 12  # values of an array that are shown one by one

_solved: dict[str, Callable] = {}
_guesses: dict[str, Any] = {}


class Mistake(NamedTuple):
    """found: what an answer with this mistake returns for the arguments; hint: what to tell its author."""

    arguments: Any
    found: Any
    hint: str


class NotYet(AssertionError):
    """An exercise is not solved. taken_for: the index of the recognized mistake, "unknown", or "gap" if
    nothing is written yet."""

    def __init__(self, message: str, taken_for: int | str):
        super().__init__(message)
        self.taken_for = taken_for


def check(
    name: str,
    candidate: Callable,
    *,
    cases: Sequence[tuple[Any, Any]],
    hint: str,
    mistakes: Sequence[tuple[Any, Any, str]] = (),
    tolerance: float = 1e-4,
) -> None:
    """Say whether an exercise is solved: "✔ name: pass"; "○ name: your turn" if nothing is written yet;
    otherwise "✘ name: not yet", with a hint and what was found.

    cases: pairs (arguments, expected); several arguments come as a tuple. `expected` is a number, an array,
    a tensor of any shape (compared within tolerance, relative and absolute), a string, a list, tuple or dict
    of these, or a function that returns True for a correct result.
    mistakes: triples (arguments, found, hint). An answer that returns `found`, which takes the same forms as
    `expected`, has made the mistake that the hint explains. The first match is shown; without one, `hint`.

    Never raises, whatever the candidate does, returns or leaves open (`...`, None); under LAV_STRICT=1 it
    raises `NotYet`.
    """
    results = [_called(candidate, arguments) for arguments, _ in cases]
    if all(found is None or found is ... for found in results):
        _tell(NotYet(f"○ {name}: your turn", "gap"))
        return
    judged = (_problem(*case, found, tolerance) for case, found in zip(cases, results))
    problem = next((problem for problem in judged if problem), None)
    if problem is None:
        _solved[name] = candidate
        print(f"✔ {name}: pass")
        return
    taken_for = "unknown"
    for k, mistake in enumerate(map(Mistake._make, mistakes)):
        if _is(_called(candidate, mistake.arguments), mistake.found, tolerance):
            taken_for, hint = k, mistake.hint
            break
    _tell(NotYet(f"✘ {name}: not yet. Hint: {hint}\n  Now {problem}", taken_for))


def yours(name: str) -> Callable | None:
    """The reader's answer to an exercise, once its check has passed; until then None, with a printed line."""
    if name not in _solved:
        print(f"this cell waits for your answer to {name!r}")
    return _solved.get(name)


def guess(name: str, expected: Any) -> None:
    """Keep the reader's guess at a measurement: a number, words, or a dict of them; `...` means none yet."""
    _guesses[name] = expected
    print(f"○ {name}: your guess, in place of the dots" if _open(expected) else f"{name}: kept")


def beside(name: str, measured: Any) -> None:
    """Show what was measured beside the reader's guess of that name, a line for each value, no verdict."""
    expected = _guesses.get(name, ...)
    if not isinstance(expected, dict) or not isinstance(measured, dict):
        print(f"{name}: {_both(expected, measured)}")
        return
    print(f"{name}:")
    for key, value in measured.items():
        print(f"  {key}: {_both(expected.get(key, ...), value)}")


def _both(expected: Any, measured: Any) -> str:
    own = "none" if _open(expected) else readable(expected)
    return f"your guess {own}; measured {readable(measured)}"


def _open(expected: Any) -> bool:
    return all(value is ... for value in (expected.values() if isinstance(expected, dict) else [expected]))


def _tell(failure: NotYet) -> None:
    if os.environ.get("LAV_STRICT") == "1":
        raise failure
    print(failure)


def _called(candidate: Callable, arguments: Any) -> Any:
    """What the candidate returns, or the exception that it raises."""
    try:
        return candidate(*(arguments if isinstance(arguments, tuple) else (arguments,)))
    except Exception as error:
        return error


def _problem(arguments: Any, wanted: Any, found: Any, tolerance: float) -> str | None:
    """What is wrong with a result, in words; None if it is right."""
    if _is(found, wanted, tolerance):
        return None
    given = "" if isinstance(arguments, tuple) and not arguments else f"for {readable(arguments)} "
    if isinstance(found, Exception):
        return f"{given}it raises {type(found).__name__}: {found}"
    expected = "" if callable(wanted) else f", expected {readable(wanted)}"
    return f"{given}found {readable(found)}{expected}"


def _is(found: Any, wanted: Any, tolerance: float) -> bool:
    """Whether a result is the wanted one; an exception matches its class, or a function that accepts it."""
    if isinstance(wanted, type) and issubclass(wanted, Exception):
        return isinstance(found, wanted)
    if isinstance(found, Exception):
        return False
    if callable(wanted):
        try:
            return bool(wanted(found))
        except Exception:
            return False
    return _equal(found, wanted, tolerance)


def _equal(found: Any, wanted: Any, tolerance: float) -> bool:
    if isinstance(wanted, dict):
        if not isinstance(found, dict) or found.keys() != wanted.keys():
            return False
        return all(_equal(found[key], wanted[key], tolerance) for key in wanted)
    if isinstance(wanted, (set, frozenset)):
        return isinstance(found, (set, frozenset)) and found == wanted
    if isinstance(wanted, (list, tuple)) and isinstance(found, (list, tuple)):
        return len(found) == len(wanted) and all(_equal(f, w, tolerance) for f, w in zip(found, wanted))
    if isinstance(wanted, str) or wanted is None:
        return isinstance(found, type(wanted)) and found == wanted
    try:
        found, wanted = _array(found), _array(wanted)
    except ValueError:  # rows of different lengths
        return False
    if found.dtype.kind not in "biufc" or found.shape != wanted.shape:
        return False
    return np.allclose(found, wanted, tolerance, tolerance, equal_nan=True)


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a torch tensor, maybe on a device, with a gradient, in bfloat16
        value = value.detach().cpu()
        value = value.double() if value.is_floating_point() else value
    return np.asarray(value)


def readable(value: Any) -> str:
    """Numbers to four digits, small arrays in full, larger ones as shape and range."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {readable(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(readable, value))) + "}"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(readable, value[:FEW])) + (", ..." if len(value) > FEW else "")
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if isinstance(value, (bool, np.bool_, str)):
        return repr(value) if isinstance(value, str) else str(bool(value))
    if value is None or value is ...:
        return "nothing"
    if not hasattr(value, "shape") and not isinstance(value, (int, float)):
        return getattr(value, "__name__", None) or type(value).__name__
    array = _array(value)
    if array.size <= FEW:
        return readable(array.tolist()) if array.ndim else _number(array.item())
    of = " x ".join(map(str, array.shape))
    return f"{of} values from {_number(array.min())} to {_number(array.max())}"


def _number(value: Any) -> str:
    return str(value) if isinstance(value, (bool, int)) else f"{value:.4g}"

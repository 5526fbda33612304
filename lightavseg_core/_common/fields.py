"""Checks the fields of a dataclass against their annotations."""
from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .names import unknown
from .ranges import within

NAMES = {int: "a whole number (int)", float: "a number (float)", bool: "True or False", str: "text (str)"}


def check_fields(values: Any, least: Mapping[str, float], most: Mapping[str, float]) -> None:
    """Raises ValueError, in one line, for a field of the wrong type, a value that its Literal does not list,
    or a number out of range. By default a number must be finite and at least 0."""
    for name, hint in get_type_hints(type(values)).items():
        value, kinds = getattr(values, name), get_args(hint) or (hint,)
        if get_origin(hint) is Literal:
            if value not in kinds:
                raise unknown(name, value, kinds)
        elif value is not None or type(None) not in kinds:
            _check(name, value, kinds[0], least.get(name, 0), most.get(name, sys.float_info.max))


def _check(name: str, value: Any, kind: type, least: float, most: float) -> None:
    accepted = {float: (int, float), str: (str, os.PathLike)}.get(kind, kind)
    if not isinstance(value, accepted) or (kind is not bool and isinstance(value, bool)):
        raise ValueError(f"{name} is {value!r}; expected {NAMES[kind]}.")
    if kind in (int, float):
        within(least, most, **{name: value})

"""Methods from outside the package: a Python file of your own, imported by its path."""
from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from ..models.base import METHODS


@contextmanager
def blamed(file: Path) -> Iterator[None]:
    """Turns an error in a method's file into a ValueError of one line, with the file and the line in it."""
    try:
        yield
    except Exception as error:
        name = str(file.resolve())
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == name]
        if isinstance(error, SyntaxError) and error.filename == name:
            lines.append(error.lineno)
        where = f"{file}, line {lines[-1]}" if lines else str(file)
        raise ValueError(f"{where}: {type(error).__name__}: {error}") from error


def import_file(file: str | Path) -> list[str]:
    """Runs a Python file, as an import would, and returns the names of the methods that it registers.

    Raises FileNotFoundError if it is missing, and ValueError, with the line, for anything that goes wrong in
    it.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file. For its content see docs/adding_a_method.md (also in `lightavseg "
            "notebooks`)."
        )
    name = f"outside_{path.stem}"  # no name that an installed module has
    spec = spec_from_file_location(name, path.resolve())
    if spec is None:
        raise ValueError(f"{path}: not a Python file; expected a name that ends in .py.")
    module = module_from_spec(spec)
    sys.modules[name] = module     # where dataclasses look for the file's names
    with blamed(path):
        spec.loader.exec_module(module)
    classes = [cls for cls in vars(module).values() if getattr(cls, "__module__", None) == name]
    return [method for method, cls in METHODS.items() if cls in classes]

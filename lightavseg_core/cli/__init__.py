"""The command line, `lightavseg`, made from dataclasses by tyro. `lightavseg COMMAND --help` explains each.

A command imports what it needs when it runs: --help answers at once, and `check` works without packages.
"""
from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, reduce
from operator import or_
from typing import Annotated

import tyro

from .._common.bars import bars_closed
from .._common.files import told
from .._common.names import at_home, printable, unknown
from .._common.stopping import terminated_cleanly
from .compare import Compare
from .data import Data
from .exam import Exam, Unseen
from .machine import Check, Download, Notebooks
from .options import is_first
from .predict import Export, Predict
from .profile import Bench, Profile
from .sweep import Rehearse, Sweep
from .train import Evaluate, Train

COMMANDS = (
    Check, Notebooks, Data, Train, Evaluate, Exam, Unseen, Compare, Predict, Profile, Export, Bench, Sweep,
    Rehearse, Download,
)


def main(arguments: list[str] | None = None) -> None:
    """Entry point. A mistake of the user or a failing disk ends in one line on stderr and exit code 2, not in
    a traceback."""
    arguments = [at_home(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    try:
        with _printing(), bars_closed(), terminated_cleanly():
            known_command(arguments)
            code = _command(arguments).run()
        sys.exit(code)
    except KeyboardInterrupt as error:
        if is_first():
            print(error if error.args else "stopped; what has been written is kept", file=sys.stderr)
        sys.exit(128 + getattr(error, "number", signal.SIGINT))
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        if (getattr(error, "name", None) or "").startswith("lightavseg_core"):
            raise  # a mistake of ours
        advice = ". `lightavseg check` says what to install." if of_an_import(error) else ""
        said = told(error) if isinstance(error, OSError) else error
        print(f"lightavseg: {printable(said)}{advice}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def _printing() -> Iterator[None]:
    """Wraps a command: any name can be printed in any encoding, and output is flushed before Python ends,
    while an error can still be reported. Of several processes only the first prints.

    Raises OSError if standard output cannot be written.
    """
    if not is_first():
        sys.stdout = open(os.devnull, "w")
    out = sys.stdout
    if getattr(out, "errors", None) == "strict":
        out.reconfigure(errors="backslashreplace")  # as stderr does
    try:
        yield
    finally:
        try:
            if out:
                out.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # for what is still to be written
            raise OSError(error.errno, error.strerror, "standard output") from None


def known_command(arguments: list[str]) -> None:
    """Raises ValueError, with a suggestion, if the first words are no command: tyro suggests none there."""
    first, second, *_ = [*arguments, "", ""]
    commands = {cls.__name__.lower(): cls for cls in COMMANDS}
    levels = [("command", first, commands)]
    if first == "data":
        levels.append(("command of data", second, Data.WHAT))
    for kind, word, known in levels:
        if word and not word.startswith("-") and word not in known:
            raise unknown(kind, word, known)


def _command(arguments: list[str]):
    """The requested command with its options."""
    subcommands = (Annotated[cls, tyro.conf.subcommand(cls.__name__.lower())] for cls in COMMANDS)
    parse = partial(
        tyro.cli, reduce(or_, subcommands), prog="lightavseg", description=__doc__, args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes)
    )
    command = parse()
    if isinstance(command, Train) and command.recipe:
        command = parse(default=command.with_recipe())  # once more: what is given wins over the recipe
    if isinstance(command, Train) and command.resume:
        command = command.begun()
    if getattr(command, "imports", None):
        from ..experiments.outside import import_file

        import_file(command.imports)
    return command


def of_an_import(error: Exception) -> bool:
    """Whether an error arose during an import: a package that does not load may raise OSError."""
    if getattr(error, "errno", None):  # the disk's
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ImportError) or any(frame.name == "<module>" for frame in frames)

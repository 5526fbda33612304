"""The command line, `lightavseg`: made from dataclasses by tyro. Each command says in --help what it does.

A command imports what it needs when it runs: --help answers at once, and `check` where packages are missing.
"""
from __future__ import annotations

import sys
from functools import partial, reduce
from operator import or_
from typing import Annotated

import tyro

from .._common.names import printable
from .compare import Compare
from .data import Data
from .machine import Check, Download
from .predict import Export, Predict
from .profile import Bench, Profile
from .sweep import Sweep
from .train import Evaluate, Train

COMMANDS = (Check, Data, Train, Evaluate, Compare, Predict, Profile, Export, Bench, Sweep, Download)


def main(arguments: list[str] | None = None) -> None:
    """Entry point. A mistake of the user's ends in one line on stderr and exit code 2, not in a traceback."""
    subcommands = (Annotated[cls, tyro.conf.subcommand(cls.__name__.lower())] for cls in COMMANDS)
    parse = partial(
        tyro.cli, reduce(or_, subcommands), prog="lightavseg", description=__doc__, args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes)
    )
    command = parse()
    try:
        if isinstance(command, Train) and command.recipe:
            command = parse(default=command.with_recipe())  # once more: what is given wins over the recipe
        if getattr(command, "imports", None):
            from ..experiments.outside import import_file

            import_file(command.imports)
        sys.exit(command.run())
    except KeyboardInterrupt:
        print("stopped; what was written until now is kept", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"lightavseg: {printable(error)}", file=sys.stderr)
        sys.exit(2)

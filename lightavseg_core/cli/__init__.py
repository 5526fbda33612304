"""The command line, `lightavseg`: made from dataclasses by tyro. Each command says in --help what it does.

A command imports what it needs when it runs: --help answers at once, and `check` where packages are missing.
"""
from __future__ import annotations

import sys
from functools import partial
from typing import Annotated

import tyro

from .._common.names import printable
from .data import Data
from .machine import Check, Download
from .predict import Export, Predict
from .profile import Bench, Profile
from .sweep import Sweep
from .train import Evaluate, Train


def main(arguments: list[str] | None = None) -> None:
    """Entry point. A mistake of the user's ends in one line on stderr and exit code 2, without a traceback."""
    commands = (Annotated[Check, tyro.conf.subcommand("check")] | Annotated[Data, tyro.conf.subcommand("data")]
                | Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
                | Annotated[Predict, tyro.conf.subcommand("predict")]
                | Annotated[Profile, tyro.conf.subcommand("profile")]
                | Annotated[Export, tyro.conf.subcommand("export")]
                | Annotated[Bench, tyro.conf.subcommand("bench")]
                | Annotated[Sweep, tyro.conf.subcommand("sweep")] | Annotated[Download, tyro.conf.subcommand("download")])
    parse = partial(tyro.cli, commands, prog="lightavseg", description=__doc__, args=arguments,
                    config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes))
    command = parse()
    try:
        if isinstance(command, Train) and command.recipe:
            command = parse(default=command.with_recipe())         # once more: what is given wins over the recipe
        sys.exit(command.run())
    except KeyboardInterrupt:
        print("stopped; what was written until now is kept", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"lightavseg: {printable(error)}", file=sys.stderr)
        sys.exit(2)

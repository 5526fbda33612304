"""Names from outside: printed so that they do no harm, and a suggestion for an unknown one."""
from __future__ import annotations

import difflib
import os
from collections.abc import Collection


def printable(text: object) -> str:
    """Text in one line and without terminal control codes: file names and files may contain both.

    They are escaped as in Python: \\n, \\x1b.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def unknown(kind: str, name: str, known: Collection[str]) -> ValueError:
    """An error for an unknown name, with the nearest known one."""
    near = difflib.get_close_matches(str(name).lower(), list(known), n=1)
    meant = f": did you mean {near[0]!r}?" if near else "."
    return ValueError(f"unknown {kind} {name!r}{meant} Known: {', '.join(sorted(known))}.")


def at_home(word: str) -> str:
    """A word of the command line with `~` expanded: the shell leaves it as it is in quotes and after
    `--out=`."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{os.path.expanduser(value)}"

"""Names that somebody gave: written so that they do no harm; and what was meant by one that nobody knows."""
from __future__ import annotations

import difflib
import os
from collections.abc import Collection


def printable(text: object) -> str:
    """In one line, and without codes that a terminal obeys: file names and what is in files may hold both.

    Written as Python would: \\n, \\x1b.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def unknown(kind: str, name: str, known: Collection[str]) -> ValueError:
    """An error for a name that is not known, with the nearest one that is."""
    near = difflib.get_close_matches(str(name).lower(), list(known), n=1)
    meant = f": did you mean {near[0]!r}?" if near else "."
    return ValueError(f"unknown {kind} {name!r}{meant} Known: {', '.join(sorted(known))}.")


def at_home(word: str) -> str:
    """A word of the command line, with `~` made the home folder: the shell leaves it in quotes, and behind
    `--out=`."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{os.path.expanduser(value)}"

"""Names that somebody gave: written so that they do no harm; and what was meant by one that nobody knows."""
from __future__ import annotations

import difflib
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

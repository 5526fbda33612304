"""_common.names."""
from __future__ import annotations

import difflib


def printable(text: object) -> str:
    """In one line, and without codes that a terminal obeys: file names and what is in files may hold both. Written as Python would: \\n, \\x1b."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def unknown(kind: str, name: str, known) -> ValueError:
    """An error for a name that is not known, with the nearest one that is."""
    near = difflib.get_close_matches(str(name).lower(), list(known), n=1)
    return ValueError(f"unknown {kind} {name!r}{f': did you mean {near[0]!r}?' if near else '.'} Known: {', '.join(sorted(known))}.")

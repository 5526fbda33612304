"""Recognizes what stands in place of a file that was not downloaded."""
from __future__ import annotations

import re
from pathlib import Path

_KINDS = {  # how each begins -> what it is, and what brings the file itself
    rb"version https://(git-lfs|hawser)\.github\.com/spec/": (
        "a Git LFS pointer", "Get the file itself with `git lfs pull`, or download it again"
    ),
    rb"(\.\./)*(\.git)?/annex/objects/": (
        "a git-annex pointer", "Get the file itself with `git annex get`, or download it again"
    ),
    rb"\s*(<\?xml[^>]*>\s*)?<(!doctype\s+html|html|head|body|script)\b": (
        "a web page", "Download the file itself again: the page may ask for a click or a login"
    ),
    rb'\s*(<\?xml[^>]*>\s*)?<Error>|\s*\{\s*"(error|message)"': (
        "an error message from a server", "Download the file again"
    ),
    rb"$": ("empty", "Download the file again"),
}
_MOST = 1000  # bytes that are looked at


def substitute(path: Path) -> tuple[str, str] | None:
    """What a file is instead of data, and what to do; None if it is none of these."""
    with path.open("rb") as file:
        head = file.read(_MOST).removeprefix(b"\xef\xbb\xbf")
    for beginning, (what, remedy) in _KINDS.items():
        if re.match(beginning, head, re.IGNORECASE):
            return f"it is {what}", remedy
    return None

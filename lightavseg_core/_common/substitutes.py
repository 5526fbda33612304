"""What lies where a file should be that was not fetched."""
from __future__ import annotations

import re
from pathlib import Path

_KINDS = {  # how each begins -> what it is, and what brings the file itself
    rb"version https://(git-lfs|hawser)\.github\.com/spec/": (
        "a Git LFS pointer", "`git lfs pull` brings the file itself; or fetch it again by hand"
    ),
    rb"(\.\./)*(\.git)?/annex/objects/": (
        "a git-annex pointer", "`git annex get` brings the file itself; or fetch it again by hand"
    ),
    rb"\s*(<\?xml[^>]*>\s*)?<(!doctype\s+html|html|head|body|script)\b": (
        "a web page", "Fetch the file itself again: the page may ask for a click, or to sign in"
    ),
    rb'\s*(<\?xml[^>]*>\s*)?<Error>|\s*\{\s*"(error|message)"': (
        "a server's answer that there was an error", "Fetch the file again"
    ),
    rb"$": ("empty", "Fetch the file again"),
}
_MOST = 1000  # bytes that are looked at


def substitute(path: Path) -> tuple[str, str] | None:
    """What a file is in place of data, and what to do; None where it is nothing of the kind."""
    with path.open("rb") as file:
        head = file.read(_MOST).removeprefix(b"\xef\xbb\xbf")
    for beginning, (what, remedy) in _KINDS.items():
        if re.match(beginning, head, re.IGNORECASE):
            return f"it is {what}", remedy
    return None

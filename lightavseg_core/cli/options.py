"""Options of several commands."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import tyro

# A field of this type is called `imports`, since `import` is a word of Python's; `main` runs the file.
HELP = "A Python file with a method of your own: docs/adding_a_method.md (also in `lightavseg notebooks`)."
Import = Annotated[Path | None, tyro.conf.arg(name="import", metavar="FILE", help=HELP)]


def is_first() -> bool:
    """Whether this process is the only one, or the first that `torchrun` has started."""
    return "LOCAL_RANK" not in os.environ or os.environ.get("RANK", "0") == "0"

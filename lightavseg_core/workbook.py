"""What every notebook uses: checked parameters, exercises that answer, pictures with spoken descriptions."""

import base64
import difflib
import io
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

from PIL import Image

from ._common import records
from ._common.environment import card
from ._common.exercises import beside, check, guess, yours
from ._common.places import places

__all__ = [
    "beside", "card", "check", "guess", "places", "record", "settings", "show", "table", "took", "yours",
]

PROFILES = ("default", "smoke")
_started = time.monotonic()
PLAIN = (bool, int, float, str, list, tuple, dict, type(None))  # what a parameter can be


def settings(namespace: dict[str, Any], **types: Any) -> SimpleNamespace:
    """Check the parameters cell above, and return its values: `s = settings(globals(), clips=int, seed=int)`.

    namespace: the notebook's globals(). types: the type of each parameter; an int passes as a float, None
    only for `... | None`.
    `profile` is always a parameter: "default", or "smoke" for the shortest run that covers everything.
    The first call in a kernel, which comes before any other cell, also refuses any other plain value that it
    finds (papermill's `-p clps 20`, a misspelled line), which nothing would read. Later calls, in a notebook
    being worked on, cannot tell.

    Raises ValueError with everything that is wrong: unknown or missing parameters, values of another type.
    """
    types = {"profile": str, **types}
    wrong = []
    for name, kind in types.items():
        if name not in namespace:
            wrong.append(f"{name} is missing: the parameters cell must set it")
        elif not _is(namespace[name], kind):
            found, expected = namespace[name], getattr(kind, "__name__", kind)
            wrong.append(f"{name} is {found!r}, of type {type(found).__name__}; expected {expected}")
    profile = namespace.get("profile")
    if isinstance(profile, str) and profile not in PROFILES:
        wrong.append(f"profile is {profile!r}; expected one of {', '.join(map(repr, PROFILES))}")
    if "_parameters" not in namespace:
        for name, value in namespace.items():
            if name in (*types, "In", "Out") or name.startswith("_") or not isinstance(value, PLAIN):
                continue
            close = difflib.get_close_matches(name, types, n=1)
            meant = f"did you mean {close[0]}?" if close else f"it has {', '.join(types)}."
            advice = f"{meant} Correct it and restart the kernel."
            wrong.append(f"{name} is not a parameter of this notebook; {advice}")
    if wrong:
        raise ValueError("parameters: " + "\n            ".join(wrong))
    global _started
    _started = time.monotonic()
    namespace["_parameters"] = SimpleNamespace(**{name: namespace[name] for name in types})
    return namespace["_parameters"]


def _is(value: Any, kind: Any) -> bool:
    kinds = get_args(kind) or (kind,)
    if isinstance(value, bool):  # Python's bool is an int; clips=True is a mistake all the same
        return bool in kinds
    return isinstance(value, kind) or (isinstance(value, int) and float in kinds)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Any:
    """A Markdown table to end a cell with; cells that are not strings are shown by str()."""
    from IPython.display import Markdown

    lines = [columns, ["---"] * len(columns), *rows]
    return Markdown("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))


def took(expected: float) -> None:
    """Print the minutes since the parameters were checked, beside those expected on two cores."""
    minutes = (time.monotonic() - _started) / 60
    print(f"minutes since the top: {minutes:.1f}; expected on 2 cores: {expected:g}")


def record(path: Path, what: str, seed: int, **result: Any) -> None:
    """Write a result as JSON, with its provenance; what: how it was made."""
    records.write(path, {**records.provenance(what, seed), **result})


def show(figure, alt: str, vector: bool = False) -> None:
    """Display a matplotlib figure, once, with alt, one sentence that describes it.

    The sentence becomes the picture's `alt` metadata in the notebook, and its plain text form. Figures are
    PNG; one that JPEG makes at least a third smaller, such as photographs, is JPEG, since the notebooks would
    otherwise be three times as large. vector: as SVG, for drawings to be enlarged.
    Raises ValueError if alt is empty.
    """
    from IPython.display import display
    from matplotlib import pyplot

    if not alt.strip():
        raise ValueError("show(figure, alt): alt is empty; describe the picture in one sentence")
    if vector:
        svg = io.StringIO()
        with pyplot.rc_context({"svg.hashsalt": "lightavseg", "svg.fonttype": "none"}):
            figure.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
        # As wide as the page at most, where a fixed width would be cut off.
        fixed, shrinks = r'width="(\S+pt)" height="\S+pt"', r'width="100%" style="max-width: \1"'
        fluid = re.sub(fixed, shrinks, svg.getvalue(), count=1)
        data = {"image/svg+xml": fluid, "text/plain": alt}
        display(data, metadata={"image/svg+xml": {"alt": alt}}, raw=True)
        return
    png, jpeg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)  # or the notebook would show it again at the end of the cell
    small = {"quality": 75, "subsampling": 0, "optimize": True, "progressive": True}  # colours at full size
    Image.open(png).convert("RGB").save(jpeg, "JPEG", **small)
    photographs = len(jpeg.getvalue()) < 2 / 3 * len(png.getvalue())
    kind, content = ("image/jpeg", jpeg) if photographs else ("image/png", png)
    encoded = base64.b64encode(content.getvalue()).decode()
    display({kind: encoded, "text/plain": alt}, metadata={kind: {"alt": alt}}, raw=True)

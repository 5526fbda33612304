"""Each term of the glossary leads to a heading that is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(\.\./notebooks/(\w+)\.ipynb(?:#([^)]+))?\)")


def anchors(name):
    """What JupyterLab calls the headings of a notebook."""
    text = (ROOT / "notebooks" / "py" / f"{name}.py").read_text()
    return {title.replace(" ", "-") for title in re.findall(r"^# #+ (.+)$", text, re.MULTILINE)}


def test_every_term_has_its_place():
    text = (ROOT / "docs" / "glossary.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [line for line in rows if not line.startswith(("| term", "| symbol"))]
    places = [place for row in rows for place in LINK.findall(row)]
    missing = {(name, anchor) for name, anchor in places if anchor and anchor not in anchors(name)}
    assert len(rows) > 200 and not missing
    assert [row for row in rows if row.count("|") == 4 and not LINK.search(row)] == []

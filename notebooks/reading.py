"""How long a notebook takes to read, section by section.

python notebooks/reading.py        words, figures and minutes of each
"""

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

PACE = 200  # words a minute
PLACE = "@minutes"  # in the source, where a notebook says its minutes
SECTION = re.compile(r"^## (?:(\d+\.\d+) )?(.+)$", re.M)
EXERCISE = re.compile(r"^\*(\d+) minutes, (?:easy|medium|hard)\.\*$", re.M)


def words(text: str) -> int:
    """Of prose: a formula counts as one, what is folded away not at all."""
    text = re.sub(r"<details>.*?</details>", "", text, flags=re.S)
    text = re.sub(r"\$\$.*?\$\$|\$[^$]+\$", " x ", text, flags=re.S)
    return len(re.findall(r"[\w'’-]+", text))


def sections(cells: list[NotebookNode]) -> dict[str, tuple[int, int]]:
    """By number or, without one, title: its words, and the minutes of its exercises."""
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    opening, *rest = SECTION.split(text)
    named = {"": opening} | {number or title: body for number, title, body in zip(*[iter(rest)] * 3)}
    return {name: (words(body), sum(map(int, EXERCISE.findall(body)))) for name, body in named.items()}


def minutes(cells: list[NotebookNode]) -> str:
    """What stands in place of PLACE: all minutes, and those of each numbered section."""
    by_section = {name: round(count / PACE + more) for name, (count, more) in sections(cells).items()}
    whole = round(sum(count / PACE + more for count, more in sections(cells).values()))
    each = ", ".join(f"{name} {max(1, one)}" for name, one in by_section.items() if name[:1].isdigit())
    return f"{whole} minutes with the exercises, pictures and code not counted; by section {each}"


if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        counted = sum(count for count, _ in sections(cells).values())
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        figures = sum(any("image/" in kind for kind in output.get("data", {})) for output in outputs)
        print(f"{path.stem:20} {counted:5} words {figures:3} figures  {minutes(cells)}")

"""Make the notebooks from their text source, run them, and say which are out of date.

python notebooks/build.py build [NAME ...]      notebooks/NAME.ipynb from notebooks/py/NAME.py, with outputs
python notebooks/build.py text [NAME ...]       only the text anew, where no code has changed; outputs stay
python notebooks/build.py run NAME --out FILE   execute one with other parameters; FILE is the executed copy
python notebooks/build.py sync                  which notebooks differ from their source

In the source an exercise is a cell tagged `exercise`, its answer between the lines `# solution` and
`# end solution`, and before the latter wrong ones, each below a line `# wrong: ` that names the mistake; the
next cell, tagged `check`, calls `workbook.check`, which knows these mistakes in the same order. The notebook
has `...  # your code here`, the check, and the solution folded away.
"""

import ast
import hashlib
import html
import json
import os
import re
import statistics
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Literal

import jupytext
import nbformat
import papermill
import reading
import tyro
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lightavseg_core._common.names import at_home

HERE = Path(__file__).resolve().parent
EVERY = 10  # seconds between two lines about a training, where no terminal is attached
ANSWERS = re.compile(r"^([ \t]*)# solution[ \t]*\n(.*?)^[ \t]*# end solution[ \t]*$", re.M | re.S)
WRONG = re.compile(r"^[ \t]*# wrong: (.+)\n", re.M)
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}
WIDGET = "application/vnd.jupyter.widget-view+json"
FOLDED = "<details><summary>Solution</summary>\n\n```python\n{}\n```\n\n</details>"
MUST_FAIL = """\
try:
{}
except AssertionError as failure:
    assert failure.taken_for == {!r}, f"it was taken for {{failure.taken_for}}: {{failure}}"
    print(failure)
else:
    raise RuntimeError("this check passes on the answer above")"""


Exercises = Literal["stub", "solution", "both"]


def notebook_from_source(path: Path, exercises: Exercises = "stub") -> NotebookNode:
    """The notebook, without outputs, that a py:percent file describes.

    exercises: "stub" leaves the gap and folds the solution away below the check (what readers get);
    "solution" fills it in; "both" (what tests run, under LAV_STRICT=1) proves that the check fails on the gap
    and on each wrong answer, which it knows, and passes on the solution. Raises ValueError when an exercise
    has no solution lines or no check after it.
    """
    cells, source = [], iter(jupytext.read(path).cells)
    for cell in source:
        if "exercise" not in cell.metadata.get("tags", []):
            cells.append(_cell(cell.cell_type, cell.source, cell.metadata.get("tags")))
            continue
        check = next(source, None)
        if not ANSWERS.search(cell.source):
            raise ValueError(
                f"{path}: this exercise has no lines `# solution` and `# end solution` around its answer:\n"
                f"{cell.source}"
            )
        if check is None or "check" not in check.metadata.get("tags", []):
            raise ValueError(
                f"{path}: the cell after this exercise must be its check, tagged `check`:\n{cell.source}"
            )
        tags = cell.metadata.tags, check.metadata.tags
        stub = ANSWERS.sub(_gap, cell.source)
        solved, *wrong = _answers(cell.source)
        if exercises == "both":
            for answer, taken_for in zip([stub, *wrong], ["gap", *range(len(wrong))]):
                must_fail = MUST_FAIL.format(textwrap.indent(check.source, "    "), taken_for)
                cells += [_cell("code", answer, tags[0]), _cell("code", must_fail, tags[1])]
        if exercises == "stub":
            cells += [_cell("code", stub, tags[0]), _cell("code", check.source, tags[1])]
            cells.append(_cell("markdown", FOLDED.format(solved)))
        else:
            cells += [_cell("code", solved, tags[0]), _cell("code", check.source, tags[1])]
    cells[0].source = cells[0].source.replace(reading.PLACE, reading.minutes(cells))
    seen = Counter()
    for cell in cells:  # ids made from the text: a rebuilt notebook differs only where its source does
        digest = hashlib.sha1(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] += 1
        cell.id = f"{digest}-{seen[digest]}"
    return new_notebook(cells=cells, metadata=METADATA, nbformat_minor=5)


def _answers(source: str) -> list[str]:
    """An exercise with its solution, and with each wrong answer."""
    answers = WRONG.split(ANSWERS.search(source)[2])[::2]  # between them, what each mistake is
    return [ANSWERS.sub(lambda _, answer=answer: answer.rstrip("\n"), source) for answer in answers]


def _gap(answers: re.Match) -> str:
    last_line = WRONG.split(answers[2])[0].rstrip().rpartition("\n")[2]
    # `answer = ...` says which name the check reads.
    assigned = re.match(re.escape(answers[1]) + r"\w+ = ", last_line)
    return f"{assigned[0] if assigned else answers[1]}...  # your code here"


def _cell(kind: str, source: str, tags: list[str] | None = None) -> NotebookNode:
    make = new_code_cell if kind == "code" else new_markdown_cell
    return make(source, metadata=_metadata(tags))


def _metadata(tags: list[str] | None) -> dict:
    return {"tags": tags} if tags else {}


def execute(
    notebook: NotebookNode, out: Path | None = None, parameters: dict | None = None, folder: Path = HERE
) -> NotebookNode:
    """Run a notebook through papermill, as if it lay in folder, and return it with tidy outputs.

    out: a file that gets it, and keeps what ran when a cell fails.
    Raises papermill.PapermillExecutionError when a cell does.
    """
    quiet = {"progress_bar": False, "extra_arguments": ["--log-level=ERROR"]}
    done = papermill.execute_notebook(notebook, out and out.resolve(), parameters, cwd=folder, **quiet)
    tidy(done)
    if out:
        nbformat.write(done, out)
    return done


def tidy(notebook: NotebookNode) -> None:
    """Take away, in place, what machine and moment left: timings, versions, steps of progress bars; and from
    cells tagged `recordings` the widgets, which hold sounds that may be played here and not passed on."""
    widgets, views = notebook.metadata.get("widgets", {}), set()
    models = next(iter(widgets.values()), {}).get("state", {})
    for cell in notebook.cells:
        cell.metadata = _metadata(cell.metadata.get("tags"))
        if cell.cell_type != "code":
            continue
        outputs = []
        for output in cell.outputs:
            if "recordings" in cell.metadata.get("tags", []) and WIDGET in output.get("data", {}):
                del output.data[WIDGET]
                if list(output.data) == ["text/plain"]:  # which may quote a sound's bytes
                    output.data["text/plain"] = "Players of recordings, when the cell is run."
            if model := output.get("data", {}).get(WIDGET, {}).get("model_id"):
                bar = _progress_bar(models, model)
                if bar is None:
                    views.add(model)
                if bar == "":
                    continue
                output = output if bar is None else new_output("display_data", {"text/plain": bar})
            last = outputs[-1] if outputs else {}
            if output.output_type == last.get("output_type") == "stream" and output.name == last.name:
                last.text += output.text
            else:
                outputs.append(output)
        for output in outputs:
            if output.output_type == "stream":  # a carriage return overwrites its line
                output.text = re.sub(r"^.*\r(?=[^\n])", "", output.text, flags=re.MULTILINE)
        cell.outputs = outputs
    for model in models.keys() - _behind(views, models):
        del models[model]
    notebook.metadata = {**METADATA, "widgets": widgets} if views else dict(METADATA)


def _behind(views: set[str], models: dict) -> set[str]:
    """The widgets that views are made of, and the links between these."""
    named = {name: set(re.findall(r"IPY_MODEL_(\w+)", json.dumps(model))) for name, model in models.items()}
    behind, fresh = set(), set(views)
    while fresh:
        behind |= fresh
        fresh = set().union(*(named.get(name, ()) for name in fresh)) - behind
        for name, model in models.items():
            if model["model_name"].endswith("LinkModel") and named[name] <= behind | fresh:
                fresh |= {name} - behind
    return behind


def _progress_bar(models: dict, model: str) -> str | None:
    """The last line of a tqdm bar, "" if it was taken off the screen, None if the widget is none."""
    state = models.get(model, {}).get("state", {})
    parts = [models[child.removeprefix("IPY_MODEL_")]["state"] for child in state.get("children", [])]
    if [part.get("_model_name") for part in parts] != ["HTMLModel", "FloatProgressModel", "HTMLModel"]:
        return None
    layout = models[state["layout"].removeprefix("IPY_MODEL_")]["state"]
    if layout.get("visibility") == "hidden":  # tqdm(leave=False), at its end
        return ""
    return html.unescape(parts[0]["value"] + parts[2]["value"]).replace("\u2007", " ").strip()


def differences(folder: Path = HERE) -> list[str]:
    """One line for each notebook in folder that is not what its source in folder/py makes."""
    lines = []
    for name in sorted({path.stem for path in [*folder.glob("*.ipynb"), *folder.glob("py/*.py")]}):
        source, target = folder / "py" / f"{name}.py", folder / f"{name}.ipynb"
        if not source.exists():
            lines.append(f"{name}: the notebook has no source py/{name}.py")
        elif not target.exists():
            lines.append(f"{name}: not built yet")
        else:
            if _text_of(notebook_from_source(source)) != _text_of(nbformat.read(target, 4)):
                lines.append(
                    f"{name}: differs from py/{name}.py; `make notebooks` or "
                    f"`python notebooks/build.py build {name}` rebuilds it"
                )
    return lines


def _text_of(notebook: NotebookNode) -> list[tuple]:
    return [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]


def _source(name: str) -> Path:
    known = sorted(path.stem for path in HERE.glob("py/*.py"))
    if name not in known:
        raise SystemExit(f"no notebook {name}: notebooks/py has {', '.join(known) or 'none'}")
    return HERE / "py" / f"{name}.py"


def build(names: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Generate and execute notebooks (all, if none is named)."""
    os.environ.pop("LAV_STRICT", None)  # a reader's notebook has unfilled exercises
    for name in names or sorted(path.stem for path in HERE.glob("py/*.py")):
        print(f"building {name}", flush=True)
        nbformat.write(execute(notebook_from_source(_source(name))), HERE / f"{name}.ipynb")


def text(names: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Make the text of notebooks anew (all, if none is named) and keep their outputs."""
    for name in names or sorted(path.stem for path in HERE.glob("py/*.py")):
        made, target = notebook_from_source(_source(name)), HERE / f"{name}.ipynb"
        built = nbformat.read(target, 4)
        new, old = ([cell for cell in n.cells if cell.cell_type == "code"] for n in (made, built))
        # What a check says of a gap does not depend on its text.
        if [_code(cell) for cell in new] != [_code(cell) for cell in old]:
            raise SystemExit(f"{name}: its code has changed; build it. Nothing was written.")
        for cell, of in zip(new, old):
            cell.update(outputs=of.outputs, execution_count=of.execution_count)
        made.metadata = built.metadata
        nbformat.write(made, target)


def _code(cell: NotebookNode) -> str:
    return "a check" if "check" in cell.metadata.get("tags", []) else cell.source


def _progress(folder: Path, since: float) -> str:
    """What the training that logs below folder has come to; a log from before `since` is another run's."""
    logs = [log for log in folder.glob("*/log.jsonl") if log.stat().st_mtime > since]
    if not logs:
        return "data"
    log = max(logs, key=lambda log: log.stat().st_mtime)
    lines = log.read_text().splitlines(keepends=True)
    entries = [json.loads(line) for line in lines if line.endswith("\n")]
    steps = [entry for entry in entries if entry["event"] == "step"]
    if not steps:
        tagging = [entry for entry in entries if entry["event"] == "tagging step"]
        done = "step {step} of {of}, loss {loss:.3f}".format(**tagging[-1]) if tagging else ""
        return f"the encoder of sound {done}".rstrip()
    epochs = json.loads((log.parent / "train.json").read_text())["epochs"]
    loss = statistics.fmean(step["loss"] for step in steps[-20:])
    line = f"epoch {steps[-1]['epoch']} of {epochs}, step {len(steps)}, loss {loss:.3f}"
    scores = [entry["M_J"] for entry in entries if entry["event"] == "validation"]
    return line + (f", M_J {scores[-1]:.3f} on validation" if scores else "")


def _tell(folder: Path, ended: Event) -> None:
    """Tells how a training goes until it has ended: on a terminal in one line, else in one now and then."""
    began, terminal = time.time(), sys.stdout.isatty()
    while not ended.wait(1 if terminal else EVERY):
        line = f"{time.time() - began:4.0f} s  {_progress(folder, began)}"
        print(f"\r{line}\x1b[K" if terminal else line, end="" if terminal else "\n", flush=True)
    print(end="\n" if terminal else "")


@contextmanager
def _told(folder: Path | None) -> Iterator[None]:
    ended = Event()
    teller = Thread(target=_tell, args=(folder, ended), daemon=True)
    try:
        if folder:
            teller.start()
        yield
    finally:
        ended.set()
        if folder:
            teller.join()


def run(
    name: tyro.conf.Positional[str],
    out: Path,
    parameters: tuple[str, ...] = (),
    strict: bool = False,
    follow: Path | None = None,
) -> None:
    """Execute one notebook into OUT, with `--parameters key=value ...`, and print its result.

    --strict also proves every exercise. --follow FOLDER tells how the training goes that logs below it.
    """
    values = dict(pair.partition("=")[::2] for pair in parameters)
    for key, value in values.items():
        with suppress(SyntaxError, ValueError):  # a word is no literal: it stays a string
            values[key] = ast.literal_eval(value)
    os.environ.update({"LAV_STRICT": "1"} if strict else {})
    out.parent.mkdir(parents=True, exist_ok=True)
    print(f"running {name} ({', '.join(parameters) or 'default parameters'})", flush=True)
    try:
        with _told(follow and follow.resolve()):  # papermill changes the working folder
            done = execute(notebook_from_source(_source(name), "both" if strict else "stub"), out, values)
    except papermill.PapermillExecutionError as error:
        raise SystemExit(f"{error}\n{name} stopped; {out} shows how far it came") from None
    for cell in done.cells:
        if "result" in cell.metadata.get("tags", []):
            shown = [output.get("text") or output.data.get("text/plain", "") for output in cell.outputs]
            print("".join(shown).rstrip())
    print(f"executed notebook: {out}")


def sync() -> None:
    """Say which notebooks differ from their source; exit 1 if any does."""
    raise SystemExit("\n".join(differences()) or 0)


if __name__ == "__main__":
    commands = {"build": build, "text": text, "run": run, "sync": sync}
    words = [at_home(word) for word in sys.argv[1:]]
    tyro.extras.subcommand_cli_from_dict(commands, description=__doc__.splitlines()[0], args=words)

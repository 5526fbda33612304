"""The notebooks are what their text source says, refuse wrong parameters, run, repeat, and their exercises can be solved and only so."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import papermill
import pytest
import torch
from helpers.lab import lay_out
from PIL import Image

from lightavseg_core import workbook

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
SOURCES = sorted((NOTEBOOKS / "py").glob("*.py"))
SANITIZE = Path(__file__).parent / "nbval_sanitize.cfg"
TAGS = {"parameters", "exercise", "check", "result", "nbval-check-output"}
FORBIDDEN = {  # in what a reader gets
    "a path of the machine it was made on": r"(?:^|[\s'\"(=])(?:/[\w.@+-]+){2,}|file://",
    "the host of a package registry": r"https?://[^\s\"']*/(?:simple|whl|packages|wheels)\b|py(?:pi\.\w|thonhosted)",
}

spec = importlib.util.spec_from_file_location("notebooks_build", NOTEBOOKS / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

every_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


@pytest.fixture
def folder(tmp_path):
    return lay_out(tmp_path)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def nbval(notebook: Path):
    """Run a notebook again and compare its cells tagged nbval-check-output."""
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "--nbval-sanitize-with", SANITIZE, notebook]
    options = ["-q", "--color=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull, "--rootdir", notebook.parent]
    done = subprocess.run([*command, *options], cwd=notebook.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


# --- the committed notebooks ---


def test_every_notebook_is_what_its_source_makes():
    assert build.differences() == []


@every_notebook
def test_structure(source):
    cells = build.notebook_from_source(source).cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# "), "a notebook opens with its title"
    first, second = code_cells(build.notebook_from_source(source))[:2]
    assert "parameters" in tags(first), "the first code cell is tagged `parameters`"
    assert "settings(globals()" in second.source, "the second code cell checks the parameters: workbook.settings(globals(), ...)"
    used = {tag for cell in cells for tag in tags(cell)}
    assert "nbval-check-output" in used, "at least one cell is tagged `nbval-check-output`"
    assert used <= TAGS, f"a misspelt tag, or one to add to TAGS: {used - TAGS}"


@every_notebook
def test_committed_outputs(source):
    notebook = nbformat.read(NOTEBOOKS / f"{source.stem}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "every cell was run, in order"
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert outputs and not [output for output in outputs if output.output_type == "error"]
    seen = [cell.source for cell in notebook.cells] + [output.get("text", "") for output in outputs]
    for output in outputs:
        for mime, data in output.get("data", {}).items():
            if mime.startswith("image/"):
                assert output.metadata.get(mime, {}).get("alt"), "a picture without alt text: show it with workbook.show(figure, alt)"
            else:
                seen.append(str(data))
    for text in seen:
        without_media = re.sub(r"data:[\w/+.-]+;base64,[\w/+=\n]+", "", text)
        for what, pattern in FORBIDDEN.items():
            found = re.search(pattern, without_media, re.IGNORECASE | re.MULTILINE)
            assert not found, f"{what}: {found[0]!r}"


@every_notebook
def test_a_wrong_parameter_is_an_error(source):
    first, second = code_cells(build.notebook_from_source(source))[:2]
    defaults = {}
    exec(first.source, defaults)
    names = [name for name in defaults if not name.startswith("__")]
    with pytest.raises(ValueError, match="profil is not a parameter of this notebook; did you mean profile?"):
        exec(second.source, {**defaults, "profil": "smoke"})
    for name in names:
        with pytest.raises(ValueError, match=f"{name} is .*expected"):
            exec(second.source, {**defaults, name: object()})


@pytest.mark.slow
@every_notebook
def test_smoke_profile_exercises_and_repeatability(source, folder, monkeypatch):
    """Each check fails on its gap and passes on its solution; a second run of the same notebook gives the same marked outputs."""
    monkeypatch.setenv("LAV_STRICT", "1")
    copy = folder / f"{source.stem}.ipynb"
    build.execute(build.notebook_from_source(source, "both"), copy, {"profile": "smoke"}, folder)
    nbval(copy)


def at_its_defaults(source):
    """The notebooks whose header says `nbval: true` run in 90 s; the others are for `make test-all`."""
    quick = jupytext.read(source).metadata.get("nbval", False)
    return pytest.param(source, quick, marks=pytest.mark.slow if quick else pytest.mark.long, id=source.stem)


@pytest.mark.parametrize("source, quick", [at_its_defaults(source) for source in SOURCES])
def test_defaults(source, quick, folder):
    """At its default parameters a quick notebook gives what the committed one shows, and its figures but for rounding; a long one runs to its end."""
    if quick:
        copy = folder / f"{source.stem}.ipynb"
        copy.write_bytes((NOTEBOOKS / copy.name).read_bytes())
        nbval(copy)
        for made in (folder.parent / "figures").iterdir():
            now, committed = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (made, ROOT / "figures" / made.name))
            assert now.shape == committed.shape, f"{made.name}: {now.shape}, committed {committed.shape}"
            changed = (np.abs(now - committed).max(-1) > 8).mean()
            assert changed < 0.01, f"{made.name}: {changed:.2%} of its pixels are not those of the committed figure, by more than 8 of 255"
    else:
        build.execute(build.notebook_from_source(source), folder=folder)


# --- build.py, on a small source ---

SOURCE = '''\
# ---
# jupyter:
#   nbval: true
# ---

# %% [markdown]
# # Sample

# %% tags=["parameters"]
profile = "default"
steps = 3

# %%
from lightavseg_core import workbook

s = workbook.settings(globals(), steps=int)

# %%
from tqdm.auto import tqdm

for _ in tqdm(range(s.steps), desc="outer"):
    for _ in tqdm(range(2), leave=False):
        pass
print("one")
print("two")

# %% tags=["exercise"]
def double(x):
    """Twice x."""
    # solution
    y = 2 * x
    return y
    # end solution

# %% tags=["check"]
workbook.check("double", double, cases=[(2, 4), (0.5, 1)], hint="add x to itself")

# %% tags=["exercise"]
# solution
answer = {"a": double(1) or 2}
# end solution

# %% tags=["check"]
workbook.check("answer", lambda: answer, expected={"a": 2}, hint="a dict")

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(1, 1))
workbook.show(figure, alt="Empty axes.")

# %% tags=["result", "nbval-check-output"]
print(f"{s.steps} steps in {id(s)} s")
'''


@pytest.fixture
def source(folder):
    """A sample source in a folder of its own, beside a package of workbook.py alone: what else the package imports takes seconds."""
    path = folder / "py" / "sample.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    package = folder / "lightavseg_core"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "workbook.py").symlink_to(workbook.__file__)
    return path


def texts(notebook, tag):
    return [cell.source for cell in notebook.cells if tag in tags(cell)]


def test_exercises_are_cut_out_and_folded_away(source):
    stub, solution, both = (build.notebook_from_source(source, kind) for kind in ("stub", "solution", "both"))
    gap = 'def double(x):\n    """Twice x."""\n    ...  # your code here'
    solved = 'def double(x):\n    """Twice x."""\n    y = 2 * x\n    return y'
    assert texts(stub, "exercise") == [gap, "answer = ...  # your code here"]
    assert texts(solution, "exercise")[0] == solved
    assert texts(both, "exercise")[:2] == [gap, solved] and len(texts(both, "check")) == 4
    below_check = [after for cell, after in zip(stub.cells, stub.cells[1:], strict=False) if "check" in tags(cell)]
    assert all(cell.cell_type == "markdown" and cell.source.startswith("<details><summary>Solution</summary>") for cell in below_check)
    assert f"```python\n{solved}\n```" in below_check[0].source
    assert "# solution" not in json.dumps([stub, solution, both])


def test_cell_ids_depend_on_the_text_alone(source):
    before = [cell.id for cell in build.notebook_from_source(source).cells]
    source.write_text(SOURCE.replace("steps = 3", "steps = 4"))
    after = [cell.id for cell in build.notebook_from_source(source).cells]
    assert len(set(before)) == len(before) and sum(a != b for a, b in zip(before, after, strict=True)) == 1


@pytest.mark.parametrize("old, new, message", [("# end solution", "", "has no lines"), ('"check"', '"other"', "must be its check")])
def test_a_malformed_exercise_is_an_error(source, old, new, message):
    source.write_text(SOURCE.replace(old, new))
    with pytest.raises(ValueError, match=message):
        build.notebook_from_source(source)


@pytest.mark.slow
def test_a_built_notebook_is_tidy_and_in_sync(source, folder, monkeypatch):
    monkeypatch.delenv("LAV_STRICT", raising=False)
    target = folder / "sample.ipynb"
    assert build.differences(folder) == ["sample: not built yet"]
    nbformat.write(build.execute(build.notebook_from_source(source), folder=folder), target)
    assert build.differences(folder) == []
    notebook = nbformat.read(target, as_version=4)
    assert set(notebook.metadata) == {"kernelspec", "language_info"} and "version" not in notebook.metadata.language_info
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    bar, printed = code_cells(notebook)[2].outputs
    assert re.match(r"outer: 100% 3/3 ", bar.data["text/plain"]) and printed.text == "one\ntwo\n"
    picture = next(output for cell in code_cells(notebook) for output in cell.outputs if "image/png" in output.get("data", {}))
    assert picture.metadata["image/png"]["alt"] == picture.data["text/plain"] == "Empty axes."
    assert code_cells(notebook)[4].outputs[0].text == "✘ double: not yet. Hint: add x to itself\n"

    source.write_text(SOURCE.replace('"two"', '"three"'))
    assert "differs from py/sample.py" in build.differences(folder)[0]
    source.unlink()
    assert "has no source" in build.differences(folder)[0]


@pytest.mark.slow
def test_strict_run_proves_exercises_and_nbval_notices_a_change(source, folder, monkeypatch):
    monkeypatch.setenv("LAV_STRICT", "1")
    copy = folder / "sample.ipynb"
    done = build.execute(build.notebook_from_source(source, "both"), copy, {"profile": "smoke", "steps": 2}, folder)
    assert "2 steps" in code_cells(done)[-1].outputs[0].text
    nbval(copy)
    copy.write_text(copy.read_text().replace("2 steps in", "7 steps in"))
    with pytest.raises(AssertionError, match="Cell outputs differ"):
        nbval(copy)

    source.write_text(SOURCE.replace("y = 2 * x", "y = 3 * x"))  # a solution that its check refuses
    with pytest.raises(papermill.PapermillExecutionError, match="double: not yet"):
        build.execute(build.notebook_from_source(source, "both"), folder=folder)
    source.write_text(SOURCE.replace("expected={", "expected=lambda found: True or {"))  # a check that any value passes
    source.write_text(source.read_text().replace("lambda: answer", '"filled"'))
    with pytest.raises(papermill.PapermillExecutionError, match="passes on the unfilled exercise"):
        build.execute(build.notebook_from_source(source, "both"), folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize("parameters, message", [({"stps": 2}, "did you mean steps"), ({"steps": "many"}, "expected int")])
def test_papermill_refuses_wrong_parameters(source, folder, parameters, message):
    with pytest.raises(papermill.PapermillExecutionError, match=message):
        build.execute(build.notebook_from_source(source), parameters=parameters, folder=folder)


# --- workbook.py ---


def parameters(**changes):
    return {"profile": "default", "clips": 400, "rate": 1e-3, "label": None, "__name__": "__main__", "In": [], "torch": torch, **changes}


TYPES = {"clips": int, "rate": float, "label": str | None}


@pytest.mark.parametrize("changes", [{}, {"rate": 1}, {"label": "x"}, {"profile": "smoke"}, {"_private": 3}, {"function": print}])
def test_settings_returns_the_values(changes):
    s = workbook.settings(parameters(**changes), **TYPES)
    assert vars(s) == {name: parameters(**changes)[name] for name in ("profile", *TYPES)}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"clps": 3}, "clps is not a parameter of this notebook; did you mean clips?"),
        ({"zzz": 3}, "zzz is not a parameter of this notebook; it has profile, clips, rate, label."),
        ({"clips": 3.0}, "clips is 3.0, of type float; expected int"),
        ({"clips": True}, "clips is True, of type bool; expected int"),
        ({"clips": None}, "clips is None, of type NoneType; expected int"),
        ({"rate": "1e-3"}, "rate is '1e-3', of type str; expected float"),
        ({"rate": True}, "rate is True"),
        ({"label": 3}, "expected str | None"),
        ({"profile": "quick"}, "profile is 'quick'; expected one of 'default', 'smoke'"),
        ({"profile": 3}, "profile is 3, of type int; expected str"),
    ],
)
def test_settings_refuses(changes, message):
    with pytest.raises(ValueError) as error:
        workbook.settings(parameters(**changes), **TYPES)
    assert message in str(error.value)


def test_settings_lists_all_that_is_wrong_at_once():
    namespace = parameters(clips="x", typo=1)
    del namespace["rate"]
    with pytest.raises(ValueError, match="(?s)clips is 'x'.*rate is missing.*typo is not a parameter"):
        workbook.settings(namespace, **TYPES)


def test_settings_can_be_called_again_in_a_notebook_that_is_being_worked_on():
    namespace = parameters()
    workbook.settings(namespace, **TYPES)
    namespace.update(accuracy=0.5, clips=20)
    assert workbook.settings(namespace, **TYPES).clips == 20
    with pytest.raises(ValueError, match="expected int"):
        workbook.settings({**namespace, "clips": "x"}, **TYPES)


PASSES = [
    (0.1 + 0.2, 0.3),
    (3, 3),
    (True, True),
    ("text", "text"),
    (torch.tensor([1.0, 2.0], requires_grad=True), [1, 2]),
    (torch.ones(2, 3, dtype=torch.bfloat16), np.ones((2, 3))),
    (np.array([True, False]), torch.tensor([True, False])),
    ((1, [2, {"a": 3}]), [1, (2, {"a": 3.00001})]),
    (torch.Size([2, 3]), (2, 3)),
    (float("nan"), float("nan")),
    (7, lambda found: found > 5),
]
FAILS = [
    (0.31, 0.3),
    ("3", 3),
    (3, "3"),
    (np.ones((2, 3)), np.ones((3, 2))),
    (np.ones(3), 1),
    ([1, 2], [1, 2, 3]),
    ({"a": 1}, {"b": 1}),
    (object(), 3),
    (None, 3),
    (..., 3),
    (None, lambda found: True),
    (3, lambda found: found.shape),
]


@pytest.mark.parametrize("found, expected", PASSES)
def test_check_passes(found, expected, capsys):
    workbook.check("it", found, expected=expected, hint="look")
    workbook.check("it", lambda _: found, cases=[(1, expected)], hint="look")
    assert capsys.readouterr().out == "✔ it: pass\n" * 2


@pytest.mark.parametrize("found, expected", FAILS)
def test_check_gives_a_hint_and_never_raises_but_under_strict(found, expected, capsys, monkeypatch):
    monkeypatch.delenv("LAV_STRICT", raising=False)
    workbook.check("it", lambda: found, expected=expected, hint="look")
    assert capsys.readouterr().out.startswith("✘ it: not yet. Hint: look\n")
    monkeypatch.setenv("LAV_STRICT", "1")
    with pytest.raises(AssertionError, match="✘ it: not yet. Hint: look"):
        workbook.check("it", lambda: found, expected=expected, hint="look")


def test_check_says_what_was_found(capsys, monkeypatch):
    monkeypatch.delenv("LAV_STRICT", raising=False)
    workbook.check("it", lambda x, y: x / y, cases=[((4, 2), 2), ((1, 0), 0)], hint="look")
    workbook.check("it", lambda: undefined, expected=3, hint="look")  # noqa: F821
    workbook.check("it", np.ones((2, 3)), expected=np.ones((3, 2)), hint="look")
    out = capsys.readouterr().out
    assert "Now for (1, 0): it raises ZeroDivisionError: division by zero" in out
    assert "it raises NameError: name 'undefined' is not defined" in out
    assert "found values of shape (2, 3) from 1 to 1, expected values of shape (3, 2) from 1 to 1" in out


def test_check_needs_one_kind_of_expectation():
    with pytest.raises(TypeError, match="either expected"):
        workbook.check("it", 3, hint="look")


def test_show_displays_once_with_alt_text(monkeypatch):
    import IPython.display
    from matplotlib import pyplot as plt

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, **how: shown.append((data, how)))
    figure, _ = plt.subplots(figsize=(1, 1))
    with pytest.raises(ValueError, match="alt is empty"):
        workbook.show(figure, " ")
    workbook.show(figure, "Empty axes.")
    (data, how), = shown
    assert data["text/plain"] == how["metadata"]["image/png"]["alt"] == "Empty axes." and data["image/png"].startswith("iVBOR")
    assert not plt.fignum_exists(figure.number)

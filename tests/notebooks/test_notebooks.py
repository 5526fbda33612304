"""The notebooks are what their source says, refuse wrong parameters, run, repeat, and can be solved."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import papermill
import pytest
from helpers.casts import fetch_installed
from helpers.lab import lay_out
from helpers.notebooks import build
from PIL import Image

from lightavseg_core import workbook

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
SOURCES = sorted((NOTEBOOKS / "py").glob("*.py"))
STATES = "application/vnd.jupyter.widget-state+json"
SANITIZE = Path(__file__).parent / "nbval_sanitize.cfg"
TAGS = {"parameters", "exercise", "check", "result", "nbval-check-output", "recordings"}
GIVEN = {"16.4", "17.4", "18.5"}  # seconds at which sounds of the sample begin, by its script
FORBIDDEN = {  # in what a reader gets
    "a path of the machine it was made on": r"(?:^|[\s'\"(=])(?:/[\w.@+-]+){2,}|file://",
    "the host of a package registry": r"https?://[^\s\"']*/(?:simple|whl|packages|wheels)\b"
    r"|py(?:pi\.\w|thonhosted)",
}


def stem(path):
    return path.stem


every_notebook = pytest.mark.parametrize("source", SOURCES, ids=stem)
LESSONS = [source for source in SOURCES if source.stem != "00_start"]  # which has no exercises
every_lesson = pytest.mark.parametrize("source", LESSONS, ids=stem)


@pytest.fixture
def folder(tmp_path):
    return lay_out(tmp_path)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def nbval(notebook: Path):
    """Run a notebook again and compare its cells tagged nbval-check-output."""
    command = [sys.executable, "-m", "pytest", notebook, "-q", "--color=no", "--rootdir", notebook.parent]
    command += ["--nbval-lax", "--nbval-current-env", "--nbval-sanitize-with", SANITIZE]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull]
    done = subprocess.run(command, cwd=notebook.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


# --- the committed notebooks ---


def test_every_notebook_is_what_its_source_makes():
    assert build.differences() == []


@every_notebook
def test_structure(source):
    cells = build.notebook_from_source(source).cells
    assert cells[0].cell_type == "markdown", "a notebook opens with its title"
    assert cells[0].source.startswith("# "), "a notebook opens with its title"
    first, second = code_cells(build.notebook_from_source(source))[:2]
    assert "parameters" in tags(first), "the first code cell is tagged `parameters`"
    checks = re.search(r"workbook\.settings\(\s*globals\(\)", second.source)
    assert checks, "the second code cell checks the parameters"
    used = {tag for cell in cells for tag in tags(cell)}
    assert "nbval-check-output" in used, "at least one cell is tagged `nbval-check-output`"
    assert used <= TAGS, f"a misspelt tag, or one to add to TAGS: {used - TAGS}"
    lines = [line for cell in cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    assert max(map(len, lines)) <= 100, "code that a reader of the page would have to scroll sideways for"


@every_lesson
def test_each_exercise_says_its_minutes_and_knows_mistakes(source):
    text = source.read_text()
    exercises = [cell.source for cell in jupytext.read(source).cells if "exercise" in tags(cell)]
    headed = re.findall(r"### Exercise \d+: .+\n#\n# \*\d+ minutes, (?:easy|medium|hard)\.\*\n", text)
    assert len(headed) == len(exercises) >= 2
    assert min(len(build.WRONG.findall(exercise)) for exercise in exercises) >= 3
    assert "workbook.yours(" in text, "what the reader wrote is used afterwards"


@every_lesson
def test_each_notebook_has_the_same_frame(source):
    text, cells = source.read_text(), build.notebook_from_source(source).cells
    assert "@minutes" in text and "@minutes" not in cells[0].source
    for part in ("**Afterwards you can**", "## Three things to remember", "## Try next", "## References"):
        assert f"# {part}\n" in text, part
    assert len(re.findall(r"^# [123]\. ", text.partition("# ## Three things to remember\n")[2], re.M)) == 3
    assert "workbook.took(" in text


@every_lesson
def test_a_prediction_is_written_down_before_it_is_measured(source):
    cells = build.notebook_from_source(source).cells
    for cell, following in zip(cells, cells[1:], strict=False):
        if "> **Prediction" in cell.source:
            first = re.sub(r"^#.*\n", "", following.source, flags=re.MULTILINE)  # a comment may stand above
            assert first.startswith("workbook.guess("), cell.source
    code = "\n".join(cell.source for cell in code_cells(build.notebook_from_source(source)))
    guessed, told = (re.findall(rf'workbook\.{name}\(\s*"(.+?)"', code) for name in ("guess", "beside"))
    assert guessed and len(set(guessed)) == len(guessed) and set(guessed) == set(told)


@every_notebook
def test_prose_names_no_number_that_a_run_prints(source):
    """It would go stale: prose speaks of what was measured in words, or shows the cell that measures it."""
    notebook = nbformat.read(NOTEBOOKS / f"{source.stem}.ipynb", as_version=4)
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    printed = "\n".join(str(output.get("text") or output.get("data", {})) for output in outputs)
    number = r"(?<![\w.])\d+\.\d+%?(?![\w.]*\d)"
    shown = {found for found in re.findall(number, printed) if len(re.sub(r"^0\.0*|\D", "", found)) >= 3}
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and "<details>" not in cell.source:
            prose = re.sub(r"\$.+?\$|\*reported\*.+?[.;]", "", cell.source, flags=re.S)
            assert not shown & set(re.findall(number, prose)) - GIVEN, cell.source


@every_notebook
def test_a_cell_that_trains_makes_its_model(source):
    """Run twice, it does not go on from what the first time left."""
    for cell in code_cells(build.notebook_from_source(source)):
        if ".fit(" in cell.source:
            trained = re.search(r"Trainer\((\w+)", cell.source)[1]
            assert re.search(rf"^ *{trained} = ", cell.source, re.MULTILINE), cell.source


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
                alt = output.metadata.get(mime, {}).get("alt")
                assert alt, "a picture without alt text: show it with workbook.show(figure, alt)"
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


MEASURES = "04_latency"  # its outputs are mostly times, which nobody can compare: `make test` runs it short


def is_quick(source):
    """Whether it runs in 90 s at its defaults, as its header says by `nbval: true`."""
    return jupytext.read(source).metadata.get("nbval", False)


def is_compared(source):
    """Whether `make test` runs it at its defaults."""
    return is_quick(source) and source.stem != MEASURES


def marked(mark, sources):
    """mark(source) is the mark of a test with a notebook."""
    return pytest.mark.parametrize("source", [pytest.param(s, marks=mark(s), id=s.stem) for s in sources])


@marked(lambda source: pytest.mark.slow if is_compared(source) else pytest.mark.long, SOURCES)
def test_defaults(source, folder, monkeypatch):
    """At its defaults a quick notebook gives what the committed one shows, its figures but for rounding, and
    each check fails on its gap and passes on its solution."""
    monkeypatch.setenv("LAV_STRICT", "1")
    fetch_installed()  # photographs, which notebooks show where they are there
    notebook = build.notebook_from_source(source, "both")
    if not is_quick(source):
        build.execute(notebook, folder=folder)
        return
    copy = folder / f"{source.stem}.ipynb"
    committed = nbformat.read(NOTEBOOKS / copy.name, as_version=4)
    found = {cell.id: cell for cell in code_cells(committed)}
    for cell in code_cells(notebook):  # of a solution's cells nothing is committed
        cell.update((key, found[cell.id][key]) for key in ("outputs", "execution_count") if cell.id in found)
    nbformat.write(notebook, copy)
    nbval(copy)
    for made in (folder.parent / "figures").iterdir():
        now, committed = pixels(made), pixels(ROOT / "figures" / made.name)
        assert now.shape == committed.shape, f"{made.name}: {now.shape}, committed {committed.shape}"
        changed = (np.abs(now - committed).max(-1) > 8).mean()
        assert changed < 0.01, f"{made.name}: {changed:.2%} of its pixels are off by more than 8 of 255"


@marked(lambda source: pytest.mark.long if is_compared(source) else pytest.mark.slow, SOURCES)
def test_smoke_profile(source, folder, monkeypatch):
    """What is too long at its defaults proves its exercises here."""
    monkeypatch.setenv("LAV_STRICT", "1")
    build.execute(build.notebook_from_source(source, "both"), parameters={"profile": "smoke"}, folder=folder)


@pytest.mark.long
@marked(lambda source: (), [source for source in SOURCES if not is_quick(source)])
def test_a_second_run_gives_the_same(source, folder):
    copy = folder / f"{source.stem}.ipynb"
    build.execute(build.notebook_from_source(source), copy, {"profile": "smoke"}, folder)
    nbval(copy)


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.mark.slow
def test_without_photographs(folder, tmp_path, monkeypatch):
    """Notebook 9 says what to type, shows what earlier runs left, and ends."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LAV_STRICT", raising=False)
    for name in ("photos.png", "exam.png"):
        shutil.copy(ROOT / "figures" / name, folder.parent / "figures")
    (source,) = [source for source in SOURCES if source.stem.startswith("09")]
    done = build.execute(build.notebook_from_source(source), parameters={"profile": "smoke"}, folder=folder)
    outputs = [output for cell in code_cells(done) for output in cell.outputs]
    said = "".join(output.get("text", "") for output in outputs)
    assert "photos: missing. Type `lightavseg data fetch photos`" in said and "fetch exam" in said
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3


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
    # wrong: x twice as a factor
    return x * x
    # wrong: one more
    return x + 1
    # end solution

# %% tags=["check"]
squared, more = "that is x times x", "that is one more"
workbook.check("double", double, cases=[(2, 4), (0.5, 1)], hint="add x to itself",
               mistakes=[(3, 9, squared), (3, 4, more)])

# %% tags=["exercise"]
# solution
answer = {"a": double(1) or 2}
# end solution

# %% tags=["check"]
workbook.check("answer", lambda: answer, cases=[((), {"a": 2})], hint="a dict")

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(1, 1))
workbook.show(figure, alt="Empty axes.")

# %% tags=["result", "nbval-check-output"]
print(f"{s.steps} steps in {id(s)} s")
'''


@pytest.fixture
def source(folder):
    """A sample source in a folder of its own, beside workbook.py alone, to start quickly."""
    path = folder / "py" / "sample.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    package = folder / "lightavseg_core"
    package.mkdir()
    (package / "__init__.py").touch()
    for part in ("workbook.py", "_common"):
        (package / part).symlink_to(Path(workbook.__file__).with_name(part))
    return path


def texts(notebook, tag):
    return [cell.source for cell in notebook.cells if tag in tags(cell)]


def test_exercises_are_cut_out_and_folded_away(source):
    stub, solution, both = (build.notebook_from_source(source, kind) for kind in ("stub", "solution", "both"))
    gap = 'def double(x):\n    """Twice x."""\n    ...  # your code here'
    solved = 'def double(x):\n    """Twice x."""\n    y = 2 * x\n    return y'
    assert texts(stub, "exercise") == [gap, "answer = ...  # your code here"]
    assert texts(solution, "exercise")[0] == solved
    wrong = [solved.replace("y = 2 * x\n    return y", f"return {other}") for other in ("x * x", "x + 1")]
    assert texts(both, "exercise")[:4] == [gap, *wrong, solved] and len(texts(both, "check")) == 6
    pairs = zip(stub.cells, stub.cells[1:], strict=False)
    below_check = [after for cell, after in pairs if "check" in tags(cell)]
    for cell in below_check:
        assert cell.cell_type == "markdown" and cell.source.startswith("<details><summary>Solution</summary>")
    assert f"```python\n{solved}\n```" in below_check[0].source
    assert "# solution" not in json.dumps([stub, solution, both])


def test_cell_ids_depend_on_the_text_alone(source):
    before = [cell.id for cell in build.notebook_from_source(source).cells]
    source.write_text(SOURCE.replace("steps = 3", "steps = 4"))
    after = [cell.id for cell in build.notebook_from_source(source).cells]
    assert len(set(before)) == len(before) and sum(a != b for a, b in zip(before, after, strict=True)) == 1


@pytest.mark.parametrize(
    "old, new, message", [("# end solution", "", "has no lines"), ('"check"', '"other"', "must be its check")]
)
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
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info
    assert all(cell.metadata == build._metadata(cell.metadata.get("tags")) for cell in notebook.cells)
    bar, printed = code_cells(notebook)[2].outputs
    assert re.match(r"outer: 100% 3/3 ", bar.data["text/plain"]) and printed.text == "one\ntwo\n"
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    picture = next(output for output in outputs if "image/png" in output.get("data", {}))
    assert picture.metadata["image/png"]["alt"] == picture.data["text/plain"] == "Empty axes."
    assert code_cells(notebook)[4].outputs[0].text == "○ double: your turn\n"

    monkeypatch.setattr(build, "HERE", folder)
    source.write_text(SOURCE.replace("# # Sample", "# # Another title"))
    build.text(("sample",))
    again = nbformat.read(target, as_version=4)
    assert again.cells[0].source == "# Another title" and build.differences(folder) == []
    assert [cell.outputs for cell in code_cells(again)] == [cell.outputs for cell in code_cells(notebook)]
    source.write_text(SOURCE.replace('"two"', '"three"'))
    with pytest.raises(SystemExit, match="sample: its code has changed; build it. Nothing was written."):
        build.text(("sample",))
    assert "differs from py/sample.py" in build.differences(folder)[0]
    source.unlink()
    assert "has no source" in build.differences(folder)[0]


def test_recordings_are_not_kept():
    """Of a widget in a cell that says so its picture stays; of others all that they are made of."""

    def model(name, *parts, **state):
        return {"model_name": name, "state": {**state, "children": [f"IPY_MODEL_{part}" for part in parts]}}

    models = {
        "desk": model("VBoxModel", "sound"),
        "sound": model("AudioModel", value="a bark"),
        "player": model("VBoxModel", "slider"),
        "slider": model("IntSliderModel"),
        "both": model("LinkModel", "slider", "player"),
        "across": model("LinkModel", "slider", "sound"),
    }
    cells = []
    for tag, name in ((["recordings"], "desk"), ([], "player")):
        shown = {build.WIDGET: {"model_id": name}, "image/jpeg": "its picture"}
        cells.append(nbformat.v4.new_code_cell(metadata={"tags": tag}))
        cells[-1].outputs = [nbformat.v4.new_output("display_data", shown)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {STATES: {"state": models}}})
    build.tidy(notebook)
    assert set(cells[0].outputs[0].data) == {"image/jpeg"} and len(cells[1].outputs[0].data) == 2
    assert set(notebook.metadata.widgets[STATES]["state"]) == {"player", "slider", "both"}
    cells[1].metadata.tags = ["recordings"]
    players = {build.WIDGET: {"model_id": "sound"}, "text/plain": "Audio(value=b'a bark')"}
    cells[1].outputs.append(nbformat.v4.new_output("display_data", players))
    build.tidy(notebook)
    assert "widgets" not in notebook.metadata and "bark" not in str(cells)


@pytest.mark.slow
def test_strict_run_proves_exercises_and_nbval_notices_a_change(source, folder, monkeypatch):
    monkeypatch.setenv("LAV_STRICT", "1")
    copy = folder / "sample.ipynb"
    changed = {"profile": "smoke", "steps": 2}
    done = build.execute(build.notebook_from_source(source, "both"), copy, changed, folder)
    assert "2 steps" in code_cells(done)[-1].outputs[0].text
    nbval(copy)
    copy.write_text(copy.read_text().replace("2 steps in", "7 steps in"))
    with pytest.raises(AssertionError, match="Cell outputs differ"):
        nbval(copy)

    source.write_text(SOURCE.replace("y = 2 * x", "y = 3 * x"))  # a solution that its check refuses
    with pytest.raises(papermill.PapermillExecutionError, match="double: not yet"):
        build.execute(build.notebook_from_source(source, "both"), folder=folder)
    # A check that any value passes, one that takes a mistake for another, and one that does not know it.
    passes = SOURCE.replace("{\"a\": 2})]", "lambda found: True)]").replace("lambda: answer", "lambda: 1")
    taken = SOURCE.replace("(3, 9, squared)", "(3, bool, squared)")
    unknown = SOURCE.replace(", (3, 4, more)", "")
    refused = {passes: "passes on the answer", taken: "taken for 0", unknown: "taken for unknown"}
    for wrong, message in refused.items():
        source.write_text(wrong)
        with pytest.raises(papermill.PapermillExecutionError, match=message):
            build.execute(build.notebook_from_source(source, "both"), folder=folder)


TRAINING = """
import json, pathlib, time
run = pathlib.Path("RUNS") / "run"
run.mkdir(parents=True)
(run / "train.json").write_text(json.dumps({"epochs": 7}))
with (run / "log.jsonl").open("w") as log:
    for entry in ({"event": "step", "epoch": 3, "loss": 0.5}, {"event": "validation", "M_J": 0.25}):
        print(json.dumps(entry), file=log)
time.sleep(1.5)
"""


@pytest.mark.slow
def test_a_run_that_is_followed_tells_how_its_training_goes(source, folder, monkeypatch, capsys):
    """From a relative path, wherever the notebook runs; what an earlier run logged is not told."""
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(build, "HERE", folder)
    monkeypatch.setattr(build, "EVERY", 0.5)
    runs = folder.parent / "runs" / "sample"
    earlier = runs / "earlier" / "log.jsonl"
    earlier.parent.mkdir(parents=True)
    earlier.write_text(json.dumps({"event": "step", "epoch": 1, "loss": 9}) + "\n")
    os.utime(earlier, (0, 0))
    source.write_text(SOURCE.replace('print("one")', TRAINING.replace("RUNS", str(runs))))
    build.run("sample", folder / "out.ipynb", follow=Path("runs/sample"))
    out = capsys.readouterr().out
    assert " s  data\n" in out
    assert "epoch 3 of 7, step 1, loss 0.500, M_J 0.250 on validation" in out and "9.000" not in out


def test_the_encoder_of_sound_is_told_of_step_by_step(tmp_path):
    log = tmp_path / "run" / "log.jsonl"
    log.parent.mkdir()
    log.write_text(json.dumps({"event": "tagging step", "step": 7, "of": 496, "loss": 0.25}) + "\n")
    assert build._progress(tmp_path, 0) == "the encoder of sound step 7 of 496, loss 0.250"
    log.write_text(json.dumps({"event": "audio", "seconds": 1.0}) + "\n")  # from a file
    assert build._progress(tmp_path, 0) == "the encoder of sound"


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters, message", [({"stps": 2}, "did you mean steps"), ({"steps": "many"}, "expected int")]
)
def test_papermill_refuses_wrong_parameters(source, folder, parameters, message):
    with pytest.raises(papermill.PapermillExecutionError, match=message):
        build.execute(build.notebook_from_source(source), parameters=parameters, folder=folder)

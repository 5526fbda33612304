"""The commands do what their help says; a mistake ends in one line, exit code 2 and no traceback."""

import json
import re
import shlex
import subprocess
import sys

import pytest
import torch
from helpers.command import run

from lightavseg_core import cli
from lightavseg_core.experiments.runs import EXPERIMENTS

COMMANDS = {
    "check": cli.machine.Check,
    "notebooks": cli.machine.Notebooks,
    "data make": cli.data.DataMake,
    "data check": cli.data.DataCheck,
    "train": cli.train.Train,
    "evaluate": cli.train.Evaluate,
    "exam": cli.exam.Exam,
    "unseen": cli.exam.Unseen,
    "compare": cli.compare.Compare,
    "predict": cli.predict.Predict,
    "profile": cli.profile.Profile,
    "export": cli.predict.Export,
    "bench": cli.profile.Bench,
    "sweep": cli.sweep.Sweep,
    "rehearse": cli.sweep.Rehearse,
    "download": cli.machine.Download,
}


@pytest.fixture(autouse=True)
def determinism_as_before():
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    with pytest.raises(SystemExit) as exit:
        cli.main(f"data make {root} --train 4 --val 1 --test 2 --size 64".split())
    assert not exit.value.code
    return root


def example(command) -> list[str]:
    """The arguments of its help's example, which may take two lines."""
    found = re.search(r"Example: lightavseg (.+?)(\n\s*\n|$)", command.__doc__.strip(), re.DOTALL)
    return shlex.split(found.group(1))


def test_every_command_is_tested():
    assert {name.split()[0] for name in COMMANDS} == {cls.__name__.lower() for cls in cli.COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_holds_an_example(capsys, name):
    code, out, _ = run(capsys, *name.split(), "--help")
    assert code == 0 and f"Example: lightavseg {name}" in " ".join(out.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_valid(capsys, monkeypatch, name):
    seen = []
    monkeypatch.setattr(COMMANDS[name], "run", lambda self: seen.append(self) or 0)
    assert run(capsys, *example(COMMANDS[name]))[0] == 0
    assert type(seen[0]) is COMMANDS[name]


LATER = {"torch", "numpy", "matplotlib"}
NEVER = {"torchmetrics", "scipy", "matplotlib"}
STARTS = {
    "import lightavseg_core": (80, LATER),
    "from lightavseg_core.cli import main; main(['--help'])": (230, LATER),
    "from lightavseg_core.video import prediction, segmenter": (3000, NEVER),  # most are torch's and timm's
}


@pytest.mark.slow
@pytest.mark.parametrize("code", STARTS)
def test_start_up_counts_its_modules(code):
    """Times vary, what is imported does not: 63 modules are 0.1 s, 184 are 0.3 s, torch's 2,000 seconds."""
    most, too_slow = STARTS[code]
    told = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    done = subprocess.run([sys.executable, "-c", f"{told}; {code}"], capture_output=True, text=True)
    names = done.stderr.split()
    assert 0 < len(names) <= most and too_slow.isdisjoint(names)


def test_sweep_names_every_experiment(capsys):
    _, out, _ = run(capsys, "sweep", "--help")
    assert f"The experiments: {', '.join(EXPERIMENTS)}." in " ".join(out.split())


WITH_IMPORT = {"train", "evaluate", "exam", "unseen", "predict", "profile", "export", "sweep"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_method_from_outside_is_imported(capsys, monkeypatch, tmp_path, name):
    """By every command that asks for a method or a model, before it runs."""
    file = tmp_path / "my_method.py"
    file.write_text(f"open({str(tmp_path / 'seen')!r}, 'a').write('x')\n1 / 0")
    code, _, error = run(capsys, *example(COMMANDS[name]), "--import", file)
    assert code == 2 and "Traceback" not in error
    if name in WITH_IMPORT:
        assert error == f"lightavseg: {file}, line 2: ZeroDivisionError: division by zero\n"
        assert (tmp_path / "seen").read_text() == "x"
    else:
        assert not (tmp_path / "seen").exists()


@pytest.mark.slow
def test_train_and_evaluate(capsys, data, tmp_path):
    out = tmp_path / "run"
    how = "--subset ms3 --preset tiny --size 64 --epochs 1 --audio-epochs 1 --seed 3"
    train = f"train --data {data} {how} --out {out}".split()
    code, printed, _ = run(capsys, *train)
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == ["best", "last", "log.jsonl", "train.json"]
    settings = json.loads((out / "train.json").read_text())
    assert (settings["epochs"], settings["seed"], settings["data"]["size"]) == (1, 3, 64)
    scores = json.loads(printed.splitlines()[-1])
    assert scores["out"] == str(out) and 0 <= scores["M_J"] <= 1
    assert json.loads((out / "best" / "config.json").read_text())["size"] == 64
    code, _, error = run(capsys, *train)
    assert code == 2 and str(out) in error and "earlier run" in error and error.count("\n") == 1

    found = {}
    for sound in ("normal", "silent", "swapped", "noise"):
        score = f"evaluate {out} --data {data} --subset ms3 --split test --sound {sound} --json"
        code, printed, _ = run(capsys, *score.split())
        found[sound] = json.loads(printed)
        assert code == 0 and printed.count("\n") == 1
        assert found[sound]["sound"] == sound and found[sound]["frames"] == 10
        assert {"M_J", "M_F", "M_F_batch", "batch_size", "foreground_share"} < set(found[sound])
    code, table, _ = run(capsys, "evaluate", out / "last", "--data", data)
    assert code == 0 and re.search(r"M_J +0\.\d{4}", table) and re.search(r"sound +normal", table)
    code, _, error = run(capsys, "evaluate", out, "--data", data, "--size", "16")
    assert code == 2 and "at least 32" in error


SMALL = "train --data {data} --size 64 --out {tmp}/o --audio-weights"
ERRORS = {
    "no such folder": ("train --data {tmp}/absent --out {tmp}/o", "absent"),
    "no such dataset": ("train --data {tmp} --out {tmp}/o", "ms3_meta_data.csv"),
    "another subset": ("train --data {data} --subset avss --out {tmp}/o", "metadata.csv"),
    "no such method": ("train --data {data} --method lightavsegg --out {tmp}/o", "did you mean 'lightavseg'"),
    "no such audio weights": (f"{SMALL} {{tmp}}/a.pth", "a.pth"),
    "batches of nothing": (f"{SMALL} joint --batch-size 0", "batch"),
    "validation never": (f"{SMALL} joint --validate-every 0", "validate_every"),
    "less than no epochs": (f"{SMALL} joint --epochs -1", "epochs"),
    "no such run": ("evaluate {tmp}/absent --data {data}", "absent"),
    "no model in the run": ("evaluate {tmp} --data {data}", "config.json"),
    "no such data": ("data check {tmp}/absent", "absent"),
    "other data in the folder": ("data make {data} --seed 5", "another ms3 dataset"),
    "frames too small": ("data make {tmp}/d --size 16", "32"),
    "no such experiment": ("sweep ablatoin --out {tmp} --work {tmp}", "did you mean 'ablation'"),
    "no such part": ("sweep loss --method selm --out {tmp} --work {tmp}", "Known: lightavseg."),
    "no such file": ("compare {tmp}/absent.py --out {tmp}/o", "absent.py: no such file"),
    "no method in the file": ("compare {tmp}/empty.py --out {tmp}/o", "registers no method"),
    "a command misspelt": ("trian --data {data}", "unknown command 'trian': did you mean 'train'?"),
    "half a command misspelt": ("data mkae {tmp}/d", "did you mean 'make'? Known: check, fetch, make"),
    "a file as data": ("train --data {tmp}/empty.py --out {tmp}/o", "is a file: give the folder"),
    "fewer than no clips": ("data make {tmp}/d --train -1", "-1"),
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.slow
def test_mistakes_end_in_one_line(capsys, data, tmp_path, case):
    command, named = ERRORS[case]
    (tmp_path / "empty.py").write_text("")
    code, _, error = run(capsys, *command.format(tmp=tmp_path, data=data).split())
    assert code == 2 and error.startswith("lightavseg: ") and named in error
    assert len(error.strip().splitlines()) == 1 and "Traceback" not in error


@pytest.mark.parametrize("arguments", [
    "", "frobnicate", "train", "data make", "compare", "train --data x --out y --subset ms4",
    "train --data x --out y --epochs many", "evaluate x --data y --sound loud",
    "evaluate x --data y --batch_sise 3"])
def test_misuse_is_explained(capsys, arguments):
    code, _, error = run(capsys, *arguments.split())
    assert code == 2 and "Traceback" not in error and error.strip()

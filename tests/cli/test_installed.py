"""However the package was installed: `check` tells what does not work and what to do, `notebooks` writes the
workbook, and a path is one wherever it is given."""

import re
from importlib import import_module

import pytest
import torch
from helpers.command import run

from lightavseg_core import cli
from lightavseg_core._common import environment
from lightavseg_core._common.places import places

TRIO = {"torch": "2.11.0+cu130", "torchvision": "0.26.0", "torchaudio": "2.11.0"}
TOGETHER = "'torch==2.11.0' 'torchvision==0.26.0' 'torchaudio==2.11.0'"
ASKED = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0", "av>=15", "onnx>=1; extra == 'edge'"]


@pytest.mark.slow  # it imports all that it judges
def test_check(capsys):
    code, out, _ = run(capsys, "check")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0 and torch.__version__ in lines["torch"] and "threads" in lines
    assert all(lines[extra].split()[1] == "complete" for extra in environment.OPTIONAL)
    assert out.splitlines()[-1] == "ready"


@pytest.fixture
def installed(monkeypatch):
    """As in an environment with these versions, of which these cannot be imported, and pins as in ours."""
    def of(versions, broken=()):
        def load(module):
            if module in broken:
                raise OSError(f"Could not load this library: lib{module}.so\nundefined symbol: x")

        monkeypatch.setattr(environment, "import_module", load)
        monkeypatch.setattr(environment, "CORE", tuple(versions))
        monkeypatch.setattr(environment, "OPTIONAL", {"edge": ("onnx",)})
        monkeypatch.setattr(environment, "card", lambda: {})
        monkeypatch.setattr(environment.metadata, "requires", lambda name: ASKED)
        every = {"onnx": "1.23", **versions}

        def found(names=tuple(versions)):
            return {name: every.get(name) for name in names}

        monkeypatch.setattr(environment, "versions", found)

    return of


def test_check_names_what_is_missing(capsys, installed):
    installed({**TRIO, "av": None})
    code, out, _ = run(capsys, "check")
    assert code == 1 and re.search(r"av +MISSING: run `pip install", out)
    assert out.splitlines()[-1] == "not ready"


def test_check_imports_what_it_judges_and_names_the_remedy(capsys, installed):
    installed({**TRIO, "torchaudio": "2.11.1"}, broken=["torchaudio"])
    code, out, _ = run(capsys, "check")
    why = r"BROKEN, OSError: Could not load this library: libtorchaudio\.so"
    assert code == 1 and re.search(rf"torchaudio +{why}.*: run `pip install {TOGETHER}`\n", out)
    assert out.splitlines()[-1] == "not ready" and "MISSING" not in out

    installed({**TRIO, "av": "18.1.0"}, broken=["av", "torchvision"])
    code, out, _ = run(capsys, "check")
    anew = "pip install --force-reinstall --no-deps"
    assert code == 1 and re.search(rf"av +BROKEN.*`{anew} 'av>=15'`", out)
    assert re.search(rf"torchvision +BROKEN.*`{anew} {TOGETHER}`", out)

    installed(TRIO, broken=["onnx"])
    code, out, _ = run(capsys, "check")
    assert code == 0 and re.search(rf"edge +BROKEN onnx, OSError.*: {anew} 'onnx>=1'\n", out)


def test_check_says_where_another_version_works_all_the_same(capsys, installed):
    installed({"torch": "2.12.0", "torchvision": "0.27.0", "torchaudio": "2.11.0"})
    code, out, _ = run(capsys, "check")
    notes = re.findall(r"note +(\S+) is (\S+); this was tested with (\S+)", out)
    assert code == 0 and out.splitlines()[-1] == "ready"
    assert notes == [("torch", "2.12.0", "torch==2.11.0"), ("torchvision", "0.27.0", "torchvision==0.26.0")]


@pytest.mark.parametrize("raised", [
    "raise OSError('Could not load this library: x.so')", "import no_such_package"])
def test_a_broken_installation_is_one_line_that_names_the_remedy(capsys, monkeypatch, tmp_path, raised):
    """Whatever an import raises; other errors are nothing that `check` could explain."""
    (tmp_path / "broken_module.py").write_text(raised)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cli.data.DataCheck, "run", lambda self: import_module("broken_module"))
    code, _, error = run(capsys, "data", "check", tmp_path)
    assert code == 2 and error.count("\n") == 1
    assert error.endswith(". `lightavseg check` says what to install.\n")
    monkeypatch.undo()
    assert "lightavseg check" not in run(capsys, "data", "check", tmp_path / "absent")[2]


def test_notebooks_are_written_whole_into_a_folder_of_their_own(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "notebooks", "workbook")
    assert code == 0 and out.startswith("workbook: ") and "jupyter lab" in out and "[notebooks]" in out
    names = {path.name for path in (tmp_path / "workbook" / "notebooks").iterdir()}
    assert {"01_data.ipynb", "08_your_own_video.ipynb", "media", "py", "build.py"} <= names
    monkeypatch.chdir("workbook/notebooks")
    assert places("01_data").root.resolve() == tmp_path / "workbook"  # what a notebook calls first
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for taken in ("workbook", "file"):
        code, _, error = run(capsys, "notebooks", taken)
        assert code == 2 and error.startswith(f"lightavseg: {taken}: ") and "Give a new folder" in error


def test_home_is_a_tilde_in_quotes_too(capsys, monkeypatch, tmp_path):
    """The shell leaves it as it is there, and behind `=`."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    made = run(capsys, "data", "make", "~/shapes", "--train", 1, "--val", 0, "--test", 0, "--size", 32)
    assert made[0] == 0 and (tmp_path / "home" / "shapes" / "Multi-sources").is_dir()
    assert run(capsys, "data", "check", "~/shapes")[0] == 0
    seen = []
    for command in (cli.train.Train, cli.predict.Predict, cli.profile.Profile):
        monkeypatch.setattr(command, "run", lambda self: seen.append(self))
    run(capsys, "train", "--data=~/shapes", "--out", "~/run", "--audio-weights", "~/ear.pth")
    run(capsys, "predict", "~/run", "~/a.mp4", "~/b.mp4", "--out=~/masks")
    run(capsys, "profile", "~/run", "lightavseg")
    home = tmp_path / "home"
    train, predict, profile = seen
    assert (train.data, train.out) == (home / "shapes", home / "run")
    assert train.audio_weights == str(home / "ear.pth")
    assert (predict.inputs, predict.out) == ([home / "a.mp4", home / "b.mp4"], home / "masks")
    assert profile.names == [str(home / "run"), "lightavseg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]

"""What a command prints, in whatever encoding, and beside a progress bar."""

import io
import subprocess
import sys
import time

import pytest
from helpers.tiny import create
from tqdm.auto import tqdm

import lightavseg_core as lav
from lightavseg_core._common.bars import bars_closed
from lightavseg_core.cli import main
from lightavseg_core.cli.machine import Check
from lightavseg_core.data import AVSBench

# --- names that an encoding has not ---

NAMES = "小犬_é_\N{SNOWMAN}"


@pytest.fixture
def printed(monkeypatch):
    """Runs a command whose output goes into a pipe of this encoding: its exit code, and the bytes."""

    def run(encoding, *arguments, errors="strict"):
        pipe = io.BytesIO()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", io.TextIOWrapper(pipe, encoding, errors))
            with pytest.raises(SystemExit) as end:
                main([*map(str, arguments)])
            sys.stdout.detach()
        return end.value.code or 0, pipe.getvalue()

    return run


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp932", "utf-8"])
@pytest.mark.slow
def test_a_report_names_everything(tmp_path, own_copy, printed, encoding, capsys):
    """What the pipe's encoding has is written in it, all else as Python would."""
    own_copy = own_copy.rename(tmp_path / NAMES)
    with (own_copy / "Multi-sources" / "ms3_meta_data.csv").open("a", encoding="utf-8") as file:
        file.write(f"{NAMES},0,val\n")
    code, out = printed(encoding, "data", "check", own_copy, "--subset", "ms3")
    assert code == 1 and not capsys.readouterr().err.count("lightavseg:")
    expected = NAMES.encode(encoding, "backslashreplace")
    assert out.count(expected) > 10 and out.endswith(expected + b"/Multi-sources\n")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.slow
def test_the_other_commands(tmp_path, printed, encoding):
    root, model = tmp_path / NAMES / "data", tmp_path / NAMES / "model"
    create(size=32).save_pretrained(model)
    counts = ("--train", 1, "--val", 0, "--test", 1)
    shown = NAMES.encode(encoding, "backslashreplace")
    code, out = printed(encoding, "data", "make", root, *counts, "--size", 32)
    assert code == 0 and shown in out
    code, out = printed(encoding, "evaluate", model, "--data", root)
    assert code == 0 and out.startswith(b"M_J")
    for arguments in (["--help"], ["predict", "--help"]):
        code, out = printed(encoding, *arguments)
        assert code == 0 and len(out) > 200


def test_who_says_what_is_to_be_done_is_heard(shapes, tmp_path, printed):
    """As `PYTHONIOENCODING=ascii:replace` does."""
    (tmp_path / "é").symlink_to(shapes)
    code, out = printed("ascii", "data", "check", tmp_path / "é", "--subset", "ms3", errors="replace")
    assert code == 0 and b"/?/Multi-sources" in out


# --- progress bars ---


def lines(capsys):
    """As a terminal shows them: a carriage return begins a line anew."""
    text = capsys.readouterr().err
    assert text.endswith(("\n", " \r")), repr(text[-200:])  # the last of it was written, or wiped away
    return [line.rpartition("\r")[-1] for line in text.splitlines()]


class Stumbling:
    """Bars under which an error arises: of loops, and one that is updated by hand."""

    def run(self):
        for _ in tqdm(range(3), desc="outer"):
            bar = tqdm(total=3, desc="inner")
            for k in tqdm(range(3), desc="of a loop", leave=False):
                bar.update()
                if k == 1:
                    raise self.error


ERRORS = [ValueError("no"), OSError(5, "Input/output error"), KeyboardInterrupt()]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_error_has_its_own_line(capsys, monkeypatch, error):
    command = Stumbling()
    command.error = error
    monkeypatch.setattr(Check, "run", lambda _: command.run())
    with pytest.raises(SystemExit):
        main(["check"])
    shown = lines(capsys)
    assert shown[-1].startswith(("lightavseg: ", "stopped; "))
    assert any("inner" in line for line in shown) and not tqdm._instances


def test_only_its_own_bars_are_closed(capsys):
    with tqdm(total=2, desc="mine") as bar:
        with pytest.raises(ValueError), bars_closed():
            tqdm(total=2, desc="theirs")
            raise ValueError
        assert not bar.disable and list(tqdm._instances) == [bar]


def test_a_training_leaves_no_bar_open(shapes, capsys, monkeypatch):
    """Python, too, tells an error right after what was written last."""
    model = create()
    data = AVSBench(shapes, "ms3", "val", size=64, front_end=model.front_end)
    config = lav.TrainConfig(epochs=1, audio_weights="joint")
    monkeypatch.setattr("torch.optim.AdamW.step", stumble)
    with pytest.raises(ZeroDivisionError) as caught:
        lav.Trainer(model, config).fit(data, data)
    assert caught.traceback and "training" in lines(capsys)[-1]


def stumble(*_, **__):
    return 1 / 0


@pytest.mark.slow
def test_sigterm_tidies_up(tmp_path):
    """As clusters send it before they take a machine away."""
    words = [sys.executable, "-m", "lightavseg_core.cli", "data", "make", tmp_path / "data", "--train", "900"]
    with subprocess.Popen([*map(str, words)], stderr=subprocess.PIPE, text=True) as process:
        for _ in range(600):
            if list(tmp_path.glob("data/.generating_*/**/*.png")):  # its processes work
                break
            time.sleep(0.1)
        process.terminate()
        told = process.communicate(timeout=60)[1].splitlines()[-1]
    assert (process.returncode, told) == (143, "stopped; what has been written is kept")
    assert list(tmp_path.iterdir()) == []

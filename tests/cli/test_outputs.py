"""Where a command is to write and cannot, it says so in one line before it does anything."""

from pathlib import Path

import pytest
from helpers.command import run

from lightavseg_core.widgets import VideoPlayer

ROOT = Path(__file__).parents[2]
TINY, FILM = ROOT / "checkpoints" / "tiny", ROOT / "notebooks" / "media" / "sample.mp4"
FILE = "file: not a folder; expected a folder to write into"
FOLDER = "folder: a folder; expected a file to write"
COMMANDS = {
    "predict TINY FILM --out file": FILE,
    "predict TINY FILM --out file/deep": FILE,
    "predict TINY FILM FILM --out file": FILE,
    "data make file --train 1 --size 64": FILE,
    "data make file/deep --train 1 --size 64": FILE,
    "train --data SHAPES --out file": FILE,
    "train --data SHAPES --out file/deep": FILE,
    "export TINY --runtime onnx --data SHAPES --out file/tiny.onnx": FILE,
    "export TINY --runtime onnx --data SHAPES --out folder.onnx": "folder.onnx: a folder; expected a file",
    "sweep loss --budget smoke --out file": FILE,
    "sweep loss --budget smoke --work file": FILE,
    "compare method.py --plot folder": FOLDER,
    "bench --out folder": FOLDER,
    "bench --figure folder": FOLDER,
    "profile --out folder": FOLDER,
    "profile --out file/deep.json": FILE,
    "profile --plot folder": FOLDER,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_a_place_that_cannot_be_written(command, capsys, tmp_path, monkeypatch, shapes):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    for folder in ("folder", "folder.onnx"):
        Path(folder).mkdir()
    places = {"TINY": TINY, "FILM": FILM, "SHAPES": shapes}
    code, _, error = run(capsys, *(str(places.get(word, word)) for word in command.split()))
    assert code == 2 and error.startswith("lightavseg: ") and COMMANDS[command] in error
    assert len(error.splitlines()) == 1 and "sample" not in error, "it is no fault of the film"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "folder.onnx"]
    assert Path("file").read_text() == "mine"


def test_a_player_that_has_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=FILE):
        VideoPlayer(None, tmp_path / "file")


@pytest.mark.slow
def test_weights_that_are_a_text(capsys, tmp_path, shapes):
    """What the file is, and what is expected; nothing of what reads it."""
    text = tmp_path / "text.pth"
    wrong = {"--audio-weights": "hello", "--visual-weights": "two\nlines, and more than is looked at"}
    for option, words in wrong.items():
        text.write_text(words)
        out = tmp_path / "out"
        given = "--data", shapes, "--out", out, "--preset", "tiny"
        code, _, error = run(capsys, "train", *given, option, text)
        assert code == 2 and "not a checkpoint of plain tensors (a text that begins with" in error
        assert "give the file of the weights, .pth, .pt or .safetensors" in error
        assert len(error.splitlines()) == 1 and not out.exists()

"""Numbers in their range, and what each command says of one that is not."""

import math
from pathlib import Path

import pytest

from lightavseg_core import cli
from lightavseg_core._common.ranges import within

TINY = Path(__file__).parents[2] / "checkpoints" / "tiny"
COMMANDS = {
    "bench --repeats 0": "repeats is 0",
    "sweep --workers 0": "workers is 0",
    "sweep --seeds -1": "seeds is -1",
    "compare README.md --workers -1": "workers is -1",
    "compare README.md --seeds 9": "seeds is 9; expected at most 3",
    "predict TINY film.mp4 --size 0": "size is 0",
    "predict TINY film.mp4 --size 100000": "size is 100000; expected at most",
    "export TINY --runtime onnx --size 0": "size is 0",
    "export TINY --runtime onnx --size -32": "size is -32",
    "data make data --size 100000": "size is 100000; expected at most",
    "data make data --size 0": "size is 0",
    "data make data --seed -1": "seed is -1",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_a_number_that_cannot_be_is_refused_before_anything(command, capsys, tmp_path, monkeypatch):
    words = command.replace("TINY", str(TINY)).split()
    if words[0] in ("sweep", "compare", "predict"):
        words += ["--out", "out"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        cli.main(words)
    error = capsys.readouterr().err
    assert exit.value.code == 2 and COMMANDS[command] in error
    assert error.startswith("lightavseg: ") and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_within():
    within(1, 3, low=1, high=3, none=None)
    within(0, large=10**12)
    wrong = {0: "at least 1", 4: "at most 3", math.nan: "at least 1", -math.inf: "at least 1"}
    for number, words in wrong.items():
        with pytest.raises(ValueError, match=f"second is {number}; expected {words}"):
            within(1, 3, first=2, second=number)

"""Processes that work for a program do not run it again."""

import runpy
import sys
import time
from types import ModuleType

import pytest

from lightavseg_core._common.processes import without_main
from lightavseg_core.data import sounding_shapes
from lightavseg_core.experiments import sweep

PROGRAM = """
from pathlib import Path
from lightavseg_core.data import sounding_shapes
with Path({mark!r}).open("a") as file:
    file.write("run ")
sounding_shapes.generate({root!r}, "ms3", {{"train": 9, "val": 0, "test": 0}}, 32, workers=2)
"""


def test_the_program_is_put_back():
    own = sys.modules["__main__"]
    with pytest.raises(KeyError), without_main():
        assert not hasattr(sys.modules["__main__"], "__file__")
        raise KeyError
    assert sys.modules["__main__"] is own


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A script that generates data, without `if __name__ == "__main__"`, as what Python was started with."""
    script, mark = tmp_path / "script.py", tmp_path / "mark"
    script.write_text(PROGRAM.format(mark=str(mark), root=str(tmp_path / "data")))
    main = ModuleType("__main__")
    main.__file__ = str(script)
    monkeypatch.setitem(sys.modules, "__main__", main)
    return script, mark


@pytest.mark.slow
def test_a_plain_script_generates_data(program, tmp_path):
    """Before, each process ran the script from its top, and Python ended them all."""
    script, mark = program
    runpy.run_path(str(script))
    assert mark.read_text() == "run ", "once"
    assert len(sounding_shapes.read_recipe(tmp_path / "data", "ms3").clips) == 3


@pytest.mark.slow
def test_a_plain_script_sweeps(program, tmp_path):
    process = sweep._start(tmp_path / "log", None, time.sleep, 0)
    process.join()
    assert process.exitcode == 0 and not program[1].exists()

"""A method's file is imported by its path; whatever is wrong with it is said in one line, with its line."""

import pytest

from lightavseg_core.experiments.outside import import_file
from lightavseg_core.models.base import METHODS

METHOD = """from __future__ import annotations
from dataclasses import dataclass
from lightavseg_core.models import AVSModel, LightAVSeg, ModelConfig, register

@dataclass
class Config(ModelConfig):
    method: str = "{name}"
    widths: list[int] = ()

@register
class Outsider(AVSModel):
    config_class = Config
"""


pytestmark = pytest.mark.usefixtures("methods_as_before")


def test_a_file_registers_its_methods(tmp_path):
    file = tmp_path / "json.py"                               # the name of a module that everybody has
    file.write_text(METHOD.format(name="outsider"))
    before = set(METHODS)
    assert import_file(file) == ["outsider"] and set(METHODS) == {*before, "outsider"}
    assert import_file(str(file)) == ["outsider"]             # again, as after an edit
    file.write_text("x = 1")
    assert import_file(file) == []


@pytest.mark.parametrize(("text", "said"), [
    ("x = 1\n\ny = x / 0\n", "line 3: ZeroDivisionError: division by zero"),
    ("x = 1\nfor in x:\n", "line 2: SyntaxError: invalid syntax"),
    ("import lightavseg_core.no_such_part", "line 1: ModuleNotFoundError: No module named"),
    ("import json\njson.loads('{')\n", "line 2: JSONDecodeError"),      # raised elsewhere, called here
    (METHOD.format(name="selm"), "line 10: ValueError: the method of Outsider is 'selm', a name taken by"),
])
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, said):
    file = tmp_path / "my_method.py"
    file.write_text(text)
    with pytest.raises(ValueError) as error:
        import_file(file)
    assert str(error.value).startswith(f"{file}, {said}") and METHODS["selm"].__name__ == "SelM"


def test_no_file_and_no_python(tmp_path):
    for path in (tmp_path / "absent.py", tmp_path):
        with pytest.raises(FileNotFoundError, match="docs/adding_a_method.md"):
            import_file(path)
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(ValueError, match="notes.txt: not a Python file"):
        import_file(tmp_path / "notes.txt")

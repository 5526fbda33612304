"""The core asks for little, and the package's face shows what it has."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lightavseg_core as lav

CORE = [f"lightavseg_core.{name}" for name in ("config", "losses", "metrics", "trainer", "evaluation")]
CORE.append("lightavseg_core.models.lightavseg")

# torchmetrics and accelerate import matplotlib where it is installed, so they come first.
NEW_MODULES = """
import sys
from importlib import import_module
import accelerate, torchmetrics
before = set(sys.modules)
for name in sys.argv[1:]:
    import_module(name)
print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.slow
def test_the_core_loads_no_pictures_widgets_or_video():
    run = [sys.executable, "-c", NEW_MODULES, *CORE]
    loaded = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert set(CORE) <= set(loaded)
    assert not {name.split(".")[0] for name in loaded} & {"matplotlib", "ipywidgets", "IPython", "av"}


def test_dir_shows_the_public_names():
    assert dir(lav) == sorted(lav.__all__)
    for name in dir(lav):
        assert getattr(lav, name) is not None
    with pytest.raises(AttributeError, match="no 'create_modle'; it has .*create_model"):
        _ = lav.create_modle


def test_type_checkers_see_the_same_names():
    """Each from the module that it comes from when it is asked for."""
    tree = ast.parse(Path(lav.__file__).read_text())
    conditions = [node for node in tree.body if isinstance(node, ast.If)]
    (block,) = [node for node in conditions if ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = []
    for statement in block.body:
        module = import_module(f"lightavseg_core.{statement.module}") if statement.module else lav
        for alias in statement.names:
            seen.append(alias.name)
            assert getattr(lav, alias.name) is getattr(module, alias.name)
    assert sorted(seen) == sorted(lav.__all__)

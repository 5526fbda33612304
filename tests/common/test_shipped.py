"""What the wheel carries is what is looked for in it, and hints fit how the package was installed."""

import importlib.util
import re
import shutil
import tomllib
from pathlib import Path

import pytest

from lightavseg_core._common import shipped

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = PROJECT["tool"]["hatch"]["build"]["targets"]


@pytest.fixture
def wheel(tmp_path):
    """The module as in an installed wheel, whose workbook is one file in each folder."""
    package = tmp_path / "site-packages" / "lightavseg_core"
    (package / "_common").mkdir(parents=True)
    for name in shipped.WORKBOOK:
        (package / "_shipped" / name / "__pycache__").mkdir(parents=True)
        (package / "_shipped" / name / "file").write_text(name)
    copy = shutil.copy(shipped.__file__, package / "_common")
    spec = importlib.util.spec_from_file_location("lightavseg_core._common.shipped", copy)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_checkout():
    assert shipped.CHECKOUT and shipped.SHIPPED == ROOT
    assert all((ROOT / name).is_dir() for name in (*shipped.WORKBOOK, shipped.TINY))
    assert shipped.how_to_install("edge") == "pip install -e '.[edge]'"
    assert shipped.how_to_install() == "pip install -r requirements.lock"
    extras = set(PROJECT["project"]["optional-dependencies"])
    code = "".join(path.read_text() for path in ROOT.glob("lightavseg_core/**/*.py"))
    named = re.findall(r"how_to_install\(['\"](\w+)", code)
    assert named and set(named) <= extras


def test_a_wheel(wheel, tmp_path):
    assert not wheel.CHECKOUT and wheel.SHIPPED.name == "_shipped" and wheel.SHIPPED.parent == wheel.PACKAGE
    assert wheel.how_to_install("edge") == f"pip install '{PROJECT['project']['name']}[edge]'"
    assert wheel.how_to_install() == f"pip install {PROJECT['project']['name']}"
    wheel.write_workbook(tmp_path / "new" / "workbook")
    written = sorted(str(p.relative_to(tmp_path / "new/workbook")) for p in (tmp_path / "new").rglob("file"))
    assert written == [f"{name}/file" for name in shipped.WORKBOOK]
    assert not list((tmp_path / "new").rglob("__pycache__"))


def test_a_disk_that_fills_up_leaves_nothing(wheel, tmp_path, monkeypatch):
    copied = shutil.copytree

    def full(source, *arguments, **options):
        copied(source, *arguments, **options)
        if Path(source).name == "docs":
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", full)
        with pytest.raises(OSError, match="No space"):
            wheel.write_workbook(tmp_path / "w")
    assert not list(tmp_path.glob("w/*"))
    (tmp_path / "w" / ".writing" / "docs").mkdir(parents=True)  # what a kill leaves
    wheel.write_workbook(tmp_path / "w")
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == [
        "checkpoints", "docs", "figures", "notebooks", "results"]


def test_the_project_says_where_the_module_looks():
    """Both archives hold the same; the source has no tests, which need the repository."""
    for target in TARGETS.values():
        assert target["only-include"] == ["lightavseg_core", *shipped.WORKBOOK]
    tops = {name.split("/")[0] for name in shipped.WORKBOOK}
    assert TARGETS["wheel"]["sources"] == {top: f"lightavseg_core/_shipped/{top}" for top in sorted(tops)}


def test_versions_that_must_match_are_pinned_and_those_of_the_lock():
    lock = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    pinned = dict(line.split("==") for line in PROJECT["project"]["dependencies"] if "==" in line)
    assert pinned.keys() == {"torch", "torchvision", "torchaudio"}
    assert pinned == {name: lock[name] for name in pinned}

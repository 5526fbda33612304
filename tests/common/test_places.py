"""A notebook finds its checkout from whatever folder it is run in, and says where it writes."""

import os
from pathlib import Path

import pytest

from lightavseg_core._common import places as module
from lightavseg_core._common.places import MARKS, places

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path):
    """A folder with all that makes a checkout, and one above it that has nothing."""
    root = tmp_path / "checkout"
    for mark in MARKS:
        (root / mark).mkdir(parents=True)
    (root / "notebooks" / "py").mkdir()
    return root


@pytest.mark.parametrize("folder", [".", "notebooks", "notebooks/py"])
def test_the_working_folder_or_one_above_it(checkout, folder, monkeypatch):
    monkeypatch.chdir(checkout / folder)
    here = places("01_data")
    assert here.root.resolve() == checkout and not here.root.is_absolute()
    assert here.runs.resolve() == checkout / "runs" / "01_data" and here.runs.is_dir()
    assert here.figures.resolve() == checkout / "figures" and here.figures.is_dir()


def test_elsewhere_it_is_what_the_package_was_installed_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = places("01_data", tmp_path / "mine")
    assert here.root.resolve() == ROOT
    assert here.runs == tmp_path / "mine" / "runs" / "01_data"
    assert here.figures == tmp_path / "mine" / "figures"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"], "nothing is written beside"


def test_without_a_checkout_it_says_what_to_do_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    installed = tmp_path / "site-packages" / "lightavseg_core" / "_common" / "places.py"
    monkeypatch.setattr(module, "__file__", str(installed))
    with pytest.raises(FileNotFoundError, match="Change into the checkout.*Nothing was written"):
        places("01_data")
    assert not list(tmp_path.iterdir())


def test_a_checkout_that_cannot_be_written(checkout, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    here = places("01_data")
    assert here.root.resolve() == checkout and not (checkout / "runs").exists()
    assert tmp_path / "cache" in here.runs.parents and here.runs.is_dir()
    assert str(here.runs.parents[1]) in capsys.readouterr().out

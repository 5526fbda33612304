"""Names as other systems write them are found; others are not."""

import os
import unicodedata
from pathlib import Path

import pytest

from lightavseg_core._common.lookalikes import on_disk

COMPOSED = "é_Ångström_한.png"
APART = unicodedata.normalize("NFD", COMPOSED)


@pytest.mark.parametrize(
    "asked,there",
    [
        ("a.png", "a.PNG"), ("a.PNG", "a.png"), ("a.mp4_1.png", "a.mp4_1.Png"),
        (COMPOSED, APART), (APART, COMPOSED),
        (COMPOSED, unicodedata.normalize("NFD", "é_Ångström_한.PNG")),
        (f"{COMPOSED}/b.wav", f"{APART}/b.WAV"), (f"{COMPOSED}/{COMPOSED}/a", f"{APART}/{COMPOSED}/a"),
    ],
)
def test_the_same_name(tmp_path, monkeypatch, asked, there):
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).touch()
    assert os.path.samefile(on_disk(tmp_path / asked), tmp_path / there)
    monkeypatch.chdir(tmp_path)
    assert os.path.samefile(on_disk(Path(asked)), there)


def test_another_name(tmp_path):
    """It is told as it was asked for; a folder is no file, and nothing is found in a file."""
    for name in ("A.png", "a.jpg", "e.png", "b"):
        (tmp_path / name).touch()
    for name in ("a.png", "é.png", "b.png", "b/a.png", "absent/a.png", "absent/deeper/a.png"):
        assert on_disk(tmp_path / name) == tmp_path / name
    assert on_disk(Path("/absent")) == Path("/absent") and on_disk(Path("absent")) == Path("absent")


def test_what_is_there_comes_first(tmp_path):
    for name in ("a.png", "a.PNG"):
        (tmp_path / name).touch()
        assert on_disk(tmp_path / name) == tmp_path / name
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.png").symlink_to(tmp_path / "absent")
    assert on_disk(tmp_path / "a.png") == tmp_path / "a.png", "a broken link is told of as such"


def test_many_that_are_missing_cost_one_look(tmp_path, monkeypatch):
    looks, real = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: looks.append(folder) or real(folder))
    for k in range(200):
        on_disk(tmp_path / "absent" / f"clip_{k}" / "1.png")
        on_disk(tmp_path / f"{k}.png")
    assert len(looks) == 1

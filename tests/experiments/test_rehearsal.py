"""The published way at the real numbers of clips, rehearsed."""

import json
import os
import signal

import pytest
from helpers.published import tree, weights

from lightavseg_core.cli import main


@pytest.mark.long
def test_the_whole_published_way(tmp_path, capsys):
    """Of the real numbers of clips, with the published files' names. One recipe: the others need more
    minutes, and one more memory, than a test has (docs/scaling.md)."""
    data = tree(tmp_path / "data")
    out = tmp_path / "out"
    given = ["rehearse", str(data), "--weights", str(weights(tmp_path / "weights")), "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main([*given, "--steps", "1", "--recipe", "paper"])
    assert ended.value.code == 0
    rows = json.loads((out / "rehearsal.json").read_text())["rows"]
    ran = {(row["recipe"], row["subset"]) for row in rows}
    assert ran == {("paper", "s4"), ("paper", "ms3"), ("paper", "avss")}
    for row in rows:
        assert len(row["published files"]) == 2 and row["seconds a step"] > 0 and row["peak, MiB"] > 500
        assert row["stopped after steps"] == 2  # of two
        assert set(row["M_J"]) == {"normal", "silent", "swapped", "noise", "noisy"}
    assert len(capsys.readouterr().out.splitlines()) == len(rows)


def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_part_that_is_killed_is_a_row(tmp_path, capsys, monkeypatch):
    """As by a system without memory: the others go on."""
    data = tree(tmp_path / "data", {"ms3": (2, 1, 1)}, size=32)
    monkeypatch.setattr("lightavseg_core.experiments.rehearsal._part", killed)
    with pytest.raises(SystemExit) as ended:
        main(["rehearse", str(data), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out.splitlines()
    assert ended.value.code == 1 and len(said) == 4
    assert said[0] == "paper, ms3: killed; memory may have run out"


def test_what_is_broken_is_said_first(tmp_path, capsys):
    data = tree(tmp_path / "data", {"ms3": (2, 1, 1)}, size=32)
    frame = next(data.rglob("visual_frames/*/*"))
    frame.unlink()
    frame.write_bytes(b"no picture")
    with pytest.raises(SystemExit) as ended:
        main(["rehearse", str(data), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2 and not (tmp_path / "out").exists()
    assert "ms3 has 1 problem, which `lightavseg data check" in capsys.readouterr().err

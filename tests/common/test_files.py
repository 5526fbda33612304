"""Files are whole or not there, one process has a folder for itself, and names do no harm."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightavseg_core._common.files import alone, check_file, check_folder, digests, sha256, whole
from lightavseg_core._common.names import printable, unknown


def test_a_file_is_whole_or_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), whole(path) as staging:
            staging.write_text("half")
            raise error
        assert not list(tmp_path.iterdir())
    with whole(path) as staging:
        staging.write_text("first")
        assert not path.exists() and staging.suffix == path.suffix
    with pytest.raises(RuntimeError), whole(path) as staging:
        staging.write_text("half")
        raise RuntimeError
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_a_folder_for_one_process(tmp_path):
    folder = tmp_path / "deep" / "folder"
    code = "import sys, pathlib; from lightavseg_core._common.files import alone\n"
    code += "with alone(pathlib.Path(sys.argv[1])): print('in')"

    def other():
        return subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)

    with alone(folder):
        found = other()
        assert found.returncode and f"{folder}: another process is writing there" in found.stderr
    assert other().stdout == "in\n"
    assert list(tmp_path.iterdir()) == [], "made for nothing"
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file: not a folder"), alone(tmp_path / "file"):
        pass


def test_a_folder_that_was_made_for_nothing_goes(tmp_path):
    """With those above it that were made too; not what holds something, was there, or is another's."""
    there, folder = tmp_path / "there", tmp_path / "deep" / "folder"
    there.mkdir()
    for place in (there, folder):
        with pytest.raises(KeyboardInterrupt), alone(place):
            assert place.is_dir()
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [there]
    with alone(folder):
        with pytest.raises(ValueError, match="another process"), alone(folder):
            pass
        assert folder.is_dir()
        (folder / "file").touch()
    assert (folder / "file").exists()


def test_digests(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc" * 10**6)
    expected = hashlib.sha256(b"abc" * 10**6).hexdigest()
    assert sha256(path) == expected and digests([path, tmp_path / "absent"]) == {"a.bin": expected}


def test_names():
    assert printable("a\nb\x1b[2J é") == r"a\nb\x1b[2J é"
    error = unknown("run", "Runtime", ["scaling", "runtimes"])
    assert str(error) == "unknown run 'Runtime': did you mean 'runtimes'? Known: runtimes, scaling."
    assert str(unknown("run", "zzz", ["b", "a"])) == "unknown run 'zzz'. Known: a, b."


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for check in (check_folder, check_file):
        check(tmp_path / "new" / "deep")
        for wrong in ("file/new", "file/deep/new", "link/new"):
            with pytest.raises(ValueError, match="(file|link): not a folder; expected a folder"):
                check(tmp_path / wrong)
    check_folder(tmp_path)
    check_file(tmp_path / "file")
    with pytest.raises(ValueError, match="file: not a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(ValueError, match="a folder; expected a file to write"):
        check_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="^file: not a folder"):
        check_folder(Path("file/new"))
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)
    with pytest.raises(ValueError, match="you may not write into this folder"):
        check_folder(tmp_path / "new" / "deep")

"""Provenance names the commit of the package, not of whatever lies around it; results are read or refused."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightavseg_core._common import records

CODE = "from lightavseg_core._common.records import commit; print(commit())"


@pytest.fixture
def around(tmp_path):
    """A folder with a copy of what records need, in a virtual environment's place."""
    package = tmp_path / "venv" / "site-packages" / "lightavseg_core"
    (package / "_common").mkdir(parents=True)
    (package / "__init__.py").touch()
    for part in ("__init__", "records", "environment", "files", "names", "shipped"):
        shutil.copy(records.PACKAGE / "_common" / f"{part}.py", package / "_common")
    return tmp_path


def git(folder, *arguments):
    command = ["git", "-c", "user.name=somebody", "-c", "user.email=somebody@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def told(folder, **environment):
    """What the copy in the folder says, in a process without other packages."""
    known = {"GIT_CEILING_DIRECTORIES": str(folder.parent), "PATH": os.environ["PATH"], **environment}
    known |= {"PYTHONPATH": str(folder / "venv" / "site-packages"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", "-c", CODE]
    done = subprocess.run(command, env=known, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.strip()


def install(folder, version):
    """What an installer leaves beside the package."""
    metadata = folder / "venv" / "site-packages" / f"lightavseg_workbook-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {records.DISTRIBUTION}\nVersion: {version}\n")


def test_its_own_repository(around):
    git(around, "init", "-q")
    git(around, "add", ".")
    git(around, "commit", "-qm", "all")
    commit = git(around, "rev-parse", "HEAD")
    assert commit.startswith(told(around)) and len(told(around)) >= 7
    file = around / "venv" / "site-packages" / "lightavseg_core" / "__init__.py"
    file.write_text("changed = True\n")
    assert told(around) == f"{commit[:7]}-dirty"


def test_somebody_elses_repository(around):
    git(around, "init", "-q")
    (around / "own.py").touch()
    git(around, "add", "own.py")
    git(around, "commit", "-qm", "theirs")
    assert told(around) == "unknown"
    install(around, "1.2.3")
    assert told(around) == "version 1.2.3"


def test_no_repository(around):
    assert told(around) == "unknown"
    install(around, "1.2.3")
    assert told(around) == "version 1.2.3"


def test_no_git(around):
    git(around, "init", "-q")
    git(around, "add", ".")
    git(around, "commit", "-qm", "all")
    assert told(around, PATH=str(around)) == "unknown"
    install(around, "1.2.3")
    assert told(around, PATH=str(around)) == "version 1.2.3"


def test_results_are_read_or_refused(tmp_path):
    path = tmp_path / "deep" / "result.json"
    records.write(path, {"score": 0.5})
    assert records.read(path) == {"score": 0.5} and list(path.parent.iterdir()) == [path]
    for content in (b"", b"[1]", b"{", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"result\.json: not a result"):
            records.read(path)
    with pytest.raises(FileNotFoundError):
        records.read(Path(tmp_path / "absent.json"))

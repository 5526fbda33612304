"""A disk that cannot be mapped into memory, or not be read: the file is read otherwise, and what the disk
does is not said of the file."""

import errno
import json
from pathlib import Path

import pytest
import torch
from helpers import unmappable
from helpers.tiny import create
from PIL import Image

import lightavseg_core as lav
from lightavseg_core._common.files import told
from lightavseg_core.cli import main
from lightavseg_core.data import check as checking
from lightavseg_core.data.layout import read_clips
from lightavseg_core.encoders import weights
from lightavseg_core.encoders.checkpoints import read_tensors
from lightavseg_core.encoders.weights import read_metadata
from lightavseg_core.experiments.training import EAR


@pytest.fixture
def model(tmp_path):
    """A folder with a model, and its weights as PyTorch saves them."""
    model, folder = create(), tmp_path / "model"
    model.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "new.pth")
    torch.save(model.state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    return folder


NAMES = ("model.safetensors", "new.pth", "old.pth")
SCRIPT = """
import mmap, sys
import lightavseg_core as lav
from lightavseg_core.encoders.checkpoints import read_tensors
with open(sys.argv[1] + "/new.pth", "rb") as file:
    try: mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError: print("unmappable")
for name in sys.argv[2:]:
    tensors = read_tensors(sys.argv[1] + "/" + name)
    print(sum(t.double().sum().item() for t in tensors.values()))
print(lav.load_model(sys.argv[1]).config.width)
"""


@pytest.mark.slow
def test_a_disk_that_cannot_be_mapped(model):
    first, *sums, width = unmappable.run(model, SCRIPT, model, *NAMES).split()
    expected = sum(t.double().sum().item() for t in lav.load_model(model).state_dict().values())
    assert first == "unmappable" and width == "8"
    assert [float(found) for found in sums] == pytest.approx([expected] * 3)


@pytest.mark.parametrize("reason", ["No such device (os error 19)", "Operation not permitted (os error 1)"])
@pytest.mark.slow
def test_what_cannot_be_mapped_is_read(model, monkeypatch, reason):
    def mapped(path):
        raise OSError(reason)

    expected = read_tensors(model / NAMES[0])
    monkeypatch.setattr(weights, "load_file", mapped)
    for name in NAMES:
        found = read_tensors(model / name)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert lav.load_model(model).config.width == 8


def test_what_a_file_says_of_itself():
    from safetensors import safe_open

    with safe_open(EAR, "pt") as file:
        assert read_metadata(EAR) == file.metadata() != {}


ERRORS = {
    "a drive that went away": OSError(errno.EIO, "Input/output error"),
    "rights": PermissionError(errno.EACCES, "Permission denied"),
    "a stale handle": OSError(errno.ESTALE, "Stale file handle"),
}


@pytest.fixture(params=ERRORS)
def refused(request, monkeypatch):
    """Every file of these names cannot be read."""
    error, names, opened, read = ERRORS[request.param], set(), Path.open, Path.read_bytes

    def refuse(path):
        if path.name in names:
            raise type(error)(*error.args)

    monkeypatch.setattr(Path, "open", lambda path, *a, **k: refuse(path) or opened(path, *a, **k))
    monkeypatch.setattr(Path, "read_bytes", lambda path: refuse(path) or read(path))
    return error, names


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_weights_that_cannot_be_read_are_not_called_broken(model, monkeypatch, refused, name):
    def mapped(path):
        raise OSError("Input/output error (os error 5)")

    error, names = refused
    names.add(name)
    monkeypatch.setattr(weights, "load_file", mapped)
    with pytest.raises(OSError) as caught:
        read_tensors(model / name)
    assert told(caught.value) == f"{model / name}: cannot be read ({error.strerror})."
    assert caught.value.errno == error.errno


def test_a_report_says_disk(own_copy, monkeypatch, capsys, refused):
    """Of frame, mask, sound and table."""
    error, names = refused
    clip, opened = read_clips(own_copy, "ms3", "val")[1], Image.open

    def picture(path, *arguments, **options):
        if Path(path).name in names:
            raise type(error)(*error.args)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Image, "open", picture)
    names |= {clip.frames[0].name, clip.masks[3].name, clip.audio.name}
    report = checking.check(own_copy, "ms3")
    found = {problem.part: problem for problem in report.problems}
    assert found.keys() == {"frame", "mask", "sound"}
    for problem in found.values():
        assert (problem.clip, problem.kind) == (clip.name, "disk") and error.strerror in problem.found
    names.clear()
    names.add("ms3_meta_data.csv")
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(own_copy), "--subset", "ms3", "--json"])
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert end.value.code == 1 and (problem["kind"], problem["part"]) == ("disk", "metadata")

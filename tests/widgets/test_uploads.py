"""Uploads: names are made safe, contents kept once."""

from pathlib import Path

import pytest

from lightavseg_core.widgets.uploads import UPLOAD, keep

NAMES = {
    "../../etc/x.mp4": "x.mp4",
    r"C:\films\x.MP4": "x.MP4",
    "/x.mov": "x.mov",
    ".hidden.mp4": "hidden.mp4",
    "--out.mp4": "out.mp4",
    "a\0b;$(c)<i>.mkv": "a_b_c_i_.mkv",
    "Übung 1.webm": "Übung_1.webm",
    200 * "x" + ".mp4": 80 * "x" + ".mp4",
}


@pytest.mark.parametrize("name, kept", NAMES.items())
def test_names_of_uploads(tmp_path, name, kept):
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    for _ in range(2):
        assert keep(name, b"1", folder) == folder / kept
    assert keep(name, b"2", folder).stem == Path(kept).stem + "-2"
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == 2 and all(path.parent == Path("deep/folder") for path in files)
    assert (folder / kept).read_bytes() == b"1"


@pytest.mark.parametrize(
    "name, size, words",
    [
        ("..", 1, "not a video by its name"),
        ("", 1, "the file: not a video"),
        (".mp4", 1, "not a video"),
        ("x.mp4", 0, "x.mp4: 0.0 MB"),
        ("x.mp4", UPLOAD + 2**20, "x.mp4: 11.0 MB; .* at most 10 MB. Put"),
    ],
)
def test_uploads_that_are_refused(tmp_path, name, size, words):
    with pytest.raises(ValueError, match=words):
        keep(name, bytes(size), tmp_path)
    assert not list(tmp_path.iterdir())

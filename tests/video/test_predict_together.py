"""A collection of videos: what became of each, also where several processes share them."""

import json
import signal
import time

import pytest
from helpers.ear import contents, segmenter
from helpers.films import film, flat, sounding
from helpers.launched import launch, start

from lightavseg_core._common.shipped import TINY
from lightavseg_core.video.inputs import inputs_of
from lightavseg_core.video.prediction import write_all


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A list of seven videos, of which one is broken."""
    folder = tmp_path_factory.mktemp("videos")
    for k in range(6):
        film(folder / f"{k}.mp4", [flat(k)] * 10, **sounding(1))
    (folder / "broken.mp4").write_bytes((folder / "0.mp4").read_bytes()[:200])
    names = ["0.mp4", "1.mp4", "broken.mp4", *(f"{k}.mp4" for k in range(2, 6))]
    (folder / "list.txt").write_text("\n".join(names) + "\n\n")
    return folder / "list.txt"


def test_a_list(collection, tmp_path):
    assert [path.name for path in inputs_of([collection])][:3] == ["0.mp4", "1.mp4", "broken.mp4"]
    assert [path.name for path in write_all(segmenter(), [collection], tmp_path / "out")] == ["broken.mp4"]
    listed = json.loads((tmp_path / "out" / "manifest.json").read_text())["inputs"]
    assert [entry["folder"] for entry in listed] == ["0", "1", "broken", "2", "3", "4", "5"]
    assert "broken.mp4" in listed[2].pop("error")
    assert all(entry["frames"] >= 1 for entry in listed[:2] + listed[3:])
    (tmp_path / "other.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not a list of videos; expected a path on each line"):
        inputs_of([tmp_path / "other.txt"])
    (tmp_path / "other.txt").write_text("missing.mp4")
    with pytest.raises(FileNotFoundError, match="missing.mp4: no such file"):
        inputs_of([tmp_path / "other.txt"])


@pytest.mark.slow
def test_two_processes_share_a_collection(collection, tmp_path):
    """The same files as by one, each made once, one manifest; what a killed one left is made on restart."""
    predict = ("predict", TINY, collection, "--no-overlay", "--out")
    for processes in (1, 2):
        code, said, err = launch(processes, *predict, tmp_path / str(processes))
        assert code == 1 and "broken.mp4" in err and not said
    assert contents(tmp_path / "1") == contents(tmp_path / "2")

    def made():
        return sorted((tmp_path / "3").glob("*/masks/*.png"))

    running = start(2, *predict, tmp_path / "3")
    while len(made()) < 4:
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    manifests = (tmp_path / "3").glob("*/manifest.json")
    through = [file.parent for file in manifests if json.loads(file.read_text())["complete"]]
    before = {file: file.stat().st_mtime_ns for file in made() if file.parents[1] in through}
    assert not (tmp_path / "3" / "manifest.json").exists()
    assert launch(2, *predict, tmp_path / "3")[0] == 1
    assert contents(tmp_path / "3") == contents(tmp_path / "1")
    assert all(file.stat().st_mtime_ns == when for file, when in before.items())

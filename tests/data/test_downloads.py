"""Trees as they are unpacked: where a dataset is found, what is said where none is, what is counted, and the
page that tells of all this."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.trees import binary_tree, semantic_tree, table

from lightavseg_core.cli import main
from lightavseg_core.data.avsbench import AVSBench
from lightavseg_core.data.check import ADVICE, PUBLISHED, check, check_all
from lightavseg_core.data.layout import read_clips, subset_folder


@pytest.mark.slow
def test_every_place_where_a_download_may_lie(tmp_path):
    objects, semantic = tmp_path / "AVSBench_object", tmp_path / "AVSBench_semantic"
    binary_tree(objects, "s4", ["palette"])
    binary_tree(objects, "ms3", ["palette"])
    semantic_tree(semantic)
    roots = {
        "s4": [tmp_path, objects, objects / "Single-source", objects / "Single-source" / "s4_data"],
        "ms3": [tmp_path, objects, objects / "Multi-sources", objects / "Multi-sources" / "ms3_data"],
        "avss": [tmp_path, semantic],
    }
    for subset, places in roots.items():
        split = "test" if subset == "avss" else "val"
        assert len({subset_folder(root, subset).resolve() for root in places}) == 1
        assert all(check(root, subset).ok for root in places)
        frames = [AVSBench(root, subset, split, size=32)[0]["frames"] for root in places]
        assert all(torch.equal(frames[0], other) for other in frames[1:])
    assert all(report.ok for report in check_all(tmp_path))
    found = {tmp_path: ["s4", "ms3", "avss"], objects: ["s4", "ms3"], semantic: ["avss"]}
    for root, subsets in {**found, objects / "Multi-sources": ["ms3"]}.items():
        assert [report.subset for report in check_all(root)] == subsets
    table(tmp_path / "other" / "metadata.csv", ["file", "caption"], [])  # of another dataset
    assert subset_folder(tmp_path, "avss") == semantic


def test_two_copies_are_not_guessed_between(tmp_path, shapes, capsys):
    binary_tree(tmp_path / "real", "ms3", ["palette"])
    shutil.copytree(shapes / "Multi-sources", tmp_path / "made" / "Multi-sources")
    copies = r"2 copies of ms3: .*made.Multi-sources \(generated\), .*real.Multi-sources \(real\)\. Give the"
    for use in (lambda: AVSBench(tmp_path, "ms3", "val"), lambda: check(tmp_path, "ms3")):
        with pytest.raises(ValueError, match=copies):
            use()
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(tmp_path)])
    assert end.value.code == 1 and "2 copies of ms3" in capsys.readouterr().out
    # What lies at ROOT itself is meant, and the rest named.
    shutil.copytree(tmp_path / "real" / "Multi-sources", tmp_path / "Multi-sources")
    report = check(tmp_path, "ms3")
    assert report.ok and report.folder == tmp_path / "Multi-sources"
    assert sorted("generated" in note for note in report.notes if "not checked" in note) == [False, True]


def hint(root, capsys):
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(root)])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith("lightavseg: ") and len(error.splitlines()) == 1
    return error


def test_what_is_said_where_nothing_is_found(tmp_path, capsys):
    binary_tree(tmp_path / "whole", "s4", ["palette"])
    folder = tmp_path / "whole" / "Single-source"
    assert f"it is in {folder}: give that folder" in hint(folder / "s4_data" / "visual_frames", capsys)
    (folder / "s4_meta_data.csv").unlink()
    for root in (tmp_path / "whole", folder):
        assert f"s4_meta_data.csv is missing beside {folder / 's4_data'}" in hint(root, capsys)
    assert f"s4_meta_data.csv is missing beside {folder / 's4_data'}" in hint(folder / "s4_data", capsys)
    semantic_tree(tmp_path / "avss")
    (tmp_path / "avss" / "metadata.csv").unlink()
    assert "metadata.csv is missing beside" in hint(tmp_path / "avss", capsys)
    (tmp_path / "packed").mkdir()
    archive = tmp_path / "packed" / "AVSBench_object.zip"
    archive.write_bytes(b"PK")
    assert "is an archive: unpack it first" in hint(archive, capsys)
    assert "AVSBench_object.zip is an archive" in hint(tmp_path / "packed", capsys)
    assert "is a file: give the folder" in hint(tmp_path / "avss" / "label2idx.json", capsys)
    assert "no such folder" in hint(tmp_path / "nowhere", capsys)
    (tmp_path / "bare").mkdir()
    assert "it holds nothing" in hint(tmp_path / "bare", capsys)
    for file in (archive, tmp_path / "avss" / "label2idx.json"):
        with pytest.raises(FileNotFoundError) as caught:
            AVSBench(file, "avss")
        assert "data make" not in str(caught.value), "nothing can be generated where a file lies"
    words = r"s4_meta_data\.csv is missing beside .*lightavseg data make"
    with pytest.raises(FileNotFoundError, match=words):
        AVSBench(folder, "s4")


@pytest.mark.slow
def test_counts_stand_beside_the_published_ones(tmp_path):
    folder = tmp_path / "Multi-sources"
    names = [(f"n{i}", 0, split) for split, n in PUBLISHED["ms3"].items() for i in range(n)]
    table(folder / "ms3_meta_data.csv", ["name", "start", "split"], names)
    report = check(tmp_path, "ms3")  # not a file is there, and each is named
    assert sum(PUBLISHED["ms3"].values()) == 424 and sum(PUBLISHED["s4"].values()) == 4932
    assert "as many clips as published: 296 train, 64 val, 64 test" in report.notes
    assert len(report.problems) == 424 * 11 and report.files == 0
    assert report.summary() == {"missing": {"frame": 424 * 5, "mask": 424 * 5, "sound": 424}}
    table(folder / "ms3_meta_data.csv", ["name", "start", "split"], [*names[3:], ("more", 0, "test")])
    notes = check(tmp_path, "ms3").notes
    assert "train has 293 clips, 3 fewer than the published 296" in notes
    assert "test has 65 clips, 1 more than the published 64" in notes


def test_a_partial_copy_is_no_mistake(tmp_path):
    binary_tree(tmp_path, "s4", ["palette"])
    report = check(tmp_path, "s4")
    assert report.ok and report.categories == {"dog_barking": 1}
    assert "categories: 1; published: 23" in report.notes
    semantic_tree(tmp_path)
    report = check(tmp_path, "avss")
    assert report.ok and report.kinds == {"v1s": 1, "v1m": 2, "v2": 1}
    assert "v2 has 1 clip, 5,999 fewer than the published 6,000" in report.notes
    assert not any("categories" in note for note in report.notes)


@pytest.mark.slow
def test_generated_data_is_not_compared(shapes, capsys):
    for report in check_all(shapes):
        assert report.ok and report.notes[0].startswith("generated")
        assert not any("published 4" in note for note in report.notes)
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(shapes), "--json"])
    found = json.loads(capsys.readouterr().out)["subsets"]
    assert end.value.code == 0 and list(found) == ["s4", "ms3", "avss"]
    for part in found.values():
        assert part["clips"] == {"train": 6, "val": 3, "test": 4} and not part["problems"]


def test_the_page_about_avsbench_is_true(tmp_path, monkeypatch, capsys):
    """Its example is what `data check` prints of such a copy; it has the published sizes, and each kind of
    problem."""
    page = (Path(__file__).parents[2] / "docs" / "avsbench.md").read_text()
    monkeypatch.chdir(tmp_path)
    binary_tree(root := Path("AVSBench", "AVSBench_object"), "ms3", ["palette", "0 and 255", "RGBA"])
    first, second, third = read_clips(root, "ms3")
    for path in (first.frames[4], first.masks[4], third.audio):
        path.unlink()
    second.frames[0].write_bytes(second.frames[0].read_bytes()[:900])
    with pytest.raises(SystemExit):
        main(["data", "check", "AVSBench"])
    assert f"\n```\n{capsys.readouterr().out}```\n" in page
    assert all(f"{n:,}" in page for counts in PUBLISHED.values() for n in counts.values())
    assert all(f"`{kind}`" in page for kind in ADVICE)

"""Where a dataset may lie: links, copies, other datasets' tables, and roots that are a part of one. Loader
and `data check` say the same."""

import re
import shutil
import tracemalloc
from pathlib import Path

import pytest
import torch
from PIL import Image

import lightavseg_core as lav
from lightavseg_core.data.avsbench import AVSBench
from lightavseg_core.data.check import check, check_all
from lightavseg_core.data.hearing import Seconds
from lightavseg_core.data.layout import read_clips, read_labels, subset_folder


def moved(path, target):
    """The file or folder goes to target, and a link to it takes its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    path.symlink_to(target)


def the_one_problem(root, subset):
    (report,) = [report for report in check_all(root) if report.subset == subset]
    (problem,) = report.problems
    return problem


def links_noted(root, subset):
    """What is told of links in a dataset that is whole."""
    report = check(root, subset)
    assert report.ok
    return [note for note in report.notes if "link" in note]


LINKS = {  # what is a link in ROOT
    "Multi-sources": "ms3",
    "Multi-sources/ms3_meta_data.csv": "ms3",
    "Multi-sources/ms3_data": "ms3",
    "Multi-sources/ms3_data/audio_wav": "ms3",
    "Single-source/s4_data": "s4",
    "Single-source/s4_data/visual_frames/val": "s4",
    "v1m": "avss",
    "label2idx.json": "avss",
    "v2/avss_val_00002/frames/3.jpg": "avss",
}


@pytest.mark.parametrize("part", LINKS)
@pytest.mark.slow
def test_a_link_to_another_disk_is_followed_and_noted_once(shapes, own_copy, tmp_path, part):
    subset, elsewhere = LINKS[part], tmp_path / "disk" / Path(part).name
    moved(own_copy / part, elsewhere)
    assert links_noted(own_copy, subset) == [
        f"{own_copy / part} is a link out of the dataset, to {elsewhere}"
    ]
    assert check(own_copy, subset).files == check(shapes, subset).files
    for before, after in zip(AVSBench(shapes, subset, "val"), AVSBench(own_copy, subset, "val"), strict=True):
        assert all(torch.equal(before[key], after[key]) for key in ("frames", "log_mel", "mask", "annotated"))


def test_links_of_links(own_copy, tmp_path):
    """Each is noted, the nearest to ROOT first; ROOT itself may be one."""
    moved(own_copy / "Multi-sources" / "ms3_data", tmp_path / "a" / "data")
    moved(own_copy / "Multi-sources", tmp_path / "b" / "Multi-sources")
    (tmp_path / "root").symlink_to(own_copy)
    root = tmp_path / "root"
    assert links_noted(root, "ms3") == [
        f"{root / 'Multi-sources'} is a link out of the dataset, to {tmp_path / 'b' / 'Multi-sources'}",
        f"{root / 'Multi-sources/ms3_data'} is a link out of the dataset, to {tmp_path / 'a' / 'data'}",
    ]
    assert not links_noted(tmp_path / "a" / ".." / "b" / "Multi-sources", "ms3")[1:]


def test_many_links_are_few_lines(own_copy, tmp_path):
    frames = [path for clip in read_clips(own_copy, "ms3", "val") for path in clip.frames]
    for number, path in enumerate(frames):
        moved(path, tmp_path / "store" / f"{number}.png")
    *first, last = links_noted(own_copy, "ms3")
    assert len(frames) == 15 and last == "and 5 more links out of the dataset"
    expected = [f"{path} is a link out of the dataset, to {path.resolve()}" for path in sorted(frames)[:10]]
    assert first == expected


def test_a_link_says_where_it_leads_without_codes_for_the_terminal(own_copy, tmp_path):
    moved(own_copy / "Multi-sources", tmp_path / "a\n\x1b[31mb")
    (note,) = links_noted(own_copy, "ms3")
    assert note.endswith(f"{tmp_path}/a\\n\\x1b[31mb")


def test_a_disk_that_is_not_there(own_copy, tmp_path):
    (own_copy / "Multi-sources" / "ms3_data").rename(tmp_path / "gone")
    (own_copy / "Multi-sources" / "ms3_data").symlink_to(tmp_path / "disk")
    report = check(own_copy, "ms3")
    assert {problem.kind for problem in report.problems} == {"missing"} and len(report.problems) == 13 * 11
    assert f"is a link out of the dataset, to {tmp_path / 'disk'}, which does not exist" in report.notes[-1]
    shutil.rmtree(own_copy / "Multi-sources")
    (own_copy / "Multi-sources").symlink_to(tmp_path / "disk")
    with pytest.raises(
        FileNotFoundError, match=rf"Multi-sources is a link to {tmp_path}/disk, which does not exist\."
    ):
        AVSBench(own_copy, "ms3")


@pytest.mark.slow
def test_a_link_in_a_circle_is_missing(own_copy):
    path = read_clips(own_copy, "ms3", "val")[0].frames[2]
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(FileNotFoundError, match=f"{path.name}: missing"):
        AVSBench(own_copy, "ms3", "val")[0]
    assert the_one_problem(own_copy, "ms3").kind == "missing"


@pytest.mark.slow
def test_a_linked_copy_one_folder_down_hides_nothing(own_copy, tmp_path):
    outside = Path(shutil.copytree(own_copy / "Multi-sources", tmp_path / "elsewhere"))
    (own_copy / "old").symlink_to(outside)
    report = check(own_copy, "ms3")
    assert report.ok and report.files == 13 * 11
    not_checked = [note for note in report.notes if "not checked" in note]
    assert not_checked == [f"not checked: {own_copy / 'old'} (generated), one folder down"]
    shutil.rmtree(own_copy / "Multi-sources")  # where it is the only one, it is meant
    assert links_noted(own_copy, "ms3") == [f"{own_copy / 'old'} is a link out of the dataset, to {outside}"]
    assert subset_folder(own_copy, "ms3") == own_copy / "old"


@pytest.mark.parametrize("name", ["label2idx.json", "events.csv", "metadata.csv"])
@pytest.mark.slow
def test_a_link_to_a_file_within_root_is_nothing_to_note(own_copy, tmp_path, name):
    """Also where the dataset lies one folder down; given itself, it is ROOT, and the link leads out."""
    root = tmp_path / "root"
    folder = Path(shutil.copytree(own_copy, root / "AVSBench_semantic", symlinks=True))
    (folder / name).rename(root / "table")
    (folder / name).symlink_to("../table")
    assert links_noted(root, "avss") == [] and read_labels(root) == read_labels(own_copy)
    assert len(AVSBench(root, "avss", "val")) == 3
    (note,) = links_noted(folder, "avss")
    assert note == f"{folder / name} is a link out of the dataset, to {root / 'table'}"


@pytest.mark.slow
def test_copies_are_a_kind_of_their_own(own_copy):
    for name in ("one", "two"):
        shutil.copytree(own_copy / "Multi-sources", own_copy / name)
    shutil.rmtree(own_copy / "Multi-sources")
    problem = the_one_problem(own_copy, "ms3")
    assert problem.kind == "copies" and "2 copies of ms3" in problem.found
    with pytest.raises(ValueError, match=f"^{re.escape(problem.found)}"):
        AVSBench(own_copy, "ms3")


def test_another_datasets_table_at_root_is_left_alone(own_copy, tmp_path):
    shutil.copytree(own_copy / "Multi-sources", root := tmp_path / "root", dirs_exist_ok=True)
    (root / "metadata.csv").write_text("file,caption\na.png,a cat\n")
    assert [report.subset for report in check_all(root)] == ["ms3"]
    words = "its metadata.csv belongs to another dataset: it lacks the columns uid, label, split"
    with pytest.raises(FileNotFoundError, match=words):
        AVSBench(root, "avss")


@pytest.mark.parametrize("sign", ["columns", "label2idx.json", "v2"])
@pytest.mark.slow
def test_what_says_that_a_table_is_of_avss(own_copy, tmp_path, sign):
    """And so what is wrong is told."""
    columns = "vid,uid,label,split\n" if sign == "columns" else "file,caption\n"
    (tmp_path / "metadata.csv").write_text(columns)
    if sign == "label2idx.json":
        shutil.copy(own_copy / sign, tmp_path)
    if sign == "v2":
        shutil.copytree(own_copy / "v1m", tmp_path / sign)
    assert the_one_problem(tmp_path, "avss").kind == "table"


@pytest.mark.parametrize("where", [".", "gt_masks/..", "link"])
def test_root_may_be_the_data_folder_however_it_is_called(own_copy, tmp_path, monkeypatch, where):
    folder = own_copy / "Multi-sources" / "ms3_data"
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path if where == "link" else folder)
    report = check(where, "ms3")
    assert report.ok and report.files == 13 * 11
    assert torch.equal(AVSBench(where, "ms3", "val")[0]["mask"], AVSBench(own_copy, "ms3", "val")[0]["mask"])
    (folder.parent / "ms3_meta_data.csv").unlink()
    with pytest.raises(FileNotFoundError, match="ms3_meta_data.csv is missing beside"):
        check(where, "ms3")


def test_a_generated_clip_that_ends_early(own_copy):
    """Pretraining and the deaf oracle use the frames that are there."""
    whole, oracle = AVSBench(own_copy, "ms3", "val"), lav.deaf_oracle(AVSBench(own_copy, "ms3", "val"))
    categories = sorted(read_labels(own_copy))
    all_seconds = Seconds(whole, categories)
    for path in (*whole.clips[0].frames[3:], *whole.clips[0].masks[3:]):
        path.unlink()
    early = AVSBench(own_copy, "ms3", "val")
    seconds = Seconds(early, categories)
    kept = [i for i in range(15) if i not in (3, 4)]
    assert torch.equal(seconds.heard, all_seconds.heard[kept])
    assert torch.equal(seconds.labels, all_seconds.labels[kept]) and seconds.labels.any()
    found = lav.deaf_oracle(early)
    assert 0 < found["M_J"] < 1 and found != oracle
    with (own_copy / "Multi-sources" / "events.csv").open("a") as file:
        # Of a clip of five seconds, there never is a second 5.
        file.write(f"{early.clips[0].name},5,disc,0,0,1,1\n")
    with pytest.raises(ValueError, match="second 5 of .*, which has 3"):
        Seconds(early, categories)


def test_half_a_jpeg_is_found(own_copy):
    """Frames are decoded coarsely by the check; whatever the loader cannot read, it finds."""
    paths = [path for clip in read_clips(own_copy, "ms3", "val") for path in clip.frames]
    for number, path in enumerate(paths):
        Image.effect_noise((97, 61), 80).convert("RGB").save(path, format="JPEG", progressive=number % 2)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * (number + 1) // len(paths)])  # the last one is whole
    for clip in read_clips(own_copy, "ms3", "val"):
        for path in clip.masks:
            Image.new("L", (97, 61)).save(path)
    broken = [problem.found.split(": ")[0] for problem in check(own_copy, "ms3").problems]
    assert broken == [str(path) for path in paths[:-1]]


@pytest.mark.slow
def test_many_clips_are_but_rows(tmp_path, monkeypatch):
    """100,000 clips open without a look at any of their files, and their list is small and stays so."""
    folder, asked = tmp_path / "Single-source", []
    folder.mkdir()
    rows = (f"clip{k:06}_1,1,thing{k % 23},train" for k in range(100_000))
    (folder / "s4_meta_data.csv").write_text("\n".join(["name,start,category,split", *rows]))
    monkeypatch.setattr("os.path.lexists", lambda path: asked.append(path) or True)
    tracemalloc.start()
    data = AVSBench(tmp_path, "s4", "train")
    opened, _ = tracemalloc.get_traced_memory()
    assert len(data) == 100_000 and not asked
    assert data.clips[::50_000][1].name == "clip050000_1" and asked
    for k in range(20_000):  # kept, they would be 70 MB
        data.clips[k]
    asked.clear()
    later, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert opened < 60e6 and later - opened < 20e6

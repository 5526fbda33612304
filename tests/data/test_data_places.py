"""Where a dataset may lie: links, copies, other datasets' tables, and roots that are a part of one. Loader and `data check` say the same."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import lightavseg_core as lav
from lightavseg_core.audio_pretraining import _windows
from lightavseg_core.data.avsbench import AVSBench
from lightavseg_core.data.check import check, check_all
from lightavseg_core.data.layout import LinkOut, read_clips, read_labels, subset_folder


def moved(path, target):
    """The file or folder goes to target, and a link to it takes its place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    path.symlink_to(target)


def the_one_problem(root, subset):
    report, = [report for report in check_all(root) if report.subset == subset]
    problem, = report.problems
    return problem


LINKS = {                                                          # what is a link in ROOT, where to, what to give instead; None: what holds both
    "Multi-sources": ("ms3", "store/Multi-sources", "store/Multi-sources"),
    "Multi-sources/ms3_data": ("ms3", "store/ms3_data", None),
    "Multi-sources/ms3_data/audio_wav": ("ms3", "store/sounds", None),
    "Single-source/s4_data": ("s4", "store/s4_data", None),
    "Single-source/s4_data/visual_frames/val": ("s4", "store/frames", None),
    "v1m": ("avss", "store/v1m", None),
}


@pytest.mark.parametrize("part", LINKS)
def test_a_linked_folder_is_one_line_that_says_what_to_do(own_copy, tmp_path, part):
    subset, target, to_give = LINKS[part]
    moved(own_copy / part, tmp_path / target)
    problem = the_one_problem(own_copy, subset)                    # and not one for each of its files
    assert problem.kind == "link"
    assert problem.found.startswith(f"{own_copy / part}: a link leads out of the dataset's folder, to {tmp_path / target}. ")
    with pytest.raises(LinkOut, match=f"^{re.escape(problem.found)}.$"):
        data = AVSBench(own_copy, subset, "val")
        [data[i] for i in range(len(data))]
    if to_give:
        assert f" Give {tmp_path / to_give}, or" in problem.found
    else:
        assert problem.found.endswith("or give a folder that holds both")
    given = tmp_path / (to_give or "")
    assert check(given, subset).ok and torch.equal(AVSBench(given, subset, "val")[0]["frames"], AVSBench(tmp_path, subset, "val")[0]["frames"])


def test_a_linked_data_folder_with_its_table_beside_it(own_copy, tmp_path):
    moved(own_copy / "Multi-sources" / "ms3_data", tmp_path / "a" / "b" / "ms3_data")
    shutil.copy(own_copy / "Multi-sources" / "ms3_meta_data.csv", tmp_path / "a" / "b")
    assert f"Give {tmp_path / 'a' / 'b'}, or" in the_one_problem(own_copy, "ms3").found and check(tmp_path / "a" / "b", "ms3").ok


def test_a_link_says_where_it_leads_without_codes_for_the_terminal(own_copy, tmp_path):
    moved(own_copy / "Multi-sources", tmp_path / "a\n\x1b[31mb")
    assert f"{tmp_path}/a\\n\\x1b[31mb" in the_one_problem(own_copy, "ms3").found


def test_a_linked_copy_one_folder_down_hides_nothing(own_copy, tmp_path):
    outside = Path(shutil.copytree(own_copy / "Multi-sources", tmp_path / "elsewhere"))
    (own_copy / "old").symlink_to(outside)
    report = check(own_copy, "ms3")
    assert report.ok and report.files == 13 * 11 and [note for note in report.notes if "not checked" in note] == \
        [f"not checked: {own_copy / 'old'} (generated), one folder down"]
    shutil.rmtree(own_copy / "Multi-sources")                      # where it is the only one, it is refused
    assert f"Give {outside}, or" in the_one_problem(own_copy, "ms3").found and check(outside, "ms3").ok
    with pytest.raises(LinkOut, match=r"old: a link leads out"):
        subset_folder(own_copy, "ms3")


@pytest.mark.parametrize("name, subset", [("label2idx.json", "avss"), ("events.csv", "avss"), ("metadata.csv", "avss")])
def test_a_link_to_a_file_within_root_is_followed(own_copy, tmp_path, name, subset):
    """Its home is ROOT, also where the dataset lies one folder down."""
    root = tmp_path / "root"
    folder = Path(shutil.copytree(own_copy, root / "AVSBench_semantic", symlinks=True))
    (folder / name).rename(root / name)
    (folder / name).symlink_to(os.path.join("..", name))
    if name == "metadata.csv":
        (root / name).rename(root / "table.csv")
        (folder / name).unlink()
        (folder / name).symlink_to("../table.csv")
    assert check(root, subset).ok and read_labels(root) == read_labels(own_copy) and len(AVSBench(root, subset, "val")) == 3
    assert the_one_problem(folder, subset).kind == "link"          # given itself, it is ROOT, and the link leads out


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
    with pytest.raises(FileNotFoundError, match="its metadata.csv is another dataset's: it has no columns uid, label, split"):
        AVSBench(root, "avss")
    for beside in ("columns", "label2idx.json", "v2"):             # each of them says that it is AVSS, and what is wrong is told
        shutil.rmtree(root)
        root.mkdir()
        (root / "metadata.csv").write_text("file,caption\n" if beside != "columns" else "vid,uid,label,split\n")
        if beside != "columns":
            shutil.copytree(own_copy / "v1m", root / beside) if beside == "v2" else shutil.copy(own_copy / beside, root)
        assert the_one_problem(root, "avss").kind == "table"


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
    for path in (*whole.clips[0].frames[3:], *whole.clips[0].masks[3:]):
        path.unlink()
    early = AVSBench(own_copy, "ms3", "val")
    categories = sorted(read_labels(own_copy))
    (heard, labels), (all_heard, all_labels) = _windows(early, categories), _windows(whole, categories)
    kept = [i for i in range(15) if i not in (3, 4)]
    assert torch.equal(heard, all_heard[kept]) and torch.equal(labels, all_labels[kept]) and labels.any()
    found = lav.deaf_oracle(early)
    assert 0 < found["M_J"] < 1 and found != oracle
    with (own_copy / "Multi-sources" / "events.csv").open("a") as file:
        file.write(f"{early.clips[0].name},5,bell,0,0,1,1\n")      # of a clip of five seconds, there never is a second 5
    with pytest.raises(ValueError, match="second 5 of .*, which has 3"):
        _windows(early, categories)


def test_half_a_jpeg_is_found(own_copy):
    """Frames are decoded coarsely by the check; whatever the loader cannot read, it finds."""
    paths = [path for clip in read_clips(own_copy, "ms3", "val") for path in clip.frames]
    for number, path in enumerate(paths):
        Image.effect_noise((97, 61), 80).convert("RGB").save(path, format="JPEG", progressive=number % 2)
        content = path.read_bytes()
        path.write_bytes(content[:len(content) * (number + 1) // len(paths)])                 # the last one is whole
    for path in (path for clip in read_clips(own_copy, "ms3", "val") for path in clip.masks):
        Image.new("L", (97, 61)).save(path)
    broken = [problem.found.split(": ")[0] for problem in check(own_copy, "ms3").problems]
    assert broken == [str(path) for path in paths[:-1]]

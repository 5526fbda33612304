"""Damaged datasets: each kind of damage is named in one clear line by the loader, and all of them at once by
`lightavseg data check`."""

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lightavseg_core as lav
from lightavseg_core.cli import main
from lightavseg_core.data.avsbench import AVSBench
from lightavseg_core.data.check import ADVICE, check
from lightavseg_core.data.images import open_image
from lightavseg_core.data.layout import read_clips

META = {"s4": "Single-source/s4_meta_data.csv", "ms3": "Multi-sources/ms3_meta_data.csv"}


def clip(root, subset="ms3", split="val", index=0):
    return read_clips(root, subset, split)[index]


def write_png(path, side=64, pixels=None, *more):
    """An RGB picture of side x side pixels, by hand, with further chunks (kind, data) before the pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(pixels or (b"\0" * (3 * side + 1)) * side)
    chunks = [(b"IHDR", header), *more, (b"IDAT", pixels), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks))


def huge_png(path):
    """A header that promises 60,000 x 60,000 pixels."""
    write_png(path, 60_000, b"\0" * 1000)


BOMB = b"a\0\0" + zlib.compress(b"x" * 100_000_000, 9)  # 97 KB


def huge_note(path):
    write_png(path, 64, None, (b"zTXt", BOMB))


def huge_profile(path):
    write_png(path, 64, None, (b"iCCP", BOMB))


def linked_bomb(path):
    bomb = Path(*path.parts[: path.parts.index("shapes")]) / "bomb.png"
    huge_png(bomb)
    path.unlink()
    path.symlink_to(bomb)


def gone(path):
    path.unlink()


def folder(path):
    path.unlink()
    path.mkdir()


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def cut(path):
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])


def shortened(length):
    return lambda path: path.write_bytes(path.read_bytes()[:length])


def text(content):
    return lambda path: path.write_text(content)


HUGE = "60000|3600000000|limit"
PROGRAM = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
DAMAGE = {  # what happens to a file of a clip, which of them it is, what is said
    "no frame": (gone, 2, "missing"),
    "frame cut": (cut, 0, "not a readable picture"),
    "frame is text": (text("<html>not found</html>"), 1, "not a readable picture"),
    "frame is empty": (shortened(0), 4, "not a readable picture"),
    "frame is a folder": (folder, 4, "missing; a folder, a pipe or a device is in its place"),
    "frame is huge": (huge_png, 3, HUGE),
    "frame with a huge note": (huge_note, 3, "too large"),
    "frame with a huge profile": (huge_profile, 3, "too large"),
    "frame is a program": (text(PROGRAM), 3, "cannot identify"),
    "frame is a pipe": (pipe, 2, "missing"),
    "frame is a device": (device, 2, "missing; a folder, a pipe or a device is in its place"),
    "frame is a link to a bomb": (linked_bomb, 4, HUGE),
    "no mask": (gone, 1, "missing"),
    "mask cut": (cut, 1, "not a readable picture"),
    "mask is huge": (huge_png, 0, HUGE),
    "mask is a pipe": (pipe, 1, "missing"),
    "mask is a device": (device, 0, "missing; a folder, a pipe or a device is in its place"),
    "no sound": (gone, None, "no such sound file"),
    "sound is empty": (shortened(44), None, "no sound samples"),
    "sound has no bytes": (shortened(0), None, "cannot be decoded"),
    "sound is text": (text("Sorry, this video is not available.\n" * 20), None, "cannot be decoded"),
    "sound is a pipe": (pipe, None, "expected a regular file"),
    "sound is a device": (device, None, "is a pipe or a device"),
}


@pytest.mark.parametrize("subset", ["ms3", "avss"])
@pytest.mark.parametrize("case", DAMAGE)
@pytest.mark.slow
def test_damage_is_named_in_one_line(own_copy, case, subset):
    damage, which, words = DAMAGE[case]
    part, files = case.replace("no ", "").split()[0], clip(own_copy, subset)
    path = {"frame": files.frames, "mask": files.masks, "sound": {None: files.audio}}[part][which]
    damage(path)
    data = AVSBench(own_copy, subset, "val")
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        data[0]
    said = str(caught.value)
    assert str(path) in said and "\n" not in said and len(said) < 400
    assert data[1]["frames"].shape[0] == 5  # the others can be read
    report = check(own_copy, subset)
    (problem,) = report.problems
    assert not report.ok and (problem.clip, problem.part) == (files.name, part)
    assert str(path) in problem.found and problem.kind in ADVICE


def test_frames_of_different_sizes(own_copy):
    Image.new("RGB", (32, 32)).save(clip(own_copy).frames[3])
    with pytest.raises(ValueError, match="frames differ in size"):
        AVSBench(own_copy, "ms3", "val", size=32)[0]
    assert [problem.kind for problem in check(own_copy, "ms3").problems] == ["size"]


def test_a_changed_byte_never_ends_in_anything_but_one_line(own_copy, tmp_path):
    """Pictures in which a few bytes were changed at random are read, or named."""
    rng, outcomes = np.random.default_rng(0), {True: 0, False: 0}
    whole = [clip(own_copy).frames[0].read_bytes(), clip(own_copy, "avss").frames[0].read_bytes()]
    for trial in range(300):
        content, path = bytearray(whole[trial % 2]), tmp_path / f"{trial}.png"
        header = min(len(content), 200)
        for place in rng.integers(0, header if trial % 3 else len(content), 3):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            open_image(path)
            outcomes[True] += 1
        except ValueError as error:
            outcomes[False] += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert min(outcomes.values()) > 20


def edit(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.slow
def test_the_subsets_own_folder_is_a_root_too(shapes):
    for subset, folder in (("s4", "Single-source"), ("ms3", "Multi-sources")):
        outer, inner = AVSBench(shapes, subset, "test"), AVSBench(shapes / folder, subset, "test")
        assert all(torch.equal(outer[0][key], inner[0][key]) for key in ("frames", "log_mel"))
        assert lav.deaf_oracle(outer) == lav.deaf_oracle(inner)
        assert inner.with_sound("swapped").donor(0) == outer.with_sound("swapped").donor(0)
        assert check(shapes / folder, subset).ok


def test_links_that_stay_inside_are_followed(own_copy, tmp_path):
    """Files, and ROOT itself, may be links; nothing is told of them."""
    (tmp_path / "root").symlink_to(own_copy)
    first, second = read_clips(own_copy, "ms3", "val")[:2]
    first.frames[0].unlink()
    first.frames[0].symlink_to(second.frames[0])
    report = check(tmp_path / "root", "ms3")
    assert report.ok and not [note for note in report.notes if "link" in note]
    there, here = AVSBench(tmp_path / "root", "ms3", "val"), AVSBench(own_copy, "ms3", "val")
    assert torch.equal(there[0]["frames"][0], here[1]["frames"][0])


def test_one_broken_table_does_not_hide_the_other_subsets(own_copy, capsys):
    edit(own_copy / META["s4"], lambda text: text.replace(b"split", b"part", 1))
    (own_copy / "label2idx.json").unlink()
    clip(own_copy, "ms3").audio.unlink()
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(own_copy), "--json"])
    found = json.loads(capsys.readouterr().out)["subsets"]
    assert end.value.code == 1
    (s4,), (ms3,), (avss,) = (found[subset]["problems"] for subset in ("s4", "ms3", "avss"))
    assert (s4["kind"], s4["part"]) == (avss["kind"], avss["part"]) == ("table", "metadata")
    assert (ms3["kind"], ms3["part"]) == ("missing", "sound")
    assert "has no column split" in s4["found"] and "label2idx.json" in avss["found"]


@pytest.fixture
def spoiled(own_copy):
    """A copy of MS3 with much that is wrong; and what `data check` must say: clip or line, kind, words."""
    clips = read_clips(own_copy, "ms3")
    clips[0].frames[1].unlink()
    cut(clips[0].masks[2])
    cut(clips[3].frames[0])
    shortened(44)(clips[5].audio)
    shortened(20)(clips[9].audio)
    Image.new("RGB", (48, 48)).save(clips[8].frames[4])
    huge_png(clips[12].masks[4])
    shortened(44 + 2 * 16_000)(clips[11].audio)  # too short, but not wrong
    edit(own_copy / META["ms3"], lambda text: text + b"../up,0,val\nunused,0,dev\n")
    return own_copy, {
        ("ms3_meta_data.csv, line 15", "line", "../up"),
        (clips[0].name, "missing", clips[0].frames[1].name),
        (clips[0].name, "broken", clips[0].masks[2].name),
        (clips[3].name, "broken", clips[3].frames[0].name),
        (clips[5].name, "sound", clips[5].audio.name),
        (clips[9].name, "broken", clips[9].audio.name),
        (clips[8].name, "size", "48"),
        (clips[12].name, "broken", clips[12].masks[4].name),
    }


def test_check_lists_everything_at_once(spoiled, capsys):
    root, expected = spoiled
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(root), "--subset", "ms3", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert end.value.code == 1 and report["clips"] == {"train": 6, "val": 3, "test": 4}
    planted = [problem for problem in report["problems"] if problem["clip"] != "unused"]
    assert len(planted) == len(expected)
    for name, kind, words in expected:
        (problem,) = [p for p in planted if (p["clip"], p["kind"]) == (name, kind)]
        assert words in problem["found"] and problem["to_do"] == ADVICE[kind] and "\n" not in problem["found"]
    for words in ("1 sound shorter than the clip", "other than train"):
        assert any(words in note for note in report["notes"])
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_a_report_for_a_reader_says_the_same(spoiled, capsys):
    report, folder = check(spoiled[0], "ms3"), spoiled[0] / "Multi-sources"
    with pytest.raises(SystemExit):
        main(["data", "check", str(spoiled[0]), "--subset", "ms3"])
    lines = capsys.readouterr().out.splitlines()
    for problem in report.problems:
        assert f"    {problem.part}: {problem.found.replace(f'{folder}/', '')}" in lines
    assert lines[-1] == f"ms3: {len(report.problems)} problems; paths are under {folder}"
    start = lines.index("") + 2  # behind the head of the table
    table = [line.split()[:2] for line in lines[start : lines.index("", start)]]
    assert table == [[kind, str(parts.total())] for kind, parts in report.summary().items()]
    assert sum(int(number) for _, number in table) == len(report.problems)
    places = [lines.index(f"{kind}:") for kind, _ in table]
    assert places == sorted(places)


@pytest.mark.parametrize("options", [(), ("--subset", "ms3"), ("--json",), ("--subset", "ms3", "--json")])
@pytest.mark.slow
def test_one_rule_for_the_exit_code(shapes, tmp_path, capsys, options):
    """0 where nothing is wrong, 1 where something is, a table too, and 2 where there is no dataset: with
    --subset as without."""
    (tmp_path / "Multi-sources").mkdir()
    (tmp_path / META["ms3"]).write_text("name,start,part\n")
    broken = (tmp_path, 1, "has no column split")
    for root, code, words in (broken, (tmp_path / "nowhere", 2, "no such folder"), (shapes, 0, "generated")):
        with pytest.raises(SystemExit) as end:
            main(["data", "check", str(root), *options])
        out, error = capsys.readouterr()
        assert end.value.code == code and words in (error if code == 2 else out)
        if code == 2:
            assert error.startswith("lightavseg: ") and len(error.splitlines()) == 1 and not out
        if code == 1 and "--json" not in options:
            folder = tmp_path / "Multi-sources"
            assert out.startswith(f"ms3 in {folder}: clips unknown, no file read\n")
            assert out.endswith(f"ms3: 1 problem; paths are under {folder}\n")

"""Damaged datasets: each kind of damage is named in one clear line by the loader, and all of them at once by `lightavseg data check`."""

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
from lightavseg_core.data.check import ADVICE, check, check_all
from lightavseg_core.data.images import open_image
from lightavseg_core.data.layout import read_clips, read_events, read_labels

META = {"s4": "Single-source/s4_meta_data.csv", "ms3": "Multi-sources/ms3_meta_data.csv", "avss": "metadata.csv"}


def clip(root, subset="ms3", split="val", index=0):
    return read_clips(root, subset, split)[index]


def write_png(path, side=64, pixels=None, *more):
    """An RGB picture of side x side pixels, by hand, with further chunks (kind, data) before the pixels."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = pixels or (b"\0" * (3 * side + 1)) * side
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunk(*one) for one in more)
                     + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b""))


def huge_png(path):
    """A header that promises 60,000 x 60,000 pixels."""
    write_png(path, 60_000, b"\0" * 1000)


BOMB = zlib.compress(b"x" * 100_000_000, 9)                        # 97 KB


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def linked_bomb(path):
    bomb = Path(*path.parts[: path.parts.index("shapes")]) / "bomb.png"
    huge_png(bomb)
    path.unlink()
    path.symlink_to(bomb)


def cut(path):
    path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 2])


DAMAGE = {                                                         # which file of a clip, what happens to it, what is said
    "no frame": (lambda c: c.frames[2], lambda p: p.unlink(), "missing"),
    "frame cut": (lambda c: c.frames[0], cut, "not a readable picture"),
    "frame is text": (lambda c: c.frames[1], lambda p: p.write_text("<html>not found</html>"), "not a readable picture"),
    "frame is empty": (lambda c: c.frames[4], lambda p: p.write_bytes(b""), "not a readable picture"),
    "frame is a folder": (lambda c: c.frames[4], lambda p: (p.unlink(), p.mkdir()), "missing; in its place is a folder"),
    "frame is huge": (lambda c: c.frames[3], huge_png, "60000|3600000000|limit"),
    "no mask": (lambda c: c.masks[1], lambda p: p.unlink(), "missing"),
    "mask cut": (lambda c: c.masks[1], cut, "not a readable picture"),
    "frame with a huge note": (lambda c: c.frames[3], lambda p: write_png(p, 64, None, (b"zTXt", b"a\0\0" + BOMB)), "too large"),
    "frame with a huge profile": (lambda c: c.frames[3], lambda p: write_png(p, 64, None, (b"iCCP", b"a\0\0" + BOMB)), "too large"),
    "frame is a program": (lambda c: c.frames[3], lambda p: p.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "cannot identify"),
    "frame is a pipe": (lambda c: c.frames[2], pipe, "missing"),
    "mask is a pipe": (lambda c: c.masks[1], pipe, "missing"),
    "sound is a pipe": (lambda c: c.audio, pipe, "not a regular file"),
    "frame is a device": (lambda c: c.frames[2], device, "missing; in its place is a folder, a pipe or a device"),
    "mask is a device": (lambda c: c.masks[0], device, "missing; in its place is a folder, a pipe or a device"),
    "sound is a device": (lambda c: c.audio, device, "not a regular file but a pipe or a device"),
    "frame is a link to a bomb": (lambda c: c.frames[4], linked_bomb, "60000|3600000000|limit"),
    "mask is huge": (lambda c: c.masks[0], huge_png, "60000|3600000000|limit"),
    "no sound": (lambda c: c.audio, lambda p: p.unlink(), "no such sound file"),
    "sound is empty": (lambda c: c.audio, lambda p: p.write_bytes(p.read_bytes()[:44]), "no sound samples"),
    "sound has no bytes": (lambda c: c.audio, lambda p: p.write_bytes(b""), "cannot be decoded"),
    "sound is text": (lambda c: c.audio, lambda p: p.write_text("Sorry, this video is not available.\n" * 20), "cannot be decoded"),
}


@pytest.mark.parametrize("subset", ["ms3", "avss"])
@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named_in_one_line(own_copy, case, subset):
    which, damage, words = DAMAGE[case]
    path = which(clip(own_copy, subset))
    damage(path)
    data = AVSBench(own_copy, subset, "val")
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        data[0]
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert data[1]["frames"].shape[0] == 5                         # the others can be read
    report = check(own_copy, subset)
    problem, = report.problems
    assert problem.clip == clip(own_copy, subset).name and str(path) in problem.found and not report.ok and problem.kind in ADVICE
    assert problem.part == case.replace("no ", "").split()[0]


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
        for place in rng.integers(0, min(len(content), 200 if trial % 3 else len(content)), 3):
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


TABLES = {                                                         # what happens to ms3_meta_data.csv, what is said
    "long field": (lambda text: text + b"x" * 200_000 + b",0,val\n", "line 15: not a CSV text file .field larger than field limit"),
    "long names": (lambda text: text + b"x" * 1000 + b",0,val\n", "line 15: 'x+' is not a plain name"),
    "many columns": (lambda text: text.replace(b"split", b"c," * 100_000, 1), "has no column split; found .'name', 'start', 'c', "),
    "zeros": (lambda text: text + b"a\0b,0,val\n", "line 15: 'a.x00b' is not a plain name"),
    "a line in a name": (lambda text: text + b'"a\nb",0,val\n', "line 16: 'a.nb' is not a plain name"),
    "after empty lines": (lambda text: text + b"\n\n..,0,val\n", r"line 17: '\.\.' is not a plain name"),
    "Latin-1": (lambda text: text + b"caf\xe9,0,val\n", "line 15: not a CSV text file in UTF-8"),
    "17 MB": (lambda text: text + b"x,0,val\n" * 2_200_000, "at most 16,777,216 are read"),
    "no split column": (lambda text: text.replace(b"split", b"part", 1), "has no column split"),
    "semicolons": (lambda text: text.replace(b",", b";"), "has no column"),
    "empty": (lambda text: b"", "has no column"),
    "binary": (lambda text: b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not a CSV text file"),
    "upwards": (lambda text: text + b"..,0,val\n", r"line 15: '\.\.' is not a plain name"),
    "upwards and down": (lambda text: text + b"../../secret,0,val\n", "line 15: '../../secret' is not a plain name"),
    "a detour": (lambda text: text + b"a/../ms3_val_00000,0,val\n", "line 15: 'a/../ms3_val_00000' is not a plain name"),
    "absolute": (lambda text: text + b"/etc/passwd,0,val\n", "line 15: '/etc/passwd' is not a plain name"),
    "backslashes": (lambda text: text + b"..\\secret,0,val\n", "line 15: .* is not a plain name"),
    "short line": (lambda text: text + b"name\n", "line 15: '' is not a plain name"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_metadata_file_that_is_wrong(shapes, tmp_path, case):
    change, words = TABLES[case]
    path = tmp_path / META["ms3"]
    path.parent.mkdir()
    path.write_bytes(change((shapes / META["ms3"]).read_bytes()))
    with pytest.raises(ValueError, match=words) as caught:
        AVSBench(tmp_path, "ms3", "val")
    assert "ms3_meta_data.csv" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_metadata_file_of_too_many_clips(shapes, monkeypatch):
    monkeypatch.setattr("lightavseg_core.data.layout.MAX_CLIPS", 9)
    with pytest.raises(ValueError, match="ms3_meta_data.csv, line 11: names more than 9 clips"):
        AVSBench(shapes, "ms3", "val")


def test_an_unknown_kind_of_avss_clip(shapes, tmp_path):
    (tmp_path / "metadata.csv").write_bytes((shapes / "metadata.csv").read_bytes().replace(b"avss_val_00001,v1m", b"avss_val_00001,v3"))
    with pytest.raises(ValueError, match="metadata.csv, line 9: label 'v3' is none of v1s, v1m, v2"):
        AVSBench(tmp_path, "avss", "train")


@pytest.mark.parametrize("subset", ["s4", "ms3", "avss"])
def test_byte_order_mark_windows_lines_and_more_columns(own_copy, subset):
    before = read_clips(own_copy, subset)
    edit(own_copy / META[subset], lambda text: b"\xef\xbb\xbf" + b"\r\n".join(b"note, x," + line for line in text.splitlines()) + b"\r\n\r\n")
    assert read_clips(own_copy, subset) == before and check(own_copy, subset).ok


def test_the_subsets_own_folder_is_a_root_too(shapes):
    for subset, folder in (("s4", "Single-source"), ("ms3", "Multi-sources")):
        outer, inner = AVSBench(shapes, subset, "test"), AVSBench(shapes / folder, subset, "test")
        assert torch.equal(outer[0]["frames"], inner[0]["frames"]) and torch.equal(outer[0]["log_mel"], inner[0]["log_mel"])
        assert lav.deaf_oracle(outer) == lav.deaf_oracle(inner) and inner.with_sound("swapped").donor(0) == outer.with_sound("swapped").donor(0)
        assert check(shapes / folder, subset).ok


def test_unknown_names(shapes, tmp_path):
    for arguments, words in (((shapes, "s5", "val"), "unknown subset 's5'; known: s4, ms3, avss"),
                             ((shapes, "ms3", "validation"), "unknown split 'validation'; known: train, val, test")):
        with pytest.raises(ValueError, match=words):
            AVSBench(*arguments)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        AVSBench(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"ms3_meta_data\.csv.*lightavseg data make"):
        AVSBench(tmp_path)
    (tmp_path / "Multi-sources").mkdir()
    (tmp_path / META["ms3"]).write_text("name,start,split\n")
    with pytest.raises(ValueError, match="no val clips"):
        AVSBench(tmp_path, "ms3", "val")
    assert [problem.kind for problem in check(tmp_path, "ms3").problems] == ["empty"]


def test_label_tables(own_copy):
    path = own_copy / "label2idx.json"
    assert read_labels(own_copy)["background"] == 0
    for text in ("{", "[1, 2]", '{"background": 0, "bell": 2}', '{"background": "none"}', '{"a": 0, "b": 0}', "{}", "[" * 100_000,
                 '{"a": Infinity}', '{"a": ' + "9" * 5000 + "}", '{"a": "' + "x" * 100_000 + '"}', " " * (17 << 20),
                 json.dumps({str(i): i for i in range(256)})):
        path.write_text(text)
        with pytest.raises(ValueError, match="label2idx.json: ") as caught:
            AVSBench(own_copy, "avss")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    path.write_bytes(b'{"caf\xe9": 0}')
    with pytest.raises(ValueError, match="label2idx.json, line 1: not a JSON text file in UTF-8"):
        AVSBench(own_copy, "avss")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="label2idx.json: missing"):
        AVSBench(own_copy, "avss")


def test_events_that_are_wrong(own_copy):
    with (own_copy / "Multi-sources" / "events.csv").open("a") as file:
        file.write("ms3_val_00000,two,bell,0,0,1,1\n")
    with pytest.raises(ValueError, match="events.csv, line .*'two'"):
        read_events(own_copy, "ms3")
    assert [problem.clip for problem in check(own_copy, "ms3").problems] == ["events.csv"]


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
    assert end.value.code == 1 and [(p["kind"], p["part"]) for subset in ("s4", "ms3", "avss") for p in found[subset]["problems"]] == \
        [("table", "metadata"), ("missing", "sound"), ("table", "metadata")]
    assert "has no column split" in found["s4"]["problems"][0]["found"] and "label2idx.json" in found["avss"]["problems"][0]["found"]


def test_check_lists_everything_at_once(own_copy, capsys):
    clips = read_clips(own_copy, "ms3")
    clips[0].frames[1].unlink()
    cut(clips[0].masks[2])
    cut(clips[3].frames[0])
    clips[5].audio.write_bytes(clips[5].audio.read_bytes()[:44])
    clips[9].audio.write_bytes(clips[9].audio.read_bytes()[:20])
    Image.new("RGB", (48, 48)).save(clips[8].frames[4])
    huge_png(clips[12].masks[4])
    clips[11].audio.write_bytes(clips[11].audio.read_bytes()[:44 + 2 * 16_000])                   # too short, but not wrong
    edit(own_copy / META["ms3"], lambda text: text + b"../up,0,val\nunused,0,dev\n")
    before = {path: path.stat().st_mtime_ns for path in own_copy.rglob("*")}
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(own_copy), "--subset", "ms3", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert end.value.code == 1 and report["clips"] == {"train": 6, "val": 3, "test": 4}
    expected = {("ms3_meta_data.csv, line 15", "line", "../up"), (clips[0].name, "missing", clips[0].frames[1].name),
                (clips[0].name, "broken", clips[0].masks[2].name), (clips[3].name, "broken", clips[3].frames[0].name),
                (clips[5].name, "sound", clips[5].audio.name), (clips[9].name, "broken", clips[9].audio.name),
                (clips[8].name, "size", "48"), (clips[12].name, "broken", clips[12].masks[4].name)}
    planted = [problem for problem in report["problems"] if problem["clip"] != "unused"]
    assert len(planted) == len(expected)
    for name, kind, words in expected:
        problem, = [p for p in planted if (p["clip"], p["kind"]) == (name, kind)]
        assert words in problem["found"] and problem["to_do"] == ADVICE[kind] and "\n" not in problem["found"]
    assert any("1 sound shorter than the clip" in note for note in report["notes"]) and any("other than train" in note for note in report["notes"])
    with pytest.raises(SystemExit):
        main(["data", "check", str(own_copy), "--subset", "ms3"])
    lines = capsys.readouterr().out.splitlines()
    folder = own_copy / "Multi-sources"
    named = [(problem["part"], problem["found"].replace(f"{folder}/", "")) for problem in report["problems"]]
    assert all(f"    {part}: {found}" in lines for part, found in named) and lines[-1] == f"ms3: {len(named)} problems; paths are under {folder}"
    table = [line.split() for line in lines[lines.index("") + 2:lines.index("", lines.index("") + 1)]]
    assert {row[0]: int(row[1]) for row in table} == {kind: sum(parts.values()) for kind, parts in report["summary"].items()}
    assert sum(int(row[1]) for row in table) == len(named) and lines.index(table[0][0] + ":") < lines.index(table[-1][0] + ":")
    assert before == {path: path.stat().st_mtime_ns for path in own_copy.rglob("*")}


@pytest.mark.parametrize("options", [(), ("--subset", "ms3"), ("--json",), ("--subset", "ms3", "--json")])
def test_one_rule_for_the_exit_code(shapes, tmp_path, capsys, options):
    """0 where nothing is wrong, 1 where something is, a table too, and 2 where there is no dataset: with --subset as without."""
    (tmp_path / "Multi-sources").mkdir()
    (tmp_path / META["ms3"]).write_text("name,start,part\n")
    for root, code, words in ((tmp_path, 1, "has no column split"), (tmp_path / "nowhere", 2, "no such folder"), (shapes, 0, "generated")):
        with pytest.raises(SystemExit) as end:
            main(["data", "check", str(root), *options])
        out, error = capsys.readouterr()
        assert end.value.code == code and words in (error if code == 2 else out)
        if code == 2:
            assert error.startswith("lightavseg: ") and len(error.splitlines()) == 1 and not out
        if code == 1 and "--json" not in options:
            assert out.startswith(f"ms3 in {tmp_path / 'Multi-sources'}: its clips are unknown, and no file was read\n")
            assert out.endswith(f"ms3: 1 problem; paths are under {tmp_path / 'Multi-sources'}\n")

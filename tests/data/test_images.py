"""The one reader of pictures: EXIF orientation and grey of many bits, alike in the dataset, in `data check`
and in prediction. All pictures are made here."""

import io
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from lightavseg_core.data.avsbench import AVSBench
from lightavseg_core.data.check import check
from lightavseg_core.data.images import MEAN, STD, frame_size, open_image, read_frame, read_picture
from lightavseg_core.data.layout import read_clips
from lightavseg_core.data.masks import read_mask
from lightavseg_core.video.inputs import pictures_of

ORIENTATION = 0x0112
STORED = {  # how an upright array lies in a file; in the comments EXIF's words for row 0 and column 0
    1: lambda a: a,  # top, left
    2: lambda a: a[:, ::-1],  # top, right
    3: lambda a: a[::-1, ::-1],  # bottom, right
    4: lambda a: a[::-1],  # bottom, left
    5: lambda a: a.swapaxes(0, 1),  # left, top
    6: lambda a: a[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda a: a[::-1].swapaxes(0, 1),  # left, bottom
}
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")


def scene(height=64, width=64):
    """A picture that looks different from each side."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[: height // 2, : width // 4] = 250, 30, 30
    pixels[: height // 4, width // 2 :] = 30, 30, 250
    return pixels


def save(path, pixels, orientation, kind="JPEG"):
    """Upright pixels in a file that is stored in another orientation, and says so."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    stored = np.ascontiguousarray(STORED[orientation](pixels))
    Image.fromarray(stored).save(path, format=kind, exif=exif, **options)
    return path


def shown(frame):
    """A normalised frame back to (H, W, 3), 0 to 255."""
    return ((frame * STD + MEAN) * 255).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_is_read_upright(tmp_path, orientation, kind):
    upright = scene(40, 72)
    path = save(tmp_path / "picture.png", upright, orientation, kind)
    frame = read_frame(path).permute(1, 2, 0).numpy().astype(int)
    assert frame.shape == upright.shape and np.abs(frame - upright).mean() < (2 if kind == "JPEG" else 0.01)
    _, predicted = next(pictures_of(path, Fraction(1)))
    assert np.array_equal(predicted, frame)
    assert frame_size(path) == ((72, 40), orientation)


@pytest.mark.parametrize("orientation", STORED)
def test_frames_that_are_stored_turned_fit_their_upright_masks(own_copy, orientation):
    """Square frames, of which nothing but their pixels could tell."""
    clip = read_clips(own_copy, "ms3", "val")[0]
    for frame, mask in zip(clip.frames, clip.masks, strict=True):
        save(frame, scene(), orientation)
        Image.fromarray((scene()[..., 0] > 200).astype(np.uint8)).save(mask)
    item = AVSBench(own_copy, "ms3", "val")[0]
    red = torch.from_numpy(np.stack([shown(frame)[..., 0] > 200 for frame in item["frames"]]))
    assert (red == item["mask"].bool()).float().mean() > 0.999
    report = check(own_copy, "ms3")
    assert report.ok
    notes = [note for note in report.notes if "EXIF" in note]
    names = ", ".join(str(path.relative_to(report.folder)) for path in clip.frames)
    expected = f"5 frames carry an EXIF rotation; they are turned upright when read: {names}"
    assert notes == ([expected] if orientation > 1 else [])


def test_sizes_are_compared_after_turning(own_copy):
    first, second = read_clips(own_copy, "ms3", "val")[:2]
    for clip in (first, second):
        for number, (frame, mask) in enumerate(zip(clip.frames, clip.masks, strict=True)):
            save(frame, scene(48, 96), (1, 3, 6, 8, 5)[number])  # three of them lie on their sides
            Image.new("L", (96, 48), 255).save(mask)
    assert check(own_copy, "ms3").ok and AVSBench(own_copy, "ms3", "val")[0]["frames"].shape == (5, 3, 48, 96)
    Image.new("L", (48, 96), 255).save(second.masks[2])  # as its frame is stored, not as it is shown
    with pytest.raises(ValueError, match="48 x 96 pixels, but its frame is 96 x 48"):
        AVSBench(own_copy, "ms3", "val")[1]
    (problem,) = check(own_copy, "ms3").problems
    assert (problem.kind, problem.part) == ("size", "mask")
    assert problem.found.endswith("is 48 x 96 pixels, but its frame is 96 x 48")


@pytest.mark.parametrize("orientation", STORED)
def test_masks_carry_orientations_too(own_copy, orientation):
    clip = read_clips(own_copy, "s4", "val")[0]
    upright = (scene(40, 72)[..., 0] > 200) * np.uint8(255)
    save(clip.masks[3], upright, orientation, "PNG")
    assert np.array_equal(read_mask(clip.masks[3], "s4", 1), upright > 0)
    for frame in clip.frames:
        Image.new("RGB", (72, 40)).save(frame)
    for mask in clip.masks[:3] + clip.masks[4:]:
        Image.new("L", (72, 40)).save(mask)
    report = check(own_copy, "s4")
    assert report.ok
    name = clip.masks[3].relative_to(report.folder)
    said = f"1 mask carries an EXIF rotation; it is turned upright when read: {name}"
    assert [note for note in report.notes if "EXIF" in note] == ([said] if orientation > 1 else [])


@pytest.mark.parametrize(
    "note", [b"", b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\xff\xff"]
)
def test_a_broken_note_spoils_no_picture(tmp_path, note):
    path = tmp_path / "picture.jpg"
    Image.fromarray(scene()).save(path, exif=note)
    assert read_picture(path).shape == (64, 64, 3) and frame_size(path) == ((64, 64), 1)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for kind in FORMATS:
        Image.fromarray(scene(40, 72)).save(tmp_path / "picture", format=kind, exif=exif)
        assert frame_size(tmp_path / "picture") == ((72, 40), 1)


def tiff(pixels, order, bits=16, signed=False):
    """A TIFF of one strip, by hand: order "<" or ">"."""
    height, width = pixels.shape
    if bits == 12:  # three bytes hold two pixels
        pairs = pixels.reshape(-1, 2).astype(np.uint32)
        packed = pairs[:, 0] << 12 | pairs[:, 1]
        body = packed.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    else:
        body = pixels.astype(np.dtype(pixels.dtype).newbyteorder(order)).tobytes()
    fields = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    fields += [(279, len(body)), (339, 2 if signed else 3 if pixels.dtype.kind == "f" else 1)]

    def of(kind, *values):
        return np.array(values, kind).astype(np.dtype(kind).newbyteorder(order)).tobytes()

    table = of("u2", len(fields))
    for tag, value in fields:
        table += of("u2", tag, 4) + of("u4", 1, value)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + of("u4", 8 + len(body)) + body + table + of("u4", 0)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pgm(pixels, white=65535):
    height, width = pixels.shape
    return f"P5 {width} {height} {white}\n".encode() + pixels.astype(">u2").tobytes()


EDGES = [0, 127, 128, 129, 255, 256, 257, 385, 386, 65406, 65407, 65535]
RAMP = np.concatenate([EDGES, np.arange(0, 65536, 13)])[:5040].reshape(56, 90).astype(np.uint16)
GREY = {
    "PNG": png,
    "TIFF, little endian": lambda pixels: tiff(pixels, "<"),
    "TIFF, big endian": lambda pixels: tiff(pixels, ">"),
    "PGM": pgm,
}


@pytest.mark.parametrize("kind", GREY)
def test_grey_of_16_bits_is_scaled_by_its_range(tmp_path, kind):
    path = tmp_path / "grey.png"
    path.write_bytes(GREY[kind](RAMP))
    expected = np.array([[round(value / 257) for value in row] for row in RAMP.tolist()])
    found = read_picture(path)
    assert found.dtype == np.uint8 and found.shape == (*RAMP.shape, 3)
    assert all(np.array_equal(found[..., channel], expected) for channel in range(3))
    assert frame_size(path) == (RAMP.shape[::-1], 1)
    assert np.array_equal(next(pictures_of(path, Fraction(1)))[1], found)
    assert np.array_equal(read_mask(path, "ms3", 1), RAMP > 0)  # of a mask, all above 0 is foreground


def test_grey_of_12_bits_is_scaled_by_its_range(tmp_path):
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    (tmp_path / "grey.tif").write_bytes(tiff(ramp, "<", bits=12))
    expected = np.array([[round(value * 255 / 4095) for value in row] for row in ramp.tolist()])
    assert np.array_equal(read_picture(tmp_path / "grey.tif")[..., 0], expected)
    (tmp_path / "grey.pgm").write_bytes(pgm(ramp, white=4095))
    assert np.abs(read_picture(tmp_path / "grey.pgm")[..., 0] - expected).max() <= 1


NO_RANGE = {
    "32 bits": (tiff(RAMP.astype(np.uint32), "<", bits=32), "signed or 32-bit numbers"),
    "signed, 32 bits": (tiff(RAMP.astype(np.int32), ">", 32, signed=True), "signed or 32-bit numbers"),
    "signed, 16 bits": (tiff((RAMP // 2).astype(np.int16), "<", signed=True), "signed or 32-bit numbers"),
    "fractions": (tiff(RAMP.astype(np.float32) / 65535, "<", bits=32), "fractions"),
}


@pytest.mark.parametrize("case", NO_RANGE)
def test_numbers_without_a_range_are_refused_in_one_line(own_copy, case):
    content, words = NO_RANGE[case]
    clip = read_clips(own_copy, "ms3", "val")[0]
    path = clip.frames[2]
    path.write_bytes(content)
    expected = f"{path}: stores grey as {words}, so white is unknown. Save it with 8 or 16 bits."
    for use in (read_picture, frame_size, lambda path: next(pictures_of(path, Fraction(1)))):
        with pytest.raises(ValueError) as caught:
            use(path)
        assert str(caught.value) == expected
    with pytest.raises(ValueError, match="so white is unknown"):
        AVSBench(own_copy, "ms3", "val")[0]
    (problem,) = check(own_copy, "ms3").problems
    assert (problem.kind, problem.part, f"{problem.found}.") == ("range", "frame", expected)
    assert read_mask(path, "ms3", 1).float().mean() > 0.99  # a mask of these numbers says what is 0


@pytest.mark.parametrize("side", [1, 7, 8, 9])
def test_the_smallest_photographs(tmp_path, side):
    """The check decodes them coarsely, too."""
    Image.new("RGB", (side, 20), (200, 0, 0)).save(tmp_path / "small.jpg")
    assert frame_size(tmp_path / "small.jpg") == ((side, 20), 1)


def test_open_image_gives_pixels_as_they_are(tmp_path):
    (tmp_path / "grey.png").write_bytes(png(RAMP))
    assert np.array_equal(np.array(open_image(tmp_path / "grey.png")), RAMP)


@pytest.mark.slow
def test_pictures_and_sound_front_ends_do_without_pyav(shapes):
    """PyAV is loaded when the first sound is read; and the generator's processes do without torch."""
    script = f"""if True:
        import sys
        import lightavseg_core.data.sounding_shapes
        assert "torch" not in sys.modules
        import lightavseg_core.data.audio, lightavseg_core.data.images, lightavseg_core.data.masks
        from lightavseg_core.data.avsbench import AVSBench
        data = AVSBench({str(shapes)!r}, "ms3", "val")
        data._pictures(data.clips[0])
        assert "av" not in sys.modules
        data[0]
        assert "av" in sys.modules"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert not done.returncode, done.stderr

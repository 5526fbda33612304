"""Masks in every way in which they are stored: any mode of a picture, palettes, colours and values of
classes."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from PIL import Image

from lightavseg_core.data.avsbench import AVSBench
from lightavseg_core.data.check import check
from lightavseg_core.data.layout import read_clips
from lightavseg_core.data.masks import read_mask, voc_palette


def white(values):
    return Image.fromarray((values > 0) * np.uint8(255))


def indexed(values):
    image = Image.fromarray(values, "P")
    image.putpalette(voc_palette(256).tobytes())
    return image


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MADE = {  # how values become a picture; PIL converts to the other modes
    "0/255": white,
    "1": lambda values: white(values).convert("1"),
    "quantized": lambda values: white(values).quantize(2),  # white may come first
    "CMYK": lambda values: white(values).convert("RGB").convert("CMYK"),
    "P": indexed,
    "I;16": lambda values: Image.fromarray(values.astype(np.uint16) * 256),
}


@pytest.mark.parametrize("mode", [*MADE, "L", "RGB", "RGBA", "LA"])
@settings(max_examples=15, deadline=None)
@given(values=hnp.arrays(np.uint8, SHAPES, elements=st.sampled_from([0, 1, 7, 23, 128, 255])))
def test_a_binary_mask_in_any_mode(tmp_path_factory, mode, values):
    path = tmp_path_factory.getbasetemp() / "mask.png"
    if mode in MADE:
        image = MADE[mode](values)
    else:
        image = Image.fromarray(values).convert(mode)
    image.save(path, format="TIFF" if mode == "CMYK" else "PNG")
    assert torch.equal(read_mask(path, "ms3", 1), torch.from_numpy((values > 0).astype(np.uint8)))


BROWN, RED, BLACK, WHITE = (99, 66, 33), (255, 0, 0), (0, 0, 0), (255, 255, 255)


@pytest.mark.parametrize(
    "palette, used, foreground",
    [
        ([BLACK, RED], [0, 1], [0, 1]),
        ([BROWN, RED], [0, 1], [0, 1]),  # index 0 is the background, whatever its colour
        ([BROWN, RED], [0, 0], [0, 0]),
        ([BROWN, RED, BLACK], [0, 1], [0, 1]),  # black is there, but no pixel has it
        ([BLACK, RED, BLACK], [0, 2], [0, 1]),
        ([RED, BLACK], [0, 1], [1, 0]),  # sorted anew by a program that makes files smaller
        ([RED, BROWN, BLACK], [0, 2, 1], [1, 0, 1]),
        ([WHITE, BLACK], [0, 1], [1, 0]),
        ([WHITE], [0, 0], [1, 1]),
        ([WHITE, RED], [0, 1], [0, 1]),
        ([BROWN, RED], [1, 7], [1, 1]),  # index 7 has no colour, as in broken files
    ],
)
def test_what_is_foreground_in_a_palette(tmp_path, palette, used, foreground):
    image = Image.fromarray(np.array([used], np.uint8), "P")
    image.putpalette([value for colour in palette for value in colour])
    image.save(tmp_path / "mask.png", bits=8)
    assert read_mask(tmp_path / "mask.png", "s4", 1).tolist() == [foreground]


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from([2, 8, 71]), st.sampled_from(["labels_rgb", "labels_semantic"]))
def test_class_masks_round_trip(tmp_path_factory, data, classes, folder):
    labels = data.draw(hnp.arrays(np.uint8, (7, 5), elements=st.integers(0, classes - 1)))
    path = tmp_path_factory.getbasetemp() / folder / "0.png"
    path.parent.mkdir(exist_ok=True)
    if folder == "labels_semantic":
        Image.fromarray(labels - np.uint8(1)).save(path)  # background is 255
        assert read_mask(path, "avss", classes).tolist() == labels.tolist()
        return
    colours = Image.fromarray(voc_palette(classes)[labels])
    for image in (colours, colours.convert("RGBA"), indexed(labels)):
        image.save(path)
        assert read_mask(path, "avss", classes).tolist() == labels.tolist()


def test_palette():
    def of(index):  # the rule as PASCAL VOC's own code has it
        r = g = b = 0
        for j in range(8):
            r |= (index & 1) << (7 - j)
            g |= (index >> 1 & 1) << (7 - j)
            b |= (index >> 2 & 1) << (7 - j)
            index >>= 3
        return [r, g, b]

    palette = voc_palette(256)
    assert palette.tolist() == [of(index) for index in range(256)]
    assert len(np.unique(palette, axis=0)) == 256


@pytest.mark.slow
def test_semantic_masks_where_the_colours_are_missing(own_copy):
    before = [item["mask"] for item in AVSBench(own_copy, "avss", "test")]
    for files in read_clips(own_copy, "avss"):
        folder = files.masks[0].parent
        for path in folder.iterdir():
            Image.fromarray((read_mask(path, "avss", 8).numpy() - 1).astype(np.uint8)).save(path)
        folder.rename(folder.with_name("labels_semantic"))
    after = [item["mask"] for item in AVSBench(own_copy, "avss", "test")]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert check(own_copy, "avss").ok


@pytest.mark.slow
def test_an_unknown_colour_or_class_is_an_error(own_copy):
    path = read_clips(own_copy, "avss", "val")[0].masks[2]
    picture = np.array(Image.open(path).convert("RGB"))
    picture[3, 4] = 1, 2, 3
    Image.fromarray(picture).save(path)
    with pytest.raises(ValueError, match=r"2\.png: 1 pixels have a colour that belongs to none of the 8"):
        AVSBench(own_copy, "avss", "val")[0]
    folder = path.parent.rename(path.parent.with_name("labels_semantic"))
    path = folder / "2.png"
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"2\.png: holds class 8; label2idx.json has 8"):
        read_mask(path, "avss", 8)
    for value in (256, 300, 65535):  # of 16 bits: not taken for their last eight
        Image.fromarray(np.full((64, 64), value, np.uint16)).save(path)
        said = f"{path}: holds values of no class, up to {value}; labels_semantic has 0 to 6, and 255."
        with pytest.raises(ValueError) as caught:
            read_mask(path, "avss", 8)
        assert str(caught.value) == said
        problems = check(own_copy, "avss").problems
        of_it = [problem for problem in problems if problem.found.startswith(str(path))]
        assert [problem.kind for problem in of_it] == ["class"]
    Image.fromarray(np.array([[255, 0, 6]], np.uint16)).save(path)
    assert read_mask(path, "avss", 8).tolist() == [[0, 1, 7]]

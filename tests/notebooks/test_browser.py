"""What a reader does, in a real browser: open notebooks in JupyterLab, run them, and move controls."""

import base64
import io
from typing import NamedTuple

import nbformat
import numpy as np
import pytest
import torch
from helpers.lab import ROOT, lay_out, serve
from helpers.notebooks import build
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

import lightavseg_core as lav
from lightavseg_core.data import sounding_shapes
from lightavseg_core.video.overlay import paint
from lightavseg_core.video.prediction import predict
from lightavseg_core.video.segmenter import load

SOURCES = sorted((ROOT / "notebooks" / "py").glob("*.py"))
# Without it a dialog asks for a kernel.
KERNEL = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lay_out(tmp_path_factory.mktemp("browser") / "workbook").parent


@pytest.fixture(scope="module")
def lab(folder, browser):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAV_STRICT", "1")
        with serve(folder, folder.parent / "home", browser) as lab:
            yield lab


def write(folder, name, *cells):
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=KERNEL)
    nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")


@pytest.mark.long
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_notebook_runs(source, lab, folder):
    """In the smoke profile; each check fails on its gap and passes on its solution, or a cell raises."""
    notebook = build.notebook_from_source(source, "both")
    for cell in notebook.cells:
        cell.source = cell.source.replace('profile = "default"', 'profile = "smoke"')
    nbformat.write(notebook, folder / "notebooks" / f"{source.stem}.ipynb")
    with lab.opened(f"notebooks/{source.stem}.ipynb") as opened:
        opened.run()
        assert opened.page.locator(".jp-OutputArea-output img").count(), "a notebook has pictures"
        opened.keep("run")


def test_failures_are_seen(lab, folder):
    write(folder, "failing", "import ipywidgets\nipywidgets.Checkbox()", "1 / 0", "print('never')")
    with lab.opened("notebooks/failing.ipynb") as notebook:
        with pytest.raises(AssertionError, match="ZeroDivisionError: division by zero"):
            notebook.run()


# --- the mixing desk ---

DESK = """
import lightavseg_core as lav
from lightavseg_core.widgets import MixingDesk

model = lav.load_model("../checkpoints/tiny")
dataset = lav.data.AVSBench("../shapes", "ms3", "test", front_end=model.front_end)
MixingDesk(model, dataset, {index})
"""
PIXELS = """async image => {
    try { await image.decode() } catch { return null }  // it is being replaced
    const canvas = document.createElement("canvas")
    Object.assign(canvas, {width: image.naturalWidth, height: image.naturalHeight})
    canvas.getContext("2d").drawImage(image, 0, 0)
    return canvas.toDataURL().split(",")[1]
}"""


class Moment(NamedTuple):
    """A second of a clip."""

    index: int
    second: int
    things: list[sounding_shapes.SoundingObject]
    pair: list[int]      # two things that sound in this second and are marked
    mask: np.ndarray     # (H, W) bool: what the model marks in it

    def truth(self, second, without=()):
        """(H, W) bool: what sounds in a second of this clip, without some of its things."""
        truth = np.zeros(self.mask.shape, bool)
        for i, thing in enumerate(self.things):
            if thing.sounding[second] and i not in without:
                truth |= thing.masks[second]
        return truth


@pytest.fixture(scope="module")
def moment(folder):
    """The first test clip and second in which two objects sound and the model marks half of each."""
    root = sounding_shapes.generate(folder / "shapes", "ms3", {"test": 4}, size=128, seed=0, workers=1)
    model = lav.load_model(ROOT / "checkpoints" / "tiny")
    dataset = lav.data.AVSBench(root, "ms3", "test", front_end=model.front_end)
    for index, item in enumerate(dataset):
        things = sounding_shapes.objects(root, "ms3", "test", index)
        with torch.inference_mode():
            output = model(item["frames"][None], item["log_mel"][None])
        masks = output.logits[0, :, 0].numpy() > 0                              # (T, H, W)
        for second, mask in enumerate(masks):
            shown = [thing.sounding[second] and mask[thing.masks[second]].mean() >= 0.5 for thing in things]
            found = [i for i, marked in enumerate(shown) if marked]
            if len(found) >= 2:
                return Moment(index, second, things, found[:2], mask)
    raise AssertionError("no such clip: generate more")


class Desk:
    """The mixing desk in a notebook: its controls by mouse and keyboard, its pictures by their pixels."""

    def __init__(self, notebook):
        self.page, self.until = notebook.page, notebook.until

    def press(self, control):
        self.page.locator(f".lav-{control} input[type=checkbox]").click()

    def slide(self, control, key, times=1):
        handle = self.page.locator(f".lav-{control} .noUi-handle")
        for _ in range(times):
            handle.press(key)

    def picture(self, name):
        """(H, W, 3) uint8, as the browser shows it."""
        image = self.page.locator(f"img.lav-{name}")
        encoded = self.until(lambda: image.evaluate(PIXELS), f"the picture {name}")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))

    def painted(self, name, area):
        """Where a picture has colour (what is not marked is grey), and an area (H, W) at its size."""
        picture = self.picture(name).astype(int)
        area = Image.fromarray(area).resize(picture.shape[1::-1], Image.NEAREST)
        return picture.max(-1) - picture.min(-1) > 40, np.asarray(area)

    def share(self, name, area):
        """The share of an area that is painted."""
        painted, area = self.painted(name, area)
        return painted[area].mean()

    def shows(self, name, area):
        """Whether an area is painted and nothing else is, but for the pixels on its edge."""
        painted, area = self.painted(name, area)
        return (painted & area).sum() >= 0.9 * (painted | area).sum()


def test_mixing_desk(lab, folder, moment):
    """Silencing an object takes its pixels away, and no other's; its sound brings back the same picture."""
    write(folder, "desk", DESK.format(index=moment.index))
    with lab.opened("notebooks/desk.ipynb") as notebook:
        notebook.run()
        desk, until, second = Desk(notebook), notebook.until, moment.second
        first, other = (moment.things[i].masks[second] for i in moment.pair)

        def back():
            return np.array_equal(desk.picture("mask"), before)

        desk.slide("second", "ArrowRight", second)
        until(lambda: desk.shows("truth", moment.truth(second)), "the second to be shown")
        until(lambda: desk.shows("mask", moment.mask), "its mask to be shown")
        before = desk.picture("mask")
        notebook.keep("both_sound")

        desk.press(f"object-{moment.pair[0]}-on")
        until(lambda: desk.share("mask", first) < 0.1, "the silenced object's pixels to go")
        assert desk.share("mask", other) > 0.4 and desk.shows("truth", moment.truth(second, moment.pair[:1]))
        notebook.keep("one_silenced")
        desk.press(f"object-{moment.pair[0]}-on")
        until(back, "the same picture")

        desk.slide(f"object-{moment.pair[1]}-gain", "Home")
        until(lambda: desk.share("mask", other) < 0.1, "the faded object's pixels to go")
        assert desk.share("mask", first) > 0.4 and desk.shows("truth", moment.truth(second, moment.pair[1:]))
        notebook.keep("other_faded")
        desk.slide(f"object-{moment.pair[1]}-gain", "ArrowRight", 20)  # steps of 0.05
        until(back, "the same picture")

        maps = desk.picture("maps")
        desk.press("noise-on")
        until(lambda: not np.array_equal(desk.picture("maps"), maps), "the model to hear the noise")
        assert desk.shows("truth", moment.truth(second))
        notebook.keep("noise")
        desk.press("noise-on")
        until(back, "the same picture")

        desk.slide("second", "Home")
        until(lambda: desk.shows("truth", moment.truth(0)), "the first second")
        frame, last = desk.picture("frame"), len(moment.things[0].sounding) - 1
        notebook.page.locator(".lav-desk .widget-play button").first.click()
        readout = notebook.page.locator(".lav-second .widget-readout")
        until(lambda: readout.inner_text() == str(last), "time to pass")
        until(lambda: desk.shows("truth", moment.truth(last)), "the last second")
        assert not np.array_equal(desk.picture("frame"), frame)
        assert not notebook.page.locator(".lav-message").inner_text().strip(), "the desk tells of an error"
        notebook.keep("played")

        # A clip that cannot be read is told of, and the list goes back to the one that is shown.
        message, picked = notebook.page.locator(".lav-message"), notebook.page.locator(".lav-clip select")
        shown, frame = picked.input_value(), desk.picture("frame")
        broken = next(i for i in range(4) if i != moment.index)
        clip = lav.data.AVSBench(folder / "shapes", "ms3", "test").clips[broken]
        kept = clip.frames[0].read_bytes()
        clip.frames[0].write_bytes(b"no picture")
        try:
            picked.select_option(index=broken)
            until(lambda: clip.frames[0].name in message.inner_text(), "the error")
            until(lambda: picked.input_value() == shown, "the list to go back")
            assert np.array_equal(desk.picture("frame"), frame)
        finally:
            clip.frames[0].write_bytes(kept)
        picked.select_option(index=broken)
        until(lambda: not message.inner_text().strip(), "the error to go")
        until(lambda: not np.array_equal(desk.picture("frame"), frame), "the other clip")
        assert picked.input_value() != shown


# --- the video player ---

PLAYER = """
from lightavseg_core.widgets.video_player import VideoPlayer
from lightavseg_core.video.segmenter import load

VideoPlayer(load("../checkpoints/tiny"), "../runs/player", ["media/sample.mp4"])
"""


def test_video_player(lab, folder):
    """Predict, scrub, hear, move the threshold, upload: what is shown is what `predict` finds."""
    sample = ROOT / "notebooks" / "media" / "sample.mp4"
    found = list(predict(load(ROOT / "checkpoints" / "tiny"), sample))
    write(folder, "player", PLAYER)
    with lab.opened("notebooks/player.ipynb") as notebook:
        notebook.run()
        desk, until, page = Desk(notebook), notebook.until, notebook.page

        def says(words):
            return words in page.locator(".lav-status").inner_text()

        def shows(k):
            expected = paint(found[k].picture, found[k].mask())
            return np.abs(desk.picture("mask").astype(int) - expected).mean() < 3

        until(lambda: says("press Predict"), "the player")
        page.locator("button.lav-start").click()
        until(lambda: says("second 0:") and shows(0), "the prediction")
        curve = desk.picture("curve")
        desk.slide("position", "ArrowRight", 9)
        until(lambda: says("second 9:") and shows(9), "another second")
        assert not shows(0) and not np.array_equal(desk.picture("curve"), curve)
        notebook.keep("scrubbed")

        page.locator(".lav-hear input").click()
        desk.slide("position", "ArrowRight", 5)
        until(lambda: says("second 14:") and shows(14), "a second with sound")
        audio = page.locator("audio.lav-audio")
        until(lambda: 0.9 < (audio.evaluate("audio => audio.duration") or 0) < 1, "its sound")
        assert page.locator("audio.lav-audio").evaluate("audio => audio.autoplay")

        desk.slide("threshold", "End")
        until(lambda: says("second 14: 0.0%"), "the threshold of 1 to clear the mask")

        with page.expect_file_chooser() as chooser:
            page.locator("button.lav-upload").click()
        upload = {"name": "../mine.mp4", "mimeType": "video/mp4", "buffer": sample.read_bytes()}
        chooser.value.set_files(upload)
        picked = page.locator(".lav-video select")
        until(lambda: picked.input_value() == "mine.mp4", "the upload to be picked")
        page.locator("button.lav-start").click()
        until(lambda: says("second 0:") and says("mine.mp4"), "the upload's prediction")
        assert not page.locator(".lav-message").inner_text().strip(), "the player tells of an error"
        assert (folder / "runs" / "player" / "mine.mp4").read_bytes() == sample.read_bytes()
        notebook.keep("uploaded")

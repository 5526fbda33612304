"""What the browser marks, beside what PyTorch marks: every mute and every fader of every clip."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers import live
from helpers.casts import photographs

import lightavseg_core as lav
from lightavseg_core.data.casting import cast_named
from lightavseg_core.data.images import prepare_frame
from lightavseg_core.data.scenes import draw_pictures, draw_tracks

pytestmark = pytest.mark.slow
IOU = 0.98


@pytest.fixture(scope="module")
def clips():
    """The script that chose the page's clips."""
    sys.path.insert(0, str(live.LIVE))
    try:
        import clips
    finally:
        sys.path.pop(0)
    return clips


class PyTorch:
    """A clip of the page made anew by the generator, not read from the page's files."""

    def __init__(self, clips, cast, model, index):
        self.model, size = model, model.config.size
        scene = clips.scene(cast, index, size)
        sounds, noise = draw_tracks(scene, cast)
        self.tracks = np.vstack([sounds, noise])
        frames, self.objects = draw_pictures(clips.scene(cast, index, size), cast, size)
        self.frames = torch.stack([prepare_frame(frame, (size, size)) for frame in frames])

    def mix(self, levels):
        waveform = np.asarray(levels) @ self.tracks
        return waveform / max(1, np.abs(waveform).max())

    @torch.inference_mode()
    def masks(self, waveform):
        heard = self.log_mel(waveform, range(len(self.frames)))
        return self.model(self.frames[None], heard[None]).logits[0, :, 0].numpy() > 0

    def log_mel(self, waveform, seconds):
        return self.model.front_end(torch.tensor(waveform).float(), torch.tensor(list(seconds)))


def ious(found, expected):
    """Of the frames in which either marks something."""
    union, both = ((f(found, expected)).sum((1, 2)) for f in (np.logical_or, np.logical_and))
    return (both / np.maximum(union, 1))[union > 0]


class Scores:
    """Of the frames that are not empty."""

    def __init__(self):
        self.lowest, self.frames, self.silenced, self.removed = 1.0, 0, 0, 0

    def agree(self, found, expected, what):
        scores = ious(found, expected)
        self.lowest, self.frames = min([self.lowest, *scores]), self.frames + len(scores)
        assert (scores >= IOU).all(), f"{what}: IoU {scores.min():.4f}"

    def goes(self, area, before, after, recorded, expected):
        """Where PyTorch takes away 90% of an object's pixels, so does the browser."""
        was, theirs = (before & area).sum((1, 2)), (recorded & area).sum((1, 2))
        gone = (theirs > 50) & ((expected & area).sum((1, 2)) <= 0.1 * theirs)
        self.silenced += gone.sum()
        self.removed += ((after & area).sum((1, 2)) <= 0.1 * was)[gone].sum()


def compare(desk, cast, clips):
    """Walks through every setting of every clip."""
    model = lav.load_model(live.ROOT / "checkpoints" / clips.CHECKPOINTS[cast.name]).eval()
    desk.open()
    scores = Scores()
    for number, (index, _) in enumerate(clips.chosen(cast, model.config.size)):
        desk.clip(number)
        walk(desk, f"clip {number + 1}", PyTorch(clips, cast, model, index), scores)
    assert scores.silenced > 20 and scores.removed == scores.silenced
    print(cast.name, vars(scores))


def walk(desk, clip, theirs, scores):
    count, names = len(theirs.tracks), [thing.name for thing in theirs.objects]
    recorded, before = theirs.masks(theirs.mix([1] * count)), desk.masks()
    scores.agree(before, recorded, f"{clip}, as recorded")
    for k, name in enumerate([*names, "background noise"]):

        def at(level, k=k):
            return theirs.masks(theirs.mix([level if i == k else 1.0 for i in range(count)]))

        desk.mute(name)
        expected = at(0.0)  # while the browser computes
        found = desk.masks()
        desk.mute(name)
        scores.agree(found, expected, f"{clip} without {name}")
        if k < len(names):
            scores.goes(theirs.objects[k].masks, before, found, recorded, expected)
        for level in (0.25, 1.75):
            desk.level(k, level)
            expected = at(level)
            scores.agree(desk.masks(), expected, f"{clip}, {name} at {level}")
            desk.level(k, 1)
    for what in ("noise", "other"):  # sounds that only the page has: it says what is heard
        desk.level(what, 0.8)
        found, waveform = desk.masks(), desk.floats("waveform")
        scores.agree(found, theirs.masks(waveform), f"{clip} with {what}")
        second = desk.page.evaluate("() => live.state.second")
        expected = theirs.log_mel(waveform, [second]).numpy().ravel()
        assert np.abs(desk.floats("log-mel") - expected).max() < 1e-4, f"{clip} with {what}: the front end"
        desk.reset()


def test_the_browser_marks_what_pytorch_marks(desk, clips):
    compare(desk, cast_named("shapes"), clips)


@pytest.mark.long
def test_the_same_of_photographs(browser, out, clips):
    cast = photographs()
    folder = live.build("photos", out)
    with live.served(folder / "page") as (url, _), browser.new_context() as context:
        desk = live.Desk(context.new_page(), url)
        compare(desk, cast, clips)
        assert desk.said == []


def test_what_was_computed_beforehand_is_pytorchs(shapes_page, clips):
    """The masks that stand in until the model is there."""
    import gzip

    cast, model = cast_named("shapes"), lav.load_model(live.ROOT / "checkpoints/tiny").eval()
    edition = json.loads(gzip.decompress((shapes_page / "page/clips.json.gz").read_bytes()))
    area = edition["size"] ** 2
    for number, (index, second) in enumerate(clips.chosen(cast, edition["size"])):
        expected = PyTorch(clips, cast, model, index)
        stored = gzip.decompress((shapes_page / f"page/clip-{number}.bin.gz").read_bytes())
        seconds = len(expected.frames)
        masks = np.frombuffer(stored, np.uint8, seconds * area, 4 * seconds * area)
        assert (masks == expected.masks(expected.mix([1] * len(expected.tracks))).ravel()).all()
        assert edition["clips"][number]["start"] == second

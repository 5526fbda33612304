"""What stays behind of a widget: nothing; and after an error list, picture and message agree."""

import gc
import weakref

import pytest
import torch
from helpers.shown import pixels
from ipywidgets.widgets import widget as registry

import lightavseg_core as lav
from lightavseg_core.data import AVSBench
from lightavseg_core.data.audio import LogMel
from lightavseg_core.video.segmenter import Segmenter
from lightavseg_core.widgets import AttentionExplorer, DecoderStepper, MixingDesk, VideoPlayer, canvas


@pytest.fixture(scope="module", autouse=True)
def only_what_is_new():
    """So that collecting does not look through all that was imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def alive():
    """How many widgets ipywidgets keeps."""
    gc.collect()
    return len(registry._instances)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    small = {"lightavseg": {"width": 8}, "avesformer": {"width": 32, "prompts": 2}}
    made = {name: lav.create_model(name, preset="tiny", **options) for name, options in small.items()}
    return {name: model.eval() for name, model in made.items()}


@pytest.fixture
def dataset(own_copy, models):
    return AVSBench(own_copy, "ms3", "test", 64, models["lightavseg"].front_end)


class Ear(torch.nn.Module):
    """A model of which nothing else holds a reference."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config, self.front_end = model, model.config, model.front_end
        self.auxiliary = model.auxiliary

    def forward(self, *given, **options):
        return self.model(*given, **options)


def desk(models, dataset, folder):
    model = Ear(models["lightavseg"])
    return MixingDesk(model, dataset), model


def stepper(models, dataset, folder):
    model = Ear(models["lightavseg"])
    return DecoderStepper(model, dataset[0]), model


def explorer(models, dataset, folder):
    class Own(type(models["avesformer"])):
        pass

    torch.manual_seed(0)
    model = Own(models["avesformer"].config).eval()
    return AttentionExplorer(model, dataset[0]), model


def player(models, dataset, folder):
    model = Ear(models["lightavseg"])
    return VideoPlayer(Segmenter(model, (32, 32), 5, 1, LogMel(), {}), folder), model


@pytest.mark.parametrize("panel", [desk, stepper, explorer, player])
@pytest.mark.slow
def test_a_closed_panel_leaves_nothing(panel, models, dataset, tmp_path):
    before = alive()
    shown, model = panel(models, dataset, tmp_path / "videos")
    model = weakref.ref(model)
    assert alive() > before + 20
    shown.close()
    assert alive() == before and model() is None, "though a notebook holds the panel among its outputs"
    shown.close()
    assert shown._repr_mimebundle_ is None, "what ipywidgets leaves of a closed widget, so that it has a repr"


@pytest.mark.slow
def test_picking_clips_leaves_nothing(models, dataset):
    shown = MixingDesk(models["lightavseg"], dataset)
    counts = {0: alive()}
    for index in (1, 2, 1, 2):
        shown.clip.value = index
        count = alive()
        assert not shown.message.value and counts.setdefault(index, count) == count
    strips = [weakref.ref(strip) for strip in shown.strips]
    shown.clip.value = 0
    gc.collect()
    assert not any(strip() for strip in strips), "a closed strip is no longer heard"
    shown.close()


WRONG = {
    "clip": lambda models, dataset: MixingDesk(models["lightavseg"], dataset, 9),
    "second of a desk": lambda models, dataset: MixingDesk(models["lightavseg"], dataset, 0, 9),
    "second of a stepper": lambda models, dataset: DecoderStepper(models["lightavseg"], dataset[0], 9),
    "second of an explorer": lambda models, dataset: AttentionExplorer(models["avesformer"], dataset[0], 9),
    "method": lambda models, dataset: AttentionExplorer(models["lightavseg"], dataset[0]),
    "folder": lambda models, dataset: VideoPlayer(None, dataset.clips[0].audio),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_panel_that_cannot_be_made_leaves_nothing(what, models, dataset):
    before = alive()
    with pytest.raises((ValueError, OSError, AttributeError)):
        WRONG[what](models, dataset)
    assert alive() == before


# --- a clip that cannot be read ---


def test_a_clip_that_cannot_be_read(models, dataset):
    """The list goes back to the clip that the pictures show; both ways of picking, by a hand and by code."""
    shown = MixingDesk(models["lightavseg"], dataset)
    dataset.clips[2].frames[0].write_bytes(b"no picture")
    frame, strips, count = shown.frame.value, list(shown.strips), alive()
    for pick in (lambda: shown.clip.set_state({"index": 2}), lambda: setattr(shown.clip, "value", 2)):
        pick()
        assert dataset.clips[2].frames[0].name in shown.message.value
        assert shown.clip.value == 0 and shown.clip.get_state()["index"] == 0
        assert shown.frame.value == frame and list(shown.faders.children) == shown.strips == strips
    strips[0].gain.value = 0.5
    assert not shown.message.value and shown.frame.value == frame and alive() == count
    shown.clip.value = 1
    assert not shown.message.value and shown.frame.value != frame and shown.clip.value == 1
    shown.close()


def test_a_model_that_stumbles_over_a_clip(models, dataset, monkeypatch):
    """After the clip was read, while its strips are there already."""
    shown = MixingDesk(models["lightavseg"], dataset)
    frame, sources, strips, count = shown.frame.value, shown.sources, shown.strips, alive()
    with monkeypatch.context() as patch:
        patch.setattr(canvas, "grid", lambda *_: 1 / 0)
        shown.clip.value = 1
        assert "ZeroDivisionError" in shown.message.value
    assert shown.clip.value == 0 and shown.sources is sources and shown.strips is strips
    assert shown.frame.value == frame and alive() == count
    shown.close()


def test_a_donor_that_cannot_be_read(models, dataset):
    """What is shown is never a mix that the faders do not say, without a message that says so."""
    shown = MixingDesk(models["lightavseg"], dataset)
    dataset.clips[1].audio.write_bytes(b"no sound")
    audio, mask = shown.audio.value, shown.mask.value
    shown.donor_clip.value = 1
    assert not shown.message.value, "it is not heard"
    shown.donor.on.value = True
    for second in (1, 2, 0):
        assert dataset.clips[1].audio.name in shown.message.value
        shown.second.value = second
    assert shown.audio.value == audio and shown.mask.value == mask
    data, metadata = shown._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data and not metadata, "shown all the same"
    shown.donor.on.value = False
    assert not shown.message.value and shown.audio.value == audio
    shown.close()


@pytest.mark.slow
def test_a_second_that_fails_changes_no_picture(models, dataset, monkeypatch):
    """Pictures are changed all together, or not at all."""
    panels = [
        MixingDesk(models["lightavseg"], dataset),
        DecoderStepper(models["lightavseg"], dataset[0]),
        AttentionExplorer(models["avesformer"], dataset[0]),
    ]
    for shown in panels:
        names = [name for name, one in vars(shown).items() if hasattr(one, "show")]
        before = {name: getattr(shown, name).value for name in names}
        assert len(before) > 2 and all(pixels(picture).size for picture in before.values())
        with monkeypatch.context() as patch:
            patch.setattr(canvas, "colours", lambda *_: 1 / 0)
            shown.second.value = 3
            assert "ZeroDivisionError" in shown.message.value
        assert {name: getattr(shown, name).value for name in names} == before
        shown.second.value = 2
        assert not shown.message.value and {name: getattr(shown, name).value for name in names} != before
        shown.close()

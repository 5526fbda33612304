"""Drawings say what is there: the model's own shapes, and every notebook."""

from pathlib import Path

import pytest

import lightavseg_core as lav
from lightavseg_core.plots.drawings import STOPS, architecture, meetings, way_through

ROOT = Path(__file__).resolve().parents[2]


def texts(figure):
    (axis,) = figure.axes
    return [text.get_text() for text in axis.texts]


@pytest.mark.parametrize("preset, classes", [("tiny", 1), ("lean", 71)])
def test_the_drawing_is_the_models(preset, classes):
    model = lav.create_model("lightavseg", preset=preset, num_classes=classes)
    found = texts(architecture(model, 64))
    for channels in model.visual.channels:
        assert str(channels) in found and any(text.startswith(f"{channels}\n") for text in found)
    assert found.count(str(model.config.width)) >= len(model.visual.channels)
    assert f"sound, {model.audio.channels}" in found and f"mask\n{classes} x 64 x 64" in found
    assert sum(text.startswith(f"{model.config.width}\n") for text in found) >= len(model.visual.channels)


def test_only_lightavseg_is_drawn():
    with pytest.raises(TypeError, match="is a SelM; expected a LightAVSeg"):
        architecture(lav.create_model("selm", preset="tiny"))


def test_the_map_shows_every_notebook():
    numbers = {path.stem[:2] for path in (ROOT / "notebooks" / "py").glob("*.py")}
    assert {stop.number for stop in STOPS} == numbers
    assert {stop.number for stop in STOPS} <= set(texts(way_through()))


def test_each_method_is_drawn_with_its_sound():
    assert {axis.get_title().lower() for axis in meetings().axes} == set(lav.list_methods())

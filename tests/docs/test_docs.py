"""What the documentation shows runs as it stands: a sixth method from outside the package, trained and measured beside the five."""

import importlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers.tiny import inputs

import lightavseg_core as lav
from lightavseg_core.models import AVSModel, ModelConfig, register
from lightavseg_core.models.base import METHODS

PAGE = (Path(__file__).parents[2] / "docs" / "adding_a_method.md").read_text()
METHOD, *USES = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)


@pytest.fixture
def late_fusion(tmp_path, monkeypatch):
    """The page's method, saved and imported as it says, with tmp_path as the working directory."""
    (tmp_path / "my_method.py").write_text(METHOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METHODS, "late_fusion", None)  # is taken out again, whatever happens
    del METHODS["late_fusion"]
    yield importlib.import_module("my_method")
    del sys.modules["my_method"]


def test_a_method_is_one_short_file(late_fusion, tmp_path):
    assert len(METHOD.splitlines()) <= 50 and max(map(len, METHOD.splitlines())) <= 150
    assert lav.list_methods() == sorted({"late_fusion", *lav.list_methods()})
    with pytest.raises(ValueError, match="did you mean 'width'"):
        lav.create_model("late_fusion", wdth=16)
    torch.manual_seed(0)
    model = lav.create_model("late_fusion", preset="tiny", width=16, num_classes=3)
    assert isinstance(model, late_fusion.LateFusion) and model.config.width == 16
    mask = torch.zeros(2, 2, 33, 47, dtype=torch.long)
    mask[..., :20] = 2
    given, optimizer, losses = inputs(2, 2, 33, 47), torch.optim.AdamW(model.parameters(), 1e-2), []
    for _ in range(5):
        output = model(*given)
        loss, parts = lav.losses.total_loss(output, mask, torch.ones(2, 2, dtype=torch.bool), auxiliary=model.auxiliary)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] and parts.keys() == {"segmentation", "alignment"} and all(p.grad is not None for p in model.parameters())
    model.eval().save_pretrained(tmp_path / "saved")
    with torch.inference_mode():
        output = model(*given)
        assert output.logits.shape == (2, 2, 3, 33, 47) and output.scales is None
        assert torch.equal(lav.load_model(tmp_path / "saved")(*given).logits, output.logits)
        louder = model(given[0], 2 * given[1], return_scales=True)
    assert not torch.equal(louder.logits, output.logits) and [s.visual.shape[-1] for s in louder.scales] == [1, 2, 3, 6, 12]


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(late_fusion, shapes, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "shapes").symlink_to(shapes)
    names = {}
    for block in USES:
        for long, short in (("size=128", "size=32"), ("epochs=20", "epochs=1, audio_epochs=1"), ("224", "32"), ("repeats=10", "repeats=1")):
            block = block.replace(long, short)
        exec(compile(block, "adding_a_method.md", "exec"), names)
    assert names["scores"].keys() == {"normal", "swapped", "silent"} and (tmp_path / "runs" / "late_fusion" / "best").is_dir()
    assert names["timings"].keys() == names["models"].keys() == set(lav.list_methods()) and "late_fusion" in names["timings"]


def test_names_of_methods_are_their_own(late_fusion):
    class LightAVSeg2(AVSModel):
        config_class = lav.models.LightAVSegConfig

    class Nameless(AVSModel):
        pass

    for cls, said in ((LightAVSeg2, "LightAVSeg2 is called 'lightavseg', as LightAVSeg is"), (Nameless, "Nameless is called ''; expected a name")):
        with pytest.raises(ValueError, match=said):
            register(cls)
    assert METHODS["lightavseg"] is lav.models.LightAVSeg and "" not in METHODS

    @dataclass
    class Config(ModelConfig):
        method: str = "late_fusion"

    again = register(type("LateFusion", (AVSModel,), {"config_class": Config, "__qualname__": "LateFusion"}))  # a notebook's cell, run again
    assert METHODS["late_fusion"] is again


def test_links():
    prose = re.sub(r"```.+?```", "", PAGE, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert (Path(__file__).parents[2] / "docs" / target).exists(), target
    for path in re.findall(r"`((?:lightavseg_core|tests)/[\w/]+\.py)`", prose):
        assert (Path(__file__).parents[2] / path).exists() or path.endswith("late_fusion.py"), path

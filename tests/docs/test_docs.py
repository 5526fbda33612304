"""What the page on adding a method shows runs as it stands: a sixth method from outside the package, compared
with the five, trained and measured."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers.tiny import inputs

import lightavseg_core as lav
from lightavseg_core.models import AVSModel, ModelConfig, register
from lightavseg_core.models.base import METHODS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding_a_method.md").read_text()
METHOD, *USES = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
COMPARE, *COMMANDS = "".join(re.findall(r"```sh\n(.+?)```", PAGE, re.DOTALL)).splitlines()

# What a command is given beside what the page says, so that it takes seconds.
SHORT = {
    "compare": "--budget smoke",
    "data": "--train 6 --val 3 --test 4 --size 64",
    "train": "--epochs 1 --audio-epochs 1 --size 32",
    "profile": "--size 32 --repeats 1 --threads 1",
    "sweep": "--budget smoke --seeds 1 --work runs/sweep",
}


@pytest.fixture
def late_fusion(tmp_path, monkeypatch):
    """The page's method, saved and imported as it says, with tmp_path as the working directory."""
    (tmp_path / "late_fusion.py").write_text(METHOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METHODS, "late_fusion", None)  # is taken out again, whatever happens
    del METHODS["late_fusion"]
    yield importlib.import_module("late_fusion")
    del sys.modules["late_fusion"]


@pytest.mark.slow
def test_a_method_is_one_short_file(late_fusion, tmp_path):
    assert len(METHOD.splitlines()) <= 50 and max(map(len, METHOD.splitlines())) <= 110
    assert lav.list_methods() == sorted({"late_fusion", *lav.list_methods()})
    with pytest.raises(ValueError, match="did you mean 'width'"):
        lav.create_model("late_fusion", wdth=16)
    assert lav.create_model("late_fusion", preset="tiny").config.width == 64      # its own preset
    torch.manual_seed(0)
    model = lav.create_model("late_fusion", preset="tiny", width=16, num_classes=3)
    assert isinstance(model, late_fusion.LateFusion) and model.config.width == 16
    mask = torch.zeros(2, 2, 33, 47, dtype=torch.long)
    mask[..., :20] = 2
    annotated = torch.ones(2, 2, dtype=torch.bool)
    given, optimizer, losses = inputs(2, 2, 33, 47), torch.optim.AdamW(model.parameters(), 1e-2), []
    for _ in range(5):
        loss, parts = lav.losses.total_loss(model(*given), mask, annotated, auxiliary=model.auxiliary)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] and parts.keys() == {"segmentation", "alignment"}
    assert all(p.grad is not None for p in model.parameters())
    model.eval().save_pretrained(tmp_path / "saved")
    with torch.inference_mode():
        output = model(*given)
        assert output.logits.shape == (2, 2, 3, 33, 47) and output.scales is None
        assert torch.equal(lav.load_model(tmp_path / "saved")(*given).logits, output.logits)
        louder = model(given[0], 2 * given[1], return_scales=True)
    assert not torch.equal(louder.logits, output.logits)
    assert [scale.visual.shape[-1] for scale in louder.scales] == [1, 2, 3, 6, 12]


def run(command: str, folder: Path) -> str:
    """What a command of the page prints, in a fresh process and in another folder than the checkout."""
    program, *arguments = shlex.split(command)
    assert program == "lightavseg"
    arguments += SHORT.get(arguments[0], "").split()  # of an option that is given twice the last one counts
    done = subprocess.run(
        [sys.executable, "-m", "lightavseg_core.cli", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
def test_compared_in_one_command(tmp_path):
    """Nothing is stored of smoke's budget: six are trained. Once the file is edited, its own is again."""
    (tmp_path / "late_fusion.py").write_text(METHOD)
    printed = run(COMPARE, tmp_path)
    assert "6 runs, 0 of them already finished" in printed and "no interval" in printed and "*" not in printed
    out = tmp_path / "runs" / "compare"
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert printed.splitlines()[-1].startswith("runs/compare/comparison.json, runs/compare/comparison.png: ")
    rows = {row["name"]: row for row in json.loads((out / "comparison.json").read_text())["rows"]}
    assert list(rows)[0] == "lightavseg" and list(rows)[-1] == "late_fusion" and len(rows) == 6
    mine = rows["late_fusion"]
    line = next(line for line in printed.splitlines() if line.startswith("late_fusion "))
    assert line.split()[1] == f"{mine['score']:.3f}" and f"{mine['latency']:.1f} (" in line
    assert mine["low"] is None and mine["latency_low"] <= mine["latency"] <= mine["latency_high"]
    assert rows["lightavseg"]["times"] == [1, 1, 1]

    (tmp_path / "late_fusion.py").write_text(METHOD.replace('"width": 64', '"width": 16'))
    edited = run(COMPARE, tmp_path)
    assert "6 runs, 5 of them already finished" in edited and "[6/6] ms3_late_fusion_" in edited
    *kept, smaller = json.loads((out / "comparison.json").read_text())["rows"]
    assert all(row["score"] == rows[row["name"]]["score"] for row in kept)
    assert smaller["parameters"] < mine["parameters"]


@pytest.mark.slow
def test_every_command_knows_it(tmp_path):
    """The page's commands, in its order."""
    (tmp_path / "late_fusion.py").write_text(METHOD)
    printed = {command.split()[1]: run(command, tmp_path) for command in COMMANDS}
    assert list(printed) == ["data", "train", "evaluate", "profile", "sweep"]
    assert json.loads((tmp_path / "runs/late_fusion/best/config.json").read_text())["method"] == "late_fusion"
    assert "sound              swapped" in printed["evaluate"] and "late_fusion" in printed["profile"]
    assert "1 runs" in printed["sweep"] and "ms3_late_fusion seed 0: M_J" in printed["sweep"]
    result = json.loads((tmp_path / "runs/mine/sweep/ms3_late_fusion_seed0.json").read_text())
    assert result["run"]["method"] == "late_fusion" and list(result["run"]["files"]) == ["late_fusion.py"]


@pytest.mark.slow
def test_the_python_of_the_page_runs_from_top_to_bottom(late_fusion, shapes, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "shapes").symlink_to(shapes)
    names = {}
    shorter = {"size=128": "size=32", "224": "32", "=10": "=1"}
    shorter["seed=0)"] = "seed=0, epochs=1, audio_epochs=1)"
    for block in USES:
        for long, short in shorter.items():
            block = block.replace(long, short)
        exec(compile(block, "adding_a_method.md", "exec"), names)
    assert names["scores"].keys() == {"normal", "swapped", "silent"}
    assert (tmp_path / "runs" / "by_hand" / "best").is_dir()
    assert "late_fusion" in names["models"]
    assert [row.name for row in names["timed"].rows] == lav.list_methods()


def test_names_of_methods_are_their_own(late_fusion):
    class LightAVSeg2(AVSModel):
        config_class = lav.models.LightAVSegConfig

    class Nameless(AVSModel):
        pass

    cases = {
        LightAVSeg2: "LightAVSeg2 is 'lightavseg', a name taken by LightAVSeg",
        Nameless: "Nameless is ''; expected a name",
    }
    for cls, said in cases.items():
        with pytest.raises(ValueError, match=said):
            register(cls)
    assert METHODS["lightavseg"] is lav.models.LightAVSeg and "" not in METHODS

    @dataclass
    class Config(ModelConfig):
        method: str = "late_fusion"

    same = {"config_class": Config, "__qualname__": "LateFusion", "__module__": "late_fusion"}
    again = register(type("LateFusion", (AVSModel,), same))   # a notebook's cell, run again
    assert METHODS["late_fusion"] is again


def test_links():
    prose = re.sub(r"```.+?```", "", PAGE, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert (ROOT / "docs" / target).exists(), target
    for path in re.findall(r"`((?:lightavseg_core|tests)/[\w/]+\.py)`", prose):
        assert (ROOT / path).exists() or path.endswith("late_fusion.py"), path
    for path in re.findall(r"`(models/[\w/]+\.py)`", prose):
        assert (ROOT / "lightavseg_core" / path).exists(), path

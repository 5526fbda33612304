"""What is put beside each other: the same data and budget, stored results of these alone, and it is said."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from lightavseg_core._common.files import sha256
from lightavseg_core._common.intervals import Interval
from lightavseg_core.data.sounding_shapes import generate
from lightavseg_core.experiments import compare, results, runs, training


def test_stored_results_count_where_data_and_budget_are_equal():
    base = runs.Run()
    found = {method: compare._stored(replace(base, method=method), 3) for method in runs.METHODS}
    assert all(set(seeds) == {0, 1, 2} for seeds in found.values())
    swept = results.load("methods", compare.STORED)
    assert results.values(found["selm"]) == results.values(swept["ms3_selm"])
    others = [
        {"budget": runs.SMOKE},
        {"preset": "lean"},
        {"data": "/elsewhere"},
        {"method": "selm", "subset": "avss"},
        {"files": {"my.py": "0"}},
        {"method": "late_fusion"},
    ]
    for other in others:
        assert compare._stored(replace(base, **other), 1) == {}, other


def test_given_data(tmp_path, shapes):
    """Data of the sweep's own recipe are its own; others are named, with what makes them what they are."""
    budget = runs.Budget(train=2, val=1, test=2, size=32, epochs=1)
    assert compare._given(None, "ms3", budget) == {}
    root = generate(tmp_path / "same", "ms3", {"train": 2, "val": 1, "test": 2}, 32, seed=0, workers=1)
    assert compare._given(root, "ms3", budget) == {}
    home = root / "Multi-sources"
    table = home / "ms3_meta_data.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))        # a clip less
    fewer = compare._given(root, "ms3", budget)
    assert fewer["data"] == str(root) and fewer["files"]["ms3_meta_data.csv"] == sha256(table)
    assert set(fewer["files"]) == {"ms3_meta_data.csv", "events.csv", "sounding_shapes.json"}
    other = compare._given(shapes, "ms3", budget)
    assert other["files"] != fewer["files"] and "train" not in other
    (home / "events.csv").unlink()
    assert compare._given(root, "ms3", budget)["train"] == {"audio_weights": "joint"}
    with pytest.raises(FileNotFoundError, match="s4_meta_data.csv"):
        compare._given(root, "s4", budget)


def test_more_clips_than_the_budget_has(shapes):
    """So many from all over the split are taken."""
    run = runs.Run(budget=replace(runs.SMOKE, train=3, val=9))
    names = [clip.name for clip in training.dataset(shapes, run, "train").clips]
    assert names == [f"ms3_train_{k:05d}" for k in (0, 2, 4)]
    assert len(training.dataset(shapes, run, "val")) == 3


def test_the_ear_that_comes_with_the_workbook(tmp_path):
    """It is taken by all runs whose recipe it has, and by no other."""
    of_shapes = [run for run in runs.RUNS.values() if run.cast == "shapes"]
    own = {training.ear_of(tmp_path, run) for run in of_shapes if "audio_weights" not in run.train}
    assert own == {training.EAR} and training.EAR.stat().st_size < 1.5e6
    others = [runs.Run(budget=runs.SMOKE), runs.Run(preset="lean"), runs.Run(data="/elsewhere")]
    paths = {training.ear_of(tmp_path, other) for other in others}
    assert len(paths) == 3 and {path.parent for path in paths} == {tmp_path}


# --- the table ---


def clock(name, *ms):
    return SimpleNamespace(name=name, parameters=2_500_000, timing=SimpleNamespace(interval=Interval(*ms)))


def timed(*clocks):
    return SimpleNamespace(rows=clocks, relative=lambda row: Interval(1.0, 0.9, 1.1), card="a card")


def seeds_of(*scores, **more):
    machine = {"device": "a machine"}
    return {
        seed: {"scores": {"normal": {"M_J": score}, "swapped": {"M_J": score / 2}}, "date": "2026-01-01",
               "commit": "abc", "machine": machine, **more}
        for seed, score in enumerate(scores)
    }


def test_a_row_by_hand():
    clocks = timed(clock("selm", 20.0, 19.0, 22.0))
    row = compare._row("selm", seeds_of(0.51, 0.52, 0.56), clocks, stored=True)
    assert (row.score, row.swapped) == (pytest.approx(0.53), pytest.approx(0.265))
    assert row.high - row.score == pytest.approx(row.score - row.low) == pytest.approx(0.065725, abs=1e-5)
    assert (row.latency, row.latency_low, row.latency_high, row.parameters) == (20.0, 19.0, 22.0, 2_500_000)
    one = compare._row("selm", seeds_of(0.5), clocks, stored=False)
    assert one.score == 0.5 and one.low is None and one.high is None


def test_the_table_says_what_is_stored_and_what_one_seed_cannot_say():
    clocks = timed(clock("selm", 20.0, 19.0, 22.0), clock("mine", 10.0, 9.0, 11.0))
    old, new = seeds_of(0.51, 0.52, 0.56), seeds_of(0.7, 0.71, 0.72)
    rows = [compare._row("selm", old, clocks, True), compare._row("mine", new, clocks, False)]
    new[0]["ear"] = "a digest"
    first = {"selm": old[0], "mine": new[0]}
    notes = compare._notes(runs.Run(), None, 3, first, ["selm"], clocks)
    shown = compare.lines(compare.Comparison(rows, notes))
    assert re.split(r" {2,}", shown[1]) == [
        "selm *", "0.530 (0.464 to 0.596)", "0.265", "2.50", "20.0 (19.0 to 22.0)", "1.00 (0.90 to 1.10)"]
    assert shown[2].startswith("mine ") and "*" not in shown[2]
    text = "\n".join(shown)
    assert "* stored" in text and "2026-01-01, a machine, commit abc" in text and "to other weights" in text
    assert "3 seeds" in text and text.endswith("Latency: a card")
    old[0]["ear"] = "a digest"
    same_ear = " ".join(compare._notes(runs.Run(), None, 1, first, ["selm"], clocks))
    assert "* stored" in same_ear and "to other weights" not in same_ear and "no interval" in same_ear
    assert "stored" not in " ".join(compare._notes(runs.Run(), None, 3, first, [], clocks))


# --- before anything is trained ---


@pytest.mark.usefixtures("methods_as_before")
def test_a_file_that_will_not_do(tmp_path, monkeypatch):
    """Nothing is trained for it, and what is said names it and its line."""
    monkeypatch.setattr(compare, "run_all", lambda *_: pytest.fail("trained"))
    file = tmp_path / "my_method.py"
    file.write_text("x = 1")
    with pytest.raises(ValueError, match="my_method.py: registers no method. Put @register"):
        compare.compare(file, out=tmp_path / "out")
    file.write_text("""
from dataclasses import dataclass
from lightavseg_core.models import AVSModel, ModelConfig, register

@dataclass
class Config(ModelConfig):
    method: str = "half_done"

@register
class HalfDone(AVSModel):
    config_class = Config

    def segment(self, frames, log_mel, with_scales):
        return RETURNED
""")
    text = file.read_text()
    cases = {
        "frames.view(7)": "line 14: RuntimeError: shape .* is invalid",
        "frames[:, :, :1, ::2], None": r"half_done gives logits \(2, 2, 1, 16, 32\); expected",
    }
    for returned, said in cases.items():
        file.write_text(text.replace("RETURNED", returned))
        with pytest.raises(ValueError, match=f"my_method.py.*{said}"):
            compare.compare(file, budget="smoke", out=tmp_path / "out")


def test_runs_are_named_by_what_they_are():
    run = runs.Run("mine", budget=runs.SMOKE, files={"mine.py": "1"})
    edited = replace(run, files={"mine.py": "2"})
    assert compare._name(run) != compare._name(edited) and compare._name(run).startswith("ms3_mine_")

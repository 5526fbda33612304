"""Profiling on a clock of our own: rows and tables of what was timed, series, the command and its names."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers.tiny import create, inputs

import lightavseg_core as lav
from lightavseg_core import cli, plots
from lightavseg_core.profiling import profiler, timing
from lightavseg_core.profiling.accounting import macs, skeleton
from lightavseg_core.profiling.breakdown import by_kind
from lightavseg_core.profiling.machine import Floor
from lightavseg_core.profiling.profiler import Candidate, Profile, Row, profile, resolve, table
from lightavseg_core.profiling.series import Series, scaling

FLOOR = Floor(100.0, "torch", 512, 20.0)


@pytest.fixture
def quick_floor(monkeypatch):
    monkeypatch.setattr(profiler, "floor", lambda **_: FLOOR)


@pytest.fixture
def clock(monkeypatch, quick_floor):
    """Seconds, in a list of one, that only a test moves (and, by next to nothing, who reads them)."""
    now = [0.0]

    def read():
        now[0] += 2**-34
        return now[0]

    monkeypatch.setattr(timing.time, "perf_counter", read)
    return now


def takes(clock, milliseconds, **columns):
    """A candidate that takes so long for a frame, and checks what it is given."""

    def run(frames, log_mel):
        assert frames.shape[:3] == (*log_mel.shape[:2], 3) and log_mel.shape[2:] == (1, 96, 64)
        clock[0] += frames.shape[:2].numel() * milliseconds / 1000

    return Candidate(run, columns=columns)


def from_json(kind, found):
    return kind.from_dict(json.loads(json.dumps(found.to_dict())))


# --- rows and tables ---


@pytest.mark.slow
def test_anything_can_be_profiled(clock):
    counted = Candidate(takes(clock, 30).run, skeleton("lightavseg", preset="tiny"))
    models = {"first": takes(clock, 10, runtime="onnxruntime"), "second": counted}
    found = profile(models, (64, 96), seconds=5, batch=2, repeats=6, device="cpu")
    first, second = found.rows
    assert (first.name, second.name) == ("first", "second")
    assert found.card.size == (64, 96) and found.card.batch == 2
    assert first.timing.median == pytest.approx(100) and second.timing.median == pytest.approx(300)
    assert found.relative(second) == pytest.approx((3, 3, 3)) and found.relative(first) == (1, 1, 1)
    assert (first.macs, first.parameters, first.memory, first.shares) == (None,) * 4
    expected = 2 * macs(counted.model, (64, 96), seconds=5).total_macs
    assert second.macs == expected
    assert second.parameters == sum(p.numel() for p in counted.model.parameters())
    assert second.gflops == pytest.approx(2 * expected / 0.3 / 1e9)
    columns, lines = table(found)
    assert all(len(line) == len(columns) for line in lines)
    line, other = (dict(zip(columns, cells)) for cells in lines)
    assert line["runtime"] == "onnxruntime" and other["runtime"] == line["GMACs"] == ""
    assert other["ms"] == "300.0 (300.0 to 300.0)" and other["times the first"] == "3.00 (3.00 to 3.00)"
    assert other["times the fp32 floor"] == f"{0.3 / (2 * expected / 100e9):.1f}"


def test_a_profile_is_kept_as_json(clock):
    found = profile({"a": takes(clock, 10, runtime="onnxruntime")}, 64, repeats=2, device="cpu")
    assert from_json(Profile, found) == found
    wrong = {}, {"rows": 3}, [], {**found.to_dict(), "card": {}}, {**found.to_dict(), "rows": [{"name": "a"}]}
    for values in wrong:
        with pytest.raises(ValueError, match="not a profile"):
            Profile.from_dict(values)


class Unusual(torch.nn.Module):
    """What a method of one's own may do with its masks: a product with a vector, and what nobody counts."""

    def __init__(self, head):
        super().__init__()
        self.head, self.vector = head, torch.nn.Parameter(torch.ones(4))

    def forward(self, x):
        grown = torch.linalg.matrix_exp(torch.ones(4, 4, device=self.vector.device)) @ self.vector
        return self.head(x) * grown.sum()


@pytest.mark.slow
def test_what_is_not_counted_stands_beside_the_sum(clock):
    plain, unusual = create(), create()
    unusual.head = Unusual(unusual.head)
    models = {"plain": plain, "unusual": unusual}
    candidates = {name: Candidate(takes(clock, 1).run, model) for name, model in models.items()}
    found = profile(candidates, 64, repeats=1, device="cpu")
    first, second = found.rows
    assert second.macs == first.macs + 4 * 4 and second.unknown == ["linalg_matrix_exp"] and not first.unknown
    columns, lines = table(found)
    one, other = (dict(zip(columns, line))["GMACs"] for line in lines)
    assert other == f"{one} + ?" and "?" not in one
    told = [line for line in profiler.lines(found) if "? is what" in line]
    assert len(told) == 1 and told[0].startswith("unusual: ? is what linalg_matrix_exp multiply")
    assert from_json(Profile, found) == found


WRONG = {
    "seconds": [{"seconds": -1}, {"seconds": 0}, {"seconds": 10**9}],
    "size": [{"size": -64}, {"size": 0}, {"size": (64, 16)}, {"size": 5000}],
    "batch": [{"batch": 0}, {"batch": -1}, {"batch": 10**9}],
    "does not fit into memory": [{"size": 4096, "batch": 4096, "seconds": 4096}],
}


@pytest.mark.parametrize("words", WRONG)
def test_what_no_model_can_be_shown(clock, words):
    for given in WRONG[words]:
        with pytest.raises(ValueError, match=words):
            profile({"a": takes(clock, 1)}, **{"size": 64, **given}, repeats=1, device="cpu")
    for given in WRONG.get(words, []) if words in ("seconds", "size") else []:
        with pytest.raises(ValueError, match=words):
            macs(create(), **{"size": 64, **given})
    with pytest.raises(ValueError, match="seconds is 0"):
        scaling({"a": takes(clock, 1)}, (64,), (1, 0), repeats=1, device="cpu")


@pytest.mark.slow
def test_of_two_layouts_the_faster(clock, monkeypatch):
    """A model is timed contiguous and channels_last in the same run, and its row says which it was."""
    for layout in ("contiguous", "channels_last"):
        fast = layout == "channels_last"
        monkeypatch.setattr(
            profiler, "prepare", lambda *given, fast=fast: takes(clock, 1 if given[-1] == fast else 2).run
        )
        row, = profile({"model": create()}, 64, repeats=2, device="cpu").rows
        assert row.timing.median == pytest.approx(1) and row.columns == {"layout": layout}


def test_one_table_of_several_runs(clock):
    one, four = (
        profile({"a": takes(clock, 10)}, 64, batch=batch, repeats=2, device="cpu") for batch in (1, 4)
    )
    columns, lines = table(one, four)
    assert [dict(zip(columns, line))["batch"] for line in lines] == ["1", "4"] and "threads" not in columns
    four.card = replace(four.card, device="another processor")
    with pytest.raises(ValueError, match="device is .* here and 'another processor' there"):
        table(one, four)


def test_a_table_says_threads_where_they_differ(clock):
    """And its ratios stay within a run: one of rows on other threads is refused."""
    runs = []
    for n in (1, 2):
        with timing.threads(n):
            models = {"a": takes(clock, 40 / n), "b": takes(clock, 80 / n)}
            runs.append(profile(models, 64, repeats=2, device="cpu"))
    columns, lines = table(*runs)
    found = [dict(zip(columns, line)) for line in lines]
    assert [line["threads"] for line in found] == ["1", "1", "2", "2"]
    assert [line["times the first of its run"][:4] for line in found] == ["1.00", "2.00"] * 2
    with pytest.raises(ValueError, match="on 2 and on 1 threads"):
        runs[0].relative(runs[1].rows[0])


def test_all_that_take_turns_have_the_same_threads(clock):
    """An exported file brings its own: as many as when it was loaded."""

    class File:
        threads = 1

        def __call__(self, frames, log_mel):
            clock[0] += 1

    with timing.threads(1):
        assert profile({"file": Candidate(File())}, 64, repeats=2, device="cpu").card.threads == 1
    with timing.threads(2):
        for run in (profile, scaling):
            with pytest.raises(ValueError, match="file: loaded for 1 threads, torch has 2"):
                run({"file": Candidate(File())}, repeats=2, device="cpu")


@pytest.mark.slow
def test_a_model_and_its_picture(quick_floor):
    """With the real clock, of which nothing is asserted but that what it says is told."""
    models = {"lightavseg": create(), "selm": lav.create_model("selm", preset="tiny").train()}
    found = profile(models, 64, batch=2, repeats=2, warmup=0, device="cpu", part_repeats=2)
    for row, model in zip(found.rows, models.values()):
        assert row.parameters == sum(p.numel() for p in model.parameters())
        assert row.memory > 2 * 3 * 64 * 64
        assert sum(row.shares.values()) == pytest.approx(1) and row.agreement > 0
        assert row.columns["layout"] in ("contiguous", "channels_last")
    assert models["selm"].training and from_json(Profile, found) == found
    axis, = plots.latency.bars(found).axes
    widths = [bar.get_width() for bar in axis.patches]
    assert sum(widths) == pytest.approx(sum(row.timing.median for row in found.rows))
    assert len(widths) == 5 + 4
    looked = by_kind(create(), *inputs(1, 1, 64, 64), repeats=1, warmup=0)
    roof, = plots.latency.roofline(looked, FLOOR).axes
    x, y = roof.get_lines()[0].get_data()
    assert y.max() == 100 and (x[1], y[1]) == (5, 100) and y[0] == pytest.approx(20 * x[0])
    assert plots.latency.kinds(looked).axes[0].get_xlabel()


def test_rows_without_a_part(clock):
    card = profile({"a": takes(clock, 1)}, 64, repeats=1, device="cpu").card
    rows = [Row("a", timing.Timing([2.0], 1)), Row("b", timing.Timing([4.0], 1))]
    found = Profile(rows, card)
    assert sorted(bar.get_width() for bar in plots.latency.bars(found).axes[0].patches) == [2, 4]
    columns, lines = table(found)
    assert "times the fp32 floor" in columns
    assert dict(zip(columns, lines[1]))["times the first"] == "2.00 (2.00 to 2.00)"


# --- series ---


def test_series(clock):
    models = {"a": takes(clock, 10), "b": takes(clock, 20)}
    series = scaling(models, (64,), batches=(1, 4), repeats=6, device="cpu")
    assert [(p.name, p.batch) for p in series.points] == [("a", 1), ("a", 4), ("b", 1), ("b", 4)]
    rates = [(100,) * 3, (100,) * 3, (50,) * 3, (50,) * 3]
    assert [p.clips_per_second for p in series.points] == [pytest.approx(rate) for rate in rates]
    assert from_json(Series, series) == series
    with pytest.raises(ValueError, match="not a series"):
        Series.from_dict([])
    grown = scaling(models, (64, 96), (1, 3), repeats=6, device="cpu")
    expected = {}
    for name, ms in (("a", 10), ("b", 20)):
        expected |= {(name, side, t): t * ms for side in (64, 96) for t in (1, 3)}
    assert {(p.name, p.size[0], p.seconds): round(p.timing.median) for p in grown.points} == expected
    assert grown.points[-1].pixels == 3 * 96 * 96
    axis, = plots.latency.growth(grown).axes
    assert axis.get_xlabel() and axis.get_ylabel() and axis.get_title()
    for ms, line in zip((10, 20, 30, 60), axis.get_lines()[::3]):
        assert set(line.get_ydata().round()) == {ms}


# --- the command ---


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        cli.main(["profile", *map(str, arguments)])
    captured = capsys.readouterr()
    return exit.value.code or 0, captured.out, captured.err


@pytest.mark.slow
def test_command(capsys, tmp_path, quick_floor):
    folder = tmp_path / "model"
    create().save_pretrained(folder)
    out, plot = tmp_path / "deep" / "p.json", tmp_path / "p.png"
    common = ("--size", 64, "--repeats", 2, "--threads", 1)
    with timing.threads(2):
        written = "--parts", "--json", "--out", out, "--plot", plot
        code, printed, _ = command(capsys, "avesformer", folder, "--preset", "tiny", *common, *written)
        assert code == 0 and torch.get_num_threads() == 2
    found = Profile.from_dict(json.loads(printed))
    assert found == Profile.from_dict(json.loads(out.read_text()))
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert [row.name for row in found.rows] == ["avesformer", str(folder)]
    assert found.card.threads == 1 and found.card.repeats == 2
    assert found.rows[1].parameters == sum(p.numel() for p in create().parameters())
    code, printed, _ = command(capsys, folder, *common)
    lines = printed.splitlines()
    assert code == 0 and len(lines) == 4 and lines[1].startswith(str(folder))
    assert "100 GFLOP/s" in lines[2] and "64 x 64 px" in lines[3]


MISTAKES = {
    "method": (["lightavsegg"], "did you mean 'lightavseg'"),
    "threads": (["--threads", "0"], "threads is 0"),
    "repeats": (["--repeats", "0", "--preset", "tiny"], "0 repeats"),
    "compile": (["--compile", "graphs", "--preset", "tiny"], "CUDA graphs"),
    "size": (["--size", "16", "--preset", "tiny"], "at least 32"),
    "negative size": (["--size", "-64", "--preset", "tiny"], "size is -64"),
    "seconds": (["--seconds", "-1", "--preset", "tiny"], "seconds is -1"),
    "no seconds": (["--seconds", "0", "--preset", "tiny"], "seconds is 0"),
    "batch": (["--batch", "0", "--preset", "tiny"], "batch is 0"),
    "too many threads": (["--threads", "100000"], "threads is 100000"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_end_in_one_line(capsys, case):
    given, named = MISTAKES[case]
    code, _, error = command(capsys, *given)
    assert code == 2 and named in error and error.startswith("lightavseg: ")
    assert len(error.strip().splitlines()) == 1


def test_an_exported_file_brings_its_size(monkeypatch, tmp_path):
    """What is exported has its frames' size and number in it: no other can be timed."""
    made = SimpleNamespace(size=(64, 96), seconds=1, runtime="onnx", precision="int8", log_mel=(101, 64))
    run = SimpleNamespace(metadata=made)
    monkeypatch.setattr(profiler, "load_exported", lambda path: run)
    with pytest.raises(ValueError, match=r"m\.onnx: made for 1 s of 64 x 96 pixels; found size 64"):
        resolve(str(tmp_path / "m.onnx"), size=64)
    made.size = (64, 64)
    with pytest.raises(ValueError, match="found device 'cuda', expected 'cpu'"):
        resolve("m.onnx", size=64, device="cuda")
    columns = {"runtime": "onnx", "weights": "int8"}
    assert resolve("m.onnx", size=64) == Candidate(run, columns=columns, log_mel=(101, 64))

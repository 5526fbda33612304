"""The benchmark: what is written when, what is kept, and the figure. Speeds are measured, not tested."""

import json
import shutil
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import pytest
from helpers import edge
from helpers.tiny import create, inputs

from lightavseg_core import load_model, plots
from lightavseg_core.profiling import benchmark
from lightavseg_core.profiling.profiler import Candidate, profile
from lightavseg_core.profiling.series import scaling
from lightavseg_core.profiling.timing import threads


@pytest.fixture
def quick(monkeypatch):
    """Runs that take no time, on one thread and on two, and a list of those that were made."""
    made = []

    def measured(name, run):
        made.append(name)
        return run()

    nothing = Candidate(lambda *_: None)
    rows = dict.fromkeys(("eager, contiguous", "onnx fp32", "onnx fp32, no fusion"), nothing)
    how = {"repeats": 2, "device": "cpu"}
    models = {"lightavseg lean": create()}
    runs = {
        "methods": threads(1)(partial(profile, models, 64, part_repeats=2, with_floor=False, **how)),
        "runtimes": threads(2)(partial(profile, rows, with_floor=False, **how)),
        "scaling": threads(1)(partial(scaling, {"a": nothing}, (64,), **how)),
    }

    def on_processor(folder, repeats):
        yield from ((name, partial(measured, name, run)) for name, run in runs.items())

    monkeypatch.setattr(benchmark, "on_processor", on_processor)
    return made


@pytest.mark.slow
def test_written_after_each_run_and_kept(quick, tmp_path):
    path = tmp_path / "latency.json"
    found = benchmark.run(path, "cpu", 2)
    assert quick == ["methods", "runtimes", "scaling"] and benchmark.read(path) == found
    assert list(found.profiles) == ["methods", "runtimes"] and list(found.series) == ["scaling"]
    assert [run.card.threads for run in found.profiles.values()] == [1, 2], "each run has a card of its own"
    assert found.provenance["commit"]
    again = benchmark.run(path, "cpu", 2, only=["runtimes"])
    assert quick[3:] == ["runtimes"]
    assert again.profiles["methods"] == found.profiles["methods"]
    assert again.profiles["runtimes"] != found.profiles["runtimes"]
    with pytest.raises(ValueError, match="unknown run 'runtime': did you mean 'runtimes'"):
        benchmark.run(path, "cpu", 2, only=["runtime"])
    broken = json.loads(path.read_text())
    del broken["profiles"]["methods"]["card"]
    path.write_text(json.dumps(broken))
    with pytest.raises(ValueError, match=r"latency.json: not what `lightavseg bench` writes"):
        benchmark.read(path)


@pytest.mark.slow
def test_another_machines_runs_are_not_kept(quick, tmp_path):
    path = tmp_path / "latency.json"
    found = benchmark.run(path, "cpu", 2)
    found.profiles["methods"].card = replace(found.profiles["methods"].card, device="another")
    found.write(path)
    with pytest.raises(ValueError, match="device is 'another' here"):
        benchmark.run(path, "cpu", 2, only=["runtimes"])
    assert benchmark.read(path).profiles["methods"].card.device == "another", "the file stays"


def test_what_is_stored_can_be_read():
    found = benchmark.read()
    assert {"methods", "parts", "runtimes", "paper", "tiny"} == found.profiles.keys()
    assert found.series["scaling"].points and {run.card.threads for run in found.profiles.values()} == {1, 2}


@pytest.mark.slow
def test_figure(quick, tmp_path):
    found = benchmark.run(tmp_path / "latency.json", "cpu", 2)
    figure = plots.latency.overview(found.profiles["methods"], found.profiles["runtimes"])
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["lightavseg lean"]
    shown = [label.get_text() for label in right.get_yticklabels()]
    assert shown == ["onnx fp32", "eager, contiguous"], "without the one for fusion's share"
    assert "1 thread" in left.get_title("left") and "2 threads" in right.get_title("left")
    plt.close(figure)


def test_models_are_the_methods_on_both_pairs_of_encoders(monkeypatch):
    monkeypatch.setattr(benchmark, "create", lambda method, preset, **options: (method, preset, options))
    models = dict(benchmark.models())
    assert len(models) == 11
    assert models["selm resnet50"] == ("selm", "paper", {"visual": "resnet50", "audio": "vggish"})
    assert {name.split()[0] for name in models} == {*benchmark.PEERS, "lightavseg"}
    encoders = {name.split()[1] for name in models if not name.startswith("lightavseg")}
    assert encoders == {"seaformer_l", "resnet50"}


@pytest.mark.slow
def test_exported_rows(tmp_path, tmp_path_factory, monkeypatch):
    """Of the file that all tests share: rows of one that was made for this would say the same, later."""
    base = edge.folder(tmp_path_factory)

    def export(model, path, runtime, clips, precision, source, command):
        shutil.copy(edge.exported(base, runtime, precision), path)
        return edge.agreement(base, runtime, precision)

    monkeypatch.setattr(benchmark, "export", export)
    rows = benchmark.exported(load_model(edge.TINY), "small", tmp_path, [], ("fp32",), ("onnx",))
    row = rows.pop("onnx fp32, small")
    assert not rows and row.columns["pixels alike"] > 0.9999 and 10 < row.columns["file, MB"] < 14
    assert row.run(*inputs(1, 2, 128, 128)).shape == (1, 2, 1, 128, 128)

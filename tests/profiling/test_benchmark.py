"""The benchmark: what is written when, what is kept, and the figure. Speeds are not tested, they are measured."""
import json
from functools import partial

import matplotlib.pyplot as plt
import pytest
from helpers.tiny import create

from lightavseg_core import plots
from lightavseg_core.profiling import benchmark
from lightavseg_core.profiling.profiler import Candidate, profile, scaling


@pytest.fixture
def quick(monkeypatch):
    """Runs that take no time, and a list of those that were made."""
    made = []

    def measured(name, found):
        made.append(name)
        return found()

    rows = {name: Candidate(lambda *_: None) for name in ("eager, contiguous", "onnx fp32", "onnx fp32, no fusion")}
    runs = {"methods": partial(profile, {"lightavseg lean": create()}, 64, repeats=2, part_repeats=2, device="cpu", with_floor=False),
            "runtimes": partial(profile, rows, repeats=2, device="cpu", with_floor=False),
            "scaling": partial(scaling, {"a": Candidate(lambda *_: None)}, (64,), repeats=2, device="cpu")}
    monkeypatch.setattr(benchmark, "on_processor", lambda folder, repeats: ((name, partial(measured, name, run)) for name, run in runs.items()))
    return made


def test_written_after_each_run_and_kept(quick, tmp_path):
    path = tmp_path / "latency.json"
    found = benchmark.run(path, "cpu", 2)
    assert quick == ["methods", "runtimes", "scaling"] and benchmark.read(path) == found
    assert list(found.profiles) == ["methods", "runtimes"] and list(found.series) == ["scaling"] and found.provenance["commit"]
    again = benchmark.run(path, "cpu", 2, only=["runtimes"])
    assert quick[3:] == ["runtimes"]
    assert again.profiles["methods"] == found.profiles["methods"] and again.profiles["runtimes"] != found.profiles["runtimes"]
    with pytest.raises(ValueError, match="unknown run 'runtime': did you mean 'runtimes'"):
        benchmark.run(path, "cpu", 2, only=["runtime"])
    broken = json.loads(path.read_text())
    del broken["profiles"]["methods"]["card"]
    path.write_text(json.dumps(broken))
    with pytest.raises(ValueError, match=r"latency.json: not what `lightavseg bench` writes"):
        benchmark.read(path)


def test_figure(quick, tmp_path):
    found = benchmark.run(tmp_path / "latency.json", "cpu", 2)
    figure = plots.latency.overview(found.profiles["methods"], found.profiles["runtimes"])
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["lightavseg lean"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["onnx fp32", "eager, contiguous"]      # without the one for fusion's share
    assert "threads" in left.get_title("left") or "thread" in left.get_title("left")
    plt.close(figure)


def test_models_are_the_methods_on_both_pairs_of_encoders(monkeypatch):
    monkeypatch.setattr(benchmark, "create", lambda method, preset, **options: (method, preset, options))
    models = dict(benchmark.models())
    assert len(models) == 11 and models["selm resnet50"] == ("selm", "paper", {"visual": "resnet50", "audio": "vggish"})
    assert {name.split()[0] for name in models} == {"avesformer", "avsbench", "avsegformer", "lightavseg", "selm"}
    assert {name.split()[1] for name in models if not name.startswith("lightavseg")} == {"seaformer_l", "resnet50"}


def test_exported_rows(tmp_path):
    pytest.importorskip("onnxruntime")
    model = create()
    rows = benchmark.exported(model, "small", tmp_path, benchmark.random_clips(model, 1), ("fp32",), ("onnx",))
    assert list(rows) == ["onnx fp32, small"] and rows["onnx fp32, small"].columns["pixels alike"] == 1
    assert rows["onnx fp32, small"].columns["file, MB"] > 1

"""Exported files do what the model does, in every runtime; and a file that does not is not written."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from helpers.edge import RUNTIMES, TINY, agreement, calls, exported, long, noise, shaken, unseen
from helpers.films import film
from PIL import Image

import lightavseg_core as lav
from lightavseg_core import cli
from lightavseg_core.data import AVSBench
from lightavseg_core.data.decoding import read_audio
from lightavseg_core.data.images import read_frame
from lightavseg_core.deploy.export import WRITERS, clips_of, compare, export
from lightavseg_core.deploy.runtimes import SUFFIX, load
from lightavseg_core.evaluation import update_score
from lightavseg_core.metrics import MaskScore
from lightavseg_core.models.base import Output

pytestmark = pytest.mark.slow
INT8 = [("onnx", "int8"), *long(("openvino", "int8"), ("executorch", "int8"))]


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return exit.value.code or 0, captured.out, captured.err


# --- the same function ---


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_fp32_is_the_model(base, runtime):
    """On clips that `export` did not see, through the runtime's own loader."""
    model, file = lav.load_model(TINY), load(exported(base, runtime))
    clips = clips_of(AVSBench(unseen(base), "ms3", "test", 128, model.front_end), 2, 8)
    found = compare(model, file, clips)
    assert found.deviation < 1e-4 and found.pixels > 0.9999
    assert agreement(base, runtime).deviation < 1e-4
    with torch.inference_mode():
        assert file(*clips[0]).shape == (1, 2, 1, 128, 128)
        mixed = clips[0][0], clips[1][1]  # the first clip's frames, the second's sound
        assert torch.allclose(file(*mixed), model(*mixed).logits, atol=1e-3)
        assert not torch.allclose(file(*mixed), file(*clips[0]), atol=1e-1)


def weights_of(path):
    """Bytes of the file that holds the numbers."""
    return (path.with_suffix(".bin") if path.suffix == ".xml" else path).stat().st_size


@pytest.mark.parametrize("runtime, precision", INT8)
def test_int8_scores_as_fp32(base, runtime, precision):
    """M_J of 40 unseen clips of 5 seconds: their first four, two at a time."""
    model, file = lav.load_model(TINY), load(exported(base, runtime, precision))
    data = AVSBench(unseen(base), "ms3", "test", 128, model.front_end)
    scores = {"fp32": MaskScore(), "int8": MaskScore()}
    with torch.inference_mode():
        for index in range(40):
            item = data[index]
            for seconds in (slice(0, 2), slice(2, 4)):
                names = "frames", "log_mel", "mask", "annotated"
                part = {name: item[name][None, seconds] for name in names}
                clip = part["frames"], part["log_mel"]
                update_score(scores["fp32"], model(*clip).logits, part)
                update_score(scores["int8"], file(*clip), part)
    found = {name: score.compute()["M_J"].item() for name, score in scores.items()}
    assert found["fp32"] > 0.9 and abs(found["int8"] - found["fp32"]) < 0.01, found
    # 2.6 million parameters of one byte each, not four.
    assert weights_of(file.path) < 0.45 * weights_of(exported(base, "onnx"))
    assert 1e-3 < agreement(base, runtime, precision).deviation < 0.2, "it is rounded, but not by much"


def test_onnx_int8_overflows_on_no_processor(base):
    """x86 without VNNI adds two products, of 8 bits without sign by 8 with, in 16 bits: 2 * 255 * 64 fit."""
    import onnx

    graph = onnx.load(exported(base, "onnx", "int8")).graph
    weights = [onnx.numpy_helper.to_array(each) for each in graph.initializer]
    weights = [each for each in weights if each.dtype == "int8" and each.ndim > 1]
    assert len(weights) > 50
    assert max(abs(each.astype(int)).max() for each in weights) == 64


@pytest.mark.parametrize("runtime, precision", INT8)
def test_one_thread_and_two(base, runtime, precision):
    model = lav.load_model(TINY)
    clip, = clips_of(AVSBench(unseen(base), "ms3", "test", 128, model.front_end), 2, 1)
    files = [load(exported(base, runtime, precision), threads) for threads in (1, 2)]
    assert [file.threads for file in files] == [1, 2]
    one, two = (file(*clip) > 0 for file in files)
    assert torch.equal(one, two) and 0.005 < one.float().mean() < 0.5


@pytest.mark.parametrize("runtime", long(*RUNTIMES))
@pytest.mark.parametrize("size, seconds, num_classes", [((64, 96), 1, 1), ((64, 64), 3, 3)])
def test_other_shapes_and_classes(tmp_path, runtime, size, seconds, num_classes):
    height, width = size
    model, clips = shaken(num_classes=num_classes), noise(2, height=height, width=width, seconds=seconds)
    path = tmp_path / f"m{SUFFIX[runtime]}"
    assert export(model, path, runtime, clips).deviation < 1e-4
    meta = load(path).metadata
    assert (meta.size, meta.seconds, meta.num_classes) == (size, seconds, num_classes)


def test_few_kinds_of_operation(base):
    import onnx
    import openvino

    kinds = {node.op_type for node in onnx.load(exported(base, "onnx")).graph.node}
    assert not kinds & {"BatchNormalization", "Loop", "If", "Scan", "NonZero", "Shape"}
    assert {"Conv", "Softmax", "MaxPool"} <= kinds
    model = openvino.Core().read_model(exported(base, "openvino"))
    shapes = [list(given.shape) for given in model.inputs]
    assert not model.is_dynamic() and shapes == [[1, 2, 3, 128, 128], [1, 2, 1, 96, 64]]


@pytest.mark.parametrize("precision", ["fp32", *long("int8")])
def test_delegates(base, precision):
    """XNNPACK gets the whole of a model in at most three pieces.

    What is left, ExecuTorch's plain kernels would do, slowly. Copies do no harm.
    """
    found = calls(base, precision)
    delegates = [call for call in found if "executorch_call_delegate" in call]
    harmless = ("executorch_call_delegate", "getitem", "dim_order_copy")
    left = [call for call in found if not any(name in call for name in harmless)]
    assert 1 <= len(delegates) <= 3 and len(left) < 20, left


# --- what is refused ---


@pytest.fixture
def faked(monkeypatch):
    """Exports in no time: the graph stays, and writing and loading is played.

    `faked(times)`: the file's logits are the model's, times that.
    """

    def play(times, stop=False):
        def load(path, threads=None):
            assert path.read_bytes() == b"new" and path.parent.name.startswith(".exporting_")
            if stop:
                raise KeyboardInterrupt
            return lambda frames, log_mel: times * model(frames, log_mel).logits

        def write(program, path, *rest):
            path.write_bytes(b"new")

        model = shaken()
        module = "lightavseg_core.deploy.export"
        monkeypatch.setattr(f"{module}.edge_graph", lambda *given: "program")
        monkeypatch.setitem(WRITERS, "onnx", (write, *WRITERS["onnx"][1:]))
        monkeypatch.setattr(f"{module}.load", load)
        return model

    return play


def test_a_wrong_result_is_refused(faked, tmp_path):
    path = tmp_path / "deep" / "m.onnx"
    said = r"onnx fp32: its logits deviate from PyTorch's by 1\.0% .* 2 clips; expected at most 0\.1%"
    with pytest.raises(ValueError, match=said):
        export(faked(1.01), path, "onnx", noise())
    assert list(path.parent.iterdir()) == []
    with pytest.raises(ValueError, match="deviate from PyTorch's by nan%"):
        export(faked(float("nan")), path, "onnx", noise())
    assert list(path.parent.iterdir()) == []


def test_the_old_file_stays_until_the_new_one_is_good(faked, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="deviate"):
        export(faked(0.9), path, "onnx", noise())
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(KeyboardInterrupt):
        export(faked(1, stop=True), path, "onnx", noise())
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    found = export(faked(1.0005), path, "onnx", noise())
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]
    assert found.deviation == pytest.approx(5e-4, rel=1e-2) and found.pixels == 1


def test_int8_may_deviate(faked, tmp_path):
    found = export(faked(1.2), tmp_path / "m.onnx", "onnx", noise(), "int8")
    assert found.deviation == pytest.approx(0.2, rel=1e-3)


def test_compare_by_hand():
    """Deviation and pixels of four numbers; the model's mode comes back."""

    class Model(torch.nn.Module):
        def forward(self, frames, log_mel):
            assert not self.training
            return Output(torch.tensor([1.0, -1.0, 2.0, -4.0]).reshape(1, 1, 1, 2, 2))

    def file(frames, log_mel):
        return torch.tensor([1.0, 1.0, 2.0, -4.0]).reshape(1, 1, 1, 2, 2)

    model = Model().train()
    assert compare(model, file, noise(1)) == (0.25, 0.75) and model.training


@pytest.mark.parametrize(
    "given, words",
    [
        (("m.onnx", "onxn"), "unknown runtime 'onxn'.*onnx"),
        (("m.pte", "onnx"), "m.pte: expected a name that ends in .onnx"),
        (("m", "openvino"), "ends in .xml"),
        (("m.onnx", "onnx", "int4"), "unknown precision 'int4'.*int8"),
    ],
)
def test_mistakes(tmp_path, given, words):
    name, runtime, *precision = given
    with pytest.raises(ValueError, match=words):
        export(shaken(), tmp_path / name, runtime, noise(), *precision)
    assert list(tmp_path.iterdir()) == []


def test_clips_of(shapes):
    data = AVSBench(shapes, "ms3", "train", 64)
    clips = clips_of(data, 3, 4)
    frames, log_mel = clips[2]
    assert len(clips) == 4 and frames.shape == (1, 3, 3, 64, 64) and log_mel.shape == (1, 3, 1, 96, 64)
    assert torch.equal(frames[0], data[2]["frames"][1:4])
    assert torch.equal(log_mel[0], data[2]["log_mel"][1:4])
    assert len(clips_of(data, 1, 100)) == 6
    with pytest.raises(ValueError, match="no clip of the train split has 6 seconds"):
        clips_of(data, 6)


# --- the command line ---


def test_command(faked, shapes, tmp_path, capsys, monkeypatch):
    """With real and with generated clips; what it prints."""
    model = faked(1)
    model.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    given = "export", "model", "--runtime", "onnx", "--size", "64"
    code, out, err = command(capsys, *given, "--data", shapes, "--clips", "3")
    said = r"runs/export/model_onnx_fp32\.onnx: 0\.0 MB; .*100\.00% of the pixels.*\(3 clips\)\n"
    assert (code, err) == (0, "") and re.fullmatch(said, out)
    options = "--clips", "2", "--seconds", "2", "--precision", "int8", "--out", "m.onnx", "--json"
    code, out, err = command(capsys, *given, *options)
    found = json.loads(out)
    assert found.pop("deviation") == pytest.approx(0, abs=1e-6)
    assert found == {"file": "m.onnx", "mb": 0.0, "clips": 2, "pixels": 1.0}
    assert (tmp_path / "m.onnx").read_bytes() == b"new"


NEEDS = r"runtime 'onnx' needs onnxscript, which is not installed: run `pip install -e '\.\[edge\]'`"
CASES = {
    "no extra": (["{tiny}", "--runtime", "onnx"], NEEDS),
    "suffix": (["{tiny}", "--runtime", "openvino", "--out", "{tmp}/m.onnx"], "ends in .xml"),
    "no checkpoint": (["{tmp}/absent", "--runtime", "onnx"], "absent"),
    "no data": (["{tiny}", "--runtime", "openvino", "--data", "{tmp}"], "ms3_meta_data.csv"),
}


@pytest.mark.parametrize("case", CASES)
def test_mistakes_end_in_one_line(tmp_path, capsys, monkeypatch, case):
    arguments, words = CASES[case]
    if case == "no extra":
        monkeypatch.setitem(sys.modules, "onnxscript", None)
    arguments = [part.format(tiny=TINY, tmp=tmp_path) for part in arguments]
    code, out, error = command(capsys, "export", *arguments)
    assert (code, out) == (2, "") and len(error.splitlines()) == 1 and re.search(words, error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_predict_writes_the_models_masks(base, runtime, tmp_path, capsys):
    """Of an exported file, from a video: clips of 2 seconds, of which the last is filled up."""
    clip = AVSBench(unseen(base), "ms3", "test", 128).clips[0]
    video = film(
        tmp_path / "clip.mkv",
        [read_frame(path).permute(1, 2, 0).numpy() for path in clip.frames],
        fps=1,
        sound=read_audio(clip.audio)[None].numpy(),
        rate=16_000,
        audio_codec="pcm_s16le",
        codec="ffv1",
        pixels="bgr0",
    )
    masks = {}
    for name, checkpoint in (("pytorch", TINY), (runtime, exported(base, runtime))):
        assert command(capsys, "predict", checkpoint, video, "--out", tmp_path / name)[0] == 0
        files = sorted((tmp_path / name / "clip" / "masks").iterdir())
        pictures = [bytearray(Image.open(file).tobytes()) for file in files]
        masks[name] = torch.stack([torch.frombuffer(picture, dtype=torch.uint8) for picture in pictures])
    asked = json.loads((tmp_path / runtime / "clip" / "manifest.json").read_text())["asked"]
    assert (asked["runtime"], asked["clip"], asked["method"]) == (runtime, 2, "lightavseg")
    assert masks[runtime].shape == (5, 128 * 128)
    assert 0.005 < (masks[runtime] > 0).float().mean() < 0.5
    assert (masks[runtime] != masks["pytorch"]).float().mean() <= 0.001


SILENT = """
import lightavseg_core.deploy.runtimes, numpy, onnx, onnxruntime
from onnx import helper as h
x, y = (h.make_tensor_value_info(name, 1, [1]) for name in 'xy')
graph = h.make_graph([h.make_node('Relu', ['x'], ['y'])], 'g', [x], [y])
model = h.make_model(graph, opset_imports=[h.make_opsetid('', 17)], ir_version=9)
onnxruntime.InferenceSession(model.SerializeToString()).run(None, {'x': numpy.ones(1, numpy.float32)})
try: import openvino_telemetry
except ImportError: print('nothing')
"""


def test_nothing_is_reported(tmp_path):
    """What ONNX Runtime would write into the home folder, and send, in a process of its own.

    And NNCF, which asks for a package to do it.
    """
    asked = ("XDG_CACHE_HOME", "CI", "ORT_DISABLE_TELEMETRY")
    kept = {name: value for name, value in os.environ.items() if name not in asked}
    home = tmp_path / "home"
    home.mkdir()
    environment = {**kept, "HOME": str(home), "MPLCONFIGDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SILENT], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout == "nothing\n" and not [path for path in home.rglob("*") if path.is_file()]

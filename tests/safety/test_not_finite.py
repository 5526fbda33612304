"""Logits that are not finite are no mask: whoever would score or show them says in which clip and second."""

import json

import pytest
import torch
from helpers.ear import Ear, contents, gradient, segmenter
from helpers.films import film
from helpers.tiny import create

import lightavseg_core as lav
from lightavseg_core._common.outputs import NotFinite
from lightavseg_core.cli import main
from lightavseg_core.data import AVSBench
from lightavseg_core.deploy.export import compare
from lightavseg_core.deploy.runtimes import KEY, Exported, Metadata, load
from lightavseg_core.deploy.scoring import score_segmenter
from lightavseg_core.evaluation import predict
from lightavseg_core.inspection import scales
from lightavseg_core.metrics import BoundaryScore, FalsePositiveShare, MaskScore, SemanticScore
from lightavseg_core.models.base import Output
from lightavseg_core.video import prediction
from lightavseg_core.widgets import DecoderStepper, MixingDesk

NAN, INF = float("nan"), float("inf")
METRICS = {"masks": MaskScore, "classes": lambda: SemanticScore(2), "edge": BoundaryScore,
           "marked": FalsePositiveShare}


@pytest.fixture(scope="module")
def test_split(shapes):
    return AVSBench(shapes, "ms3", "test", size=64, front_end=create().front_end)


class Spoiled:
    """A hook: what a model gives for a second of the clip with these frames is NaN."""

    def __init__(self, item, second):
        self.frames, self.second = item["frames"], second

    def __call__(self, model, given, output):
        logits = output.logits.clone()
        for clip, frames in enumerate(given[0]):
            if torch.equal(frames, self.frames):
                logits[clip, self.second, 0, 0, 0] = NAN
        return Output(logits, output.scales)


@pytest.fixture
def spoiled(test_split):
    """A model that is not finite in one pixel of second 3 of clip 2, and how that is called."""
    model = create()
    model.register_forward_hook(Spoiled(test_split[2], 3))
    name = test_split.clips[2].name
    return model, f"clip {name}, second 3: 1 of 4,096 logits are not finite (nan)"


# --- the metrics ---


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("truth", [0, 1])
@pytest.mark.parametrize("metric", METRICS)
def test_no_metric_takes_it_for_anything(metric, truth, value):
    """Not for background, not for foreground, and not for one of the classes."""
    logits = torch.zeros(3, 2, 8, 8) if metric == "classes" else torch.zeros(3, 8, 8)
    target, score = torch.full((3, 8, 8), truth), METRICS[metric]()
    score.update(logits, target)
    before = {name: value.clone() for name, value in score.metric_state.items()}
    logits[1, ..., 2, 3] = value
    said = rf"^frame 1: . of .* logits are not finite \({value}\)\. .*use another checkpoint"
    with pytest.raises(ValueError, match=said):
        score.update(logits, target)
    assert all(torch.equal(value, before[name]) for name, value in score.metric_state.items())


def test_large_numbers_are_finite():
    """Also where their sum is not."""
    logits, target = torch.full((2, 8, 8), 3e38), torch.ones(2, 8, 8)
    for make in (MaskScore, BoundaryScore, FalsePositiveShare):
        make().update(logits, target)
        make().update(logits.half().fill_(6e4), target)


@pytest.mark.parametrize("metric", ["masks", "edge", "marked"])
def test_shapes_that_do_not_go_together(metric):
    """One of them in another's place would be spread over it."""
    for logits, target in (
        ((4, 1, 32, 32), (4, 32, 32)), ((4, 32, 32), (4, 1, 32, 32)), ((4, 32, 32), (4, 16, 16)),
        ((4, 32, 32), (32, 32)), ((32, 32), (4, 32, 32)), ((4, 32, 32), (1, 32, 32)), ((4, 32), (4, 32, 1)),
        ((32,), (32,)),
    ):
        with pytest.raises(ValueError, match="^logits .* and target .*: expected .*H, W.*$") as caught:
            METRICS[metric]().update(torch.ones(logits), torch.zeros(target))
        assert str(logits) in str(caught.value) and str(target) in str(caught.value)
    score = METRICS[metric]()
    for shape in ((32, 32), (4, 32, 32), (2, 2, 32, 32), (0, 32, 32)):
        score.update(torch.ones(shape), torch.zeros(shape))


# --- models ---


@pytest.mark.slow
def test_the_clip_and_the_second_are_named(spoiled, test_split):
    model, said = spoiled
    for batch_size in (1, 3, 8):
        with pytest.raises(ValueError) as caught:
            lav.evaluate(model, test_split, batch_size=batch_size)
        assert str(caught.value).startswith(said)
    with pytest.raises(ValueError) as caught:
        scales.maps(model, test_split)
    assert str(caught.value).startswith(said)
    with pytest.raises(ValueError) as caught:
        predict(model, test_split[2])
    assert str(caught.value).startswith(said)
    assert predict(model, test_split[1]).shape == (5, 64, 64)


def test_who_marks_a_second_at_a_time(test_split):
    calls = []

    def segment(frames, log_mel):
        calls.append(frames)
        if len(calls) == 8:
            raise NotFinite("m.onnx, second 0", 0, "9 of 9 logits are not finite (inf)")
        return frames[:, :, :1]

    with pytest.raises(ValueError, match=f"^clip {test_split.clips[1].name}, second 2: 9 of 9"):
        score_segmenter(segment, test_split)


@pytest.mark.slow
def test_a_training_is_told_by_its_validation(spoiled, shapes, test_split):
    model, said = spoiled
    train = AVSBench(shapes, "ms3", "train", size=64, front_end=model.front_end)
    config = lav.TrainConfig(epochs=1, batch_size=6, audio_weights="joint")
    with pytest.raises(ValueError) as caught:
        lav.Trainer(model, config).fit(train, test_split)
    assert str(caught.value).startswith(said)


@pytest.mark.slow
def test_the_desk_and_the_stepper(spoiled, test_split):
    """Where it is shown first, an error; later it is told below the pictures, which stay as they were."""
    model, said = spoiled
    for make in (lambda: MixingDesk(model, test_split, 2), lambda: DecoderStepper(model, test_split[2])):
        with pytest.raises(ValueError) as caught:
            make()
        assert str(caught.value).startswith(said)
    desk = MixingDesk(model, test_split, 1)
    before = desk.mask.value
    desk.clip.value = 2
    assert said in desk.message.value and (desk.clip.value, desk.mask.value) == (1, before)
    desk.close()


@pytest.fixture(scope="module")
def broken_folder(tmp_path_factory):
    """A model folder with one weight that is NaN."""
    model, folder = create(), tmp_path_factory.mktemp("broken") / "model"
    with torch.no_grad():
        next(model.visual.parameters()).flatten()[0] = NAN
    model.save_pretrained(folder)
    return folder


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    captured = capsys.readouterr()
    return end.value.code or 0, captured.out, captured.err.splitlines()


@pytest.mark.slow
def test_the_commands(broken_folder, shapes, tmp_path, capsys):
    path = film(tmp_path / "film.mp4", (gradient(k) for k in range(3)), fps=1)
    code, out, (line,) = run(capsys, "evaluate", broken_folder, "--data", shapes, "--json")
    assert code == 2 and not out and line.startswith("lightavseg: clip ms3_test_00000, second 0: ")
    code, out, lines = run(capsys, "predict", broken_folder, path, "--out", tmp_path / "o", "--size", 32)
    assert code == 1 and not out
    assert lines[-1].startswith(f"lightavseg: {path}, second 0: 1,024 of 1,024 logits are not finite")
    manifest = json.loads((tmp_path / "o" / "film" / "manifest.json").read_text())
    assert not manifest["complete"] and not list((tmp_path / "o" / "film" / "masks").iterdir())


# --- videos ---


class Overflowing(Ear):
    """Not finite in the second frame of its second clip."""

    def __call__(self, frames, log_mel):
        logits = super().__call__(frames, log_mel)
        if len(self.seen) == 2:
            logits[0, 1, 0, 0, 0] = INF
        return logits


def test_prediction_names_the_second(clip, tmp_path):
    said = f"^{clip}, second 3: 1 of 1,024 logits are not finite .inf."
    with pytest.raises(ValueError, match=said):
        list(prediction.predict(segmenter(Overflowing()), clip, fps=2))
    with pytest.raises(ValueError, match=said):
        prediction.write(segmenter(Overflowing()), clip, tmp_path, fps=2)
    made = contents(tmp_path)
    assert sum(name.startswith("masks/") for name in made) == 5, "what was finite is kept"
    assert not json.loads(made["manifest.json"])["complete"]


# --- exported files ---


def of_size(runtime="onnx", seconds=2):
    return Metadata("lightavseg", runtime, "fp32", (32, 32), seconds, (96, 64), "mobilenetv2_050", 1, "m", {})


def nan_in_second_1(frames, log_mel):
    logits = frames[:, :, :1].clone()
    logits[0, 1, 0, 0, 0] = NAN
    return logits


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "executorch"])
def test_an_exported_file(clip, tmp_path, runtime):
    """Alone it names itself; in a video, that one and its second."""
    file = Exported(tmp_path / "m.file", of_size(runtime), 1, nan_in_second_1)
    with pytest.raises(ValueError, match=f"^{file.path}, second 1: 1 of 1,024 logits are not finite .nan."):
        file(torch.zeros(1, 2, 3, 32, 32), torch.zeros(1, 2, 1, 96, 64))
    run = segmenter(clip=2)._replace(run=file)
    with pytest.raises(ValueError, match=f"^{clip}, second 1: 1 of 1,024"):
        list(prediction.predict(run, clip))


def test_an_export_is_refused(tmp_path):
    """Whether the model is not finite or only the file."""
    file, clips = Exported(tmp_path / "m.onnx", of_size(), 1, nan_in_second_1), []
    for _ in range(2):
        clips.append((torch.randn(1, 2, 3, 32, 32), torch.randn(1, 2, 1, 96, 64)))
    model = create()
    with pytest.raises(ValueError, match="^m.onnx, clip 0, second 1: 1 of 1,024 logits"):
        compare(model, file, clips)
    model.register_forward_hook(Spoiled({"frames": clips[1][0][0]}, 0))
    with pytest.raises(ValueError, match="^clip 1, second 0: 1 of 1,024 logits"):
        compare(model, Exported(file.path, of_size(), 1, lambda frames, log_mel: frames[:, :, :1]), clips)


def test_a_real_file(tmp_path):
    """ONNX Runtime's own: the mean over colours, divided by zero."""
    pytest.importorskip("onnxruntime")
    import onnx
    from onnx import helper, numpy_helper

    shapes = {"frames": (1, 1, 3, 32, 32), "log_mel": (1, 1, 1, 96, 64), "logits": (1, 1, 1, 32, 32)}
    values = {name: helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("ReduceMean", ["frames"], ["mean"], axes=[2]),
        helper.make_node("Div", ["mean", "zero"], ["logits"]),
    ]
    zero = numpy_helper.from_array(torch.zeros(1).numpy(), "zero")
    inputs, outputs = [values["frames"], values["log_mel"]], [values["logits"]]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {KEY: of_size(seconds=1).to_json()})
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="m.onnx, second 0: 1,024 of 1,024 logits are not finite .inf."):
        load(tmp_path / "m.onnx")(torch.ones(1, 1, 3, 32, 32), torch.zeros(1, 1, 1, 96, 64))

"""Scores of a model on a dataset, with any sound, and the score of who sees everything and hears nothing."""

import pytest
import torch
from helpers.tiny import create, trained
from torch.utils.data import ConcatDataset, DataLoader, Subset
from torchmetrics import MetricCollection

from lightavseg_core import TrainConfig, Trainer, create_model, deaf_oracle, evaluate
from lightavseg_core.data import AVSBench
from lightavseg_core.data.avsbench import collate
from lightavseg_core.data.sounding_shapes import objects
from lightavseg_core.evaluation import predict
from lightavseg_core.inspection.attention import survey
from lightavseg_core.inspection.scales import maps
from lightavseg_core.metrics import FalsePositiveShare, MaskScore
from lightavseg_core.widgets import MixingDesk


@pytest.mark.slow
def test_evaluate(shapes):
    model, data = trained(), AVSBench(shapes, "ms3", "test", 64)
    scores = {sound: evaluate(model, data, sound) for sound in ("normal", "silent", "swapped", "noise")}
    normal = scores["normal"]
    measured = {"M_J", "M_F", "M_F_batch", "foreground_share"}
    assert set(normal) == {*measured, "batch_size", "frames", "sound"}
    for sound, found in scores.items():
        assert (found["frames"], found["sound"], found["batch_size"]) == (20, sound, 8)
    assert len({found["M_F"] for found in scores.values()}) == 4, "each is another sound"
    own = evaluate(model, data.with_sound("silent"))
    assert own == scores["silent"], "a dataset's own sound is the default"
    one = evaluate(model, data, batch_size=1)
    for name in ("M_J", "M_F", "foreground_share"):
        assert one[name] == pytest.approx(normal[name], abs=1e-6)
    metrics = MetricCollection([MaskScore(), FalsePositiveShare()], compute_groups=False)
    more = evaluate(model, data, "noisy", score=metrics)
    assert set(more) == {*normal, "false_positive_share"}
    assert more["M_F"] not in {found["M_F"] for found in scores.values()}
    with pytest.raises(ValueError, match="loud"):
        evaluate(model, data, "loud")
    evaluate(model, data)
    assert data.sound == "normal"


def clips(dataset, indices):
    return [dataset[i] for i in indices]


@pytest.mark.slow
def test_what_evaluate_takes(shapes):
    """A part of a dataset is scored as the dataset of that part; of a loader its dataset."""
    model, data = create(), AVSBench(shapes, "ms3", "test", 64)
    whole, part = evaluate(model, data), evaluate(model, Subset(data, [0, 2]))
    assert whole["frames"] == 20 and part["frames"] == 10 and part["sound"] == "normal"
    assert evaluate(model, Subset(Subset(data, [3, 0, 2]), [1, 2])) == part
    assert evaluate(model, clips(data, (0, 2))) == {**part, "sound": "as given"}
    assert evaluate(model, tuple(clips(data, (0, 2)))) == {**part, "sound": "as given"}
    for loader in (DataLoader(data), DataLoader(data, 3, shuffle=True, collate_fn=collate, drop_last=True)):
        assert evaluate(model, loader) == whole
    halves = ConcatDataset([Subset(data, [0, 1]), Subset(data, [2, 3])])
    assert evaluate(model, halves, "swapped") == evaluate(model, data, "swapped")
    swapped = evaluate(model, Subset(data, [0, 2]), "swapped")
    by_hand = [{**data[i], "log_mel": data.with_sound("swapped")[i]["log_mel"]} for i in (0, 2)]
    assert evaluate(model, by_hand) == {**swapped, "sound": "as given"}


WRONG = {
    "a path": (lambda data: str(data.root), "dataset is a str"),
    "nothing": (lambda data: None, "dataset is a NoneType"),
    "one item": (lambda data: data[0], "dataset is a dict"),
    "batches": (lambda data: [(1, 2)], "dataset is a list of tuple"),
    "other items": (lambda data: [{"frames": 1}], "dataset is a list of dict; .*annotated, frames, log_mel"),
    "no clips": (lambda data: [], "dataset has no clips"),
    "no part": (lambda data: Subset([], []), "dataset has no clips"),
    "a sampler": (lambda data: DataLoader(data, sampler=[1, 2]), r"a custom sampler; give Subset\("),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_evaluate_does_not_take(shapes, what):
    make, words = WRONG[what]
    data = AVSBench(shapes, "ms3", "test", 64)
    with pytest.raises(ValueError, match=words) as error:
        evaluate(create(), make(data))
    assert "\n" not in str(error.value)


def test_what_needs_a_dataset_with_its_files(shapes, tmp_path):
    data, model = AVSBench(shapes, "ms3", "test", 64), create()
    with pytest.raises(ValueError, match="items come with their own; give the dataset"):
        evaluate(model, clips(data, [0]), "silent")
    with pytest.raises(ValueError, match="model is a str; expected a model from create_model or load_model"):
        evaluate("checkpoints/tiny", data)
    part = Subset(data, [0])
    for needs in (deaf_oracle, lambda part: MixingDesk(model, part)):
        with pytest.raises(ValueError, match="dataset is a Subset; expected an AVSBench dataset"):
            needs(part)
    for name, given in (("train", (part, data)), ("validation", (data, part))):
        with pytest.raises(ValueError, match=f"{name} is a Subset; expected an AVSBench dataset"):
            Trainer(model, TrainConfig(epochs=1), tmp_path / "run").fit(*given)
    assert not (tmp_path / "run").exists()


LOOKS = {
    "evaluate": lambda model, data: evaluate(model, data),
    "predict": lambda model, data: predict(model, data[0]),
    "survey": lambda model, data: survey(model, data),
    "maps": lambda model, data: maps(model, data),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.slow
def test_who_looks_changes_nothing(shapes, look):
    """A part that is in another mode than the whole stays in it, and no random number is drawn."""
    model, data = create_model("avsegformer", preset="tiny"), AVSBench(shapes, "ms3", "val", 32)
    data.clips = data.clips[:1]
    model.train().visual.eval()
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    LOOKS[look](model, data)
    assert [module.training for module in model.modules()] == modes and len(set(modes)) == 2
    assert torch.equal(torch.get_rng_state(), state)
    model.freeze_audio()
    assert model.training and not model.visual.training and not model.audio.training


def test_deaf_oracle_by_hand(shapes):
    data = AVSBench(shapes, "ms3", "test", 64)
    ious = []
    for index in range(len(data)):
        things = objects(shapes, "ms3", "test", index)
        for t, truth in enumerate(data[index]["mask"].numpy() > 0):
            visible = sum(thing.masks[t].astype(int) for thing in things) > 0
            iou = (visible & truth).sum() / (visible | truth).sum()
            ious.append(iou if truth.any() else 1 - visible.mean())
    found = deaf_oracle(data)
    assert found["M_J"] == pytest.approx(sum(ious) / len(ious), abs=1e-5) and found["M_J"] < 0.95

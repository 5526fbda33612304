"""The same seed gives the same weights, whatever stood before; what goes wrong leaves no trace."""

import os

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from helpers.tiny import create

from lightavseg_core import TrainConfig, Trainer
from lightavseg_core._common.files import alone
from lightavseg_core._common.switches import WHERE
from lightavseg_core.audio_pretraining import pretrain_audio
from lightavseg_core.data import AVSBench
from lightavseg_core.losses import total_loss

SIZE = 32
SMALL = {"epochs": 1, "batch_size": 2, "audio_weights": "joint", "audio_epochs": 1}


def few(shapes, split, dataset=AVSBench, size=SIZE):
    """Two clips."""
    found = dataset(shapes, "ms3", split, size)
    found.clips = found.clips[:2]
    return found


def trainer(model, out=None, **options):
    return Trainer(model, TrainConfig(**{**SMALL, **options}), out)


def fit(shapes, model=None, out=None, dataset=AVSBench, size=SIZE, **options):
    """A model, trained for a step; its first weights are always the same."""
    model = create(size=SIZE) if model is None else model
    train, validation = few(shapes, "train", dataset, size), few(shapes, "val", size=size)
    trainer(model, out, **options).fit(train, validation)
    return model


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module, before):
    """Names of what is not bit for bit as it was."""
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


@pytest.fixture(scope="module")
def expected(shapes):
    """What a training gives that nothing stood before."""
    return snapshot(fit(shapes))


# --- an earlier training ---

EARLIER = {
    "visual": ({"freeze_visual": 1}, {}),
    "audio": ({"audio_weights": "pretrain"}, {}),
    "audio, tagging": ({"audio_weights": "pretrain"}, {"audio_weights": "pretrain"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", EARLIER)
def test_what_an_earlier_training_froze_learns(shapes, case):
    """Where the second's configuration says so: all of it, the statistics of batch norms too."""
    first, second = EARLIER[case]
    model = fit(shapes, **first)
    part = getattr(model, case.split(",")[0])
    before, buffers = snapshot(part), dict(part.named_buffers())
    assert not any(p.requires_grad for p in part.parameters())
    model.zero_grad()
    fit(shapes, model, **second)
    moved = changed(part, before)
    assert all(p.grad is not None for p in part.parameters())
    assert len(moved) > 0.9 * len(before) and buffers.keys() <= moved
    assert all(p.requires_grad for p in part.parameters()) == ("audio_weights" not in second)


@pytest.mark.slow
def test_what_was_frozen_by_hand_stays_so(shapes):
    model = create(size=SIZE)
    for part in (model.visual.stages[0], model.smooth):
        part.requires_grad_(False)
    frozen = [(p, p.clone()) for p in model.parameters() if not p.requires_grad]
    run = trainer(model, freeze_visual=1)
    for _ in range(2):
        run.fit(few(shapes, "train"), few(shapes, "val"))
        assert len([entry for entry in run.log if entry["event"] == "step"]) == 1, "the second's alone"
        run.config.freeze_visual = 0
    assert frozen and all(torch.equal(p, before) for p, before in frozen)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing can learn"):
        fit(shapes, model)
    with pytest.raises(ValueError, match="nothing in the audio encoder can learn.*frozen"):
        pretrain_audio(model.audio, few(shapes, "train"), few(shapes, "val"), TrainConfig(), "cpu")


# --- the process ---

OUTSIDE = {"GRADIENT_ACCUMULATION_STEPS": "4", "MIXED_PRECISION": "bf16"}


@pytest.fixture
def new_process():
    """Accelerate as it is when a process starts."""
    def reset():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    yield reset()
    reset()


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.slow
def test_the_environment_does_not_decide(shapes, expected, new_process, monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_{name}", OUTSIDE[name])
    before = dict(os.environ)
    assert not changed(fit(shapes), expected)
    assert dict(os.environ) == before


@pytest.mark.slow
def test_where_a_training_runs_may_stand_in_the_environment(shapes, monkeypatch):
    seen = []

    def watched(*arguments):
        seen.append({name for name in os.environ if name.startswith("ACCELERATE_")})
        return total_loss(*arguments)

    monkeypatch.setattr("lightavseg_core.trainer.total_loss", watched)
    for name in (*WHERE, "ACCELERATE_USE_FSDP"):
        monkeypatch.setenv(name, {"ACCELERATE_TORCH_DEVICE": "cpu"}.get(name, "false"))
    fit(shapes)
    assert seen and all(found == set(WHERE) for found in seen)


def test_another_loops_accumulation_does_not_decide(shapes, expected, new_process):
    """Accelerate's state is the process's: a loop that accumulates gradients may have left it between two
    steps."""
    GradientState().sync_gradients = False
    assert not changed(fit(shapes), expected)


# --- what is watched ---


@pytest.mark.slow
def test_validation_changes_no_weight(shapes, tmp_path):
    often = snapshot(fit(shapes, out=tmp_path, epochs=2, validate_every=1))
    assert not changed(fit(shapes, epochs=2, validate_every=2), often)


def test_mirrors_are_those_of_the_seed(shapes, monkeypatch):
    """The seed alone draws them, whenever a validation is due."""
    mirrored = []

    def watched(batch, which):
        mirrored.append(which.tolist())
        return batch

    def quick(self, model, batch):
        loss = 0 * self.model.head[1].bias.sum()
        return loss, {"loss": loss}

    monkeypatch.setattr("lightavseg_core.data.loading.mirrored", watched)
    monkeypatch.setattr(Trainer, "_loss", quick)
    fit(shapes, epochs=7, validate_every=7)
    generator, wanted = torch.Generator().manual_seed(0), []
    for _ in range(7):
        wanted.append((torch.rand(2, generator=generator) < 0.5).tolist())
    assert mirrored == wanted


# --- what goes wrong ---


class Silenced(AVSBench):
    """The second clip's sound is not finite; `deep`: in the waveform already."""

    deep = False

    def waveform(self, index):
        return super().waveform(index) * (float("nan") if self.deep and index == 1 else 1)

    def log_mel(self, index):
        return super().log_mel(index) * (float("nan") if index == 1 else 1)


class SilencedDeep(Silenced):
    deep = True


@pytest.mark.parametrize("dataset, how", [(Silenced, "joint"), (SilencedDeep, "pretrain")])
def test_a_broken_sound_leaves_the_model_as_it_was(shapes, tmp_path, dataset, how):
    model = create(size=SIZE)
    before, name = snapshot(model), few(shapes, "train").clips[1].name
    with pytest.raises(FloatingPointError, match=name):
        fit(shapes, model, dataset=dataset, audio_weights=how)
    assert not changed(model, before) and all(p.grad is None for p in model.parameters())


@pytest.mark.slow
def test_pretraining_that_breaks_off_keeps_the_batch_before(shapes):
    model = create(size=SIZE)
    with pytest.raises(FloatingPointError, match="audio pretraining.*learning_rate"):
        fit(shapes, model, audio_weights="pretrain", audio_epochs=3, learning_rate=1e30)
    assert all(value.isfinite().all() for value in model.state_dict().values())


REFUSED = {
    "a size that the model does not take": ({"size": 16}, "at least 32"),
    "weights that are not there": ({"audio_weights": "absent.pth"}, "absent.pth: no such"),
    "a loss that there is not": ({"auxiliary": "alignmnet"}, "did you mean 'alignment'"),
    "a rate below none": ({"learning_rate": -1.0}, "learning_rate is -1.0; expected at least 0"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.slow
def test_a_refused_start_leaves_nothing(shapes, tmp_path, case):
    """Neither a folder nor anything learned; an earlier run in the folder stays."""
    options, message = REFUSED[case]
    model, out, earlier = create(size=SIZE), tmp_path / "deep" / "run", tmp_path / "earlier"
    before, modes = snapshot(model), [module.training for module in model.modules()]
    earlier.mkdir()
    (earlier / "log.jsonl").write_text("earlier")
    for folder in (out, earlier):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            fit(shapes, model, folder, **{"audio_weights": "pretrain", **options})
    assert not changed(model, before) and [module.training for module in model.modules()] == modes
    assert [path.name for path in tmp_path.rglob("*")] == ["earlier", "log.jsonl"]


def test_a_folder_that_is_being_written_is_refused(shapes, tmp_path):
    with alone(tmp_path), pytest.raises(ValueError, match="another process is writing there"):
        fit(shapes, out=tmp_path)
    assert not list(tmp_path.iterdir())

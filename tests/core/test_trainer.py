"""Training repeats bit for bit, learns, keeps good checkpoints whatever happens, and treats sound as told."""

import json
import math
import shutil
from contextlib import nullcontext

import pytest
import torch
import torch._inductor.config as inductor
from helpers.tiny import create
from safetensors.torch import load_file, save_file

from lightavseg_core import TrainConfig, Trainer, evaluate, load_model
from lightavseg_core.audio_pretraining import pretrain_audio
from lightavseg_core.data import AVSBench, collate
from lightavseg_core.data.loading import mirrored
from lightavseg_core.data.sounding_shapes import generate
from lightavseg_core.losses import total_loss
from lightavseg_core.models import AVSModel

SIZE = 64


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    counts = {"train": 8, "val": 2, "test": 2}
    return generate(tmp_path_factory.mktemp("mini"), "ms3", counts, size=SIZE, seed=0, workers=1)


SMALL = {"epochs": 2, "batch_size": 4, "audio_weights": "joint", "audio_epochs": 1, "validate_every": 1}
SMALL |= {"half": 0.0, "three_quarters": 0.0}


def fit(root, out, sound="normal", dataset=AVSBench, **options):
    """Trains a small model and returns it; its first weights are always the same."""
    model = create(size=SIZE)
    splits = ("train", "val")
    train, validation = (dataset(root, "ms3", split, SIZE, model.front_end, sound) for split in splits)
    Trainer(model, TrainConfig(**{**SMALL, **options}), out).fit(train, validation)
    return model


def read_log(out, event=None):
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if event in (None, entry["event"])]


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.fixture(scope="module")
def joint(root, tmp_path_factory):
    """(folder, trained model) of a run that others are compared with."""
    out = tmp_path_factory.mktemp("runs") / "joint"
    return out, fit(root, out)


# --- what a run is and leaves ---


@pytest.mark.slow
def test_same_seed_same_bytes(root, joint, tmp_path):
    out, _ = joint
    torch.randn(1000), torch.manual_seed(99)  # what happened before does not matter
    fit(root, tmp_path / "again")
    fit(root, tmp_path / "other", seed=1)
    for file in ("best/model.safetensors", "last/model.safetensors", "last/config.json"):
        assert (out / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    first, again, other = (
        [entry["loss"] for entry in read_log(folder, "step")]
        for folder in (out, tmp_path / "again", tmp_path / "other")
    )
    assert first == again and first[0] != other[0]
    weights = "last/model.safetensors"
    assert (out / weights).read_bytes() != (tmp_path / "other" / weights).read_bytes()


@pytest.mark.slow
def test_folder_of_a_run(root, joint):
    out, model = joint
    assert same(load_model(out / "last").state_dict(), model.state_dict())
    steps, validations = read_log(out, "step"), read_log(out, "validation")
    assert [entry["epoch"] for entry in steps] == [1, 1, 2, 2]
    assert [entry["epoch"] for entry in validations] == [1, 2]
    for entry in steps:
        assert math.isfinite(entry["loss"])
        assert entry["loss"] == pytest.approx(entry["segmentation"] + 0.5 * entry["alignment"], rel=1e-4)
    top = max(validations, key=lambda entry: entry["M_J"])
    best = evaluate(load_model(out / "best"), AVSBench(root, "ms3", "val", SIZE))
    for name in ("M_J", "M_F"):
        assert best[name] == pytest.approx(top[name], abs=1e-6)
    settings = json.loads((out / "train.json").read_text())
    assert settings["seed"] == 0 and settings["epochs"] == 2
    data = {"root": str(root.resolve()), "clips": 8, "subset": "ms3", "size": SIZE, "sound": "normal"}
    assert settings["data"] == data and settings["model"]["method"] == "lightavseg"


@pytest.mark.slow
def test_it_learns(root, tmp_path, monkeypatch):
    """Two clips by heart. Without an out folder nothing is written."""
    monkeypatch.chdir(tmp_path)
    before = evaluate(create(size=SIZE), AVSBench(root, "ms3", "val", SIZE))["M_F"]
    options = {"epochs": 30, "batch_size": 2, "learning_rate": 1e-2, "validate_every": 30, "flip": False}
    trainer = Trainer(create(size=SIZE), TrainConfig(**{**SMALL, **options}))
    data = AVSBench(root, "ms3", "val", SIZE)
    scores = trainer.fit(data, data)
    losses = [entry["loss"] for entry in trainer.log if entry["event"] == "step"]
    assert len(losses) == 30 and sum(losses[-3:]) < 0.5 * sum(losses[:3])
    assert scores["M_F"] > before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_frozen_visual_encoder(root, tmp_path):
    """Its weights stay for the first epochs, while its batch norms' statistics and all else move; then it
    learns."""
    start, weights = create(size=SIZE), {}
    for epochs in (1, 2):
        model = fit(root, tmp_path / str(epochs), epochs=epochs, freeze_visual=1)
        pairs = zip(model.visual.parameters(), start.visual.parameters())
        weights[epochs] = [torch.equal(p, q) for p, q in pairs]
        buffers = [torch.equal(p, q) for p, q in zip(model.visual.buffers(), start.visual.buffers())]
        assert not any(buffers) and not torch.equal(model.head[1].weight, start.head[1].weight)
    assert all(weights[1]) and not all(weights[2])
    assert all(p.requires_grad for p in model.visual.parameters())


@pytest.mark.parametrize("schedule, varies", [("constant", False), ("one_cycle", True)])
@pytest.mark.slow
def test_schedules(root, monkeypatch, schedule, varies):
    rates, step = [], torch.optim.AdamW.step

    def watched(self, *arguments, **options):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    fit(root, None, epochs=2, schedule=schedule, learning_rate=1e-3)
    assert len(rates) == 4 and (len(set(rates)) > 1) == varies and max(rates) == pytest.approx(1e-3, rel=0.01)


@pytest.mark.slow
def test_losses_are_the_configured_ones(root, tmp_path):
    """By default the method's own; another by name; none."""
    one_step = {"epochs": 1, "batch_size": 8, "segmentation": "bce", "clip_norm": 0.0}
    found = {}
    for auxiliary, added in {"own": {"alignment"}, "mixing": {"mixing"}, "none": set()}.items():
        fit(root, tmp_path / auxiliary, auxiliary=auxiliary, **one_step)
        (found[auxiliary],) = read_log(tmp_path / auxiliary, "step")
        assert set(found[auxiliary]) == {"event", "epoch", "loss", "segmentation", *added}
    own, mixing, none = found.values()
    assert own["segmentation"] == none["segmentation"] == none["loss"]
    assert mixing["loss"] == pytest.approx(mixing["segmentation"] + 0.1 * mixing["mixing"], rel=1e-5)


class Poisoned(AVSBench):
    """From its second epoch, one clip is broken."""

    fetched = 0

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if self.split == "train" and index == 5:
            self.fetched += 1
            if self.fetched > 1:
                item["frames"] = item["frames"] * float("inf")
        return item


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops(root, tmp_path):
    """With the clip's name; the checkpoint of the epoch before is kept, loads and is finite."""
    *others, name = [AVSBench(root, "ms3", "train").clips[i].name for i in (0, 1, 2, 3, 4, 6, 7, 5)]
    with pytest.raises(FloatingPointError, match=name) as caught:
        fit(root, tmp_path, dataset=Poisoned, epochs=3)
    assert str(tmp_path / "last") in str(caught.value) and "epoch 2" in str(caught.value)
    assert not any(other in str(caught.value) for other in others)
    kept = load_model(tmp_path / "last")
    assert all(value.isfinite().all() for value in kept.state_dict().values())
    (validation,) = read_log(tmp_path, "validation")
    scores = evaluate(kept, AVSBench(root, "ms3", "val", SIZE))
    assert validation["epoch"] == 1 and validation["M_J"] == pytest.approx(scores["M_J"], abs=1e-6)
    assert all(math.isfinite(entry["loss"]) for entry in read_log(tmp_path, "step"))


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_reaches_no_checkpoint(root, tmp_path, monkeypatch):
    """Its loss may be finite, and the epoch end before the next loss shows what it did."""
    def explosive(*arguments):
        loss, parts = total_loss(*arguments)
        loss.register_hook(lambda gradient: gradient * float("nan"))
        return loss, parts

    monkeypatch.setattr("lightavseg_core.trainer.total_loss", explosive)
    with pytest.raises(FloatingPointError) as caught:
        fit(root, tmp_path, epochs=1, batch_size=8)
    assert not (tmp_path / "last").exists() and str(tmp_path / "last") not in str(caught.value)


def switches():
    """Torch's, as far as a training might turn them."""
    cudnn = torch.backends.cudnn
    return {
        "deterministic": torch.get_deterministic_debug_mode(),
        "filled": torch.utils.deterministic.fill_uninitialized_memory,
        "compiler": inductor.deterministic,
        "cudnn": (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "precision": (torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32),
        "gradient": (torch.is_grad_enabled(), torch.is_anomaly_enabled(), torch.is_autocast_enabled("cpu")),
        "threads": torch.get_num_threads(),
        "type": torch.get_default_dtype(),
    }


@pytest.mark.parametrize("mode, filled", [("default", True), ("warn", False), ("error", True)])
@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.slow
def test_torchs_switches_are_as_before(root, monkeypatch, mode, filled, breaks):
    """After a training, and after one that breaks off; inside, what is not deterministic warns."""
    inside = []

    def watched(*arguments):
        inside.append(switches())
        if breaks:
            raise InterruptedError
        return total_loss(*arguments)

    monkeypatch.setattr("lightavseg_core.trainer.total_loss", watched)
    untouched = switches()
    try:
        torch.set_deterministic_debug_mode(mode)
        torch.utils.deterministic.fill_uninitialized_memory = filled
        before = switches()
        with pytest.raises(InterruptedError) if breaks else nullcontext():
            fit(root, None, epochs=1, batch_size=8)
        after = switches()
    finally:
        torch.set_deterministic_debug_mode("default")
        torch.utils.deterministic.fill_uninitialized_memory = True
    assert after == before and switches() == untouched
    assert inside and all(found == {**before, "deterministic": 1, "filled": False} for found in inside)


@pytest.mark.slow
def test_bfloat16(root, tmp_path):
    """Autocast only: what is kept is float32, and the losses are near those of float32."""
    model = fit(root, tmp_path / "bf16", epochs=1, batch_size=8, precision="bf16")
    fit(root, tmp_path / "float", epochs=1, batch_size=8)
    (rough,), (exact,) = (read_log(tmp_path / name, "step") for name in ("bf16", "float"))
    assert rough["loss"] == pytest.approx(exact["loss"], rel=0.02) and rough["loss"] != exact["loss"]
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())


# --- sound ---


@pytest.mark.slow
def test_pretrained_audio_is_frozen(root, tmp_path, monkeypatch):
    """The default where events.csv says what sounds: tagging first, then no weight and no statistic of the
    audio encoder changes."""
    frozen, freeze = [], AVSModel.freeze_audio

    def watched(self):
        frozen.append(snapshot(self.audio))
        freeze(self)

    monkeypatch.setattr(AVSModel, "freeze_audio", watched)
    fitted, start = fit(root, tmp_path, audio_weights="auto", epochs=1), create(size=SIZE)
    assert same(fitted.audio.state_dict(), frozen[0])
    (tagging,) = read_log(tmp_path, "tagging")
    assert 0 <= tagging["tags_right"] <= 1
    assert not any(p.requires_grad for p in fitted.audio.parameters())
    assert not same(fitted.audio.state_dict(), start.audio.state_dict())


@pytest.mark.slow
def test_pretraining_takes_a_step_however_small_the_data(root, monkeypatch):
    model, start = create(size=SIZE), create(size=SIZE)
    monkeypatch.setattr("lightavseg_core.audio_pretraining.BATCH", 64)  # 8 clips have 40 seconds
    train, validation = (AVSBench(root, "ms3", split, SIZE) for split in ("train", "val"))
    pretrain_audio(model.audio, train, validation, TrainConfig(audio_epochs=1), torch.device("cpu"))
    assert not torch.equal(model.audio.network.conv_stem.weight, start.audio.network.conv_stem.weight)


def test_a_sound_after_the_clip_ends_is_named(root, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    events = next((tmp_path / "data").rglob("events.csv"))
    name = AVSBench(root, "ms3", "val").clips[0].name
    events.write_text(events.read_text().rstrip() + f"\n{name},7,crescent,0,0,1,1\n")
    train, validation = (AVSBench(tmp_path / "data", "ms3", split, SIZE) for split in ("train", "val"))
    with pytest.raises(ValueError, match=f"events.csv.*{name}|{name}.*events.csv"):
        pretrain_audio(create().audio, train, validation, TrainConfig(audio_epochs=1), torch.device("cpu"))


@pytest.mark.slow
def test_joint_where_nothing_says_what_sounds(root, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    for file in (tmp_path / "data").rglob("events.csv"):
        file.unlink()
    fitted = fit(tmp_path / "data", tmp_path / "run", audio_weights="auto", epochs=1)
    start = create(size=SIZE)
    assert read_log(tmp_path / "run", "tagging") == []
    moved = [not torch.equal(p, q) for p, q in zip(fitted.audio.parameters(), start.audio.parameters())]
    assert all(moved) and all(p.requires_grad for p in fitted.audio.parameters())
    with pytest.raises(ValueError, match="events.csv.*joint"):
        fit(tmp_path / "data", tmp_path / "refused", audio_weights="pretrain")


@pytest.mark.slow
def test_audio_weights_from_a_file(root, joint, tmp_path):
    """A model folder, its weights, or the encoder's tensors alone: they are frozen, the rest is trained."""
    out, model = joint
    weights = model.audio.state_dict()
    save_file(weights, tmp_path / "audio.safetensors")
    sources = (out / "last", out / "last" / "model.safetensors", tmp_path / "audio.safetensors")
    for i, source in enumerate(sources):
        fitted = fit(root, tmp_path / str(i), audio_weights=str(source), epochs=int(i == 0), batch_size=8)
        assert same(fitted.audio.state_dict(), weights)
    trained = load_file(tmp_path / "0" / "last" / "model.safetensors")
    assert all(torch.equal(trained[f"audio.{name}"], value) for name, value in weights.items())
    assert not torch.equal(trained["rave.0.project.weight"], create(size=SIZE).rave[0].project.weight)
    with pytest.raises(FileNotFoundError, match="absent.safetensors"):
        fit(root, None, audio_weights=str(tmp_path / "absent.safetensors"))
    save_file({"a": torch.zeros(1)}, tmp_path / "wrong.safetensors")
    with pytest.raises(ValueError, match="wrong.safetensors.*missing"):
        fit(root, None, audio_weights=str(tmp_path / "wrong.safetensors"))


@pytest.mark.slow
def test_a_deaf_twin_hears_silence(root, tmp_path, monkeypatch):
    heard, forward = [], AVSModel.forward

    def listen(self, frames, log_mel):
        heard.append(log_mel)
        if (tmp_path / "log.jsonl").exists():  # it has begun
            raise InterruptedError
        return forward(self, frames, log_mel)

    monkeypatch.setattr("lightavseg_core.models.AVSModel.forward", listen)
    with pytest.raises(InterruptedError):
        fit(root, tmp_path, sound="silent")
    silence = create().front_end(torch.zeros(16_000), torch.zeros(1))
    assert torch.equal(heard[-1], silence.expand_as(heard[-1])) and heard[-1].unique().numel() == 1
    assert json.loads((tmp_path / "train.json").read_text())["data"]["sound"] == "silent"


def test_masks_are_mirrored_with_their_frames(root):
    data = AVSBench(root, "ms3", "train", SIZE)
    original, batch = (collate([data[i] for i in range(8)]) for _ in range(2))
    chosen = torch.arange(8) % 3 == 0
    batch = mirrored(batch, chosen)
    for key in ("frames", "mask"):
        for i in range(8):
            assert torch.equal(batch[key][i], original[key][i].flip(-1) if chosen[i] else original[key][i])
    assert not torch.equal(batch["frames"], original["frames"])
    assert torch.equal(batch["log_mel"], original["log_mel"])


@pytest.mark.slow
@pytest.mark.parametrize("flip", [True, False])
def test_clips_are_mirrored_if_asked_for(root, tmp_path, monkeypatch, flip):
    chosen = []
    monkeypatch.setattr(
        "lightavseg_core.data.loading.mirrored", lambda batch, which: chosen.append(which.tolist()) or batch
    )
    fit(root, tmp_path, epochs=1, flip=flip)
    assert (0 < sum(map(sum, chosen)) < sum(map(len, chosen))) if flip else not chosen

"""Every method on three pairs of encoders: any size, frames that stand alone, a loss that falls, saving,
export; and on a few clips it can learn all there is. Beside them, how a method gets its name and its
presets."""

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny import inputs
from torch import nn

import lightavseg_core as lav
from lightavseg_core import encoders
from lightavseg_core.data import AVSBench, collate
from lightavseg_core.data.audio import LogMel
from lightavseg_core.evaluation import update_score
from lightavseg_core.losses import total_loss
from lightavseg_core.metrics import MaskScore
from lightavseg_core.models import base
from lightavseg_core.models.presets import PRESETS

PAIRS = {
    "light": {},
    "heavy": {"visual": "resnet50", "audio": "vggish"},
    "lite": {"visual": "efficientnet_lite0"},
}
METHODS = ["lightavseg", "avesformer", "avsbench", "avsegformer", "selm"]
STRIDES = {  # of each scale, coarse to fine
    "avesformer": (32, 16, 8),
    "avsbench": (32, 16, 8, 4),
    "avsegformer": (4,),
    "selm": (16, 8, 4),
}
SIZES = [(32, 32, 1, 1), (33, 47, 1, 1), (64, 100, 2, 1), (40, 65, 1, 7), (240, 240, 1, 1)]


class SmallVGGish(nn.Module):
    """In VGGish's place, of its shape: the real one has 72 million parameters."""

    channels = 128

    def __init__(self):
        super().__init__()
        self.front_end = LogMel()
        self.network = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(24, 128), nn.ReLU())

    def forward(self, log_mel):
        return self.network(log_mel)


@pytest.fixture(autouse=True)
def small_vggish(monkeypatch):
    monkeypatch.setitem(encoders.AUDIO, "vggish", SmallVGGish)


def create(method, pair="light", **options):
    torch.manual_seed(0)
    return lav.create_model(method, preset="tiny", **{"size": 64, **PAIRS[pair], **options})


def steps(model, batch, count, optimizer):
    """Trains on one batch; the losses. What a method draws at random in training is the same in each step."""
    losses = []
    for _ in range(count):
        torch.manual_seed(1)
        output = model(batch["frames"], batch["log_mel"])
        loss, _ = total_loss(output, batch["mask"], batch["annotated"], auxiliary=model.auxiliary)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


# --- names and presets ---

CELL = """
from dataclasses import dataclass
from lightavseg_core.models import AVSModel, ModelConfig, register

@dataclass
class Config(ModelConfig):
    method: str = "{method}"
    width: int = 32

@register
class {name}(AVSModel):
    config_class = Config
    {presets}
"""


def define(module, name, method, presets=""):
    """The class that a cell or a file called `module` defines."""
    names = {"__name__": module}
    exec(CELL.format(name=name, method=method, presets=presets), names)
    return names[name]


@pytest.fixture
def registry(monkeypatch):
    """The methods; what a test adds is gone after it."""
    monkeypatch.setattr(base, "METHODS", dict(base.METHODS))
    return base.METHODS


def test_all_five():
    assert list(base.METHODS)[:5] == METHODS, "in the order in which tables and plots show them"
    assert lav.list_methods()[:5] == sorted(METHODS)
    for name, cls in base.METHODS.items():
        assert cls.config_class.method == name and cls.presets.keys() <= PRESETS.keys()
        for options in cls.presets.values():
            fields = cls.config_class.__dataclass_fields__.keys()
            assert options.keys() <= fields - {"visual", "audio", "size"}


@pytest.mark.parametrize("module", ["__main__", "my_method"])
def test_a_class_that_is_defined_again_replaces_itself(registry, module):
    first, second = (define(module, "Late", "late") for _ in range(2))
    assert registry["late"] is second is not first and list(registry) == [*METHODS, "late"]


@pytest.mark.parametrize("module", ["__main__", "my_method"])
@pytest.mark.parametrize("name", ["LightAVSeg", "Other"])
def test_the_name_of_another_modules_class_is_refused(registry, module, name):
    holder = r"a name taken by LightAVSeg in lightavseg_core\.models\.lightavseg; expected a name of its own"
    with pytest.raises(ValueError, match=f"{name} is 'lightavseg', {holder}: give the field `method`"):
        define(module, name, "lightavseg")
    assert registry["lightavseg"] is lav.models.LightAVSeg


def test_presets_are_the_classs_own(registry):
    define("my_method", "Late", "late", 'presets = {"tiny": {"width": 8}}')
    define("my_method", "Plain", "plain")

    def made(*arguments, **options):
        config = lav.create_model(*arguments, **options).config
        return config.width, config.visual

    assert made("late", "tiny") == (8, PRESETS["tiny"]["visual"])
    assert made("late", "tiny", width=16, visual="seaformer_s") == (16, "seaformer_s")
    assert made("late", "paper") == (32, PRESETS["paper"]["visual"]), "without own options: the defaults"
    assert made("plain", "tiny") == (32, PRESETS["tiny"]["visual"])


def test_without_published_code_nothing_of_it_is_counted():
    model = create("avesformer", "heavy")
    assert model.published_dead() == {}
    with pytest.raises(ValueError, match="avesformer: its authors have published no checkpoint"):
        model.load_published({})


# --- sizes and frames ---


@torch.inference_mode()
@pytest.mark.parametrize(
    "visual, classes", [("seaformer_t", 1), pytest.param("resnet50", 3, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("method", STRIDES)
@pytest.mark.slow
def test_any_size(method, visual, classes):
    model = create(method, visual=visual, num_classes=classes).eval()
    for height, width, clips, seconds in SIZES:
        given = inputs(clips, seconds, height, width)
        output, analysed = model(*given), model(*given, return_scales=True)
        assert output.logits.shape == (clips, seconds, classes, height, width)
        assert output.logits.isfinite().all() and output.scales is None
        assert torch.equal(output.logits, analysed.logits)
        for scale, stride in zip(analysed.scales, STRIDES[method], strict=True):
            h, w = -(-height // stride), -(-width // stride)
            assert scale.visual.shape == (clips, seconds, model.config.width, h, w)
            assert scale.audio.shape == (clips, seconds, model.config.width)
            assert scale.similarity.shape == (clips, seconds, h, w)
            if method == "selm":
                assert set(scale.similarity.unique().tolist()) <= {0, 1}
            else:
                cosine = F.cosine_similarity(scale.visual, scale.audio[..., None, None], dim=2)
                assert torch.allclose(scale.similarity, cosine, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("method", ["avesformer", "avsegformer"])
def test_frames_do_not_know_of_each_other(method):
    model, (frames, log_mel) = perturbed(create(method)).eval(), inputs(2, 3)
    together = model(frames, log_mel).logits
    for clip in range(2):
        for second in range(3):
            one = (slice(clip, clip + 1), slice(second, second + 1))
            assert torch.allclose(model(frames[one], log_mel[one]).logits, together[one], atol=1e-4)
    assert not torch.allclose(together[0, 0], together[1, 2], atol=1e-2)


# --- training, saving, export ---


def perturbed(model):
    """None of its numbers at its start value, where some attention would not yet depend on what it sees."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=g)
    return model


@pytest.mark.slow
def test_it_trains_by_another_methods_loss_too():
    model = create("avesformer").train()
    model.auxiliary = "alignment"
    mask = torch.zeros(2, 2, 64, 64, dtype=torch.long)
    mask[..., :32] = 1
    frames, log_mel = inputs(2, 2)
    annotated = torch.ones(2, 2, dtype=torch.bool)
    batch = {"frames": frames, "log_mel": log_mel, "mask": mask, "annotated": annotated}
    losses = steps(model, batch, 6, torch.optim.AdamW(model.parameters(), 1e-2))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_a_step_lowers_the_loss_and_all_is_saved(method, pair, shapes, tmp_path):
    data = AVSBench(shapes, "ms3", "train", 64)
    batch = collate([data[i] for i in range(2)])
    model = create(method, pair).train()
    losses = steps(model, batch, 2, torch.optim.AdamW(model.parameters(), 1e-4))
    assert losses[1] < losses[0]
    model.eval().save_pretrained(tmp_path)
    loaded = lav.load_model(tmp_path)
    assert type(loaded) is type(model) and loaded.config == model.config
    with torch.inference_mode():
        expected = model(batch["frames"], batch["log_mel"]).logits
        found = loaded(batch["frames"], batch["log_mel"]).logits
    assert torch.equal(found, expected) and expected.shape == (2, 5, 1, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("pair", ["light", "heavy", pytest.param("lite", marks=pytest.mark.long)])
@pytest.mark.parametrize("method", METHODS)
def test_export(method, pair):
    model, given = perturbed(create(method, pair, num_classes=2)).eval(), inputs(1, 2)
    exported = torch.export.export(model, given).module()
    with torch.inference_mode():
        torch.testing.assert_close(exported(*given).logits, model(*given).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_four_clips_by_heart(method, shapes):
    """A second of each; it takes 40 to 50 steps."""
    data = AVSBench(shapes, "ms3", "test", 64)
    batch = collate([data[i] for i in range(4)])
    for key, value in batch.items():
        if isinstance(value, torch.Tensor) and value.ndim > 1:
            batch[key] = value[:, 3:4]
    assert 0 < batch["mask"].flatten(2).any(2).sum() < 4, "in one nothing sounds"
    model = create(method)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(25):
        steps(model.train(), batch, 10, optimizer)
        score = MaskScore()
        with torch.inference_mode():
            update_score(score, model.eval()(batch["frames"], batch["log_mel"]).logits, batch)
        if score.compute()["M_J"] >= 0.9:
            break
    assert score.compute()["M_J"] >= 0.9

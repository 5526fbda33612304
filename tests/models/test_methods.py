"""Every method on both pairs of backbones: it learns, it is saved whole, it can be exported; and on a few clips it can learn all there is."""

import pytest
import torch
from helpers.tiny import inputs
from torch import nn

import lightavseg_core as lav
from lightavseg_core import encoders
from lightavseg_core.data import AVSBench, collate
from lightavseg_core.data.audio import LogMel
from lightavseg_core.evaluation import update_score
from lightavseg_core.losses import total_loss
from lightavseg_core.metrics import MaskScore

PAIRS = {"light": {}, "heavy": {"visual": "resnet50", "audio": "vggish"}}
METHODS = ["avesformer", "avsbench", "avsegformer", "lightavseg", "selm"]


class SmallVGGish(nn.Module):
    """In VGGish's place, of its shape: the real one has 72 million parameters."""

    channels = 128

    def __init__(self):
        super().__init__()
        self.front_end, self.network = LogMel(), nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(24, 128), nn.ReLU())

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
        loss, _ = total_loss(model(batch["frames"], batch["log_mel"]), batch["mask"], batch["annotated"], auxiliary=model.auxiliary)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_all_five():
    assert lav.list_methods() == METHODS


@pytest.mark.parametrize("pair", ["light", pytest.param("heavy", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_lowers_the_loss_and_all_is_saved(method, pair, shapes, tmp_path):
    data = AVSBench(shapes, "ms3", "train", 64)
    batch = collate([data[i] for i in range(2)])
    model = create(method, pair).train()
    losses = steps(model, batch, 2, torch.optim.AdamW(model.parameters(), 1e-4))
    assert losses[1] < losses[0]
    model.eval().save_pretrained(tmp_path)
    loaded = lav.load_model(tmp_path)
    with torch.inference_mode():
        expected = model(batch["frames"], batch["log_mel"]).logits
        assert torch.equal(loaded(batch["frames"], batch["log_mel"]).logits, expected) and expected.shape == (2, 5, 1, 64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("method, pair", [*((method, "heavy") for method in METHODS), ("selm", "light")])
def test_export(method, pair):
    """With classes; the other methods' own tests export them on the light pair."""
    model, given = create(method, pair, num_classes=2).eval(), inputs(1, 2)
    exported = torch.export.export(model, given).module()
    with torch.inference_mode():
        assert torch.allclose(exported(*given).logits, model(*given).logits, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_four_clips_by_heart(method, shapes):
    """Two seconds of each; it takes 50 to 100 steps."""
    data = AVSBench(shapes, "ms3", "test", 64)
    batch = {key: value[:, 2:4] if isinstance(value, torch.Tensor) and value.ndim > 1 else value
             for key, value in collate([data[i] for i in range(4)]).items()}
    assert 0 < batch["mask"].flatten(2).any(2).sum() < 8, "some seconds are silent"
    model = create(method)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(10):
        steps(model.train(), batch, 25, optimizer)
        score = MaskScore()
        with torch.inference_mode():
            update_score(score, model.eval()(batch["frames"], batch["log_mel"]).logits, batch)
        if score.compute()["M_J"] >= 0.9:
            break
    assert score.compute()["M_J"] >= 0.9

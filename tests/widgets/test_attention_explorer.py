"""The attention explorer without a browser."""

import numpy as np
import pytest
import torch
from helpers.shown import VIEW, painted

import lightavseg_core as lav
from lightavseg_core.data import AVSBench
from lightavseg_core.inspection.attention import AttentionRecorder
from lightavseg_core.inspection.attention_statistics import effective_keys, entropy
from lightavseg_core.widgets import AttentionExplorer


@pytest.fixture(params=[False, True], ids=["own", "seconds"])
def explorer(request, shapes):
    torch.manual_seed(0)
    attends = lav.create_model("avesformer", preset="tiny", prompts=4, seconds=request.param).eval()
    return AttentionExplorer(attends, AVSBench(shapes, "ms3", "test", 64, attends.front_end)[1], second=3)


def test_explorer_shows_what_a_model_with_these_keys_does(explorer):
    """Three keys at half the temperature: the same as a model that was built with three, of its weights."""
    item, seconds = explorer.item, explorer.model.config.seconds
    explorer.prompts.value, explorer.temperature.value = 3, 0.5
    other = lav.create_model("avesformer", preset="tiny", prompts=3, seconds=seconds, temperature=0.5).eval()
    state = explorer.model.state_dict()
    other.load_state_dict({**state, "generator.prompts": state["generator.prompts"][:3]})
    with AttentionRecorder(other) as recorder, torch.inference_mode():
        logits = other(item["frames"][None], item["log_mel"][None]).logits
    weights = recorder.layers[explorer.layer.value].weights[3]
    assert weights.shape[-1] == (15 if seconds else 3)
    assert np.array_equal(painted(explorer.mask), logits[0, 3, 0].numpy() > 0)
    assert f"entropy {entropy(weights).mean():.3f} nats" in explorer.status.value
    assert f"effective keys {effective_keys(weights).mean():.2f}" in explorer.status.value
    explorer.head.value = 5
    assert f"entropy {entropy(weights[5]).mean():.3f} nats" in explorer.status.value
    assert explorer.message.value == ""


def test_one_key_gives_the_same_everywhere(shapes):
    torch.manual_seed(0)
    attends = lav.create_model("avesformer", preset="tiny", prompts=0).eval()
    explorer = AttentionExplorer(attends, AVSBench(shapes, "ms3", "test", 64, attends.front_end)[1])
    assert "1 key, temperature 1.00: entropy 0.000 nats; effective keys 1.00" in explorer.status.value
    assert float(explorer.status.value.split("square, ")[1].split("<")[0]) < 1e-10


def test_explorer_leaves_the_model_as_it_was(explorer, monkeypatch):
    attends, attention = explorer.model, next(iter(explorer.attentions.values()))
    attention.temperature = 0.7
    attends.train()
    explorer.prompts.value, explorer.temperature.value = 2, 3.0
    assert explorer.message.value == ""
    with monkeypatch.context() as patch:
        patch.setattr(attends, "decode", lambda *_: 1 / 0)
        explorer.prompts.value = 1
        assert "ZeroDivisionError" in explorer.message.value
    assert attention.temperature == 0.7 and attends.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in attends.modules())
    explorer.prompts.value = 4
    assert explorer.message.value == ""


def test_explorer_in_a_static_render(explorer):
    data, metadata = explorer._repr_mimebundle_()
    assert VIEW in data and "effective keys" in metadata["image/jpeg"]["alt"]
    with pytest.raises(ValueError, match="model is a LightAVSeg; expected an AVESFormer"):
        AttentionExplorer(lav.create_model("lightavseg", preset="tiny"), explorer.item)

"""What a block computed is computed again in the backward pass: the same gradients and statistics, in less
memory."""

import pytest
import torch
from torch import nn

from lightavseg_core import create_model, list_methods
from lightavseg_core._common.recomputing import _blocks, recomputed
from lightavseg_core.losses import total_loss
from lightavseg_core.profiling.memory import _Live


def step(model, batch, again):
    """Gradients and buffers after a training step, and the most bytes that tensors took in it."""
    torch.manual_seed(0)  # of dropout
    frames, log_mel, mask = batch
    with _Live() as live:
        with recomputed(model) if again else torch.enable_grad():
            output = model.train()(frames, log_mel)
            loss, _ = total_loss(output, mask, torch.ones(mask.shape[:2], dtype=torch.bool))
            loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return gradients | dict(model.named_buffers()), live.peak


@pytest.mark.slow
@pytest.mark.parametrize("method", list_methods())
def test_gradients_and_statistics_are_the_same(method):
    results = []
    for again in (False, True):
        torch.manual_seed(0)
        model = create_model(method, preset="tiny", size=64)
        generator = torch.Generator().manual_seed(0)
        frames = torch.rand(2, 2, 3, 64, 64, generator=generator)
        log_mel = torch.rand(2, 2, 1, 96, 64, generator=generator)
        mask = (torch.rand(2, 2, 64, 64, generator=generator) > 0.5).float()
        results.append(step(model, (frames, log_mel, mask), again))
        assert "forward" not in {name for m in model.modules() for name in vars(m)}  # all is put back
    (plain, before), (again, after) = results
    assert plain.keys() == again.keys()
    for name, value in plain.items():
        assert torch.equal(value, again[name]), name
    assert after < before


def test_what_is_a_block():
    """Neither single layers nor what does not learn; rows are gone into."""
    model = create_model("lightavseg", preset="paper")
    blocks = list(_blocks(model))
    assert all(any(True for _ in block.children()) for block in blocks)
    assert not any(type(block) is nn.ModuleList for block in blocks)
    inner = [id(m) for block in blocks for m in block.modules()]
    assert len(inner) == len(set(inner))  # none within another
    model.visual.requires_grad_(False)
    assert not {id(m) for m in model.visual.modules()} & {id(block) for block in _blocks(model)}

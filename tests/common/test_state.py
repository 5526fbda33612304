"""What is put back: modes, random numbers, buffers, and what learns."""

import pytest
import torch
from torch import nn

from lightavseg_core._common.state import buffers_kept, evaluating, freeze, unfreeze


def modes(model):
    return [module.training for module in model.modules()]


@pytest.fixture
def model():
    """In training, of which a part is not."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()), nn.BatchNorm1d(2))
    model[1][0].eval()
    return model


def test_each_module_is_in_its_own_mode_again(model):
    for whole in (True, False):
        model.training = whole
        before, drawn = modes(model), torch.get_rng_state()
        with evaluating(model) as given:
            assert given is model and not any(modes(model))
            torch.rand(3)
        assert modes(model) == before and torch.equal(torch.get_rng_state(), drawn)
        with pytest.raises(KeyboardInterrupt), evaluating(model):
            torch.rand(3)
            raise KeyboardInterrupt
        assert modes(model) == before and torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize("always", [False, True])
def test_buffers_are_as_before(model, always):
    before = [buffer.clone() for buffer in model.buffers()]

    def batch(value):
        model(torch.tensor([[value, 1.0], [0.0, 2.0]])).sum().backward()

    with pytest.raises(KeyboardInterrupt), buffers_kept(model, always):
        batch(float("nan"))
        raise KeyboardInterrupt
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), before, strict=True))
    assert all(p.grad is None for p in model.parameters())
    with buffers_kept(model, always):
        batch(1.0)
    kept = [torch.equal(a, b) for a, b in zip(model.buffers(), before)]
    assert all(kept) == always and any(p.grad is None for p in model.parameters()) == always


def test_freezing_ends_where_it_began(model):
    model[0].weight.requires_grad_(False)
    learns = [p.requires_grad for p in model.parameters()]
    for times in (1, 2):
        for _ in range(times):
            freeze(model)
        assert not any(p.requires_grad for p in model.parameters())
        unfreeze(model)
        assert [p.requires_grad for p in model.parameters()] == learns
    unfreeze(model)
    assert [p.requires_grad for p in model.parameters()] == learns

"""A model that is small enough for a test, and something to show it."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lightavseg_core as lav


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that PyTorch makes, in the backward pass too."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.elements = max(self.elements, made.numel() if isinstance(made, torch.Tensor) else 0)
        return made


def create(**options):
    torch.manual_seed(0)
    return lav.create_model("lightavseg", preset="tiny", **{"width": 8, **options}).eval()


def inputs(clips=1, seconds=1, height=64, width=64, seed=0):
    """frames (B, T, 3, H, W) and log_mel (B, T, 1, 96, 64) of noise."""
    g = torch.Generator().manual_seed(seed)
    frames = torch.randn(clips, seconds, 3, height, width, generator=g)
    return frames, torch.randn(clips, seconds, 1, 96, 64, generator=g)


def trained():
    """A model of everyday weights: trained for one step, so that batch norms have seen something and nothing
    is at its start value."""
    model = create().train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    output = model(*inputs(2, 2))
    (output.logits.square().mean() + sum(scale.similarity.mean() for scale in output.scales)).backward()
    optimizer.step()
    return model.eval()

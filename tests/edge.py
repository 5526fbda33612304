"""What the tests of exported models share: a model of which every part has its effect, and clips of it."""

import torch
from tiny import create, inputs
from torch import nn

import lightavseg_core as lav


def shaken(method="lightavseg", **options):
    """A small model with everyday batch norms. SeaFormer starts 27 of them at weight 0, which hides whatever happens before them."""
    model = create(**options) if method == "lightavseg" else lav.create_model(method, preset="tiny", **options).eval()
    g = torch.Generator().manual_seed(1)
    for norm in (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)):
        norm.weight.data.uniform_(0.5, 1.5, generator=g)
        norm.bias.data.normal_(0, 0.3, generator=g)
        norm.running_mean.normal_(0, 0.3, generator=g)
        norm.running_var.uniform_(0.5, 1.5, generator=g)
    return model


def clips(count=2, **shape):
    return [inputs(seed=seed, **shape) for seed in range(count)]

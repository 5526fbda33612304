"""Models that attend, and how many hooks one has."""

from functools import cache

import torch

import lightavseg_core as lav

WIDTHS = {"avesformer": 16, "avsegformer": 16, "avsbench": 16, "selm": 64}
METHODS = sorted(WIDTHS)


def create(method, **options):
    """Far from its start, where some weights are zero and all attention is nearly uniform."""
    torch.manual_seed(0)
    model = lav.create_model(method, preset="tiny", **{"width": WIDTHS[method], **options}).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(("visual.", "audio.")):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


@cache
def shared(method):
    """The method's own model; to be left as it is."""
    return create(method)


def hooks(model):
    kinds = ("forward_hooks", "forward_pre_hooks", "backward_hooks")
    kinds += ("forward_hooks_with_kwargs", "forward_pre_hooks_with_kwargs")
    return sum(len(getattr(module, f"_{kind}")) for module in model.modules() for kind in kinds)

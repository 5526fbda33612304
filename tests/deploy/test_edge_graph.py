"""The graph for edge runtimes computes what the model computes, in fewer kinds of operation, and leaves the model alone."""

import copy
from pathlib import Path

import pytest
import torch
from helpers.edge import shaken
from helpers.tiny import inputs
from torch import nn

import lightavseg_core as lav
from lightavseg_core.deploy.edge_graph import (
    FixedAxialAttention,
    averages,
    edge_graph,
    fix_attention,
)
from lightavseg_core.encoders.seaformer import ConvNorm, SqueezeAxialAttention
from lightavseg_core.models.blocks import resize_as

aten = torch.ops.aten
TINY = Path(__file__).parents[2] / "checkpoints" / "tiny"


def deviation(found, expected):
    return ((found - expected).abs().mean() / expected.abs().mean()).item()


def targets(program):
    return {node.target for node in program.graph.nodes if node.op == "call_function"}


def check(model, given, tolerance=1e-5):
    """The graph's logits beside the model's."""
    program = edge_graph(model, *given)
    with torch.inference_mode():
        expected, found = model.eval()(*given).logits, program.module()(*given)
    assert found.shape == expected.shape and deviation(found, expected) < tolerance
    return program


@pytest.mark.slow
@pytest.mark.parametrize("height, width, seconds, classes", [
    (64, 96, 1, 1), (72, 64, 3, 2), pytest.param(64, 64, 1, 1, marks=pytest.mark.long), pytest.param(33, 47, 1, 1, marks=pytest.mark.long)])
def test_same_logits_at_any_size(height, width, seconds, classes):
    program = check(shaken(num_classes=classes), inputs(1, seconds, height, width))
    left = targets(program)
    assert not left & {aten.batch_norm.default, aten.adaptive_max_pool2d.default, aten.unsqueeze.default}
    assert {aten.conv2d.default, aten.max_pool2d.default, aten.bmm.default} <= left
    assert len(program.graph.find_nodes(op="call_function", target=aten.softmax.int)) == 4         # an attention block each, rows and columns at once


@pytest.mark.long
def test_of_the_trained_model():
    check(lav.load_model(TINY), inputs(1, 2, 128, 128))


@pytest.mark.slow
@pytest.mark.parametrize("method", [
    "avsbench", *(pytest.param(name, marks=pytest.mark.long) for name in ("avesformer", "avsegformer", "selm"))])
def test_of_other_methods(method):
    """Whatever they attend by."""
    check(shaken(method, size=64), inputs(1, 2), 1e-4)


def test_the_model_is_left_as_it_is():
    model = shaken().train()
    before, hooks = copy.deepcopy(model.state_dict()), [len(m._forward_pre_hooks) for m in model.modules()]
    kinds, modes, grads = ([f(x) for x in xs] for f, xs in ((type, model.modules()), (lambda m: m.training, model.modules()),
                                                             (lambda p: p.requires_grad, model.parameters())))
    fixed = fix_attention(model, *inputs())
    for module in fixed.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            tensor.data.zero_()                                                                    # the copy's numbers are its own
    assert [type(m) for m in model.modules()] == kinds and [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == grads and [len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m.training for m in fixed.modules())
    assert not any(isinstance(m, SqueezeAxialAttention) for m in fixed.modules())


@pytest.mark.parametrize("height, width", [(7, 4), (1, 5), (16, 16), (1, 1)])
def test_averages(height, width):
    x = torch.randn(3, height, width, dtype=torch.float64)
    found = x.flatten(1) @ averages(height, width).double().T
    assert torch.allclose(found, torch.cat([x.mean(2), x.mean(1)], 1), atol=1e-6)


@pytest.mark.parametrize("height, width", [(7, 4), (1, 5), (16, 16), (1, 1), (20, 33)])
def test_joint_attention_is_the_plain_one(height, width):
    """In double precision, so that what is left is the method's error: of -10,000 under the softmax, none."""
    torch.manual_seed(0)
    plain = SqueezeAxialAttention(24, heads=3, key_dim=8).eval()
    for norm in (m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            nn.init.uniform_(tensor, 0.5, 1.5)
    plain = plain.double()
    fixed = FixedAxialAttention(plain, height, width)
    rows, columns = torch.eye(height).double(), torch.eye(width).double()
    fixed.average = torch.cat([rows.repeat_interleave(width, 1) / width, columns.repeat(1, height) / height])
    x = 3 * torch.randn(2, 24, height, width, dtype=torch.float64)
    with torch.inference_mode():
        expected, found = plain(x), fixed.double()(x)
        assert deviation(found, expected) < 1e-12
        context = plain.proj_encode_row[1].bn
        context.weight.zero_()
        assert deviation(plain(x), expected) > 1e-3                                                # so the rows do have an effect


def test_rows_and_columns_do_not_see_each_other():
    """What stands apart in the plain attention stands apart under the mask, whatever the scores."""
    torch.manual_seed(0)
    fixed = FixedAxialAttention(SqueezeAxialAttention(8, 2, 4).eval(), 5, 3)
    weights = (1000 * torch.randn(1, 8, 8) + fixed.mask).softmax(-1)
    assert weights[:, :5, 5:].max() == 0 and weights[:, 5:, :5].max() == 0


class Branches(nn.Module):
    """A convolution of which the map is read twice, one that is folded with its own bias, and pooling in both ways."""

    def __init__(self):
        super().__init__()
        self.shared, self.conv = ConvNorm(3, 4, 3), nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, groups=2), nn.BatchNorm2d(6))

    def forward(self, frames, log_mel):
        x = frames.flatten(0, 1)
        raw = self.shared.c(x)
        x = self.conv(raw + self.shared.bn(raw))
        values, places = nn.functional.adaptive_max_pool2d(x, 1, return_indices=True)
        halves = nn.functional.adaptive_max_pool2d(x, (2, 1))
        peak = nn.functional.adaptive_max_pool2d(x, 1)
        return type("Output", (), {"logits": resize_as(values + peak + halves.mean((2, 3), keepdim=True) + places.float() / 99, frames)})


def test_what_cannot_be_replaced_stays():
    torch.manual_seed(0)
    model = Branches().eval()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.running_mean)
        nn.init.normal_(norm.bias)
    program = check(model, inputs(1, 2, 32, 48))
    count = lambda target: len(program.graph.find_nodes(op="call_function", target=target))         # noqa: E731
    assert (count(aten.batch_norm.default), count(aten.adaptive_max_pool2d.default), count(aten.max_pool2d.default)) == (1, 2, 1)

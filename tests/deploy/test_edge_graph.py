"""The graph for edge runtimes computes what the model computes, in fewer kinds of operation."""

import copy

import pytest
import torch
from helpers.edge import TINY, long, shaken
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
from lightavseg_core.models.base import Output
from lightavseg_core.models.blocks import resize_as

aten = torch.ops.aten


def deviation(found, expected):
    return ((found - expected).abs().mean() / expected.abs().mean()).item()


def targets(program):
    return {node.target for node in program.graph.nodes if node.op == "call_function"}


def count(program, target):
    return len(program.graph.find_nodes(op="call_function", target=target))


def check(model, given, tolerance=1e-5):
    """The graph's logits beside the model's."""
    program = edge_graph(model, *given)
    with torch.inference_mode():
        expected, found = model.eval()(*given).logits, program.module()(*given)
    assert found.shape == expected.shape and deviation(found, expected) < tolerance
    return program


@pytest.mark.slow
@pytest.mark.parametrize(
    "height, width, seconds, classes",
    [(64, 96, 1, 1), (72, 64, 3, 2), *long((64, 64, 1, 1), (33, 47, 1, 1))],
)
def test_same_logits_at_any_size(height, width, seconds, classes):
    program = check(shaken(num_classes=classes), inputs(1, seconds, height, width))
    left = targets(program)
    assert not left & {aten.batch_norm.default, aten.adaptive_max_pool2d.default, aten.unsqueeze.default}
    assert {aten.conv2d.default, aten.max_pool2d.default, aten.bmm.default} <= left
    # An attention block each, rows and columns at once.
    assert count(program, aten.softmax.int) == 4


@pytest.mark.long
def test_of_the_trained_model():
    check(lav.load_model(TINY), inputs(1, 2, 128, 128))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["avsbench", *long("avesformer", "avsegformer", "selm")])
def test_of_other_methods(method):
    """Whatever they attend by."""
    check(shaken(method, size=64), inputs(1, 2), 1e-4)


def described(model):
    """All of a model but its numbers."""
    modules = [(type(module), module.training, len(module._forward_pre_hooks)) for module in model.modules()]
    return modules, [parameter.requires_grad for parameter in model.parameters()]


@pytest.mark.slow
def test_the_model_is_left_as_it_is():
    model = shaken().train()
    before, about = copy.deepcopy(model.state_dict()), described(model)
    fixed = fix_attention(model, *inputs())
    for tensor in (*fixed.parameters(), *fixed.buffers()):
        tensor.data.zero_()  # the copy's numbers are its own
    assert described(model) == about
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for module in fixed.modules():
        assert not module.training and not isinstance(module, SqueezeAxialAttention)


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
    averaging = [rows.repeat_interleave(width, 1) / width, columns.repeat(1, height) / height]
    fixed.average = torch.cat(averaging)
    x = 3 * torch.randn(2, 24, height, width, dtype=torch.float64)
    with torch.inference_mode():
        expected, found = plain(x), fixed.double()(x)
        assert deviation(found, expected) < 1e-12
        context = plain.proj_encode_row[1].bn
        context.weight.zero_()
        assert deviation(plain(x), expected) > 1e-3, "the rows do have an effect"


def test_rows_and_columns_do_not_see_each_other():
    """What stands apart in the plain attention stands apart under the mask, whatever the scores."""
    torch.manual_seed(0)
    fixed = FixedAxialAttention(SqueezeAxialAttention(8, 2, 4).eval(), 5, 3)
    weights = (1000 * torch.randn(1, 8, 8) + fixed.mask).softmax(-1)
    assert weights[:, :5, 5:].max() == 0 and weights[:, 5:, :5].max() == 0


class Branches(nn.Module):
    """A convolution whose map is read twice, one that is folded with its own bias, and pooling both ways."""

    def __init__(self):
        super().__init__()
        self.shared = ConvNorm(3, 4, 3)
        self.conv = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, groups=2), nn.BatchNorm2d(6))

    def forward(self, frames, log_mel):
        x = frames.flatten(0, 1)
        raw = self.shared.c(x)
        x = self.conv(raw + self.shared.bn(raw))
        values, places = nn.functional.adaptive_max_pool2d(x, 1, return_indices=True)
        halves = nn.functional.adaptive_max_pool2d(x, (2, 1)).mean((2, 3), keepdim=True)
        peak = nn.functional.adaptive_max_pool2d(x, 1)
        return Output(resize_as(values + peak + halves + places.float() / 99, frames))


@pytest.mark.slow
def test_what_cannot_be_replaced_stays():
    torch.manual_seed(0)
    model = Branches().eval()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.running_mean)
        nn.init.normal_(norm.bias)
    program = check(model, inputs(1, 2, 32, 48))
    left = (aten.batch_norm.default, aten.adaptive_max_pool2d.default, aten.max_pool2d.default)
    assert [count(program, target) for target in left] == [1, 2, 1]

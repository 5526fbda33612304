"""However a model is run, it says the same; and the given model stays as it is."""

import pytest
import torch
from helpers.tiny import create, inputs
from torch import nn

import lightavseg_core as lav
from lightavseg_core.deploy.eager import arrange, place, prepare
from lightavseg_core.models.base import Output


@pytest.fixture(scope="module")
def eager():
    model, given = create(), inputs(2, 2, 64, 96)
    with torch.inference_mode():
        return model, given, model(*given).logits


def test_eager_is_the_model(eager):
    model, given, logits = eager
    found = prepare(model)(*given)
    assert torch.equal(found, logits) and found.is_inference()


@pytest.mark.parametrize("method", lav.list_methods())
@pytest.mark.slow
def test_layouts_and_precisions_agree(method):
    torch.manual_seed(0)
    model, given = lav.create_model(method, preset="tiny").eval(), inputs(1, 2, 64, 64)
    logits = prepare(model)(*given)
    last = prepare(model, channels_last=True)(*given)
    torch.testing.assert_close(last, logits, rtol=1e-3, atol=1e-4)
    half = prepare(model, precision="bf16", channels_last=True)(*given)
    assert half.dtype == torch.float32 and half.shape == logits.shape
    error = ((half - logits).norm() / logits.norm()).item()
    assert 1e-5 < error < 0.1, "bfloat16 has eight bits, and was used"


def test_layout_is_what_the_method_sees():
    """The images that a method makes of the frames are a view in the layout, and so are the weights."""
    frames = torch.randn(2, 3, 3, 8, 10)
    images = arrange(frames, True).flatten(0, 1)
    assert images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    assert torch.equal(arrange(frames, True), frames) and arrange(frames, False).flatten(0, 1).is_contiguous()
    weight = place(nn.Conv2d(4, 5, 3), channels_last=True).weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_the_given_model_stays_as_it_is():
    model, given = create(), inputs(1, 1, 64, 64)
    model.train()
    before = {name: (x.clone(), x.stride()) for name, x in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    run = prepare(model, channels_last=True)
    first = run(*given)
    assert [module.training for module in model.modules()] == modes
    for name, x in model.state_dict().items():
        value, stride = before[name]
        assert torch.equal(x, value) and x.stride() == stride
    with torch.no_grad():
        model.head[-1].bias.add_(100)
    assert torch.equal(run(*given), first), "made of a copy: what the model learns later is not seen"


class Doubling(nn.Module):
    """Of a model's interface, and quick to compile."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, frames, log_mel):
        return Output((frames * self.scale).mean(2, keepdim=True) + log_mel.mean())


@pytest.mark.slow
def test_compiled_says_the_same():
    model, given = Doubling(), inputs(1, 2, 32, 32)
    compiled = prepare(model, compile="default")(*given)
    torch.testing.assert_close(compiled, prepare(model)(*given))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1, "it was compiled"


@pytest.mark.long
def test_compiled_model_says_the_same(eager):
    model, given, logits = eager
    torch.testing.assert_close(prepare(model, compile="default")(*given), logits, rtol=1e-4, atol=1e-5)


def test_the_compilers_limits_are_the_callers_again(monkeypatch):
    """They are raised where a shape is seen first, and compiled, alone."""
    seen, config = [], torch._dynamo.config

    def limits():
        return config.recompile_limit, config.fail_on_recompile_limit_hit

    def compiled(model, **options):
        def forward(*given):
            seen.append(limits())
            return model(*given)

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    before = limits()
    run = prepare(Doubling(), compile="default")
    for size in (32, 32, 64):
        run(*inputs(1, 1, size, size))
    assert limits() == before and seen == [(64, True), before, (64, True)]


WRONG = {
    "precision": ({"precision": "fp16"}, "fp16"),
    "compile": ({"compile": "defualt"}, "did you mean 'default'"),
    "graphs on a processor": ({"compile": "graphs"}, "CUDA graphs.*use device 'cuda' or compile 'default'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_explained(case):
    options, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as error:
        prepare(Doubling(), **options)
    assert len(str(error.value).splitlines()) == 1


def test_no_gpu_and_no_compiler(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="finds no GPU"):
        prepare(Doubling(), device="cuda")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match="C\\+\\+ compiler"):
        prepare(Doubling(), compile="default")

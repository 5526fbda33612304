"""Where the time goes, on a clock of our own: exclusive by part, by kind of operator with its counts by hand.

And the memory at the peak.
"""

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny import create, inputs
from torch import nn

import lightavseg_core as lav
from lightavseg_core.profiling import timing
from lightavseg_core.profiling.accounting import macs
from lightavseg_core.profiling.breakdown import (
    KINDS,
    boundaries,
    by_kind,
    latency_parts,
    main_parts,
    module_latency,
)
from lightavseg_core.profiling.flops import count
from lightavseg_core.profiling.memory import peak_memory


@pytest.fixture
def clock(monkeypatch):
    """Seconds, in a list of one, that only a test moves."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


class Step(nn.Module):
    """Takes so many seconds of our clock before, and so many after, it runs its children."""

    def __init__(self, clock, before, after=0, **children):
        super().__init__()
        self.clock, self.before, self.after = clock, before, after
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, *_):
        self.clock[0] += self.before
        for child in self.children():
            # A list is no step, and is never called itself: its members are, as SeaFormer's stages are.
            for step in child if isinstance(child, nn.ModuleList) else [child]:
                step()
        self.clock[0] += self.after


def test_time_is_exclusive(clock):
    deep = Step(clock, 64, own=Step(clock, 128))
    visual = [Step(clock, 2, 0.5, inner=Step(clock, 0.25)), Step(clock, 4, 0.125, meeting=deep)]
    children = {
        "visual": nn.ModuleList(visual), "audio": Step(clock, 8), "meeting": Step(clock, 16, 32)
    }
    model = Step(clock, 1, 1024, **children).eval()
    parts = {
        "": "rest", "visual": "visual", "audio": "audio", "visual.1.meeting": "fusion", "meeting": "fusion"
    }
    found = module_latency(model, torch.zeros(1), torch.zeros(1), repeats=3, warmup=1, parts=parts)
    seconds = {part: t.median / 1000 for part, t in found.parts.items()}
    assert seconds == {"rest": 1025, "visual": 2.75 + 4.125, "fusion": 64 + 128 + 48, "audio": 8}
    assert found.whole.median / 1000 == sum(seconds.values()) and found.agreement == (1, 1, 1)
    assert all(len(t.rounds) == 3 for t in found.parts.values())
    assert found.shares == pytest.approx({part: s / sum(seconds.values()) for part, s in seconds.items()})
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks, "nothing is left on the model"
    hooked = boundaries(model, parts, lambda: model())
    assert {name for name, module in model.named_modules() if module in hooked} == {
        "", "visual.0", "visual.1", "visual.1.meeting", "audio", "meeting"
    }, "nobody looks at the clock where the part stays"


def test_what_hooks_cost_is_said(clock, monkeypatch):
    """A hook that takes a second is in the sum of the parts, and not in the whole."""
    model = Step(clock, 10, visual=Step(clock, 10)).eval()

    def slow():
        clock[0] += 1
        return clock[0]

    monkeypatch.setattr(timing.time, "perf_counter", slow)
    parts = {"": "rest", "visual": "visual"}
    found = module_latency(model, torch.zeros(1), torch.zeros(1), repeats=2, warmup=0, parts=parts)
    assert found.whole.median == 21000 and found.agreement.estimate == pytest.approx((20 + 3) / 21)


@pytest.mark.parametrize("method", lav.list_methods())
@pytest.mark.slow
def test_parts_of_every_method(method):
    torch.manual_seed(0)
    model = lav.create_model(method, preset="tiny").eval()
    found = module_latency(model, *inputs(1, 2, 64, 64), repeats=2, warmup=0)
    modules = dict(model.named_modules())
    assert set(found.parts) == {
        part for name, part in latency_parts(model).items() if not name or name in modules
    }
    assert sum(found.shares.values()) == pytest.approx(1) and all(t.median > 0 for t in found.parts.values())
    main = main_parts(found.shares)
    assert sum(main.values()) == pytest.approx(1)
    if method == "lightavseg":
        assert set(found.parts) == {"visual", "audio", "RAVE", "CMFD", "head"} == set(main)
    else:
        assert set(main) == {"visual", "audio", "fusion", "decoder"}


@pytest.mark.slow
def test_cmfd_has_its_addition():
    """What grows with the picture: the maximum over V_i^enc and the bias added to V_dec.

    C_i + D operations a position.
    """
    model = create(width=8)

    def others(side):
        with torch.device("meta"):
            given = torch.empty(1, 1, 3, side, side), torch.empty(1, 1, 1, 96, 64)
        return count(model, *given, parts=latency_parts(model)).by_part()["CMFD"][1]

    positions = [(128 // s) ** 2 - (64 // s) ** 2 for s in model.visual.strides]
    by_hand = sum((c + 8) * n for c, n in zip(model.visual.channels, positions))
    assert others(128) - others(64) == by_hand


def test_training_is_not_timed():
    for look in (module_latency, by_kind):
        with pytest.raises(ValueError, match=r"model\.eval\(\)"):
            look(create().train(), *inputs(1, 1, 64, 64))


# --- by kind ---


class OneOfEach(nn.Module):
    def __init__(self):
        super().__init__()
        self.point, self.dense = nn.Conv2d(4, 6, 1, bias=False), nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x, _):
        x = self.norm(self.depth(self.dense(self.point(x))).relu())
        x = F.max_pool2d(x, 2)
        x = torch.cat([x, x], 1).flatten(2)  # (1, 16, 16), a view
        x = (x @ x).softmax(-1).mean(-1)
        return F.interpolate(x.view(1, 1, 4, 4), scale_factor=2, mode="bilinear")


def test_kinds_by_hand(monkeypatch):
    ticks = iter(range(10**9))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))  # an operator takes a second
    found = by_kind(OneOfEach().eval(), torch.randn(1, 4, 8, 8), torch.zeros(1), repeats=3, warmup=1)
    kinds = {kind.kind: kind for kind in found.kinds}
    assert {name: kind.calls for name, kind in kinds.items()} == {
        "dense 1x1": 1,
        "dense k x k": 1,
        "depthwise": 1,
        "norm, element-wise": 3,
        "pooling": 2,
        "matrix product": 1,
        "resizing": 1,
        "copies": 2,  # a batch norm also makes an empty tensor
    }
    hand = {
        "dense 1x1": 64 * 4 * 6,
        "dense k x k": 64 * 6 * 8 * 9,
        "depthwise": 64 * 8 * 9,
        "matrix product": 16**3,
    }
    assert {name: kind.macs for name, kind in kinds.items() if kind.macs} == hand
    for name, kind in kinds.items():
        assert kind.milliseconds == 1000 * kind.calls and kind.share_of_time == pytest.approx(kind.calls / 12)
        assert kind.share_of_macs == pytest.approx(hand.get(name, 0) / sum(hand.values()))
    assert kinds["dense 1x1"].bytes == 4 * (64 * 4 + 4 * 6 + 64 * 6)
    assert kinds["matrix product"].bytes == 4 * 3 * 256
    point = found.operators[0]
    assert point.intensity == 2 * point.macs / point.bytes
    assert point.gflops == pytest.approx(2 * 64 * 24 / 1e9)
    assert found.covered == pytest.approx(12 * 1000 / found.whole.median)


@pytest.mark.parametrize("method", ["lightavseg", "avesformer"])
@pytest.mark.slow
def test_all_that_is_counted_is_timed(method):
    torch.manual_seed(0)
    model = lav.create_model(method, preset="tiny").eval()
    found = by_kind(model, *inputs(1, 2, 64, 64), repeats=1, warmup=0)
    assert sum(op.macs for op in found.operators) == macs(model, 64, seconds=2).total_macs
    named = set(KINDS) - {"other"}
    assert {kind.kind for kind in found.kinds} <= named, "each operator is of a kind that has a name"


# --- memory ---


def test_peak_memory_by_hand():
    kib = 1024

    def run():
        a = torch.zeros(kib // 4)  # 1 KiB
        b = a + 1  # 2
        b = b.view(16, -1).t()  # a view
        b += 1  # in place
        c = torch.cat([b, b, b])  # 5
        del a, b  # 3
        d = c.sum()  # 3, and 4 bytes
        del c
        return torch.zeros(kib // 2), d  # 2

    weights = torch.zeros(10 * kib)
    assert peak_memory(run) == 5 * kib
    assert peak_memory(lambda: weights.view(-1)[:4]) == 0, "what was there before is not counted"
    assert peak_memory(lambda: weights * 2) == 40 * kib


def test_a_larger_picture_needs_more():
    model = create()
    small, large = (peak_memory(lambda side=side: model(*inputs(1, 1, side, side))) for side in (64, 128))
    assert 3 < large / small < 4.5

"""The clock, on a clock of our own: turns, medians, intervals and pairs against brute force; cards of two machines are kept apart."""

import itertools
import json
import math
import random
import statistics
from dataclasses import replace

import pytest
import torch

from lightavseg_core.profiling import machine as best
from lightavseg_core.profiling import timing
from lightavseg_core.profiling.timing import (
    Interval,
    LatencyCard,
    Noise,
    Timing,
    interval,
    latency,
    measure,
    noise,
    ratio,
    same_machine,
    threads,
)


@pytest.fixture
def clock(monkeypatch):
    """Seconds, in a list of one, that only a test moves."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_candidates_take_turns(clock):
    calls = []

    def candidate(name, seconds):
        def run():
            assert torch.is_inference_mode_enabled()
            calls.append(name)
            clock[0] += seconds[len([c for c in calls if c == name]) - 1]
        return run

    # The first call of each is a warm-up, and slow; the odd one out of the others does not move a median.
    timings = latency({"a": candidate("a", [9, 2, 2, 8]), "b": candidate("b", [9, 4, 4, 4])}, repeats=3, warmup=1, device="cpu")
    rounds = [calls[i:i + 2] for i in range(0, 8, 2)]
    assert all(sorted(turn) == ["a", "b"] for turn in rounds) and len({tuple(turn) for turn in rounds}) == 2     # one order, and the other
    assert timings["a"].median == pytest.approx(2000) and timings["b"].median == pytest.approx(4000)
    assert timings["a"].rounds == pytest.approx([2000, 2000, 8000])
    for nothing in ({}, {"a": lambda: None}):
        with pytest.raises(ValueError, match="at least one"):
            latency(nothing, repeats=0 if nothing else 3)


@pytest.mark.parametrize("n", range(1, 41))
def test_interval_against_brute_force(n):
    """The narrowest pair of order statistics, as far from one end as from the other, that holds the median with 95%."""
    values = random.Random(n).sample(range(1000), n)
    ordered, pairs = sorted(values), []
    for k in range((n + 1) // 2):
        # It misses where k or fewer values are below the true median, or k or fewer above: each is below with probability 1/2.
        holds = sum(math.comb(n, below) for below in range(k + 1, n - k)) / 2 ** n
        pairs.append((ordered[k], ordered[n - 1 - k], holds))
    low, high, _ = next((pair for pair in reversed(pairs) if pair[2] >= 0.95), pairs[0])
    assert interval(values) == Interval(statistics.median(values), low, high)
    assert n < 6 or next(holds for a, b, holds in pairs if (a, b) == (low, high)) >= 0.95


def test_interval_holds_the_median_as_often_as_it_says():
    draw = random.Random(0)
    held = 0
    for _ in range(2000):
        _, low, high = interval([draw.lognormvariate(0, 1) for _ in range(20)])
        held += low <= 1 <= high
    assert 0.94 < held / 2000 < 0.975                       # 95.9% in theory
    with pytest.raises(ValueError, match="no values"):
        interval([])


def test_ratio_is_by_pairs():
    """A machine that slows down threefold half way widens both intervals, and not that of the ratio."""
    pace = [1.0] * 10 + [3.0] * 10
    a, b = (Timing(statistics.median(rounds), rounds) for rounds in ([2 * p for p in pace], [1 * p for p in pace]))
    assert ratio(a, b) == (2, 2, 2)
    assert a.interval.high / a.interval.low == 3 and a.spread == pytest.approx((6 - 2) / 4)
    c = Timing(3.0, [1, 2, 3, 4, 5, 6])
    d = Timing(1.0, [2, 1, 2, 1, 2, 1])
    assert ratio(c, d) == interval([0.5, 2, 1.5, 4, 2.5, 6])
    with pytest.raises(ValueError, match="6 and 20 rounds"):
        ratio(c, a)
    assert Timing(1.0, [1.0]).spread == 0


def test_noise_says_scatter_and_drift():
    steady, falling = Timing(2.0, [2.0] * 9), Timing(1.0, [1, 1, 1, 1, 1.1, 1.2, 1.5, 1.5, 1.5])
    assert noise(steady) == (2, 0, 0)
    assert noise(falling).drift == pytest.approx(0.5) and noise(falling).scatter > 0


def test_threads_are_restored():
    before = torch.get_num_threads()
    with threads(before + 1) as n:
        assert n == torch.get_num_threads() == before + 1
    with pytest.raises(RuntimeError), threads(before + 2):
        raise RuntimeError
    assert torch.get_num_threads() == before
    with threads(None) as n:
        assert n == before == torch.get_num_threads()
    with pytest.raises(ValueError, match="threads is 0"), threads(0):
        pass


CARD = LatencyCard("processor", 2, "Linux x86_64", {"torch": "2.11.0"}, 1, "fp32", 1, (224, 224), 1, 3, 30, "2026-11-21",
                   Noise(1.0, 0.02, 0.01), "abc")


def test_measure_makes_a_card(clock, monkeypatch):
    def tick(seconds=0.25):
        clock[0] += seconds
        return clock[0]

    monkeypatch.setattr(timing.time, "perf_counter", lambda: tick(2 ** -10))      # reading it takes a thousandth
    timings, card = measure({"tick": tick}, repeats=4, warmup=2, device="cpu", batch=3, size=(64, 96), seconds=5)
    each = 1000 * (0.25 + 2 ** -10)
    assert timings == {"tick": (each, [each] * 4)} and card.noise == (1000 * 2 ** -10, 0, 0), "the probe is not among the results"
    assert (card.batch, card.size, card.seconds, card.repeats, card.warmup, card.precision) == (3, (64, 96), 5, 4, 2, "fp32")
    assert card.versions["torch"] in torch.__version__ and card.threads == torch.get_num_threads() and card.date and card.commit
    assert LatencyCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    for said in ("batch 3", "64 x 96 px", "5 s", "4 rounds after 2", card.device, card.date):
        assert said in str(card)
    with pytest.raises(ValueError, match="no candidates"):
        measure({})
    with pytest.raises(ValueError, match="fields"):
        LatencyCard.from_dict({"device": "x"})


@pytest.mark.parametrize("differs", [{"device": "another"}, {"cores": 64}, {"system": "Darwin arm64"}, {"versions": {"torch": "2.10.0"}}])
def test_two_machines_are_kept_apart(differs):
    same_machine([CARD, replace(CARD, threads=2, batch=4, size=None, date="2026-11-22", noise=Noise(2, 0.1, 0))])
    name, value = next(iter(differs.items()))
    with pytest.raises(ValueError) as error:
        same_machine([CARD, CARD, replace(CARD, **differs)])
    assert f"{name} is {getattr(CARD, name)!r} here and {value!r} there" in str(error.value)
    assert not any(other in str(error.value) for other in {"device is", "cores is", "system is", "versions is"} - {f"{name} is"})


def test_clocks():
    timer = timing.clock("cpu")
    start = timer.stamp()
    timer.wait()
    assert timer.milliseconds(start, start + 0.25) == pytest.approx(250)
    assert timing.here() == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_gpu_is_timed_by_its_events(monkeypatch):
    """On a GPU that we play: a call returns at once, its work is done when somebody waits, and only then can events be read."""
    queue, done = [], [0.0]

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing
            self.at = None

        def record(self):
            queue.append(self)

        def elapsed_time(self, other):
            assert None not in (self.at, other.at), "read before it was done"
            return other.at - self.at

    def synchronize():
        for work in queue:
            if isinstance(work, Event):
                work.at = done[0]
            else:
                done[0] += work
        queue.clear()

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    timings = latency({"a": lambda: queue.append(7.0), "b": lambda: queue.extend([1.0, 2.0])}, repeats=3, warmup=1, device="cuda")
    assert timings == {"a": (7, [7] * 3), "b": (3, [3] * 3)}


# --- the floor ---


def test_every_product_is_one():
    """Each library gives the product of the same two matrices."""
    import numpy as np
    results = {}
    for library, run in best.products(33, threads=1):
        result = run()
        if library in ("torch", "onnxruntime", "openvino"):
            results[library] = np.asarray(result[0] if library != "torch" else result)
    assert "torch" in results
    for one, other in itertools.pairwise(results.values()):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_floor_takes_the_fastest(clock, monkeypatch):
    def run(seconds):
        def call():
            clock[0] += seconds
        return call

    monkeypatch.setattr(best, "products", lambda size, threads: iter([("slow", run(2.0)), ("fast", run(size / 1000))]))
    monkeypatch.setattr(best, "TRIAD", 1024)
    real = torch.add
    monkeypatch.setattr(torch, "add", lambda *args, **kwargs: (run(1e-3)(), real(*args, **kwargs))[1])
    found = best.floor(threads=1, device="cpu", sizes=(100, 200))
    assert (found.library, found.size) == ("fast", 200) and found.gflops == pytest.approx(2 * 200 ** 3 / 0.2 / 1e9)
    assert found.bandwidth == pytest.approx(3 * 4 * 1024 / 1e-3 / 1e9)
    assert best.Floor(100.0, "x", 1, 1.0).distance(10.0, 50_000_000) == pytest.approx(10)      # 10^8 operations at 10^11 a second: 1 ms

"""The clock, on a clock of our own: turns, medians, intervals and pairs against brute force.

Cards of two machines, and of other numbers of threads, are kept apart.
"""

import itertools
import json
import math
import random
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch

from lightavseg_core.profiling import machine, timing
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
            clock[0] += seconds[calls.count(name)]
            calls.append(name)

        return run

    # The first call of each is a warm-up, and slow; the odd one out of the others does not move a median.
    candidates = {"a": candidate("a", [9, 2, 2, 8]), "b": candidate("b", [9, 4, 4, 4])}
    timings = latency(candidates, repeats=3, warmup=1, device="cpu")
    rounds = [calls[i : i + 2] for i in range(0, 8, 2)]
    assert all(sorted(turn) == ["a", "b"] for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) == 2, "one order, and the other"
    assert timings["a"].median == pytest.approx(2000) and timings["b"].median == pytest.approx(4000)
    assert timings["a"].rounds == pytest.approx([2000, 2000, 8000])
    for candidates, repeats in (({}, 3), ({"a": print}, 0)):
        with pytest.raises(ValueError, match="at least one"):
            latency(candidates, repeats)


@pytest.mark.parametrize("n", range(1, 41))
def test_interval_against_brute_force(n):
    """The narrowest pair of order statistics, as far from either end, that holds the median with 95%."""
    values = random.Random(n).sample(range(1000), n)
    ordered, pairs = sorted(values), []
    for k in range((n + 1) // 2):
        # It misses where k or fewer values are below the true median, or above: each is below at odds of 1/2.
        holds = sum(math.comb(n, below) for below in range(k + 1, n - k)) / 2**n
        pairs.append((ordered[k], ordered[n - 1 - k], holds))
    low, high, held = next((pair for pair in reversed(pairs) if pair[2] >= 0.95), pairs[0])
    assert interval(values) == Interval(statistics.median(values), low, high)
    assert n < 6 or held >= 0.95


def test_interval_holds_the_median_as_often_as_it_says():
    draw = random.Random(0)
    held = 0
    for _ in range(2000):
        _, low, high = interval([draw.lognormvariate(0, 1) for _ in range(20)])
        held += low <= 1 <= high
    assert 0.94 < held / 2000 < 0.975  # 95.9% in theory
    with pytest.raises(ValueError, match="no values"):
        interval([])


def test_ratio_is_by_pairs():
    """A machine that slows down threefold half way widens both intervals, and not that of the ratio."""
    pace = [1.0] * 10 + [3.0] * 10
    a, b = (Timing([factor * p for p in pace], 1) for factor in (2, 1))
    assert ratio(a, b) == (2, 2, 2)
    assert a.interval.high / a.interval.low == 3
    c, d = Timing([1, 2, 3, 4, 5, 6], 1), Timing([2, 1, 2, 1, 2, 1], 1)
    assert ratio(c, d) == interval([0.5, 2, 1.5, 4, 2.5, 6])
    with pytest.raises(ValueError, match="6 and 20 rounds"):
        ratio(c, a)


def test_noise_says_scatter_and_drift():
    falling = Timing([1, 1, 1, 1, 1.1, 1.2, 1.5, 1.5, 1.5], 1)
    assert noise(Timing([2.0] * 9, 1)) == (2, 0, 0)
    assert noise(falling) == (1.1, pytest.approx(0.5 / 1.1), pytest.approx(0.5))
    assert noise(Timing([1.0], 1)) == (1, 0, 0)


# --- threads ---


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


def test_no_ratio_across_threads():
    """A timing knows its threads, and so does what was read from a file: by its card."""
    timings = {}
    for n in (1, 2):
        with threads(n):
            timings[n], card = measure({"a": lambda: None}, repeats=6, warmup=0, device="cpu")
        assert card.threads == timings[n]["a"].threads == n
        timings[n]["read"] = Timing.of(timings[n]["a"].rounds, card)
    assert ratio(timings[1]["a"], timings[1]["read"]) == (1, 1, 1)
    for one, other in (("a", "a"), ("read", "a"), ("read", "read")):
        with pytest.raises(ValueError, match="on 2 and on 1 threads"):
            ratio(timings[2][one], timings[1][other])


# --- the card ---


CARD = LatencyCard(
    device="processor",
    cores=2,
    system="Linux x86_64",
    versions={"torch": "2.11.0"},
    threads=1,
    warmup=3,
    repeats=30,
    date="2026-11-21",
    noise=Noise(1.0, 0.02, 0.01),
    commit="abc",
    batch=1,
    size=(224, 224),
    seconds=1,
)


def test_measure_makes_a_card(clock, monkeypatch):
    def tick(seconds=0.25):
        clock[0] += seconds
        return clock[0]

    monkeypatch.setattr(timing.time, "perf_counter", lambda: tick(2**-10))  # reading it takes a thousandth
    computed = {"batch": 3, "size": (64, 96), "seconds": 5}
    timings, card = measure({"tick": tick}, repeats=4, warmup=2, device="cpu", **computed)
    each = 1000 * (0.25 + 2**-10)
    assert timings == {"tick": ([each] * 4, torch.get_num_threads())}, "the probe is not among the results"
    assert card.noise == (1000 * 2**-10, 0, 0)
    assert {name: getattr(card, name) for name in computed} == computed
    assert (card.repeats, card.warmup, card.precision) == (4, 2, "fp32")
    assert card.versions["torch"] in torch.__version__ and card.threads == torch.get_num_threads()
    assert card.date and card.commit
    assert LatencyCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    for said in ("batch 3", "64 x 96 px", "5 s", "4 rounds after 2", card.device, card.date):
        assert said in str(card)
    with pytest.raises(ValueError, match="no candidates"):
        measure({})


@pytest.mark.parametrize(
    "name, value",
    [
        ("device", "another"),
        ("cores", 64),
        ("system", "Darwin arm64"),
        ("versions", {"torch": "2.10.0"}),
        ("threads", 2),
    ],
)
def test_two_machines_are_kept_apart(name, value):
    other = replace(CARD, batch=4, size=None, date="2026-11-22", noise=Noise(2, 0.1, 0))
    same_machine([CARD, other])
    with pytest.raises(ValueError, match="do not belong in one table") as error:
        same_machine([CARD, CARD, replace(other, **{name: value})])
    said = str(error.value)
    assert f"{name} is {getattr(CARD, name)!r} here and {value!r} there" in said
    assert said.count(" here and ") == 1


def test_threads_may_differ_where_they_are_said():
    two = replace(CARD, threads=2)
    same_machine([CARD, two], threads_said=True)
    with pytest.raises(ValueError, match="cores"):
        same_machine([CARD, replace(two, cores=64)], threads_said=True)


# --- clocks ---


def test_clocks():
    timer = timing.clock("cpu")
    start = timer.stamp()
    timer.wait()
    assert timer.milliseconds(start, start + 0.25) == pytest.approx(250)
    assert timing.here() == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_gpu_is_timed_by_its_events(monkeypatch):
    """On a GPU that we play: a call returns at once, its work is done when somebody waits.

    Only then can events be read.
    """
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
    candidates = {"a": lambda: queue.append(7.0), "b": lambda: queue.extend([1.0, 2.0])}
    timings = latency(candidates, repeats=3, warmup=1, device="cuda")
    assert {name: found.rounds for name, found in timings.items()} == {"a": [7] * 3, "b": [3] * 3}


# --- the floor ---


def test_every_product_is_one():
    """Each library gives the product of the same two matrices."""
    results = {}
    with threads(1):
        for library, run in machine.products(33):
            result = run()
            results[library] = np.asarray(result if library in ("torch", "numpy") else result[0])
    assert "torch" in results
    for one, other in itertools.pairwise(results.values()):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_floor_takes_the_fastest(clock, monkeypatch):
    def taking(seconds):
        def call():
            clock[0] += seconds

        return call

    def add(*args, **options):
        clock[0] += 1e-3
        return real(*args, **options)

    real = torch.add
    monkeypatch.setattr(torch, "add", add)
    monkeypatch.setattr(
        machine, "products", lambda size: iter([("slow", taking(2.0)), ("fast", taking(size / 1000))])
    )
    monkeypatch.setattr(machine, "SIZES", {"cpu": (100, 200)})
    monkeypatch.setattr(machine, "TRIAD", 1024)
    found = machine.floor(device="cpu")
    assert (found.library, found.size) == ("fast", 200)
    assert found.gflops == pytest.approx(2 * 200**3 / 0.2 / 1e9)
    assert found.bandwidth == pytest.approx(3 * 4 * 1024 / 1e-3 / 1e9)
    # 10^8 operations at 10^11 a second: 1 ms
    assert machine.Floor(100.0, "x", 1, 1.0).distance(10.0, 50_000_000) == pytest.approx(10)

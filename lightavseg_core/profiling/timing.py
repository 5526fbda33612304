"""Timing: candidates that take turns, medians with intervals, ratios by pairs, and the card that must stand
beside every time.

    with threads(2):
        timings, card = measure({"a": run_a, "b": run_b}, repeats=30)
    timings["a"].interval  # milliseconds: the median and its 95% interval
    ratio(timings["b"], timings["a"])  # round by round: what slows the machine for a while slows both

For comparison, `machine.py` measures what this machine can do at best.
"""
from __future__ import annotations

import datetime
import math
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from .._common.environment import card as machine_card
from .._common.environment import processor, versions
from .._common.intervals import Interval
from .._common.ranges import within
from .._common.records import commit

MOST_THREADS = 1024  # of many more, the system does not give the last ones, and OpenMP ends the process
RUNTIMES = ("torch", "numpy", "onnxruntime", "openvino", "executorch")


def interval(values: Sequence[float]) -> Interval:
    """The median of independent values and its interval by order statistics, which assumes no distribution.

    The interval is between the k-th smallest and the k-th largest value, with the largest k that keeps a
    probability of 95%. Fewer than six values cannot reach it: then it is their whole range. Raises ValueError
    without values.
    """
    if not values:
        raise ValueError("no values; expected at least one for a median.")
    ordered, n = sorted(values), len(values)
    k, below = 0, 1 / 2**n  # below: the probability that at most k values are under the true median
    while below <= 0.025:
        k += 1
        below += math.comb(n, k) / 2**n
    k = max(k - 1, 0)  # 0-based: the (k + 1)-th smallest
    return Interval(statistics.median(ordered), ordered[k], ordered[n - 1 - k])


class Timing(NamedTuple):
    rounds: list[float]  # milliseconds, in one order for all candidates: they can be compared by pairs
    threads: int  # of torch, meanwhile

    @classmethod
    def of(cls, rounds: Iterable[float], card: LatencyCard) -> Timing:
        """A timing that was read from a file, with its card."""
        return cls([float(milliseconds) for milliseconds in rounds], card.threads)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def interval(self) -> Interval:
        return interval(self.rounds)


def ratio(a: Timing, b: Timing) -> Interval:
    """How many times as long a takes as b: the median of the rounds' ratios, and its interval.

    Both from one call of `latency`. Raises ValueError for different numbers of rounds or of threads.
    """
    if len(a.rounds) != len(b.rounds):
        raise ValueError(
            f"found {len(a.rounds)} and {len(b.rounds)} rounds; only timings of one call to latency can be "
            "paired."
        )
    if a.threads != b.threads:
        raise ValueError(
            f"found times on {a.threads} and on {b.threads} threads, whose ratio would compare the threads. "
            "Measure both in one run."
        )
    return interval([x / y for x, y in zip(a.rounds, b.rounds)])


# --- the clock ---


class Clock(NamedTuple):
    stamp: Callable[[], Any]  # now, in the order of what the device computes
    milliseconds: Callable[[Any, Any], float]  # between two stamps, once `wait` has returned
    wait: Callable[[], None]  # until the device has done all that it was given


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def clock(device: str | torch.device) -> Clock:
    """Events on a GPU, whose calls return before they are done; otherwise the processor's clock."""
    if torch.device(device).type == "cuda":
        return Clock(_event, lambda start, end: start.elapsed_time(end), torch.cuda.synchronize)
    return Clock(lambda: time.perf_counter(), lambda start, end: (end - start) * 1000, lambda: None)


def here() -> str:
    """The default device to time: a GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def latency(
    candidates: Mapping[Hashable, Callable[[], object]],
    repeats: int = 30,
    warmup: int = 3,
    device: str | None = None,
) -> dict[Hashable, Timing]:
    """Name -> Timing of one call, in inference mode.

    Only ratios within one result are meaningful, since machines change their speed. Candidates take turns, so
    that a temporary slowdown affects all, and each round has another order, so that none always finds the
    caches of the same predecessor. Raises ValueError if there is nothing to time.
    """
    if not candidates or repeats < 1:
        raise ValueError(f"{len(candidates)} candidates, {repeats} repeats; expected at least one of each.")
    names, timer = list(candidates), clock(device or here())
    timings = {name: Timing([], torch.get_num_threads()) for name in names}
    with torch.inference_mode():
        for turn in range(warmup + repeats):
            for name in random.Random(turn).sample(names, len(names)):
                timer.wait()
                start = timer.stamp()
                candidates[name]()
                end = timer.stamp()
                timer.wait()
                if turn >= warmup:
                    timings[name].rounds.append(timer.milliseconds(start, end))
    return timings


@contextmanager
def threads(n: int | None) -> Iterator[int]:
    """Runs torch on n threads, then restores the number; None changes nothing. Yields how many there are.

    Only torch's own: other runtimes get their number of threads when they are created. Raises ValueError for
    n < 1 and for more than MOST_THREADS.
    """
    before = torch.get_num_threads()
    within(1, MOST_THREADS, threads=n)
    try:
        torch.set_num_threads(n or before)
        yield n or before
    finally:
        torch.set_num_threads(before)


# --- the card ---


class Noise(NamedTuple):
    """What a fixed small matrix product, timed in turns with the candidates, tells about the machine."""

    milliseconds: float  # its median
    scatter: float  # its interquartile range, as a share of the median
    drift: float  # how much longer it took in the last third of the rounds than in the first, as a share


def noise(probe: Timing) -> Noise:
    rounds = probe.rounds
    third = max(1, len(rounds) // 3)
    first, last = statistics.median(rounds[:third]), statistics.median(rounds[-third:])
    # The quantiles of a single round, which Python 3.11 refuses, are that round.
    low, _, high = statistics.quantiles(rounds * 2 if len(rounds) == 1 else rounds, method="inclusive")
    return Noise(probe.median, (high - low) / probe.median, last / first - 1)


@dataclass(frozen=True)
class LatencyCard:
    """Where, when and on what something was timed. A field that is None differs by row and stands there."""

    device: str
    cores: int
    system: str
    versions: dict[str, str]
    threads: int
    warmup: int  # rounds that were not counted
    repeats: int  # rounds that were
    date: str
    noise: Noise
    commit: str
    precision: str = "fp32"
    batch: int | None = None
    size: tuple[int, int] | None = None  # (H, W), pixels
    seconds: int | None = None

    def to_dict(self) -> dict:
        return {**asdict(self), "noise": self.noise._asdict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LatencyCard:
        """Reads `to_dict`, also from JSON. Raises KeyError or TypeError for other fields."""
        size = values["size"]
        return cls(**{**values, "size": size and tuple(size), "noise": Noise(**values["noise"])})

    def __str__(self) -> str:
        what = [
            self.batch and f"batch {self.batch}",
            self.size and f"{self.size[0]} x {self.size[1]} px",
            self.seconds and f"{self.seconds} s",
            self.precision,
            f"{self.threads} thread{'s' * (self.threads > 1)}",
        ]
        software = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.device} ({self.cores} cores, {self.system}), {', '.join(filter(None, what))}; "
            f"{self.repeats} rounds after {self.warmup}, {self.date}; {software}; "
            f"a fixed product scattered by {self.noise.scatter:.1%} and drifted by {self.noise.drift:+.1%}; "
            f"commit {self.commit}"
        )


MACHINE = ("device", "cores", "system", "versions")


@contextmanager
def read_as(what: str) -> Iterator[None]:
    """Raises ValueError if what is read within does not have the fields of `what`."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not {what} writes it ({type(error).__name__}: {error}).") from None


def same_machine(cards: Iterable[LatencyCard], threads_said: bool = False) -> None:
    """Raises ValueError, with the differences, if times must not stand side by side.

    Those are times from different machines, versions or numbers of threads. threads_said: each time has its
    number of threads beside it, so these may differ.
    """
    first, *others = cards
    for card in others:
        differ = []
        for name in MACHINE if threads_said else (*MACHINE, "threads"):
            one, other = getattr(first, name), getattr(card, name)
            if one != other:
                differ.append(f"{name} is {one!r} here and {other!r} there")
        if differ:
            raise ValueError(
                f"these times do not belong in one table: {'; '.join(differ)}. Measure all in one run."
            )


def measure(
    candidates: Mapping[Hashable, Callable[[], object]],
    repeats: int = 30,
    warmup: int = 3,
    device: str | None = None,
    **computed: Any,
) -> tuple[dict[Hashable, Timing], LatencyCard]:
    """`latency` of any callables by name, with its card.

    computed: for the card, what the candidates compute: precision, batch, size and seconds.
    """
    if not candidates:
        raise ValueError("no candidates; expected at least one to time.")
    device = device or here()
    a = torch.ones(256, 256, device=device)
    timings = latency({**candidates, None: lambda: a @ a}, repeats, warmup, device)
    probe = timings.pop(None)
    machine = machine_card()
    installed = {package: version for package, version in versions(RUNTIMES).items() if version}
    card = LatencyCard(
        device=torch.cuda.get_device_name() if torch.device(device).type == "cuda" else processor(),
        cores=machine["cores"],
        system=machine["system"],
        versions={"python": machine["python"], **installed},
        threads=probe.threads,
        warmup=warmup,
        repeats=repeats,
        date=datetime.date.today().isoformat(),
        noise=noise(probe),
        commit=commit(),
        **computed,
    )
    return timings, card

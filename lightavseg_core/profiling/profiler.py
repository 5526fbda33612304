"""Profiling: the latency of a forward pass, for several models in one run, beside their counts."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._common.ranges import COUNT, SIDE, within
from ..deploy.eager import Compile, Precision, arrange, autocast, place, prepare
from ..deploy.runtimes import load as load_exported
from ..deploy.runtimes import runtime_of
from ..evaluation import evaluating
from ..models import create_model
from ..models.base import AVSModel, load_model
from .accounting import macs
from .breakdown import MAIN, main_parts, module_latency
from .machine import Floor, floor
from .memory import peak_memory
from .timing import Interval, LatencyCard, Timing, here, measure, ratio, read_as, same_machine


class Candidate(NamedTuple):
    """Something to time: an exported model, a compiled one, or anything else with this signature."""

    run: Callable[[Tensor, Tensor], object]  # of frames (B, T, 3, H, W) and log_mel (B, T, 1, F, M)
    model: AVSModel | None = None  # what it computes, so that it can be counted
    columns: Mapping[str, Any] = {}  # what else its row says
    log_mel: tuple[int, int] = (96, 64)  # F, M that it takes


class Shape(NamedTuple):
    """The shape of a model's inputs."""

    batch: int
    size: tuple[int, int]  # H, W in pixels
    seconds: int  # frames of a clip

    def inputs(self, log_mel: tuple[int, int], device: str) -> tuple[Tensor, Tensor]:
        """Random frames (B, T, 3, H, W) and log_mel (B, T, 1, F, M)."""
        generator = torch.Generator().manual_seed(0)

        def random(*rest: int) -> Tensor:
            return torch.randn(self.batch, self.seconds, *rest, generator=generator).to(device)

        return random(3, *self.size), random(1, *log_mel)

    def check(self) -> None:
        """Raises ValueError for a shape that no model accepts."""
        for side in self.size:
            within(*SIDE, size=side)
        within(*COUNT, batch=self.batch, seconds=self.seconds)


@contextmanager
def _room() -> Iterator[None]:
    """Raises ValueError if the memory is not enough."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in ("allocate memory", "out of memory")):
            raise
        todo = "use a smaller size or batch, or fewer seconds"
        raise ValueError(f"this does not fit into memory: {todo}.") from None


@_room()
def in_turns(
    models: Mapping[str, AVSModel | Candidate],
    shapes: Sequence[Shape],
    repeats: int,
    warmup: int,
    device: str,
    precision: Precision = "fp32",
    compile: Compile = "none",
    **computed: Any,
) -> tuple[dict[tuple[str, Shape], tuple[Candidate, Timing]], LatencyCard]:
    """(name, shape) -> the candidate and its timing: every model at every shape, all in turns.

    An eager model runs in both memory layouts, and the faster one counts; for a compiled model torch chooses.
    computed: as in `measure`. Raises ValueError for a candidate whose number of threads is not torch's, and
    for impossible shapes.
    """
    for shape in shapes:
        shape.check()
    layouts = ("contiguous", "channels_last") if compile == "none" else ("compiled",)
    ways = {}  # (name, layout) -> candidate
    for name, entry in models.items():
        if isinstance(entry, Candidate):
            ways[name, ""] = entry
            own, others = getattr(entry.run, "threads", None), torch.get_num_threads()
            if own not in (None, others):  # an exported file's
                raise ValueError(f"{name}: loaded for {own} threads, torch has {others}. Load it so too.")
            continue
        for layout in layouts:
            run = prepare(entry, device, precision, compile, layout == "channels_last")
            ways[name, layout] = Candidate(run, entry, {"layout": layout}, entry.front_end.shape)
    calls = {
        (*key, shape): partial(way.run, *shape.inputs(way.log_mel, device))
        for (key, way), shape in product(ways.items(), shapes)
    }
    timings, card = measure(calls, repeats, warmup, device, precision=precision, **computed)
    fastest = {}
    for (name, layout, shape), timing in timings.items():
        if (name, shape) not in fastest or timing.median < fastest[name, shape][1].median:
            fastest[name, shape] = ways[name, layout], timing
    return fastest, card


# --- a profile ---


@dataclass
class Row:
    """What is known of one candidate; None where it is not known."""

    name: str
    timing: Timing
    parameters: int | None = None
    macs: int | None = None
    unknown: list[str] = field(default_factory=list)  # operators whose multiplications are not in `macs`
    memory: int | None = None  # bytes at the peak, without weights and inputs
    shares: dict[str, float] | None = None  # of the time, by part
    agreement: float | None = None  # the sum of the parts over the latency without hooks
    columns: dict[str, Any] = field(default_factory=dict)

    @property
    def gflops(self) -> float | None:
        """10^9 operations per second, two for a multiply-accumulate."""
        return self.macs and 2 * self.macs / self.timing.median / 1e6


@dataclass
class Profile:
    """Rows of one run, with its card and the machine's floor."""

    rows: list[Row]
    card: LatencyCard
    floor: Floor | None = None

    def relative(self, row: Row) -> Interval:
        """The ratio to the first row, by pairs of rounds."""
        return ratio(row.timing, self.rows[0].timing)

    def to_dict(self) -> dict:
        rows = [{**vars(row), "timing": row.timing.rounds} for row in self.rows]
        return {"card": self.card.to_dict(), "floor": self.floor and self.floor._asdict(), "rows": rows}

    @classmethod
    def from_dict(cls, values: dict) -> Profile:
        """Reads `to_dict`. Raises ValueError for other fields."""
        with read_as("a profile as `lightavseg profile --out FILE`"):
            card = LatencyCard.from_dict(values["card"])
            rows = [Row(**{**row, "timing": Timing.of(row["timing"], card)}) for row in values["rows"]]
            return cls(rows, card, values["floor"] and Floor(**values["floor"]))


def profile(
    models: Mapping[str, AVSModel | Candidate],
    size: int | tuple[int, int] = 224,
    seconds: int = 1,
    batch: int = 1,
    *,
    repeats: int = 30,
    warmup: int = 3,
    device: str | None = None,
    precision: Precision = "fp32",
    compile: Compile = "none",
    part_repeats: int = 0,
    with_floor: bool = True,
) -> Profile:
    """The latency of a forward pass on random inputs, with all models in turns.

    Frames of (H, W), or size x size, pixels, one per second. A model runs as in `eager.prepare`, including
    the conversion of frames to its layout; threads are torch's (see `timing.threads`). part_repeats: rounds
    in which its parts are timed; 0: none. Raises ValueError without models.
    """
    device = device or here()
    shape = Shape(batch, (size, size) if isinstance(size, int) else tuple(size), seconds)
    timed, card = in_turns(models, [shape], repeats, warmup, device, precision, compile, **shape._asdict())
    rows = []
    for (name, _), (candidate, timing) in timed.items():
        row = Row(name, timing, columns=dict(candidate.columns))
        rows.append(row)
        if (model := candidate.model) is None:
            continue
        row.parameters = sum(p.numel() for p in model.parameters())
        with evaluating(model):
            cost = macs(model, shape.size, seconds)
        row.macs, row.unknown = batch * cost.total_macs, sorted(cost.unknown)
        if isinstance(models[name], Candidate) or compile != "none":
            continue
        channels_last = row.columns["layout"] == "channels_last"
        placed = place(model, device, channels_last)
        frames, log_mel = shape.inputs(candidate.log_mel, device)
        frames = arrange(frames, channels_last)
        with torch.no_grad(), autocast(device, precision):
            row.memory = peak_memory(partial(placed, frames, log_mel), device)
        if part_repeats:
            looked = module_latency(placed, frames, log_mel, part_repeats, warmup, precision=precision)
            row.shares, row.agreement = looked.shares, looked.agreement.estimate
    return Profile(rows, card, floor(device=device, precision=precision) if with_floor else None)


# --- as text ---


def table(*profiles: Profile) -> tuple[list[str], list[list[str]]]:
    """Column names, and a line of text for each row, for `workbook.table`.

    Whatever differs between several profiles, such as threads, becomes a column; "times the first" is always
    within a profile. Raises ValueError for profiles of different machines.
    """
    cards = [p.card for p in profiles]
    same_machine(cards, threads_said=True)
    said = ("threads", "precision", "batch", "size", "seconds")
    differ = [name for name in said if len({getattr(card, name) for card in cards}) > 1]
    rows = [(p, row) for p in profiles for row in p.rows]
    extra = list(dict.fromkeys(name for _, row in rows for name in row.columns))
    parts = {part for _, row in rows for part in main_parts(row.shares or {})}
    shares = [part for part in MAIN if part in parts]
    lines = []
    for p, row in rows:
        median, own = row.timing.median, main_parts(row.shares or {})
        lines.append([
            row.name,
            *(str(getattr(p.card, name)) for name in differ),
            *(str(row.columns.get(name, "")) for name in extra),
            "{:.1f} ({:.1f} to {:.1f})".format(*row.timing.interval),
            "{:.2f} ({:.2f} to {:.2f})".format(*p.relative(row)),
            f"{row.parameters / 1e6:.1f}" if row.parameters else "",
            _gmacs(row),
            f"{row.gflops:.1f}" if row.macs else "",
            f"{p.floor.distance(median, row.macs):.1f}" if p.floor and row.macs else "",
            f"{row.memory / 2**20:.1f}" if row.memory else "",
            *(f"{own[part]:.1%}" if part in own else "" for part in shares),
        ])
    first = "times the first" if len(profiles) == 1 else "times the first of its run"
    best = "times the floor" if "precision" in differ else f"times the {cards[0].precision} floor"
    counted = ["parameters, M", "GMACs", "GFLOP/s", best, "peak, MiB"]
    return ["", *differ, *extra, "ms", first, *counted, *shares], lines


def _gmacs(row: Row) -> str:
    if row.macs is None:
        return ""
    return f"{row.macs / 1e9:.2f}{' + ?' if row.unknown else ''}"


def lines(found: Profile) -> list[str]:
    """The table in columns, and below it the notes and the card that belong to it."""
    columns, rows = table(found)
    widths = [max(map(len, column)) for column in zip(columns, *rows)]
    text = []
    for row in (columns, *rows):
        text.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for row in found.rows:
        if row.agreement:
            text.append(f"{row.name}: its parts add up to {row.agreement:.1%} of its latency without hooks")
        if row.unknown:
            remedy = "torch.utils.flop_counter.register_flop_formula gives them one"
            names = ", ".join(row.unknown)
            text.append(f"{row.name}: ? is what {names} multiply, which have no formula; {remedy}")
    if found.floor:
        gflops, library, _, bandwidth = found.floor
        text.append(f"floor: {gflops:.0f} GFLOP/s, a product of {library}; {bandwidth:.0f} GB/s")
    return [*text, str(found.card)]


def resolve(
    name: str, preset: str = "lean", size: int = 224, seconds: int = 1, device: str = "cpu"
) -> AVSModel | Candidate:
    """What a name on the command line means: an exported file, anything for `load_model` (a folder, or any
    name with a slash), or a method with random weights.

    Raises ValueError or FileNotFoundError; also for an exported file with other frames, since these are
    fixed, and for one on a GPU.
    """
    path = Path(name)
    if runtime_of(path):
        run = load_exported(path)
        made = run.metadata
        if (made.size, made.seconds) != ((size, size), seconds):
            height, width = made.size
            raise ValueError(
                f"{path}: made for {made.seconds} s of {height} x {width} pixels; "
                f"found size {size}, seconds {seconds}. Use its own, or export it again."
            )
        if device != "cpu":
            raise ValueError(
                f"{path}: exported files run on the processor; found device {device!r}, expected 'cpu'."
            )
        columns = {"runtime": made.runtime, "weights": made.precision}
        return Candidate(run, columns=columns, log_mel=made.log_mel)
    if path.is_dir() or set("/:") & set(path.as_posix()):  # no method's name has these
        return load_model(path)
    torch.manual_seed(0)
    return create_model(name, preset).eval()

"""Profiling: whose the parameters and the operations are, counted; and what a forward pass takes, measured."""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..deploy.eager import Compile, Precision, arrange, autocast, place, prepare
from ..models import create_model
from ..models.base import AVSModel, load_model
from .breakdown import MAIN, main_parts, module_latency
from .flops import Cost, count, owner
from .machine import Floor, floor
from .memory import peak_memory
from .timing import (
    Interval,
    LatencyCard,
    Timing,
    here,
    interval,
    latency,
    measure,
    ratio,
    same_machine,
)

__all__ = ["PARTS", "Candidate", "Parameters", "Point", "Profile", "Row", "Series", "dead_parameters", "latency", "lines", "macs", "module_latency",
           "parameters", "parts", "profile", "resolve", "scaling", "skeleton", "table", "throughput"]

PARTS = ("visual", "audio", "fusion", "decoder")


def skeleton(method: str, preset: str | None = None, **options) -> AVSModel:
    """`create_model` without numbers, on the meta device: all shapes, no memory, ready to be counted."""
    with torch.device("meta"):
        return create_model(method, preset, **options).eval()


def parts(model: AVSModel) -> dict[str, str]:
    """Submodule -> part: the encoders are "visual" and "audio", what the method names as its fusion is "fusion", the rest is "decoder"."""
    return {"": "decoder", "visual": "visual", "audio": "audio", **dict.fromkeys(model.fusion, "fusion")}


class Parameters(NamedTuple):
    total: int
    trainable: int


def parameters(model: AVSModel) -> dict[str, Parameters]:
    """Part -> how many parameters it has, and how many of them take a gradient."""
    table = dict.fromkeys(PARTS, Parameters(0, 0))
    for name, p in model.named_parameters():
        part = owner(name, parts(model))
        table[part] = Parameters(table[part].total + p.numel(), table[part].trainable + p.numel() * p.requires_grad)
    return table


def dead_parameters(model: AVSModel) -> dict[str, int]:
    """What the authors' code builds, saves and counts but never runs: their name of the module -> parameters, none of them in this model.

    Empty for other encoders than the authors', who published no code for them.
    """
    if model.config.visual != "resnet50":
        return {}
    return {name: sum(p.numel() for p in module.parameters()) for name, module in model.published_dead().items()}


def macs(model: AVSModel, size: int | tuple[int, int] = 224, seconds: int = 1) -> Cost:
    """What one clip costs, by part and operator: frames of size (H, W), or size x size, pixels, one a second. Counted on the meta device, not run.

    Raises ValueError for a model in training, whose losses ask for more than a mask.
    """
    if model.training:
        raise ValueError("the model is in training mode, in which it also makes what its losses need; call model.eval() first.")
    height, width = (size, size) if isinstance(size, int) else size
    with torch.device("meta"):
        frames, log_mel = torch.empty(1, seconds, 3, height, width), torch.empty(1, seconds, 1, *model.front_end.shape)
    return count(model, frames, log_mel, parts=parts(model))


# --- time ---


class Candidate(NamedTuple):
    """Something to be timed: an exported model, a compiled one, or anything else of this signature."""

    run: Callable[[Tensor, Tensor], object]                # (frames (B, T, 3, H, W), log_mel (B, T, 1, F, M)) -> whatever it makes of them
    model: AVSModel | None = None                          # what it computes, so that it can be counted
    columns: Mapping[str, Any] = {}                        # what else its row says
    log_mel: tuple[int, int] = (96, 64)                    # F, M that it takes


@dataclass
class Row:
    """What is known of one candidate; None where it is not known."""

    name: str
    timing: Timing
    parameters: int | None = None
    macs: int | None = None
    memory: int | None = None                                  # bytes at the peak, without weights and inputs
    shares: dict[str, float] | None = None                     # of the time, by part
    agreement: float | None = None                             # the sum of the parts over the latency without hooks
    columns: dict[str, Any] = field(default_factory=dict)

    @property
    def gflops(self) -> float | None:
        """10^9 operations a second, two for a multiply-accumulate."""
        return self.macs and 2 * self.macs / self.timing.median / 1e6


@dataclass
class Profile:
    """Rows of one run, with its card and the machine's floor."""

    rows: list[Row]
    card: LatencyCard
    floor: Floor | None = None

    def relative(self, row: Row) -> Interval:
        """How many times as long as the first row, by pairs."""
        return ratio(row.timing, self.rows[0].timing)

    def to_dict(self) -> dict:
        rows = [{**vars(row), "timing": row.timing.rounds} for row in self.rows]
        return {"card": self.card.to_dict(), "floor": self.floor and self.floor._asdict(), "rows": rows}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_dict(cls, values: dict) -> Profile:
        """Raises ValueError for other fields."""
        try:
            rows = [Row(**{**row, "timing": _timing(row["timing"])}) for row in values["rows"]]
            return cls(rows, LatencyCard.from_dict(values["card"]), values["floor"] and Floor(**values["floor"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a profile as `lightavseg profile --out FILE` writes it ({type(error).__name__}: {error}).") from None


def _timing(rounds: Sequence[float]) -> Timing:
    return Timing(interval(rounds).estimate, list(rounds))


def _entry(name: str, entry: AVSModel | Candidate, device: str, precision: Precision, compile: Compile) -> dict[tuple[str, str], Candidate]:
    """(name, layout) -> candidate. A model runs in both memory layouts, of which the faster one is it; compiled, torch chooses for itself."""
    if isinstance(entry, Candidate):
        return {(name, ""): entry}
    layouts = ("contiguous", "channels_last") if compile == "none" else ("contiguous",)
    return {(name, layout): Candidate(prepare(entry, device, precision, compile, layout == "channels_last"), entry,
                                      {"layout": layout if compile == "none" else "compiled"}, entry.front_end.shape) for layout in layouts}


def _inputs(entry: Candidate, batch: int, seconds: int, size: tuple[int, int], device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(batch, seconds, *rest, generator=generator).to(device) for rest in ((3, *size), (1, *entry.log_mel)))


def profile(models: Mapping[str, AVSModel | Candidate], size: int | tuple[int, int] = 224, seconds: int = 1, batch: int = 1, *, repeats: int = 30,
            warmup: int = 3, device: str | None = None, precision: Precision = "fp32", compile: Compile = "none", part_repeats: int = 0,
            with_floor: bool = True) -> Profile:
    """What a forward pass of random inputs takes, all models in turns: frames of size (H, W), or size x size, pixels, one a second.

    A model runs as `execution.prepare` says, frames put into its layout included; threads are torch's (see `timing.threads`).
    part_repeats: rounds in which its parts are timed; 0: they are not. Raises ValueError for no models.
    """
    size, device = (size, size) if isinstance(size, int) else tuple(size), device or here()
    entries = {key: candidate for name, entry in models.items() for key, candidate in _entry(name, entry, device, precision, compile).items()}
    calls = {key: partial(c.run, *_inputs(c, batch, seconds, size, device)) for key, c in entries.items()}
    timings, card = measure(calls, repeats, warmup, device, precision=precision, batch=batch, size=size, seconds=seconds)
    rows = []
    for name in models:
        key = min((key for key in entries if key[0] == name), key=lambda key: timings[key].median)
        candidate = entries[key]
        row = Row(name, timings[key], columns=dict(candidate.columns))
        if candidate.model is not None:
            row.parameters = sum(p.numel() for p in candidate.model.parameters())
            row.macs = batch * macs(_counted(candidate.model), size, seconds).total_macs
        if not isinstance(models[name], Candidate) and compile == "none":
            last = key[1] == "channels_last"
            placed, (frames, log_mel) = place(candidate.model, device, last), _inputs(candidate, batch, seconds, size, device)
            frames = arrange(frames, last)
            with torch.no_grad(), autocast(device, precision):
                row.memory = peak_memory(partial(placed, frames, log_mel), device)
            if part_repeats:
                looked = module_latency(placed, frames, log_mel, part_repeats, warmup, precision=precision)
                row.shares, row.agreement = looked.shares, looked.agreement.estimate
        rows.append(row)
    return Profile(rows, card, floor(device=device, precision=precision) if with_floor else None)


def _counted(model: AVSModel) -> AVSModel:
    return model if not model.training else place(model, "meta")


def table(*profiles: Profile) -> tuple[list[str], list[list[str]]]:
    """Column names, and a line of text for each row, as `workbook.table` takes them. What differs between several profiles becomes a column.

    Raises ValueError for profiles of two machines.
    """
    cards = [p.card for p in profiles]
    same_machine(cards)
    differ = [name for name in ("threads", "precision", "batch", "size", "seconds") if len({getattr(card, name) for card in cards}) > 1]
    rows = [(p, row) for p in profiles for row in p.rows]
    extra = list(dict.fromkeys(name for _, row in rows for name in row.columns))
    shares = [part for part in MAIN if any(part in main_parts(row.shares or {}) for _, row in rows)]
    lines = []
    for p, row in rows:
        (median, low, high), (times, least, most) = row.timing.interval, p.relative(row)
        distance, own = p.floor.distance(median, row.macs) if p.floor and row.macs else None, main_parts(row.shares or {})
        lines.append([row.name, *(str(getattr(p.card, name)) for name in differ), *(str(row.columns.get(name, "")) for name in extra),
                      f"{median:.1f} ({low:.1f} to {high:.1f})", f"{times:.2f} ({least:.2f} to {most:.2f})",
                      *("" if value is None else f"{value:.{digits}f}" for value, digits in (
                          (row.parameters and row.parameters / 1e6, 1), (row.macs and row.macs / 1e9, 2), (row.gflops, 1), (distance, 1),
                          (row.memory and row.memory / 2 ** 20, 1))),
                      *(f"{own[part]:.1%}" if part in own else "" for part in shares)])
    return ["", *differ, *extra, "ms", "times the first", "parameters, M", "GMACs", "GFLOP/s", f"times the {cards[0].precision} floor",
            "peak, MiB", *shares], lines


def lines(found: Profile) -> list[str]:
    """The table in columns, and below it what it must be read with."""
    columns, rows = table(found)
    widths = [max(map(len, column)) for column in zip(columns, *rows)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in (columns, *rows)]
    best = f"floor: {found.floor.gflops:.0f} GFLOP/s, a product of {found.floor.library}; {found.floor.bandwidth:.0f} GB/s" if found.floor else ""
    added = [f"{row.name}: its parts add up to {row.agreement:.1%} of its latency without hooks" for row in found.rows if row.agreement]
    return [*text, *added, best, str(found.card)]


def resolve(name: str, preset: str = "lean", size: int = 224, seconds: int = 1, device: str = "cpu") -> AVSModel | Candidate:
    """What the command line's name means: an exported file, a model folder, or a method, which gets random weights.

    Raises ValueError or FileNotFoundError; also for an exported file of other frames, since those are part of it, and on a GPU.
    """
    path = Path(name)
    if path.suffix in (".onnx", ".xml", ".pte"):
        from ..deploy.runtimes import load
        run = load(path)
        made = run.metadata
        if (made.size, made.seconds) != ((size, size), seconds):
            raise ValueError(f"{path}: made for {made.seconds} s of {made.size[0]} x {made.size[1]} pixels; found size {size}, seconds {seconds}. "
                             "Give its own, or export it again.")
        if device != "cpu":
            raise ValueError(f"{path}: exported files run on the processor; found device {device!r}, expected 'cpu'.")
        return Candidate(run, columns={"runtime": made.runtime, "weights": made.precision}, log_mel=made.log_mel)
    if path.is_dir():
        return load_model(path)
    torch.manual_seed(0)
    return create_model(name, preset).eval()


# --- series ---


class Point(NamedTuple):
    name: str
    batch: int
    size: tuple[int, int]
    seconds: int
    timing: Timing

    @property
    def pixels(self) -> int:
        """Of all frames of a clip."""
        return self.seconds * self.size[0] * self.size[1]

    @property
    def clips_per_second(self) -> Interval:
        median, low, high = self.timing.interval
        return Interval(*(1000 * self.batch / ms for ms in (median, high, low)))


@dataclass
class Series:
    """Points of one run, with its card."""

    points: list[Point]
    card: LatencyCard

    def to_dict(self) -> dict:
        return {"card": self.card.to_dict(), "points": [{**p._asdict(), "timing": p.timing.rounds} for p in self.points]}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_dict(cls, values: dict) -> Series:
        """Raises ValueError for other fields."""
        try:
            points = [Point(**{**p, "size": tuple(p["size"]), "timing": _timing(p["timing"])}) for p in values["points"]]
            return cls(points, LatencyCard.from_dict(values["card"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a series as `Series.to_json` writes it ({type(error).__name__}: {error}).") from None


def _series(models: Mapping[str, AVSModel | Candidate], shapes: Sequence[tuple[int, tuple[int, int], int]], repeats: int, warmup: int,
            device: str | None, precision: Precision, compile: Compile) -> Series:
    """Every model at every (batch, size, seconds), all in turns; of two layouts the faster one at each."""
    device = device or here()
    entries = {key: c for name, entry in models.items() for key, c in _entry(name, entry, device, precision, compile).items()}
    calls = {(*key, shape): partial(c.run, *_inputs(c, shape[0], shape[2], shape[1], device))
             for (key, c), shape in product(entries.items(), shapes)}
    timings, card = measure(calls, repeats, warmup, device, precision=precision)
    points = [Point(name, *shape, min((t for (n, _, s), t in timings.items() if (n, s) == (name, shape)), key=lambda t: t.median))
              for name, shape in product(models, shapes)]
    return Series(points, card)


def throughput(models: Mapping[str, AVSModel | Candidate], batches: Sequence[int] = (1, 2, 4, 8), size: int = 224, seconds: int = 1, *,
               repeats: int = 10, warmup: int = 2, device: str | None = None, precision: Precision = "fp32", compile: Compile = "none") -> Series:
    """Clips a second against the batch: `Point.clips_per_second`."""
    return _series(models, [(batch, (size, size), seconds) for batch in batches], repeats, warmup, device, precision, compile)


def scaling(models: Mapping[str, AVSModel | Candidate], sizes: Sequence[int] = (128, 224, 320, 448), seconds: Sequence[int] = (1,), *,
            repeats: int = 10, warmup: int = 2, device: str | None = None, precision: Precision = "fp32", compile: Compile = "none") -> Series:
    """Latency against the frames' size and their number, `seconds`, for one clip."""
    return _series(models, [(1, (size, size), t) for size, t in product(sizes, seconds)], repeats, warmup, device, precision, compile)

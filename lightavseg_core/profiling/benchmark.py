"""The benchmark that the README shows: eager methods, runtimes, the trained small model and growth.

In each run the candidates take turns; each has its card.

    lightavseg bench --figure figures/latency.png  # `make bench`: half an hour on 2 cores
"""
from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .._common import records
from .._common.files import check_file
from .._common.names import unknown
from .._common.ranges import within
from .._common.shipped import TINY
from ..data.avsbench import AVSBench
from ..data.sounding_shapes import generate
from ..deploy.eager import prepare
from ..deploy.export import clips_of, export
from ..deploy.runtimes import SUFFIX, load
from ..deploy.scoring import score_segmenter
from ..models import create_model
from ..models.base import AVSModel, load_model
from .profiler import Candidate, Profile, Shape, profile
from .series import Series, scaling
from .timing import here, same_machine, threads
from .training import growth as training_growth
from .training import step_of

PATH, GPU = Path("results/latency.json"), Path("results/latency_gpu.json")
PEERS = ("avesformer", "avsbench", "avsegformer", "selm")
ENCODERS = {"seaformer_l": "mobilenetv2_100", "resnet50": "vggish"}
# A_0 is projected and added once instead: what is left of listening.
NO_FUSION = {"agve": False, "har": False, "cmfd": False}
Run = Callable[[], Profile | Series]  # made when it is asked for: models are large


@dataclass
class Bench:
    """What `run` measured: runs by name; rows of one run may be compared."""

    profiles: dict[str, Profile] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)

    def write(self, path: Path) -> None:
        profiles = {name: run.to_dict() for name, run in self.profiles.items()}
        series = {name: run.to_dict() for name, run in self.series.items()}
        records.write(path, {"provenance": self.provenance, "profiles": profiles, "series": series})


def read(path: Path = PATH) -> Bench:
    """Reads a benchmark. Raises FileNotFoundError, or ValueError for any other file."""
    values = records.read(path)
    try:
        profiles = {name: Profile.from_dict(run) for name, run in values["profiles"].items()}
        series = {name: Series.from_dict(run) for name, run in values["series"].items()}
        return Bench(profiles, series, values["provenance"])
    except (KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not what `lightavseg bench` writes ({error}). Run it again.") from None


def models() -> Iterator[tuple[str, AVSModel]]:
    """Name -> model: LightAVSeg in three sizes, the others on both pairs of encoders."""
    for preset in ("lean", "paper"):
        yield f"lightavseg {preset}", create("lightavseg", preset)
    yield "lightavseg resnet50", create("lightavseg", "paper", visual="resnet50", audio="vggish")
    for (visual, audio), method in product(ENCODERS.items(), PEERS):
        yield f"{method} {visual}", create(method, "paper", visual=visual, audio=audio)


def create(method: str, preset: str, **options) -> AVSModel:
    """A model with random weights, the same each time: they do not change the speed."""
    torch.manual_seed(0)
    return create_model(method, preset, **options).eval()


def exported(
    model: AVSModel,
    name: str,
    folder: Path,
    clips: list,
    precisions: Sequence[str] = ("fp32", "int8"),
    runtimes: Sequence[str] = tuple(SUFFIX),
) -> dict[str, Candidate]:
    """Row -> the model in each runtime, exported into the folder. name: of the model, in the row's name."""
    rows = {}
    for runtime, precision in product(runtimes, precisions):
        row = f"{runtime} {precision}, {name}" if name else f"{runtime} {precision}"
        path = folder / f"{row}{SUFFIX[runtime]}"
        agreement = export(model, path, runtime, clips, precision, name, "lightavseg bench")
        size = sum(file.stat().st_size for file in (path, path.with_suffix(".bin")) if file.exists())
        columns = {"file, MB": round(size / 1e6, 1), "pixels alike": agreement.pixels}
        rows[row] = Candidate(load(path), model, columns)
    return rows


def eager(model: AVSModel) -> dict[str, Candidate]:
    """The model in both memory layouts; the faster one counts as eager."""
    return {
        f"eager, {layout}": Candidate(prepare(model, "cpu", channels_last=layout == "channels_last"), model)
        for layout in ("contiguous", "channels_last")
    }


def random_clip(model: AVSModel) -> tuple[Tensor, Tensor]:
    """Random inputs: speed depends only on their size."""
    return Shape(1, (model.config.size,) * 2, 1).inputs(model.front_end.shape, "cpu")


def on_processor(folder: Path, repeats: int) -> Iterator[tuple[str, Run]]:
    """The runs on a processor, by name."""

    def methods() -> Profile:
        return profile(dict(models()), repeats=repeats, part_repeats=max(1, repeats // 3))

    def parts() -> Profile:
        presets = {preset: create("lightavseg", preset) for preset in ("lean", "paper")}
        return profile(presets, repeats=repeats, part_repeats=repeats)

    def runtimes() -> Profile:
        lean = create("lightavseg", "lean")
        clips = [random_clip(lean)]
        rows = eager(lean) | {"compiled": Candidate(prepare(lean, "cpu", compile="default"), lean)}
        rows |= exported(lean, "", folder, clips)
        rows |= exported(create("lightavseg", "lean", **NO_FUSION), "no fusion", folder, clips, ("fp32",))
        heavy = create("avsegformer", "paper", visual="resnet50", audio="vggish")
        row, = exported(heavy, "heavy", folder, clips, ("fp32",), ("onnx",)).values()
        rows["avsegformer resnet50, onnx fp32"] = row
        return profile(rows, repeats=repeats)

    def paper() -> Profile:
        whole = create("lightavseg", "paper")
        clips, rows = [random_clip(whole)], eager(whole)
        for name, model in (("", whole), ("no fusion", create("lightavseg", "paper", **NO_FUSION))):
            rows |= exported(model, name, folder, clips, ("fp32",), ("onnx", "openvino"))
        return profile(rows, repeats=repeats)

    def tiny() -> Profile:
        model = load_model(TINY).eval()
        size, root = model.config.size, folder / "shapes"
        generate(root, "ms3", {"train": 64, "val": 1, "test": 80}, size, 0)
        train, test = (AVSBench(root, "ms3", split, size, model.front_end) for split in ("train", "test"))
        scored = {}
        for name, row in (eager(model) | exported(model, "", folder, clips_of(train))).items():
            columns = {**row.columns, "M_J": score_segmenter(row.run, test)["M_J"]}
            scored[name] = row._replace(columns=columns)
        return profile(scored, size=size, repeats=repeats)

    def growth() -> Series:
        rows = {
            "lightavseg lean": create("lightavseg", "lean"),
            "avsbench seaformer_l": create("avsbench", "lean"),
        }
        return scaling(rows, sizes=(96, 128, 224, 320), seconds=(1, 5), repeats=max(3, repeats // 3))

    def training() -> Series:
        steps = {}
        for method in ("lightavseg", "avsbench", "avsegformer", "selm"):
            steps[method] = step_of(create(method, "lean"))
        steps["lightavseg, recomputed"] = step_of(create("lightavseg", "lean"), recompute=True)
        return training_growth(steps, repeats=max(3, repeats // 10))

    one_core = threads(1)  # as one core of a phone would
    yield "methods", methods
    yield "parts", parts
    yield "runtimes", one_core(runtimes)
    yield "paper", one_core(paper)
    yield "tiny", one_core(tiny)
    yield "scaling", growth
    yield "training", training


def on_gpu(repeats: int) -> Iterator[tuple[str, Run]]:
    """Every method, eager, compiled and with CUDA graphs, in two precisions; LightAVSeg by batch size."""

    def methods(precision: str, compile: str) -> Profile:
        return profile(dict(models()), repeats=repeats, device="cuda", precision=precision, compile=compile)

    def batches() -> Series:
        lean = {"lightavseg lean": create("lightavseg", "lean")}
        return scaling(lean, (224,), batches=(1, 4, 16, 64), device="cuda")

    for precision, compile in product(("fp32", "bf16"), ("none", "default", "graphs")):
        how = "eager" if compile == "none" else compile
        yield f"{precision}, {how}", partial(methods, precision, compile)
    yield "throughput", batches


def run(
    path: Path | None = None, device: str | None = None, repeats: int = 30, only: Collection[str] = ()
) -> Bench:
    """Measures everything, and writes the results after each run, so that finished runs are kept.

    path: by default results/latency.json, on a GPU results/latency_gpu.json. only: names of runs to measure
    again; the others are kept from the file, which must come from this machine and these versions. Raises
    ValueError for an unknown name, and for another machine's file.
    """
    within(1, repeats=repeats)
    device = device or here()
    path = path or (GPU if device == "cuda" else PATH)
    check_file(path)
    bench = read(path) if only else Bench()
    bench.provenance = records.provenance("lightavseg bench", 0)
    with tempfile.TemporaryDirectory() as folder:
        runs = dict(on_gpu(repeats) if device == "cuda" else on_processor(Path(folder), repeats))
        if wrong := set(only) - set(runs):
            raise unknown("run", sorted(wrong)[0], runs)
        for name in tqdm(only or runs, desc="bench", unit="run"):
            found = runs[name]()
            (bench.series if isinstance(found, Series) else bench.profiles)[name] = found
            cards = [run.card for run in (*bench.profiles.values(), *bench.series.values())]
            same_machine(cards, threads_said=True)  # by each run's own card: some are of one core
            bench.write(path)
    return bench

"""Profiling: every formula against a case by hand, parts that add up, the authors' code and the reported figures; tables of what was timed."""

import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny import create, inputs
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import lightavseg_core as lav
from lightavseg_core import encoders, plots
from lightavseg_core.cli import main
from lightavseg_core.models.base import METHODS
from lightavseg_core.models.blocks import Attention
from lightavseg_core.profiling import profiler, reported, timing
from lightavseg_core.profiling.breakdown import by_kind
from lightavseg_core.profiling.flops import FORMULAS, Operations, count
from lightavseg_core.profiling.machine import Floor
from lightavseg_core.profiling.profiler import (
    PARTS,
    Candidate,
    Profile,
    Row,
    Series,
    dead_parameters,
    macs,
    parameters,
    profile,
    resolve,
    scaling,
    skeleton,
    table,
    throughput,
)

T = torch.empty  # only shapes matter

# --- formulas, each against a case by hand ---

MACS = {
    "convolution": (lambda x: F.conv2d(x, T(4, 2, 3, 3), T(4), padding=1), [T(1, 2, 5, 6)], 4 * 2 * 9 * 30),
    "strided": (lambda x: F.conv2d(x, T(4, 2, 3, 3), stride=2, padding=1), [T(2, 2, 5, 6)], 2 * 4 * 2 * 9 * 3 * 3),
    "depthwise": (lambda x: F.conv2d(x, T(6, 1, 3, 3), groups=6), [T(1, 6, 5, 5)], 6 * 9 * 9),
    "on a line": (lambda x: F.conv1d(x, T(3, 1, 4), groups=3), [T(1, 3, 8)], 3 * 4 * 5),
    "linear": (nn.Linear(8, 5), [T(7, 8)], 7 * 8 * 5),
    "matrices": (lambda a, b: a @ b, [T(2, 3, 4), T(2, 4, 5)], 2 * 3 * 4 * 5),
    "einsum": (lambda q, m: torch.einsum("bqd,bdhw->bqhw", q, m), [T(2, 3, 4), T(2, 4, 5, 6)], 2 * 3 * 4 * 5 * 6),
    "attention": (F.scaled_dot_product_attention, [T(2, 3, 5, 8), T(2, 3, 7, 8), T(2, 3, 7, 4)], 2 * 3 * 5 * 7 * (8 + 4)),
}


@pytest.mark.parametrize("name", MACS)
def test_macs_by_hand(name):
    run, given, expected = MACS[name]
    assert count(run, *given).total_macs == expected


# Operator -> a computation, its inputs, and its operations by hand.
OTHER = {
    "relu": (F.relu, [T(2, 3)], 6),
    "add": (lambda a, b: a + b, [T(2, 3, 4), T(3, 1)], 24),                               # broadcast: one for each result
    "gelu": (F.gelu, [T(5)], 5),
    "hardtanh": (F.relu6, [T(5)], 5),
    "hardtanh_": (lambda x: F.relu6(x, inplace=True), [T(5)], 5),
    "mean": (lambda x: x.mean(-1), [T(2, 3, 4)], 24),
    "sum": (lambda x: x.sum(), [T(2, 3, 4)], 24),
    "argmax": (lambda x: x.argmax(1), [T(2, 7)], 14),
    "linalg_vector_norm": (lambda x: x.norm(dim=-1), [T(3, 4)], 12 + 12),                 # squares, sums
    "_softmax": (lambda x: x.softmax(-1), [T(2, 3)], 6 * (1 + 1 + 1 + 1 + 1)),            # maximum, difference, exponential, sum, quotient
    "native_batch_norm": (nn.BatchNorm2d(3).eval(), [T(2, 3, 4, 5)], 120 * 2),            # scale, shift
    "native_layer_norm": (nn.LayerNorm(4), [T(3, 4)], 12 * (1 + 3 + 2 + 2)),              # mean, variance, normalised, scale and shift
    "native_group_norm": (nn.GroupNorm(2, 4), [T(2, 4, 3, 3)], 72 * 8),
    "max_pool2d_with_indices": (lambda x: F.max_pool2d(x, 3, 2, 1), [T(1, 2, 8, 6)], 2 * 4 * 3 * 9),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, (2, 3)), [T(1, 2, 4, 6)], 2 * 2 * 2 * 6),
    # Five rows to two: windows 0-2 and 2-4, six rows read; seven columns to three: 0-2, 2-4, 4-6, nine columns.
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, (2, 3)), [T(1, 2, 5, 7)], 2 * 6 * 9),
    "_adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (2, 2)), [T(1, 2, 4, 6)], 2 * 24),
    "upsample_bilinear2d": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), [T(1, 3, 4, 5)], 3 * 8 * 10 * 4),
    "upsample_linear1d": (lambda x: F.interpolate(x, size=9, mode="linear"), [T(1, 3, 4)], 3 * 9 * 2),
    "grid_sampler_2d": (lambda x, at: F.grid_sample(x, at, align_corners=False), [T(1, 3, 8, 8), T(1, 5, 6, 2)], 3 * 30 * 4),
    "cat": (lambda a, b: torch.cat([a, b]), [T(2, 3), T(4, 3)], 18),
    "stack": (lambda a, b: torch.stack([a, b]), [T(3), T(3)], 6),
    "repeat": (lambda x: x.repeat(2, 5), [T(2, 3)], 60),
    "clone": (lambda x: x.t().contiguous(), [T(2, 3)], 6),
    "index": (lambda x: x[:, torch.arange(4)], [T(2, 9)], 8),
    "scatter": (lambda x: torch.zeros(2, 6).scatter(1, x.argmax(1, keepdim=True), 1.0), [T(2, 6)], 12),
    "constant_pad_nd": (lambda x: F.pad(x, (1, 2)), [T(2, 3)], 12),
    "copy_": (lambda x: torch.zeros(4).copy_(x), [T(4)], 4),
    "_to_copy": (lambda x: x.double(), [T(4)], 4),
    "rand": (lambda x: torch.rand(x.shape), [T(2, 3)], 6),
    "randn": (lambda x: torch.randn(x.shape), [T(2, 3)], 6),
    "bernoulli_": (lambda x: torch.empty(3).bernoulli_(0.5), [T(1)], 3),
    "view": (lambda x: x.view(6)[1:].unsqueeze(0).expand(4, 5), [T(2, 3)], 0),
    "zeros": (lambda x: (torch.zeros(9), torch.ones(9), torch.empty(9), torch.arange(9), torch.zeros_like(x), torch.empty_like(x)), [T(9)], 0),
    "_unsafe_view": (lambda a, b: torch.ops.aten._unsafe_view(a, [3, 2]), [T(2, 3), T(1)], 0),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_operations_by_hand(name):
    run, given, expected = OTHER[name]
    cost = count(run, *given)
    found = {operator: other for operator, (_, other) in cost.by_operator().items()}
    assert found.get(name.rstrip("_"), 0) == expected and cost.total_macs == 0 and not cost.unknown


def test_every_formula_has_its_case():
    shown_elsewhere = {"_safe_softmax", "_scaled_dot_product_flash_attention_for_cpu"}   # below
    shown_together = {"ones", "empty", "arange", "zeros_like", "empty_like"}             # in the case of zeros
    assert {operator.__name__ for operator in FORMULAS} <= {*OTHER, *shown_elsewhere, *shown_together}


def test_training_normalises_by_what_it_sees():
    assert count(nn.BatchNorm2d(3).train(), T(2, 3, 4, 5)).by_operator()["native_batch_norm"] == (0, 120 * (1 + 3 + 2))


def test_an_operator_without_formula_is_named():
    cost = count(lambda x: x.cumsum(0), T(5))
    assert cost.unknown == {"cumsum"} and cost.total_other == 5


def test_fused_attention_on_a_cpu():
    """torch's counter does not see the CPU's kernel. By the formula it costs what the same attention costs in matrix products."""
    attention, (query, key) = Attention(64), (torch.randn(2, 49, 64), torch.randn(2, 7, 64))
    with torch.no_grad(), FlopCounterMode(display=False) as torchs, Operations() as operations:
        attention(query, key)
    projections, products = 2 * 64 * 64 * (49 + 7 + 7 + 49), 2 * 49 * 7 * (64 + 64)
    assert torchs.get_total_flops() == 2 * projections, "if this fails, torch has learned to count it: drop the formula"
    cost, shaped = operations.cost, count(attention, query, key)
    assert cost.by_operator()["_scaled_dot_product_flash_attention_for_cpu"] == (products, 5 * 8 * 2 * 49 * 7)
    assert cost.total_macs == shaped.total_macs == projections + products
    assert shaped.by_operator()["_safe_softmax"] == (0, 5 * 8 * 2 * 49 * 7)


# --- whole models ---


def test_as_torch_counts_a_run():
    """No attention is fused in this model: what is counted by shapes is what torch's counter sees when it runs, in inference mode too."""
    model, (frames, log_mel) = create(), inputs(1, 2, 64, 96)
    with torch.no_grad(), FlopCounterMode(display=False) as torchs, Operations() as operations:
        model(frames, log_mel)
    with torch.inference_mode():
        cost = macs(model, (64, 96), seconds=2)
    assert 2 * cost.total_macs == torchs.get_total_flops() > 0
    assert cost.by_operator() == operations.cost.by_operator() and not cost.unknown
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules()), "nothing is left on the model"


@pytest.mark.parametrize("method", lav.list_methods())
def test_parts(method):
    model = skeleton(method, preset="tiny")
    assert model.fusion and {"visual", "audio"}.isdisjoint(model.fusion)
    modules = dict(model.named_modules())
    assert all(name in modules or getattr(model, name, 0) is None for name in model.fusion), "each name is a submodule, or one left out"
    table = parameters(model)
    assert tuple(table) == PARTS and all(part.total > 0 for part in table.values())
    assert sum(part.total for part in table.values()) == sum(p.numel() for p in model.parameters())
    assert table["visual"].total == sum(p.numel() for p in model.visual.parameters())
    cost = macs(model, (64, 70), seconds=2)
    assert set(cost.by_part()) == set(PARTS) and not cost.unknown
    with torch.device("meta"):
        encoder = count(model.audio, T(2, 1, *model.front_end.shape))
    assert cost.by_part()["audio"] == (encoder.total_macs, encoder.total_other)
    assert sum(m for m, _ in cost.by_part().values()) == cost.total_macs == sum(m for m, _ in cost.by_operator().values())


def test_fusion_of_one_stage_by_hand():
    """RAVE and CMFD as their equations say, at the tiny width: vectors only, so the size of the picture is nowhere."""
    model = skeleton("lightavseg", preset="tiny", width=8)
    C, A, D = model.visual.channels, model.audio.channels, 8
    rave = sum(before * c + c * c for before, c in zip([A, *C], C))
    cmfd = sum(c * D + (D if c == C[-1] else 2 * D) * D + c * D + D * D for c in C)
    assert macs(model, 64).by_part()["fusion"][0] == macs(model, 256).by_part()["fusion"][0] == rave + cmfd


def test_trainable():
    model = create()
    model.freeze_audio()
    table = parameters(model)
    assert table["audio"].trainable == 0 < table["audio"].total
    assert all(table[part].trainable == table[part].total for part in ("visual", "fusion", "decoder"))


def test_training_is_not_counted():
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        macs(create().train())


# --- against the authors' code and what is reported ---


@pytest.mark.parametrize("method", ["avsbench", "avsegformer", "selm"])
def test_as_the_authors_code_counts(method):
    model, theirs = skeleton(method, visual="resnet50", audio="vggish"), reported.AUTHORS_CODE[method, "resnet50"]
    table, dead = parameters(model), dead_parameters(model)
    copies = sum(n for name, n in dead.items() if name.endswith(("layer3_2", "layer4_2")))
    millions = {"visual": table["visual"].total + copies, "audio": table["audio"].total,
                "rest": table["fusion"].total + table["decoder"].total + sum(dead.values()) - copies}
    assert abs(copies - 22.06e6) < 0.01e6
    for part, n in millions.items():
        assert abs(n / 1e6 - getattr(theirs, part)) < 0.1, part
    assert macs(model, 224, 1).total_macs / 1e9 == pytest.approx(theirs.gmacs_1, rel=0.02)
    assert macs(model, 224, 5).total_macs / 1e9 == pytest.approx(theirs.gmacs_5, rel=0.02)


@pytest.mark.parametrize("method", ["avsbench", "avsegformer", "selm"])
def test_light_rows_of_the_authors_code_read_the_first_four_maps(method, monkeypatch):
    monkeypatch.setattr(METHODS[method], "stages", 4)
    model, theirs = skeleton(method, visual="seaformer_l", audio="mobilenetv2_100"), reported.AUTHORS_CODE[method, "seaformer_l"]
    heads = [module for name, module in model.published_dead().items() if not name.endswith(("layer3_2", "layer4_2"))]
    dead = sum(p.numel() for module in heads for p in module.parameters())
    table, never_read = parameters(model), encoders.create_visual_encoder("seaformer_l").stages[4]
    assert abs((table["visual"].total + sum(p.numel() for p in never_read.parameters())) / 1e6 - theirs.visual) < 0.01
    assert abs((table["fusion"].total + table["decoder"].total + dead) / 1e6 - theirs.rest) < 0.01
    assert macs(model, 224, 1).total_macs / 1e9 == pytest.approx(theirs.gmacs_1, rel=0.02)


def test_selm_117_million_is_its_code_for_ms3():
    model = skeleton("selm", visual="resnet50", audio="vggish", size=448, upsamplings=1)
    table = parameters(model)
    without_audio = sum(part.total for name, part in table.items() if name != "audio") + sum(dead_parameters(model).values())
    assert without_audio / 1e6 == pytest.approx(117.6, abs=0.06)


def test_reported_figures_agree_with_each_other():
    ours = reported.COMPARISON[-1]
    assert ours.method == "lightavseg" and (reported.ABLATIONS["fusion"][-1].m_j, reported.ABLATIONS["fusion"][-1].m_f) == ours.ms3
    for name, row in (("auxiliary loss", "L_msa"), ("alignment", "binary cross-entropy"), ("pooling", "max"), ("visual encoder", "SeaFormer-L"),
                      ("audio encoder", "MobileNetV2")):
        assert {ablation.name: ablation.m_j for ablation in reported.ABLATIONS[name]}[row] == ours.ms3[0]
    phone = reported.PHONE_PARTS
    assert sum(phone.values()) == pytest.approx(ours.phone_ms, abs=0.15)
    assert (phone["RAVE"] + phone["CMFD"]) / ours.phone_ms == pytest.approx(0.062, abs=0.001)


# --- time, on a clock of our own ---

FLOOR = Floor(100.0, "torch", 512, 20.0)


@pytest.fixture
def clock(monkeypatch):
    """Seconds, in a list of one, that only a test moves (and, by next to nothing, who reads them); and a floor that takes none to find."""
    now = [0.0]

    def read():
        now[0] += 2 ** -34
        return now[0]

    monkeypatch.setattr(timing.time, "perf_counter", read)
    monkeypatch.setattr(profiler, "floor", lambda **_: FLOOR)
    return now


def takes(clock, milliseconds, **columns):
    """A candidate that takes so long for a frame, and checks what it is given."""
    def run(frames, log_mel):
        assert frames.shape[:3] == (*log_mel.shape[:2], 3) and log_mel.shape[2:] == (1, 96, 64)
        clock[0] += frames.shape[:2].numel() * milliseconds / 1000
    return Candidate(run, columns=columns)


def test_anything_can_be_profiled(clock):
    counted = Candidate(takes(clock, 30).run, skeleton("lightavseg", preset="tiny"))
    found = profile({"first": takes(clock, 10, runtime="onnxruntime"), "second": counted}, (64, 96), seconds=5, batch=2, repeats=6, device="cpu")
    first, second = found.rows
    assert (first.name, second.name) == ("first", "second") and found.card.size == (64, 96) and found.card.batch == 2
    assert first.timing.median == pytest.approx(100) and second.timing.median == pytest.approx(300)
    assert found.relative(second) == pytest.approx((3, 3, 3)) and found.relative(first) == (1, 1, 1)
    assert (first.macs, first.parameters, first.memory, first.shares) == (None,) * 4
    expected = 2 * macs(counted.model, (64, 96), seconds=5).total_macs
    assert second.macs == expected and second.parameters == sum(p.numel() for p in counted.model.parameters())
    assert second.gflops == pytest.approx(2 * expected / 0.3 / 1e9)
    columns, (line, other) = table(found)
    assert len(columns) == len(line) == len(other)
    line, other = dict(zip(columns, line)), dict(zip(columns, other))
    assert line["runtime"] == "onnxruntime" and other["runtime"] == line["GMACs"] == ""
    assert other["ms"] == "300.0 (300.0 to 300.0)" and other["times the first"] == "3.00 (3.00 to 3.00)"
    assert other["times the fp32 floor"] == f"{0.3 / (2 * expected / 100e9):.1f}"
    assert Profile.from_dict(json.loads(found.to_json())) == found
    for values in ({}, {"rows": 3}, {**found.to_dict(), "card": {}}):
        with pytest.raises(ValueError, match="not a profile|fields"):
            Profile.from_dict(values)


def test_of_two_layouts_the_faster(clock, monkeypatch):
    """A model is timed contiguous and channels_last in the same run, and its row says which it was."""
    for fast in (False, True):
        monkeypatch.setattr(profiler, "prepare", lambda *given, fast=fast: takes(clock, 1 if given[-1] == fast else 2).run)
        row, = profile({"model": create()}, 64, repeats=2, device="cpu").rows
        assert row.timing.median == pytest.approx(1) and row.columns == {"layout": "channels_last" if fast else "contiguous"}


def test_one_table_of_several_runs(clock):
    one, four = (profile({"a": takes(clock, 10)}, 64, batch=batch, repeats=2, device="cpu") for batch in (1, 4))
    columns, lines = table(one, four)
    assert [dict(zip(columns, line))["batch"] for line in lines] == ["1", "4"] and "threads" not in columns
    four.card = replace(four.card, device="another processor")
    with pytest.raises(ValueError, match="device is .* here and 'another processor' there"):
        table(one, four)


def test_series(clock):
    models = {"a": takes(clock, 10), "b": takes(clock, 20)}
    series = throughput(models, (1, 4), 64, repeats=6, device="cpu")
    assert [(p.name, p.batch) for p in series.points] == [("a", 1), ("a", 4), ("b", 1), ("b", 4)]
    assert [p.clips_per_second for p in series.points] == [pytest.approx((rate,) * 3) for rate in (100, 100, 50, 50)]
    assert Series.from_dict(json.loads(series.to_json())) == series
    with pytest.raises(ValueError, match="not a series"):
        Series.from_dict([])
    grown = scaling(models, (64, 96), (1, 3), repeats=6, device="cpu")
    assert {(p.name, p.size[0], p.seconds): round(p.timing.median) for p in grown.points} == {
        (name, side, t): t * ms for name, ms in (("a", 10), ("b", 20)) for side in (64, 96) for t in (1, 3)}
    assert grown.points[-1].pixels == 3 * 96 * 96
    for figure in (plots.latency.throughput(series), plots.latency.growth(grown)):
        axis, = figure.axes
        assert axis.get_xlabel() and axis.get_ylabel() and axis.get_title()
    for p, line in zip(("a", "b"), plots.latency.throughput(series).axes[0].get_lines()[::3]):
        assert set(line.get_ydata().round()) == {100 if p == "a" else 50}


def test_a_model_and_its_picture(monkeypatch):
    """With the real clock, of which nothing is asserted but that what it says is told."""
    monkeypatch.setattr(profiler, "floor", lambda **_: FLOOR)
    models = {"lightavseg": create(), "selm": lav.create_model("selm", preset="tiny").train()}
    found = profile(models, 64, batch=2, repeats=2, warmup=0, device="cpu", part_repeats=2)
    for row, model in zip(found.rows, models.values()):
        assert row.parameters == sum(p.numel() for p in model.parameters()) and row.memory > 2 * 3 * 64 * 64
        assert sum(row.shares.values()) == pytest.approx(1) and row.agreement > 0 and row.columns["layout"] in ("contiguous", "channels_last")
    assert models["selm"].training and Profile.from_dict(json.loads(found.to_json())) == found
    axis, = plots.latency.bars(found).axes
    widths = [bar.get_width() for bar in axis.patches]
    assert sum(widths) == pytest.approx(sum(row.timing.median for row in found.rows)) and len(widths) == 5 + 4
    looked = by_kind(create(), *inputs(1, 1, 64, 64), repeats=1, warmup=0)
    roof, = plots.latency.roofline(looked, FLOOR).axes
    x, y = roof.get_lines()[0].get_data()
    assert y.max() == 100 and (x[1], y[1]) == (5, 100) and y[0] == pytest.approx(20 * x[0])
    assert plots.latency.kinds(looked).axes[0].get_xlabel()


def test_rows_without_a_part():
    card = timing.LatencyCard("p", 1, "s", {}, 1, "fp32", 1, (64, 64), 1, 0, 1, "d", timing.Noise(1, 0, 0), "c")
    found = Profile([Row("a", timing.Timing(2.0, [2.0])), Row("b", timing.Timing(4.0, [4.0]))], card)
    assert sorted(bar.get_width() for bar in plots.latency.bars(found).axes[0].patches) == [2, 4]
    assert "times the fp32 floor" in table(found)[0] and table(found)[1][1][2] == "2.00 (2.00 to 2.00)"


# --- the command ---


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        main.main(["profile", *map(str, arguments)])
    captured = capsys.readouterr()
    return exit.value.code or 0, captured.out, captured.err


def test_command(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(profiler, "floor", lambda **_: FLOOR)
    folder = tmp_path / "model"
    create().save_pretrained(folder)
    out, plot = tmp_path / "deep" / "p.json", tmp_path / "p.png"
    with timing.threads(2):
        code, printed, _ = command(capsys, "avesformer", folder, "--preset", "tiny", "--size", 64, "--repeats", 2, "--threads", 1, "--parts",
                                   "--json", "--out", out, "--plot", plot)
        assert code == 0 and torch.get_num_threads() == 2
    found = Profile.from_dict(json.loads(printed))
    assert found == Profile.from_dict(json.loads(out.read_text())) and plot.read_bytes().startswith(b"\x89PNG")
    assert [row.name for row in found.rows] == ["avesformer", str(folder)] and found.card.threads == 1 and found.card.repeats == 2
    assert found.rows[1].parameters == sum(p.numel() for p in create().parameters())
    code, printed, _ = command(capsys, folder, "--size", 64, "--repeats", 2, "--threads", 1)
    lines = printed.splitlines()
    assert code == 0 and len(lines) == 4 and lines[1].startswith(str(folder)) and "100 GFLOP/s" in lines[2] and "64 x 64 px" in lines[3]
    code, printed, _ = command(capsys, "--help")
    assert code == 0 and "Example: lightavseg profile" in " ".join(printed.split())
    given = re.search(r"Example: lightavseg profile (.+)", main.Profile.__doc__).group(1).split()
    seen = []
    monkeypatch.setattr(main.Profile, "run", lambda self: seen.append(self) or 0)
    assert command(capsys, *given)[0] == 0 and seen[0].names == ["lightavseg", "avesformer"]


@pytest.mark.parametrize("given, named", [
    (["lightavsegg"], "did you mean 'lightavseg'"), (["--threads", "0"], "threads is 0"), (["--repeats", "0", "--preset", "tiny"], "0 repeats"),
    (["--compile", "graphs", "--preset", "tiny"], "CUDA graphs"), (["--size", "16", "--preset", "tiny"], "at least 32")], ids=str)
def test_mistakes_end_in_one_line(capsys, given, named):
    code, _, error = command(capsys, *given)
    assert code == 2 and named in error and error.startswith("lightavseg: ") and len(error.strip().splitlines()) == 1


def test_an_exported_file_brings_its_size(monkeypatch, tmp_path):
    """What is exported has its frames' size and number in it: no other can be timed."""
    def run(frames, log_mel):
        return None

    run.metadata = SimpleNamespace(size=(64, 96), seconds=1, runtime="onnx", precision="int8", log_mel=(101, 64))
    monkeypatch.setitem(sys.modules, "lightavseg_core.deploy.runtimes", SimpleNamespace(load=lambda path: run))
    with pytest.raises(ValueError, match=r"m\.onnx: made for 1 s of 64 x 96 pixels; found size 64"):
        resolve(str(tmp_path / "m.onnx"), size=64)
    run.metadata.size = (64, 64)
    with pytest.raises(ValueError, match="found device 'cuda', expected 'cpu'"):
        resolve("m.onnx", size=64, device="cuda")
    assert resolve("m.onnx", size=64) == Candidate(run, columns={"runtime": "onnx", "weights": "int8"}, log_mel=(101, 64))

"""Accounting: parts that add up, what is quadratic, and what explains the published parameters."""

import pytest
import torch
from helpers.tiny import create

import lightavseg_core as lav
from lightavseg_core import encoders
from lightavseg_core.models.base import METHODS
from lightavseg_core.profiling import reported
from lightavseg_core.profiling.accounting import (
    PARTS,
    fit_cost,
    interaction_cost,
    macs,
    parameters,
    published_accounting,
    skeleton,
    slope,
)
from lightavseg_core.profiling.flops import count

# --- one model ---


@pytest.mark.parametrize("method", lav.list_methods())
@pytest.mark.slow
def test_parts(method):
    model = skeleton(method, preset="tiny")
    assert model.fusion and {"visual", "audio"}.isdisjoint(model.fusion)
    modules = dict(model.named_modules())
    for name in model.fusion:
        assert name in modules or getattr(model, name, 0) is None, "a submodule, or one left out"
    table = parameters(model)
    assert tuple(table) == PARTS and all(part.total > 0 for part in table.values())
    assert sum(part.total for part in table.values()) == sum(p.numel() for p in model.parameters())
    assert table["visual"].total == sum(p.numel() for p in model.visual.parameters())
    cost = macs(model, (64, 70), seconds=2)
    by_part = cost.by_part()
    assert set(by_part) == set(PARTS) and not cost.unknown
    with torch.device("meta"):
        encoder = count(model.audio, torch.empty(2, 1, *model.front_end.shape))
    assert by_part["audio"] == (encoder.total_macs, encoder.total_other)
    assert sum(m for m, _ in by_part.values()) == cost.total_macs
    assert sum(m for m, _ in cost.by_operator().values()) == cost.total_macs


@pytest.mark.slow
def test_fusion_of_one_stage_by_hand():
    """RAVE and CMFD as their equations say, at the tiny width.

    Vectors only, so the size of the picture is nowhere.
    """
    model = skeleton("lightavseg", preset="tiny", width=8)
    C, A, D = model.visual.channels, model.audio.channels, 8
    rave = sum(before * c + c * c for before, c in zip([A, *C], C))
    cmfd = sum(c * D + (D if c == C[-1] else 2 * D) * D + c * D + D * D for c in C)
    for side in (64, 256):
        assert macs(model, side).by_part()["fusion"][0] == rave + cmfd


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


def dead_of(model):
    """What the authors' code builds, saves and counts but never runs: name of a module -> parameters."""
    dead = model.published_dead()
    return {name: sum(p.numel() for p in module.parameters()) for name, module in dead.items()}


def copied(name):
    """The second copies of two stages of ResNet-50."""
    return name.endswith(("layer3_2", "layer4_2"))


@pytest.mark.parametrize("method", ["avsbench", "avsegformer", "selm"])
@pytest.mark.slow
def test_as_the_authors_code_counts(method):
    model = skeleton(method, visual="resnet50", audio="vggish")
    theirs = reported.AUTHORS_CODE[method, "resnet50"]
    table, dead = parameters(model), dead_of(model)
    copies = sum(n for name, n in dead.items() if copied(name))
    millions = {
        "visual": table["visual"].total + copies,
        "audio": table["audio"].total,
        "rest": table["fusion"].total + table["decoder"].total + sum(dead.values()) - copies,
    }
    assert abs(copies - 22.06e6) < 0.01e6
    for part, n in millions.items():
        assert abs(n / 1e6 - getattr(theirs, part)) < 0.1, part
    assert macs(model, 224, 1).total_macs / 1e9 == pytest.approx(theirs.gmacs_1, rel=0.02)
    assert macs(model, 224, 5).total_macs / 1e9 == pytest.approx(theirs.gmacs_5, rel=0.02)


@pytest.mark.parametrize("method", ["avsbench", "avsegformer", "selm"])
@pytest.mark.slow
def test_light_rows_of_the_authors_code_read_the_first_four_maps(method, monkeypatch):
    monkeypatch.setattr(METHODS[method], "stages", 4)
    model = skeleton(method, visual="seaformer_l", audio="mobilenetv2_100")
    theirs = reported.AUTHORS_CODE[method, "seaformer_l"]
    dead = sum(n for name, n in dead_of(model).items() if not copied(name))
    table, never_read = parameters(model), encoders.create_visual_encoder("seaformer_l").stages[4]
    visual = table["visual"].total + sum(p.numel() for p in never_read.parameters())
    assert abs(visual / 1e6 - theirs.visual) < 0.01
    assert abs((table["fusion"].total + table["decoder"].total + dead) / 1e6 - theirs.rest) < 0.01
    assert macs(model, 224, 1).total_macs / 1e9 == pytest.approx(theirs.gmacs_1, rel=0.02)


def test_selm_117_million_is_its_code_for_ms3():
    model = skeleton("selm", visual="resnet50", audio="vggish", size=448, upsamplings=1)
    without_audio = sum(part.total for name, part in parameters(model).items() if name != "audio")
    assert (without_audio + sum(dead_of(model).values())) / 1e6 == pytest.approx(117.6, abs=0.06)


def test_reported_figures_agree_with_each_other():
    ours, fused = reported.COMPARISON[-1], reported.ABLATIONS["fusion"][-1]
    assert ours.method == "lightavseg" and (fused.m_j, fused.m_f) == ours.ms3
    whole = {
        "auxiliary loss": "L_msa",
        "alignment": "binary cross-entropy",
        "pooling": "max",
        "visual encoder": "SeaFormer-L",
        "audio encoder": "MobileNetV2",
    }
    for name, row in whole.items():
        assert {ablation.name: ablation.m_j for ablation in reported.ABLATIONS[name]}[row] == ours.ms3[0]
    phone = reported.PHONE_PARTS
    assert sum(phone.values()) == pytest.approx(ours.phone_ms, abs=0.15)
    assert (phone["RAVE"] + phone["CMFD"]) / ours.phone_ms == pytest.approx(0.062, abs=0.001)


@pytest.mark.slow
def test_published_accounting():
    rows = {(row.row.method, row.row.visual): row for row in published_accounting()}
    assert len(rows) == len(reported.COMPARISON) == 7
    within = {
        ("avsbench", "resnet50"): 0.06,
        ("avsegformer", "resnet50"): 0.25,
        ("selm", "resnet50"): 0.06,
        ("selm", "seaformer_l"): 0.06,
    }
    for key, most in within.items():
        assert abs(rows[key].explained - rows[key].row.parameters) < most, key
    assert {key for key, row in rows.items() if row.explained is None} == rows.keys() - within.keys()
    assert 20.0e6 < rows["lightavseg", "seaformer_l"].total < 20.5e6
    # One accounting: the audio encoder is in every row, a second copy of two stages in none.
    for (_, visual), row in rows.items():
        if visual == "resnet50":
            assert row.parts["audio"].total > 70e6 and row.parts["visual"].total < 24e6


# --- how cost grows ---


def test_fit_is_exact():
    pixels = [side**2 for side in (96, 224, 448, 896, 1344)]
    for c in ((7, 3, 2), (10**9, 12345, 0), (5, 0, 0), (0, 0, 1)):
        assert fit_cost(pixels, [c[0] + c[1] * p + c[2] * p**2 for p in pixels]) == c
    pixels, errors = (1, 2, 3, 4, 5), (1e-3, -1e-3, 2e-3, 0, -1e-3)
    noisy = [4.0 + 0.5 * p + 0.25 * p * p + e for p, e in zip(pixels, errors)]
    assert fit_cost(pixels, noisy) == pytest.approx((4.0, 0.5, 0.25), abs=1e-2)
    for pixels, cost in (((1, 2), (1, 2)), ((1, 1, 2), (1, 1, 2)), ((1, 2, 3), (1, 2))):
        with pytest.raises(ValueError, match="three different sizes"):
            fit_cost(pixels, cost)
    assert slope((100, 400), (3, 48)) == pytest.approx(2)


def test_what_is_quadratic():
    sides = (224, 448, 672, 896)
    pixels, costs = [side**2 for side in sides], [interaction_cost(side) for side in sides]
    multiplied = {name: [cost[name].total_macs for cost in costs] for name in costs[0]}
    fits = {name: fit_cost(pixels, values) for name, values in multiplied.items()}
    tpavi = multiplied["TPAVI, published"]
    # Two products of N x N x 128, N = pixels / stride^2, at four strides.
    by_hand = 2 * 128 * sum(stride**-4 for stride in (4, 8, 16, 32))
    assert fits["TPAVI, published"].c2 == pytest.approx(by_hand, rel=1e-12)
    assert slope(pixels[1::2], tpavi[1::2]) == pytest.approx(1.97, abs=0.05)
    for name in ("TPAVI, re-associated", "cross-attention", "RAVE"):
        assert fits[name].c2 == 0 == fit_cost(pixels, [cost[name].total_other for cost in costs]).c2
    # Two matrices on one vector at each of four scales, however large the picture.
    assert set(multiplied["RAVE"]) == {4 * 2 * 256**2}
    # About 3.2, 45 and 696 GMACs in the authors' code, which also projects the sound again at every pixel.
    assert [round(tpavi[i] / 1e9) for i in (0, 1, 3)] == [3, 45, 694]


@pytest.mark.slow
def test_whole_models_grow_as_their_interaction_does():
    sides = (128, 512, 1024)
    models = {
        order: skeleton("avsbench", preset="tiny", visual="resnet50", order=order)
        for order in ("published", "associative")
    }
    models["lightavseg"] = skeleton("lightavseg", preset="tiny", visual="resnet50")
    share = {}
    for name, model in models.items():
        cost = [macs(model, side).total_macs for side in sides]
        share[name] = fit_cost([side**2 for side in sides], cost).c2 * sides[-1] ** 4 / cost[-1]
    assert share["published"] > 0.1 and share["associative"] == share["lightavseg"] == 0

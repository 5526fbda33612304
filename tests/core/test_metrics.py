"""M_J and M_F are the reference's numbers, a brute-force loop's, and do not depend on the batches."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import parity
from hypothesis import given, settings
from hypothesis import strategies as st

from lightavseg_core.evaluation import score_for, update_score
from lightavseg_core.metrics import BoundaryScore, FalsePositiveShare, MaskScore, SemanticScore

FIXTURE = parity.load("metrics.json")
SIDE = 6


def score(metric, *batches):
    for logits, target in batches:
        metric.update(logits, target)
    return {name: value.numpy() for name, value in metric.compute().items()}


def binary_recipe(seed, N, S):
    g = np.random.default_rng(seed)
    logits = (2 * g.standard_normal((N, S, S))).astype(np.float32)
    target = (g.random((N, S, S)) < 0.3).astype(np.float32)
    y, x = np.mgrid[:S, :S]
    for i in range(0, N, 2):
        target[i] = (x - S / 2) ** 2 + (y - S / 3) ** 2 < (S / 4) ** 2
        logits[i] += 4 * target[i] - 2
    target[-1] = 0
    logits[-1] -= 3
    return torch.from_numpy(logits), torch.from_numpy(target)


def semantic_recipe(seed, BF, C, S):
    g = np.random.default_rng(seed)
    logits = g.standard_normal((BF, C, S, S)).astype(np.float32)
    target = g.integers(0, C, (BF, S // 8, S // 8)).repeat(8, 1).repeat(8, 2)
    right = np.take_along_axis(logits, target[:, None], 1)
    np.put_along_axis(logits, target[:, None], right + np.float32(1.5), 1)
    return torch.from_numpy(logits), torch.from_numpy(target)


def by_loop(logits, target):
    """M_J, M_F (over all frames) and the foreground share of (N, H, W), a frame and a threshold at a time."""
    probability, target = torch.sigmoid(logits.float()).numpy(), target.numpy() > 0
    thresholds = np.linspace(0, 1 - 1e-10, 255, dtype=np.float32)
    ious, curves = [], []
    for p, m in zip(probability, target):
        yes = p > 0.5
        ious.append((yes & m).sum() / (yes | m).sum() if m.any() else 1 - yes.mean())
        if m.any():
            curve = []
            for t in thresholds:
                hit, called, there = (m & (p >= t)).sum(), (p >= t).sum(), m.sum()
                precision, recall = hit / called if called else 0, hit / there
                curve.append(1.3 * precision * recall / (0.3 * precision + recall) if hit else 0)
            curves.append(curve)
    f = np.mean(curves, 0).max() if curves else 0
    return {"M_J": np.mean(ious), "M_F": f, "foreground_share": (probability > 0.5).mean()}


def seven_frames(seed):
    """Logits and targets (7, SIDE, SIDE), some empty, some full."""
    g = np.random.default_rng(seed)
    logits = g.normal(0, 3, (7, SIDE, SIDE)).astype(np.float32)
    target = g.random((7, SIDE, SIDE)) < g.choice([0, 0, 0.02, 0.4, 1], (7, 1, 1))
    return torch.from_numpy(logits), torch.from_numpy(target).int()


frames = st.integers(0, 2**32 - 1).map(seven_frames)


# --- the published numbers ---


@pytest.mark.parametrize("case", FIXTURE["binary"]["cases"], ids=lambda case: f"seed{case['seed']}")
def test_published_binary(case):
    found = score(MaskScore(), binary_recipe(case["seed"], case["N"], case["S"]))
    assert found["M_J"] == pytest.approx(case["M_J"], rel=1e-5)
    assert found["M_F"] == pytest.approx(case["M_F"], rel=1e-5)
    assert found["M_F_batch"] == pytest.approx(case["M_F"], rel=1e-5)  # in one batch the two rules are one


@pytest.mark.parametrize("case", FIXTURE["semantic"]["cases"], ids=lambda case: f"seed{case['seed']}")
def test_published_semantic(case):
    metric = SemanticScore(case["C"])
    logits, target = semantic_recipe(case["seed"], case["BF"], case["C"], case["S"])
    found = score(metric, (logits[:1], target[:1]), (logits[1:], target[1:]))
    for name, expected in (("iou_sum", "iou_sum"), ("f_sum", "fscore_sum"), ("count", "class_count")):
        assert getattr(metric, name).tolist() == pytest.approx(case[expected], rel=1e-5)
    for name, expected in (("M_J", "iou_sum"), ("M_F", "fscore_sum")):
        of_classes = np.divide(case[expected], case["class_count"])
        assert found[name] == pytest.approx(of_classes.mean(), rel=1e-5)


# --- binary masks ---


@settings(max_examples=15, deadline=None)
@given(frames)
@pytest.mark.slow
def test_a_loop_over_thresholds_agrees(batch):
    found, expected = score(MaskScore(), batch), by_loop(*batch)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(frames, st.permutations(range(7)), st.sets(st.integers(1, 6)))
def test_batch_size_and_order_do_not_matter(batch, order, cuts):
    """All but M_F_batch, which is the mean of what each batch scores alone."""
    whole = score(MaskScore(), batch)
    edges = [0, *sorted(cuts), 7]
    pieces = [tuple(part[order[a:b]] for part in batch) for a, b in pairwise(edges)]
    found = score(MaskScore(), *pieces)
    for name in ("M_J", "M_F", "foreground_share"):
        assert found[name] == pytest.approx(whole[name], abs=1e-6)
    alone = [score(MaskScore(), piece)["M_F"] for piece in pieces]
    assert found["M_F_batch"] == pytest.approx(np.mean(alone), abs=1e-6)


def test_per_batch_rule_falls_with_the_batch():
    logits, target = binary_recipe(1, 10, 56)
    found = [score(MaskScore(), *zip(logits.split(size), target.split(size))) for size in (1, 2, 5, 10)]
    per_batch = [scores["M_F_batch"] for scores in found]
    assert per_batch == sorted(per_batch, reverse=True) or per_batch[0] != per_batch[-1]
    assert np.ptp([scores["M_F"] for scores in found]) < 1e-6 < np.ptp(per_batch)


def test_perfect_and_opposite_predictions():
    target = torch.zeros(3, 4, SIDE, SIDE)
    target[..., :2, :3] = 1
    found = score(MaskScore(), (20 * target - 10, target))
    assert found == pytest.approx({"M_J": 1, "M_F": 1, "M_F_batch": 1, "foreground_share": 6 / 36}, abs=1e-5)
    # All wrong: at the lowest threshold all is foreground, so precision is the true share and recall 1.
    found = score(MaskScore(), (10 - 20 * target, target))
    f = 1.3 * (6 / 36) / (0.3 * (6 / 36) + 1)
    assert found["M_J"] == 0 and found["M_F"] == pytest.approx(f, abs=1e-5)


def test_empty_truth_scores_the_background():
    """For M_J; M_F leaves such a frame out, and a batch of nothing else counts 0 in the per-batch rule."""
    logits, target = torch.full((2, SIDE, SIDE), -3.0), torch.zeros(2, SIDE, SIDE)
    logits[0, 0, :3] = 3
    logits[1, 0, 0], target[1, 0, 0] = 3, 1
    found = score(MaskScore(), (logits[:1], target[:1]), (logits[1:], target[1:]))
    expected = {"M_J": (33 / 36 + 1) / 2, "M_F": 1, "M_F_batch": 0.5, "foreground_share": 4 / 72}
    assert found == pytest.approx(expected, abs=1e-5)
    assert score(MaskScore(), (logits[:1], target[:1]))["M_F"] == 0


def test_probability_one_half_is_background_for_iou():
    assert score(MaskScore(), (torch.zeros(1, 2, 2), torch.ones(1, 2, 2)))["M_J"] == 0


# --- classes ---


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_semantic_loop_agrees(seed, cut):
    """Per frame and class; a class that occurs in neither is no score, one that never occurs counts 0."""
    g, classes = np.random.default_rng(seed), 5
    logits = g.normal(size=(5, classes, SIDE, SIDE)).astype(np.float32)
    target = g.integers(0, 3, (5, SIDE, SIDE))
    logits[:, 4] -= 100
    logits[g.random((5, 1, SIDE, SIDE)).repeat(classes, 1) < 0.5] = 0  # ties: the first class wins
    sums = np.zeros((3, classes))
    for predicted, truth in zip(logits.argmax(1), target):
        for c in range(classes):
            yes, there = predicted == c, truth == c
            if (yes | there).any():
                hit = (yes & there).sum()
                precision, recall = (hit / part.sum() if part.any() else 0 for part in (yes, there))
                f = 1.3 * precision * recall / (0.3 * precision + recall) if hit else 0
                sums[:, c] += hit / (yes | there).sum(), f, 1
    metric = SemanticScore(classes)
    x, m = torch.from_numpy(logits), torch.from_numpy(target)
    found = score(metric, (x[:cut], m[:cut]), (x[cut:], m[cut:]))
    assert torch.stack([metric.iou_sum, metric.f_sum, metric.count]).numpy() == pytest.approx(sums, abs=1e-5)
    iou, f = sums[:2] / np.maximum(sums[2], 1)
    assert found["iou"] == pytest.approx(iou, abs=1e-5) and iou[4] == 0
    assert (found["M_J"], found["M_F"]) == pytest.approx((iou.mean(), f.mean()), abs=1e-5)
    assert found["foreground_share"] == pytest.approx((logits.argmax(1) > 0).mean())


# --- misuse, and what is left out ---


def test_shapes_that_do_not_fit_are_named():
    for logits, target in (((2, 4, 4), (2, 4, 5)), ((2, 1, 4, 4), (2, 4, 4)), ((4,), (4,))):
        with pytest.raises(ValueError, match="expected .*H, W"):
            MaskScore().update(torch.zeros(logits), torch.zeros(target))
    for logits, target in (((2, 3, 4, 4), (2, 4, 4)), ((2, 5, 4, 4), (3, 4, 4)), ((4, 4), (4, 4))):
        with pytest.raises(ValueError, match="expected .*5, H, W"):
            SemanticScore(5).update(torch.zeros(logits), torch.zeros(target))
    for label in (5, 255, -1):
        with pytest.raises(ValueError, match="expected 0 to 4"):
            SemanticScore(5).update(torch.zeros(1, 5, 4, 4), torch.full((1, 4, 4), label))


def test_leading_dimensions_are_frames():
    logits, target = binary_recipe(0, 6, 32)
    flat = score(MaskScore(), (logits, target))
    assert score(MaskScore(), (logits.view(2, 3, 32, 32), target.view(2, 3, 32, 32))) == flat
    assert score(MaskScore(), *zip(logits, target))["M_J"] == pytest.approx(flat["M_J"])
    logits, target = semantic_recipe(3, 4, 7, 32)
    one = score(SemanticScore(7), (logits[0], target[0]))
    assert one["M_J"] == score(SemanticScore(7), (logits[None, :1], target[None, :1]))["M_J"] > 0


@pytest.mark.parametrize("classes", [1, 4])
def test_padding_and_frames_without_annotation_are_never_scored(classes):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, classes, SIDE, SIDE)
    mask = torch.randint(0, max(classes, 2), (2, 3, SIDE, SIDE), dtype=torch.uint8)
    annotated = torch.tensor([[True, False, True], [True, False, False]])
    logits[~annotated], found = float("nan"), score_for(classes)
    update_score(found, logits, {"mask": mask, "annotated": annotated})
    expected = score_for(classes)
    expected.update(logits[annotated][:, 0] if classes == 1 else logits[annotated], mask[annotated])
    assert all(torch.equal(found.compute()[name], value) for name, value in expected.compute().items())
    before = found.compute()["M_J"]
    update_score(found, logits, {"mask": mask, "annotated": torch.zeros_like(annotated)})  # none at all
    assert torch.equal(found.compute()["M_J"], before)


# --- boundaries, false positives ---


def contour_by_hand(mask):
    """The pixels (row, column) whose right, lower or lower right neighbour differs."""
    h, w = mask.shape
    found = []
    for i, j in np.ndindex(h, w):
        down, right = min(i + 1, h - 1), min(j + 1, w - 1)
        if any(mask[n] != mask[i, j] for n in ((i, right), (down, j), (down, right))):
            found.append((i, j))
    return found


def share_by_hand(edge, other, radius):
    """Of the pixels of `edge`, the share that has one of the other's within the radius."""
    distances = [min(np.hypot(i - k, j - m) for k, m in other) for i, j in edge]
    return np.mean(np.array(distances) <= radius)


def disk(side, y, x, radius):
    rows, columns = np.mgrid[:side, :side]
    return np.hypot(rows - y, columns - x) < radius


@pytest.mark.parametrize("seed", range(3))
def test_boundary_by_brute_force(seed):
    """Each contour pixel looks for one of the other contour within the tolerance, one by one."""
    g, side = np.random.default_rng(seed), 40
    radius = np.ceil(0.008 * np.hypot(side, side))
    frames, scores = [], []
    for _ in range(4):
        (y, x), r = g.uniform(5, 35, 2), g.uniform(3, 12)
        predicted, truth = disk(side, y, x, r), disk(side, y + g.uniform(-3, 3), x, r)
        frames.append((predicted, truth))
        p, t = contour_by_hand(predicted), contour_by_hand(truth)
        precision, recall = share_by_hand(p, t, radius), share_by_hand(t, p, radius)
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0)
    logits = torch.from_numpy(np.stack([p for p, _ in frames])).float() * 2 - 1
    target = torch.from_numpy(np.stack([t for _, t in frames])).byte()
    silent = (logits[:2], torch.zeros_like(target[:2]))  # nothing to find: left out
    pieces = [(logits[:1], target[:1]), (logits[1:], target[1:]), silent]
    assert score(BoundaryScore(), *pieces)["boundary_F"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_boundary_on_paper():
    """At 128 px the tolerance is 2 px: a square moved down by 2 is still right; by 3, only its sides are.
    Darkness earns nothing."""
    truth = torch.zeros(1, 128, 128)
    truth[:, 30:60, 30:60] = 1
    dark = torch.full_like(truth, -1)

    def boundary(logits, target):
        return score(BoundaryScore(), (logits, target))["boundary_F"]

    moved = {d: boundary(truth.roll(d, 1) * 2 - 1, truth) for d in (0, 2, 3)}
    assert moved[0] == moved[2] == 1 and 0.5 < moved[3] < 0.7
    assert boundary(dark, truth) == boundary(dark, truth * 0) == 0


def test_false_positives_on_paper():
    target, logits = torch.zeros(2, 4, 4), torch.full((2, 4, 4), -3.0)
    target[0, :2], logits[0, :, :2], logits[1, 0] = 1, 3, 3
    # Frame 1: of 8 background pixels 4 are marked; frame 2: of 16, 4.
    assert score(FalsePositiveShare(), (logits, target))["false_positive_share"] == pytest.approx(8 / 24)
    assert score(FalsePositiveShare(), *zip(logits, target))["false_positive_share"] == pytest.approx(8 / 24)

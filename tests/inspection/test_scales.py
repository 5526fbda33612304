"""What is said of a decoder's scales is compared with closed forms, brute force, other libraries, and the
model's own submodules."""

import itertools
import json
import os
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import tiny
from torchmetrics.functional.classification import binary_auroc, binary_jaccard_index

import lightavseg_core as lav
from lightavseg_core import evaluation
from lightavseg_core.inspection import scales


def discs(clips=3, seconds=2, side=32, empty=()):
    """True masks (N, T, H, W) bool: a disc each, of changing size and place; none in the frames (clip,
    second) of `empty`."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    g = torch.Generator().manual_seed(0)
    shape = (clips, seconds, 1, 1)
    cx, cy, r = (torch.randint(low, high, shape, generator=g) for low, high in ((8, 24), (8, 24), (3, 9)))
    masks = (x - cx) ** 2 + (y - cy) ** 2 < r**2
    for clip, second in empty:
        masks[clip, second] = False
    return masks


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def scored(similarity, truth):
    """The scores of one scale's map."""
    return scales.per_frame(scales.Maps([similarity], truth * 2.0 - 1), truth)[0]


# --- scores ---


def test_a_map_that_is_the_truth_its_opposite_and_one_that_says_nothing():
    truth = discs()
    sure = torch.sigmoid(torch.tensor(10.0))  # of cosine 1 at tau = 0.1
    right = {"inside": sure, "outside": 1 - sure, "contrast": 2 * sure - 1}
    right |= {"auroc": 1, "iou": 1, "ceiling": 1, "marked": 0}
    wrong = {"contrast": 1 - 2 * sure, "auroc": 0, "iou": 0, "ceiling": 1, "marked": 1}
    flat = {"inside": 0.5, "outside": 0.5, "contrast": 0, "auroc": 0.5, "marked": 0}
    for factor, wanted in ((1, right), (-1, wrong), (0, flat)):
        found = scored(factor * (truth * 2.0 - 1), truth)
        for score, value in wanted.items():
            torch.testing.assert_close(found[score], torch.full((3, 2), float(value)), atol=1e-6, rtol=0)


def test_frames_without_foreground_have_only_what_needs_none():
    truth = discs(empty=[(0, 1), (2, 0)])
    dark = ~truth.flatten(2).any(2)
    for name, score in scored(noise(3, 2, 8, 8), truth).items():
        defined = name in ("outside", "marked")
        assert torch.equal(score.isnan(), torch.zeros_like(dark) if defined else dark), name


@pytest.mark.parametrize("levels", [3, None], ids=["ties", "no ties"])
def test_auroc_is_the_share_of_pairs_in_order(levels):
    truth, values = discs(2, 1)[:, 0], noise(2, 32, 32)
    values = values if levels is None else (values * levels).round()
    for value, inside, found in zip(values, truth, scales.auroc(values, truth)):
        difference = value[inside][:, None] - value[~inside][None]
        pairs = ((difference > 0).double() + 0.5 * (difference == 0)).mean()
        assert found == pytest.approx(pairs.item(), abs=1e-6)
        assert found == pytest.approx(binary_auroc((value + 3) / 6, inside.int()).item(), abs=1e-6)


def test_auroc_of_frames_that_are_all_or_nothing_is_nan():
    assert scales.auroc(noise(2, 4, 4), torch.stack([torch.ones(4, 4), torch.zeros(4, 4)]) > 0).isnan().all()


def test_iou_is_that_of_the_map_resized_as_the_loss_does():
    truth, similarity = discs(side=64), noise(3, 2, 5, 7)
    found = scored(similarity, truth)["iou"]
    for clip in range(3):
        for second in range(2):
            probability = 1 / (1 + np.exp(-similarity[clip, second].double().numpy() / 0.1))
            likely = torch.from_numpy(probability)[None, None]
            resized = F.interpolate(likely, (64, 64), mode="bilinear", align_corners=False)[0, 0]
            wanted = binary_jaccard_index(resized.float(), truth[clip, second].int())
            assert found[clip, second] == pytest.approx(wanted.item(), abs=1e-5)


@pytest.mark.parametrize("height, width", [(4, 4), (8, 2), (32, 32)])
def test_the_ceiling_is_the_best_of_all_thresholds(height, width):
    truth = discs(2, 2).flatten(0, 1)
    for mask, found in zip(truth, scales.ceiling(truth, height, width)):
        cells = [part.float().mean() for row in mask.chunk(height, 0) for part in row.chunk(width, 1)]
        coarse = torch.stack(cells).view(1, 1, height, width)
        back = F.interpolate(coarse, mask.shape, mode="bilinear")[0, 0]
        best = max(((mask & (back >= t)).sum() / (mask | (back >= t)).sum()).item() for t in back.unique())
        assert found == pytest.approx(best, abs=1e-6)
    if height == 32:
        assert scales.ceiling(truth, height, width).eq(1).all()


def test_maps_of_other_data_are_refused():
    with pytest.raises(ValueError, match="do not belong to the same dataset"):
        scales.per_frame(scales.Maps([], torch.zeros(2, 5, 32, 32)), discs())


# --- intervals ---


def test_a_bootstrap_interval_is_that_of_the_mean_over_clips():
    values = torch.randn(400, 1, generator=torch.Generator().manual_seed(1))
    found, again, frames = (scales.bootstrap(x) for x in (values, values, values.expand(400, 5)))
    standard_error = values.std(correction=0).item() / 20
    assert found == again
    assert found.estimate == pytest.approx(values.mean().item())
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * standard_error, rel=0.08)
    assert frames == pytest.approx(found), "five frames that are alike tell no more than one"


def test_a_bootstrap_leaves_out_what_is_not_defined():
    values = torch.tensor([[1.0, torch.nan], [3.0, 5.0], [torch.nan, torch.nan]])
    assert scales.bootstrap(values).estimate == pytest.approx(3)
    assert scales.bootstrap(torch.full((4, 3), 2.0)) == (2, 2, 2)
    with pytest.raises(ValueError, match="all NaN"):
        scales.bootstrap(values[2:])


# --- maps of a dataset ---


@pytest.fixture(scope="module")
def clips(shapes):
    return lav.data.AVSBench(shapes, "ms3", "test", 64)


METHODS = [("lightavseg", [1, 2, 4, 8, 16]), ("avsbench", [2, 4, 8, 16]), ("avsegformer", [16])]


@pytest.mark.parametrize("method, sides", METHODS)
def test_a_survey_of_a_model(method, sides, clips):
    torch.manual_seed(0)
    model = lav.create_model(method, preset="tiny", size=64)
    found = scales.maps(model, clips)
    assert [tuple(scale.shape) for scale in found.similarity] == [(4, 5, side, side) for side in sides]
    assert model.training, "left as it was"
    item = clips[2]
    output = model.eval()(item["frames"][None], item["log_mel"][None], return_scales=True)
    torch.testing.assert_close(found.logits[2], output.logits[0, :, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.similarity[-1][2], output.scales[-1].similarity[0], atol=1e-4, rtol=1e-4)

    truth = scales.truth(clips)
    survey = scales.survey(found, truth)
    assert [entry["scale"] for entry in survey] == [*(f"{side} x {side}" for side in sides), "mask"]
    assert json.loads(json.dumps(survey)) == survey
    predicted, sounding = found.logits > 0, truth.flatten(2).any(2)
    wanted = torch.stack([evaluation.frame_iou(p, t) for p, t in zip(predicted, truth)])[sounding].mean()
    assert survey[-1]["iou"] == pytest.approx(wanted.item(), abs=1e-5)
    assert survey[-1]["ceiling"] == 1


def test_marked_objects_of_the_truth_are_those_that_sound(clips):
    truth = scales.truth(clips)
    found = scales.marked_objects(scales.Maps([], truth * 2.0 - 1), clips)
    frames = itertools.product(range(4), range(5))
    assert {(thing.clip, thing.second) for thing in found} == set(frames)
    assert any(thing.sounding for thing in found)
    assert all(thing.share == float(thing.sounding) for thing in found)
    left = torch.zeros_like(truth, dtype=torch.float)
    left[..., :32] = 1  # marks the left half of each frame
    things = [thing for thing in scales.marked_objects(scales.Maps([], left - 0.5), clips) if thing.sounding]
    sounding = Counter((thing.clip, thing.second) for thing in things)
    alone = [thing for thing in things if sounding[thing.clip, thing.second] == 1]
    for thing in alone:
        inside = truth[thing.clip, thing.second]
        assert thing.share == pytest.approx((inside[:, :32].sum() / inside.sum()).item())
    assert any(0 < thing.share < 1 for thing in alone)


def test_what_has_no_binary_truth_is_refused(shapes, clips):
    with pytest.raises(ValueError, match="8 classes; expected one"):
        scales.maps(tiny.create(num_classes=8), clips)
    with pytest.raises(ValueError, match="split train: not every frame is annotated"):
        scales.truth(lav.data.AVSBench(shapes, "s4", "train", 64))


# --- maps in a file ---


def test_maps_come_back_within_their_steps(tmp_path):
    found = scales.Maps([noise(3, 2, 2, 2), noise(3, 2, 8, 6)], 12 * noise(3, 2, 32, 24))
    scales.save_maps(tmp_path / "new" / "maps.npz", found)
    again = scales.load_maps(tmp_path / "new" / "maps.npz")
    for scale, other in zip(found.similarity, again.similarity, strict=True):
        torch.testing.assert_close(other, scale, atol=0.5 / 127 + 1e-6, rtol=0)
    blocks = found.logits.reshape(3, 2, 8, 4, 6, 4).mean((3, 5))  # the mask at stride 4
    torch.testing.assert_close(again.logits, blocks.clamp(-8, 8), atol=4 / 127 + 1e-6, rtol=0)
    assert ((again.logits > 0) <= (blocks > 0)).all(), "what was below the threshold stays there"
    assert os.listdir(tmp_path / "new") == ["maps.npz"]


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


LOGITS = np.zeros((2, 5, 8, 8), np.int8)


OTHERS = {
    "empty": {},
    "no mask": {"similarity_0": LOGITS},
    "a scale missing": {"logits": LOGITS, "similarity_1": LOGITS},
    "dtype": {"logits": LOGITS.astype(np.float32)},
    "dimensions": {"logits": LOGITS[0]},
    "clips": {"logits": LOGITS, "similarity_0": LOGITS[:1]},
    "a scale's dimensions": {"logits": LOGITS, "similarity_0": LOGITS[0, 0]},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_arrays_are_refused(name, tmp_path):
    np.savez_compressed(tmp_path / "maps.npz", **OTHERS[name])
    with pytest.raises(ValueError, match=r"maps\.npz: (not a file of maps|holds arrays .* expected int8)"):
        scales.load_maps(tmp_path / "maps.npz")


def test_a_file_is_never_executed(tmp_path):
    path, done = tmp_path / "maps.npz", tmp_path / "done"
    for write in (np.savez_compressed, lambda file, logits: np.save(file, logits)):
        with path.open("wb") as file:
            write(file, logits=np.array([Bomb(str(done))], object))
        with pytest.raises(ValueError, match=r"maps\.npz: not a file of maps .*"):
            scales.load_maps(path)
    assert not done.exists()


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut off"])
def test_a_broken_file_is_refused(content, tmp_path):
    (tmp_path / "maps.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"maps\.npz: not a file of maps"):
        scales.load_maps(tmp_path / "maps.npz")
    np.save(tmp_path / "maps.npy", LOGITS)
    with pytest.raises(ValueError, match="not a file of maps"):
        scales.load_maps(tmp_path / "maps.npy")
    with pytest.raises(FileNotFoundError):
        scales.load_maps(tmp_path / "none.npz")


# --- the audio state on its way ---


def close(a, b):
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def image(vector):
    return vector.flatten(0, 1)[..., None, None]


@torch.inference_mode()
@pytest.mark.parametrize("off", ["", "har", "cmfd", "har cmfd agve"])
@pytest.mark.slow
def test_a_trace_is_what_the_submodules_compute(off):
    model, (frames, log_mel) = tiny.create(**dict.fromkeys(off.split(), False)), tiny.inputs(2, 3)
    trace = scales.trace(model, frames, log_mel)
    close(trace.audio.flatten(0, 1), model.audio(log_mel.flatten(0, 1)))
    close(trace.logits, model(frames, log_mel).logits)

    state, visual = image(trace.audio), frames.flatten(0, 1)
    for step, stage, rave in zip(trace.encoder, model.visual.stages, model.rave, strict=True):
        visual = stage(visual)  # V_i
        close(image(step.projected), rave.project(state))
        if model.config.har:
            close(image(step.gate), (rave.gate(visual.amax((2, 3), keepdim=True)) / 6 + 0.5).clamp(0, 1))
            close(step.audio, step.projected * step.gate)
            state = image(step.audio)
        else:
            assert step.gate is None and torch.equal(step.audio, step.projected)
        visual = visual + image(step.audio) if model.config.agve else visual
        close(step.visual.flatten(0, 1), visual)

    x, coarser = None, None
    for i, step in zip(range(4, -1, -1), trace.decoder, strict=True):
        of_stage, cmfd = trace.encoder[i], model.cmfd[i]
        seen, heard = of_stage.visual.flatten(0, 1), image(of_stage.audio)
        if model.config.cmfd:
            parts = [part for part in (coarser, cmfd.lateral(heard)) if part is not None]
            close(image(step.merged), cmfd.merge(torch.cat(parts, 1)).relu())
            close(image(step.gate), (cmfd.gate(seen.amax((2, 3), keepdim=True)) / 6 + 0.5).clamp(0, 1))
            close(step.audio, step.merged * step.gate)
            close(image(step.bias), cmfd.broadcast(image(step.audio)))
            coarser = image(step.audio)
        else:
            assert step.gate is None and step.bias is None
            close(image(step.audio), cmfd.lateral(heard))
        lateral = model.lateral[i](seen)
        wanted = lateral if x is None else lateral + F.interpolate(x, lateral.shape[-2:], mode="bilinear")
        wanted = wanted if step.bias is None else wanted + image(step.bias)
        if model.static is not None and x is None:
            wanted = wanted + model.static(image(trace.audio))
        close(step.visual.flatten(0, 1), wanted)
        close(step.similarity, F.cosine_similarity(step.visual, step.audio[..., None, None], dim=2))
        x = model.smooth[i](step.visual.flatten(0, 1).clone())


def test_a_trace_leaves_no_hook_and_takes_no_other_method():
    model, (frames, log_mel) = tiny.create(), tiny.inputs()
    scales.trace(model, frames, log_mel)
    with pytest.raises(ValueError, match="log_mel has shape"):
        scales.trace(model, frames, log_mel[:, :, 0])
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match="AVSBench: has no audio state"):
        scales.trace(lav.create_model("avsbench", preset="tiny"), frames, log_mel)


# --- colours ---


def test_colours_are_the_main_components_in_order():
    g = torch.Generator().manual_seed(0)
    features = torch.randn(4, 6, 5, 3, generator=g) * torch.tensor([1, 9, 2, 5, 0.5, 1]).view(1, -1, 1, 1)
    pictures = scales.pca_colours(features)
    assert pictures.shape == (4, 5, 3, 3) and pictures.min() == 0 and pictures.max() == 1
    points = features.movedim(1, -1).reshape(-1, 6).double()
    _, sizes, axes = torch.linalg.svd(points - points.mean(0), full_matrices=False)
    for colour, axis in zip(pictures.reshape(-1, 3).T, axes):
        axis = axis * axis[axis.abs().argmax()].sign()
        wanted = ((points - points.mean(0)) @ axis).numpy()
        low, high = np.percentile(wanted, (1, 99))
        np.testing.assert_allclose(colour, np.clip((wanted - low) / (high - low), 0, 1), atol=1e-5)
    assert np.array_equal(pictures, scales.pca_colours(features))


def test_maps_in_a_list_share_their_colours():
    features = noise(2, 5, 8, 8)
    whole, parts = scales.pca_colours(features), scales.pca_colours([features[..., :3], features[..., 3:]])
    np.testing.assert_allclose(np.concatenate(parts, 2), whole, atol=1e-6)
    assert np.isfinite(scales.pca_colours(torch.ones(1, 3, 2, 2))).all()


@pytest.mark.parametrize("shapes", [[(3, 4, 4)], [(1, 2, 4, 4)], [(1, 4, 2, 2), (1, 5, 2, 2)]], ids=str)
def test_features_without_three_components_are_refused(shapes):
    with pytest.raises(ValueError, match="expected .N, D, h, w., one D of at least 3"):
        scales.pca_colours([torch.zeros(shape) for shape in shapes])

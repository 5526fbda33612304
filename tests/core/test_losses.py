"""The losses are their formulas, computed another way, and learn from annotated frames only."""

import math
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lightavseg_core.config import TrainConfig
from lightavseg_core.losses import (
    AUXILIARY,
    SEGMENTATION,
    alignment_loss,
    dice_loss,
    segmentation_loss,
    squared_dice_loss,
    total_loss,
)
from lightavseg_core.models import Output, Scale, create_model, list_methods
from lightavseg_core.models.base import METHODS

SIZES = [(2, 2), (2, 2), (3, 4), (6, 8), (12, 16)]  # of the maps, coarse to fine
H, W = 24, 32


def output(classes=1, clips=2, seconds=3, dtype=torch.float32):
    """What a model may return, each tensor a leaf with gradient, and masks and annotation for it."""
    torch.manual_seed(0)
    visual = [torch.randn(clips, seconds, 5, h, w, dtype=dtype, requires_grad=True) for h, w in SIZES]
    audio = [torch.randn(clips, seconds, 5, dtype=dtype, requires_grad=True) for _ in SIZES]
    scales = [Scale(v, a, F.cosine_similarity(v, a[..., None, None], dim=2)) for v, a in zip(visual, audio)]
    logits = torch.randn(clips, seconds, classes, H, W, dtype=dtype, requires_grad=True)
    mask = torch.randint(0, max(classes, 2), (clips, seconds, H, W), dtype=torch.uint8)
    annotated = torch.tensor([[True, False, True], [False, True, False]])[:clips, :seconds]
    return Output(logits, scales), mask, annotated


def bilinear(picture, height, width):
    """Half-pixel bilinear interpolation of (h, w), a pixel at a time."""
    h, w = picture.shape
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y, x = max((i + 0.5) * h / height - 0.5, 0), max((j + 0.5) * w / width - 0.5, 0)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            top = picture[y0, x0] * (1 - (x - x0)) + picture[y0, x1] * (x - x0)
            bottom = picture[y1, x0] * (1 - (x - x0)) + picture[y1, x1] * (x - x0)
            result[i, j] = top * (1 - (y - y0)) + bottom * (y - y0)
    return result


def test_dice_on_paper():
    probability = torch.tensor([[[0.5, 1.0], [0.0, 0.5]], [[0.25, 0.25], [0.0, 0.0]]])
    target = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    # Frame 1: overlap 1.5, sums 2 and 2, so 1 - 4/5. Frame 2: overlap 0, sums 0.5 and 0, so 1 - 1/1.5.
    assert dice_loss(probability, target).item() == pytest.approx((1 / 5 + 1 / 3) / 2)
    assert dice_loss(target, target).item() == 0
    assert dice_loss(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)).item() == 0  # silence, rightly left dark


def test_gradients_are_the_finite_differences():
    torch.manual_seed(1)
    target, classes = (torch.rand(2, 3, 4) < 0.4).double(), torch.randint(0, 3, (2, 3, 4))
    probability = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: dice_loss(p, target), probability)
    for truth, channels in ((target, 1), (classes, 3)):
        logits = torch.randn(2, channels, 3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, truth=truth: segmentation_loss(x, truth), logits)


def test_binary_loss_is_dice_and_cross_entropy():
    result, mask, annotated = output()
    x, m = (t[annotated].detach().double().numpy() for t in (result.logits[:, :, 0], mask))
    p = sigmoid(x)
    dice = np.mean([1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, m)])
    bce = -(m * np.log(p) + (1 - m) * np.log(1 - p)).mean()
    loss, parts = total_loss(result, mask, annotated, alignment_weight=0)
    assert loss.item() == pytest.approx(dice + bce, rel=1e-5) and set(parts) == {"segmentation"}


def test_semantic_loss_counts_the_classes_present():
    torch.manual_seed(2)
    logits, target = torch.randn(2, 5, 6, 7), torch.randint(0, 2, (2, 6, 7)) * 3  # classes 0 and 3
    p = logits.softmax(1).numpy().astype(np.float64)
    cross_entropy = -np.log(np.take_along_axis(p, target.numpy()[:, None], 1)).mean()
    dice = []
    for c in (0, 3):
        for frame, truth in zip(p[:, c], target.numpy() == c):
            dice.append(1 - (2 * frame[truth].sum() + 1) / (frame.sum() + truth.sum() + 1))
    assert segmentation_loss(logits, target).item() == pytest.approx(cross_entropy + np.mean(dice), rel=1e-5)


def test_alignment_loss_by_hand():
    """Cosine along channels, / 0.1, sigmoid, bilinear to the mask, cross-entropy with it; the mean of three
    scales."""
    result, mask, annotated = output()
    per_scale = []
    for scale in result.scales[-3:]:
        visual, audio = scale.visual.detach().double().numpy(), scale.audio.detach().double().numpy()
        terms = []
        for b, t in annotated.nonzero().tolist():
            v, a = visual[b, t], audio[b, t]
            cosine = np.einsum("chw,c->hw", v, a) / (np.sqrt((v ** 2).sum(0)) * np.sqrt((a ** 2).sum()))
            p = bilinear(sigmoid(cosine / 0.1), H, W)
            m = mask[b, t].numpy()
            terms.append(-(m * np.log(p) + (1 - m) * np.log(1 - p)))
        per_scale.append(np.mean(terms))
    expected = np.mean(per_scale)
    alone = alignment_loss(result.scales, mask[annotated].float(), annotated)
    assert alone.item() == pytest.approx(expected, rel=1e-4)
    with_it, parts = total_loss(result, mask, annotated, alignment_weight=0.5)
    assert parts["alignment"].item() == pytest.approx(expected, rel=1e-4)
    assert with_it.item() == pytest.approx(parts["segmentation"].item() + 0.5 * expected, rel=1e-4)
    with_it.backward()
    assert [scale.visual.grad is not None for scale in result.scales] == [False, False, True, True, True]


def test_classes_align_with_whatever_sounds():
    result, mask, annotated = output(classes=4)
    loss = total_loss(result, mask, annotated)[1]["alignment"]
    assert torch.equal(loss, alignment_loss(result.scales, (mask[annotated] > 0).float(), annotated).detach())


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def squared_dice(p, m):
    return 1 - 2 * (p * m).sum() / ((p * p).sum() + (m * m).sum() + 0.002)


def block_means(picture, height, width):
    """Adaptive average pooling of (H, W), a cell at a time."""
    rows, columns = picture.shape
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            top, bottom = i * rows // height, -(-(i + 1) * rows // height)
            left, right = j * columns // width, -(-(j + 1) * columns // width)
            result[i, j] = picture[top:bottom, left:right].mean()
    return result


def alignment_kl_by_hand(scales, logits, mask):
    """KL(mask || softmax over positions of the resized cosine / 0.1), the mask normalised to sum 1; only
    frames in which something sounds."""
    terms = []
    for _, _, similarity in scales[-3:]:
        for cosine, m in zip(similarity, mask):
            if m.any():
                q = softmax(bilinear(cosine / 0.1, H, W))
                terms.append(sum(-np.log(m.sum() * q[i, j]) / m.sum() for i, j in zip(*m.nonzero())))
    return np.mean(terms)


def matching_by_hand(scales, logits, mask):
    """KL(softmax(a) || softmax(v)), v the mean over positions of features times the sigmoid of the
    average-pooled logit of "not background"."""
    total = 0
    for visual, audio, _ in scales:
        for v, a, x in zip(visual, audio, logits):
            foreground = x[0] if len(x) == 1 else np.log(np.exp(x[1:]).sum(0)) - x[0]
            weight = sigmoid(block_means(foreground, *v.shape[1:]))
            p, q = softmax(a), softmax((v * weight).mean((1, 2)))
            total += (p * np.log(p / q)).sum()
    return total / len(scales)


def mixing_by_hand(scales, logits, mask):
    pairs = zip(scales[-1][0], mask)
    return np.mean([squared_dice(sigmoid(bilinear(v.mean(0), H, W)), m) for v, m in pairs])


def selection_by_hand(scales, logits, mask):
    total = 0
    for weight, (_, _, similarity) in zip((0.001, 0.01, 0.1), scales[-3:]):
        terms = []
        for hit, m in zip(similarity, mask):
            h, w = hit.shape
            large = np.array([[hit[i * h // H, j * w // W] for j in range(W)] for i in range(H)])
            terms.append(squared_dice(sigmoid(large), m))
        total += weight * np.mean(terms)
    return total


BY_HAND = {
    "alignment_kl": (alignment_kl_by_hand, 0.5),
    "matching": (matching_by_hand, 0.5),
    "mixing": (mixing_by_hand, 0.1),
    "selection": (selection_by_hand, 1.0),
}


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("name", BY_HAND)
def test_auxiliary_losses_by_hand(name, classes):
    result, mask, annotated = output(classes)
    mask[0, 0] = 0  # a silent frame

    def chosen(tensor):
        return tensor.detach()[annotated].double().numpy()

    by_hand, weight = BY_HAND[name]
    scales = [[chosen(tensor) for tensor in scale] for scale in result.scales]
    expected = by_hand(scales, chosen(result.logits), chosen(mask > 0))
    loss, parts = total_loss(result, mask, annotated, auxiliary=name)
    assert set(parts) == {"segmentation", name} and parts[name].item() == pytest.approx(expected, rel=1e-4)
    assert loss.item() == pytest.approx(parts["segmentation"].item() + weight * expected, rel=1e-4)
    # Lambda belongs to the alignment, which 0 switches off.
    assert (name in total_loss(result, mask, annotated, 0.0, name)[1]) == (name != "alignment_kl")
    loss.backward()
    gradients = [t.grad for scale in result.scales for t in scale[:2] if t.grad is not None]
    assert gradients
    for gradient in (*gradients, result.logits.grad):
        assert gradient.isfinite().all() and not gradient[~annotated].any()


def test_alignment_by_kl_of_silence_is_nothing():
    result, mask, annotated = output()
    _, parts = total_loss(result, torch.zeros_like(mask), annotated, auxiliary="alignment_kl")
    assert parts["alignment_kl"] == 0


def test_segmentation_losses_of_the_published_methods():
    torch.manual_seed(4)
    logits, mask = torch.randn(2, 1, 6, 7), (torch.rand(2, 6, 7) < 0.4).float()
    p, m = sigmoid(logits[:, 0].double().numpy()), mask.numpy()
    dice = np.mean([squared_dice(a, b) for a, b in zip(p, m)])
    bce = -(m * np.log(p) + (1 - m) * np.log(1 - p)).mean()
    for kind, expected in {"bce": bce, "squared_dice": dice, "squared_dice_bce": dice + bce}.items():
        assert segmentation_loss(logits, mask, kind).item() == pytest.approx(expected, rel=1e-5)
    logits, target = torch.randn(2, 3, 6, 7), torch.randint(0, 2, (2, 6, 7))
    parts = [squared_dice_loss(logits.softmax(1)[:, c], (target == c).float()) for c in (0, 1)]
    assert torch.allclose(segmentation_loss(logits, target, "squared_dice"), sum(parts) / 2)
    assert torch.allclose(segmentation_loss(logits, target, "bce"), F.cross_entropy(logits, target))
    empty = torch.rand(1, 6, 7, requires_grad=True)
    assert squared_dice_loss(empty, torch.zeros(1, 6, 7)) == 1  # and teaches nothing
    assert not torch.autograd.grad(squared_dice_loss(empty, torch.zeros(1, 6, 7)), empty)[0].any()


def test_misspelled_losses():
    result, mask, annotated = output()
    with pytest.raises(ValueError, match="did you mean 'matching'"):
        total_loss(result, mask, annotated, auxiliary="matchin")
    with pytest.raises(ValueError, match="did you mean 'dice_bce'"):
        total_loss(result, mask, annotated, segmentation="dice-bce")


def test_the_configuration_names_every_loss():
    assert {*get_args(get_type_hints(TrainConfig)["auxiliary"])} == {*AUXILIARY, "own"}
    assert {*get_args(get_type_hints(TrainConfig)["segmentation"])} == {*SEGMENTATION}
    for name in list_methods():
        assert METHODS[name].auxiliary in AUXILIARY
    assert METHODS["lightavseg"].auxiliary == "alignment"


@pytest.mark.parametrize("classes", [1, 4])
def test_only_annotated_frames_count(classes):
    result, mask, annotated = output(classes)
    loss, _ = total_loss(result, mask, annotated)
    loss.backward()
    for tensor in (result.logits, *(t for scale in result.scales[-3:] for t in (scale.visual, scale.audio))):
        assert not tensor.grad[~annotated].any() and tensor.grad[annotated].flatten(1).any(1).all()
    mask[~annotated] = 1 - mask[~annotated].clamp(max=1)
    with torch.no_grad():
        for tensor in (result.logits, *(scale.similarity for scale in result.scales)):
            tensor[~annotated] = float("nan")
    assert torch.equal(total_loss(result, mask, annotated)[0], loss)


def test_nothing_to_learn_from_is_an_error():
    result, mask, annotated = output()
    with pytest.raises(ValueError, match="no annotated frame"):
        total_loss(result, mask, torch.zeros_like(annotated))


def test_extremes_stay_finite():
    """Similarity at both ends, at which a float32 sigmoid at tau = 0.1 is close to 0 and 1, and logits far
    beyond it."""
    result, mask, annotated = output()
    opposite = [torch.where(mask[..., :h, :w] > 0, -1.0, 1.0).requires_grad_() for h, w in SIZES]
    scales = [scale._replace(similarity=similarity) for scale, similarity in zip(result.scales, opposite)]
    logits = torch.where(mask > 0, -1e4, 1e4)[:, :, None].requires_grad_()
    loss, parts = total_loss(Output(logits, scales), mask, annotated)
    loss.backward()
    assert math.isfinite(loss.item()) and parts["alignment"] > 1
    assert scales[-1].similarity.grad.isfinite().all()


def test_a_broken_frame_gives_a_loss_that_is_not_finite():
    result, mask, annotated = output()
    broken = [scale._replace(similarity=scale.similarity * float("nan")) for scale in result.scales]
    assert total_loss(Output(result.logits, broken), mask, annotated)[0].isnan()


def test_bfloat16_autocast():
    """The forward pass under autocast, the losses in float32 and finite, close to those in float32."""
    torch.manual_seed(3)
    model = create_model("lightavseg", preset="tiny").train()
    frames, log_mel = torch.randn(1, 2, 3, 96, 96), torch.randn(1, 2, 1, 96, 64)
    mask, annotated = torch.zeros(1, 2, 96, 96, dtype=torch.uint8), torch.ones(1, 2, dtype=torch.bool)
    mask[..., 20:50, 20:60] = 1
    exact = total_loss(model(frames, log_mel), mask, annotated)[0].item()
    with torch.autocast("cpu", torch.bfloat16):
        result = model(frames, log_mel)
        loss, parts = total_loss(result, mask, annotated)
    loss.backward()
    assert result.logits.dtype == torch.bfloat16
    assert all(scale.similarity.dtype == torch.float32 for scale in result.scales)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in (loss, *parts.values()))
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert loss.item() == pytest.approx(exact, rel=0.05)

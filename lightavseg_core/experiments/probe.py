"""What a trained ear knows: a linear probe (Alain and Bengio, 2016) tells from the vectors of a frozen audio
encoder what sounds. A model does not keep the layer that did so in pretraining."""
from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.avsbench import AVSBench
from ..data.cast import Cast
from ..data.hearing import learned_from
from ..data.sounding_shapes import generate
from ..models.base import AVSModel

MIXTURES, BATCH = 20_000, 100
NOW = torch.zeros(1)  # a window begins at its own second 0

Tagger = Callable[[Tensor], Tensor]


def probe(model: AVSModel, cast: Cast, seed: int = 0) -> Tagger:
    """Returns a function: log-mels (N, 1, F, M) -> (N, categories) bool, the categories that sound.

    It is a logistic regression, fitted by L-BFGS with scikit-learn's default weight decay (C = 1) on new
    mixtures of the individuals that models are trained on, from all categories.
    """

    @torch.no_grad()
    def vectors_of(log_mel: Tensor) -> Tensor:
        return model.hear(log_mel)  # (N, D)

    with TemporaryDirectory() as folder:  # one clip, which says what is mixed, and how
        generate(folder, "ms3", {"train": 1}, 32, cast=cast.name, workers=1)
        source = learned_from(AVSBench(folder, "ms3", "train", front_end=model.front_end), seed)
    generator, vectors, labels = torch.Generator().manual_seed(seed), [], []
    for step in range(MIXTURES // BATCH):
        sound, label = source.draw(BATCH, step, generator)
        vectors.append(vectors_of(model.front_end(sound, NOW)[:, 0]))
        labels.append(label)
    vectors, labels = torch.cat(vectors), torch.cat(labels)
    mean, scale = vectors.mean(0), vectors.std(0).clamp_min(1e-6)
    inputs, head = (vectors - mean) / scale, nn.Linear(vectors.shape[1], labels.shape[1])
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        wrong = F.binary_cross_entropy_with_logits(head(inputs), labels, reduction="sum")
        value = (wrong + head.weight.square().sum() / 2) / len(labels)
        value.backward()
        return value

    optimizer.step(loss)
    return lambda log_mel: head((vectors_of(log_mel) - mean) / scale) > 0

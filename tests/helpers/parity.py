"""Numbers of published implementations for weights and inputs that a formula gives: how to make these, and
how to compare."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lightavseg_core as lav
from lightavseg_core import encoders

FIXTURES = Path(__file__).parents[1] / "fixtures"


def load(name: str) -> dict:
    return json.loads((FIXTURES / name).read_text())


def tensor(name: str, shape) -> torch.Tensor:
    """The weights of the tensor called `name`: a sine whose phase is a hash of the name, scaled as suits its
    kind."""
    count = int(np.prod(shape))
    phase = 6.28318 * (zlib.crc32(name.encode()) % 1000) / 1000
    wave = np.sin(0.7 * np.arange(count, dtype=np.float64) + phase)
    if name.endswith("running_var"):
        values = 1 + 0.2 * wave
    elif name.endswith("running_mean"):
        values = 0.1 * wave
    elif len(shape) > 1:
        values = wave * np.sqrt(2 * shape[0] / count)  # by fan-in
    else:
        values = 1 + 0.2 * wave if name.endswith("weight") else 0.1 * wave
    return torch.from_numpy(values.astype(np.float32)).reshape(*shape)


def signs(name: str, count: int) -> np.ndarray:
    """+1 or -1 for each element, by a hash of its place: with them the sine's matrices, of rank two, come to
    full rank."""
    x = (np.arange(count, dtype=np.uint64) + zlib.crc32(name.encode())) & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return 1.0 - 2.0 * ((x ^ (x >> 16)) >> 31).astype(np.float64)


def state_dict(shapes: dict, scale: float | None = None) -> dict[str, torch.Tensor]:
    """Weights by name and shape; with a scale, those of more than one dimension times it and `signs`."""
    tensors = {name: tensor(name, shape) for name, shape in shapes.items()}
    if scale is not None:
        for name, value in tensors.items():
            if value.ndim > 1:
                factors = (scale * signs(name, value.numel())).astype(np.float32)
                value *= torch.from_numpy(factors).reshape(value.shape)
    return tensors


def image(*shape: int) -> torch.Tensor:
    j = np.arange(np.prod(shape), dtype=np.float64)
    return torch.from_numpy((np.sin(0.013 * j) + 0.5 * np.sin(0.00071 * j)).astype(np.float32)).reshape(shape)


def assert_matches(found: torch.Tensor, probe: dict, what: str, tolerance: float = 1e-4) -> None:
    """Shape, mean, absolute mean and each probed element, to `tolerance` of the absolute mean."""
    assert list(found.shape) == probe["shape"], what
    within = tolerance * probe["abs_mean"]
    assert abs(found.double().mean().item() - probe["mean"]) <= within, what
    assert abs(found.double().abs().mean().item() - probe["abs_mean"]) <= within, what
    off = (found.flatten()[probe["index"]] - torch.tensor(probe["value"])).abs()
    worst = off.max().item()
    wrong = f"{what}: off by {worst / probe['abs_mean']:.1e} of the mean at {off.argmax()}"
    assert len(off) >= 8 and worst <= within, wrong


class Embedding(nn.Module):
    """In VGGish's place: the log-mel that it is given is the embedding, (B, 1, 1, 128) -> (B, 128)."""

    channels, front_end = 128, None

    def forward(self, log_mel):
        return log_mel.flatten(1)


def create_published(method: str, **options):
    """A method on the authors' encoders, which hears an embedding in the log-mel's place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(encoders.AUDIO, "vggish", Embedding)
        return lav.create_model(method, visual="resnet50", audio="vggish", **options).eval()


def clip() -> tuple[torch.Tensor, torch.Tensor]:
    """The five frames, and the embeddings of their sound, that the authors' models were shown."""
    return image(5, 3, 224, 224)[None], image(5, 128).view(1, 5, 1, 1, 128)


def record(places: dict[str, nn.Module]) -> dict:
    """What each module gives, by name, once the model has run."""
    seen = {}
    for name, module in places.items():
        module.register_forward_hook(lambda _, given, result, name=name: seen.update({name: result}))
    return seen

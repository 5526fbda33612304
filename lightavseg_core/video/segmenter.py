"""A segmenter turns clips into logits: a model in PyTorch, or an exported file in its runtime."""
from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .._common.environment import processor
from .._common.files import digests
from .._common.ranges import SIDE, within
from ..data.audio import FrontEnd
from ..deploy.eager import Compile, Precision, prepare
from ..deploy.runtimes import Runtime, runtime_of
from ..deploy.runtimes import load as load_exported
from ..encoders import create_audio_encoder
from ..models.base import AVSModel, load_model, model_file

CLIP = 5  # frames that a model sees at a time, as in AVSBench


class Segmenter(NamedTuple):
    """Turns clips into logits, whichever runtime computes them."""

    # frames (1, T, 3, h, w), log_mel (1, T, 1, F, M) -> logits (1, T, K, h, w)
    run: Callable[[Tensor, Tensor], Tensor]
    size: tuple[int, int]  # h, w
    clip: int  # T
    num_classes: int  # K
    front_end: FrontEnd
    about: dict  # for the manifest: where it is from, and how it runs


def load(
    checkpoint: str | Path | AVSModel,
    runtime: Literal["pytorch"] | Runtime | None = None,
    precision: Precision = "fp32",
    compile: Compile = "none",
    size: int | None = None,
) -> Segmenter:
    """A model, or anything that `load_model` accepts, run by PyTorch; or an exported file, run by its own
    runtime.

    precision, compile: as in `deploy.eager.prepare`; size: side of the frames, pixels. All three are for
    PyTorch only: in an exported file they are fixed. Raises FileNotFoundError or ValueError.
    """
    path = None if isinstance(checkpoint, AVSModel) else Path(checkpoint)
    own = "pytorch"
    if path and not path.is_dir():
        own = runtime_of(path) or own
    if runtime not in (None, own):
        advice = f"Leave out --runtime, or give {own}."
        if own == "pytorch":
            advice = "`lightavseg export` makes a file for it."
        raise ValueError(f"{path or 'the model'}: runs on {own}, not on {runtime}. {advice}")
    if own != "pytorch":
        return _load_exported(path, own, precision, compile, size)
    if path:
        model = load_model(path)
        # By its number: other threads, which read and segment, would take the first one for theirs.
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        sha256 = digests([model_file(path, name) for name in ("config.json", "model.safetensors")])
    else:
        model, device = checkpoint, next(checkpoint.parameters()).device
        sha256 = {"model": _digest(model)}
    side = model.config.size if size is None else size
    within(*SIDE, size=side)
    about = {
        "checkpoint": path.name if path else "a model in memory",
        "method": model.config.method,
        "runtime": own,
        "device": _name(device),
        "precision": precision,
        "compile": compile,
        "sha256": sha256,
    }
    run = prepare(model, device, precision, compile)
    return Segmenter(run, (side, side), CLIP, model.config.num_classes, model.front_end, about)


def _load_exported(
    path: Path, runtime: Runtime, precision: Precision, compile: Compile, size: int | None
) -> Segmenter:
    exported = load_exported(path)
    meta = exported.metadata
    height, width = meta.size
    other = size is not None and (size, size) != (height, width)
    if precision != "fp32" or compile != "none" or other:
        raise ValueError(
            f"{path}: size ({width} x {height}) and precision ({meta.precision}) were fixed when it was "
            "exported; leave --size, --precision and --compile out, or export again."
        )
    with torch.device("meta"):  # for its front end alone, without the numbers
        front_end = create_audio_encoder(meta.front_end).front_end
    about = {
        "checkpoint": path.name,
        "method": meta.method,
        "runtime": runtime,
        "device": _name(torch.device("cpu")),
        "precision": meta.precision,
        "compile": "none",
        "sha256": digests([path, path.with_suffix(".bin")]),
    }
    return Segmenter(exported, (height, width), meta.seconds, meta.num_classes, front_end, about)


def _name(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{device.type}: {name}"


def _digest(model: AVSModel) -> str:
    """SHA-256 of a model without files: of its configuration, and of its tensors with their names."""
    found = hashlib.sha256(repr(model.config).encode())
    for name, tensor in model.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()

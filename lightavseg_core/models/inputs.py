"""Checks of a model's inputs, of what a replaced encoder returns, and of whether a model can be rebuilt: each
error names what is wrong."""
from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def check_inputs(model: nn.Module, frames: Tensor, log_mel: Tensor) -> None:
    """Raises ValueError for inputs that `AVSModel.forward` does not accept."""
    if not torch.compiler.is_compiling():  # which knows tensors only
        dtype = next(model.parameters()).dtype
        check_tensor("frames", frames, dtype)
        check_tensor("log_mel", log_mel, dtype)
    if frames.ndim != 5 or frames.shape[2] != 3 or min(frames.shape[-2:]) < 32 or 0 in frames.shape[:2]:
        raise ValueError(
            f"frames has shape {tuple(frames.shape)}; expected (B, T, 3, H, W) with H and W at least 32, B "
            "and T at least 1."
        )
    clips = frames.shape[:2]
    if isinstance(model.audio, nn.Identity) and log_mel.shape == (*clips, model.audio_channels):
        return  # heard already, see _common.state
    heard = getattr(getattr(model.audio, "front_end", None), "shape", log_mel.shape[-2:])
    expected = (*clips, 1, *heard)
    if log_mel.shape != expected:
        raise ValueError(
            f"log_mel has shape {tuple(log_mel.shape)}; expected {expected}: one log-mel per frame, from "
            "front_end(waveform, times) with a mono waveform (samples,); for stereo, take waveform.mean(0)."
        )


def check_tensor(name: str, given: Tensor, dtype: torch.dtype) -> None:
    """Raises ValueError for anything but a tensor with the dtype of the weights."""
    if not isinstance(given, Tensor):
        found = f"{name} is {type(given).__name__}"
        raise ValueError(f"{found}; expected a tensor: convert an array with torch.from_numpy.")
    lower = given.dtype in (torch.float16, torch.bfloat16)
    if given.dtype == dtype or (lower and torch.is_autocast_enabled(given.device.type)):
        return
    todo = f"{name}.to({dtype})"
    if name == "frames" and not given.is_floating_point():
        todo = "data.images.prepare_frame makes them from 8-bit pictures, with ImageNet's mean and std"
    raise ValueError(f"{name} is {given.dtype}; expected {dtype}, like the weights: {todo}.")


def check_heard(heard: Tensor, log_mel: Tensor, channels: int) -> Tensor:
    """Returns an audio encoder's output for log_mel (N, 1, F, M); ValueError unless it is (N, channels)."""
    if heard.ndim != 2 or heard.shape[1] != channels:
        raise ValueError(
            f"audio returns shape {tuple(heard.shape)}; expected ({log_mel.shape[0]}, {channels}), for which "
            "this model was built. Let your encoder end in a layer of that width."
        )
    return heard


def one_position(error: ValueError, frames: Tensor) -> str | None:
    """What to do, if the error comes from a batch norm with a single position to learn from; else None."""
    if "more than 1 value per channel" not in str(error):
        return None
    return (
        f"frames has shape {tuple(frames.shape)}, but in training batch norms need more than 1 value per "
        "channel: call model.eval(), or give more clips or seconds (B T > 1) or larger frames (H, W > 64)."
    )


def check_built(model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError unless the model's configuration builds tensors of these names and shapes."""
    with torch.device("meta"):
        built = type(model)(model.config).state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in built.items()}
    if wrong := sorted(name for name, _ in expected.items() ^ shapes.items()):
        parts = ", ".join(dict.fromkeys(name.partition(".")[0] for name in wrong))
        found, wanted = shapes.get(wrong[0], "missing"), expected.get(wrong[0], "none")
        raise ValueError(
            f"{parts}: differs from what the configuration of {model.config.method} builds ({wrong[0]} is "
            f"{found}, expected {wanted}), so it could not be loaded again. Make it a method of its own "
            "(docs/adding_a_method.md), or torch.save its state_dict()."
        )

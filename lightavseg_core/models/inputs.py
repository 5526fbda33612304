"""What a model is given, what an encoder of one's own gives it, and whether it can be built again: an error
names what is wrong."""
from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def check_inputs(model: nn.Module, frames: Tensor, log_mel: Tensor) -> None:
    """Raises ValueError for what `AVSModel.forward` does not take."""
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
            f"log_mel has shape {tuple(log_mel.shape)}; expected {expected}: one log-mel for each frame, as "
            "front_end(waveform, times) gives of a clip's sound (samples,), mono: waveform.mean(0) of stereo."
        )


def check_tensor(name: str, given: Tensor, dtype: torch.dtype) -> None:
    """Raises ValueError for what is no tensor, and for another dtype than the weights have."""
    if not isinstance(given, Tensor):
        found = f"{name} is {type(given).__name__}"
        raise ValueError(f"{found}; expected a tensor: convert an array with torch.from_numpy.")
    lower = given.dtype in (torch.float16, torch.bfloat16)
    if given.dtype == dtype or (lower and torch.is_autocast_enabled(given.device.type)):
        return
    todo = f"{name}.to({dtype})"
    if name == "frames" and not given.is_floating_point():
        todo = "data.images.prepare_frame makes them of 8-bit pictures, with ImageNet's mean and std"
    raise ValueError(f"{name} is {given.dtype}; expected {dtype}, as the weights are: {todo}.")


def check_heard(heard: Tensor, log_mel: Tensor, channels: int) -> Tensor:
    """What an audio encoder gave of log_mel (N, 1, F, M). Raises ValueError unless it is (N, channels)."""
    if heard.ndim != 2 or heard.shape[1] != channels:
        raise ValueError(
            f"audio gives {tuple(heard.shape)}; expected ({log_mel.shape[0]}, {channels}), for which this "
            "model was built. Let your encoder end in a layer of that width."
        )
    return heard


def one_position(error: ValueError, frames: Tensor) -> str | None:
    """Of the error of a batch norm that has a single position to learn from, what to do."""
    if "more than 1 value per channel" not in str(error):
        return None
    return (
        f"frames has shape {tuple(frames.shape)}, and in training batch norms need more than 1 value per "
        "channel: call model.eval(), or give more clips or seconds (B T > 1), or larger frames (H, W > 64)."
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
            f"{parts}: not as the configuration of {model.config.method} builds it ({wrong[0]} is {found}, "
            f"expected {wanted}), so it could not be loaded. Make it a method of its own "
            "(docs/adding_a_method.md), or torch.save its state_dict()."
        )

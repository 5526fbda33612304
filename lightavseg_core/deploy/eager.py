"""How PyTorch runs a model: on which device, in which precision and memory layout, compiled or not.

Prediction and the profiler both use this.
"""
from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .._common.names import unknown

Precision = Literal["fp32", "bf16"]
Compile = Literal["none", "default", "graphs"]


def place(model: nn.Module, device: str | torch.device = "cpu", channels_last: bool = False) -> nn.Module:
    """A copy of the model on the device, in evaluation mode, with convolution weights in this layout.

    The given model does not change. Raises ValueError for a GPU if torch finds none.
    """
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {str(device)!r}, but torch finds no GPU here; use 'cpu'.")
    copied = copy.deepcopy(model).eval().to(device)
    return copied.to(memory_format=torch.channels_last) if channels_last else copied


def arrange(frames: Tensor, channels_last: bool) -> Tensor:
    """Frames (B, T, 3, H, W) whose images (B T, 3, H, W), as every method reshapes them, have this layout
    without another copy.
    """
    if not channels_last:
        return frames.contiguous()
    images = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return images.unflatten(0, frames.shape[:2])


def autocast(device: str | torch.device, precision: Precision) -> torch.autocast:
    """The autocast context of a precision.

    In "bf16", matrix products and convolutions run in bfloat16; sensitive operations stay in float32.
    """
    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")


def _compiling() -> AbstractContextManager:
    """Raises torch's recompilation limit: all methods share one forward, and torch would silently run its
    ninth version eagerly. Elsewhere the limit stays as it was."""
    return torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True)


def prepare(
    model: nn.Module,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    compile: Compile = "none",
    channels_last: bool = False,
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function (frames (B, T, 3, H, W), log_mel (B, T, 1, F, M)) -> logits (B, T, classes, H, W), float32.

    It runs a copy of the model, made now, on the device, in evaluation and inference mode: the given model
    keeps mode, device and weights, and later training does not affect the copy. compile: "default" is
    torch.compile, "graphs" also records CUDA graphs, for a GPU only; both compile at the first call, and
    again for each new shape. "fp32" is torch's, which may convolve in TF32 on a GPU.

    Raises ValueError for an unknown choice, or one that this machine cannot run.
    """
    if compile not in get_args(Compile):
        raise unknown("compile", compile, get_args(Compile))
    on_gpu = torch.device(device).type == "cuda"
    if compile == "graphs" and not on_gpu:
        raise ValueError(
            f"compile is 'graphs', which records CUDA graphs, but device is {str(device)!r}; "
            "use device 'cuda' or compile 'default'."
        )
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    if compile == "default" and not on_gpu and not any(map(shutil.which, compilers)):
        raise ValueError(
            "compile is 'default', which needs a C++ compiler, but there is no g++ or clang++; "
            "install one, or use compile 'none'."
        )
    autocast(device, precision)  # says now what it would say at the first call
    placed = place(model, device, channels_last)
    if compile != "none":
        placed = torch.compile(placed, dynamic=False, mode="reduce-overhead" if compile == "graphs" else None)
    compiled = set()  # shapes

    def run(frames: Tensor, log_mel: Tensor) -> Tensor:
        frames, log_mel = arrange(frames.to(device), channels_last), log_mel.to(device)
        if compile == "graphs":
            torch.compiler.cudagraph_mark_step_begin()
        shapes = frames.shape, log_mel.shape
        compiles = compile != "none" and shapes not in compiled
        with torch.inference_mode(), autocast(device, precision), _compiling() if compiles else nullcontext():
            logits = placed(frames, log_mel).logits
        compiled.add(shapes)
        # A graph writes its next result into the same memory.
        return logits.float().clone() if compile == "graphs" else logits.float()

    return run

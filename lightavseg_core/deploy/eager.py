"""How a model is run: on which device, in which precision and memory layout, compiled or not. Prediction and the profiler both run it so."""
from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from .._common.names import unknown

Precision = Literal["fp32", "bf16"]
Compile = Literal["none", "default", "graphs"]
PRECISIONS, COMPILE = ("fp32", "bf16"), ("none", "default", "graphs")


def place(model: nn.Module, device: str | torch.device = "cpu", channels_last: bool = False) -> nn.Module:
    """A copy of the model on the device, in evaluation mode, its convolutions' weights in this layout. The given model stays as it is.

    Raises ValueError for a GPU where torch finds none.
    """
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {str(device)!r}, and torch finds no GPU here; use 'cpu'.")
    copied = copy.deepcopy(model).eval().to(device)
    return copied.to(memory_format=torch.channels_last) if channels_last else copied


def arrange(frames: Tensor, channels_last: bool) -> Tensor:
    """Frames (B, T, 3, H, W) such that the images (B T, 3, H, W), which every method makes of them, have this layout without another copy."""
    if not channels_last:
        return frames.contiguous()
    return frames.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, frames.shape[:2])


def autocast(device: str | torch.device, precision: Precision) -> torch.autocast:
    """A context for the precision: in "bf16" matrix products and convolutions run in bfloat16, what is delicate stays in float32."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")


def prepare(model: nn.Module, device: str | torch.device = "cpu", precision: Precision = "fp32", compile: Compile = "none",
            channels_last: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
    """A function (frames (B, T, 3, H, W), log_mel (B, T, 1, F, M)) -> logits (B, T, classes, H, W), float32, on the device.

    It runs a copy of the model, made now, in evaluation and inference mode: the given model keeps mode, device and weights, and what it learns
    later is not seen. compile: "default" is torch.compile, "graphs" also records CUDA graphs, for a GPU only; both compile at the first
    call, and again for another shape. "fp32" is torch's, which on a GPU may convolve in TF32.

    Raises ValueError for a choice that there is not, or that this machine cannot run.
    """
    if compile not in COMPILE:
        raise unknown("compile", compile, COMPILE)
    on_gpu = torch.device(device).type == "cuda"
    if compile == "graphs" and not on_gpu:
        raise ValueError(f"compile is 'graphs', which records CUDA graphs, and device is {str(device)!r}; use device 'cuda' or compile 'default'.")
    if compile == "default" and not on_gpu and not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")):
        raise ValueError("compile is 'default', which needs a C++ compiler, and there is no g++ or clang++; install one, or use compile 'none'.")
    autocast(device, precision)                               # says now what it would say at the first call
    if compile != "none":
        # All methods share one forward, and torch runs what it compiles there for the ninth time eagerly, without a word.
        torch._dynamo.config.recompile_limit, torch._dynamo.config.fail_on_recompile_limit_hit = 64, True
    placed = place(model, device, channels_last)
    compiled = {"none": lambda m: m, "default": partial(torch.compile, dynamic=False),
                "graphs": partial(torch.compile, dynamic=False, mode="reduce-overhead")}[compile](placed)

    def run(frames: Tensor, log_mel: Tensor) -> Tensor:
        frames, log_mel = arrange(frames.to(device), channels_last), log_mel.to(device)
        if compile == "graphs":
            torch.compiler.cudagraph_mark_step_begin()
        with torch.inference_mode(), autocast(device, precision):
            logits = compiled(frames, log_mel).logits
        # A graph writes its next result into the same memory.
        return logits.float().clone() if compile == "graphs" else logits.float()

    return run

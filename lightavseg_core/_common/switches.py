"""Settings of the whole process that training changes."""
from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Makes torch use deterministic algorithms, and warn where it has none.

    Afterwards, even after an exception, its settings are as before.
    """
    mode = torch.get_deterministic_debug_mode()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    try:
        torch.set_deterministic_debug_mode("warn")
        # A check for debugging; it writes each tensor once more.
        torch.utils.deterministic.fill_uninitialized_memory = False
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.utils.deterministic.fill_uninitialized_memory = filled


# Where a training runs; all else that Accelerate reads under this prefix says what is trained.
WHERE = ("ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE", "ACCELERATE_CPU_AFFINITY")


@contextmanager
def no_settings_from_outside() -> Iterator[None]:
    """Hides the environment variables with which Accelerate would override the configuration: precision,
    gradient accumulation, compilation, sharding. `accelerate launch` sets some of them unasked."""
    hidden = {name for name in os.environ if name.startswith("ACCELERATE_")} - set(WHERE)
    kept = {name: os.environ.pop(name) for name in hidden}
    try:
        yield
    finally:
        os.environ.update(kept)


@contextmanager
def one_core_left() -> Iterator[None]:
    """Within, PyTorch uses one thread less, if it has several, to leave a core to other threads. Otherwise
    all of them would wait for each other, and PyTorch's would busy-wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory, which would otherwise be returned to the system and zeroed again.

    A training step on a CPU frees and allocates the same activations again and again: this alone makes it 1.5
    times as fast. It cannot be undone, since glibc does not report its settings: it lasts until the process
    ends.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library: nothing is lost but speed
            libc = ctypes.CDLL("libc.so.6")
            if libc.mallopt(-3, 1 << 30):        # M_MMAP_THRESHOLD: tensors up to 1 GiB come from the heap
                libc.mallopt(-1, 2**31 - 1)      # M_TRIM_THRESHOLD: the heap is not given back

"""The peak memory of a call, beyond what was allocated before: without weights and inputs."""
from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Live(TorchDispatchMode):
    """Adds up the storages that operators make, for as long as each lives."""

    def __init__(self):
        super().__init__()
        self.bytes, self.peak, self.storages = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        result = func(*args, **kwargs or {})
        for x in tree_leaves(result):
            if not isinstance(x, Tensor):
                continue
            storage = x.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in given and key not in self.storages:
                self.storages[key] = weakref.finalize(storage, self._free, key, size)
                self.bytes += size
                self.peak = max(self.peak, self.bytes)
        return result

    def _free(self, key: int, size: int) -> None:
        del self.storages[key]
        self.bytes -= size


def peak_memory(run: Callable[[], object], device: str | torch.device = "cpu") -> int:
    """The most bytes that the tensors made in a call take at one time.

    On a GPU, torch's allocator tells. On a processor, where the size of a process tells little (libraries
    keep freed memory), the tensors that torch's operators return are counted while they live: without what a
    kernel uses inside, and only for eager models.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    # Not in inference mode, where torch would report whole layers; without autograd, which would keep what
    # nobody needs.
    with torch.inference_mode(False), torch.no_grad(), _Live() as live:
        run()
    return live.peak

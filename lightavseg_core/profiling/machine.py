"""What this machine can do at best: the fastest matrix product of any library here, and its memory bandwidth.

A latency alone does not tell how good the software is. Its ratio to the time that the machine needs for the
same multiply-accumulates does: 1 is as fast as arithmetic allows, 20 means that something else takes the
time.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch

from .timing import here, latency

TRIAD = 2**25  # elements of each of three arrays, 128 MiB: larger than a cache
SIZES = {"cpu": (256, 512, 1024), "cuda": (2048, 4096, 8192)}  # of square matrices


class Floor(NamedTuple):
    gflops: float  # 10^9 operations a second, two for a multiply-accumulate
    library: str
    size: int  # of the square matrices
    bandwidth: float  # 10^9 bytes a second: a = b + s c on arrays larger than the cache

    def distance(self, milliseconds: float, macs: int) -> float:
        """The ratio of a latency to the time of the same multiply-accumulates at this rate."""
        return milliseconds / (2 * macs / self.gflops / 1e6)


def _installed(*packages: str) -> bool:
    return all(find_spec(package) for package in packages)


def products(size: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Library -> an fp32 product of two square matrices on the processor, with as many threads as torch.

    For each library that is installed.
    """
    threads = torch.get_num_threads()
    a, b = (np.random.default_rng(i).standard_normal((size, size), np.float32) for i in range(2))
    ta, tb, out = torch.from_numpy(a), torch.from_numpy(b), torch.empty(size, size)
    yield "torch", lambda: torch.mm(ta, tb, out=out)
    if _installed("threadpoolctl"):  # without it nobody can tell numpy how many threads to take
        from threadpoolctl import ThreadpoolController

        made, blas = np.empty_like(a), ThreadpoolController()

        def with_numpy() -> np.ndarray:
            with blas.limit(limits=threads, user_api="blas"):
                return np.matmul(a, b, out=made)

        yield "numpy", with_numpy
    if _installed("onnx", "onnxruntime"):
        yield "onnxruntime", _onnxruntime(a, b, threads)
    if _installed("openvino"):
        yield "openvino", _openvino(a, b, threads)


def _onnxruntime(a: np.ndarray, b: np.ndarray, threads: int) -> Callable[[], object]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, a.shape) for name in "ac")
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "product", [given], [made], [numpy_helper.from_array(b, "b")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"a": a})


def _openvino(a: np.ndarray, b: np.ndarray, threads: int) -> Callable[[], object]:
    import openvino
    from openvino import opset13 as ops

    given = ops.parameter(a.shape, openvino.Type.f32)
    model = openvino.Model([ops.matmul(given, ops.constant(b), False, False)], [given])
    # Where the processor has bfloat16 it would take that: no fp32 product.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return lambda: compiled(a, share_inputs=True, share_outputs=True)


def floor(device: str | None = None, precision: str = "fp32") -> Floor:
    """The fastest round of all products, libraries and sizes, and of the triad. A few seconds.

    On torch's threads (see `timing.threads`). precision "bf16" and GPUs use torch alone.
    """
    device = device or here()
    kind = torch.device(device).type
    candidates = {}
    for size in SIZES[kind]:
        if kind == "cuda" or precision == "bf16":
            x = torch.randn(size, size, device=device)
            x = x.bfloat16() if precision == "bf16" else x
            candidates["torch", size] = lambda x=x: x @ x
        else:
            candidates |= {(library, size): run for library, run in products(size)}
    a, b, c = (torch.ones(TRIAD, device=device) for _ in range(3))
    candidates["triad", TRIAD] = lambda: torch.add(b, c, alpha=3.0, out=a)
    fastest = {key: min(timing.rounds) for key, timing in latency(candidates, 5, 1, device).items()}
    bandwidth = 3 * 4 * TRIAD / fastest.pop(("triad", TRIAD)) / 1e6
    rates = {(library, size): 2 * size**3 / ms / 1e6 for (library, size), ms in fastest.items()}
    library, size = max(rates, key=rates.get)
    return Floor(rates[library, size], library, size, bandwidth)

"""Exported models in the runtimes' own loaders: ExecuTorch, ONNX Runtime, OpenVINO. Running a file needs no model code."""
from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..data.decoding import MAX_PIXELS

Runtime = Literal["executorch", "onnx", "openvino"]
SUFFIX: dict[str, str] = {"executorch": ".pte", "onnx": ".onnx", "openvino": ".xml"}
KEY = "lightavseg"                 # under which a file holds its metadata
MOST = 4096                        # of anything that these count


@dataclass(frozen=True)
class Metadata:
    """What a file says of itself."""

    method: str
    runtime: Runtime
    precision: str                 # "fp32", or "int8": 8-bit integers where the runtime has them
    size: tuple[int, int]          # H, W in pixels of the frames that it takes, no others
    seconds: int                   # T, frames of a clip that it takes
    log_mel: tuple[int, int]       # F, M of the log-mel of each frame
    front_end: str                 # the audio encoder whose front end makes it: a name of `encoders.AUDIO`
    num_classes: int
    source: str                    # the model that was exported
    made: dict                     # command, commit, date, machine, versions

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str, path: Path) -> Metadata:
        """Raises ValueError for what `lightavseg export` would not have written."""
        try:
            values = json.loads(text)
            values |= {name: (int(values[name][0]), int(values[name][1])) for name in ("size", "log_mel")}
            found = cls(**values)
            numbers = (*found.size, found.seconds, *found.log_mel, found.num_classes)
            small = all(isinstance(n, int) and 0 < n <= MOST for n in numbers) and found.seconds * found.size[0] * found.size[1] <= MAX_PIXELS
            if small and all(isinstance(text, str) for text in (found.method, found.precision, found.front_end)):
                return found
            raise ValueError
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            raise ValueError(f"{path}: its metadata is not what `lightavseg export` writes. Export the model again.") from None


def need(runtime: str, *modules: str) -> list:
    """The runtime's modules. Raises ValueError where one is missing, saying how to get it."""
    try:
        return [import_module(module) for module in modules]
    except ImportError as error:
        raise ValueError(f"runtime {runtime!r} needs {error.name or modules[0]}, which is not installed: `pip install -e '.[edge]'` brings it, "
                         "or `make .venv/.edge`.") from None


class Exported:
    """A loaded file. Calling it: frames (1, T, 3, H, W) as the model takes them, log_mel (1, T, 1, F, M) -> logits (1, T, classes, H, W) float32.

    Shapes other than the file's raise ValueError.
    """

    def __init__(self, path: Path, metadata: Metadata, run):
        self.path, self.metadata, self.run = path, metadata, run

    def __call__(self, frames: Tensor, log_mel: Tensor) -> Tensor:
        m = self.metadata
        for name, given, shape in (("frames", frames, (1, m.seconds, 3, *m.size)), ("log_mel", log_mel, (1, m.seconds, 1, *m.log_mel))):
            if tuple(given.shape) != shape:
                raise ValueError(f"{name} has shape {tuple(given.shape)}; {self.path.name} takes {shape} and no other. Resize it, or export again.")
        try:
            return self.run(frames.float().contiguous(), log_mel.float().contiguous())
        except Exception as error:                                  # each runtime has classes of its own
            raise ValueError(f"{self.path}: {m.runtime} cannot run it ({_reason(error)}). Export the model again.") from None


def load(path: str | Path, threads: int | None = None) -> Exported:
    """A file of `lightavseg export`, by its suffix: .pte, .onnx or .xml (with its .bin). threads: by default as many as torch uses.

    Raises FileNotFoundError, or ValueError for another file, a broken one, one that reaches for other files, or a runtime that is not there.
    ExecuTorch has one thread pool for all its files: the last `load` sets it.
    """
    path, threads = Path(path), threads or torch.get_num_threads()
    runtime = next((name for name, suffix in SUFFIX.items() if path.suffix == suffix), None)
    if runtime is None:
        raise ValueError(f"{path}: expected an exported model, which ends in {', '.join(SUFFIX.values())}.")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Make it with `lightavseg export`.")
    opened = {"executorch": _executorch, "onnx": _onnx, "openvino": _openvino}[runtime]
    try:
        text, run = opened(path, threads)
    except (RuntimeError, OSError) as error:                        # what each runtime raises for a broken file
        raise ValueError(f"{path}: {runtime} cannot load it ({_reason(error)}). Export the model again.") from None
    if not text:
        raise ValueError(f"{path}: has no metadata of ours; only files of `lightavseg export` can be run, since another's inputs are not known.")
    metadata = Metadata.from_json(text, path)
    if metadata.runtime != runtime:
        raise ValueError(f"{path}: its metadata says {metadata.runtime}, its name {runtime}. Export the model again.")
    return Exported(path, metadata, run)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _onnx(path: Path, threads: int):
    onnx, ort = need("onnx", "onnx", "onnxruntime")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:                                      # protobuf's DecodeError, which has no public home
        raise RuntimeError(error) from None
    if any(part.DESCRIPTOR is onnx.TensorProto.DESCRIPTOR and part.data_location == onnx.TensorProto.EXTERNAL for part in _parts(model)):
        raise RuntimeError("it keeps numbers in another file, which ours never do")
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), "")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    try:
        session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:                                      # onnxruntime has an exception class for each status, without a common public one
        raise RuntimeError(error) from None
    names = [given.name for given in session.get_inputs()]

    def run(frames: Tensor, log_mel: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, dict(zip(names, (frames.numpy(), log_mel.numpy()))))[0])

    return text, run


def _parts(message) -> Iterator:
    """Each message within a protobuf message, itself included: tensors stand in initializers, attributes, branches and functions."""
    yield message
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if isinstance(value, Iterable) else (value,):
                yield from _parts(part)


def _openvino(path: Path, threads: int):
    ov, frontend = need("openvino", "openvino", "openvino.frontend")
    reader = frontend.FrontEndManager().load_by_framework("ir")     # read_model would try the readers of other formats too, and what they reach for
    core, model = ov.Core(), reader.convert(reader.load(path))
    text = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else ""
    # Told f32, since where a processor has bfloat16 it would choose that by itself; 8-bit parts stay 8-bit.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(frames: Tensor, log_mel: Tensor) -> Tensor:
        return torch.from_numpy(np.array(next(iter(request.infer([frames.numpy(), log_mel.numpy()]).values()))))

    return text, run


def _executorch(path: Path, threads: int):
    library, = need("executorch", "executorch.extension.pybindings.portable_lib")
    with path.open("rb") as file:                                   # ExecuTorch checks neither: what is no program can end the process
        head, size = file.read(40).ljust(40, b"\0"), path.stat().st_size
    program, start, data = struct.unpack("<QQQ", head[16:])
    if head[4:12] != b"ET12eh00":
        raise RuntimeError("it is no program of ExecuTorch")
    if size != max(program, start + data):
        raise RuntimeError(f"it has {size} bytes, and says {max(program, start + data)}")
    library._unsafe_reset_threadpool(threads)                       # it looks at no affinity and no environment variable
    module = library._load_for_executorch(str(path))
    with contextlib.suppress(RuntimeError):
        text, = module.run_method("metadata", ())
        return text, lambda frames, log_mel: module.run_method("forward", (frames, log_mel))[0]
    return "", None

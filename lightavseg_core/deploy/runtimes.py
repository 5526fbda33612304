"""Exported models, loaded by ExecuTorch, ONNX Runtime or OpenVINO; no model code is needed."""
from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .._common.lookalikes import on_disk
from .._common.outputs import check_finite
from .._common.shipped import how_to_install
from .._common.substitutes import substitute
from ..data.images import MAX_PIXELS

Runtime = Literal["executorch", "onnx", "openvino"]
SUFFIX: dict[str, str] = {"executorch": ".pte", "onnx": ".onnx", "openvino": ".xml"}
KEY = "lightavseg"  # under which a file holds its metadata
MOST = 4096  # of anything that these count
Run = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Metadata:
    """What a file says about itself."""

    method: str
    runtime: Runtime
    precision: str  # "fp32", or "int8": 8-bit integers where the runtime has them
    size: tuple[int, int]  # H, W in pixels of the frames that it takes, no others
    seconds: int  # T, frames of a clip that it takes
    log_mel: tuple[int, int]  # F, M of the log-mel of each frame
    front_end: str  # the audio encoder whose front end makes it: a name of `encoders.AUDIO`
    num_classes: int
    source: str  # the model that was exported
    made: dict  # command, commit, date, machine, versions

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str, path: Path) -> Metadata:
        """Raises ValueError for anything that `lightavseg export` would not write."""
        try:
            values = json.loads(text)
            for name in ("size", "log_mel"):
                first, second = values[name]
                values[name] = int(first), int(second)
            found = cls(**values)
            numbers = (*found.size, found.seconds, *found.log_mel, found.num_classes)
            names = (found.method, found.precision, found.front_end)
            right = all(isinstance(n, int) and 0 < n <= MOST for n in numbers)
            right = right and found.seconds * found.size[0] * found.size[1] <= MAX_PIXELS
            if not right or not all(isinstance(name, str) for name in names):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ValueError(
                f"{path}: its metadata is not what `lightavseg export` writes. Export the model again."
            ) from None
        return found


def need(runtime: str, *modules: str) -> list:
    """The runtime's modules. Raises ValueError, with the command to run, if one is missing."""
    try:
        return [import_module(module) for module in modules]
    except ImportError as error:
        raise ValueError(
            f"runtime {runtime!r} needs {error.name or modules[0]}, which is not installed: "
            f"run `{how_to_install('edge')}`."
        ) from None


@dataclass(frozen=True)
class Exported:
    """A loaded file: frames (1, T, 3, H, W), log_mel (1, T, 1, F, M) -> logits (1, T, classes, H, W) float32.

    It is called like the model. Shapes other than the file's raise ValueError, and so do logits that are not
    finite.
    """

    path: Path
    metadata: Metadata
    threads: int
    run: Run

    def __call__(self, frames: Tensor, log_mel: Tensor) -> Tensor:
        made = self.metadata
        expected = {
            "frames": (frames, (1, made.seconds, 3, *made.size)),
            "log_mel": (log_mel, (1, made.seconds, 1, *made.log_mel)),
        }
        for name, (given, shape) in expected.items():
            if given.shape != shape:
                raise ValueError(
                    f"{name} has shape {tuple(given.shape)}; {self.path.name} takes only {shape}. Resize it, "
                    "or export the model again."
                )
        try:
            logits = self.run(frames.float().contiguous(), log_mel.float().contiguous())
        except Exception as error:  # each runtime has classes of its own
            raise ValueError(
                f"{self.path}: {made.runtime} cannot run it ({reason(error)}). Export the model again."
            ) from None
        check_finite(logits[0], lambda second: f"{self.path}, second {second}")
        return logits


def runtime_of(path: Path) -> Runtime | None:
    """The runtime of a file, by its suffix in any case."""
    return next((name for name, suffix in SUFFIX.items() if path.suffix.lower() == suffix), None)


def load(path: str | Path, threads: int | None = None) -> Exported:
    """A file of `lightavseg export`, by its suffix: .pte, .onnx or .xml (with its .bin).

    threads: by default as many as torch uses. Raises FileNotFoundError, or ValueError for any other file, a
    broken one, one that refers to other files, or a runtime that is not installed. ExecuTorch has one thread
    pool for all its files: the last `load` sets it.
    """
    path, threads = Path(path), threads or torch.get_num_threads()
    runtime = runtime_of(path)
    if runtime is None:
        raise ValueError(f"{path}: expected an exported model, ending in {', '.join(SUFFIX.values())}.")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Make it with `lightavseg export`.")
    opened, *modules = {
        "executorch": (_executorch, "executorch.extension.pybindings.portable_lib"),
        "onnx": (_onnx, "onnx", "onnxruntime"),
        "openvino": (_openvino, "openvino", "openvino.frontend"),
    }[runtime]
    installed = need(runtime, *modules)
    if instead := substitute(path):
        raise ValueError("{}: not an exported model: {}. {}.".format(path, *instead))
    try:
        text, run = opened(path, threads, *installed)
    except OSError:  # the disk's fault says nothing of the file
        raise
    except Exception as error:  # each runtime has classes of its own
        said = reason(error)
        raise ValueError(
            f"{path}: {runtime} cannot load it ({said}). If it is a copy, copy it again; otherwise export "
            "the model again."
        ) from None
    if not text:
        raise ValueError(
            f"{path}: has no metadata of `lightavseg export`, so its inputs are unknown. Only files of that "
            "command can be run."
        )
    metadata = Metadata.from_json(text, path)
    if (said := metadata.runtime) != runtime:
        raise ValueError(f"{path}: its metadata says {said}, its name {runtime}. Export the model again.")
    return Exported(path, metadata, threads, run)


def reason(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


# Each opens a file: its metadata, "" where it has none, and what runs it.


def _onnx(path: Path, threads: int, onnx, ort) -> tuple[str, Run]:
    model = onnx.load(path, load_external_data=False)
    for part in _parts(model):
        tensor = part.DESCRIPTOR is onnx.TensorProto.DESCRIPTOR
        if tensor and part.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError("it keeps weights in another file, which exported files never do")
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), "")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(frames: Tensor, log_mel: Tensor) -> Tensor:
        logits, *_ = session.run(None, dict(zip(names, (frames.numpy(), log_mel.numpy()))))
        return torch.from_numpy(logits)

    return text, run


def _parts(message) -> Iterator:
    """A protobuf message and all messages inside it.

    Tensors are in initializers, attributes, branches and functions.
    """
    yield message
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if isinstance(value, Iterable) else (value,):
                yield from _parts(part)


def _openvino(path: Path, threads: int, ov, frontend) -> tuple[str, Run]:
    weights = path.with_suffix(".bin")
    if (there := on_disk(weights)) != weights:
        raise ValueError(f"its weights are named {there.name}; rename them to {weights.name}")
    if weights.is_file() and (instead := substitute(weights)):
        raise ValueError(f"{weights.name}: {instead[0]}")
    # read_model would try the readers of other formats too, and what they reach for.
    reader = frontend.FrontEndManager().load_by_framework("ir")
    # Without mapping it into memory, which network drives and shared folders may refuse.
    model = reader.convert(reader.load(path, enable_mmap=False))
    text = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else ""
    # Told f32, since where a processor has bfloat16 it would choose that by itself; 8-bit parts stay 8-bit.
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(frames: Tensor, log_mel: Tensor) -> Tensor:
        logits, *_ = request.infer([frames.numpy(), log_mel.numpy()]).values()
        return torch.from_numpy(np.array(logits))

    return text, run


def _executorch(path: Path, threads: int, library) -> tuple[str, Run]:
    content = path.read_bytes()  # given the path, it maps the file into memory, which not every disk can do
    # ExecuTorch checks neither: what is no program can end the process.
    head, size = content[:40].ljust(40, b"\0"), len(content)
    program, start, data = struct.unpack("<QQQ", head[16:])
    if head[4:12] != b"ET12eh00":
        raise ValueError("it is not an ExecuTorch program")
    if size != max(program, start + data):
        raise ValueError(f"it has {size} bytes but needs {max(program, start + data)}")
    library._unsafe_reset_threadpool(threads)  # it looks at no affinity and no environment variable
    module = library._load_for_executorch_from_buffer(content)
    try:
        text, = module.run_method("metadata", ())
    except RuntimeError:  # another's program
        text = ""

    def run(frames: Tensor, log_mel: Tensor, read_from: bytes = content) -> Tensor:  # as long as it may run
        return module.run_method("forward", (frames, log_mel))[0]

    return text, run

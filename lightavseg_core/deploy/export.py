"""Models as files for the runtimes of phones and servers: ExecuTorch with XNNPACK, ONNX, OpenVINO.

Each in float32 and in 8-bit integers, and all from one graph (`edge_graph`). Before a file gets its name, its
own runtime runs it on clips, and the result is compared with PyTorch.
"""
from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.export import ExportedProgram

from .._common.environment import versions
from .._common.files import check_file, disk_errors, whole
from .._common.names import unknown
from .._common.outputs import NotFinite, check_finite
from .._common.records import provenance
from .._common.shipped import how_to_install
from .._common.state import evaluating
from ..data.avsbench import AVSBench
from ..models.base import AVSModel
from .edge_graph import edge_graph
from .runtimes import KEY, SUFFIX, Exported, Metadata, Runtime, load, need, reason, runtime_of

Precision = Literal["fp32", "int8"]
Clip = tuple[Tensor, Tensor]  # frames (1, T, 3, H, W), log_mel (1, T, 1, F, M)
EXTRA = ("torch", "timm", "executorch", "torchao", "onnx", "onnxruntime", "onnxscript", "openvino", "nncf")
MOST = {"fp32": 0.001, "int8": 0.5}  # that an agreement's deviation may be
aten = torch.ops.aten


def clips_of(dataset: AVSBench, seconds: int = 1, count: int = 64) -> list[Clip]:
    """Clips of T seconds as a model takes them: the middle seconds of each of the dataset's first items."""
    if seconds < 1 or count < 1:
        raise ValueError(f"seconds is {seconds}, clips is {count}; expected at least 1 each.")
    clips = []
    for index in range(min(count, len(dataset))):
        item = dataset[index]
        first = max(0, (len(item["frames"]) - seconds) // 2)
        frames, log_mel = (item[name][first : first + seconds] for name in ("frames", "log_mel"))
        if len(frames) == seconds:
            clips.append((frames[None], log_mel[None]))
    if not clips:
        raise ValueError(
            f"{dataset.root}: no clip of the {dataset.split} split has {seconds} seconds; "
            "expected at least one. Use fewer seconds."
        )
    return clips


class Agreement(NamedTuple):
    """How closely an exported file agrees with PyTorch, over clips."""

    # Of the logits: mean absolute difference as a share of PyTorch's mean absolute logit.
    deviation: float
    pixels: float  # share of the pixels that both mark alike


def checked(path: str | Path, runtime: str, precision: str) -> Path:
    """Returns the path if a file for this runtime can be written there.

    Raises ValueError for unknown names, a wrong suffix, a missing package, or a place that takes no file.
    """
    path = Path(path)
    if runtime not in SUFFIX:
        raise unknown("runtime", runtime, SUFFIX)
    if precision not in MOST:
        raise unknown("precision", precision, MOST)
    if runtime_of(path) != runtime:
        raise ValueError(f"{path}: expected a name that ends in {SUFFIX[runtime]}, for {runtime}.")
    check_file(path)
    _, *modules = WRITERS[runtime]
    need(runtime, *modules)
    return path


def export(
    model: AVSModel,
    path: str | Path,
    runtime: Runtime,
    clips: Sequence[Clip],
    precision: Precision = "fp32",
    source: str = "",
    command: str = "",
) -> Agreement:
    """Writes the model for a runtime, as a file that takes frames and sound of exactly the clips' shape.

    `load` loads it. clips: clips of the training split, at the wanted size, on which int8 is calibrated and
    the file's logits are compared with PyTorch's. path: file to write, with the runtime's suffix. The file is
    complete and compared before it replaces an older one.

    Raises ValueError for an unknown runtime or precision, a wrong suffix, a missing package, a model that the
    runtime cannot take, no clips, and for logits that deviate on average by more than 0.1% in float32 or by
    more than half in int8.
    """
    path = checked(path, runtime, precision)
    if not clips:
        raise ValueError("no clips; expected at least one, for its shape and for the comparison.")
    frames, log_mel = clips[0]
    config = model.config
    seconds, size, windows = frames.shape[1], tuple(frames.shape[-2:]), tuple(log_mel.shape[-2:])
    made = {**provenance(command, 0), "versions": versions(EXTRA)}
    metadata = Metadata(
        config.method, runtime, precision, size, seconds, windows, config.audio, config.num_classes,
        source or config.method, made,
    )
    write, *_ = WRITERS[runtime]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".exporting_") as folder:
        staged = Path(folder, path.stem + SUFFIX[runtime])  # OpenVINO knows no .XML
        try:
            with quiet(), disk_errors(path):
                write(edge_graph(model, frames, log_mel), staged, precision, clips, metadata)
        except RuntimeError as error:  # torch.export's and the exporters' own are of this kind
            raise ValueError(f"{config.method}: {runtime} cannot take it ({reason(error)}).") from error
        agreement = compare(model, load(staged), clips)
        if not agreement.deviation <= MOST[precision]:
            raise ValueError(
                f"{runtime} {precision}: its logits deviate from PyTorch's by {agreement.deviation:.1%} "
                f"of their mean absolute value on {len(clips)} clips; expected at most {MOST[precision]:.1%}."
                " Nothing was written."
            )
        if runtime == "openvino":
            # Two files cannot be replaced at once: whoever is killed here leaves none, not a mixture.
            path.unlink(missing_ok=True)
        for file in sorted(staged.parent.iterdir()):  # the .bin before its .xml
            with whole(path if file == staged else path.parent / file.name) as name:
                os.replace(file, name)
    return agreement


def compare(model: AVSModel, exported: Exported, clips: Iterable[Clip]) -> Agreement:
    """Compares the exported file's logits with the model's. Raises ValueError if they are not finite."""
    difference = size = alike = pixels = 0
    with evaluating(model), torch.inference_mode():
        for index, (frames, log_mel) in enumerate(clips):
            expected = model(frames, log_mel).logits
            check_finite(expected[0], partial("clip {}, second {}".format, index))
            try:
                found = exported(frames, log_mel)
            except NotFinite as error:
                raise error.at(f"{exported.path.name}, clip {index}, second {error.frame}") from None
            difference += (found - expected).abs().sum().item()
            size += expected.abs().sum().item()
            marks, others = (x > 0 if x.shape[2] == 1 else x.argmax(2) for x in (expected, found))
            alike += (marks == others).sum().item()
            pixels += marks.numel()
    return Agreement(difference / max(size, 1e-12), alike / pixels)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the exporters, which report every step; their errors are still raised."""
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(level)


# --- what stays in float32 ---
# Positions, and the mask of -10,000 that keeps rows and columns apart, are added to a few tokens: 8 bits
# cannot hold such sums, and the products of so few cost next to nothing. They are known by what they are:
# sums with a constant, and products that are no convolution. In methods other than LightAVSeg that leaves
# more in float32, VGGish's linear layers for one.


def _stays_float(node: torch.fx.Node) -> bool:
    constant = any(isinstance(given, torch.fx.Node) and given.op == "get_attr" for given in node.args)
    return node.target is aten.linear.default or (node.target is aten.add.Tensor and constant)


def _float_nodes(model) -> list[str]:
    """The same for an ONNX graph, as node names; there a position may also be subtracted or scaled."""
    constants = {tensor.name for tensor in model.graph.initializer}
    names = []
    for node in model.graph.node:
        product = node.op_type in ("MatMul", "Gemm", "Softmax")
        if product or (node.op_type in ("Add", "Sub", "Mul") and constants.intersection(node.input)):
            names.append(node.name)
    return names


def _stems(model) -> list[str]:
    """The convolutions that read pictures and log-mels: with so few channels, ONNX Runtime takes three times
    as long in 8 bits as in float32."""
    shapes, names = {tensor.name: tensor.dims for tensor in model.graph.initializer}, []
    for node in model.graph.node:
        groups = [attribute.i for attribute in node.attribute if attribute.name == "group"]
        if node.op_type == "Conv" and groups in ([], [1]) and shapes.get(node.input[1], (0, 99))[1] <= 3:
            names.append(node.name)
    return names


# --- the runtimes ---


def _write_onnx(
    program: ExportedProgram, path: Path, precision: Precision, clips: Sequence[Clip], metadata: Metadata
) -> None:
    import onnx

    model = torch.onnx.export(program, clips[0], dynamo=True, verbose=False).model_proto
    if precision == "int8":
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Clips(CalibrationDataReader):
            def __init__(self):
                names = [given.name for given in model.graph.input]
                self.feeds = ({name: x.numpy() for name, x in zip(names, clip)} for clip in clips)

            def get_next(self) -> dict | None:
                return next(self.feeds, None)

        simple = path.with_name("simple.onnx")
        onnx.save(model, path)
        # Symbolic shapes fail here, and are not needed: ours are fixed.
        quant_pre_process(str(path), str(simple), skip_symbolic_shape=True)
        graph = onnx.load(simple)
        quantize_static(
            str(simple),
            str(path),
            Clips(),
            per_channel=True,
            # Weights of 7 bits: two products of 8 bits overflow the 16 bits in which a CPU without VNNI adds.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*_float_nodes(graph), *_stems(graph)],
        )
        simple.unlink()
        model = onnx.load(path)
    onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
    onnx.save(model, path)


def _write_openvino(
    program: ExportedProgram, path: Path, precision: Precision, clips: Sequence[Clip], metadata: Metadata
) -> None:
    import openvino as ov

    interchange = path.with_name("interchange.onnx")
    _write_onnx(program, interchange, "fp32", clips, metadata)
    model = ov.Core().read_model(interchange)
    if precision == "int8":
        import nncf
        import onnx
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        keep = nncf.IgnoredScope(names=_float_nodes(onnx.load(interchange)), validate=False)
        # The whole range that was seen, as for ONNX; the default, a mean over clips of it, cuts off what a
        # few strong features say.
        ranges = nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        )
        model = nncf.quantize(
            model,
            nncf.Dataset([[x.numpy() for x in clip] for clip in clips]),
            subset_size=len(clips),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=keep,
            advanced_parameters=ranges,
        )
    model.set_rt_info(metadata.to_json(), KEY)
    ov.save_model(model, path, compress_to_fp16=False)
    interchange.unlink()


def _write_executorch(
    program: ExportedProgram, path: Path, precision: Precision, clips: Sequence[Clip], metadata: Metadata
) -> None:
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
    from executorch.backends.xnnpack.partition.config.generic_node_configs import ViewCopyConfig
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    if precision == "int8":
        from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        quantizer = xnnpack.XNNPACKQuantizer()
        quantizer.set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True))
        quantizer.set_filter_function(lambda node: not _stays_float(node))
        observed = prepare_pt2e(program.module(), quantizer)
        with torch.no_grad():
            for clip in clips:
                observed(*clip)
        program = torch.export.export(convert_pt2e(observed), clips[0])
    # The partitioner leaves reshapes out by default; with them the whole model is two delegates, without
    # dozens.
    partitioner = XnnpackPartitioner(configs=[*ALL_PARTITIONER_CONFIGS, ViewCopyConfig])
    methods = {"metadata": metadata.to_json()}
    with _flatc():
        lowered = to_edge_transform_and_lower(program, partitioner=[partitioner], constant_methods=methods)
        path.write_bytes(lowered.to_executorch().buffer)


@contextlib.contextmanager
def _flatc() -> Iterator[None]:
    """Puts flatc on PATH, where ExecuTorch looks for it: its package installs it beside Python."""
    before = os.environ["PATH"]
    beside = sysconfig.get_path("scripts"), str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([*beside, before])
    try:
        if shutil.which("flatc") is None:
            raise ValueError(
                "executorch needs the program flatc, which its package installs beside Python; found none. "
                f"Reinstall the extra: {how_to_install('edge')}."
            )
        yield
    finally:
        os.environ["PATH"] = before


# What writes a runtime's file, and the modules that it needs.
WRITERS = {
    "executorch": (_write_executorch, "executorch.exir", "torchao"),
    "onnx": (_write_onnx, "onnx", "onnxscript", "onnxruntime"),
    "openvino": (_write_openvino, "onnx", "onnxscript", "openvino", "nncf"),
}

"""A model for the live page: ONNX that shows what happens inside, and tells how to prepare its inputs.

The file is an ONNX export of one frame like any other, and `runtimes.load` runs it, but it has more outputs:
the maps of the decoder's scales and, for LightAVSeg, the audio state and its gates at each step. Its weights
may be stored in 8 or 16 bits; the arithmetic is still float32, so a small file is no faster.
"""
from __future__ import annotations

import ast
import json
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._common.environment import versions
from .._common.files import disk_errors, whole
from .._common.names import unknown
from .._common.records import provenance
from .._common.state import evaluating
from ..data.audio import FrontEnd, LogMel, PANNsLogMel
from ..evaluation import frame_iou
from ..losses import TEMPERATURE
from ..models.base import AVSModel
from ..models.lightavseg import LightAVSeg
from . import export as others
from .edge_graph import edge_graph
from .export import EXTRA, MOST, Clip, compare, quiet
from .runtimes import KEY, Exported, Metadata, load, need, reason

Precision = Literal["fp32", "smallest"]
PAGE = "lightavseg.page"  # under which a file holds what only the page needs
# How many numbers a tensor of weights has at least to be stored in 8 bits, from the smallest file to the
# largest. Small tensors weigh little and lose most, so they get 16 bits. Integers err by at
# most 1/65,534 of a channel's largest weight; float16, of the same size, changed seven times more of a mask.
FORMS = {"int8": 24_576, "int16": math.inf, "fp32": math.inf}
# IoU with PyTorch's mask, in each frame that is not empty, from which on a form agrees. 0.98 is wanted in
# others, where more may be lost: a form with 0.992 here has had 0.967 there.
AGREES = 0.995
FEWEST = 256  # numbers in a tensor that is worth storing in fewer bits


class Agreement(NamedTuple):
    """How closely a written file agrees with PyTorch, over clips."""

    precision: str  # of the stored weights: a name of FORMS
    iou: float  # the lowest of all frames in which either marks something; 1 where there is none
    deviation: float  # as `export.Agreement`
    pixels: float


def inside(model: AVSModel, frames: Tensor, log_mel: Tensor) -> tuple[dict[str, Tensor], list[str]]:
    """What the page shows for one frame, by name, and the names of the sound's steps.

    logits (1, 1, classes, H, W). map_k: of decoder scale k, coarse to fine, (h, w), 0 to 1. state_k, gate_k:
    of the k-th step of the sound, (channels,); in LightAVSeg these are the stages of its encoder, fine to
    coarse, then those of its decoder, coarse to fine.
    """
    states, gates, hooks = {}, {}, []
    if isinstance(model, LightAVSeg):
        for name, stage in _steps(model):
            hooks.append(stage.register_forward_hook(_kept(states, name, lambda given: given[1])))
            if getattr(stage, "gate", None) is not None:
                hooks.append(stage.gate.register_forward_hook(_kept(gates, name, F.hardsigmoid)))
    try:
        out = model(frames, log_mel, return_scales=True)
    finally:
        for hook in hooks:
            hook.remove()
    found = {"logits": out.logits}
    for k, scale in enumerate(out.scales or []):
        found[f"map_{k}"] = _map(model, scale.similarity[0, 0])
    for k, (name, state) in enumerate(states.items()):
        found[f"state_{k}"] = state.flatten()
        if name in gates:
            found[f"gate_{k}"] = gates[name].flatten()
    return found, list(states)


def _steps(model: LightAVSeg) -> list[tuple[str, nn.Module]]:
    """A_1 ... A_N of the encoder, then Â_N ... Â_1 of the decoder."""
    encoder = [(f"A{i + 1}", stage) for i, stage in enumerate(model.rave)]
    decoder = [(f"Â{i + 1}", stage) for i, stage in enumerate(model.cmfd)]
    return encoder + decoder[::-1]


def _kept(found: dict[str, Tensor], name: str, part: Callable) -> Callable:
    """A hook that keeps a part of a module's output."""

    def keep(module: nn.Module, given: tuple, result: Tensor) -> None:
        found[name] = part(result)

    return keep


def _map(model: AVSModel, similarity: Tensor) -> Tensor:
    """(h, w), 0 to 1: the probability that L_msa supervises, otherwise the similarity, stretched to 0..1."""
    if model.auxiliary.startswith("alignment"):
        return torch.sigmoid(similarity / TEMPERATURE)
    low, high = similarity.flatten().amin(0), similarity.flatten().amax(0)
    return (similarity - low) / (high - low).clamp_min(1e-12)


class _Inside(nn.Module):
    def __init__(self, model: AVSModel):
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, log_mel: Tensor) -> tuple[Tensor, ...]:
        return tuple(inside(self.model, frames, log_mel)[0].values())


def front_end_numbers(front_end: FrontEnd) -> dict:
    """The parameters of a log-mel: frame k hears `samples` samples from k * step; windows of `window` samples
    (periodic Hann) every `hop`, `fft` points, |X|^power, the filters, and finally
    factor * log(max(x, floor) + offset). centred: the first window is centred on sample 0, ends reflected.

    filters: for each band its first bin and the weights from that bin. Raises ValueError for a front end that
    is not one of the package's.
    """
    if isinstance(front_end, LogMel):
        step = 96 * 160 if front_end.mode == "published" else front_end.sample_rate
        rule = {"hop": 160, "fft": 512, "centred": False, "power": 1, "floor": 0, "offset": 0.01, "factor": 1}
    elif isinstance(front_end, PANNsLogMel):
        step, factor = front_end.sample_rate, 10 / math.log(10)
        rule = {"hop": 320, "fft": 1024, "centred": True, "power": 2, "floor": 1e-10, "offset": 0}
        rule["factor"] = factor
    else:
        raise ValueError(
            f"the front end is {type(front_end).__name__}; expected LogMel or PANNsLogMel, which the page "
            "can compute."
        )
    filters = []
    for band in front_end.filters.T:
        used = band.nonzero()[:, 0].tolist() or [0]
        filters.append([used[0], band[used[0] : used[-1] + 1].tolist()])
    heard = {"rate": front_end.sample_rate, "samples": front_end.samples, "step": step}
    return {**heard, "shape": list(front_end.shape), "window": len(front_end.window), **rule,
            "filters": filters}


def checked(path: str | Path, precision: str) -> Path:
    """`export.checked` for the page."""
    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
    return others.checked(path, "onnx", "fp32")


class Traced:
    """A model's graph for the page, at the size of these clips of one second, to write in several forms.

    Raises ValueError for clips of several seconds, a front end that the page cannot compute, and a model that
    ONNX cannot take.
    """

    def __init__(self, model: AVSModel, clips: Sequence[Clip], source: str = "", command: str = ""):
        if not clips or clips[0][0].shape[:2] != (1, 1):
            raise ValueError("the page takes one frame at a time; expected clips of 1 second, at least one.")
        need("onnx", "onnx", "onnxscript", "onnxruntime")
        self.model, self.clips, self.source = model, clips, source
        self.made = {**provenance(command, 0), "versions": versions(EXTRA)}
        heard = front_end_numbers(model.front_end)
        try:
            with quiet():
                self.graph, page = _graph(model, *clips[0])
        except RuntimeError as error:
            raise ValueError(f"{model.config.method}: onnx cannot take it ({reason(error)}).") from error
        self.page = {**page, **heard}

    def write(self, path: str | Path, precision: Precision = "fp32") -> Agreement:
        """precision: "smallest" stores weights in 8 or 16 bits, as few as keep the IoU of each non-empty mask
        with PyTorch's at 0.995 or more.

        The file is complete and compared before it replaces an older one. Raises what `checked` raises, and
        ValueError for float32 logits that deviate by more than 0.1% on average.
        """
        path = checked(path, precision)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".exporting_") as folder:
            staged = Path(folder, path.stem + ".onnx")
            for form in FORMS if precision == "smallest" else ("fp32",):
                with disk_errors(path):
                    self._write(staged, form)
                file = load(staged)
                iou = lowest_iou(self.model, file, self.clips)
                if iou >= AGREES:
                    break
            compared = compare(self.model, file, self.clips)
            if form == "fp32" and not compared.deviation <= MOST["fp32"]:
                raise ValueError(
                    f"web: its logits deviate from PyTorch's by {compared.deviation:.1%} of their mean "
                    f"absolute value on {len(self.clips)} clips; expected at most {MOST[form]:.1%}. Nothing "
                    "was written."
                )
            with whole(path) as name:
                os.replace(staged, name)
        return Agreement(form, iou, *compared)

    def _write(self, path: Path, form: str) -> None:
        import onnx

        config, (frames, log_mel) = self.model.config, self.clips[0]
        size, windows = tuple(frames.shape[-2:]), tuple(log_mel.shape[-2:])
        metadata = Metadata(
            config.method, "onnx", form, size, 1, windows, config.audio, config.num_classes,
            self.source or config.method, self.made,
        )
        file = onnx.ModelProto.FromString(self.graph.SerializeToString())
        if form != "fp32":
            _store(file.graph, FORMS[form])
        onnx.helper.set_model_props(file, {KEY: metadata.to_json(), PAGE: json.dumps(self.page)})
        onnx.save(file, path)


def export(
    model: AVSModel,
    path: str | Path,
    clips: Sequence[Clip],
    precision: Precision = "fp32",
    source: str = "",
    command: str = "",
) -> Agreement:
    """Writes the model for the live page. clips: of one second, to compare the file with PyTorch.

    Raises what `Traced` and its `write` raise.
    """
    checked(path, precision)
    return Traced(model, clips, source, command).write(path, precision)


def lowest_iou(model: AVSModel, exported: Exported, clips: Sequence[Clip]) -> float:
    """The lowest IoU of a file's masks with PyTorch's, over all frames that are not empty in both; NaN if all
    are, which says nothing of a file."""
    lowest = math.nan
    with evaluating(model), torch.inference_mode():
        for frames, log_mel in clips:
            logits = model(frames, log_mel).logits[0], exported(frames, log_mel)[0]  # (T, classes, H, W)
            masks = [x[:, 0] > 0 if x.shape[1] == 1 else x.argmax(1) > 0 for x in logits]
            marked = (masks[0] | masks[1]).flatten(1).any(1)
            if marked.any():
                lowest = min(frame_iou(*masks)[marked].min().item(), lowest)  # of a number and NaN the number
    return lowest


def _graph(model: AVSModel, frames: Tensor, log_mel: Tensor):
    """The ONNX graph, and what the page needs to know about its outputs. Nodes are named after the part of
    the model that they belong to, so that a profile shows the cost of fusion."""
    with evaluating(model), torch.inference_mode():
        shown, steps = inside(model, frames, log_mel)
    program = edge_graph(model, frames, log_mel, _Inside)
    graph = torch.onnx.export(
        program, (frames, log_mel), dynamo=True, verbose=False, output_names=list(shown)
    ).model_proto
    for i, node in enumerate(graph.graph.node):
        scopes = next((x.value for x in node.metadata_props if x.key.endswith("name_scopes")), "[]")
        node.name = f"{_part(model, ast.literal_eval(scopes))}/{node.op_type}_{i}"
        # Places in files of this machine; nobody else needs them.
        del node.metadata_props[:]
        node.doc_string = ""
    del graph.graph.metadata_props[:], graph.metadata_props[:]
    parameters = sum(p.numel() for p in model.parameters())
    return graph, {"steps": steps, "parameters": parameters}


def _part(model: AVSModel, scopes: list[str]) -> str:
    """audio, visual, fusion or decoder, from the modules around a node; of `model.rave.0`, fusion."""
    for scope in scopes:
        _, _, name = scope.partition("model.")
        top = name.partition(".")[0]
        if top in ("audio", "visual"):
            return top
        if top in model.fusion:
            return "fusion"
    return "decoder"


def _store(graph, eight_from: float) -> None:
    """Stores weights as integers of 16 bits, large ones (from `eight_from` numbers) of 8, with nodes that
    convert them to float32, which a runtime does once, at loading. Each output channel has a scale: w = s q.
    """
    import onnx
    from onnx import numpy_helper

    node, single = onnx.helper.make_node, onnx.TensorProto.FLOAT
    stored, restored = [], []
    for tensor in graph.initializer:
        name, weight = tensor.name, numpy_helper.to_array(tensor)
        if tensor.data_type != single or weight.ndim < 2 or weight.size < FEWEST:
            stored.append(tensor)
            continue
        integer = np.int16 if weight.size < eight_from else np.int8
        scale = np.abs(weight).max(tuple(range(1, weight.ndim)), keepdims=True) / np.iinfo(integer).max
        scale = np.where(scale == 0, 1, scale).astype(np.float32)
        rounded = np.round(weight / scale).astype(integer)
        stored.append(numpy_helper.from_array(rounded, f"{name}_integer"))
        stored.append(numpy_helper.from_array(scale, f"{name}_scale"))
        cast = f"{name}_unscaled"
        restored.append(node("Cast", [f"{name}_integer"], [cast], f"weights/{cast}", to=single))
        restored.append(node("Mul", [cast, f"{name}_scale"], [name], f"weights/{name}"))
    nodes = [*restored, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(stored)
    graph.node.extend(nodes)

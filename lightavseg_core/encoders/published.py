"""Published checkpoints: read without executing anything in them, and loaded by the authors' own tensor names."""
from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

# Where training scripts put the weights inside what they save; the averaged ones are those that the papers evaluate.
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model")
_SHOWN = 3


class Part(NamedTuple):
    """One of `count` equal pieces, along the first dimension, of a published tensor: packed query, key and value projections, say."""

    name: str
    index: int
    count: int


class LoadReport(NamedTuple):
    """What became of a checkpoint's tensors, by their published names."""

    loaded: list[str]
    dead: list[str]        # in the checkpoint, never used by the published computation: left out
    absent: list[str]      # of ours, not in the checkpoint, and allowed to be missing: kept as initialised
    unexpected: list[str]  # in the checkpoint, unknown


def read_tensors(source: str | Path | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by name; a `module.` prefix of data-parallel training is removed.

    source: a `.safetensors` file, a PyTorch file (opened with `weights_only=True`: a pickle that holds code is refused, not run), or a
    mapping of names to tensors. Raises FileNotFoundError, or ValueError with what was found instead.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such checkpoint file. Give the path of the file that the authors publish.")
        try:
            if path.suffix == ".safetensors":
                source = load_file(path)
            else:
                # timm's scripts store their command line beside the weights: a Namespace is plain data.
                with torch.serialization.safe_globals([argparse.Namespace]):
                    source = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can fail anywhere in the unpickler, which runs nothing that it does not know
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(f"{path}: not a checkpoint of plain tensors ({reason[:160]}). Nothing in it was run; "
                             "convert it to safetensors where you trust it.") from None
    for nest in _NESTS:
        if isinstance(source, Mapping) and isinstance(source.get(nest), Mapping):
            source = source[nest]
            break
    if not isinstance(source, Mapping):
        raise ValueError(f"a checkpoint maps tensor names to tensors; found {type(source).__name__}.")
    tensors = {name.removeprefix("module."): value for name, value in source.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"the checkpoint holds no tensors; its entries are {sorted(map(str, source))[:_SHOWN]}.")
    return tensors


def load_renamed(module: nn.Module, tensors: Mapping[str, Tensor], renamed: Mapping[str, str | Part], dead: set[str] = frozenset(),
                 may_be_absent: set[str] = frozenset(), what: str = "checkpoint") -> LoadReport:
    """Copies tensors into `module`. renamed maps our names to the published ones, or to a part of one; may_be_absent holds names of ours.
    All or nothing: on an error nothing is changed.

    Raises ValueError naming the first tensors that are missing or have another shape, and their nearest relatives in the file.
    """
    state = module.state_dict()
    parts = {name: source if isinstance(source, Part) else Part(source, 0, 1) for name, source in renamed.items()}
    counters = {name for name in state if name.endswith("num_batches_tracked")}     # of batch norms: kept where the file has them
    missing = [parts[name].name for name in state if parts[name].name not in tensors and name not in may_be_absent | counters]
    if missing:
        nearest = difflib.get_close_matches(missing[0], list(tensors), n=1)
        hint = f"; the nearest name found is {nearest[0]}" if nearest else ""
        raise ValueError(f"{what}: {len(missing)} of {len(state) - len(counters)} tensors are missing, first {', '.join(missing[:_SHOWN])}{hint}. "
                         "Is it the file of another size or model?")
    present, wrong = {}, []
    for name in state:
        source, index, count = parts[name]
        if source not in tensors:
            continue
        whole = tuple(state[name].shape) if count == 1 else (count * len(state[name]), *state[name].shape[1:])
        if tuple(tensors[source].shape) != whole:
            wrong.append(f"{source} is {tuple(tensors[source].shape)}, expected {whole}")
        else:
            present[name] = tensors[source].chunk(count)[index] if count > 1 else tensors[source]
    if wrong:
        raise ValueError(f"{what}: {len(wrong)} tensors have another shape, first {'; '.join(wrong[:_SHOWN])}. "
                         "Is it the file of another size?")
    module.load_state_dict(present, strict=False)
    used = {parts[name].name for name in present.keys() - counters}
    rest = [name for name in tensors if name not in used and not name.endswith("num_batches_tracked")]
    return LoadReport(loaded=sorted(used), dead=[name for name in rest if name in dead],
                      absent=sorted({parts[name].name for name in state.keys() - counters if name not in present}),
                      unexpected=[name for name in rest if name not in dead])

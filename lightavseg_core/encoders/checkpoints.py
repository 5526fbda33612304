"""Published checkpoints: read without executing anything in them, and loaded by the authors' own tensor names."""
from __future__ import annotations

import argparse
import difflib
import mmap
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from struct import unpack
from typing import NamedTuple
from zipfile import ZIP_STORED, ZipFile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

# Where training scripts put the weights inside what they save; the averaged ones are those that the papers evaluate.
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model")
_SHOWN = 3
_LONGEST = 300   # characters of a tensor's name


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
    if not isinstance(source, (str, Path)):
        return _tensors_of(source)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint file. Give the path of the file that the authors publish.")
    try:
        tensors = _tensors_of(load_file(path) if path.suffix == ".safetensors" else _load_pickled(path))
        _check_plain(tensors)
        return tensors
    except Exception as error:  # a damaged file can fail anywhere in the unpickler, which runs nothing that it does not know
        # PyTorch's own words advise to run it all the same; what it found stands last.
        found = re.split(r"trusted source\.|WeightsUnpickler error:", str(error))[-1].strip() or str(error).split(". ")[0] or type(error).__name__
        reason = "".join(filter(str.isprintable, found.splitlines()[0].partition(". Please")[0])).rstrip(".")
        raise ValueError(f"{path}: not a checkpoint of plain tensors ({reason[:160]}). Nothing in it was run; "
                         "convert it to safetensors where you trust it.") from None


def _load_pickled(path: Path) -> object:
    """`torch.load` of a file from anywhere: without running what is in it, and without taking more memory than the file is large."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":                              # by which PyTorch, too, knows an archive
            _check_archive(path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(b"_codecs\nencode\n") >= 0:             # of what PyTorch lets a pickle call, this alone can make much of little
                raise ValueError("it holds encoded bytes")
    # timm's scripts store their command line beside the weights: a Namespace is plain data.
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: Path) -> None:
    """What PyTorch saves is a zip archive of entries as long as their content. Raises ValueError for another, which could unpack to any size."""
    size = path.stat().st_size
    with ZipFile(path) as archive, path.open("rb") as file:
        entries, start = archive.infolist(), archive.start_dir
        file.seek(max(0, size - 98))
        tail = file.read().rjust(98, b"\0")
    # Python looks for the list of entries before the archive's last record, PyTorch where that record says: it must be one place.
    long = tail[56:60] == b"PK\6\7"
    said, = unpack("<Q", tail[48:56]) if long else unpack("<L", tail[92:96])
    if tail[76:80] != b"PK\5\6" or tail[96:] != b"\0\0" or said != start or long and (tail[:4], *unpack("<Q", tail[64:72])) != (b"PK\6\6", size - 98):
        raise ValueError("its archive was not written by PyTorch")
    if any(entry.compress_type != ZIP_STORED or entry.file_size != entry.compress_size for entry in entries):
        raise ValueError("its archive is compressed, as PyTorch's never are")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its archive says that it holds more than its own size")
    if any(entry.filename.startswith("/") or ".." in Path(entry.filename).parts for entry in entries):
        raise ValueError("its archive names files outside of it")


def _tensors_of(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for nest in _NESTS:
        if isinstance(source, Mapping) and isinstance(source.get(nest), Mapping):
            source = source[nest]
            break
    if not isinstance(source, Mapping):
        raise ValueError(f"a checkpoint maps tensor names to tensors; found {type(source).__name__}.")
    tensors = {name.removeprefix("module."): value for name, value in source.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"the checkpoint holds no tensors; its entries are {[name[:40] for name in source if isinstance(name, str)][:_SHOWN]}.")
    return tensors


def _check_plain(tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError for what no checkpoint holds, and only a file made for it would: names with control codes, tensors without numbers."""
    for name, value in tensors.items():
        if not name.isprintable() or len(name) > _LONGEST:
            raise ValueError(f"a tensor has an impossible name, {name[:40]!r}")
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_nested or value.is_complex():
            raise ValueError(f"{name} is no plain tensor of real numbers")


def matched(module: nn.Module, tensors: Mapping[str, Tensor], renamed: Mapping[str, str | Part], may_be_absent: set[str] = frozenset(),
            what: str = "checkpoint") -> dict[str, Tensor]:
    """The tensors that `load_renamed` copies, by our names; raises what it raises. Changes nothing."""
    state = module.state_dict()
    parts = _parts(state, renamed)
    missing = [parts[name].name for name in state if parts[name].name not in tensors and name not in may_be_absent | _counters(state)]
    if missing:
        nearest = difflib.get_close_matches(missing[0], list(tensors), n=1)
        hint = f"; the nearest name found is {nearest[0]}" if nearest else ""
        raise ValueError(f"{what}: {len(missing)} of {len(state) - len(_counters(state))} tensors are missing, first "
                         f"{', '.join(missing[:_SHOWN])}{hint}. Is it the file of another size or model?")
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
    return present


def load_renamed(module: nn.Module, tensors: Mapping[str, Tensor], renamed: Mapping[str, str | Part], dead: set[str] = frozenset(),
                 may_be_absent: set[str] = frozenset(), what: str = "checkpoint") -> LoadReport:
    """Copies tensors into `module`. renamed maps our names to the published ones, or to a part of one; may_be_absent holds names of ours.
    All or nothing: on an error nothing is changed.

    Raises ValueError naming the first tensors that are missing or have another shape, and their nearest relatives in the file.
    """
    present, state = matched(module, tensors, renamed, may_be_absent, what), module.state_dict()
    parts, counters = _parts(state, renamed), _counters(state)
    module.load_state_dict(present, strict=False)
    used = {parts[name].name for name in present.keys() - counters}
    rest = [name for name in tensors if name not in used and not name.endswith("num_batches_tracked")]
    return LoadReport(loaded=sorted(used), dead=[name for name in rest if name in dead],
                      absent=sorted({parts[name].name for name in state.keys() - counters if name not in present}),
                      unexpected=[name for name in rest if name not in dead])


def _parts(state: Mapping[str, Tensor], renamed: Mapping[str, str | Part]) -> dict[str, Part]:
    return {name: source if isinstance(source := renamed[name], Part) else Part(source, 0, 1) for name in state}


def _counters(state: Mapping[str, Tensor]) -> set[str]:
    """Of batch norms: kept where the file has them."""
    return {name for name in state if name.endswith("num_batches_tracked")}


class Checkpoint(NamedTuple):
    """A published file."""

    file: str
    page: str                   # for people
    url: str | None = None      # of the file itself; None: only by hand
    sha256: str | None = None

PUBLISHED = {
    "vggish": Checkpoint("vggish-10086976.pth", "https://github.com/harritaylor/torchvggish/releases/tag/v0.1",
                         "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
                         "10086976245803799d9194e9a73d9b6c1549c71d1b80106f5cade5608a561f4b"),
    # Zenodo shows an MD5 beside the file. It is not known here, so the file is fetched, and compared, by hand.
    "panns_mobilenetv2": Checkpoint("MobileNetV2_mAP=0.383.pth", "https://zenodo.org/record/3987831"),
    "resnet50": Checkpoint("resnet50-0676ba61.pth", "https://docs.pytorch.org/vision/stable/models/resnet.html",
                           "https://download.pytorch.org/models/resnet50-0676ba61.pth",
                           "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"),
    # On cloud drives, which the authors' page links to.
    **{f"seaformer_{size[0].lower()}": Checkpoint(f"SeaFormer-{size}'s ImageNet checkpoint",
                                                  "https://github.com/fudan-zvg/SeaFormer/tree/main/seaformer-cls")
       for size in ("Tiny", "Small", "Base", "Large")},
}


def load_checkpoint(name: str, module: nn.Module, source: str | Path | Mapping[str, Tensor], renamed: Mapping[str, str | Part],
                    dead: set[str] = frozenset()) -> LoadReport:
    """`load_renamed` of an encoder's published file; what it raises, FileNotFoundError or ValueError, also says where that is published."""
    what = f"{source}, as {name}" if isinstance(source, (str, Path)) else f"checkpoint of {name}"
    try:
        return load_renamed(module, read_tensors(source), renamed, dead, what=what)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{error} Published: {PUBLISHED[name].file}, {PUBLISHED[name].page}") from None

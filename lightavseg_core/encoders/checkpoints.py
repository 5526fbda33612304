"""Published checkpoints: read without executing anything in them, and loaded by the authors' own tensor
names."""

import argparse
import difflib
import mmap
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zipfile import ZIP_STORED, ZipFile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

# Where training scripts put the weights inside what they save; the averaged ones are those that the papers
# evaluate.
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model")
_SHOWN = 3
_LONGEST = 300  # characters of a tensor's name
# How an archive ends: what its three last records (the first two are a large one's) say of the place of the
# list of entries.
_LAST = Struct("<4s44xQ 4s4xQ4x 4s12xL2s")


class Part(NamedTuple):
    """One of `count` equal pieces, along the first dimension, of a published tensor: packed query, key and
    value projections, say."""

    name: str
    index: int
    count: int


Tensors = Mapping[str, Tensor]
Source = str | Path | Tensors
Names = Mapping[str, str | Part]  # our names of tensors -> the published ones, or parts of these


class LoadReport(NamedTuple):
    """What became of a checkpoint's tensors, by their published names."""

    loaded: list[str]
    dead: list[str]        # in the checkpoint, never used by the published computation: left out
    absent: list[str]      # of ours, not in the checkpoint, and allowed to be missing: kept as initialised
    unexpected: list[str]  # in the checkpoint, unknown


def read_tensors(source: Source) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by name; a `module.` prefix of data-parallel training is removed.

    source: a `.safetensors` file, a PyTorch file (opened with `weights_only=True`: a pickle that holds code
    is refused, not run), or a mapping of names to tensors. Raises FileNotFoundError, or ValueError with what
    was found instead.
    """
    if not isinstance(source, (str, Path)):
        return _tensors_of(source)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such checkpoint file. Give the path of the file that the authors publish."
        )
    try:
        tensors = _tensors_of(load_file(path) if path.suffix == ".safetensors" else _load_pickled(path))
        _check_plain(tensors)
        return tensors
    except Exception as error:
        # A damaged file can fail anywhere in the unpickler, which runs nothing that it does not know.
        # PyTorch's own words advise to run it all the same; what it found stands last.
        found = re.split(r"trusted source\.|WeightsUnpickler error:", str(error))[-1].strip()
        found = found or str(error).split(". ")[0] or type(error).__name__
        first = found.splitlines()[0].partition(". Please")[0]
        reason = "".join(filter(str.isprintable, first)).rstrip(".")[:160]
        raise ValueError(
            f"{path}: not a checkpoint of plain tensors ({reason}). Nothing in it was run; convert it to "
            "safetensors where you trust it."
        ) from None


def _load_pickled(path: Path) -> object:
    """`torch.load` of a file from anywhere: without running what is in it, and without taking more memory
    than the file is large."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":  # by which PyTorch, too, knows an archive
            _check_archive(path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            # Of what PyTorch lets a pickle call, this alone can make much of little.
            if content.find(b"_codecs\nencode\n") >= 0:
                raise ValueError("it holds encoded bytes")
    # timm's scripts store their command line beside the weights: a Namespace is plain data.
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: Path) -> None:
    """Raises ValueError for a zip archive that could unpack to more than its size; what PyTorch saves is
    stored as it is."""
    size = path.stat().st_size
    with ZipFile(path) as archive, path.open("rb") as file:
        entries, start = archive.infolist(), archive.start_dir
        file.seek(max(0, size - _LAST.size))
        end = file.read().rjust(_LAST.size, b"\0")
    large, start_large, locator, place_large, last, start_small, comment = _LAST.unpack(end)
    # Python looks for the list of entries before the archive's last records, PyTorch where these say: it must
    # be one place.
    if locator == b"PK\6\7":
        one_place = large == b"PK\6\6" and place_large == size - _LAST.size and start_large == start
    else:
        one_place = start_small == start
    if not one_place or last != b"PK\5\6" or comment != b"\0\0":
        raise ValueError("its archive was not written by PyTorch")
    stored = all(entry.compress_type == ZIP_STORED for entry in entries)
    if not stored or sum(entry.file_size for entry in entries) > size:
        raise ValueError("its archive is compressed, as PyTorch's never are")


def _tensors_of(source: Tensors) -> dict[str, Tensor]:
    if not isinstance(source, Mapping):
        raise ValueError(f"a checkpoint maps tensor names to tensors; found {type(source).__name__}.")
    for nest in _NESTS:
        if isinstance(source.get(nest), Mapping):
            source = source[nest]
            break
    named = {name: value for name, value in source.items() if isinstance(name, str)}
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        first = [name[:40] for name in named][:_SHOWN]
        raise ValueError(f"the checkpoint holds no tensors; its entries are {first}.")
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def _check_plain(tensors: Tensors) -> None:
    """Raises ValueError for what no checkpoint holds, and only a file made for it would: names with control
    codes, tensors without numbers."""
    for name, value in tensors.items():
        if not name.isprintable() or len(name) > _LONGEST:
            raise ValueError(f"a tensor has an impossible name, {name[:40]!r}")
        odd = value.is_meta or value.is_quantized or value.is_nested or value.is_complex()
        if odd or value.layout != torch.strided:
            raise ValueError(f"{name} is no plain tensor of real numbers")


def matched(
    module: nn.Module, tensors: Tensors, names: Names, what: str, may_be_absent: Collection[str] = ()
) -> dict[str, Tensor]:
    """The tensors that `load_renamed` copies, by our names; raises what it raises. Changes nothing."""
    present, missing, wrong = {}, [], []
    state = module.state_dict()
    for name, ours in state.items():
        source, index, count = _part(names[name])
        if source not in tensors:
            if name not in may_be_absent and not _is_counter(name):
                missing.append(source)
            continue
        whole = (count * len(ours), *ours.shape[1:]) if count > 1 else tuple(ours.shape)
        theirs = tensors[source]
        if tuple(theirs.shape) == (*whole, 1, 1, 1):
            theirs = theirs.reshape(whole)  # a convolution of single points is a linear layer
        if tuple(theirs.shape) != whole:
            wrong.append(f"{source} is {tuple(theirs.shape)}, expected {whole}")
        else:
            present[name] = theirs.chunk(count)[index] if count > 1 else theirs
    if missing:
        nearest = difflib.get_close_matches(missing[0], list(tensors), n=1)
        hint = f"; the nearest name found is {nearest[0]}" if nearest else ""
        expected = sum(not _is_counter(name) for name in state)
        raise ValueError(
            f"{what}: {len(missing)} of {expected} tensors are missing, first "
            f"{', '.join(missing[:_SHOWN])}{hint}. Is it the file of another size or model?"
        )
    if wrong:
        raise ValueError(
            f"{what}: {len(wrong)} tensors have another shape, first {'; '.join(wrong[:_SHOWN])}. Is it the "
            "file of another size?"
        )
    return present


def load_renamed(
    module: nn.Module,
    tensors: Tensors,
    names: Names,
    what: str,
    may_be_absent: Collection[str] = (),
    dead: Collection[str] = (),
) -> LoadReport:
    """Copies tensors into `module`, all or nothing: on an error nothing is changed.

    what: how an error calls the checkpoint. may_be_absent: names of ours. dead: published names of what the
    module has no place for, and needs none. Raises ValueError naming the first tensors that are missing or
    have another shape, and their nearest relatives in the file.
    """
    present = matched(module, tensors, names, what, may_be_absent)
    module.load_state_dict(present, strict=False)
    loaded, absent = set(), set()
    for name in module.state_dict():
        if not _is_counter(name):
            (loaded if name in present else absent).add(_part(names[name]).name)
    rest = [name for name in tensors if name not in loaded and not _is_counter(name)]
    return LoadReport(
        loaded=sorted(loaded),
        dead=[name for name in rest if name in dead],
        absent=sorted(absent),
        unexpected=[name for name in rest if name not in dead],
    )


def _part(published: str | Part) -> Part:
    return published if isinstance(published, Part) else Part(published, 0, 1)


def _is_counter(name: str) -> bool:
    """Of a batch norm: kept where the file has it."""
    return name.endswith("num_batches_tracked")


class Checkpoint(NamedTuple):
    """A published file."""

    file: str
    page: str                   # for people
    url: str | None = None      # of the file itself; None: only by hand
    sha256: str | None = None


PUBLISHED = {
    "vggish": Checkpoint(
        "vggish-10086976.pth",
        "https://github.com/harritaylor/torchvggish/releases/tag/v0.1",
        "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        "10086976245803799d9194e9a73d9b6c1549c71d1b80106f5cade5608a561f4b",
    ),
    # Zenodo shows an MD5 beside the file. It is not known here, so the file is fetched, and compared, by
    # hand.
    "panns_mobilenetv2": Checkpoint("MobileNetV2_mAP=0.383.pth", "https://zenodo.org/record/3987831"),
    "resnet50": Checkpoint(
        "resnet50-0676ba61.pth",
        "https://docs.pytorch.org/vision/stable/models/resnet.html",
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    ),
}
for _size in ("Tiny", "Small", "Base", "Large"):
    # On cloud drives, which the authors' page links to.
    PUBLISHED[f"seaformer_{_size[0].lower()}"] = Checkpoint(
        f"SeaFormer-{_size}'s ImageNet checkpoint",
        "https://github.com/fudan-zvg/SeaFormer/tree/main/seaformer-cls",
    )


class Published(nn.Module):
    """An encoder whose weights are published. They are random until these are loaded, or it is trained."""

    checkpoint: str             # a name of PUBLISHED
    dead: Collection[str] = ()  # tensors in that file that are not on the way to the features

    def published_name(self, name: str) -> str:
        """Our name of a tensor -> the authors'."""
        return name

    def load_published(self, source: Source) -> LoadReport:
        """Loads the published file; classifiers and the like are reported as dead.

        source: path or state dict. Raises FileNotFoundError or ValueError (missing tensors, other shapes:
        usually another size or network), saying where the file is published.
        """
        name = self.checkpoint
        what = f"{source}, as {name}" if isinstance(source, (str, Path)) else f"checkpoint of {name}"
        names = {ours: self.published_name(ours) for ours in self.state_dict()}
        try:
            return load_renamed(self, read_tensors(source), names, what, dead=self.dead)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"{error} Published: {PUBLISHED[name].file}, {PUBLISHED[name].page}") from None

"""Files of weights from anywhere: read without executing anything in them, with errors that tell what they
are."""

import argparse
import errno
import json
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from safetensors.torch import load, load_file
from torch import Tensor

from .._common.substitutes import substitute

# Where training scripts put the weights inside what they save; the averaged ones are those that the papers
# evaluate.
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model")
_SHOWN = 3
_LONGEST = 300  # characters of a tensor's name
# How an archive ends: what its three last records (the first two are a large one's) say of the place of the
# list of entries.
_LAST = struct.Struct("<4s44xQ 4s4xQ4x 4s12xL2s")
# What readers raise, or say, of a file that ends too early.
_ENDS = (BadZipFile, EOFError, IndexError, struct.error)
_CUT = re.compile("unexpected EOF|header too small|invalid header length|incomplete metadata")
_ENCODED = b"_codecs\nencode\n"

Tensors = Mapping[str, Tensor]
Source = str | Path | Tensors


def read_tensors(source: Source) -> dict[str, Tensor]:
    """The tensors of a checkpoint, by name; a `module.` prefix from data-parallel training is removed.

    source: a `.safetensors` file, a PyTorch file (opened with `weights_only=True`: a pickle with code is
    refused, not run), or a mapping of names to tensors. Raises FileNotFoundError, ValueError with what was
    found instead, or OSError if the disk cannot be read.
    """
    if not isinstance(source, (str, Path)):
        return _tensors_of(source)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such checkpoint file. Give the path of the file that the authors publish."
        )
    safe = path.suffix.lower() == ".safetensors"
    try:
        tensors = _tensors_of(_load_safe(path) if safe else _load_pickled(path))
        _check_plain(tensors)
        return tensors
    except OSError as error:  # the disk's fault says nothing of the file
        number, said = error.errno or errno.EIO, error.strerror or error
        raise OSError(number, f"cannot be read ({said})", str(path)) from None
    except Exception as error:  # a damaged file can fail anywhere in a reader
        reason, advice = _said(path, error, safe)
        raise ValueError(f"{path}: not a checkpoint of plain tensors ({reason}). {advice}.") from None


def _said(path: Path, error: Exception, safe: bool) -> tuple[str, str]:
    """Why a file cannot be read, and what to do."""
    if instead := substitute(path):
        return instead
    with path.open("rb") as file:
        begins = file.read(40)
    if begins.isascii() and begins.decode().replace("\n", " ").strip().isprintable():
        wanted = "give the file of the weights, .pth, .pt or .safetensors, or download it again"
        return f"a text that begins with {begins.decode().strip()!r}", f"Nothing in it was run; {wanted}"
    # PyTorch's own words advise to run it all the same; what it found stands last.
    found = re.split(r"trusted source\.|WeightsUnpickler error:", str(error))[-1].strip()
    found = found or str(error).split(". ")[0] or type(error).__name__
    first = found.splitlines()[0].partition(". Please")[0]
    reason = "".join(filter(str.isprintable, first)).rstrip(".")[:160]
    if isinstance(error, _ENDS) or _CUT.search(reason):
        return f"an incomplete download, or damaged: {reason}", "Download it again"
    if safe:
        return reason, "Download it again, or save it again"
    return reason, "Nothing in it was run; if you trust it, convert it to safetensors"


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a complete `.safetensors` file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)).get("__metadata__", {})


def _load_safe(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except OSError:  # it maps the file into memory, which network drives and shared folders may refuse
        return load(path.read_bytes())


def _load_pickled(path: Path) -> object:
    """`torch.load` for a file from anywhere: runs nothing in it, and takes no more memory than the file's
    size."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":  # by which PyTorch, too, knows an archive
            _check_archive(path)
        end = b""
        while piece := file.read(1 << 20):
            # Of what PyTorch lets a pickle call, this alone can make much of little.
            if _ENCODED in end + piece:
                raise ValueError("it holds encoded bytes")
            end = piece[-len(_ENCODED) :]
    # timm's scripts store their command line beside the weights: a Namespace is plain data.
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: Path) -> None:
    """Raises ValueError for a zip archive that could unpack to more than its size; PyTorch saves without
    compression."""
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
        raise ValueError("its archive is compressed, which PyTorch's never are")


def _tensors_of(source: Tensors) -> dict[str, Tensor]:
    if not isinstance(source, Mapping):
        raise ValueError(f"found {type(source).__name__}; expected a mapping of tensor names to tensors.")
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
    """Raises ValueError for what only a malicious checkpoint holds: names with control codes, tensors that
    are not plain numbers."""
    for name, value in tensors.items():
        if not name.isprintable() or len(name) > _LONGEST:
            raise ValueError(f"a tensor has an impossible name, {name[:40]!r}")
        odd = value.is_meta or value.is_quantized or value.is_nested or value.is_complex()
        if odd or value.layout != torch.strided:
            raise ValueError(f"{name} is not a plain tensor of real numbers")

"""Where the encoders' weights are published, fetching them when asked to, and loading them. Nothing here is hosted by this project."""
from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .published import LoadReport, Part, load_renamed, read_tensors

TIMEOUT = 30     # seconds without an answer, after which a server counts as out of reach


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(name: str, out: str | Path = ".") -> Path:
    """Fetches the published weights of the encoder `name` and returns their file. No encoder does this by itself.

    out: the file to write, or a folder, where it gets its published name. A file that is already there and right is not fetched again. The
    SHA-256 is checked before the file gets its name: of a broken download nothing stays.

    Raises ValueError (unknown name, to be fetched by hand, another checksum), FileNotFoundError (no such folder), FileExistsError (another file
    is in the way) or ConnectionError (out of reach: says what to fetch by hand).
    """
    if name not in PUBLISHED:
        from . import unknown
        raise unknown("checkpoint", name, PUBLISHED)
    file, page, url, sha256 = PUBLISHED[name]
    if url is None:
        raise ValueError(f"{name}: no address with a checksum is known to fetch {file} from. Get it by hand at {page} and load it by its path.")
    path = Path(out)
    path = path / file if path.is_dir() else path
    if path.exists():
        if _sha256(path) == sha256:
            return path
        raise FileExistsError(f"{path}: exists, and is not {file} (SHA-256 {sha256}). Remove it, or write elsewhere.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder. Make it first.")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256)
    except RuntimeError:
        raise ValueError(f"{url}: what came is not {file} (SHA-256 {sha256}), and was thrown away. Try again, or get it by hand at {page}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(f"{url} cannot be fetched ({reason}). Fetch it by hand where there is a network, check its SHA-256, {sha256}, "
                              "and load it by its path.") from None
    finally:
        socket.setdefaulttimeout(before)
    return path

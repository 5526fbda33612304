"""Where the encoders' weights are published, fetching them when asked to, and loading them. Nothing here is
hosted by this project."""

import socket
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import torch

from .._common.files import FULL
from .._common.files import sha256 as sha256_of
from .._common.names import unknown
from .checkpoints import PUBLISHED

TIMEOUT = 30  # seconds without an answer, after which a server counts as out of reach


def download(name: str, out: str | Path = ".") -> Path:
    """Fetches the published weights of the encoder `name` and returns their file. No encoder does this by
    itself.

    out: the file to write, whose folder is made, or a folder that is there, in which it gets its published
    name. A file that is already there and right is not fetched again. The SHA-256 is checked before the file
    gets its name: of a broken download nothing stays.

    Raises ValueError (unknown name, to be fetched by hand, another checksum), FileExistsError (another file
    is in the way) or ConnectionError (out of reach: says what to fetch by hand).
    """
    if name not in PUBLISHED:
        raise unknown("checkpoint", name, PUBLISHED)
    file, page, url, sha256 = PUBLISHED[name]
    if url is None:
        raise ValueError(
            f"{name}: no address with a checksum is known to fetch {file} from. Get it by hand at {page} and "
            "load it by its path."
        )
    path = Path(out)
    path = path / file if path.is_dir() else path
    if path.exists():
        if sha256_of(path) == sha256:
            return path
        raise FileExistsError(
            f"{path}: exists, and is not {file} (SHA-256 {sha256}). Remove it, or write elsewhere."
        )
    new = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256)
    except RuntimeError:
        raise ValueError(
            f"{url}: what came is not {file} (SHA-256 {sha256}), and was thrown away. Try again, or get it "
            f"by hand at {page}"
        ) from None
    except (OSError, HTTPException) as error:
        if getattr(error, "errno", None) in FULL:  # the disk, not the network
            raise OSError(error.errno, error.strerror, str(path)) from None
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(
            f"{url} cannot be fetched ({reason}). Fetch it by hand where there is a network, check its "
            f"SHA-256, {sha256}, and load it by its path."
        ) from None
    finally:
        socket.setdefaulttimeout(before)
        if not path.exists():
            with suppress(OSError):  # somebody may have put something there
                for folder in new:
                    folder.rmdir()
    return path

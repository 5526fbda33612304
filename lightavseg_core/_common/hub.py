"""The Hugging Face Hub, which is asked for what is written `hf:owner/name`, and for nothing else."""
from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url


def hub_id(model: str | Path) -> str | None:
    """`owner/name` of `hf:owner/name`; None for a path. Raises ValueError for another id behind `hf:`."""
    prefix, colon, repository = Path(model).as_posix().partition(":")
    if (prefix, colon) != ("hf", ":"):
        return None
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"{model}: not a model of the Hugging Face Hub; expected hf:owner/name.")
    return repository


def fetched(repository: str, name: str) -> Path:
    """A file of a repository on the Hub, or the copy that was kept of it where the Hub gives none.

    Raises FileNotFoundError.
    """
    try:
        get_hf_file_metadata(hf_hub_url(repository, name))  # asks once; what follows asks for half a minute
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # the classes of network errors change with the library's releases
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    with suppress(Exception):
        return Path(hf_hub_download(repository, name, local_files_only=True))
    raise FileNotFoundError(f"hf:{repository}: the Hugging Face Hub gave no {name} ({reason[:120]}).")

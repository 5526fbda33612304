"""The Hugging Face Hub, asked only for names of the form `hf:owner/name`."""
from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url


def hub_id(model: str | Path) -> str | None:
    """`owner/name` of `hf:owner/name`; None for a path. Raises ValueError for any other id after `hf:`."""
    prefix, colon, repository = Path(model).as_posix().partition(":")
    if (prefix, colon) != ("hf", ":"):
        return None
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"{model}: not a model of the Hugging Face Hub; expected hf:owner/name.")
    return repository


def fetched(repository: str, name: str) -> Path:
    """A file of a repository on the Hub, or its cached copy if the Hub does not answer.

    Raises FileNotFoundError if there is neither.
    """
    try:
        get_hf_file_metadata(hf_hub_url(repository, name))  # asks once; what follows asks for half a minute
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # the classes of network errors change with the library's releases
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    with suppress(Exception):
        return Path(hf_hub_download(repository, name, local_files_only=True))
    raise FileNotFoundError(f"hf:{repository}: cannot get {name} from the Hugging Face Hub ({reason[:120]}).")

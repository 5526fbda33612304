"""The folder of one input: its masks, its manifest, and what is taken away again where the input turns out to be broken."""
from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from .._common.environment import versions
from .._common.files import whole
from ..data.images import open_image
from ..data.masks import voc_palette

try:
    import fcntl
except ImportError:                                                 # Windows
    fcntl = None

MOST = 1_000_000      # frames, whose six digits keep them in order
RUNTIMES = {"onnx": ("onnxruntime",), "openvino": ("openvino",), "executorch": ("executorch",)}      # whose versions count too
OURS = re.compile(r"\.?(\d{6}\.(png|npz)|overlay\.mp4|manifest\.json)")      # what is written here; with a dot while it is not whole


def begin(folder: Path, asked: dict) -> dict:
    """The manifest of a folder: the one that is there, or a new one. Raises ValueError where the folder holds something else.

    What a run adds to must be of the same arguments, device and versions; what is complete only of the same arguments, since nothing is added.
    """
    file = folder / "manifest.json"
    made = versions(("torch", "torchaudio", "av", "numpy", "pillow", *RUNTIMES.get(asked.get("runtime"), ())))
    if not file.is_file():
        # Whoever was killed while `whole` wrote the very first manifest has left that: it is written anew.
        if any(found.name != ".manifest.json" for found in folder.iterdir()):
            raise ValueError(f"{folder}: holds files that are not of `lightavseg predict`. Give another --out.")
        return {"complete": False, "asked": asked, "versions": made}
    try:
        manifest = json.loads(file.read_text())
        manifest["complete"] = bool(manifest["complete"])
        before, now = {**manifest["asked"], **manifest["versions"]}, {**asked, **made}
        free = {"device", *made} if manifest["complete"] else set()
        changed = [name for name in now if name not in free and before.get(name) != now[name]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{file}: not a manifest of `lightavseg predict`. Give another --out, or remove the folder.") from None
    if changed:
        values = "; ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in changed if "sha256" not in name)
        raise ValueError(f"{folder}: was made from other arguments ({values or 'other content of ' + ', '.join(changed)}). "
                         "Give another --out, or remove it.")
    return manifest


def discard(folder: Path) -> None:
    """Removes what was written into a folder, and the folder where nothing else is in it."""
    for inside in (folder / "masks", folder / "probabilities", folder):
        for file in inside.iterdir() if inside.is_dir() else ():
            if file.is_file() and OURS.fullmatch(file.name):
                file.unlink()
        with suppress(OSError):                                     # there is none, or something else is in it
            inside.rmdir()


def done(folder: Path, clip: int, classes: int) -> int:
    """How many frames have masks that can be read: whole clips, so that a clip is seen again as it was."""
    return next(k for k in range(MOST + 1) if not _readable(mask_file(folder, k), classes)) // clip * clip


def _readable(mask: Path, classes: int) -> bool:
    try:
        read_mask(mask, classes)
    except (FileNotFoundError, ValueError):
        return False
    return True


def mask_file(folder: Path, k: int) -> Path:
    return folder / "masks" / f"{k:06}.png"


def write_json(path: Path, content: dict) -> None:
    with whole(path) as staging:
        staging.write_text(json.dumps(content, indent=1) + "\n")


def write_mask(path: Path, mask: np.ndarray, classes: int) -> None:
    image = Image.fromarray(mask * 255 if classes == 1 else mask)
    if classes > 1:
        image.putpalette(voc_palette(classes).tobytes())
    with whole(path) as staging:
        image.save(staging)


def read_mask(path: Path, classes: int) -> np.ndarray:
    """What `write_mask` was given."""
    mask = np.array(open_image(path))
    return mask // 255 if classes == 1 else mask

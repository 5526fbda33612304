"""The folder of one input: its masks and manifest, and the cleanup if the input is broken."""
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
from ..data.palette import voc_palette

MOST = 1_000_000  # frames, whose six digits keep them in order
# Whose versions count too.
RUNTIMES = {"onnx": ("onnxruntime",), "openvino": ("openvino",), "executorch": ("executorch",)}
# What is written here; with a dot while it is not whole.
OURS = re.compile(r"\.?(\d{6}\.(png|npz)|overlay\.mp4|manifest\.json)")


def begin(folder: Path, asked: dict) -> dict:
    """The manifest of a folder: the existing one, or a new one.

    A run may continue a folder only with the same arguments, device and versions; a complete folder needs
    only the same arguments, since nothing is added. Raises ValueError if the folder holds something else.
    """
    file = folder / "manifest.json"
    runtime = RUNTIMES.get(asked.get("runtime"), ())
    made = versions(("torch", "torchaudio", "av", "numpy", "pillow", *runtime))
    if not file.is_file():
        # Whoever was killed while `whole` wrote the very first manifest has left that: it is written anew.
        if any(found.name != ".manifest.json" for found in folder.iterdir()):
            raise ValueError(
                f"{folder}: holds files that `lightavseg predict` did not write. Give another --out."
            )
        return {"complete": False, "asked": asked, "versions": made}
    try:
        manifest = json.loads(file.read_text())
        manifest["complete"] = bool(manifest["complete"])
        before, now = manifest["asked"] | manifest["versions"], asked | made
        free = {"device", *made} if manifest["complete"] else set()
        changed = [name for name in now if name not in free and before.get(name) != now[name]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{file}: not a manifest of `lightavseg predict`. Give another --out, or remove the folder."
        ) from None
    if changed:
        told = [name for name in changed if "sha256" not in name]
        values = "; ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in told)
        values = values or f"other content of {', '.join(changed)}"
        raise ValueError(
            f"{folder}: was made with other arguments ({values}). Give another --out, or remove it."
        )
    return manifest


def discard(folder: Path) -> None:
    """Removes what was written into a folder, and the folder itself if nothing else is in it."""
    for inside in (folder / "masks", folder / "probabilities", folder):
        for file in inside.iterdir() if inside.is_dir() else ():
            if file.is_file() and OURS.fullmatch(file.name):
                file.unlink()
        with suppress(OSError):  # there is none, or something else is in it
            inside.rmdir()


def mask_file(folder: Path, k: int) -> Path:
    """The file of frame k's mask. Raises ValueError for more than MOST frames."""
    if k >= MOST:
        advice = "Use a smaller --fps, or cut the input."
        raise ValueError(f"{folder}: would have more than {MOST:,} frames. {advice}")
    return folder / "masks" / f"{k:06}.png"


def write_mask(path: Path, mask: np.ndarray, classes: int) -> None:
    image = Image.fromarray(mask * 255 if classes == 1 else mask)
    if classes > 1:
        image.putpalette(voc_palette(classes).tobytes())
    with whole(path) as staging:
        image.save(staging)


def read_mask(path: Path, classes: int) -> np.ndarray:
    """Reads what `write_mask` wrote. Raises FileNotFoundError, or ValueError if the file is damaged."""
    mask = np.array(open_image(path))
    return mask // 255 if classes == 1 else mask

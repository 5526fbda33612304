"""What this machine has: versions, device and threads, with a clear line for anything missing."""
from __future__ import annotations

import os
import platform
import re
import warnings
from importlib import import_module, metadata

from .names import printable
from .shipped import DISTRIBUTION, how_to_install

CORE = (
    "torch", "torchvision", "torchaudio", "timm", "accelerate", "safetensors", "torchmetrics", "av", "numpy",
    "pillow", "tyro", "tqdm", "huggingface-hub", "matplotlib",
)
OPTIONAL = {
    "notebooks": ("jupyterlab", "ipywidgets", "papermill", "jupytext", "captum"),
    "dev": ("pytest", "nbval", "hypothesis", "ruff"),
    "edge": ("executorch", "torchao", "onnx", "onnxruntime", "onnxscript", "openvino", "nncf"),
}
MODULES = {  # where the module is called otherwise, or another one loads the library
    "pillow": "PIL",
    "huggingface-hub": "huggingface_hub",
    "executorch": "executorch.extension.pybindings.portable_lib",
}
TOGETHER = ("torch", "torchvision", "torchaudio")  # built for one another: of one release each


def versions(names: tuple[str, ...] = CORE) -> dict[str, str | None]:
    """Installed versions; None for a package that is missing."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def card() -> dict[str, str | int]:
    """What must stand beside a measured number: device, threads, versions. Needs torch."""
    import torch

    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def trouble(name: str) -> str | None:
    """Why an installed package cannot be imported, in one line; None if it can."""
    try:
        with warnings.catch_warnings(action="ignore"):
            import_module(MODULES.get(name, name))
    except Exception as error:  # a library that does not load raises OSError, and others what they like
        return printable(f"{type(error).__name__}: {error}")[:300]
    return None


def requirements() -> dict[str, str]:
    """The package's requirements, extras included, by name: {"torch": "torch==2.11.0", ...}."""
    try:
        asked = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    asked = [re.sub(r"[\s()]", "", line.partition(";")[0]) for line in asked]
    return {re.match(r"[\w.-]+", one).group().replace("_", "-"): one for one in asked}


def as_pinned(name: str) -> bool:
    """Whether a package has the pinned version, or no version is pinned."""
    pinned = requirements().get(name, "").partition("==")[2]
    return not pinned or (versions((name,))[name] or "").partition("+")[0] == pinned


def remedy(name: str) -> str:
    """The command that repairs a package that is installed but cannot be imported."""
    together = TOGETHER if name in TOGETHER else (name,)
    asked = " ".join(f"'{requirements().get(other, other)}'" for other in together)
    if all(as_pinned(other) for other in together):
        return f"pip install --force-reinstall --no-deps {asked}"
    return f"pip install {asked}"


def report() -> tuple[list[str], bool]:
    """Lines for the reader, and whether everything for training and prediction is installed and imports."""
    found = versions()
    missing = [name for name, version in found.items() if not version]
    broken = {name: why for name in CORE if name not in missing and (why := trouble(name))}
    about = card() if found["torch"] and "torch" not in broken else {}
    there = {name: version for name, version in found.items() if version and name not in about}
    lines = [f"{name:16} {value}" for name, value in (about | there).items()]
    lines += [f"{name:16} MISSING: run `{how_to_install()}`" for name in missing]
    lines += [f"{name:16} BROKEN, {why}: run `{remedy(name)}`" for name, why in broken.items()]
    for extra, names in OPTIONAL.items():
        lines.append(f"{extra:16} {_extra(extra, names)}")
    for name in CORE:
        if found[name] and name not in broken and not as_pinned(name):
            tested = requirements()[name]
            lines.append(f"{'note':16} {name} is {found[name]}; this was tested with {tested}")
    ready = not missing and not broken
    return [*lines, "ready" if ready else "not ready"], ready


def _extra(extra: str, names: tuple[str, ...]) -> str:
    lacking = [name for name, version in versions(names).items() if not version]
    if lacking:
        return f"MISSING {', '.join(lacking)}: {how_to_install(extra)}"
    for name in names:
        if why := trouble(name):
            return f"BROKEN {name}, {why}: {remedy(name)}"
    return "complete"

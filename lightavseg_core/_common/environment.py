"""What this machine has: versions, device, threads, and a clear line for whatever is missing."""
from __future__ import annotations

import os
import platform
from importlib import metadata

CORE = (
    "torch", "torchvision", "torchaudio", "timm", "accelerate", "safetensors", "torchmetrics", "av", "numpy",
    "pillow", "tyro", "tqdm", "huggingface_hub", "matplotlib",
)
OPTIONAL = {
    "notebooks": ("jupyterlab", "ipywidgets", "papermill", "jupytext", "captum"),
    "dev": ("pytest", "nbval", "hypothesis", "ruff"),
    "edge": ("executorch", "torchao", "onnx", "onnxruntime", "onnxscript", "openvino", "nncf"),
}


def versions(names: tuple[str, ...] = CORE) -> dict[str, str | None]:
    """Installed versions; None for what is missing."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def card() -> dict[str, str | int]:
    """What a measured number must be read with: device, threads, versions. Needs torch."""
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


def report() -> tuple[list[str], bool]:
    """Lines for a reader, and whether all that training and prediction need is there."""
    # Versions come from the packages' records: a package that is missing or broken is named, not imported.
    found = versions()
    lines = [f"{name:12} {value}" for name, value in card().items()] if found["torch"] else []
    lines += [f"{name:12} {version}" for name, version in found.items() if version and name != "torch"]
    missing = [name for name, version in found.items() if not version]
    lines += [f"{name:12} MISSING: run `make test` or `pip install -r requirements.lock`" for name in missing]
    for extra, names in OPTIONAL.items():
        lacking = ", ".join(name for name, version in versions(names).items() if not version)
        said = f"MISSING {lacking}: pip install -e '.[{extra}]'" if lacking else "complete"
        lines.append(f"{extra:12} {said}")
    if not missing and not found["torch"].startswith("2.11."):
        lines.append(f"note         torch is {found['torch']}; this was tested with 2.11")
    return [*lines, "not ready" if missing else "ready"], not missing

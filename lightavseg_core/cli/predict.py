"""Using a trained model: `lightavseg predict` and `export`."""
from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..config import Subset
from .options import Import, is_first


@dataclass
class Predict:
    """Mark what sounds in videos: masks as PNG files, a video with masks and sound, manifest.json.

    If it is stopped, the same command resumes. Broken inputs are reported and leave no output; damaged parts
    of a video are skipped. Several processes (torchrun, accelerate launch) share the inputs.

    Example: lightavseg predict runs/first concert.mp4 --out masks --fps 2
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A model folder, a run of `train`, a file of `export`, or hf:owner/name on the Hugging Face Hub."""
    inputs: Annotated[list[Path], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT [INPUT ...]")]
    """Videos, folders of videos, lists of them (NAME.txt, a path on each line); or, with --audio, a folder of
    frames or one picture."""
    out: Path
    """Folder to write into; each input gets a folder of its own."""
    fps: float = 1.0
    """Frames per second that the model sees; for a folder of frames, the frame rate."""
    audio: Path | None = None
    """A sound file to use for a single input, instead of its own sound."""
    until: Literal["sound", "pictures"] = "sound"
    """sound: hold a video's last picture until its sound ends, as players do; pictures: stop there."""
    probabilities: bool = False
    """Write the probabilities too: float16 (classes, height, width), an .npz file for each frame."""
    runtime: Literal["pytorch", "onnx", "openvino", "executorch"] | None = None
    """By default the runtime that the checkpoint is made for."""
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: Literal["none", "default", "graphs"] = "none"
    size: int | None = None
    """Side of the frames that the model sees, pixels; by default its training size."""
    threshold: float = 0.5
    """Pixels with at least this probability are marked, in models of one class."""
    overlay: bool = True
    """Write the video with masks and sound too, which takes as long as the masks themselves."""
    imports: Import = None

    def run(self) -> int:
        from datetime import timedelta

        from .._common.switches import keep_freed_memory
        from .._common.together import meeting
        from ..video.prediction import write_all
        from ..video.segmenter import load

        keep_freed_memory()  # pictures of one size come and go
        names = ("audio", "fps", "until", "probabilities", "threshold", "overlay")
        options = {name: getattr(self, name) for name in names}
        with meeting(timeout=timedelta(days=30)):  # one's share may take much longer than another's
            segmenter = load(self.checkpoint, self.runtime, self.precision, self.compile, self.size)
            broken = write_all(segmenter, self.inputs, self.out, **options)
        if broken:
            return int(is_first())
        print(f"{self.out}: a folder for each input, with masks, overlay.mp4 and manifest.json")
        return 0


@dataclass
class Export:
    """Write a model as a file for ONNX Runtime, ExecuTorch (phones), OpenVINO or the live page.

    The file runs without PyTorch and takes frames of one size and clips of one length. Before it gets its
    name, its runtime is compared with PyTorch on clips. Needs the extra `edge`.

    Example: lightavseg export checkpoints/tiny --runtime executorch --precision int8 --data data/shapes
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A model folder, a run of `train` (its best model), or hf:owner/name on the Hugging Face Hub."""
    runtime: Literal["onnx", "executorch", "openvino", "web"]
    """web: for the live page in a browser."""
    precision: Literal["fp32", "int8", "smallest"] = "fp32"
    """int8: 8-bit integers, whose ranges are measured on the clips. smallest, only for web: weights in 8 or
    16 bits where that does not change the masks."""
    data: Path | None = None
    """A dataset whose training clips are used for the comparison and to measure the ranges of int8. Without
    it, SoundingShapes are generated: good enough to compare file and model, but their ranges are wrong for a
    model of real videos."""
    subset: Subset = "ms3"
    size: int | None = None
    """Side of the frames, pixels; by default the model's training size."""
    seconds: int = 1
    """Frames of a clip, one per second."""
    clips: int = 64
    """Clips for the comparison."""
    out: Path | None = None
    """File to write; by default runs/export/NAME_RUNTIME_PRECISION with the runtime's suffix."""
    imports: Import = None
    json: bool = False
    """Print one line of JSON."""

    def run(self) -> int:
        from tempfile import TemporaryDirectory

        from .._common.ranges import SIDE, within
        from ..data.avsbench import AVSBench
        from ..data.sounding_shapes import generate
        from ..deploy import web
        from ..deploy.export import checked, clips_of, export
        from ..deploy.runtimes import SUFFIX
        from ..models.base import load_model

        model, name = load_model(self.checkpoint), self.checkpoint.resolve().name
        for_page = self.runtime == "web"
        suffix = SUFFIX["onnx" if for_page else self.runtime]
        out = self.out or Path("runs/export", f"{name}_{self.runtime}_{self.precision}{suffix}")
        if for_page:  # before the clips, which take their time
            web.checked(out, self.precision)
        else:
            checked(out, self.runtime, self.precision)
        size = model.config.size if self.size is None else self.size
        within(*SIDE, size=size)
        with TemporaryDirectory() as folder:
            if not self.data:
                generate(folder, self.subset, {"train": self.clips}, size)
            data = AVSBench(self.data or folder, self.subset, "train", size, model.front_end)
            clips = clips_of(data, self.seconds, self.clips)
        if for_page:
            found = web.export(model, out, clips, self.precision, name, self._command())
        else:
            found = export(model, out, self.runtime, clips, self.precision, name, self._command())
        files = [out, out.with_suffix(".bin")] if self.runtime == "openvino" else [out]
        mb = sum(file.stat().st_size for file in files) / 1e6
        if self.json:
            about = {"file": str(out), "mb": round(mb, 3), "clips": len(clips), **found._asdict()}
            print(json.dumps(about))
        else:
            form = f", weights in {found.precision}" if for_page else ""
            print(
                f"{out}: {mb:.1f} MB{form}; logits deviate from PyTorch's by {100 * found.deviation:.2g}% "
                f"of their mean absolute value, {found.pixels:.2%} of the pixels are marked the same "
                f"({len(clips)} clips)"
            )
        return 0

    def _command(self) -> str:
        """The command with all given options, for the file's own record."""
        words = ["lightavseg export", str(self.checkpoint)]
        for option in fields(self)[1:]:
            value, flag = getattr(self, option.name), {"imports": "import"}.get(option.name, option.name)
            if flag != "json" and value != option.default:
                words.append(f"--{flag} {value}")
        return " ".join(words)

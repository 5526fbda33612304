"""A fake model that listens, and what tests of `predict` share."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from lightavseg_core.cli import main
from lightavseg_core.data.audio import LogMel
from lightavseg_core.video.segmenter import Segmenter

TINY = Path(__file__).parents[2] / "checkpoints" / "tiny"


class Ear:
    """A fake model: a pixel is marked where the picture is bright, the louder the more; each frame also feels
    the mean of its clip."""

    def __init__(self, classes=1, stop_after=None):
        self.classes, self.stop_after, self.heard, self.seen = classes, stop_after, [], []

    def __call__(self, frames, log_mel):
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(frames)
        self.heard.append(log_mel)
        bright, loud = frames[:, :, 0], log_mel.mean((2, 3, 4))[..., None, None] / 10
        clip = bright.mean((1, 2, 3))
        logits = [bright * (1 + c) / 2 + loud + clip - c for c in range(self.classes)]
        return torch.stack(logits, 2)  # (1, T, K, h, w)


def segmenter(run=None, size=(32, 32), clip=5, front_end=None, **about):
    run, about = run or Ear(), {"checkpoint": "fake", "runtime": "pytorch", **about}
    return Segmenter(run, size, clip, run.classes, front_end or LogMel(), about)


def gradient(k, width=50, height=38):
    """A picture that is no flat colour, and differs from second to second."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([(x + 20 * k) % 256, y, 0 * x + 100], -1).astype(np.uint8)


def contents(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def mask(folder, k=0):
    return Image.open(folder / "masks" / f"{k:06}.png")


def masks(folder):
    """How many there are, half-written ones included."""
    return len(list((folder / "masks").iterdir()))


def overlay(folder):
    return av.open(str(folder / "overlay.mp4"))


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        main(["predict", *map(str, arguments)])
    captured = capsys.readouterr()
    return exit.value.code or 0, captured.err

"""AVSBench's layout at its real numbers of clips, and the encoders' files under their published names: tiny
files, most of them links to a few, and random numbers."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightavseg_core.data.layout import AVSS_SECONDS, SUBSETS, read_clips
from lightavseg_core.data.palette import voc_palette
from lightavseg_core.data.writing import wav
from lightavseg_core.encoders import create_audio_encoder, create_visual_encoder
from lightavseg_core.encoders.checkpoints import PUBLISHED
from lightavseg_core.encoders.downloads import kept_at

# Train, val, test: reported, but for AVSS, of which a part stands for 11,356 clips.
COUNTS = {"s4": (3452, 740, 740), "ms3": (296, 64, 64), "avss": (600, 60, 60)}
CLASSES = 71  # of AVSS, reported, the background among them


def tree(root: Path, counts=COUNTS, size: int = 224, seconds: int = 5) -> Path:
    """Flat pictures, masks of a square, a low hum."""
    picture, mask, sound = (root / name for name in ("picture.png", "mask.png", "sound.wav"))
    root.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (90, 120, 60)).save(picture)
    middle = slice(size // 4, size // 2)
    square = np.zeros((size, size), np.uint8)
    square[middle, middle] = 255
    Image.fromarray(square).save(mask)
    coloured = np.zeros((size, size, 3), np.uint8)
    coloured[middle, middle] = voc_palette(CLASSES)[1]
    sound.write_bytes(wav(0.3 * np.sin(np.arange(1000 * seconds) / 3), 1000))
    for subset, numbers in counts.items():
        spec = SUBSETS[subset]
        table = root / spec.folder / spec.csv
        table.parent.mkdir(parents=True, exist_ok=True)
        splits = [s for s, number in zip(("train", "val", "test"), numbers) for _ in range(number)]
        with table.open("w", newline="") as file:
            rows = csv.DictWriter(file, spec.columns)
            rows.writeheader()
            for k, split in enumerate(splits):
                name, kind = f"clip{k:06}_1", list(AVSS_SECONDS)[k % len(AVSS_SECONDS)]
                row = {"name": name, "start": 1, "category": f"thing{k % 23}", "split": split}
                row |= {"uid": name, "label": kind}
                rows.writerow({column: row[column] for column in spec.columns})
        if subset == "avss":
            Image.fromarray(coloured).save(mask)
            picture = picture.with_suffix(".jpg")
            Image.new("RGB", (size, size), (90, 120, 60)).save(picture)
            labels = {f"thing{k}": k for k in range(CLASSES)}
            (root / "label2idx.json").write_text(json.dumps(labels))
        made = set()
        for clip in read_clips(root, subset):
            files = [(path, picture) for path in clip.frames] + [(path, mask) for path in clip.masks if path]
            for path, source in [*files, (clip.audio, sound)]:
                if path.parent not in made:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    made.add(path.parent)
                _link(source, path)
    return root


def _link(source: Path, path: Path) -> None:
    """File systems allow so many names of a file; then the source becomes another one."""
    try:
        os.link(source, path)
    except OSError:
        content = source.read_bytes()
        source.unlink()
        source.write_bytes(content)
        os.link(source, path)


def weights(folder: Path) -> Path:
    """Random ones, as pickles of tensors, as they are published."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    encoders = {
        "resnet50": create_visual_encoder("resnet50"),
        "seaformer_l": create_visual_encoder("seaformer_l"),
        "vggish": create_audio_encoder("vggish_published"),
        "panns_mobilenetv2": create_audio_encoder("panns_mobilenetv2"),
    }
    for name, encoder in encoders.items():
        file = f"{name}.pth" if name.startswith("seaformer") else PUBLISHED[name].file
        tensors = {encoder.published_name(ours): value for ours, value in encoder.state_dict().items()}
        torch.save(tensors, folder / file)
    return folder


def imagenet_weights() -> Path:
    """EfficientNet-Lite0's, the real ones. Skips where they were not downloaded, and fails where continuous
    integration has not done it."""
    path = kept_at("efficientnet_lite0")
    if not path.is_file():
        missing = "ImageNet weights are missing: `lightavseg download efficientnet_lite0` fetches them"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return path

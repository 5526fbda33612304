"""What the papers report, and the counts of their authors' code: nothing here was measured by this workbook.

Scores are in percent (M_J, M_F), times in milliseconds, parameters in millions. If a table names no other
source, it is LightAVSeg's paper (arXiv 2605.08805): its comparison on AVSBench, its ablations on MS3 and its
measurements on a GPU and on a Snapdragon 8 Elite phone, at 224 x 224.
"""
from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One method with one pair of encoders; None if no figure is reported. Scores are (M_J, M_F)."""

    method: str  # as in `list_methods()`
    visual: str  # as in `create_model(visual=...)`
    audio: str
    parameters: float  # in whatever accounting: see `accounting.published_accounting`
    gpu_ms: float
    phone_ms: float
    s4: tuple[float, float]
    ms3: tuple[float, float]
    avss: tuple[float, float]


HEAVY, LIGHT = ("resnet50", "vggish"), ("seaformer_l", "mobilenetv2_100")

COMPARISON = (
    Row("avsbench", *HEAVY, 91.4, 21.2, 753.5, (72.8, 84.8), (47.9, 57.8), (20.2, 25.2)),
    Row("avsegformer", *HEAVY, 151.1, 29.0, 1271.4, (76.5, 85.9), (49.5, 62.8), (24.9, 29.3)),
    Row("selm", *HEAVY, 117.6, 25.3, 1003.8, (76.6, 86.2), (54.5, 65.6), (31.9, 37.2)),
    Row("avsbench", *LIGHT, 30.2, 19.5, 237.1, (47.9, 64.5), (35.2, 44.1), (10.0, 11.7)),
    Row("avsegformer", *LIGHT, 51.0, 22.2, 432.6, (53.8, 71.4), (40.7, 50.7), (15.8, 18.2)),
    Row("selm", *LIGHT, 39.5, 18.7, 308.6, (59.1, 77.4), (45.7, 57.6), (20.6, 26.6)),
    Row("lightavseg", *LIGHT, 20.5, 15.9, 163.4, (75.6, 86.2), (50.4, 62.6), (30.6, 36.4)),
)

# AVESFormer's own paper (arXiv 2408.01708) reports M_J alone.
AVESFORMER = {"s4": 79.9, "ms3": 57.9, "avss": 31.2}

# Where the phone's 163.4 ms go.
PHONE_PARTS = {"visual encoder": 139.4, "audio encoder": 6.3, "RAVE": 6.1, "CMFD": 4.1, "head": 7.6}


class Ablation(NamedTuple):
    """One row of an ablation on MS3; everything else is as in the full model."""

    name: str
    m_j: float
    m_f: float | None = None
    phone_ms: float | None = None


ABLATIONS = {
    "fusion": (
        Ablation("static fusion", 44.4, 56.8),
        Ablation("AGVE", 46.8, 58.1),
        Ablation("AGVE + CMFD", 48.3, 59.1),
        Ablation("AGVE + HAR", 49.3, 61.2),
        Ablation("AGVE + HAR + CMFD, L_msa", 50.4, 62.6),
    ),
    "auxiliary loss": (
        Ablation("none", 49.3),
        Ablation("AVSBench's KL", 49.2),
        Ablation("AVSegFormer's mixing", 48.8),
        Ablation("L_msa", 50.4),
    ),
    "alignment": (Ablation("binary cross-entropy", 50.4), Ablation("KL", 48.9)),
    "pooling": (Ablation("max", 50.4), Ablation("average", 49.2)),
    "visual encoder": (
        Ablation("ResNet-50", 52.9, phone_ms=675.0),
        Ablation("SeaFormer-T", 30.6, phone_ms=22.1),
        Ablation("SeaFormer-B", 44.2, phone_ms=80.2),
        Ablation("SeaFormer-L", 50.4, phone_ms=163.4),
    ),
    "audio encoder": (
        Ablation("MobileNetV2", 50.4),
        Ablation("VGGish", 51.5, phone_ms=659.0),
        Ablation("YamNet", 47.8),
    ),
}


class AuthorsCode(NamedTuple):
    """Parameters of everything that the authors' code builds, run or not, and GMACs of 1 and 5 frames.

    GMACs are those of convolutions, linear layers and matrix products.
    """

    visual: float  # with ResNet-50: 22.06 of them a second copy of layer3 and layer4 that never runs
    audio: float
    rest: float
    gmacs_1: float | None
    gmacs_5: float | None


# At 224 x 224. The light rows read SeaFormer's maps at strides 4 to 32: its last stage, 7.47 of the 13.73, is
# counted and never read.
AUTHORS_CODE = {
    ("avsbench", "resnet50"): AuthorsCode(45.57, 72.14, 45.83, 37.4, 240.6),
    ("avsegformer", "resnet50"): AuthorsCode(45.57, 72.14, 33.19, 41.8, 209.2),
    ("selm", "resnet50"): AuthorsCode(45.57, 72.14, 69.41, 60.0, 300.0),  # its code for S4
    # Other positional embeddings, one convolution less.
    ("selm, MS3", "resnet50"): AuthorsCode(45.57, 72.14, 71.98, None, None),
    ("avsbench", "seaformer_l"): AuthorsCode(13.73, 2.22, 17.52, 22.9, 168.0),
    ("avsegformer", "seaformer_l"): AuthorsCode(13.73, 2.22, 32.67, 37.7, 188.4),
    ("selm", "seaformer_l"): AuthorsCode(13.73, 2.22, 25.81, 49.7, 248.7),
}

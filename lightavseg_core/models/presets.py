"""models.presets."""
from __future__ import annotations

# Options of `create_model` by preset: the backbones, and beside them each method's head. `paper` has the published sizes; `lean` gives
# LightAVSeg a lighter decoder on the same backbones; `tiny` is what two cores train.
PRESETS: dict[str, dict] = {
    "paper": {"visual": "seaformer_l", "audio": "mobilenetv2_100", "size": 224},
    "lean": {"visual": "seaformer_l", "audio": "mobilenetv2_100", "size": 224},
    "tiny": {"visual": "seaformer_t", "audio": "mobilenetv2_050", "size": 128},
}

HEADS: dict[str, dict[str, dict]] = {
    "paper": {"lightavseg": {"width": 216, "separable": False}},
    "lean": {"lightavseg": {"width": 128, "separable": True}},
    "tiny": {"lightavseg": {"width": 64, "separable": True}, "avesformer": {"width": 64}, "avsbench": {"width": 64},
             "avsegformer": {"width": 64, "layers": 2, "queries": 32}, "selm": {"width": 64, "layers": 2}},
}

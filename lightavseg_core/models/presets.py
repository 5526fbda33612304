"""What the presets of `create_model` have in common; each method's class adds its own options."""

# `paper` has the published sizes; `lean` gives LightAVSeg a lighter decoder on the same encoders; `tiny` is
# what two cores train.
PRESETS: dict[str, dict] = {
    "paper": {"visual": "seaformer_l", "audio": "mobilenetv2_100", "size": 224},
    "lean": {"visual": "seaformer_l", "audio": "mobilenetv2_100", "size": 224},
    "tiny": {"visual": "seaformer_t", "audio": "mobilenetv2_050", "size": 128},
}

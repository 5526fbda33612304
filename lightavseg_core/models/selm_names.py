"""The names of SelM's tensors in the authors' checkpoints."""

import re

# Prefixes of our tensors' names -> the authors', within a DAM and within a level of the decoder ({0}: its
# index, {1}: counted from 1).
_ATTENTION = "fusion.audio_visual_att"
DAM_NAMES = {
    "to_pixels.visual": "fusion.vis_project.0",
    "to_pixels.query1": f"{_ATTENTION}.align_vis.query_conv.0",
    "to_pixels.query2": f"{_ATTENTION}.align_vis.query_conv2.0",
    "to_pixels.key": f"{_ATTENTION}.align_vis.key_conv.0",
    "to_pixels.value": f"{_ATTENTION}.audio_value_conv.0",
    "to_pixels.weight": f"{_ATTENTION}.vis_weight",
    "to_pixels.heard": f"{_ATTENTION}.vis_out.0",
    "to_pixels.out": "fusion.out_conv.0",
    "to_audio.query1": f"{_ATTENTION}.align_audio.f_query.0",
    "to_audio.query2": f"{_ATTENTION}.align_audio.f_query2.0",
    "to_audio.key": f"{_ATTENTION}.align_audio.f_key.0",
    "to_audio.value": f"{_ATTENTION}.vis_value_conv.0",
    "to_audio.weight": f"{_ATTENTION}.audio_weight",
    "to_audio.out": f"{_ATTENTION}.audio_out.0",
    "gate1": "gate.0",
    "gate2": "gate.2",
    "out": "audio_out_conv.0",
}
LEVEL_NAMES = {
    "fuse": "fuses.{0}.fusion",
    "position": "layers.{0}.positional_embedding",
    "load.norm": "layers.{0}.norm",
    "load.mlp": "layers.{0}.mlp",
    "load.norm_query": "layers.{0}.loadtoken.normq",
    "load.norm_key": "layers.{0}.loadtoken.normk",
    "load.query": "layers.{0}.loadtoken.cross_attn.q_proj",
    "load.key": "layers.{0}.loadtoken.cross_attn.k_proj",
    "load.value": "layers.{0}.loadtoken.cross_attn.v_proj",
    "load.out": "layers.{0}.loadtoken.cross_attn.proj",
    "attention": "cgattention{1}",
    "attention.norm_visual": "cgattention{1}.norm_v",
    "attention.norm_tokens": "cgattention{1}.norm_t",
    "attention.query": "cgattention{1}.q_proj",
    "attention.key": "cgattention{1}.k_proj",
    "attention.value": "cgattention{1}.v_proj",
    "attention.out": "cgattention{1}.proj",
}
# Within BCSM by regular expressions, each applied to what the one before it gave.
BCSM_NAMES = (
    (r"^visual_in", "vis_linear"),
    (r"^visual", "video"),
    (r"gate\.(\d)", r"gated.\1.0"),
    (r"encoder\.(\d)", r"encoder.\1.layers"),
    (r"\.norm\.", ".layernorm."),
    (r"\.mamba\.", ".mamba_block."),
)


def _renamed(name: str, names: dict[str, str]) -> str:
    """The name with its longest prefix in `names` replaced."""
    prefix = max((prefix for prefix in names if f"{name}.".startswith(f"{prefix}.")), key=len)
    return names[prefix] + name.removeprefix(prefix)


def published_name(name: str, upsamplings: int) -> str:
    """Our name of a tensor outside both encoders -> the authors'; `upsamplings` as in the configuration."""
    part, rest = name.split(".", 1)
    if part == "dam":
        level, rest = rest.split(".", 1)
        return f"DAM_Fusion{int(level) + 1}.{_renamed(rest, DAM_NAMES)}"
    if part == "in_proj":
        level, rest = rest.split(".", 1)
        return f"in_proj{int(level) + 1}.{rest}"
    if part == "bcsm":
        for ours, theirs in BCSM_NAMES:
            rest = re.sub(ours, theirs, rest)
        return f"BCSM.{rest}"
    if part == "head":
        module, rest = rest.split(".", 1)
        if module == "up":
            block, rest = rest.split(".", 1)
            return f"decoder.proj.vis.{2 * int(block) + 1}.{rest}"
        last = f"vis.{2 * upsamplings}"
        return f"decoder.proj.{last if module == 'out' else 'audio_linear'}.{rest}"
    if name == "decoder.tokens":
        return "decoder.tokens.weight"
    if part == "decoder":
        _, level, rest = rest.split(".", 2)
        return f"decoder.{_renamed(rest, LEVEL_NAMES)}".format(int(level), int(level) + 1)
    return name

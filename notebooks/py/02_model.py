# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
#   nbval: true
# ---

# %% [markdown]
# # 2. The model, step by step
#
# Audio-visual segmentation: given the frames of a video and their sound, mark the pixels of what
# is sounding. A *clip* has $T$ frames, one per second. With each frame comes one second of sound,
# as a *log-mel* spectrogram: a picture of 96 time steps by 64 frequency bands, which
# [notebook 1](01_data.ipynb) makes step by step.
#
# LightAVSeg in one sentence: *audio tells what is sounding, vision tells where*. You build the
# model from a single stage upwards, first on four pixels with a pencil, then at full size. Then
# you ask what this idea saves. **Is it true that it turns $O(N^2)$ into $O(N)$**, where $N$ is
# the number of positions of a feature map?
#
# **Afterwards you can**
# - compute one stage of LightAVSeg's encoder by hand, and find the shape of every tensor in the
#   model's drawing;
# - count the parameters and the operations of a stage before you run it;
# - say which part of "from $O(N^2)$ to $O(N)$" is due to the mechanism, and which only to the
#   order in which three matrices are multiplied;
# - read a published column of parameter counts with suspicion.
#
# | | |
# |---|---|
# | Time on 2 cores | about a minute (`profile = "smoke"`: half of it) |
# | To read | @minutes |
# | Memory | 3 GB |
# | You need | Python, a little PyTorch, matrix products, softmax attention |

# %% tags=["parameters"]
profile = "default"    # "smoke": the shortest run that touches everything
preset = "lean"        # "paper": the published size; "tiny": trains on two cores
size = 224             # side of the frames, pixels
largest = 896          # section 2.5 counts costs for sides from 96 pixels up to this one
seed = 0

# %%
from lightavseg_core import workbook

s = workbook.settings(globals(), preset=str, size=int, largest=int, seed=int)
if s.largest < 224:
    raise ValueError(f"largest is {s.largest}; the curves need three sizes, so at least 224")
if s.profile == "smoke":
    s.largest = min(s.largest, 448)
print(f"LightAVSeg, preset {s.preset}, frames of {s.size} x {s.size}, seed {s.seed}")

# %%
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import lightavseg_core as lav
from lightavseg_core import plots, profiling
from lightavseg_core.models.avsbench import TPAVI
from lightavseg_core.models.blocks import Attention
from lightavseg_core.models.lightavseg import CMFDStage, LightAVSegConfig, RAVEStage
from lightavseg_core.models.selm import AudioToPixels
from lightavseg_core.profiling import accounting
from lightavseg_core.profiling.flops import count

torch.manual_seed(s.seed)
machine = workbook.card()
print(", ".join(f"{name} {value}" for name, value in machine.items()))

# %% [markdown]
# Here is the whole model, drawn by code from the model itself. You need not understand it yet.
# Section 2.1 takes one blue square and one orange bar out of it, section 2.2 builds the upper
# half, and section 2.3 the lower one.

# %%
workbook.show(
    plots.drawings.architecture(profiling.skeleton("lightavseg", s.preset), s.size),
    alt="LightAVSeg: above, the encoder's maps from fine to coarse; below them the audio state of "
    "each scale, gated by the map and added to it; then the decoder's audio states from coarse to "
    "fine; below, the decoder's maps, which end in the mask.",
    vector=True,
)

# %% [markdown]
# ## 2.1 One stage, four pixels, a pencil
#
# A frame has become a map $V$ of two channels, *fur* and *metal*, on four pixels. Its sound has
# become a vector of two numbers, *bark* 1 and *engine* 2: the engine is the louder of the two.
# This vector is the *audio state* $A_\text{prev}$. One stage of the Reciprocal Audio-Visual Encoder
# (RAVE) does two things:
#
# 1. **What is there?** Global max pooling keeps the strongest response of each channel and drops
#    the positions, on purpose: $v = \max_{x, y} V$. Then the audio state is *refined* (HAR,
#    hierarchical audio refinement): $A = W_p A_\text{prev} \odot \mathrm{hsigmoid}(W_g v)$. Here
#    $W_p$ and $W_g$ are learned matrices, and $\odot$ multiplies number by number. The hard
#    sigmoid, $\mathrm{hsigmoid}(x) = \min(\max(x/6 + \tfrac12, 0), 1)$, is a gate: 0 is closed,
#    1 is open. The idea: a sound that nothing in view can make is turned down.
# 2. The refined state is *added* to the map (AGVE, audio-guided visual enhancement):
#    $V^\text{enc} = V + A$. This is one number per channel, the same at every pixel.
#
# Take $W_p = W_g = 1$ (the identity, which ties *bark* to *fur* and *engine* to *metal*) and no
# biases:
#
# | | fur | metal |
# |---|---|---|
# | $V$, four pixels | 0, 1, **6**, 2 | -4, **-3**, -5, -6 |
# | $v$: the largest | 6 | -3 |
# | gate, hsigmoid of it | 1 | 0 |
# | $A$: sound times gate | 1 · 1 = **1** | 2 · 0 = **0** |
# | $V^\text{enc}$ | 1, 2, 7, 3 | -4, -3, -5, -6 |
#
# The engine is loud, but nothing metallic is in view, so its gate is closed. That is the design,
# with weights chosen by hand. Whether trained gates do this, [notebook 5](05_decoder.ipynb)
# measures: most hardly look. The package's own
# stage, given these weights, must agree exactly.

# %%
V = torch.tensor([[[0.0, 1], [6, 2]], [[-4, -3], [-5, -6]]])[None]       # (1, 2, 2, 2)
A = torch.tensor([1.0, 2])[None, :, None, None]                          # (1, 2, 1, 1)

stage = RAVEStage(audio_channels=2, channels=2, config=LightAVSegConfig())
with torch.no_grad():
    for layer in (stage.project, stage.gate):
        layer.weight.copy_(torch.eye(2)[..., None, None])
        layer.bias.zero_()
    V_enc, A_new = stage(V, A)
print("A    ", A_new.flatten().tolist())
print("V_enc", V_enc.flatten().tolist())
assert A_new.flatten().tolist() == [1, 0]
assert V_enc.flatten().tolist() == [1, 2, 7, 3, -4, -3, -5, -6]

# %% [markdown]
# Adding one number to all pixels of a channel cannot move the channel's maximum: vision alone
# says *where* the fur is. The sound decides whether the next layer, with its threshold, lets the
# channel through. At a threshold of 6.5 the dog's pixel passes if the dog barks, and does not if
# the dog is silent:

# %%
for heard, name in ((A_new, "the dog barks"), (torch.zeros_like(A_new), "the dog is silent")):
    fur = F.relu(V + heard - 6.5)[0, 0]
    print(f"{name:17}  fur above 6.5: {fur.flatten().tolist()}")
before, after = V.flatten(2).argmax(-1), V_enc.flatten(2).argmax(-1)
assert (before == after).all(), "the sound never moves a maximum"

# %% [markdown]
# ### Exercise 1: a stage in four lines
#
# *8 minutes, medium.*
#
# Write a stage that works for any weights. `visual` is `(C, H, W)`, `audio` is a vector of
# `C_prev` numbers, `project` and `gate` are matrices `(C, C_prev)` and `(C, C)`, without biases.
# Return $V^\text{enc}$ and $A$.

# %% tags=["exercise"]
def rave(visual, audio, project, gate):
    # solution
    what = visual.amax((-2, -1))
    audio = (project @ audio) * F.hardsigmoid(gate @ what)
    return visual + audio[:, None, None], audio
    # wrong: the mean of the picture
    what = visual.mean((-2, -1))
    audio = (project @ audio) * F.hardsigmoid(gate @ what)
    return visual + audio[:, None, None], audio
    # wrong: the gate listens instead of looking
    audio = project @ audio
    audio = audio * F.hardsigmoid(gate @ audio)
    return visual + audio[:, None, None], audio
    # wrong: a soft sigmoid
    what = visual.amax((-2, -1))
    audio = (project @ audio) * torch.sigmoid(gate @ what)
    return visual + audio[:, None, None], audio
    # wrong: no gate
    audio = project @ audio
    return visual + audio[:, None, None], audio
    # wrong: the picture is multiplied
    what = visual.amax((-2, -1))
    audio = (project @ audio) * F.hardsigmoid(gate @ what)
    return visual * audio[:, None, None], audio
    # wrong: max over two axes at once
    what = visual.max((-2, -1))
    audio = (project @ audio) * F.hardsigmoid(gate @ what)
    return visual + audio[:, None, None], audio
    # wrong: the vector is added to the last axis
    what = visual.amax((-2, -1))
    audio = (project @ audio) * F.hardsigmoid(gate @ what)
    return visual + audio, audio
    # end solution

# %% tags=["check"]
generator = torch.Generator().manual_seed(1)
V3, a5 = torch.randn(3, 4, 6, generator=generator), torch.randn(5, generator=generator)
W_p, W_g = torch.randn(3, 5, generator=generator), torch.randn(3, 3, generator=generator)
reference = RAVEStage(5, 3, LightAVSegConfig()).requires_grad_(False)
for layer, weight in ((reference.project, W_p), (reference.gate, W_g)):
    layer.weight.copy_(weight[..., None, None])
    layer.bias.zero_()
wanted_v, wanted_a = reference(V3[None], a5[None, :, None, None])
# One channel, two pixels, 0 and 1; the state is 2, both weights are 1: A = 2 (1 + 3) / 6 = 1.333.
given = V3, a5, W_p, W_g
small = torch.tensor([[[0.0, 1.0]]]), torch.tensor([2.0]), torch.ones(1, 1), torch.ones(1, 1)
workbook.check(
    "a RAVE stage",
    rave,
    hint="max over height and width, two matrix products, one hard sigmoid, one sum",
    cases=[(given, (wanted_v[0], wanted_a.flatten()))],
    mistakes=[
        (small, lambda found: abs(found[1] - 7 / 6) < 1e-3, "pool by the maximum, not by the mean"),
        (small, lambda found: abs(found[1] - 5 / 3) < 1e-3, "the gate looks at the picture's max"),
        (small, lambda found: abs(found[1] - 1.462) < 1e-3, "the gate is a *hard* sigmoid"),
        (small, lambda found: abs(found[1] - 2) < 1e-3, "the gate is missing"),
        (small, lambda found: found[0].amin() == 0, "the audio state is added to each pixel"),
        (given, TypeError, "torch's max takes one axis; amax takes several"),
        (given, RuntimeError, "one number per channel: audio[:, None, None] before you add"),
    ],
)

# %% [markdown]
# ## 2.2 All stages: the encoder
#
# The visual encoder, SeaFormer (Wan et al., 2023), has five stages with strides 4 to 64: a stride
# of 4 means one position for every 4 pixels of a side, rounded up. The
# audio encoder, MobileNetV2 (Sandler et al., 2018), turns the log-mel spectrogram into the first
# audio state, $A_0$. After each visual stage the sound is refined and added, *and the next stage
# reads the enhanced map*: sound enters the visual features early and often. The audio state
# changes its length to match the channels of the stage. Follow the shapes:

# %%
model = lav.create_model("lightavseg", preset=s.preset).eval()
frames = torch.randn(1, 1, 3, s.size, s.size)           # (B, T, 3, H, W): one clip of one frame
log_mel = torch.randn(1, 1, 1, *model.front_end.shape)  # (B, T, 1, 96, 64): the sound of that frame

rows = []
with torch.inference_mode():
    state = model.audio(log_mel[0])[..., None, None]             # A_0
    visual, audio_0 = frames[0], state
    rows.append(("start", tuple(visual.shape), tuple(state.shape), ""))
    for i, (stage, rave_stage) in enumerate(zip(model.visual.stages, model.rave), 1):
        visual, state = rave_stage(stage(visual), state)         # V_i^enc, A_i
        weights = sum(p.numel() for p in rave_stage.parameters())
        rows.append((i, tuple(visual.shape), tuple(state.shape), f"{weights:,}"))
workbook.table(["stage", "$V_i^{enc}$", "$A_i$", "parameters of the RAVE stage"], rows)

# %% [markdown]
# ### Exercise 2: predict the parameters
#
# *3 minutes, easy.*
#
# In the code the matrices $W_p$ and $W_g$ are two 1x1 convolutions with biases: from `before` to
# `channels` channels (projection) and from `channels` to `channels` (gate). (A 1x1 convolution is
# one matrix, applied at each position.) How many parameters does a RAVE stage have? Compare with
# the table.

# %% tags=["exercise"]
def rave_parameters(before, channels):
    # solution
    return before * channels + channels + channels * channels + channels
    # wrong: no biases
    return before * channels + channels * channels
    # wrong: the gate starts from the stage before
    return 2 * (before * channels + channels)
    # wrong: a bias for each input
    return before * channels + before + channels * channels + channels
    # end solution

# %% tags=["check"]
sources = [model.audio.channels, *model.visual.channels[:-1]]
counted = [sum(p.numel() for p in rave_stage.parameters()) for rave_stage in model.rave]
workbook.check(
    "parameters of RAVE",
    rave_parameters,
    hint="a 1x1 convolution from a to b channels has a·b weights and b biases",
    cases=list(zip(zip(sources, model.visual.channels), counted)),
    mistakes=[
        ((5, 4), 36, "both convolutions have biases as well"),
        ((5, 4), 48, "the gate maps the stage's own channels to the same number of channels"),
        ((5, 4), 45, "each output channel has a bias, input channels have none"),
    ],
)

# %%
if mine := workbook.yours("parameters of RAVE"):
    for preset in ("tiny", "lean", "paper"):
        of = profiling.skeleton("lightavseg", preset)              # shapes, no numbers
        rave_of = sum(map(mine, [of.audio.channels, *of.visual.channels[:-1]], of.visual.channels))
        whole_of = sum(p.numel() for p in of.parameters())
        share = f"{rave_of / whole_of:.1%}"
        print(f"{preset:6} {rave_of:9,} of {whole_of:11,} parameters are RAVE's: {share}")

# %% [markdown]
# ## 2.3 Coarse to fine: the decoder
#
# The Cross-Modal Fusion Decoder (CMFD) walks back from the coarsest map to the finest. At each
# scale $i$ it refines the audio state once more,
#
# $$A_i^* = \mathrm{ReLU}(W[\hat A_{i+1}, A_i]), \qquad \hat A_i = A_i^* \odot \mathrm{hsigmoid}(W_g \max V_i^\text{enc}),$$
#
# and adds it to the features: $V_i^\text{dec} = P_i V_i^\text{enc} +
# \mathrm{up}(S\,V_{i+1}^\text{dec}) + W_b \hat A_i$. Again this is one number per channel.
#
# Here $P_i$ is a 1x1 convolution that brings the map to the decoder's width $D$; another one does
# the same for $A_i$. $S$ is a 3x3 convolution block, $\mathrm{up}$ a bilinear resize, $\max$ the
# global max pooling of section 2.1, and $[\cdot, \cdot]$ joins two vectors end to end. Each scale
# has learned matrices $W$, $W_g$ and $W_b$ of its own, different from those of the encoder. At the
# coarsest scale the terms with $i + 1$ are left out.
#
# The fur and the metal of section 2.1 once more, now in the decoder's finest scale. Let the coarser
# scale hand down the state (1, 3): it has let some engine through. Its map is 5 and -3 everywhere.
# All matrices are the identity again, and $W$ adds its two vectors:
#
# | | fur | metal |
# |---|---|---|
# | $\hat A_2$, from the coarser scale | 1 | 3 |
# | $A_1$, from the encoder | 1 | 0 |
# | $A_1^*$: their sum, at least 0 | 2 | 3 |
# | gate: hsigmoid of $\max V_1^\text{enc}$ = 7, -3 | 1 | 0 |
# | $\hat A_1$ | **2** | **0** |
# | $V_1^\text{enc}$ plus the coarser map | 6, 7, 12, 8 | -7, -6, -8, -9 |
# | $V_1^\text{dec}$: plus $\hat A_1$ | 8, 9, 14, 10 | -7, -6, -8, -9 |
#
# This scale sees no metal, so its gate stops the engine that the coarser one let through.

# %%
coarser_map = torch.tensor([5.0, -3])[None, :, None, None]
coarser_state = torch.tensor([1.0, 3])[None, :, None, None]

stage = CMFDStage(channels=2, config=LightAVSegConfig(width=2), coarsest=False)
identity = torch.eye(2)[..., None, None]
with torch.no_grad():
    for layer in (stage.lateral, stage.merge, stage.gate, stage.broadcast):
        layer.weight.copy_(torch.cat([identity] * (layer.in_channels // 2), 1))
        layer.bias.zero_()
    V_dec, A_hat = stage(V_enc + coarser_map, V_enc, A_new, coarser_state)
print("A_hat", A_hat.flatten().tolist())
print("V_dec", V_dec.flatten().tolist())
assert A_hat.flatten().tolist() == [2, 0]
assert V_dec.flatten().tolist() == [8, 9, 14, 10, -7, -6, -8, -9]

# %% [markdown]
# Now the whole decoder, on the maps and states of section 2.2. (`decode` also gets `audio_0`, which
# only a variant in [notebook 7](07_methods.ipynb) uses.)

# %% tags=["nbval-check-output"]
with torch.inference_mode():
    visuals, audios = model.encode(frames[0], audio_0)
    finest, states = model.decode(visuals, audios, audio_0)
    logits = F.interpolate(model.head(finest), size=frames.shape[-2:], mode="bilinear")
    whole = model(frames, log_mel).logits[0]
assert torch.allclose(logits, whole, atol=1e-5), "these steps are the model"
rows = [(i, tuple(v.shape), tuple(a.shape)) for i, (v, a) in zip(range(len(states), 0, -1), states)]
rows += [("head", tuple(finest.shape), ""), ("logits", tuple(logits.shape), "")]
workbook.table(["scale", "$V_i^{dec}$", "$\\hat A_i$"], rows)

# %% [markdown]
# That is the whole model: `encode`, `decode`, a head, and a bilinear resize to the frame's size.
# To see these maps, states and gates move as you fade a sound, open the
# [live page](../docs/live.md) with `make live`.
#
# Where are its parameters?

# %%
parts = profiling.parameters(model)
total = sum(part.total for part in parts.values())
shares = ", ".join(f"{name} {part.total / 1e6:.2f}" for name, part in parts.items())
print(f"{total / 1e6:.2f} M parameters: {shares}")

# %% [markdown]
# The fusion, the part that brings sound and picture together, has few of them. How much does it
# compute?
#
# ## 2.4 What does listening cost? Predict first
#
# `count` runs a module on torch's *meta* device, where tensors have shapes and no numbers. It
# counts what would be computed, in two columns: multiply-accumulates (MACs), and all other
# operations, such as comparisons and additions.
#
# Take a RAVE stage with $C = 256$ channels at stride 32. Its map has $N$ positions. Double the
# side of the frame, from 224 to 448 pixels, and $N$ becomes four times as large.
#
# > **Prediction.** By what factor does each of the two counts grow?

# %%
workbook.guess("four times the pixels", {"MACs": ..., "other operations": ...})

# %%
channels, stride = 256, 32                     # as in the fourth stage of SeaFormer-L
rave_stage = RAVEStage(channels, channels, LightAVSegConfig())
costs = {}
for side in (224, 448, 896):
    n = (side // stride) ** 2
    seen = torch.empty(1, channels, side // stride, side // stride)
    heard = torch.empty(1, channels, 1, 1)
    counted = count(rave_stage, seen, heard)
    macs, other = costs[side] = counted.total_macs, counted.total_other
    print(f"{side} px, N = {n:4}: {macs:,} MACs, {other:,} other operations")
    assert counted.total_macs == 2 * channels**2, "project and gate, one vector each"
    assert counted.total_other >= 2 * n * channels, "a comparison and an addition per element"
factors = [large / small for small, large in zip(costs[224], costs[448])]
workbook.beside("four times the pixels", dict(zip(("MACs", "other operations"), factors)))

# %% [markdown]
# Why? RAVE multiplies *vectors* by matrices, never the map. From $C_\text{prev}$ channels to $C$
# that is $C_\text{prev} C + C^2$ MACs, whatever $N$ is. Only two steps touch the map: taking its
# maximum ($NC$ comparisons) and adding the vector ($NC$ additions). A few operations on the vector
# itself do not grow, so the second factor is a little below four.
#
# ## 2.5 Three ways to bring sound in
#
# How do other methods let a map $V$ meet the sound $A$? Blue dots are the positions of a map,
# orange ones hold the sound, and purple ones stand between:

# %%
workbook.show(
    plots.drawings.meetings(),
    alt="Five small drawings of sixteen positions and a sound: in LightAVSeg one arrow from the "
    "sound to the whole map; in AVSBench a line between every position and every copy of the "
    "sound; in AVESFormer lines to four keys; in AVSegFormer and SelM a few points in between.",
    vector=True,
)

# %% [markdown]
# **1. Tiled: every position meets every position.** This is TPAVI (temporal pixel-wise
# audio-visual interaction, Zhou et al., 2022), the core of the method that was published with the
# AVSBench data ([notebook 1](01_data.ipynb)). The method, too, is called AVSBench. The sound is
# copied to all $N = T h w$ positions of a clip whose $T$ maps are $h$ by $w$. Three learned linear
# layers act on each position and take $C$ channels to $C/2$: $\theta$ and $g$ read the picture,
# $\phi$ reads the sound. Then
#
# $$y = \tfrac{1}{N}\,\theta(V)\,\phi(A)^\top g(V),$$
#
# and a fourth linear layer leads back to $C$ channels. There is no softmax. As published, the
# left product comes first: a matrix of $N \times N$ numbers.
#
# A *token* is a vector. In attention each position makes a query and compares it with the key of
# every token. Softmax turns the results into weights that add up to 1, and the answer is the
# weighted mean of the tokens' values.
#
# **2. Sound as $K$ tokens** (AVESFormer, Wang et al., 2024; with $K = 1$ also the early fusion of
# SelM, Li et al., 2024). This is cross-attention (Vaswani et al., 2017): each position asks $K$
# audio tokens, $\mathrm{softmax}(qk^\top/\sqrt{d})\,v$. The queries $q$ come from the positions,
# the keys $k$ and values $v$ from the tokens, and $d$ is the length of a query. That makes
# $N \times K$ weights. (AVSegFormer, Gao et al., 2024, asks too, but with 300 learned *queries*
# instead of the $N$ positions.)
#
# **3. One number per channel** (RAVE).
#
# SelM does more than its early fusion. It lets sound and picture gate each other's channels, with
# gates that are computed over the seconds of the clip. In its decoder each pixel then chooses one
# of two tokens, and the token that has heard the sound becomes the filter that draws the mask.
#
# The MACs at $C$ channels ($\phi$ reads each sound once, before it is copied):
#
# | | grows as | MACs of the interaction |
# |---|---|---|
# | tiled | $N^2$ | $2 N^2 \cdot C/2 = N^2 C$, and $1.5 N C^2$ for the projections $\theta$, $g$ and back |
# | tokens | $NK$ | $2NKC$, and $2NC^2 + 2KC^2$ for query and output, keys and values |
# | RAVE | 1 | $2C^2$ |
#
# ### Exercise 3: where does the square begin to hurt?
#
# *3 minutes, easy.*
#
# At small $N$ the projections dominate TPAVI. At which $N$ do the two $N \times N$ products cost as
# many MACs as the three projections? Return $N$ for `channels` channels.

# %% tags=["exercise"]
def square_dominates_from(channels):
    # solution
    return 1.5 * channels
    # wrong: N²C is taken for N²
    return 1.5 * channels**2
    # wrong: the 1.5 is forgotten
    return channels
    # wrong: the 1.5 on the wrong side
    return channels / 1.5
    # wrong: three projections at full width
    return 3 * channels
    # end solution

# %% tags=["check"]
workbook.check(
    "where the square dominates",
    square_dominates_from,
    hint="both costs stand in the table above; when are they equal?",
    cases=[(256, 384.0), (64, 96.0)],
    mistakes=[
        (64, 6144.0, "the products cost N² times C: one C cancels"),
        (64, 64.0, "the three projections together cost 1.5·N·C², not N·C²"),
        (64, 64 / 1.5, "N²C = 1.5·N·C²: divide both sides by N·C and look again"),
        (64, 192.0, "each projection has C/2 channels on one side: three cost 1.5·N·C²"),
    ],
)

# %% [markdown]
# For scale: at stride 8 a frame of 160 pixels has $20 \cdot 20 = 400$ positions. Now count. The
# methods fuse at several scales. So here each way works on four maps of one frame, with strides
# 4, 8, 16 and 32, and cross-attention has 16 tokens. A fourth curve, *TPAVI, re-associated*, is
# the first way with its three matrices multiplied in another order; section 2.6 explains it.

# %%
sides = [side for side in (96, 160, 224, 320, 448, 640, 896) if side <= s.largest]
counted = [accounting.interaction_cost(side, tokens=16) for side in sides]
work = {name: [cost[name].total_macs for cost in counted] for name in counted[0]}
title = "Counted: fusing sound and picture, C = 256"
workbook.show(
    plots.cost_curves(sides, work, title, "multiply-accumulates"),
    alt="Counted multiply-accumulates against the side of the frame, log-log, for four ways: "
    "published TPAVI rises steepest, RAVE is flat and lowest.",
)

# %% [markdown]
# And in time, on this machine? Published TPAVI on a map of stride 4 would take about sixteen
# times as long as on one of stride 8. So we time a single map, of stride 8. The four ways take
# turns at each size; the figure shows the medians.
#
# > **Prediction.** RAVE's MACs are the same at every size. By what factor does its *time* grow
# > from the smallest frame to the largest?

# %%
workbook.guess("RAVE's time", ...)

# %%
C, stride = 256, 8
attention = Attention(C)
ways = {"TPAVI, published": TPAVI(C, C, "published").eval(),
        "TPAVI, re-associated": TPAVI(C, C, "associative").eval(),
        "cross-attention": lambda v, tokens: attention(v.flatten(2).transpose(1, 2), tokens),
        "RAVE": RAVEStage(C, C, LightAVSegConfig()).eval()}
milliseconds = {name: [] for name in ways}
for side in sides:
    v = torch.randn(1, C, side // stride, side // stride)
    one, tokens = torch.randn(1, 1, C), torch.randn(1, 16, C)
    given = [(v[:, None], one), (v[:, None], one), (v, tokens), (v, one.view(1, C, 1, 1))]
    calls = {name: (lambda way=way, x=x: way(*x)) for (name, way), x in zip(ways.items(), given)}
    for name, timing in profiling.latency(calls, repeats=3 if side > 448 else 10, warmup=1).items():
        milliseconds[name].append(timing.median)
title = f"Measured: one map of stride 8, CPU, threads: {machine['threads']}"
workbook.show(plots.cost_curves(sides, milliseconds, title, "milliseconds"),
              alt="Measured milliseconds of the four ways against the side of the frame, log-log.")
print(f"from {sides[0]} to {sides[-1]} px:")
workbook.beside("RAVE's time", milliseconds["RAVE"][-1] / milliseconds["RAVE"][0])

# %% [markdown]
# Compare the shapes of the curves. RAVE's MACs are constant, yet its time grows: the maximum and
# the addition touch every element, and a count of MACs does not see them. Nor does it see that
# starting an operator costs some microseconds, however little it computes. In small frames this
# matters.
#
# ## 2.6 The verdict on "from $O(N^2)$ to $O(N)$"
#
# A frame has $H \times W$ pixels. Fit each counted cost by $c_0 + c_1\,HW + c_2\,(HW)^2$ and ask
# whether $c_2$ is needed. The *slope* is the exponent between two sizes: 1 where the cost is
# proportional to the pixels, 2 where it is proportional to their square.

# %%
pixels = [side * side for side in sides]
far = len(sides) - 3 if s.largest >= 896 else 0             # the slope between 448 and 896 px
rows = []
for name, counts in work.items():
    c0, c1, c2 = accounting.fit_cost(pixels, counts)
    slope = accounting.slope(pixels[far:], counts[far:])
    share = c2 * pixels[-1] ** 2 / counts[-1]
    rows.append((name, f"{c1:.0f}", f"{c2:.3f}", f"{share:.0%}", f"{slope:.2f}"))
    assert (c2 > 0) == (name == "TPAVI, published"), "only one is quadratic"
last = f"{sides[-1]} px"
columns = ["MACs", "$c_1$", "$c_2$", f"share of $c_2$ at {last}", f"slope, {sides[far]} to {last}"]
workbook.table(columns, rows)

# %% [markdown]
# One curve is quadratic: TPAVI *as published*. It need not be. Write $\theta$, $\phi$ and $g$ for
# the three matrices $\theta(V)$, $\phi(A)$ and $g(V)$, which have a row for each position. There is
# no softmax between them. Does it matter which two of them are multiplied first?
#
# ### Exercise 4: the same, in $O(N)$
#
# *6 minutes, medium.*
#
# `theta`, `phi`, `g` are these matrices, `(N, D)` with $D = C/2$. Return
# $\frac{1}{N}\theta\phi^\top g$ without ever making an $N \times N$ matrix.

# %% tags=["exercise"]
def associative(theta, phi, g):
    # solution
    return theta @ (phi.T @ g) / len(theta)
    # wrong: all pairs after all
    return (theta @ phi.T) @ g / len(theta)
    # wrong: not divided by N
    return theta @ (phi.T @ g)
    # wrong: divided by the channels
    return theta @ (phi.T @ g) / theta.shape[1]
    # wrong: the other one transposed
    return theta @ (g.T @ phi) / len(theta)
    # end solution

# %% tags=["check"]
class Watch(TorchDispatchMode):
    """Inside it, `largest` is the size of the largest tensor that was made."""

    largest = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        self.largest = max(self.largest, made.numel())
        return made


def watched(theta, phi, g):
    with Watch() as watch:
        product = associative(theta, phi, g)
    return None if product is None else (product, watch.largest)


def like(wanted):
    return lambda found: torch.allclose(found[0], wanted, atol=1e-5) and found[1] <= 200


given = theta, phi, g = torch.randn(3, 50, 4, generator=generator)     # N = 50, so N² = 2500
right = (theta @ phi.T) @ g / 50
workbook.check(
    "TPAVI in O(N)",
    watched,
    hint="brackets around the last two matrices; what shape is their product?",
    cases=[(tuple(given), like(right))],
    mistakes=[
        (tuple(given), lambda found: found[1] >= 2500, "an N x N matrix is still made on the way"),
        (tuple(given), like(50 * right), "the 1 / N is missing"),
        (tuple(given), like(50 / 4 * right), "divide by N, the number of rows, not of columns"),
        (tuple(given), like(theta @ (g.T @ phi) / 50), "transpose phi, which stands before g"),
    ],
)

# %%
published, linear = ways["TPAVI, published"], ways["TPAVI, re-associated"]
linear.load_state_dict(published.state_dict())
clip, sound = torch.randn(1, 5, C, 14, 14), torch.randn(1, 5, C)
for block in (published, linear):
    torch.nn.init.ones_(block.mu_norm.weight)        # it starts at zero: TPAVI adds nothing
with torch.inference_mode():
    one, other = published(clip, sound)[0], linear(clip, sound)[0]
print(f"largest difference between the two orders: {(one - other).abs().max():.1e}; "
      f"mean size of the outputs: {one.abs().mean():.1f}")
assert torch.allclose(one, other, atol=1e-4)

# %% [markdown]
# So the honest reading of the claim:
#
# - **The mechanism.** Adding a vector per channel needs no pairs of positions at all. It is
#   simpler than everything else above, and its MACs do not grow with the map at all. Its additions and
#   comparisons grow as $N$, so in all it is $O(N)$. This is LightAVSeg's idea, and it stands.
# - **The order of evaluation.** TPAVI's quadratic cost is a matter of brackets: $(\theta\phi^\top)g
#   = \theta(\phi^\top g)$, and the second order makes only a $C/2 \times C/2$ matrix in the middle.
#   Re-associated, it is linear too, and it is the *same function*.
# - **In the other methods sound does not meet the picture quadratically.** $K$ audio tokens cost
#   $O(NK)$. AVSegFormer's encoder samples a fixed number of points for each position (deformable
#   attention, Zhu et al., 2021). SelM's decoder has two tokens.
# - **Where a square cannot be removed.** Softmax attention *between pixels* cannot be
#   re-associated, because each row is normalised before it meets the values. Our AVESFormer has
#   such a block at stride 8, just before its pixels attend to the sound. Section 2.7 finds it.
#
# ### What the brackets also show: one picture, five sounds
#
# Give TPAVI the same picture in all five seconds of a clip, with a different sound in each. Then
# replace all five sounds by others. The numbers in its answers are about 1 in size.
#
# > **Prediction.** What is the largest difference between the answers of two seconds, and what is
# > the largest change when all five sounds are replaced?

# %%
workbook.guess("one picture, five sounds", {"between seconds": ..., "with other sounds": ...})

# %%
still = torch.randn(1, 1, C, 14, 14).expand(1, 5, C, 14, 14)
loud = torch.randn(1, 5, C)                                # a different sound in every second
with torch.inference_mode():
    answers = published(still, loud)[0]
    other_sounds = published(still, torch.randn(1, 5, C))[0]
between_seconds = (answers - answers[:, :1]).abs().max().item()
replaced = (answers - other_sounds).abs().max().item()
differences = {"between seconds": between_seconds, "with other sounds": replaced}
workbook.beside("one picture, five sounds", differences)
assert between_seconds < 1e-4 < replaced

# %% [markdown]
# Why? Look at $\theta(V)\,(\phi(A)^\top g(V))$ again. The matrix in brackets is a sum over all
# positions *of all seconds*, and every pixel meets this one matrix. So TPAVI does not know
# *when*: a pixel of second 3 is not told what sounds in second 3, only what the clip sounds like
# as a whole.
#
# Where the sounding objects change from second to second, as in the subset MS3
# ([notebook 1](01_data.ipynb)), this should be a handicap. Where one object sounds all the time,
# as in S4, it should not matter. RAVE adds to each frame the sound of *its own* second.
# [Notebook 7](07_methods.ipynb) compares the trained methods on both subsets.
#
# ### With one key, attention is a broadcast
#
# Look closer at way 2 with $K = 1$, one audio token per frame. A softmax over one number is 1.
# Whatever asks, a pixel or one of AVSegFormer's queries, the answer is the same vector. So
# cross-attention with a single key *adds one number per channel*, which is what RAVE does on
# purpose. (RAVE's number also depends, through the gate, on what is seen.)

# %%
attend = Attention(C).requires_grad_(True)
answer = attend(torch.randn(1, 196, C), torch.randn(1, 1, C))       # 196 pixels ask one token
spread = (answer - answer[:, :1]).abs().max().item()
answer.square().sum().backward()
query, key, value = (
    projection.weight.grad.abs().max().item()
    for projection in (attend.query, attend.key, attend.value)
)
print(f"largest difference between what two pixels get: {spread:.1e}")
print(f"largest gradients of the projections: query {query:.1e}, key {key:.1e}, value {value:.1e}")
assert spread < 1e-5
assert max(query, key) < 1e-6 * value, "zero, up to rounding"

# %% [markdown]
# The query and key projections have no effect and learn nothing. AVESFormer's authors call this
# *attention dissipation*; [notebook 6](06_dissipation.ipynb) takes it apart.
#
# SelM shows it in another form, in its early fusion. After each stage of the visual encoder each
# pixel attends to the sound of its second, with a single key. The attended audio passes an
# instance norm, which brings each channel to mean 0 over the pixels and so removes whatever is
# the same at every pixel. What remains is a constant per channel that does not depend on the
# sound at all. It is the GELU, an activation function, of a bias:

# %%
fusion = AudioToPixels(channels=64, width=64).eval()
outputs = []
with torch.inference_mode():
    for _ in range(2):                                    # different pixels, a different sound
        pixels_seen, sound_heard = torch.randn(1, 64, 196), torch.randn(1, 64, 1)
        outputs.append(fusion(pixels_seen, sound_heard))
    constant = F.gelu(fusion.out.bias)[None, :, None]
distance = max((x - constant).abs().max().item() for x in outputs)
print(f"largest distance from GELU(bias), for two different inputs: {distance:.1e}")
assert distance < 1e-3

# %% [markdown]
# *For researchers; may be skipped.* SelM's published code holds two more surprises, and the
# reported scores come from this code.
# First, it draws random numbers in *evaluation*, too: Gumbel noise, when pixels choose their
# token. Second, it takes some gates from the wrong frame as soon as a batch holds two clips. Here
# both are kept behind `published=True`. By default evaluation is deterministic, and clips do not
# affect each other.
#
# Measure each surprise without the other. For the noise, evaluate one clip twice. For the gates,
# switch the noise off, and evaluate a clip alone and in a batch of two.

# %%
clips, sounds = torch.randn(2, 5, 3, 64, 64), torch.randn(2, 5, 1, 96, 64)
noise = "lightavseg_core.models.selm_decoder.gumbel_noise"
for as_published in (True, False):
    torch.manual_seed(s.seed)
    selm = lav.create_model("selm", preset="tiny", published=as_published).eval()
    with torch.inference_mode():
        first, again = (selm(clips[1:], sounds[1:]).logits for _ in range(2))
        with patch(noise, torch.zeros_like):
            alone = selm(clips[1:], sounds[1:]).logits
            in_batch = selm(clips, sounds).logits[1:]
    scale = alone.abs().mean()
    drawn = (first - again).abs().mean() / scale
    mixed = (in_batch - alone).abs().mean() / scale
    print(f"published={as_published!s:5}  noise: one clip evaluated twice differs by {drawn:.1%}; "
          f"gates: alone and in a batch it differs by {mixed:.1%}")
    if as_published:
        assert drawn > 1e-4 and mixed > 1e-4, "both surprises show"
assert torch.equal(first, again) and torch.allclose(in_batch, alone, atol=1e-4)

# %% [markdown]
# ## 2.7 Whole methods, and a column not to be trusted
#
# Now the costs of whole methods, counted for one frame. AVSegFormer's reported scores on S4 and
# MS3 were computed at 512 pixels although its configuration says 224, so the table shows both
# sizes. AVSBench, AVSegFormer and SelM compute the same functions as their authors' code (tests
# compare the numbers, with ResNet-50 as visual encoder); the papers of LightAVSeg and AVESFormer
# have no public code. An encoder pair is visual + audio: ResNet-50 (He et al., 2016) and VGGish
# (Hershey et al., 2017), or SeaFormer-L and MobileNetV2.

# %%
rows, quadratic = [], []
for method in lav.list_methods():
    for visual, audio in (("resnet50", "vggish"), ("seaformer_l", "mobilenetv2_100")):
        skeleton = profiling.skeleton(method, visual=visual, audio=audio)
        macs = {side: profiling.macs(skeleton, side).total_macs for side in (224, 512, 896)}
        fit = accounting.fit_cost([side**2 for side in macs], list(macs.values()))
        square = max(fit.c2 * 896**4 / macs[896], 0.0)    # rounded sides can make it negative
        if square > 0.2:
            quadratic.append(method)
        giga = [f"{macs[side] / 1e9:.1f}" for side in (224, 512)]
        rows.append((method, f"{visual} + {audio}", *giga, f"{square:.0%}"))
print("more than a fifth is quadratic at 896 px:", ", ".join(dict.fromkeys(quadratic)))
columns = ["method", "encoders", "GMACs at 224 px", "at 512 px", "share of $c_2$ at 896 px"]
workbook.table(columns, rows)

# %% [markdown]
# AVSBench's square is TPAVI's order of evaluation. AVESFormer's is the attention between pixels
# in its last decoder stage, which has nothing to do with sound.
#
# Now the parameters. LightAVSeg's paper compares the methods in a table. Its column of parameters
# looks simple until you ask what each number counts:

# %%
rows = []
for entry in accounting.published_accounting():
    row, explained = entry.row, "" if entry.explained is None else f"{entry.explained:.1f}"
    ours = f"**{entry.total / 1e6:.1f}**"
    rows.append((row.method, row.visual, row.parameters, explained, entry.counts, ours))
columns = ["method", "visual encoder", "reported, M", "authors' code, counted that way, M"]
workbook.table([*columns, "what the figure counts", "all that runs, M"], rows)

# %% [markdown]
# One column, several conventions. Some figures include the audio encoder (VGGish alone has 72.1M
# parameters), others leave it out. The ResNet rows include a second copy of the encoder's last
# two stages, 22.1M parameters, which never runs. These two explain the difference between the
# fourth and the last column but for 1 to 3M, which we have not broken down. Where the fourth
# column is empty, nothing that we tried explains the figure. In the last column every method is counted the same way: all that
# runs, the audio encoder included. (The width of our LightAVSeg was *chosen* to come near the
# reported figure, so that agreement proves nothing.)

# %%
workbook.took(1)

# %% [markdown]
# ## Three things to remember
#
# 1. Audio tells what, vision tells where: RAVE pools the map to forget *where*, gates the sound by
#    *what* is seen, and adds it back as one number per channel.
# 2. A global audio vector added per channel costs $O(N)$, dense attention between positions
#    $O(N^2)$. TPAVI is quadratic only as published: one pair of brackets makes it linear.
# 3. Ask what a number counts: MACs miss additions and comparisons, and a column of parameters can
#    mix conventions.
#
# **What this can and cannot say about AVSBench.** Shapes, parameters and operation counts are
# those of full-size models; where there is no public code (LightAVSeg, AVESFormer), some sizes
# are our choice. Times are those of one machine. Nothing here says how *well* a method segments:
# that is for [notebook 7](07_methods.ipynb), on small data, and for you, on AVSBench.
#
# ## Try next
#
# - In the first cell of section 2.1, pool by the mean: `LightAVSegConfig(pooling="avg")`. Its
#   asserts now fail. Which of the two gates has changed, and what is lost when the dog is small?
# - In section 2.5, raise `tokens` from 16 to 256. Which curve moves, and does its slope in section
#   2.6 change?
# - [Notebook 3](03_training.ipynb) trains this model and asks whether it listens.
#
# ## References
#
# - LightAVSeg: arXiv 2605.08805 (ICML 2026).
# - AVESFormer, attention dissipation: Wang et al., *AVESFormer: Efficient Transformer Design for
#   Real-Time Audio-Visual Segmentation*, 2024, arXiv 2408.01708.
# - TPAVI, AVSBench: Zhou et al., *Audio-Visual Segmentation*, ECCV 2022, arXiv 2207.05042.
# - AVSegFormer: Gao et al., AAAI 2024, arXiv 2307.01146.
# - SelM: Li et al., *SelM: Selective Mechanism based Audio-Visual Segmentation*, ACM MM 2024.
# - Attention: Vaswani et al., *Attention Is All You Need*, NeurIPS 2017. Deformable attention: Zhu
#   et al., *Deformable DETR*, ICLR 2021.
# - Encoders: SeaFormer: Wan et al., ICLR 2023, arXiv 2301.13156. MobileNetV2: Sandler et al., CVPR
#   2018. ResNet: He et al., CVPR 2016. VGGish: Hershey et al., ICASSP 2017.

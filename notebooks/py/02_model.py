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
# is sounding. A *clip* has $T$ frames, one a second, and each frame hears a second of sound, as a
# *log-mel* spectrogram, a picture of 96 instants by 64 frequency bands.
#
# LightAVSeg in one sentence: *audio tells what is sounding, vision tells where*. You build the
# model from one stage up, first on four pixels with a pencil, then at full size, and then ask
# what the sentence saves: **is it true that it turns $O(N^2)$ into $O(N)$**, where $N$ is the
# number of positions of a feature map?
#
# **Afterwards you can**
# - compute a RAVE stage by hand, and name the shape of every tensor in the model;
# - count the parameters and the operations of a stage before you run it;
# - say what of "from $O(N^2)$ to $O(N)$" is the mechanism, and what is only the order in which
#   three matrices are multiplied;
# - read a published parameter column with suspicion.
#
# | | |
# |---|---|
# | Time on 2 cores | about a minute (`profile = "smoke"`: half of it) |
# | Memory | 3 GB |
# | You need | Python, a little PyTorch, matrix products, softmax attention |

# %% tags=["parameters"]
profile = "default"    # "smoke": the shortest run that touches everything
preset = "lean"        # "paper": the published size; "tiny": what two cores train
size = 224             # side of the frames, pixels
largest = 896          # the costs of section 2.5 go from 96 pixels up to this side
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
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import lightavseg_core as lav
from lightavseg_core import plots, profiling
from lightavseg_core.models.avsbench import TPAVI
from lightavseg_core.models.blocks import Attention
from lightavseg_core.models.lightavseg import LightAVSegConfig, RAVEStage
from lightavseg_core.models.selm import AudioToPixels
from lightavseg_core.profiling import accounting
from lightavseg_core.profiling.flops import count

torch.manual_seed(s.seed)
machine = workbook.card()
print(", ".join(f"{name} {value}" for name, value in machine.items()))

# %% [markdown]
# ## 2.1 One stage, four pixels, a pencil
#
# A frame has become a map of two channels, *fur* and *metal*, on four pixels. Its sound has
# become a vector of two numbers, *bark* 1 and *engine* 2: the engine is the louder of the two.
# Two things happen in one stage of the Reciprocal Audio-Visual Encoder (RAVE):
#
# 1. **What is there?** Global max pooling keeps the strongest response of each channel and drops
#    the positions, on purpose: $v = \max_{x, y} V$. Then the audio state is *refined* (HAR,
#    hierarchical audio refinement): $A = W_p A_\text{prev} \odot \mathrm{hsigmoid}(W_g v)$, where
#    $\odot$ multiplies number by number. A sound that nothing in view can make is turned down.
# 2. The refined state is *added* to the map (AGVE, audio-guided visual enhancement), one number
#    per channel, the same at every pixel: $V^\text{enc} = V + A$.
#
# Take $W_p = W_g = 1$ (the identity, which ties *bark* to *fur* and *engine* to *metal*), no
# biases, and $\mathrm{hsigmoid}(x) = \min(\max(x/6 + \tfrac12, 0), 1)$:
#
# | | fur | metal |
# |---|---|---|
# | $V$, four pixels | 0, 1, **6**, 2 | -4, **-3**, -5, -6 |
# | $v$: the largest | 6 | -3 |
# | gate, hsigmoid of it | 1 | 0 |
# | $A$: sound times gate | 1 · 1 = **1** | 2 · 0 = **0** |
# | $V^\text{enc}$ | 1, 2, 7, 3 | -4, -3, -5, -6 |
#
# The engine is loud, but nothing metallic is in view: its part of the sound is closed. The
# package's own stage, given these weights, must agree to the last digit.

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
# Adding one number to all pixels of a channel cannot move its maximum: *where* fur is, vision
# alone has said. What the sound changes is whether the next layer, with its threshold, lets the
# channel through. With a threshold of 6.5 the dog's pixel passes if it barks, and does not if it
# is silent:

# %%
for heard, name in ((A_new, "the dog barks "), (torch.zeros_like(A_new), "the dog is still")):
    fur = F.relu(V + heard - 6.5)[0, 0]
    print(f"{name}  fur above 6.5: {fur.flatten().tolist()}")
before, after = V.flatten(2).argmax(-1), V_enc.flatten(2).argmax(-1)
assert (before == after).all(), "the sound never moves a maximum"

# %% [markdown]
# ### Exercise 1: a stage in four lines
#
# *8 minutes, medium.*
#
# Write a stage for any weights. `visual` is `(C, H, W)`, `audio` a vector of `C_prev` numbers,
# `project` and `gate` are matrices `(C, C_prev)` and `(C, C)`, without biases. Return
# $V^\text{enc}$ and $A$.

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
small = torch.tensor([[[0.0, 1.0]]]), torch.tensor([2.0]), torch.ones(1, 1), torch.ones(1, 1)
workbook.check(
    "a RAVE stage",
    rave,
    hint="max over height and width, two matrix products, one hard sigmoid, one sum",
    cases=[((V3, a5, W_p, W_g), (wanted_v[0], wanted_a.flatten()))],
    mistakes=[
        (small, lambda found: abs(found[1] - 7 / 6) < 1e-3, "g asks whether it is anywhere: max"),
        (small, lambda found: abs(found[1] - 5 / 3) < 1e-3, "the gate looks at the picture's max"),
        (small, lambda found: abs(found[1] - 1.462) < 1e-3, "the gate is a *hard* sigmoid"),
        (small, lambda found: abs(found[1] - 2) < 1e-3, "the gate is missing"),
        (small, lambda found: found[0].amin() == 0, "the audio state is added to each pixel"),
    ],
)

# %% [markdown]
# ## 2.2 All stages: the encoder
#
# The visual encoder, SeaFormer, has five stages with strides 4 to 64. After each stage the sound
# is refined and added, *and the next stage reads the enhanced map*: sound enters the picture's
# own features early and often. The audio state changes its length to match the channels of the
# stage. Follow the shapes:

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
# A RAVE stage has two 1x1 convolutions with biases: from `before` to `channels` (projection) and
# from `channels` to `channels` (gate). How many parameters is that? Compare with the table.

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
        ((5, 4), 36, "both convolutions have biases, too"),
        ((5, 4), 48, "the gate goes from the stage's own channels to as many"),
        ((5, 4), 45, "a bias belongs to each channel that comes out, not to those that go in"),
    ],
)

# %%
if mine := workbook.yours("parameters of RAVE"):
    for preset in ("tiny", "lean", "paper"):
        of = profiling.skeleton("lightavseg", preset)              # shapes without numbers
        rave_of = sum(map(mine, [of.audio.channels, *of.visual.channels[:-1]], of.visual.channels))
        whole_of = sum(p.numel() for p in of.parameters())
        share = f"{rave_of / whole_of:.1%}"
        print(f"{preset:6} {rave_of:9,} of {whole_of:11,} parameters are RAVE's: {share}")

# %% [markdown]
# ## 2.3 Coarse to fine: the decoder
#
# The Cross-Modal Fusion Decoder (CMFD) walks back from the coarsest map to the finest. At each
# scale the audio state is refined once more,
#
# $$A_i^* = \mathrm{ReLU}(W[\hat A_{i+1}, A_i]), \qquad \hat A_i = A_i^* \odot \mathrm{hsigmoid}(W_g \max V_i^\text{enc}),$$
#
# and added to the features: $V_i^\text{dec} = P_i V_i^\text{enc} +
# \mathrm{up}(S\,V_{i+1}^\text{dec}) + W_b \hat A_i$. Again one number per channel. Here $P_i$ is
# a 1x1 convolution that brings all scales to the decoder's width $D$ (the audio state has its
# own), $S$ a 3x3 block, $[\cdot, \cdot]$ puts two vectors end to end; at the coarsest scale there
# is no $i + 1$.

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
# Where do its parameters lie?

# %%
parts = profiling.parameters(model)
total = sum(part.total for part in parts.values())
shares = ", ".join(f"{name} {part.total / 1e6:.2f}" for name, part in parts.items())
print(f"{total / 1e6:.2f} M parameters: {shares}")

# %% [markdown]
# The fusion, the part that brings sound and vision together, is small; and what it *does* is
# smaller still, as we now see.
#
# ## 2.4 What does listening cost? Predict first
#
# Count multiply-accumulates (MACs). A map has $N$ positions and $C$ channels. RAVE multiplies
# *vectors* by matrices, never the map: $C_\text{prev} C + C^2$ MACs, whatever $N$ is. What grows
# with the map is taking its maximum ($NC$ comparisons) and adding the vector ($NC$ additions).
# So:
#
# > **Prediction.** The MACs of a RAVE stage do not depend on the image size; its other operations
# > grow in proportion to the pixels.
#
# `count` runs a module on torch's *meta* device, where tensors have shapes and no numbers, and
# counts what would be computed.

# %%
channels, stride = 256, 32                     # the fourth stage of SeaFormer-L
rave_stage = RAVEStage(channels, channels, LightAVSegConfig())
for side in (224, 448, 896):
    n = (side // stride) ** 2
    seen = torch.empty(1, channels, side // stride, side // stride)
    heard = torch.empty(1, channels, 1, 1)
    counted = count(rave_stage, seen, heard)
    macs, other = counted.total_macs, counted.total_other
    print(f"{side} px, N = {n:4}: {macs:,} MACs, {other:,} other operations")
    assert counted.total_macs == 2 * channels**2, "project and gate, one vector each"
    assert counted.total_other >= 2 * n * channels, "a comparison and an addition per element"

# %% [markdown]
# ## 2.5 Three ways to bring sound in
#
# **1. Tiled, every position meets every position** (TPAVI of AVSBench, 2022). The sound is copied
# to all $N = T h w$ positions of the clip; then $y = \frac{1}{N}\,\theta(V)\,\phi(A)^\top g(V)$,
# where $\theta$, $\phi$ and $g$ are linear maps from $C$ to $C/2$ channels at each position, and
# another leads back. No softmax. As published, the left product comes first: $N \times N$
# numbers.
#
# **2. Sound as $K$ tokens** (AVESFormer; SelM with $K = 1$). Each position asks $K$ audio tokens,
# $\mathrm{softmax}(qk^\top/\sqrt{d})\,v$: $N \times K$ weights. (AVSegFormer asks too, but with
# 300 learned *queries* instead of the $N$ positions.)
#
# **3. One number per channel** (RAVE).
#
# Predict the MACs at $C$ channels, $C/2$ inside TPAVI:
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
# At small $N$ the projections dominate TPAVI. From which $N$ on do the two $N \times N$ products
# cost more MACs than the three projections?

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
    hint="set N²C equal to 1.5·N·C² and solve for N",
    cases=[(256, 384.0), (64, 96.0)],
    mistakes=[
        (64, 6144.0, "the products cost N² times C: a C drops out on both sides"),
        (64, 64.0, "the three projections together cost 1.5·N·C², not N·C²"),
        (64, 64 / 1.5, "N²C = 1.5·N·C²: divide both sides by N·C and look again"),
        (64, 192.0, "each projection goes to half the channels: three of them are 1.5·N·C²"),
    ],
)

# %% [markdown]
# With $C = 256$ that is $N = 384$: one frame of 160 pixels at stride 8. Now count. The methods
# fuse at several scales, so here each way works on four maps of one frame, with strides 4, 8, 16
# and 32:

# %%
sides = [side for side in (96, 160, 224, 320, 448, 640, 896) if side <= s.largest]
counted = [accounting.interaction_cost(side, tokens=16) for side in sides]
work = {name: [cost[name].total_macs for cost in counted] for name in counted[0]}
title = "Counted: the meeting of sound and picture, C = 256"
workbook.show(
    plots.cost_curves(sides, work, title, "multiply-accumulates"),
    alt="Counted multiply-accumulates against the side of the frame, log-log, for four ways: "
    "published TPAVI rises steepest, RAVE is flat and lowest.",
)

# %% [markdown]
# And in time, on this machine? Published TPAVI on a stride-4 map of 896 pixels would take
# minutes, so we time one map, of stride 8. The four take turns at each size; the medians are
# drawn.

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

# %% [markdown]
# Compare the shapes. RAVE's MACs are constant, yet its time grows: the maximum and the addition
# touch every element, and counting MACs does not see that. For small frames starting a kernel
# costs some microseconds however little it computes; MACs do not see that either.
#
# ## 2.6 The verdict on "from $O(N^2)$ to $O(N)$"
#
# Fit each counted cost by $c_0 + c_1\,HW + c_2\,(HW)^2$ and ask whether $c_2$ is needed:

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
# One curve is quadratic: TPAVI *as published*. And it need not be. There is no softmax between
# the three matrices, so they may be multiplied in either order, $(\theta\phi^\top)g =
# \theta(\phi^\top g)$, and the right one makes a $C/2 \times C/2$ matrix in the middle.
#
# ### Exercise 4: the same, in $O(N)$
#
# *6 minutes, medium.*
#
# `theta`, `phi`, `g` are `(N, D)`. Return $\frac{1}{N}\theta\phi^\top g$ without ever making an
# $N \times N$ matrix.

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
    """How many numbers the largest tensor holds that is made meanwhile."""

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
        (tuple(given), lambda found: found[1] >= 2500, "on the way N x N numbers are made"),
        (tuple(given), like(50 * right), "the 1 / N is missing"),
        (tuple(given), like(50 / 4 * right), "divide by N, the number of rows, not of columns"),
        (tuple(given), like(theta @ (g.T @ phi) / 50), "phi is transposed, and stands before g"),
    ],
)

# %%
published, linear = ways["TPAVI, published"], ways["TPAVI, re-associated"]
linear.load_state_dict(published.state_dict())
clip, sound = torch.randn(1, 5, C, 14, 14), torch.randn(1, 5, C)
for block in (published, linear):
    torch.nn.init.ones_(block.mu_norm.weight)        # training starts from zero here: TPAVI closed
with torch.inference_mode():
    one, other = published(clip, sound)[0], linear(clip, sound)[0]
print(f"largest difference of the two orders {(one - other).abs().max():.1e}, "
      f"where numbers are about {one.abs().mean():.1f}")
assert torch.allclose(one, other, atol=1e-4)

# %% [markdown]
# So the honest reading of the claim:
#
# - **The mechanism.** Adding a vector per channel needs no pairs of positions at all. That is
#   simpler and cheaper than everything else above, by a large constant. This is LightAVSeg's
#   idea, and it stands.
# - **The order of evaluation.** TPAVI's quadratic cost is a matter of brackets. Re-associated, it
#   is linear too, and it is the *same function*.
# - **The others do not meet the sound quadratically.** $K$ audio tokens make $O(NK)$,
#   AVSegFormer's encoder samples a fixed number of points for each pixel (deformable attention),
#   SelM's tokens are two.
# - **Where a square cannot be taken out.** Softmax attention *between pixels* cannot be
#   re-associated, because each row is normalised before it meets the values. Our AVESFormer has
#   such a block, at stride 8, after the sound is in: section 2.7 finds it.
#
# ### What the brackets also show: TPAVI does not know *when*
#
# Look at $\theta(V)\,(\phi(A)^\top g(V))$ again. The matrix in brackets is a sum over all
# positions *of all seconds*; each pixel then meets that one matrix. So a pixel of second 3 is not
# told what sounds in second 3, only what the clip sounds like as a whole. Give TPAVI one picture,
# five times, with five different sounds. **Prediction:** all five answers are the same.

# %%
still = torch.randn(1, 1, C, 14, 14).expand(1, 5, C, 14, 14)
loud = torch.randn(1, 5, C)                                # another sound in every second
with torch.inference_mode():
    answers = published(still, loud)[0]
    other_sounds = published(still, torch.randn(1, 5, C))[0]
between_seconds = (answers - answers[:, :1]).abs().max().item()
print(f"largest difference between seconds {between_seconds:.1e}; "
      f"when all sounds are others {(answers - other_sounds).abs().max():.1e}")
assert between_seconds < 1e-4 < (answers - other_sounds).abs().max()

# %% [markdown]
# Where the objects that sound change from second to second, as in MS3, that is a handicap; where
# one object sounds all the time, as in S4, it is none. RAVE adds the sound of *its own* second to
# each frame. Notebook 7 shows what this means after training.
#
# ### With one key, attention is a broadcast
#
# Look closer at way 2 with $K = 1$, one audio token per frame. A softmax over one number is 1.
# Whatever is asked, by a pixel or by one of AVSegFormer's queries, the answer is the same vector:
# cross-attention with a single key *adds one number per channel*, the very thing RAVE does on
# purpose (only that RAVE's number also depends, through the gate, on what is seen).

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
assert max(query, key) < 1e-6 * value, "zero, but for rounding"

# %% [markdown]
# The query and key projections have no effect and learn nothing. This is called *attention
# dissipation*; notebook 6 takes it apart. SelM's early fusion shows it in another dress: the
# attended audio passes an instance norm, which removes whatever is the same at every pixel. What
# remains is a constant per channel that does not depend on the sound at all:

# %%
fusion = AudioToPixels(channels=64, width=64).eval()
outputs = []
with torch.inference_mode():
    for _ in range(2):                                    # other pixels, another sound
        pixels_seen, sound_heard = torch.randn(1, 64, 196), torch.randn(1, 64, 1)
        outputs.append(fusion(pixels_seen, sound_heard))
    constant = F.gelu(fusion.out.bias)[None, :, None]
distance = max((x - constant).abs().max().item() for x in outputs)
print(f"largest distance from GELU(bias), whatever is seen and heard: {distance:.1e}")
assert distance < 1e-3

# %% [markdown]
# SelM's published code holds two more surprises, which its scores contain: it draws random
# numbers in *evaluation* too (Gumbel noise, when pixels choose their token), and it takes some
# gates from the wrong frame as soon as a batch holds two clips. Here both are behind
# `published=True`; by default evaluation is deterministic and clips keep apart.

# %%
clips, sounds = torch.randn(2, 5, 3, 64, 64), torch.randn(2, 5, 1, 96, 64)
for published in (True, False):
    torch.manual_seed(s.seed)
    selm = lav.create_model("selm", preset="tiny", published=published).eval()
    with torch.inference_mode():
        first, again = (selm(clips, sounds).logits for _ in range(2))
        alone = selm(clips[1:], sounds[1:]).logits
    scale = first.abs().mean()
    drawn = (first - again).abs().mean() / scale
    mixed = (first[1:] - alone).abs().mean() / scale
    print(f"published={published!s:5}  the same input twice differs by {drawn:.1%}; "
          f"a clip alone from itself in a batch, noise included, by {mixed:.1%}")
assert torch.equal(first, again) and torch.allclose(first[1:], alone, atol=1e-4)

# %% [markdown]
# ## 2.7 Whole methods, and a column not to be trusted
#
# Costs of whole methods, counted, for one frame. AVSegFormer's published scores were computed at
# 512 pixels although its configuration says 224, so both sizes stand here. Those of AVSBench,
# AVSegFormer and SelM compute the authors' functions (tests prove it against numbers of their
# code); the other two papers have no public code.

# %%
rows, quadratic = [], []
for method in lav.list_methods():
    for visual, audio in (("resnet50", "vggish"), ("seaformer_l", "mobilenetv2_100")):
        skeleton = profiling.skeleton(method, visual=visual, audio=audio)
        macs = {side: profiling.macs(skeleton, side).total_macs for side in (224, 512, 896)}
        fit = accounting.fit_cost([side**2 for side in macs], list(macs.values()))
        square = max(fit.c2 * 896**4 / macs[896], 0.0)    # what rounded sides leave may be negative
        if square > 0.2:
            quadratic.append(method)
        giga = [f"{macs[side] / 1e9:.1f}" for side in (224, 512)]
        rows.append((method, f"{visual} + {audio}", *giga, f"{square:.0%}"))
print("a fifth or more is quadratic at 896 px:", ", ".join(dict.fromkeys(quadratic)))
columns = ["method", "encoders", "GMACs at 224 px", "at 512 px", "share of $c_2$ at 896 px"]
workbook.table(columns, rows)

# %% [markdown]
# AVSBench's square is TPAVI's order of evaluation, AVESFormer's the attention between pixels in
# its last decoder stage. (A trace of a square comes from maps whose sides do not divide evenly
# and are rounded up.)
#
# Now the parameters. The column of LightAVSeg's table reads well, until one asks what each number
# counts:

# %%
rows = []
for entry in accounting.published_accounting():
    row, explained = entry.row, "" if entry.explained is None else f"{entry.explained:.1f}"
    ours = f"**{entry.total / 1e6:.1f}**"
    rows.append((row.method, row.visual, row.parameters, explained, entry.counts, ours))
columns = ["reported, M", "authors' code, counted so", "what the figure counts", "all that runs, M"]
workbook.table(["method", "visual encoder", *columns], rows)

# %% [markdown]
# One column, several conventions: some figures include the audio encoder (VGGish alone has
# 72.1M), others leave it out; the ResNet rows carry 22.1M parameters of a second copy of its last
# two stages, which never runs; where the fourth column is empty nothing that we tried explains
# the figure. In the last column every method is counted the same way: all that runs, the audio
# encoder included. (The width of our LightAVSeg was *chosen* to come near the reported 20.5M.)
#
# ## Summary
#
# - RAVE: max-pool to forget *where*, gate the sound by *what* is seen, add it back as one number
#   per channel. The next stage reads the result.
# - CMFD does the same once more on the way back from coarse to fine.
# - Its interaction costs a constant number of MACs and $O(N)$ additions. Of the ways in which
#   sound meets the picture here, TPAVI's alone is quadratic, and only as published: one pair of
#   brackets makes it linear.
# - With one audio token, softmax attention is a broadcast.
# - Parameter columns mix conventions. Ask what is counted.
#
# **What this can and cannot say about AVSBench.** Shapes, parameters and operation counts are
# those of the real models at real sizes. Nothing here says how *well* a method segments: that is
# for notebook 7, on small data, and for you, on AVSBench.
#
# ## References
#
# - LightAVSeg: arXiv 2605.08805 (ICML 2026). AVESFormer: arXiv 2408.01708.
# - TPAVI: Zhou et al., *Audio-Visual Segmentation*, ECCV 2022, arXiv 2207.05042. AVSegFormer: Gao
#   et al., AAAI 2024, arXiv 2307.01146.
# - SelM: Li et al., *SelM: Selective Mechanism based Audio-Visual Segmentation*, ACM MM 2024.
#   SeaFormer: Wan et al., ICLR 2023, arXiv 2301.13156.

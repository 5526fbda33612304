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
# # 6. Attention dissipation: what a transformer asks of one sound
#
# In cross-attention each pixel asks a question (*query*). Each sound offers an answer (*value*)
# under a heading (*key*). A softmax over the keys says how much of each answer a pixel takes. But
# one second of a clip has *one* sound, and a choice among one is no choice. The authors of
# AVESFormer (Wang et al. 2024) call this **attention dissipation**. Their remedy is to make many
# keys from the one sound. They also observe **narrow attention**: early decoder stages attend to
# neighbours only, and a convolution does that for less.
#
# You test both claims: first with a pencil, then on models, then on trainings with three seeds.
#
# **Afterwards you can**
# - show what one key does to the gradients of the query and key projections, and say what
#   cross-attention has become;
# - read an attention map by entropy, effective keys, distance and spatial variance, and say what
#   each of them hides;
# - count the parameters of a published model that can have no effect;
# - test whether a model uses time, and whether "early stages attend narrowly" holds for a given
#   model.
#
# | | |
# |---|---|
# | Time on 2 cores | about a minute (`profile = "smoke"`: half of it); the trainings of sections 6.6 and 6.11 were run beforehand |
# | To read | @minutes |
# | Memory | 3 GB |
# | You need | [notebook 1](01_data.ipynb) for $M_J$, IoU and the deaf oracle; [notebook 2](02_model.ipynb) for LightAVSeg and its RAVE stage; [notebook 3](03_training.ipynb) for swapped sound; softmax attention, gradients |

# %% tags=["parameters"]
profile = "default"             # "smoke": the shortest run that touches everything
results = "results/sweep"    # what `lightavseg sweep keys early_focus` wrote
clips = 80                      # training clips of the model in section 6.7
epochs = 6
seed = 0
out = None    # folder for what is written; None: the checkout, or your cache where it is read-only

# %%
from lightavseg_core import workbook

s = workbook.settings(globals(), results=str, clips=int, epochs=int, seed=int, out=str | None)
if s.profile == "smoke":
    s.clips, s.epochs = min(s.clips, 12), 1
own = f"section 6.7 trains on {s.clips} clips for {s.epochs} epochs, seed {s.seed}"
print(f"results of {s.results}; {own}")

# %%
import math
from statistics import fmean

import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import lightavseg_core as lav
from lightavseg_core import evaluation, plots, profiling
from lightavseg_core.audio_pretraining import load_audio
from lightavseg_core.experiments import statistics, sweep
from lightavseg_core.experiments.runs import EXPERIMENTS
from lightavseg_core.inspection import attention
from lightavseg_core.inspection.attention import AttentionRecorder
from lightavseg_core.models.avesformer import TransformerBlock
from lightavseg_core.models.avsbench import TPAVI
from lightavseg_core.models.blocks import Attention, conv_block
from lightavseg_core.profiling import reported
from lightavseg_core.profiling.flops import count
from lightavseg_core.widgets.attention_explorer import AttentionExplorer

torch.manual_seed(s.seed)
machine = workbook.card()
print(", ".join(f"{name} {value}" for name, value in machine.items()))

# %% [markdown]
# ## 6.1 One key, five lines
#
# Attention (Vaswani et al. 2017) computes $\mathrm{softmax}(q k^\top / \sqrt d)\, v$. There are $N$
# queries $q$, one for each pixel, and $K$ keys $k$ with their values $v$; $d$ is the width of a
# query. The projections $W_Q$, $W_K$ and $W_V$ make queries, keys and values. Let $K = 1$. You may
# have met this case in [notebook 2](02_model.ipynb): answer from memory, then prove it.
#
# > **Prediction.** What is the weight of the one key? By how much does the output differ from pixel
# > to pixel? And how large is the gradient of $W_Q$?

# %%
workbook.guess("one key", {
    "weight": ...,                                             # a number from 0 to 1
    "largest difference between two pixels": ...,
    "norm of the gradient of W_Q": ...,
})

# %% tags=["nbval-check-output"]
pixels, sound = torch.randn(1, 6, 8), torch.randn(1, 1, 8)  # 6 pixels, one sound, 8 channels
W_Q, W_K, W_V = (torch.randn(8, 8, requires_grad=True) for _ in range(3))
weights = (pixels @ W_Q @ (sound @ W_K).mT / 8**0.5).softmax(-1)  # (1, 6, 1)
answer = weights @ (sound @ W_V)                                  # (1, 6, 8)
answer.square().sum().backward()

print("weights:", weights.flatten().tolist())
print("largest difference between two pixels:", (answer - answer[:, :1]).abs().max().item())
print("gradients of W_Q and W_K:", W_Q.grad.norm().item(), W_K.grad.norm().item())
assert (weights == 1).all() and W_Q.grad.norm() == W_K.grad.norm() == 0 < W_V.grad.norm()

# %%
workbook.beside("one key", {
    "weight": weights[0, 0, 0].item(),
    "largest difference between two pixels": (answer - answer[:, :1]).abs().max().item(),
    "norm of the gradient of W_Q": W_Q.grad.norm().item(),
})

# %% [markdown]
# Why exactly zero? Let $x_j$ be the scores and $w_i$ the weights. The derivative of the softmax is
# $\partial w_i / \partial x_j = w_i (\delta_{ij} - w_j)$. With one key $w = 1$, so the derivative
# is $1 \cdot (1 - 1) = 0$. Whatever the loss wants, none of it reaches the scores. It does not
# matter how well $W_Q$ and $W_K$ are initialised, or how long you train.
#
# In floating point it depends on the kernel. Torch's *math* kernel keeps the weights, multiplies by
# $w - w^2$ as above, and gets 0. The *fused* kernels (FlashAttention, Dao et al. 2022) do not keep
# the weights. In the backward pass they compute them again from the scores. Let $o$ be the output
# of a pixel, $u$ the gradient that arrives there, and $v$ the value. The gradient of the weight is
# $\langle u, v \rangle$, and the softmax subtracts $\langle u, o \rangle$ from it. With one key
# $o = v$, so the two are equal. But the kernel sums them in different orders, so they agree only up
# to rounding:

# %%
for kernel in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
    torch.manual_seed(s.seed)
    layer = Attention(64)
    pixels, sound, wanted = (torch.randn(2, length, 64) for length in (196, 1, 196))
    with sdpa_kernel(kernel):
        (layer(pixels, sound) - wanted).square().mean().backward()
    norms = {}
    for name in ("query", "key", "value"):
        norms[name] = getattr(layer, name).weight.grad.norm().item()
    print(f"{kernel.name:15}", ", ".join(f"{name} {norm:.1e}" for name, norm in norms.items()))
    allowed = 0 if kernel == SDPBackend.MATH else 1e-7 * norms["value"]
    assert max(norms["query"], norms["key"]) <= allowed

# %% [markdown]
# ## 6.2 In a model
#
# Now AVESFormer at the tiny size. Its decoder has three stages, from coarse to fine. We write a
# letter for each stage: `c` is a convolution, `t` is a transformer block. The default is `cct`. In
# the transformer block the pixels attend to each other, then to the sound. `prompts=0` removes the
# authors' remedy, so that the sound is the only key. Both encoders are already trained: they come
# from the model that the workbook ships. The audio encoder stays frozen.

# %%
size = 64
here = workbook.places("06_dissipation", s.out)
root = here.runs / f"data_{s.clips}_{s.seed}"
counts = {"train": s.clips, "val": 4, "test": 20}
lav.data.sounding_shapes.generate(root, "ms3", counts, size, s.seed)
shipped = lav.load_model(here.root / "checkpoints/tiny")


def avesformer(**options):
    """The tiny model: its encoders are trained, its fusion and its decoder are not."""
    torch.manual_seed(s.seed)
    model = lav.create_model("avesformer", preset="tiny", size=size, **options)
    load_audio(model.audio, here.root / "checkpoints/tiny")
    model.freeze_audio()
    known = shipped.visual.state_dict()                    # four of its five stages
    model.visual.load_state_dict(known, strict=False)
    return model


def gradients(model):
    """Gradient norms of one training step, in the layer where pixels attend to the sound."""
    output = model.train()(batch["frames"], batch["log_mel"])
    lav.losses.total_loss(output, batch["mask"], batch["annotated"])[0].backward()
    return recorder.gradients()["decoder.2.cross_attn"]


one_key = avesformer(prompts=0)
splits = {}
for split in counts:
    splits[split] = lav.data.AVSBench(root, "ms3", split, size)
train, validation, test = splits.values()
batch = lav.data.collate([test[i] for i in range(2)])

# %% [markdown]
# The recorder is a context manager that attaches hooks to every attention layer. The model's code
# does not know about it.

# %% tags=["nbval-check-output"]
ratios = {}
for name, model in {"the sound alone": one_key, "16 prompts": avesformer()}.items():
    with AttentionRecorder(model) as recorder:
        norms = gradients(model)
    ratios[name] = max(norms["query"], norms["key"]) / norms["value"]
    print(f"{name:15} gradient of W_Q and W_K below 1e-7 of that of W_V: {ratios[name] < 1e-7}")
assert ratios["the sound alone"] < 1e-7 < 1e-3 < ratios["16 prompts"]

# %%
found = ", ".join(f"{name} {ratio:.1e}" for name, ratio in ratios.items())
print(f"gradient of W_Q and W_K, divided by that of W_V: {found}")

# %% [markdown]
# The gradient is zero at the start, and it stays zero: training cannot change it. There is a trap
# if you look at the *weights* instead of the gradients. AdamW (Loshchilov and Hutter 2019) divides
# each gradient by its own typical size, so it turns even rounding noise into steps. (It adds
# $10^{-8}$ to that size. That is more than this noise, so the steps are small.) A few steps with
# each kernel, without weight decay:

# %%
steps = 10 if s.profile == "default" else 2
for kernel in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
    model = avesformer(prompts=0)
    layer = model.decoder[2].cross_attn
    optimizer = torch.optim.AdamW(layer.parameters(), lr=2e-3, weight_decay=0)
    weights = {name: getattr(layer, name).weight for name in ("query", "key", "value")}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    with sdpa_kernel(kernel), AttentionRecorder(model) as recorder:
        for _ in range(steps):
            model.zero_grad()
            gradients(model)
            optimizer.step()
    moved = {}
    for name, old in before.items():
        moved[name] = ((weights[name] - old).norm() / old.norm()).item()
    told = ", ".join(f"{name} {share:.1e}" for name, share in moved.items())
    print(f"{kernel.name:15} relative change: {told}")
    if kernel == SDPBackend.MATH:
        assert moved["query"] == moved["key"] == 0

# %% [markdown]
# A query projection that moves is no evidence that it learns.
#
# ## 6.3 A bias in disguise
#
# Now we take the whole attention layer out of a model with one key. In its place we add
# `out(value(sound))` at every pixel: no queries, no keys, no softmax.
#
# > **Prediction.** By what fraction of their usual size do the model's logits change?

# %%
workbook.guess("change of the logits", ...)                    # 0: none, 1: as large as the logits

# %%
class Broadcast(nn.Module):
    """What remains of cross-attention with one key."""

    def __init__(self, layer):
        super().__init__()
        self.value, self.out = layer.value, layer.out

    def forward(self, query, sound):              # (B, N, C), (B, 1, C)
        return self.out(self.value(sound))        # (B, 1, C)  broadcast over the N positions


with torch.inference_mode():
    attended = one_key.eval()(batch["frames"], batch["log_mel"]).logits
    layer = one_key.decoder[2].cross_attn
    one_key.decoder[2].cross_attn = Broadcast(layer)
    added = one_key(batch["frames"], batch["log_mel"]).logits
    one_key.decoder[2].cross_attn = layer
largest, usual = (attended - added).abs().max(), attended.abs().mean()
print(f"largest change of a logit {largest:.1e}; mean size of a logit {usual:.1f}")
workbook.beside("change of the logits", (largest / usual).item())
assert torch.allclose(attended, added, atol=1e-4)

# %% [markdown]
# Why? Let $a$ be the vector of the sound. With one key every pixel gets the same vector, $W_O W_V
# a$ plus biases, where $W_O$ is the output projection. So the layer *is* one number per channel,
# the same everywhere, a *broadcast*. That is what LightAVSeg's RAVE stage
# ([notebook 2](02_model.ipynb)) adds on purpose. (There the number also depends, through a gate, on
# what is seen.)
#
# ### Exercise 1: one matrix
#
# *5 minutes, medium.*
#
# `out(value(a))` applies one linear map after another. Return the *single* weight matrix $(C, C)$
# and bias $(C)$ that do the same. `value` and `out` are `nn.Linear`: $y = W x + b$.

# %% tags=["exercise"]
def fold(value, out):
    # solution
    return out.weight @ value.weight, out.weight @ value.bias + out.bias
    # wrong: the other order
    return value.weight @ out.weight, out.weight @ value.bias + out.bias
    # wrong: the first bias goes around W_o
    return out.weight @ value.weight, value.bias + out.bias
    # wrong: the last bias is forgotten
    return out.weight @ value.weight, out.weight @ value.bias
    # wrong: transposed
    return (out.weight @ value.weight).T, out.weight @ value.bias + out.bias
    # end solution

# %% tags=["check"]
heard = torch.randn(3, 64)
answer = layer.out(layer.value(heard))
W_v, b_v, W_o, b_o = layer.value.weight, layer.value.bias, layer.out.weight, layer.out.bias


def same(found):
    weight, bias = found
    return torch.allclose(heard @ weight.T + bias, answer, atol=1e-4)


def like(weight, bias):
    return lambda found: torch.allclose(found[0], weight) and torch.allclose(found[1], bias)


given, matrix, last = (layer.value, layer.out), W_o @ W_v, W_o @ b_v + b_o
workbook.check(
    "one matrix",
    fold,
    hint="write W_o (W_v a + b_v) + b_o and multiply out",
    cases=[(given, same)],
    mistakes=[
        (given, like(W_v @ W_o, last), "W_v meets the sound first, so it stands on the right"),
        (given, like(matrix, b_v + b_o), "b_v passes through W_o, too"),
        (given, like(matrix, last - b_o), "one more bias is added at the very end"),
        (given, like(matrix.T, last), "nn.Linear stores (outputs, inputs): nothing to transpose"),
    ],
)

# %% [markdown]
# What does the disguise cost? We count multiply-accumulates (MACs) and parameters at the published
# width: $C = 256$ channels, $N = 28^2$ positions.
#
# > **Prediction.** How many times fewer MACs than cross-attention with one key does the broadcast
# > need? And how many times fewer does the folded matrix of exercise 1 need?

# %%
workbook.guess("times fewer MACs", {"broadcast": ..., "folded": ...})

# %% tags=["nbval-check-output"]
C, N = 256, 28 * 28                       # the published width; a 224 px frame at stride 8
layer, folded = Attention(C), nn.Linear(C, C)
broadcast = Broadcast(layer)
pixels, sound = torch.empty(1, N, C), torch.empty(1, 1, C)
attended, added = count(layer, pixels, sound), count(broadcast, pixels, sound)
once = count(folded, sound)
assert attended.total_macs == 2 * N * C**2 + 2 * N * C + 2 * C**2
assert added.total_macs == 2 * C**2 and once.total_macs == C**2
compared = {
    "cross-attention, one key": (attended, layer),
    "broadcast": (added, broadcast),
    "folded": (once, folded),
}
rows = []
for name, (cost, module) in compared.items():
    parameters = sum(p.numel() for p in module.parameters())
    fewer = attended.total_macs / cost.total_macs
    rows.append((name, f"{cost.total_macs:,}", f"{fewer:,.0f}", f"{parameters:,}"))
workbook.beside("times fewer MACs", {
    "broadcast": attended.total_macs / added.total_macs,
    "folded": attended.total_macs / once.total_macs,
})
workbook.table(["", "MACs", "times fewer", "parameters"], rows)

# %% [markdown]
# Why? By hand:
#
# | | MACs | parameters |
# |---|---|---|
# | cross-attention, one key | $2NC^2 + 2NC + 2C^2$ | $4(C^2 + C)$ |
# | broadcast | $2C^2$ | $2(C^2 + C)$ |
# | folded | $C^2$ | $C^2 + C$ |
#
# Cross-attention projects a query and an output at each of the $N$ positions. The MACs of the
# broadcast do not depend on $N$. Only the addition of its vector to each position does: that is
# $O(N)$.
#
# ## 6.4 Four numbers for an attention map
#
# With more keys there is something to choose. Four numbers describe the choice, each with its
# extremes:
#
# | | least | most | what it hides |
# |---|---|---|---|
# | **entropy** $H = -\sum_k w_k \ln w_k$; *relative*: $H / \ln K$ | 0: one key has all the weight | $\ln K$: all weights are equal | whether the queries differ |
# | **effective keys** $e^H$ | 1 | $K$ | the same, in units of keys |
# | **top share** $\max_k w_k$ | $1/K$ | 1 | all keys but one |
# | **spatial variance** of the output, in units of its mean square | 0: the same vector at every pixel | 1: the mean over the pixels is zero | where the difference comes from |
#
# With one key the relative entropy is $0 / \ln 1$, so it is not defined. The point of attention is
# that its output varies from pixel to pixel. Only the last number shows whether it does.
#
# A map is *saturated* when one key leads by so much that the others vanish. Let the score of one of
# $K$ keys be higher by $\Delta$ than those of the others, which are equal. Then the weight of the
# leading key is $1 / (1 + r)$ with $r = (K - 1)\, e^{-\Delta}$.
#
# ### Exercise 2: the entropy of a leading key
#
# *10 minutes, hard.*
#
# Derive $H$ from $K$, $\Delta$ and the temperature $\tau$, which divides all scores. (The check
# uses leads of up to $\Delta = 30$.)

# %% tags=["exercise"]
def leading_entropy(keys, lead, temperature):
    # solution
    rest = (keys - 1) * math.exp(-lead / temperature)
    return math.log1p(rest) + lead / temperature * rest / (1 + rest)
    # wrong: the temperature is forgotten
    rest = (keys - 1) * math.exp(-lead)
    return math.log1p(rest) + lead * rest / (1 + rest)
    # wrong: times the temperature
    rest = (keys - 1) * math.exp(-lead * temperature)
    return math.log1p(rest) + lead * temperature * rest / (1 + rest)
    # wrong: a single other key
    rest = math.exp(-lead / temperature)
    return math.log1p(rest) + lead / temperature * rest / (1 + rest)
    # wrong: the leader's part alone
    return math.log1p((keys - 1) * math.exp(-lead / temperature))
    # wrong: a large lead is taken for certainty
    if lead / temperature > 20:
        return 0.0
    rest = (keys - 1) * math.exp(-lead / temperature)
    return math.log1p(rest) + lead / temperature * rest / (1 + rest)
    # end solution

# %% tags=["check"]
def of_scores(lead):
    return attention.entropy(torch.tensor([lead, 0, 0]).double().softmax(0)).item()


far = 15 * 31 * math.exp(-30)
warm = 3, 2.0, 0.5
workbook.check(
    "entropy of a leading key",
    leading_entropy,
    tolerance=1e-6,
    hint="-log w is log(1 + r) for the leader, log(1 + r) + lead / temperature for the others",
    cases=[
        ((2, 0.0, 1.0), math.log(2)),
        ((64, 0.0, 1.0), math.log(64)),
        ((1, 5.0, 1.0), 0.0),
        (warm, of_scores(4.0)),
        ((16, 30.0, 1.0), lambda found: abs(found / far - 1) < 1e-3),
    ],
    mistakes=[
        (warm, of_scores(2.0), "the temperature divides all scores, so the lead as well"),
        (warm, of_scores(1.0), "the temperature divides; a low one sharpens"),
        ((64, 0.0, 1.0), math.log(2), "how many keys are there besides the leader?"),
        (warm, math.log1p(2 * math.exp(-4)), "the others' -log w is larger than the leader's"),
        ((16, 30.0, 1.0), lambda found: found == 0, "small is not zero, also at a lead of 30"),
    ],
)

# %% [markdown]
# Now measured: the marks are what the package's function finds in real weights. Once your answer
# has passed, the lines are yours.

# %%
mine = workbook.yours("entropy of a leading key")
leads = torch.linspace(0, 20, 41, dtype=torch.double)
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
for keys, color, marker in ((2, plots.BLUE, "o"), (16, plots.ORANGE, "s"), (64, plots.GREEN, "^")):
    scores = torch.zeros(len(leads), keys, dtype=torch.double)
    scores[:, 0] = leads
    measured = attention.entropy(scores.softmax(-1))
    axis.plot(leads[::4], measured.exp()[::4], marker, color=color, label=f"{keys} keys")
    if mine:
        yours = torch.tensor([mine(keys, lead, 1.0) for lead in leads.tolist()], dtype=torch.double)
        assert (measured - yours).abs().max() < 1e-6
        axis.plot(leads, yours.exp(), color=color)
axis.set(title="One key leads: measured (marks), your formula (lines)", yscale="log")
axis.set(xlabel="lead of its score over the others' (temperature 1)", ylabel="effective keys")
axis.set_yticks([1, 2, 4, 16, 64], [1, 2, 4, 16, 64])
axis.minorticks_off()
axis.legend(frameon=False)
workbook.show(
    figure,
    alt="Effective keys, measured, fall from K to 1 as the lead of one key's score grows.",
)

# %% [markdown]
# With 2 keys a lead of 5 leaves about one effective key; with 64 keys it takes about 10. That is
# not much more for 32 times as many keys: to keep $r = (K - 1)\, e^{-\Delta}$ the same, 64 keys need $\ln 63 \approx 4.1$ more than 2
# keys. The temperature $\tau$ stretches this axis: $\tau = 1/4$ acts like a lead four times as
# large.
#
# ## 6.5 A few keys
#
# Where could more keys come from?
#
# - **Time.** A clip has one sound per second, so a clip of five seconds has five keys. The key of
#   the frame's own second is marked. (`seconds=True`; this is our variation, not the paper's.)
# - **The prompt query generator**, AVESFormer's remedy. It has $K$ learned prompts $p_k$. The sound
#   is added to each prompt, and a feed-forward network (our choice) turns the sums into keys.
#
# We build eight models: the sound as the only key; one sound per second; 1, 2, 4, 16 and 64
# prompts; and 16 *equal* prompts.
#
# > **Prediction.** In which of the eight models do $W_Q$ and $W_K$ get no gradient?

# %%
workbook.guess("models without a gradient", ...)               # a list of their names

# %%
settings = {"the sound": {"prompts": 0}, "a sound per second": {"prompts": 0, "seconds": True}}
for n in (1, 2, 4, 16, 64):
    settings[f"{n} prompts" if n > 1 else "1 prompt"] = {"prompts": n}
settings["16 equal prompts"] = {"prompts": 16}
untrained = {}
for name, options in settings.items():
    model = avesformer(**options)
    if name == "16 equal prompts":
        model.generator.prompts.data[:] = model.generator.prompts.data[:1]
    with AttentionRecorder(model, "*.cross_attn") as recorder:
        norms = gradients(model)
        model.eval()(batch["frames"], batch["log_mel"])
    untrained[name] = recorder.statistics()["decoder.2.cross_attn"]
    untrained[name]["gradient"] = max(norms["query"], norms["key"]) / norms["value"]

# %% tags=["nbval-check-output"]
no_gradient = [name for name, found in untrained.items() if found["gradient"] < 1e-6]
print("no gradient of W_Q and W_K, up to rounding:", ", ".join(no_gradient))
assert no_gradient == ["the sound", "1 prompt", "16 equal prompts"]
workbook.beside("models without a gradient", no_gradient)


# %%
def number(value, style=".3f"):
    return "not defined" if value is None else f"{value:{style}}"


columns = {
    "keys": "d",
    "gradient": ".1e",
    "relative_entropy": ".3f",
    "effective_keys": ".2f",
    "top_share": ".3f",
    "spatial_variance": ".1e",
}
rows = []
for name, found in untrained.items():
    rows.append((name, *(number(found[column], style) for column, style in columns.items())))
print("untrained; gradient: the larger of W_Q's and W_K's norms, divided by W_V's")
workbook.table(["", *(column.replace("_", " ") for column in columns)], rows)

# %% [markdown]
# Look at the last row. Its relative entropy is 1, the highest possible value, and all 16 keys are
# "effective". Yet each pixel gets the same vector, and $W_Q$ and $W_K$ get no gradient. We call
# attention *alive* if its output varies from pixel to pixel. High entropy means *spread*, not
# *alive*; spatial variance shows which attention is alive. Before training the weights of distinct
# prompts are spread almost evenly, too. Section 6.6 shows what training makes of that.
#
# ### Is the sum alone enough?
#
# Perhaps it is enough to add the sound to $K$ distinct prompts. We remove the feed-forward network,
# so that the keys come directly from the sums $a + p_k$. Then we play the clip's own sound, and
# silence, over the same frames.
#
# > **Prediction.** Does the sound change the attention weights? Answer for the generator with its
# > feed-forward network, and for the sum alone.

# %%
workbook.guess("the sound changes the weights", {              # True or False
    "feed-forward": ...,
    "the sum alone": ...,
})

# %%
model = avesformer().eval()
silence = test.with_sound("silent")
in_silence = lav.data.collate([silence[i] for i in range(2)])["log_mel"]


def heard_and_silent(model):
    """The recorded layer: once with the clips' own sound, once with silence, on the same frames."""
    with AttentionRecorder(model, "*.cross_attn") as recorder, torch.inference_mode():
        for log_mel in (batch["log_mel"], in_silence):
            model(batch["frames"], log_mel)
            yield recorder.layers["decoder.2.cross_attn"]


moved, varied = {}, {}
for name in ("feed-forward", "the sum alone"):
    if name == "the sum alone":
        nn.init.zeros_(model.generator.ffn[-1].weight)
        nn.init.zeros_(model.generator.ffn[-1].bias)
    with_sound, without = heard_and_silent(model)
    moved[name] = (with_sound.weights - without.weights).abs().max().item()
    varied[name] = attention.spatial_variance(with_sound.output - without.output).max().item()
    print(
        f"{name:14} the sound changes the weights by up to {moved[name]:.1e}; "
        f"spatial variance of what it adds to the output {varied[name]:.1e}"
    )
assert moved["the sum alone"] < 1e-5 < 1e-4 < moved["feed-forward"]
assert varied["the sum alone"] < 1e-8 < 1e-6 < varied["feed-forward"]
changed = {name: change > 1e-5 for name, change in moved.items()}
workbook.beside("the sound changes the weights", changed)

# %% [markdown]
# Why? The score of pixel $q$ and key $k$ is $q^\top W_K (a + p_k) = q^\top W_K a + q^\top W_K p_k$.
# The first term is the same for all $k$, and a softmax ignores a term that all scores share. So
# without the feed-forward network the weights are the same as in silence, and the sound enters as a
# bias again. With it, the keys are no longer linear in $a + p_k$, and the weights depend on the
# sound.
#
# So prompts can make attention *alive* (its output varies) while the sound does not change the
# weights. (The model may still hear the sound, as a bias: section 6.6.) This is why our generator has a feed-forward network. Whether the authors'
# generator has one we do not know.
#
# ## 6.6 Trained side by side
#
# We trained the same model with one key; one key per second; 1, 2, 16 or 64 prompts; and 16 prompts
# at two other temperatures. All were trained on the same clips for the same number of steps, with
# three seeds each. Dissipation is a fact about gradients. The claim to test is that it *costs
# accuracy*, and that the remedy brings it back.
#
# The score is $M_J$ ([notebook 1](01_data.ipynb)). Differences are paired by seed; each has a 95%
# interval of Student's $t$ over the seeds: the mean difference plus and minus 4.3 standard errors,
# for three seeds ([notebook 7](07_methods.ipynb)). The last column of the
# table shows how far $M_J$ falls with swapped sound ([notebook 3](03_training.ipynb)).

# %%
keys = sweep.load("keys", here.root / s.results)
focus = sweep.load("early_focus", here.root / s.results)
for name, found in {"keys": keys, "early_focus": focus}.items():
    trainings = [run for seeds in found.values() for run in seeds.values()]
    if len(found) < len(EXPERIMENTS[name]) or not all("attention" in run for run in trainings):
        raise FileNotFoundError(
            f"{s.results}: {name} is not complete. Run `lightavseg sweep {name}`."
        )
    one = trainings[0]
    hours = sum(run["seconds"] for run in trainings) / 3600
    side, of = one["run"]["budget"]["size"], one["machine"]
    print(
        f"{name}: {len(trainings)} trainings of {one['steps']} steps at {side} px, "
        f"{hours:.1f} core hours, {one['date']}, {of['device']}, torch {of['torch']}"
    )
baseline = keys["the sound"]
oracle = baseline[0]["deaf_oracle"]["M_J"]
print(f"deaf oracle (perfect eyes, no ears) on the test clips of keys: M_J {oracle:.3f}")


# %%
def statistic(seeds, name, layer="decoder.2.cross_attn"):
    """By seed, a statistic of the trained model's attention over all test clips."""
    return {seed: result["attention"][layer][name] for seed, result in seeds.items()}


def hearing(seeds):
    """By seed, how much M_J falls when another clip's sound is played."""
    swapped = sweep.values(seeds, sound="swapped")
    return {seed: own - swapped[seed] for seed, own in sweep.values(seeds).items()}


def verdict(d, below="worse", above="better", neither="undecided"):
    """The verdict that the interval of a difference allows."""
    if d.high < 0:
        return below
    return above if d.low > 0 else neither


def interval(d):
    return f"{d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f})"


def mean(values):
    return f"{fmean(values.values()):.3f}"


against, rows = {}, []
for name, seeds in keys.items():
    scores = sweep.values(seeds)
    difference = "", ""
    if name != "the sound":
        d = against[name] = statistics.paired(scores, sweep.values(baseline))
        difference = interval(d), verdict(d)
    rows.append((name, mean(scores), *difference, mean(hearing(seeds))))
columns = ["$M_J$", "minus that of one key (95%)", "verdict", "own sound minus swapped"]
workbook.table(["keys", *columns], rows)

# %%
panels = {"$M_J$": {name: sweep.values(seeds).values() for name, seeds in keys.items()}}
for label in ("relative entropy", "effective keys", "spatial variance"):
    key = label.replace(" ", "_")
    panels[label] = {name: statistic(seeds, key).values() for name, seeds in keys.items()}
title = "AVESFormer by its keys, trained alike: a dot for each seed, a bar at their mean"
figure = plots.seed_dots(panels, title, {"$M_J$": (oracle, "deaf oracle")})
figure.savefig(here.figures / "06_keys.png", dpi=110, metadata={"Software": None})
workbook.show(
    figure,
    alt="For each way to make keys: M_J, relative entropy, effective keys and spatial variance of "
    "the cross-attention, a dot for each seed.",
)

# %% [markdown]
# (This figure is also the file `figures/06_keys.png`.)
#
# The next two cells compute the verdicts. The claim is tested by *one* row: 16 prompts, the paper's
# remedy and our default. The other rows are exploratory: of many 95% intervals, some exclude zero
# by chance.

# %% tags=["nbval-check-output"]
varies = {}
for name, seeds in keys.items():
    varies[name] = fmean(statistic(seeds, "spatial_variance").values())
alive = [name for name in keys if varies[name] > 1e-6]
print("the same vector everywhere:", ", ".join(name for name in keys if name not in alive))
least, most = sorted(alive, key=varies.get)[::len(alive) - 1]
extremes = f"{varies[least]:.3f} ({least}) to {varies[most]:.3f} ({most})"
print(f"spatial variance of the others: {extremes}; possible: 0 to 1")
for word in ("better", "worse", "undecided"):
    of_word = [name for name, d in against.items() if verdict(d) == word]
    which = "; ".join(of_word) or "none"
    if len(of_word) == len(against):
        which = "all"
    print(f"M_J compared with one key, {word}: {which}")
chance = 0.05 * len(against)
print(f"of these {len(against)} intervals, {chance:.2f} would exclude zero by chance, on average")

# %% tags=["nbval-check-output"]
for name in alive:
    if name not in untrained:
        continue
    changes = []
    for stat in ("relative_entropy", "spatial_variance"):
        before, after = untrained[name][stat], mean(statistic(keys[name], stat))
        changes.append(f"{stat.replace('_', ' ')} {before:.3f} -> {after}")
    print(f"{name}, untrained -> trained:", ", ".join(changes))
remedy = against["16 prompts"]
shown = {"better": "holds", "worse": "is refuted", "undecided": "is NOT shown"}[verdict(remedy)]
print(f"16 prompts minus one key {interval(remedy)}: 'prompts raise the score' {shown} here")

# %% [markdown]
# Look at *a sound per second*. All its seeds score below the deaf oracle, yet its interval includes
# zero: with three seeds it is wide. More keys need not help. A plausible reason: with these keys
# each frame must first find out which key is its own.
#
# Keep three things apart.
#
# - *Undecided* is not *equal*: three seeds make wide intervals.
# - A sound that adds the same vector everywhere is still *heard*. With one key the model listens
#   through the broadcast; the last column of the table says how much.
# - These clips may ask little of attention. One vector can say which of the seven timbres are
#   sounding, and a bias per channel can carry that.
#
# The two reasons given here are plausible; nothing here tests them.
#
# ## 6.7 A model of our own
#
# Now we train one ourselves: 16 prompts, a hundred steps or so, starting from the two trained
# encoders.

# %%
torch.manual_seed(s.seed)
ours = avesformer()
config = lav.TrainConfig(
    epochs=s.epochs,
    seed=s.seed,
    batch_size=4,
    half=0.0, three_quarters=0.0,                              # frames of one size
    learning_rate=2e-3,
    validate_every=s.epochs,
    audio_weights=str(here.root / "checkpoints/tiny"),
)
trainer = lav.Trainer(ours, config)
trainer.fit(train, validation)
normal, swapped = (lav.evaluate(ours, test, sound)["M_J"] for sound in ("normal", "swapped"))

# %% tags=["result"]
on = f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}"
print(f"measured live on {on}:")
steps = sum(entry["event"] == "step" for entry in trainer.log)
trained_on = f"{steps} steps on {s.clips} clips, seed {s.seed}"
print(f"{trained_on}: M_J {normal:.3f}, with swapped sound {swapped:.3f}")

# %% [markdown]
# Where does each key get its weight? We choose the frame by a rule: of the test frames in which
# something sounds, the one with the median IoU. Of its 16 keys we show the five whose weight varies
# most over the 8 x 8 positions.

# %%
ranked = evaluation.ranked_frames(ours, test)
iou, index, second = ranked[len(ranked) // 2]
item = test[index]
with AttentionRecorder(ours, "*.cross_attn") as recorder:
    evaluation.predict(ours, item)
layer = recorder.layers["decoder.2.cross_attn"]
over_heads = layer.weights[second].mean(0)                     # (N, K)
maps = over_heads.T.unflatten(1, layer.query_grid)             # (K, h, w)
chosen = maps.flatten(1).std(1).argsort(descending=True)[:5]
names = [f"key {k}" for k in chosen.tolist()]
title = f"Test clip {index}, second {second}, IoU {iou:.2f}"
frame, mask = item["frames"][second], item["mask"][second]
figure = plots.attention_maps(frame, mask, maps[chosen], names, title)
workbook.show(
    figure,
    alt="A frame, what sounds in it, and five small maps that show how much weight each of five "
    "keys gets at each position.",
)
found = recorder.statistics()["decoder.2.cross_attn"]
print(
    f"over this clip: relative entropy {found['relative_entropy']:.3f}, "
    f"effective keys {found['effective_keys']:.1f} of {found['keys']}, "
    f"spatial variance {found['spatial_variance']:.3f}"
)

# %% [markdown]
# **Which matters more, the place or the sound?** The weight of a key varies over the positions of a
# frame *and* from frame to frame. By the law of total variance the two parts add up. The variance
# of each frame's mean weight is the part of the sound (and the scene). The mean variance within the
# frames is the part of the place.
#
# > **Prediction.** What share of the variance lies within the frames, that is, between the
# > positions of one frame?

# %%
workbook.guess("share within a frame", ...)                    # a number from 0 to 1

# %%
whole = lav.data.collate([test[i] for i in range(len(test))])
with AttentionRecorder(ours, "*.cross_attn") as recorder, torch.inference_mode():
    ours.eval()(whole["frames"], whole["log_mel"])
weights = recorder.layers["decoder.2.cross_attn"].weights      # (frames, heads, positions, keys)
between = weights.mean(2).var(0, correction=0).sum()
within = weights.var(2, correction=0).mean(0).sum()
total = weights.transpose(1, 2).flatten(0, 1).var(0, correction=0).sum()
assert torch.isclose(between + within, total, rtol=1e-3)
print(
    f"of the variance of the weights, {between / total:.0%} lies between frames and "
    f"{within / total:.0%} within a frame"
)
workbook.beside("share within a frame", (within / total).item())

# %% [markdown]
# If attention is there to tell places apart, the share within a frame should be the larger one. It
# is. But look at the maps above before you call that listening: they may separate objects from
# background, whether the objects sound or not.
#
# Now change the temperature $\tau$ of the trained model, without training it again.
#
# > **Prediction.** Raise $\tau$ from $1/4$ to 4 in five steps. Does the entropy rise or fall? And
# > how far apart are the best and the worst $M_J$?

# %%
workbook.guess("a rising temperature", {
    "entropy": ...,                                            # "rises" or "falls"
    "M_J, best minus worst": ...,
})

# %%
attend = ours.decoder[2].cross_attn
measured = {}
for temperature in (0.25, 0.5, 1.0, 2.0, 4.0):
    attend.temperature = temperature
    looked = attention.survey(ours, test, names="*.cross_attn")["decoder.2.cross_attn"]
    measured[temperature] = looked | lav.evaluate(ours, test)
attend.temperature = 1.0
entropies = [found["entropy"] for found in measured.values()]
assert entropies == sorted(entropies)
scores = [found["M_J"] for found in measured.values()]
workbook.beside("a rising temperature", {
    "entropy": "rises" if entropies[-1] > entropies[0] else "falls",
    "M_J, best minus worst": max(scores) - min(scores),
})
shown = ("relative_entropy", "effective_keys", "top_share", "M_J")
rows = [(t, *(number(found[key]) for key in shown)) for t, found in measured.items()]
columns = ["temperature", "relative entropy", "effective keys", "top share", "$M_J$"]
workbook.table(columns, rows)

# %% [markdown]
# For fixed scores it is a theorem that the entropy rises with $\tau$, and here the scores are
# fixed. Compare how much the entropy changes with how much $M_J$ changes. This model was trained at
# $\tau = 1$; section 6.6 has models trained at $1/4$ and 4.
#
# ## 6.8 Turn the knobs
#
# The sliders set the temperature and how many of the keys are kept. The model is the one that you
# just trained, the clip is the one above. Under the map of each key stands its mean weight: 16 keys
# of equal weight have 1/16 = 0.0625 each. Where widgets cannot run, you see a picture instead.
# **Try:** keep one key. What happens to the maps, and to the variance of the output?

# %%
AttentionExplorer(ours, item, second)

# %% [markdown]
# ## 6.9 The published methods have it too
#
# AVSegFormer (Gao et al. 2024) makes its queries by letting learned tokens attend to the sound,
# which is *one* token. SelM (Li et al. 2024) lets each pixel, and later one of its own tokens,
# attend to the sound of its second. So in these layers $W_Q$ and $W_K$ can have no effect, at any
# size, with any weights. How many parameters is that? We count them at the published size, with
# ResNet-50 and VGGish as encoders. The recorder finds the layers that see only one key.

# %%
clip = torch.zeros(1, 1, 3, 64, 64), torch.zeros(1, 1, 1, 96, 64)
inert = {}
for method in ("avsegformer", "selm", "avsbench", "avesformer"):
    model = profiling.skeleton(method, visual="resnet50", audio="vggish")     # has no weights yet
    model = model.to_empty(device="cpu")
    found = attention.inert_parameters(model, *clip)
    own = 0
    for name, parameter in model.named_parameters():
        if not name.startswith(("visual.", "audio.")):
            own += parameter.numel()
    inert[method] = found, found.total / own

# %% tags=["nbval-check-output"]
for method, (found, of_own) in inert.items():
    print(
        f"{method:12} {found.total:>10,} inert query and key parameters in "
        f"{len(found.layers)} layers: {found.share:.1%} of all, {of_own:.1%} outside the encoders"
    )
assert inert["avsegformer"][0].total == 6 * 2 * 256**2, "six layers, query and key, no biases"

# %% [markdown]
# In the layer where SelM's pixels attend to the sound, even more is inert. The instance norm behind
# it removes whatever is the same at every pixel, and here that is everything
# ([notebook 2](02_model.ipynb), section 2.6). AVSegFormer's mixer works the other way round: the
# sound attends to the pixels. It does not have this problem.
#
# **TPAVI** (Zhou et al. 2022) has no softmax. Its weights are $\theta\phi^\top / N$, where $\theta$
# comes from the pixels, $\phi$ from the sound, and $N$ counts the pixels of all $T$ seconds of a
# clip. They may be negative and need not sum to 1. So they are no distribution and have no entropy,
# and the package refuses to compute one. We can ask for the *effective rank* instead (Roy and
# Vetterli 2007): over how many directions does the $N \times N$ matrix spread?
#
# > **Prediction.** How large is the effective rank of an untrained TPAVI for one second of a clip,
# > and for five seconds? Take the largest over its scales.

# %%
workbook.guess("effective rank", {"1 second": ..., "5 seconds": ...})

# %%
tpavi = lav.create_model("avsbench", preset="tiny", size=size).eval()
ranks = {}
with torch.inference_mode(), AttentionRecorder(tpavi) as recorder:
    for seconds in (1, 5):
        tpavi(batch["frames"][:, :seconds], torch.randn(2, seconds, 1, 96, 64))
        ranks[seconds] = [found["effective_rank"] for found in recorder.statistics().values()]
for seconds, found in ranks.items():
    told = ", ".join(f"{rank:.2f}" for rank in found)
    print(f"seconds {seconds}, effective rank by scale, untrained: {told}")
assert max(ranks[1]) < 1 + 1e-6 and max(ranks[5]) <= 5 + 1e-6
workbook.beside("effective rank", {"1 second": max(ranks[1]), "5 seconds": max(ranks[5])})
try:
    attention.entropy(next(iter(recorder.layers.values())).weights)
except ValueError as refusal:
    print("entropy:", str(refusal).partition(";")[0])

# %% [markdown]
# Why? All pixels of a second share one key, so the matrix has at most $T$ different columns. With
# one second its rank is exactly 1. With five seconds it is at most 5. Here, before any training,
# the five columns point almost in one direction, so it is far below 5.
#
# ## 6.10 AVESFormer's own limits: a heavy audio encoder, no use of time
#
# Its authors say that VGGish is about 60% of the parameters (*reported*). We count the parameters
# of our implementation. Its decoder may be leaner than theirs.

# %%
rows = []
for visual, audio in (reported.HEAVY, reported.LIGHT):
    parts = profiling.parameters(profiling.skeleton("avesformer", visual=visual, audio=audio))
    millions = {name: part.total / 1e6 for name, part in parts.items()}
    total, ears = sum(millions.values()), millions["audio"]
    own = [f"{millions[part]:.1f}" for part in profiling.PARTS]
    rows.append((f"{visual} + {audio}", f"{total:.1f}", *own, f"{ears / total:.0%}"))
    if audio == "vggish":
        print(f"if VGGish's {ears:.1f} M are 60%, all are {ears / 0.6:.0f} M; ours: {total:.0f} M")
workbook.table(["encoders", "parameters, M", *profiling.PARTS, "share of the audio encoder"], rows)

# %% [markdown]
# **Time.** We ask three questions of each model. Does the mask of a second change with what is seen
# and heard *before* it? Does it change with what comes *after* it? And does the *order* of the
# seconds matter, or are the masks merely reordered with the frames? Random weights are enough here:
# training cannot use a path that does not exist. (TPAVI, the fusion of the method `avsbench`,
# starts without sound, because the weight of its last norm is zero. Here we set it to one.)
#
# > **Prediction.** For each model: which other seconds change the mask of a second?

# %%
workbook.guess("seconds that matter", {                        # "none", "before", "after" or "both"
    "avesformer": ...,
    "avsbench": ...,
    "avsegformer": ...,
    "lightavseg": ...,
    "selm": ...,
    "avesformer, seconds": ...,                                # a key for each second, section 6.5
})

# %%
torch.manual_seed(s.seed)
frames = torch.randn(2, 1, 5, 3, size, size)                   # two clips of 5 s
sounds = torch.randn(2, 1, 5, 1, 96, 64)
order = torch.tensor([2, 0, 4, 1, 3])


def changes(model):
    """The first clip's logits; their changes with other seconds before, after, in another order."""
    masks = model(frames[0], sounds[0]).logits
    yield masks
    for others in (slice(0, 2), slice(3, 5)):                  # second 2 stays what it is
        mixed_frames, mixed_sounds = frames[0].clone(), sounds[0].clone()
        mixed_frames[:, others] = frames[1, :, others]
        mixed_sounds[:, others] = sounds[1, :, others]
        yield model(mixed_frames, mixed_sounds).logits[:, 2] - masks[:, 2]
    yield model(frames[0, :, order], sounds[0, :, order]).logits - masks[:, order]


uses = {}
for name in (*lav.list_methods(), "avesformer, seconds"):
    torch.manual_seed(s.seed)
    options = {"seconds": True} if name.endswith("seconds") else {}
    method = name.partition(",")[0]
    model = lav.create_model(method, preset="tiny", size=size, **options).eval()
    for module in model.modules():
        if isinstance(module, TPAVI):
            nn.init.ones_(module.mu_norm.weight)
    with torch.inference_mode():
        masks, *found = changes(model)
    uses[name] = [bool(change.abs().max() > 1e-4 * masks.abs().max()) for change in found]

# %% tags=["nbval-check-output"]
assert uses["avesformer"] == uses["lightavseg"] == uses["avsegformer"] == [False, False, False]
assert uses["avesformer, seconds"] == uses["avsbench"] == [True, True, False]
assert uses["selm"] == [True, False, True]
words = {(False, False): "none", (True, False): "before", (False, True): "after"}
others = {name: words.get(tuple(answers[:2]), "both") for name, answers in uses.items()}
workbook.beside("seconds that matter", others)
rows = []
for name, answers in uses.items():
    rows.append((name, *("yes" if answer else "no" for answer in answers)))
columns = ["seconds before matter", "seconds after matter", "their order matters"]
workbook.table(["", *columns], rows)

# %% [markdown]
# AVESFormer's masks are reordered with the frames: each frame stands alone, as its authors state.
# The same holds for LightAVSeg and AVSegFormer. TPAVI, and AVESFormer with keys of all seconds, use
# the other seconds, but not their order: before and after are the same to them. Only SelM has a
# direction. Its state spaces run forward, so a second knows its past and nothing of what follows.
# Whether keys of all seconds help is in the table of section 6.6.
#
# ## 6.11 Early focus: do early stages attend narrowly?
#
# The second claim: in the early (coarse) stages of the decoder, self-attention looks at neighbours
# only. So the authors put convolutions there (the *early focus* decoder, `cct`).
#
# First, what does "near" mean on a small map? The **attention distance** (Dosovitskiy et al. 2021)
# is the mean distance between a pixel and what it attends to, in units of the map's side. We
# compare it with two references.
#
# - *Uniform attention* on the same grid. Its distance depends on the grid: on a 4 x 4 map a larger
#   part of the weight falls on the pixel itself, at distance 0.
# - *A 3 x 3 convolution*. Its nine places are $(4 + 4\sqrt 2)/9 \approx 1.07$ positions away on
#   average. Attention is *narrow* if its distance is close to that.
#
# ### Exercise 3: the distance of uniform attention
#
# *5 minutes, medium.*
#
# `h` and `w` are the sides of a map. The centres of neighbouring pixels are one apart. Return the
# mean distance over all pairs of pixels, a pixel with itself included, in units of the longer side.

# %% tags=["exercise"]
def uniform(h, w):
    # solution
    places = [(y, x) for y in range(h) for x in range(w)]
    return fmean(math.dist(a, b) for a in places for b in places) / max(h, w)
    # wrong: without itself
    places = [(y, x) for y in range(h) for x in range(w)]
    return fmean(math.dist(a, b) for a in places for b in places if a != b) / max(h, w)
    # wrong: in pixels
    places = [(y, x) for y in range(h) for x in range(w)]
    return fmean(math.dist(a, b) for a in places for b in places)
    # wrong: around the block
    places = [(y, x) for y in range(h) for x in range(w)]
    ways = [abs(a[0] - b[0]) + abs(a[1] - b[1]) for a in places for b in places]
    return fmean(ways) / max(h, w)
    # wrong: from one corner
    return fmean(math.dist((0, 0), (y, x)) for y in range(h) for x in range(w)) / max(h, w)
    # end solution

# %% tags=["check"]
workbook.check(
    "uniform distance",
    uniform,
    hint="on 2 x 2 the distances from a corner are 0, 1, 1 and the square root of 2, in units of 2",
    cases=[
        ((2, 2), (2 + 2**0.5) / 8),
        ((1, 1), 0.0),
        ((1, 3), 8 / 27),
        ((4, 8), attention.uniform_distance((4, 8), (4, 8))),
    ],
    mistakes=[
        ((2, 2), (2 + 2**0.5) / 6, "a pixel with itself is a pair, too, at distance 0"),
        ((2, 2), (2 + 2**0.5) / 4, "that is in pixels; the unit is the longer side of the map"),
        ((2, 2), 0.5, "the distance is a straight line, not along rows and columns"),
        ((1, 3), 1 / 3, "start from every pixel, not only from the corner"),
    ],
)

# %%
if mine := workbook.yours("uniform distance"):
    even_at = ", ".join(f"{n} x {n}: {mine(n, n):.3f}" for n in (2, 4, 8, 16))
    print(f"distance of uniform attention by your answer, in map sides: {even_at}")

# %% [markdown]
# Four decoders were trained, named by their stages from coarse to fine. Here is the attention of
# `ttt`, which has a transformer block at each of its three stages. (The frames are larger and the
# trainings shorter than in section 6.6, so do not compare scores between the two sections.)

# %%
ttt = focus["ttt"]
side = ttt[0]["run"]["budget"]["size"]
relative, rows = {}, []
for stage, stride in enumerate((32, 16, 8)):
    layer = f"decoder.{stage}.self_attn"
    measured = fmean(statistic(ttt, "distance", layer).values())
    even = fmean(statistic(ttt, "uniform_distance", layer).values())
    relative[stage] = statistic(ttt, "relative_distance", layer)
    d = statistics.paired(relative[stage], dict.fromkeys(relative[stage], 1.0))
    nearer = verdict(d, "nearer", "farther")
    n = side // stride
    kernel = (4 + 4 * 2**0.5) / 9 / n
    distances = [number(distance) for distance in (kernel, measured, even)]
    rows.append((stage + 1, f"{n} x {n}", *distances, interval(d), nearer))
print("ttt: distances in units of the map's side; ratio: attention divided by uniform")
columns = ["3 x 3 kernel", "attention", "uniform", "ratio minus 1 (95%)", "against uniform"]
workbook.table(["stage", "map", *columns], rows)

# %% tags=["nbval-check-output"]
by_stage = statistics.paired(relative[0], relative[2])
said = verdict(by_stage, "holds", "is reversed", "is undecided")
print(f"ratio to uniform attention, first stage minus last: {interval(by_stage)}")
print(f"'early stages attend more narrowly than the last' {said} here")
largest = max(abs(1 - ratio) for ratios in relative.values() for ratio in ratios.values())
print(f"largest difference from uniform, over all stages and seeds: {largest:.1%}")

# %% [markdown]
# Read these verdicts together with the sizes. Compared with uniform attention, a 3 x 3 kernel looks
# half as far on the coarsest map, and an eighth as far on the finest. These layers stay within a
# few percent of uniform attention on all three. None of them is narrow. But these are short
# trainings, and attention that has hardly moved from its start is near uniform as well. So this
# does not refute what the authors saw in their models; nothing narrow appeared here.
#
# ### Convolution instead, stage by stage
#
# Now we replace transformer blocks by convolutions: from three blocks (`ttt`) to two (`ctt`) and
# one (`cct`). For contrast, `tcc` keeps the block of the *first* stage instead of the last. **Read
# with care:** a transformer block contains the cross-attention. So a stage that becomes a
# convolution also loses a place where the sound enters. A difference in $M_J$ may be due to either.

# %%
models = {}
for kinds in focus:
    model = lav.create_model("avesformer", preset="tiny", size=side, decoder=kinds)
    models[kinds] = model.eval()
frames, sounds = torch.randn(1, 1, 3, side, side), torch.randn(1, 1, 1, 96, 64)
calls = {kinds: (lambda model=model: model(frames, sounds)) for kinds, model in models.items()}
repeats = 30 if s.profile == "default" else 5
timing = profiling.latency(calls, repeats=repeats)
of_ttt = timing["ttt"].median

# %%
rows = []
for kinds, seeds in focus.items():
    cost = profiling.macs(models[kinds], side).by_part()
    parts = profiling.parameters(models[kinds])
    macs = (cost["fusion"][0] + cost["decoder"][0]) / 1e6
    parameters = (parts["fusion"].total + parts["decoder"].total) / 1e3
    pace = timing[kinds].median / of_ttt
    d = statistics.paired(sweep.values(seeds), sweep.values(ttt))
    difference = ("", "") if kinds == "ttt" else (interval(d), verdict(d))
    score = mean(sweep.values(seeds))
    rows.append((kinds, f"{macs:.1f}", f"{parameters:.0f}", f"{pace:.2f}", score, *difference))
print(
    f"frames of {side} px; latency of the whole model, relative to ttt ({of_ttt:.0f} ms), "
    f"measured now on {machine['device']}, {machine['threads']} threads"
)
columns = ["MACs, M", "parameters, thousands", "latency / ttt"]
columns += ["$M_J$", "minus ttt (95%)", "verdict"]
workbook.table(["fusion and decoder", *columns], rows)

# %%
panels = {
    "$M_J$": {kinds: sweep.values(seeds).values() for kinds, seeds in focus.items()},
    "$M_J$, own sound minus swapped": {
        kinds: hearing(seeds).values() for kinds, seeds in focus.items()
    },
}
title = "Decoder stages, coarse to fine: c convolution, t transformer block"
lines = {"$M_J$": (ttt[0]["deaf_oracle"]["M_J"], "deaf oracle")}
figure = plots.seed_dots(panels, title, lines)
workbook.show(
    figure,
    alt="M_J, and how far it falls with swapped sound, for four decoders, a dot for each seed.",
)

# %% [markdown]
# Look at `tcc`. Only its *coarsest* stage meets the sound, and it listens least: swapped sound
# lowers its score less than those of the others. If its score is lower, the cause may be where the
# sound enters, not the self-attention that is missing.
#
# ### Exercise 4: where would the block be cheaper?
#
# *8 minutes, medium.*
#
# A stage works on $N$ positions of $C$ channels, with $K$ keys of sound. A 3 x 3 convolution costs
# $9NC^2$ MACs. Count those of the block: self-attention (four projections and two products),
# cross-attention (queries and outputs at $N$ positions, keys and values at $K$, two products) and a
# feed-forward network that is four times as wide inside.

# %% tags=["exercise"]
def block_macs(n, keys, channels):
    # solution
    self_attention = 4 * n * channels**2 + 2 * n * n * channels
    cross_attention = 2 * (n + keys) * channels**2 + 2 * n * keys * channels
    return self_attention + cross_attention + 8 * n * channels**2
    # wrong: one product each
    own = 4 * n * channels**2 + n * n * channels
    other = 2 * (n + keys) * channels**2 + n * keys * channels
    return own + other + 8 * n * channels**2
    # wrong: keys and values at every position
    own = 4 * n * channels**2 + 2 * n * n * channels
    other = 4 * n * channels**2 + 2 * n * keys * channels
    return own + other + 8 * n * channels**2
    # wrong: one layer of the feed-forward
    own = 4 * n * channels**2 + 2 * n * n * channels
    other = 2 * (n + keys) * channels**2 + 2 * n * keys * channels
    return own + other + 4 * n * channels**2
    # wrong: no output projections
    own = 3 * n * channels**2 + 2 * n * n * channels
    other = (n + 2 * keys) * channels**2 + 2 * n * keys * channels
    return own + other + 8 * n * channels**2
    # end solution

# %% tags=["check"]
block, sounds = TransformerBlock(64), torch.empty(1, 16, 64)
counted = {n * n: count(block, torch.empty(1, 64, n, n), sounds).total_macs for n in (4, 16)}
workbook.check(
    "MACs of a transformer block",
    block_macs,
    hint="products: each of N queries meets each key twice, for the score and for the value",
    cases=[((n, 16, 64), total) for n, total in counted.items()],
    tolerance=1e-9,
    mistakes=[
        ((2, 3, 1), 44, "attention multiplies twice: queries with keys, weights with values"),
        ((2, 3, 1), 52, "in the cross-attention, keys and values are made from the K sounds"),
        ((2, 3, 1), 46, "the feed-forward has two layers: to four times the width, and back"),
        ((2, 3, 1), 50, "the output is projected once more, in both attentions"),
    ],
)

# %%
for n in (4, 8, 16):
    x = torch.empty(1, 64, n, n)
    attends = count(block, x, sounds).total_macs
    convolves = count(conv_block(64, 64), x).total_macs
    print(
        f"{n:2} x {n:2}: block {attends / 1e6:5.2f} M MACs, "
        f"convolution {convolves / 1e6:5.2f} M, ratio {attends / convolves:.1f}"
    )
    assert attends > convolves, "the block's projections alone are 14 N C^2, more than 9 N C^2"

# %% [markdown]
# The block is cheaper nowhere. And it costs least in the early stages, whose maps are the smallest.
# Replacing them saves less than replacing the last stage would, and the early focus decoder keeps
# the last stage.

# %%
workbook.took(1)

# %% [markdown]
# ## Three things to remember
#
# 1. With one key every weight is 1. Every pixel gets the same vector, and $W_Q$ and $W_K$ get no
#    gradient, in any model with one audio token (AVSegFormer's query generator, two modules of
#    SelM).
# 2. Cross-attention with one key is a bias per channel: the sound tells *what*, never *where*. As a
#    broadcast it needs hundreds of times fewer MACs (at the published width) and an $O(N)$
#    addition.
# 3. Entropy says how spread attention is; spatial variance says whether it differs from place to
#    place. Prompts make it differ, but a higher score was not shown, and no stage attended
#    narrowly.
#
# **What this can and cannot say about AVSBench.** The gradients, the inert parameters, the costs
# and the use of time are facts about the architectures, at any size and on any data. The scores are
# those of tiny models on clean silhouettes with seven timbres. There, one vector may say all that
# there is to hear. Real scenes may need the choice that one key does not offer. And our AVESFormer
# follows the paper's idea; the authors' code is not public.
#
# ## Try next
#
# - Set `clips = 400` and `epochs = 20`. Does training make the attention of section 6.7 less even
#   (relative entropy)? Does the share within a frame grow, and does $M_J$ follow?
# - In section 6.5, take the 16 equal prompts and change a single one. Do $W_Q$ and $W_K$ get a
#   gradient? Which of the four numbers notice the change, and which do not?
# - [Notebook 7](07_methods.ipynb) compares five whole methods in the same way, with three seeds and
#   paired intervals.
#
# ## References
#
# - AVESFormer: Wang et al. 2024, arXiv 2408.01708. LightAVSeg: arXiv 2605.08805 (ICML 2026).
# - AVSegFormer: Gao et al., AAAI 2024, arXiv 2307.01146. TPAVI: Zhou et al., ECCV 2022, arXiv
#   2207.05042.
# - SelM: Li et al., *SelM: Selective Mechanism based Audio-Visual Segmentation*, ACM MM 2024.
# - Attention: Vaswani et al., NeurIPS 2017. FlashAttention: Dao et al., NeurIPS 2022.
# - Mean attention distance: Dosovitskiy et al., ICLR 2021, appendix.
# - Effective rank: Roy and Vetterli, *The effective rank: a measure of effective dimensionality*,
#   EUSIPCO 2007.
# - AdamW: Loshchilov and Hutter, ICLR 2019. Student's $t$: Student, *Biometrika* 1908.

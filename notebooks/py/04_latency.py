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
# # 4. Latency: where the time goes
#
# LightAVSeg's poster says that a frame takes 163 ms on a phone, and that 6.2% of this is fusion,
# where sound meets picture. What would you have to know to believe such a sentence, to repeat it
# on your machine, and to carry it over to another one? You measure here: first the ruler itself,
# then the parts of a model, the operators in them, five methods side by side, and the same
# network in the runtimes that phones and servers use.
#
# **Afterwards you can**
# - time two models so that their ratio means something, and say what has to stand beside a
#   latency;
# - predict from multiply-accumulates (MACs) where the time goes, and say why the prediction
#   fails;
# - read a roofline, and tell arithmetic from memory from overhead;
# - say what compilers, exporters and 8-bit integers change, and which ratios you may carry over
#   to a phone.
#
# | | |
# |---|---|
# | Time on 2 cores | a minute and a half (`profile = "smoke"`: about half of it); the long runs were made beforehand by `make bench` |
# | Memory | 5 GB |
# | You need | notebook 2 for the model and for counting MACs. Optional: the extra `edge` (`make .venv/.edge`) for one export in section 4.5 |

# %% tags=["parameters"]
profile = "default"                    # "smoke": the shortest run that touches everything
results = "results/latency.json"    # what `make bench` wrote
threads = 1                            # of torch, for what is measured live
rounds = 15                            # of most live measurements
seed = 0
out = None    # folder for what is written; None: the checkout, or your cache where it is read-only

# %%
from lightavseg_core import workbook

s = workbook.settings(globals(), results=str, threads=int, rounds=int, seed=int, out=str | None)
if s.threads < 1 or s.rounds < 3:
    raise ValueError(
        f"threads is {s.threads}, rounds is {s.rounds}; expected at least 1 thread and 3 rounds"
    )
if s.profile == "smoke":
    s.rounds = min(s.rounds, 4)
size = 224 if s.profile == "default" else 128              # pixels: side of the frames
print(f"threads: {s.threads}, rounds: {s.rounds}, frames of {size} x {size} pixels")

# %%
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from torch import nn

import lightavseg_core as lav
from lightavseg_core import plots, profiling
from lightavseg_core.deploy import eager, edge_graph
from lightavseg_core.encoders.seaformer import ConvNorm
from lightavseg_core.plots.common import BLUE, GREY, RED
from lightavseg_core.profiling import benchmark, breakdown, flops, reported, timing
from lightavseg_core.profiling.machine import floor

torch.manual_seed(s.seed)
torch.set_num_threads(s.threads)
here = workbook.places("04_latency", s.out)
stored = benchmark.read(here.root / s.results)
model = lav.create_model("lightavseg", preset="lean").eval()     # weights do not change its time
tiny = lav.load_model(here.root / "checkpoints/tiny").eval()     # the small trained one


def clip(side):
    """One random frame and its sound: no model here takes longer for one than for another."""
    return torch.randn(1, 1, 3, side, side), torch.randn(1, 1, 1, *model.front_end.shape)


# %% [markdown]
# ## 4.1 What is one latency worth?
#
# Call a fresh model twelve times. Then take *one* model, call it "a" and "b", and compare the
# two, as you would compare two methods: first all calls of a, then all of b; and again with a and
# b taking turns.
#
# > **Prediction.** Which of the twelve calls is the slowest? And how far from 1 will the ratio of
# > a model to itself be?

# %%
given = clip(128)
first = []
with torch.inference_mode():
    for _ in range(12):
        start = time.perf_counter()
        tiny(*given)
        first.append((time.perf_counter() - start) * 1000)

run = partial(tiny, *given)
one_by_one = {}
for name in ("a", "b"):
    one_by_one |= timing.latency({name: run}, s.rounds, 0, "cpu")
in_turns = timing.latency({"a": run, "b": run}, s.rounds, 0, "cpu")
paired = timing.ratio(in_turns["b"], in_turns["a"])
means = np.mean(one_by_one["b"].rounds) / np.mean(one_by_one["a"].rounds)
print(f"one after the other, ratio of the means {means:.3f}")
between = f"95% interval {paired.low:.3f} to {paired.high:.3f}"
print(f"in turns, median of the rounds' ratios  {paired.estimate:.3f} ({between})")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.bar(range(1, 13), first, color=[RED] + [BLUE] * 11)
left.set(title="A fresh model, its first calls", xlabel="call", ylabel="milliseconds")
left.set_xticks(range(1, 13))
for name, color, style in (("a", BLUE, "o-"), ("b", RED, "s-")):
    ms = in_turns[name].rounds
    right.plot(range(1, s.rounds + 1), ms, style, color=color, markersize=4, label=name)
right.set(title="One model, twice, in turns", xlabel="round", ylabel="milliseconds", ylim=(0, None))
right.legend(frameon=False)
for axis in (left, right):
    axis.spines[["top", "right"]].set_visible(False)
workbook.show(
    figure,
    alt="Left: bars of the first twelve calls, the first one the slowest. Right: two lines of one "
    "model timed twice in turns, which go up and down together.",
)

# %% [markdown]
# The first call pays for what is done once: memory is asked for, kernels are chosen for these
# shapes. That is *warm-up*, and is not counted. What is left still goes up and down, and often
# *together* for a and b: it is the machine that changes, not the model. Other programs run,
# clocks fall when it is warm.
#
# How good is each way of comparing? On a real machine nobody knows the true ratio, so here is one
# made of random numbers, on which b takes exactly 5% longer. It drifts by up to 20% in the course
# of a measurement, and in 3% of the calls something gets in the way.
#
# > **Prediction.** Four estimates: mean or median; one after the other or in turns. Which come
# > near 1.05?

# %% tags=["nbval-check-output"]
generator = np.random.default_rng(0)
n, truth = 30, 1.05


def pace(calls):
    """How slow the machine is at each of so many calls in a row."""
    drift = 1 + generator.uniform(0, 0.2) * np.linspace(0, 1, calls)
    hit = generator.random(calls) < 0.03
    calm = drift * generator.lognormal(0, 0.01, calls)
    return calm * np.where(hit, generator.uniform(2, 6, calls), 1)


estimates, spread = {}, {}
for _ in range(300):
    after, turns = pace(2 * n), pace(2 * n)
    a, b = after[:n], truth * after[n:]
    c, d = turns[::2], truth * turns[1::2]
    answers = {
        "means, one after the other": b.mean() / a.mean(),
        "medians, one after the other": np.median(b) / np.median(a),
        "means, in turns": d.mean() / c.mean(),
        "median of the pairs' ratios": np.median(d / c),
    }
    for name, value in answers.items():
        estimates.setdefault(name, []).append(value)
for name, values in estimates.items():
    low, high = np.quantile(values, (0.025, 0.975))
    spread[name] = high - low
    print(f"{name:30} 95% of the experiments say {low:.2f} to {high:.2f}")

# %%
figure, axis = plt.subplots(figsize=(8, 2.6), layout="constrained")
for y, values in enumerate(estimates.values()):
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(values))
    axis.scatter(values, y + jitter, s=5, color=BLUE, alpha=0.4, linewidth=0)
axis.axvline(truth, color=RED, linewidth=1.2)
axis.set_yticks(range(4), list(estimates))
axis.invert_yaxis()
axis.set_title("300 experiments on an invented machine; the line is the truth")
axis.set_xlabel("times as long: b over a")
axis.spines[["top", "right"]].set_visible(False)
workbook.show(
    figure,
    alt="Dots of 300 estimates in four rows: only the median of the pairs' ratios clusters "
    "tightly around the true ratio of 1.05.",
)
assert min(spread, key=spread.get) == "median of the pairs' ratios"

# %% [markdown]
# One after the other, the drift ends up in the ratio, whether you take means or medians: b is
# *always* later. Turns spread the drift over both, but a mean still believes every interruption.
# The median of the ratios *within a round* does neither. All timings below are of that kind:
# warm-up, turns, medians, paired ratios, each with an interval. The interval covers what varies
# within a run, and nothing else: not another day, not another machine.
#
# ### Exercise 1: a paired ratio
#
# *4 minutes, easy.*
#
# `a` and `b` are the milliseconds of two candidates, round by round. Return how many times as
# long b takes: the median over the rounds.

# %% tags=["exercise"]
def paired_ratio(a, b):
    # solution
    return np.median([y / x for x, y in zip(a, b)])
    # wrong: a ratio of medians
    return np.median(b) / np.median(a)
    # wrong: the mean
    return np.mean([y / x for x, y in zip(a, b)])
    # wrong: a over b
    return np.median([x / y for x, y in zip(a, b)])
    # wrong: a ratio of sums
    return sum(b) / sum(a)
    # end solution

# %% tags=["check"]
# The third round was slow for both.
slow_round = ([10.0, 10.0, 40.0, 10.0, 10.0], [12.0, 12.0, 48.0, 90.0, 12.0])
uneven = ([10.0, 20.0, 30.0], [20.0, 20.0, 120.0])            # by round: 2, 1, 4
workbook.check(
    "paired ratio",
    paired_ratio,
    cases=[(slow_round, 1.2), (([1, 2, 4], [2, 2, 2]), 1.0), (uneven, 2.0)],
    hint="a ratio for each round first; then the median of the ratios",
    mistakes=[
        (uneven, 1.0, "that is the ratio of two medians, which may come from different rounds"),
        (uneven, 7 / 3, "one slow round moves a mean as far as it likes: take the median"),
        (uneven, 0.5, "how many times as long does b take: b over a"),
        (uneven, 160 / 60, "in the sums the slowest round decides alone: one ratio for each round"),
    ],
)

# %%
if mine := workbook.yours("paired ratio"):
    found = mine(in_turns["a"].rounds, in_turns["b"].rounds)
    print(f"in turns: {found:.3f} by your answer, {paired.estimate:.3f} by the package")

# %% [markdown]
# ### The card
#
# A latency without its circumstances is a number without a unit. Each measurement of this
# workbook carries a card:

# %%
found = profiling.profile(
    {"tiny": tiny}, size=128, repeats=s.rounds, device="cpu", with_floor=False
)
card = found.card
print(card)

# %% [markdown]
# *A fixed product* is a small matrix product that takes its turn among the candidates: what it
# scatters and drifts is the machine's doing. And since ratios of times of *two* machines say
# nothing about two models, such times are refused a common table:

# %%
elsewhere = replace(card, device="the phone of a friend")
try:
    timing.same_machine([card, elsewhere])
    raise RuntimeError("two machines in one column")
except ValueError as refusal:
    print(refusal)

# %% [markdown]
# ## 4.2 Counted, then measured
#
# The paper divides LightAVSeg into five: the visual encoder, the audio encoder, RAVE (sound and
# picture meet in the encoder), CMFD (they meet again in the decoder) and the head, which is the
# rest of the decoder. If time followed arithmetic, shares of MACs would be shares of time.

# %% tags=["nbval-check-output"]
skeleton = profiling.skeleton("lightavseg", "lean")             # shapes without numbers
with torch.device("meta"):
    shapes = torch.empty(1, 1, 3, size, size), torch.empty(1, 1, 1, *skeleton.front_end.shape)
parts = breakdown.latency_parts(skeleton)
counted = flops.count(skeleton, *shapes, parts=parts).by_part()
total = sum(macs for macs, _ in counted.values())
of_macs = {part: counted[part][0] / total for part in ("visual", "audio", "RAVE", "CMFD", "head")}
for part, share in of_macs.items():
    print(f"{part:7} {counted[part][0] / 1e6:7.1f} M multiply-accumulates, {share:7.2%}")

# %% [markdown]
# > **Prediction.** From these: what share of the time will the two meetings of sound and picture
# > take? A tenth of a percent? Which parts will take *more* than their share of MACs?
#
# Measured eagerly, as torch runs a model that nobody compiled. Hooks read the clock where one
# part hands over to another; every other call goes without hooks, to see what they cost. Beside
# it stands what the paper *reports* of its phone, in a panel of its own: another machine, another
# runtime.

# %%
looked = breakdown.module_latency(model, *clip(size), s.rounds)
of_time = {part: looked.shares[part] for part in of_macs}
told = reported.PHONE_PARTS                               # the same five, in the same order
whole = sum(told.values())
phone = {part: ms / whole for part, ms in zip(of_macs, told.values(), strict=True)}
panels = {
    "counted: MACs": of_macs,
    "measured here: eager": of_time,
    "reported: the paper's phone": phone,
}
colors = [plots.latency.PARTS[part] for part in of_macs]

# %%
figure, axes = plt.subplots(1, 3, figsize=(9.5, 2.5), layout="constrained", sharey=True)
for axis, (title, shares) in zip(axes, panels.items()):
    axis.barh(list(shares), list(shares.values()), color=colors)
    for y, share in enumerate(shares.values()):
        axis.text(share + 0.02, y, f"{share:.1%}", va="center", fontsize=9)
    axis.set(title=title, xlim=(0, 1.12), xlabel="share of the whole", xticks=[0, 0.5, 1])
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.spines[["top", "right"]].set_visible(False)
axes[0].invert_yaxis()
workbook.show(
    figure,
    alt="Three panels of bars for visual, audio, RAVE, CMFD and head: shares of MACs, of the time "
    "measured here, and of the phone's time as reported. The visual encoder has most in each.",
)

# %%
sharing = {name: shares["RAVE"] + shares["CMFD"] for name, shares in panels.items()}
for name, share in sharing.items():
    print(f"fusion, {name:30} {share:6.2%}")
print(f"the parts add up to {looked.agreement.estimate:.1%} of the latency without hooks")
assert sharing["measured here: eager"] > 3 * sharing["counted: MACs"]

# %% [markdown]
# The poster's "fusion is 6.2%" counts RAVE and CMFD; that is the panel on the right. Three
# numbers for one question, and none is wrong: fusion is nearly free *in arithmetic*; here it
# costs many times its share of MACs; on the phone, the paper says, more again. All three agree
# that it is small. Section 4.5 measures a fourth one, after export.
#
# ### Why MACs mislead
#
# Look at single operators, and put them into kinds. For each kind: its share of the MACs beside
# its share of the time.
#
# > **Prediction.** Which kind takes the most time? Do those without a single MAC matter?

# %%
kinds = breakdown.by_kind(model, *clip(size), s.rounds)
workbook.show(
    plots.latency.kinds(kinds, f"LightAVSeg lean, eager, {size} px: counted and measured"),
    alt="Pairs of bars for each kind of operator: dense 1x1 convolutions have nearly all MACs but "
    "a far smaller share of the time; depthwise convolutions and element-wise operators take far "
    "more time than MACs.",
)
print(f"{len(kinds.operators)} calls of operators in one forward pass")
print(
    f"their times add up to {kinds.covered:.0%} of the model's; "
    "below 100% the rest is the way from one to the next, above it the clock's own price"
)
of_kind = {kind.kind: kind for kind in kinds.kinds}
depthwise, elementwise = of_kind["depthwise"], of_kind["norm, element-wise"]
assert depthwise.share_of_time > depthwise.share_of_macs
assert elementwise.share_of_macs == 0 < elementwise.share_of_time

# %% [markdown]
# Four reasons:
#
# 1. **Depthwise convolutions move bytes.** Each number that is read takes part in a few
#    multiply-accumulates only, so the units that multiply stand idle most of the time.
# 2. **Batch norms and activations have no MACs**, yet each reads and writes a whole map. A
#    compiler puts them into the convolution before.
# 3. **Each operator costs something before it computes anything**: Python, the choice of a
#    kernel, memory for the result. A forward pass has many hundreds of operators, and small ones
#    are *all* overhead.
# 4. **Attention's products are small** here: a few tokens, a few channels each. Large products
#    run near the machine's peak, small ones do not.
#
# The third reason in a picture: one operator, ReLU, on ever more numbers.
#
# > **Prediction.** Twice the numbers, twice the time. From where on?

# %%
lengths = [4**k for k in range(12)]
# 0: whoever follows the longest finds no cache
calls = {n: partial(torch.relu, torch.randn(n)) for n in (0, *lengths)}
timings = timing.latency(calls, 10 * s.rounds, 10, "cpu")
microseconds = [1000 * timings[n].median for n in lengths]
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
axis.loglog(lengths, microseconds, "o-", color=BLUE, markersize=5, label="ReLU")
axis.axhline(microseconds[0], color=GREY, linestyle=":", label="the time for one number")
axis.set(title="An operator's price", xlabel="numbers", ylabel="microseconds")
axis.legend(frameon=False)
axis.grid(alpha=0.3)
workbook.show(
    figure,
    alt="Time of a ReLU against the count of numbers, log-log: flat at first, then "
    "rising in proportion.",
)
price = len(kinds.operators) * microseconds[0] / 1000
print(
    f"one number: {microseconds[0]:.1f} µs. {len(kinds.operators)} such calls: {price:.1f} ms "
    f"of the model's {kinds.whole.median:.0f} ms"
)

# %% [markdown]
# Up to a thousand numbers or so the time is that of *asking*. (This is the cheapest operator
# there is; a convolution asks more questions first.)
#
# ### Exercise 2: a depthwise-separable block
#
# *3 minutes, easy.*
#
# A block has a depthwise convolution with a `kernel` x `kernel` window, and then a 1x1
# convolution from `channels` to `channels`. What share of its MACs is the depthwise one's? (The
# size of the map cancels.)

# %% tags=["exercise"]
def depthwise_share(channels, kernel):
    # solution
    return kernel**2 / (kernel**2 + channels)
    # wrong: over the other instead of over the whole
    return kernel**2 / channels
    # wrong: one side of the window
    return kernel / (kernel + channels)
    # wrong: a dense window
    return kernel**2 / (kernel**2 + 1)
    # wrong: the other one's share
    return channels / (kernel**2 + channels)
    # end solution

# %% tags=["check"]
workbook.check(
    "depthwise share",
    depthwise_share,
    cases=[((128, 3), 9 / 137), ((64, 5), 25 / 89)],
    hint="per position: kernel² MACs for each channel, and channels² for the 1x1",
    mistakes=[
        ((128, 3), 9 / 128, "a share is over the whole block, both convolutions"),
        ((128, 3), 3 / 131, "the window has kernel² places"),
        ((128, 3), 9 / 10, "depthwise: each channel is filtered alone, by kernel² MACs"),
        ((128, 3), 128 / 137, "that is the share of the 1x1 convolution"),
    ],
)

# %% [markdown]
# And in time? A block of the lean decoder, 128 channels, on its finest map. In two *memory
# layouts*: torch's usual one keeps a channel's pixels together, "channels last" a pixel's
# channels.

# %%
x = torch.randn(1, 128, size // 4, size // 4)
weights = {                                               # each with its padding and its groups
    "depthwise": (torch.randn(128, 1, 3, 3), 1, 128),
    "1x1": (torch.randn(128, 128, 1, 1), 0, 1),
}
layouts = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
calls = {}
for layout, order in layouts.items():
    for name, (weight, padding, groups) in weights.items():
        given = x.contiguous(memory_format=order), weight.contiguous(memory_format=order)
        calls[layout, name] = partial(F.conv2d, *given, padding=padding, groups=groups)
timings = timing.latency(calls, 2 * s.rounds, 3, "cpu")
for layout in layouts:
    deep, one = (timings[layout, name].median for name in weights)
    share = deep / (deep + one)
    took = f"depthwise {deep:.2f} ms, 1x1 {one:.2f} ms"
    print(f"{layout:13} {took}: {9 / 137:.0%} of the MACs, {share:.0%} of the time")
    assert share > 9 / 137

# %% [markdown]
# Which layout is faster depends on the shape and on the kernel that there is for it; measure
# both. The model above ran in the contiguous layout; where whole methods are compared below, each
# runs in both, and the faster one counts, unless something else is said.

# %% [markdown]
# ## 4.3 The roofline: how good could it be?
#
# A machine has two limits: how many operations it does in a second, and how many bytes it moves
# in a second. An operator that does $I$ operations for each byte can reach
#
# $$\min(\text{peak},\; I \cdot \text{bandwidth})$$
#
# at most. $I$ is called its *arithmetic intensity*. Where the two limits meet is the *ridge*:
# left of it memory decides, right of it arithmetic. We measure both limits: the fastest matrix
# product of any library that is installed, and a sum of arrays larger than the caches.
#
# ### Exercise 3: intensity of a depthwise convolution
#
# *5 minutes, medium.*
#
# A depthwise convolution with a `kernel` x `kernel` window on a map of `channels` x `side` x
# `side`, stride 1, float32 (4 bytes), no bias. It reads the map and its weights once and writes a
# map of the same size. A multiply-accumulate is two operations. Operations per byte?

# %% tags=["exercise"]
def depthwise_intensity(channels, side, kernel):
    # solution
    operations = 2 * kernel**2 * channels * side**2
    numbers = 2 * channels * side**2 + kernel**2 * channels
    return operations / (4 * numbers)
    # wrong: a multiply-accumulate as one operation
    numbers = 2 * channels * side**2 + kernel**2 * channels
    return kernel**2 * channels * side**2 / (4 * numbers)
    # wrong: what is written is forgotten
    numbers = channels * side**2 + kernel**2 * channels
    return 2 * kernel**2 * channels * side**2 / (4 * numbers)
    # wrong: numbers, not bytes
    numbers = 2 * channels * side**2 + kernel**2 * channels
    return 2 * kernel**2 * channels * side**2 / numbers
    # wrong: a dense convolution
    numbers = 2 * channels * side**2 + kernel**2 * channels
    return 2 * kernel**2 * channels**2 * side**2 / (4 * numbers)
    # end solution

# %% tags=["check"]
right = 2.24677
workbook.check(
    "intensity",
    depthwise_intensity,
    cases=[((64, 56, 3), right), ((128, 7, 5), 4.98001)],
    hint="operations: 2·k² for each number that is written; bytes: 4 for each of 2·C·s² + k²·C "
    "numbers",
    mistakes=[
        ((64, 56, 3), right / 2, "a multiply-accumulate is two operations"),
        ((64, 56, 3), 9 * 3136 / (2 * 3145), "the map is read *and* another one written"),
        ((64, 56, 3), 4 * right, "that is for each number; a number has 4 bytes"),
        ((64, 56, 3), 64 * right, "depthwise: each channel meets its own window only"),
    ],
)

# %% [markdown]
# Hardly more than $k^2/4$, whatever the number of channels: about 2 operations a byte with a 3 x
# 3 window. A 1x1 convolution from $C$ to $C$ channels on a large map has about $C/4$.
#
# > **Prediction.** On which side of the ridge do depthwise convolutions lie on your machine? And
# > 1x1 convolutions with 256 channels?

# %%
limits = floor(device="cpu")
ridge = limits.gflops / limits.bandwidth
workbook.show(
    plots.latency.roofline(kinds, limits, f"LightAVSeg lean, eager, {size} px"),
    alt="Roofline: operators as dots, operations a second against operations a byte, below a "
    "slope of memory bandwidth and a ceiling of arithmetic; depthwise convolutions lie left, far "
    "below the ceiling.",
)
distance = limits.distance(kinds.whole.median, total)
print(
    f"ridge: {ridge:.1f} operations a byte; depthwise 3 x 3: about 2.2; "
    "1x1 with 256 channels: about 64"
)
print(f"the model takes {distance:.1f} times as long as its MACs would at the machine's best rate")
assert ridge < 64 and distance > 1

# %% [markdown]
# Read it so. Dots near the roof are as good as they can be; to be faster they would have to
# *compute less*. Dots far below it are not limited by the machine but by the software: small
# operators that are all overhead, kernels or layouts that do not suit the shape. Most depthwise
# convolutions lie to the left, where memory is the limit, and do not even reach that.
# (Bytes are counted as if nothing stayed in a cache, so a dot *above* the slope is no miracle:
# its map was still in the cache.)
#
# The last line is the one to remember: the machine could do the same arithmetic several times as
# fast. So there is something to gain without touching the network. Section 4.5 collects it.
#
# ## 4.4 Five methods, two pairs of encoders
#
# The poster's table compares LightAVSeg with three methods, each on ResNet-50 with VGGish and on
# SeaFormer-L with MobileNetV2. Here are all five on both, from the stored run, one machine,
# eager, in turns:

# %%
methods = stored.profiles["methods"]
workbook.show(
    plots.latency.bars(methods, "Stored, 224 px"),
    alt="Bars of the latency of five methods with light and with heavy encoders, divided by part; "
    "LightAVSeg and AVESFormer are the shortest; in the other three the decoder alone takes more "
    "than the encoders.",
)
print("stored:", methods.card)
try:
    timing.same_machine([methods.card, card])
    print("\nThat is this machine, with these versions and threads.")
except ValueError as refusal:
    print(f"\nThat is not this machine, these versions or these threads: {refusal}")

# %% [markdown]
# Is it still true here, now? A short live run, at 128 px so that it fits into this notebook, with
# few rounds: read its ratios with their intervals. Each model stands in one memory layout only
# (channels last).
#
# > **Prediction.** Will the *order* of the methods be that of the stored run? And the ratios, at
# > a third of the pixels?

# %%
smoke = s.profile == "smoke"
few = ("lightavseg lean", "avsbench seaformer_l")
candidates = {}
for name, made in benchmark.models():
    if name == "lightavseg paper" or (smoke and name not in few):
        continue
    run = eager.prepare(made, "cpu", channels_last=True)  # keeps a copy; ours is let go
    candidates[name] = profiling.Candidate(run, log_mel=made.front_end.shape)
repeats = 2 if smoke else 3
live = profiling.profile(
    candidates, size=128, repeats=repeats, warmup=1, device="cpu", with_floor=False
)
del candidates, made, run
print("live:", live.card)

# %%
def against_first(found):
    """Name -> how many times as long as LightAVSeg lean, which is the first row."""
    return {row.name: found.relative(row) for row in found.rows}


def written(times):
    return f"{times.estimate:.1f} ({times.low:.1f} to {times.high:.1f})"


phone_ms = {(row.method, row.visual): row.phone_ms for row in reported.COMPARISON}
full = phone_ms["lightavseg", "seaformer_l"]
own, now = against_first(methods), against_first(live)
lines = []
for name, times in own.items():
    published = tuple(name.replace("lightavseg lean", "lightavseg seaformer_l").split())
    told = f"{phone_ms[published] / full:.1f}" if published in phone_ms else ""
    again = written(now[name]) if name in now else ""
    lines.append((name, told, written(times), again))
columns = ["times LightAVSeg", "reported: phone, 224 px", "stored: 224 px", "live: 128 px"]
workbook.table(columns, lines)

# %% [markdown]
# Three columns, three machines or settings: compare *down* a column, never across. What is blank
# nobody reports (AVESFormer is in no such table, its sizes are ours; nor is LightAVSeg with
# ResNet-50 and VGGish). `lean` has our lighter decoder; `paper` comes near the published size, so
# divide by its row to compare with that. And where a card says that the fixed product scattered
# much, the machine was busy: the ratios are paired and stand it better than the milliseconds.
#
# ### Whose fault is it?
#
# A row with ResNet-50 and VGGish differs from LightAVSeg's row in *two* things, the encoders and
# the method. The stored run can tell them apart: what do the encoders take, what all the rest,
# and how does each method compare with LightAVSeg (`paper`) on the *same* encoders?
#
# > **Prediction.** What makes the rows with ResNet-50 slow: the encoders, the fusion, or the
# > decoder? Look at the colours above.

# %%
rows = {row.name: row for row in methods.rows}
lines = []
for name, row in rows.items():
    encoders = row.shares["visual"] + row.shares["audio"]
    decoder = row.shares.get("decoder", row.shares.get("head"))
    shares = [f"{share:.0%}" for share in (encoders, 1 - encoders - decoder, decoder)]
    same = "lightavseg resnet50" if name.endswith("resnet50") else "lightavseg paper"
    times = timing.ratio(row.timing, rows[same].timing)
    lines.append((name, *shares, f"{times.estimate:.1f}"))
columns = ["encoders", "fusion", "decoder", "times LightAVSeg with the same encoders"]
workbook.table(["stored", *columns], lines)

# %% [markdown]
# In LightAVSeg the encoders take most. In AVSBench, AVSegFormer and SelM it is neither the
# encoders, heavy ones included, nor where sound meets picture: it is the *decoder*, wide layers
# on the finest maps, which LightAVSeg leaves out. The last column takes the encoders out of the
# comparison: the gap is smaller then than between a row with ResNet-50 and LightAVSeg with
# SeaFormer, but it stays. So "light" is mostly a light encoder and a light decoder. Remember that
# before you say "this *fusion* is so many times as fast".
#
# The paper's own figures leave a riddle here. Its ablation replaces one encoder at a time:

# %% tags=["nbval-check-output"]
def alone(part, name):
    """What an encoder takes: LightAVSeg with it, less all of LightAVSeg but its own one."""
    (with_it,) = (row.phone_ms for row in reported.ABLATIONS[part] if row.name == name)
    return with_it - (full - reported.PHONE_PARTS[part])


resnet, vggish = alone("visual encoder", "ResNet-50"), alone("audio encoder", "VGGish")
took = f"ResNet-50 {resnet:.0f} ms, VGGish {vggish:.0f} ms, together {resnet + vggish:.0f} ms"
print(f"reported, by subtraction: {took}")
avsbench, selm = phone_ms["avsbench", "resnet50"], phone_ms["selm", "resnet50"]
print(f"reported: all of AVSBench with both {avsbench:.0f} ms, all of SelM with both {selm:.0f} ms")

# %% [markdown]
# The two encoders alone would take longer than whole methods that contain both. So these times do
# not simply add up, or were not taken in one setting. Without the code nobody can say which. It
# is the reason why this workbook measures everything in one run.
#
# ### What grows how
#
# Doubling the side of a frame means four times the pixels. A method that is linear in pixels
# takes four times as long; one with a product of all pairs of positions up to sixteen.
#
# ### Exercise 4: TPAVI when the side doubles
#
# *3 minutes, easy.*
#
# Notebook 2 counted TPAVI as published: $N^2 C + 1.5\,N C^2$ MACs for $N$ positions and $C$
# channels. By what factor do they grow when the side of the frame doubles?

# %% tags=["exercise"]
def growth_of_tpavi(positions, channels):
    # solution
    def macs(n):
        return n**2 * channels + 1.5 * n * channels**2
    return macs(4 * positions) / macs(positions)
    # wrong: N doubles
    def macs(n):
        return n**2 * channels + 1.5 * n * channels**2
    return macs(2 * positions) / macs(positions)
    # wrong: the square alone
    return 16.0
    # wrong: the projections alone
    return 4.0
    # wrong: upside down
    def macs(n):
        return n**2 * channels + 1.5 * n * channels**2
    return macs(positions) / macs(4 * positions)
    # end solution

# %% tags=["check"]
workbook.check(
    "TPAVI, side doubled",
    growth_of_tpavi,
    hint="the side doubles, so N becomes 4 N; put both into the formula",
    cases=[((3136, 256), 51712 / 3520), ((49, 256), 2320 / 433), ((10**9, 1), 16.0)],
    mistakes=[
        ((49, 256), 964 / 433, "height and width double: how many positions are there then?"),
        ((49, 256), 16.0, "16 is the limit for large N; at 49 the projections count, too"),
        ((49, 256), 4.0, "4 is the limit for small N; the products grow by N²"),
        ((49, 256), 433 / 2320, "after over before"),
    ],
)

# %% [markdown]
# Between 4 and 16, and nearly 16 where $N$ is large. TPAVI takes part at every scale, so the
# finest decides. Live, on small models, because a square is dear: LightAVSeg, and AVSBench with
# TPAVI's brackets as published and the other way round.

# %%
options = {
    "lightavseg": {},
    "avsbench, as published": {},
    "avsbench, other order": {"order": "associative"},
}
small = {}
for name, given in options.items():
    method = name.split(",")[0]
    small[name] = lav.create_model(method, preset="tiny", **given).eval()
sides = (96, 192, 384) if s.profile == "default" else (64, 128)
repeats = max(2, s.rounds // 5)
grown = profiling.scaling(small, sides, repeats=repeats, warmup=1, device="cpu")
figure = plots.latency.growth(grown, "Live: three tiny models, one frame")
workbook.show(
    figure,
    alt="Latency against pixels of three tiny models, log-log; AVSBench in published order "
    "becomes the steepest, the other two rise with the pixels or less.",
)
medians = {(p.name, p.size[0]): p.timing.median for p in grown.points}
for name in small:
    times = medians[name, sides[-1]] / medians[name, sides[-2]]
    print(f"{name:23} {sides[-1]} px take {times:.1f} times as long as {sides[-2]} px")

# %%
workbook.show(
    plots.latency.growth(stored.series["scaling"], "Stored: lean models, one frame and five"),
    alt="Stored latency against all pixels of a clip, log-log, of LightAVSeg and AVSBench with "
    "the same encoders, one and five seconds: LightAVSeg rises slower than the pixels, AVSBench "
    "with five seconds faster.",
)
print("stored:", stored.series["scaling"].card)

# %% [markdown]
# In small frames nothing grows in proportion: starting the operators takes as long as ever, and
# hides what the pixels cost. TPAVI multiplies all positions *of all seconds* with each other, so
# to it five seconds are like one frame of five times the pixels.
#
# The honest summary of "from $O(N^2)$ to $O(N)$", in time as in notebook 2 in MACs: of the
# methods in the poster's table only AVSBench is quadratic, and only by its order of evaluation;
# in the other order the same function is linear. AVSegFormer and SelM are linear and dear by
# their constant. (Our AVESFormer has a square too, attention between pixels in its last decoder
# stage. It has nothing to do with sound.)
#
# ## 4.5 From eager to deployed
#
# Nobody ships eager PyTorch. Runtimes for phones and servers take the network as a *graph*,
# before they run it, and
#
# - **fuse**: batch norm and activation become part of the convolution before them, so that a map
#   is written once instead of three times;
# - **lay out** memory as their kernels like it, once for the whole graph;
# - **plan** which memory is used when, instead of asking for it at each operator;
# - **delegate**: ExecuTorch hands pieces of the graph to a library (XNNPACK); what the library
#   does not know is run outside, and each border between inside and outside costs.
#
# > **Prediction.** The model was several times slower than its arithmetic (section 4.3). How much
# > of that will a runtime recover?

# %%
runtimes = stored.profiles["runtimes"]
whole_lean = []
for row in runtimes.rows:
    if "fusion" not in row.name and "avsegformer" not in row.name:
        whole_lean.append(row)
of_one_model = profiling.Profile(whole_lean, runtimes.card)
figure = plots.latency.bars(of_one_model, "Stored: LightAVSeg lean, 224 px, one thread")
workbook.show(
    figure,
    alt="Bars of one model's latency: eager, compiled, and exported to ONNX Runtime, OpenVINO and "
    "ExecuTorch in float32 and 8 bits; exported is more than twice as fast as eager, 8 bits about "
    "twice as fast again.",
)
print("stored:", runtimes.card)

# %% [markdown]
# Every bar is the *same function* on the same core (8-bit ones approximately). More than between
# many methods of section 4.4 lies between two ways of running one method. A paper that compares
# its exported model with others' eager ones has measured the runtime.
#
# And between methods, once both are exported? The stored run has one pair, LightAVSeg and
# AVSegFormer with its heavy encoders; and LightAVSeg, in two widths, once more without RAVE and
# CMFD (the sound's vector is added once instead), which gives fusion's share of an *exported*
# model, by pairs:

# %%
exported = {row.name: row for row in runtimes.rows}
heavy, lean = exported["avsegformer resnet50, onnx fp32"], exported["onnx fp32"]
times = timing.ratio(heavy.timing, lean.timing).estimate
print(
    f"AVSegFormer, ResNet-50 and VGGish: {times:.1f} times as long as LightAVSeg lean, "
    "both in ONNX Runtime"
)
for width, found in (("lean", runtimes), ("paper", stored.profiles["paper"])):
    rows = {row.name: row for row in found.rows}
    for name, row in rows.items():
        without = rows.get(f"{name}, no fusion")
        if without is None:
            continue
        rest = timing.ratio(without.timing, row.timing)
        share = f"{1 - rest.estimate:5.1%} (95% interval {1 - rest.high:.1%} to {1 - rest.low:.1%})"
        print(f"{width:5} {name:15} fusion's share {share}")

# %% [markdown]
# Two lessons. Compare the first line with the eager ratio of the same two in section 4.4: once
# both are exported, LightAVSeg's lead is far larger. It is made of many small operators, for
# which eager torch takes an entrance fee; AVSegFormer is made of few large ones. So eager ratios
# can hide an advantage as well as invent one. And fusion's share, the fourth number for "6.2%",
# is a difference of two models, measured where operators are fused. It is small enough to need
# the pairs, and smaller than eager. It is not the phone's, and needs not agree with it.
#
# ### The same function, other operators
#
# Before export, the workbook rewrites the graph a little (`edge_graph.py`). One example.
# SeaFormer's attention projects a map (a 1x1 convolution) and then averages each row. Both are
# linear and act on different axes, so the order does not matter: average first, and the
# projection has $W$ times less to do.

# %%
x = torch.randn(1, 64, 28, 28)
averaged = x.mean(3, keepdim=True)
project = nn.Conv2d(64, 32, 1)
with torch.inference_mode():
    published, commuted = project(x).mean(3, keepdim=True), project(averaged)
largest = (published - commuted).abs().max()
macs = [flops.count(project, given).total_macs for given in (x, averaged)]
print(f"largest difference {largest:.1e}; MACs {macs[0]:,} and {macs[1]:,}")
assert torch.allclose(published, commuted, atol=1e-5)

# %% [markdown]
# Now all of it, on the trained tiny model. Two claims to check: the rewritten graph gives the
# same logits, and it has fewer operators.
#
# > **Prediction.** Which operator disappears entirely?

# %%
given = clip(128)
before, after = torch.export.export(tiny, given), edge_graph.edge_graph(tiny, *given)
with torch.inference_mode():
    expected, found = tiny(*given).logits, after.module()(*given)
deviation = ((found - expected).abs().max() / expected.abs().max()).item()
print(f"largest deviation of a logit, as a share of the largest logit: {deviation:.0e}")
assert deviation < 1e-5

# %% tags=["nbval-check-output"]
def operators(program):
    """Name of the operator -> how often it is in the graph."""
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    names = [getattr(node.target, "_opname", "") for node in calls]
    return Counter(name.rstrip("_") for name in names if name)


was, became = operators(before), operators(after)
resizing = ("upsample_linear1d", "adaptive_max_pool2d", "max_pool2d")
for name in ("conv2d", "batch_norm", "mean", "matmul", "bmm", *resizing):
    print(f"{name:20} {was[name]:4} before, {became[name]:4} after")
print(f"{'all':20} {was.total():4} before, {became.total():4} after")
assert became["batch_norm"] == 0 and became.total() < was.total()

# %% [markdown]
# No batch norm is left: at inference it is a scale and a shift for each channel, and a
# convolution can absorb both. A few convolutions came in (the projections of averages, and of two
# halves), but small ones.
#
# ### Exercise 5: fold a batch norm
#
# *8 minutes, hard.*
#
# A convolution with `weight` (outputs, inputs, k, k) and no bias is followed by a batch norm: $y
# = \gamma\,(z - \mu) / \sqrt{v + \epsilon} + \beta$ for each output channel. Return the weight
# and the bias of *one* convolution that does both.

# %% tags=["exercise"]
def fold(weight, gamma, beta, mean, variance, epsilon=1e-5):
    # solution
    scale = gamma / torch.sqrt(variance + epsilon)
    return weight * scale[:, None, None, None], beta - mean * scale
    # wrong: the mean is forgotten
    scale = gamma / torch.sqrt(variance + epsilon)
    return weight * scale[:, None, None, None], beta
    # wrong: no square root
    scale = gamma / (variance + epsilon)
    return weight * scale[:, None, None, None], beta - mean * scale
    # wrong: the mean is not scaled
    scale = gamma / torch.sqrt(variance + epsilon)
    return weight * scale[:, None, None, None], beta - mean
    # wrong: gamma is forgotten
    scale = 1 / torch.sqrt(variance + epsilon)
    return weight * scale[:, None, None, None], beta - mean * scale
    # end solution

# %% tags=["check"]
conv, norm = nn.Conv2d(8, 6, 3, bias=False), nn.BatchNorm2d(6).eval()
of_norm = norm.weight, norm.bias, norm.running_mean, norm.running_var
with torch.no_grad():
    for values in of_norm:
        values.uniform_(0.5, 2)
    picture = torch.randn(1, 8, 10, 10)
    both = norm(conv(picture))
numbers = tuple(values.detach() for values in (conv.weight, *of_norm))


def same(found):
    return torch.allclose(F.conv2d(picture, *found), both, atol=1e-4)


# One weight of 1; gamma 2, beta 1, mean 3, variance 16: 0.5 z - 0.5.
small = torch.ones(1, 1, 1, 1), *torch.tensor([[2.0], [1.0], [3.0], [16.0]])
workbook.check(
    "batch norm folded",
    fold,
    cases=[(numbers, same)],
    hint="each output channel's weights times gamma / sqrt(variance + epsilon); the mean goes "
    "into the bias",
    mistakes=[
        (small, lambda found: found[1] == 1, "where z is 0 the norm gives beta - mean·scale"),
        (small, lambda found: abs(found[0] - 0.125) < 1e-3, "the variance stands under a root"),
        (small, lambda found: found[1] == -2, "the mean is subtracted before the scaling"),
        (small, lambda found: abs(found[0] - 0.25) < 1e-3, "gamma multiplies the weights, too"),
    ],
)

# %% [markdown]
# ### Live: tiny in ONNX Runtime
#
# With the extra `edge` installed, this exports the tiny model and compares it with eager, in
# turns. Without it, the stored table below has to do.

# %%
if all(find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime")):
    from lightavseg_core.deploy import export
    from lightavseg_core.deploy import runtimes as files

    path = here.runs / "tiny.onnx"
    agreement = export.export(tiny, path, "onnx", [given], source="checkpoints/tiny")
    candidates = {"eager": tiny, "ONNX Runtime": profiling.Candidate(files.load(path))}
    found = profiling.profile(
        candidates, size=128, repeats=2 * s.rounds, device="cpu", with_floor=False
    )
    times = timing.ratio(found.rows[0].timing, found.rows[1].timing)
    print(
        f"eager takes {times.estimate:.1f} times as long ({times.low:.1f} to {times.high:.1f}); "
        f"{agreement.pixels:.2%} of the pixels are marked alike"
    )
else:
    print("the extra `edge` is not installed (make .venv/.edge): see the stored table below")

# %% [markdown]
# ### Eight bits
#
# An 8-bit network stores weights, and computes with maps, as integers from 0 to 255 (or -128 to
# 127). A scale says what a step is worth. For weights the scale is known. For the maps one must
# *look*: run some clips of the training split, note which values occur, and choose the range.
# That is called *calibration*.
#
# One scale for a whole layer, or one for each output channel? After folding, channels differ
# much: each has been multiplied by its batch norm's scale.
#
# > **Prediction.** By what factor does a scale per channel lower the error of the weights?

# %% tags=["nbval-check-output"]
def rounded(weight, largest):
    """To 8 bits and back."""
    step = largest / 127
    return (weight / step).round() * step


errors = {"a scale per layer": [], "a scale per channel": []}
blocks = [module for module in tiny.visual.modules() if isinstance(module, ConvNorm)]
for block in blocks:
    weight = edge_graph.folded(block).weight.detach()
    of_layer, of_channels = weight.abs().max(), weight.abs().amax((1, 2, 3), keepdim=True)
    for name, largest in zip(errors, (of_layer, of_channels)):
        error = (rounded(weight, largest) - weight).norm() / weight.norm()
        errors[name].append(error.item())
for name, values in errors.items():
    median, worst = np.median(values), max(values)
    print(f"{name:20} error in the median layer {median:.1%}, in the worst {worst:.1%}")
assert np.median(errors["a scale per channel"]) < np.median(errors["a scale per layer"])

# %% [markdown]
# ### Exercise 6: to integers
#
# *4 minutes, easy.*
#
# Calibration found values from `low` to `high`. Return the tensor `x` as whole numbers from 0
# (for `low`) to 255 (for `high`); what lies outside goes to the nearest end.

# %% tags=["exercise"]
def to_integers(x, low, high):
    # solution
    return ((x - low) / (high - low) * 255).round().clamp(0, 255)
    # wrong: nothing is clamped
    return ((x - low) / (high - low) * 255).round()
    # wrong: cut off instead of rounded
    return ((x - low) / (high - low) * 255).floor().clamp(0, 255)
    # wrong: 256 steps
    return ((x - low) / (high - low) * 256).round().clamp(0, 255)
    # wrong: low is not shifted to 0
    return (x / (high - low) * 255).round().clamp(0, 255)
    # end solution

# %% tags=["check"]
inside = torch.tensor([-1.0, 0.2, 1.0]), -1.0, 1.0
beyond = torch.tensor([-5.0, 0.5, 9.0]), 0.0, 2.0
workbook.check(
    "to integers",
    to_integers,
    hint="shift by low, divide by the range, times 255; round; clamp",
    cases=[(inside, [0.0, 153.0, 255.0]), (beyond, [0.0, 64.0, 255.0])],
    mistakes=[
        (beyond, lambda found: found.max() > 255, "what lies outside goes to the nearest end"),
        (beyond, [0.0, 63.0, 255.0], "63.75 is nearer to 64: round, do not cut off"),
        (inside, [0.0, 154.0, 255.0], "from 0 to 255 there are 255 steps, not 256"),
        (inside, [0.0, 26.0, 128.0], "low must become 0: subtract it first"),
    ],
)

# %% [markdown]
# A wider range loses precision, a narrower one cuts off. What does it cost in the end? $M_J$ of
# the trained tiny model on 80 unseen clips, in each runtime:

# %%
small_runs = stored.profiles["tiny"]
of_eager = small_runs.rows[0].timing
lines = []
for row in small_runs.rows:
    ms, times = f"{row.timing.median:.1f}", timing.ratio(of_eager, row.timing)
    megabytes, alike = row.columns.get("file, MB", ""), row.columns.get("pixels alike")
    alike = "" if alike is None else f"{alike:.2%}"
    score = f"{row.columns['M_J']:.3f}"
    lines.append((row.name, ms, written(times), megabytes, alike, score))
print("stored:", small_runs.card)
columns = ["ms", "times as fast as eager", "file, MB", "pixels alike", "$M_J$"]
workbook.table(["stored: tiny, 128 px", *columns], lines)

# %% [markdown]
# On these pictures little is lost. And at this size less time is gained, in some runtime none,
# since conversions and small operators take as long as before; the lean model gains more.
#
# How much faster *can* 8 bits be? One AVX-512 instruction does 16 multiply-accumulates of
# float32. With VNNI (*vector neural network instructions*) one does 64 of 8-bit integers: four
# times. But only products become four times as fast. If they take a share $p$ of the float32
# time, the whole becomes $1 / (1 - p + p/4)$ times as fast: Amdahl's law. Turn it round, and ask
# what $p$ explains the measured speed-up:

# %%
cpuinfo = Path("/proc") / "cpuinfo"
flags = cpuinfo.read_text().split() if cpuinfo.is_file() else []
vnni = any("vnni" in flag for flag in flags) if flags else "unknown"
print("this processor has VNNI:", vnni)
for name in ("onnx", "openvino", "executorch"):
    fp32, int8 = exported[f"{name} fp32"], exported[f"{name} int8"]
    faster = timing.ratio(fp32.timing, int8.timing).estimate
    share = (1 - 1 / faster) / 0.75
    print(
        f"{name:11} stored: int8 is {faster:.2f} times as fast as fp32, "
        f"as if {share:.0%} of the time were products"
    )

# %% [markdown]
# The rest: depthwise convolutions, which need bytes (a quarter of them, with 8 bits, so they gain
# too), additions and activations, conversions to and from integers, and the layers that stay in
# float32 because 8 bits would ruin them (positions and masks of attention, `export.py` says
# which).
#
# **What small data says.** The loss of $M_J$ is that of seven flat silhouettes. On photographs
# the range of the maps is another, and so is the loss: calibrate and judge on your own data.
#
# ## 4.6 On a GPU
#
# A GPU does arithmetic hundreds of times as fast as one core, but the processor still has to
# *start* each operator, some 5 µs each. Estimate both for LightAVSeg, one frame:

# %%
launches = len(kinds.operators) * 5e-3
arithmetic = 2 * total / 50e12 * 1000
print(
    f"{len(kinds.operators)} launches of 5 µs: {launches:.1f} ms; "
    f"the arithmetic at 50 TFLOP/s: {arithmetic:.2f} ms"
)
assert launches > 10 * arithmetic
for row in reported.COMPARISON:
    times = f"GPU {row.gpu_ms:5.1f} ms    phone {row.phone_ms:7.1f} ms"
    print(f"reported: {row.method:11} {row.visual:11} {times}")

# %% [markdown]
# That would explain the reported column of GPU times: on the phone the slowest takes almost eight
# times as long as LightAVSeg, on the GPU not even twice. At batch 1 a GPU mostly waits for the
# next launch, so *the number of operators* is what one measures. Three remedies: `torch.compile`
# makes fewer, larger operators; **CUDA graphs** record all launches once and replay them as one;
# a larger batch gives each launch more to do. **bf16** halves the bytes and uses faster units,
# which helps only once launches no longer decide.

# %%
gpu = here.root / benchmark.GPU
if torch.cuda.is_available():
    ways = (("fp32", "none"), ("bf16", "none"), ("bf16", "default"), ("bf16", "graphs"))
    for precision, how in ways:
        found = profiling.profile(
            {"lean": model}, repeats=s.rounds, device="cuda", precision=precision, compile=how
        )
        print(f"{precision}, compile={how!r}: {found.rows[0].timing.median:.2f} ms; {found.card}")
elif gpu.is_file():
    for name, found in benchmark.read(gpu).profiles.items():
        print(f"stored: {name}", *profiling.lines(found), sep="\n")
else:
    print(
        "No GPU here, and no stored run of one: on a machine with a GPU, `make bench` measures "
        "there."
    )

# %% [markdown]
# ## 4.7 And on a phone?
#
# This workbook has no phone. What would change there, and which of the ratios above would
# survive?
#
# | | here | on a phone | so |
# |---|---|---|---|
# | cores | alike | few fast, several slow ones; the scheduler moves you between them | pin or name the cores; report which |
# | caches | large | small, shared with all else | maps that fit here may not fit there: the ridge moves |
# | bandwidth | a server's | a fraction of it, shared with screen and camera | depthwise and element-wise operators weigh more |
# | heat | a fan | after a minute the clock falls | measure the first seconds *and* the tenth minute |
# | 8 bits | VNNI | dot-product instructions, or an NPU | an NPU runs what it knows; one unknown operator sends the graph back to the CPU |
# | runtime | eager, or any | exported only | **eager ratios do not transfer**: overhead per operator is not there |
#
# Ratios transfer when the same thing limits both machines. Two networks made of the same
# operators, both exported, in one runtime, keep their ratio roughly. A ratio of eager times also
# counts operators; a ratio on a GPU at batch 1 counts launches.
#
# What to measure there, with the ExecuTorch file that `lightavseg export` writes: warm-up, then
# turns between two files on the same cores; medians and paired ratios; fp32 and int8; the
# temperature or at least the minute; and the card.
#
# ## Summary
#
# - A latency is a distribution on a moving machine. Warm up, take turns, compare by pairs, and
#   keep the card.
# - MACs count arithmetic. Time also goes into bytes and into starting operators: depthwise
#   convolutions, batch norms and small products take far more of it than their MACs say. Fusion
#   has hardly any MACs; its few percent of the time are overhead and whole maps read and written.
# - The floor and the roofline say what is possible. Eager is far from it; a runtime recovers
#   much, 8 bits more, the network unchanged.
# - Compare methods with the same encoders, in the same runtime, in one run. Whole tables can
#   hinge on any of the three.
# - LightAVSeg is light by its encoders and by its decoder. Fusion takes a few percent of its
#   time, and nowhere the largest part.
# - Only TPAVI is quadratic among the compared, and only in its published order.
#
# **What this can and cannot say about AVSBench.** Time depends on shapes, not on data, so the
# times of the full-size models are real times, of this processor. They say nothing about another
# processor's, and nothing here says how well a method segments; the one score, $M_J$ after 8
# bits, is that of small generated pictures.
#
# ## References
#
# - LightAVSeg: arXiv 2605.08805 (ICML 2026), whose phone and GPU times are quoted as *reported*.
# - Williams, Waterman, Patterson: *Roofline: an insightful visual performance model for multicore
#   architectures*, CACM 2009.
# - Jacob et al.: *Quantization and training of neural networks for efficient
#   integer-arithmetic-only inference*, CVPR 2018.
# - SeaFormer: Wan et al., ICLR 2023, arXiv 2301.13156. TPAVI: Zhou et al., ECCV 2022, arXiv
#   2207.05042.

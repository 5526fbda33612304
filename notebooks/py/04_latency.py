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
# LightAVSeg was presented at ICML 2026. Its conference poster, below *the poster*, says that one
# frame takes 163 ms on a phone. It also says that 6.2% of this time is fusion, where sound meets
# picture. What would you have to know to believe such a sentence, to repeat it on your machine,
# and to carry it over to another one? Here you measure: first the ruler itself, then the parts of
# a model and the operators in them, then five methods side by side, and finally one network in
# the runtimes that phones and servers use.
#
# **Afterwards you can**
# - time two models so that their ratio means something, and say what has to be reported with a
#   latency;
# - predict from multiply-accumulates (MACs) where the time goes, and say why the prediction
#   fails;
# - read a roofline, and distinguish limits of arithmetic, of memory and of software;
# - say what compilers, exporters and 8-bit integers change, and which ratios you must not carry
#   over to a phone.
#
# | | |
# |---|---|
# | Time on 2 cores | a minute and a half (`profile = "smoke"`: about half of it); the long runs were made beforehand by `make bench` |
# | To read | @minutes |
# | Memory | 5 GB |
# | You need | [notebook 2](02_model.ipynb) for the model and for counting MACs. Optional: the extra `edge` (`make .venv/.edge`) for one export in section 4.5 |

# %% tags=["parameters"]
profile = "default"                    # "smoke": the shortest run that touches everything
results = "results/latency.json"    # what `make bench` wrote
threads = 1                            # for torch, in what is measured live
rounds = 15                            # in most live measurements
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
tiny = lav.load_model(here.root / "checkpoints/tiny").eval()     # the small trained model


def clip(side):
    """One random frame and its sound: the time does not depend on what they contain."""
    return torch.randn(1, 1, 3, side, side), torch.randn(1, 1, 1, *model.front_end.shape)


# %% [markdown]
# ## 4.1 What is one latency worth?
#
# Call a freshly loaded model twelve times. Then take *one* model, name it both "a" and "b", and
# compare the two as you would compare two methods. Do it twice: first one after the other, all
# calls of a and then all calls of b; then with a and b taking turns.
#
# > **Prediction.** Which of the twelve calls is the slowest? What will be the ratio of a model's
# > time to its own, measured one after the other, and measured in turns?

# %%
workbook.guess(
    "a model against itself",
    {"slowest call": ..., "ratio, one after the other": ..., "ratio, in turns": ...},
)

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
workbook.beside(
    "a model against itself",
    {
        "slowest call": int(np.argmax(first)) + 1,
        "ratio, one after the other": means,
        "ratio, in turns": paired.estimate,
    },
)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.bar(range(1, 13), first, color=[RED] + [BLUE] * 11)
left.set(title="First calls of a fresh model", xlabel="call", ylabel="milliseconds")
left.set_xticks(range(1, 13))
for name, color, style in (("a", BLUE, "o-"), ("b", RED, "s-")):
    ms = in_turns[name].rounds
    right.plot(range(1, s.rounds + 1), ms, style, color=color, markersize=4, label=name)
right.set(title="One model under two names, in turns", xlabel="round", ylabel="milliseconds")
right.set_ylim(0, None)
right.legend(frameon=False)
for axis in (left, right):
    axis.spines[["top", "right"]].set_visible(False)
workbook.show(
    figure,
    alt="Left: bars of a model's first twelve calls, the first one in red. Right: two lines, one "
    "model timed under two names in turns, round by round.",
)

# %% [markdown]
# The first call pays for what is done only once: memory is requested, and kernels are chosen for
# these shapes. That is *warm-up*, and it is not counted. The remaining times still go up and
# down. Where both lines move *together*, the machine has changed, not the model: other programs
# run, or the clock frequency falls as the processor warms up.
#
# How good is each way of comparing? On a real machine nobody knows the true ratio. So here is an
# invented machine, made of random numbers, on which b takes exactly 5% longer than a. It has two
# faults of real machines: it slows down by up to 20% during a measurement, and in 3% of the calls
# something gets in the way.
# Four estimates of the ratio:
#
# - means, one after the other;
# - medians, one after the other;
# - means, in turns;
# - median of the pairs' ratios, also in turns.
#
# > **Prediction.** Which of the four estimates comes nearest to the true ratio, on average over
# > many experiments?

# %%
workbook.guess("nearest to the true ratio", ...)

# %% [markdown]
# ### Exercise 1: a paired ratio
#
# *4 minutes, easy.*
#
# The fourth estimate is yours to write. `a` and `b` are the milliseconds of two candidates, round
# by round. Return how many times as long b takes as a: the median over the rounds.

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
    hint="first a ratio for each round, then the median of the ratios",
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
# Now the invented machine, and 300 experiments on it:

# %% tags=["nbval-check-output"]
generator = np.random.default_rng(0)
n, truth = 30, 1.05


def pace(calls):
    """How slow the machine is at each of a number of calls in a row."""
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
off = {name: np.abs(np.array(values) - truth).mean() for name, values in estimates.items()}
workbook.beside("nearest to the true ratio", min(off, key=off.get))

# %%
figure, axis = plt.subplots(figsize=(8, 2.6), layout="constrained")
for y, values in enumerate(estimates.values()):
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(values))
    axis.scatter(values, y + jitter, s=5, color=BLUE, alpha=0.4, linewidth=0)
axis.axvline(truth, color=RED, linewidth=1.2)
axis.set_yticks(range(4), list(estimates))
axis.invert_yaxis()
axis.set_title("300 experiments on an invented machine; the line is the true ratio")
axis.set_xlabel("how many times as long b takes as a")
axis.spines[["top", "right"]].set_visible(False)
workbook.show(
    figure,
    alt="Dots of 300 estimates in four rows: only the median of the pairs' ratios clusters "
    "tightly around the true ratio of 1.05.",
)
assert min(spread, key=spread.get) == "median of the pairs' ratios"

# %% [markdown]
# Why? One after the other, the drift ends up in the ratio, whether you take means or medians: b
# *always* comes later. Turns spread the drift over both, but a mean still believes every
# interruption. The median of the ratios *within a round* avoids both faults. All timings below
# are made in this way: warm-up, turns, medians. Where methods are compared, the ratios are
# paired. The intervals cover what varies within a run, and nothing else: not another day, and not
# another machine.

# %% [markdown]
# ### The card
#
# A latency without its circumstances is a number without a unit. So each stored measurement of
# this workbook carries a card, and so does each profile that you make:

# %%
found = profiling.profile(
    {"tiny": tiny}, size=128, repeats=s.rounds, device="cpu", with_floor=False
)
card = found.card
print(card)

# %% [markdown]
# *A fixed product* is a small matrix product that takes its turn among the candidates. Its
# scatter and its drift come from the machine, not from a model. And since a ratio of times from
# *two* machines says nothing about two models, the package refuses to put such times into one
# table:

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
# The paper divides LightAVSeg into five parts: the visual encoder; the audio encoder; RAVE, where
# sound and picture meet in the encoder; CMFD, where they meet again in the decoder; and the head,
# which is the rest of the decoder. [Notebook 2](02_model.ipynb) builds them. RAVE and CMFD
# together are the *fusion*. The model here is its preset `lean`: the published encoders with a
# lighter decoder of ours. If time followed arithmetic, shares of MACs would be shares of time.

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
# Now measure the time of each part, *eagerly*: operator by operator, as torch runs a model that
# nobody compiled. Hooks, which torch calls before and after a module, read the clock where one part
# hands over to another. Calls with hooks and calls without hooks take turns, to see what the hooks
# cost. A third panel shows what the paper *reports* for its phone: another machine, another
# runtime.
#
# > **Prediction.** From the shares of MACs: what share of the time, from 0 to 1, will fusion take
# > here? Which of the five parts will take *more* than their share of MACs?

# %%
workbook.guess("time by part", {"share of fusion": ..., "more time than MACs": ...})

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
slower = [part for part in of_macs if of_time[part] > of_macs[part]]
workbook.beside(
    "time by part",
    {"share of fusion": sharing["measured here: eager"], "more time than MACs": slower},
)
assert sharing["measured here: eager"] > 3 * sharing["counted: MACs"]

# %% [markdown]
# The poster's "fusion is 6.2%" counts RAVE and CMFD; that is the panel on the right. There are
# three numbers for one question, and they do not contradict each other, since each counts
# something else. Fusion is nearly free *in arithmetic*. In time, here, it costs many times its
# share of MACs. The third number is another machine's. All three agree that fusion is a small
# part. Section 4.5 measures a fourth number, after export.
#
# ### Why MACs mislead
#
# Now look at single operators, and sort them into kinds: dense convolutions with 1x1 or with
# larger windows (k x k), depthwise convolutions, matrix products, norms and element-wise operators
# such as activations, pooling, resizing, copies. For each kind: its share of the MACs beside its
# share of the time.
#
# > **Prediction.** Which kind takes the most time? What share of the time, from 0 to 1, goes into
# > kinds without a single MAC?

# %%
workbook.guess("time by kind", {"slowest kind": ..., "share without MACs": ...})

# %%
kinds = breakdown.by_kind(model, *clip(size), s.rounds)
workbook.show(
    plots.latency.kinds(kinds, f"LightAVSeg lean, eager, {size} px: counted and measured"),
    alt="A pair of bars for each kind of operator: dense 1x1 convolutions have nearly all MACs but "
    "a smaller share of the time; depthwise convolutions, norms and element-wise operators have a "
    "larger share of the time than of the MACs.",
)
print(f"{len(kinds.operators)} calls of operators in one forward pass")
print(
    f"their times add up to {kinds.covered:.0%} of the model's; below 100%, the rest is Python "
    "between the operators; above 100%, it is the cost of reading the clock"
)
of_kind = {kind.kind: kind for kind in kinds.kinds}
depthwise, elementwise = of_kind["depthwise"], of_kind["norm, element-wise"]
without_macs = sum(kind.share_of_time for kind in kinds.kinds if not kind.macs)
workbook.beside(
    "time by kind", {"slowest kind": kinds.kinds[0].kind, "share without MACs": without_macs}
)
assert depthwise.share_of_time > depthwise.share_of_macs
assert elementwise.share_of_macs == 0 < elementwise.share_of_time

# %% [markdown]
# Why? Shares of time and of MACs can differ for four reasons:
#
# 1. **Depthwise convolutions move bytes.** Each number that is read takes part in only a few
#    multiply-accumulates, so at best they run at the speed of memory (section 4.3 looks).
# 2. **Batch norms and activations have no MACs**, yet each reads and writes a whole map. A
#    compiler merges them into the convolution before.
# 3. **Each operator costs something before it computes anything**: Python, the choice of a
#    kernel, memory for the result. A forward pass has many hundreds of operators, and the small
#    ones are nearly all overhead.
# 4. **Attention's products are small** here: a few tokens with a few channels each. Large products
#    run near the machine's peak, small ones do not.
#
# How much is the third reason worth? Take one operator, ReLU, on more and more numbers.
#
# > **Prediction.** How many numbers does a ReLU need before it takes twice as long as for a single
# > one?

# %%
workbook.guess("numbers for twice the time", ...)

# %%
lengths = [4**k for k in range(12)]
# 0 is timed, too, and not drawn.
calls = {n: partial(torch.relu, torch.randn(n)) for n in (0, *lengths)}
timings = timing.latency(calls, 10 * s.rounds, 10, "cpu")
microseconds = [1000 * timings[n].median for n in lengths]
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
axis.loglog(lengths, microseconds, "o-", color=BLUE, markersize=5, label="ReLU")
axis.axhline(microseconds[0], color=GREY, linestyle=":", label="the time for one number")
axis.set(title="The time of one operator", xlabel="numbers", ylabel="microseconds")
axis.legend(frameon=False)
axis.grid(alpha=0.3)
workbook.show(
    figure,
    alt="Time of a ReLU against how many numbers it is given, both axes logarithmic: flat at "
    "first, then rising.",
)
price = len(kinds.operators) * microseconds[0] / 1000
print(
    f"one number: {microseconds[0]:.1f} µs. {len(kinds.operators)} such calls: {price:.1f} ms, "
    f"{price / kinds.whole.median:.0%} of the model's {kinds.whole.median:.0f} ms"
)
twice = (n for n, time_of in zip(lengths, microseconds) if time_of > 2 * microseconds[0])
workbook.beside("numbers for twice the time", next(twice, f"more than {lengths[-1]}"))

# %% [markdown]
# Where the curve is flat, the time is that of *starting* the operator. ReLU is a simple operator;
# a convolution has more to prepare. So read the printed share as a rough lower bound of what
# starting takes in this model, on this machine, at this size. Compare it with the share of norms
# and element-wise operators in the figure before: those read and write whole maps.
#
# ### Exercise 2: a depthwise-separable block
#
# *3 minutes, easy.*
#
# A block has a depthwise convolution with a `kernel` x `kernel` window, followed by a 1x1
# convolution from `channels` to `channels`. What share of the block's MACs belongs to the
# depthwise convolution? (The size of the map cancels.)

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
# And in time? Here is a block of the lean decoder, 128 channels, on its finest map, in two *memory
# layouts*. Torch's usual one keeps the pixels of a channel together; "channels last" keeps the
# channels of a pixel together.

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
# Which layout is faster depends on the shape and on the kernels that exist for it; measure both.
# The model above ran in the usual, *contiguous* layout. Where whole methods are compared below,
# each runs in both layouts and the faster one counts, unless something else is said.

# %% [markdown]
# ## 4.3 The roofline: how good could it be?
#
# A machine has two limits: how many operations it does in a second, and how many bytes it moves
# in a second. An operator that does $I$ operations for each byte can reach at most
#
# $$\min(\text{peak},\; I \cdot \text{bandwidth})$$
#
# operations a second; plotted against $I$, that is the *roofline* (Williams et al. 2009). $I$ is
# called the *arithmetic intensity*. The two limits meet at the *ridge*: left of it memory decides,
# right of it arithmetic. We measure both limits, with the fastest matrix product of any installed
# library and with a sum of arrays larger than the caches (*triad* in the figure).
#
# ### Exercise 3: intensity of a depthwise convolution
#
# *5 minutes, medium.*
#
# A depthwise convolution has a `kernel` x `kernel` window, on a map of `channels` x `side` x
# `side`, with stride 1, in float32 (4 bytes), without a bias. It reads the map and its weights
# once and writes a map of the same size. A multiply-accumulate is two operations. Return the
# operations per byte.

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
# It is at most $k^2/4$, whatever the number of channels: about 2 operations a byte with a 3 x 3
# window. A 1x1 convolution from $C$ to $C$ channels on a large map has about $C/4$.
#
# > **Prediction.** On which side of the ridge, left or right, do depthwise 3 x 3 convolutions lie
# > on your machine? And 1x1 convolutions with 256 channels?

# %%
workbook.guess("side of the ridge", {"depthwise 3 x 3": ..., "1x1, 256 channels": ...})

# %%
limits = floor(device="cpu")
ridge = limits.gflops / limits.bandwidth
workbook.show(
    plots.latency.roofline(kinds, limits, f"LightAVSeg lean, eager, {size} px"),
    alt="Roofline: operators as dots, operations a second against operations a byte, under a "
    "slope of memory bandwidth and a ceiling of arithmetic; depthwise convolutions lie at low "
    "intensity, far below the ceiling.",
)
distance = limits.distance(kinds.whole.median, total)
print(
    f"ridge: {ridge:.1f} operations a byte; depthwise 3 x 3: about 2.2; "
    "1x1 with 256 channels: about 64"
)
most = {"depthwise 3 x 3": 3**2 / 4, "1x1, 256 channels": 256 / 4}     # operations a byte
sides = {name: "left" if intensity < ridge else "right" for name, intensity in most.items()}
workbook.beside("side of the ridge", sides)
print(f"the model takes {distance:.1f} times as long as its MACs would at the machine's best rate")
assert ridge < 64 and distance > 1

# %% [markdown]
# How to read it: dots near the roof are as good as they can be; to be faster, they would have to
# *compute less*. Dots far below the roof are held back by something else, mostly by software:
# small operators that are nearly all overhead, or kernels and layouts that do not suit the shape.
# Look for the depthwise convolutions. Memory limits how fast they *could* be. A dot well below the
# slope is held back by something else: reason 1 of section 4.2 explains why the roof over them is
# low, not why they stay below it. (Bytes are counted as if nothing stayed in a cache. So a dot
# *above* the slope is no miracle: its map was still in the cache.)
#
# The last printed line is the one to remember: it says how many times as fast the machine could
# do the same arithmetic. Some of that can be gained without touching the network, as section 4.5
# shows.
#
# ## 4.4 Five methods, two pairs of encoders
#
# The poster's table compares LightAVSeg with three methods, AVSBench, AVSegFormer and SelM, each
# with two pairs of encoders: ResNet-50 with VGGish, and SeaFormer-L with MobileNetV2. Here are
# these four and AVESFormer with both pairs, from the stored run: one machine, eager, in turns.
# ([Notebook 2](02_model.ipynb) introduces the methods.)

# %%
methods = stored.profiles["methods"]
workbook.show(
    plots.latency.bars(methods, "Stored, 224 px"),
    alt="Bars of the latency of five methods with light and with heavy encoders, divided by part; "
    "LightAVSeg and AVESFormer have the shortest bars; in the other three the decoder alone takes "
    "longer than the encoders.",
)
print("stored:", methods.card)
try:
    timing.same_machine([methods.card, card])
    print("\nSame machine, versions and threads as in this notebook.")
except ValueError as refusal:
    print(f"\nNot the machine, versions or threads of this notebook: {refusal}")

# %% [markdown]
# Does it hold here and now? A live run, short enough for this notebook, has frames of 128 px, a
# third of the pixels, and few rounds: read its ratios with their intervals. Each model runs in one
# memory layout only (channels last), on the `threads` set at the top.
#
# > **Prediction.** Will the methods come in the *same order* as in the stored run, yes or no? What
# > share of the ratios to LightAVSeg, from 0 to 1, will be larger than in the stored run?

# %%
workbook.guess("live against stored", {"same order": ..., "share of larger ratios": ...})

# %%
smoke = s.profile == "smoke"
few = ("lightavseg lean", "avsbench seaformer_l")
candidates = {}
for name, made in benchmark.models():
    if name == "lightavseg paper" or (smoke and name not in few):
        continue
    run = eager.prepare(made, "cpu", channels_last=True)  # keeps a copy; ours can go
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
both = [name for name in own if name in now and name != methods.rows[0].name]
orders = [sorted(both, key=lambda name: of[name].estimate) for of in (own, now)]
larger = sum(now[name].estimate > own[name].estimate for name in both) / len(both)
same_order = "yes" if orders[0] == orders[1] else "no"
workbook.beside("live against stored", {"same order": same_order, "share of larger ratios": larger})
columns = ["times LightAVSeg", "reported: phone, 224 px", "stored: 224 px", "live: 128 px"]
workbook.table(columns, lines)

# %% [markdown]
# The three columns come from three settings. Read *down* a column. Where a ratio changes *across*
# the columns, nobody can tell whether the machine, the size, the threads or the layout changed it.
# A cell is blank where nothing was reported or measured. (The poster's table has neither
# AVESFormer, whose sizes are ours, nor LightAVSeg with ResNet-50 and VGGish.) `lean` has our
# lighter decoder; `paper` comes near the published size, so for a comparison with the published
# model divide by its row. And where a card says that the fixed product scattered much, the
# machine was busy. Paired ratios suffer less from that than milliseconds do.
#
# ### Whose fault is it?
#
# A row with ResNet-50 and VGGish differs from LightAVSeg's first row in *two* things, the encoders
# and the method. The stored run can tell them apart. What do the encoders take, what does fusion
# take, and what the decoder, which here is everything else? And how does each method compare with
# LightAVSeg (`paper`) on the *same* encoders?
#
# > **Prediction.** Read it from the figure above, before the table counts it. With ResNet-50 and
# > VGGish, what takes the most time in each method: the encoders, the fusion or the decoder?

# %%
workbook.guess(
    "largest part with ResNet-50",
    {"lightavseg": ..., "avesformer": ..., "avsbench": ..., "avsegformer": ..., "selm": ...},
)

# %%
rows = {row.name: row for row in methods.rows}
lines, slowest_part = [], {}
for name, row in rows.items():
    encoders = row.shares["visual"] + row.shares["audio"]
    decoder = row.shares.get("decoder", row.shares.get("head"))
    by_part = {"encoders": encoders, "fusion": 1 - encoders - decoder, "decoder": decoder}
    if name.endswith(" resnet50"):
        slowest_part[name.removesuffix(" resnet50")] = max(by_part, key=by_part.get)
    shares = [f"{share:.0%}" for share in by_part.values()]
    same = "lightavseg resnet50" if name.endswith("resnet50") else "lightavseg paper"
    times = timing.ratio(row.timing, rows[same].timing)
    lines.append((name, *shares, f"{times.estimate:.1f}"))
workbook.beside("largest part with ResNet-50", slowest_part)
columns = ["encoders", "fusion", "decoder", "times LightAVSeg with the same encoders"]
workbook.table(["stored", *columns], lines)

# %% [markdown]
# In this stored run the encoders take most of LightAVSeg's time. In AVSBench, AVSegFormer and SelM
# it is neither the encoders, not even the heavy ones, nor the fusion: it is the *decoder*. The
# last column compares each method with LightAVSeg on the same encoders. For these three the gap is
# then smaller than between a row with ResNet-50 and LightAVSeg with SeaFormer, but it remains.
# (Part of that is our lighter decoder: the first table divides by `lean`, this one by `paper`.)
# AVESFormer takes about as long as LightAVSeg. So "light" mostly means a light encoder and a light
# decoder. Remember that before you say "this *fusion* is so many times as fast".
#
# The paper's own figures leave a riddle here. Its ablation replaces one encoder at a time:

# %% tags=["nbval-check-output"]
def alone(part, name):
    """Time of an encoder: LightAVSeg's with it, minus LightAVSeg's without its own encoder."""
    (with_it,) = (row.phone_ms for row in reported.ABLATIONS[part] if row.name == name)
    return with_it - (full - reported.PHONE_PARTS[part])


resnet, vggish = alone("visual encoder", "ResNet-50"), alone("audio encoder", "VGGish")
took = f"ResNet-50 {resnet:.0f} ms, VGGish {vggish:.0f} ms, together {resnet + vggish:.0f} ms"
print(f"reported, by subtraction: {took}")
avsbench, selm = phone_ms["avsbench", "resnet50"], phone_ms["selm", "resnet50"]
print(f"reported: all of AVSBench with both {avsbench:.0f} ms, all of SelM with both {selm:.0f} ms")

# %% [markdown]
# The two encoders alone would take longer than whole methods that contain both. So either these
# times do not simply add up, or they were not measured in one setting. Without the code nobody
# can say which. That is why this workbook measures what it compares in one run where it can.
#
# ### What grows, and how fast
#
# A frame with twice the side has four times the pixels. A method that is linear in the pixels
# takes four times as long; one with a product of all pairs of positions, up to sixteen times.
#
# ### Exercise 4: TPAVI when the side doubles
#
# *3 minutes, easy.*
#
# [Notebook 2](02_model.ipynb) counted TPAVI, the fusion of AVSBench, as published: it takes
# $N^2 C + 1.5\,N C^2$ MACs for $N$ positions and $C$ channels. By what factor do the MACs grow when
# the side of the frame doubles?

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
        ((49, 256), 433 / 2320, "divide after by before"),
    ],
)

# %% [markdown]
# The factor lies between 4 and 16, and near 16 where $N$ is large. TPAVI works at every scale, so
# the finest scale decides. Now live, on small models because a square is expensive: LightAVSeg,
# and AVSBench with TPAVI's brackets as published and the other way round.

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
    "becomes the steepest; the other two rise in proportion to the pixels or less.",
)
medians = {(p.name, p.size[0]): p.timing.median for p in grown.points}
for name in small:
    times = medians[name, sides[-1]] / medians[name, sides[-2]]
    print(f"{name:23} {sides[-1]} px take {times:.1f} times as long as {sides[-2]} px")

# %%
workbook.show(
    plots.latency.growth(stored.series["scaling"], "Stored: lean models, one frame and five"),
    alt="Stored latency against all pixels of a clip, log-log, of LightAVSeg and AVSBench with "
    "the same encoders, one and five seconds: LightAVSeg rises more slowly than the pixels, "
    "AVSBench with five seconds of large frames faster.",
)
print("stored:", stored.series["scaling"].card)

# %% [markdown]
# On small frames even a linear method grows more slowly than the pixels. Some of its work does not
# depend on them, such as the audio encoder and the start of each operator. TPAVI multiplies all
# positions *of all seconds* with each other, so for TPAVI five seconds are like one frame of five
# times the pixels.
#
# This is the honest summary of "from $O(N^2)$ to $O(N)$", by the MACs of notebook 2 and by time
# where we measured it. A global audio vector that is added per channel costs $O(N)$. Of the
# methods in the poster's table only AVSBench is quadratic, and only by its order of evaluation:
# in the other order the same function is linear. AVSegFormer and SelM are linear, with a large
# constant. (Our AVESFormer has a square too, the dense attention between pixels in its last
# decoder stage. It has nothing to do with sound.)
#
# ## 4.5 From eager to deployed
#
# Hardly anybody ships eager PyTorch. Runtimes for phones and servers take the whole network as a
# *graph* before they run it. Then they
#
# - **fuse**: batch norm and activation become part of the convolution before them, so that a map
#   is written once instead of three times;
# - **lay out** memory as their kernels prefer it, once for the whole graph;
# - **plan** which memory is used when, instead of requesting it at each operator;
# - **delegate**: ExecuTorch hands pieces of the graph to a library (XNNPACK). What the library
#   does not know runs outside it, and each crossing costs time.
#
# Three runtimes appear below: ONNX Runtime and OpenVINO, mostly for servers and PCs, and
# ExecuTorch, PyTorch's runtime for phones. *Compiled* is `torch.compile`, which builds such a
# graph without an export.
#
# The stored run has LightAVSeg lean in each runtime, on *one thread*, unlike the methods of
# section 4.4.
#
# > **Prediction.** Section 4.3 showed how far eager is from the best rate of the machine. How many
# > times as fast as eager is the fastest runtime, in float32 (`fp32`) and in 8-bit integers
# > (`int8`)?

# %%
workbook.guess("times as fast as eager", {"fp32": ..., "int8": ...})

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
    "ExecuTorch in float32 and in 8 bits; the eager bars are the longest, the 8-bit bars the "
    "shortest.",
)
print("stored:", runtimes.card)


def fastest(kind):
    """Of the rows of this kind: eager in either layout, fp32 or int8 in any runtime."""
    found = (row for row in whole_lean if kind in row.name)
    return min(found, key=lambda row: row.timing.median).timing


faster = {kind: timing.ratio(fastest("eager"), fastest(kind)).estimate for kind in ("fp32", "int8")}
workbook.beside("times as fast as eager", faster)
slowest = max((row.timing for row in whole_lean), key=lambda timing: timing.median)
spread = timing.ratio(slowest, fastest("int8")).estimate
closer = sum(times.estimate < spread for name, times in own.items() if name != "lightavseg lean")
print(f"the slowest way of running this model takes {spread:.1f} times as long as the fastest")
print(f"of the {len(own) - 1} ratios to it in section 4.4, stored, {closer} are smaller than that")

# %% [markdown]
# Every bar is the *same function* on the same core (with 8 bits, approximately). The last two
# lines compare ways of running one method with differences between methods. A paper that compares
# its own exported model with the eager models of others has measured the runtime.
#
# How do two methods compare once both are exported? The stored run has one such pair: LightAVSeg
# lean, and AVSegFormer with ResNet-50 and VGGish. Print their ratio beside the eager ones, each
# with its size and its threads:

# %%
exported = {row.name: row for row in runtimes.rows}
as_methods = "avsegformer resnet50", "lightavseg lean"
pairs = {
    "eager, stored": (methods, *as_methods),
    "eager, live": (live, *as_methods),
    "ONNX Runtime, stored": (runtimes, "avsegformer resnet50, onnx fp32", "onnx fp32"),
}
print("AVSegFormer with ResNet-50 and VGGish over LightAVSeg lean")
for what, (found, *two) in pairs.items():
    of_name = {row.name: row.timing for row in found.rows}
    if two[0] not in of_name:                            # the smoke profile times fewer methods
        continue
    times = written(timing.ratio(*(of_name[name] for name in two)))
    print(f"{what:21} {found.card.size[0]} px, threads: {found.card.threads}: {times}")
gain = timing.ratio(fastest("eager"), exported["onnx fp32"].timing).estimate
print(
    f"\nLightAVSeg lean alone, one run, threads: {runtimes.card.threads}: "
    f"ONNX Runtime saves {1 - 1 / gain:.0%} of the eager time"
)
print(
    f"section 4.2, live, {size} px: starting its operators takes {price / kinds.whole.median:.0%} "
    f"of the eager time or more, norms and element-wise operators {elementwise.share_of_time:.0%}"
)

# %% [markdown]
# Read the threads before you read the ratios. The eager run of section 4.4 and the exported one
# differ in the runtime *and* in the number of threads; the live run differs in size, too. There
# is no eager AVSegFormer on one thread at 224 px. So if LightAVSeg's lead is larger after export,
# these runs cannot tell how much of that comes from the runtime and how much from the threads.
#
# What was measured is LightAVSeg's own gain from export, in one run and on one thread. The last
# line says what there is to save besides better kernels and layouts: the start of the operators,
# by its lower bound, and the norms and activations that a graph merges into convolutions.
# AVSegFormer is made of other operators and may gain less from all this. That is a possible
# reason for a difference, not a tested one. The lesson is short: an eager ratio is not an exported
# ratio.
#
# Fusion can be measured after export, too. The stored runs have LightAVSeg in two sizes, and each
# once more without RAVE and CMFD: the audio vector is then added only once, in the decoder. The
# difference from the whole model, by pairs, is fusion's share of an *exported* model:

# %%
for width, found in (("lean", runtimes), ("paper", stored.profiles["paper"])):
    rows = {row.name: row for row in found.rows}
    for name, row in rows.items():
        without = rows.get(f"{name}, no fusion")
        if without is None:
            continue
        rest = timing.ratio(without.timing, row.timing)
        share = f"{1 - rest.estimate:5.1%} (95% interval {1 - rest.high:.1%} to {1 - rest.low:.1%})"
        print(f"{width:5} {name:15} fusion's share {share}")
live_share = sharing["measured here: eager"]
print(f"lean  eager, live     fusion's share {live_share:5.1%} (section 4.2, by hooks)")

# %% [markdown]
# This is the fourth number beside the poster's 6.2%. It is a difference between two models, while
# section 4.2 read the clock inside one model. So compare only orders of magnitude: fusion is a
# small part both ways, and after export so small that only paired ratios show it. It is not the
# phone's share, and it need not agree with the poster.
#
# ### The same function, other operators
#
# Before export, the workbook rewrites the graph a little (`edge_graph.py`). Here is one example.
# The attention of SeaFormer, the visual encoder, projects a map (a 1x1 convolution) and then
# averages each row. Both steps are linear and act on different axes, so their order does not
# matter. Average first, and the projection has $W$ times less to do, where $W$ is the width of
# the map.

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
# Now the whole rewriting, on the trained tiny model. There are two claims to check: the rewritten
# graph gives the same logits, and it has fewer operators.
#
# > **Prediction.** Which operators disappear entirely? Think of `conv2d`, `batch_norm`, `mean`,
# > `matmul`, or any other.

# %%
workbook.guess("operators that disappear", ...)

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
workbook.beside("operators that disappear", sorted(set(was) - set(became)))
assert became["batch_norm"] == 0 and became.total() < was.total()

# %% [markdown]
# No batch norm is left: at inference it is a scale and a shift for each channel, and a convolution
# can absorb both. The averages of rows and columns have become products with a constant matrix, and
# what resized SeaFormer's positions at every call is done once, before export. A few convolutions
# were added: the projections of the averages are small, and others are the two halves of one that
# was there before.
#
# ### Exercise 5: fold a batch norm
#
# *8 minutes, hard.*
#
# A convolution with `weight` (outputs, inputs, k, k) and no bias is followed by a batch norm: $y
# = \gamma\,(z - \mu) / \sqrt{v + \epsilon} + \beta$ for each output channel, where $z$ is what the
# convolution returns. Return the weight and the bias of *one* convolution that does both.

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
    hint="multiply each output channel's weights by gamma / sqrt(variance + epsilon); the mean "
    "goes into the bias",
    mistakes=[
        (small, lambda found: found[1] == 1, "where z is 0 the norm gives beta - mean·scale"),
        (small, lambda found: abs(found[0] - 0.125) < 1e-3, "take the square root of the variance"),
        (small, lambda found: found[1] == -2, "the mean is subtracted before the scaling"),
        (small, lambda found: abs(found[0] - 0.25) < 1e-3, "gamma multiplies the weights, too"),
    ],
)

# %% [markdown]
# ### Live: tiny in ONNX Runtime
#
# If the extra `edge` is installed, this cell exports the tiny model and compares it with eager, in
# turns. If it is not, use the stored table below.

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
        f"{agreement.pixels:.2%} of the pixels get the same label"
    )
else:
    print("the extra `edge` is not installed (make .venv/.edge): see the stored table below")

# %% [markdown]
# ### Eight bits
#
# An 8-bit network stores its weights as integers from 0 to 255 (or -128 to 127), and computes with
# maps of such integers. A scale says what one step is worth. For the weights the scale follows
# from their values. For the maps one must *look*: run some clips of the training split, note which
# values occur, and choose the range. That is called *calibration* (Jacob et al. 2018).
#
# Should there be one scale for a whole layer, or one for each output channel? After folding, the
# channels differ, since each has been multiplied by the scale of its batch norm.
#
# > **Prediction.** In the median layer, how many times as large is the error of the weights with
# > one scale per layer as with one scale per channel?

# %%
workbook.guess("error per layer over per channel", ...)

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

# %%
per_layer, per_channel = map(np.median, errors.values())
workbook.beside("error per layer over per channel", per_layer / per_channel)

# %% [markdown]
# ### Exercise 6: to integers
#
# *4 minutes, easy.*
#
# Calibration found values from `low` to `high`. Return the tensor `x` as whole numbers from 0
# (for `low`) to 255 (for `high`). Values outside this range become 0 or 255, whichever is nearer.

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
        (beyond, lambda found: found.max() > 255, "values outside the range become 0 or 255"),
        (beyond, [0.0, 63.0, 255.0], "63.75 is nearer to 64: round to the nearest"),
        (inside, [0.0, 154.0, 255.0], "from 0 to 255 there are 255 steps, not 256"),
        (inside, [0.0, 26.0, 128.0], "low must become 0: subtract it first"),
    ],
)

# %% [markdown]
# A wider range loses precision; a narrower one cuts values off. What does it cost in the end? The
# score $M_J$ ([notebook 1](01_data.ipynb)) of the trained tiny model on 80 unseen clips, in each
# runtime:

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
# On these pictures little is lost. How much time 8 bits save over float32 in the same runtime
# depends on the model: compare the tiny model here with the lean one in the next cell. A possible
# reason, not tested here: in a small model, small operators and conversions weigh more.
#
# How much faster *can* 8 bits be? One AVX-512 instruction does 16 multiply-accumulates in
# float32. With VNNI (*vector neural network instructions*) one instruction does 64 of them with
# 8-bit integers: four times as many. But only products become four times as fast. If they take a
# share $p$ of the float32 time, the whole becomes $1 / (1 - p + p/4)$ times as fast, by Amdahl's
# law (1967). Turn it round, and ask which $p$ explains the measured speed-up:

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
        f"as if products took {share:.0%} of the fp32 time"
    )

# %% [markdown]
# The first line is about the processor that runs this cell. The stored run does not say whether
# its processor had VNNI; if it had not, the factor is not four, and the shares mean nothing.
#
# The law is a simplification. The rest of the time consists of depthwise convolutions, additions
# and activations, conversions to and from integers, and the layers that stay in float32 because
# 8 bits would ruin them (positions and masks of attention; `export.py` says which). Some of that
# gains too, since 8 bits move a quarter of the bytes, and products need not reach the full factor
# of four. So read $p$ as a summary, not as a measurement.
#
# **What small data says.** This loss of $M_J$ is measured on seven flat silhouettes. Photographs
# have other ranges of maps, and may have another loss: calibrate and evaluate on your own data.
#
# ## 4.6 On a GPU
#
# A GPU does arithmetic hundreds of times as fast as one core, but the processor still has to
# *launch* each operator. Assume 5 µs for a launch and 50 TFLOP/s, that is $50 \cdot 10^{12}$
# operations a second, for arithmetic. Estimate both times for LightAVSeg and one frame:

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
# By this estimate a GPU with a batch of 1 mostly waits for the next launch, and the latency mostly
# counts operators. That is a possible reason, not tested here, for the reported GPU
# times: on the phone the slowest method takes almost eight times as long as LightAVSeg, on the GPU
# not even twice. There are three remedies. `torch.compile` makes fewer, larger operators; **CUDA
# graphs** record all launches once and replay them as one; a larger batch gives each launch more
# to do. **bf16**, a 16-bit floating-point format, halves the bytes and uses faster units, which
# helps only when launches no longer decide.

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
        "No GPU here, and no stored run from one: on a machine with a GPU, `make bench` measures "
        "there."
    )

# %% [markdown]
# ## 4.7 And on a phone?
#
# This workbook has no phone. What would be different there, and which of the ratios above would
# survive?
#
# | | here | on a phone | so |
# |---|---|---|---|
# | cores | alike | a few fast, several slow ones; the scheduler moves you between them | pin or name the cores; report which |
# | caches | large | small, shared with everything else | maps that fit here may not fit there: operators move below the slope |
# | bandwidth | section 4.3 measured it | shared with screen and camera: measure it | where it is lower, depthwise and element-wise operators weigh more |
# | heat | a fan | after a minute the clock frequency falls | measure the first seconds *and* the tenth minute |
# | 8 bits | VNNI, if the processor has it | dot-product instructions, or an NPU (neural processing unit) | an NPU runs what it knows; one unknown operator sends the graph back to the CPU |
# | runtime | eager, or any | exported only | **do not transfer eager ratios**: the exported graph has other operators |
#
# A ratio transfers when the same thing limits both machines. Two networks made of the same
# operators, both exported, in one runtime, should roughly keep their ratio. (This is reasoning;
# nobody has tested it here.) A ratio of eager times
# also contains work that export removes; a ratio on a GPU at batch 1 also counts launches.
#
# What to measure on the phone, with the ExecuTorch file that `lightavseg export` writes: warm-up,
# then two files in turns on the same cores; medians and paired ratios; fp32 and int8; the
# temperature, or at least the minute; and the card.

# %%
workbook.took(1.5)

# %% [markdown]
# ## Three things to remember
#
# 1. A latency is a distribution on a changing machine. Warm up, take turns, compare by pairs, and
#    keep the card: machine, versions, threads, size.
# 2. MACs count arithmetic; time also goes into moving bytes and starting operators. Fusion in
#    LightAVSeg, a global audio vector added per channel, costs $O(N)$ and is a small part of the
#    time wherever we measured it; the model is light by its encoders and its decoder.
# 3. Compare methods with the same encoders, in the same runtime, on the same threads, in one run:
#    each of these can change a ratio.
#
# **What this can and cannot say about AVSBench.** Time depends on shapes, not on data, so the
# times of the full-size models are real times of one processor. They say nothing about another
# processor's, and nothing here says how well a method segments. The one score, $M_J$ after 8
# bits, was measured on small generated pictures.
#
# ## Try next
#
# - Set `threads` to the number of your cores. Which rows of the live column in section 4.4 change?
#   What happens to the ridge and to the model's distance from its best time in section 4.3?
# - Section 4.5 leaves a question open. With the extra `edge`, export `avsegformer` with ResNet-50
#   and VGGish to ONNX, and time it on one thread, eager and exported, in one run. How much does it
#   gain, and how much does LightAVSeg?
# - [Notebook 5](05_decoder.ipynb) opens the decoder, and watches it decide scale by scale.
#
# ## References
#
# - LightAVSeg: arXiv 2605.08805 (ICML 2026), whose phone and GPU times are quoted as *reported*.
# - Roofline: Williams, Waterman, Patterson, *Roofline: an insightful visual performance model for
#   multicore architectures*, CACM 2009.
# - Amdahl's law: Amdahl, *Validity of the single processor approach to achieving large scale
#   computing capabilities*, AFIPS 1967.
# - 8-bit integers: Jacob et al., *Quantization and training of neural networks for efficient
#   integer-arithmetic-only inference*, CVPR 2018.
# - The methods: AVSBench with TPAVI: Zhou et al., ECCV 2022, arXiv 2207.05042. AVSegFormer: Gao et
#   al., AAAI 2024, arXiv 2307.01146. SelM: Li et al., ACM MM 2024. AVESFormer: arXiv 2408.01708.
# - The encoders: SeaFormer: Wan et al., ICLR 2023, arXiv 2301.13156. ResNet: He et al., CVPR 2016.
#   MobileNetV2: Sandler et al., CVPR 2018. VGGish: Hershey et al., ICASSP 2017, arXiv 1609.09430.

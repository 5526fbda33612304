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
# ---

# %% [markdown]
# # 7. Ablations and methods: what helps, and who wins?
#
# A paper's table has one number in each cell. Here each cell is the mean of three trainings, one
# for each seed, and each difference has a 95% confidence interval. First you see which parts of
# LightAVSeg make a difference that three seeds can show. Then you compare five methods on the same
# data, after the same number of steps. Where the numbers do not decide, you learn to say
# "undecided".
#
# **Afterwards you can**
# - read an ablation: what is compared with what, and how much a score changes with the seed;
# - compute a paired interval, and a Pareto front of accuracy and latency;
# - test whether a method listens before you compare its score;
# - measure claims such as "distracted by noise" and "unclear boundaries".
#
# | | |
# |---|---|
# | Time on 2 cores | about a minute and a half (`profile = "smoke"`: under one); the trainings behind it were run beforehand |
# | To read | @minutes |
# | Memory | 3 GB |
# | You need | [notebook 1](01_data.ipynb) for the data and the score $M_J$, [notebook 2](02_model.ipynb) for LightAVSeg, [notebook 3](03_training.ipynb) for the loss and the listening tests |

# %% tags=["parameters"]
profile = "default"         # "smoke": the shortest run that touches everything
results = "results/sweep"    # what `lightavseg sweep` wrote
clips = 60                  # for the small training at the end
seed = 0
out = None    # folder for what is written; None: the checkout, or your cache where it is read-only

# %%
from lightavseg_core import workbook

s = workbook.settings(globals(), results=str, clips=int, seed=int, out=str | None)
if s.profile == "smoke":
    s.clips = min(s.clips, 12)
print(f"results from {s.results}; {s.clips} clips to train on at the end, seed {s.seed}")

# %%
from statistics import fmean

import torch

import lightavseg_core as lav
from lightavseg_core import plots, profiling
from lightavseg_core.experiments import statistics, sweep
from lightavseg_core.experiments.runs import EXPERIMENTS
from lightavseg_core.profiling import reported

machine = workbook.card()
print(", ".join(f"{name} {value}" for name, value in machine.items()))

# %% [markdown]
# ## 7.1 What was run
#
# `lightavseg sweep` trained every model of sections 7.2 to 7.5, all for the same number of steps.
# The data are SoundingShapes, the generated clips of [notebook 1](01_data.ipynb). The encoders
# are tiny (SeaFormer-T and MobileNetV2-0.5; only section 7.4 takes larger ones), and so are the
# decoders (width 64; where a method has them, two layers and 32 queries).
#
# All models share one audio encoder. It was trained once to recognise sounds, then frozen: it
# stands in for the pretraining on AudioSet that the papers share. All seeds use the same data. A
# seed sets the initial weights and the random choices of the training, such as the order of the
# clips.

# %%
here = workbook.places("07_methods", s.out)
found, missing, unique = {}, [], {}
for name in ("ablation", "loss", "backbone", "methods"):
    found[name] = sweep.load(name, here.root / s.results)
    missing += [label for label in EXPERIMENTS[name] if label not in found[name]]
    for seeds in found[name].values():
        unique |= {(run["name"], run["seed"]): run for run in seeds.values()}
if missing:
    raise FileNotFoundError(f"{s.results} lacks {', '.join(missing)}. Run `lightavseg sweep`.")
one = next(iter(unique.values()))
budget = one["run"]["budget"]
print(f"{len(unique)} trainings of {one['steps']} steps, {budget['batch_size']} clips each: "
      f"{budget['train']} training clips of {budget['size']} px, {budget['test']} test clips")
hours = sum(run["seconds"] for run in unique.values()) / 3600
commits = ", ".join(sorted({run["commit"] for run in unique.values()}))
print(f"{hours:.1f} core hours, {one['date']}, commits {commits}, "
      f"{one['machine']['device']}, torch {one['machine']['torch']}")
oracle = found["ablation"]["all"][0]["deaf_oracle"]["M_J"]
print(f"deaf oracle on these test clips (all that is visible, no sound): M_J {oracle:.3f}")
seeds_of = {len(seeds) for experiment in found.values() for seeds in experiment.values()}
seeds_text = " to ".join(str(n) for n in sorted({min(seeds_of), max(seeds_of)})) + " seeds"
print(f"each with {seeds_text}")

# %% [markdown]
# These are *short* trainings of *small* models on small frames: enough to compare, not enough to
# be good. The *deaf oracle* ([notebook 1](01_data.ipynb), section 1.5) marks every visible object
# and ignores the sound. A score below it could be beaten by perfect eyes without ears, and every
# score of sections 7.2 to 7.4 is below it. [Notebook 3](03_training.ipynb) trains longer, on more
# clips, and passes it.
#
# ## 7.2 The ablation
#
# An ablation removes parts of a model and looks at what changes. The smallest variant is *static
# fusion*: the audio vector is added once, at the decoder's coarsest scale (where to add it is our
# choice). These parts lead from there to the full model ([notebook 2](02_model.ipynb)):
#
# - **AGVE** (audio-guided visual enhancement): add the audio state at every encoder stage;
# - **HAR** (hierarchical audio refinement): refine that state by what is seen;
# - **CMFD** (cross-modal fusion decoder): refine it again in the decoder, and add it there.
#
# One more variant has all three, with *average pooling*: what is seen is the mean of each channel
# instead of its maximum.
#
# We train every row with the alignment loss; the paper does not say whether it did. On MS3 the
# paper reports a gain at each step.
#
# > **Prediction.** Which of the five variants will differ most from the full model in $M_J$?

# %%
# "static fusion", "+AGVE", "+AGVE+CMFD", "+AGVE+HAR" or "all, average pooling"
workbook.guess("the variant that differs most", ...)

# %%
ablation = found["ablation"]
full = sweep.values(ablation["all"])


def against(experiment, baseline, score="M_J", sound="normal"):
    """Each label's mean over the seeds, and its paired difference from the baseline's."""
    values = {label: sweep.values(seeds, score, sound) for label, seeds in experiment.items()}
    rows = {}
    for label, of in values.items():
        rows[label] = fmean(of.values()), statistics.paired(of, values[baseline])
    return rows


def table(rows, baseline, paper):
    """rows: from `against`. Reported scores have their own column: other data, other models."""
    lines = []
    for label, (mean, d) in rows.items():
        between = f"{d.low:+.3f} to {d.high:+.3f}"
        lines.append((label, f"{mean:.3f}", f"{d.mean:+.3f}", between, paper.get(label, "")))
    columns = ["$M_J$ measured", f"minus {baseline}", "95% interval", "$M_J$ reported (MS3, %)"]
    return workbook.table(["", *columns], lines)


def reported_scores(ablations, names):
    """Our label -> what the paper reports, from its tables of these ablations."""
    paper = {row.name: row.m_j for ablation in ablations for row in reported.ABLATIONS[ablation]}
    return {ours: paper[theirs] for ours, theirs in names.items()}


names = {
    "static fusion": "static fusion",
    "+AGVE": "AGVE",
    "+AGVE+CMFD": "AGVE + CMFD",
    "+AGVE+HAR": "AGVE + HAR",
    "all": "AGVE + HAR + CMFD, L_msa",
    "all, average pooling": "average",
}
rows = against(ablation, "all")
table(rows, "the full model's", reported_scores(("fusion", "pooling"), names))

# %%
differences = {label: d[:3] for label, (_, d) in rows.items() if label != "all"}
title = f"Each variant minus the full model (mean and 95% interval, {seeds_text})"
workbook.show(
    plots.intervals(differences, title, "$M_J$ minus that of the full model"),
    alt="Paired differences of M_J from the full model with 95% intervals, one row per variant.",
)
largest = max(differences, key=lambda label: abs(differences[label][0]))
workbook.beside("the variant that differs most", largest)
print()


def verdicts(rows, baseline):
    """What the intervals allow one to say."""
    for label, (_, d) in rows.items():
        if label != baseline:
            verdict = "worse" if d.high < 0 else "better" if d.low > 0 else "undecided"
            print(f"{label:22} {verdict}")


verdicts(rows, "all")
print("\nand step by step:")
for more, less in (("+AGVE", "static fusion"), ("+AGVE+CMFD", "+AGVE"), ("+AGVE+HAR", "+AGVE"),
                   ("all", "+AGVE+CMFD"), ("all", "+AGVE+HAR")):
    d = statistics.paired(sweep.values(ablation[more]), sweep.values(ablation[less]))
    print(f"{more:11} minus {less:14} {d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f})")

# %% [markdown]
# With three seeds the interval is the mean plus and minus 4.3 standard errors (Student's $t$ with
# two degrees of freedom; Student 1908). That is wide. *Undecided* does not mean *equal*: it means
# that three seeds cannot decide.
#
# One step is clear: AGVE, the vector added at every stage, is better than static fusion. What HAR
# and CMFD add to it is undecided on these data. And beware of intervals that end close to zero,
# such as that of +AGVE against the full model: a 95% interval misses the true difference one time
# in twenty, and the figure has five of them.
#
# ### Exercise 1: a paired interval
#
# *6 minutes, medium.*
#
# `a` and `b` are two lists of scores, for the same seeds in the same order. Return the mean, the
# lower and the upper end of the 95% interval of $a - b$ for **three** seeds: the mean difference
# plus and minus 4.303 times its standard error $\mathrm{sd}/\sqrt{3}$. Here
# $\mathrm{sd}$ is the sample's standard deviation (divide by $n - 1$).

# %% tags=["exercise"]
def paired_interval(a, b):
    # solution
    differences = [x - y for x, y in zip(a, b)]
    mean = sum(differences) / 3
    sd = (sum((d - mean) ** 2 for d in differences) / 2) ** 0.5
    half = 4.303 * sd / 3**0.5
    return mean, mean - half, mean + half
    # wrong: the seeds are not paired
    mean = sum(a) / 3 - sum(b) / 3
    spread = sum((x - sum(a) / 3) ** 2 for x in a) + sum((y - sum(b) / 3) ** 2 for y in b)
    half = 4.303 * (spread / 2 / 3) ** 0.5
    return mean, mean - half, mean + half
    # wrong: divided by n
    differences = [x - y for x, y in zip(a, b)]
    mean = sum(differences) / 3
    sd = (sum((d - mean) ** 2 for d in differences) / 3) ** 0.5
    half = 4.303 * sd / 3**0.5
    return mean, mean - half, mean + half
    # wrong: of the seeds, not of their mean
    differences = [x - y for x, y in zip(a, b)]
    mean = sum(differences) / 3
    sd = (sum((d - mean) ** 2 for d in differences) / 2) ** 0.5
    return mean, mean - 4.303 * sd, mean + 4.303 * sd
    # wrong: b - a
    differences = [y - x for x, y in zip(a, b)]
    mean = sum(differences) / 3
    sd = (sum((d - mean) ** 2 for d in differences) / 2) ** 0.5
    half = 4.303 * sd / 3**0.5
    return mean, mean - half, mean + half
    # end solution

# %% tags=["check"]
A, B = [0.50, 0.55, 0.60], [0.48, 0.55, 0.55]
wanted = statistics.paired(dict(enumerate(A)), dict(enumerate(B)))[:3]
mean, low, high = wanted


def as_wide(factor):
    """Accepts an interval that is `factor` times as wide as the right one."""
    return lambda found: abs((found[2] - found[1]) / (high - low) - factor) < 0.01


workbook.check(
    "a paired interval",
    paired_interval,
    hint="subtract seed by seed first; then mean and standard deviation of the differences",
    cases=[((A, B), wanted), ((B, A), (-mean, -high, -low))],
    tolerance=1e-3,
    mistakes=[
        ((A, B), as_wide(2.555), "subtract each pair first: what the seed did to both cancels"),
        ((A, B), as_wide((2 / 3) ** 0.5), "a sample's standard deviation divides by n - 1"),
        ((A, B), as_wide(3**0.5), "a mean of three varies less than one: divide by the root of 3"),
        ((A, B), (-mean, -high, -low), "a - b, not b - a"),
    ],
)

# %% [markdown]
# Why paired? Two trainings with the same seed share the order of the clips and some of the initial
# weights. What these do to both scores cancels in the difference. If they share little, pairing
# gains nothing. And an interval over seeds tells you about other seeds on these data, not about
# other data.
#
# ## 7.3 The auxiliary loss
#
# The mask itself is trained with Dice and binary cross-entropy
# ([notebook 3](03_training.ipynb), section 3.2). An auxiliary loss is added to them, and looks
# inside the decoder. We train the full model with each of these:
#
# - *none*;
# - *alignment*: LightAVSeg's multi-scale alignment $L_\text{msa}$, by binary cross-entropy;
# - *alignment by KL*: the same, by Kullback-Leibler divergence (the formula is our choice);
# - *matching*: AVSBench's loss, which pulls the mean feature of the predicted mask towards the
#   sound;
# - *mixing*: AVSegFormer's loss, which asks that the mean over the channels be the mask.

# %%
losses = found["loss"]
names = {
    "none": "none",
    "alignment": "L_msa",
    "alignment by KL": "KL",
    "matching (AVSBench)": "AVSBench's KL",
    "mixing (AVSegFormer)": "AVSegFormer's mixing",
}
rows = against(losses, "alignment")
table(rows, "alignment's", reported_scores(("auxiliary loss", "alignment"), names))

# %% tags=["nbval-check-output"]
verdicts(rows, "alignment")

# %% [markdown]
# The paper reports that $L_\text{msa}$ is about one point better than no auxiliary loss. Here this
# is undecided. One interval excludes zero: with AVSBench's matching loss, on LightAVSeg, the score
# is lower than with the alignment. It ends close to zero, and there are four intervals, so the
# warning of section 7.2 holds here too.
#
# ## 7.4 The visual encoder, at one budget
#
# Now only the visual encoder changes: SeaFormer-T, -S and -B, each larger than the one before.
# All take the same number of steps and start from random weights. (The paper's encoders are
# pretrained on ImageNet.)
#
# > **Prediction.** What is the $M_J$ of SeaFormer-B minus that of SeaFormer-T?

# %%
workbook.guess("gain of the largest encoder", ...)  # for example -0.02 or 0.1

# %%
rows = against(found["backbone"], "seaformer_t")
for label, seeds in found["backbone"].items():
    print(f"{label}: {sum(seeds[0]['parameters'].values()) / 1e6:.1f} M parameters")
verdicts(rows, "seaformer_t")
workbook.beside("gain of the largest encoder", rows["seaformer_b"][1].mean)
paper = reported.ABLATIONS["visual encoder"]
table(rows, "SeaFormer-T's", {row.name.lower().replace("-", "_"): row.m_j for row in paper})

# %% [markdown]
# Two effects compete here. A larger encoder can represent more, but it also has more weights to
# learn in the same number of steps. Pretraining would remove much of the second effect. Here the
# means rise with the size of the encoder, and both differences are undecided. That does not
# contradict the paper, where the gain is large.
#
# ## 7.5 Five methods
#
# What each method does with the sound, where a map has $N$ positions
# ([notebook 2](02_model.ipynb) explains the mechanisms):
#
# - **LightAVSeg** makes one vector of each second of sound, gates it by what is seen, and adds it
#   to the visual features. It is one number per channel, the same at every position: $O(N)$.
# - **AVESFormer** turns that vector into 16 keys with learned prompts. Each position of one decoder
#   stage attends first to all other positions, $O(N^2)$, then to these keys. It has no public
#   code: its sizes and many details are ours ([notebook 6](06_dissipation.ipynb)).
# - **AVSBench** copies the sound to all positions of all seconds. In its module TPAVI every
#   position then meets every other one, by multiplication: as published, $O(N^2)$.
# - **AVSegFormer** makes the queries of a transformer from the sound. Each query yields a map, and
#   the sound also gates the channels.
# - **SelM** follows the sound over time with state-space layers, and gates the channels with the
#   result. In its decoder each position chooses one of two tokens; the token that has heard the
#   sound yields the mask.
#
# All five have the same encoders, clips, mask loss, learning rate and number of steps. Each adds
# its own auxiliary loss, except AVESFormer, whose losses we do not know. LightAVSeg reads all five
# stages of the visual encoder, the others read four.
#
# The subsets are those of [notebook 1](01_data.ipynb): in `s4` one object sounds, in `ms3` several
# do, and `avss` also asks for the category (here for two methods only). Two more measures test
# what LightAVSeg's authors say of other methods:
#
# - *"distracted by background noise"*: the share of **background** pixels that are marked, first
#   with the clip's own sound, then with white noise of the same level added to it;
# - *"lack clear boundaries"*: boundary F (Perazzi et al. 2016), which says how well the contour
#   of the prediction follows that of the ground truth.

# %%
methods = found["methods"]
rows = []
for name in lav.list_methods():
    cells = []
    for subset in ("s4", "ms3", "avss"):
        seeds = methods.get(f"{subset}_{name}", {})
        cells.append(f"{fmean(sweep.values(seeds).values()):.3f}" if seeds else "")
    ms3 = methods[f"ms3_{name}"]
    cells.append(f"{fmean(sweep.values(ms3, 'boundary_F').values()):.3f}")
    for sound in ("normal", "noisy"):
        shares = sweep.values(ms3, "false_positive_share", sound)
        cells.append(f"{fmean(shares.values()):.2%}")
    millions = sum(ms3[0]["parameters"].values()) / 1e6
    rows.append((name, f"{millions:.2f}", *cells))
print(f"measured, means of {seeds_text}; the last three columns: ms3. Deaf oracle:", end=" ")
oracles = [methods[f"{subset}_lightavseg"][0]["deaf_oracle"]["M_J"] for subset in ("s4", "ms3")]
print("s4 {:.3f}, ms3 {:.3f}".format(*oracles))
columns = ["parameters, M", "s4 $M_J$", "ms3 $M_J$", "avss $M_J$", "boundary F"]
workbook.table(["", *columns, "false positives", "with noise"], rows)

# %% [markdown]
# Do not compare one column of $M_J$ with another. An empty prediction scores 0 on s4 and about a
# fifth on ms3, where some seconds are silent; avss averages over categories.
#
# A score also says little before you know whether the model **listens**. Replace the sound by
# silence, or swap it with another clip's. If the score stays the same, the model did not use the
# sound.
#
# > **Prediction.** On ms3, which of the five methods loses most when the sound is swapped?

# %%
workbook.guess("loses most", ...)    # the name of a method, as in the table above

# %%
rows, deaf, lost = [], [], {}
for subset in ("ms3", "s4"):
    for name in lav.list_methods():
        seeds = methods[f"{subset}_{name}"]
        scores = [sweep.values(seeds, "M_J", sound) for sound in ("normal", "swapped", "silent")]
        d = statistics.paired(scores[0], scores[1])
        if d.low < 0.001:
            deaf.append(f"{name} on {subset}")
        if subset == "ms3":
            lost[name] = d.mean
        means = [f"{fmean(of.values()):.3f}" for of in scores]
        rows.append((subset, name, *means, f"{d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f})"))
workbook.beside("loses most", max(lost, key=lost.get))
print("no evidence of listening (interval reaches below 0.001):", "; ".join(deaf) or "none")
workbook.table(["", "method", "own sound", "swapped", "silence", "own minus swapped"], rows)

# %% [markdown]
# Four remarks on this table:
#
# - In `s4` only the *first* of five frames of a training clip has a mask, as in the real S4. In
#   the same number of steps a model sees a fifth of the masks. On `s4` only SelM shows that it
#   listens.
# - AVSBench shows no sign of listening on either subset. Its TPAVI sums the sounds of all seconds
#   before a position meets them ([notebook 2](02_model.ipynb), section 2.6), so in `ms3` it cannot
#   know *when* something sounds. In `s4` that would not matter. Another possible reason: its sound
#   path ends in a scale that starts at zero, so training begins without sound. We did not test
#   either reason.
# - In `ms3` some seconds are silent. A model that hears only *whether* something sounds loses score
#   with swapped sound too. So the last column shows that the sound is used, not that the right
#   object is chosen. The score in silence is that of an empty mask, where the masks are empty.
# - Noise cannot distract a model that does not listen. So read the *false positives* of the
#   table above beside this one.

# %%
of_ms3 = {name: methods[f"ms3_{name}"] for name in lav.list_methods()}
rows = against(of_ms3, "lightavseg")
differences = {label: d[:3] for label, (_, d) in rows.items() if label != "lightavseg"}
title = f"Each method minus LightAVSeg on ms3 (mean and 95% interval, {seeds_text})"
workbook.show(
    plots.intervals(differences, title, "$M_J$ minus that of LightAVSeg"),
    alt="Paired differences of M_J on ms3 from LightAVSeg, with intervals, one row per method.",
)


def added(name):
    """For each seed, how much the share of false positives rises when noise is added."""
    calm = sweep.values(of_ms3[name], "false_positive_share", "normal")
    noisy = sweep.values(of_ms3[name], "false_positive_share", "noisy")
    return {seed: noisy[seed] - calm[seed] for seed in calm}


by_noise = statistics.paired(added("avsbench"), added("lightavseg"))
_, boundary = against(of_ms3, "lightavseg", "boundary_F")["avsegformer"]
claims = {
    "false positives that noise adds, avsbench": by_noise,
    "boundary F, avsegformer": boundary,
}
for claim, d in claims.items():
    print(f"{claim} minus lightavseg: {d.mean:+.4f} ({d.low:+.4f} to {d.high:+.4f})")

# %% [markdown]
# Neither claim is confirmed here. Noise adds *fewer* false positives to AVSBench than to
# LightAVSeg, because AVSBench does not use the sound. Whether AVSegFormer's boundaries are better
# or worse than LightAVSeg's is undecided.
#
# ## 7.6 Accuracy against latency
#
# The latency is measured when you run the cell, on your machine, for one frame of the size that
# the models were trained at; $M_J$ is that of the trainings above. The models take turns, so that
# a slow moment of the machine slows all of them ([notebook 4](04_latency.ipynb)). At this size
# $N$ is small, so you cannot see here which cost grows as $N$ and which as $N^2$: notebook 2
# counts that. The dashed line in the figure is the *Pareto front*: the methods that no other
# method beats.

# %%
size = budget["size"]
repeats = 30 if s.profile == "default" else 3
models = {name: lav.create_model(name, preset="tiny").eval() for name in lav.list_methods()}
frames = torch.randn(1, 1, 3, size, size)
log_mel = torch.randn(1, 1, 1, *models["lightavseg"].front_end.shape)
calls = {name: (lambda model=model: model(frames, log_mel)) for name, model in models.items()}
timing = profiling.latency(calls, repeats=repeats, warmup=2)
points = {}
for name in models:
    points[name] = timing[name].median, fmean(sweep.values(of_ms3[name]).values())
for name, (ms, score) in points.items():
    times = ms / timing["lightavseg"].median
    print(f"{name:12} {ms:6.1f} ms, {times:4.1f} times LightAVSeg's; M_J {score:.3f}")

# %%
title = f"Tiny preset, {size} px, CPU, threads: {machine['threads']}"
score_label = f"$M_J$ on ms3, mean of {seeds_text}"
workbook.show(
    plots.pareto(points, title, "latency, ms (measured now)", score_label),
    alt="M_J against latency for five methods; a dashed line joins those that no other beats.",
)

# %% [markdown]
# ### Exercise 2: the Pareto front
#
# *6 minutes, medium.*
#
# `points` maps a name to `(cost, score)`. A point is beaten if another costs no more and scores
# higher, or costs less and scores no lower. Two equal points do not beat each other. Return the
# *set* of names that are not beaten.

# %% tags=["exercise"]
def front(points):
    # solution
    beaten = set()
    for name, (cost, score) in points.items():
        for c, v in points.values():
            if (c <= cost and v > score) or (c < cost and v >= score):
                beaten.add(name)
    return set(points) - beaten
    # wrong: of two equal points none stays
    beaten = set()
    for name, (cost, score) in points.items():
        for other, (c, v) in points.items():
            if other != name and c <= cost and v >= score:
                beaten.add(name)
    return set(points) - beaten
    # wrong: only what is better in both beats
    beaten = set()
    for name, (cost, score) in points.items():
        for c, v in points.values():
            if c < cost and v > score:
                beaten.add(name)
    return set(points) - beaten
    # wrong: the beaten
    beaten = set()
    for name, (cost, score) in points.items():
        for c, v in points.values():
            if (c <= cost and v > score) or (c < cost and v >= score):
                beaten.add(name)
    return beaten
    # wrong: the best alone
    best = max(score for _, score in points.values())
    return {name for name, (_, score) in points.items() if score == best}
    # end solution

# %% tags=["check"]
corners = {"a": (1, 0.5), "b": (2, 0.6), "c": (3, 0.55), "d": (1, 0.4), "e": (4, 0.6)}
equal = {"one": (1, 0.5), "other": (1, 0.5), "costly": (2, 0.5)}
workbook.check(
    "the Pareto front",
    front,
    hint="for each point, look for another that beats it; e has b's score at twice b's cost",
    cases=[(corners, {"a", "b"}), ({"only": (1, 1)}, {"only"}), (equal, {"one", "other"})],
    mistakes=[
        (equal, set(), "two equal points do not beat each other: one value must be better"),
        (corners, {"a", "b", "d", "e"}, "equal in one value, better in the other: that beats, too"),
        (corners, {"c", "d", "e"}, "these are the beaten ones"),
        (corners, {"b", "e"}, "a cheaper point stays, even if its score is lower"),
    ],
)

# %%
if mine := workbook.yours("the Pareto front"):
    print(f"on your front: {', '.join(sorted(mine(points)))}")
best = max(points, key=lambda name: points[name][1])
on_front = plots.pareto_front(points)
print(f"on the front: {', '.join(on_front)}; best M_J: {best}")
own_ms, own_score = points["lightavseg"]
others = {name: point for name, point in points.items() if name != "lightavseg"}
cheaper = [name for name, (ms, _) in others.items() if ms <= own_ms]
better = [name for name, (_, score) in others.items() if score > own_score]
print(f"no slower than LightAVSeg: {', '.join(cheaper) or 'none'}; "
      f"with a higher M_J: {', '.join(better) or 'none'}")

# %% [markdown]
# The front compares means. A method may be on it because of a difference in $M_J$ that three seeds
# do not decide, or because of a difference in latency that another run would not repeat.
#
# ## 7.7 At the size of the papers
#
# To train the methods at the size of their papers you need a GPU and the AVSBench dataset. To
# count their cost you need neither. The table has parameters and GMACs (billions of
# multiply-accumulates) for one frame of 224 px, counted here. Beside them stands what LightAVSeg's
# paper reports.

# %%
rows = []
for row in reported.COMPARISON:
    skeleton = profiling.skeleton(row.method, preset="paper", visual=row.visual, audio=row.audio)
    millions = sum(part.total for part in profiling.parameters(skeleton).values()) / 1e6
    gmacs = profiling.macs(skeleton).total_macs / 1e9
    counted = f"{millions:.1f}", f"{gmacs:.1f}"
    rows.append((row.method, row.visual, *counted, row.s4[0], row.ms3[0], row.phone_ms))
own = ", ".join(f"{subset} {score}" for subset, score in reported.AVESFORMER.items())
print(f"AVESFormer's own paper reports M_J {own}; we do not know the sizes of its model")
columns = ["method", "visual encoder", "parameters that run, M", "GMACs"]
columns += ["reported: S4 $M_J$", "reported: MS3 $M_J$", "reported: phone, ms"]
workbook.table(columns, rows)

# %% [markdown]
# ## 7.8 Two rows of the ablation, live
#
# Here you train static fusion and the full model yourself, on a few clips for a few steps. Both
# use the audio encoder of the trained model that comes with this workbook. Do not expect the order
# of section 7.2: with one seed and so little training the two may hardly differ. What you see is
# how one row of the table is made.

# %%
root = here.runs / f"data_{s.clips}_{s.seed}"
size = 64
epochs = 8 if s.profile == "default" else 1
clips = {"train": s.clips, "val": 4, "test": 20}
lav.data.sounding_shapes.generate(root, "ms3", clips, size, s.seed)
train, validation, test = (lav.data.AVSBench(root, "ms3", split, size) for split in clips)
ears = str(here.root / "checkpoints/tiny")
variants = {"static fusion": {"agve": False, "har": False, "cmfd": False}, "all": {}}
live = {}
for label, options in variants.items():
    torch.manual_seed(s.seed)
    model = lav.create_model("lightavseg", preset="tiny", size=size, **options)
    config = lav.TrainConfig(
        epochs=epochs,
        batch_size=4,
        half=0.0,
        three_quarters=0.0,
        learning_rate=2e-3,
        audio_weights=ears,
        validate_every=epochs,
        seed=s.seed,
    )
    lav.Trainer(model, config).fit(train, validation)
    live[label] = lav.evaluate(model, test)

# %% tags=["result"]
print(f"measured live on {machine['device']}, {machine['threads']} threads, "
      f"torch {machine['torch']}:")
print(f"{s.clips} clips, {epochs} epochs, seed {s.seed}")
for label, score in live.items():
    print(f"{label:14} M_J {score['M_J']:.3f}, pixels marked {score['foreground_share']:.1%}")

# %%
workbook.took(1.5)

# %% [markdown]
# ## Three things to remember
#
# 1. One seed proves little. Train each variant with several seeds, subtract seed by seed, and give
#    the interval; if it contains zero, say "undecided", not "equal". Here of LightAVSeg's parts
#    only AGVE was shown to help; HAR and CMFD are undecided.
# 2. Before you compare scores, swap the sound. If the interval of the difference contains zero,
#    listening was not shown, and the score says little about fusion.
# 3. Accuracy alone has one winner. Accuracy and latency together have a Pareto front, and which
#    method is best depends on the time that you have. Here SelM has the highest mean.
#
# **What this can and cannot say about AVSBench.** All models here are small, and were trained from
# random weights for minutes on clean silhouettes. Which part of a model helps *here* is evidence
# about the mechanism under these conditions. Methods that are pretrained on ImageNet and trained
# on real clips may rank differently. Reported figures stand in their own columns, because they
# cannot be compared with measured ones.
#
# ## Try next
#
# - Set `seed` to 1, then to 2, and run the notebook again. (Here the seed also draws other clips.)
#   Watch the two scores of section 7.8: does the same variant win each time? Then try
#   `clips = 400`.
# - In section 7.5, replace `"lightavseg"` by `"selm"` in `against(of_ms3, "lightavseg")` and in the
#   line below it. Which methods differ from SelM by more than the seeds explain?
# - Add a sixth method: it is one file, [docs/adding_a_method.md](../docs/adding_a_method.md) shows
#   how, and `lightavseg compare my_method.py` compares it with the five. Or go on to
#   [notebook 8](08_your_own_video.ipynb), which runs a trained model on your own video.
#
# ## References
#
# - LightAVSeg: arXiv 2605.08805 (ICML 2026). AVESFormer: Wang et al., 2024, arXiv 2408.01708.
# - AVSBench and TPAVI: Zhou et al., *Audio-Visual Segmentation*, ECCV 2022, arXiv 2207.05042.
# - AVSegFormer: Gao et al., *AVSegFormer: Audio-Visual Segmentation with Transformer*, AAAI 2024,
#   arXiv 2307.01146.
# - SelM: Li et al., *SelM: Selective Mechanism based Audio-Visual Segmentation*, ACM MM 2024.
# - SeaFormer: Wan et al., ICLR 2023, arXiv 2301.13156. MobileNetV2: Sandler et al., CVPR 2018.
#   ResNet: He et al., CVPR 2016. VGGish: Hershey et al., ICASSP 2017.
# - Boundary F: Perazzi et al., *A Benchmark Dataset and Evaluation Methodology for Video Object
#   Segmentation*, CVPR 2016.
# - Student's $t$: Student, *The Probable Error of a Mean*, Biometrika 1908.

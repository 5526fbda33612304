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
# A paper's table has one number in each cell. Here each cell is three trainings with three seeds,
# and each difference has an interval. You see which parts of LightAVSeg earn their place on our
# data, put five methods side by side on the same data with the same number of steps, and learn to
# say "undecided" where the numbers are.
#
# **Afterwards you can**
# - read an ablation: what is compared with what, and what the seeds alone would do;
# - compute a paired interval, and a Pareto front of accuracy and latency;
# - measure what "distracted by noise" and "unclear boundaries" mean;
# - add a method of your own to the table.
#
# | | |
# |---|---|
# | Time on 2 cores | about a minute and a half (`profile = "smoke"`: under one); the trainings behind it were run beforehand |
# | Memory | 3 GB |
# | You need | notebook 2 for the models, notebook 3 for the scores |

# %% tags=["parameters"]
profile = "default"         # "smoke": the shortest run that touches everything
results = "results/sweep"    # what `lightavseg sweep` wrote
clips = 60                  # of the small training at the end
seed = 0
out = None    # folder for what is written; None: the checkout, or your cache where it is read-only

# %%
from lightavseg_core import workbook

s = workbook.settings(globals(), results=str, clips=int, seed=int, out=str | None)
if s.profile == "smoke":
    s.clips = min(s.clips, 12)
print(f"results of {s.results}; {s.clips} clips to train on at the end, seed {s.seed}")

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
# `lightavseg sweep` trains every model below on SoundingShapes with the tiny encoders
# (SeaFormer-T, MobileNetV2-0.5) and small heads (width 64, two layers, 32 queries), all for the
# same number of steps. One audio encoder, trained once to tag sounds and then frozen, serves all
# of them: it stands for the AudioSet pretraining that the papers share. The data are the same for
# all seeds; a seed draws the first weights and the order of the clips.

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
print(f"deaf oracle on these test clips (perfect eyes, no ears): M_J {oracle:.3f}")
seeds_of = {len(seeds) for experiment in found.values() for seeds in experiment.values()}
seeds_text = " to ".join(str(n) for n in sorted({min(seeds_of), max(seeds_of)})) + " seeds"
print(f"each with {seeds_text}")

# %% [markdown]
# These are *short* trainings of *small* models on small frames: enough to compare, not enough to
# be good. Keep the deaf oracle in view: what stays below it could be beaten by perfect eyes
# without ears. Notebook 3 trains longer and passes it.
#
# ## 7.2 The ablation
#
# From fusion that happens once (*static*: the audio vector is added at the decoder's coarsest
# scale) to the whole model:
#
# - **AGVE**: add the audio state at every encoder stage;
# - **HAR**: refine that state by what is seen;
# - **CMFD**: refine it again in the decoder, and add it there;
# - *average pooling*: what is seen is the mean of each channel instead of its maximum.
#
# Every row here is trained with the alignment loss; the paper does not say that of its own rows.
# It reports a gain at each step, on MS3. **Predict** before you run the next cell: which variant
# will differ most from the full model?

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
    """rows: of `against`. What is reported has a column of its own: other data, other models."""
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
    alt="Paired differences of M_J from the full model with 95% intervals, a row each.",
)


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
# With three seeds an interval is the mean and 4.3 standard errors to both sides (Student's t, two
# degrees of freedom), so it is wide. *Undecided* is not *equal*: it says that three seeds cannot
# tell.
#
# ### Exercise 1: a paired interval
#
# *6 minutes, medium.*
#
# `a` and `b` are lists of scores, of the same seeds in the same order. Return mean, lower and
# upper end of the 95% interval of $a - b$ for **three** seeds: the mean difference plus and minus
# 4.303 times its standard error $\mathrm{sd}/\sqrt{3}$, with the sample's standard deviation
# (divide by $n - 1$).

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
    """An interval so many times as wide as the right one."""
    return lambda found: abs((found[2] - found[1]) / (high - low) - factor) < 0.01


workbook.check(
    "a paired interval",
    paired_interval,
    hint="subtract seed by seed first; then one mean, one standard deviation, of the differences",
    cases=[((A, B), wanted), ((B, A), (-mean, -high, -low))],
    tolerance=1e-3,
    mistakes=[
        ((A, B), as_wide(2.555), "subtract each pair first: what its seed did to both cancels"),
        ((A, B), as_wide((2 / 3) ** 0.5), "a sample's standard deviation divides by n - 1"),
        ((A, B), as_wide(3**0.5), "a mean of three is surer than one: divide by their root"),
        ((A, B), (-mean, -high, -low), "a - b, not b - a"),
    ],
)

# %% [markdown]
# Why paired? What a seed shares, the order of the clips and some of the first weights, cancels in
# the difference. Where little is shared, pairing gains nothing. And an interval over seeds speaks
# of other seeds on these data, not of other data.
#
# ## 7.3 The loss beside the mask's
#
# Each of these is added to Dice and BCE of the mask, on the full model: nothing, the multi-scale
# alignment by binary cross-entropy ($L_\text{msa}$) or by KL divergence, AVSBench's matching,
# AVSegFormer's mixing loss.

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
# ## 7.4 The visual encoder, at one budget
#
# **Prediction:** a larger encoder has more to learn in the same number of steps, from random
# weights (the paper's encoders come pretrained on ImageNet), so it gains little or nothing here.

# %%
rows = against(found["backbone"], "seaformer_t")
for label, seeds in found["backbone"].items():
    print(f"{label}: {sum(seeds[0]['parameters'].values()) / 1e6:.1f} M parameters")
verdicts(rows, "seaformer_t")
paper = reported.ABLATIONS["visual encoder"]
table(rows, "SeaFormer-T's", {row.name.lower().replace("-", "_"): row.m_j for row in paper})

# %% [markdown]
# ## 7.5 Five methods
#
# Same clips, same steps, same learning rate, each with its own auxiliary loss; the same encoders,
# of whose five visual stages LightAVSeg reads all and the others four, as their papers do. `s4`:
# one object sounds; `ms3`: several; `avss`: which category is it? (for two methods). Two more
# measures test what LightAVSeg's authors say of the rivals:
#
# - *"distracted by background noise"*: the share of **background** pixels that are marked, with
#   the clip's sound alone and with white noise added as loud as the clip;
# - *"lack clear boundaries"*: boundary F, how well the contour of the marked region follows the
#   true one.

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
print(f"measured, means of {seeds_text}; the last three columns on ms3. Deaf oracle:", end=" ")
oracles = [methods[f"{subset}_lightavseg"][0]["deaf_oracle"]["M_J"] for subset in ("s4", "ms3")]
print("s4 {:.3f}, ms3 {:.3f}".format(*oracles))
columns = ["parameters, M", "s4 $M_J$", "ms3 $M_J$", "avss $M_J$", "boundary F"]
workbook.table(["", *columns, "false positives", "with noise"], rows)

# %% [markdown]
# The columns do not compare with each other: a dark picture scores 0 on s4 and about a fifth on
# ms3, where some seconds are silent; avss averages over categories. And a score says little
# before you know whether the model **listens**. Take the sound away, or give it another clip's:
# where the score stays, the sound was not used.

# %%
rows, deaf = [], []
for subset in ("ms3", "s4"):
    for name in lav.list_methods():
        seeds = methods[f"{subset}_{name}"]
        scores = [sweep.values(seeds, "M_J", sound) for sound in ("normal", "swapped", "silent")]
        d = statistics.paired(scores[0], scores[1])
        if d.low < 0.001:
            deaf.append(f"{name} on {subset}")
        means = [f"{fmean(of.values()):.3f}" for of in scores]
        rows.append((subset, name, *means, f"{d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f})"))
print("no evidence of listening (interval reaches below 0.001):", "; ".join(deaf) or "none")
workbook.table(["", "method", "own sound", "swapped", "silence", "own minus swapped"], rows)

# %% [markdown]
# Two things to know when you read this. In `s4` only the *first* frame of each training clip has
# a mask, as in the real S4: in the same number of steps a model sees a fifth of the masks. And
# AVSBench's TPAVI adds the sounds of all seconds up before a pixel meets them (notebook 2,
# section 2.6): in `ms3`, where other objects sound in each second, it cannot know which. A model
# that does not listen cannot be distracted by noise either, so read *false positives* beside this
# table.

# %%
of_ms3 = {name: methods[f"ms3_{name}"] for name in lav.list_methods()}
rows = against(of_ms3, "lightavseg")
differences = {label: d[:3] for label, (_, d) in rows.items() if label != "lightavseg"}
title = f"Other methods against LightAVSeg on ms3 ({seeds_text}, 95%)"
workbook.show(
    plots.intervals(differences, title, "$M_J$ minus that of LightAVSeg"),
    alt="Paired differences of M_J on ms3 from LightAVSeg, with intervals, a row for each method.",
)


def added(name):
    """By seed, how much the share of false positives rises when noise is added."""
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
# ## 7.6 Accuracy against latency
#
# Latency is measured here and now, on this machine, for one clip of one frame, of the size that
# the models were trained at; the accuracy is the one from above. Models take turns, so that a
# machine that slows down for a moment slows all.

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
    alt="M_J against latency for five methods; the front joins those that no other beats.",
)

# %% [markdown]
# ### Exercise 2: the Pareto front
#
# *6 minutes, medium.*
#
# `points` maps a name to `(cost, score)`. A point is beaten if another costs no more and scores
# higher, or costs less and scores no lower; of two equal points both stay. Return the *set* of
# names that are not beaten.

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
equal = {"one": (1, 0.5), "other": (1, 0.5), "dear": (2, 0.5)}
workbook.check(
    "the Pareto front",
    front,
    hint="for each point, look for another that beats it; e has b's score at twice b's cost",
    cases=[(corners, {"a", "b"}), ({"only": (1, 1)}, {"only"}), (equal, {"one", "other"})],
    mistakes=[
        (equal, set(), "two equal points do not beat each other: one side must be truly better"),
        (corners, {"a", "b", "d", "e"}, "equal on one side and better on the other beats, too"),
        (corners, {"c", "d", "e"}, "these are the beaten ones"),
        (corners, {"b", "e"}, "a cheaper point stays though its score is lower"),
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
# ## 7.7 The heavy rows
#
# With ResNet-50 and VGGish the methods are trained only where there is a GPU and AVSBench itself;
# their cost needs neither. Counted, at 224 px, beside what LightAVSeg's paper reports:

# %%
rows = []
for row in reported.COMPARISON:
    skeleton = profiling.skeleton(row.method, preset="paper", visual=row.visual, audio=row.audio)
    millions = sum(part.total for part in profiling.parameters(skeleton).values()) / 1e6
    gmacs = profiling.macs(skeleton).total_macs / 1e9
    counted = f"{millions:.1f}", f"{gmacs:.1f}"
    rows.append((row.method, row.visual, *counted, row.s4[0], row.ms3[0], row.phone_ms))
own = ", ".join(f"{subset} {score}" for subset, score in reported.AVESFORMER.items())
print(f"AVESFormer's own paper reports M_J {own}; its sizes we do not know")
columns = ["method", "visual encoder", "parameters that run, M", "GMACs"]
columns += ["reported: S4 $M_J$", "reported: MS3 $M_J$", "reported: phone, ms"]
workbook.table(columns, rows)

# %% [markdown]
# ## 7.8 A piece of it, live
#
# Static fusion against the full model, on a few clips for a few steps, with the ears of the model
# that the workbook ships. Do not expect the order from above: with so little training the two may
# hardly differ. What you see is that a row of the table is a dozen lines.

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

# %% [markdown]
# ## Summary
#
# - A table without seeds invites stories. With seeds and paired intervals, read which differences
#   stand from the verdicts above: they are computed, not written.
# - "Distracted by noise" and "unclear boundaries" are measurable. Measure before you repeat them.
# - Accuracy alone has a winner; accuracy and latency have a front.
#
# **What this can and cannot say about AVSBench.** All models here are small, trained from random
# weights for minutes on clean silhouettes. Which part of a model helps *here* is evidence about
# the mechanism under these conditions. The ranking of methods pretrained on ImageNet and trained
# on real clips can be different, and reported figures, in their own columns, are not comparable
# with measured ones.
#
# **Add your own.** A sixth method is one file: `docs/adding_a_method.md` shows how, and
# `lightavseg compare my_method.py` puts it beside the five, in one table.
#
# ## References
#
# - LightAVSeg: arXiv 2605.08805 (ICML 2026). AVESFormer: arXiv 2408.01708. AVSBench: arXiv
#   2207.05042. AVSegFormer: arXiv 2307.01146.
# - Boundary F: Perazzi et al., *A Benchmark Dataset and Evaluation Methodology for Video Object
#   Segmentation*, CVPR 2016.

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
# # 5. Coarse to fine: watching the decoder decide
#
# LightAVSeg's decoder walks from a map of 2 x 2 cells to one of 32 x 32. At each scale it refines
# its idea of the sound, adds that to the picture's features, and, says the paper, *progressively
# suppresses background*. Here you watch it, scale by scale, and then put numbers to what you saw:
# how well does each scale know where the sound is? What of the progress is knowledge, and what is
# only resolution? And where does it fail?
#
# **Afterwards you can**
# - draw what a decoder knows at each scale, and score it fairly: contrast, ranking, overlap, and
#   the overlap that its size allows;
# - say what the alignment loss $L_\text{msa}$, the gates and the broadcast do, each with a
#   measurement;
# - find failures by rule, and name the one that no training can cure: two objects with one sound.
#
# | | |
# |---|---|
# | Time on 2 cores | a minute (`profile = "smoke"`: half of it) |
# | Memory | 2 GB |
# | You need | notebook 2 for the model; notebook 3 for $L_\text{msa}$ and the data |

# %% tags=["parameters"]
profile = "default"    # "smoke": the shortest run that touches everything
clips = 60             # test clips, 5 frames each; at most 60, for which the sweep's maps are kept
twins = 40             # clips with two objects of one timbre
out = None    # folder for what is written; None: the checkout, or your cache where it is read-only

# %%
from lightavseg_core import workbook

s = workbook.settings(globals(), clips=int, twins=int, out=str | None)
if not 12 <= s.clips <= 60 or s.twins < 8:
    raise ValueError(
        f"clips is {s.clips}, twins is {s.twins}; expected 12 to 60 clips, at least 8 with twins"
    )
if s.profile == "smoke":
    s.clips = min(s.clips, 16)
    s.twins = min(s.twins, 12)
print(f"{s.clips} test clips, {s.twins} with twins")

# %%
import torch
import torch.nn.functional as F

import lightavseg_core as lav
from lightavseg_core import plots
from lightavseg_core.data import images
from lightavseg_core.data.shapes import CATEGORIES
from lightavseg_core.experiments import statistics, sweep
from lightavseg_core.inspection import attribution, scales

here = workbook.places("05_decoder", s.out)
model = lav.load_model(here.root / "checkpoints/tiny")
size = model.config.size                                   # 128 pixels


def test_clips(count, **kind):
    """Test clips of ms3, the same in each run and on each machine; never seen in training."""
    root = here.runs / f"{'twins' if kind else 'clips'}_{count}"
    lav.data.sounding_shapes.generate(root, "ms3", {"test": count}, size, seed=0, **kind)
    return lav.data.AVSBench(root, "ms3", "test", size, model.front_end)


test = test_clips(s.clips)
print(", ".join(f"{name} {value}" for name, value in workbook.card().items()))

# %% [markdown]
# The model is the small one that the workbook ships; notebook 3 trains its like.
#
# ## 5.1 One clip, five scales
#
# At each scale $i$ the decoder has a map of features, $V_i^\text{dec}$, and a state of the sound,
# the vector $\hat A_i$, both of $D$ channels. Their cosine, position by position, says how well
# each place *agrees* with the sound; divided by $\tau = 0.1$ and squashed by a sigmoid it is what
# $L_\text{msa}$ compares with the mask. The loss looks at the last three scales only.
#
# > **Prediction.** Which maps will look like the mask: all five, more and more? Or the last
# > three?
#
# The clip is chosen by rule, the first in which something sounds in every second.

# %%
def grids_of(similarity):
    """The scales' names, coarse to fine: "2 x 2" is a map of two rows and two columns."""
    return [f"{m.shape[-2]} x {m.shape[-1]}" for m in similarity]


found = scales.maps(model, test)       # of every clip each scale's similarity, the mask's logits
truth = scales.truth(test)             # (clips, 5, 128, 128) bool
grids = grids_of(found.similarity)
clip = int(truth.flatten(2).any(2).all(1).nonzero()[0])


def row(maps, clip, second):
    """Frame, truth, and what each scale and the mask say of one second."""
    item = test[clip]
    frame, mask = item["frames"][second], item["mask"][second]
    seen = [scales.probability(m[clip, second]) for m in maps.similarity]
    seen.append(maps.logits[clip, second].sigmoid())
    return [images.picture(frame), plots.overlay(frame, mask, plots.GREEN), *seen]


columns = ["frame", "truth", *grids, "mask"]
rows = {f"second {t}": row(found, clip, t) for t in range(5)}
outlines = dict(zip(rows, truth[clip]))
title = "What each decoder scale knows: sigmoid(cosine / 0.1), and the mask"
figure = plots.scales.map_grid(rows, columns, title, truth=outlines)
figure.savefig(here.figures / "05_decoder.png", dpi=100, metadata={"Software": None})
workbook.show(
    figure,
    alt="Five seconds of a clip: frame, truth, the maps of five decoder scales from coarse to "
    "fine, and the mask. The two coarsest maps do not follow the objects, the three finer ones do.",
)

# %% [markdown]
# The two coarse maps follow nothing that you could name; from 8 x 8 on the sounding objects light
# up, and what follows looks like the same thing with more pixels. Pictures of one clip invite
# stories. Section 5.4 measures all.
#
# ## 5.2 Features, before and after the sound is added
#
# A map of features has 64 channels; for a picture we take three of them, not any three but the
# *principal components* of all positions, and show them as red, green and blue. Places of one
# colour have like features. At each scale, look at the map before and after the sound's bias is
# broadcast: $V_i^\text{dec} = V_i^\text{before} + W_b \hat A_i$.
#
# > **Prediction.** The bias is one vector, the same at each position. So within a frame, what can
# > it do to the colours?

# %%
some = min(s.clips, 16)                                    # clips that are looked into
items = [test[i] for i in range(some)]
frames = torch.stack([item["frames"] for item in items])   # (B, T, 3, H, W)
traces = {}
for name, sound in {"own sound": "normal", "silence": "silent", "swapped": "swapped"}.items():
    heard = test.with_sound(sound)
    log_mel = torch.stack([heard[i]["log_mel"] for i in range(some)])
    traces[name] = scales.trace(model, frames, log_mel)
own = traces["own sound"]


def before(step):
    """V_dec without the bias, (B, T, D, h, w)."""
    return step.visual - step.bias[..., None, None]


shown = clip % some
frame, mask = items[shown]["frames"][0], items[shown]["mask"][0]
rows = {"before": [images.picture(frame)], "after": [plots.overlay(frame, mask, plots.GREEN)]}
for step in own.decoder:
    plain, added = scales.pca_colours([before(step).flatten(0, 1), step.visual.flatten(0, 1)])
    rows["before"].append(plain[5 * shown])                # its first second
    rows["after"].append(added[5 * shown])
title = "Features as colours, before and after the sound is added"
workbook.show(
    plots.scales.map_grid(rows, ["frame, truth", *grids], title),
    alt="A frame and its truth; beside it the features of five scales as colours, above before "
    "and below after the sound is added: the outlines stay, all colours of a map shift together.",
)

# %% [markdown]
# The colours of a map shift *together* (at 4 x 4 not at all that one could see: its gates let
# nothing of the sound through): no edge appears, none goes. Adding one vector cannot tell places apart that were alike. What it changes
# is the direction that the zero lies in, and so which features pass the next threshold, and the
# *cosine*. Measure that over all the clips looked into: how well does the map rank pixels before
# the bias and after, and how much background passes the threshold?
#
# We rank with the **AUROC**: of all pairs of a sounding pixel and another one, the share in which
# the sounding pixel has the higher value. 1 is perfect, 0.5 is chance, and no threshold is
# needed.
#
# ### Exercise 1: AUROC
#
# *5 minutes, easy.*
#
# `inside` and `outside` are two lists of values. Return the share of pairs in which the value
# from `inside` is higher; equal ones count half.

# %% tags=["exercise"]
def ranked_right(inside, outside):
    # solution
    pairs = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
    return sum(pairs) / len(pairs)
    # wrong: equal ones count nothing
    pairs = [a > b for a in inside for b in outside]
    return sum(pairs) / len(pairs)
    # wrong: equal ones count whole
    pairs = [a >= b for a in inside for b in outside]
    return sum(pairs) / len(pairs)
    # wrong: which is lower
    pairs = [(a < b) + 0.5 * (a == b) for a in inside for b in outside]
    return sum(pairs) / len(pairs)
    # wrong: a number, not a share
    return sum((a > b) + 0.5 * (a == b) for a in inside for b in outside)
    # wrong: each value has one partner
    pairs = [(a > b) + 0.5 * (a == b) for a, b in zip(inside, outside)]
    return sum(pairs) / len(pairs)
    # end solution

# %% tags=["check"]
some_values = torch.linspace(0, 1, 12).square().view(1, 3, 4)
some_truth = torch.tensor([[[0, 1, 0, 0], [1, 0, 0, 1], [1, 0, 1, 1]]]) > 0
wanted = scales.auroc(some_values, some_truth).item()
inside, outside = some_values[some_truth].tolist(), some_values[~some_truth].tolist()
workbook.check(
    "AUROC",
    ranked_right,
    hint="two nested loops over the pairs; then divide by their number",
    cases=[
        (([3, 2], [1, 0]), 1.0),
        (([1], [1]), 0.5),
        (([0, 2], [1]), 0.5),
        ((inside, outside), wanted),
    ],
    mistakes=[
        (([1], [1]), 0.0, "two equal values are half a point"),
        (([1], [1]), 1.0, "two equal values are half a point, not a whole one"),
        (([3, 2], [1, 0]), 0.0, "it is the value from inside that should be the higher one"),
        (([3, 2], [1, 0]), 4, "that is how many; which share of all pairs?"),
        (([0, 2], [1]), 0.0, "every value from inside meets every one from outside"),
    ],
)

# %%
if mine := workbook.yours("AUROC"):
    clip, second = truth.flatten(2).any(2).nonzero()[0].tolist()       # something sounds in it
    values = own.logits[clip, second, 0, ::8, ::8]                      # every eighth pixel
    sounding_there = truth[clip, second, ::8, ::8]
    ranking = mine(values[sounding_there].tolist(), values[~sounding_there].tolist())
    print(f"clip {clip}, second {second}: your AUROC of the model's own mask is {ranking:.3f}")

# %%
def scored(similarity):
    """Scores of the maps of the clips looked into, a dict for each scale."""
    return scales.per_frame(scales.Maps(similarity, own.logits[:, :, 0]), truth[:some])[:-1]


unbiased = []
for step in own.decoder:
    unbiased.append(F.cosine_similarity(before(step), step.audio[..., None, None], dim=2))
scores_before = scored(unbiased)
scores_after = scored([step.similarity for step in own.decoder])
rows = []
for grid, a, b in zip(grids, scores_before, scores_after):
    ranking, marks = (scales.bootstrap(b[score] - a[score]) for score in ("auroc", "marked"))
    cells = [
        f"{a['auroc'].nanmean():.3f}",
        f"{b['auroc'].nanmean():.3f}",
        f"{ranking.low:+.4f} to {ranking.high:+.4f}",
        f"{a['marked'].nanmean():.1%}",
        f"{b['marked'].nanmean():.1%}",
        f"{marks.low:+.1%} to {marks.high:+.1%}",
    ]
    rows.append((grid, *cells))
columns = ["AUROC before", "after", "change, 95%"]
columns += ["background marked before", "after", "change, 95%"]
workbook.table(["scale", *columns], rows)

# %% [markdown]
# Read the last three rows. The ranking of places is there *before* this scale's bias is added
# (the coarser scales' are in it already). The bias hardly changes who ranks above whom. It moves
# the threshold, and that is what quiets the background. Could the encoder have put the ranking
# there alone, stage by stage (AGVE)? The model without CMFD in section 5.5, whose decoder adds no
# sound at all, will answer.
#
# ## 5.3 The audio state and its gates
#
# On its way the state of the sound is multiplied by a gate, $\hat A_i = A_i^* \odot
# \mathrm{hsigmoid}(W_g \max V_i^\text{enc})$, which depends on what is *seen*. Here is the finest
# scale of one clip, five seconds heard three ways: a column for each channel.

# %%
finest = {name: trace.decoder[-1] for name, trace in traces.items()}
title = f"The audio state at {grids[-1]}: five seconds, heard three ways"
workbook.show(
    plots.scales.state_figure(finest, shown, title),
    alt="Three heat maps, channels across: the state before the gate, the gate, the state after. "
    "Lines are seconds with own sound, silence and swapped sound; most channels of the gate look "
    "alike in all lines.",
)

# %% [markdown]
# Silence does not empty the state at this scale: silence is a direction of its own, one that no object agrees
# with. And the gate: its columns are much more different from each other than its lines. Does it
# look at the picture at all?
#
# > **Prediction.** If a gate opened for what it sees, its values would vary from frame to frame
# > about as much as from channel to channel.

# %%
def gates(trace):
    return [step.gate for step in (*trace.encoder, *trace.decoder)]


gate_names = [f"encoder {i}" for i, _ in enumerate(own.encoder, 1)]
gate_names += [f"decoder {grid}" for grid in grids]
rows = []
for name, gate, quiet in zip(gate_names, gates(own), gates(traces["silence"])):
    values = gate.flatten(0, 1)                            # (frames, channels)
    shares = (values < 0.05).float().mean(), (values > 0.95).float().mean()
    spreads = values.std(0).mean(), values.mean(0).std(), (gate - quiet).abs().mean()
    cells = [f"{share:.0%}" for share in shares] + [f"{spread:.3f}" for spread in spreads]
    rows.append((name, *cells))
columns = ["closed (< 0.05)", "open (> 0.95)"]
columns += ["spread over frames", "over channels", "change in silence"]
workbook.table(["gate", *columns], rows)

# %% [markdown]
# Most gates are nearly *fixed*: a channel is as open as it is, whatever is in view. On these data
# every frame holds a few of the same seven silhouettes, and a maximum over a frame says little
# about them at the early stages. The gates that do look are the ones with a large *spread over
# frames*. (The gate is computed from what is seen, but what is seen has had the sound added to
# it: so silence changes it too.)
#
# ### Exercise 2: how much gets through?
#
# *3 minutes, easy.*
#
# `merged` ($A^*$) and `gate` are `(frames, channels)`. Of the energy of the state, the sum of its
# squares over all frames and channels, which share does the gate let through?

# %% tags=["exercise"]
def let_through(merged, gate):
    # solution
    return ((merged * gate) ** 2).sum() / (merged**2).sum()
    # wrong: the gate alone
    return (gate**2).mean()
    # wrong: nothing is squared
    return (merged * gate).abs().sum() / merged.abs().sum()
    # wrong: the gate is not squared
    return (merged**2 * gate).sum() / (merged**2).sum()
    # wrong: upside down
    return (merged**2).sum() / ((merged * gate) ** 2).sum()
    # end solution

# %% tags=["check"]
state = torch.tensor([[1.0, 2.0], [0.0, 5.0]])
half = torch.tensor([[1.0, 0.5], [1.0, 0.0]])
workbook.check(
    "what gets through",
    let_through,
    cases=[
        ((state, half), 2 / 30),
        ((state, torch.ones(2, 2)), 1.0),
        ((state, torch.zeros(2, 2)), 0.0),
    ],
    hint="square after the gate, sum, and divide by the sum of squares before it",
    mistakes=[
        ((state, half), 0.5625, "a gate that is open where nothing comes lets nothing through"),
        ((state, half), 0.25, "energy is a sum of squares"),
        ((state, half), 3 / 30, "the gate acts before the square, so it is squared, too"),
        ((state, half), 15.0, "what comes out over what goes in"),
    ],
)

# %% [markdown]
# Does the state still tell *which* sound it is, after all that has been done to it? Compare
# seconds of different clips: those in which the same categories sound, and those in which others
# do. The cosine of two states should be higher for the former; how reliably, the AUROC says.

# %%
things = scales.marked_objects(found, test)        # each object, each second: sounds? marked?
sounding = {(t.clip, t.second): set() for t in things}
for t in things:
    if t.sounding:
        sounding[t.clip, t.second].add(t.category)
sets = [sounding[i, t] for i in range(some) for t in range(5)]
number = torch.arange(len(sets)) // 5              # the clip of each second
anything = torch.tensor([bool(categories) for categories in sets])
alike = torch.tensor([[a == b for b in sets] for a in sets])
pairs = (number[:, None] != number) & anything[:, None] & anything
same, other = (int((which & pairs).sum()) // 2 for which in (alike, ~alike))
print(f"{same} pairs of seconds with the same categories, {other} with others")

# %%
states = [("$A_0$, the audio encoder", own.audio)]
states += [(f"$A_{i}$", step.audio) for i, step in enumerate(own.encoder, 1)]
for i, step in zip(range(5, 0, -1), own.decoder):
    states += [(f"$A^*_{i}$", step.merged), (rf"$\hat A_{i}$", step.audio)]
rows = []
for name, state in states:
    unit = F.normalize(state.flatten(0, 1), dim=1)
    cosine = unit @ unit.T                                 # (seconds, seconds)
    means = cosine[alike & pairs].mean(), cosine[~alike & pairs].mean()
    told_apart = scales.auroc(cosine[pairs][None], alike[pairs][None]).item()
    rows.append((name, *(f"{value:.3f}" for value in (*means, told_apart))))
workbook.table(["state", "cosine, same sound", "other sound", "AUROC of same against other"], rows)

# %% [markdown]
# The frozen audio encoder tells sets of timbres apart almost perfectly. On the way down the
# encoder the state loses some of that and takes up what is *seen*. Before the gate it says least
# about the sound at 4 x 4, where the gate then lets nothing through, and comes back from there to
# the finest, because each scale takes its $A_i$ of the encoder in again. The coarsest state is no summary from which the rest is
# unfolded.
#
# ## 5.4 "Progressively suppresses background", in numbers
#
# Four scores for each scale, over all test clips:
#
# - **probability inside and outside** the truth. Background is suppressed where *outside* falls;
#   their difference is the **contrast** (over the frames in which something sounds; *outside*
#   also counts the others);
# - **AUROC**: are sounding pixels ranked above the others?
# - **IoU** of probability > 0.5 with the truth;
# - and its **ceiling**: the IoU that the truth itself has after it was averaged down to that many
#   cells and resized back, at its best threshold. A coarse map cannot follow an outline however
#   much it knows.
#
# > **Prediction.** An object covers about 6% of the frame, and a cell of the 2 x 2 map 25%. The
# > ceiling there, for one object well inside a cell, is about $6 / 25 = 0.24$.
#
# Intervals are bootstrapped: draw as many *clips* as there are, with replacement, average, and
# repeat 2000 times; the middle 95% of the averages is the interval. Clips, not frames: the five
# frames of a clip are alike, and count as one witness.

# %%
scores = scales.per_frame(found, truth)
names = [*grids, "mask"]
points = {}
for score in scores[0]:
    points[score] = {name: scales.bootstrap(table[score]) for name, table in zip(names, scores)}
panels = {
    "probability": {"inside the truth": points["inside"], "outside": points["outside"]},
    "AUROC": {"map": points["auroc"]},
    "IoU": {"map": points["iou"], "ceiling": points["ceiling"]},
}
title = f"What each scale knows: {s.clips} test clips, 95% intervals over clips"
workbook.show(
    plots.scales.scale_curves(panels, names, title),
    alt="Three panels along the decoder's scales: probability inside and outside the truth, "
    "AUROC, IoU and its ceiling. The two coarse scales are near chance; from 8 x 8 on the "
    "background is dark.",
)

# %%
columns = ["inside", "outside", "contrast", "auroc", "iou", "ceiling"]
rows = []
for name in names:
    values = {score: points[score][name].estimate for score in points}
    of_ceiling = values["iou"] / values["ceiling"]
    cells = [f"{values[score]:.3f}" for score in columns]
    rows.append((name, *cells, f"{of_ceiling:.0%}", f"{values['marked']:.1%}"))
workbook.table(["scale", *columns, "IoU of ceiling", "background marked"], rows)

# %% [markdown]
# Is each step finer a step forward? Differences of neighbouring scales, paired frame by frame,
# with their intervals:

# %% tags=["nbval-check-output"]
def verdict(gain):
    """What the interval of a difference allows one to say."""
    if gain.low > 0:
        return "better"
    return "worse" if gain.high < 0 else "undecided"


for i in range(len(names) - 1):
    a, b = scores[i], scores[i + 1]                        # the coarser and the finer scale
    steps = {
        "background": a["outside"] - b["outside"],
        "ranking": b["auroc"] - a["auroc"],
        "IoU": b["iou"] - a["iou"],
        "share of the ceiling": b["iou"] / b["ceiling"] - a["iou"] / a["ceiling"],
    }
    told = [f"{name} {verdict(scales.bootstrap(step))}" for name, step in steps.items()]
    print(f"{names[i]:>7} -> {names[i + 1]:7}  {', '.join(told)}")

# %% [markdown]
# So, of "progressively suppresses background":
#
# - **Not from the start.** At 2 x 2 the map ranks pixels worse than a coin would, at 4 x 4 about
#   as well as one. (The table says "background better" and "IoU worse" of the step between them:
#   less is marked, and so less of the objects too.) No loss ever asked these scales for a mask,
#   so nobody should expect one there.
# - **In one jump.** At 8 x 8, the first scale that $L_\text{msa}$ looks at, background goes dark
#   and the ranking is nearly what it will be.
# - **Then, a little, at each step.** The background does get darker and the ranking better from
#   scale to scale: small steps, with intervals that exclude zero where the table says "better".
# - **Much of what looks like progress is resolution.** Between the supervised scales IoU climbs,
#   and so does its ceiling. As a share of the ceiling it moves far less. (The ceiling at 2 x 2
#   was predicted as 0.24 for one object: compare the table.)
# - **The mask is more than the last map.** Past the last scale comes a 3 x 3 block and a head,
#   trained for the mask itself.
#
# Does a scale that no loss looks at know nothing? We only know that its *cosine* does not. That
# is the next section's question.
#
# ## 5.5 Switch off the loss, the gates, the decoder; ask other methods
#
# Six models, trained on 400 clips at 128 pixels for the same number of steps: LightAVSeg, the
# same without $L_\text{msa}$, without HAR, without CMFD; and AVSBench and AVSegFormer, each with
# its own losses. They had far less training than the model above, so their scores are lower.
# Their maps are the cosine between features and sound at the places where each of them fuses the
# two: AVSBench at four scales, AVSegFormer at one. Nobody asked those for a mask at $\tau = 0.1$,
# so their maps are stretched to their own range below, and the score that compares them, AUROC,
# needs no threshold; IoU is taken at probability 0.5, so where $L_\text{msa}$ was off only the
# mask's is a fair one. The frame is the one of section 5.1, good or bad for them as it may be.
# One training each: the intervals say what other *clips* would give, not what other trainings
# would.

# %%
stored = here.root / "results/sweep"
kept = sweep.load_maps("scales", stored)
one = sweep.load("scales", stored)["LightAVSeg"][0]
machine = f"{one['machine']['device']}, torch {one['machine']['torch']}"
print(f"{one['steps']} steps each, seed {one['seed']}, {one['date']}, {machine}")


def stretched(similarity):
    least, most = similarity.min(), similarity.max()
    return (similarity - least) / (most - least).clamp_min(1e-6)


rows = {}
for label, maps in kept.items():
    seen = [stretched(m[clip, 0]) for m in maps.similarity]
    by_grid = dict(zip(grids_of(maps.similarity), seen))
    scene, mask = row(maps, clip, 0)[:2], maps.logits[clip, 0].sigmoid()
    rows[label] = [*scene, *(by_grid.get(grid) for grid in grids), mask]
columns = ["frame", "truth", *names]
outlines = dict.fromkeys(rows, truth[clip, 0])
title = "The same frame, six models of one budget (maps stretched to their range)"
figure = plots.scales.map_grid(rows, columns, title, "low to high", outlines)
workbook.show(figure, alt="A row for each model: frame, truth, its maps by scale, its mask.")

# %% [markdown]
# > **Prediction.** Without $L_\text{msa}$, will the maps still show the mask, only blurred? And
# > will the mask be worse for it?

# %%
tables = {}                                                # label -> scale -> scores (clips, 5)
for label, maps in kept.items():
    shown_maps = scales.Maps([m[:s.clips] for m in maps.similarity], maps.logits[:s.clips])
    labels = [*grids_of(maps.similarity), "mask"]
    tables[label] = dict(zip(labels, scales.per_frame(shown_maps, truth)))
panels = {"AUROC": {}, "IoU": {}}
for label, by_scale in tables.items():
    for name, curves in panels.items():
        values = {scale: table[name.lower()] for scale, table in by_scale.items()}
        curves[label] = {scale: scales.bootstrap(value) for scale, value in values.items()}
title = "One budget, one training each (95% intervals over clips)"
workbook.show(
    plots.scales.scale_curves(panels, names, title),
    alt="AUROC and IoU by scale for the six models, with intervals over clips.",
)

# %% tags=["nbval-check-output"]
whole = tables["LightAVSeg"]
for label in list(tables)[1:]:
    told = []
    for scale, score in ((grids[-1], "auroc"), ("mask", "auroc"), ("mask", "iou")):
        gain = tables[label][scale][score] - whole[scale][score]
        told.append(f"{score} of {scale} {verdict(scales.bootstrap(gain))}")
    print(f"{label:14} {', '.join(told)}")

# %% [markdown]
# What stands out is the model without $L_\text{msa}$. Its cosine maps are not blurred masks: they
# rank pixels *below* chance, the sounding object agrees with the sound *less* than the background
# does. Yet its mask cannot be told from the full model's. A network may code "sounds" in any
# direction of its 64 channels, and the next layer reads it; agreement with $\hat A$ is one such
# code, which $L_\text{msa}$ asks for and others have no reason to use. AVSegFormer's map is
# another such negative; AVSBench's rank better than chance, best in the middle, though all their
# cosines lie so close together that no threshold of $L_\text{msa}$'s would find a mask in them.
# Without HAR, and without CMFD, where $\hat A$ is not even added, the supervised maps look as
# they do with them: it is the loss that makes them. So:
#
# - a similarity map shows what the *loss* made of the features. It is not the mechanism by which
#   the mask is found;
# - a method whose maps look poor beside LightAVSeg's has been asked another question. A
#   comparison of maps, as in the LightAVSeg poster's figure, is fair where maps were trained to
#   be masks, and tells little where they were not. Compare masks.
#
# ## 5.6 Failures, found by rule
#
# Back to the trained model. Frames in which something sounds, ranked by the mask's IoU: the three
# worst, the three in the middle, the three best.

# %%
iou = scores[-1]["iou"]                                    # (clips, 5), NaN where nothing sounds
occupied = ~iou.isnan()
ranked = [divmod(k, 5) for k in iou.flatten().argsort().tolist()]
order = [(i, t) for i, t in ranked if occupied[i, t]]
middle = len(order) // 2
chosen = [*order[:3], *order[middle - 1:middle + 2], *order[-3:]]
labels = ["worst"] * 3 + ["middle"] * 3 + ["best"] * 3
columns = []
for i, t in chosen:
    item = test[i]
    columns.append((item["frames"][t], item["mask"][t], {"marked": found.logits[i, t] > 0}))
titles = [f"{label} {iou[i, t]:.2f}" for label, (i, t) in zip(labels, chosen)]
workbook.show(
    plots.prediction_grid(columns, titles),
    alt="Nine frames with truth and marked pixels, three worst, three middle, three best.",
)

# %% [markdown]
# Is it the *outline* that fails, or the *choice* of objects? Ask of each frame whether it marks
# (more than half of) exactly the objects that sound.

# %%
right = torch.ones_like(iou, dtype=torch.bool)
for t in things:
    right[t.clip, t.second] &= (t.share > 0.5) == t.sounding
lost = 1 - iou
wrong = occupied & ~right
share = lost[wrong].sum() / lost[occupied].sum()
print(
    f"{int(occupied.sum())} frames with sound; a wrong set of objects in {int(wrong.sum())}, "
    f"which lose {share:.0%} of all the IoU that is lost"
)
for name, which in (("right", occupied & right), ("wrong", wrong)):
    print(f"set {name}: {int(which.sum()):3} frames, mean IoU {iou[which].mean():.3f}")
many = torch.zeros_like(iou)
for (i, t), categories in sounding.items():
    many[i, t] = len(categories)
rows = []
for n in range(1, 5):
    with_n = many == n
    rows.append((n, int(with_n.sum()), int((wrong & with_n).sum())))
workbook.table(["objects that sound at once", "frames", "with a wrong set"], rows)

# %%
for i, t in order[:3]:
    mistakes = []
    for o in things:
        if (o.clip, o.second) == (i, t) and (o.share > 0.5) != o.sounding:
            does = "misses" if o.sounding else "marks"
            mistakes.append(f"{does} the {CATEGORIES[o.category].name}")
    told = ", ".join(mistakes) or "ill drawn, but the right ones"
    print(f"IoU {iou[i, t]:.2f}, {len(sounding[i, t])} sound: {told}")

# %% [markdown]
# Most of the lost IoU is lost at outlines, a few percent in each frame. The bad failures are
# another kind, and few: a wrong *choice*, and only where several objects sound at once. With one
# sound alone it chooses right. That one timbre hides another is a plausible reason, not tested
# here.
#
# ## 5.7 The limit that no training cures
#
# All that the picture learns about the sound is one vector, and a vector has no places. Two
# objects of one category have one timbre. If one of them sounds, the vector says "a flower
# sounds", and both flowers agree with it. `twins=True` makes such clips: object 0 sounds now and
# then, its twin never does.
#
# ### Exercise 3: what is the best that it could do?
#
# *6 minutes, medium.*
#
# Two twins of `a` and `b` pixels, perfectly outlined. One of them sounds, the first with the
# probability `chance`. Return the expected IoU if the model marks **both**, and if it marks
# always **one**, the first.

# %% tags=["exercise"]
def expected_iou(a, b, chance):
    # solution
    both = chance * a / (a + b) + (1 - chance) * b / (a + b)
    one = chance * 1 + (1 - chance) * 0
    return both, one
    # wrong: a coin is thrown
    return 0.5 * a / (a + b) + 0.5 * b / (a + b), 0.5
    # wrong: only the case in which the first one sounds
    return a / (a + b), 1.0
    # wrong: the wrong one still gets something
    both = chance * a / (a + b) + (1 - chance) * b / (a + b)
    return both, chance + (1 - chance) * b / (a + b)
    # wrong: the other order
    both = chance * a / (a + b) + (1 - chance) * b / (a + b)
    return chance, both
    # end solution

# %% tags=["check"]
often = 300, 100, 0.8
workbook.check(
    "twins",
    expected_iou,
    hint="average two cases by their chance: a sounds, b sounds; the union of both is a + b",
    cases=[((100, 100, 0.5), (0.5, 0.5)), ((300, 100, 0.5), (0.5, 0.5)), (often, (0.65, 0.8))],
    mistakes=[
        (often, (0.5, 0.5), "the first one sounds with the probability `chance`"),
        (often, (0.75, 1.0), "that holds while the first sounds; at other times the second does"),
        (often, (0.65, 0.85), "marked is the first, the second sounds: what do they share?"),
        (often, (0.8, 0.65), "first the model that marks both, then the one that marks one"),
    ],
)

# %% [markdown]
# Equally likely twins give one half for either choice, however large they are, and what lies
# between (one and a part of the other) is worse. Now measure how much of each it marks.
#
# > **Prediction.** The sounding twin and the silent one are marked equally: their difference
# > cannot be told from zero.

# %%
pairs_of_twins = test_clips(s.twins, twins=True)
found_twins = scales.maps(model, pairs_of_twins)
marked = torch.full((2, s.twins, 5), torch.nan)      # of the sounding twin and of the silent one
both = [t for t in scales.marked_objects(found_twins, pairs_of_twins) if t.number < 2]
for t in both:
    marked[t.number, t.clip, t.second] = t.share
sounds = torch.zeros(s.twins, 5, dtype=torch.bool)
for t in both:
    sounds[t.clip, t.second] |= t.sounding
loud, still = marked.where(sounds, torch.nan), marked.where(~sounds, torch.nan)
shares = {
    "sounding twin": loud[0],
    "silent twin": loud[1],
    "difference": loud[0] - loud[1],
    "either, while neither sounds": still.nanmean(0),
}
rows = {name: scales.bootstrap(values) for name, values in shares.items()}
title = f"Share of a twin that is marked ({s.twins} clips, 95% over clips)"
workbook.show(
    plots.intervals(rows, title, "share of its visible pixels"),
    alt="Intervals of the share that is marked: of the sounding twin, of the silent one, their "
    "difference, and of both while neither sounds.",
)

# %%
for name, d in rows.items():
    print(f"{name:29} {d.estimate:+.2f} ({d.low:+.2f} to {d.high:+.2f})")
one, two = loud > 0.5
cases = {
    "both": one & two,
    "only the sounding one": one & ~two,
    "only the silent one": two & ~one,
    "neither": ~one & ~two,
}
counts = [f"{name} in {int(which[sounds].sum())}" for name, which in cases.items()]
print(f"of {int(sounds.sum())} seconds in which one sounds, marked are", ", ".join(counts))

# %%
step = max(1, int(sounds.sum()) // 6)
chosen = sounds.nonzero().tolist()[::step][:6]
columns = []
for i, t in chosen:
    item, marked_now = pairs_of_twins[i], found_twins.logits[i, t] > 0
    columns.append((item["frames"][t], item["mask"][t], {"marked": marked_now}))
titles = [f"clip {i}, second {t}" for i, t in chosen]
workbook.show(
    plots.prediction_grid(columns, titles),
    alt="Six frames with twins of which one sounds, at equal steps through the clips; truth, and "
    "what is marked.",
)

# %% [markdown]
# While neither sounds, neither is marked: the model *does* listen. While one sounds, mostly both
# are marked; sometimes only one; by what, these clips do not say. The difference is undecided, as
# predicted, and an interval that wide proves no zero; the argument does. (Its training clips
# never held two of a kind: nothing ever taught it to mark both.) Stereo sound, or motion in
# time with the sound, could tell twins apart. A global vector of mono sound cannot, in LightAVSeg
# as in every other method here.

# %% [markdown]
# ## 5.8 Why? Attribution
#
# The mask says *what* the model decided, not *why*. Attribution puts the decision down to parts
# of the input: **which instants and bands of the log-mel switched these pixels on?** What is
# explained is one number, the *target*: the logits of one second, summed over the mask of an
# object.
#
# *Integrated Gradients* walks from silence to the sound in a straight line, $x(\alpha) = x_0 +
# \alpha (x - x_0)$, and adds up along the way what each bin contributes to the target $f$:
#
# $$\mathrm{IG}_i = (x_i - x_{0,i}) \int_0^1 \frac{\partial f}{\partial x_i}\bigl(x(\alpha)\bigr)\, d\alpha,
# \qquad \sum_i \mathrm{IG}_i = f(x) - f(x_0).$$
#
# The sum on the right is called *completeness*: nothing is explained away, nothing twice. Two
# choices matter. The start $x_0$ is silence, $\log 0.01$ in each bin; a zero would be *loud*. And
# the integral is a sum over points: a trained model switches an object on within a few hundredths
# of the path, so the points are put where they are needed until completeness holds within 1%.

# %%
duets = []                  # of each clip the first second in which two objects sound
for index in range(10):
    together = [t for t in range(5) if len(sounding[index, t]) == 2]
    duets += [(index, t) for t in together[:1]]
index, second = duets[0]
item = test[index]
objects = lav.data.sounding_shapes.objects(test.root, "ms3", "test", index)
masks = [torch.from_numpy(thing.masks[second]) for thing in objects if thing.sounding[second]]
if s.profile == "smoke":
    masks = masks[:1]
print(f"clip {index}, second {second}: two of {len(objects)} objects sound")

# %%
scene = item["frames"], item["log_mel"], second
steps, tolerance = (32, 0.05) if s.profile == "smoke" else (64, 0.01)
why = []
for mask in masks:
    why.append(attribution.integrated_gradients(model, *scene, mask, steps, tolerance))
for number, explained in enumerate(why):
    difference, error = explained.difference, explained.error
    print(f"object {number}: sound adds {difference:,.0f} logits; completeness within {error:.2%}")
    assert explained.error <= tolerance
for explained, name in zip(why, ("first", "second")):
    patch = (24, 16) if s.profile == "smoke" else (8, 8)
    lost = attribution.occlusion(model, *scene, explained.mask, patch)
    seen = attribution.grad_cam(model, *scene, explained.mask)
    panels = {"Integrated Gradients": explained, "occlusion": lost, "Grad-CAM": seen}
    frame, front_end = item["frames"][second], test.front_end
    figure = plots.attribution.attribution_figure(frame, item["log_mel"], panels, front_end, second)
    workbook.show(
        figure,
        alt=f"The {name} sounding object's mask, the log-mel, and, blue where logits rise, red "
        "where they fall, Integrated Gradients and occlusion by time and band, Grad-CAM by place.",
    )

# %% [markdown]
# Both figures have the same frame and the same sound; only the mask differs (`smoke` draws one).
# The attribution of single bins changes sign from bin to bin, so do not read dots: look at which
# *bands* are coloured at all, where that object's own sound lies. *Occlusion* asks more simply:
# what is lost when a patch of 80 ms by 8 bands falls silent? It is coarse, has no completeness,
# and need not agree: a bin may matter only together with others. *Grad-CAM* looks at the frame
# instead. Of the map that the head reads, each channel is weighted by its mean gradient; so near
# the output it draws all that is marked, whichever object is explained: it cannot say which one
# was asked about. Try `layer=model.visual.stages[2]`: there the sign itself may come out
# reversed, because one mean per channel is a rough summary of a gradient that differs from place
# to place. A picture that looks sensible is no proof.
#
# ### First check: random weights
#
# Integrated Gradients multiplies by $x - x_0$, so that loud bins stand out whatever the model is.
# An attribution that looks the same when the weights are random again explains the input, not the
# model (Adebayo et al., 2018). The rank correlation of the two, over all bins, must be well below
# 1; we ask for less than 0.5.

# %%
fresh = attribution.randomised(model, seed=0)
blind = attribution.integrated_gradients(fresh, *scene, masks[0], steps=32, tolerance=float("inf"))
trained, random = why[0].values[second], blind.values[second]
sizes = attribution.rank_correlation(trained.abs(), random.abs())
signed = attribution.rank_correlation(trained, random)
print(f"rank correlation with random weights: {sizes:.2f} of the sizes, {signed:.2f} with signs")
assert sizes < 0.5

# %% [markdown]
# The sizes keep some correlation: that is the loudness which both are multiplied by. The signs,
# which say *for* or *against*, keep none.
#
# ### Second check: a sound that is known
#
# SoundingShapes keeps each object's own track. So we know in which bins object A is louder than
# all else together, noise included. **Prediction:** of the attribution for A's mask, more falls
# there than these bins' share of the area, and more than of the attribution for B's mask, on the
# very same bins. The second comparison is the sharper: sound, bins and loudness are the same,
# only the question differs.

# %%
count = 2 if s.profile == "smoke" else 6
options = {"steps": 32, "tolerance": 0.1}      # coarser than above, for speed
if s.profile == "smoke":
    options = {"steps": 16, "tolerance": 0.5}
controls = [attribution.positive_control(model, test, *place, **options) for place in duets[:count]]
on_its_own = {i: float(c.shares.diagonal().mean()) for i, c in enumerate(controls)}
against = {
    "the area's share": [c.area for c in controls],
    "the loudness' share": [c.loudness for c in controls],
    "the other object's attribution": [c.shares.flip(0).diagonal() for c in controls],
}
rows = {}
for name, values in against.items():
    other = {i: float(value.mean()) for i, value in enumerate(values)}
    mean, low, high = rows[name] = statistics.paired(on_its_own, other)[:3]
    print(f"{mean:+.3f} ({low:+.3f} to {high:+.3f}) above {name}")
figure = plots.intervals(
    rows, f"Share on the object's own sound, {count} clips: above …", "difference"
)
workbook.show(
    figure,
    alt="Three differences with intervals: the attribution's share on the object's own sound "
    "minus the share of the area, of the loudness, and of the other object's attribution.",
)

# %% [markdown]
# "Loudness" is what an attribution would score that knows no model: the log-mel above silence.
# The lines are 95% intervals over clips; one that crosses zero is undecided, for six clips are
# few. The clips were chosen by rule, the first in which two objects sound at once.
#
# ### Exercise 4: completeness by hand
#
# *10 minutes, hard.*
#
# A toy model of two bins: $f(x) = \max(0,\, x_1 + 2 x_2 - 1)$. Write its Integrated Gradients
# from `start` to `x`, two tensors of two numbers, with the midpoint rule and `steps` points: the
# mean gradient along the path, times $x - x_0$.

# %% tags=["exercise"]
def toy_attribution(x, start, steps=1000):
    # solution
    total = torch.zeros(2)
    for k in range(steps):
        point = start + (k + 0.5) / steps * (x - start)
        if point[0] + 2 * point[1] > 1:
            total += torch.tensor([1.0, 2.0])
    return (x - start) * total / steps
    # wrong: the gradient at x alone
    slope = torch.tensor([1.0, 2.0]) * (x[0] + 2 * x[1] > 1)
    return (x - start) * slope
    # wrong: the gradient at the start alone
    slope = torch.tensor([1.0, 2.0]) * (start[0] + 2 * start[1] > 1)
    return (x - start) * slope
    # wrong: not times the way
    total = torch.zeros(2)
    for k in range(steps):
        point = start + (k + 0.5) / steps * (x - start)
        if point[0] + 2 * point[1] > 1:
            total += torch.tensor([1.0, 2.0])
    return total / steps
    # wrong: times x
    total = torch.zeros(2)
    for k in range(steps):
        point = start + (k + 0.5) / steps * (x - start)
        if point[0] + 2 * point[1] > 1:
            total += torch.tensor([1.0, 2.0])
    return x * total / steps
    # wrong: a path from zero
    total = torch.zeros(2)
    for k in range(steps):
        point = (k + 0.5) / steps * x
        if point[0] + 2 * point[1] > 1:
            total += torch.tensor([1.0, 2.0])
    return (x - start) * total / steps
    # end solution

# %% tags=["check"]
zero, one, other = torch.zeros(2), torch.ones(2), torch.tensor([3.0, 1.0])
cases = [
    ((one, zero), torch.tensor([2 / 3, 4 / 3])),
    ((0.2 * one, zero), zero),
    ((torch.tensor([3.0, -1.0]), zero), zero),
    ((other, one), torch.tensor([2.0, 0.0])),
]
workbook.check(
    "Integrated Gradients of a toy",
    toy_attribution,
    cases=cases,
    tolerance=0.01,
    hint="the gradient is (1, 2) where the model is above zero, else (0, 0); average along the "
    "path",
    mistakes=[
        ((one, zero), [1.0, 2.0], "that is the gradient at the end; along the path it is another"),
        ((one, zero), [0.0, 0.0], "at the start the model is flat; further along it is not"),
        ((other, one), [1.0, 2.0], "multiply the mean gradient by the way, x - start"),
        ((other, one), [3.0, 2.0], "the way is x - start, not x"),
        ((other, one), [1.6, 0.0], "the path leads from start to x, not from zero"),
    ],
)

# %% [markdown]
# ## 5.9 The mixing desk
#
# A clip of the generated data knows each object's own track; their sum and the noise floor are
# the sound on disk. On the desk each has a switch and a volume, and there is white noise (volume
# 1: as loud as the clip) and another clip's sound. Picture, maps and audio state follow, and you
# can hear the mix. The truth, in green, is what sounds *in the mix*. If a mix would overload, the
# whole is turned down.
#
# > **Prediction.** Two objects sound; you silence one of them. Which pixels go? What happens to
# > the pixels of the other?
#
# The clip and the second are those of the section before. First the experiment in code, which
# moves the desk's controls as you would, then the desk.

# %%
together = []
for i in range(8):
    objects = lav.data.sounding_shapes.objects(test.root, "ms3", "test", i)
    heard = sum(thing.sounding.astype(int) for thing in objects)       # (5,)
    together += [(i, t) for t in range(5) if heard[t] == 2]
desk_clip, desk_second = together[0]
desk = lav.widgets.MixingDesk(model, test, desk_clip, desk_second)
loud = [i for i, source in enumerate(desk.sources) if source.sounding[desk_second]]


def marked():
    """Share of their pixels that is marked, of the two that sound."""
    mask = desk.seen.mask
    return [float(mask[desk.sources[i].masks[desk_second]].float().mean()) for i in loud]


silenced = desk.strips[loud[0]]
rows = []
for volume in (1.0, 0.5, 0.4, 0.35, 0.3, 0.2, 0.0, 1.0):
    silenced.gain.value = volume
    rows.append((f"{volume:.2f}", *(f"{share:.0%}" for share in marked())))
names = [desk.sources[i].label for i in loud]
workbook.table([f"volume of {names[0]}", *(f"{name}: marked" for name in names)], rows)

# %% [markdown]
# The one that fades keeps its pixels down to a fifth of its volume at least, and has none at 0: a
# sound is heard or it is not. The other keeps its own. The last row is the first again: the model
# remembers nothing.
#
# Now you. **Try:**
#
# 1. Switch off all objects, and then the noise floor too. Is anything marked?
# 2. Only white noise. What does the model take it for? (Two of the seven timbres are bands of
#    noise.)
# 3. Only another clip's sound (the *donor's*), from a clip in which a category sounds that is
#    visible here, and from one in which none is.
# 4. Fade an object slowly and watch the maps: which scale lets go first?
# 5. Let time play, with one object silenced.
#
# Below the maps each bar is a channel of $\hat A_i$, as high as $|\hat A_i|$ is beside its most
# in this clip. Where no widget can run, as on GitHub, you see a grid of mixes instead.

# %%
desk

# %% [markdown]
# How fast does it answer? A method that looks at each frame by itself is asked for the shown
# second only. Random changes of switches, volumes and second, by the way that your own changes
# take:

# %%
changes = 20 if s.profile == "smoke" else 100
times = lav.widgets.response_times(desk, changes=changes)
print(
    f"measured, CPU, threads: {torch.get_num_threads()}: "
    f"median {times.median:.0f} ms, 95th percentile {times.p95:.0f} ms"
)

# %% [markdown]
# The same clip step by step: the slider goes through the decoder, coarse to fine, and ends with
# the mask.

# %%
lav.widgets.DecoderStepper(model, test[desk_clip], desk_second)

# %% [markdown]
# ## Summary
#
# - At each scale, a cosine map says how features and sound agree. With $L_\text{msa}$ it becomes
#   a mask at the scales that the loss looks at, and nowhere else.
# - The encoder alone can rank the places; the decoder's bias moves the threshold and so quiets
#   the background.
# - Most gates are nearly constant on these data; a few look at the picture.
# - "Progressively suppresses background" is, here, one jump at the first supervised scale and
#   small steps after it; much of the rise in IoU is resolution.
# - Bad failures are wrong choices among several sounds, not bad drawing. Two objects with one
#   timbre cannot be told apart.
#
# **What this can and cannot say about AVSBench.** A small model on clean silhouettes shows *how*
# the mechanism works and what a map means; how large each effect is on real clips, with
# pretrained encoders and objects of a thousand shapes, it cannot say.
#
# ## References
#
# - LightAVSeg: arXiv 2605.08805 (ICML 2026), Section 3. AVSBench: arXiv 2207.05042. AVSegFormer:
#   arXiv 2307.01146.
# - The bootstrap: Efron, *Bootstrap Methods: Another Look at the Jackknife*, Annals of Statistics
#   1979.
# - AUROC as a share of pairs: Hanley and McNeil, *The Meaning and Use of the Area under a ROC
#   Curve*, Radiology 1982.

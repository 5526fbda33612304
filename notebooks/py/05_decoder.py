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
# LightAVSeg's decoder works its way from a map of 2 x 2 cells to one of 32 x 32. At each scale it
# refines its audio state, adds it to the visual features and, says the paper, *progressively
# suppresses background*. Here you watch it, scale by scale, and then measure what you saw. How
# well does each scale know where the sound is? How much of the progress is knowledge, and how
# much is only resolution? And where does the model fail?
#
# **Afterwards you can**
# - draw what a decoder knows at each scale, and score it fairly: by contrast, by ranking, by IoU,
#   and by the IoU that the map's size allows;
# - say what the alignment loss $L_\text{msa}$, the gates and the decoder's bias do, each with a
#   measurement;
# - explain a mask by attribution, and check the explanation;
# - find failures by rule, and name the one that no training can cure: two objects with one sound.
#
# | | |
# |---|---|
# | Time on 2 cores | a minute or two (`profile = "smoke"`: half of it) |
# | To read | @minutes |
# | Memory | 2 GB |
# | You need | [notebook 2](02_model.ipynb) for the model; [notebook 3](03_training.ipynb) for $L_\text{msa}$ and the data |

# %% tags=["parameters"]
profile = "default"    # "smoke": the shortest run that touches everything
clips = 60             # test clips of 5 frames; at most 60, as many as section 5.5 has maps of
twins = 40             # clips with two objects of one timbre
out = None    # folder for what is written; None: the checkout, or your cache where it is read-only

# %%
from lightavseg_core import workbook

s = workbook.settings(globals(), clips=int, twins=int, out=str | None)
if not 12 <= s.clips <= 60 or s.twins < 8:
    raise ValueError(
        f"clips is {s.clips}, twins is {s.twins}; expected 12 to 60 clips, at least 8 twins"
    )
if s.profile == "smoke":
    s.clips = min(s.clips, 16)
    s.twins = min(s.twins, 12)
print(f"{s.clips} test clips, {s.twins} clips with twins")

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
    """Test clips of ms3: the same in each run and on each machine, never seen in training."""
    root = here.runs / f"{'twins' if kind else 'clips'}_{count}"
    lav.data.sounding_shapes.generate(root, "ms3", {"test": count}, size, seed=0, **kind)
    return lav.data.AVSBench(root, "ms3", "test", size, model.front_end)


test = test_clips(s.clips)
print(", ".join(f"{name} {value}" for name, value in workbook.card().items()))

# %% [markdown]
# The model is the small one that ships with the workbook. [Notebook 3](03_training.ipynb) trains
# the same architecture, for fewer steps.
#
# ## 5.1 One clip, five scales
#
# At each scale $i$ the decoder ([notebook 2](02_model.ipynb)) has a map of features,
# $V_i^\text{dec}$, and an audio state, the vector $\hat A_i$. Both have $D = 64$ channels. Their
# cosine, position by position, says how well each place *agrees* with the sound. Divided by
# $\tau = 0.1$ and passed through a sigmoid, it becomes a probability, which the loss
# $L_\text{msa}$ ([notebook 3](03_training.ipynb)) compares with the mask. The loss looks at the
# last three scales only.
#
# The clip is chosen by rule: the first in which something sounds in every second.
#
# > **Prediction.** In how many of the five maps will the sounding objects stand out, with a mean
# > probability at least 0.25 higher inside the true mask than outside?

# %%
workbook.guess("maps in which objects stand out", ...)     # of the five

# %%
def grids_of(similarity):
    """The scales' names, coarse to fine: "2 x 2" is a map of two rows and two columns."""
    return [f"{m.shape[-2]} x {m.shape[-1]}" for m in similarity]


found = scales.maps(model, test)       # for each clip: similarity of each scale, mask logits
truth = scales.truth(test)             # (clips, 5, 128, 128) bool
grids = grids_of(found.similarity)
clip = int(truth.flatten(2).any(2).all(1).nonzero()[0])


def row(maps, clip, second):
    """One second: frame, ground truth, the map of each scale, and the mask."""
    item = test[clip]
    frame, mask = item["frames"][second], item["mask"][second]
    seen = [scales.probability(m[clip, second]) for m in maps.similarity]
    seen.append(maps.logits[clip, second].sigmoid())
    return [images.picture(frame), plots.overlay(frame, mask, plots.GREEN), *seen]


columns = ["frame", "ground truth", *grids, "mask"]
rows = {f"second {t}": row(found, clip, t) for t in range(5)}
outlines = dict(zip(rows, truth[clip]))
title = "What each decoder scale knows: sigmoid(cosine / 0.1), and the mask"
figure = plots.scales.map_grid(rows, columns, title, truth=outlines)
figure.savefig(here.figures / "05_decoder.png", dpi=100, metadata={"Software": None})
workbook.show(
    figure,
    alt="Five seconds of a clip: frame, ground truth, the maps of five decoder scales from coarse "
    "to fine, and the mask. The two coarsest maps do not follow the objects, the three finer do.",
)

# %%
this = scales.Maps([m[clip, None] for m in found.similarity], found.logits[clip, None])
of_maps = scales.per_frame(this, truth[clip, None])[:-1]
contrasts = [float(score["contrast"].nanmean()) for score in of_maps]    # inside - outside
workbook.beside("maps in which objects stand out", sum(c >= 0.25 for c in contrasts))

# %% [markdown]
# The two coarse maps follow nothing that you could name. From 8 x 8 on the sounding objects light
# up, and the finer maps look like the same thing with more pixels. Pictures of one clip invite
# stories; section 5.4 measures all clips.
#
# ## 5.2 Features, before and after the sound is added
#
# A map of features has 64 channels. For a picture we take the three main *principal components*
# of all positions, and show them as red, green and blue: places of similar colour have similar
# features. At each scale, compare the map before and after the sound's bias is added:
# $V_i^\text{dec} = V_i^\text{before} + W_b \hat A_i$, where $W_b$ is a 1x1 convolution.
#
# Think: the bias is one vector, the same at every position. What can it do to the colours within
# a frame?

# %%
some = min(s.clips, 16)                                    # clips that we look into
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
    plots.scales.map_grid(rows, ["frame, ground truth", *grids], title),
    alt="A frame and its ground truth; beside them the features of five scales as colours, above "
    "before and below after the sound is added: outlines stay, a map's colours shift together.",
)

# %% [markdown]
# The colours of a map shift *together*: no edge appears, and none disappears. (At 4 x 4 you see
# no shift at all: as section 5.3 shows, almost nothing of the sound gets through there.)
# Adding one vector cannot separate places that were alike. It moves all features relative to
# zero. That changes which of them pass the next ReLU, and it changes the *cosine*. So we measure,
# over several clips, how well the map ranks pixels before and after the bias, and how much of the
# background is marked (cosine above 0, that is, probability above 0.5).
#
# For the ranking we use the **AUROC** (Hanley and McNeil, 1982). Of all pairs of a sounding pixel
# and another pixel, it is the share in which the sounding one has the higher value. 1 is perfect,
# 0.5 is chance, and no threshold is needed.
#
# ### Exercise 1: AUROC
#
# *5 minutes, easy.*
#
# `inside` and `outside` are two lists of values. Return the share of pairs in which the value
# from `inside` is higher; a pair of equal values counts one half.

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
        (([3, 2], [1, 0]), 4, "that is a number of pairs; what share of all pairs is it?"),
        (([0, 2], [1]), 0.0, "every value from inside meets every one from outside"),
    ],
)

# %%
if mine := workbook.yours("AUROC"):
    first, second = truth.flatten(2).any(2).nonzero()[0].tolist()      # something sounds in it
    values = own.logits[first, second, 0, ::8, ::8]                     # every eighth pixel
    sounding_there = truth[first, second, ::8, ::8]
    ranking = mine(values[sounding_there].tolist(), values[~sounding_there].tolist())
    print(f"clip {first}, second {second}: by your function, the mask's AUROC is {ranking:.3f}")

# %% [markdown]
# Now the maps of several clips, before and after the bias, with 95% intervals over clips (section
# 5.4 says how they are made).
#
# > **Prediction.** At 32 x 32, divide the value after the bias by the value before it. What is
# > this ratio for the AUROC, and for the share of background that is marked?

# %%
workbook.guess("after the bias / before it", {"AUROC": ..., "background marked": ...})

# %%
def scored(similarity):
    """Scores of the maps of the clips that we look into, a dict for each scale."""
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
a, b = scores_before[-1], scores_after[-1]
ratios = {}
for name, score in (("AUROC", "auroc"), ("background marked", "marked")):
    ratios[name] = float(b[score].nanmean() / a[score].nanmean())
workbook.beside("after the bias / before it", ratios)
workbook.table(["scale", *columns], rows)

# %% [markdown]
# Read the last three rows. The places are ranked well *before* the bias of this scale is added
# (the biases of the coarser scales are already in the map). The bias hardly changes the ranking.
# It moves the cosines against zero, and so less background is marked. Could the encoder
# alone rank the places, by adding the sound at each of its stages (AGVE,
# [notebook 2](02_model.ipynb))? Section 5.5 asks a model whose decoder adds no sound at all.
#
# ## 5.3 The audio state and its gates
#
# At each scale the audio state $A_i^*$ is multiplied by a gate between 0 and 1, which depends on
# what is *seen*: $\hat A_i = A_i^* \odot \mathrm{hsigmoid}(W_g \max V_i^\text{enc})$
# ([notebook 2](02_model.ipynb)). Here is the finest scale for five seconds of one clip, with its
# own sound, in silence, and with another clip's sound (*swapped*,
# [notebook 3](03_training.ipynb)). Each column is a channel.

# %%
finest = {name: trace.decoder[-1] for name, trace in traces.items()}
title = f"The audio state at {grids[-1]}: five seconds, heard three ways"
workbook.show(
    plots.scales.state_figure(finest, shown, title),
    alt="Three heat maps, channels across: the state before the gate, the gate, the state after. "
    "Rows are seconds with own sound, silence and swapped sound; most channels of the gate look "
    "alike in all rows.",
)

# %% [markdown]
# Silence does not empty the state at this scale: it fills other channels. And the gate differs
# much more from channel to channel than from second to second. Does it look at the picture at
# all?
#
# > **Prediction.** A gate that opens for what it sees must vary from frame to frame. In how many
# > of the ten gates (five in the encoder, five in the decoder) is the spread over frames at least half the spread over channels?

# %%
workbook.guess("gates that look", ...)                     # of the ten

# %%
def gates(trace):
    return [step.gate for step in (*trace.encoder, *trace.decoder)]


gate_names = [f"encoder {i}" for i, _ in enumerate(own.encoder, 1)]
gate_names += [f"decoder {grid}" for grid in grids]
rows, looking = [], []
for name, gate, quiet in zip(gate_names, gates(own), gates(traces["silence"])):
    values = gate.flatten(0, 1)                            # (frames, channels)
    shares = (values < 0.05).float().mean(), (values > 0.95).float().mean()
    spreads = values.std(0).mean(), values.mean(0).std(), (gate - quiet).abs().mean()
    looking.append(bool(spreads[0] >= spreads[1] / 2))
    cells = [f"{share:.0%}" for share in shares] + [f"{spread:.3f}" for spread in spreads]
    rows.append((name, *cells))
columns = ["closed (< 0.05)", "open (> 0.95)"]
columns += ["spread over frames", "over channels", "change in silence"]
workbook.beside("gates that look", sum(looking))
workbook.table(["gate", *columns], rows)

# %% [markdown]
# Most gates are nearly *fixed*: a channel is about as open in one frame as in another. One
# probable reason: on these data every frame holds a few of the same seven silhouettes, and at the
# early stages a maximum over the frame says little about them. A few gates have a large *spread over
# frames*. Do they look, or do they listen? The last column keeps the pictures and takes the sound
# away, and these gates change even more. (They are computed from features to which the sound has
# been added.) So a large spread alone does not show that a gate looks.
#
# ### Exercise 2: how much gets through?
#
# *3 minutes, easy.*
#
# `merged` ($A^*$) and `gate` are `(frames, channels)`. The energy of a state is the sum of its
# squares over all frames and channels. Which share of it does the gate let through?

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
        ((state, half), 0.5625, "an open gate lets nothing through where nothing arrives"),
        ((state, half), 0.25, "energy is a sum of squares"),
        ((state, half), 3 / 30, "the gate acts before the squaring, so it is squared too"),
        ((state, half), 15.0, "divide what comes out by what goes in"),
    ],
)

# %%
if mine := workbook.yours("what gets through"):
    for grid, step in zip(grids, own.decoder):
        gets_through = float(mine(step.merged.flatten(0, 1), step.gate.flatten(0, 1)))
        print(f"decoder {grid:7} lets {gets_through:.1%} of the energy through")

# %% [markdown]
# After all these steps, does the state still tell *which* sound it is? Compare seconds of
# different clips: pairs in which the same categories sound, and pairs in which different ones do.
# The cosine of the two states should be higher for the former. The AUROC says how reliably it is.

# %%
things = scales.marked_objects(found, test)        # each object in each second: sounds? marked?
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
print(f"{same} pairs of seconds with the same categories, {other} with different ones")

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
columns = ["state", "cosine, same sound", "different sound", "AUROC, same against different"]
workbook.table(columns, rows)

# %% [markdown]
# The frozen audio encoder tells sets of timbres apart almost perfectly. On the way down the visual
# encoder, whose gates bring in what is *seen*, the state loses some of that. Of the decoder's
# states before the gate, the one at 4 x 4, $A_4^*$, says least about the sound, and its gate then
# lets almost nothing through: in most seconds nothing is left of it. (A zero vector gets the
# cosine 0.) From there to the finest scale $A_i^*$ recovers, because each scale
# takes in the encoder's $A_i$ again. So the coarsest state is not a summary from which the finer
# ones are unfolded.
#
# ## 5.4 "Progressively suppresses background", in numbers
#
# Four scores for each scale, over all test clips:
#
# - **probability inside and outside** the ground truth. Background is suppressed where *outside*
#   is low. The difference of the two is the **contrast** (over the frames in which something
#   sounds; *outside* counts the other frames too);
# - **AUROC**: are sounding pixels ranked above the others?
# - **IoU** ([notebook 1](01_data.ipynb)) of the pixels with probability > 0.5 with the ground
#   truth;
# - the **ceiling** of this IoU. Average the ground truth down to the map's cells, resize it back,
#   and threshold it as well as possible: its IoU with the ground truth is about the best that a
#   map of this size can reach. A coarse map cannot follow an outline, however much it knows.
#
# The intervals are bootstrapped (Efron, 1979). Draw as many *clips* as there are, with
# replacement, and average; repeat this 2000 times. The middle 95% of the averages is the
# interval. We draw clips, not frames, because the five frames of a clip are alike.
#
# > **Prediction.** An object covers about 6% of the frame, and a cell of the 2 x 2 map 25%. What is
# > the ceiling at 2 x 2?

# %%
workbook.guess("ceiling at 2 x 2", ...)

# %%
scores = scales.per_frame(found, truth)
names = [*grids, "mask"]
points = {}
for score in scores[0]:
    points[score] = {name: scales.bootstrap(table[score]) for name, table in zip(names, scores)}
panels = {
    "probability": {"inside the ground truth": points["inside"], "outside": points["outside"]},
    "AUROC": {"map": points["auroc"]},
    "IoU": {"map": points["iou"], "ceiling": points["ceiling"]},
}
title = f"What each scale knows: {s.clips} test clips, 95% intervals over clips"
workbook.show(
    plots.scales.scale_curves(panels, names, title),
    alt="Three panels along the decoder's scales: probability inside and outside the ground truth, "
    "AUROC, IoU and its ceiling. The two coarse scales are near chance or below; from 8 x 8 on the "
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
workbook.beside("ceiling at 2 x 2", points["ceiling"][grids[0]].estimate)
workbook.table(["scale", *columns, "IoU / ceiling", "background marked"], rows)

# %% [markdown]
# Why is the ceiling at 2 x 2 so low? The best that such a map can do for one object well inside a
# cell is to mark the whole cell: $6 / 25 = 0.24$.
#
# Is each finer scale a step forward? Here are the differences of neighbouring scales, paired frame
# by frame, and what their intervals allow one to say:

# %% tags=["nbval-check-output"]
def verdict(gain):
    """What the 95% interval of a difference allows one to say."""
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
# So what remains of "progressively suppresses background"?
#
# - **Not from the start.** At 2 x 2 the map ranks pixels worse than a coin would, at 4 x 4 about
#   as well as one. (Between these two, background gets better and IoU worse: less is marked, of
#   the objects too.) No loss ever asked these scales for a mask, so nobody should expect one
#   there.
# - **In one jump.** At 8 x 8, the first scale that $L_\text{msa}$ looks at, the background goes
#   dark, and the ranking is nearly as good as it will get.
# - **Then a little at each step.** Where the lines above say "better", the background gets darker
#   and the ranking better from scale to scale. The steps are small, but their intervals exclude
#   zero.
# - **Much of what looks like progress is resolution.** Between the supervised scales IoU climbs,
#   and so does its ceiling. As a share of the ceiling it moves far less, and not always upwards.
# - **The mask is more than the last map.** After the last scale come a 3 x 3 block and a head,
#   trained for the mask itself.
#
# Does a scale that no loss looks at know nothing? So far only its *cosine* shows nothing. The next
# section asks a model in which no loss looks at any scale.
#
# ## 5.5 Switch off the loss, the gates, the decoder; ask other methods
#
# Six models were trained on 400 clips at 128 pixels for the same number of steps: LightAVSeg; the
# same without $L_\text{msa}$, without HAR (which refines the sound in the encoder), and without
# CMFD (which refines and adds it in the decoder; [notebook 2](02_model.ipynb)); and two other
# methods, AVSBench and AVSegFormer, each with its own losses. They had far less training than the
# model above, so their scores are lower.
#
# Their maps are the cosine between features and sound at the places where each model fuses the
# two: at four scales in AVSBench, at one in AVSegFormer. No loss asked these two for a mask at
# $\tau = 0.1$. So in the figure each map is stretched to its own range, and the score that
# compares maps is AUROC, which needs no threshold. IoU is taken at probability 0.5: where
# $L_\text{msa}$ was off, only the mask's IoU is fair. The frame is the first one of section 5.1,
# whether it suits a model or not. Each model was trained once: the intervals say what other
# *clips* would give, not what other trainings would.
#
# > **Prediction.** Without $L_\text{msa}$, what is the AUROC of the map at 32 x 32? And is the IoU
# > of the mask "better" than the full model's, "worse", or "undecided"?

# %%
workbook.guess("without L_msa", {"AUROC at 32 x 32": ..., "IoU of the mask": ...})

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
columns = ["frame", "ground truth", *names]
outlines = dict.fromkeys(rows, truth[clip, 0])
title = "One frame, six models trained on one budget (each map stretched to its own range)"
figure = plots.scales.map_grid(rows, columns, title, "low to high", outlines)
workbook.show(figure, alt="A row for each model: frame, ground truth, maps by scale, mask.")

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

# %%
bare = tables["without L_msa"]
gain = scales.bootstrap(bare["mask"]["iou"] - whole["mask"]["iou"])
ranking = float(bare[grids[-1]]["auroc"].nanmean())
measured = {"AUROC at 32 x 32": ranking, "IoU of the mask": verdict(gain)}
workbook.beside("without L_msa", measured)

# %% [markdown]
# What stands out is the model without $L_\text{msa}$. Its cosine maps are not blurred masks. They
# rank pixels *below* chance: sounding objects agree with the sound *less* than the background
# does. Yet its mask cannot be told from the full model's. A network may code "sounds" in any
# direction of its 64 channels, and the next layer reads it. Agreement with $\hat A$ is one such
# code; $L_\text{msa}$ asks for it, the other losses have no reason to. AVSegFormer's map is a
# negative too. AVSBench's maps rank better than chance, best in the middle. But all its cosines
# are positive, so a threshold at 0 marks every pixel, and the IoU of its maps stays flat.
#
# Without HAR, and without CMFD, where $\hat A$ is not even added, the supervised maps look as they
# do with them: it is the loss that makes them. So:
#
# - a similarity map shows what the *loss* made of the features. It is not the mechanism that finds
#   the mask;
# - a method whose maps look poor beside LightAVSeg's was trained for something else. A comparison
#   of maps, as in a figure of LightAVSeg's conference poster, is fair where the maps were trained
#   to be masks, and says little where they were not. Compare masks.
#
# One question of section 5.2 is open: can the encoder alone rank the places? The AUROC over pixels
# does not say. Most of its pairs are an object and the background, and these can be ranked without
# listening. So compare objects. Take all pairs of a sounding object and a silent one in the same
# second: in what share does the mask cover more of the sounding one? (Equal ones count half.) A
# model that does not listen scores one half.
#
# > **Prediction.** What will this share be for LightAVSeg, and what for the model without CMFD,
# > whose decoder adds no sound?

# %%
workbook.guess("sounding above silent", {"LightAVSeg": ..., "without CMFD": ...})

# %%
def objects_ranked(logits):
    """For each second, the AUROC of the share of each object that is marked: (clips, 5)."""
    by_second = {}
    for o in scales.marked_objects(scales.Maps([], logits), test):
        by_second.setdefault((o.clip, o.second), []).append((o.share, o.sounding))
    auroc = torch.full((s.clips, 5), torch.nan)            # NaN without a pair
    for (i, t), seen in by_second.items():
        shares, sounds = zip(*seen)
        auroc[i, t] = scales.auroc(torch.tensor([shares]), torch.tensor([sounds]))[0]
    return auroc


above = {label: objects_ranked(maps.logits[:s.clips]) for label, maps in kept.items()}
rows, means = [], {}
for label, values in above.items():
    share, gain = scales.bootstrap(values), scales.bootstrap(values - above["LightAVSeg"])
    means[label] = share.estimate
    cells = f"{share.estimate:.3f}", f"{share.low:.3f} to {share.high:.3f}"
    rows.append((label, *cells, f"{gain.low:+.3f} to {gain.high:+.3f}"))
measured = {label: means[label] for label in ("LightAVSeg", "without CMFD")}
workbook.beside("sounding above silent", measured)
workbook.table(["model", "sounding above silent", "95%", "minus LightAVSeg, 95%"], rows)

# %% [markdown]
# Without CMFD the interval lies above one half, and the difference from the full model is
# undecided. So yes: the sound that the encoder adds at its stages is enough to choose among
# objects, as far as this short training shows. (Over pixels its mask ranks a little worse.)
# AVSBench and AVSegFormer are at chance: after so few steps their masks do not choose the object
# that sounds. They may still hear *whether* anything sounds; this score cannot tell. Over pixels
# they rank far above chance all the same, so do not judge listening by that.
#
# ## 5.6 Failures, found by rule
#
# Back to the model of section 5.1. Rank the frames in which something sounds by the mask's IoU.
# Here are the three worst, the three in the middle, and the three best.

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
    alt="Nine frames with ground truth and marked pixels: three worst, three middle, three best.",
)

# %% [markdown]
# Is it the *outline* that fails, or the *choice* of objects? For each frame, ask whether the model
# marks exactly the objects that sound. (An object counts as marked if more than half of it is.)

# %%
right = torch.ones_like(iou, dtype=torch.bool)
for t in things:
    right[t.clip, t.second] &= (t.share > 0.5) == t.sounding
lost = 1 - iou
wrong = occupied & ~right
share = lost[wrong].sum() / lost[occupied].sum()
print(
    f"{int(occupied.sum())} frames with sound; a wrong set of objects in {int(wrong.sum())}, "
    f"which account for {share:.0%} of all the IoU that is lost"
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
    told = ", ".join(mistakes) or "the right objects, badly drawn"
    print(f"IoU {iou[i, t]:.2f}, {len(sounding[i, t])} sound: {told}")

# %% [markdown]
# Most of the lost IoU is lost in frames with the right objects: a few percent in each, at the
# outlines. The bad failures are few and of another kind: a wrong *choice*, and only where several
# objects sound at once. When a single object sounds, the choice is always right. Perhaps one
# timbre hides another; that is not tested here.
#
# ## 5.7 The limit of one vector
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
# Two twins cover `a` and `b` pixels, and the model outlines both perfectly. One of them sounds:
# with the probability `chance` it is the first, otherwise the second. Return two expected IoUs:
# if the model marks **both**, and if it always marks only **one**, the first.

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
        (often, (0.65, 0.85), "the first is marked, the second sounds: what do they share?"),
        (often, (0.8, 0.65), "first the model that marks both, then the one that marks one"),
    ],
)

# %% [markdown]
# With `chance = 0.5` both choices give one half, however large the twins are. Anything in between
# (one twin and a part of the other) is worse. With another `chance`, marking the likelier twin
# alone is better. But the model would have to know which one that is, and nothing in these clips
# says so. Now measure how much of each twin it marks.
#
# > **Prediction.** While one twin sounds, what share of it is marked, and what share of the silent
# > one? And what share of either, while neither sounds?

# %%
workbook.guess(
    "marked of the twins",
    {"sounding twin": ..., "silent twin": ..., "either, while neither sounds": ...},
)

# %%
pairs_of_twins = test_clips(s.twins, twins=True)
found_twins = scales.maps(model, pairs_of_twins)
marked = torch.full((2, s.twins, 5), torch.nan)      # of the sounding twin, of the silent one
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
title = f"Share of a twin that is marked ({s.twins} clips, 95% intervals over clips)"
workbook.show(
    plots.intervals(rows, title, "share of its visible pixels"),
    alt="Intervals of the share that is marked: of the sounding twin, of the silent one, their "
    "difference, and of both while neither sounds.",
)

# %%
for name, d in rows.items():
    print(f"{name:29} {d.estimate:+.2f} ({d.low:+.2f} to {d.high:+.2f})")
measured = {name: d.estimate for name, d in rows.items() if name != "difference"}
workbook.beside("marked of the twins", measured)
one, two = loud > 0.5
cases = {
    "both": one & two,
    "only the sounding one": one & ~two,
    "only the silent one": two & ~one,
    "neither": ~one & ~two,
}
counts = [f"{name} in {int(which[sounds].sum())}" for name, which in cases.items()]
print(f"of {int(sounds.sum())} seconds in which one sounds, the model marks", ", ".join(counts))

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
    alt="Six frames with twins of which one sounds, at equal steps through the clips: frame, "
    "ground truth, and what is marked.",
)

# %% [markdown]
# While neither sounds, neither is marked: the model *does* listen. While one sounds, mostly both
# are marked. Sometimes only one is, the right one or the wrong one; what decides, these clips do
# not say. The interval of the difference includes zero. So wide an interval does not prove that
# there is no difference; the argument does: nothing seen or heard tells which twin sounds. (No
# training clip held two objects of a kind, so nothing taught the model to mark both.) Stereo
# sound, or motion in time with the sound, could tell twins apart. A global vector of mono sound
# cannot, in LightAVSeg or in the other methods of section 5.5.

# %% [markdown]
# ## 5.8 Why? Attribution
#
# The mask says *what* the model decided, not *why*. Attribution traces the decision back to parts
# of the input: **which instants and bands of the log-mel ([notebook 1](01_data.ipynb)) switched
# these pixels on?** What is explained is one number, the *target*: the logits of one second,
# summed over the mask of an object.
#
# *Integrated Gradients* (Sundararajan et al., 2017) goes from silence to the sound in a straight
# line, $x(\alpha) = x_0 + \alpha (x - x_0)$, and adds up along the way what each bin contributes
# to the target $f$:
#
# $$\mathrm{IG}_i = (x_i - x_{0,i}) \int_0^1 \frac{\partial f}{\partial x_i}\bigl(x(\alpha)\bigr)\, d\alpha,
# \qquad \sum_i \mathrm{IG}_i = f(x) - f(x_0).$$
#
# The equation on the right is called *completeness*: the contributions add up to the whole change
# of the target. Two choices matter. The start $x_0$ is silence, $\log 0.01$ in each bin; a zero
# would be *loud*. And the integral is computed as a sum over points. A trained model switches an
# object on within a few hundredths of the path, so points are added where they are needed, until
# completeness holds within 1%.

# %%
duets = []                  # for each clip, the first second in which two objects sound
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
# Blue raises the logits of the mask, red lowers them. Both figures have the same frame and the
# same sound; only the mask differs (the smoke profile draws one figure). The attribution of *bins* changes sign from one to the next. So do not read
# single bins; look at which *bands* are coloured at all. Here they are largely the same for both
# objects. Whether each mask depends on its own object's sound, the eye cannot say; the second
# check below measures it.
#
# *Occlusion* (Zeiler and Fergus, 2014) asks more simply: what is lost when a patch of 80 ms by 8
# bands falls silent? It is coarse, is not complete, and need not agree with Integrated Gradients:
# a bin may matter only together with others.
#
# *Grad-CAM* (Selvaraju et al., 2017) looks at the frame instead. It takes the map that the head
# reads, and weights each channel by its mean gradient. This close to the output it shows all that
# is marked, whichever object is explained: it cannot say which one was asked about. At earlier
# layers, such as `layer=model.visual.stages[2]`, even the sign may be reversed, because one mean
# per channel is a rough summary of a gradient that differs from place to place. A picture that
# looks sensible is no proof.
#
# ### First check: random weights
#
# Integrated Gradients multiplies by $x - x_0$, so loud bins stand out whatever the model is. An
# attribution that looks the same with random weights explains the input, not the model (Adebayo
# et al., 2018). So the rank correlation of the two, over all bins, must be well below 1; we ask
# for less than 0.5.

# %%
fresh = attribution.randomised(model, seed=0)
blind = attribution.integrated_gradients(fresh, *scene, masks[0], steps=32, tolerance=float("inf"))
trained, random = why[0].values[second], blind.values[second]
sizes = attribution.rank_correlation(trained.abs(), random.abs())
signed = attribution.rank_correlation(trained, random)
print(f"rank correlation with random weights: {sizes:.2f} of the sizes, {signed:.2f} with signs")
assert sizes < 0.5

# %% [markdown]
# The sizes keep some correlation: both attributions are multiplied by the same loudness. The
# signs, which say *for* or *against*, keep none.
#
# ### Second check: a sound that is known
#
# SoundingShapes ([notebook 1](01_data.ipynb)) keeps each object's own track. So we know in which
# bins object A is louder than all else together, noise included: A's own bins. B is the other
# object that sounds.
#
# > **Prediction.** What share of the attribution for A's mask falls on A's own bins? And what share
# > of the attribution for B's mask falls on these same bins?

# %%
workbook.guess("share on A's own bins", {"explaining A's mask": ..., "explaining B's mask": ...})

# %%
count = 2 if s.profile == "smoke" else 6
options = {"steps": 32, "tolerance": 0.1}      # coarser than above, for speed
if s.profile == "smoke":
    options = {"steps": 16, "tolerance": 0.5}
controls = [attribution.positive_control(model, test, *place, **options) for place in duets[:count]]
on_its_own = {i: float(c.shares.diagonal().mean()) for i, c in enumerate(controls)}
against = {
    "the share of the area": [c.area for c in controls],
    "the share of the loudness": [c.loudness for c in controls],
    "the other object's attribution": [c.shares.flip(0).diagonal() for c in controls],
}
rows = {}
for name, values in against.items():
    other = {i: float(value.mean()) for i, value in enumerate(values)}
    mean, low, high = rows[name] = statistics.paired(on_its_own, other)[:3]
    print(f"{mean:+.3f} ({low:+.3f} to {high:+.3f}) above {name}")
title = f"Share of the attribution on the object's own sound ({len(controls)} clips), minus …"
figure = plots.intervals(rows, title, "difference")
workbook.show(
    figure,
    alt="Three differences with intervals: the attribution's share on the object's own sound "
    "minus the share of the area, of the loudness, and of the other object's attribution.",
)
measured = {
    "explaining A's mask": sum(on_its_own.values()) / len(controls),
    "explaining B's mask": sum(other.values()) / len(controls),     # the last of the three
}
workbook.beside("share on A's own bins", measured)

# %% [markdown]
# Why these three? If the mask of A depends on A's sound, its attribution should fall on A's bins:
# more than the bins' share of the area; more than their share of the loudness (the log-mel above
# silence, all that an attribution sees that knows no model); and more than the attribution for B's
# mask puts there. The last comparison is the sharpest: sound, bins and loudness are the same, only
# the question differs.
#
# The lines are 95% intervals over clips: the mean plus and minus a multiple of its standard error
# (Student's t; [notebook 7](07_methods.ipynb) computes one by hand). One that crosses zero would
# decide nothing, and six clips are few. They were chosen by rule: the first in which two objects sound at once.
#
# ### Exercise 4: Integrated Gradients of a toy
#
# *10 minutes, hard.*
#
# Here is a toy model of two bins: $f(x) = \max(0,\, x_1 + 2 x_2 - 1)$. Write its Integrated
# Gradients from `start` to `x`, two tensors of two numbers each. Use the midpoint rule with `steps`
# points: the mean gradient along the path, times $x - x_0$.

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
        ((one, zero), [1.0, 2.0], "that is the gradient at the end; along the path it changes"),
        ((one, zero), [0.0, 0.0], "at the start the model is flat; further along it is not"),
        ((other, one), [1.0, 2.0], "multiply the mean gradient by the distance, x - start"),
        ((other, one), [3.0, 2.0], "the distance is x - start, not x"),
        ((other, one), [1.6, 0.0], "the path leads from start to x, not from zero"),
    ],
)

# %% [markdown]
# ## 5.9 The mixing desk
#
# Of a generated clip we know each object's own track; the sound on disk is their sum plus a noise
# floor. On the desk each of these has a switch and a volume. You can add white noise (volume 1: as
# loud as the clip) and another clip's sound. Picture, maps and audio state follow, and you can
# hear the mix. The ground truth, in green, is what sounds *in the mix*. If a mix would overload,
# all of it is turned down.
#
# The clip and the second are those of section 5.8. First the experiment in code, which moves the
# desk's controls as you would; then the desk.
#
# > **Prediction.** Two objects sound, and you silence one of them. What share of its pixels stays
# > marked, and what share of the other's?

# %%
workbook.guess("one object silenced", {"the silenced one": ..., "the other one": ...})

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
    """For each of the two that sound, the share of its pixels that is marked."""
    mask = desk.seen.mask
    return [float(mask[desk.sources[i].masks[desk_second]].float().mean()) for i in loud]


silenced = desk.strips[loud[0]]
rows, at_volume = [], {}
for volume in (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.0, 1.0):
    silenced.gain.value = volume
    at_volume[volume] = marked()
    rows.append((f"{volume:.2f}", *(f"{share:.0%}" for share in at_volume[volume])))
names = [desk.sources[i].label for i in loud]
measured = dict(zip(("the silenced one", "the other one"), at_volume[0.0]))
workbook.beside("one object silenced", measured)
workbook.table([f"volume of {names[0]}", *(f"{name}: marked" for name in names)], rows)

# %% [markdown]
# The object that fades keeps its pixels at a fifth of its volume, and has none at a tenth. The fader
# moves smoothly, the mask does not: to this model a thing is heard or it is not. The other object
# keeps its own pixels. The last row repeats the first: the model remembers nothing.
#
# Now you. **Try:**
#
# 1. Switch off all objects, and then the noise floor too. Is anything marked?
# 2. Only white noise (in the grid of pictures *only noise*, at volume 1). What does the model take it for? (Two of the seven timbres are bands of
#    noise.)
# 3. Only another clip's sound (the *donor's*): once from a clip in which a category sounds that is
#    visible here, and once from one in which no such category sounds.
# 4. Fade an object slowly and watch the maps: at which scale does it vanish first?
# 5. Let time play, with one object silenced.
# 6. Choose one of the four *challenges* and win its points.
#
# Below the maps each bar is a channel of $\hat A_i$. Its height is $|\hat A_i|$, relative to the
# largest value in this clip. Where no widget can run, as on GitHub, you see a grid of mixes
# instead. `make live` opens the same desk as a page for any browser
# ([the live page](../docs/live.md)).

# %%
desk

# %% [markdown]
# How fast does the desk answer? A model that looks at each frame by itself is run on the shown
# second only. The next cell changes switches, volumes and second at random, through the same code
# as your own changes:

# %%
changes = 20 if s.profile == "smoke" else 100
times = lav.widgets.response_times(desk, changes=changes)
print(
    f"measured, CPU, threads: {torch.get_num_threads()}: "
    f"median {times.median:.0f} ms, 95th percentile {times.p95:.0f} ms"
)

# %% [markdown]
# The same clip step by step: the slider moves through the decoder, from coarse to fine, and ends
# with the mask.

# %%
lav.widgets.DecoderStepper(model, test[desk_clip], desk_second)

# %%
workbook.took(1.5)

# %% [markdown]
# ## Three things to remember
#
# 1. A cosine map shows how well features and sound agree. It looks like a mask only where
#    $L_\text{msa}$ trained it to; without this loss the maps fail, while the mask was
#    not shown to be worse.
# 2. "Progressively suppresses background" is, here, one jump at the first supervised scale and
#    small steps after it. Much of the rise in IoU is resolution.
# 3. Audio tells what, vision tells where. One vector of sound has no places. Where nothing *seen*
#    tells which of two objects with one timbre sounds, as in these clips, training cannot help.
#
# **What this can and cannot say about AVSBench.** A small model on clean silhouettes shows *how*
# the mechanism works and what a map means. It cannot say how large each effect is on real clips,
# with pretrained encoders and objects of a thousand shapes.
#
# ## Try next
#
# - Set `twins = 160` in the parameters cell. How much narrower does the interval of the difference
#   in section 5.7 become, and does it still include zero?
# - Does one timbre hide another? Section 5.6 does not test it. Count, for each pair of categories,
#   how often one is missed while the other sounds too.
# - [Notebook 6](06_dissipation.ipynb) asks what attention can do when the sound is its only key.
#
# ## References
#
# - LightAVSeg: arXiv 2605.08805 (ICML 2026), Section 3. AVSBench: arXiv 2207.05042. AVSegFormer:
#   arXiv 2307.01146.
# - AUROC as a share of pairs: Hanley and McNeil, *The Meaning and Use of the Area under a ROC
#   Curve*, Radiology 1982.
# - Bootstrap: Efron, *Bootstrap Methods: Another Look at the Jackknife*, Annals of Statistics 1979.
# - Integrated Gradients: Sundararajan et al., ICML 2017, arXiv 1703.01365. Occlusion: Zeiler and
#   Fergus, ECCV 2014, arXiv 1311.2901. Grad-CAM: Selvaraju et al., ICCV 2017, arXiv 1610.02391.
# - Sanity checks: Adebayo et al., *Sanity Checks for Saliency Maps*, NeurIPS 2018, arXiv
#   1810.03292.

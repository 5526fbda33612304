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
# # 3. Training: does it listen?
#
# You train LightAVSeg from random weights on this machine, watch it learn to mark the objects
# that *sound*, and then put the question that decides whether it is audio-visual at all: **does
# it listen?**
#
# **Afterwards you can**
# - say what each part of the loss asks for, and write the Dice loss yourself;
# - train a model and read its curves;
# - test whether a model listens: give it silence, noise or another clip's sound, and compare it
#   with a *deaf* one.
#
# | | |
# |---|---|
# | Time on 2 cores | 7 minutes, of which training takes 6; on a slow day 9 and 8 (`profile = "smoke"`: under a minute, with a model that has learnt nothing) |
# | Memory | 3 GB |
# | You need | Python and a little PyTorch; nothing of audio |

# %% tags=["parameters"]
profile = "default"    # "smoke": the shortest run that touches everything
method = "lightavseg"
preset = "tiny"        # 2.6 million parameters; "lean" and "paper" want a GPU
subset = "ms3"         # several sounding objects; "s4": one
clips = 1600           # for training; 80 for validation and for test, a fifth of it if that is less
epochs = 7
seed = 0
out = None    # folder for what is written; None: the checkout, or your cache where it is read-only

# %%
from lightavseg_core import workbook

s = workbook.settings(
    globals(), method=str, preset=str, subset=str, clips=int, epochs=int, seed=int, out=str | None
)
if s.profile == "smoke":
    s.clips, s.epochs = min(s.clips, 16), 1
what = f"{s.method}, preset {s.preset}, {s.clips} clips of {s.subset}, {s.epochs} epochs"
what += f", seed {s.seed}"
print(what)

# %%
import json
import os
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from IPython.display import Audio

import lightavseg_core as lav
from lightavseg_core import evaluation, plots
from lightavseg_core.data.layout import read_events
from lightavseg_core.plots.common import BLUE, GREY

if s.subset not in ("ms3", "s4"):
    raise ValueError(f"subset is {s.subset!r}; this notebook scores binary masks: 'ms3' or 's4'")
size = 64 if s.profile == "smoke" else lav.create_model(s.method, preset=s.preset).config.size
held_out = min(max(s.clips // 5, 4), 80)
here = workbook.places("03_training", s.out)
root = here.runs / f"data_{s.subset}_{s.clips}_{size}_{s.seed}"
machine = workbook.card()
print(", ".join(f"{name} {value}" for name, value in machine.items()))

# %% [markdown]
# ## 3.1 Data whose truth we know
#
# The real dataset, AVSBench, is given out on request. We generate **SoundingShapes** in its
# exact layout: silhouettes that move about, each category with a timbre of its own. Colour,
# size, place and background say nothing about the category, and *most objects in view are
# silent most of the time*. That last point matters: where the one thing in view always sounds,
# a model scores well with its ears shut.

# %%
started = time.perf_counter()
clips = {"train": s.clips, "val": held_out, "test": held_out}
lav.data.sounding_shapes.generate(root, s.subset, clips, size, s.seed)
train, validation, test = (lav.data.AVSBench(root, s.subset, split, size) for split in clips)
made_in = time.perf_counter() - started
print(f"{len(train)} + {len(validation)} + {len(test)} clips in {made_in:.0f} s")

# %%
example = train[0]
workbook.show(
    plots.clip_figure(example),
    alt="Five frames of a clip; below each, in green, the objects that sound; "
    "below that the log-mel spectrogram of the second that the frame hears.",
)
Audio(train.waveform(0).numpy(), rate=train.front_end.sample_rate)

# %% [markdown]
# Listen, and look at the middle row: objects light up and go dark second by second although all
# of them stay in view. The lower row is all that the model hears: for each frame a *log-mel
# spectrogram* of 0.96 s, 96 instants by 64 bands.
#
# ### Predict, then measure: what is darkness worth?
#
# $M_J$ is the mean over frames of IoU, the overlap of prediction and truth over their union. A
# frame in which *nothing* sounds scores the share of pixels that are left dark. So a model that
# never marks anything still earns 1 on every silent frame. Each of 2, 3 or 4 visible objects
# (equally likely) sounds in a second with probability 0.4, independently. **Prediction:** all
# are silent in $\frac{1}{3}(0.6^2 + 0.6^3 + 0.6^4) = 0.235$ of the frames.

# %%
def silent_share(dataset):
    """Of each clip the share of annotated frames in which nothing sounds, (clips,)."""
    shares = []
    for item in (dataset[i] for i in range(len(dataset))):
        annotated = item["mask"][item["annotated"]]                # (T, H, W)
        shares.append((annotated.flatten(1).sum(1) == 0).float().mean())
    return torch.stack(shares)


measured = silent_share(train)
predicted_dark = 0.0    # in s4 one object sounds all the time
if s.subset == "ms3":
    predicted_dark = sum(0.6**n for n in (2, 3, 4)) / 3
error = float(measured.std()) / len(measured) ** 0.5
print(f"silent frames of {len(train)} training clips: predicted {predicted_dark:.3f}, "
      f"measured {measured.mean():.3f} with a standard error of {error:.3f}")
assert abs(measured.mean() - predicted_dark) <= 4 * error
always_dark = float(silent_share(test).mean())
print(f"so what is always dark scores M_J {always_dark:.3f} on the test clips")

# %% [markdown]
# Keep that number: it is what a black picture earns, and nobody should be proud of it.
#
# ## 3.2 What the loss asks for
#
# $$L = L_\text{Dice} + L_\text{BCE} + \lambda\, L_\text{msa}, \qquad \lambda = 0.5$$
#
# - **BCE** asks of each pixel: sounding or not? Objects are small, so a lazy model gets far by
#   saying "no" everywhere.
# - **Dice** asks of each frame for overlap, $1 - \frac{2\sum pm + 1}{\sum p + \sum m + 1}$, and
#   so does not let small objects drown in background.
# - **The multi-scale alignment loss** $L_\text{msa}$ looks *inside* the decoder: at each of the
#   last three scales, the cosine similarity of every position's features with the audio state,
#   divided by $\tau = 0.1$ and squashed by a sigmoid, should already be the mask. It exists in
#   training only.
#
# ### Exercise 1: the Dice loss
#
# *5 minutes, medium.*
#
# `probability` and `mask` are `(N, H, W)`, 0 to 1. Return the mean over the N frames. What does
# a frame score that is dark and should be?

# %% tags=["exercise"]
def dice(probability, mask):
    # solution
    overlap = (probability * mask).sum((-2, -1))
    total = probability.sum((-2, -1)) + mask.sum((-2, -1))
    return (1 - (2 * overlap + 1) / (total + 1)).mean()
    # wrong: no + 1
    overlap = (probability * mask).sum((-2, -1))
    total = probability.sum((-2, -1)) + mask.sum((-2, -1))
    return (1 - 2 * overlap / total).mean()
    # wrong: the + 1 below the line only
    overlap = (probability * mask).sum((-2, -1))
    total = probability.sum((-2, -1)) + mask.sum((-2, -1))
    return (1 - 2 * overlap / (total + 1)).mean()
    # wrong: the 2 is forgotten
    overlap = (probability * mask).sum((-2, -1))
    total = probability.sum((-2, -1)) + mask.sum((-2, -1))
    return (1 - (overlap + 1) / (total + 1)).mean()
    # wrong: one sum over all frames
    overlap = (probability * mask).sum()
    total = probability.sum() + mask.sum()
    return 1 - (2 * overlap + 1) / (total + 1)
    # wrong: the coefficient, not the loss
    overlap = (probability * mask).sum((-2, -1))
    total = probability.sum((-2, -1)) + mask.sum((-2, -1))
    return ((2 * overlap + 1) / (total + 1)).mean()
    # end solution

# %% tags=["check"]
square = torch.zeros(1, 4, 4)
square[:, :2, :2] = 1
dark = torch.zeros(1, 4, 4)
right_and_wrong, twice = torch.cat([square, 1 - square]), torch.cat([square, square])
workbook.check(
    "Dice loss",
    dice,
    hint="sum over height and width, and mind the + 1 above and below the line",
    cases=[
        ((square, square), 0.0),
        ((dark, dark), 0.0),
        ((1 - square, square), 1 - 1 / 17),
        ((right_and_wrong, twice), (1 - 1 / 17) / 2),
    ],
    mistakes=[
        ((dark, dark), torch.nan, "0 / 0 for a dark frame: what are the two + 1 for?"),
        ((square, square), 1 / 9, "a perfect mask must cost 0: the + 1 stands above the line, too"),
        ((square, square), 4 / 9, "a perfect mask must cost 0: the overlap counts twice"),
        ((right_and_wrong, twice), 0.64, "each frame has a loss of its own; the mean comes last"),
        ((square, square), 1.0, "that is the coefficient; the loss is 1 minus it"),
    ],
)

# %% [markdown]
# ## 3.3 The model and one step of training
#
# The loop in `lightavseg_core/trainer.py` does what `one_step` does, and besides mirrors clips
# at random, limits the gradient and lets the learning rate rise and fall. The audio encoder is
# trained first, alone, to tell which timbres a second holds (`events.csv` says so; the real MS3
# has no such file, and there the encoder learns along), and then frozen, as in the paper. Here
# is a step by hand, ten times on one batch:

# %%
def untrained():
    """The same model each time."""
    torch.manual_seed(s.seed)
    return lav.create_model(s.method, preset=s.preset, size=size, num_classes=train.num_classes)


model = untrained()
millions = {}
for name, part in model.named_children():
    millions[name] = sum(p.numel() for p in part.parameters()) / 1e6
by_part = ", ".join(f"{name} {n:.2f}" for name, n in millions.items())
print(f"{sum(millions.values()):.2f} M parameters: {by_part}")

rehearsal = lav.create_model(s.method, preset=s.preset, size=size, num_classes=train.num_classes)
rehearsal.train()
optimizer = torch.optim.AdamW(rehearsal.parameters(), lr=1e-3)
batch = lav.data.collate([train[i] for i in range(2)])


def one_step():
    output = rehearsal(batch["frames"], batch["log_mel"])
    loss, parts = lav.losses.total_loss(output, batch["mask"], batch["annotated"])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


losses = [one_step() for _ in range(10)]
print("loss, step by step:", " ".join(f"{loss:.2f}" for loss in losses))
assert losses[-1] < losses[0]

# %% [markdown]
# ## 3.4 Training
#
# Now in earnest. The bar shows the loss, and after each validation the $M_J$ on clips that the
# model does not learn from.
#
# Six minutes of two cores are not much, so what a minute teaches counts:
# - **Small frames first.** In two of seven epochs frames have half their sides, 64 pixels for
#   128, in three more three quarters. What sounds, and roughly where, shows at that size too; edges
#   are learned at the end. (*Progressive resizing.*)
# - **Many clips, each seen seldom.** 1,600 clips seven times, not 400 clips twenty times.
# - **A high rate**, 8e-3 at its peak: where steps are few each must lead far. Batches have 8
#   clips: every step has hundreds of small operations, whose fixed cost is then paid half as
#   often as with 4.
# - **The frozen encoder hears each clip once.** Its vectors do not change, so they are kept.
#
# Stopped, even killed, the cell goes on from the last epoch's end when it is run again.

# %%
model = untrained()    # anew, also where this cell runs again
run = here.runs / f"{s.method}_{s.preset}_{s.subset}_{s.clips}x{s.epochs}_{s.seed}"
config = lav.TrainConfig(epochs=s.epochs, seed=s.seed)
if s.profile == "smoke":
    config.audio_epochs = 1
trainer = lav.Trainer(model, config, run)
trainer.fit(train, validation, resume=True)    # stopped, it goes on where it was
training_seconds = trainer.log[-1]["seconds"]

# %%
tagging = [entry for entry in trainer.log if entry["event"] == "tagging"]
if tagging:
    share = tagging[0]["sets_right"]
    print(f"audio alone: in {share:.0%} of unseen seconds it names just what sounds")
workbook.show(
    plots.training_curves(trainer.log),
    alt="Left: the loss and its parts by step. Right: validation M_J by epoch.",
)

# %% [markdown]
# What does a minute teach? The broken line is the recipe that this notebook had before, with
# the same model: 400 clips twenty times, all frames 128 px, batches of 4, 2e-3 at the peak. It
# was measured on another day, and machines are not equally fast every day. The first minute goes
# to the audio encoder; while frames are small, validation, at 128 px, does not show what is
# learned yet.

# %%
before = json.loads((here.root / "results/minutes.json").read_text())
validated = [entry for entry in trainer.log if entry["event"] == "validation"]
figure, axis = plt.subplots(figsize=(5.5, 3), layout="constrained")
axis.plot(before["minutes"], before["M_J"], "o--", color=GREY, label="before")
minutes = [entry["seconds"] / 60 for entry in validated]
axis.plot(minutes, [entry["M_J"] for entry in validated], "o-", color=BLUE, label="this training")
axis.set(xlabel="minutes, audio pretraining included", ylabel="$M_J$ on validation", ylim=(0, 1))
axis.set_xlim(left=0)
axis.legend(loc="lower right", frameon=False)
workbook.show(
    figure,
    alt="Validation M_J against minutes: the recipe of before, and this training.",
)

# %% [markdown]
# ## 3.5 How good is it?
#
# The test clips were never learned from. The *deaf oracle* is a cheat with perfect eyes and no
# ears: it marks every visible object, exactly. To beat it a model must know *which* of them
# sound, and when.

# %%
oracle = lav.deaf_oracle(test)
sounds = {"own sound": "normal", "swapped sound": "swapped", "noise": "noise", "silence": "silent"}
scores = {sound: lav.evaluate(model, test, sound) for sound in sounds.values()}
measured = {name: scores[sound] for name, sound in sounds.items()} | {"deaf oracle": oracle}
rows = []
for name, found in measured.items():
    share = f"{found['foreground_share']:.2%}"
    rows.append((name, f"{found['M_J']:.3f}", f"{found['M_F']:.3f}", share))
rows.append(("always dark", f"{always_dark:.3f}", 0, 0))
workbook.table(["test clips, measured", "$M_J$", "$M_F$", "pixels marked"], rows)

# %% [markdown]
# Frames by rule, not by taste: the test frames in which something sounds, sorted by IoU, and
# five of them at equal steps from the worst to the best.

# %%
ranked = evaluation.ranked_frames(model, test)
chosen = [ranked[round(k * (len(ranked) - 1) / 4)] for k in range(5)]
silence = test.with_sound("silent")
columns = []
for _, i, t in chosen:
    marked = {
        "own sound": evaluation.predict(model, test[i])[t],
        "silence": evaluation.predict(model, silence[i])[t],
    }
    columns.append((test[i]["frames"][t], test[i]["mask"][t], marked))
figure = plots.prediction_grid(columns, [f"IoU {iou:.2f}" for iou, _, _ in chosen])
figure.savefig(run / "predictions.png", dpi=110, bbox_inches="tight")
workbook.show(
    figure,
    alt="Five test frames from the worst to the best: the frame, the truth, the prediction with "
    "its own sound, and the prediction with silence.",
)

# %% [markdown]
# ## 3.6 Does it listen?
#
# Four listening tests on one model:
#
# - **silence**: it should go dark. Look at *pixels marked*, not at $M_J$: darkness scores 1 on
#   silent frames.
# - **swapped sound**: another clip's sound over these frames. A listening model follows the
#   wrong sound and falls below the oracle.
# - **noise**: white noise, as loud as the clip. Two of the timbres are bands of noise, so it
#   need not stay dark.
# - **twins**: the same model, trained otherwise. The *deaf twin* had the data and the budget of
#   the listening model beside it in the table, but heard only silence. The *salience twin* was
#   trained on clips where the one object in view always sounds, as in most of AVSBench's
#   single-source set.
#
# First the verdict on the model that you just trained:

# %%
dark_share = scores["silent"]["foreground_share"]
claims = {
    "beats perfect eyes without ears (deaf oracle)": scores["normal"]["M_J"] > oracle["M_J"],
    "falls below them with swapped sound": scores["swapped"]["M_J"] < oracle["M_J"],
    "goes dark in silence (under 0.5% of pixels)": dark_share < 0.005,
}
verdicts = "\n".join(f"{'yes' if holds else 'NO '}  {claim}" for claim, holds in claims.items())
print(verdicts)

# %% [markdown]
# Training the twins takes as long as training a model, so they are read from
# `results/twins.json`, with a listening model of their budget: yours again, but for rounding, as it
# had another number of threads. Look at the deaf twin in silence, as it was trained: hearing for the
# first time would only confuse it.

# %%
twins = json.loads((here.root / "results/twins.json").read_text())
device = twins["machine"]["device"]
print(f"{twins['command']}, {twins['date']}, commit {twins['commit']}, {device}")
labels = {"listening": "the listening model", "deaf": "deaf twin", "salience": "salience twin"}
rows = []
for name, label in labels.items():
    found = twins["models"][name]["ms3"]
    each = [f"{found[sound]['M_J']:.3f}" for sound in ("normal", "swapped", "silent")]
    rows.append((label, *each, f"{found['silent']['foreground_share']:.2%}"))
first = f"$M_J$, {twins['clips']['train']} clips of ms3"
workbook.table([first, "own sound", "swapped", "silence", "pixels marked in silence"], rows)

# %%
alone = twins["models"]["salience"]["alone"]
print(f"the salience twin on its own kind of clip, one object that always sounds: "
      f"M_J {alone['normal']['M_J']:.3f}, with swapped sound {alone['swapped']['M_J']:.3f}")
of_twins = {"deaf twin, in silence": twins["models"]["deaf"]["ms3"]["silent"]["M_J"],
            "salience twin": twins["models"]["salience"]["ms3"]["normal"]["M_J"]}
comparable = (s.subset, s.clips, s.preset) == ("ms3", twins["clips"]["train"], "tiny")
comparison = {
    "this model": scores["normal"]["M_J"],
    "deaf oracle": oracle["M_J"],
    **(of_twins if comparable else {}),
    "this model, swapped": scores["swapped"]["M_J"],
    "always dark": always_dark,
}
title = "Who listens? Test clips with silent objects in view"
workbook.show(
    plots.bars(comparison, title, "$M_J$", {"this model": plots.ORANGE}),
    alt="Bars of M_J: this model, the deaf oracle, the twins where they had as many clips, this "
    "model with swapped sound, always dark.",
)

# %% [markdown]
# **Read the salience twin with care.** On its own kind of clip it looks excellent, and stays so
# with the *wrong* sound: it has learnt "mark what stands out", for which ears are not needed. A
# high score on single-source clips is no evidence of listening. Distractors that are seen and
# not heard, and the swapped-sound test, are.
#
# ### Exercise 2: the share of hearing
#
# *4 minutes, easy.*
#
# One number for "how much does it listen": of the way from the swapped score up to the score
# with its own sound, what share lies beyond what eyes alone could reach? Return `(own - oracle)
# / (own - swapped)`, and 0 where the model does not beat the oracle. Mind a model that is
# stone-deaf, as the oracle is: its scores with its own and with swapped sound are equal.

# %% tags=["exercise"]
def share_of_hearing(own, swapped, oracle):
    # solution
    return (own - oracle) / (own - swapped) if own > max(oracle, swapped) else 0.0
    # wrong: nobody asks whether it beats the oracle
    return (own - oracle) / (own - swapped)
    # wrong: a deaf model divides by zero
    return (own - oracle) / (own - swapped) if own > oracle else 0.0
    # wrong: upside down
    return (own - swapped) / (own - oracle) if own > max(oracle, swapped) else 0.0
    # wrong: a share of the score
    return (own - oracle) / own if own > max(oracle, swapped) else 0.0
    # end solution

# %% tags=["check"]
workbook.check(
    "share of hearing",
    share_of_hearing,
    hint="first ask whether it beats the oracle at all",
    cases=[
        ((0.8, 0.4, 0.6), 0.5),
        ((0.5, 0.4, 0.6), 0.0),
        ((0.9, 0.3, 0.3), 1.0),
        ((0.5, 0.5, 0.6), 0.0),
        ((0.7, 0.7, 0.6), 0.0),
    ],
    mistakes=[
        ((0.5, 0.4, 0.6), -1.0, "a model that does not beat the oracle has a share of 0, not less"),
        ((0.7, 0.7, 0.6), ZeroDivisionError, "a deaf model: own and swapped are equal, 0 / 0"),
        ((0.8, 0.4, 0.6), 2.0, "a share is at most 1: what lies beyond the oracle, over the whole"),
        ((0.8, 0.4, 0.6), 0.25, "divide by the way from the swapped score up, not by the score"),
    ],
)

# %%
if mine := workbook.yours("share of hearing"):
    share = mine(scores["normal"]["M_J"], scores["swapped"]["M_J"], oracle["M_J"])
    print(f"of what the wrong sound costs it, {share:.0%} lies beyond what eyes alone reach")

# %% [markdown]
# ### Exercise 3: which frames does swapping spare?
#
# *4 minutes, easy.*
#
# With swapped sound some frames still score well. Which? `iou` and `same` are lists over the
# test frames: the IoU with swapped sound, and whether the donor's second happens to hold
# exactly the same categories. Return the mean IoU of the frames where it does, and of the
# others.

# %%
events, swapped = read_events(root, s.subset), test.with_sound("swapped")


def sounding(index, second):
    return {category for t, category in events.get(test.clips[index].name, []) if t == second}


iou, same = [], []
for i in range(len(test)):
    marked = evaluation.frame_iou(evaluation.predict(model, swapped[i]), test[i]["mask"])
    iou += marked.tolist()
    same += [sounding(i, t) == sounding(swapped.donor(i), t) for t in range(len(marked))]
print(f"{len(iou)} frames; in {sum(same)} the donor's second holds the same categories")

# %% tags=["exercise"]
def spared(iou, same):
    # solution
    yes = [x for x, y in zip(iou, same) if y]
    no = [x for x, y in zip(iou, same) if not y]
    return sum(yes) / len(yes), sum(no) / len(no)
    # wrong: the other way round
    yes = [x for x, y in zip(iou, same) if y]
    no = [x for x, y in zip(iou, same) if not y]
    return sum(no) / len(no), sum(yes) / len(yes)
    # wrong: divided by all frames
    yes = [x for x, y in zip(iou, same) if y]
    no = [x for x, y in zip(iou, same) if not y]
    return sum(yes) / len(iou), sum(no) / len(iou)
    # wrong: sums
    yes = [x for x, y in zip(iou, same) if y]
    no = [x for x, y in zip(iou, same) if not y]
    return sum(yes), sum(no)
    # end solution

# %% tags=["check"]
four = [1.0, 0.2, 0.8, 0.0], [True, False, True, False]
workbook.check(
    "spared frames",
    spared,
    hint="two lists, two means",
    cases=[(four, (0.9, 0.1)), (([0.6, 0.3, 0.0], [True, False, False]), (0.6, 0.15))],
    mistakes=[
        (four, (0.1, 0.9), "first the frames with the same categories, then the others"),
        (four, (0.45, 0.05), "each mean has its own number of frames"),
        (four, (1.8, 0.2), "these are sums; divide each by its number of frames"),
    ],
)

# %%
mine = workbook.yours("spared frames")
if mine and 0 < sum(same) < len(same):
    with_same, with_other = mine(iou, same)
    print(f"mean IoU {with_same:.3f} where the donor's second holds the same categories, "
          f"{with_other:.3f} where it holds others")

# %% [markdown]
# ## Result

# %% tags=["result", "nbval-check-output"]
told = Path(os.path.relpath(run, here.root))
result = {"scores": scores, "deaf_oracle": oracle, "always_dark": always_dark}
workbook.record(run / "scores.json", what, s.seed, **result, seconds=training_seconds)
print(f"""{what}
measured on {machine['device']}, {machine['threads']} threads, torch {machine['torch']}
training (audio pretraining included)  {training_seconds:.0f} s
M_J on {len(test):3} unseen clips                {scores['normal']['M_J']:.3f}
M_F                                    {scores['normal']['M_F']:.3f}
M_J with swapped sound                 {scores['swapped']['M_J']:.3f}
M_J of the deaf oracle                 {oracle['M_J']:.3f}
pixels marked with silent sound        {scores['silent']['foreground_share']:.3%}
figure                                 {told / 'predictions.png'}
trained model                          {told / 'last'}

Does it listen?
{verdicts}""")

# %% [markdown]
# ## Summary
#
# - A small model learns in minutes to mark what sounds. The proof that it listens is the
#   verdict above: it must beat perfect eyes without ears, fall with the wrong sound, and go
#   dark in silence.
# - Dice keeps small objects from drowning, BCE judges pixels, $L_\text{msa}$ makes features
#   agree with the audio state at the last three scales.
# - A score proves listening only where silent distractors are in view, and only beside swapped
#   sound and a deaf twin.
#
# **What this can and cannot say about AVSBench.** Seven clean timbres and flat silhouettes show
# the *mechanism* at work; they say nothing about how well it recognises real dogs, guitars or
# engines, and $M_J$ here must not be compared with published figures.
#
# **Next.** Change `subset = "s4"`, `clips` or `epochs` in the parameters cell and run again.
# The model that the workbook ships, `checkpoints/tiny`, is this one after 2,000 clips and 3.6
# times the steps: $M_J$ 0.96 on the same test clips.
#
# ## References
#
# - LightAVSeg: arXiv 2605.08805 (ICML 2026). AVSBench and its metrics: Zhou et al.,
#   *Audio-Visual Segmentation*, ECCV 2022, arXiv 2207.05042.
# - SeaFormer: Wan et al., ICLR 2023, arXiv 2301.13156. MobileNetV2: Sandler et al., CVPR 2018.

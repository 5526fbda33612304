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
# # 9. When the world is real: another dog, another bark
#
# The model in `checkpoints/photos` hears a bark, and marks the dog. It was trained on clips of 41
# categories. Of the dog it knows one photograph and one recording. What did it learn: dogs, or that
# photograph and that recording? You ask it in three steps, each further from its training: other
# scenes with the individuals that it knows, scenes with individuals that it never met, and nine
# whole photographs, not composed, with recordings from elsewhere.
#
# **Afterwards you can**
# - compose a clip from cut-outs, and say what such a clip can test and what it cannot;
# - find out whether a model's eye or its ear fails: change what one of them gets, and nothing else;
# - say what a result shows, and what it leaves open;
# - make clips from cut-outs of your own, and predict what a model does with them.
#
# | | |
# |---|---|
# | Time on 2 cores | a minute (`profile = "smoke"`: half of it); the long trainings were run beforehand |
# | To read | @minutes |
# | Memory | 2 GB |
# | You need | [notebook 1](01_data.ipynb) for the IoU and the score $M_J$, [notebook 3](03_training.ipynb) for what "listens" means; photographs and recordings, 5 MB, which section 9.1 fetches |

# %% tags=["parameters"]
profile = "default"    # "smoke": the shortest run that touches everything
cast = None            # a folder of your own cut-outs (section 9.9); None: six things of ours
clips = 32             # test clips that are scored here
out = None             # folder for the output; None: the checkout, or your cache

# %%
from lightavseg_core import workbook

s = workbook.settings(globals(), cast=str | None, clips=int, out=str | None)
if s.profile == "smoke":
    s.clips = min(s.clips, 8)
print(f"{s.clips} test clips; a cast of {s.cast or 'six things of ours'}")

# %%
import json
import shutil
from statistics import fmean

import ipywidgets
import numpy as np
import torch
from IPython.display import Image, display

import lightavseg_core as lav
from lightavseg_core import evaluation, plots
from lightavseg_core.data import exam
from lightavseg_core.data.casting import cast_named
from lightavseg_core.data.photos import ear_twins, is_enough, photos_folder
from lightavseg_core.data.scenes import Recipe, draw_pictures, draw_scene
from lightavseg_core.experiments import composed, results, statistics
from lightavseg_core.experiments.exam import marks
from lightavseg_core.experiments.unseen import scene_of
from lightavseg_core.inspection import scales
from lightavseg_core.plots.common import picture_grid

here = workbook.places("09_real_world", s.out)
MODEL, SIZE = here.root / "checkpoints/photos", 128
listener = lav.load_model(MODEL).eval()
print(", ".join(f"{name} {value}" for name, value in workbook.card().items()))


def read(path):
    """What a long run has left in the folder `results`."""
    return json.loads((here.root / "results" / path).read_text())


# %% [markdown]
# ## 9.1 Look and listen
#
# The photographs and recordings belong to two free programs: Tux Paint (a drawing program) and
# GCompris (games for children). None of them comes with the workbook. Two commands fetch them and
# check every file ([photographs that sound](../docs/photos.md), [the exam](../docs/exam.md)):
#
# ```
# lightavseg data fetch photos
# lightavseg data fetch exam
# ```

# %% tags=["nbval-check-output"]
PHOTOS, EXAM = is_enough(photos_folder()), not exam.collection().missing()
for name, there in {"photos": PHOTOS, "exam": EXAM}.items():
    advice = f"missing. Type `lightavseg data fetch {name}`, then run this notebook again."
    print(f"{name}: {'there' if there else advice}")

# %% [markdown]
# Where they are missing, cells that need them do nothing. You then see two pictures that earlier
# runs left, and the results of the long runs, which need neither.

# %%
if PHOTOS:
    root = here.runs / f"seen_{s.clips}"
    lav.data.sounding_shapes.generate(root, "ms3", {"test": s.clips}, SIZE, cast="photos")
    seen = lav.data.AVSBench(root, "ms3", "test", SIZE, listener.front_end)
    item = seen[0]
    marked = evaluation.predict(listener, item)
    columns = zip(item["frames"], item["mask"], [{"marked": mask} for mask in marked])
    figure = plots.prediction_grid(list(columns), [f"second {t}" for t in range(5)])
    alt = "A clip of five frames with photographed things, what sounds in each, and what is marked."
    workbook.show(figure, alt)
else:
    display(Image(here.root / "figures/photos.png", width=700, alt="An earlier run: frames, masks"))

# %% [markdown]
# Listen at the mixing desk. Switch the things off one after the other, and watch the mask. Where
# the model misses a thing that it knows: does it find it when the others are silent? (Pictures: Tux
# Paint, GPL-2.0-or-later, [credits](../figures/CREDITS.md).)

# %% tags=["recordings"]
if PHOTOS:
    display(lav.widgets.MixingDesk(listener, seen))

# %% [markdown]
# ## 9.2 How such a clip is composed
#
# Each thing is a *cut-out*: a photograph whose background is transparent. Its *alpha channel* says
# how much of each pixel the thing covers, from 0 (nothing) to 1 (all of it), with values between
# along the edge. So nobody has to draw a ground truth: a pixel belongs to the thing's mask where
# alpha is above 0.5, and nothing else hides it. The clip's ground truth in a second is all masks
# of what sounds then.

# %%
if PHOTOS:
    known = cast_named("photos")
    dog = next(k for k, one in enumerate(known.cutouts) if one.category == "dog")
    background, painters = known.dress([dog], 192, np.random.default_rng(1))
    cover, colours = painters[0]((100, 104), 66, 0.0, 192)  # centre, radius, angle, side of frame
    print(f"cover {cover.shape}, colours {colours.shape}, background {background.shape}")
    along_edge = ((cover > 0.02) & (cover < 0.98)).sum() / (cover > 0.02).sum()
    print(f"{along_edge:.0%} of the pixels that the dog touches are covered only in part")

# %% [markdown]
# ### Exercise 1: put it in front
#
# *4 minutes, easy.*
#
# `background` and `colours` are pictures, (height, width, 3). `cover`, (height, width), is the
# alpha channel. Return the picture in which the thing stands in front of the background. A pixel
# that is covered by half shows half of each. Change neither picture. (`cover[..., None]` has a last
# axis of length 1, so that it can be multiplied with a picture.)

# %% tags=["exercise"]
def in_front(background, colours, cover):
    # solution
    alpha = cover[..., None]
    return alpha * colours + (1 - alpha) * background
    # wrong: alpha on the wrong side
    alpha = cover[..., None]
    return (1 - alpha) * colours + alpha * background
    # wrong: cut with scissors, without the soft edge
    return np.where(cover[..., None] > 0.5, colours, background)
    # wrong: the background shines through
    return cover[..., None] * colours + background
    # wrong: as if all were half transparent
    return 0.5 * colours + 0.5 * background
    # end solution

# %% tags=["check"]
edge = np.array([[0.0, 0.25], [0.75, 1.0]])


def mixed(*values):
    """A picture of 2 x 2 grey pixels."""
    return np.array(values, float).reshape(2, 2, 1) * np.ones(3)


def on_sky():
    """Dark fur in front of a bright sky."""
    return mixed(200, 200, 200, 200), mixed(40, 40, 40, 40), edge


workbook.check(
    "put it in front",
    in_front,
    hint="each pixel is a mean of colours and background; alpha is the weight of colours",
    cases=[
        (on_sky(), mixed(200, 160, 80, 40)),
        ((mixed(40, 40, 40, 40), mixed(200, 200, 200, 200), edge), mixed(40, 80, 160, 200)),
    ],
    mistakes=[
        (on_sky(), mixed(40, 80, 160, 200), "where alpha is 1, the thing should be seen"),
        (on_sky(), mixed(200, 200, 40, 40), "a pixel covered by a quarter shows both"),
        (on_sky(), mixed(200, 210, 230, 240), "what is covered does not shine through"),
        (on_sky(), mixed(120, 120, 120, 120), "the weight differs from pixel to pixel"),
        (on_sky(), mixed(200, 40, 40, 40), "a pixel covered by a quarter shows both"),
        (on_sky(), mixed(200, 190, 90, 40), "colours, too, count only as far as they cover"),
        (on_sky(), lambda x: isinstance(x, ValueError), "alpha needs an axis: cover[..., None]"),
    ],
)

# %%
if PHOTOS:
    steps = {
        "background": background / 255,
        "colours": colours / 255,
        "alpha channel": cover,
        "ground truth": (cover > 0.5).astype(float),
    }
    if mine := workbook.yours("put it in front"):
        put = np.asarray(mine(background.copy(), colours.copy(), cover.copy()))
        steps["put in front by you"] = np.clip(put / 255, 0, 1)
    figure, axes = picture_grid({"": list(steps.values())}, list(steps), cell=(2.1, 2.3))
    for axis in axes[0, 2:4]:
        axis.images[0].set_cmap("gray")                  # black 0, white 1
    workbook.show(
        figure,
        alt="The parts of a clip: a background, a dog's colours, its alpha channel, and the mask.",
    )

# %% [markdown]
# **What is fair about it.** The mask is exact. Any thing may stand in front of any background, with
# any other, and each sounds or does not sound at random. So without the sound no model can be right
# throughout, and without the picture neither.
#
# **What is not.** The edge is cleaner than in a photograph, and the light does not match, so a
# thing stands out as no animal in grass does. It covers from 2% to 12% of the frame, and no second
# thing of its category is in view. The room in which it sounds is made up. Above all, most
# categories have *one* photograph and *one* recording. Mirroring, turning, light, pitch and room
# vary; the individual does not. A model that learns the individual by heart loses nothing on such
# clips. (Composing pictures and sounds of different origin is common in this field: VPO,
# AVS-Synthetic.)
#
# ## 9.3 Training
#
# First a training of half a minute, here and now, on a few small clips. Its ear is the shipped
# model's, and stays as it is. Its eye and its decoder begin at random.

# %%
if PHOTOS:
    few = {"train": 32 if s.profile == "smoke" else 160, "val": 8, "test": 16}
    root = here.runs / f"few_{few['train']}"
    lav.data.sounding_shapes.generate(root, "ms3", few, 64, cast="photos")
    torch.manual_seed(0)
    beginner = lav.create_model("lightavseg", preset="tiny", size=64)
    small = [lav.data.AVSBench(root, "ms3", part, 64, beginner.front_end) for part in few]
    ear = str(MODEL / "model.safetensors")               # of this file the ear alone is taken
    config = lav.TrainConfig(epochs=2, audio_weights=ear, validate_every=2, workers=0)
    shutil.rmtree(here.runs / "beginner", ignore_errors=True)
    lav.Trainer(beginner, config, here.runs / "beginner").fit(small[0], small[1])
    begun = lav.evaluate(beginner, small[2])["M_J"]
    nothing = fmean(float(not one["mask"][t].any()) for one in small[2] for t in range(5))
    oracle = lav.deaf_oracle(small[2])["M_J"]
    print(f"after 2 epochs: M_J {begun:.2f}; marking nothing {nothing:.2f}; "
          f"the deaf oracle (perfect eyes, no ears) {oracle:.2f}")

# %% [markdown]
# That is a beginning. `make checkpoint-photos` trained the shipped model in the same way for much
# longer. It trained the ear first, on mixtures of which none came twice. A few clips in a hundred
# were *negatives*: heard with silence, noise or a foreign sound.

# %%
trained = read("photos.json")
number, machine = trained["clips"], trained["machine"]
print(f"{number['train']} clips of {trained['size']} px, {trained['epochs']} epochs; "
      f"{trained['minutes']:.0f} minutes, {machine['device']}, threads: {machine['threads']}, "
      f"{trained['date']}, commit {trained['commit']}")
print(f"the ear names all that sounds, and nothing else, in {trained['sets_right']:.1%} of the "
      "validation seconds")
rows = []
for epoch, score in trained["validations"]:
    rows.append((epoch, f"{trained['loss'][epoch - 1]:.3f}", f"{score:.3f}"))
workbook.table(["epoch", "training loss", "$M_J$, validation"], rows)

# %% [markdown]
# The scores on test clips, of other scenes with the same individuals. A model that listens loses
# with another clip's sound (*swapped*), and marks nothing in silence. Why is $M_J$ not 0 in
# silence? In some seconds nothing sounds. Marking nothing is right there, and scores 1.

# %%
rows = []
for name, of_sound in trained["scores"].items():
    rows.append((name, f"{of_sound['M_J']:.3f}", f"{of_sound['foreground_share']:.1%}"))
rows.append(("deaf oracle", f"{trained['deaf_oracle']['M_J']:.3f}", ""))
workbook.table(["sound", f"$M_J$, {number['test']} test clips", "pixels marked"], rows)

# %% [markdown]
# Your machine, on some of these clips:

# %%
if PHOTOS:
    for sound in ("normal", "swapped", "silent"):
        found = lav.evaluate(listener, seen, sound)
        marked = found["foreground_share"]
        print(f"{sound:8} M_J {found['M_J']:.2f}, marked {marked:.1%}, {len(seen)} clips")

# %% [markdown]
# ## 9.4 Seen against unseen
#
# Six categories have individuals that no model is trained on: another duck, a white cow, a lamb, a
# dromedary, a doe and another pig. Their *siblings* are the individuals of these categories that
# the model knows. Each scene is made twice, once with siblings and once with unseen individuals.
# Only their pictures and recordings differ; background, places, moves and seconds are the same. Of
# each scene you see the first second in which something sounds.

# %%
if PHOTOS:
    columns, names = [], []
    for index in range(4):
        for who in ("siblings", "unseen"):
            pictures = composed.pictures_of(scene_of(known, who, index), known, SIZE)
            sound = composed.sound_of(scene_of(known, who, index), known)
            item = composed.clip(listener, who, pictures, sound)
            second = int(item["mask"].flatten(1).any(1).int().argmax())  # the first with a sound
            mask = evaluation.predict(listener, item)[second]
            columns.append((item["frames"][second], item["mask"][second], {"marked": mask}))
            names.append(f"scene {index + 1},\n{who}")
    figure = plots.prediction_grid(columns, names)
    workbook.show(
        figure,
        alt="Four scenes twice, with known individuals and with others: sounds and marks.",
    )

# %% [markdown]
# > **Prediction.** Here are 160 such scenes. Pictures and sounds are changed separately: known or
# > unseen individuals are *shown*, known or unseen ones are *heard*. With known ones in both, $M_J$
# > is a little below that of 9.3. How much is lost when only the pictures are of unseen individuals
# > (the *eye*), only the sounds (the *ear*), and both?

# %%
workbook.guess("lost with unseen individuals", {"eye": ..., "ear": ..., "both": ...})

# %% [markdown]
# ### Exercise 2: eye or ear?
#
# *5 minutes, medium.*
#
# `score[shown][heard]` is the $M_J$ with these individuals shown and those heard; both are
# `"siblings"` (known) or `"unseen"`. Return a dict: how much the score falls (above 0 where it
# falls, below 0 where it rises) when only what the `"eye"` gets is unseen, only what the `"ear"`
# gets, and `"both"`.

# %% tags=["exercise"]
def losses(score):
    # solution
    known = score["siblings"]["siblings"]
    return {
        "eye": known - score["unseen"]["siblings"],
        "ear": known - score["siblings"]["unseen"],
        "both": known - score["unseen"]["unseen"],
    }
    # wrong: eye and ear confused
    known = score["siblings"]["siblings"]
    return {
        "eye": known - score["siblings"]["unseen"],
        "ear": known - score["unseen"]["siblings"],
        "both": known - score["unseen"]["unseen"],
    }
    # wrong: against both unseen, not against both known
    new = score["unseen"]["unseen"]
    return {
        "eye": score["siblings"]["unseen"] - new,
        "ear": score["unseen"]["siblings"] - new,
        "both": score["siblings"]["siblings"] - new,
    }
    # wrong: both as the sum of the two
    known = score["siblings"]["siblings"]
    eye = known - score["unseen"]["siblings"]
    ear = known - score["siblings"]["unseen"]
    return {"eye": eye, "ear": ear, "both": eye + ear}
    # wrong: the other way round, negative
    known = score["siblings"]["siblings"]
    return {
        "eye": score["unseen"]["siblings"] - known,
        "ear": score["siblings"]["unseen"] - known,
        "both": score["unseen"]["unseen"] - known,
    }
    # end solution

# %% tags=["check"]
made_up = {
    "siblings": {"siblings": 0.8, "unseen": 0.5},
    "unseen": {"siblings": 0.7, "unseen": 0.45},
}
rising = {
    "siblings": {"siblings": 0.6, "unseen": 0.5},
    "unseen": {"siblings": 0.7, "unseen": 0.4},
}


def three(eye, ear, both):
    return {"eye": eye, "ear": ear, "both": both}


workbook.check(
    "eye or ear",
    losses,
    hint="start from both known; change only what is shown, then only what is heard, then both",
    cases=[(made_up, three(0.1, 0.3, 0.35)), (rising, three(-0.1, 0.1, 0.2))],
    mistakes=[
        (made_up, three(0.3, 0.1, 0.35), "the eye gets what is shown, the first of the two keys"),
        (made_up, three(0.05, 0.25, 0.35), "compare with both known: one thing changes at a time"),
        (made_up, three(0.1, 0.3, 0.4), "both have a score of their own; losses need not add up"),
        (made_up, three(-0.1, -0.3, -0.35), "a fall is above 0: known minus unseen"),
        (rising, three(0.1, 0.1, 0.2), "a score may rise, too: keep the sign"),
        (rising, three(0, 0.1, 0.2), "a score may rise, too: then the fall is below 0"),
    ],
)

# %%
individuals = read("unseen/photos.json")


def between(interval):
    return "{estimate:.3f} ({low:.3f} to {high:.3f})".format(**interval)


rows = []
for shown, cells in individuals["M_J"].items():
    rows.append((f"{shown} shown", *map(between, cells.values())))
columns = [f"{name} heard" for name in cells]
workbook.table(["$M_J$ (95% interval, by bootstrap over clips)", *columns], rows)

# %% [markdown]
# (*Swapped*: the sound of the next scene, with the individuals that are shown. *Silent*: no sound.)

# %%
lost = {name: tuple(interval.values()) for name, interval in individuals["losses"].items()}
title = f"What is lost with unseen individuals: {individuals['clips']} scenes, 95% intervals"
workbook.show(
    plots.intervals(lost, title, "fall of $M_J$"),
    alt="Three losses with intervals, all above zero: by the eye, by the ear, and by both.",
)
workbook.beside("lost with unseen individuals", {name: of[0] for name, of in lost.items()})
if mine := workbook.yours("eye or ear"):
    means = {
        shown: {heard: cell["estimate"] for heard, cell in cells.items()}
        for shown, cells in individuals["M_J"].items()
    }
    print("by your function:", {name: round(value, 3) for name, value in mine(means).items()})

# %% [markdown]
# Both halves have learned individuals. Their losses need not add up. One reason may be that a scene
# in which the eye is wrong cannot be lost once more by the ear. Compare the first row with the
# second: with unseen individuals in both, most of what the right sound gains over a swapped one is
# gone.
#
# The ear can be asked more directly. A *linear probe* (Alain and Bengio, 2016) is one linear layer,
# trained on the vectors of the frozen ear, here for mixtures of known individuals. It shows what
# can be read off these vectors. The share of seconds in which it names all that sounds, and nothing
# else (the seconds in which nothing sounds included):

# %%
for who in ("siblings", "unseen"):
    print(f"{who:8} {between(individuals['sets_right'][who])}")

# %% [markdown]
# ## 9.5 The exam
#
# The exam consists of nine photographs of animals, each with a recording: other individuals, other
# recordings, and whole pictures, with grass, water or cloth around the animals. All animals of the
# kind count. Two assistants, multimodal language models, outlined them independently, before any
# model was run on the pictures; the first outlines are the ground truth, and both agree closely,
# with an IoU of at least 0.96 ([how it was made](../docs/exam.md)). No model is trained on them.
# Listen to two:

# %% tags=["recordings"]
if EXAM:
    questions = {one.name: one for one in exam.questions()}
    players = []
    for name in ("dog", "duck"):
        sound = ipywidgets.Audio.from_file(questions[name].sound, autoplay=False, loop=False)
        players.append(ipywidgets.VBox([ipywidgets.Label(name), sound]))
    display(ipywidgets.HBox(players))

# %% [markdown]
# > **Prediction.** What is the mean $M_J$ of the nine pictures with their own recordings, and with
# > those of the other eight? And how many of the nine score best with their own recording, compared
# > with each of the other eight? (A model that does not listen would get one of nine by chance.)

# %%
workbook.guess("the exam", {"own": ..., "swapped": ..., "own is best": ...})

# %%
asked = read("exam/photos.json")
if EXAM:
    shown = marks(MODEL)
    figure = plots.prediction_grid(shown, [animal["name"] for animal in asked["animals"]])
    workbook.show(
        figure,
        alt="Nine farm animals: the picture, the outline, what is marked with the own recording, "
        "and what is marked in silence, which is nothing.",
    )
else:
    display(Image(here.root / "figures/exam.png", width=900, alt="Nine animals, outlines, masks"))

# %% [markdown]
# (Pictures: GCompris, in the public domain or under CC0-1.0,
# [credits](../figures/CREDITS.md).)
#
# ### Exercise 3: is its own recording the best?
#
# *5 minutes, medium.*
#
# `score` is an array of n x n: one row for each *picture*, one column for each *recording*; a
# picture's own recording is on the diagonal. Return an array of n: for each picture, how many of
# the *other* recordings give a higher score than its own. 0 means that its own recording is the
# best.

# %% tags=["exercise"]
def better_than_own(score):
    # solution
    own = np.diag(score)
    return (score > own[:, None]).sum(1)
    # wrong: for each recording, not for each picture
    own = np.diag(score)
    return (score > own[None]).sum(0)
    # wrong: counts its own, too
    own = np.diag(score)
    return (score >= own[:, None]).sum(1)
    # wrong: counts those that are worse
    own = np.diag(score)
    return (score < own[:, None]).sum(1)
    # wrong: the diagonal lies along the columns
    return (score > np.diag(score)).sum(1)
    # end solution

# %% tags=["check"]
small_exam = np.array([[0.5, 0.6, 0.3], [0.7, 0.4, 0.9], [0.8, 0.1, 0.2]])
turned = "np.diag(score) lies along the columns: own[:, None] has one number for each row"
workbook.check(
    "is its own the best",
    better_than_own,
    hint="compare each row with its own element on the diagonal, and count along the row",
    cases=[
        (small_exam, np.array([1, 2, 1])),
        (np.eye(3), np.zeros(3)),
        (np.array([[0.5, 0.5], [0.2, 0.4]]), np.zeros(2)),   # equal is not higher
    ],
    mistakes=[
        (small_exam, np.array([2, 1, 2]), "a row is a picture: compare along rows, not columns"),
        (small_exam, np.array([2, 3, 2]), "its own is not above itself: use >, not >="),
        (small_exam, np.array([1, 0, 1]), "these are the recordings that score less"),
        (small_exam, np.array([2, 2, 1]), turned),
    ],
)

# %%
animals = asked["animals"]
names = [animal["name"] for animal in animals]
matrix = np.array([[one["heard_with"][name]["M_J"] for name in names] for one in animals])
best = int((matrix.argmax(1) == np.arange(len(names))).sum())
means = asked["means"]["of all"]
workbook.beside(
    "the exam",
    {"own": means["own"]["M_J"], "swapped": means["swapped"]["M_J"], "own is best": best},
)
listens = [name for k, name in enumerate(names) if matrix[k].argmax() == k]
print(f"best with its own: {', '.join(listens) or 'none'}")
if mine := workbook.yours("is its own the best"):
    counts = np.asarray(mine(matrix)).tolist()
    print("recordings that score higher than its own:", dict(zip(names, counts)))

# %% [markdown]
# Three columns of the next table mix the exam with the clips of 9.1. *New to the eye*: an exam
# picture with a recording that the model knows. *New to the ear*: a scene that it knows with an
# exam recording. *Both known*: the same scene with its own sound. The exam's recordings are louder
# than those of the training, so there is also a column with its own recording turned down to their
# *level*. (There is no cat in the training, and what the exam calls a chicken is a hen there.
# *Swapped* is here the mean over the eight other recordings.)

# %%
rows = []
cells = "own", "level", "swapped", "new to the eye", "new to the ear", "both known"
for one in animals:
    scores = [f"{one[cell]['M_J']:.2f}" if cell in one else "" for cell in cells]
    silent = one["silent"]["foreground_share"]
    rows.append((one["name"], f"{one['share']:.0%}", *scores, f"{silent:.1%}"))
known_kinds = asked["means"]["of those known"]
scores = [f"{known_kinds[cell]['M_J']:.2f}" for cell in cells]
rows.append(("mean without the cat", "", *scores, ""))
workbook.table(["", "truth covers", *cells, "marked in silence"], rows)

# %% [markdown]
# Nine pictures are too few for an interval, so look at the rows, and do not trust the means far.
# What they show, and what they leave open:
#
# - **Its own recording is little better than a foreign one**, and with no picture the best of the
#   nine. So this score shows hardly any listening. It does not say which half fails.
# - **Eye and ear both fail.** Most of the score is gone if only the picture is new, and also if
#   only the recording is.
# - **In silence nothing is marked**, in any picture. This carries over.
# - **Left open.** The picture costs far more here than in 9.4. Not only the individuals are new:
#   in eight of nine pictures animals cover more than any thing in training, in three of them as a
#   group, and nothing is cut out.
#   Which of these differences costs how much, nine pictures cannot say.
#
# One photograph for each category was enough to be right in training. What is learned then is
# called a *shortcut* (Geirhos et al., 2020): a rule that serves on such clips, and not beyond them.
# More clips of the same individuals do not ask for more. More individuals should; that was not
# tried here.
#
# ## 9.6 Eyes that have seen ImageNet
#
# The eye could bring knowledge of its own. EfficientNet-Lite0 was trained by others to name 1,000
# classes of ImageNet's photographs, with many breeds of dog among them. `lightavseg sweep eyes`
# trains LightAVSeg with it three times, and three times with the same encoder from random weights.
# All share one ear, which knows the training's recordings only.
#
# > **Prediction.** How much does $M_J$ gain by the pretrained eye: on clips of known individuals,
# > on those of unseen ones, and in the exam?

# %%
workbook.guess("gained by ImageNet", {"seen": ..., "unseen": ..., "exam": ...})

# %%
try:
    eyes = results.load("eyes", here.root / "results/sweep")
except FileNotFoundError:
    eyes = {}
places = {"seen": "scores", "siblings": "scores_siblings", "unseen": "scores_unseen"}


def scores_of(seeds):
    """By seed, on each kind of clips."""
    found = {name: results.values(seeds, place=place) for name, place in places.items()}
    found["exam"] = {n: one["exam"]["means"]["of all"]["own"]["M_J"] for n, one in seeds.items()}
    return found


if len(eyes) < 2:
    print("Not run here yet: `lightavseg sweep eyes`, more than an hour on two cores.")
    workbook.beside("gained by ImageNet", {name: "not run" for name in ("seen", "unseen", "exam")})
else:
    of = {label: scores_of(seeds) for label, seeds in eyes.items()}
    gained = {}
    for name in (*places, "exam"):
        both = [of[label][name] for label in ("ImageNet", "random")]
        common = sorted(both[0].keys() & both[1].keys())
        gained[name] = [{seed: scores[seed] for seed in common} for scores in both]
    rows = {name: statistics.paired(*both)[:3] for name, both in gained.items()}
    title = "ImageNet's eye minus the random one (mean and 95% interval over seeds)"
    workbook.show(
        plots.intervals(rows, title, "difference of $M_J$"),
        alt="Differences of M_J on seen, sibling and unseen individuals and in the exam.",
    )
    workbook.beside(
        "gained by ImageNet", {name: rows[name][0] for name in ("seen", "unseen", "exam")}
    )
    for label, by_place in of.items():
        told = ", ".join(f"{name} {fmean(by.values()):.3f}" for name, by in by_place.items())
        print(f"{label:8} {told}")

# %% [markdown]
# In our trainings the pretrained eye helps, with unseen individuals, too. But the fall from
# siblings to unseen ones is about as large as with random weights, and in the exam, three seeds
# decide little ([more](../docs/exam.md#eyes-that-have-seen-imagenet)). A pretrained eye alone is
# not enough. One reason may be that it was still a single photograph that a bark was tied to;
# another is the ear, which is the same in all six.
#
# ### Or more variation?
#
# The unseen individuals stay unseen. But those that the training has can vary more there than in
# the tests: *sounds* by five semitones instead of two, in more and larger rooms, with hiss;
# *pictures* by light, colour, and the proportion of their sides, and all backgrounds are
# photographs. The ranges were chosen before the first trial. `lightavseg sweep variation` trains
# four small models, each with its own ear: nothing varies more, sounds, pictures, or both.
#
# > **Prediction.** Which of the two helps more with unseen individuals? What does it cost with
# > individuals that the model knows?

# %%
workbook.guess("gained by variation, unseen", {"sounds": ..., "pictures": ..., "both": ...})

# %%
try:
    variation = results.load("variation", here.root / "results/sweep")
except FileNotFoundError:
    variation = {}


def by_clip(seeds, name):
    """The M_J of each clip, as a mean over the seeds: (clips, 1)."""
    place = places[name].replace("scores", "clips")
    return torch.tensor([one[place] for one in seeds.values()]).mean(0)[:, None]


gained = {}
if "as it is" in variation:
    table, usual = [], variation.pop("as it is")
    for label, seeds in {"as it is": usual, **variation}.items():
        means = [by_clip(seeds, name).mean().item() for name in places]
        table.append((label, len(seeds), *(f"{mean:.3f}" for mean in means)))
        if label in variation:
            gained[label] = by_clip(seeds, "unseen") - by_clip(usual, "unseen")
    workbook.table(["what varies more", "trainings", *places], table)
    rows = {label: scales.bootstrap(difference) for label, difference in gained.items()}
    title = "Unseen individuals: more variation minus none (95% interval over clips)"
    workbook.show(
        plots.intervals(rows, title, "difference of $M_J$"),
        alt="Differences of M_J on unseen individuals: sounds, pictures or both vary more.",
    )
else:
    print("Not run here yet: `lightavseg sweep variation`, an hour on two cores.")
found = {label: gained[label].mean().item() for label in gained}
workbook.beside(
    "gained by variation, unseen",
    {label: found.get(label, "not run") for label in ("sounds", "pictures", "both")},
)

# %% [markdown]
# In our two trainings of each, sounds that vary more helped with unseen individuals, and cost a
# little with the others. Pictures that vary more helped nobody. Perhaps because another animal has
# another pitch, while another colour of a photograph is no other animal. (Such short trainings
# learn easy pictures better. What longer ones would show was not tried.)

# %% [markdown]
# ## 9.7 Twins by ear
#
# In Tux Paint the goat and the ram share one bleat. What should a model mark when both are in view,
# and it hears that bleat? The shipped model knows the goat. Of the ram it has never seen a picture.
#
# First a cast of our own: six cut-outs, each beside its sound. Any folder of this kind is a cast.

# %%
if PHOTOS:
    mine_or_ours = here.runs / "cast"
    shutil.rmtree(mine_or_ours, ignore_errors=True)
    (mine_or_ours / "backgrounds").mkdir(parents=True)
    wanted = ("dog", "drum kit", "rooster", "violin")
    members = [one for one in known.cutouts if one.category in wanted and not one.unseen]
    for one in (*members, *ear_twins(photos_folder())):
        shutil.copy(one.picture, mine_or_ours / f"{one.category}{one.picture.suffix}")
        shutil.copy(one.sounds[0], mine_or_ours / f"{one.category}{one.sounds[0].suffix}")
    for photograph in known.backgrounds:
        shutil.copy(photograph, mine_or_ours / "backgrounds")
    six = cast_named(str(mine_or_ours))
    print(", ".join(path.name for path in sorted(mine_or_ours.glob("*.*"))))

# %% [markdown]
# > **Prediction.** In these scenes goat and ram are both in view, and one of them bleats. What
# > share of each is marked, when it bleats itself, and when the other does?

# %%
workbook.guess(
    "marked",
    {
        "goat, goat bleats": ...,
        "goat, ram bleats": ...,
        "ram, goat bleats": ...,
        "ram, ram bleats": ...,
    },
)

# %%
TWINS = {"goat", "ram"}


def seconds_of(index):
    """Of each second of a scene: frame, truth, mask, and name -> (sounds, share of it marked)."""
    def scene():  # drawn anew, as each use of a scene goes on with its random numbers
        return draw_scene(Recipe("ms3", {}, SIZE, 0, cast=six.name), six, "test", index)

    pictures = composed.pictures_of(scene(), six, SIZE)
    item = composed.clip(listener, str(index), pictures, composed.sound_of(scene(), six))
    masks, things = evaluation.predict(listener, item), draw_pictures(scene(), six, SIZE)[1]
    for t, mask in enumerate(masks):
        about = {}
        for one in things:
            about[one.name] = bool(one.sounding[t]), float(mask[one.masks[t]].float().mean())
        yield item["frames"][t], item["mask"][t], mask, about


if PHOTOS:
    shares, example, index, used = {}, {}, 0, 0
    while used < (6 if s.profile == "smoke" else 24):    # scenes with both in view
        of_scene, seconds, index = {}, list(seconds_of(index)), index + 1
        if not TWINS <= set(seconds[0][3]):
            continue
        used += 1
        for frame, truth, mask, about in seconds:
            bleats = [name for name in sorted(TWINS) if about[name][0]]
            for name, (sounds, share) in about.items():
                if name not in TWINS:
                    does = "sound" if sounds else "do not"
                    shares.setdefault(f"others, while they {does}", []).append(share)
                elif len(bleats) == 1:
                    shares.setdefault(f"{name}, {bleats[0]} bleats", []).append(share)
            if sum(sounds for sounds, _ in about.values()) == len(bleats) == 1:
                of_scene[f"{bleats[0]} bleats"] = frame, truth, {"marked": mask}
        if len(of_scene) == 2:                           # each is heard alone in a second
            example = dict(sorted(of_scene.items()))
    found = {key: fmean(some) for key, some in sorted(shares.items())}
    workbook.beside("marked", {key: found[key] for key in found if "others" not in key})
    print({key: f"{found[key]:.2f}" for key in found if "others" in key})
    workbook.show(
        plots.prediction_grid(list(example.values()), list(example)),
        alt="A scene with goat and ram, in a second in which the one bleats, and in one in which "
        "the other does: what sounds, and what is marked.",
    )
else:
    workbook.beside("marked", {"goat, goat bleats": "no photographs"})

# %% [markdown]
# Most of the goat is marked, whichever of the two bleats, and hardly anything of the ram. The model
# has learned that this sound goes with that shape. A model that had been trained on both could not
# tell them apart by their sound: one audio vector tells *what* sounds, and cannot say which of two
# things with one sound it is. So it was with the twins of [notebook 8](08_your_own_video.ipynb),
# which looked alike as well. A moving mouth might settle it in both cases; the model sees single
# frames.
#
# ## 9.8 A dog and a drum kit
#
# The same six things on the desk. **Try:** switch off the drum kit, then the dog. Turn the dog down
# until you no longer hear it over the drums: does the model still hear it? Choose a clip with a
# ram and no goat, and let only the ram sound. What does the model mark?

# %% tags=["recordings"]
def first_with(clips, root, *names):
    """The first clip and second in which all of them sound."""
    for index in range(len(clips)):
        things = lav.data.sounding_shapes.objects(root, "ms3", "test", index)
        sounding = [thing.sounding for thing in things if thing.name in names]
        if len(sounding) == len(names) and np.all(sounding, 0).any():
            return index, int(np.all(sounding, 0).argmax())
    return 0, 0


if PHOTOS:
    root = here.runs / "six"
    shutil.rmtree(root, ignore_errors=True)
    lav.data.sounding_shapes.generate(root, "ms3", {"test": 32}, SIZE, cast=str(mine_or_ours))
    on_desk = lav.data.AVSBench(root, "ms3", "test", SIZE, listener.front_end)
    begin = first_with(on_desk, root, "dog", "drum kit")
    display(lav.widgets.MixingDesk(listener, on_desk, *begin))

# %% [markdown]
# ## 9.9 Cut-outs of your own
#
# Put pictures with a transparent background into a folder, each with its sound: `cat.png` beside
# `cat.wav` (Ogg, MP3 and FLAC will do, too). At least five are needed: up to four are in view, and
# a clip may add one that is only heard. (Phones and paint programs cut a thing out of its
# photograph.) Photographs for backgrounds go into a folder `backgrounds` in it. Set `cast` in the
# parameters to the folder's path, and run all cells.
#
# > **Prediction.** What does the shipped model score on clips of this cast, with its own sound,
# > with another clip's, and in silence? By default the cast is the six things above. It knows five
# > of them.

# %%
workbook.guess("this cast", {"normal": ..., "swapped": ..., "silent": ...})

# %%
if PHOTOS or s.cast:
    own = here.root / s.cast if s.cast else mine_or_ours
    place = here.runs / "own"
    shutil.rmtree(place, ignore_errors=True)
    lav.data.sounding_shapes.generate(place, "ms3", {"test": s.clips}, SIZE, cast=str(own))
    theirs = lav.data.AVSBench(place, "ms3", "test", SIZE, listener.front_end)
    sounds = ("normal", "swapped", "silent")
    scored = {sound: lav.evaluate(listener, theirs, sound)["M_J"] for sound in sounds}
    workbook.beside("this cast", scored)
    print(f"  deaf oracle: {lav.deaf_oracle(theirs)['M_J']:.3f}")
    ranked = evaluation.ranked_frames(listener, theirs)
    columns, titles = [], []
    for k in range(6):                                   # from the worst to the best
        iou, i, t = ranked[round(k * (len(ranked) - 1) / 5)]
        item = theirs[i]
        mask = evaluation.predict(listener, item)[t]
        columns.append((item["frames"][t], item["mask"][t], {"marked": mask}))
        titles.append(f"IoU {iou:.2f}")
    workbook.show(
        plots.prediction_grid(columns, titles),
        alt="Six frames of this cast, from the worst to the best: what sounds, what is marked.",
    )
else:
    workbook.beside("this cast", {"normal": "no photographs"})

# %% [markdown]
# On a cast of which it knows nothing, it will probably do no better than with unseen individuals in
# both halves (9.4). Then train a model that knows yours: `lightavseg data make data/mine --cast
# FOLDER`, then `lightavseg train --data data/mine`. It will know *your* mug and *your* spoon,
# and by now you know what that means.

# %% tags=["result", "nbval-check-output"]
apart = individuals["losses"]["eye"]["low"] > 0, individuals["losses"]["ear"]["low"] > 0
print("unseen individuals cost the eye: {}, the ear: {}".format(*apart))
dark = [one["silent"]["foreground_share"] < 0.005 for one in animals]
print(f"exam pictures that stay dark in silence: {sum(dark)} of {len(dark)}")

# %%
workbook.took(1)

# %% [markdown]
# ## Three things to remember
#
# 1. A high score on new *scenes* says nothing about new *individuals*. Ask what varies between
#    training and test, and what does not.
# 2. Change one thing at a time. Known sounds with unseen pictures test the eye, known pictures with
#    unseen sounds the ear.
# 3. Silence carries over: without a sound nothing is marked, even in a photograph unlike any in
#    training. What a model learned of one dog carries over to another one only in small part.
#
# **What this can and cannot say about AVSBench.** AVSBench holds thousands of individuals in real
# scenes, so nobody should expect the losses of this notebook there. What can be taken over are the
# tests: another source of pictures and recordings, one half changed at a time, and silence.
#
# ## Try next
#
# - Record your own dog, or your neighbour's. Put it into `dog.wav` of a cast, with `dog.png` from
#   Tux Paint, and then Tux Paint's `dog.wav` beside a picture of your dog. Which does the model
#   know better, the picture or the bark?
# - Make two casts of your own: in one a category has a single picture and sound, in the other three
#   of each (a folder `dog` with all of them). Train a model on each, and score both on a cast with
#   a fourth dog. What do two more individuals gain?
# - Show `matrix` of 9.5 with `workbook.table(["", *names], ...)`. With which recording does each
#   picture score best, and which of these sounds resembles one from the training?
#
# ## References
#
# - Shortcuts: Geirhos et al., *Shortcut learning in deep neural networks*, Nature Machine
#   Intelligence 2, 2020.
# - Composed clips: Chen et al., *Unraveling Instance Associations: A Closer Look for Audio-Visual
#   Segmentation* (VPO, visual post-production), CVPR 2024; Liu et al., *Annotation-free
#   Audio-Visual Segmentation* (AVS-Synthetic), WACV 2024.
# - Linear probes: Alain and Bengio, *Understanding intermediate layers using linear classifier
#   probes*, arXiv 1610.01644, 2016.
# - Tan and Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, ICML
#   2019; the Lite variants are its authors' later release. Deng et al., *ImageNet: A Large-Scale
#   Hierarchical Image Database*, CVPR 2009.
# - Photographs and recordings: Tux Paint and GCompris, with [credits](../figures/CREDITS.md).

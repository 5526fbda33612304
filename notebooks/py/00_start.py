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
# # Start: which pixels do you hear?
#
# A dog barks in a street full of things that could make a noise. Sound off, you can only guess
# which one it was. Sound on, you know. **Audio-visual segmentation** asks a program for the same:
# given a video's frames and its sound, mark the pixels of the objects that are sounding.
#
# This workbook shows how that is done, and how to find out whether a program that seems to do it
# really listens. Two thoughts carry it:
#
# - **Audio tells what, vision tells where.** The sound is boiled down to one vector, which has no
#   places in it. Only the picture knows where anything is.
# - **Adding is cheap, comparing is not.** A network turns the picture into maps, its *channels*.
#   To add one number to every pixel of a map takes $N$ additions for $N$ pixels. To compare every
#   pixel with every other one takes $N^2$ comparisons.
#
# Run all cells (*Run*, *Run All Cells*). It takes half a minute; nothing is trained.
#
# | | |
# |---|---|
# | Time on 2 cores | half a minute |
# | To read | @minutes |
# | You need | nothing; loudspeakers or headphones help |

# %% tags=["parameters"]
profile = "default"    # "smoke": the shortest run that touches everything
out = None             # folder for what is written; None: the checkout, or your cache

# %%
from lightavseg_core import workbook

s = workbook.settings(globals(), out=str | None)

# %% [markdown]
# ## 0.1 The mixing desk
#
# Here is a clip with a few objects in it, at a second in which two of them sound. Each object has
# a sound of its own, and its own volume control, a *fader*. The green picture is the ground truth:
# what sounds in your mix. The orange one is what a small model marks.
#
# **Switch off an object that sounds. Does its mask go? Does the other one's stay?** Then switch
# everything off. Then add another clip's sound (the *donor's*), and see what gets the blame.
#
# (The clip is the first one with a second in which two objects sound and the model gets both right.
# It does not always: other clips are in the list.)

# %% tags=["recordings"]
import lightavseg_core as lav
from lightavseg_core import evaluation, plots
from lightavseg_core.data.photos import is_enough, photos_folder

here = workbook.places("00_start", s.out)
cast = "photos" if is_enough(photos_folder()) else "shapes"
model = lav.load_model(here.root / "checkpoints" / ("photos" if cast == "photos" else "tiny"))
place = here.runs / cast
if not place.exists():
    lav.data.sounding_shapes.generate(place, "ms3", {"test": 8}, 128, cast=cast)
clips = lav.data.AVSBench(place, "ms3", "test", 128, model.front_end)


def two_right():
    """Clip and second: the first in which two objects sound, and the mask agrees."""
    for i in range(len(clips)):
        things = lav.data.sounding_shapes.objects(place, "ms3", "test", i)
        iou = evaluation.frame_iou(evaluation.predict(model, clips[i]), clips[i]["mask"])
        for second in range(len(iou)):
            if sum(thing.sounding[second] for thing in things) == 2 and iou[second] > 0.8:
                return i, second
    return 0, 0


lav.widgets.MixingDesk(model, clips, *two_right())

# %% [markdown]
# Where `lightavseg data fetch photos` has been run, you see photographs with recordings of their
# sounds (Tux Paint, GPL-2.0-or-later, [credits](../figures/CREDITS.md)); elsewhere silhouettes
# with synthetic timbres. Where no widget can run, as on GitHub, you see a grid of mixes instead.
# The same desk is also a page for any browser, without Python: `make live` opens it
# ([the live page](../docs/live.md)).
#
# One clip proves little. So we score a small model that knows silhouettes, on 16 clips of its own
# kind. A score is a mean IoU, from 0 to 1: how well the marked pixels overlap the true ones. The
# argument `sound` of `evaluate` changes what all clips hear, while pictures and ground truth stay.
# The *deaf oracle* is a cheat that marks every visible object perfectly, and hears nothing:

# %% tags=["nbval-check-output"]
tiny, root = lav.load_model(here.root / "checkpoints/tiny"), here.runs / "test"
lav.data.sounding_shapes.generate(root, "ms3", {"test": 16}, 128)
test = lav.data.AVSBench(root, "ms3", "test", 128, tiny.front_end)
sounds = {"its own sound": "normal", "another clip's sound": "swapped", "silence": "silent"}
scores = {}
for name, sound in sounds.items():
    scores[f"the model, {name}"] = lav.evaluate(tiny, test, sound)["M_J"]
scores["the deaf oracle"] = lav.deaf_oracle(test)["M_J"]
for name, score in scores.items():
    print(f"mean IoU {score:.3f}  {name}")

# %% [markdown]
# With its own sound this model beats perfect eyes without ears. With the wrong sound it falls far
# below them. That is what listening looks like. [Notebook 3](03_training.ipynb) trains a model of
# this kind in minutes, which scores a little less than this one, and tests it properly.
#
# ## 0.2 The way through
#
# An arrow says that a notebook builds on another one. The dots are three paths:
#
# - **an evening**: what is asked, a model that you train yourself, and your own video;
# - **a course**: all of it, a session for each notebook, two for 04, 05 and 06, with the exercises;
# - **a researcher**: sections 1.4, 1.5 and 3.6 for the scores and tests, then what the method
#   costs, what attention does, what the comparison shows, and how far it carries.
#
# Before you begin a notebook, choose *Edit, Clear Outputs of All Cells*, and run it cell by cell. At
# a **Prediction** put your guess in the place of the dots and run the cell; what is measured
# appears beside it later. Nobody marks it.

# %%
workbook.show(
    plots.drawings.way_through(),
    alt="A map of ten notebooks: 00 leads to 01, 01 to 02 and 03, 02 to 04, 05 and 06, 03 to 05, "
    "06, 07, 08 and 09. An evening goes through 00, 01, 03 and 08, a course through all, a "
    "researcher through 02, 04, 06, 07 and 09.",
    vector=True,
)

# %% [markdown]
# | notebook | what it asks |
# |---|---|
# | [01 Data and task](01_data.ipynb) | What is given, what is asked, and how is it scored? |
# | [02 The model, step by step](02_model.ipynb) | How do sound and picture meet, and what does it cost? |
# | [03 Training](03_training.ipynb) | Does it listen? |
# | [04 Latency](04_latency.ipynb) | Where does the time go, and how is it measured? |
# | [05 Coarse to fine](05_decoder.ipynb) | What does each scale of the decoder know? |
# | [06 Attention dissipation](06_dissipation.ipynb) | What does attention do when there is one thing to attend to? |
# | [07 Ablations and methods](07_methods.ipynb) | What does each part bring, and how do five methods compare? |
# | [08 Your own video](08_your_own_video.ipynb) | What does it mark, and when does it fail? |
# | [09 When the world is real](09_real_world.ipynb) | Does it know dogs, or one dog? |
#
# Words that you do not know stand in the [glossary](../docs/glossary.md). Every exercise has a
# check that says what went wrong, and a solution folded away below it.

# %%
workbook.took(0.5)

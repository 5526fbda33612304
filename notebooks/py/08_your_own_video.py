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
# # 8. Your own video: what it marks, when it fails, and how to find out
#
# A dataset is cut into tidy clips. A video is not: things sound that nobody sees, two of a kind
# stand side by side, a door slams between two frames. Here a trained model watches a whole video.
# You scrub through it, look at six ways to fail, each staged on purpose in a video of our own,
# and measure each of them. Then it is your video's turn.
#
# **Afterwards you can**
# - get masks from any video, an overlay (the video with its masks painted on) and a manifest (a
#   file that says how they were made), with three lines of Python or one command;
# - tell the failures of a method that has one vector for all it hears from those that come of
#   what it was trained on;
# - test on any video, without a truth, whether a model listens.
#
# | | |
# |---|---|
# | Time on 2 cores | a minute (`profile = "smoke"`: half of it) |
# | Memory | 2 GB |
# | You need | notebook 3 for what "listens" means, and the IoU; nothing else |

# %% tags=["parameters"]
profile = "default"                # "smoke": the shortest run that touches everything
checkpoint = "checkpoints/tiny"    # a model's folder, a run of `train`, or an exported file
video = None                       # the path of your own; None is the sample
dense = 5.0                        # pictures a second in section 8.5, where 1 is not enough
out = None                         # folder for what is written; None: the checkout, or your cache

# %%
from lightavseg_core import workbook

s = workbook.settings(globals(), checkpoint=str, video=str | None, dense=float, out=str | None)
if not 2 <= s.dense <= 25:
    raise ValueError(f"dense is {s.dense}; expected 2 to 25 pictures a second")
if s.profile == "smoke":
    s.dense = 2.0
print(f"{s.video or 'the sample'}; 1 and {s.dense:g} pictures a second")

# %%
import json
import pprint
import shutil
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from IPython.display import Video, display

import lightavseg_core as lav
from lightavseg_core import evaluation, plots
from lightavseg_core.data.decoding import read_audio
from lightavseg_core.data.images import prepare_frame
from lightavseg_core.data.photos import is_enough, photos_folder
from lightavseg_core.data.writing import wav
from lightavseg_core.video.prediction import predict, write
from lightavseg_core.video.reading import probe
from lightavseg_core.video.sample import write_sample
from lightavseg_core.video.segmenter import load
from lightavseg_core.widgets.video_player import VideoPlayer

here = workbook.places("08_your_own_video", s.out)
SAMPLE = here.root / "notebooks/media/sample.mp4"
RUNS = here.runs
OWN = s.video and here.root / s.video                    # a path from the root, or an absolute one
sys.path.insert(0, str(here.root / "notebooks/media"))
import make_sample  # the script that made the sample

torch.set_num_threads(1)                                 # so that the cost below is one core's
print(", ".join(f"{name} {value}" for name, value in workbook.card().items()))

# %% [markdown]
# ## 8.1 Three lines
#
# The sample lasts 24 seconds and was made for this notebook, by
# [make_sample.py](media/make_sample.py), of the shapes and sounds of SoundingShapes. Play it,
# with sound, before you go on: what would *you* mark?

# %%
Video(SAMPLE, width=320)

# %% [markdown]
# A *segmenter* is a model with all that a video needs around it: the size to which pictures are
# brought, and its front end, which makes of sound what the model hears. `predict` reads the video
# forwards and gives one picture at a time, with the probability that each pixel belongs to
# something that sounds. The picture at second $t$ goes with the sound from $t$ to $t + 0.975$:
# the model hears what comes *after* the picture.

# %%
segmenter = load(here.root / s.checkpoint)
found = list(predict(segmenter, SAMPLE))                 # one picture a second
masks = [one.mask() > 0 for one in found]                # where the probability is above 0.5

# %% tags=["nbval-check-output"]
first = found[0]
print(f"{len(found)} pictures, from second {first.time:g} to {found[-1].time:g}")
shapes = first.picture.shape, tuple(first.probabilities.shape), first.mask().shape
print("picture {}, probabilities {}, mask {}".format(*shapes))

# %% [markdown]
# ## 8.2 Scrub through it
#
# The player does the same, with your hands on it. Pick a video or upload one, press *Predict*,
# and move the slider, or let it play. Tick *play its sound as I move*, and with each picture you
# hear what the model heard. The threshold changes the masks at once: the probabilities are kept,
# nothing is predicted again. The curve says how much of each picture is marked, its red line
# where you are. *Export* writes masks, overlay and manifest, with the threshold that you chose,
# and says where.
#
# Where no widget can run, as on GitHub, you see six of the pictures and, under each, how much of
# it is marked.

# %%
player = VideoPlayer(segmenter, RUNS, [OWN or SAMPLE, SAMPLE])
player.predict()                                         # what the button does
player

# %% [markdown]
# ## 8.3 Six acts
#
# What sounds when is in [truth.json](media/truth.json), and the script can draw the *truth* of
# any instant: all pixels of what sounds just then. So the sample can be scored, second by second,
# by the IoU: the area that mask and truth share, over the area that either has; 1 is perfect, and
# 1 is also what nothing marked gets where nothing sounds. Your own video has no truth, so this
# section and the next two stay with the sample.

# %%
acts = json.loads((here.root / "notebooks/media/truth.json").read_text())["acts"]
rows = []
for number, act in enumerate(acts, 1):
    in_view = ", ".join(thing["category"] for thing in act["objects"])
    sounds = [f"{sound['what']} {sound['start']:g} to {sound['end']:g}" for sound in act["sounds"]]
    rows.append((number, act["name"], in_view, "; ".join(sounds)))
workbook.table(["act", "", "in view", "what sounds, seconds"], rows)

# %% [markdown]
# > **Prediction.** The model has learned from clips in which every sound has its object in view,
# > no two objects are of a kind, and who sounds at all sounds through the second. For each act,
# > what will it do?
# > 1. *They take turns*: what the training clips hold. Will every second have an IoU above 0.9?
# > 2. *Silence*: one second with the noise floor only (the faint hiss that lies under every
# >    clip), one without even that. Does it mark anything?
# > 3. *Off screen*: a sound whose object is not there. Nothing should be marked. Will it leave
# >    the frame dark?
# > 4. *Twins*: two objects of a kind, of which only the first ever sounds. Which will it mark?
# > 5. *Too short, too late*: 0.1 s, 0.25 s, and 1 s that begins halfway between two pictures.
# >    From what length on does it mark?
# > 6. *Never seen, never heard*: first an object two and a half times as large as any in
# >    training, then one a third of the smallest, then white noise, then something like speech.
# >    Nobody trained it for these: what would you bet on?  Write yours down. Then look.

# %%
truth = [make_sample.truth_at(one.time) for one in found]
marked_all, truth_all = torch.from_numpy(np.stack(masks)), torch.from_numpy(np.stack(truth))
iou = evaluation.frame_iou(marked_all, truth_all)        # 1 where both are empty


def told(k, script):
    """A row for second k: what is heard in it, and how much of each object is marked."""
    heard = []
    for sound in script["sounds"]:
        if sound["start"] < k + 0.975 and sound["end"] > k:
            heard.append(sound["what"])
    things = []
    for name, sounds, area in make_sample.objects_at(k):
        things.append(f"{name}{' (sounds)' * sounds} {masks[k][area].mean():.0%}")
    shares = f"{masks[k].mean():.1%}", f"{iou[k]:.2f}"
    return k, " + ".join(heard) or "nothing", ", ".join(things), *shares


def act(number):
    """An act's pictures, what sounds in them and what is marked; of each object, how much."""
    seconds, script = range(4 * number - 4, 4 * number), acts[number - 1]
    columns = []
    for k in seconds:
        frame = prepare_frame(found[k].picture, masks[k].shape)
        columns.append((frame, truth_all[k], {"marked": marked_all[k]}))
    figure = plots.prediction_grid(columns, [f"second {k}" for k in seconds])
    figure.set_size_inches(0.8 * figure.get_size_inches())
    workbook.show(
        figure,
        alt=f"Act {number}, {script['name']}: four pictures, what sounds in green, what is marked "
        "in orange.",
    )
    columns = ["second", "is heard", "in view: how much of it is marked", "frame marked", "IoU"]
    return workbook.table(columns, [told(k, script) for k in seconds])


act(1)

# %%
act(2)

# %%
act(3)

# %%
act(4)

# %%
act(5)

# %%
act(6)

# %% [markdown]
# All 24 seconds in one picture. A bar at the bottom line is an IoU of 0:

# %%
names = "; ".join(f"{n} {act['name']}" for n, act in enumerate(acts, 1))
title = f"Six acts of four seconds: {names}"
pictures = [one.picture for one in found]
figure = plots.video.film_strip(pictures, truth, masks, iou.tolist(), title, act=4)
figure.savefig(here.figures / "08_acts.png", dpi=100, metadata={"Software": None})
workbook.show(
    figure,
    alt="A strip of 24 pictures with what sounds, below it one with what is marked, and the IoU of "
    "each second as a bar: near 1 in the first two acts, low in most seconds of the others.",
)

# %% [markdown]
# What to take from them:
#
# - **As trained, as good.** Where the video is what the training clips were, the masks are right
#   but for their edges, at another size of picture and after lossy coding. Silence is dark, with
#   or without a noise floor.
# - **A sound needs a culprit.** The disc that nobody sees is heard, and somebody in view gets the
#   blame. In training every sound had its object in view; nothing ever taught it to say "that one
#   is not here".
# - **Twins.** While one sounds, the other is marked as well, in seconds 14 and 15 even more than the
#   one that sounds. No training cures this: the model has one vector for all it hears, made of mono
#   sound that holds no place, and it fits both.
# - **Short sounds.** The front end hears 0.975 s from the picture on. A tenth of a second in it
#   was enough. The truth asks what sounds at the *instant* of the picture: in seconds 16 to 18
#   nothing yet, the sounds start at 16.4, 17.4 and 18.5. So the IoU is 0, and the mask is early.
# - **What was never seen or heard.** The large cross sounds, and bare background is marked; the
#   tiny square sounds, and a part of the cross is; for white noise and speech the square and a
#   part of the cross are. Nothing in the mask warns of it.

# %%
for number, mean in enumerate(iou.view(6, 4).mean(1), 1):
    print(f"act {number}, {acts[number - 1]['name']:24} mean IoU {mean:.2f}")

# %% [markdown]
# ## 8.4 Can a threshold help?
#
# If the model were *unsure* of its wrong guesses, a higher threshold would remove them and leave
# the right ones. Is it?
#
# > **Prediction.** At a threshold of 0.99, what is left of the right objects of act 1, and of the
# > object that is blamed in act 3?
#
# ### Exercise 1: how sure?
#
# *4 minutes, easy.*
#
# How high must the threshold be to make an object all but vanish? `probability` is a picture's
# map, `area` is `True` on the pixels of the object, both arrays have one shape. Return the lowest
# threshold at which no more than a tenth of the object's pixels is above it.

# %% tags=["exercise"]
def gone_above(probability, area):
    # solution
    return np.quantile(probability[area], 0.9)
    # wrong: of the whole picture
    return np.quantile(probability, 0.9)
    # wrong: the tenth that is lowest
    return np.quantile(probability[area], 0.1)
    # wrong: until nothing is left
    return probability[area].max()
    # wrong: the middle
    return np.median(probability[area])
    # end solution

# %% tags=["check"]
ramp = np.linspace(0, 1, 101).reshape(1, 101)
everywhere = np.ones((1, 101), bool)
left = everywhere & (ramp < 0.505)
workbook.check(
    "how sure",
    gone_above,
    hint="a tenth of the object's pixels lies above which value? np.quantile finds it",
    cases=[
        ((ramp, everywhere), lambda x: abs(x - 0.9) < 0.011),
        ((ramp, left), lambda x: abs(x - 0.45) < 0.011),
        ((np.full((2, 2), 0.3), np.ones((2, 2), bool)), 0.3),
    ],
    mistakes=[
        ((ramp, left), 0.9, "take the object's own pixels only, probability[area]"),
        ((ramp, left), 0.05, "a tenth should be *above* it, not below"),
        ((ramp, left), 0.5, "a tenth of its pixels may stay; this removes the last one"),
        ((ramp, left), 0.25, "half of its pixels are still above this"),
    ],
)

# %%
chance = [one.probabilities[0].numpy() for one in found]
if segmenter.num_classes > 1:
    chance = [1 - x for x in chance]                       # class 0 is "nothing sounds"
thresholds = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999]
probability = torch.from_numpy(np.stack(chance))
scores = torch.stack([evaluation.frame_iou(probability > x, truth_all) for x in thresholds])
scores = scores.view(-1, 6, 4).mean(2)                     # (thresholds, acts)
curves = {f"{n + 1} {script['name']}": scores[:, n].tolist() for n, script in enumerate(acts)}
workbook.show(
    plots.video.threshold_curves(thresholds, curves),
    alt="Mean IoU of each act against the threshold from 0.05 to 0.999. The lines of acts 1 and 2 "
    "stay high, those of acts 3 and 4 near the middle and that of act 5 at a quarter, all nearly "
    "level; act 6 lies at 0 throughout.",
)

# %% [markdown]
# The lines are nearly level. Why? Of each object that is marked: the median of its probabilities,
# and the threshold of exercise 1, at which it is all but gone. First those of act 1, marked
# rightly; then those of acts 3, 4 and 6 that are marked and do not sound.

# %%
rows = []
for k in [*range(4), *range(8, 16), *range(20, 24)]:       # acts 1, 3, 4 and 6
    for name, sounds, area in make_sample.objects_at(k):
        if masks[k][area].mean() > 0.3 and sounds == (k < 4):
            inside = chance[k][area]
            verdict = "rightly" if sounds else "wrongly"
            median, above = np.quantile(inside, (0.5, 0.9))
            rows.append((k, name, verdict, f"{median:.3f}", f"{above:.3f}"))
workbook.table(["second", "object", "marked", "median probability", "gone above"], rows)

# %% [markdown]
# No threshold tells right from wrong here: most of what is blamed is blamed with the same
# certainty as what is right. A probability says how much a pixel looks like the *training's*
# sounding pixels, not how much the answer can be trusted. What a threshold
# does move is the outline, as the player shows.
#
# ## 8.5 How often to look
#
# Published systems look once a second, as AVSBench is annotated. What does looking more often
# bring, and what does it cost?
#
# > **Prediction.** Five times the pictures: five times the time? And will more pictures make act
# > 5 better?
#
# ### Exercise 2: who hears it?
#
# *6 minutes, medium.*
#
# Picture $k$ stands at second $k/\mathrm{fps}$ and hears the 0.975 s from there on. Return the
# list of all $k \ge 0$ that hear something of a sound that lasts from `start` to `end`, in
# seconds.

# %% tags=["exercise"]
def hearers(start, end, fps):
    # solution
    instants = range(int(end * fps) + 1)
    return [k for k in instants if k / fps < end and k / fps + 0.975 > start]
    # wrong: what only touches is heard
    instants = range(int(end * fps) + 1)
    return [k for k in instants if k / fps <= end and k / fps + 0.975 >= start]
    # wrong: pictures while it sounds
    instants = range(int(end * fps) + 1)
    return [k for k in instants if start <= k / fps < end]
    # wrong: only who hears all of it
    instants = range(int(end * fps) + 1)
    return [k for k in instants if k / fps <= start and end <= k / fps + 0.975]
    # wrong: a picture a second
    return [k for k in range(int(end) + 1) if k < end and k + 0.975 > start]
    # end solution

# %% tags=["check"]
workbook.check(
    "who hears it",
    hearers,
    hint="two stretches of time overlap where each begins before the other ends",
    cases=[
        ((1.4, 1.65, 1), [1]),
        ((2.5, 3.5, 1), [2, 3]),
        ((0.98, 0.99, 1), []),
        ((1.4, 1.65, 5), [3, 4, 5, 6, 7, 8]),
        ((0, 0.1, 2), [0]),
        ((0.2, 1, 1), [0]),
        ((0.975, 0.98, 1), []),
    ],
    mistakes=[
        ((0.2, 1, 1), [0, 1], "a sound that ends where a picture begins is not heard with it"),
        ((2.5, 3.5, 1), [3], "a picture hears what comes after it, so earlier ones count, too"),
        ((2.5, 3.5, 1), [], "a part of the sound is enough"),
        ((1.4, 1.65, 5), [1], "k counts pictures, and there are fps of them a second"),
    ],
)

# %%
if mine := workbook.yours("who hears it"):
    for sound in acts[4]["sounds"]:
        once, often = (len(mine(sound["start"], sound["end"], fps)) for fps in (1, s.dense))
        when = f"{sound['start']:g} to {sound['end']:g} s"
        print(f"{when}: {once} picture(s) hear it at 1 a second, {often} at {s.dense:g}")

# %%
def timed(fps):
    """What is found in the sample, and the seconds that it takes.

    The least of three tries, for other programs only ever add to it.
    """
    tries = []
    for _ in range(3):
        start = time.perf_counter()
        often = list(predict(segmenter, SAMPLE, fps))
        tries.append(time.perf_counter() - start)
    return often, min(tries)


rows = []
for fps in (1, s.dense):
    often, seconds = timed(fps)
    shown = np.array([one.mask() > 0 for one in often])
    flips = np.mean([(a != b).any() and not (a & b).any() for a, b in zip(shown, shown[1:])])
    taken = f"{seconds:.1f} s", f"{seconds / 24:.0%}"
    rows.append((f"{fps:g}", len(often), *taken, f"{flips:.0%}"))
columns = ["a second", "pictures", "time", "of the video's length"]
workbook.table([*columns, "neighbours whose masks have nothing in common"], rows)

# %% [markdown]
# (Measured on one thread, with everything: decoding, the sound's front end, the model, masks at
# full size.) The time grows by less than the number of pictures, for the whole video must be
# decoded in any case. Neighbouring masks less often have nothing in common. Now act 5: how much
# of the ring is marked in each picture, drawn over the stretches in which it sounds.

# %%
def share(one):
    """How much of act 5's first object is marked."""
    _, _, area = make_sample.objects_at(one.time)[0]
    return float((one.mask() > 0)[area].mean())


def curve(some):
    return [one.time for one in some], [share(one) for one in some]


curves = {
    f"{s.dense:g} a second": curve([one for one in often if 16 <= one.time < 20]),
    "1 a second": curve(found[16:20]),
}
sounds = [(sound["start"], sound["end"]) for sound in acts[4]["sounds"]]
workbook.show(
    plots.video.against_sound(curves, sounds, "Act 5: the mask runs ahead of the sound"),
    alt="Share of the object that is marked over act 5, with the stretches in which it sounds: the "
    "object is marked from some tenths of a second before each of them starts; hardly while the "
    "two short ones sound, nearly to the end of the long one.",
)

# %% [markdown]
# Even the 0.1 s of sound are found, at one picture a second too. But while they sound nothing is
# marked: the mask runs *ahead*, a picture is marked for what is heard after
# it. How far ahead? Compare each mask with what will sound `lead` seconds later. Objects move
# meanwhile, so the truth keeps them where the picture has them, and takes from later only which
# of them sound. (Acts 1 and 2, without the last second of each.)

# %%
ordinary = [one for one in often if one.time < 8 and one.time % 4 < 3]
shown = torch.from_numpy(np.stack([one.mask() > 0 for one in ordinary]))
rows = []
for lead in (0, 0.2, 0.4, 0.6, 0.8):
    later = np.stack([make_sample.truth_at(one.time, lead) for one in ordinary])
    later = torch.from_numpy(later)
    rows.append((f"{lead:g} s", f"{evaluation.frame_iou(shown, later).mean():.2f}"))
workbook.table(["lead", f"IoU, {len(ordinary)} pictures"], rows)

# %% [markdown]
# The masks agree best with what sounds some tenths of a second *later*. Once a second, with whole
# seconds of sound, nobody notices; for a film at 25 pictures a second you would shift the sound
# by as much, or train with windows that lie around the picture.
#
# ## 8.6 Does it listen?
#
# The test of notebook 3 needs no truth, so it works on any video: keep the pictures, change the
# sound. Here the video's own sound is heard half its length too late (what falls out at the end
# comes in at the beginning), then silence. What stays whatever is heard does not come of the
# sound. `audio=` takes any file with sound: record something of your own, and see what it finds
# in your pictures.
#
# > **Prediction.** How alike are the masks with the video's own sound and those with another?
# > Their IoU, one against the other: near 1, or near 0?

# %%
chosen = OWN or SAMPLE
own = torch.zeros(16_000)                                # of a video without a track
if probe(chosen).sample_rate:
    own = read_audio(chosen)
sounds = {
    "half its length later": torch.roll(own, len(own) // 2),
    "silence": torch.zeros_like(own),
}
for name, sound in sounds.items():
    (RUNS / f"{name}.wav").write_bytes(wav(sound.clamp(-1, 1).numpy(), 16_000))


def marked(audio=None):
    """(pictures, H, W) bool, of the first minute."""
    minute = islice(predict(segmenter, chosen, audio=audio), 60)
    return torch.from_numpy(np.stack([one.mask() > 0 for one in minute]))


before, rows = marked(), []
for name in sounds:
    after = marked(RUNS / f"{name}.wav")
    either = (before | after).flatten(1).any(1)
    agree = "nothing is marked"
    if either.any():
        agree = f"{evaluation.frame_iou(before, after)[either].mean():.2f}"
    rows.append((name, f"{before.float().mean():.1%}", f"{after.float().mean():.1%}", agree))
columns = ["sound", "marked with its own", "marked with this"]
workbook.table([*columns, "IoU between the two, where either marks"], rows)

# %% [markdown]
# A deaf model would keep its masks, IoU 1. This one, in the sample, drops them all in silence,
# and with the wrong sound marks less, and mostly other things. Why is the IoU not 0? Most of what
# is heard is now off screen, and as in act 3 somebody in view gets the blame; often it falls on
# the one that was marked before. A model that listens can still be wrong:
# listening is what this test shows, and no more.
#
# ## 8.7 To take away: overlay, masks, manifest
#
# The command line writes a folder for each video, picture by picture: an hour takes no more
# memory than a minute, and a run that was stopped goes on where it was. `write` is the same for
# one video.
#
# ```
# lightavseg predict checkpoints/tiny notebooks/media/sample.mp4 --out masks
# ```

# %%
made = RUNS / "masks" / Path(chosen).stem
shutil.rmtree(made, ignore_errors=True)
manifest = write(segmenter, chosen, made)                # what the command does for each video
print(", ".join(path.name + "/" * path.is_dir() for path in sorted(made.iterdir())))
names = "input", "fps", "size", "threshold", "checkpoint", "runtime"
asked = {name: manifest["asked"][name] for name in names}
about = {name: manifest[name] for name in ("complete", "video", "heard")}
pprint.pp({"asked": asked, **about, "frames": manifest["frames"][:2]}, width=110)

# %% [markdown]
# That is part of it. The whole manifest also holds a digest of the video and one of the model,
# short numbers that change with any byte of either, so that nobody takes another file of the same
# name for yours. Keep it beside the masks when they go into a paper.

# %%
overlay = made / "overlay.mp4"
Video(str(overlay), embed=overlay.stat().st_size < 2e6, width=320)

# %% [markdown]
# ## 8.8 A dog barks, and the dog lights up
#
# Silhouettes show the mechanism; nobody would call them a world. `checkpoints/photos` is the same
# model, trained on cut-out *photographs* of 41 animals, instruments and things in front of
# photographed backgrounds, each with a *recording* of its sound. None of them comes with the
# workbook. Two packages of the drawing program Tux Paint hold them, and one command fetches them,
# 4.4 MB, and checks every file ([photographs that sound](../docs/photos.md)):
#
# ```
# lightavseg data fetch photos
# ```
#
# Where they are there, the next cell makes a film of them: ten seconds, in which a few of them
# move and each sounds now and then. The model knows every one of them, but has never seen them
# together in this place, nor heard these mixtures. Where they are not there, the cells of this
# section say so, and do nothing else. Play the film with sound. What would *you* mark?

# %%
PHOTOGRAPHS = is_enough(photos_folder())
film = RUNS / "photographs.mp4"
if PHOTOGRAPHS:
    film_truth = write_sample(film, seed=1)              # (10, 384, 384): what sounds
    display(Video(film, width=320))
else:
    print("No photographs yet: `lightavseg data fetch photos`, then run this section again.")

# %%
if PHOTOGRAPHS:
    listener = lav.load_model(here.root / "checkpoints/photos")
    knows_photographs = load(listener)
    in_film = list(predict(knows_photographs, film))
    film_masks = [one.mask() > 0 for one in in_film]
    film_iou = evaluation.frame_iou(
        torch.from_numpy(np.stack(film_masks)), torch.from_numpy(film_truth)
    )
    figure = plots.video.film_strip(
        [one.picture for one in in_film],
        film_truth,
        film_masks,
        film_iou.tolist(),
        "Ten seconds of photographs (Tux Paint, GPL-2.0-or-later, figures/CREDITS.md)",
        act=1,
    )
    workbook.show(
        figure,
        alt="A strip of ten pictures of photographed things with what sounds, below it one with "
        "what the model marks, and the IoU of each second as a bar.",
    )

# %% [markdown]
# Does it listen? The test of 8.6, with the truth at hand. Sound that comes half the film too late
# must cost the score, and silence must leave the film dark:

# %%
if PHOTOGRAPHS:
    own = read_audio(film)
    heard_instead = {"its own": own, "half the film later": torch.roll(own, len(own) // 2)}
    heard_instead["silence"] = torch.zeros_like(own)
    rows = []
    for name, sound in heard_instead.items():
        (RUNS / "instead.wav").write_bytes(wav(sound.clamp(-1, 1).numpy(), 16_000))
        seen = predict(knows_photographs, film, audio=RUNS / "instead.wav")
        again = torch.from_numpy(np.stack([one.mask() > 0 for one in seen]))
        agree = evaluation.frame_iou(again, torch.from_numpy(film_truth)).mean()
        rows.append((name, f"{again.float().mean():.1%}", f"{agree:.2f}"))
    display(workbook.table(["heard", "marked", "mean IoU with what sounds"], rows))

# %% [markdown]
# And now with your hands: the mixing desk of notebook 5, with photographs. Each thing has a
# switch and a fader. **Try:**
#
# 1. Switch one off that sounds. Does its mask go, and does the other's stay?
# 2. Switch all off, and then the noise floor too.
# 3. Only the donor's sound: something that is not in the picture. Who gets the blame?
# 4. Turn one down slowly. Where does the model lose it, and where do *you*?

# %% tags=["recordings"]
if PHOTOGRAPHS:
    place = RUNS / "photographs"
    if not place.exists():
        lav.data.sounding_shapes.generate(place, "ms3", {"test": 8}, 128, cast="photos")
    clips = lav.data.AVSBench(place, "ms3", "test", 128, listener.front_end)
    desk = lav.widgets.MixingDesk(listener, clips)
    display(desk)

# %%
if PHOTOGRAPHS:
    changes = 20 if s.profile == "smoke" else 100
    times = lav.widgets.response_times(desk, changes)
    print(
        f"measured, CPU, threads: {torch.get_num_threads()}: "
        f"median {times.median:.0f} ms, 95th percentile {times.p95:.0f} ms"
    )

# %% [markdown]
# Do not make too much of it. Each category has one photograph, or two or three, and so few
# recordings: the model knows *that* dog and *that* bark. Clips with individuals that it never met
# ([measured](../docs/photos.md#what-is-measured)) it marks worse than a deaf model with perfect
# eyes would. And a photograph cut out and set before another is no scene. It is not AVSBench.

# %% [markdown]
# ## 8.9 Your video, your model
#
# Upload it in the player: at most 10 MB, some seconds of a phone's video. Or, of any length: put
# it into the folder `notebooks`, set `video` in the parameters to its name, and run all; then
# 8.2, 8.6 and 8.7 are about it. Any format that FFmpeg knows will do, held upright or not, with
# any sound, or none.
#
# **But be clear about what you see.** `checkpoints/tiny` knows seven flat silhouettes and seven
# timbres. It has never seen a photograph or heard a voice. On your phone's video its masks mean
# *nothing*, however plausible one may look: act 6 is what happens there, all the time. What is
# the same on real video is everything around the model: the decoding, the timing, the tests of
# this notebook. For masks that mean something
#
# 1. get AVSBench, which is given out on request, and check it: `lightavseg data check
#    path/to/AVSBench --subset ms3` ([how to get it and where to put it](../docs/avsbench.md));
# 2. train on a GPU, e.g. `lightavseg train --data path/to/AVSBench --subset ms3 --recipe paper
#    --audio-weights joint --out runs/real` (the recipes are *unverified*: nobody has run them on
#    the real data here);
# 3. set `checkpoint = "runs/real"`, and run the same cells. Expect little of it on the sample,
#    which is to it what act 6 is to this one; what it marks in your video will be worth a look.
#
# Then ask the questions of this notebook. Silence it: does it go dark? Give it another sound:
# does the mask move? Find a second with two of a kind. Find a sound from behind the camera.

# %% tags=["result", "nbval-check-output"]
right = (iou > 0.9).int()
print(f"seconds with an IoU above 0.9: {right[:8].sum()} of 8 in acts 1 and 2, "
      f"{right[8:].sum()} of 16 in acts 3 to 6")

# %% [markdown]
# ## Summary
#
# - One `Segmenter` for a model in PyTorch or an exported file; `predict` for pictures and
#   probabilities, `lightavseg predict` for files.
# - What training held works; off-screen sounds, twins, sounds that begin between two pictures
#   and unknown things do not, each for its own reason, and the probability does not warn.
# - A picture hears what comes after it: masks run a few tenths of a second ahead of the sound.
# - Whether a model listens can be tested on any video, without a truth: change the sound and
#   compare the masks.
#
# **What this can and cannot say about AVSBench.** One staged video of 24 seconds shows *that*
# these failures exist and why, for a method with one audio vector, in the clearest case. How
# often they occur in real clips, and how a model that saw thousands of real objects behaves, it
# cannot say.
#
# ## References
#
# - LightAVSeg: arXiv 2605.08805 (ICML 2026). AVSBench, and the protocol of one picture a second:
#   arXiv 2207.05042.
# - The front end with its 96 windows: Hershey et al., *CNN Architectures for Large-Scale Audio
#   Classification*, ICASSP 2017.

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
# # 8. Your own video: what the model marks, when it fails, and how to find out
#
# A dataset consists of tidy clips. Real video is untidy: some sounds have no visible source, two
# objects of a kind stand side by side, a door slams between two frames. Here a trained model
# watches a whole video. You scrub through it and look at six acts, staged on purpose in a video of
# our own. Some are like the training clips, others are not. You measure each of them. Then it is your video's turn.
#
# **Afterwards you can**
# - turn any video into masks, an overlay (the video with its masks painted on) and a manifest (a
#   file that records how they were made), with three lines of Python or one command;
# - tell which failures come from the method, which has one vector for all that it hears, and
#   which come from its training data;
# - test on any video, without ground truth, whether a model listens.
#
# | | |
# |---|---|
# | Time on 2 cores | a minute (`profile = "smoke"`: half of it) |
# | To read | @minutes |
# | Memory | 2 GB |
# | You need | [notebook 1](01_data.ipynb) for the IoU, [notebook 3](03_training.ipynb) for what "listens" means |

# %% tags=["parameters"]
profile = "default"                # "smoke": the shortest run that touches everything
checkpoint = "checkpoints/tiny"    # a model's folder, a run of `train`, or an exported file
video = None                       # the path of your own; None: the sample
dense = 5.0                        # pictures a second in section 8.5, beside 1
out = None                         # folder for the output; None: the checkout, or your cache

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

torch.set_num_threads(1)                                 # so the cost below is that of one core
print(", ".join(f"{name} {value}" for name, value in workbook.card().items()))

# %% [markdown]
# ## 8.1 Three lines
#
# The sample lasts 24 seconds. [make_sample.py](media/make_sample.py) made it for this notebook,
# from the shapes and sounds of SoundingShapes ([notebook 1](01_data.ipynb)). Play it, with sound,
# before you go on: what would *you* mark?

# %%
Video(SAMPLE, width=320)

# %% [markdown]
# A *segmenter* is a model with everything that a video needs around it: the size to which
# pictures are scaled, and the front end, which turns sound into the spectrogram that the model
# hears. `predict` reads the video from start to end. It yields one picture at a time, with the
# probability that each pixel belongs to something that sounds. The picture at second $t$ is paired
# with the sound from $t$ to $t + 0.975$: the model hears what comes *after* the picture.

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
# ## 8.2 Six acts
#
# [truth.json](media/truth.json) says what sounds when. From it the script can draw the *truth*, the
# ground truth mask of any instant: all pixels of the objects that sound just then. So the sample
# can be scored, second by second, by the IoU: the area that mask and truth share, divided by the
# area that at least one of them covers. 1 is perfect. A second in which nothing sounds and nothing
# is marked also scores 1. Your own video has no ground truth, so this section and the next two
# stay with the sample.

# %%
acts = json.loads((here.root / "notebooks/media/truth.json").read_text())["acts"]
rows = []
for number, act in enumerate(acts, 1):
    in_view = ", ".join(thing["category"] for thing in act["objects"])
    sounds = [f"{sound['what']} {sound['start']:g} to {sound['end']:g}" for sound in act["sounds"]]
    rows.append((number, act["name"], in_view, "; ".join(sounds)))
workbook.table(["act", "name", "in view", "what sounds, in seconds"], rows)

# %% [markdown]
# > **Prediction.** The model was trained on clips in which every sound has its object in view, no
# > two objects are of one category, and a sound lasts for whole seconds. Six acts test it:
# > 1. *They take turns*: like the training clips.
# > 2. *Silence*: one second with the noise floor only (the faint hiss under every clip), and one
# >    without even that. Is anything marked?
# > 3. *Off screen*: a sound whose object is not in view. For this sound nothing should be marked.
# > 4. *Twins*: two objects of one category, of which only the first ever sounds. Which is marked?
# > 5. *Too short, too late*: a sound of 0.1 s, one of 0.25 s, and one of 1 s that begins halfway
# >    between two pictures. Which of them are marked?
# > 6. *Never seen, never heard*: an object two and a half times as large as any in training, one
# >    a third of the size of the smallest, white noise, and something like speech.
# >
# > For each act: what is the mean IoU of its four seconds, from 0 to 1?

# %%
workbook.guess(
    "the six acts",
    {
        "turns": ...,
        "silence": ...,
        "off screen": ...,
        "twins": ...,
        "too short": ...,
        "never seen": ...,
    },
)

# %%
truth = [make_sample.truth_at(one.time) for one in found]
marked_all, truth_all = torch.from_numpy(np.stack(masks)), torch.from_numpy(np.stack(truth))
iou = evaluation.frame_iou(marked_all, truth_all)        # 1 where both are empty


def told(k, script):
    """A row of the table, for second k: what is heard, and how much of each object is marked."""
    instants, heard = np.arange(k, k + 0.975, 0.005), []   # while the model listens
    for sound in script["sounds"]:
        if ((sound["start"] <= instants) & (instants < sound["end"])).any():
            heard.append(sound["what"])
    things = []
    for name, sounds, area in make_sample.objects_at(k):
        things.append(f"{name}{' (sounds)' * sounds} {masks[k][area].mean():.0%}")
    shares = f"{masks[k].mean():.1%}", f"{iou[k]:.2f}"
    return k, " + ".join(heard) or "nothing", ", ".join(things), *shares


def act(number):
    """The pictures of an act, with what sounds and what is marked, and a table of its seconds."""
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
    columns = ["second", "heard", "in view, and how much of it is marked", "frame marked", "IoU"]
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
# All 24 seconds in one picture. A bar at the bottom line means an IoU of 0:

# %%
names = "; ".join(f"{n} {act['name']}" for n, act in enumerate(acts, 1))
title = f"Six acts of four seconds: {names}"
pictures = [one.picture for one in found]
figure = plots.video.film_strip(pictures, truth, masks, iou.tolist(), title, act=4)
figure.savefig(here.figures / "08_acts.png", dpi=100, metadata={"Software": None})
workbook.show(
    figure,
    alt="A strip of 24 pictures with what sounds, below it one with what is marked, and the IoU of "
    "each second as a bar: near 1 in the first two acts, low in most seconds of the other four.",
)

# %%
means = iou.view(6, 4).mean(1).tolist()
for number, mean in enumerate(means, 1):
    print(f"act {number}, {acts[number - 1]['name']:24} mean IoU {mean:.2f}")
short = "turns", "silence", "off screen", "twins", "too short", "never seen"
workbook.beside("the six acts", dict(zip(short, means)))

# %% [markdown]
# What to take from the six acts:
#
# - **Good at what it was trained for.** Where the video resembles the training clips, the masks
#   are right except at their edges, although the pictures have another size and the coding is
#   lossy. In silence nothing is marked, with or without a noise floor.
# - **A sound needs a culprit.** The disc that nobody sees is heard, and something in view gets the
#   blame. In training every sound had its object in view. Nothing taught the model to say "that
#   one is not here".
# - **Twins.** While one sounds, the other is marked just as much. The model has one vector for all
#   that it hears, made from mono sound. It tells *what* sounds, not *where*, and it fits both
#   twins. On such clips no training can cure this, for both look alike, too. In real video a moving
#   mouth might.
# - **Short sounds.** The front end hears the 0.975 s that follow the picture. Here a tenth of a
#   second of sound in them was enough. Where in the window it lies matters too: section 8.5 shows a
#   picture that hears it at the very start, and marks nothing. The truth asks what sounds at the *instant* of the picture: at
#   seconds 16 to 18 nothing does yet, because the sounds start at 16.4, 17.4 and 18.5. So the IoU
#   is 0, and the mask is early.
# - **Never seen, never heard.** While the large cross sounds, bare background is marked. While the
#   tiny square sounds, a part of the cross is marked. For white noise and speech, the square and a
#   part of the cross are marked. Nothing in the masks gives a warning.

# %% [markdown]
# ## 8.3 Scrub through it
#
# The player does the same as the three lines of section 8.1, with you at the controls. Pick or
# upload a video, press *Predict*, and move the slider or let it play. Tick *play its sound as I move* to hear, with each picture, what
# the model heard. The threshold changes the masks at once: the probabilities are kept, so nothing
# is predicted again. The curve shows what share of each picture is marked; its red line shows
# where you are. *Export* writes masks, overlay and manifest with the threshold that you chose,
# and says where.
#
# Where no widget can run, as on GitHub, you see six of the pictures and, under each, how much of
# it is marked.

# %%
player = VideoPlayer(segmenter, RUNS, [OWN or SAMPLE, SAMPLE])
player.predict()                                         # what the button does
player

# %% [markdown]
# ## 8.4 Can a threshold help?
#
# If the model were *unsure* of its wrong masks, a higher threshold would remove them and keep the
# right ones. Is it unsure?
#
# > **Prediction.** A pixel is marked where its probability is above the threshold. At a threshold
# > of 0.99, what share is left of the objects that are rightly marked in act 1, and of the object
# > that gets the blame in act 3?

# %%
workbook.guess("left at 0.99", {"act 1, right": ..., "act 3, blamed": ...})  # shares, from 0 to 1

# %% [markdown]
# ### Exercise 1: how sure?
#
# *4 minutes, easy.*
#
# How high must the threshold be to make an object all but vanish? `probability` is the map of one
# picture, `area` is `True` on the pixels of the object; both arrays have the same shape. Return
# the lowest threshold that leaves no more than a tenth of the object's pixels above it.

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
# The lines are nearly level. Why? The table lists each object of which more than 30% is marked,
# with the median of its probabilities and, once exercise 1 is solved, the threshold above which it
# is all but gone. First come the objects of act 1, which are rightly marked. Then come those of
# acts 3, 4 and 6 that are marked and do not sound. (What act 6 marks on bare background belongs to
# no object, so it is not in the table.)

# %%
mine = workbook.yours("how sure")
rows, left = [], {"act 1, right": [], "act 3, blamed": []}
for k in [*range(4), *range(8, 16), *range(20, 24)]:       # acts 1, 3, 4 and 6
    for name, sounds, area in make_sample.objects_at(k):
        if masks[k][area].mean() > 0.3 and sounds == (k < 4):
            inside = chance[k][area]
            verdict = "rightly" if sounds else "wrongly"
            gone = f"{mine(chance[k], area):.3f}" if mine else "your answer"
            rows.append((k, name, verdict, f"{np.median(inside):.3f}", gone))
            if k < 12:                                     # acts 1 and 3
                left["act 1, right" if sounds else "act 3, blamed"].append((inside > 0.99).mean())
shares = {name: np.mean(of) if of else "nothing is marked" for name, of in left.items()}
workbook.beside("left at 0.99", shares)
workbook.table(["second", "object", "marked", "median probability", "gone above"], rows)

# %% [markdown]
# No threshold separates right from wrong here: most of the objects that are wrongly marked are
# marked with the same certainty as the right ones. The model learned its probabilities on the
# training clips. Beyond them, a probability does not say how far the answer can be trusted. What a
# threshold does move is the outline, as the player shows.
#
# ## 8.5 How often to look
#
# Published systems look once a second, because AVSBench is annotated once a second. What does
# looking more often bring, and what does it cost?
#
# > **Prediction.** With five times the pictures, how many times as long does it take, and what is
# > the mean IoU of act 5?

# %%
workbook.guess("more pictures", {"times as long": ..., "mean IoU of act 5": ...})

# %% [markdown]
# ### Exercise 2: who hears it?
#
# *6 minutes, medium.*
#
# Picture $k$ stands at second $k/\mathrm{fps}$ and hears the 0.975 s from there on. Return the
# list of all $k \ge 0$ whose pictures hear any part of a sound that lasts from `start` to `end`,
# in seconds.

# %% tags=["exercise"]
def hearers(start, end, fps):
    # solution
    instants = range(int(end * fps) + 1)
    return [k for k in instants if k / fps < end and k / fps + 0.975 > start]
    # wrong: a sound that only touches the window is heard
    instants = range(int(end * fps) + 1)
    return [k for k in instants if k / fps <= end and k / fps + 0.975 >= start]
    # wrong: pictures while it sounds
    instants = range(int(end * fps) + 1)
    return [k for k in instants if start <= k / fps < end]
    # wrong: only pictures that hear all of it
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
        ((2.5, 3.5, 1), [3], "a picture hears what comes after it, so earlier ones count too"),
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
    """What is predicted for the sample, and the seconds that it takes.

    The least of three tries, because other programs can only add time.
    """
    tries = []
    for _ in range(3):
        start = time.perf_counter()
        often = list(predict(segmenter, SAMPLE, fps))
        tries.append(time.perf_counter() - start)
    return often, min(tries)


rows, spent = [], []
for fps in (1, s.dense):
    often, seconds = timed(fps)
    spent.append(seconds)
    shown = np.array([one.mask() > 0 for one in often])
    flips = np.mean([(a != b).any() and not (a & b).any() for a, b in zip(shown, shown[1:])])
    taken = f"{seconds:.1f} s", f"{seconds / 24:.0%}"
    rows.append((f"{fps:g}", len(often), *taken, f"{flips:.0%}"))
columns = ["pictures a second", "pictures", "time", "share of the video's length"]
workbook.table([*columns, "neighbouring masks that change completely"], rows)

# %%
in_act_5 = [one for one in often if 16 <= one.time < 20]
marked_there = torch.from_numpy(np.stack([one.mask() > 0 for one in in_act_5]))
truth_there = torch.from_numpy(np.stack([make_sample.truth_at(one.time) for one in in_act_5]))
act_5 = evaluation.frame_iou(marked_there, truth_there).mean()
both = {"times as long": spent[1] / spent[0], "mean IoU of act 5": act_5}
workbook.beside("more pictures", both)

# %% [markdown]
# (Measured on one thread, with everything: decoding, the front end, the model, masks at full
# size.) The time grows by less than the number of pictures, because the whole video must be
# decoded in any case. Fewer neighbouring masks change completely. Now act 5: what share of the
# ring is marked in each picture, drawn over the intervals in which it sounds.

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
    alt="Share of the object that is marked over act 5, with the intervals in which it sounds: it "
    "is marked from some tenths of a second before each sound starts; hardly at all during the two "
    "short sounds, and nearly to the end of the long one.",
)

# %% [markdown]
# Even the sound of 0.1 s is found, at one picture a second too. But more pictures do not bring mask
# and truth together: while the two short sounds last, hardly anything is marked. The mask runs
# *ahead*, because a picture is marked for what is heard after it. How far ahead? Compare each mask
# with what sounds `lead` seconds later. The objects move in the meantime. So this truth keeps them
# where the picture shows them, and takes from the later moment only which of them sound. (Acts 1
# and 2, without the last second of each.)

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
# The masks agree best with what sounds some tenths of a second *later*. The middle of the window
# that a picture hears lies about half a second after it, which explains at least a part. With one
# picture a second and sounds of whole seconds, nobody notices. For a film at 25 pictures a second
# you would shift the sound that the model hears by as much, or train with windows that are centred
# on the picture.
#
# ## 8.6 Does it listen?
#
# The idea of the listening tests in [notebook 3](03_training.ipynb) works on any video, without
# ground truth: keep the pictures, change the sound, and compare the masks. Here the video's own
# sound is delayed by half its length (what falls out at the end comes in at the beginning). Then
# silence takes its place. A mask that stays the same whatever is heard does not depend on the
# sound. `audio=` takes any file with sound: record something of your own, and see what the model
# finds in your pictures.
#
# > **Prediction.** The masks with the video's own sound are compared with those with another
# > sound. What is their IoU, from 0 to 1, with the delayed sound and in silence?

# %%
workbook.guess("IoU with another sound", {"half its length later": ..., "silence": ...})

# %%
chosen = OWN or SAMPLE
own = torch.zeros(16_000)                                # for a video without a sound track
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


before, rows, alike = marked(), [], {}
for name in sounds:
    after = marked(RUNS / f"{name}.wav")
    either = (before | after).flatten(1).any(1)
    alike[name] = agree = "nothing is marked"
    if either.any():
        alike[name] = evaluation.frame_iou(before, after)[either].mean()
        agree = f"{alike[name]:.2f}"
    rows.append((name, f"{before.float().mean():.1%}", f"{after.float().mean():.1%}", agree))
workbook.beside("IoU with another sound", alike)
columns = ["sound", "marked with its own sound", "marked with this sound"]
workbook.table([*columns, "IoU of the two, where either marks anything"], rows)

# %% [markdown]
# A deaf model would keep its masks, with an IoU of 1. This one, on the sample, marks nothing in
# silence. With the delayed sound it marks less, and mostly other places. Why is that IoU not 0? In
# most acts what is heard now has no object in view, and, as in act 3, something in view gets the
# blame. Where the same object was marked before, the masks overlap. A model that listens can still
# be wrong: this test shows that it listens, and no more.
#
# ## 8.7 To take away: overlay, masks, manifest
#
# The command line writes a folder for each video, picture by picture: an hour takes no more
# memory than a minute, and a run that was stopped continues where it was. `write` does the same
# for one video.
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
# That is a part of it. The whole manifest also holds a digest of the video and one of the model:
# short codes that change with any byte of either. So nobody mistakes another file of the same name
# for yours. Keep the manifest beside the masks when they go into a paper.

# %%
overlay = made / "overlay.mp4"
Video(str(overlay), embed=overlay.stat().st_size < 2e6, width=320)

# %% [markdown]
# ## 8.8 A dog barks: does the dog light up?
#
# Silhouettes show the mechanism; nobody would call them a world. `checkpoints/photos` has the
# same architecture. It was trained on cut-out *photographs* of 41 animals, instruments and things,
# mostly on photographed backgrounds, each with a *recording* of its sound. None of these files
# comes with the workbook. They are part of two packages of the drawing program Tux Paint. One
# command fetches them, 4.4 MB, and checks every file
# ([photographs that sound](../docs/photos.md)):
#
# ```
# lightavseg data fetch photos
# ```
#
# If the photographs are installed, the next cell makes a film of them: ten seconds, in which two to
# four of them move and each sounds now and then. The model was trained on these photographs and
# recordings, but not on this scene or this mixture. If they are not installed, the next cell says
# so, and the cells of this section do nothing. Play the film with sound. What would *you* mark?

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
        alt="A strip of ten pictures of photographed things, with what sounds; below it one with "
        "what the model marks, and the IoU of each second as a bar.",
    )

# %% [markdown]
# Does it listen? This is the test of 8.6, now with the ground truth at hand. If the model listens,
# sound that is delayed by half the film lowers the score, and silence leaves the film unmarked. (An
# unmarked picture scores 1 where nothing sounds.)

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
    display(workbook.table(["heard", "marked", "mean IoU with the truth"], rows))

# %% [markdown]
# And now you: the mixing desk of [notebook 5](05_decoder.ipynb), with photographs. Each thing has a
# switch and a volume. **Try:**
#
# 1. Switch off one thing that sounds. Does its mask go, and do the other masks stay?
# 2. Switch off everything, and then the noise floor too.
# 3. Leave only the donor's sound, which is the sound of another clip. What gets the blame?
# 4. Turn one thing down slowly. When does the model lose it, and when do *you*?

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
        f"from a change to its picture, measured, CPU, threads: {torch.get_num_threads()}: "
        f"median {times.median:.0f} ms, 95th percentile {times.p95:.0f} ms"
    )

# %% [markdown]
# Do not make too much of it. Most categories have one photograph and one recording: the model knows
# *that* dog and *that* bark. What it makes of individuals that it has never met is the subject of
# [notebook 9](09_real_world.ipynb). And a photograph that is cut out and put
# in front of another one is no scene. It is not AVSBench.

# %% [markdown]
# ## 8.9 Your video, your model
#
# Upload it in the player: at most 10 MB, a few seconds of a phone's video. A video of any length
# goes into the folder `notebooks`: set `video` in the parameters to its path, such as
# `"notebooks/mine.mp4"`, and run all cells. Then 8.2, 8.6 and 8.7 are about it. The video may be in
# any format that FFmpeg knows, upright or not, with sound or without.
#
# **But be clear about what you see.** `checkpoints/tiny` knows flat silhouettes and synthetic
# timbres. It has never seen a photograph or heard a recording. `checkpoints/photos` knows cut-out
# photographs of some animals, instruments and things, most of them by a single photograph and a
# single recording. How far that carries was measured ([notebook 9](09_real_world.ipynb)):

# %%
def read(path):
    return json.loads((here.root / "results" / path).read_text())


scores, real = read("unseen/photos.json")["M_J"], read("exam/photos.json")["means"]["of all"]
known, new = (scores[who][who]["estimate"] for who in ("siblings", "unseen"))
print(f"M_J, individuals that it knows: {known:.2f}; others of the same kinds: {new:.2f}")
print(f"real photographs, other recordings: {real['own']['M_J']:.2f}; "
      f"with a recording that does not belong: {real['swapped']['M_J']:.2f}; "
      f"marked in silence: {real['silent']['foreground_share']:.1%}")

# %% [markdown]
# So a mask in your phone's video says *that something sounds*, and little about *what*. Silence
# carries over: where nothing is heard, nothing is marked. Which thing is marked does not: with real
# pictures the right recording gains next to nothing over a wrong one, however plausible a mask may
# look. What also carries over is everything around the model: the decoding, the timing, the tests
# of this notebook. For masks that mean more
#
# 1. get AVSBench, which is given out on request, and check it: `lightavseg data check
#    path/to/AVSBench --subset ms3` ([how to get it and where to put it](../docs/avsbench.md));
# 2. train on a GPU, e.g. `lightavseg train --data path/to/AVSBench --subset ms3 --recipe paper
#    --audio-weights joint --out runs/real` (the recipes are *unverified*: nobody has run them on
#    the real data here);
# 3. set `checkpoint = "runs/real"` and run the same cells. Expect little of that model on the
#    sample: silhouettes are to it what act 6 is to `checkpoints/tiny`. What it marks in your video
#    may be worth a look.
#
# Then ask the questions of this notebook. Take away the sound: does the mask vanish? Give it
# another sound: does the mask move? Find a second with two objects of a kind. Find a sound from
# behind the camera.

# %% tags=["result", "nbval-check-output"]
right = (iou > 0.9).int()
print(f"seconds with an IoU above 0.9: {right[:8].sum()} of 8 in acts 1 and 2, "
      f"{right[8:].sum()} of 16 in acts 3 to 6")

# %%
workbook.took(1)

# %% [markdown]
# ## Three things to remember
#
# 1. Audio tells *what*, vision tells *where*: with one audio vector for all that is heard, twins
#    that look alike cannot be told apart. Off-screen sounds and unknown things fail, most
#    likely because the training clips held nothing like them, and neither mask nor probability gives a warning.
# 2. A picture is paired with the sound that comes after it, so masks run a few tenths of a second
#    ahead of the sound.
# 3. Whether a model listens can be tested on any video, without ground truth: keep the pictures,
#    change the sound, and compare the masks.
#
# **What this can and cannot say about AVSBench.** One staged video of 24 seconds shows *that*
# these failures exist, and why, for a method with one audio vector, in the clearest case. It cannot
# say how often they occur in real clips, or how a model behaves after training on thousands of real
# objects.
#
# ## Try next
#
# - Set `dense = 25.0` in the parameters. How does the time grow in 8.5, and does the best lead stay
#   where it was?
# - Train a model with `--negatives` ([what they buy and cost](../docs/photos.md#negatives)), set
#   `checkpoint` to it, and look at act 3. Does something in view still get the blame?
# - Train another method of [notebook 7](07_methods.ipynb), set `checkpoint` to its run, and send it
#   through the six acts. Which of them does it fail?
#
# ## References
#
# - LightAVSeg: arXiv 2605.08805 (ICML 2026).
# - AVSBench, with its one annotated picture a second: Zhou et al., *Audio-Visual Segmentation*,
#   ECCV 2022, arXiv 2207.05042.
# - The front end with its window of 0.975 s: Hershey et al., *CNN Architectures for Large-Scale
#   Audio Classification*, ICASSP 2017.
# - Photographs and recordings in 8.8: Tux Paint, with [credits](../figures/CREDITS.md).

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
# # 1. Data and task: which pixels do you hear?
#
# Somebody shows you a street with the sound off and asks: *what here makes a noise?* You can
# only guess. With the sound on, you know. That is the task of this workbook: **given a video's
# frames and its sound, mark the pixels of whatever is sounding.** This notebook is about what
# goes in, what should come out, and how the answer is scored. There is no model to build yet,
# and nothing to train.
#
# **Afterwards you can**
# - say what is given and what is asked in the three tasks S4, MS3 and AVSS, and find your way
#   around their files;
# - follow a second of sound into the log-mel picture that a model hears, count its windows, and go
#   from mel back to hertz;
# - work out the two scores, $M_J$ and $M_F$, by hand, and say why the published $M_F$ depends
#   on the batch size;
# - recognise data on which a high score is no proof of listening.
#
# | | |
# |---|---|
# | To read | @minutes |
# | Time on 2 cores | about a minute (`profile = "smoke"`: half of it) |
# | Memory | 1.5 GB |
# | You need | Python and a little PyTorch; no knowledge of audio; loudspeakers or headphones |

# %% tags=["parameters"]
profile = "default"    # "smoke": the shortest run that touches everything
clips = 32             # test clips of each kind that are scored; a multiple of 8
seed = 0
out = None    # folder for what is written; None: the checkout, or your cache where it is read-only

# %%
from lightavseg_core import workbook

s = workbook.settings(globals(), clips=int, seed=int, out=str | None)
if s.clips < 8 or s.clips % 8:
    raise ValueError(f"clips is {s.clips}; expected a multiple of 8, for batches of 1, 2, 4 and 8")
if s.profile == "smoke":
    s.clips = min(s.clips, 16)
print(f"{s.clips} test clips of each kind, seed {s.seed}")

# %%
import json
import shutil

import numpy as np
import torch
from IPython.display import Audio, display
from PIL import Image

import lightavseg_core as lav
from lightavseg_core import plots
from lightavseg_core.data.check import PUBLISHED, check
from lightavseg_core.data.layout import read_clips, read_labels
from lightavseg_core.data.masks import read_mask, voc_palette
from lightavseg_core.data.mixing import tracks
from lightavseg_core.inspection import scales
from lightavseg_core.metrics import MaskScore, f_curve

size = 128
here = workbook.places("01_data", s.out)
tour = here.runs / f"tour_{s.seed}"                   # a few clips of each subset, to look at
for subset in ("s4", "ms3", "avss"):
    lav.data.sounding_shapes.generate(tour, subset, {"train": 6, "test": 1}, size, s.seed)
print(", ".join(f"{name} {value}" for name, value in workbook.card().items()))

# %% [markdown]
# ## 1.1 Look and listen
#
# The benchmark, **AVSBench** (Zhou et al. 2022), is cut from web videos: dogs, guitars, engines.
# Its authors give it out on request (section 1.2). So that you can begin now, the workbook
# generates **SoundingShapes**, in the same files and folders. These are silhouettes that move
# about, each with a *timbre* (the character of a sound) of its own. A disc hums, a ring wails
# like a siren, a cross rattles. A shape and its timbre make a *category*; colour, size and place
# say nothing about it. Here is the first clip; play it.

# %%
several = lav.data.AVSBench(tour, "ms3", "train")
item = several[0]
figure = plots.clip_figure(item)
figure.set_size_inches(8, 4.8)
workbook.show(
    figure,
    alt="Five frames of a clip; below each, in green, the objects that sound in that second; "
    "below that the log-mel spectrogram of what is heard.",
)
Audio(several.waveform(0).numpy(), rate=16_000)

# %% [markdown]
# The upper row is all that a model sees, one frame per second. The lower row is all that it
# hears, as a picture: time runs to the right, pitch upwards. You make such a picture in section
# 1.3. The row between is the **ground truth** (`truth` in the code): in each second the objects
# that sound, and not those that are merely there.
#
# Now the experiment that defines the task. The frames stay the same. Of the sound we keep only
# one object, then only another:

# %%
*things, floor = tracks(several, 0)     # each object's own sound; last comes the background noise
longest = sorted(things, key=lambda track: -track.object.sounding.sum())[:2]
rows = {"the whole sound": item["mask"]}
for track in longest:
    label = f"only the {track.name}"
    rows[label] = torch.from_numpy(track.object.masks & track.object.sounding[:, None, None])
    print(label)
    display(Audio((track.sound + floor.sound).numpy(), rate=16_000))

title = "The same frames with another sound have another truth"
figure = plots.data.truths(item["frames"], rows, title)
figure.savefig(here.figures / "01_task.png", dpi=100, metadata={"Software": None})
workbook.show(
    figure,
    alt="Five frames, and below them what sounds, in green: with the whole sound, with one object "
    "alone, with another alone. The marked objects differ though the frames are the same.",
)

# %% [markdown]
# (A row may have dark frames. There the object is in view but silent, and the ground truth is
# empty.) No amount of looking tells which of the three lower rows is right. No amount of
# listening tells *where* the sound comes from: it has a single channel (mono). The answer needs
# both. The workbook puts it in one sentence:
#
# > **Audio tells what, vision tells where.**
#
# Remember it for [notebook 2](02_model.ipynb), where it becomes a few lines of code.
#
# ## 1.2 Three tasks on disk
#
# AVSBench has three subsets. The table gives what is *reported* about them, not what we counted;
# the sources are in [docs/avsbench.md](../docs/avsbench.md). AVSS contains the clips of the other
# two, with new labels, as `v1s` and `v1m`.
#
# | | S4, single source | MS3, multiple sources | AVSS, semantic |
# |---|---|---|---|
# | question | which pixels sound? | which pixels sound? | which sound, and *as what*? |
# | sources | one, all the time | several, they come and go | any |
# | clips | 4,932 | 424 | 11,356: 4,932 `v1s`, 424 `v1m`, 6,000 `v2` |
# | of these train / val / test | 3,452 / 740 / 740 | 296 / 64 / 64 | |
# | categories | 23 | 23 | 70, and background |
# | frames in a clip | 5 | 5 | 5 (`v1s`, `v1m`) or 10 (`v2`) |
# | annotated for training | **only the first** | all | `v1s`: only the first; others: all |
# | annotated for validation and test | all | all | all |
# | a mask's pixels | above 0: sounds | above 0: sounds | a class each, as a colour |
#
# MS3 is small: there are 296 clips to learn from. S4 asks a model to learn from one frame in
# five. Both are reasons why methods rely on pretrained *encoders*. An encoder is the part that
# turns a picture or a sound into features; these were trained elsewhere, on more data. Here is a
# generated clip of each kind. A frame with a mask is shown in grey, its mask in colour; a frame
# without a mask is shown as it is.

# %%
labels = read_labels(tour)                       # label2idx.json: background 0, then the categories
single = {split: lav.data.AVSBench(tour, "s4", split) for split in ("train", "test")}
semantic = lav.data.AVSBench(tour, "avss", "train")
rows = {
    "S4\ntrain": single["train"][0],
    "S4\ntest": single["test"][0],
    "MS3\ntrain": several[0],
}
for i, clip in enumerate(semantic.clips[:3]):
    rows[f"AVSS {clip.kind}\ntrain"] = semantic[i]
by_class = [name for name in rows if name.startswith("AVSS")]
workbook.show(
    plots.data.annotations(rows, by_class, list(labels), "What is annotated"),
    alt="Six clips, a row each. S4 and AVSS v1s for training have a mask for the first frame only; "
    "the others for all; v2 has ten frames. Masks of AVSS are painted by category, those of S4 "
    "and MS3 are green.",
)

# %% [markdown]
# We have generated 6 S4 clips for training and 1 for test. The table above says which of their
# frames are annotated, and how many clips the real S4 has.
#
# > **Prediction.** How many S4 masks are on our disk? How many should a complete download of S4
# > contain, by the same rule?

# %%
workbook.guess("masks of S4", {"on our disk": ..., "complete download": ...})

# %%
found = len(list((tour / "Single-source/s4_data/gt_masks").rglob("*.png")))
print(f"masks of S4 on our disk: by the rule 6 + 5 * 1 = {6 + 5 * 1}, counted {found}")
assert found == 6 + 5 * 1
real = PUBLISHED["s4"]
masks = real["train"] + 5 * (real["val"] + real["test"])
terms = f"{real['train']:,} + 5 * ({real['val']} + {real['test']})"
print(f"the real S4, by the rule from its reported clips: {terms} = {masks:,} (not counted here)")
workbook.beside("masks of S4", {"on our disk": found, "complete download": masks})

# %% [markdown]
# **Why?** A training clip has one mask, for its first frame. A clip for validation or test has
# five.
#
# **Where the files are.** Each subset has its own conventions: MS3 puts `.mp4` into the middle of
# a picture's name; S4 has a folder for each category, the others do not. Such details are the
# first thing to go wrong. These are the files of one generated clip of each subset:

# %%
clips = {"S4": single["train"].clips[0], "MS3": several.clips[0], "AVSS": semantic.clips[2]}
for subset, clip in clips.items():
    print(f"{subset}: clip {clip.name}")
    files = [path for path in tour.rglob("*") if path.is_file() and clip.name in str(path)]
    for folder in sorted({path.parent for path in files}):
        names = [path.name for path in files if path.parent == folder]
        names.sort(key=lambda name: (len(name), name))
        shown = names[0]
        if len(names) > 1:
            shown += f" ... {names[-1]}   ({len(names)} files)"
        print(f"    {folder.relative_to(tour)}/{shown}")

# %% [markdown]
# In addition each subset has a CSV file that names the clips and their splits. The real S4 and
# MS3 also come with each clip's log-mel as a pickle. To open a pickle is to run whatever program
# somebody put into it, so this workbook never does: it computes log-mels from the WAV.
#
# **What a mask contains.** In AVSS a mask is a colour picture, and each colour *is* a number. The
# rule is that of PASCAL VOC (Everingham et al. 2010). Write the class index in binary. Its last
# bit switches red to 128, the bit before it green, the next one blue; further bits add 64 in the
# same order, then 32. So 1 is dark red, 2 is dark green, and
# 3, which is 1 + 2, is both: olive. 4 is dark blue. Neighbouring numbers get very different
# colours. (The figure above uses other colours, which are easier to tell apart on a picture.) The
# package looks the colours up and returns indices:

# %%
paths = [path for clip in semantic.clips for path in clip.masks if path]
masks = (read_mask(path, "avss", len(labels)) for path in paths)
index = next(mask for mask in masks if len(mask.unique()) > 2)   # the first with two categories
workbook.show(
    plots.data.palette(index.numpy(), voc_palette(len(labels)), list(labels)),
    alt="Left a mask in its file's colours; middle a small square of it, enlarged, with the class "
    "index in each pixel; right the list of indices, classes and the values that labels_semantic "
    "holds.",
)

# %% [markdown]
# The last column is a trap. AVSBench also ships the masks as grey pictures, `labels_semantic`,
# in which **value = index - 1**, as 8-bit numbers. So the background, index 0, is 255. If you read
# such a file as indices, everything is off by one. We write one and read it back:

# %%
folder = here.runs / "labels_semantic"
folder.mkdir(parents=True, exist_ok=True)
Image.fromarray((index - 1).numpy()).save(folder / "0.png")      # uint8: 0 - 1 wraps around to 255
again = read_mask(folder / "0.png", "avss", len(labels))
in_file = torch.from_numpy(np.array(Image.open(folder / "0.png")))
pairs = torch.stack([in_file.flatten(), again.flatten()], 1).unique(dim=0).tolist()
print(", ".join(f"{value} in the file is read as {read}" for value, read in pairs))
assert torch.equal(again, index)

# %% [markdown]
# **The real data.** How to ask for AVSBench, where to put it and what to expect is described in
# [docs/avsbench.md](../docs/avsbench.md). The same class reads real and generated clips:
# `lav.data.AVSBench(root, subset, split)`. Before you train on any data, real or generated, let
# `lightavseg data check FOLDER --subset ms3` read every file. A training run that crashes in
# epoch 12 is an expensive way to find out that a frame is missing.

# %%
for subset in ("s4", "ms3", "avss"):
    report = check(tour, subset)
    print("\n".join(report.lines()))
    assert report.ok

# %% [markdown]
# Does the check also find what is wrong? We take a copy, delete one frame, and cut off one mask
# after 100 bytes:

# %%
broken = here.runs / f"broken_{s.seed}"
shutil.copytree(tour, broken, dirs_exist_ok=True)
victim, other = read_clips(broken, "ms3", "train")[:2]
victim.frames[2].unlink()
other.masks[0].write_bytes(other.masks[0].read_bytes()[:100])
report = check(broken, "ms3")
print("\n".join(report.lines()))
found = [problem[:2] for problem in report.problems]
assert found == [(victim.name, "missing"), (other.name, "broken")]

# %% [markdown]
# ## 1.3 From sound to a picture of sound
#
# Sound comes as 16,000 numbers (*samples*) per second. A single one means nothing, not even
# "loud": what we hear is how fast, and how strongly, they *oscillate*. So for each frame a model
# gets a picture that shows which frequencies sound when: the **log-mel spectrogram**. The recipe
# below is that of VGGish (Hershey et al. 2017), an audio network whose input format AVSBench
# adopted. We follow one second of the clip, the one in which most objects sound:
#
# 1. Take the 15,600 samples (0.975 s) that begin at the frame's time.
# 2. Cut them into **windows** of 25 ms (400 samples); a new one begins every 10 ms (160 samples).
#    Fade each window in and out with a bell-shaped curve, the Hann window. A hard cut
#    would look like high frequencies that are not in the sound.
# 3. Ask how much of each frequency a window contains: its *spectrum*. This is a Fourier transform
#    (FFT) over 512 points, so 112 zeros follow the 400 samples. We keep its strengths (*magnitudes*) at 257 frequencies from 0 to 8,000 Hz, the
#    **bins**.
# 4. Add up the bins in 64 **mel bands** between 125 and 7,500 Hz. The weights of a band form a
#    triangle over its frequencies. The mel is a unit of pitch as *we* hear it. The triangles are
#    evenly spaced in mels, so in hertz they are narrow at low and wide at high frequencies.
# 5. Take the logarithm, because we also hear loudness in ratios: $\log(x + 0.01)$. The 0.01
#    keeps silence finite.
#
# > **Prediction.** How many whole windows fit into 15,600 samples? How many into 16,000, a full
# > second? How many into 15,360, which is 0.96 s?

# %%
workbook.guess("windows", {"15,600 samples": ..., "16,000 samples": ..., "15,360 samples": ...})

# %%
counted = {}
for samples, by_formula in {15_600: 96, 16_000: 98, 15_360: 94}.items():
    measured = len(torch.zeros(samples).unfold(0, 400, 160))
    counted[f"{samples:,} samples"] = measured
    assert measured == by_formula == 1 + (samples - 400) // 160
workbook.beside("windows", counted)

# %% [markdown]
# **Why?** The first window needs 400 samples, and each further one needs 160 more. So $N$ samples
# hold $n = 1 + \lfloor (N - 400) / 160 \rfloor$ windows. Many texts say 0.96 s and mean 96 steps
# of 10 ms; the last window reaches 15 ms further.
#
# Now the steps, each in a line or two. Shapes are in the comments.

# %%
how_many = sum(track.object.sounding.astype(int) for track in things)
second = int(how_many.argmax())                                     # in which most objects sound
waveform = several.waveform(0)
sound = waveform[second * 16_000:][:15_600].double()                # (15600,)
windows = sound.unfold(0, 400, 160)                                 # (96, 400)
turn = 2 * torch.pi * torch.arange(400, dtype=torch.float64) / 400  # (400,) 0 to a full turn
hann = 0.5 - 0.5 * torch.cos(turn)                                  # (400,)
spectrum = torch.fft.rfft(windows * hann, n=512).abs()              # (96, 257) zero-padded


def mel(hertz):
    """Pitch as we hear it: about linear up to 700 Hz, then logarithmic (the HTK formula)."""
    return 1127 * torch.log1p(torch.as_tensor(hertz, dtype=torch.float64) / 700)


# Triangle k has the edges k, k + 1, k + 2.
edges = torch.linspace(mel(125), mel(7500), 66, dtype=torch.float64)
frequency = torch.linspace(0, 8000, 257)                            # of each bin, Hz
position = mel(frequency)[:, None]                                  # (257, 1)
rising = (position - edges[:-2]) / (edges[1:-1] - edges[:-2])       # (257, 64)
falling = (edges[2:] - position) / (edges[2:] - edges[1:-1])
triangles = torch.minimum(rising, falling).clamp_min(0)
log_mel = torch.log(spectrum @ triangles + 0.01)                    # (96, 64)

# %%
figure = plots.data.log_mel_steps(sound, hann, spectrum, triangles, log_mel, window=20)
workbook.show(
    figure,
    alt="Six panels: one second of sound with a window marked; the window's samples, faded in and "
    "out; its spectrum; mel triangles, narrow at low and wide at high frequencies; all spectra; "
    "the log-mel.",
)
heard = [track.name for track in things if track.object.sounding[second]]
print(f"second {second}: what sounds is", ", ".join(heard))
middle = frequency[triangles[:, 32].argmax()]
print(f"the lower half of the mel bands ends near {middle:.0f} Hz")
Audio(sound.numpy(), rate=16_000)

# %% [markdown]
# Compare panels 5 and 6. The mel bands spend half of their rows on the lowest quarter of the
# frequencies, much as our ears do.
#
# Do these steps give what the package computes? They should, up to the rounding of 32-bit
# numbers. To an encoder that was trained on one recipe, another recipe is a foreign accent.

# %%
front_end = lav.data.audio.LogMel()
package = front_end(waveform, torch.tensor([float(second)]))[0, 0]  # (96, 64), what a model gets
difference = float((log_mel - package).abs().max())
print(f"largest difference from lightavseg_core.data.audio.LogMel: {difference:.0e}")
assert difference < 1e-6

silence = front_end(torch.zeros(16_000), torch.tensor([0.0]))
expected = torch.tensor(0.01).log()
print(f"silence is {silence.min():.3f} everywhere; expected log(0.01) = {expected:.3f}")
assert torch.allclose(silence, expected)

# %% [markdown]
# **What if the track is too short?** Suppose a WAV lasts 4.8 s. Then the last frame, at 4.0 s,
# has only 0.8 s of sound. The rest is filled with silence *before* the logarithm. Zeros filled
# into the log-mel afterwards would be anything but silent: they stand for $x = e^0 - 0.01 = 0.99$,
# whereas silence is $x = 0$.
#
# > **Prediction.** How many of the last frame's 96 windows hear nothing but silence?

# %%
workbook.guess("silent windows", ...)

# %%
last = front_end(waveform[:76_800], torch.tensor([4.0]))[0, 0]      # 4.8 s -> (96, 64)
quiet = int(torch.isclose(last, torch.tensor(front_end.silence)).all(1).sum())
louder = float((item["log_mel"] >= 0).float().mean())
workbook.beside("silent windows", quiet)
print(f"a zero would be louder than {1 - louder:.1%} of the values in this clip's log-mel")
assert quiet == 16

# %% [markdown]
# **Why?** The sound ends after 0.8 s, or 12,800 samples. Windows that start there or later hear
# nothing. A window starts every 160 samples, so $12{,}800 / 160 = 80$ windows start before that,
# and the last $96 - 80 = 16$ are silent in all bands.
#
# **Where the benchmark differs.** For AVSBench's own features the windows of the whole track are
# cut into pieces of 96. So a piece begins every 0.96 s, not every second: what goes with second 4
# begins at 3.84 s. In this workbook each frame hears the sound that begins with it. If you need
# the benchmark's cut, write `LogMel("published")`; the recipe is the same.
#
# ### Exercise 1: back from mel to hertz
#
# *3 minutes, easy.*
#
# Bands are counted from 0. Band 31 peaks at `edges[32]`, but that is in mels. Which frequency is
# it? `mel` is $m = 1127 \ln(1 + f / 700)$. Solve for $f$; `m` is a tensor of any shape.

# %% tags=["exercise"]
def hertz(m):
    # solution
    return 700 * (torch.exp(m / 1127) - 1)
    # wrong: the 1 inside the logarithm stays
    return 700 * torch.exp(m / 1127)
    # wrong: 700 is forgotten
    return torch.exp(m / 1127) - 1
    # wrong: ten to the power
    return 700 * (10 ** (m / 1127) - 1)
    # wrong: exp before the division
    return 700 * (torch.exp(m) / 1127 - 1)
    # end solution

# %% tags=["check"]
known, zero, one = torch.tensor([125.0, 1000.0, 7500.0]), torch.tensor(0.0), torch.tensor(1127.0)
peak = frequency[triangles[:, 31].argmax()]
workbook.check(
    "hertz",
    hertz,
    hint="undo mel's steps, the last one first; exp undoes ln",
    cases=[
        (zero, 0.0),
        (mel(known), known),
        (edges[32], lambda found: abs(found - peak) < 16),     # bins lie 31 Hz apart
    ],
    mistakes=[
        (zero, 700.0, "0 mels are 0 Hz: the 1 inside the logarithm has to be subtracted again"),
        (one, 1.71828, "this is f / 700, not yet f"),
        (one, 6300.0, "ln is the natural logarithm, so exp undoes it, not a power of ten"),
        (zero, 700 * (1 / 1127 - 1), "mel multiplies by 1127 last, so divide by it first"),
    ],
)

# %% [markdown]
# ## 1.4 How good is an answer? Two scores, by hand
#
# A model gives each pixel a probability $p$ of belonging to something that sounds. Three frames
# of 4 x 4 pixels are enough to learn both scores. The pixels of the ground truth, the *true*
# pixels, are framed in green. In the third frame nothing sounds.

# %%
probability = torch.full((3, 4, 4), 0.05)
truth = torch.zeros(3, 4, 4, dtype=torch.bool)
# clear
probability[0, :2, :3] = torch.tensor([[0.95, 0.90, 0.15], [0.85, 0.60, 0.55]])
truth[0, :2, :2] = True
# timid
probability[1, :, 2:] = torch.tensor([[0.05, 0.25], [0.15, 0.65], [0.10, 0.45], [0.05, 0.35]])
truth[1, 1:, 3] = True
# silent
probability[2, 2, 1] = 0.70
frames = dict(zip(("clear", "timid", "silent"), zip(probability, truth)))
workbook.show(
    plots.data.pixels(frames, "Probabilities, and in green what truly sounds"),
    alt="Three grids of 4 x 4 probabilities. Clear: four true pixels, all above one half, and one "
    "false one. Timid: three true pixels, one above one half. Silent: no true pixel, one false one "
    "at 0.70.",
)

# %% [markdown]
# **$M_J$** (J for Jaccard, 1912) asks: of all pixels that are marked ($p > 0.5$) *or* true, what
# share is both? For each frame this is the intersection over union, **IoU**; $M_J$ is its mean
# over all frames. If the ground truth is empty, there is no overlap to find: the frame then scores
# **the share of pixels left dark**.
#
# | frame | marked | both | union | score |
# |---|---|---|---|---|
# | clear | 5 | 4 | 5 | 4/5 |
#
# The other two frames are for you: look at the figure.
#
# > **Prediction.** What is $M_J$ of the three frames?

# %%
workbook.guess("M_J of the three frames", ...)

# %%
def score(probability, truth, batch):
    """The scores of the package's MaskScore, which gets `batch` items at a time."""
    ruler = MaskScore()
    for p, t in zip(probability.split(batch), truth.split(batch)):
        logits = p.logit().clamp(-110, 110)      # for p = 0 and 1, whose logits are infinite
        ruler.update(logits, t)                  # applies the sigmoid itself
    return {name: value.item() for name, value in ruler.compute().items()}


measured = score(probability, truth, 3)["M_J"]
workbook.beside("M_J of the three frames", measured)
print(f"by hand (4/5 + 1/3 + 15/16) / 3 = {(4 / 5 + 1 / 3 + 15 / 16) / 3:.4f}")
assert abs(measured - (4 / 5 + 1 / 3 + 15 / 16) / 3) < 1e-6

# %% [markdown]
# Mind the rule for silent frames: a prediction that marks nothing earns 1 on each of them.
# [Notebook 3](03_training.ipynb) measures how much that is worth.
#
# ### Exercise 2: IoU
#
# *5 minutes, easy.*
#
# `marked` and `true` are (H, W), bool. Return the frame's score, including the rule for an empty
# ground truth.

# %% tags=["exercise"]
def iou(marked, true):
    # solution
    if not true.any():
        return (~marked).float().mean()
    return (marked & true).sum() / (marked | true).sum()
    # wrong: no rule for the empty truth
    return (marked & true).sum() / (marked | true).sum()
    # wrong: an empty truth always scores 1
    if not true.any():
        return 1.0
    return (marked & true).sum() / (marked | true).sum()
    # wrong: Dice
    if not true.any():
        return (~marked).float().mean()
    return 2 * (marked & true).sum() / (marked.sum() + true.sum())
    # wrong: the share of pixels that agree
    return (marked == true).float().mean()
    # end solution

# %% tags=["check"]
nothing, row, rows = torch.zeros(3, 4, 4) > 0
row[0], rows[:2] = True, True                          # 4 pixels, and 8 that include them
cases = [((nothing, nothing), 1.0), ((nothing, truth[0]), 0.0), ((row, nothing), 3 / 4)]
for p, t, expected in zip(probability, truth, (4 / 5, 1 / 3, 15 / 16)):
    cases.append(((p > 0.5, t), expected))
workbook.check(
    "IoU",
    iou,
    hint="first the empty truth: what share is not marked? Then & is the intersection, | the union",
    cases=cases,
    mistakes=[
        ((nothing, nothing), torch.nan, "0 / 0: where the truth is empty, another rule applies"),
        ((row, nothing), 1.0, "the truth is empty, yet something is marked: subtract its share"),
        ((row, rows), 2 / 3, "that is Dice; divide the intersection by the union"),
        ((row, rows), 3 / 4, "background that is left dark does not count; look at the union only"),
    ],
)

# %% [markdown]
# **$M_F$** does not commit itself to the threshold 0.5. At a threshold $t$ we mark the pixels with
# $p \ge t$. *Precision* $P$ is the share of the marked pixels that are true. *Recall* $R$ is the
# share of the true pixels that are marked. The F-measure (Achanta et al. 2009) is
#
# $$F = \frac{(1 + \beta^2)\, P R}{\beta^2 P + R}, \qquad \beta^2 = 0.3.$$
#
# It gives precision more weight than recall. At $t = 0.5$ the clear frame has $P = 4/5$ and $R =
# 1$, so $F = 1.04 / 1.24 = 0.839$; the timid one has $P = 1$ and $R = 1/3$, so $F = 0.684$.
# We compute $F$ at 255 thresholds from 0 to 1. The curves are averaged over the frames **in which
# something sounds**, and the **maximum of the average** is the score: the best that one
# threshold can do for all frames. (AVSS is scored differently: IoU and F of each class, without
# thresholds, averaged over the classes.)

# %%
thresholds = torch.linspace(0, 1 - 1e-10, 255)
curves = f_curve(probability[:2].flatten(1), truth[:2].flatten(1))  # (2, 255), by the package
for curve, by_hand in zip(curves, (1.04 / 1.24, (1.3 / 3) / (0.3 + 1 / 3))):
    assert abs(curve[127] - by_hand) < 1e-6                         # thresholds[127] is 0.5
title = "F by threshold, and where it is highest"
workbook.show(
    plots.data.f_curves(thresholds, dict(zip(frames, curves)), title),
    alt="Three curves of F by threshold: the clear frame is best near 0.6, the timid one near 0.3, "
    "their mean, best near 0.3, stays below both maxima.",
)

# %% [markdown]
# ### Exercise 3: F at one threshold
#
# *6 minutes, medium.*
#
# `probability` is (H, W), `true` is (H, W) bool, with at least one true pixel. Return F, or 0 if
# no true pixel is marked.

# %% tags=["exercise"]
def f_measure(probability, true, threshold):
    # solution
    marked = probability >= threshold
    both = (marked & true).sum()
    if not both:
        return 0.0
    precision, recall = both / marked.sum(), both / true.sum()
    return 1.3 * precision * recall / (0.3 * precision + recall)
    # wrong: only above the threshold
    marked = probability > threshold
    both = (marked & true).sum()
    if not both:
        return 0.0
    precision, recall = both / marked.sum(), both / true.sum()
    return 1.3 * precision * recall / (0.3 * precision + recall)
    # wrong: nothing is asked where nothing true is marked
    marked = probability >= threshold
    both = (marked & true).sum()
    precision, recall = both / marked.sum(), both / true.sum()
    return 1.3 * precision * recall / (0.3 * precision + recall)
    # wrong: both weigh alike
    marked = probability >= threshold
    both = (marked & true).sum()
    if not both:
        return 0.0
    precision, recall = both / marked.sum(), both / true.sum()
    return 2 * precision * recall / (precision + recall)
    # wrong: the weight is at recall
    marked = probability >= threshold
    both = (marked & true).sum()
    if not both:
        return 0.0
    precision, recall = both / marked.sum(), both / true.sum()
    return 1.3 * precision * recall / (precision + 0.3 * recall)
    # end solution

# %% tags=["check"]
at, left = torch.tensor([[0.5, 0.2]]), torch.tensor([[True, False]])
cases = [((probability[1], truth[1], 0.99), 0.0), ((at, left, 0.5), 1.0)]
for i in (0, 1):
    for k in (0, 77, 127, 150):
        cases.append(((probability[i], truth[i], float(thresholds[k])), float(curves[i, k])))
workbook.check(
    "F",
    f_measure,
    cases=cases,
    hint="precision divides by what is marked, recall by what is true",
    mistakes=[
        ((at, left, 0.5), 0.0, "a pixel whose probability equals the threshold is marked, too"),
        ((at, ~left, 0.4), torch.nan, "0 / 0: what if no marked pixel is true?"),
        ((at, left, 0.1), 2 / 3, "that is F1; here precision counts more, by 1.3 and 0.3"),
        ((at, left, 0.1), 0.8125, "in the denominator the 0.3 belongs to precision"),
    ],
)

# %% [markdown]
# ### A score that depends on the batch size
#
# The definition does not mention batches. But the benchmark's published evaluation takes the
# maximum **in each batch** and averages these maxima; a batch in which nothing sounds counts 0.
# So a score that was computed in this way depends on the batch size.
#
# > **Prediction.** What does the batch-wise $M_F$ of our three frames become if each of them is a
# > batch of its own?

# %%
workbook.guess("M_F, one frame per batch", ...)

# %%
highest = float(curves.mean(0).max())
singly = score(probability, truth, 1)
exactly, by_batch = singly["M_F"], singly["M_F_batch"]
print(f"one curve over all frames: maximum of the mean {highest:.3f}, measured {exactly:.3f}")
workbook.beside("M_F, one frame per batch", by_batch)
print(f"by hand (1 + 1 + 0) / 3 = {2 / 3:.3f}")
assert abs(exactly - highest) < 1e-6 and abs(by_batch - 2 / 3) < 1e-6
assert abs(score(probability, truth, 3)["M_F_batch"] - highest) < 1e-6    # one batch: the same

# %% [markdown]
# **Why?** Two effects work in opposite directions. Silent batches pull the score down. Small
# batches push it up, because each may choose its own threshold. Suppose that $n$ batches have
# equally many sounding frames, and mean curves $F_1, \dots, F_n$. Then
#
# $$\max_t \frac{1}{n} \sum_b F_b(t) \;\le\; \frac{1}{n} \sum_b \max_t F_b(t),$$
#
# because at *every* $t$ each $F_b(t)$ is at most its own maximum. The left side is the score of
# one curve, the right side the batch-wise score. For the same reason the batch-wise score falls,
# or stays, if all batches are merged in pairs.
#
# How large is the effect for a trained model? The workbook ships a small one, `checkpoints/tiny`.
# It hears the s4 clips twice: as they are, and through white noise as loud as the sound itself,
# which makes its masks unsure. It hears the ms3 clips only through noise. An ms3 clip can be
# silent throughout; alone in a batch it would count 0.
#
# > **Prediction.** How many points (hundredths) does $M_F$ lose from batches of one clip to one
# > curve over all clips? A gain counts as negative.

# %%
workbook.guess(
    "points of M_F lost",
    {"s4, own sound": ..., "s4, through noise": ..., "ms3, through noise": ...},
)

# %%
def test_clips(subset, **kind):
    """Test clips of a subset, the same in each run."""
    root = here.runs / f"{'_'.join(['test', *kind])}_{s.clips}_{s.seed}"
    lav.data.sounding_shapes.generate(root, subset, {"test": s.clips}, size, s.seed, **kind)
    return lav.data.AVSBench(root, subset, "test", size)


test = {subset: test_clips(subset) for subset in ("s4", "ms3")}
model = lav.load_model(here.root / "checkpoints/tiny")
sizes = list(dict.fromkeys((1, 2, 4, 8, s.clips)))
by_size, exact = {}, {}
for subset, sound in (("s4", "normal"), ("s4", "noisy"), ("ms3", "noisy")):
    name = f"{subset}, own sound" if sound == "normal" else f"{subset}, through noise"
    truths = scales.truth(test[subset])
    # Predicted once, then scored in batches.
    predicted = scales.maps(model, test[subset].with_sound(sound)).logits.sigmoid()
    scores = {batch: score(predicted, truths, batch) for batch in sizes}
    by_size[name] = {batch: found["M_F_batch"] for batch, found in scores.items()}
    exact[name] = scores[1]["M_F"]
silent_throughout = int((~truths.flatten(1).any(1)).sum())
print(f"clips of ms3 that are silent throughout: {silent_throughout} of {s.clips}")
lost = {name: round(100 * (row[1] - exact[name]), 1) for name, row in by_size.items()}
workbook.beside("points of M_F lost", lost)

# %% tags=["nbval-check-output"]
for name in ("s4, own sound", "s4, through noise"):
    falling = [*by_size[name].values(), exact[name]]
    assert all(a >= b - 1e-6 for a, b in zip(falling, falling[1:]))
rows = []
for name, row in by_size.items():
    rows.append((name, *(f"{value:.3f}" for value in row.values()), f"{exact[name]:.3f}"))
batches = [f"batches of {batch}" for batch in sizes]
workbook.table(["$M_F$, the same predictions", *batches, "one curve"], rows)

# %%
unsure = {subset: by_size[f"{subset}, through noise"] for subset in test}
one_curve = {subset: exact[f"{subset}, through noise"] for subset in test}
title = f"The same predictions, many scores ({s.clips} clips, through noise)"
workbook.show(
    plots.data.batch_curves(unsure, one_curve, title),
    alt="M_F through noise by clips in a batch: s4 and ms3 both fall from batches of one clip to "
    "larger ones and come down to the dashed lines, the scores of one curve over all clips.",
)

# %% [markdown]
# **Why?** Where masks are sure, almost any threshold will do, and a batch gains little by choosing
# its own. Through noise masks are unsure, and it gains more. On s4 something sounds in every
# frame, so the inequality applies. On ms3 the batches hold different numbers of sounding frames,
# so it need not apply; in this table the score falls all the same. Silent batches hardly matter
# there: a batch counts 0 only if all its clips are silent throughout. Each of 2, 3 or 4 objects is
# silent in a second with probability 0.6, so a clip is silent for all five seconds with
# probability $(0.6^{10} + 0.6^{15} + 0.6^{20}) / 3 = 0.2\%$.
#
# Along each row of the table the frames, the sound, the model and its predictions are the same.
# All that changes is a setting of the data loader. Where masks are sure it hardly matters; where
# they are not, it moves $M_F$ by several points. A *reported* difference between two methods, with
# the same encoders on S4, is 1.1 points (AVSegFormer, Gao et al. 2024, over the method that was
# published with AVSBench). How sure masks are on the real S4, we do not know. So the workbook reports
# $M_F$ of one curve over the whole split. Beside it, as `M_F_batch`, stands the number of the
# published rule, always with its `batch_size`.
#
# ## 1.5 The trap: a score without listening
#
# Now that you can compute scores, be suspicious of them. S4's clips were chosen to have **one**
# source. Where it is also the only thing in view that could make a noise, a model that marks
# "whatever stands out" needs no ears. Published models are *reported* to rely mostly on what
# stands out in the real clips (Li et al. 2025). How far does that get a model? Consider a cheat
# with perfect eyes and no ears: the **deaf oracle** marks every visible object, exactly, all the
# time. We score it on generated S4 clips of two kinds:
#
# - *one object*: the only thing in view sounds (`distractors=False`);
# - *with distractors*: 2 to 4 objects are in view, and one of them sounds.
#
# > **Prediction.** Which $M_J$ does the deaf oracle reach on each kind?

# %%
workbook.guess("deaf oracle", {"one object": ..., "with distractors": ...})

# %%
objects = lav.data.sounding_shapes.objects
visible = [len(objects(test["s4"].root, "s4", "test", i)) for i in range(s.clips)]
predicted = sum(1 / n for n in visible) / s.clips
one_object = lav.deaf_oracle(test_clips("s4", distractors=False))["M_J"]
several_objects = lav.deaf_oracle(test["s4"])["M_J"]
workbook.beside("deaf oracle", {"one object": one_object, "with distractors": several_objects})
print(f"mean of 1 / (number of objects in view) over the clips with distractors: {predicted:.2f}")
assert abs(one_object - 1) < 1e-6 and abs(several_objects - predicted) < 0.12
bars = {
    "deaf oracle, one object": one_object,
    "deaf oracle, with distractors": several_objects,
}
workbook.show(
    plots.bars(bars, "Perfect eyes, no ears", "$M_J$"),
    alt="Two bars of M_J: the deaf oracle scores 1 where one object is in view, and far less with "
    "distractors.",
)

# %%
if mine := workbook.yours("IoU"):
    frames_of = []
    for i in range(s.clips):
        things = objects(test["s4"].root, "s4", "test", i)
        visible = torch.from_numpy(sum(thing.masks for thing in things) > 0)      # (5, H, W)
        sounds = [thing.masks & thing.sounding[:, None, None] for thing in things]
        frames_of += map(mine, visible, torch.from_numpy(sum(sounds) > 0))
    by_you = sum(map(float, frames_of)) / len(frames_of)
    print(f"with distractors: by your IoU {by_you:.3f}, by the package {several_objects:.3f}")

# %% [markdown]
# **Why?** With one object in view, what is visible is exactly what sounds. With $n$ objects the
# deaf oracle marks all of them, and its IoU is the share of the marked area that sounds. The
# object that sounds is on average about as large as the others, so its share is about $1/n$. It
# is not exactly the mean of $1/n$, because objects differ in size, may hide each other, and clips
# are few.
#
# An oracle is one thing; do trained *models* fall into this trap? One small network was trained
# twice. Its scores are in `results/twins.json`, and [notebook 3](03_training.ipynb) says more
# about it. The **listening model** was trained on ms3, where silent objects are in view. The
# **salience twin** was trained only on clips in which the one object in view always sounds.
# (*Salient* means that something stands out.) The test is simple: we replace a clip's sound by
# that of another clip and keep the ground truth. A model that listens then follows the wrong
# sound, and its score must fall.
#
# > **Prediction.** How much $M_J$ do they lose: the listening model on ms3, the salience twin on
# > its own kind of clip, and the salience twin on ms3?

# %%
workbook.guess(
    "M_J lost with swapped sound",
    {
        "listening model, on ms3": ...,
        "salience twin, on its own kind": ...,
        "salience twin, on ms3": ...,
    },
)

# %%
twins = json.loads((here.root / "results/twins.json").read_text())
models = twins["models"]
kinds = {
    "listening model, on ms3": models["listening"]["ms3"],
    "salience twin, on its own kind": models["salience"]["alone"],
    "salience twin, on ms3": models["salience"]["ms3"],
}
pairs, rows = {}, []
for name, scores in kinds.items():
    own, swapped = scores["normal"]["M_J"], scores["swapped"]["M_J"]
    pairs[name] = own, swapped
    rows.append((name, f"{own:.3f}", f"{swapped:.3f}", f"{own - swapped:.3f}"))
print(f"measured on {twins['clips']['test']} test clips, {twins['date']}, "
      f"commit {twins['commit']}, {twins['machine']['device']}")
lost = {name: round(own - swapped, 3) for name, (own, swapped) in pairs.items()}
workbook.beside("M_J lost with swapped sound", lost)
workbook.show(
    plots.data.swaps(pairs, "What the wrong sound costs"),
    alt="M_J with own and with swapped sound. The listening model loses more than half of its "
    "score. The salience twin loses next to nothing, both on its own kind of clip, where it scores "
    "above 0.95, and on ms3.",
)
workbook.table(["measured, $M_J$", "own sound", "swapped sound", "lost"], rows)

# %% [markdown]
# The best score in the table belongs to the model that hardly uses the sound: its clips are
# easier. On that kind of clip only the last column gives it away. **On such data a score does not
# show listening.** So whenever you read a score on single-source clips, ask for the one with
# swapped sound, too. In this workbook it takes one argument: `lav.evaluate(model, data,
# sound="swapped")`. Notebook 3 puts your own model to that test.
#
# ## Result

# %% tags=["result", "nbval-check-output"]
noisy = by_size["s4, through noise"]
by_batch = ", ".join(f"{noisy[batch]:.3f}" for batch in (1, 2, 4, 8))
print(f"""{s.clips} generated test clips of each kind, seed {s.seed}
log-mel step by step: equal to the package's   {difference < 1e-6}
s4 through noise: M_F, batches of 1, 2, 4, 8   {by_batch}
s4 through noise: M_F, one curve               {exact['s4, through noise']:.3f}
deaf oracle, one object that sounds            {one_object:.3f}
deaf oracle, s4 with distractors               {several_objects:.3f}
figure                                         figures/01_task.png""")

# %%
workbook.took(1)

# %% [markdown]
# ## Three things to remember
#
# 1. Frames and a sound go in; the pixels of what *sounds* come out. The same frames with another
#    sound have another ground truth: audio tells what, vision tells where.
# 2. $M_J$ is the mean IoU; a silent frame scores the share of pixels left dark. $M_F$ is the
#    maximum of a mean curve; computed batch by batch, it depends on the batch size.
# 3. Where the one thing in view always sounds, perfect eyes without ears score 1. So ask for the
#    score with swapped sound as well.
#
# **What this can and cannot say about AVSBench.** The layout of the files, the recipe of the
# log-mel and the rules of both scores are those of the benchmark, so your arithmetic holds
# there. The silhouettes, the model and its numbers are ours. They show *that* a model can score
# without listening, and how to find out. They cannot say how much of a score on the real S4 is
# owed to eyes alone. That has to be measured on the real clips, with the same swap.
#
# ## Try next
#
# - Set `clips = 64` and `seed = 1` in the parameters cell, and restart the kernel. Does $M_F$
#   still lose as many points through noise? Does the deaf oracle come closer to the mean of
#   $1/n$?
# - Build the counterpart of the deaf oracle, with perfect ears and no eyes: it marks the whole
#   frame whenever something sounds. Work out its $M_J$ on s4, then measure it with `score`.
# - Go on to [notebook 2](02_model.ipynb): it builds a model in which audio tells what and vision
#   tells where, and asks what that costs: $O(N)$ or $O(N^2)$ for $N$ positions in the picture.
#
# ## References
#
# - AVSBench, S4 and MS3, and both scores: Zhou et al., *Audio-Visual Segmentation*, ECCV 2022,
#   arXiv 2207.05042.
# - AVSS: Zhou et al., *Audio-Visual Segmentation with Semantics*, IJCV 2024, arXiv 2301.13190.
# - LightAVSeg, the method of `checkpoints/tiny` and the source of the reported $M_F$: arXiv
#   2605.08805 (ICML 2026).
# - AVSegFormer: Gao et al., *AVSegFormer: Audio-Visual Segmentation with Transformer*, AAAI 2024,
#   arXiv 2307.01146.
# - Bias in such data: Chen et al., *Unraveling Instance Associations: A Closer Look for
#   Audio-Visual Segmentation*, CVPR 2024, arXiv 2304.02970.
# - Models that follow what stands out: Li et al., *Do Audio-Visual Segmentation Models Truly
#   Segment Sounding Objects?*, 2025, arXiv 2502.00358.
# - VGGish and its log-mel: Hershey et al., *CNN Architectures for Large-Scale Audio
#   Classification*, ICASSP 2017, arXiv 1609.09430.
# - The Jaccard index: Jaccard, *The Distribution of the Flora in the Alpine Zone*, New
#   Phytologist 1912.
# - The F-measure with $\beta^2 = 0.3$: Achanta et al., *Frequency-tuned Salient Region
#   Detection*, CVPR 2009.
# - The palette: Everingham et al., *The PASCAL Visual Object Classes (VOC) Challenge*, IJCV
#   2010.

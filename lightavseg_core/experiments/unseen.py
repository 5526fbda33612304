"""Individuals that a model has never seen or heard, against their siblings, which it was trained on: a drake
for a duck, a doe for a deer. The same scenes are scored with the pictures and the sounds of either.

Eye and ear are told apart by changing one and keeping the other: unseen pictures with the siblings' sounds
show what the eye loses, the siblings' pictures with unseen sounds what the ear loses. Selecting the seconds
in which the ear is right would compare different, easier seconds. The ear is also tested directly, by a
linear probe (`probe`).
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .._common.records import provenance, write
from .._common.tables import in_columns
from ..data.audio import resample
from ..data.cast import RATE, Cast
from ..data.casting import cast_named
from ..data.scenes import Recipe, Scene, draw_scene
from ..inspection.scales import bootstrap
from ..models.base import AVSModel
from .composed import clip, model_with_files, pictures_of, scores, sound_of
from .probe import probe

CLIPS = 160
WHO = ("siblings", "unseen")
HEARD = (*WHO, "swapped", "silent")


def compare_individuals(folder: str | Path, out: Path, clips: int = CLIPS, seed: int = 0) -> dict:
    """Scores a model of binary masks on unseen individuals of SoundingPhotos and on their siblings; writes
    the result, with its provenance, to `out`.

    The result holds, as means over clips with 95% intervals (bootstrap over clips):
    M_J, foreground_share: by who is shown (siblings, unseen) and what is heard (siblings, unseen; swapped,
    the sound of the next clip; silent). losses: how much M_J falls from the siblings to the unseen
    individuals, by the eye, the ear, and both. sets_right: the share of seconds in which the probe names
    exactly what sounds, and its loss. by_clip: the M_J of each clip, without intervals.
    Raises FileNotFoundError, with the command to run, if the photographs are missing.
    """
    model, files = model_with_files(folder)
    cast = cast_named("photos")
    scenes = [{who: scene_of(cast, who, index, seed) for who in WHO} for index in range(clips)]
    sounds = [{who: sound_of(scene[who], cast) for who in WHO} for scene in scenes]
    marked = _marked(model, cast, scenes, sounds)
    by_clip = _picked(marked, "M_J")
    known = by_clip["siblings"]["siblings"]
    losses = {"eye": by_clip["unseen"]["siblings"], "ear": by_clip["siblings"]["unseen"]}
    losses["both"] = by_clip["unseen"]["unseen"]
    right = _right(model, cast, scenes, sounds, seed)
    result = {
        "model": Path(folder).name,
        "sha256": files,
        "size": model.config.size,
        "clips": clips,
        "M_J": {shown: _intervals(cells) for shown, cells in by_clip.items()},
        "foreground_share": {
            shown: _intervals(cells) for shown, cells in _picked(marked, "foreground_share").items()
        },
        "losses": _intervals({name: known - values for name, values in losses.items()}),
        "sets_right": _intervals({**right, "loss": right["siblings"] - right["unseen"]}),
        "by_clip": {
            shown: {heard: values[:, 0].tolist() for heard, values in cells.items()}
            for shown, cells in by_clip.items()
        },
    }
    write(out, {**result, **provenance(f"lightavseg unseen {folder}", seed)})
    return result


def lines(found: Mapping) -> list[str]:
    """The result of `compare_individuals` as a table."""
    table = [["M_J with its 95% interval", *(f"{heard} heard" for heard in HEARD)]]
    table += [[f"{shown} shown", *map(_told, cells.values())] for shown, cells in found["M_J"].items()]
    losses = [f"{loser} {_told(loss)}" for loser, loss in found["losses"].items()]
    right = [f"{who} {_told(share)}" for who, share in found["sets_right"].items()]
    return [*in_columns(table), f"lost by: {', '.join(losses)}", f"sets right: {', '.join(right)}"]


def _told(interval: Mapping[str, float]) -> str:
    return "{estimate:.3f} ({low:.3f} to {high:.3f})".format(**interval)


def scene_of(cast: Cast, who: str, index: int, seed: int = 0) -> Scene:
    """A scene of SoundingPhotos' ms3, drawn with siblings, whose places and seconds unseen individuals then
    take. who: siblings or unseen."""
    recipe = Recipe("ms3", {}, 0, seed, cast=cast.name, individuals="siblings")
    scene = draw_scene(recipe, cast, "test", index)
    if who == "siblings":
        return scene
    others = {cast.things[thing].category: thing for own in cast.choice("unseen") for thing in own}
    return scene._replace(things=[others[cast.things[thing].category] for thing in scene.things])


def _marked(model: AVSModel, cast: Cast, scenes: Sequence[Mapping], sounds: Sequence[Mapping]) -> dict:
    """Who is shown -> what is heard -> the scores of each clip."""
    marked = {shown: {heard: [] for heard in HEARD} for shown in WHO}
    for index, scene in enumerate(scenes):
        for shown in WHO:
            pictures = pictures_of(scene[shown], cast, model.config.size)
            after = sounds[(index + 1) % len(sounds)][shown]
            given = {**sounds[index], "swapped": after, "silent": torch.zeros_like(after)}
            for heard, sound in given.items():
                item = clip(model, f"clip {index}, {shown} shown, {heard} heard", pictures, sound)
                marked[shown][heard].append(scores(model, [item]))
    return marked


def _picked(marked: Mapping, name: str) -> dict[str, dict[str, Tensor]]:
    """One of the scores, as (clips, 1) in each cell."""
    return {
        shown: {heard: torch.tensor([[one[name]] for one in of_cell]) for heard, of_cell in cells.items()}
        for shown, cells in marked.items()
    }


def _right(
    model: AVSModel, cast: Cast, scenes: Sequence[Mapping], sounds: Sequence[Mapping], seed: int
) -> dict[str, Tensor]:
    """Who is heard -> (clips, T), 1 where the probe is right."""
    tagger, right = probe(model, cast, seed), {who: [] for who in WHO}
    for scene, sound in zip(scenes, sounds):
        for who in WHO:
            sounding = torch.from_numpy(scene[who].sounding)  # (things, T)
            truth = torch.zeros(sounding.shape[1], len(cast.categories), dtype=torch.bool)
            for thing, seconds in zip(scene[who].things, sounding):
                truth[:, cast.things[thing].category] |= seconds
            heard = resample(sound[who], RATE, model.front_end.sample_rate)
            named = tagger(model.front_end(heard, torch.arange(len(truth))))
            right[who].append((named == truth).all(1).float())
    return {who: torch.stack(of_clips) for who, of_clips in right.items()}


def _intervals(cells: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    return {name: bootstrap(values)._asdict() for name, values in cells.items()}

"""The clips that `evaluate` accepts for scoring."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, RandomSampler, SequentialSampler, Subset

from .avsbench import AVSBench

Clips = AVSBench | Subset | ConcatDataset | DataLoader | Sequence[dict]
KEYS = {"frames", "log_mel", "mask", "annotated", "name"}
AS_GIVEN = "as given"  # what is heard with items: nobody knows whose sound it is


def scored(model: nn.Module, data: Clips, sound: str | None) -> tuple[Dataset | Sequence[dict], str]:
    """The clips with the given sound (None: their own), and the name of that sound.

    data: as in `evaluate`. Raises ValueError, in one line, for anything else, and if model is not a model.
    """
    if not isinstance(model, nn.Module):
        found = f"model is a {type(model).__name__}"
        raise ValueError(f"{found}; expected a model from create_model or load_model.")
    if hasattr(data, "with_sound"):
        heard = data.with_sound(sound or data.sound)
        return heard, heard.sound
    if isinstance(data, Subset):
        clips, name = scored(model, data.dataset, sound)
        return Subset(clips, data.indices), name
    if isinstance(data, ConcatDataset):
        parts, names = zip(*(scored(model, part, sound) for part in data.datasets))
        return ConcatDataset(parts), " and ".join(dict.fromkeys(names))
    if isinstance(data, DataLoader):
        if not isinstance(data.sampler, (SequentialSampler, RandomSampler)):
            raise ValueError("dataset is a DataLoader with a custom sampler; give Subset(dataset, indices).")
        return scored(model, data.dataset, sound)
    _check_items(data)
    if sound is not None:
        raise ValueError(f"sound is {sound!r}, but items come with their own; give the dataset itself.")
    return data, AS_GIVEN


def _check_items(data: Sequence[dict]) -> None:
    try:
        items = data if isinstance(data, (list, tuple)) else [data[0]] * bool(len(data))
        wrong = [item for item in items if not (isinstance(item, Mapping) and item.keys() >= KEYS)]
    except Exception:  # it has no length, or nothing at 0
        wrong = [data]
    if wrong:
        found = type(data).__name__ + ("" if wrong[0] is data else f" of {type(wrong[0]).__name__}")
        raise ValueError(
            f"dataset is a {found}; expected an AVSBench dataset, a Subset or DataLoader of one, or a list "
            f"of its items, with the keys {', '.join(sorted(KEYS))}."
        )
    if not items:
        raise ValueError("dataset has no clips; expected at least one.")


def check_datasets(**named: AVSBench) -> None:
    """Raises ValueError for anything but a dataset with its files: here its items are not enough."""
    for name, data in named.items():
        if not hasattr(data, "clips"):
            raise ValueError(f"{name} is a {type(data).__name__}; expected an AVSBench dataset.")

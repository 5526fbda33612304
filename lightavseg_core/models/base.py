"""What every method has in common: its interface, its configuration, saving and loading."""
from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from .._common.files import disk_errors, whole
from .._common.hub import fetched, hub_id
from .._common.names import unknown
from .._common.ranges import SIDE, within
from .._common.shipped import PHOTOS, SHIPPED, TINY
from .._common.state import freeze, learns
from .._common.substitutes import substitute
from ..encoders import create_audio_encoder, create_visual_encoder
from ..encoders.checkpoints import LoadReport, Part, Source, load_renamed, matched, read_tensors
from ..encoders.resnet import two_branch_name
from .blocks import cosine
from .inputs import check_built, check_heard, check_inputs, one_position

METHODS: dict[str, type[AVSModel]] = {}  # in the order of their registration
# Of anything that is counted in a configuration: widths, layers, pixels of a side; also bytes of config.json.
MOST = 4096


class Scale(NamedTuple):
    """One scale of a decoder, for analysis and for losses; each method says which maps these are."""

    visual: Tensor      # (B, T, D, h, w)  V_dec
    audio: Tensor       # (B, T, D)        the audio state that it is compared with
    similarity: Tensor  # (B, T, h, w)     how well they agree: LightAVSeg's cosine along channels, -1 to 1

    @classmethod
    def compared(cls, visual: Tensor, audio: Tensor, clips: tuple[int, int]) -> Scale:
        """The scale of visual (B*T, D, h, w) and audio (B*T, D), with their cosine; clips: (B, T)."""
        seen, heard = visual.unflatten(0, clips), audio.unflatten(0, clips)
        similarity = cosine(visual, audio[..., None, None])  # (B*T, h, w)
        return cls(seen, heard, similarity.unflatten(0, clips))


class Output(NamedTuple):
    """What a model returns."""

    logits: Tensor                      # (B, T, num_classes, H, W)
    scales: list[Scale] | None = None   # coarse to fine


@dataclass
class ModelConfig:
    """The configuration of every method; a method adds its own fields in a subclass."""

    method: str = ""
    visual: str = "seaformer_l"
    audio: str = "mobilenetv2_100"
    num_classes: int = 1   # 1: binary masks; more: one logit per class, background first
    size: int = 224        # side of the frames, pixels, that it is trained at; any other works


def register(cls: type[AVSModel]) -> type[AVSModel]:
    """Class decorator: makes a method known to `create_model` by its configuration's default `method`.

    Raises ValueError for a missing name, and for the name of another class. A class that is defined again, as
    when a notebook cell runs twice, replaces itself: it has the same name in the same module.
    """
    name = cls.config_class.method
    if not name:
        raise ValueError(
            f"the method of {cls.__name__} is {name!r}; expected a name of its own: set config_class to a "
            "dataclass whose field `method` has that name as default."
        )
    known = METHODS.get(name, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"the method of {cls.__name__} is {name!r}, a name taken by {known.__name__} in "
            f"{known.__module__}; expected a name of its own: give the field `method` of its configuration "
            "another default."
        )
    METHODS[name] = cls
    return cls


class AVSModel(nn.Module, PyTorchModelHubMixin):
    """Maps frames and their sound to mask logits.

    Subclasses set `config_class` and implement `segment`. `visual` and `audio` are the encoders. Any module
    with the audio encoder's shapes, (B, 1, F, M) -> (B, D), may replace `audio`; that model cannot be saved.
    """

    config_class: type[ModelConfig] = ModelConfig
    # Its own options of `create_model` by preset, over the encoders and size of models.presets.
    presets: ClassVar[dict[str, dict]] = {}
    auxiliary: str = "none"    # the loss that its paper adds to the masks': a name of `losses.AUXILIARY`
    stages: int | None = None  # how many stages of the visual encoder it reads, from the finest; None: all
    # Its submodules in which sound and vision meet; what is neither these nor an encoder is its decoder.
    fusion: tuple[str, ...] = ()
    # What the authors' checkpoint, for ResNet-50 and VGGish, calls `visual`; None: they published none.
    published_visual: str | None = None

    def __init__(self, config: ModelConfig):
        super().__init__()
        if not 1 <= config.num_classes <= 256:
            raise ValueError(
                f"num_classes is {config.num_classes}; expected 1 (binary masks) to 256 (8-bit masks)."
            )
        within(*SIDE, size=config.size)
        self.config = config
        self.visual = create_visual_encoder(config.visual, self.stages)
        self.audio = create_audio_encoder(config.audio)
        self.front_end, self.audio_channels = self.audio.front_end, self.audio.channels

    def forward(self, frames: Tensor, log_mel: Tensor, return_scales: bool = False) -> Output:
        """frames (B, T, 3, H, W) with ImageNet mean and std, any H, W >= 32; log_mel (B, T, 1, F, M) from
        `front_end` -> Output.

        In training, batch norms need more than one position in the coarsest map: B T > 1 for small frames.
        `scales` are returned in training and on request. Raises ValueError for other shapes and dtypes.
        """
        check_inputs(self, frames, log_mel)
        try:
            logits, scales = self.segment(frames, log_mel, self.training or return_scales)
        except ValueError as error:
            if told := one_position(error, frames):
                raise ValueError(told) from None
            raise
        return Output(logits, scales)

    def hear(self, log_mel: Tensor) -> Tensor:
        """log_mel (N, 1, F, M) -> (N, D). Raises ValueError if a replaced encoder returns another D."""
        return check_heard(self.audio(log_mel), log_mel, self.audio_channels)

    def segment(
        self, frames: Tensor, log_mel: Tensor, with_scales: bool
    ) -> tuple[Tensor, list[Scale] | None]:
        raise NotImplementedError

    def published_name(self, name: str) -> str | Part:
        """Our name of a tensor outside both encoders -> the authors'."""
        raise NotImplementedError

    def published_names(self) -> dict[str, str | Part]:
        """The names of our tensors -> the authors'."""
        names = {}
        for name in self.state_dict():
            part, _, rest = name.partition(".")
            if part == "visual":
                names[name] = f"{self.published_visual}.{two_branch_name(rest)}"
            elif part == "audio":
                names[name] = f"vggish.{rest}"
            else:
                names[name] = self.published_name(name)
        return names

    def published_dead(self) -> dict[str, nn.Module]:
        """What the authors' code builds, counts and saves but never runs: the published prefix -> a module
        with the same tensors. Here, the second branch of their ResNet-50; a method adds its own."""
        if self.published_visual is None:
            return {}
        return {f"{self.published_visual}.layer{i + 1}_2": self.visual.stages[i] for i in (2, 3)}

    def load_published(self, source: Source) -> LoadReport:
        """Loads the authors' checkpoint by its tensor names. VGGish's tensors may be absent: not every
        checkpoint holds them.

        source: path or state dict. Raises FileNotFoundError or ValueError (missing tensors, wrong shapes, a
        method without a checkpoint).
        """
        config = self.config
        if self.published_visual is None:
            raise ValueError(f"{config.method}: its authors have published no checkpoint.")
        if config.visual != "resnet50":
            raise ValueError(
                f"the published checkpoint of {config.method} is for visual='resnet50', audio='vggish'; this "
                f"model has visual={config.visual!r}, audio={config.audio!r}."
            )
        names = self.published_names()
        audio = {name for name in names if name.startswith("audio.")}
        dead = set()
        for prefix, module in self.published_dead().items():
            dead |= {f"{prefix}.{name}" for name in module.state_dict()}
        return load_renamed(self, read_tensors(source), names, f"{config.method} checkpoint", audio, dead)

    def check_saveable(self) -> None:
        """Raises ValueError if loading could not rebuild the model from its configuration: after a part was
        replaced by one with other tensors."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        if vars(self).get("_saveable") != shapes:
            check_built(self, shapes)
        self._saveable = shapes

    def save_pretrained(
        self, save_directory: str | Path, *, config: dict | None = None, model_card_kwargs: dict | None = None
    ) -> None:
        """Writes config.json, model.safetensors and, if there is none, a README.md into a folder.

        Each file is complete before it replaces the old one: if this is killed, or the disk is full, the old
        model remains, not a broken one. Raises OSError, and what `check_saveable` raises.
        """
        self.check_saveable()
        folder = Path(save_directory)
        new, staging = not folder.exists(), folder / ".saving"
        try:
            staging.mkdir(parents=True, exist_ok=True)
            with disk_errors(folder):
                super().save_pretrained(staging, config=config, model_card_kwargs=model_card_kwargs)
            for file in staging.iterdir():
                if file.name != "README.md" or not (folder / file.name).exists():
                    with whole(folder / file.name) as name:
                        os.replace(file, name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if new:
                with suppress(OSError):  # only where it is empty: what failed leaves nothing
                    folder.rmdir()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path) -> Self:
        """`load_model` for a model of this class. Raises ValueError for a model of another class, and what
        `load_model` raises."""
        model = load_model(pretrained_model_name_or_path)
        if not isinstance(model, cls):
            raise ValueError(
                f"{pretrained_model_name_or_path}: holds a {type(model).__name__} model; expected "
                f"{cls.__name__}. load_model loads either."
            )
        return model

    def freeze_audio(self) -> None:
        """Freezes the audio encoder: it gets no gradient, and its batch norms keep their statistics (even
        after `train()`)."""
        freeze(self.audio)
        self.audio.eval()

    def train(self, mode: bool = True) -> AVSModel:
        super().train(mode)
        if not learns(self.audio):
            self.audio.eval()
        return self


def class_of(method: str) -> type[AVSModel]:
    """The class of a method. Raises ValueError, with a suggestion, for an unknown name."""
    if not isinstance(method, str) or method not in METHODS:
        raise unknown("method", method, METHODS)
    return METHODS[method]


def build(method: str, options: dict) -> AVSModel:
    """A model from a method's name and its configuration's fields; misspelled names raise ValueError with a
    suggestion."""
    cls = class_of(method)
    fields = cls.config_class.__dataclass_fields__
    for name, value in options.items():
        if name not in fields:
            raise unknown(f"option of {method}", name, fields)
        expected = type(fields[name].default)
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise ValueError(
                f"option {name} of {method} is {repr(value)[:40]}; expected a value of type "
                f"{expected.__name__}."
            )
        if expected is int and value > MOST:
            raise ValueError(f"option {name} of {method} is {value}; expected at most {MOST}.")
    return cls(cls.config_class(**{**options, "method": method}))


def model_file(model: str | Path, name: str) -> Path:
    """A file of a model, config.json or model.safetensors, from any place that `load_model` accepts."""
    if repository := hub_id(model):
        return fetched(repository, name)
    folder = Path(model)
    if folder in (TINY, PHOTOS) and not folder.exists():
        folder = SHIPPED / folder
    if (folder / "best").is_dir():
        folder = folder / "best"
    if (folder / name).is_file():
        return folder / name
    if folder.is_dir():
        raise FileNotFoundError(
            f"{folder / name}: missing. A model folder needs both config.json and model.safetensors. Write "
            "one with save_pretrained."
        )
    found = "is a file" if folder.exists() else "no such folder"
    raise FileNotFoundError(
        f"{folder}: {found}; expected a model folder (config.json and model.safetensors), or hf:owner/name "
        "for a model on the Hugging Face Hub."
    )


def load_model(folder_or_hub_id: str | Path) -> AVSModel:
    """Loads a model that `save_pretrained` wrote: a folder with config.json and model.safetensors, a run of
    `train` (its best model), or `hf:owner/name` on the Hugging Face Hub. "checkpoints/tiny", which ships with
    the package, is found from any folder.

    Nothing in the files is executed. Raises FileNotFoundError or ValueError, with the name of the file.
    """
    config = model_file(folder_or_hub_id, "config.json")
    try:
        with config.open("rb") as file:
            options = json.loads(file.read(MOST))  # cut off, it is no JSON
        method = options["method"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why, todo = substitute(config) or (f"{type(error).__name__}: {error}", "Save the model again")
        raise ValueError(f"{config}: not the configuration of a model ({why}). {todo}.") from None
    try:
        with torch.device("meta"):
            shapes = build(method, options)  # takes no memory, however wide
    except ValueError as error:
        raise ValueError(f"{config}: {error}") from None
    weights = model_file(folder_or_hub_id, "model.safetensors")
    tensors, names = read_tensors(weights), shapes.state_dict().keys()
    present = matched(shapes, tensors, {name: name for name in names}, str(weights))
    unexpected = [name for name in tensors if name not in names]
    if unexpected:
        raise ValueError(
            f"{weights}: holds {len(unexpected)} tensors that {config.name} has no place for, first "
            f"{unexpected[0]}. The two files do not belong to the same model."
        )
    model = build(method, options)
    model.load_state_dict(present, strict=False)
    return model.eval()

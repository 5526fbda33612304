"""Audio pretraining: the encoder learns to tell which categories sound in a second, from events.csv."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from ._common.learning import State, one_cycle, restore, state_of
from ._common.state import buffers_kept, learns, unfreeze
from ._common.together import rank
from .config import TrainConfig
from .data.avsbench import AVSBench
from .data.layout import AVSS_SECONDS, read_events
from .encoders.checkpoints import load_renamed, read_tensors
from .models.base import AVSModel
from .run_folder import RunFolder

BATCH = 32


def prepare_audio(
    model: AVSModel,
    train: AVSBench,
    validation: AVSBench,
    config: TrainConfig,
    device: torch.device,
    folder: RunFolder,
    state: State | None = None,
) -> None:
    """Audio weights from tagging, a file, or learned along; all but the last are frozen, as in the paper.

    folder: its log gets an entry for each step of the tagging, and one for what it reached. state: of a
    checkpoint from which the training goes on, here or, where it stood after this, later.
    """
    choice = config.audio_weights
    if choice == "auto":
        choice = "joint" if read_events(train.root, train.subset) is None else "pretrain"
    if choice not in ("joint", "pretrain"):
        load_audio(model.audio, choice)
    unfreeze(model.audio)  # by an earlier training
    if choice == "joint":
        return
    if choice == "pretrain" and (state is None or "tagging" in state.values):
        audio = model.audio.to(device, memory_format=torch.channels_last)
        reached = pretrain_audio(audio, train, validation, config, device, folder, state)
        folder.record(event="tagging", **reached)
    model.freeze_audio()


def load_audio(audio: nn.Module, source: str | Path) -> None:
    """Audio weights of a model folder or its file, of the encoder alone, or of a published file.

    Raises FileNotFoundError or ValueError.
    """
    path = Path(source) / "model.safetensors" if Path(source).is_dir() else Path(source)
    tensors = read_tensors(path)
    inner = {name.removeprefix("audio."): tensors[name] for name in tensors if name.startswith("audio.")}
    if not inner and hasattr(audio, "load_published"):
        audio.load_published(path)
    else:
        load_renamed(audio, inner or tensors, {name: name for name in audio.state_dict()}, what=str(path))


def _windows(dataset: AVSBench, categories: list[str]) -> tuple[Tensor, Tensor]:
    """What is heard in each second, (N, samples), and which categories sound in it, (N, categories)."""
    events = read_events(dataset.root, dataset.subset)
    rate, samples = dataset.front_end.sample_rate, dataset.front_end.samples
    heard, labels = [], []
    for index, clip in enumerate(dataset.clips):
        waveform, seconds = dataset.waveform(index), len(clip.frames)
        if not waveform.isfinite().all():
            advice = "Replace its file."
            raise FloatingPointError(f"{dataset.root}: the sound of {clip.name} is not finite. {advice}")
        waveform = F.pad(waveform, (0, max(0, (seconds - 1) * rate + samples - len(waveform))))
        heard += [waveform[t * rate : t * rate + samples] for t in range(seconds)]
        label = torch.zeros(seconds, len(categories))
        for second, category in events.get(clip.name, []):
            if seconds <= second < AVSS_SECONDS.get(clip.kind, 5):  # the clip's last frames are missing
                continue
            if not 0 <= second < seconds:
                where = f"in second {second} of {clip.name}, which has {seconds}"
                advice = "Correct the line, or train with --audio-weights joint."
                raise ValueError(f"{dataset.root}: events.csv says that {category} sounds {where}. {advice}")
            label[second, categories.index(category)] = 1
        labels.append(label)
    return torch.stack(heard), torch.cat(labels)


def pretrain_audio(
    audio: nn.Module,
    train: AVSBench,
    validation: AVSBench,
    config: TrainConfig,
    device: torch.device,
    folder: RunFolder | None = None,
    state: State | None = None,
) -> dict[str, float]:
    """Trains `audio`, (B, 1, F, M) -> (B, D), to tag seconds of sound.

    Half of them are mixed with another second at a random level, so that few clips make many mixtures, and
    one in twenty is silenced, as no clip with a noise floor ever is. folder: its log gets an entry of each
    step, and it keeps checkpoints; state: of one of them, to go on from. Of several processes each trains the
    same, alike: it is small, and what it hears must not depend on how many there are.
    Returns the validation's share of seconds whose whole sounding set is right, and of single tags.

    Raises ValueError where the dataset has no events.csv, or nothing in `audio` can learn; FloatingPointError
    where a sound, a loss or its gradient is not finite: from that batch nothing was learned.
    """
    events = read_events(train.root, train.subset)
    if events is None:
        advice = "Train with --audio-weights joint."
        raise ValueError(f"{train.root}: has no events.csv, so nothing says what sounds when. {advice}")
    categories = sorted({category for of_clip in events.values() for _, category in of_clip})
    if not learns(audio):
        advice = "Unfreeze it (requires_grad_), or train with --audio-weights joint."
        raise ValueError(f"nothing in the audio encoder can learn: it is frozen. {advice}")
    heard, labels = _windows(train, categories)
    validation_heard, validation_labels = _windows(validation, categories)
    front_end, generator = train.front_end, torch.Generator().manual_seed(config.seed)
    now = torch.zeros(1)  # a window begins at its own second 0
    head = nn.Linear(audio.channels, len(categories)).to(device)
    parameters = [*audio.parameters(), *head.parameters()]
    steps = config.audio_epochs * max(1, len(heard) // BATCH)
    rate = config.learning_rate
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=config.weight_decay, fused=True)
    schedule = one_cycle(optimizer, rate, steps)
    folder = folder or RunFolder(None, {}, math.inf)
    both, start = nn.ModuleDict({"audio": audio, "head": head}), 0
    if state is not None:
        restore(state, both, optimizer, schedule, generator)
        start = state.values["tagging"]
    audio.train()
    left = range(start + 1, steps + 1)
    shown = {"initial": start, "leave": False, "mininterval": 1, "disable": rank() > 0}
    for step in tqdm(left, "audio pretraining", steps, **shown):
        first, second = torch.randint(len(heard), (2, BATCH), generator=generator)
        mixed = torch.rand(BATCH, 1, generator=generator) < 0.5
        level = 10 ** (torch.empty(BATCH, 1).uniform_(-6, 6, generator=generator) / 20)  # +-6 dB
        audible = torch.rand(BATCH, 1, generator=generator) > 0.05
        sound = audible * (heard[first] + mixed * level * heard[second])               # (B, samples)
        label = audible * torch.maximum(labels[first], mixed * labels[second])         # (B, categories)
        log_mel = front_end(sound, now)[:, 0].to(device)                               # (B, 1, F, M)
        with buffers_kept(audio):
            loss = F.binary_cross_entropy_with_logits(head(audio(log_mel)), label.to(device))
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm or math.inf)
            if not (torch.isfinite(loss) and torch.isfinite(norm)):
                found = f"audio pretraining: the loss is {loss.item()}, or its gradient is not finite"
                raise FloatingPointError(f"{found}. A smaller learning_rate may help.")
        optimizer.step()
        schedule.step()
        folder.record(event="tagging step", step=step, of=steps, loss=loss.item())
        if folder.is_time():
            folder.keep(state_of(both, optimizer, schedule, generator), tagging=step)
    audio.eval()
    right = []
    with torch.inference_mode():
        for sound, label in zip(validation_heard.split(BATCH), validation_labels.split(BATCH)):
            tags = head(audio(front_end(sound, now)[:, 0].to(device))) > 0
            right.append(tags.cpu() == (label > 0.5))
    right = torch.cat(right)  # (N, categories)
    return {"sets_right": right.all(1).float().mean().item(), "tags_right": right.float().mean().item()}

"""Audio pretraining: the encoder learns to tell which categories sound in a second, from events.csv."""
from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from .config import TrainConfig
from .data.avsbench import AVSBench
from .data.layout import AVSS_SECONDS, read_events
from .encoders.checkpoints import load_renamed, read_tensors

BATCH = 32


def can_pretrain(dataset: AVSBench) -> bool:
    """Whether the dataset says what sounds when."""
    return read_events(dataset.root, dataset.subset) is not None


def load_audio(audio: nn.Module, source: str | Path) -> None:
    """Audio weights of a model folder or its file, of the encoder alone, or of a published file. Raises FileNotFoundError or ValueError."""
    path = Path(source) / "model.safetensors" if Path(source).is_dir() else Path(source)
    tensors = read_tensors(path)
    inner = {name.removeprefix("audio."): value for name, value in tensors.items() if name.startswith("audio.")}
    if not inner and hasattr(audio, "load_published"):
        audio.load_published(path)
    else:
        load_renamed(audio, inner or tensors, {name: name for name in audio.state_dict()}, what=str(path))


def _windows(dataset: AVSBench, categories: list[str]) -> tuple[Tensor, Tensor]:
    """What is heard in each second, (N, samples), and which categories sound in it, (N, categories)."""
    events = read_events(dataset.root, dataset.subset)
    heard, labels = [], []
    for index, clip in enumerate(dataset.clips):
        waveform, seconds = dataset.waveform(index), len(clip.frames)
        rate, samples = dataset.front_end.sample_rate, dataset.front_end.samples
        waveform = F.pad(waveform, (0, max(0, (seconds - 1) * rate + samples - len(waveform))))
        label = torch.zeros(seconds, len(categories))
        for second, category in events.get(clip.name, []):
            if seconds <= second < AVSS_SECONDS.get(clip.kind, 5):  # the clip's last frames are missing
                continue
            if not 0 <= second < seconds:
                raise ValueError(f"{dataset.root}: events.csv says that {category} sounds in second {second} of {clip.name}, which has {seconds}. "
                                 "Correct the line, or train with --audio-weights joint.")
            label[second, categories.index(category)] = 1
        heard += [waveform[t * rate:t * rate + samples] for t in range(seconds)]
        labels.append(label)
    return torch.stack(heard), torch.cat(labels)


def pretrain_audio(audio: nn.Module, train: AVSBench, validation: AVSBench, config: TrainConfig, device: torch.device) -> dict[str, float]:
    """Trains `audio`, (B, 1, F, M) -> (B, D), to tag seconds of sound. Half of them are mixed with another second at a random level, so that
    few clips make many mixtures, and one in twenty is silenced, as no clip with a noise floor ever is. Returns the validation's share of
    seconds whose whole sounding set is right, and of single tags.

    Raises ValueError where the dataset has no events.csv.
    """
    events = read_events(train.root, train.subset)
    if events is None:
        raise ValueError(f"{train.root}: has no events.csv, so nothing says what sounds when. Train with --audio-weights joint.")
    categories = sorted({category for of_clip in events.values() for _, category in of_clip})
    heard, labels = _windows(train, categories)
    front_end, generator = train.front_end, torch.Generator().manual_seed(config.seed)
    now = torch.zeros(1)                                            # a window begins at its own second 0
    head = nn.Linear(audio.channels, len(categories)).to(device)
    parameters = [*audio.parameters(), *head.parameters()]
    steps = config.audio_epochs * max(1, len(heard) // BATCH)
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=max(steps, 2), pct_start=0.2)
    audio.train()
    for _ in tqdm(range(steps), desc="audio pretraining", leave=False, mininterval=1):
        first, second = torch.randint(len(heard), (2, BATCH), generator=generator)
        mixed = torch.rand(BATCH, 1, generator=generator) < 0.5
        level = 10 ** (torch.empty(BATCH, 1).uniform_(-6, 6, generator=generator) / 20)
        audible = torch.rand(BATCH, 1, generator=generator) > 0.05
        log_mel = front_end(audible * (heard[first] + mixed * level * heard[second]), now)[:, 0].to(device)
        label = (audible * torch.maximum(labels[first], mixed * labels[second])).to(device)
        loss = F.binary_cross_entropy_with_logits(head(audio(log_mel)), label)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config.clip_norm or math.inf)
        optimizer.step()
        schedule.step()
    audio.eval()
    heard, labels = _windows(validation, categories)
    with torch.inference_mode():
        right = torch.cat([(head(audio(front_end(h, now)[:, 0].to(device))) > 0).cpu() == (label > 0.5)
                           for h, label in zip(heard.split(BATCH), labels.split(BATCH))])
    return {"sets_right": right.all(1).float().mean().item(), "tags_right": right.float().mean().item()}

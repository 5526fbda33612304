"""Audio pretraining: the encoder learns from events.csv to tell which categories sound in a second."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from ._common.learning import State, one_cycle, restore, state_of
from ._common.state import buffers_kept, learns, unfreeze
from ._common.together import rank
from .config import TrainConfig
from .data.avsbench import AVSBench
from .data.hearing import Seconds, learned_from
from .data.layout import read_events
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
    """Prepares the audio weights: from tagging, from a file, or learned jointly. In the first two cases they
    are then frozen, as in the paper.

    folder: its log gets an entry for each step of the tagging, and one for its result. state: of a checkpoint
    from which the training resumes, during the tagging or after it.
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
    """Loads audio weights from a model folder or its file, from a file of the encoder alone, or from a
    published file.

    Raises FileNotFoundError or ValueError.
    """
    path = Path(source) / "model.safetensors" if Path(source).is_dir() else Path(source)
    tensors = read_tensors(path)
    inner = {name.removeprefix("audio."): tensors[name] for name in tensors if name.startswith("audio.")}
    if not inner and hasattr(audio, "load_published"):
        audio.load_published(path)
    else:
        load_renamed(audio, inner or tensors, {name: name for name in audio.state_dict()}, what=str(path))


def pretrain_audio(
    audio: nn.Module,
    train: AVSBench,
    validation: AVSBench,
    config: TrainConfig,
    device: torch.device,
    folder: RunFolder | None = None,
    state: State | None = None,
) -> dict[str, float]:
    """Trains `audio`, (B, 1, F, M) -> (B, D), to tag seconds of sound (`data.hearing`).

    folder: its log gets an entry for each step, and it keeps checkpoints; state: of one of them, to resume
    from. With several processes each does the same training: it is small, and what the encoder hears must not
    depend on their number.
    Returns the shares of validation seconds with all tags right, and of single tags that are right.

    Raises ValueError if the dataset has no events.csv, or nothing in `audio` can learn; FloatingPointError if
    a sound, a loss or its gradient is not finite: nothing was learned from that batch.
    """
    if not learns(audio):
        advice = "Unfreeze it (requires_grad_), or train with --audio-weights joint."
        raise ValueError(f"nothing in the audio encoder can learn: it is frozen. {advice}")
    source = learned_from(train, config.seed)
    held_out = Seconds(validation, source.categories)
    front_end, generator = train.front_end, torch.Generator().manual_seed(config.seed)
    now = torch.zeros(1)  # a window begins at its own second 0
    head = nn.Linear(audio.channels, len(source.categories)).to(device)
    parameters = [*audio.parameters(), *head.parameters()]
    steps = config.audio_epochs * max(1, len(source) // BATCH)
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
        sound, label = source.draw(BATCH, step - 1, generator)              # (B, samples), (B, categories)
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
        for sound, label in zip(held_out.heard.split(BATCH), held_out.labels.split(BATCH)):
            tags = head(audio(front_end(sound, now)[:, 0].to(device))) > 0
            right.append(tags.cpu() == (label > 0.5))
    right = torch.cat(right)  # (N, categories)
    return {"sets_right": right.all(1).float().mean().item(), "tags_right": right.float().mean().item()}

"""A training's folder: its configuration, log and models, and the checkpoints from which it resumes."""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from ._common.files import append, whole
from ._common.learning import State
from ._common.stopping import Request, Stopped
from ._common.together import largest, world
from .models.base import AVSModel

KEPT = 2  # checkpoints: where the last one is damaged, the one before is used
FREE = ("workers", "save_minutes", "processes")  # of train.json: with which a training may go on otherwise


class RunFolder:
    """What a training writes, and reads again to resume. path: None writes nothing.

    about: the content of train.json: all that the training depends on, and FREE. Nothing is written before
    the first entry of the log, so a training that is refused before it learns leaves no trace.
    """

    def __init__(self, path: Path | None, about: dict, minutes: float, request: Request | None = None):
        self.path, self.about, self.minutes = path, about, minutes
        self.request, self.stop = request or Request(), 0
        self.log: list[dict] = []
        self.kept_at = time.monotonic()
        self.begun = path is None

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted(self.path.glob("checkpoints/[0-9]*.safetensors")) if self.path else []

    def record(self, **entry) -> None:
        """Adds an entry to the log."""
        if not self.begun:
            self._begin()
        self.log.append(entry)
        if self.path:
            append(self.path / "log.jsonl", json.dumps(entry))

    def _begin(self) -> None:
        """Removes what an earlier run left, since it would be mistaken for this one's."""
        self.begun = True
        with whole(self.path / "train.json") as staging:
            staging.write_text(json.dumps(self.about, indent=1, default=str))
        (self.path / "log.jsonl").unlink(missing_ok=True)
        for name in ("best", "last", "checkpoints"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def save(self, name: str, model: AVSModel) -> None:
        if self.path:
            model.save_pretrained(self.path / name)

    def is_time(self, epoch_ends: bool = False) -> bool:
        """Whether to write a checkpoint: an epoch ends, `minutes` have passed since the last one, or a stop
        was requested. The same in all processes, all of which must ask."""
        late = epoch_ends or time.monotonic() - self.kept_at > 60 * self.minutes
        number, late = largest(self.request.number, late and self.path is not None)
        self.stop = int(number)  # what all know of: one may have been asked since
        return bool(number or late)

    def keep(self, state: State, **where) -> None:
        """Writes a checkpoint, and raises Stopped if that was requested. where: the training's position."""
        if self.path:
            stands = {**where, "entries": len(self.log), "run": _run(self.about)}
            values, checkpoints = json.dumps({**state.values, **stands}), self.checkpoints
            with (self.path / "log.jsonl").open("rb") as log:
                os.fsync(log.fileno())  # the checkpoint counts on it
            number = int(checkpoints[-1].stem) + 1 if checkpoints else 1
            file = self.path / "checkpoints" / f"{number:06}.safetensors"
            file.parent.mkdir(exist_ok=True)
            try:
                with whole(file) as staging:
                    about = {"values": values, "sha256": _digest(values, state.tensors)}
                    save_file(state.tensors, staging, about)
            finally:
                with suppress(OSError):  # where nothing could be written, nothing is left
                    file.parent.rmdir()
            for old in [*checkpoints, file][:-KEPT]:
                old.unlink()
        self.kept_at = time.monotonic()
        if self.stop:
            command = f"`lightavseg train --resume {self.path}`"
            by = command if "command" in self.about else "`fit(..., resume=True)`"
            goes_on = f" {by} continues from here." if self.path else ""
            raise Stopped(self.stop, f"stopped after a step.{goes_on}")

    def go_on(self) -> State | None:
        """The last undamaged checkpoint, with the log as it was then; None if there is none yet.

        Raises ValueError if the folder holds another training, or no checkpoint is usable.
        """
        if self.path is None or not (self.checkpoints or (self.path / "train.json").is_file()):
            return None
        begun = read_about(self.path)
        check_same(self.path, begun, self.about)
        checkpoints, damaged = self.checkpoints, []
        for file in reversed(checkpoints):
            try:
                state = read_checkpoint(file)
                if state.values["run"] != _run(self.about):
                    raise ValueError(f"{file}: belongs to an earlier training.")
                self.log[:] = self._entries(state.values["entries"])
            except ValueError as error:
                tqdm.write(str(error), file=sys.stderr)
                damaged.append(file)
                continue
            for other in damaged:
                tqdm.write(f"{other}: removed; {file.name}, the one before it, is used.", file=sys.stderr)
                other.unlink()
            with whole(self.path / "log.jsonl") as staging:
                staging.write_text("".join(f"{json.dumps(entry)}\n" for entry in self.log))
            self.begun = True
            state.values["processes"] = begun.get("processes", 1)
            return state
        if checkpoints:
            advice = "Start anew with another --out."
            raise ValueError(f"{self.path}: none of its checkpoints can be used; see above. {advice}")
        return None

    def share_of(self, state: State, accumulate: int) -> int:
        """How many batches of a step each process takes: a step has as many as when the training was started,
        whatever the number of processes. Raises ValueError if they cannot be shared."""
        before, now = state.values["processes"], world()
        batches = before * accumulate
        if before == now:
            return accumulate
        begun = f"was started with {before} processes, and each step takes {batches} batches"
        if batches % now:
            advice = f"Use one process, or {before}."
            raise ValueError(f"{self.path}: {begun}, which {now} processes cannot share. {advice}")
        if self.path:
            share = f"now {batches // now} in each of {now}, which changes the rounding of sums"
            tqdm.write(f"{self.path}: {begun}; {share}.", file=sys.stderr)
        return batches // now

    def _entries(self, count: int) -> list[dict]:
        """The entries that the log had when a checkpoint was written."""
        file = self.path / "log.jsonl"
        try:
            entries = [json.loads(line) for line in file.read_text().splitlines()[:count]]
        except (OSError, ValueError) as error:
            raise ValueError(f"{file}: cannot be read ({error}).") from None
        if len(entries) < count or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{file}: holds {len(entries)} entries; expected at least {count}.")
        return entries

    def finish(self) -> None:
        """Removes the checkpoints: the training is finished."""
        if self.path:
            shutil.rmtree(self.path / "checkpoints", ignore_errors=True)


def _run(about: dict) -> str:
    """A name for a training, to recognize checkpoints that another one left in the folder."""
    fixed = {name: value for name, value in about.items() if name not in FREE}
    return hashlib.sha256(json.dumps(fixed, default=str).encode()).hexdigest()


def _digest(values: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of a checkpoint's whole content."""
    found = hashlib.sha256(values.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.flatten().numpy())
    return found.hexdigest()


def read_checkpoint(file: Path) -> State:
    """Reads a checkpoint. Raises ValueError, with the file's name, if it is cut off or altered."""
    try:
        with safe_open(file, "pt") as opened:
            about = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}
        if about.get("sha256") == _digest(about.get("values", ""), tensors):
            return State(tensors, json.loads(about["values"]))
        why = "its content has changed since it was written"
    except (SafetensorError, OSError, TypeError) as error:
        why = str(error)
    raise ValueError(f"{file}: damaged ({why}).")


def read_about(folder: Path) -> dict:
    """A run's train.json. Raises FileNotFoundError or ValueError."""
    file = folder / "train.json"
    try:
        about = json.loads(file.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: missing; {folder} is not a run of `lightavseg train`.") from None
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise ValueError(f"{file}: not what `lightavseg train` writes. Start anew with another --out.")
    return about


def check_same(folder: Path, before: dict, now: dict) -> None:
    """Raises ValueError, with the differences, if a run was started with other settings."""
    now = json.loads(json.dumps(now, default=str))
    changed = [name for name in now if name not in FREE and before.get(name) != now[name]]
    if changed:
        differs = [f"{name} was {before.get(name)}, is {now[name]}" for name in changed]
        advice = "Give the same settings, or another --out."
        raise ValueError(f"{folder}: was started with other settings ({'; '.join(differs)}). {advice}")

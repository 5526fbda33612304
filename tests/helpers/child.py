"""The command line in a process of its own, many times over: what it printed, how it ended, and whether the
process lived through it."""

import functools
import json
import os
import selectors
import subprocess
import sys
import tempfile
import traceback
from typing import NamedTuple


class Outcome(NamedTuple):
    code: int | str  # the exit code; else what happened: "traceback", "hung", "died with ..."
    out: str
    err: str  # what Python wrote, and what C code wrote


class Child:
    """Runs commands one after the other; a new process takes over from one that died or hung. To be used in a
    `with`.

    program: what runs them, by default this file.
    """

    def __init__(self, *program: str):
        self.program, self.process = [sys.executable, *(program or [__file__])], None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.communicate()

    def run(self, *arguments, limit: float = 60) -> Outcome:
        """`lightavseg` with these arguments, within so many seconds. Instead of a command: `load ROOT
        SUBSET`, every clip of a dataset."""
        if self.process is None:
            self.process = subprocess.Popen(self.program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            os.set_blocking(self.process.stdout.fileno(), False)
            self._answer(120)  # imports take their time
        self.process.stdin.write(json.dumps([str(a) for a in arguments]).encode() + b"\n")
        self.process.stdin.flush()
        answer = self._answer(limit)
        if answer is not None:
            return Outcome(*json.loads(answer))
        process, self.process = self.process, None
        hung = process.stdout.read() is None
        process.kill()
        process.communicate()
        return Outcome("hung" if hung else f"died with {process.returncode}", "", "")

    def _answer(self, limit: float) -> bytes | None:
        """A line from the process; None where it ended, or said nothing for so long."""
        found = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                if not selector.select(limit) or not (piece := self.process.stdout.read()):
                    return None
                found += piece
        return found


def _serve() -> None:
    """The child's side. Whatever a command writes to its two outputs, C code's too, is caught in files."""
    import torch

    from lightavseg_core.cli import main
    from lightavseg_core.data import AVSBench
    from lightavseg_core.data.audio import LogMel
    from lightavseg_core.video import segmenter

    torch.set_num_threads(1)

    def brightness(frames, log_mel):
        return frames[:, :, :1] + log_mel.mean((2, 3, 4))[..., None, None, None] / 10

    about = {"checkpoint": "bright", "runtime": "none"}
    bright = segmenter.Segmenter(brightness, (32, 32), 5, 1, LogMel(), about)
    load = functools.cache(segmenter.load)

    def load_or_bright(checkpoint, *rest):
        return bright if str(checkpoint) == "bright" else load(checkpoint, *rest)

    segmenter.load = load_or_bright

    def check(item):
        assert item["frames"].isfinite().all() and item["log_mel"].isfinite().all()
        assert item["mask"].shape == item["frames"][:, 0].shape

    def run(arguments):
        try:
            if arguments[0] != "load":
                main(arguments)
            for split in ("train", "val", "test"):
                for item in AVSBench(*arguments[1:], split, cache_bytes=0):
                    check(item)
            return 0
        except SystemExit as exit:
            return exit.code or 0
        except (ValueError, FileNotFoundError) as error:
            if arguments[0] != "load":
                raise
            print(f"lightavseg: {error}", file=sys.stderr)
            return 2

    channel = os.fdopen(os.dup(1), "w")
    files = [tempfile.TemporaryFile() for _ in range(2)]
    for number, file in enumerate(files, 1):
        os.dup2(file.fileno(), number)
    print(file=channel, flush=True)
    for line in sys.stdin:
        try:
            code = run(json.loads(line))
        except BaseException:
            traceback.print_exc()
            code = "traceback"
        sys.stdout.flush()
        sys.stderr.flush()
        texts = []
        for file in files:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.seek(0)
            file.truncate()
        print(json.dumps([code, *texts]), file=channel, flush=True)


if __name__ == "__main__":
    _serve()

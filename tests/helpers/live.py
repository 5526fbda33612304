"""The live page, built once for all tests and opened in a browser, as a visitor has it."""

import base64
import contextlib
import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
LIVE = ROOT / "site" / "live"
PATIENCE = 120  # seconds for what takes a few on an idle machine
# Of each second of what is set now: a mask of bits, base64. null until all are there.
MASKS = """() => {
  const { thinker, clip } = live, found = [];
  for (let t = 0; t < clip.seconds; t++) {
    const answer = thinker.fresh(t);
    if (!answer) return null;
    found.push(btoa(String.fromCharCode(...Uint8Array.from(answer.mask, (x) => x > 0))));
  }
  return found;
}"""
FLOATS = """(name) => {
  const values = name === "waveform" ? live.heard.waveform : live.thinker.fresh(live.state.second).heard;
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
}"""


def build(edition: str, out: Path) -> Path:
    """OUT/EDITION, made once for all workers of this run. Skips where npm or its packages are missing; fails
    under CI, which installs them."""
    with FileLock(out / f"{edition}.lock"):
        if not (out / edition / "live.html").is_file():
            if missing := _build(edition, out):
                tell = pytest.fail if os.environ.get("CI") else pytest.skip
                tell(f"the live page is not tested: {missing}")
    return out / edition


def _build(edition: str, out: Path) -> str:
    """What is missing for it; "" where it is built. Any other failure is one of the test's."""
    if shutil.which("npm") is None:
        return "npm is missing (apt-get install npm)"
    command = [sys.executable, "-W", "ignore", LIVE / "build.py", edition, "--out", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    told = (done.stderr.strip().splitlines() or [""])[-1]
    if done.returncode and "npm ci failed" in told:
        return told
    assert not done.returncode, f"the live page cannot be built:\n{done.stderr}"
    return ""


@contextlib.contextmanager
def served(folder: Path):
    """The address of a folder, and what was asked of its server."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        server.server_close()


class Desk:
    """The page in a browser's tab, with all that it asked for and said."""

    def __init__(self, page, url: str):
        self.page, self.url = page, url
        self.requests, self.said = [], []
        page.set_default_timeout(PATIENCE * 1000)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))

    def open(self, address: str = "") -> "Desk":
        self.page.goto(self.url + address)
        self.until("() => window.live && live.firstMask > 0")
        return self

    def until(self, condition: str):
        """Polls from outside: the page's policy forbids what playwright's own waiting does."""
        end = time.monotonic() + PATIENCE
        while not (found := self.page.evaluate(condition)):
            assert time.monotonic() < end, f"waited {PATIENCE} s for {condition}; the page says {self.said}"
            self.page.wait_for_timeout(10)
        return found

    def masks(self) -> np.ndarray:
        """(T, H, W) bool, once the model has answered for every second of what is set."""
        found = [np.frombuffer(base64.b64decode(text), np.uint8) for text in self.until(MASKS)]
        side = int(len(found[0]) ** 0.5)
        return np.stack(found).reshape(-1, side, side) > 0

    def floats(self, name: str) -> np.ndarray:
        """The waveform that is set, or the log-mel of the second that is shown."""
        return np.frombuffer(base64.b64decode(self.page.evaluate(FLOATS, name)), np.float32)

    @property
    def inferences(self) -> int:
        return self.page.evaluate("() => live.model.inferences")

    def level(self, what: str, value: float) -> None:
        """Moves a fader, as a hand does."""
        fader = self.page.locator(f"#level-{what}")
        moved = "(fader, value) => { fader.value = value; fader.dispatchEvent(new Event('input')); }"
        fader.evaluate(moved, value)

    def mute(self, name: str) -> None:
        self.page.get_by_role("button", name=f"Mute {name}", exact=True).click()

    def reset(self) -> None:
        self.page.locator("#reset").click()

    def clip(self, number: int) -> None:
        self.page.locator("#clips input").nth(number).check(force=True)
        self.until(f"() => live.clip.number === {number}")

"""JupyterLab on a port of its own, and a headless Chromium that works in it as a reader does."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "runs" / "browser"  # pictures, and the server's log where something failed
PATIENCE = 180  # seconds for what takes a few on an idle machine

# The server ends when its standard input does: when its holder closes it, and also when that one is killed.
SERVER = """
import os, signal, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os.kill(os.getpid(), signal.SIGTERM)), daemon=True).start()
from jupyterlab.labapp import main
main()
"""
SETTINGS = {
    # Nothing pops up or asks a network, and what is below the window is drawn too.
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
CHROMIUM = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

OUTPUT = ".jp-OutputArea-output"
# A traceback has colours, a warning has none.
ERROR = f'{OUTPUT}[data-mime-type="application/vnd.jupyter.stderr"]:has([class*="ansi-"])'
FAILURES = f'{ERROR}, {OUTPUT}:has-text("Error displaying widget"), {OUTPUT}:has-text("model not found")'
HAVE_RUN = """() => [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")]
    .every(prompt => /[0-9]/.test(prompt.innerText))"""
WIDGETS = '[data-mime-type="application/vnd.jupyter.widget-view+json"]'
NOT_DRAWN = "images => images.filter(image => !image.complete || !image.naturalWidth).length"


def lay_out(folder: Path) -> Path:
    """In a folder all that a notebook finds beside it, but where what it writes disturbs nobody.

    Returns its `notebooks`, which has only `media`.
    """
    for made in ("figures", "notebooks"):
        (folder / made).mkdir(parents=True)
    for entry in ROOT.iterdir():
        if entry.name not in ("notebooks", "runs", "data", "figures") and not entry.name.startswith("."):
            (folder / entry.name).symlink_to(entry)
    for shown in ("exam.png", "photos.png"):  # by notebook 9 where the photographs are missing
        shutil.copy(ROOT / "figures" / shown, folder / "figures")
    (folder / "notebooks" / "media").symlink_to(ROOT / "notebooks" / "media")
    return folder / "notebooks"


@contextmanager
def chromium() -> Iterator:
    """A browser, driven through playwright. Where there is none the test is skipped; under CI it fails."""
    names = "chromium", "chromium-browser", "google-chrome"
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        missing = f"a browser is missing: none of {', '.join(names)} is on PATH (apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
        options = {"args": CHROMIUM + as_root, "timeout": PATIENCE * 1000}
        browser = playwright.chromium.launch(executable_path=path, **options)
        try:
            yield browser
        finally:
            browser.close()


class Lab:
    """A running JupyterLab, and its log without the token that opens it."""

    def __init__(self, browser, url: str, token: str, log: Path):
        self.browser, self.url, self._token, self._log = browser, url, token, log

    def log(self) -> str:
        return self._log.read_text(errors="replace").replace(self._token, "TOKEN")

    @contextmanager
    def opened(self, path: str) -> Iterator["Notebook"]:
        """The notebook at path, below the folder that is served.

        A failure leaves its picture and the server's log in KEPT.
        """
        login = {"Authorization": f"token {self._token}"}
        view = {"viewport": {"width": 1200, "height": 1400}, "extra_http_headers": login}
        with self.browser.new_context(**view) as context:
            context.set_default_timeout(PATIENCE * 1000)
            notebook = Notebook(context.new_page(), Path(path).stem)
            for old in KEPT.glob(f"{notebook.name}_*"):
                old.unlink()
            try:
                notebook.page.goto(f"{self.url}doc/tree/{path}")
                notebook.page.get_by_text("| Idle").wait_for()  # in the status bar: the kernel has started
                yield notebook
            except Exception:
                notebook.keep("failed")
                (KEPT / f"{notebook.name}_failed.log").write_text(self.log())
                raise
            finally:
                for kernel in context.request.get(f"{self.url}api/kernels").json():
                    context.request.delete(f"{self.url}api/kernels/{kernel['id']}")


class Notebook:
    """A notebook in a browser's page."""

    def __init__(self, page, name: str):
        self.page, self.name = page, name

    def keep(self, what: str) -> None:
        """A picture for those who want to see what the browser saw: runs/browser/NAME_WHAT.png."""
        KEPT.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=KEPT / f"{self.name}_{what}.png")

    def run(self) -> None:
        """Run all cells. Raises AssertionError where one fails, or a picture or a widget does not appear."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        failures = self.page.locator(FAILURES)

        def over():
            return failures.count() or self.page.evaluate(HAVE_RUN)

        self.until(over, "every cell to have run", 10 * PATIENCE)
        assert not failures.count(), f"{self.name}: {failures.first.inner_text()}"
        pictures = self.page.locator(f"{OUTPUT} img")
        self.until(lambda: not pictures.evaluate_all(NOT_DRAWN), "every picture to be drawn")
        views = self.page.locator(f"{OUTPUT}{WIDGETS}")
        drawn = views.filter(has=self.page.locator(".jupyter-widgets"))
        self.until(lambda: views.count() == drawn.count(), "every widget to be drawn")
        assert not failures.count(), f"{self.name}: {failures.first.inner_text()}"

    def until(self, happens: Callable, what: str, seconds: float = PATIENCE):
        """Wait until something happens; what it returned then."""
        end = time.monotonic() + seconds
        while not (found := happens()):
            assert time.monotonic() < end, f"{self.name}: waited {seconds} s for {what}"
            self.page.wait_for_timeout(100)
        return found


@contextmanager
def serve(folder: Path, home: Path, browser) -> Iterator[Lab]:
    """JupyterLab on folder. What it would keep in its user's home goes to home, a folder that it makes."""
    overrides = home / "config" / "labconfig" / "default_setting_overrides.json"
    overrides.parent.mkdir(parents=True)
    overrides.write_text(json.dumps(SETTINGS))
    token, log = secrets.token_hex(24), home / "server.log"
    places = {f"JUPYTER_{kind.upper()}_DIR": str(home / kind) for kind in ("config", "data", "runtime")}
    places |= {f"JUPYTERLAB_{kind.upper()}_DIR": str(home / kind) for kind in ("settings", "workspaces")}
    environment = {**os.environ, **places, "IPYTHONDIR": str(home / "ipython"), "JUPYTER_TOKEN": token}
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", f"--ServerApp.root_dir={folder}"]
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, *options],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    lab, end = Lab(browser, "", token, log), time.monotonic() + PATIENCE
    try:
        while not lab.url:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"JupyterLab did not start; its log:\n{lab.log()}")
            for information in home.glob("runtime/jpserver-*.json"):
                with suppress(json.JSONDecodeError):  # it is being written
                    lab.url = json.loads(information.read_text())["url"]
            time.sleep(0.1)
        yield lab
    finally:
        server.stdin.close()
        try:
            server.wait(20)  # it ends its kernels first
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)  # kernels end with their server
            server.wait()

"""The README's animated picture of the live page, taken from the page itself: python site/live/picture.py

Needs Chromium and build/live/shapes (`LIVE_SERVE=0 make live`); writes figures/live.webp.
"""
from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
PAGE, PICTURE = ROOT / "build/live/shapes/live.html", ROOT / "figures/live.webp"
WIDTH = 760  # pixels of the picture
HAND = """() => {
  const hand = document.createElement("div");
  hand.id = "hand";
  const look = { width: "26px", height: "26px", background: "#ffffffcc", border: "2px solid #20242b" };
  const place = { position: "absolute", zIndex: 9, pointerEvents: "none", translate: "-50% -50%" };
  Object.assign(hand.style, look, place, { borderRadius: "50%", boxSizing: "border-box" });
  document.body.append(hand);
}"""
MOVE = """([x, y]) => {
  Object.assign(document.getElementById("hand").style, { left: `${x}px`, top: `${y + scrollY}px` });
}"""
READY = """() => {
  const { thinker, state } = live;
  if (!state) return false;
  return [0, 1, 2, 3, 4].every((t) => thinker.fresh(t)) && thinker.dark(state.second) !== undefined;
}"""
HEARD = """() => {
  const { clip, state } = live, found = [];
  clip.objects.forEach(({ name, sounding }, k) => sounding[state.second] && found.push([k, name]));
  return found;
}"""


class Film:
    def __init__(self, page: Page):
        self.page, self.frames, self.times = page, [], []
        self.wait()
        desk, margin = page.locator(".desk").bounding_box(), 16
        sides = {"width": desk["width"] + 2 * margin, "height": desk["height"] + 2 * margin}
        self.box = {"x": desk["x"] - margin, "y": desk["y"] - margin, **sides}

    def wait(self) -> None:
        for _ in range(600):
            if self.page.evaluate(f"window.live && ({READY})()"):
                break
            self.page.wait_for_timeout(50)
        else:
            raise RuntimeError("the page has not answered for half a minute")
        self.page.wait_for_timeout(150)

    def take(self, milliseconds: int) -> None:
        """What the desk looks like, for so long."""
        self.wait()
        shot = self.page.screenshot(clip=self.box, full_page=True)
        image = Image.open(io.BytesIO(shot)).convert("RGB")
        height = round(image.height * WIDTH / image.width)
        self.frames.append(image.resize((WIDTH, height), Image.LANCZOS))
        self.times.append(milliseconds)

    def move(self, place: tuple[float, float]) -> None:
        self.page.evaluate(MOVE, place)

    def click(self, name: str) -> None:
        spot = self.page.get_by_role("button", name=f"Mute {name}, in the picture")
        box = spot.bounding_box()
        self.move((box["x"] + box["width"] / 2, box["y"] + box["height"] / 2))
        self.take(900)
        spot.click()
        self.page.mouse.move(0, 0)
        self.take(1900)

    def fade(self, k: int, levels: list[float]) -> None:
        fader = self.page.locator(f"#level-{k}")
        box = fader.bounding_box()
        for level in levels:
            moved = "(fader, level) => { fader.value = level; fader.dispatchEvent(new Event('input')); }"
            fader.evaluate(moved, level)
            self.move((box["x"] + 8 + (box["width"] - 16) * level / 2, box["y"] + box["height"] / 2))
            self.take(160)
        self.times[-1] = 1400


def main() -> None:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None or not PAGE.is_file():
        sys.exit("needs chromium on PATH and build/live/shapes (LIVE_SERVE=0 make live)")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        page = browser.new_page(viewport={"width": 1120, "height": 1000}, color_scheme="light")
        page.goto(PAGE.as_uri())
        film = Film(page)
        page.evaluate(HAND)
        (_, first), (other, _) = page.evaluate(HEARD)[:2]
        film.move((-50, -50))
        film.take(1500)
        film.click(first)
        film.click(first)
        film.fade(other, [0.8, 0.6, 0.4, 0.2, 0.1, 0.0])
        film.fade(other, [0.3, 0.6, 1.0])
        browser.close()
    first, *rest = film.frames
    options = {"duration": film.times, "loop": 0, "quality": 72, "method": 6}
    first.save(PICTURE, "WEBP", save_all=True, append_images=rest, **options)
    print(f"{PICTURE}: {len(film.frames)} pictures, {PICTURE.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

"""Builds the live page, and serves it.

    python site/live/build.py                  both editions, in build/live
    python site/live/build.py shapes --serve

Of each edition: EDITION/page, a folder to be served, and EDITION/live.html, one file that needs no server.
The edition with photographs is built where they are (`lightavseg data fetch photos`).
"""

from __future__ import annotations

import argparse
import http.server
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

import clips  # noqa: E402
import editions  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

import lightavseg_core as lav  # noqa: E402
from lightavseg_core.data import AVSBench  # noqa: E402
from lightavseg_core.data.mixing import mix, tracks  # noqa: E402
from lightavseg_core.data.sounding_shapes import generate  # noqa: E402
from lightavseg_core.deploy import web  # noqa: E402
from lightavseg_core.deploy.export import Clip, clips_of  # noqa: E402
from lightavseg_core.models.base import AVSModel  # noqa: E402

COMPARED = 32  # training clips on which the exported forms are compared with PyTorch


def node_modules() -> None:
    """What package-lock.json names. Raises RuntimeError where npm is missing or fails."""
    installed, lock = HERE / "node_modules" / ".package-lock.json", HERE / "package-lock.json"
    if installed.is_file() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise RuntimeError(
            "the live page is built with npm and node, which are missing (apt-get install npm)"
        )
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-progress"], cwd=HERE, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"npm ci failed: {done.stderr.strip().splitlines()[0]}")
    installed.touch()


def mixes(model: AVSModel, data: AVSBench) -> list[Clip]:
    """Of each clip the middle second as recorded, and twice as visitors mix it: anything between silence and
    double, half of the time with white noise."""
    rng, found = np.random.default_rng(0), []
    for index, (frames, log_mel) in enumerate(clips_of(data, 1, len(data))):
        sounds = torch.stack([track.sound for track in tracks(data, index)])
        found.append((frames, log_mel))
        for noise in (0.0, rng.uniform(0, 1)):
            gains = rng.choice([0, 1, rng.uniform(0, 2)], len(sounds))
            waveform, _ = mix(sounds, gains.tolist(), noise, seed=index)
            middle = (len(data[index]["frames"]) - 1) // 2
            found.append((frames, model.front_end(waveform, torch.tensor([middle]))[None]))
    return found


def export(edition: str, folder: Path) -> None:
    """model.onnx, as small as its masks allow, and model-fp32.onnx."""
    model = lav.load_model(ROOT / "checkpoints" / clips.CHECKPOINTS[edition]).eval()
    with TemporaryDirectory() as root:
        generate(root, "ms3", {"train": COMPARED}, model.config.size, cast=edition)
        compared = mixes(model, AVSBench(root, "ms3", "train", front_end=model.front_end))
    traced = web.Traced(model, compared, clips.CHECKPOINTS[edition], "make live")
    for name, precision in (("model.onnx", "smallest"), ("model-fp32.onnx", "fp32")):
        found = traced.write(folder / name, precision)
        print(f"{edition}: {name} has weights in {found.precision}, lowest IoU with PyTorch {found.iou:.4f}")


def build(edition: str, out: Path) -> None:
    node_modules()
    with TemporaryDirectory() as assets:
        folder = Path(assets)
        export(edition, folder)
        cast = clips.write(edition, folder)
        editions.write(edition, folder, cast)
        shutil.copy(ROOT / "lightavseg_core/widgets/challenges.json", folder)
        (out / edition).mkdir(parents=True, exist_ok=True)
        subprocess.run(["node", HERE / "build.mjs", folder, out / edition], check=True, cwd=HERE)


def serve(folder: Path, port: int) -> None:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        for page in sorted(folder.glob("*/page")):
            print(
                f"http://127.0.0.1:{server.server_port}/{page.parent.name}/page/  (Ctrl-C ends it)",
                flush=True,
            )
        server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "editions", nargs="*", choices=[*clips.CHECKPOINTS, []], help="by default all that can be"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build/live")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    out = given.out.resolve()
    os.chdir(ROOT)
    for edition in given.editions or clips.CHECKPOINTS:
        try:
            build(edition, out)
        except FileNotFoundError as error:
            if given.editions:
                raise
            print(f"{edition}: not built. {error}")
    if given.serve:
        serve(out, given.port)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        sys.exit(str(error))

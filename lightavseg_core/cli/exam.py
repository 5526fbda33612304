"""Models on pictures and sounds that are new to them: `lightavseg exam` and `unseen`."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .options import Import

Run = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclass
class Exam:
    """Score a model on photographs and recordings from another source: nine farm animals.

    Each picture is scored with its own recording, with the others', and in silence. Exchanging pictures or
    recordings with SoundingPhotos tells whether the eye or the ear fails. Needs `data fetch photos` and
    `data fetch exam`.

    Example: lightavseg exam checkpoints/photos
    """

    folder: Run
    """What `train` wrote with --out, or a model folder such as checkpoints/photos."""
    out: Path = Path("results/exam")
    """Folder for a JSON file, named after the model's folder."""
    scenes: int = 20
    """Scenes of SoundingPhotos for each kind of animal."""
    seed: int = 0
    figure: Path | None = None
    """Picture to write (.png, .svg, .pdf): the model's mask on each photograph."""
    imports: Import = None

    def run(self) -> int:
        from .._common.files import check_file
        from .._common.ranges import within
        from ..experiments.exam import examine, lines, marks
        from ..plots import prediction_grid
        from ..plots.common import save

        within(1, scenes=self.scenes)
        if self.figure:
            check_file(self.figure)
        path = self.out / f"{self.folder.resolve().name}.json"
        found = examine(self.folder, path, self.scenes, self.seed)
        print("\n".join(lines(found)))
        if self.figure:
            titles = [f"{row['name']}, $M_J$ {row['own']['M_J']:.2f}" for row in found["animals"]]
            save(prediction_grid(marks(self.folder), titles), self.figure, dpi=110, bbox_inches="tight")
        print(f"{path}: all scores, including those with each recording")
        return 0


@dataclass
class Unseen:
    """Score a model on individuals of SoundingPhotos that it has never seen or heard, and on their siblings,
    which it was trained on.

    Six categories have several individuals. Pictures and sounds are exchanged one at a time, which tells what
    the eye and the ear each lose. Needs `data fetch photos`.

    Example: lightavseg unseen checkpoints/photos
    """

    folder: Run
    """What `train` wrote with --out, or a model folder such as checkpoints/photos."""
    out: Path = Path("results/unseen")
    """Folder for a JSON file, named after the model's folder."""
    clips: int = 160
    """Scenes, each with the pictures and the sounds of either."""
    seed: int = 0
    imports: Import = None

    def run(self) -> int:
        from .._common.ranges import within
        from ..experiments.unseen import compare_individuals, lines

        within(2, clips=self.clips)
        path = self.out / f"{self.folder.resolve().name}.json"
        print("\n".join(lines(compare_individuals(self.folder, path, self.clips, self.seed))))
        print(f"{path}: all scores, including those of each clip")
        return 0

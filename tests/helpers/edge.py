"""What the tests of exported models share: a model of which every part has its effect, clips, and files."""

import contextlib
import json
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from filelock import FileLock
from helpers.tiny import create, inputs
from torch import nn

import lightavseg_core as lav
from lightavseg_core.data import AVSBench
from lightavseg_core.data.sounding_shapes import generate
from lightavseg_core.deploy.export import Agreement, clips_of, export
from lightavseg_core.deploy.runtimes import SUFFIX

TINY = Path(__file__).parents[2] / "checkpoints" / "tiny"
RUNTIMES = ["onnx", "openvino", "executorch"]


def long(*cases):
    """Cases of `parametrize` that are marked so."""
    cases = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=pytest.mark.long) for case in cases]


def shaken(method="lightavseg", **options):
    """A small model with everyday batch norms.

    SeaFormer starts 27 of them at weight 0, which hides whatever happens before them.
    """
    if method == "lightavseg":
        model = create(**options)
    else:
        model = lav.create_model(method, preset="tiny", **options).eval()
    g = torch.Generator().manual_seed(1)
    for norm in (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)):
        norm.weight.data.uniform_(0.5, 1.5, generator=g)
        norm.bias.data.normal_(0, 0.3, generator=g)
        norm.running_mean.normal_(0, 0.3, generator=g)
        norm.running_var.uniform_(0.5, 1.5, generator=g)
    return model


def noise(count=2, **shape):
    return [inputs(seed=seed, **shape) for seed in range(count)]


def folder(tmp_path_factory):
    """One for all tests that need exported files, in all workers of this run."""
    root = tmp_path_factory.getbasetemp()
    made = (root if root.name.startswith("pytest-") else root.parent) / "edge"
    made.mkdir(exist_ok=True)
    return made


def exported(base, runtime, precision="fp32"):
    """A file of checkpoints/tiny for clips of 2 seconds; made once for all tests."""
    path, notes = base / f"tiny_{precision}{SUFFIX[runtime]}", _notes(base, runtime, precision)
    with FileLock(notes.with_suffix(".lock")):
        if not notes.is_file():
            model = lav.load_model(TINY)
            clips = clips_of(AVSBench(unseen(base), "ms3", "train", 128, model.front_end), 2, 24)
            with lowered(runtime) as calls:
                agreement = export(model, path, runtime, clips, precision, "tiny", "as a test")
            notes.write_text(json.dumps({"agreement": agreement, "calls": calls}))
    return path


def _notes(base, runtime, precision):
    return base / f"{runtime}_{precision}.json"


def agreement(base, runtime, precision="fp32"):
    """What `export` said when it made that file."""
    exported(base, runtime, precision)
    return Agreement(*json.loads(_notes(base, runtime, precision).read_text())["agreement"])


def calls(base, precision="fp32"):
    """What ExecuTorch's program calls: operators and delegates."""
    exported(base, "executorch", precision)
    return json.loads(_notes(base, "executorch", precision).read_text())["calls"]


@contextlib.contextmanager
def lowered(runtime):
    """What the programs call that ExecuTorch lowers meanwhile."""
    found = []
    if runtime != "executorch":
        yield found
        return
    from executorch import exir

    lower = exir.to_edge_transform_and_lower

    def watched(*given, **options):
        made = lower(*given, **options)
        nodes = made.exported_program().graph.nodes
        found.extend(str(node.target) for node in nodes if node.op == "call_function")
        return made

    with patch.object(exir, "to_edge_transform_and_lower", watched):
        yield found


def unseen(base):
    """SoundingShapes for it, at 128 px: 24 training and 40 test clips of 5 seconds.

    From another seed than what checkpoints/tiny has seen.
    """
    with FileLock(base / "shapes.lock"):
        return generate(base / "shapes", "ms3", {"train": 24, "test": 40}, size=128, seed=11, workers=1)

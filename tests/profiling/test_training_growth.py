"""What a training step takes as it grows."""

import pytest
import torch
from helpers.tiny import create

from lightavseg_core import plots
from lightavseg_core.profiling.memory import peak_memory
from lightavseg_core.profiling.profiler import Shape
from lightavseg_core.profiling.series import Series
from lightavseg_core.profiling.training import growth, step_of


def test_a_step_is_one():
    """It leaves gradients, also where it is timed, without autograd; the audio encoder has none."""
    model = create(size=32)
    step, given = step_of(model), Shape(1, (32, 32), 2).inputs((96, 64), "cpu")
    with torch.inference_mode():
        step(*given)
    assert model.visual.training and not any(p.grad is not None for p in model.audio.parameters())


@pytest.mark.slow
def test_growth():
    """Memory grows with each of the three, and recomputing takes less; the picture shows all."""
    base = Shape(1, (32, 32), 2)
    steps = {"plain": step_of(create(size=32)), "again": step_of(create(size=32), recompute=True)}
    found = growth(steps, base, batches=(1, 2), seconds=(2, 4), sides=(32, 64), repeats=1)
    assert Series.from_dict(found.to_dict()).points == found.points
    memory = {(p.name, p.batch, p.size[0], p.seconds): p.memory for p in found.points}
    assert len(memory) == 2 * 4
    for larger in ((2, 32, 2), (1, 32, 4), (1, 64, 2)):
        assert memory["plain", *larger] > memory["plain", 1, 32, 2]
        assert memory["again", *larger] < memory["plain", *larger]
    frames, log_mel = base.inputs((96, 64), "cpu")
    assert peak_memory(lambda: steps["plain"](frames, log_mel)) == memory["plain", 1, 32, 2]
    figure = plots.latency.training(found, base)
    assert len(figure.axes) == 6 and all(len(axis.lines) == 2 for axis in figure.axes)
    assert [len(line.get_xdata()) for axis in figure.axes for line in axis.lines] == [2] * 12

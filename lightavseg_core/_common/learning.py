"""Learning rate schedules, and the whole state of a training in tensors and JSON: no pickle."""
from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR


def one_cycle(optimizer: Optimizer, rate: float, steps: int) -> OneCycleLR:
    """Rises to `rate` over a fifth of the steps, then falls to almost zero."""
    # Of five steps a fifth, less one, is none, by which torch divides.
    return OneCycleLR(optimizer, rate, total_steps=max(steps, 2) + (steps == 5), pct_start=0.2)


def scheduled(optimizer: Optimizer, kind: str, steps: int) -> LRScheduler:
    """kind: TrainConfig's schedule. The optimizer's own rate is its peak."""
    if kind == "constant":
        return ConstantLR(optimizer, factor=1)
    return one_cycle(optimizer, optimizer.defaults["lr"], steps)


class State(NamedTuple):
    """The state from which a training resumes, bit for bit."""

    tensors: dict[str, Tensor]
    values: dict  # JSON can hold it


def state_of(
    module: nn.Module, optimizer: Optimizer, schedule: LRScheduler, *generators: torch.Generator
) -> State:
    """Weights and buffers, the optimizer's moments, learning rate and betas, the schedule, and all random
    generators: those given and the global ones."""
    (group,) = optimizer.param_groups
    tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
    for k, parameter in enumerate(group["params"]):
        for name, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{k}.{name}"] = value
    for k, generator in enumerate(generators):
        tensors[f"generator.{k}"] = generator.get_state()
    tensors["random.torch"] = torch.get_rng_state()
    for k, state in enumerate(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ()):
        tensors[f"random.cuda.{k}"] = state
    drawn = np.random.get_state(legacy=False)
    drawn["state"]["key"] = drawn["state"]["key"].tolist()
    values = {
        "group": {name: group[name] for name in ("lr", "betas")},
        "schedule": schedule.state_dict(),
        "numpy": drawn,
        "python": random.getstate(),
    }
    # Copies, because safetensors refuses tensors that share their memory, as tied weights do.
    return State({name: value.cpu().contiguous().clone() for name, value in tensors.items()}, values)


def restore(
    state: State, module: nn.Module, optimizer: Optimizer, schedule: LRScheduler, *generators: torch.Generator
) -> None:
    """Puts back what `state_of` returned."""
    tensors, values = state
    module.load_state_dict({name: tensors[f"module.{name}"] for name in module.state_dict()})
    (group,) = optimizer.param_groups
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            k, _, name = rest.partition(".")
            parameter = group["params"][int(k)]
            moment = value.to(parameter.device)
            # Laid out in memory as the parameter is, on which fused optimizers rely.
            same = moment.shape == parameter.shape
            optimizer.state[parameter][name] = torch.empty_like(parameter).copy_(moment) if same else moment
    group.update(lr=values["group"]["lr"], betas=tuple(values["group"]["betas"]))
    schedule.load_state_dict(values["schedule"])
    for k, generator in enumerate(generators):
        generator.set_state(tensors[f"generator.{k}"])
    for k in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if (cuda := tensors.get(f"random.cuda.{k}")) is not None:
            torch.cuda.set_rng_state(cuda, k)
    drawn = values["numpy"]
    key = np.array(drawn["state"]["key"], np.uint32)
    np.random.set_state({**drawn, "state": {**drawn["state"], "key": key}})
    version, internal, gauss = values["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(tensors["random.torch"])

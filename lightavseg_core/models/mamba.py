"""Mamba (Gu and Dao, COLM 2024, arXiv 2312.00752): a state-space model whose input selects what it keeps."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STATE, TAPS = 16, 4   # states per channel, taps of the convolution: the paper's defaults
STEPS = (1e-3, 1e-1)  # range of the step size at the start of training


class Mamba(nn.Module):
    """One Mamba block of inner width 2 C, with the names of the authors' code. The scan is a loop over time,
    since clips last only seconds.

    forward: (B, T, C) -> (B, T, C), causal: no second hears a later one.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner, rank = 2 * channels, math.ceil(channels / 16)
        self.sizes = [rank, STATE, STATE]
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, TAPS, groups=inner, padding=TAPS - 1)
        self.x_proj = nn.Linear(inner, sum(self.sizes), bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        rates = torch.arange(1.0, STATE + 1)  # state n forgets at rate n
        self.A_log = nn.Parameter(rates.log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -rank**-0.5, rank**-0.5)
        step = torch.empty(inner).uniform_(math.log(STEPS[0]), math.log(STEPS[1])).exp()
        self.dt_proj.bias.data = step + (-torch.expm1(-step)).log()  # softplus of this is the step

    def forward(self, x: Tensor) -> Tensor:
        u, z = self.in_proj(x).chunk(2, -1)                # (B, T, I) each: signal and gate
        u = self.conv1d(u.transpose(1, 2))                 # (B, I, T + 3)  a second and the three before
        u = F.silu(u[..., :x.shape[1]].transpose(1, 2))    # (B, T, I)
        rank, B, C = self.x_proj(u).split(self.sizes, -1)  # B, C (B, T, S): what to write and to read
        delta = F.softplus(self.dt_proj(rank))[..., None]  # (B, T, I, 1)  how much this second counts
        keep = torch.exp(-delta * self.A_log.exp())        # (B, T, I, S)  exp(delta A)
        write = delta * u[..., None] * B[..., None, :]     # (B, T, I, S)  delta B u
        state, states = torch.zeros_like(write[:, 0]), []
        for kept, written in zip(keep.unbind(1), write.unbind(1)):
            state = kept * state + written                 # (B, I, S)  h_t = exp(delta A) h_t-1 + delta B u
            states.append(state)
        y = (torch.stack(states, 1) @ C[..., None]).squeeze(-1) + self.D * u  # (B, T, I)  y_t = C h_t + D u
        return self.out_proj(y * F.silu(z))                # (B, T, C)

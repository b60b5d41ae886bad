"""Muon for the matrices inside a network and AdamW for the rest, behind the interface of one optimiser.

Muon (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982) makes the momentum of a matrix orthogonal. Scaled to the
size of AdamW's update, it takes the same learning rate. On the flow of molecules it needed 350 steps to the loss that
AdamW reached after more than 450; a step takes a fifth longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


class Together:
    """Several optimisers of different parameters; their states are numbered one after another."""

    def __init__(self, parts: Iterable[Optimizer]) -> None:
        self.parts = list(parts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        """Let every part take its step."""
        for part in self.parts:
            part.step()

    def _firsts(self) -> list[int]:
        """Return the number of each part's first parameter."""
        counts = [sum(len(group["params"]) for group in part.param_groups) for part in self.parts]
        return [sum(counts[:i]) for i in range(len(counts) + 1)]

    def state_dict(self) -> dict[str, Any]:
        """Return the states by the number of the parameter; the groups are each part's own."""
        state = {
            first + i: value
            for first, part in zip(self._firsts(), self.parts, strict=False)
            for i, value in part.state_dict()["state"].items()
        }
        return {"state": state, "param_groups": [part.state_dict()["param_groups"] for part in self.parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the states that ``state_dict`` returned."""
        firsts = self._firsts()
        for part, groups, low, high in zip(self.parts, state_dict["param_groups"], firsts, firsts[1:], strict=False):
            state = {i - low: value for i, value in state_dict["state"].items() if low <= i < high}
            part.load_state_dict({"state": state, "param_groups": groups})


def muon(matrices: Iterable[nn.Parameter], module: nn.Module, rate: float, weight_decay: float) -> Together:
    """Return Muon for ``matrices`` and AdamW for the other parameters of ``module``."""
    matrices = list(matrices)
    chosen = {id(part) for part in matrices}
    others = [part for part in module.parameters() if id(part) not in chosen]
    first = torch.optim.Muon(matrices, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    return Together([first, torch.optim.AdamW(others, rate, weight_decay=weight_decay)])

"""The flow of molecules as a subject of experiments and of the audit: "qm9_alpha" to "qm9_Cv", and "qm9" for all.

Molecules have 18 atoms where nothing else is said. States lie on the flow's own trajectories from noise, so that no
data are needed. The loss is the guide's, with wanted values drawn from the deciles of the property in all molecules.
The truth uses the same networks in float64.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.audit.subject import Audited
from analysis.flow import Flow
from analysis.paths import PATHS
from analysis.settings import DTYPES
from analysis.subject import Subject
from real_models.molecules import data
from real_models.molecules.flow import flow, noise
from real_models.molecules.property_loss import PropertyLoss, predictor
from real_models.molecules.targets import ATOMS, wanted

STEPS = 40  # midpoint steps of a whole trajectory
PROBLEMS = {"qm9": data.PROPERTIES} | {f"qm9_{name}": (name,) for name in data.PROPERTIES}


def trajectories(learned: Flow, times: Tensor, start: Tensor, steps: int = STEPS) -> Tensor:
    """Return states (T * n, N, 8) at times (T,), in any order, on trajectories from noise (n, N, 8) along CondOT."""
    ordered, back = torch.unique(times.double(), return_inverse=True)
    states, x = [], start
    for low, high in pairwise([0.0, *ordered.tolist()]):
        if high > low:
            grid = torch.linspace(low, high, math.ceil(steps * (high - low)) + 1, dtype=torch.float64)
            x = solvers.solve(learned, x, solvers.plan("midpoint", learned.path, grid))
        states.append(x)
    return torch.stack(states)[back].flatten(0, 1)


def subject(problem: str, path: str, dtype: str, device: str, atoms: int = ATOMS) -> Subject:
    """Make one of ``PROBLEMS`` for an experiment, with molecules of so many atoms.

    Returns
    -------
    Subject
        With states (B, N, 8).

    Raises
    ------
    ValueError
        For an unknown problem or path, and more than 29 atoms.
    """
    properties = PROBLEMS[checks.known("problem", problem, PROBLEMS)]
    schedule, guide = PATHS[checks.known("path", path, PATHS)](), predictor(dtype=torch.float64, device=device)
    own, twin = flow(atoms, DTYPES[dtype], device), flow(atoms, torch.float64)

    def states(times: Tensor, n: int, generator: torch.Generator) -> Tensor:
        condot = twin.path.time_from_zeta(schedule.zeta(times.double()))
        x = trajectories(twin, condot, noise(n, atoms, generator, torch.float64))
        size, before = (torch.hypot(one.alpha(t), one.sigma(t)) for one, t in ((schedule, times), (twin.path, condot)))
        return x * (size / before).repeat_interleave(n)[:, None, None]

    def loss(repeats: int, n: int, generator: torch.Generator) -> PropertyLoss:
        names = tuple(properties[i % len(properties)] for i in range(n))
        values = torch.cat([wanted(name, 1, generator, data.DECILES) for name in names])
        return PropertyLoss(guide, names * repeats, values.repeat(repeats))

    if path == "condot":
        return Subject(own, twin, states, loss)
    return Subject(own.with_path(schedule), twin.with_path(schedule), states, loss)


def audited(atoms: int = ATOMS) -> Audited:
    """Return the flow and the guide for ``python reproduce.py audit real_models.molecules.subject:audited``.

    They are in float64: in float32 round-off leaves no converged gradient to compare with.

    Returns
    -------
    Audited
        With states (B, N, 8) on trajectories from noise.
    """
    learned = flow(atoms, torch.float64)

    def states(t: float, n: int, generator: torch.Generator) -> Tensor:
        return trajectories(learned, torch.tensor([t]), noise(n, atoms, generator, torch.float64))

    return Audited(learned, states, PropertyLoss(predictor(dtype=torch.float64), "alpha", data.DECILES["alpha"][4]))

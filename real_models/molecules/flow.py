"""The learned flow of molecules of N atoms, its samples, and the conversion between events and molecules.

``flow(n)`` is an ``analysis.flow.Flow`` like any other, so estimators, guidance, audit and claims apply to it. Events
are (N, 8), see ``network``. Noise has zero centre of mass, and the velocity keeps it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from analysis import checks, solvers
from analysis.flow import PredictionFlow
from analysis.paths import CondOT
from real_models import checkpoint
from real_models.molecules import WEIGHTS, data
from real_models.molecules.network import ANGSTROM, TYPES, Velocity, event, project
from real_models.replayed import Replayed

OVERLAP = 0.5  # Angstrom; the shortest bond, of two hydrogens, is 0.74 long
CHUNK = 128  # molecules solved together


def network(
    dtype: torch.dtype = torch.float32, device: str = "cpu", path: Path = WEIGHTS / "flow.safetensors"
) -> Velocity:
    """Load the velocity network of a file, by default the committed one, with its weights fixed.

    Returns
    -------
    Velocity
        From events (B, N, 8) and times (B,) to velocities (B, N, 8).

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        For weights of another architecture.
    """
    return checkpoint.load(path, Velocity).to(device, dtype).eval().requires_grad_(False)


def flow(
    n: int, dtype: torch.dtype = torch.float32, device: str = "cpu", velocity: Velocity | Replayed | None = None
) -> PredictionFlow:
    """Make the flow of molecules of n atoms along the CondOT path.

    Parameters
    ----------
    n : number of atoms, at most 29
    dtype, device : of the committed network; those of ``velocity`` where one is given
    velocity : another network, as ``network`` returns it

    Returns
    -------
    PredictionFlow
        With events (n, 8).

    Raises
    ------
    ValueError
        For more atoms than 29, and as ``network`` does.
    """
    if checks.count("n", n) > data.LARGEST:
        raise ValueError(f"n must be at most {data.LARGEST} atoms, the most in QM9, got {n}")
    function = network(dtype, device) if velocity is None else velocity
    made = PredictionFlow(function, CondOT(), "velocity")
    made.event_shape, made.dtype = (n, 3 + TYPES), next(function.parameters()).dtype
    return made


def draw_sizes(count: int, generator: torch.Generator) -> Tensor:
    """Return random numbers of atoms (count,), distributed as in the data."""
    weights = torch.tensor(list(data.SIZES.values()), dtype=torch.float64)
    which = torch.multinomial(weights, count, replacement=True, generator=generator)
    return torch.tensor(list(data.SIZES))[which]


def noise(count: int, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return source events (count, n, 8): Gaussian, with zero centre of mass."""
    return project(torch.randn(count, n, 3 + TYPES, generator=generator, dtype=torch.float64)).to(dtype)


def sample(
    count: int, steps: int = 50, solver: str = "midpoint", seed: int = 0, velocity: Velocity | None = None
) -> dict[int, Tensor]:
    """Sample molecules of random sizes; equal seeds give equal noise.

    Parameters
    ----------
    count : number of molecules in all
    steps, solver : number of even steps, and one of ``analysis.solvers.SOLVERS``
    seed : of the numbers of atoms and the noise
    velocity : a network, as ``network`` returns it; the committed one by default

    Returns
    -------
    dict
        From a number of atoms n to events (B, n, 8), on the CPU.

    Raises
    ------
    ValueError
        For a count or steps below 1, or an unknown solver.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = draw_sizes(checks.count("count", count), generator)
    grid = torch.linspace(0, 1, checks.count("steps", steps) + 1, dtype=torch.float64)
    plan = solvers.plan(solver, CondOT(), grid)
    function = network() if velocity is None else velocity
    like = next(function.parameters())
    events = {}
    for n, many in zip(*(part.tolist() for part in torch.unique(sizes, return_counts=True)), strict=True):
        start, learned = noise(many, n, generator, like.dtype).to(like.device), flow(n, velocity=function)
        events[n] = torch.cat([solvers.solve(learned, part, plan) for part in start.split(CHUNK)]).cpu()
    return events


def decode(x: Tensor) -> tuple[Tensor, Tensor]:
    """Decode events x (B, N, 8) into the likeliest atom types and positions.

    Returns
    -------
    tuple
        Indices into ``data.ELEMENTS`` (B, N), and centred positions (B, N, 3) in Angstrom.

    Raises
    ------
    ValueError
        For events of another shape, or not finite.
    """
    if x.ndim != 3 or x.shape[-1] != 3 + TYPES:
        raise ValueError(f"x must have shape (B, N, {3 + TYPES}), got {tuple(x.shape)}")
    x = project(checks.finite("x", x))
    return x[..., 3:].argmax(-1), x[..., :3] / ANGSTROM


def encode(elements: Sequence[str], position: np.ndarray | Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Encode one molecule as an event.

    Parameters
    ----------
    elements : symbols of the atoms, each of H, C, N, O, F
    position : coordinates in Angstrom, (N, 3), of any origin

    Returns
    -------
    Tensor
        (1, N, 8).

    Raises
    ------
    ValueError
        For another element, more than 29 atoms, coordinates of another shape or not finite, and two atoms closer than
        half an Angstrom.
    """
    atoms = torch.tensor([data.element_indices(elements)])
    place = torch.as_tensor(position, dtype=torch.float64)
    if not 0 < len(elements) <= data.LARGEST:
        raise ValueError(f"elements must name 1 to {data.LARGEST} atoms, got {len(elements)}")
    if place.shape != (len(elements), 3):
        raise ValueError(f"position must have shape ({len(elements)}, 3), one row per atom, got {tuple(place.shape)}")
    distance = torch.nn.functional.pdist(checks.finite("position", place))
    if distance.numel() and float(distance.min()) < OVERLAP:
        raise ValueError(
            f"position must not have overlapping atoms; two are {float(distance.min()):.3g} Angstrom apart"
        )
    return event(atoms, (place - place.mean(0)).unsqueeze(0)).to(dtype)

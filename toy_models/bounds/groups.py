"""Groups of states for the audit of the bounds: mixtures, each on a path at a time, and exact trajectories."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.bounds import remainder as bounds
from analysis.losses import HalfSquaredDistance
from analysis.paths import AffinePath
from analysis.reference import EPS, SAFETY
from toy_models.bounds.stacked import StackedMixtures
from toy_models.mixtures.gaussian import GaussianMixture, MixtureFlow
from toy_models.problems import zoo

ZETA = (0.01, 8.0)


@dataclass(frozen=True)
class Groups:
    """M mixtures, each on a path at a time, with B states x (M, B, d) and targets of the loss."""

    mixtures: list[GaussianMixture]
    names: list[str]
    paths: list[AffinePath]
    t: Tensor
    x: Tensor
    target: Tensor

    def __iter__(self) -> Iterator[tuple[MixtureFlow, float, Tensor, HalfSquaredDistance]]:
        for mixture, path, t, x, target in zip(self.mixtures, self.paths, self.t, self.x, self.target, strict=True):
            yield MixtureFlow(mixture, path), float(t), x, HalfSquaredDistance(target)

    def per_path(self, function: str, t: Tensor) -> Tensor:
        """Apply a schedule of each group's own path to times (..., M)."""
        return torch.stack([getattr(p, function)(s) for p, s in zip(self.paths, t.unbind(-1), strict=True)], -1)

    def take(self, chosen: Tensor) -> Groups:
        """Return the groups that a mask (M,) chooses."""
        kept = torch.nonzero(chosen)[:, 0].tolist()
        mixtures, names, paths = ([part[i] for i in kept] for part in (self.mixtures, self.names, self.paths))
        return Groups(mixtures, names, paths, self.t[kept], self.x[kept], self.target[kept])


def draw(mixtures: Sequence[GaussianMixture], batch: int, generator: torch.Generator) -> Groups:
    """Draw a group of ``batch`` states for every mixture: zeta log-uniform in ``ZETA``, each path in turn."""
    count = len(mixtures)
    names = [list(zoo.ZOO_PATHS)[i % len(zoo.ZOO_PATHS)] for i in range(count)]
    paths = [zoo.ZOO_PATHS[name]() for name in names]
    low, high = (math.log(z) for z in ZETA)
    zeta = (low + (high - low) * torch.rand(count, dtype=torch.float64, generator=generator)).exp()
    t = torch.stack([p.time_from_zeta(z) for p, z in zip(paths, zeta, strict=True)])
    data, target = (torch.stack([m.sample(batch, generator) for m in mixtures]) for _ in range(2))
    noise = torch.randn(data.shape, dtype=torch.float64, generator=generator)
    weights = [torch.stack([getattr(p, f)(s) for p, s in zip(paths, t, strict=True)]) for f in ("alpha", "sigma")]
    alpha, sigma = (w[:, None, None] for w in weights)
    return Groups(list(mixtures), names, paths, t, alpha * data + sigma * noise, target)


@dataclass(frozen=True)
class Solved:
    """Truth and integrals at one step size: gradients (M, B, d) and bounds of the greedy error (M, B), in x."""

    trajectory: bounds.Trajectory
    gradient: Tensor
    integral_form: Tensor
    sup_form: Tensor
    residual: Tensor
    round_off: Tensor

    def take(self, kept: Tensor) -> Solved:
        """Return the groups at these indices."""
        p = self.trajectory
        wide = (part[:, :, kept] for part in (p.z, p.weight, p.state, p.source_jacobian, p.jacobian))
        found = (self.gradient, self.integral_form, self.sup_form, self.residual, self.round_off)
        return Solved(bounds.Trajectory(*wide), *(part[kept] for part in found))


def solve(groups: Groups, field: StackedMixtures, times: Tensor, steps: int) -> Solved:
    """Integrate a cell with ``steps`` per segment between ``times`` (C + 1, M)."""
    alpha = groups.per_path("alpha", times)[0][:, None]
    zeta = groups.per_path("zeta", times)
    path = bounds.trajectory(field, groups.x / alpha[..., None], zeta, field.scale, steps)
    v = path.end - groups.target
    remainder = bounds.remainder(field, path, v)
    target_norm = bounds.target_norm(path.source_jacobian[0, 0], zeta[0])
    gradient = path.pull(v) / alpha[..., None]
    size = torch.linalg.matrix_norm(path.jacobian[:, -1]).prod(0) * bounds.norm(v) / alpha
    forms = (
        remainder.integral_form(target_norm, 1.0),
        remainder.sup_form(target_norm, 1.0, zeta[0]),
        remainder.residual(target_norm, 1.0),
    )
    integral, sup, residual = (form / alpha for form in forms)
    return Solved(path, gradient, integral, sup, residual, SAFETY * EPS * size)

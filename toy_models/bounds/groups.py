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
from analysis.reference import EPS, SAFETY, CertificationError, ideal_gradient
from toy_models.bounds.stacked import StackedMixtures
from toy_models.mixtures.gaussian import GaussianMixture, MixtureFlow
from toy_models.problems import zoo

ZETA = (0.01, 8.0)
TOLERANCE = 1e-10  # of the truth, far below what is judged


@dataclass(frozen=True)
class Groups:
    """M mixtures, each on a path at a time, with B states x (M, B, d) and the targets (M, B, d) of their losses."""

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
        """Apply a schedule of each group's own path, by its name, to times (..., M)."""
        return torch.stack([getattr(p, function)(s) for p, s in zip(self.paths, t.unbind(-1), strict=True)], -1)

    def take(self, chosen: Tensor) -> Groups:
        """Return the groups that a mask (M,) chooses."""
        index = torch.nonzero(chosen)[:, 0].tolist()
        mixtures, names, paths = ([part[i] for i in index] for part in (self.mixtures, self.names, self.paths))
        return Groups(mixtures, names, paths, self.t[index], self.x[index], self.target[index])


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
class Truth:
    """Ideal gradients and endpoints (M, B, d) that share no trajectory with a bound, and the gradients' error (M, B).

    They are integrated by another solver along another path (``analysis.reference``), and the flow's products come from
    other formulas. Where there is no reference the gradients are NaN and their error is infinite.
    """

    gradient: Tensor
    endpoint: Tensor
    error: Tensor

    def take(self, index: Tensor) -> Truth:
        """Return the groups at these indices."""
        return Truth(self.gradient[index], self.endpoint[index], self.error[index])

    def first(self, n: int) -> Truth:
        """Return the first n states of each group."""
        return Truth(self.gradient[:, :n], self.endpoint[:, :n], self.error[:, :n])


def truths(groups: Groups) -> Truth:
    """Return the ideal gradients of all groups."""
    parts = zip(*(_truth(*group) for group in groups), strict=True)
    return Truth(*(torch.stack(part) for part in parts))


def _truth(flow: MixtureFlow, t: float, x: Tensor, loss: HalfSquaredDistance) -> tuple[Tensor, Tensor, Tensor]:
    try:
        known = ideal_gradient(flow, loss, x, t, tolerance=TOLERANCE, max_error=math.inf)
    except CertificationError:
        missing = torch.full_like(x, math.nan)
        return missing, missing, torch.full(x.shape[:1], math.inf, dtype=x.dtype)
    return known.gradient, known.endpoint, known.error_bound * bounds.norm(known.gradient)


@dataclass(frozen=True)
class Solved:
    """A trajectory at one step size, its gradients (M, B, d) and bounds of the greedy error (M, B), in x.

    ``pulled_back`` (M, B, d) is the integral that D1 says is (D Phi - D x1hat)^T v, v the loss's gradient at the end;
    ``moved`` (M, B, d) the one that it says is Phi - x1hat, which enters a bound times ``weight`` (M, B).
    """

    trajectory: bounds.Trajectory
    gradient: Tensor
    integral_form: Tensor
    sup_form: Tensor
    pulled_back: Tensor
    moved: Tensor
    weight: Tensor
    round_off: Tensor

    def take(self, index: Tensor) -> Solved:
        """Return the groups with these indices."""
        p = self.trajectory
        wide = (part[:, :, index] for part in (p.z, p.weight, p.state, p.source_jacobian, p.jacobian))
        bounded = (self.gradient, self.integral_form, self.sup_form)
        narrow = (*bounded, self.pulled_back, self.moved, self.weight, self.round_off)
        return Solved(bounds.Trajectory(*wide), *(part[index] for part in narrow))


def solve(groups: Groups, field: StackedMixtures, times: Tensor, steps: int) -> Solved:
    """Integrate a cell with ``steps`` per segment between ``times`` (C + 1, M)."""
    alpha = groups.per_path("alpha", times)[0][:, None]
    zeta = groups.per_path("zeta", times)
    path = bounds.trajectory(field, groups.x / alpha[..., None], zeta, field.scale, steps)
    v = path.end - groups.target
    remainder = bounds.remainder(field, path, v)
    target_norm = bounds.target_norm(path.source_jacobian[0, 0], zeta[0])
    gradient, pulled_back = (part / alpha[..., None] for part in (path.pull(v), remainder.pulled_back))
    size = torch.linalg.matrix_norm(path.jacobian[:, -1]).prod(0) * bounds.norm(v) / alpha
    integral = remainder.integral_form(target_norm, 1.0) / alpha
    sup = remainder.sup_form(target_norm, 1.0, zeta[0]) / alpha
    weight, round_off = target_norm / alpha, SAFETY * EPS * size
    return Solved(path, gradient, integral, sup, pulled_back, remainder.moved, weight, round_off)

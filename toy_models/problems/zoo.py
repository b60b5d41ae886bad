"""Named problems, each of which stresses something else; each is built from a path by a function with its own seed."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from analysis import checks
from analysis.flow import Flow
from analysis.paths import PATHS, AffinePath, VarianceExploding
from analysis.settings import DTYPES
from analysis.subject import Subject
from toy_models.mixtures.exact import GaussianFlow, ProductMixtureFlow, RadialMixtureFlow
from toy_models.mixtures.gaussian import GaussianMixture, MixtureFlow
from toy_models.problems import digits as fitted

Problem = Callable[[AffinePath], Flow]
PROBLEMS: checks.Registry[Problem] = checks.Registry("problem")
# The problems have unit scale, so a variance-exploding path needs no more noise than this.
ZOO_PATHS = PATHS | {"ve": lambda: VarianceExploding(10.0)}


def problem(builder: Problem) -> Problem:
    """Register a problem of the zoo under its function's name."""
    PROBLEMS[builder.__name__] = builder
    return builder


def build(name: str, path: AffinePath) -> Flow:
    """Return the named problem's flow along a path; ``ValueError`` for an unknown name lists the known ones."""
    return PROBLEMS[checks.known("problem", name, PROBLEMS)](path)


def distribution(flow: Flow) -> GaussianMixture:
    """Return the data distribution p_1 of a zoo flow."""
    assert isinstance(flow, MixtureFlow | ProductMixtureFlow)
    return flow.mixture


def subject(problem: str, path: str, dtype: str = "float64", device: str = "cpu") -> Subject:
    """Make a subject of the named problem along the named path.

    Returns
    -------
    Subject
        Its states (B, d) are X_t of samples of the data, and its loss is half the squared distance to other samples.
    """
    truth = build(problem, ZOO_PATHS[checks.known("path", path, ZOO_PATHS)]())
    assert isinstance(truth, MixtureFlow | ProductMixtureFlow)
    return Subject.of(truth.to(DTYPES[dtype], device), truth, distribution(truth).sample)


def random_rotation(dim: int, generator: torch.Generator) -> Tensor:
    """Return a uniformly random rotation (dim, dim): QR of a Gaussian matrix, with the signs of R's diagonal out."""
    q, r = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64, generator=generator))
    return q * r.diagonal().sign()


def random_covariances(count: int, dim: int, condition: float, scale: float, generator: torch.Generator) -> Tensor:
    """Return covariances (count, dim, dim) with eigenvalues log-spaced over ``condition``, up to ``scale``."""
    eigenvalues = scale * torch.logspace(-math.log10(condition), 0, dim, dtype=torch.float64)
    rotations = torch.stack([random_rotation(dim, generator) for _ in range(count)])
    covariances = (rotations * eigenvalues) @ rotations.mT
    return (covariances + covariances.mT) / 2


def _mixture(
    path: AffinePath, count: int, dim: int, spread: float, condition: float, seed: int, scale: float = 1.0
) -> MixtureFlow:
    generator = torch.Generator().manual_seed(seed)
    means = spread * torch.randn(count, dim, dtype=torch.float64, generator=generator)
    covariances = random_covariances(count, dim, condition, scale, generator)
    weights = torch.rand(count, dtype=torch.float64, generator=generator) + 0.5
    return MixtureFlow(GaussianMixture(weights / weights.sum(), means, covariances), path)


@problem
def gaussian(path: AffinePath) -> Flow:
    """One Gaussian, d = 6, condition 30; exact."""
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(6, dtype=torch.float64, generator=generator)
    return GaussianFlow(mean, random_covariances(1, 6, 30.0, 1.0, generator)[0], path)


@problem
def separated(path: AffinePath) -> Flow:
    """Five tight modes far apart, d = 3: the responsibilities switch abruptly."""
    return _mixture(path, count=5, dim=3, spread=5.0, condition=4.0, seed=2, scale=0.25)


@problem
def overlapping(path: AffinePath) -> Flow:
    """Six overlapping modes, d = 5: a smooth but non-Gaussian density."""
    return _mixture(path, count=6, dim=5, spread=0.8, condition=5.0, seed=3)


@problem
def anisotropic(path: AffinePath) -> Flow:
    """Three modes with covariances of condition 1e4, d = 10: directions thinner than zeta for most of the time."""
    return _mixture(path, count=3, dim=10, spread=1.0, condition=1e4, seed=4)


@problem
def ring8(path: AffinePath) -> Flow:
    """Eight equal modes on a circle of radius 3, d = 2."""
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    means = 3 * torch.stack([angles.cos(), angles.sin()], 1)
    covariances = 0.09 * torch.eye(2, dtype=torch.float64).expand(8, 2, 2)
    return MixtureFlow(GaussianMixture(torch.full((8,), 1 / 8), means, covariances), path)


@problem
def product256(path: AffinePath) -> Flow:
    """Eight two-mode mixtures multiplied and rotated, d = 8: 256 modes; exact."""
    generator = torch.Generator().manual_seed(5)
    factors = []
    for _ in range(8):
        u = torch.rand(4, dtype=torch.float64, generator=generator)
        weights = torch.stack([0.3 + 0.4 * u[0], 0.7 - 0.4 * u[0]])
        factors.append((weights, torch.stack([-1 - u[1], 1 + u[1]]), 0.1 + 0.4 * u[2:]))
    return ProductMixtureFlow(factors, random_rotation(8, generator), path)


@problem
def radial32(path: AffinePath) -> Flow:
    """Isotropic heavy tails in d = 32: variances 1/4 to 16 with weights falling as 1/variance; exact."""
    variances = 2.0 ** torch.arange(-2, 5, dtype=torch.float64)
    return RadialMixtureFlow((1 / variances) / (1 / variances).sum(), variances, 32, path)


@problem
def digits(path: AffinePath) -> Flow:
    """Ten full-covariance Gaussians fitted to real 8x8 handwritten digits, d = 64, pixels in [-1, 1]."""
    return MixtureFlow(GaussianMixture(*(torch.from_numpy(p) for p in fitted.load("digits"))), path)

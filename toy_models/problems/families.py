"""Families of random mixtures: rules are set on some of them and judged on others.

"grid_0" is the problem with seed 0 of the family "grid", and so on; a family has one problem per seed. Adaptive
lookahead was set on ``RULE_SEEDS`` (and on random mixtures like "scattered" and "smooth"), nothing on other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Generator

from analysis import checks
from analysis.paths import AffinePath
from analysis.settings import DTYPES
from analysis.subject import Subject
from toy_models.mixtures.exact import ProductMixtureFlow, RadialMixtureFlow
from toy_models.mixtures.gaussian import GaussianMixture, MixtureFlow
from toy_models.problems import digits, zoo
from toy_models.problems.draws import equal_mixture, integer, isotropic, log_uniform, normal, uniform
from toy_models.problems.random_mixtures import random_mixture

RandomFlow = MixtureFlow | ProductMixtureFlow | RadialMixtureFlow
Family = Callable[[AffinePath, Generator], RandomFlow]
FAMILIES: dict[str, Family] = {}
RULE_SEEDS = range(100, 106)


def registrar(families: dict[str, Family]) -> Callable[[Family], Family]:
    """Return a decorator that adds a family to ``families`` under its function's name."""

    def family(builder: Family) -> Family:
        families[builder.__name__] = builder
        return builder

    return family


family = registrar(FAMILIES)


def build(name: str, path: AffinePath, known: Mapping[str, Family] = FAMILIES) -> RandomFlow:
    """Return the flow "family_seed" of a known family along a path; raises ``ValueError`` for another name."""
    kind, _, seed = name.rpartition("_")
    if not seed.isdecimal():
        raise ValueError(f"problem must be a family and a seed, as in grid_0, got {name!r}")
    builder = known[checks.known("the family of problem", kind, known)]
    return builder(path, torch.Generator().manual_seed(int(seed)))


def subject(
    problem: str, path: str, dtype: str = "float64", device: str = "cpu", known: Mapping[str, Family] = FAMILIES
) -> Subject:
    """Return the named problem of a known family along the named path as a subject, as ``zoo.subject`` does."""
    truth = build(problem, zoo.ZOO_PATHS[checks.known("path", path, zoo.ZOO_PATHS)](), known)
    return Subject.of(truth.to(DTYPES[dtype], device), truth, zoo.distribution(truth).sample)


@family
def scattered(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw a mixture as the audit of the bounds does, d = 1 to 40, 2 to 16 modes: condition numbers up to 10⁴."""
    mixture = random_mixture(integer(generator, 1, 40), integer(generator, 2, 16), generator)
    return MixtureFlow(mixture, path)


@family
def smooth(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 1 to 8 modes that overlap, d = 2 to 24: unit scale, condition 2 to 30."""
    count, dim = integer(generator, 1, 8), integer(generator, 2, 24)
    means = log_uniform(generator, 0.3, 1) * normal(generator, count, dim)
    return equal_mixture(path, means, zoo.random_covariances(count, dim, log_uniform(generator, 2, 30), 1.0, generator))


@family
def grid(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 3×3 to 5×5 modes, d = 2, 0.5 to 3 apart, each as wide as 5 to 30 % of that."""
    side, spacing = integer(generator, 3, 5), log_uniform(generator, 0.5, 3)
    ticks = spacing * torch.arange(side, dtype=torch.float64)
    means = torch.cartesian_prod(ticks, ticks)
    return equal_mixture(path, means, isotropic(means, (spacing * log_uniform(generator, 0.05, 0.3)) ** 2))


@family
def spiral(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 8 to 20 modes along a spiral, d = 2, 2 to 8 times longer along it than across."""
    angle = torch.linspace(1, uniform(generator, 4, 10), integer(generator, 8, 20), dtype=torch.float64)
    point = torch.polar(angle, angle)
    means = torch.view_as_real(point) * log_uniform(generator, 0.1, 0.4)
    along = torch.view_as_real((1 + 1j * angle) * torch.polar(torch.ones_like(angle), angle))
    along = along / along.norm(dim=1, keepdim=True)
    across = torch.stack([-along[:, 1], along[:, 0]], 1)
    long, thin = (v[:, :, None] * v[:, None, :] for v in (along, across))
    width = log_uniform(generator, 0.1, 0.4)
    return equal_mixture(path, means, width**2 * (long + thin / log_uniform(generator, 2, 8) ** 2))


@family
def clusters(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 3 to 6 clusters of 2 to 5 modes each, d = 2 to 10: decisions at two scales."""
    dim, groups, members = integer(generator, 2, 10), integer(generator, 3, 6), integer(generator, 2, 5)
    far = log_uniform(generator, 1, 4) * normal(generator, groups, 1, dim)
    means = (far + log_uniform(generator, 0.2, 0.8) * normal(generator, groups, members, dim)).flatten(0, 1)
    return equal_mixture(path, means, isotropic(means, log_uniform(generator, 0.1, 0.4) ** 2))


@family
def chain(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 8 to 24 modes of condition 3 to 100 along a random walk, d = 5 to 24."""
    count, dim = integer(generator, 8, 24), integer(generator, 5, 24)
    means = (log_uniform(generator, 0.5, 2) / math.sqrt(dim) * normal(generator, count, dim)).cumsum(0)
    shape = log_uniform(generator, 3, 100), log_uniform(generator, 0.05, 0.5)
    return equal_mixture(path, means, zoo.random_covariances(count, dim, *shape, generator))


@family
def unequal(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw a broad Gaussian and 2 to 6 rare, tight modes inside it, d = 3 to 16."""
    dim, rare = integer(generator, 3, 16), integer(generator, 2, 6)
    means = torch.cat([torch.zeros(1, dim, dtype=torch.float64), normal(generator, rare, dim)])
    tight = [log_uniform(generator, 0.02, 0.2) for _ in range(rare)]
    weights = torch.tensor([0.6, *[0.4 / rare] * rare], dtype=torch.float64)
    variances = torch.tensor([1.0, *tight], dtype=torch.float64)
    return MixtureFlow(GaussianMixture(weights, means, isotropic(means, variances)), path)


@family
def product(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw mixtures of two or three modes for each of 3 to 6 axes, multiplied and rotated; exact."""
    dim, modes, spread = integer(generator, 3, 6), integer(generator, 2, 3), log_uniform(generator, 0.7, 2)
    factors = []
    for _ in range(dim):
        weights = 0.5 + torch.rand(modes, dtype=torch.float64, generator=generator)
        variances = [log_uniform(generator, 0.02, 0.3) for _ in range(modes)]
        centres = spread * torch.linspace(-1, 1, modes, dtype=torch.float64)
        factors.append((weights / weights.sum(), centres, torch.tensor(variances, dtype=torch.float64)))
    return ProductMixtureFlow(factors, zoo.random_rotation(dim, generator), path)


@family
def shells(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 2 to 4 concentric isotropic Gaussians of standard deviations 0.2 to 3, d = 3 to 20; exact."""
    count, dim = integer(generator, 2, 4), integer(generator, 3, 20)
    variances = torch.tensor([log_uniform(generator, 0.2, 3) ** 2 for _ in range(count)], dtype=torch.float64)
    return RadialMixtureFlow(torch.full_like(variances, 1 / count), variances, dim, path)


@family
def posterior(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw a measurement of 8 to 32 pixels of the 8×8 digits mixture, with noise 0.1 to 0.5: d = 64, ten modes."""
    prior = GaussianMixture(*(torch.from_numpy(part) for part in digits.load("digits")))
    count, noise = integer(generator, 8, 32), log_uniform(generator, 0.1, 0.5)
    seen = torch.eye(64, dtype=torch.float64)[torch.randperm(64, generator=generator)[:count]]
    y = seen @ prior.sample(1, generator)[0]
    return MixtureFlow(prior.condition(seen, y + noise * normal(generator, count), noise**2 * seen @ seen.T), path)

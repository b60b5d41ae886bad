"""Families of mixtures with thin structure that judge adaptive lookahead, and had no part in setting it.

They are named as those of ``toy_models.problems.families`` are.
"""

from __future__ import annotations

import torch
from torch import Generator

from analysis.paths import AffinePath
from analysis.subject import Subject
from toy_models.mixtures.exact import ProductMixtureFlow
from toy_models.problems import families, zoo
from toy_models.problems.draws import (
    along_a_curve,
    equal_mixture,
    first_and_others,
    integer,
    isotropic,
    log_uniform,
    log_uniforms,
    normal,
    rotated,
    uniform,
    uniforms,
    weighted_mixture,
)
from toy_models.problems.families import Family, RandomFlow
from toy_models.problems.thin_families import at_midpoints

JUDGES: dict[str, Family] = {}


family = families.registrar(JUDGES)


def subject(problem: str, path: str, dtype: str = "float64", device: str = "cpu") -> Subject:
    """Return the named problem along the named path as a subject, as ``families.subject`` does."""
    made = families.subject(problem, path, dtype, device, JUDGES)
    return at_midpoints(made) if problem.startswith("saddles_") else made


@family
def sheets(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 3 to 5 parallel sheets at uneven distances, 0.003 to 0.05 thick, d = 3 to 20."""
    count, dim = integer(generator, 3, 5), integer(generator, 3, 20)
    basis = zoo.random_rotation(dim, generator)
    at = log_uniforms(generator, count, 0.2, 1.2).cumsum(0)
    variances = first_and_others(dim, log_uniform(generator, 0.003, 0.05) ** 2, 1.0)
    return equal_mixture(path, at[:, None] * basis[:, 0], rotated(basis, variances).repeat(count, 1, 1))


@family
def helix(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 12 to 30 modes along a helix of radius 1, 0.005 to 0.05 thick, in 3 to 12 dimensions."""
    count, dim = integer(generator, 12, 30), integer(generator, 3, 12)
    angle = torch.linspace(0, uniform(generator, 6, 14), count, dtype=torch.float64)
    pitch, space = log_uniform(generator, 0.05, 0.3), zoo.random_rotation(dim, generator)[:, :3].T
    means = torch.stack([angle.cos(), angle.sin(), pitch * angle], 1) @ space
    tangents = torch.stack([-angle.sin(), angle.cos(), torch.full_like(angle, pitch)], 1) @ space
    return along_a_curve(path, means, tangents, 0.5 * float(angle[1]), log_uniform(generator, 0.005, 0.05))


@family
def corners(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw modes of width 0.01 to 0.08 in most corners of a rotated cube, d = 3 to 5."""
    dim = integer(generator, 3, 5)
    means = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * dim)
    means = means[uniforms(generator, len(means)) < 0.8]
    means = log_uniform(generator, 0.3, 2) * means @ zoo.random_rotation(dim, generator)
    return equal_mixture(path, means, isotropic(means, log_uniform(generator, 0.01, 0.08) ** 2))


@family
def stars(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 2 to 6 spikes through one point, of condition 10⁴ to 10⁶, d = 2 to 16."""
    count, dim = integer(generator, 2, 6), integer(generator, 2, 16)
    covariances = []
    for _ in range(count):
        variances = first_and_others(dim, 1.0, 1 / log_uniform(generator, 1e4, 1e6))
        covariances.append(rotated(zoo.random_rotation(dim, generator), variances))
    return equal_mixture(path, torch.zeros(count, dim, dtype=torch.float64), torch.stack(covariances))


@family
def scales(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 3 to 8 modes of widths from 0.002 to 1, d = 2 to 30."""
    count, dim = integer(generator, 3, 8), integer(generator, 2, 30)
    means, widths = normal(generator, count, dim), log_uniforms(generator, count, 0.002, 1)
    return weighted_mixture(path, 0.2 + uniforms(generator, count), means, isotropic(means, widths**2))


@family
def nested(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw a mode in a mode in a mode, each 0.05 to 0.2 times as wide as the last and off its centre, d = 2 to 12."""
    means, widths = [torch.zeros(integer(generator, 2, 12), dtype=torch.float64)], [1.0]
    for _ in range(2):
        means.append(means[-1] + 0.7 * widths[-1] * normal(generator, len(means[0])))
        widths.append(widths[-1] * log_uniform(generator, 0.05, 0.2))
    return equal_mixture(path, torch.stack(means), isotropic(torch.stack(means), torch.tensor(widths).double() ** 2))


@family
def levels(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw seven to nine uneven narrow levels for each of 2 to 4 axes, multiplied and rotated; exact."""
    dim, factors = integer(generator, 2, 4), []
    for _ in range(dim):
        count = integer(generator, 7, 9)
        weights = 0.2 + uniforms(generator, count)
        centres = log_uniforms(generator, count, 0.15, 0.8).cumsum(0)
        factors.append(
            (weights / weights.sum(), centres - centres.mean(), log_uniforms(generator, count, 0.01, 0.08) ** 2)
        )
    return ProductMixtureFlow(factors, zoo.random_rotation(dim, generator), path)


@family
def simplex(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw d + 1 modes of width 0.01 to 0.1 in the corners of a simplex, one of them rare, d = 3 to 16."""
    dim = integer(generator, 3, 16)
    corners = torch.cat([torch.eye(dim, dtype=torch.float64), torch.zeros(1, dim, dtype=torch.float64)])
    means = log_uniform(generator, 1, 5) * corners @ zoo.random_rotation(dim, generator)
    weights = torch.tensor([log_uniform(generator, 1e-3, 0.1), *[1.0] * dim], dtype=torch.float64)
    return weighted_mixture(path, weights, means, isotropic(means, log_uniform(generator, 0.01, 0.1) ** 2))


@family
def saddles(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 3 to 6 unequal long modes of condition 3 to 300, d = 2 to 16; the states lie between two samples."""
    count, dim = integer(generator, 3, 6), integer(generator, 2, 16)
    means = log_uniform(generator, 0.5, 2) * normal(generator, count, dim)
    shape = log_uniform(generator, 3, 300), log_uniform(generator, 0.02, 0.3)
    covariances = zoo.random_covariances(count, dim, *shape, generator)
    return weighted_mixture(path, 0.2 + uniforms(generator, count), means, covariances)

"""Families of mixtures with structure much thinner than a step, on which adaptive lookahead was set.

They are named as those of ``toy_models.problems.families`` are. Those of ``toy_models.problems.thin_judges`` are of
other kinds, and judge it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Generator, Tensor

from analysis.paths import AffinePath
from analysis.subject import Subject
from toy_models.mixtures.exact import ProductMixtureFlow
from toy_models.mixtures.gaussian import GaussianMixture, MixtureFlow
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
    uniforms,
)
from toy_models.problems.families import Family, RandomFlow

THIN: dict[str, Family] = {}


family = families.registrar(THIN)


def subject(problem: str, path: str, dtype: str = "float64", device: str = "cpu") -> Subject:
    """Return the named problem along the named path as a subject, as ``families.subject`` does."""
    made = families.subject(problem, path, dtype, device, THIN)
    return at_midpoints(made) if problem.startswith("between_") else made


def at_midpoints(subject: Subject) -> Subject:
    """Return the subject with states of midpoints of two samples: there the flow decides, and its path turns fast."""
    sample = zoo.distribution(subject.reference_flow).sample

    def midpoints(n: int, generator: Generator) -> Tensor:
        return (sample(n, generator) + sample(n, generator)) / 2

    return replace(subject, states=Subject.of(subject.flow, subject.reference_flow, midpoints).states)


@family
def plates(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw two crossing plates of condition 1e6, each thin along one axis to half of them, d = 2 to 40."""
    dim = integer(generator, 2, 40)
    covariances = []
    for _ in range(2):
        variances = torch.ones(dim, dtype=torch.float64)
        variances[: integer(generator, 1, max(1, dim // 2))] = 1e-6
        covariances.append(rotated(zoo.random_rotation(dim, generator), variances))
    means = 0.3 * normal(generator, 2, dim) / math.sqrt(dim)
    return equal_mixture(path, means, torch.stack(covariances))


@family
def five(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw mixtures of five narrow modes for each of 2 to 6 axes, multiplied and rotated; exact."""
    dim, spread = integer(generator, 2, 6), log_uniform(generator, 0.7, 2)
    factors = []
    for _ in range(dim):
        weights = 0.3 + uniforms(generator, 5)
        variances = log_uniforms(generator, 5, 0.002, 0.05)
        centres = spread * (torch.linspace(-1, 1, 5, dtype=torch.float64) + 0.1 * normal(generator, 5))
        factors.append((weights / weights.sum(), centres, variances))
    return ProductMixtureFlow(factors, zoo.random_rotation(dim, generator), path)


@family
def ring(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw a ring of 10 to 32 modes, 0.3 to 3 % of its radius thick, in 2 to 12 dimensions."""
    count, dim = integer(generator, 10, 32), integer(generator, 2, 12)
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    radius, plane = log_uniform(generator, 0.5, 2), zoo.random_rotation(dim, generator)[:, :2].T
    means, tangents = (torch.stack(v, 1) @ plane for v in ((angle.cos(), angle.sin()), (-angle.sin(), angle.cos())))
    width = radius * log_uniform(generator, 0.003, 0.03)
    return along_a_curve(path, radius * means, tangents, 0.8 * math.pi * radius / count, width)


@family
def comb(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 4 to 16 parallel sheets at equal distances, each as thick as 0.3 to 5 % of that, d = 2 to 24."""
    count, dim = integer(generator, 4, 16), integer(generator, 2, 24)
    spacing, basis = log_uniform(generator, 0.2, 1.5), zoo.random_rotation(dim, generator)
    means = spacing * torch.arange(count, dtype=torch.float64)[:, None] * basis[:, 0]
    broad = log_uniform(generator, 0.05, 1)
    variances = first_and_others(dim, (spacing * log_uniform(generator, 0.003, 0.05)) ** 2, broad)
    return equal_mixture(path, means, rotated(basis, variances).repeat(count, 1, 1))


@family
def needles(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 2 to 6 modes of width 0.003 to 0.08 on a sphere of radius 1 to 6, d = 2 to 40."""
    count, dim = integer(generator, 2, 6), integer(generator, 2, 40)
    means = log_uniform(generator, 1, 6) * torch.nn.functional.normalize(normal(generator, count, dim), dim=1)
    return equal_mixture(path, means, isotropic(means, log_uniforms(generator, count, 0.003, 0.08) ** 2))


@family
def rare(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw a broad Gaussian and 2 to 5 modes of width 0.005 to 0.1, down to 1 % of its weight, d = 2 to 16."""
    count, dim = integer(generator, 2, 5), integer(generator, 2, 16)
    means = torch.cat(
        [torch.zeros(1, dim, dtype=torch.float64), log_uniform(generator, 0.3, 2) * normal(generator, count, dim)]
    )
    variances = torch.cat([torch.ones(1, dtype=torch.float64), log_uniforms(generator, count, 0.005, 0.1) ** 2])
    weights = torch.cat([torch.ones(1, dtype=torch.float64), log_uniforms(generator, count, 0.01, 1)])
    return MixtureFlow(GaussianMixture(weights / weights.sum(), means, isotropic(means, variances)), path)


@family
def lines(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 3 to 10 segments of length 0.3 to 2, 0.001 to 0.03 thick, d = 3 to 40."""
    count, dim = integer(generator, 3, 10), integer(generator, 3, 40)
    means = log_uniform(generator, 0.2, 1) * normal(generator, count, dim) / math.sqrt(dim)
    thin, covariances = log_uniform(generator, 0.001, 0.03) ** 2, []
    for _ in range(count):
        variances = first_and_others(dim, log_uniform(generator, 0.3, 2) ** 2, thin)
        covariances.append(rotated(zoo.random_rotation(dim, generator), variances))
    return equal_mixture(path, means, torch.stack(covariances))


@family
def between(path: AffinePath, generator: Generator) -> RandomFlow:
    """Draw 4 to 9 modes of width 0.03 to 0.3, d = 2 to 10; the states lie between two samples."""
    count, dim = integer(generator, 4, 9), integer(generator, 2, 10)
    means = log_uniform(generator, 0.7, 2) * normal(generator, count, dim)
    return equal_mixture(path, means, isotropic(means, log_uniform(generator, 0.03, 0.3) ** 2))

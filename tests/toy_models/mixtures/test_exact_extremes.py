"""The exact maps where double-precision distribution functions fail: far tails, deep gaps, tiny and huge radii."""

import mpmath as mp
import pytest
import torch

from analysis.paths import CondOT, LinearVP, VarianceExploding
from tests.support.problems import EPS, f64, randn
from toy_models import ProductMixtureFlow, RadialMixtureFlow

PATHS = [CondOT(), LinearVP(), VarianceExploding(5.0)]
mp.mp.dps = 60


def line(weights, means, variances, path):
    """A 1-D mixture."""
    factor = tuple(f64(p) for p in (weights, means, variances))
    return ProductMixtureFlow([factor], torch.eye(1), path)


def marginal(flow, t):
    """Weights, means and standard deviations of a 1-D mixture at time t, in mpmath."""
    alpha, sigma = (mp.mpf(float(c(t))) for c in (flow.path.alpha, flow.path.sigma))
    weights, means, variances = ([mp.mpf(v) for v in p.tolist()] for p in flow.factors[0])
    total = mp.fsum(weights)
    scales = [mp.sqrt(alpha**2 * v + sigma**2) for v in variances]
    return [w / total for w in weights], [alpha * m for m in means], scales


def below(y, parts):
    return mp.fsum(w * mp.erfc((m - y) / (s * mp.sqrt(2))) / 2 for w, m, s in zip(*parts, strict=True))


def density(y, parts):
    return mp.fsum(w * mp.npdf(y, m, s) for w, m, s in zip(*parts, strict=True))


def check(flow, x, t, digits):
    """Compare map and slope of a 1-D flow at one point with ``digits``-digit arithmetic."""
    with mp.workdps(digits):
        start, end = marginal(flow, t), marginal(flow, 1.0)
        endpoint, pull = flow.exact_endpoint_vjp(f64([[x]]), t)
        x, y = mp.mpf(x), mp.mpf(float(endpoint))
        slope = density(x, start) / density(y, end)
        # Round-off in x - m, in either distribution, where m is the mean farthest away.
        reach = max(map(abs, end[1])) + abs(y) + slope * (max(map(abs, start[1])) + abs(x))
        error = min(16 * EPS * reach, mp.mpf(1) / 10)
        assert below(y - error, end) < below(x, start) < below(y + error, end)
        # The slope is a ratio of densities, exponentials of at most z^2/2 = 600.
        assert abs(float(pull(torch.ones(1, 1, dtype=torch.float64))) - slope) <= 5e3 * EPS * slope


@pytest.mark.parametrize("path", PATHS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("distance", [3, 10, 30])
def test_both_tails(path, side, distance):
    flow, t = line([0.3, 0.7], [-1.0, 2.0], [0.25, 0.64], path), 0.5
    _, means, scales = marginal(flow, t)
    x = float(means[0 if side < 0 else 1]) + side * distance * float(max(scales))
    # Beyond 38 standard deviations a density is below the smallest double: 30 of the widest reach that on some paths.
    check(flow, x, t, digits=600)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("x", [0.0, 1e-3, -0.4])
def test_deep_gap_between_modes(path, t, x):
    # 33 standard deviations from either mode: the density in the middle is e^-555.
    check(line([0.5, 0.5], [-10.0, 10.0], [0.09, 0.09], path), x, t, digits=600)


@pytest.mark.parametrize("x", [-5.1, 0.0, 2.0, 9.0])
def test_gaps_between_modes_of_unequal_weight_and_width(x):
    check(line([0.9, 1e-6, 0.1 - 1e-6], [-10.0, 1.0, 10.0], [0.09, 0.01, 0.25], CondOT()), x, 0.9, digits=600)


def radial_flow(dim, path):
    weights, variances = f64([0.2, 0.5, 0.3]), f64([0.05, 0.6, 4.0])
    return RadialMixtureFlow(weights, variances, dim, path)


def radial_marginal(flow, t):
    alpha, sigma = (mp.mpf(float(c(t))) for c in (flow.path.alpha, flow.path.sigma))
    weights = [mp.mpf(w) for w in flow.mixture.weights.tolist()]
    return weights, [alpha**2 * mp.mpf(v) + sigma**2 for v in flow.mixture.eigenvalues[:, 0].tolist()]


def mass(r, dim, parts, outer):
    """Return the mass outside radius r, or minus that inside: increasing in -r, without cancellation."""
    total = mp.mpf(0)
    for w, v in zip(*parts, strict=True):
        z = r**2 / (2 * v)
        ends = (z, mp.inf) if outer else (0, z)
        total += w * mp.gammainc(mp.mpf(dim) / 2, *ends, regularized=True)
    return total if outer else -total


def radial_density(r, dim, parts):
    terms = (w * mp.exp(-(r**2) / (2 * v)) * v ** (-mp.mpf(dim) / 2) for w, v in zip(*parts, strict=True))
    return r ** (dim - 1) * mp.fsum(terms)


@pytest.mark.parametrize("path", [CondOT(), LinearVP()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("dim", [1, 3, 32])
@pytest.mark.parametrize("factor", [1e-3, 0.3, 1.0, 2.0, 8.0])
def test_radial_map_and_slopes(path, dim, factor):
    flow, t, r = radial_flow(dim, path), 0.6, factor * dim**0.5
    direction = torch.nn.functional.normalize(randn(1, dim, seed=1), dim=1)
    across = torch.nn.functional.normalize(torch.linalg.qr(torch.cat([direction, randn(1, dim, seed=2)]).T)[0].T, dim=1)
    start, end = radial_marginal(flow, t), radial_marginal(flow, 1.0)
    x = r * direction
    endpoint, pull = flow.exact_endpoint_vjp(x, t)
    r, found = mp.mpf(float(x.norm())), mp.mpf(float(endpoint.norm()))
    slope = radial_density(r, dim, start) / radial_density(found, dim, end)
    # SciPy's incomplete gamma functions are good to some hundreds of round-offs.
    error, level = 300 * EPS * (found + slope * r), mass(r, dim, start, factor > 1)
    assert mass(found + error, dim, end, factor > 1) < level < mass(found - error, dim, end, factor > 1)
    assert abs(float(pull(direction).norm()) - slope) <= 5e3 * EPS * slope
    if dim > 1:
        assert abs(float(pull(across[1:]).norm()) - found / r) <= 300 * EPS * (found / r + slope)


@pytest.mark.parametrize("dim", [2, 32])
@pytest.mark.parametrize("radius", [0.0, 1e-300, 1e-100, 1e-30, 1e-12, 1e-9, 1e-6])
def test_radial_map_is_linear_near_the_origin(dim, radius):
    flow, t = radial_flow(dim, CondOT()), 0.6
    start, end = (
        mp.fsum(w * v ** (-mp.mpf(dim) / 2) for w, v in zip(*radial_marginal(flow, s), strict=True)) for s in (t, 1.0)
    )
    ratio = float((start / end) ** (mp.mpf(1) / dim))
    x = radius * torch.nn.functional.normalize(randn(3, dim, seed=4), dim=1)
    v = randn(3, dim, seed=3)
    endpoint, pull = flow.exact_endpoint_vjp(x, t)
    # The first correction is (r/s)^2 with s^2 >= 0.05: within round-off at 1e-9, up to d 2e-11 at 1e-6.
    tolerance = 500 * EPS + 40 * dim * radius**2
    torch.testing.assert_close(endpoint, ratio * x, rtol=tolerance, atol=0)
    torch.testing.assert_close(pull(v), ratio * v, rtol=tolerance, atol=tolerance)

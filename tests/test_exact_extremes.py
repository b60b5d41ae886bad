"""The exact maps where double-precision distribution functions fail: far tails, deep gaps, tiny and huge radii."""

import mpmath as mp
import pytest
import torch
from helpers import EPS, randn

from analysis.paths import CondOT, LinearVP, VarianceExploding
from toy_models import ProductMixtureFlow, RadialMixtureFlow

PATHS = [CondOT(), LinearVP(), VarianceExploding(5.0)]
mp.mp.dps = 60


def line(weights, means, variances, path):
    """A 1-D mixture."""
    factor = tuple(torch.tensor(p).double() for p in (weights, means, variances))
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


def bisect(function, low, high, digits=25):
    """The root of an increasing function in [low, high] to ``digits`` digits of its bracket's width."""
    for _ in range(int(digits * 3.4)):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return (low + high) / 2


def check(flow, x, t, digits):
    """Compare map and slope of a 1-D flow at one point with the root found in ``digits``-digit arithmetic."""
    with mp.workdps(digits):
        start, end = marginal(flow, t), marginal(flow, 1.0)
        level = below(mp.mpf(x), start)
        y = bisect(lambda v: below(v, end) - level, mp.mpf(-100), mp.mpf(100))
        slope = density(mp.mpf(x), start) / density(y, end)
        endpoint, pull = flow.exact_endpoint_vjp(torch.tensor([[x]]).double(), t)
        # Round-off in x, the standard deviations and z^2/2 <= 600 moves y by slope * x * eps and 600 eps of a scale.
        assert abs(float(endpoint) - y) <= 32 * EPS * (abs(y) + slope * abs(x))
        assert abs(float(pull(torch.ones(1, 1).double())) - slope) <= 1e4 * EPS * slope


@pytest.mark.parametrize("path", PATHS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("distance", [3, 10, 30])
def test_both_tails(path, side, distance):
    flow, t = line([0.3, 0.7], [-1.0, 2.0], [0.25, 0.64], path), 0.5
    weights, means, scales = marginal(flow, t)
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
    weights, variances = torch.tensor([0.2, 0.5, 0.3]).double(), torch.tensor([0.05, 0.6, 4.0]).double()
    return RadialMixtureFlow(weights, variances, dim, path)


def radial_marginal(flow, t):
    alpha, sigma = (mp.mpf(float(c(t))) for c in (flow.path.alpha, flow.path.sigma))
    weights = [mp.mpf(w) for w in flow.mixture.weights.tolist()]
    return weights, [alpha**2 * mp.mpf(v) + sigma**2 for v in flow.mixture.eigenvalues[:, 0].tolist()]


def outside(r, dim, parts):
    """Return the mass outside radius r."""
    return mp.fsum(
        w * mp.gammainc(mp.mpf(dim) / 2, r**2 / (2 * v), mp.inf, regularized=True) for w, v in zip(*parts, strict=True)
    )


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
    with mp.workdps(700 if factor > 1 else 120):  # 1 - P(r) must not round to zero, nor P(r)
        start, end = radial_marginal(flow, t), radial_marginal(flow, 1.0)
        x = r * direction
        r = mp.mpf(float(x.norm()))
        level = outside(r, dim, start)
        found = bisect(lambda v: level - outside(v, dim, end), r / 100, r * 100)
        slope = radial_density(r, dim, start) / radial_density(found, dim, end)
        endpoint, pull = flow.exact_endpoint_vjp(x, t)
        # As in one dimension; the incomplete gamma functions of SciPy are good to some hundreds of round-offs.
        assert abs(float(endpoint.norm()) - found) <= 1000 * EPS * (found + slope * r)
        assert abs(float(pull(direction).norm()) - slope) <= 2e4 * EPS * slope
        if dim > 1:
            assert abs(float(pull(across[1:]).norm()) - found / r) <= 1000 * EPS * (found / r + slope)


@pytest.mark.parametrize("dim", [2, 32])
def test_radial_map_is_linear_near_the_origin(dim):
    flow, t = radial_flow(dim, CondOT()), 0.6
    start, end = radial_marginal(flow, t), radial_marginal(flow, 1.0)
    densities = (mp.fsum(w * v ** (-mp.mpf(dim) / 2) for w, v in zip(*parts, strict=True)) for parts in (start, end))
    ratio = float((next(densities) / next(densities)) ** (mp.mpf(1) / dim))
    v = randn(6, dim, seed=3)
    radii = torch.tensor([0.0, 1e-300, 1e-30, 1e-12, 1e-9, 1e-6]).double()[:, None]
    x = radii * torch.nn.functional.normalize(randn(6, dim, seed=4), dim=1)
    endpoint, pull = flow.exact_endpoint_vjp(x, t)
    assert torch.equal(endpoint[0], torch.zeros(dim).double())
    assert torch.isfinite(pull(v)).all()
    # The first correction is quadratic in r / s, s^2 >= 0.05: below 1e-10 at the largest radius.
    torch.testing.assert_close(endpoint, ratio * x, rtol=1e-9, atol=0)
    torch.testing.assert_close(pull(v), ratio * v, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(endpoint[:4], ratio * x[:4], rtol=1000 * EPS, atol=0)

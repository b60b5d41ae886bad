"""The exact flow maps against ODE solves, automatic differentiation of nothing but the map, and each other."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from analysis.paths import CondOT, Cosine, UserPath
from tests.support.problems import (
    EPS,
    central_difference,
    distance,
    every_path,
    f64,
    rand,
    randn,
    random_covariance,
    random_rotation,
)
from toy_models import GaussianFlow, MixtureFlow, ProductMixtureFlow, RadialMixtureFlow

PATHS = every_path()


def gaussian(path):
    return GaussianFlow(randn(3, seed=1), random_covariance(3, 30.0, seed=2), path)


def product(path):
    factors = [
        (f64([0.3, 0.7]), f64([-1.5, 1.0]), f64([0.1, 0.4])),
        (f64([0.2, 0.5, 0.3]), f64([-2.0, 0.2, 1.4]), 0.2 + rand(3, seed=3)),
        (torch.ones(1).double(), f64([0.5]), f64([0.3])),
    ]
    return ProductMixtureFlow(factors, random_rotation(3, seed=4), path)


def radial(path):
    return RadialMixtureFlow(f64([0.2, 0.5, 0.3]), f64([0.05, 0.6, 4.0]), 3, path)


FAMILIES = {"gaussian": gaussian, "product": product, "radial": radial}


def solve(flow, x, start, end):
    """The states at time ``end`` of the flow's own ODE, by SciPy at round-off tolerances."""

    def velocity(t, y):
        return flow.velocity(torch.from_numpy(y).reshape(x.shape), t).numpy().reshape(-1)

    found = solve_ivp(velocity, (start, end), x.numpy().reshape(-1), "DOP853", rtol=3e-14, atol=1e-13)
    return torch.from_numpy(found.y[:, -1]).reshape(x.shape)


def solve_in_zeta(flow, x, start):
    """The same at t = 1 from d(x/alpha)/dzeta = x0hat, which is regular where sigma' is infinite."""
    path = flow.path

    def source(zeta, y):
        t = path.time_from_zeta(zeta)
        return flow.source(path.alpha(t) * torch.from_numpy(y).reshape(x.shape), t).numpy().reshape(-1)

    interval = float(path.zeta(start)), float(path.zeta(1.0))
    begin = (x / path.alpha(start)).numpy().reshape(-1)
    found = solve_ivp(source, interval, begin, "DOP853", rtol=3e-14, atol=1e-13)
    return path.alpha(1.0) * torch.from_numpy(found.y[:, -1]).reshape(x.shape)


@pytest.fixture(params=FAMILIES)
def build(request):
    return FAMILIES[request.param]


@pytest.mark.parametrize("name", ["condot", "cosine", "vp_linear", "ve", "user"])
def test_map_agrees_with_an_ode_solve(build, name):
    path, start = PATHS[name], 0.4
    flow, x = build(path), torch.hypot(path.alpha(start), path.sigma(start)) * randn(5, 3, seed=7)
    expected = solve_in_zeta(flow, x, start) if name == "vp_linear" else solve(flow, x, start, 1.0)
    # Global error of the solve: some hundreds of steps, each of a few round-offs, times the growth of the flow.
    assert distance(flow.exact_endpoint(x, start), expected) <= 1e-11


@pytest.mark.parametrize("name", ["condot", "polynomial", "user"])
def test_map_composes_with_the_flow(build, name):
    flow, x = build(PATHS[name]), randn(5, 3, seed=8)
    halfway = solve(flow, x, 0.3, 0.7)
    assert distance(flow.exact_endpoint(halfway, 0.7), flow.exact_endpoint(x, 0.3)) <= 1e-11


@pytest.mark.parametrize("name", ["condot", "cosine"])
def test_map_composes_with_itself(build, name):
    path, x, s = PATHS[name], randn(5, 3, seed=8), 0.7
    # The path stopped at s and run in the time t/s has Phi_{t,s} for its map to time one.
    stopped = UserPath(lambda t: path.alpha(s * t), lambda t: path.sigma(s * t))
    halfway = build(stopped).exact_endpoint(x, 0.3 / s)
    assert distance(build(path).exact_endpoint(halfway, s), build(path).exact_endpoint(x, 0.3)) <= 200 * EPS


@pytest.mark.parametrize("name", PATHS)
def test_map_is_the_identity_at_time_one(build, name):
    x, v = randn(5, 3, seed=9), randn(5, 3, seed=10)
    endpoint, pull = build(PATHS[name]).exact_endpoint_vjp(x, 1.0)
    assert distance(endpoint, x) <= 64 * EPS
    assert distance(pull(v), v) <= 500 * EPS


@pytest.mark.parametrize("name", PATHS)
def test_pullback_agrees_with_central_differences(build, name):
    path = PATHS[name]
    t = f64([0.2, 0.4, 0.6, 0.8, 0.95])
    scale = torch.hypot(path.alpha(t), path.sigma(t))[:, None]
    flow, x, v, w = build(path), scale * randn(5, 3, seed=11), randn(5, 3, seed=12), randn(5, 3, seed=13)
    pulled = flow.exact_endpoint_vjp(x, t)[1](w)
    # Rows are scaled by the noise, which is the length on which the map varies.
    pushed = central_difference(lambda y: flow.exact_endpoint(y, t), x, v * scale, EPS**0.2 / 8)
    inner = ((pulled * scale * v).sum(1) - (pushed * w).sum(1)).abs()
    assert (inner <= 1e4 * EPS**0.8 * pushed.norm(dim=1) * w.norm(dim=1)).all()


def test_change_of_variables_holds(build):
    flow, x, t = build(Cosine()), randn(5, 3, seed=14), torch.linspace(0.1, 0.9, 5).double()
    endpoint, pull = flow.exact_endpoint_vjp(x, t)
    rows = torch.stack([pull(e.expand(5, 3)) for e in torch.eye(3).double()], 1)
    change = flow.log_prob(x, t) - flow.log_prob(endpoint, 1.0)
    assert (torch.linalg.slogdet(rows)[1] - change).abs().max() <= 500 * EPS


def test_per_sample_times_agree_with_one_by_one(build):
    flow, x, t = build(CondOT()), randn(5, 3, seed=15), torch.linspace(0.1, 1.0, 5).double()
    v = randn(5, 3, seed=16)
    endpoint, pull = flow.exact_endpoint_vjp(x, t)
    for i in range(5):
        one, one_pull = flow.exact_endpoint_vjp(x[i : i + 1], float(t[i]))
        assert distance(endpoint[i : i + 1], one) <= 64 * EPS
        assert distance(pull(v)[i : i + 1], one_pull(v[i : i + 1])) <= 64 * EPS


@pytest.mark.parametrize("name", PATHS)
def test_product_is_the_flow_of_its_own_mixture(name):
    path, t, v = PATHS[name], torch.linspace(0.1, 1.0, 5).double(), randn(5, 3, seed=17)
    flow = product(path)
    general, x = MixtureFlow(flow.mixture, path), path.sigma(t)[:, None] * randn(5, 3, seed=18) + 0.5
    for prediction in ("target", "source"):
        readout = path.readout(prediction, t)
        value, pull = flow.predict_vjp(x, t, readout)
        general_value, general_pull = general.predict_vjp(x, t, readout)
        assert distance(value, general_value) <= 500 * EPS
        torch.testing.assert_close(pull(v), general_pull(v), rtol=0, atol=1000 * EPS)
        torch.testing.assert_close(
            flow.divergence(x, t, readout), general.divergence(x, t, readout), rtol=0, atol=2000 * EPS
        )
    assert distance(flow.log_prob(x, t), general.log_prob(x, t)) <= 500 * EPS
    assert distance(flow.posterior_covariance(x, t), general.posterior_covariance(x, t)) <= 500 * EPS


def test_product_mixture_has_a_mode_for_every_choice_of_components():
    flow = product(CondOT())
    mixture = flow.mixture
    assert mixture.means.shape == (6, 3)
    means = sum(w[:, None] * m for w, m in [(mixture.weights, mixture.means @ flow.rotation)])
    expected = [float((f[0] * f[1]).sum()) for f in flow.factors]
    np.testing.assert_allclose(means.sum(0).numpy(), expected, rtol=0, atol=16 * EPS)


@pytest.mark.parametrize("family", ["gaussian", "radial"])
def test_predictions_of_the_other_families_are_those_of_their_mixture(family):
    flow = FAMILIES[family](Cosine())
    general, x = MixtureFlow(flow.mixture, Cosine()), randn(5, 3, seed=19)
    assert torch.equal(flow.velocity(x, 0.3), general.velocity(x, 0.3))


@pytest.mark.parametrize("family", FAMILIES)
def test_with_path_keeps_the_distribution(family):
    flow, x = FAMILIES[family](CondOT()), randn(5, 3, seed=20)
    other = flow.with_path(Cosine())
    assert other.path == Cosine()
    assert distance(other.log_prob(x, 0.3), FAMILIES[family](Cosine()).log_prob(x, 0.3)) <= 64 * EPS


def test_float32_copy_of_a_product_can_do_what_the_original_can():
    low, x = product(CondOT()).to(torch.float32, "cpu"), randn(5, 3, seed=21)
    precision = 500 * torch.finfo(torch.float32).eps
    assert distance(low.velocity(x.float(), 0.3), product(CondOT()).velocity(x, 0.3)) <= precision
    moved = low.with_path(Cosine())
    assert distance(moved.velocity(x.float(), 0.3), product(Cosine()).velocity(x, 0.3)) <= precision
    assert distance(low.mixture.means, product(CondOT()).mixture.means) <= precision


GOOD = [(torch.ones(2) / 2, torch.zeros(2), torch.ones(2)), (torch.ones(1), torch.zeros(1), torch.ones(1))]
BAD_FACTORS = {
    r"factors\[1\] weights must be": (torch.tensor([0.4, 0.4]), torch.zeros(2), torch.ones(2)),
    r"factors\[1\] means must be finite": (torch.ones(1), torch.tensor([torch.nan]), torch.ones(1)),
    r"factors\[1\] variances must be finite": (torch.ones(1), torch.zeros(1), torch.tensor([torch.inf])),
    r"factors\[1\] must be weights": (torch.ones(1), torch.zeros(2), torch.ones(2)),
    r"factors\[1\] must be weights, means and positive": (torch.ones(1), torch.zeros(1), torch.zeros(1)),
}


@pytest.mark.parametrize("message", BAD_FACTORS)
def test_bad_factors_are_refused(message):
    with pytest.raises(ValueError, match=message):
        ProductMixtureFlow([GOOD[0], BAD_FACTORS[message]], torch.eye(2), CondOT())


@pytest.mark.parametrize(
    ("rotation", "message"),
    [
        (torch.eye(3), "rotation must have shape"),
        (torch.eye(2) + 1e-6, "rotation must be orthogonal"),
        (torch.full((2, 2), torch.nan), "rotation must be finite"),
    ],
)
def test_bad_rotations_are_refused(rotation, message):
    with pytest.raises(ValueError, match=message):
        ProductMixtureFlow(GOOD, rotation, CondOT())


def test_bad_radial_and_gaussian_parameters_are_refused():
    with pytest.raises(ValueError, match="variances must be 1-D and positive"):
        RadialMixtureFlow(torch.ones(1), torch.zeros(1), 3, CondOT())
    with pytest.raises(ValueError, match="dim must be an integer"):
        RadialMixtureFlow(torch.ones(1), torch.ones(1), 0, CondOT())
    with pytest.raises(ValueError, match="means must have shape"):
        RadialMixtureFlow(torch.ones(1), torch.ones(2), 3, CondOT())
    with pytest.raises(ValueError, match="covariances must be symmetric"):
        GaussianFlow(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]]), CondOT())
    with pytest.raises(ValueError, match=r"x must have shape \(B, 3\)"):
        gaussian(CondOT()).exact_endpoint(torch.zeros(5, 2).double(), 0.5)

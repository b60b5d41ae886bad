"""The exact posterior and the exact likelihood score against brute force, textbook formulas and finite differences."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from analysis import losses
from analysis.flow import from_velocity
from analysis.paths import CondOT, Cosine
from tests.support.problems import (
    central_difference,
    distance,
    every_path,
    f64,
    rand,
    randn,
    random_covariance,
    random_mixture,
    states,
)
from toy_models import GaussianFlow, GaussianMixture, MixtureFlow, ProductMixtureFlow, RadialMixtureFlow
from toy_models.posteriors.dense import condition, likelihood_score

A, Y, R = randn(2, 3, seed=50), f64([0.5, -1.0]), f64([[0.3, 0.1], [0.1, 0.2]])
MIXTURE = random_mixture(3, 3)
TIMES = {"0.05": 0.05, "0.5": 0.5, "1": 1.0, "per sample": f64([0.0, 0.2, 0.5, 0.9, 1.0])}


@pytest.fixture(params=TIMES)
def t(request):
    return TIMES[request.param]


def log_likelihood(flow, x, t):
    """log p(y | X_t = x), component by component, with dense covariances of X_1 given x."""
    mixture, path = flow.mixture, flow.path
    rows = []
    for one, time in zip(x, torch.as_tensor(t, dtype=torch.float64).expand(len(x)), strict=True):
        alpha, sigma = path.alpha(time), path.sigma(time)
        parts = []
        for w, mu, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
            s = alpha**2 * c + sigma**2 * torch.eye(len(mu)).double()
            gain = alpha * c @ torch.linalg.inv(s)
            mean, within = mu + gain @ (one - alpha * mu), c - alpha * gain @ c
            prior = w.log() + MultivariateNormal(alpha * mu, s).log_prob(one)
            spread = A @ within @ A.T + R
            parts.append((prior, prior + MultivariateNormal(A @ mean, (spread + spread.T) / 2).log_prob(Y)))
        priors, joints = (torch.stack(p) for p in zip(*parts, strict=True))
        rows.append(torch.logsumexp(joints, 0) - torch.logsumexp(priors, 0))
    return torch.stack(rows)


def log_evidence(mixture):
    spreads = A @ mixture.covariances @ A.T + R
    return torch.logsumexp(mixture.weights.log() + MultivariateNormal(mixture.means @ A.T, spreads).log_prob(Y), 0)


def test_one_gaussian_is_the_textbook_formula():
    mean, covariance = randn(3), random_covariance(3, 30.0)
    found = GaussianMixture(torch.ones(1), mean[None], covariance[None]).condition(A, Y, R)
    precision = torch.linalg.inv(covariance) + A.T @ torch.linalg.inv(R) @ A
    expected = torch.linalg.solve(precision, torch.linalg.inv(covariance) @ mean + A.T @ torch.linalg.solve(R, Y))
    assert distance(found.covariances[0], torch.linalg.inv(precision)) <= 1e-12
    assert distance(found.means[0], expected) <= 1e-12
    assert found.weights.tolist() == [1.0]


def test_importance_sampling_agrees():
    prior, n = random_mixture(3, 2, seed=4), 200_000
    a, y, r = f64([[1.0, -0.5]]), f64([0.8]), f64([[0.4]])
    found = prior.condition(a, y, r)
    x = prior.sample(n, torch.Generator().manual_seed(0))
    w = torch.softmax(-(x @ a.T - y).square()[:, 0] / (2 * r.item()), 0)
    mean = found.weights @ found.means
    second = torch.einsum(
        "k,kij->ij", found.weights, found.covariances + found.means[:, :, None] * found.means[:, None]
    )
    for f, exact in ((x, mean), ((x[:, :, None] * x[:, None]).flatten(1), second.flatten())):
        estimate = w @ f
        error = (w[:, None] * (f - estimate)).square().sum(0).sqrt()  # of the self-normalised average
        assert 1 / w.square().sum() > n / 10
        assert ((estimate - exact).abs() < 4 * error).all()


def test_density_is_bayes_rule():
    x = MIXTURE.sample(20, torch.Generator().manual_seed(1))
    joint = MIXTURE.log_prob(x) + MultivariateNormal(x @ A.T, R).log_prob(Y)
    assert distance(MIXTURE.condition(A, Y, R).log_prob(x), joint - log_evidence(MIXTURE)) <= 1e-12


@pytest.mark.parametrize(
    "path", [CondOT(), Cosine(), every_path()["ve"], every_path()["user"]], ids=lambda p: repr(p)[:8]
)
def test_score_is_the_derivative_of_an_independent_log_likelihood(path, t):
    flow, x = MixtureFlow(MIXTURE, path), states(MIXTURE, path, t, 5)
    posterior = MixtureFlow(MIXTURE.condition(A, Y, R), path)
    bayes = posterior.log_prob(x, t) + log_evidence(MIXTURE) - flow.log_prob(x, t)
    assert distance(bayes, log_likelihood(flow, x, t)) <= 1e-10
    direction = randn(5, 3, seed=1)
    slope = central_difference(lambda z: log_likelihood(flow, z, t), x, direction, 1e-3)
    found = likelihood_score(flow, A, Y, R, x, t)
    assert (((found * direction).sum(1) - slope).abs() <= 1e-8 * (1 + slope.abs())).all()


def test_score_of_the_posterior_flow_is_the_sum_of_both_scores():
    t = f64([0.1, 0.3, 0.5, 0.7, 0.9])
    flow, posterior = (MixtureFlow(m, CondOT()) for m in (MIXTURE, MIXTURE.condition(A, Y, R)))
    x, direction = states(MIXTURE, CondOT(), t, 5), randn(5, 3, seed=2)
    slope = central_difference(lambda z: posterior.log_prob(z, t), x, direction, 1e-3)
    assert distance((posterior.score(x, t) * direction).sum(1), slope) <= 1e-9
    assert distance(posterior.score(x, t), flow.score(x, t) + likelihood_score(flow, A, Y, R, x, t)) <= 1e-12


@pytest.mark.parametrize("path", [CondOT(), Cosine()])
def test_ends_of_time(path):
    flow, x = MixtureFlow(MIXTURE, path), randn(6, 3)
    assert distance(likelihood_score(flow, A, Y, R, x, 1.0), (Y - x @ A.T) @ torch.linalg.inv(R) @ A) <= 1e-12
    assert likelihood_score(flow, A, Y, R, x, 0.0).abs().max() <= 1e-13


@pytest.mark.parametrize("noise", [1e-4, 1e-8])
def test_small_noise(noise):
    r, y = noise**2 * R, MIXTURE.means[0] @ A.T + 0.1
    found = MIXTURE.condition(A, y, r)
    digits = 1e-14 / noise
    c = MIXTURE.covariances
    gain = c @ A.T @ torch.linalg.inv(A @ c @ A.T)
    observed = (A @ found.eigenvectors) * found.eigenvalues.sqrt()[:, None]
    assert distance(observed @ observed.mT, r.expand(3, 2, 2)) <= digits + 100 * noise**2
    assert distance(found.covariances, c - gain @ A @ c) <= 1e-12 + 100 * noise**2
    assert distance(found.means @ A.T, y.expand(3, 2)) <= 1e-12 + 100 * noise**2
    likelihood = MIXTURE.weights.log() + MultivariateNormal(MIXTURE.means @ A.T, A @ c @ A.T).log_prob(y)
    assert distance(found.weights, likelihood.softmax(0)) <= 1e-12 + 1000 * noise**2
    x = MIXTURE.sample(4, torch.Generator().manual_seed(3))
    exact = (y - x @ A.T) @ torch.linalg.inv(r) @ A
    assert distance(likelihood_score(MixtureFlow(MIXTURE, CondOT()), A, y, r, x, 1.0), exact) <= digits


def test_two_measurements_are_one():
    b, z, s = randn(4, 3, seed=60), randn(4, seed=61), random_covariance(4, 10.0)
    twice = MIXTURE.condition(A, Y, R).condition(b, z, s)
    once = MIXTURE.condition(torch.cat([A, b]), torch.cat([Y, z]), torch.block_diag(R, s))
    x = randn(8, 3)
    assert distance(twice.log_prob(x), once.log_prob(x)) <= 1e-12


def test_components_that_a_measurement_rules_out_are_left_out():
    far = GaussianMixture(f64([0.5, 0.5]), f64([[0.0, 0.0], [1e3, 0.0]]), torch.eye(2).double().repeat(2, 1, 1))
    found = far.condition(f64([[1.0, 0.0]]), f64([0.3]), f64([[0.01]]))
    assert found.weights.tolist() == [1.0]
    assert found.means[0].tolist() == pytest.approx([0.3 / 1.01, 0.0])


FLOWS = {
    "mixture": MixtureFlow(MIXTURE, CondOT()),
    "gaussian": GaussianFlow(randn(3), random_covariance(3, 10.0), CondOT()),
    "product": ProductMixtureFlow(
        [(f64([0.4, 0.6]), f64([-1.0, 1.0]), f64([0.2, 0.5]))] * 3, torch.eye(3).double(), Cosine()
    ),
    "radial": RadialMixtureFlow(f64([0.5, 0.5]), f64([0.3, 4.0]), 3, CondOT()),
}


@pytest.mark.parametrize("name", FLOWS)
def test_measurements_and_times_of_each_sample(name):
    flow, x, y, t = FLOWS[name], randn(5, 3), randn(5, 2, seed=7), rand(5, seed=8)
    found = likelihood_score(flow, A, y, R, x, t)
    one_by_one = [likelihood_score(flow, A, y[i], R, x[i : i + 1], float(t[i])) for i in range(5)]
    assert distance(found, torch.cat(one_by_one)) <= 1e-13
    mixture = flow.mixture
    posterior = MixtureFlow(condition(mixture, A, y[0], R), flow.path)
    assert distance(posterior.score(x, t), flow.score(x, t) + likelihood_score(flow, A, y[0], R, x, t)) <= 1e-12


def test_single_precision_states_lose_only_their_own_digits():
    flow, x = FLOWS["mixture"], randn(5, 3)
    found = likelihood_score(flow.to(torch.float32, "cpu"), A.float(), Y.float(), R.float(), x.float(), 0.5)
    assert found.dtype == torch.float64
    assert 1e-9 < distance(found, likelihood_score(flow, A, Y, R, x, 0.5)) <= 1e-5


def test_the_score_is_the_gradient_of_the_loss_at_time_one():
    loss = losses.LinearGaussian(A, Y, R)
    x = randn(4, 3)
    gradient = losses.value_and_gradient(loss, x)[1]
    assert distance(-likelihood_score(FLOWS["mixture"], A, Y, R, x, 1.0), gradient) <= 1e-12
    log_density = MultivariateNormal(x @ A.T, R).log_prob(Y) - MultivariateNormal(Y, R).log_prob(Y)
    assert distance(-loss(x), log_density) <= 1e-12
    isotropic = losses.LinearGaussian(A, Y, 0.49 * torch.eye(2).double())
    assert distance(losses.HalfSquaredResidual(A, Y, noise=0.7)(x), isotropic(x)) <= 1e-14


BAD = [
    ("A", torch.zeros(2, 4), r"A must have shape \(m, 3\)"),
    ("A", torch.zeros(3), r"A must have (2 axes, got shape|shape \(m, d\), got) \(3,\)"),
    ("A", torch.full((2, 3), math.nan), "A must be finite"),
    ("y", torch.zeros(3), r"y must have shape \(m,\) or \(B, m\) with m = 2, got \(3,\)"),
    ("y", torch.tensor([0.0, math.inf]), "y must be finite"),
    ("noise_covariance", torch.eye(3).double(), r"noise_covariance must have shape \(2, 2\)"),
    ("noise_covariance", torch.ones(2), r"noise_covariance must have shape \(2, 2\)"),
    ("noise_covariance", torch.zeros(2, 2), "noise_covariance must be symmetric and positive definite"),
    ("noise_covariance", -torch.eye(2).double(), "noise_covariance must be symmetric and positive definite"),
    ("noise_covariance", torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "noise_covariance must be symmetric"),
    ("noise_covariance", torch.full((2, 2), math.nan), "noise_covariance must be finite"),
]


@pytest.mark.parametrize(("name", "bad", "message"), BAD)
def test_bad_measurements_are_refused(name, bad, message):
    given = {"A": A, "y": Y, "noise_covariance": R} | {name: bad}
    with pytest.raises(ValueError, match=message):
        MIXTURE.condition(**given)
    with pytest.raises(ValueError, match=message):
        likelihood_score(FLOWS["mixture"], **given, x=randn(5, 3), t=0.5)
    if "3\\)" not in message:
        with pytest.raises(ValueError, match=message.replace("A ", "operator ", 1).replace("y ", "measurement ", 1)):
            losses.LinearGaussian(*given.values())


def test_other_bad_input_is_refused():
    flow, x = FLOWS["mixture"], randn(5, 3)
    with pytest.raises(ValueError, match=r"y must have shape \(m,\), got \(5, 2\)"):
        MIXTURE.condition(A, randn(5, 2), R)
    with pytest.raises(ValueError, match=r"y must have shape \(m,\) or \(B, m\) with B = 5, got \(4, 2\)"):
        likelihood_score(flow, A, randn(4, 2), R, x, 0.5)
    with pytest.raises(ValueError, match="flow must be that of a Gaussian mixture, got PredictionFlow"):
        likelihood_score(from_velocity(lambda x, t: x, CondOT()), A, Y, R, x, 0.5)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 3\)"):
        likelihood_score(flow, A, Y, R, x[:, :2], 0.5)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        likelihood_score(flow, A, Y, R, x, 1.5)
    for noise in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="noise must be positive"):
            losses.HalfSquaredResidual(A, Y, noise=noise)
    for loss in (losses.HalfSquaredResidual(A, Y), losses.LinearGaussian(A, randn(4, 2), R)):
        with pytest.raises(ValueError, match=r"operator .* and measurement .* must fit x"):
            loss(randn(5, 4) if loss.measurement.ndim == 1 else x)

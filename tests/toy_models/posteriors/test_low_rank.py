"""Posteriors of low-rank mixtures against full covariances, brute force and finite differences; operators for both."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from analysis.operators import LinearOperator, from_matrix, inverse_problem
from analysis.paths import CondOT, Cosine
from tests.support.low_rank import random_low_rank
from tests.support.problems import (
    central_difference,
    distance,
    every_path,
    f64,
    randn,
    random_covariance,
    random_mixture,
    states,
)
from toy_models import MixtureFlow
from toy_models.mixtures.low_rank import LowRankMixtureFlow
from toy_models.posteriors.dense import condition, likelihood_score
from toy_models.posteriors.low_rank import LowRankLikelihood

PATHS = every_path()
MIXTURE = random_low_rank(4, 6, 2)
DENSE = MIXTURE.dense()
SMALL = random_low_rank(3, 3, 1, seed=5)


def measurement(m, noise=1.0, mixture=MIXTURE):
    a = randn(m, mixture.dim, seed=4)
    return a, mixture.means[0] @ a.T + 0.1 * randn(m, seed=8), noise**2 * random_covariance(m, 10.0)


@pytest.mark.parametrize("m", [1, 3, 6, 9])
@pytest.mark.parametrize("noise", [1.0, 1e-3])
def test_posterior_equals_that_of_full_covariances(m, noise):
    a, y, r = measurement(m, noise)
    found, expected = condition(MIXTURE, a, y, r), DENSE.condition(a, y, r)
    alive = found.weights > 1e-300
    assert distance(found.weights[alive], expected.weights) <= 1e-10
    assert distance(found.means[alive], expected.means) <= 1e-12
    assert distance(found.mean, expected.weights @ expected.means) <= 1e-12
    x = expected.sample(20, torch.Generator().manual_seed(0))
    assert distance(found.log_prob(x), expected.log_prob(x)) <= 1e-10


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("m", [2, 9])
def test_likelihood_score_equals_that_of_full_covariances(name, m):
    path, (a, y, r) = PATHS[name], measurement(m)
    y = y + randn(5, m, seed=9)
    flow, dense = LowRankMixtureFlow(MIXTURE, path), MixtureFlow(DENSE, path)
    for t in (0.0, 0.3, 0.9, 1.0, f64([0.1, 0.5, 0.5, 0.1, 1.0])):
        x = states(MIXTURE, path, t, 5)
        found, expected = (likelihood_score(f, a, y, r, x, t) for f in (flow, dense))
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11 * float(dense.score(x, t).abs().max()))


def test_importance_sampling_agrees():
    n, a, y, r = 200_000, randn(1, 3, seed=2), f64([0.8]), f64([[0.4]])
    posterior = condition(SMALL, a, y, r)
    x = SMALL.sample(n, torch.Generator().manual_seed(0))
    log_w = -(x @ a.T - y).square()[:, 0] / (2 * r.item())
    w = torch.softmax(log_w, 0)
    mine = posterior.sample(n, torch.Generator().manual_seed(1))
    for f in (lambda x: x, lambda x: (x[:, :, None] * x[:, None]).flatten(1), torch.cos):
        estimate, own = w @ f(x), f(mine).mean(0)
        error = (w[:, None] * (f(x) - estimate)).square().sum(0) + f(mine).var(0) / n
        assert ((estimate - own).abs() < 4 * error.sqrt()).all()
    error = (w[:, None] * (x - w @ x)).square().sum(0).sqrt()
    assert ((w @ x - posterior.mean).abs() < 4 * error).all()
    # The density is prior times likelihood over the evidence, which is the mean likelihood under the prior.
    evidence = log_w.logsumexp(0) - math.log(n)
    bayes = SMALL.log_prob(x[:9]) + log_w[:9] - evidence
    relative = float((log_w - evidence).exp().std()) / math.sqrt(n)
    assert ((bayes - posterior.log_prob(x[:9])).abs() < 4 * relative).all()


def test_density_integrates_to_one():
    mixture = random_low_rank(2, 1, 1, seed=1)
    posterior = condition(mixture, f64([[1.0]]), f64([0.7]), f64([[0.01]]))
    grid = torch.linspace(-1, 3, 4001, dtype=torch.float64)[:, None]
    density = posterior.log_prob(grid).exp()
    assert torch.trapezoid(density, grid[:, 0]) == pytest.approx(1, abs=1e-9)
    assert torch.trapezoid(density * grid[:, 0], grid[:, 0]) == pytest.approx(float(posterior.mean), rel=1e-8)


def log_likelihood(flow, a, y, r, x, t):
    """log p(y | X_t = x) by Bayes' rule from two joint densities with full covariances, (B,)."""
    mixture, alpha, sigma = flow.mixture.dense(), flow.path.alpha(t), flow.path.sigma(t)
    c, eye = mixture.covariances, torch.eye(flow.mixture.dim).double()
    s = alpha**2 * c + sigma**2 * eye
    joint = torch.cat([torch.cat([s, alpha * c @ a.T], 2), torch.cat([alpha * a @ c, a @ c @ a.T + r], 2)], 1)
    means = torch.cat([alpha * mixture.means, mixture.means @ a.T], 1)
    both = torch.cat([x, y.expand(len(x), -1)], 1)[:, None]
    log_w, d = mixture.weights.log(), flow.mixture.dim
    joints = MultivariateNormal(means, (joint + joint.mT) / 2).log_prob(both)
    priors = MultivariateNormal(means[:, :d], s).log_prob(both[..., :d])
    return (log_w + joints).logsumexp(1) - (log_w + priors).logsumexp(1)


@pytest.mark.parametrize("path", [CondOT(), Cosine(), PATHS["ve"]], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t", [0.05, 0.4, 0.8])
def test_likelihood_score_is_the_derivative_of_an_independent_log_likelihood(path, t):
    flow, (a, y, r) = LowRankMixtureFlow(SMALL, path), measurement(2, 0.5, SMALL)
    x, direction = states(SMALL, path, t, 5), randn(5, 3, seed=1)
    h = 1e-3 * max(1.0, float(path.sigma(t)))
    slope = central_difference(lambda z: log_likelihood(flow, a, y, r, z, t), x, direction, h)
    found = (likelihood_score(flow, a, y, r, x, t) * direction).sum(1)
    assert ((found - slope).abs() <= 1e-8 * (1 + slope.abs())).all()


def test_score_of_the_posterior_is_the_sum_of_both_scores():
    (a, y, r), x = measurement(3), MIXTURE.sample(5, torch.Generator().manual_seed(0))
    flow, posterior = LowRankMixtureFlow(MIXTURE, CondOT()), condition(MIXTURE, a, y, r)
    direction = randn(5, 6, seed=1)
    slope = central_difference(posterior.log_prob, x, direction, 1e-3)
    found = flow.score(x, 1.0) + likelihood_score(flow, a, y, r, x, 1.0)
    assert distance((found * direction).sum(1), slope) <= 1e-8


@pytest.mark.parametrize("noise", [1e-4, 1e-6, 1e-8])
def test_small_noise(noise):
    a, y, r = measurement(3, noise)
    posterior = condition(MIXTURE, a, y, r)
    # At this noise the posterior is that of an exact measurement, up to noise^2.
    c = DENSE.covariances
    gain = c @ a.T @ torch.linalg.inv(a @ c @ a.T)
    exact = MIXTURE.means + torch.einsum("kdm,km->kd", gain, y - MIXTURE.means @ a.T)
    assert distance(posterior.means, exact) <= 1e-13 + 1e3 * noise**2
    likelihood = MIXTURE.weights.log() + MultivariateNormal(MIXTURE.means @ a.T, a @ c @ a.T).log_prob(y)
    assert distance(posterior.weights, likelihood.softmax(0)) <= 1e-12 + 1e3 * noise**2
    # Samples miss y by the noise: as much as they should, and not more.
    x = posterior.sample(4000, torch.Generator().manual_seed(0))
    misfit = MultivariateNormal(torch.zeros(3).double(), r)
    chi2 = torch.linalg.solve_triangular(misfit.scale_tril, (x @ a.T - y).T, upper=False).square().sum(0)
    assert chi2.mean() == pytest.approx(3, rel=0.1)
    x, flow = MIXTURE.sample(4, torch.Generator().manual_seed(3)), LowRankMixtureFlow(MIXTURE, CondOT())
    end = (y - x @ a.T) @ torch.linalg.inv(r) @ a
    assert distance(likelihood_score(flow, a, y, r, x, 1.0), end) <= 1e-13
    for t in (0.0, 0.3, 0.9):
        found = likelihood_score(flow, a, y, r, x, t)
        limit = likelihood_score(flow, a, y, 1e-8 * r / noise**2, x, t)  # noise 1e-4
        torch.testing.assert_close(found, limit, rtol=0, atol=1e-4 * float(flow.score(x, t).abs().max()))


def test_small_noise_of_a_nearly_singular_operator():
    # Singular values from 1 to 1e-8 at noise 1e-6: some directions are measured, some are not, some are between.
    u, v = (torch.linalg.qr(randn(6, 6, seed=s))[0] for s in (1, 2))
    a = (u * torch.logspace(0, -8, 6, dtype=torch.float64)) @ v.T
    r, x = 1e-12 * torch.eye(6).double(), MIXTURE.sample(4, torch.Generator().manual_seed(0))
    y = MIXTURE.means[1] @ a.T
    found, expected = condition(MIXTURE, a, y, r), DENSE.condition(a, y, r)
    assert distance(found.means[found.weights > 0], expected.means) <= 1e-8
    for t in (0.3, 0.9):
        scores = [likelihood_score(f(m, Cosine()), a, y, r, x, t) for f, m in FLOWS]
        assert distance(*scores) <= 1e-7


FLOWS = [(LowRankMixtureFlow, MIXTURE), (MixtureFlow, DENSE)]


@pytest.mark.parametrize(("flow", "mixture"), FLOWS)
def test_operators_and_matrices_are_the_same(flow, mixture):
    a, y, r = measurement(3)
    operator, x = from_matrix(a), randn(5, 6)
    assert torch.equal(operator.matrix(), a)
    found, expected = (condition(mixture, given, y, r).log_prob(x) for given in (operator, a))
    assert torch.equal(found, expected)
    assert torch.equal(condition(mixture, operator, y, r).log_prob(x), expected)
    scores = [likelihood_score(flow(mixture, CondOT()), given, y, r, x, 0.5) for given in (operator, a)]
    assert torch.equal(*scores)


def test_what_does_not_depend_on_the_measurement_is_shared():
    a, y, r = measurement(3)
    likelihood, x, flow = LowRankLikelihood(MIXTURE, a, r), randn(5, 6), LowRankMixtureFlow(MIXTURE, CondOT())
    ys = y + randn(5, 3, seed=3)
    together = likelihood.score(CondOT(), ys, x, 0.4)
    each = [likelihood.score(CondOT(), ys[i], x[i : i + 1], 0.4) for i in range(5)]
    assert distance(together, torch.cat(each)) <= 1e-13
    assert distance(together, likelihood_score(flow, a, ys, r, x, 0.4)) <= 1e-13
    assert distance(likelihood.posterior(ys[1]).mean, condition(MIXTURE, a, ys[1], r).mean) <= 1e-13


def test_digits_of_a_real_image_problem():
    from toy_models.problems import zoo

    digits = zoo.distribution(zoo.build("digits", CondOT()))
    problem = inverse_problem("super_resolution_2", 8, 0.05)
    x = digits.sample(1, torch.Generator().manual_seed(0))
    y = problem.measure(x, torch.Generator().manual_seed(1))[0]
    posterior = condition(digits, problem.operator, y, problem.noise_covariance)
    draws = posterior.sample(200, torch.Generator().manual_seed(2))
    assert float((problem.operator(draws) - y).std()) < 3 * problem.noise
    assert posterior.log_prob(draws).mean() > digits.log_prob(draws).mean()


A, Y, R = measurement(2)
BAD = [
    ("A", torch.zeros(2, 4), r"A must have shape \(m, 6\)"),
    ("A", torch.zeros(6), r"A must have (2 axes, got shape|shape \(m, d\), got) \(6,\)"),
    ("A", torch.full((2, 6), math.nan), "A must be finite"),
    ("A", from_matrix(randn(2, 5)), r"A must have shape \(m, 6\)"),
    ("y", torch.zeros(3), r"y must have shape \(m,\) or \(B, m\) with m = 2, got \(3,\)"),
    ("y", torch.tensor(1.0), r"y must have shape \(m,\).*, got \(\)"),
    ("y", torch.tensor([0.0, math.inf]), "y must be finite"),
    ("noise_covariance", torch.eye(3).double(), r"noise_covariance must have shape \(2, 2\)"),
    ("noise_covariance", torch.zeros(2, 2), "noise_covariance must be symmetric and positive definite"),
    ("noise_covariance", -torch.eye(2).double(), "noise_covariance must be symmetric and positive definite"),
    ("noise_covariance", torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "noise_covariance must be symmetric"),
    ("noise_covariance", torch.full((2, 2), math.nan), "noise_covariance must be finite"),
]


@pytest.mark.parametrize(("flow", "mixture"), FLOWS)
@pytest.mark.parametrize(("name", "bad", "message"), BAD)
def test_bad_measurements_are_refused(flow, mixture, name, bad, message):
    given = {"A": A, "y": Y, "noise_covariance": R} | {name: bad}
    with pytest.raises(ValueError, match=message):
        condition(mixture, **given)
    with pytest.raises(ValueError, match=message):
        likelihood_score(flow(mixture, CondOT()), **given, x=randn(5, 6), t=0.5)


def test_other_bad_input_is_refused():
    flow, x = LowRankMixtureFlow(MIXTURE, CondOT()), randn(5, 6)
    with pytest.raises(ValueError, match=r"y must have shape \(m,\), got \(5, 2\)"):
        condition(MIXTURE, A, randn(5, 2), R)
    with pytest.raises(ValueError, match=r"y must have shape \(m,\) or \(B, m\) with B = 5, got \(4, 2\)"):
        likelihood_score(flow, A, randn(4, 2), R, x, 0.5)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 6\)"):
        likelihood_score(flow, A, Y, R, x[:, :2], 0.5)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        likelihood_score(flow, A, Y, R, x, 1.5)
    with pytest.raises(ValueError, match="n must be an integer of at least 1"):
        condition(MIXTURE, A, Y, R).sample(0, torch.Generator())
    with pytest.raises(ValueError, match="adjoint must be the transpose of forward"):
        condition(MIXTURE, LinearOperator(lambda x: x @ A.T, lambda y: y @ -A, 6, 2), Y, R)
    with pytest.raises(ValueError, match="flow must be that of a Gaussian mixture"):
        likelihood_score(random_mixture(2, 6), A, Y, R, x, 0.5)

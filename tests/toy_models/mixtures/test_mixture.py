"""Mixtures and their flows against Bayes' rule written out, SciPy and automatic differentiation."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from analysis.paths import PREDICTIONS, Cosine
from tests.support.problems import EPS, central_difference, distance, every_path, f64, randn, random_mixture, states
from toy_models import MixtureFlow

PATHS = every_path()
# K, d, condition number; the number of states is always d + 2, never d.
SHAPES = [(1, 1, 1.0), (1, 4, 1e4), (3, 1, 1.0), (4, 3, 10.0), (2, 8, 100.0), (6, 5, 1e4)]


class Problem:
    """A random mixture with states and per-sample times strictly inside [0, 1]."""

    def __init__(self, k, d, condition, path, seed=0):
        self.mixture, self.path, n = random_mixture(k, d, condition, seed=seed), PATHS[path], d + 2
        self.flow = MixtureFlow(self.mixture, self.path)
        self.t = torch.linspace(0.15, 0.9, n, dtype=torch.float64)
        self.x = states(self.mixture, self.path, self.t, n, seed)
        # S_k is inverted by different means; its condition number is at most that of C_k.
        self.tolerance = 500 * EPS * condition**0.5


@pytest.fixture(params=SHAPES, ids=lambda s: "K{}-d{}-cond{:g}".format(*s))
def problem(request):
    return Problem(*request.param, path="cosine", seed=request.param[1])


def naive(mixture, path, x, t):
    """Density, target, score and posterior covariance of one x (d,) by Bayes' rule, component by component."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    logs, means, scores, covariances = [], [], [], []
    for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
        s = alpha**2 * c + sigma**2 * torch.eye(len(m), dtype=torch.float64)
        q = torch.linalg.solve(s, x - alpha * m)
        logs.append(w.log() - ((x - alpha * m) @ q + torch.linalg.slogdet(2 * math.pi * s)[1]) / 2)
        means.append(m + alpha * c @ q)
        scores.append(-q)
        covariances.append(c - alpha**2 * c @ torch.linalg.solve(s, c))
    r, means = torch.stack(logs).softmax(0), torch.stack(means)
    target = r @ means
    within = torch.einsum("k,kij->ij", r, torch.stack(covariances))
    between = (r[:, None] * (means - target)).T @ (means - target)
    return {
        "log_prob": torch.stack(logs).logsumexp(0),
        "target": target,
        "score": r @ torch.stack(scores),
        "posterior_covariance": within + between,
    }


def expected(problem, name):
    return torch.stack(
        [naive(problem.mixture, problem.path, x, t)[name] for x, t in zip(problem.x, problem.t, strict=True)]
    )


def column(value):
    return torch.as_tensor(value).reshape(-1, 1)


def readouts(path, t):
    return [*(path.readout(name, t) for name in PREDICTIONS), path.combination(0.7 + t, -1.3 * t, t)]


def jacobian(flow, x, t, readout):
    """Return the Jacobian of a readout of each sample, (B, d, d), by automatic differentiation."""
    full = torch.autograd.functional.jacobian(lambda y: flow.predict(y, t, readout).sum(0), x)
    return full.permute(1, 0, 2)


@pytest.mark.parametrize("name", ["log_prob", "target", "score", "posterior_covariance"])
def test_predictions_agree_with_naive_formulas(problem, name):
    assert distance(getattr(problem.flow, name)(problem.x, problem.t), expected(problem, name)) <= problem.tolerance


def test_source_and_velocity_agree_with_naive_formulas(problem):
    x, t, path = problem.x, problem.t, problem.path
    source = -column(path.sigma(t)) * expected(problem, "score")
    velocity = column(path.d_alpha(t)) * expected(problem, "target") + column(path.d_sigma(t)) * source
    assert distance(problem.flow.source(x, t), source) <= problem.tolerance
    assert distance(problem.flow.velocity(x, t), velocity) <= problem.tolerance


@pytest.mark.parametrize("name", PATHS)
def test_predictions_agree_with_naive_formulas_on_every_path(name):
    problem = Problem(3, 4, 10.0, name)
    for key in ("target", "score", "log_prob", "posterior_covariance"):
        assert distance(getattr(problem.flow, key)(problem.x, problem.t), expected(problem, key)) <= problem.tolerance


def test_score_is_the_gradient_of_log_prob(problem):
    x = problem.x.clone().requires_grad_()
    (score,) = torch.autograd.grad(problem.flow.log_prob(x, problem.t).sum(), x)
    assert distance(problem.flow.score(problem.x, problem.t), score) <= problem.tolerance


def test_log_prob_agrees_with_scipy(problem):
    x, t, m = problem.x, 0.6, problem.mixture
    alpha, sigma = float(problem.path.alpha(t)), float(problem.path.sigma(t))
    marginals = [
        multivariate_normal(alpha * mean, alpha**2 * c + sigma**2 * np.eye(len(mean)))
        for mean, c in zip(m.means.numpy(), m.covariances.numpy(), strict=True)
    ]
    logs = np.stack([p.logpdf(x.numpy()).reshape(-1) for p in marginals])
    reference = torch.from_numpy(logsumexp(logs, axis=0, b=m.weights.numpy()[:, None]))
    assert distance(problem.flow.log_prob(x, t), reference) <= problem.tolerance


def test_products_with_the_jacobian_agree_with_autograd(problem):
    flow, x, t, v = problem.flow, problem.x, problem.t, randn(*problem.x.shape, seed=5)
    for readout in readouts(flow.path, t):
        full = jacobian(flow, x, t, readout)
        value, pull = flow.predict_vjp(x, t, readout)
        assert torch.equal(value, flow.predict(x, t, readout))
        # A velocity may have a vanishing Jacobian, whose product is round-off of v itself.
        size = max(1.0, float(full.abs().max())) * float(v.abs().max())
        assert (pull(v) - torch.einsum("bij,bi->bj", full, v)).abs().max() <= problem.tolerance * size
        assert (pull(v) - torch.einsum("bij,bj->bi", full, v)).abs().max() <= problem.tolerance * size  # symmetric
        trace, terms = full.diagonal(dim1=1, dim2=2).sum(1), full.diagonal(dim1=1, dim2=2).abs().sum(1)
        assert (flow.divergence(x, t, readout) - trace).abs().max() <= problem.tolerance * max(1, float(terms.max()))


@pytest.mark.parametrize("path", PATHS)
def test_products_with_the_jacobian_agree_with_central_differences(path):
    problem = Problem(3, 4, 10.0, path)
    x, t, v = problem.x, problem.t, randn(*problem.x.shape, seed=6)
    for readout in readouts(problem.path, t):
        out = problem.flow.predict_vjp(x, t, readout)[1](v)  # the Jacobian is symmetric
        h = EPS**0.2 * x.abs().max() / 4  # the noise of the widest states sets the length scale of the field
        difference = central_difference(lambda y, r=readout: problem.flow.predict(y, t, r), x, v, float(h))
        assert distance(out, difference) <= 1e3 * EPS**0.8  # truncation h^4, round-off eps/h


def test_posterior_covariance_is_the_jacobian_of_the_target(problem):
    flow, x, t = problem.flow, problem.x, problem.t
    full = jacobian(flow, x, t, flow.path.readout("target", t))
    scale = (flow.path.sigma(t) ** 2 / flow.path.alpha(t)).reshape(-1, 1, 1)
    found = flow.posterior_covariance(x, t)
    assert distance(found, scale * full) <= problem.tolerance
    assert torch.linalg.eigvalsh(found).min() > 0


@pytest.mark.parametrize("name", PATHS)
def test_density_and_velocity_satisfy_the_continuity_equation(name):
    problem = Problem(3, 4, 10.0, name)
    flow, x, t, unit = problem.flow, problem.x, problem.t, problem.t * (1 - problem.t)
    rate = central_difference(lambda s: flow.log_prob(x, s), t, unit, h=EPS**0.2 / 4)
    transport = (flow.velocity(x, t) * flow.score(x, t)).sum(1)
    residual = rate + unit * (flow.divergence(x, t, flow.path.readout("velocity", t)) + transport)
    # In units of t (1 - t), derivatives are of the size of log p_t: truncation h^4, round-off eps/h.
    assert residual.abs().max() <= 1e3 * EPS**0.8 * rate.abs().max()


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("t", [0.0, 1.0])
@pytest.mark.parametrize("key", ["target", "score", "log_prob", "posterior_covariance", "source", "velocity"])
def test_predictions_at_the_ends_of_time_are_the_limits(name, t, key):
    mixture, path = random_mixture(3, 4), PATHS[name]
    flow = MixtureFlow(mixture, path)
    x = path.alpha(t) * mixture.sample(6, torch.Generator().manual_seed(0)) + path.sigma(t) * randn(6, 4)
    rows = [naive(mixture, path, row, f64(t)) for row in x]
    limit = {k: torch.stack([row[k] for row in rows]) for k in rows[0]}
    limit["source"] = -path.sigma(t) * limit["score"]
    # sigma' x0hat = -sigma sigma' score; on linear VP at t = 1, sigma sigma' = -alpha alpha' = -0.05.
    product = path.sigma(t) * path.d_sigma(t) if (name, t) != ("vp_linear", 1.0) else -0.05
    limit["velocity"] = path.d_alpha(t) * limit["target"] - product * limit["score"]
    # At sigma = 0 the naive covariance is C - C, round-off of C; every other value is close to relative round-off.
    torch.testing.assert_close(getattr(flow, key)(x, t), limit[key], rtol=1e3 * EPS, atol=1e3 * EPS)


def test_leading_axes_and_broadcast_times_agree_with_flat_evaluation():
    problem = Problem(3, 4, 10.0, "condot")
    flow, x = problem.flow, randn(2, 5, 4, seed=3)
    v = randn(2, 5, 4, seed=4)
    for t in (f64([[0.3], [0.8]]), torch.linspace(0.1, 0.9, 10).double().reshape(2, 5)):
        readout = flow.path.readout("velocity", t)
        flat_t = t.expand(2, 5).reshape(-1)
        flat = flow.path.readout("velocity", flat_t)
        value, pull = flow.predict_vjp(x, t, readout)
        flat_value, flat_pull = flow.predict_vjp(x.reshape(10, 4), flat_t, flat)
        close = {"rtol": 0, "atol": 64 * EPS * float(flat_value.abs().max())}
        torch.testing.assert_close(value, flat_value.reshape(2, 5, 4), **close)
        torch.testing.assert_close(flow.predict(x, t, readout), value, rtol=0, atol=0)
        torch.testing.assert_close(pull(v), flat_pull(v.reshape(10, 4)).reshape(2, 5, 4), **close)
        torch.testing.assert_close(
            flow.divergence(x, t, readout), flow.divergence(x.reshape(10, 4), flat_t, flat).reshape(2, 5), **close
        )


def test_per_sample_times_agree_with_one_by_one(problem):
    for name in ("velocity", "target", "source", "score", "log_prob", "posterior_covariance"):
        batch = getattr(problem.flow, name)(problem.x, problem.t)
        single = [getattr(problem.flow, name)(problem.x[i : i + 1], float(t)) for i, t in enumerate(problem.t)]
        assert distance(batch, torch.cat(single)) <= 64 * EPS


def test_float32_copy_agrees_to_float32_round_off():
    problem = Problem(3, 4, 10.0, "cosine")
    low = problem.flow.to(torch.float32, "cpu")
    found = low.velocity(problem.x.float(), problem.t)
    assert found.dtype == torch.float32
    assert distance(found.double(), problem.flow.velocity(problem.x, problem.t)) <= 500 * torch.finfo(torch.float32).eps


def test_with_path_is_the_same_mixture_along_another_path():
    problem = Problem(3, 4, 10.0, "condot")
    other = problem.flow.with_path(Cosine())
    expected_flow = MixtureFlow(problem.mixture, Cosine())
    assert torch.equal(other.velocity(problem.x, 0.4), expected_flow.velocity(problem.x, 0.4))


def test_sample_moments_and_seeds():
    mixture, n = random_mixture(4, 3), 40_000
    sample = mixture.sample(n, torch.Generator().manual_seed(1))
    mean = mixture.weights @ mixture.means
    spread = mixture.means - mean
    covariance = torch.einsum("k,kij->ij", mixture.weights, mixture.covariances + spread[:, :, None] * spread[:, None])
    # Five standard errors; the fourth moments of a mixture are within twice those of its Gaussian.
    assert ((sample.mean(0) - mean).abs() <= 5 * (covariance.diagonal() / n).sqrt()).all()
    variances = covariance.diagonal()
    assert ((sample.T.cov() - covariance).abs() <= 5 * (2 * variances[:, None] * variances / n).sqrt()).all()
    assert torch.equal(sample, mixture.sample(n, torch.Generator().manual_seed(1)))
    assert not torch.equal(sample, mixture.sample(n, torch.Generator().manual_seed(2)))

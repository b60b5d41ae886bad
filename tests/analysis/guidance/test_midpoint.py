"""Midpoint guidance against exact posteriors, Schur complements, and the bound minimised by autograd.

The truths are independent of the sampler's formulas: laws between two states follow from the joint covariance of the
path's states by Schur complements, the objective from ``torch.distributions``, its minimum on a quadratic loss and the
posterior from linear algebra.
"""

import itertools

import pytest
import torch

from analysis.flow import from_velocity
from analysis.guidance import SAMPLERS, midpoint
from analysis.guidance.optimisers import optimiser
from analysis.paths import CondOT, Cosine
from tests.support.guidance import GAUSSIAN, LOSS, MIXTURE, PATHS, X0, A, R, Y, noise
from tests.support.problems import distance, every_path, f64, randn
from toy_models import MixtureFlow

DRAW = SAMPLERS["midpoint_guidance"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def between(path, t, s, u):
    """The weights of x_t and x_u in the mean of x_s, and its variance: for data of unit variance, or u = the data."""
    times = [time for time in (t, s, u) if time is not None]
    alphas = [float(path.alpha(time)) for time in times] + [1.0] * (u is None)
    variances = [float(path.alpha(time) ** 2 + path.sigma(time) ** 2) for time in times] + [1.0] * (u is None)
    joint = torch.diag(f64(variances))  # Cov(X_t, X_s) = alpha_t/alpha_s Var(X_s) for t before s: noise is added
    for i, j in itertools.combinations(range(3), 2):
        joint[i, j] = joint[j, i] = alphas[i] / alphas[j] * variances[j]
    ends = joint[[0, 2]][:, [0, 2]]
    weights = torch.linalg.solve(ends, joint[[0, 2], 1])
    return weights, joint[1, 1] - weights @ joint[[0, 2], 1]


@pytest.mark.parametrize("name", [*PATHS, "user"])
@pytest.mark.parametrize("times", [(0.0, 0.3, 0.6), (0.2, 0.5, 0.5), (0.4, 0.9, None), (0.1, 1.0, None)])
def test_the_law_between_two_states_is_the_schur_complement(name, times):
    path = (PATHS | every_path())[name]
    weights, variance = between(path, *times)
    found = midpoint.bridge(path, *(None if t is None else f64(t) for t in times))
    torch.testing.assert_close(torch.stack([*found]), torch.stack([*weights, variance]), rtol=1e-9, atol=1e-9)


def test_the_fit_tends_to_the_minimum_on_a_quadratic_loss():
    hessian, shift, variance, prior = LOSS.operator.T @ torch.linalg.inv(R) @ A, f64([1.0, -2.0, 0.5]), 0.4, randn(1, 3)
    moves = optimiser("adam", randn(400, 3), 0.01), optimiser("adam", randn(400, 3), 0.01)
    generator = seeded()
    mean, std = midpoint.fit(
        lambda x: x @ hessian - shift,
        prior.expand(400, 3),
        (prior, f64(variance)),
        moves,
        lambda: torch.randn(400, 3, dtype=torch.float64, generator=generator),
        800,
    )
    precision = torch.eye(3).double() / variance + hessian
    exact = torch.linalg.solve(precision, prior[0] / variance + shift)
    torch.testing.assert_close(mean.mean(0), exact, atol=0.01, rtol=0)
    torch.testing.assert_close(std.mean(0), precision.diagonal() ** -0.5, atol=0.01, rtol=0)


def by_hand(flow, x, steps, inner, share, start, generator):
    """The sampler with the objective of torch.distributions, its gradient by autograd, and torch's Adam."""
    path, carried = flow.path, None

    def target(x, t):
        return flow.predict(x, f64(t), path.readout("target", f64(t)))

    def draw():
        return torch.randn(x.shape, dtype=torch.float64, generator=generator)

    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64).tolist()
    for t, s in itertools.pairwise(times):
        tau, ahead = s + share * (1 - s), target(x, t)
        weights, variance = between(path, t, tau, None)
        if variance < 1e-12:
            x = ahead
            continue
        transition = torch.distributions.Normal(weights[0] * x + weights[1] * ahead, variance.sqrt())
        begin = weights[0] * x + weights[1] * (carried if carried is not None else ahead)
        mean = begin.clone().requires_grad_()
        log_std = (variance.sqrt().log() + 0 * x).requires_grad_()
        adam = torch.optim.Adam([mean, log_std], lr=0.05)
        for _ in range(inner):
            fitted = torch.distributions.Normal(mean, log_std.exp())
            divergence = torch.distributions.kl_divergence(fitted, transition).sum()
            adam.zero_grad()
            (divergence + LOSS(target(mean + log_std.exp() * draw(), tau)).sum()).backward()
            adam.step()
        middle = (mean + log_std.exp() * draw()).detach()
        weights, variance = between(path, t, s, tau)
        x = weights[0] * x + weights[1] * middle + variance.clamp_min(0).sqrt() * draw()
        carried = target(middle, tau) if start == "carried" else None
    return x


@pytest.mark.parametrize("name", ["condot", "vp", "user"])
@pytest.mark.parametrize("start", midpoint.STARTS)
def test_it_is_the_loop_written_by_hand(name, start):
    flow = MixtureFlow(MIXTURE, (PATHS | every_path())[name])
    x0 = noise(flow.path, 4)
    options = {"inner": 3, "midpoint": 0.4, "learning_rate": 0.05, "start": start}
    found = DRAW(flow, LOSS, x0, steps=3, generator=seeded(3), **options)
    assert distance(found.x, by_hand(flow, x0, 3, 3, 0.4, start, seeded(3))) <= 1e-7
    fits = 3 if name == "user" else 2  # that path ends with noise, and so with something to fit
    assert (found.cost.evaluations, found.cost.vjps) == (3 + 3 * fits + 2 * (start == "carried"), 3 * fits)


def gap(x, law):
    """Errors of the mean and of the covariance, over the law's standard deviations."""
    scale = law.covariances[0].diagonal().sqrt()
    mean = ((x.mean(0) - law.means[0]) / scale).abs().max()
    return float(mean), float(((x.T.cov() - law.covariances[0]) / scale[:, None] / scale).abs().max())


@pytest.mark.parametrize("path", [CondOT(), Cosine()])
def test_tuned_it_comes_near_the_exact_posterior(path):
    flow, x0 = MixtureFlow(GAUSSIAN, path), randn(1500, 3)
    posterior = GAUSSIAN.condition(A, Y, R)
    found = DRAW(flow, LOSS, x0, steps=40, inner=20, midpoint=0.2, generator=seeded(1))
    mean, covariance = gap(found.x, posterior)
    free, wide = gap(
        DRAW(flow, lambda x: 0 * LOSS(x), x0, steps=40, inner=1, start="transition", generator=seeded(1)).x, posterior
    )
    assert mean < 0.15 < free / 2
    assert covariance < 0.25 < wide / 2


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_without_a_loss_it_samples_the_flows_law(share):
    n = 5000
    found = DRAW(
        MixtureFlow(GAUSSIAN, CondOT()),
        lambda x: 0 * LOSS(x),
        randn(n, 3),
        steps=150,
        inner=1,
        midpoint=share,
        start="transition",
        generator=seeded(2),
    )
    mean, covariance = gap(found.x, GAUSSIAN)
    assert mean < 4 / n**0.5 + 0.03
    assert covariance < 4 * (2 / n) ** 0.5 + 0.03


def test_the_seed_decides_and_samples_do_not_influence_each_other():
    flow = MixtureFlow(MIXTURE, PATHS["ve"])  # with data in x0: where there is none, the first step draws x anew
    options, x0 = {"steps": 6}, noise(PATHS["ve"], 6)
    one, same, other = (DRAW(flow, LOSS, x0, generator=seeded(s), **options).x for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert distance(one, other) > 0.01
    changed = torch.cat([x0[:2], 3 - 2 * x0[2:]])
    found = DRAW(flow, LOSS, changed, generator=seeded(0), **options).x
    assert distance(found[:2], one[:2]) <= 1e-12
    assert distance(found[2:], one[2:]) > 0.1


def test_a_sample_that_diverges_leaves_the_others_alone():
    flow, weights = MixtureFlow(MIXTURE, CondOT()), f64([1e12, 0.0, 0.0, 0.0])
    options = {"steps": 4, "learning_rate": 1.0, "optimiser": "sgd"}
    found = DRAW(flow, lambda x: weights * LOSS(x), X0[:4], generator=seeded(), **options)
    free = DRAW(flow, lambda x: 0 * LOSS(x), X0[:4], generator=seeded(), **options)
    assert found.failed.tolist() == [True, False, False, False]
    assert torch.isfinite(found.x).all()
    assert torch.equal(found.x[1:], free.x[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_events_of_any_shape_and_dtype(dtype):
    flow = from_velocity(lambda x, t: -torch.tanh(x), CondOT())
    x0 = randn(5, 2, 3).to(dtype)
    found = DRAW(flow, lambda x: (x - 1).square().flatten(1).sum(1), x0, steps=8, inner=8, generator=seeded())
    free = DRAW(flow, lambda x: 0 * x.flatten(1).sum(1), x0, steps=8, generator=seeded())
    assert (found.x.shape, found.x.dtype) == (x0.shape, dtype)
    assert not found.failed.any()
    assert (found.x.float() - 1).square().sum() < (free.x.float() - 1).square().sum()

"""What the reference's error bound says where round-off rules: of the loss, and of the flow.

The truths are computed in 50-digit arithmetic from closed forms (softmax gradients, the map of one Gaussian, the
distribution functions of 1-D mixtures) that share nothing with the code under test.
"""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf

from analysis import adjoint_solves, losses
from analysis.adjoint_solves import Problem
from analysis.flow import from_velocity
from analysis.integration import Budget
from analysis.paths import CondOT, Cosine, Polynomial
from analysis.reference import ROUND_OFF, SAFETY, CertificationError, ideal_gradient
from tests.support.exact_maps import flow_map, relative_error
from tests.support.problems import EPS, f64, randn
from toy_models import GaussianFlow, GaussianMixture, MixtureFlow

WEIGHTS = randn(5, 3, seed=1)
T, VARIANCE = 0.5, 0.25
MEAN = f64([0.3, -0.2, 0.1])


def cross_entropy(z):
    labels = torch.zeros(len(z), dtype=torch.long)
    return torch.nn.functional.cross_entropy(z @ WEIGHTS.T, labels, reduction="none")


def log_sum_exp(z):
    return torch.logsumexp(z @ WEIGHTS.T, 1) - z @ WEIGHTS[0]


def softmax_by_hand(z):
    odds = (z @ WEIGHTS.T).exp()
    return -(odds[:, 0] / odds.sum(1)).log()


def classified(size):
    """States (4, 3) at T whose ends belong to class 0 the more certainly, the larger ``size`` is."""
    towards = torch.linalg.lstsq(WEIGHTS[0] - WEIGHTS[1:], torch.ones(4, 1, dtype=torch.float64)).solution[:, 0]
    margin = ((WEIGHTS[0] - WEIGHTS[1:]) @ towards).min()
    ends = size * towards / margin + 0.01 * randn(4, 3, seed=2)
    scale = math.sqrt((T**2 * VARIANCE + (1 - T) ** 2) / VARIANCE)
    return T * MEAN + scale * (ends - MEAN)


def true_gradient(x):
    """The ideal gradient of the three losses above, which are one function, for N(MEAN, VARIANCE) on CondOT."""
    t, variance, mean = mpf(T), mpf(VARIANCE), [mpf(m) for m in MEAN.tolist()]
    slope = mpmath.sqrt(variance / (t**2 * variance + (1 - t) ** 2))
    end = [m + slope * (mpf(v) - t * m) for v, m in zip(x.tolist(), mean, strict=True)]
    rows = [[mpf(w) for w in row] for row in WEIGHTS.tolist()]
    odds = [mpmath.exp(mpmath.fdot(row, end)) for row in rows]
    others = [p / mpmath.fsum(odds) for p in odds[1:]]
    shares = [-mpmath.fsum(others), *others]
    return [slope * mpmath.fsum(s * row[i] for s, row in zip(shares, rows, strict=True)) for i in range(3)]


def velocity(x, t):
    """The velocity of N(MEAN, VARIANCE) on CondOT as a plain function, which has neither density nor exact map."""
    t = t[:, None]
    spread = t**2 * VARIANCE + (1 - t) ** 2
    return MEAN + (t * VARIANCE - (1 - t)) / spread * (x - t * MEAN)


FLOWS = {
    "exact": GaussianFlow(MEAN, VARIANCE * torch.eye(3, dtype=torch.float64), CondOT()),
    "certified": MixtureFlow(
        GaussianMixture(f64([1.0]), MEAN[None], VARIANCE * torch.eye(3, dtype=torch.float64)[None]), CondOT()
    ),
    "converged": from_velocity(velocity, CondOT()),
}


@pytest.mark.parametrize("loss", [cross_entropy, log_sum_exp, softmax_by_hand])
@pytest.mark.parametrize("tier", list(FLOWS))
def test_the_bound_covers_a_loss_gradient_that_cancels(tier, loss):
    for size in (1.0, 20.0, 32.0):  # 1 - p is about 0.6, 1e-9, 1e-14
        x = classified(size)
        result = ideal_gradient(FLOWS[tier], loss, x, T, max_error=math.inf)
        assert result.tier == tier
        for i in range(len(x)):
            error = relative_error(result.gradient[i].tolist(), true_gradient(x[i]))
            assert error <= float(result.error_bound[i]), (size, i)
        assert float(result.error_bound.max()) <= 1e-12 * math.exp(size), size


@pytest.mark.parametrize("tier", list(FLOWS))
def test_a_certain_class_is_refused_and_the_message_says_that_the_loss_rounds(tier):
    with pytest.raises(CertificationError, match=r"round-off in the flow or in the loss.*A larger max_error"):
        ideal_gradient(FLOWS[tier], cross_entropy, classified(32.0), T)


@pytest.mark.parametrize(
    "loss",
    [
        losses.HalfSquaredDistance(f64([1.0, 0.5, -0.3])),
        losses.Linear(f64([1.0, -2.0, 0.5])),
        lambda z: z.square().sum(1).square() / 4,
        lambda z: torch.logsumexp(z, 1),
    ],
)
@pytest.mark.parametrize("tier", list(FLOWS))
def test_a_loss_that_does_not_cancel_leaves_the_bound_near_round_off(tier, loss):
    result = ideal_gradient(FLOWS[tier], loss, T * MEAN + randn(4, 3, seed=3), T)
    assert (result.error_bound <= 1e-12).all()
    assert (result.diagnostics["round_off"] <= 1e-13).all()


def far_product(seed):
    """A product of 1-D mixtures whose states lie 30 to 1000 units out, its flow as a dense mixture, and the truth."""
    rng = np.random.default_rng(seed)
    dim = int(rng.choice([1, 2]))
    counts = [int(rng.choice([2, 3])) for _ in range(dim)]
    factors = [(rng.dirichlet(np.ones(k)), 3 * rng.standard_normal(k), 10.0 ** -(3 * rng.random(k))) for k in counts]
    path = [Cosine(), Polynomial(2), CondOT()][rng.integers(3)]
    t, far = float(rng.choice([0.05, 0.3, 0.6])), float(rng.choice([30, 300, 1000]))
    x, target = far * rng.standard_normal((3, dim)), rng.standard_normal((3, dim))
    indices = list(itertools.product(*map(range, counts)))
    weights, means, variances = (
        np.array([[f[part][i] for f, i in zip(factors, index, strict=True)] for index in indices]) for part in range(3)
    )
    weights = torch.tensor(weights.prod(1))
    mixture = GaussianMixture(weights / weights.sum(), torch.tensor(means), torch.diag_embed(torch.tensor(variances)))
    flow, loss = MixtureFlow(mixture, path), losses.HalfSquaredDistance(torch.tensor(target))
    alpha, sigma = float(path.alpha(t)), float(path.sigma(t))

    def truth(i):
        maps = [flow_map(*f, alpha, sigma, x[i, j]) for j, f in enumerate(factors)]
        return [slope * (y - mpf(target[i, j])) for j, (y, slope) in enumerate(maps)]

    return flow, loss, torch.tensor(x), t, truth


def test_replicas_evaluate_the_flow_at_states_that_differ_in_the_last_digit():
    # What SciPy rounds differently from replica to replica is left to chance.
    seen = []
    flow = from_velocity(lambda x, t: seen.append(x.detach().clone()) or -x.sin(), CondOT())
    x, t = flow.checked(randn(4, 3, seed=5), 0.3)
    adjoint_solves.replicas(
        Problem(flow, losses.Linear(torch.ones(3, dtype=torch.float64)), x, t), 1e-5, Budget(5000, 6)
    )
    plain, *others = seen[: adjoint_solves.REPLICAS + 1]
    for other in others:
        assert (other != plain).double().mean() > 0.5  # a change of scale may round an entry back
        torch.testing.assert_close(other, plain, rtol=4 * EPS, atol=0.0)


@pytest.mark.parametrize("seed", [1, 3])
def test_the_bound_holds_in_far_states_where_two_tolerances_only_draw_round_off(seed):
    # The difference of two tolerances alone was exceeded by factors of 1.6 and 20 here.
    flow, loss, x, t, truth = far_product(seed)
    result = ideal_gradient(flow, loss, x, t, max_error=math.inf)
    errors = [relative_error(result.gradient[i].tolist(), truth(i)) for i in range(len(x))]
    assert (f64(errors) <= result.error_bound).all()
    assert (f64(errors) <= ROUND_OFF * result.diagnostics["round_off"] + SAFETY * EPS).all()  # without the tolerances
    assert (result.error_bound <= 1e-8).all()


def test_the_bound_covers_a_flow_that_cancels_on_the_way():
    # x' = sin x with eight digits lost to a constant: Phi(x) = 2 atan(e^s tan(x/2)) after a time s.
    flow, x = from_velocity(lambda x, t: ((x + 1e8) - 1e8).sin(), CondOT()), randn(4, 3, seed=4)
    result = ideal_gradient(flow, losses.Linear(torch.ones(3, dtype=torch.float64)), x, 0.3, max_error=math.inf)
    growth = math.exp(0.7)
    exact = growth / ((x / 2).cos().square() + growth**2 * (x / 2).sin().square())
    error = torch.linalg.vector_norm(result.gradient - exact, dim=1) / torch.linalg.vector_norm(exact, dim=1)
    assert (error <= result.error_bound).all()
    assert (result.error_bound <= 1e-6).all()

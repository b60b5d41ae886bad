"""Where the ideal gradient is refused, how soon, and what the message says to do; and what is no longer refused.

The truth of a refusal is the construction of the flow: dropout, a time embedding in float32, a density of its own.
"""

import itertools
import math

import pytest
import torch

from analysis import losses
from analysis.flow import Flow, from_velocity
from analysis.integration import Budget, integrate
from analysis.paths import CondOT, VarianceExploding
from analysis.reference import CertificationError, ideal_gradient
from tests.support.problems import randn, random_mixture
from toy_models import MixtureFlow

LOSS = losses.HalfSquaredDistance(torch.zeros(3, dtype=torch.float64))


class Network(torch.nn.Module):
    """A velocity network with sines and cosines of the time in ``embedding``, and dropout."""

    def __init__(self, embedding=torch.float64, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = embedding
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(7, 16), torch.nn.SiLU(), torch.nn.Dropout(dropout), torch.nn.Linear(16, 3)
        ).double()

    def forward(self, x, t):
        angles = t.to(self.embedding)[:, None] * torch.tensor([3.0, 10.0], dtype=self.embedding)
        return self.layers(torch.cat([x, angles.sin().to(x), angles.cos().to(x)], 1))


def refused(flow, **options):
    """The message of the refusal, and the evaluations until then."""
    spent = [0]
    with pytest.raises(CertificationError) as error:
        ideal_gradient(flow, LOSS, randn(4, 3), 0.3, progress=lambda _, n: spent.append(n), **options)
    return str(error.value), spent[-1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_states_in_half_precision_are_refused_by_name(dtype):
    flow = from_velocity(lambda x, t: -x, CondOT())
    with pytest.raises(ValueError, match="x must be float32 or float64 for a reference"):
        ideal_gradient(flow, LOSS, torch.ones(2, 3, dtype=dtype), 0.3)


def test_dropout_is_refused_at_once_and_eval_is_named():
    network = Network(dropout=0.3)
    with pytest.warns(RuntimeWarning, match="training mode"):
        message, spent = refused(from_velocity(network, CondOT()))
    assert "not deterministic" in message
    assert ".eval()" in message
    assert spent == 0
    assert ideal_gradient(from_velocity(network.eval(), CondOT()), LOSS, randn(4, 3), 0.3).tier == "converged"


def test_a_time_embedding_in_float32_sets_the_tolerance_and_refuses_a_smaller_one_soon():
    flow = from_velocity(Network(torch.float32), CondOT())
    message, spent = refused(flow, tolerance=1e-13)
    assert "time embedding in float32" in message
    assert "tolerance of at least" in message
    assert spent < 1000
    rough = ideal_gradient(flow, LOSS, randn(4, 3), 0.3, max_error=1e-3)
    exact = ideal_gradient(from_velocity(Network(), CondOT()), LOSS, randn(4, 3), 0.3)
    error = torch.linalg.vector_norm(rough.gradient - exact.gradient, dim=1)
    # The two networks differ in the last digits of the times, which the bound leaves out as a constant error would be.
    assert (error <= 1e-5 * torch.linalg.vector_norm(exact.gradient, dim=1)).all()


def test_a_bound_that_noise_makes_large_names_the_noise():
    message, _ = refused(from_velocity(Network(torch.float32), CondOT()), max_error=1e-12)
    assert "round-off" in message
    assert "A larger max_error takes the gradient as it is" in message


def test_the_budget_ends_a_solve_and_the_message_names_the_ways_out():
    message, _ = refused(from_velocity(Network(), CondOT()), max_evaluations=300)
    assert "max_evaluations = 300" in message
    for way in ("larger tolerance", "max_error", "float64", "eval mode"):
        assert way in message


def test_a_solve_within_what_was_foreseen_ends_at_the_budget():
    budget = Budget(limit=200, solves=1)
    with pytest.raises(CertificationError, match=r"max_evaluations = 200.*integration 1 of 1 is at s = 0\.\d"):
        integrate(
            lambda s, state: [torch.cos(60 * s) * state[0]],
            [torch.ones(3, dtype=torch.float64)],
            0.0,
            1.0,
            tolerance=1e-12,
            max_step=1.0,
            budget=budget,
        )
    assert budget.spent == 201


def test_a_stiff_flow_is_refused_long_before_the_budget_is_spent():
    message, spent = refused(from_velocity(lambda x, t: -1e6 * x.sin(), CondOT()))
    assert "integration 1 of 6 of the reference would take about" in message
    assert "max_evaluations = 100000" in message
    assert spent < 6000


@pytest.mark.parametrize("count", [0, -3, 2.5, True])
def test_a_budget_that_is_no_count_is_refused(count):
    with pytest.raises((ValueError, TypeError), match="max_evaluations"):
        ideal_gradient(from_velocity(Network(), CondOT()), LOSS, randn(4, 3), 0.3, max_evaluations=count)


def test_progress_rises_to_one():
    calls = []
    ideal_gradient(
        from_velocity(Network(), CondOT()), LOSS, randn(4, 3), 0.3, progress=lambda share, n: calls.append((share, n))
    )
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(calls))
    assert calls[-1][0] == pytest.approx(1.0)


def test_a_far_state_of_a_thin_mixture_ends_soon_and_passes_the_identity():
    # Without a tolerance that heeds the flow's noise these took a minute and more; the densities are of size -1e6, so
    # that an absolute limit on the identity refused them.
    spent = [0]
    flow = MixtureFlow(random_mixture(3, 5, condition=1e6), VarianceExploding(1e4))
    x = 1e3 * (randn(3, 5) + 10 * randn(3, 5, seed=1))
    loss = losses.HalfSquaredDistance(randn(5))
    result = ideal_gradient(flow, loss, x, 0.999, max_error=math.inf, progress=lambda _, n: spent.append(n))
    assert result.tier == "certified"
    assert float(flow.log_prob(x, 0.999).abs().max()) > 1e5
    assert spent[-1] < 20_000


class Misplaced(MixtureFlow):
    """A flow whose density is that of a wider mixture."""

    def log_prob(self, x, t):
        return super().log_prob(0.999 * x, t)


@pytest.mark.parametrize("far", [1.0, 1e3])
def test_a_density_of_another_flow_is_refused_in_far_states_too(far):
    with pytest.raises(CertificationError, match="do not belong to each other"):
        ideal_gradient(Misplaced(random_mixture(3, 3), CondOT()), LOSS, far * randn(4, 3), 0.4, max_error=math.inf)


class OwnPathOnly(Flow):
    """A flow that tells its density on its own path, and leaves ``with_path`` to its base class."""

    def __init__(self, flow):
        self.flow, self.path, self.event_shape = flow, flow.path, flow.event_shape

    def predict(self, x, t, readout):
        return self.flow.predict(x, t, readout)

    def predict_vjp(self, x, t, readout):
        return self.flow.predict_vjp(x, t, readout)

    def log_prob(self, x, t):
        return self.flow.log_prob(x, t)

    def divergence(self, x, t, readout):
        return self.flow.divergence(x, t, readout)


def test_a_density_on_the_own_path_alone_leaves_the_gradient_converged():
    flow = MixtureFlow(random_mixture(3, 3), CondOT())
    known, own = (ideal_gradient(f, LOSS, randn(4, 3), 0.4) for f in (flow, OwnPathOnly(flow)))
    assert (known.tier, own.tier) == ("certified", "converged")
    torch.testing.assert_close(own.gradient, known.gradient, rtol=1e-9, atol=1e-12)

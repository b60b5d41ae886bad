"""The cheap estimators: arguments, costs and refusals, and the identity Jacobian.

A batch is compared with its samples one by one, a network with the analytic flow that it computes, and TMPD with its
formula written out with whole Jacobians; costs are counted by hand.
"""

import functools
import math

import pytest
import torch

from analysis import errors, gradients, losses
from analysis.flow import from_velocity
from analysis.gradients import ESTIMATORS
from analysis.paths import CondOT, Cosine
from tests.support.cheap import CALLS, LOSS, PER_SAMPLE, A, R, Y, problem, run
from tests.support.problems import FromFormulas, distance, f64, randn, random_covariance, relative_l2


@pytest.mark.parametrize("name", CALLS)
def test_they_are_registered_and_their_variants_run_on_the_loss_of_the_sweeps(name):
    flow, x = problem(CondOT())
    for target in (randn(3), randn(5, 3)):
        for options in ESTIMATORS[name].variants:
            found = ESTIMATORS[name](flow, losses.HalfSquaredDistance(target), x, 0.4, **options)
            assert not found.failed.any()
            assert found.gradient.shape == found.endpoint.shape == x.shape


@pytest.mark.parametrize("name", ["identity_jacobian", "truncated", "pigdm", "tmpd", "dtmpd"])
def test_times_and_measurements_of_each_sample(name):
    flow, x = problem(Cosine(), PER_SAMPLE)
    y = randn(5, 2, seed=6)
    found = run(name, flow, losses.LinearGaussian(A, y, R), x, PER_SAMPLE).gradient
    each = [
        run(name, flow, losses.LinearGaussian(A, y[i], R), x[i : i + 1], float(PER_SAMPLE[i])).gradient
        for i in range(5)
    ]
    assert distance(found, torch.cat(each)) <= 1e-12


@pytest.mark.parametrize("name", CALLS)
def test_single_precision(name):
    flow, x = problem(CondOT(), PER_SAMPLE)
    single = run(name, flow.to(torch.float32, "cpu"), LOSS, x.float(), PER_SAMPLE)
    assert single.gradient.dtype == torch.float32
    assert 1e-9 < distance(single.gradient, run(name, flow, LOSS, x, PER_SAMPLE).gradient) <= 1e-4


@pytest.mark.parametrize("name", CALLS)
def test_a_network_gives_what_the_formulas_give(name):
    flow, x = problem(CondOT(), PER_SAMPLE)
    network = from_velocity(FromFormulas(flow, "velocity"), CondOT())
    expected = run(name, flow, LOSS, x, PER_SAMPLE)
    assert distance(run(name, network, LOSS, x, PER_SAMPLE).gradient, expected.gradient) <= 1e-10


@pytest.mark.parametrize("name", CALLS)
def test_events_that_are_images(name):
    flow = from_velocity(lambda x, t: x.flip(-1) * t[:, None, None, None] - x**2 / 9, CondOT())
    x, loss = randn(2, 3, 2, 2), losses.HalfSquaredDistance(randn(3, 2, 2, seed=1))
    flat = from_velocity(lambda x, t: flow.function(x.reshape(-1, 3, 2, 2), t).flatten(1), CondOT())
    found = run(name, flow, loss, x, 0.4).gradient
    expected = run(name, flat, losses.HalfSquaredDistance(loss.target.flatten()), x.flatten(1), 0.4).gradient
    assert found.shape == x.shape
    assert distance(found.flatten(1), expected) <= 1e-14


@pytest.mark.parametrize(
    ("name", "options", "evaluations", "vjps"),
    [
        ("identity_jacobian", {}, 1, 0),
        ("identity_jacobian", {"steps": 3, "solver": "heun"}, 6, 0),
        ("identity_jacobian", {"steps": 3, "solver": "heun", "horizon": 0.8}, 7, 0),
        ("truncated", {"steps": 6, "keep": 2, "solver": "rk4"}, 24, 8),
        ("truncated", {"steps": 6, "keep": 6, "solver": "euler"}, 6, 6),
        ("lgd", {"samples": 7}, 1, 1),
        ("pigdm", {}, 1, 1),
        ("tmpd", {}, 1, 2),
        ("dtmpd", {}, 1, 2),
    ],
)
def test_costs(name, options, evaluations, vjps):
    flow, x = problem(CondOT())
    found = run(name, flow, LOSS, x, 0.4, **options).cost
    assert (found.evaluations, found.vjps) == (evaluations, vjps)


TALL, NOISY = randn(7, 3, seed=9), random_covariance(7, 10.0)


def jacobian(flow, x, t=0.4):
    """The Jacobian (B, d, d) of the prediction, row by row."""
    pull = flow.predict_vjp(x, f64(t), flow.path.readout("target", f64(t)))[1]
    return torch.stack([pull(e.expand_as(x)) for e in torch.eye(x.shape[1]).double()], 1)


def test_tmpd_needs_no_more_products_than_dimensions():
    flow, x = problem(CondOT())
    found = gradients.tmpd(flow, losses.LinearGaussian(TALL, randn(7), NOISY), x, 0.4)
    assert found.cost.vjps == 3
    spread = TALL @ flow.posterior_covariance(x, 0.4) @ TALL.T + NOISY
    weights = torch.linalg.solve(spread, found.endpoint @ TALL.T - randn(7))
    assert distance(found.gradient, torch.einsum("bij,bj->bi", jacobian(flow, x).mT, weights @ TALL)) <= 1e-11


@pytest.mark.parametrize("wrap", [lambda loss: loss, lambda loss: losses.Equivalent(loss, loss)])
def test_dtmpd_takes_row_sums_of_the_measured_values(wrap):
    """Not those of the orthogonal rows that the other two may use: row sums depend on the units of what is summed."""
    flow, x = problem(CondOT())
    loss = losses.HalfSquaredResidual(TALL, randn(5, 7), noise=0.7)
    found = gradients.dtmpd(flow, wrap(loss), x, 0.4)
    assert found.cost.vjps == 2
    spread = (TALL @ flow.posterior_covariance(x, 0.4) @ TALL.T).sum(-1) + 0.7**2
    weights = (found.endpoint @ TALL.T - loss.measurement) / spread
    assert distance(found.gradient, torch.einsum("bij,bj->bi", jacobian(flow, x).mT, weights @ TALL)) <= 1e-11


# --- identity


@pytest.mark.parametrize("path", [CondOT(), Cosine()])
def test_identity_is_the_loss_gradient_at_the_prediction(path):
    flow, x = problem(path, PER_SAMPLE)
    one = gradients.identity_jacobian(flow, LOSS, x, PER_SAMPLE)
    assert torch.equal(one.endpoint, flow.target(x, PER_SAMPLE))
    assert torch.equal(one.gradient, losses.value_and_gradient(LOSS, one.endpoint)[1])
    scaled = gradients.identity_jacobian(flow, LOSS, x, PER_SAMPLE, scale="alpha")
    assert distance(scaled.gradient, path.alpha(PER_SAMPLE)[:, None] * one.gradient) <= 1e-15


def test_identity_on_condot_is_flowchefs_one_step_endpoint():
    flow, x = problem(CondOT())
    endpoint = gradients.identity_jacobian(flow, LOSS, x, 0.4).endpoint
    assert distance(endpoint, x + 0.6 * flow.velocity(x, 0.4)) <= 1e-14


def test_identity_after_solver_steps_has_the_endpoint_of_the_solve():
    flow, x = problem(CondOT(), PER_SAMPLE)
    whole = gradients.end_to_end(flow, LOSS, x, PER_SAMPLE, steps=3, solver="rk4")
    ahead = gradients.lookahead(flow, LOSS, x, PER_SAMPLE, steps=3, solver="rk4", horizon=0.95)
    for horizon, expected in ((1.0, whole), (0.95, ahead)):
        found = gradients.identity_jacobian(flow, LOSS, x, PER_SAMPLE, steps=3, solver="rk4", horizon=horizon)
        assert distance(found.endpoint, expected.endpoint) <= 1e-12
        assert torch.equal(found.gradient, losses.value_and_gradient(LOSS, found.endpoint)[1])


def test_identity_is_right_at_the_end_of_time_only():
    flow, x = problem(CondOT(), 0.999)
    errors = [
        relative_l2(
            gradients.identity_jacobian(flow, LOSS, x, t).gradient, gradients.greedy(flow, LOSS, x, t).gradient
        ).max()
        for t in (1.0, 0.999, 0.2)
    ]
    assert errors[0] <= 1e-13
    assert errors[1] <= 2e-3  # 1/alpha - 1, and what sigma^2 adds
    assert errors[2] > 1


# --- truncated


def quartic(x):
    return x.pow(4).sum(1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("identity_jacobian", {"scale": "sigma"}, "scale must be one of alpha, one; got 'sigma'"),
        ("identity_jacobian", {"steps": 0}, "steps must be an integer of at least 1"),
        ("identity_jacobian", {"steps": 2, "horizon": 0.3}, "horizon must not lie before t"),
        ("identity_jacobian", {"solver": "ode45"}, "solver must be one of"),
        ("truncated", {"keep": 5}, "keep must be at most steps = 4, got 5"),
        ("truncated", {"keep": 0}, "keep must be an integer of at least 1"),
        ("truncated", {"steps": 0}, "steps must be an integer of at least 1"),
        ("truncated", {"solver": "ode45"}, "solver must be one of"),
        ("lgd", {"samples": 0}, "samples must be an integer of at least 1"),
        ("lgd", {"scale": -1.0}, "scale must be at least 0"),
        ("lgd", {"scale": math.nan}, "scale must be at least 0"),
        ("pigdm", {"data_variance": 0.0}, "data_variance must be positive"),
        ("pigdm", {"data_variance": math.inf}, "data_variance must be positive"),
    ],
)
def test_bad_options_are_refused(name, options, message):
    flow, x = problem(CondOT())
    with pytest.raises(ValueError, match=message):
        run(name, flow, LOSS, x, 0.4, **options)


@pytest.mark.parametrize("name", ["pigdm", "tmpd", "dtmpd"])
@pytest.mark.parametrize("loss", [quartic, losses.Linear(randn(3))], ids=["function", "Linear"])
def test_a_loss_that_is_not_linear_gaussian_is_refused(name, loss):
    flow, x = problem(CondOT())
    with pytest.raises(ValueError, match=r"loss must be linear-Gaussian: one of losses.LinearGaussian.*; got"):
        run(name, flow, loss, x, 0.4)


@pytest.mark.parametrize("name", CALLS)
def test_losses_that_do_not_fit_the_state_are_refused(name):
    flow, x = problem(CondOT())
    with pytest.raises(ValueError, match="target must have the shape of x"):
        run(name, flow, losses.HalfSquaredDistance(torch.zeros(2)), x, 0.4)
    with pytest.raises(ValueError, match=r"operator .* must fit x"):
        run(name, flow, losses.HalfSquaredResidual(torch.eye(2).double(), Y), x, 0.4)


class Weighted(losses.HalfSquaredResidual):
    def __call__(self, x):
        return 100 * super().__call__(x)


RESIDUAL = losses.HalfSquaredResidual(torch.eye(3).double(), torch.ones(3).double(), noise=0.5)


@functools.wraps(RESIDUAL)
def wrapped(x):
    return 100 * RESIDUAL(x)


@pytest.mark.parametrize("name", ["pigdm", "tmpd", "dtmpd"])
@pytest.mark.parametrize("loss", [Weighted(torch.eye(3).double(), torch.ones(3).double(), noise=0.5), wrapped])
def test_a_weighted_loss_is_not_taken_for_the_one_inside(name, loss):
    """Its weight belongs into the noise: a hundredfold loss is that of a tenth of the noise, which is accepted."""
    flow, x = problem(CondOT())
    with pytest.raises(ValueError, match="with a weight in its noise and not in a wrapper or subclass"):
        run(name, flow, loss, x, 0.4)
    tenth = losses.HalfSquaredResidual(torch.eye(3).double(), torch.ones(3).double(), noise=0.05)
    assert torch.allclose(tenth(x), 100 * RESIDUAL(x))
    assert torch.isfinite(run(name, flow, tenth, x, 0.4).gradient).all()


@pytest.mark.parametrize("name", ["pigdm", "tmpd", "dtmpd"])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 3e-3), (torch.bfloat16, 3e-2), (torch.float32, 1e-5)])
def test_they_work_in_every_dtype(name, dtype, error):
    """Against float64, on a residual whose square overflows in float16."""
    flow, x = from_velocity(lambda x, t: -torch.tanh(x), CondOT()), randn(4, 3)
    loss = losses.HalfSquaredDistance(torch.full((3,), 400.0))
    found, exact = (run(name, flow, loss, state, 0.4) for state in (x.to(dtype), x))
    assert found.gradient.dtype == dtype
    assert errors.relative_error(found.gradient.double(), exact.gradient).max() <= error


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("computed", [torch.float64, torch.float32])
def test_lgd_takes_a_loss_that_computes_in_another_dtype(dtype, computed):
    flow, x = from_velocity(lambda x, t: -x, CondOT()), randn(5, 3)
    found = gradients.lgd(flow, lambda x: x.to(computed).square().sum(1), x.to(dtype), 0.3).gradient
    expected = gradients.lgd(flow, lambda x: x.square().sum(1), x, 0.3).gradient
    assert found.dtype == dtype
    assert relative_l2(found.double(), expected).max() <= 32 * max(torch.finfo(d).eps for d in (dtype, computed))

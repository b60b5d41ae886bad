"""The registry of estimators, the cost, and arguments that the estimators refuse.

The truths are counts derived by hand from the number of steps and stages, tensors whose bytes are known, and lists of
malformed arguments: each must raise an error that names the argument.
"""

import numpy as np
import pytest
import torch

from analysis import cost, gradients, losses, reference
from analysis.bounds.leading_term import leading_term
from analysis.flow import PredictionFlow, from_denoiser, from_noise_predictor, from_velocity
from analysis.gradients import ESTIMATORS, register
from analysis.gradients.registry import Estimator
from analysis.paths import CondOT, Cosine, LinearVP
from analysis.solvers import SOLVERS
from tests.support.problems import distance, f64, randn, random_mixture
from toy_models import MixtureFlow

LOSS = losses.HalfSquaredDistance(f64([1.0, -0.5, 0.3]))
STAGES = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4, "ddim": 1}
X = randn(5, 3)


@pytest.fixture
def flow():
    return MixtureFlow(random_mixture(3, 3), CondOT())


def linear(x, t):
    return x * (1 + t[:, None])


def test_greedy_costs_one_evaluation_and_one_product(flow):
    found = gradients.greedy(flow, LOSS, X, 0.4).cost
    assert (found.evaluations, found.vjps) == (1, 1)
    assert found.seconds > 0
    assert found.bytes is None


@pytest.mark.parametrize("solver", STAGES)
def test_cost_counts_every_stage(flow, solver):
    whole = gradients.end_to_end(flow, LOSS, X, 0.4, steps=5, solver=solver).cost
    assert (whole.evaluations, whole.vjps) == (5 * STAGES[solver], 5 * STAGES[solver])
    ahead = gradients.lookahead(flow, LOSS, X, 0.4, steps=3, horizon=0.8, solver=solver).cost
    assert (ahead.evaluations, ahead.vjps) == (3 * STAGES[solver] + 1, 3 * STAGES[solver] + 1)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("solver", ["euler", "rk4"])
def test_memory_grows_affinely_in_the_steps(flow, solver, learned):
    chosen = from_velocity(torch.nn.Sequential(), CondOT()) if learned else flow
    if learned:
        chosen.function = linear
    x, steps = randn(100, 3), [4, 8, 16, 32]
    with cost.track_memory():
        found = [gradients.end_to_end(chosen, LOSS, x, 0.4, steps=n, solver=solver).cost.bytes for n in steps]
        again = gradients.end_to_end(chosen, LOSS, x, 0.4, steps=32, solver=solver).cost.bytes
    assert found[-1] == again
    slopes = np.diff(found) / np.diff(steps)
    assert slopes.min() >= x.numel() * x.element_size()  # at least one state is kept for each step
    assert slopes.max() <= 1.05 * slopes.min()


class Counting(losses.LinearGaussian):
    """A loss that counts its calls; a subclass, as some estimators need a linear-Gaussian one."""

    def __call__(self, x):
        EVALUATED.append(x)
        return super().__call__(x)


EVALUATED = []
ONCE = {name: options for name in ESTIMATORS for options in ESTIMATORS[name].variants[:1]}


@pytest.mark.parametrize("name", sorted({*ONCE} - {"adaptive", "lgd", "pigdm", "tmpd", "dtmpd"}))
def test_the_loss_is_evaluated_once_per_estimate(flow, name):
    loss = Counting(torch.eye(3).double()[:2], f64([0.5, -1.0]), torch.eye(2).double())
    EVALUATED.clear()
    found = ESTIMATORS[name](flow, loss, X, 0.4, **ONCE[name])
    assert len(EVALUATED) == 1
    assert torch.equal(found.value, loss(found.endpoint))


def test_the_leading_term_evaluates_the_loss_once(flow):
    loss = Counting(torch.eye(3).double()[:2], f64([0.5, -1.0]), torch.eye(2).double())
    EVALUATED.clear()
    leading_term(flow, loss, X, 0.8)
    assert len(EVALUATED) == 1


@pytest.mark.parametrize(("bad", "message"), [(float("nan"), "loss value"), (float("inf"), "loss value")])
def test_the_leading_term_refuses_a_loss_that_is_not_finite(flow, bad, message):
    with pytest.raises(ValueError, match=f"{message} must be finite"):
        leading_term(flow, lambda x: x.sum(1) * bad, X, 0.8)


def test_a_rule_may_leave_out_the_value_or_return_it(flow):
    def doubled(flow, loss, x, t):
        gradient, endpoint, value = ESTIMATORS["greedy"].rule(flow, loss, x, t)
        return 2 * gradient, endpoint, 2 * value

    right = gradients.greedy(flow, LOSS, X, 0.4)
    two, three = (Estimator("one", rule)(flow, LOSS, X, 0.4) for rule in (lambda *a: doubled(*a)[:2], doubled))
    assert torch.equal(two.value, right.value)
    assert torch.equal(three.value, 2 * right.value)


def test_a_new_estimator_is_three_lines(flow):
    try:

        @register("half_greedy")
        def half_greedy(flow, loss, x, t):
            endpoint, pull = flow.predict_vjp(x, t, flow.path.readout("target", t))
            return pull(losses.value_and_gradient(loss, endpoint)[1]) / 2, endpoint

        found = ESTIMATORS["half_greedy"](flow, LOSS, X, 0.4)
        greedy = gradients.greedy(flow, LOSS, X, 0.4)
        assert torch.equal(found.gradient, greedy.gradient / 2)
        assert torch.equal(found.value, greedy.value)
        assert found.cost.evaluations == 1
    finally:
        ESTIMATORS.pop("half_greedy")


def test_a_name_is_given_once(flow):
    with pytest.raises(ValueError, match="name 'greedy' is taken"):
        register("greedy")(lambda flow, loss, x, t: (x, x))
    assert ESTIMATORS["greedy"] is gradients.greedy
    assert {"greedy", "end_to_end", "lookahead"} <= set(ESTIMATORS)


def test_every_variant_runs(flow):
    for estimator in ESTIMATORS.values():
        for options in estimator.variants:
            assert not estimator(flow, LOSS, X, 0.4, **options).failed.any()


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "2"])
def test_steps_below_one_are_refused(flow, steps):
    with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
        gradients.end_to_end(flow, LOSS, X, 0.4, steps=steps)
    with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
        gradients.lookahead(flow, LOSS, X, 0.4, steps=steps, horizon=0.9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0.3}, "horizon must not lie before t"),
        ({"horizon": f64([0.5, 0.5, 0.39, 0.5, 0.5])}, "horizon must not lie before t"),
        ({"horizon": 1.1}, "horizon must lie in"),
        ({"horizon": float("nan")}, "horizon must lie in"),
        ({"horizon": f64([0.5, 0.6, 0.7])}, "horizon must be a float or have shape"),
        ({"horizon_fraction": 1.5}, "horizon_fraction must lie in"),
        ({"horizon_fraction": 0.5, "horizon": 0.5}, "horizon or horizon_fraction must be given, and not both"),
        ({}, "horizon or horizon_fraction must be given"),
        ({"horizon": 0.9, "solver": "ode45"}, r"solver must be one of .*ddim, .*rk4.*; got 'ode45'"),
    ],
)
def test_bad_options_are_refused(flow, options, message):
    with pytest.raises(ValueError, match=message):
        gradients.lookahead(flow, LOSS, X, 0.4, **options)


def test_unknown_solver_lists_the_known_ones(flow):
    with pytest.raises(ValueError, match=f"solver must be one of {', '.join(sorted(SOLVERS))}; got 'dopri'"):
        gradients.end_to_end(flow, LOSS, X, 0.4, steps=2, solver="dopri")


CALLS = {
    "greedy": gradients.greedy,
    "end_to_end": lambda *args: gradients.end_to_end(*args, steps=2),
    "lookahead": lambda *args: gradients.lookahead(*args, horizon=1.0),
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda x: x.sum(), r"loss must return one value per sample, shape \(5,\); got \(\)"),
        (lambda x: x.square(), r"loss must return .* got \(5, 3\)"),
        (lambda x: x.square().sum(0), r"loss must return .* got \(3,\)"),
        (lambda x: 1.0, "loss must return .* got float"),
        (lambda x: x.detach().square().sum(1), "loss must be differentiable"),
        (lambda x: torch.zeros(5).double(), "loss must be differentiable"),
        (lambda x: x.sum(1) / 0, "loss value must be finite"),
        (lambda x: (0 * x).sqrt().sum(1), "loss gradient must be finite"),
    ],
)
def test_bad_losses_are_refused(flow, call, loss, message):
    with pytest.raises(ValueError, match=message):
        call(flow, loss, X, 0.4)


def test_a_target_of_the_wrong_shape_is_refused(flow, call):
    with pytest.raises(ValueError, match="target must have the shape of x"):
        call(flow, losses.HalfSquaredDistance(torch.zeros(2)), X, 0.4)


@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        (torch.full((5, 3), torch.nan).double(), 0.4, "x must be finite"),
        (X[:, :2], 0.4, r"x must have shape \(B, 3\)"),
        (X[0], 0.4, r"x must have shape \(B, \*event\)"),
        (X, 1.5, r"t must lie in \[0, 1\]"),
        (X, float("nan"), r"t must lie in \[0, 1\]"),
        (X, torch.full((5, 1), 0.4), r"t must be a float or have shape \(5,\)"),
        (X, torch.full((3,), 0.4), r"t must be a float or have shape \(5,\)"),
        (X.float(), 0.4, "x must"),
    ],
)
def test_bad_states_and_times_are_refused(flow, call, x, t, message):
    with pytest.raises(ValueError, match=message):
        call(flow, LOSS, x, t)


def test_a_time_of_the_wrong_type_is_refused(flow, call):
    with pytest.raises(TypeError, match="t must be a float or a tensor, got str"):
        call(flow, LOSS, X, "0.4")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, t: x[:, :2], r"function must return a tensor like x, \(5, 3\).*got \(5, 2\)"),
        (lambda x, t: x.sum(1), r"function must return .* got \(5,\)"),
        (lambda x, t: x.float(), r"function must return .* got \(5, 3\) torch.float32"),
        (lambda x, t: x.detach() * 2, "function must be differentiable"),
    ],
)
def test_bad_functions_are_refused(call, function, message):
    with pytest.raises(ValueError, match=message):
        call(from_velocity(function, CondOT()), LOSS, X, 0.4)


def test_a_gradient_that_is_not_finite_warns_and_is_marked():
    flow, x = from_velocity(lambda x, t: x.abs().sqrt(), CondOT()), X.clone()
    x[2] = 0
    with pytest.warns(RuntimeWarning, match="greedy: 1 of 5 gradients are not finite"):
        estimate = gradients.greedy(flow, LOSS, x, 0.4)
    assert estimate.failed.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize(("t_min", "t_max"), [(0.5, 0.5), (-0.1, 1.0), (0.0, 1.1), (0.9, 0.1)])
def test_bad_ranges_of_time_are_refused(t_min, t_max):
    with pytest.raises(ValueError, match="t_min, t_max must satisfy"):
        PredictionFlow(linear, CondOT(), t_min=t_min, t_max=t_max)


def test_a_denoiser_has_no_velocity_at_time_one_and_is_asked_before_it(flow):
    def denoiser(x, t):
        return flow.predict(x, t, flow.path.readout("target", t))

    def gradient(made, t=0.4):
        return gradients.end_to_end(made, LOSS, X, t, steps=4, solver="heun").gradient

    with pytest.raises(ValueError, match=r"t must lie .* t in 1\.0"):
        gradient(from_denoiser(denoiser, CondOT(), t_max=1.0))
    for t_max, error in ((None, 3e-3), (1 - 1e-4, 3e-4)):
        assert distance(gradient(from_denoiser(denoiser, CondOT(), t_max)), gradient(flow)) <= error


def test_a_noise_predictor_has_no_velocity_at_time_zero_and_is_asked_after_it(flow):
    def noise(x, t):
        return flow.predict(x, t, flow.path.readout("source", t))

    def gradient(made):
        return gradients.end_to_end(made, LOSS, X, 0.0, steps=4, solver="rk4").gradient

    with pytest.raises(ValueError, match=r"t must lie .* t in 0\.0"):
        gradient(from_noise_predictor(noise, CondOT(), t_min=0.0))
    for t_min, error in ((None, 3e-3), (1e-4, 3e-4)):
        assert distance(gradient(from_noise_predictor(noise, CondOT(), t_min)), gradient(flow)) <= error


@pytest.mark.parametrize("make", [from_denoiser, from_noise_predictor])
@pytest.mark.parametrize("path", [CondOT(), LinearVP(), Cosine()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_predictors_of_both_ends_can_be_solved_and_certified_at_both_ends_of_time(make, path, t):
    made = make(lambda x, t: torch.tanh(x) * t[:, None], path)
    assert torch.isfinite(gradients.end_to_end(made, LOSS, X, t, steps=4, solver="rk4").gradient).all()
    assert torch.isfinite(reference.ideal_gradient(made, LOSS, X, t).gradient).all()


def test_an_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="prediction must be one of"):
        PredictionFlow(linear, Cosine(), "noise")

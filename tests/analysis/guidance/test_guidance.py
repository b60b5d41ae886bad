"""Posterior guidance and the oracles against exact posteriors and loops written by hand."""

import itertools
import math

import pytest
import torch

from analysis import gradients, losses, solvers
from analysis.flow import from_denoiser, from_velocity
from analysis.guidance import LADDER, SAMPLERS, ladder
from analysis.guidance.dial import rule_of
from analysis.guidance.likelihood import GuidedFlow, ddim_scale, informed_time, scale_of
from analysis.paths import CondOT, Cosine
from analysis.settings import Variant
from tests.support.guidance import GAUSSIAN, LOSS, MIXTURE, PATHS, X0, A, R, Y, noise, score_of
from tests.support.problems import distance, every_path, f64, randn
from toy_models import GaussianFlow, MixtureFlow


@pytest.fixture(params=PATHS)
def path(request):
    return PATHS[request.param]


def test_they_are_registered_and_add_up(path):
    assert {"posterior_guidance", "optimise_source", "optimise_controls", "oracle_ode", "oracle_sde"} <= set(SAMPLERS)
    assert SAMPLERS["oracle_ode"].__doc__.startswith("Solve the ODE")


@pytest.mark.parametrize("name", [*PATHS, "user"])
def test_the_guided_flow_is_the_posteriors(name):
    path = (PATHS | every_path())[name]
    flow, x = MixtureFlow(MIXTURE, path), randn(5, 3, seed=1)
    posterior = MixtureFlow(MIXTURE.condition(A, Y, R), path)
    guided = GuidedFlow(flow, score_of(flow))
    for t in (0.0, 1e-3, 0.4, 0.9, 1.0):
        time = f64(t)
        for prediction in ("velocity", "target", "source"):
            readout = path.readout(prediction, time)
            found, exact = (f.predict(x, time, readout) for f in (guided, posterior))
            slack = 1e-6 if t == 0 else 1e-9
            torch.testing.assert_close(found, exact, rtol=slack, atol=slack * float(path.sigma(0.0)))
    # The step's scale is the velocity's times its length, as it shrinks.
    t, h = f64(0.4), 1e-6
    assert float(ddim_scale(path, t, t + h) / h) == pytest.approx(
        float(scale_of(path, t, path.readout("velocity", t))), rel=1e-4
    )


def test_the_oracle_ode_maps_noise_as_the_exact_posterior_does(path):
    flow, x0 = MixtureFlow(GAUSSIAN, path), noise(path, 5)
    posterior = GAUSSIAN.condition(A, Y, R)
    exact = GaussianFlow(posterior.means[0], posterior.covariances[0], path).exact_endpoint(x0, 0.0)
    errors = []
    for steps in (64, 128):
        found = SAMPLERS["oracle_ode"](flow, LOSS, x0, score=score_of(flow), steps=steps)
        errors.append(distance(found.x, exact))
        assert torch.equal(found.value, LOSS(found.x))
        assert (found.cost.evaluations, found.cost.vjps, found.failed.any()) == (steps, 0, False)
    assert errors[1] < 0.1
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.35)
    if isinstance(path, CondOT | Cosine):
        found = SAMPLERS["oracle_ode"](flow, LOSS, x0, score=score_of(flow), steps=32, solver="rk4")
        assert distance(found.x, exact) < 1e-5


def moments_agree(x, posterior, slack):
    """Whether mean and covariance are the posterior's, to four standard errors and a bias."""
    n = len(x)
    mean, covariance = x.mean(0), x.T.cov()
    exact = posterior.covariances[0]
    scale = exact.diagonal().sqrt()
    assert ((mean - posterior.means[0]).abs() / scale).max() < 4 / n**0.5 + slack
    correlations = (covariance - exact) / (scale[:, None] * scale)
    assert correlations.abs().max() < 4 * (2 / n) ** 0.5 + slack


@pytest.mark.parametrize("churn", [0.0, 0.5, 1.0])
def test_the_oracle_sde_samples_the_exact_posterior(churn):
    flow, n = MixtureFlow(GAUSSIAN, CondOT()), 6_000
    found = SAMPLERS["oracle_sde"](
        flow,
        LOSS,
        randn(n, 3),
        score=score_of(flow),
        steps=300,
        churn=churn,
        generator=torch.Generator().manual_seed(1),
    )
    moments_agree(found.x, GAUSSIAN.condition(A, Y, R), 0.04)


@pytest.mark.parametrize("churn", [0.0, 0.3, 1.0])
def test_a_step_of_the_sde_by_hand(churn):
    # Data at the origin, a score that adds nothing, and a path that ends with noise: x is all noise, and a step mixes
    # it with new noise so that its variance stays that of the path, gamma_t/gamma_s telling how much is old.
    path = every_path()["user"]
    still = from_denoiser(lambda x, t: 0 * x, path)
    x0, generator = randn(4, 3), torch.Generator().manual_seed(7)
    x = x0
    for t, s in ((0.0, 0.5), (0.5, 1.0)):
        z = torch.randn(4, 3, dtype=torch.float64, generator=generator)
        old, new = (float(path.sigma(time)) for time in (t, s))
        ratio = float(path.gamma(t) / path.gamma(s))
        variance = churn * new**2 * (1 - ratio**2)
        x = math.sqrt(new**2 - variance) * x / old + math.sqrt(variance) * z
    generator.manual_seed(7)
    options = {"score": lambda x, t: torch.zeros_like(x), "steps": 2, "churn": churn, "generator": generator}
    assert distance(SAMPLERS["oracle_sde"](still, LOSS, x0, **options).x, x) <= 1e-12


def test_without_churn_the_sde_is_the_ode_and_with_it_the_seed_decides():
    flow = MixtureFlow(MIXTURE, CondOT())
    options = {"score": score_of(flow), "steps": 8}

    def draw(seed, churn):
        generator = torch.Generator().manual_seed(seed)
        return SAMPLERS["oracle_sde"](flow, LOSS, X0, generator=generator, churn=churn, **options).x

    assert distance(draw(0, 0.0), SAMPLERS["oracle_ode"](flow, LOSS, X0, **options).x) <= 1e-12
    assert torch.equal(draw(3, 1.0), draw(3, 1.0))
    assert distance(draw(3, 1.0), draw(4, 1.0)) > 0.01


def test_posterior_guidance_with_scale_zero_is_the_unguided_solve(path):
    flow, x0 = MixtureFlow(MIXTURE, path), noise(path, 5)
    grid = solvers.uniform_grid(f64(0.0), f64(1.0), 8)
    expected = solvers.solve(flow, x0, solvers.plan("ddim", path, grid))
    for when in ("before", "with"):
        found = SAMPLERS["posterior_guidance"](flow, LOSS, x0, steps=8, scale=0.0, when=when)
        assert torch.equal(found.x, expected)
        assert (found.cost.evaluations, found.cost.vjps) == (8, 0)


@pytest.mark.parametrize("when", ["before", "with"])
def test_greedy_guidance_tends_to_the_law_that_greedys_gradient_has(when):
    # One Gaussian: greedy's h differs from the exact one by A^T R^-1 in place of (R + A V A^T)^-1, V = Var[X_1 | x].
    flow = MixtureFlow(GAUSSIAN, Cosine())

    def greedy_score(x, t):
        return -gradients.greedy(flow, LOSS, x, t).gradient

    limit = SAMPLERS["oracle_ode"](flow, LOSS, X0, score=greedy_score, steps=128, solver="rk4").x
    exact = SAMPLERS["oracle_ode"](flow, LOSS, X0, score=score_of(flow), steps=128, solver="rk4").x
    found = [
        distance(SAMPLERS["posterior_guidance"](flow, LOSS, X0, steps=n, scale=1.0, when=when).x, limit)
        for n in (64, 256)
    ]
    assert found[1] < found[0] / 2.5
    assert found[1] < 0.1
    posterior = GAUSSIAN.condition(A, Y, R)
    wide = randn(1000, 3, seed=5)
    spread = [
        (SAMPLERS["oracle_ode"](flow, LOSS, wide, score=s, steps=128).x @ A.T).T.cov().trace()
        for s in (greedy_score, score_of(flow))
    ]
    observed = (A @ posterior.covariances[0] @ A.T).trace()
    assert float(spread[1]) == pytest.approx(float(observed), rel=0.15)
    assert spread[0] < 0.7 * observed  # greedy takes its point estimate for certain, and guides too hard
    assert distance(limit, exact) > 0.05


def by_hand(flow, x, steps, scale, inner, rule):
    path, times = flow.path, torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    for t, s in itertools.pairwise(times):
        at = informed_time(path, t, x.dtype)
        for _ in range(inner):
            found = gradients.lookahead(flow, LOSS, x, at, horizon_fraction=0.5, steps=2, solver="euler")
            g = found.gradient
            eta = {
                "constant": scale,
                "normalised": scale / g.norm(dim=1, keepdim=True),
                "dps": scale / (2 * found.value).sqrt()[:, None],
                "likelihood": scale / inner * float(ddim_scale(path, t, s)) if t > 0 else 0.0,
            }[rule]
            x = x - eta * g
        x = flow.predict(x, t, path.combination(path.alpha(s), path.sigma(s), t))
    return x


@pytest.mark.parametrize("rule", ["constant", "normalised", "dps", "likelihood"])
def test_posterior_guidance_is_the_loop_written_by_hand(rule):
    flow = MixtureFlow(MIXTURE, CondOT())
    setting = Variant.of("lookahead", horizon_fraction=0.5, steps=2, solver="euler")
    found = SAMPLERS["posterior_guidance"](flow, LOSS, X0, steps=5, scale=0.2, inner=2, rule=rule, lookahead=setting)
    assert distance(found.x, by_hand(flow, X0, 5, 0.2, 2, rule)) <= 1e-10
    # Two updates per step, of two Euler steps and a projection each, and the step itself.
    assert (found.cost.evaluations, found.cost.vjps) == (5 * (2 * 3 + 1), 5 * 2 * 3)


def test_every_estimator_guides_and_more_steps_cost_more():
    flow, costs = MixtureFlow(MIXTURE, Cosine()), []
    for lookahead in [*ladder(8), ("adaptive", {"tolerance": 0.1})]:
        found = SAMPLERS["posterior_guidance"](flow, LOSS, X0, steps=4, scale=0.5, lookahead=lookahead)
        assert not found.failed.any()
        costs.append(found.cost.evaluations)
    assert costs[:4] == [8, 12, 12, 20]
    assert list(LADDER)[:5] == ["greedy", "two_step_euler", "midpoint", "euler_4", "midpoint_4"]
    assert list(LADDER)[-1] == "end_to_end"
    names = [dict(s.options).get("steps") for s in ladder(20, "rk4").values()]
    assert names == [None, 2, 1, 4, 4, 8, 8, 16, 16, 20]
    assert rule_of("tmpd")[1] == {}
    assert rule_of(("adaptive", {"tolerance": 0.1})) == rule_of(Variant.of("adaptive", tolerance=0.1))


@pytest.mark.parametrize("estimator", ["pigdm", "tmpd", "dtmpd"])
def test_estimators_that_look_into_the_loss_guide_too(estimator):
    flow = MixtureFlow(GAUSSIAN, PATHS["condot"])
    found = SAMPLERS["posterior_guidance"](flow, LOSS, X0, lookahead=Variant.of(estimator), steps=8, scale=1.0)
    without = SAMPLERS["posterior_guidance"](flow, LOSS, X0, steps=8, scale=0.0)
    assert not found.failed.any()
    assert (found.value < without.value).all()


HALF = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
def test_a_sample_that_diverges_is_returned_as_it_last_was_in_every_dtype(dtype):
    """x' = 30 x in eight Euler steps grows by 4.75 a step, and leaves the range of float16 in the velocity first."""
    flow, loss = from_velocity(lambda x, t: 30 * x, CondOT()), losses.Linear(torch.ones(3))
    x0 = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], dtype=dtype)
    found = SAMPLERS["posterior_guidance"](flow, loss, x0, steps=8, scale=0.0, solver="euler", divergence=1e4)
    assert found.failed.tolist() == [True, False]
    assert found.x[1].tolist() == [0.0, 0.0, 0.0]
    growth = math.log(float(found.x[0, 0])) / math.log(4.75)
    assert growth == pytest.approx(float(found.failed_at[0]), abs=0.01)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_steps_that_are_too_long_fail_their_samples_and_not_the_batch_in_every_dtype(dtype, scale):
    flow, loss = from_velocity(lambda x, t: -x, CondOT()), losses.HalfSquaredDistance(torch.zeros(3))
    x0 = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], dtype=dtype)
    found = SAMPLERS["posterior_guidance"](flow, loss, x0, steps=8, scale=scale, rule="constant")
    assert found.failed.tolist() == [True, False]
    assert torch.isfinite(found.x).all()


def test_a_loss_that_overflows_within_bounds_fails_its_sample_alone():
    flow, x0 = from_velocity(lambda x, t: 0 * x, CondOT()), torch.tensor([[300.0, 0.0], [1.0, 0.0]]).half()
    found = SAMPLERS["posterior_guidance"](flow, lambda x: x.square().sum(1), x0, steps=2, scale=1e-3)
    assert found.failed.tolist() == [True, False]
    assert found.value[0] == math.inf
    assert torch.isfinite(found.value[1])

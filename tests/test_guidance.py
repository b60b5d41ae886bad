"""Guided samplers against exact posteriors, hand-written loops, torch.optim and finite differences."""

import itertools
import math

import pytest
import torch
from helpers import distance, every_path, f64, randn, random_mixture

from analysis import gradients, losses, solvers
from analysis.experiment import Setting
from analysis.flow import from_velocity
from analysis.guidance import LADDER, SAMPLERS, ladder, register
from analysis.guidance.choose import choose
from analysis.guidance.ladder import rule_of
from analysis.guidance.likelihood import GuidedFlow, ddim_scale, informed_time, scale_of
from analysis.guidance.optimisers import BatchedLBFGS
from analysis.losses import value_and_gradient
from analysis.paths import CondOT, Cosine, LinearVP, VarianceExploding
from toy_models import GaussianFlow, MixtureFlow
from toy_models.posterior import likelihood_score

A, Y, R = f64([[1.0, 0.5, 0.0], [0.0, -0.3, 1.0]]), f64([0.8, -0.5]), f64([[0.3, 0.1], [0.1, 0.2]])
LOSS = losses.LinearGaussian(A, Y, R)
MIXTURE = random_mixture(3, 3)
GAUSSIAN = random_mixture(1, 3)
PATHS = {"condot": CondOT(), "cosine": Cosine(), "vp": LinearVP(), "ve": VarianceExploding(10.0)}
X0 = randn(6, 3)


@pytest.fixture(params=PATHS)
def path(request):
    return PATHS[request.param]


def score_of(flow):
    return lambda x, t: likelihood_score(flow, A, Y, R, x, t)


def noise(path, n, seed=0):
    """Draws of X_0 where the data is far smaller than the noise, or nothing of it is left."""
    return float(path.sigma(0.0)) * randn(n, 3, seed=seed)


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
    setting = Setting.of("lookahead", horizon_fraction=0.5, steps=2, solver="euler")
    found = SAMPLERS["posterior_guidance"](flow, LOSS, X0, steps=5, scale=0.2, inner=2, rule=rule, lookahead=setting)
    assert distance(found.x, by_hand(flow, X0, 5, 0.2, 2, rule)) <= 1e-10
    # Two updates per step, of two Euler steps and a projection each, and the step itself.
    assert (found.cost.evaluations, found.cost.vjps) == (5 * (2 * 3 + 1), 5 * 2 * 3)


def test_every_rung_and_estimator_turns_the_dial():
    flow, costs = MixtureFlow(MIXTURE, Cosine()), []
    for rung in [*ladder(8), "adaptive_"]:
        lookahead = Setting.of("adaptive", tolerance=0.1) if rung == "adaptive_" else rung
        found = SAMPLERS["posterior_guidance"](flow, LOSS, X0, steps=4, scale=0.5, lookahead=lookahead)
        assert not found.failed.any()
        costs.append(found.cost.evaluations)
    assert costs[:4] == [8, 12, 12, 20]
    assert list(LADDER)[:5] == ["greedy", "two_step_euler", "midpoint", "euler_4", "midpoint_4"]
    assert list(LADDER)[-1] == "end_to_end"
    names = [dict(s.options).get("steps") for s in ladder(20, "rk4").values()]
    assert names == [None, 2, 1, 4, 4, 8, 8, 16, 16, 20]
    assert rule_of("tmpd")[1] == {}


@pytest.mark.parametrize("name", ["sgd", "adam", "lbfgs"])
def test_source_optimisation_is_the_loop_written_by_hand_and_lowers_the_loss(name):
    flow, n = MixtureFlow(MIXTURE, CondOT()), 4
    options = {"iterations": 9, "learning_rate": 0.5 if name == "lbfgs" else 0.1, "optimiser": name, "steps": n}
    setting = Setting.of("end_to_end", steps=n, solver="ddim")
    found = SAMPLERS["optimise_source"](flow, LOSS, X0, gradient=setting, **options)
    stages = solvers.plan("ddim", flow.path, solvers.uniform_grid(f64(0.0), f64(1.0), n))
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "lbfgs": torch.optim.LBFGS}[name]
    expected = []
    for row in X0:  # torch's LBFGS must see each sample alone
        x = row[None].clone().requires_grad_()
        extra = {"max_iter": 1, "history_size": 10} if name == "lbfgs" else {}
        optimiser = make([x], lr=options["learning_rate"], **extra)

        def closure(x=x, optimiser=optimiser):
            optimiser.zero_grad()
            loss = LOSS(solvers.solve(flow, x, stages)).sum()
            loss.backward()
            return loss

        for _ in range(9):
            optimiser.step(closure)
        expected.append(solvers.solve(flow, x.detach(), stages))
    assert distance(found.x, torch.cat(expected)) <= 1e-9
    assert (found.value < LOSS(solvers.solve(flow, X0, stages))).all()
    assert (found.cost.evaluations, found.cost.vjps) == (9 * n + n, 9 * n)


def test_batched_lbfgs_minimises_quadratics_and_skips_pairs_that_are_not_convex():
    scales = torch.stack([torch.linspace(1, c, 4) for c in (1, 10, 100)]).double()
    x, update = randn(3, 4), BatchedLBFGS(1.0)
    for _ in range(60):
        x = update(x, scales * x)
    assert x.abs().max() < 1e-4
    x, update = f64([[1.0, 1.0], [0.1, 0.1]]), BatchedLBFGS(0.1)
    for _ in range(5):
        x = update(x, -x)  # concave
    assert torch.isfinite(x).all()
    assert torch.equal(update(x, 0 * x), x)


def test_the_source_may_live_at_a_later_time():
    flow = MixtureFlow(MIXTURE, CondOT())
    found = SAMPLERS["optimise_source"](
        flow, LOSS, X0, iterations=3, learning_rate=0.1, optimiser="sgd", gradient="greedy", t=0.3, steps=6
    )
    x = X0
    for _ in range(3):
        x = x - 0.1 * gradients.greedy(flow, LOSS, x, 0.3).gradient
    stages = solvers.plan("ddim", flow.path, solvers.uniform_grid(f64(0.3), f64(1.0), 6))
    assert distance(found.x, solvers.solve(flow, x, stages)) <= 1e-12


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_control_optimisation_descends_the_gradient_of_its_discrete_objective(weight):
    flow, cells, steps, rate = MixtureFlow(MIXTURE, CondOT()), 3, 2, 0.1
    grid = solvers.uniform_grid(f64(0.0), f64(1.0), cells * steps)

    def end(z):
        x = X0
        for i, (t, s) in enumerate(itertools.pairwise(grid)):
            x = x + (s - t) * (flow.predict(x, t, flow.path.readout("velocity", t)) + z[i // steps])
        return x

    def objective(z):
        return LOSS(end(z)) + weight / 2 * z.square().sum((0, 2)) / cells

    z = torch.zeros(cells, 6, 3).double()
    for _ in range(3):
        differences = torch.zeros_like(z)
        for k, i in ((k, i) for k in range(cells) for i in range(3)):
            step = torch.zeros_like(z)
            step[k, :, i] = 1e-4
            differences[k, :, i] = (objective(z + step) - objective(z - step)) / 2e-4
        z = z - rate * cells * differences
    found = SAMPLERS["optimise_controls"](
        flow, LOSS, X0, iterations=3, learning_rate=rate, intervals=cells, steps=steps, weight=weight
    )
    assert distance(found.x, end(z)) <= 1e-6
    assert (found.value < LOSS(end(0 * z))).all()
    assert (found.cost.evaluations, found.cost.vjps) == (4 * cells * steps, 3 * cells * steps)


def test_a_dearer_control_moves_less_and_straight_stretches_save_products():
    flow = MixtureFlow(MIXTURE, CondOT())
    free = SAMPLERS["optimise_controls"](flow, LOSS, X0, iterations=1, learning_rate=1e-9).x
    options = {"iterations": 20, "learning_rate": 0.1, "optimiser": "adam"}
    moved = [
        (SAMPLERS["optimise_controls"](flow, LOSS, X0, weight=w, **options).x - free).norm() for w in (0.0, 1.0, 10.0)
    ]
    assert moved[0] > moved[1] > moved[2]
    straight = SAMPLERS["optimise_controls"](flow, LOSS, X0, tolerance=0.05, **options)
    exact = SAMPLERS["optimise_controls"](flow, LOSS, X0, **options)
    assert straight.cost.vjps < exact.cost.vjps
    assert straight.value.median() < 2 * exact.value.median() < LOSS(free).median()


CALLS = {
    "posterior_guidance": {"steps": 4, "scale": 0.5, "lookahead": "midpoint", "inner": 2},
    "adaptive": {"steps": 3, "scale": 0.5, "lookahead": Setting.of("adaptive", tolerance=0.1)},
    "optimise_source": {"iterations": 4, "learning_rate": 0.5, "steps": 4},
    "adam": {"iterations": 4, "learning_rate": 0.1, "optimiser": "adam", "steps": 4},
    "optimise_controls": {"iterations": 4, "learning_rate": 0.1, "optimiser": "lbfgs", "tolerance": 0.01},
}
OF = {"adaptive": "posterior_guidance", "adam": "optimise_source"}


@pytest.mark.parametrize("name", CALLS)
def test_a_sample_does_not_depend_on_its_batch(name):
    flow, sampler = MixtureFlow(MIXTURE, Cosine()), SAMPLERS[OF.get(name, name)]
    targets = randn(6, 3, seed=9)
    whole = sampler(flow, losses.HalfSquaredDistance(targets), X0, **CALLS[name])
    for i in (0, 4):
        one = sampler(flow, losses.HalfSquaredDistance(targets[i : i + 1]), X0[i : i + 1], **CALLS[name])
        assert distance(whole.x[i : i + 1], one.x) <= 1e-9
        assert float(whole.value[i]) == pytest.approx(float(one.value[0]), rel=1e-8)


@pytest.mark.parametrize("name", CALLS)
def test_samplers_take_events_of_images_and_single_precision(name):
    convolution = torch.nn.Conv2d(2, 2, 3, padding=1)
    flow = from_velocity(lambda x, t: convolution(x) * t[:, None, None, None], CondOT())
    x0 = randn(3, 2, 4, 5).float()
    loss = losses.HalfSquaredDistance(torch.ones(2, 4, 5))
    found = SAMPLERS[OF.get(name, name)](flow, loss, x0, **CALLS[name])
    assert (found.x.shape, found.x.dtype, found.value.shape) == (x0.shape, torch.float32, (3,))
    assert not found.failed.any()
    assert not any(p.grad is not None for p in convolution.parameters())


def exploding(flow, victim, step_time):
    """The flow with one sample whose velocity overflows from a time on."""

    def velocity(x, t):
        bad = (x[:, 3] > victim) & (t >= step_time)
        inner = torch.cat([flow.predict(x[:, :3], t, flow.path.readout("velocity", t)), torch.zeros_like(x[:, :1])], 1)
        return torch.where(bad[:, None], 1e300 * x, inner)

    return from_velocity(velocity, flow.path)


@pytest.mark.parametrize("lookahead", ["greedy", "euler_4"])
def test_divergence_is_reported_with_its_step_and_harms_nobody(lookahead):
    flow = exploding(MixtureFlow(MIXTURE, CondOT()), 5.0, 0.45)
    x0 = torch.cat([X0, f64([0, 0, 9, 0, 0, 0])[:, None]], 1)
    target = losses.HalfSquaredDistance(torch.zeros(4).double())
    options = {"steps": 5, "scale": 0.1, "rule": "constant", "solver": "euler", "lookahead": lookahead}
    found = SAMPLERS["posterior_guidance"](flow, target, x0, **options)
    # Greedy meets the overflow when it comes to its time; a longer lookahead sees it at once.
    assert found.failed_at.tolist() == [-1, -1, 3 if lookahead == "greedy" else 0, -1, -1, -1]
    assert torch.isfinite(found.x).all()
    assert torch.isfinite(found.value).all()
    others = [0, 1, 3, 4, 5]
    alone = SAMPLERS["posterior_guidance"](flow, target, x0[others], **options)
    assert distance(found.x[others], alone.x) <= 1e-12


def test_step_sizes_that_are_too_large_diverge_at_an_iteration():
    flow = MixtureFlow(MIXTURE, CondOT())
    for name, options in (
        ("optimise_source", {"iterations": 40, "learning_rate": 1e3, "optimiser": "sgd", "steps": 4}),
        ("optimise_controls", {"iterations": 40, "learning_rate": 1e3}),
        ("posterior_guidance", {"steps": 40, "scale": 1e3, "rule": "constant"}),
    ):
        found = SAMPLERS[name](flow, LOSS, X0, **options)
        assert found.failed.all()
        assert ((found.failed_at >= 0) & (found.failed_at < 40)).all()
        assert torch.isfinite(found.x).all()
        tighter = SAMPLERS[name](flow, LOSS, X0, divergence=10.0, **options)
        assert (tighter.failed_at <= found.failed_at).all()


def test_a_score_that_is_not_finite_fails_its_sample():
    flow = MixtureFlow(MIXTURE, CondOT())

    def score(x, t):
        h = likelihood_score(flow, A, Y, R, x, t)
        h[1] = math.nan if float(t) > 0.5 else h[1]
        return h

    found = SAMPLERS["oracle_ode"](flow, LOSS, X0, score=score, steps=10)
    assert found.failed_at.tolist() == [-1, 6, -1, -1, -1, -1]


def test_settings_are_chosen_by_the_same_budget_on_a_split_of_their_own():
    flow, space = MixtureFlow(MIXTURE, CondOT()), {"scale": [0.0, 0.3, 1e4], "rule": ["constant", "normalised"]}
    found = choose("posterior_guidance", flow, LOSS, X0, space, budget=6, seed=0, steps=8)
    assert len(found.tried) == 6
    assert found.score == min(score for _, score in found.tried)
    assert found.options["scale"] == 0.3
    values = SAMPLERS["posterior_guidance"](flow, LOSS, X0, steps=8, **found.options).value
    assert found.score == float(values.median())
    assert math.inf in [score for _, score in found.tried]
    fewer = [choose("posterior_guidance", flow, LOSS, X0, space, budget=2, seed=1, steps=8) for _ in range(2)]
    assert fewer[0] == fewer[1]
    assert len(fewer[0].tried) == 2


def test_a_sampler_can_be_added():
    @register("still")
    def still(flow, loss, x0, watch):
        """Return the noise."""
        return x0 + 0 * value_and_gradient(loss, x0)[1]

    try:
        found = SAMPLERS["still"](MixtureFlow(MIXTURE, CondOT()), LOSS, X0)
        assert torch.equal(found.x, X0)
        with pytest.raises(ValueError, match="name 'still' is taken"):
            register("still")(still.rule)
    finally:
        SAMPLERS.pop("still")


def test_measured_seconds_and_no_grad_mode():
    flow = MixtureFlow(MIXTURE, CondOT())
    with torch.no_grad():
        quiet = SAMPLERS["posterior_guidance"](flow, LOSS, X0, steps=3, scale=0.1)
    found = SAMPLERS["posterior_guidance"](flow, LOSS, X0, steps=3, scale=0.1)
    assert torch.equal(quiet.x, found.x)
    assert not found.x.requires_grad
    assert found.cost.seconds > 0

"""Samplers that optimise, against torch.optim and finite differences; and what every sampler must do."""

import functools
import inspect
import itertools
import math

import pytest
import torch

from analysis import gradients, losses, solvers
from analysis.flow import from_velocity
from analysis.guidance import SAMPLERS, Method, choose, posterior_guidance, register
from analysis.guidance.optimisers import BatchedLBFGS
from analysis.guidance.registry import Sample
from analysis.losses import value_and_gradient
from analysis.paths import CondOT, Cosine
from analysis.settings import Variant
from tests.support.guidance import LOSS, MIXTURE, X0, A, R, Y
from tests.support.problems import distance, f64, randn
from toy_models import MixtureFlow
from toy_models.posteriors.dense import likelihood_score


@pytest.mark.parametrize("name", ["sgd", "adam", "lbfgs"])
def test_source_optimisation_is_the_loop_written_by_hand_and_lowers_the_loss(name):
    flow, n = MixtureFlow(MIXTURE, CondOT()), 4
    options = {"iterations": 9, "learning_rate": 0.5 if name == "lbfgs" else 0.1, "optimiser": name, "steps": n}
    setting = Variant.of("end_to_end", steps=n, solver="ddim")
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
    "adaptive": {"steps": 3, "scale": 0.5, "lookahead": Variant.of("adaptive", tolerance=0.1)},
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
    run = functools.partial(posterior_guidance, flow, LOSS, X0, steps=8)
    found = choose(run, space, budget=6, seed=0)
    assert len(found.tried) == 6
    assert found.score == min(score for _, score in found.tried)
    assert found.options["scale"] == 0.3
    values = SAMPLERS["posterior_guidance"](flow, LOSS, X0, steps=8, **found.options).value
    assert found.score == float(values.median())
    assert math.inf in [score for _, score in found.tried]
    assert choose(run, space) == found
    fewer = [choose(run, space, budget=2, seed=1) for _ in range(2)]
    assert fewer[0] == fewer[1]
    assert len(fewer[0].tried) == 2


def test_a_method_runs_its_sampler_with_candidates_in_units_of_the_noise():
    flow = MixtureFlow(MIXTURE, CondOT())
    method = Method("posterior_guidance", "constant", {"steps": 4, "rule": "constant"}, "scale", (0.1, 0.3), 2)
    assert method.space(0.5) == {"scale": [pytest.approx(0.025), pytest.approx(0.075)]}
    assert Method("oracle_ode").space(0.5) == {}
    expected = posterior_guidance(flow, LOSS, X0, steps=2, rule="constant", scale=0.025)
    assert torch.equal(method.run(flow, LOSS, X0, steps=2, scale=0.025).x, expected.x)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_signature_shown_is_that_of_the_call(name):
    signature = inspect.signature(SAMPLERS[name])
    assert list(signature.parameters)[:3] == ["flow", "loss", "x0"]
    assert not {"monitor", "watch"} & set(signature.parameters)
    assert signature.parameters["divergence"].default == 1e6
    assert signature.return_annotation is Sample


def test_a_sampler_can_be_added():
    @register("still")
    def still(flow, loss, x0, monitor):
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

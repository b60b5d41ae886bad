"""Arguments that guided samplers refuse; the message must name the argument.

The truth is a list of malformed arguments, each written here beside the words that its message must hold.
"""

import functools
import math

import pytest
import torch

from analysis import losses
from analysis.guidance import SAMPLERS, Method, choose, ladder
from analysis.paths import CondOT
from analysis.settings import Variant
from tests.support.problems import f64, randn, random_mixture
from toy_models import MixtureFlow

FLOW = MixtureFlow(random_mixture(3, 3), CondOT())
LOSS = losses.HalfSquaredDistance(f64([0.5, -1.0, 0.2]))
X0 = randn(4, 3)
GENERATOR = torch.Generator().manual_seed(0)


def zero(x, t):
    return torch.zeros_like(x)


GOOD = {
    "posterior_guidance": {"steps": 2, "scale": 0.5},
    "optimise_source": {"iterations": 1, "learning_rate": 0.1, "steps": 2},
    "optimise_controls": {"iterations": 1, "learning_rate": 0.1, "intervals": 2, "steps": 1},
    "optimise_steps": {"steps": 2, "learning_rate": 0.1},
    "midpoint_guidance": {"steps": 2, "generator": GENERATOR},
    "oracle_ode": {"steps": 2, "score": zero},
    "oracle_sde": {"steps": 2, "score": zero, "generator": GENERATOR},
}
COUNT = "must be an integer of at least 1"
BAD = [
    # A budget of zero, of any kind.
    ("posterior_guidance", {"steps": 0}, f"steps {COUNT}, got 0"),
    ("posterior_guidance", {"inner": 0}, f"inner {COUNT}, got 0"),
    ("optimise_source", {"iterations": 0}, f"iterations {COUNT}, got 0"),
    ("optimise_source", {"steps": 0}, f"steps {COUNT}, got 0"),
    ("optimise_controls", {"iterations": 0}, f"iterations {COUNT}, got 0"),
    ("optimise_controls", {"intervals": 0}, f"intervals {COUNT}, got 0"),
    ("optimise_controls", {"steps": 0}, f"steps {COUNT}, got 0"),
    ("oracle_ode", {"steps": 0}, f"steps {COUNT}, got 0"),
    ("oracle_sde", {"steps": 0}, f"steps {COUNT}, got 0"),
    ("posterior_guidance", {"steps": 2.5}, f"steps {COUNT}, got 2.5"),
    ("posterior_guidance", {"steps": True}, f"steps {COUNT}, got True"),
    # Step sizes.
    ("posterior_guidance", {"scale": -1.0}, "scale must be at least 0 and finite, got -1.0"),
    ("posterior_guidance", {"scale": math.nan}, "scale must be at least 0 and finite, got nan"),
    ("posterior_guidance", {"scale": math.inf}, "scale must be at least 0 and finite, got inf"),
    (
        "posterior_guidance",
        {"rule": "adam"},
        "rule must be one of bounded, constant, dps, likelihood, normalised; got 'adam'",
    ),
    ("posterior_guidance", {"when": "after"}, "when must be one of before, with; got 'after'"),
    ("posterior_guidance", {"when": "with", "inner": 2}, "inner must be 1 where updates are made with the step, got 2"),
    ("optimise_source", {"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
    ("optimise_source", {"learning_rate": math.inf}, "learning_rate must be positive and finite, got inf"),
    ("optimise_controls", {"learning_rate": -1}, "learning_rate must be positive and finite, got -1"),
    (
        "optimise_source",
        {"optimiser": "newton"},
        "optimiser must be one of adam, lbfgs, lbfgs_line_search, normalised, sgd; got 'newton'",
    ),
    (
        "optimise_controls",
        {"optimiser": "newton"},
        "optimiser must be one of adam, lbfgs, lbfgs_line_search, normalised, sgd; got 'newton'",
    ),
    ("optimise_controls", {"weight": -0.1}, "weight must be at least 0 and finite, got -0.1"),
    ("optimise_controls", {"tolerance": math.nan}, "tolerance must be at least 0 and finite, got nan"),
    # The dial.
    ("posterior_guidance", {"lookahead": "greedier"}, "lookahead must be one of .*greedy.*; got 'greedier'"),
    ("posterior_guidance", {"lookahead": Variant.of("greedier")}, "the estimator of lookahead must be one of"),
    ("posterior_guidance", {"lookahead": Variant.of("adaptive", tolerance=0)}, "tolerance must be positive"),
    ("posterior_guidance", {"lookahead": 3}, r"lookahead must be a name, a Variant, or \(name, options\), got 3"),
    ("posterior_guidance", {"lookahead": ("greedier", {})}, "the estimator of lookahead must be one of"),
    ("posterior_guidance", {"lookahead": "truncated"}, "lookahead: truncated .* 'steps'; give them as"),
    ("posterior_guidance", {"lookahead": ("tmpd", {"tol": 0.1})}, "lookahead: tmpd .* 'tol'; give them as"),
    ("posterior_guidance", {"lookahead": "lookahead"}, "horizon or horizon_fraction must be given"),
    ("optimise_source", {"gradient": "truncated"}, "gradient: truncated .* 'steps'; give them as"),
    ("optimise_source", {"gradient": "shooting"}, "gradient must be one of .*end_to_end.*; got 'shooting'"),
    # Solvers and grids.
    ("posterior_guidance", {"solver": "ode45"}, "solver must be one of .*; got 'ode45'"),
    ("posterior_guidance", {"solver": "ab2"}, "solver must be a one-step method"),
    ("posterior_guidance", {"solver": "rk4_gamma"}, "'rk4_gamma' has infinite coefficients"),
    ("optimise_source", {"solver": "ode45"}, "solver must be one of .*; got 'ode45'"),
    ("optimise_controls", {"solver": "ddim"}, "solver must be one of euler, heun, midpoint, rk4; got 'ddim'"),
    ("oracle_ode", {"solver": "ode45"}, "solver must be one of .*; got 'ode45'"),
    ("oracle_sde", {"grid": "sigma"}, "grid must be one of .*; got 'sigma'"),
    ("oracle_ode", {"grid": f64([0.0, 1.0])}, "grid must hold steps"),
    ("posterior_guidance", {"grid": f64([0.1, 0.5, 1.0])}, "grid must start at t"),
    ("optimise_source", {"t": 1.0}, "t must lie before 1, got 1.0"),
    ("optimise_source", {"t": 1.5}, r"t must lie in \[0, 1\]"),
    # Midpoints.
    ("midpoint_guidance", {"steps": 0}, f"steps {COUNT}, got 0"),
    ("midpoint_guidance", {"inner": 0}, f"inner {COUNT}, got 0"),
    ("midpoint_guidance", {"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
    ("midpoint_guidance", {"midpoint": -0.1}, r"midpoint must lie in \[0, 1\], got -0.1"),
    ("midpoint_guidance", {"midpoint": 1.0}, "midpoint must be below 1, where the prediction is the state"),
    ("midpoint_guidance", {"start": "warm"}, "start must be one of carried, transition; got 'warm'"),
    ("midpoint_guidance", {"optimiser": "newton"}, "optimiser must be one of .*; got 'newton'"),
    ("midpoint_guidance", {"grid": "sigma"}, "grid must be one of .*; got 'sigma'"),
    ("midpoint_guidance", {"generator": None}, "generator must be a torch.Generator of the CPU, got NoneType"),
    # Oracles.
    ("oracle_ode", {"score": lambda x, t: x[:, :2]}, r"score must return a tensor like x, \(4, 3\); got \(4, 2\)"),
    ("oracle_ode", {"score": lambda x, t: None}, "score must return a tensor like x, .* got NoneType"),
    ("oracle_sde", {"churn": 1.5}, r"churn must lie in \[0, 1\], got 1.5"),
    ("oracle_sde", {"churn": math.nan}, r"churn must lie in \[0, 1\], got nan"),
    ("oracle_sde", {"generator": 0}, "generator must be a torch.Generator of the CPU, got int 0"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_bad_options_are_refused(name, change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SAMPLERS[name](FLOW, LOSS, X0, **GOOD[name] | change)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x0": X0[:, :2]}, r"x0 must have shape \(B, 3\), got \(4, 2\)"),
        ({"x0": X0[0]}, r"x0 must have shape \(B, \*event\)"),
        ({"x0": X0[:0]}, "x0 must hold at least one sample"),
        ({"x0": X0 / 0}, "x0 must be finite"),
        ({"x0": X0.float()}, "x0 must have the flow's dtype"),
        ({"divergence": 0.5}, "divergence must be at least 1 and finite, got 0.5"),
        ({"divergence": math.inf}, "divergence must be at least 1 and finite, got inf"),
        ({"loss": lambda x: x}, "loss must return one value per sample"),
        ({"loss": lambda x: x.detach().sum(1)}, "loss must be differentiable"),
    ],
)
def test_bad_noise_losses_and_bounds_are_refused(name, change, message):
    arguments = {"flow": FLOW, "loss": LOSS, "x0": X0} | GOOD[name] | change
    with pytest.raises(ValueError, match=message):
        SAMPLERS[name](**arguments)


def test_missing_and_unknown_options_are_type_errors():
    with pytest.raises(TypeError, match="steps"):
        SAMPLERS["posterior_guidance"](FLOW, LOSS, X0, scale=1.0)
    with pytest.raises(TypeError, match="speed"):
        SAMPLERS["oracle_ode"](FLOW, LOSS, X0, speed=1.0, **GOOD["oracle_ode"])


def test_dps_needs_a_loss_that_is_not_negative():
    negative = losses.Linear(f64([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="loss must not be negative for the rule 'dps'"):
        SAMPLERS["posterior_guidance"](FLOW, negative, X0, steps=2, scale=0.1, rule="dps")


def test_updates_of_length_zero_stay_finite():
    for rule in ("normalised", "dps", "likelihood"):
        at_rest = losses.HalfSquaredDistance(torch.zeros(3).double())

        def flat(x, loss=at_rest):
            return 0 * loss(x)

        found = SAMPLERS["posterior_guidance"](FLOW, flat, X0, steps=3, scale=1.0, rule=rule)
        free = SAMPLERS["posterior_guidance"](FLOW, flat, X0, steps=3, scale=0.0)
        assert torch.equal(found.x, free.x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"steps": 0}, f"steps {COUNT}, got 0"), ({"solver": "ode45"}, "solver must be one of .*; got 'ode45'")],
)
def test_bad_ladders_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ladder(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 0}, f"budget {COUNT}, got 0"),
        ({"budget": 3}, "budget must be at most the 2 candidates of the space, got 3"),
        ({"space": {}}, "space must hold at least one option with at least one value, got {}"),
        ({"space": {"scale": []}}, "space must hold at least one option"),
        ({"space": {"scale": [1e6, 2e6]}}, "space must hold options .* none of 2 tried"),
    ],
)
def test_bad_choices_of_hyperparameters_are_refused(change, message):
    run = functools.partial(SAMPLERS["posterior_guidance"], FLOW, LOSS, X0, steps=30, rule="constant")
    with pytest.raises(ValueError, match=message):
        choose(run, **{"space": {"scale": [0.1, 0.2]}, "budget": 2} | change)


def test_a_method_of_an_unknown_sampler_is_refused():
    with pytest.raises(ValueError, match=r"sampler must be one of .*; got 'ancestral'"):
        Method("ancestral").run(FLOW, LOSS, X0)

"""The public functions on which malformed arguments are tried, each with the arguments that are replaced."""

import inspect

import numpy as np
import torch

from analysis import (
    batching,
    errors,
    intervals,
    losses,
    operators,
    orders,
    reference,
    sample_distances,
)
from analysis.bounds.leading_term import curvature, leading_term, remainder
from analysis.bounds.two_term import fit_two_term
from analysis.converged import converged_gradients
from analysis.gradients import ESTIMATORS, choices, lookahead_surface
from analysis.gradients._control import control_gradients
from analysis.guidance import SAMPLERS, sample
from analysis.operators import images
from tests.support.malformed_arguments import (
    ASKED,
    CONDOT,
    COVARIANCES,
    FLOW,
    GOOD,
    LOSS,
    MEANS,
    NETWORK,
    SCORE,
    A,
    R,
    X,
    Y,
    call,
)
from tests.support.malformed_models import flows, measured_cells, mixtures, path_calls, registries
from tests.support.problems import f64, randn
from toy_models import (
    GaussianFlow,
)

ESTIMATOR_OPTIONS = {
    "greedy": "",
    "tmpd": "",
    "dtmpd": "",
    "lookahead": "steps solver grid memory slots",
    "end_to_end": "steps solver grid memory slots",
    "adaptive": "tolerance max_steps",
    "adjoint_backsolve": "steps solver",
    "adjoint_cached": "steps solver",
    "adjoint_interpolated": "steps solver",
    "adjoint_deis": "steps order expansion",
    "control_average": "steps solver",
    "identity_jacobian": "steps solver horizon",
    "pigdm": "data_variance",
    "lgd": "samples seed scale",
    "truncated": "steps keep solver",
}
SAMPLER_OPTIONS = {
    "posterior_guidance": "steps scale rule lookahead inner when solver grid divergence",
    "optimise_source": "iterations learning_rate optimiser gradient steps solver grid",
    "optimise_controls": "iterations learning_rate optimiser intervals steps solver weight",
    "midpoint_guidance": "steps learning_rate inner midpoint start optimiser grid divergence",
    "oracle_ode": "steps solver grid",
    "oracle_sde": "steps churn grid",
}
STOCHASTIC = ("midpoint_guidance", "oracle_sde")


def options_of(function, name, table):
    """The options to replace: those of a table, or for a name that is not in it all that have a good value."""
    named = (option for option in inspect.signature(function).parameters if option in GOOD)
    return table.get(name, " ".join(option for option in named if option not in ("flow", "loss", "x", "x0", "t")))


def estimators():
    for name, estimator in ESTIMATORS.items():
        fixed = {"horizon": 0.8} if name == "lookahead" else {}
        yield call(name, estimator, f"flow loss x t {options_of(estimator, name, ESTIMATOR_OPTIONS)}", _fixed=fixed)
    yield call("lookahead", ESTIMATORS["lookahead"], "horizon_fraction", _fixed=ASKED)
    yield call("lookahead", ESTIMATORS["lookahead"], _fixed=ASKED, horizon=(0.8, "time"))
    for name in ("greedy", "end_to_end", "adaptive"):
        options = f"loss x t {ESTIMATOR_OPTIONS.get(name, '')}"
        yield call(f"{name} of a network", ESTIMATORS[name], options, _fixed={"flow": NETWORK})


def samplers():
    for name, sampler in SAMPLERS.items():
        oracle = name.startswith("oracle")
        fixed = SCORE | {"loss": LOSS} if oracle else {}

        def sampled(sampler=sampler, name=name, **arguments):
            noise = {"generator": torch.Generator().manual_seed(0)} if name in STOCHASTIC else {}
            return sampler(**noise, **arguments)

        yield call(
            name,
            sampled,
            f"flow {'' if oracle else 'loss'} x0 {options_of(sampler, name, SAMPLER_OPTIONS)}",
            _fixed=fixed,
        )
    oracle = {"flow": FLOW, "loss": LOSS, "x0": X, "steps": 2} | SCORE
    yield call("oracle_sde", SAMPLERS["oracle_sde"], "generator", _fixed=oracle)
    midpoint = {"flow": FLOW, "loss": LOSS, "x0": X, "steps": 2}
    yield call("midpoint_guidance", SAMPLERS["midpoint_guidance"], "generator", _fixed=midpoint)
    yield call("sample", sample, "flow x0 steps scale lookahead", _fixed={"loss": LOSS})


def gradients():
    cells = {"steps": [1, 2], "horizons": [0.6, 1.0]}
    yield call("lookahead_surface", lookahead_surface, "flow loss x t solver", _fixed=cells)
    steps = {"steps": "steps", "horizons": "horizon"}
    for name, kind in (("steps", "count"), ("horizons", "one time")):

        def one(name=name, **given):
            return lookahead_surface(**ASKED, **cells | {name: [given[name]]})

        def all_of(**given):
            return lookahead_surface(**ASKED, **cells | given)

        yield call(f"surface with one of {name}", one, _names=steps, **{name: (cells[name][0], kind)})
        yield call("surface", all_of, _names=steps, **{name: (cells[name], "list")})
    yield call("choices", choices, "flow loss x t tolerance")
    controls = (torch.zeros(2, 3, 2).double(), "state")
    yield call("control_gradients", control_gradients, "flow loss x t steps", controls=controls,
               tolerance=(0.1, "at least 0"))  # fmt: skip
    coarse = {"tolerance": (1e-6, "positive or None"), "max_error": (1e-3, "limit or None")}
    exact = {"flow": GaussianFlow(MEANS[0], COVARIANCES[0], CONDOT)}
    yield call("ideal_gradient", reference.ideal_gradient, "loss x t", _fixed=exact, **coarse)
    yield call(
        "ideal_gradient",
        reference.ideal_gradient,
        _fixed={"loss": LOSS, "x": X, "t": 0.4},
        flow=(exact["flow"], "flow"),
    )
    yield call("converged_gradients", converged_gradients, "flow loss x", _fixed={"times": [0.6], "steps": 2})
    yield call("leading_term", leading_term, "flow loss x t")
    yield call("curvature", curvature, "flow x t")
    yield call("remainder", remainder, "x t", flow=(NETWORK, "flow"))
    yield call(
        "batching.estimate",
        batching.estimate,
        "flow loss x t",
        estimator=("greedy", "name"),
        first=(2, "count or None"),
    )


def numbers():
    for metric in errors.METRICS.values():
        yield call(metric.__name__, metric, g=(X, "rows"), truth=(2 * X, "rows"))
    yield call("summary", errors.summary, values=(f64([1.0, 2.0]), "values"))
    x, y = (randn(5, 2), "set"), (randn(4, 2, seed=1), "set")
    yield call("sliced_wasserstein", sample_distances.sliced_wasserstein, "seed", x=x, y=y, projections=(4, "count"))
    yield call("energy_distance", sample_distances.energy_distance, x=x, y=y)
    yield call("mean_error", sample_distances.mean_error, x=x, mean=(f64([1.0, 2.0]), "set"))
    yield call("coverage", sample_distances.coverage, x=x, truths=y, levels=([0.5], "list"))
    yield call("misfit", sample_distances.misfit, "noise", residuals=x)
    values = np.array([1.0, 2.0, 4.0])
    yield call("interval", intervals.interval, "seed", values=(values, "vector"), level=(0.9, "inside"),
               resamples=(9, "count"))  # fmt: skip
    yield call("interval_of_few", intervals.interval_of_few, values=(values, "vector"), level=(0.9, "inside"))
    yield call("paired_interval", intervals.paired_interval, values=(values, "vector"), others=(values / 2, "vector"))
    yield call("spearman", intervals.spearman, a=(values, "vector"), b=(values[::-1].copy(), "vector"))
    h = 2.0 ** -np.arange(6)
    yield call("fit_order", orders.fit_order, h=(h, "vector"), error=(h**2, "vector"), floor=(0.0, "floor"))
    cells = {"steps": np.array([1, 2, 4, 8, 2]), "zeta": np.full(5, 0.3), "fraction": np.full(5, 0.5)}
    error = (np.array([0.5, 0.3, 0.2, 0.19, 0.31]), "vector")
    yield call("fit_two_term", fit_two_term, _fixed=cells, form=("interval", "name"), error=error, order=(1, "count"))


def losses_and_operators():
    def asked(kind):
        return lambda **arguments: kind(**arguments)(X)

    operator, measurement = (A, "array"), (Y, "array")
    yield call("HalfSquaredDistance", asked(losses.HalfSquaredDistance), target=(f64([0.5, 1.0]), "array"))
    yield call("Linear", asked(losses.Linear), direction=(f64([0.5, 1.0]), "array"))
    yield call("LinearGaussian", asked(losses.LinearGaussian), operator=operator, measurement=measurement,
               noise_covariance=(R, "array"))  # fmt: skip
    yield call("HalfSquaredResidual", asked(losses.HalfSquaredResidual), "noise", operator=operator,
               measurement=measurement)  # fmt: skip
    yield call("from_matrix", operators.from_matrix, matrix=(A, "array"))
    yield call("from_forward", operators.from_forward, forward=(lambda x: 2 * x, "map"), in_dim=(2, "count"))
    yield call("as_matrix", operators.as_matrix, A=(A, "matrix"))
    yield call("HalfSquaredMisfit", asked(operators.HalfSquaredMisfit), "noise", operator=(torch.tanh, "function"),
               measurement=(Y.expand(2), "array"))  # fmt: skip
    yield call("hdr_clipping", operators.hdr_clipping, "side", gain=(2.0, "positive"))
    yield call("nonlinear_blur", operators.nonlinear_blur, "side", width=(1.0, "positive"))
    yield call("inverse_problem", operators.inverse_problem, "side noise", name=("box_inpainting", "name"))
    corner = (1, "from 0")
    yield call("box_inpainting", images.box_inpainting, "side", box=(2, "count or None"), top=corner, left=corner)
    half = (0.5, "above 0 to 1")
    yield call("random_inpainting", images.random_inpainting, "side seed", keep=half)
    yield call("super_resolution", images.super_resolution, "side", factor=(2, "count"))
    yield call(
        "gaussian_deblurring", images.gaussian_deblurring, "side", width=(1.0, "positive"), truncate=(2.0, "positive")
    )
    yield call("motion_deblurring", images.motion_deblurring, "side", length=(3, "odd"), angle=(20.0, "number"))
    yield call("compressed_sensing", images.compressed_sensing, "side seed", ratio=half)


CALLS = [
    *estimators(), *samplers(), *gradients(), *numbers(), *losses_and_operators(), *path_calls(), *registries(),
    *measured_cells(), *flows(), *mixtures(),
]  # fmt: skip

"""Paths, registries, cells, flows and mixtures on which malformed arguments are tried."""

import torch

from analysis import (
    errors,
    experiment,
    operators,
    paths,
    settings,
)
from analysis.flow import from_denoiser, from_noise_predictor, from_velocity
from analysis.gradients import ESTIMATORS
from analysis.guidance import SAMPLERS, dial
from analysis.guidance.optimisers import OPTIMISERS
from analysis.guidance.step_sizes import RULES
from analysis.solvers.grids import GRIDS, time_grid
from analysis.solvers.methods import SOLVERS, plan
from real_models import adapters
from tests.support.malformed import Bare
from tests.support.malformed_arguments import (
    CONDOT,
    COVARIANCES,
    FACTORS,
    FLOW,
    LOW_RANK,
    MEANS,
    MIXTURE,
    NETWORK,
    WEIGHTS,
    A,
    R,
    X,
    Y,
    call,
)
from tests.support.problems import f64
from toy_models import (
    GaussianFlow,
    GaussianMixture,
    LowRankMixture,
    LowRankMixtureFlow,
    MixtureFlow,
    ProductMixtureFlow,
    RadialMixtureFlow,
)
from toy_models.posteriors import condition, likelihood_score
from toy_models.problems import zoo


def path_calls():
    yield call("from_betas", paths.from_betas, betas=(f64([0.1, 0.2, 0.3, 0.4]), "array"))
    abar = f64([0.9, 0.7, 0.4, 0.1])
    yield call("from_alphas_cumprod", paths.from_alphas_cumprod, alphas_cumprod=(abar, "array"))
    yield call("VPSDE", paths.VPSDE, beta_min=(0.1, "positive"), beta_max=(20.0, "positive"))
    yield call("VarianceExploding", paths.VarianceExploding, sigma_max=(5.0, "positive"))
    yield call("Polynomial", paths.Polynomial, degree=(2.0, "positive"))
    yield call(
        "UserPath", paths.UserPath, user_alpha=(lambda t: t, "schedule"), user_sigma=(lambda t: 1 - t, "schedule")
    )
    for name, build in paths.PATHS.items():
        for method in ("alpha", "sigma", "d_alpha", "gamma", "zeta", "log_snr"):
            yield call(f"{name}.{method}", getattr(build(), method), t=(0.4, "any time"))
        yield call(f"{name}.time_from_zeta", build().time_from_zeta, zeta=(0.5, "coordinate"))
        yield call(f"{name}.readout", build().readout, "prediction", t=(0.4, "any time"))
    rows, names = (X, "rows"), {"given": "prediction", "wanted": "prediction"}
    yield call(
        "convert",
        CONDOT.convert,
        "t",
        _names=names,
        value=rows,
        x=rows,
        given=("velocity", "name"),
        wanted=("target", "name"),
    )
    yield call("states", CONDOT.states, times=(f64([0.1, 0.5]), "times"), x1=rows, x0=rows)
    yield call("plan", plan, "solver path", grid=(f64([0.1, 0.5, 1.0]), "times"))
    yield call("time_grid", time_grid, "grid steps", _fixed={"path": CONDOT, "start": f64(0.1), "end": f64(1.0)})


def registries():
    known = {"estimator": ESTIMATORS, "sampler": SAMPLERS, "solver": SOLVERS, "path": paths.PATHS, "grid": GRIDS}
    known |= {"metric": errors.METRICS, "operator": operators.OPERATORS, "problem": zoo.PROBLEMS}
    known |= {"optimiser": OPTIMISERS, "rule": RULES}
    for kind, registry in known.items():
        yield call(f"{kind}s[...]", lambda registry=registry, **given: registry[next(iter(given.values()))],
                   **{kind: (next(iter(registry)), "key")})  # fmt: skip


def measured_cells():
    yield call("resolve", settings.resolve, name=("analysis.losses:Linear", "address"))
    names = dict.fromkeys(("measure", "factory", "problem", "path"), ("a:b", "text"))
    yield call("Cell", experiment.Cell, samples=(2, "from 0"), **names, times=((0.1, 0.5), "list"),
               dtype=("float32", "name"), device=("cpu", "device"), seed=(0, "seed"),
               variants=((settings.Variant.of("greedy"),), "variants"))  # fmt: skip
    yield call("ladder", dial.ladder, "steps solver")


def flows():
    for maker in (from_velocity, from_denoiser, from_noise_predictor):
        yield call(maker.__name__, maker, "function path")
    yield call("from_denoiser", from_denoiser, _fixed={"function": Bare(), "path": CONDOT}, t_max=(0.9, "bound"))
    yield call("with_path", NETWORK.with_path, "path")
    made = [FLOW, NETWORK, ProductMixtureFlow(FACTORS, torch.eye(2).double(), CONDOT)]
    for flow in (*made, RadialMixtureFlow(WEIGHTS, f64([0.1, 2.0]), 2, CONDOT)):
        methods = ["velocity", "target", "source", "score", "log_prob", "posterior_covariance", "exact_endpoint"]
        for method in (method for method in methods if hasattr(flow, method)):
            yield call(f"{type(flow).__name__}.{method}", getattr(flow, method), "x t")
    conventions = {
        "time": ("noise_to_data", "name"),
        "time_scale": (2.0, "positive or None"),
        "time_shape": ("batch", "name"),
    }
    yield call("module.flow", adapters.module.flow, "network path prediction event_shape", t_min=(0.0, "bound"),
               t_max=(1.0, "bound"), **conventions)  # fmt: skip
    yield call(
        "edm.flow", adapters.edm.flow, "network event_shape", sigma_min=(0.01, "positive"), sigma_max=(9.0, "positive")
    )


def mixtures():
    weights, means = (WEIGHTS, "array"), (MEANS, "array")
    yield call("GaussianMixture", GaussianMixture, weights=weights, means=means, covariances=(COVARIANCES, "array"))
    yield call("LowRankMixture", LowRankMixture, weights=weights, means=means, factors=(LOW_RANK.factors, "array"),
               diagonals=(LOW_RANK.diagonals, "array"))  # fmt: skip
    yield call("MixtureFlow", MixtureFlow, "path", mixture=(MIXTURE, "mixture"))
    yield call("LowRankMixtureFlow", LowRankMixtureFlow, "path", mixture=(LOW_RANK, "mixture"))
    yield call("GaussianFlow", GaussianFlow, "path", _names={"mean": "means", "covariance": "covariances"},
               mean=(MEANS[0], "array"), covariance=(COVARIANCES[0], "array"))  # fmt: skip
    yield call("RadialMixtureFlow", RadialMixtureFlow, "path", weights=weights, variances=(f64([0.1, 2.0]), "array"),
               dim=(2, "count"))  # fmt: skip
    yield call("ProductMixtureFlow", ProductMixtureFlow, "path", factors=(FACTORS, "list"),
               rotation=(torch.eye(2).double(), "array"))  # fmt: skip
    for mixture in (MIXTURE, LOW_RANK):
        yield call(
            "sample", lambda n, mixture=mixture: mixture.sample(n, torch.Generator().manual_seed(0)), n=(3, "count")
        )
        yield call("sample", mixture.sample, "generator", _fixed={"n": 3})
    yield call("GaussianMixture.log_prob", MIXTURE.log_prob, "x")
    measured = {"A": (A, "array"), "y": (Y, "array"), "noise_covariance": (R, "array")}
    yield call("condition", condition, mixture=(MIXTURE, "mixture"), **measured)
    yield call("likelihood_score", likelihood_score, "flow x t", **measured)

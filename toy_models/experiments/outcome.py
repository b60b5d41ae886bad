"""Samples of guided samplers, compared with the exact posterior of the fitted digits under linear measurements.

Clean images are drawn from the mixture fitted to the 8x8 digits. Every method has one hyper-parameter with the same
number of candidates; the one with the least mean energy distance on measurements that are not reported is chosen. The
oracles, which know the exact likelihood score, have none. A cell is one method on one operator and noise level; its
rows are values per measurement, so that differences of methods are paired.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis import intervals
from analysis.experiment import Cell
from analysis.flow import Flow
from analysis.guidance import Method, ladder
from analysis.measurements import MeasuredBatch, tuned_run
from analysis.operators import inverse_problem
from analysis.paths import PATHS
from analysis.settings import DTYPES, Options, Variant
from toy_models.mixtures.gaussian import MixtureFlow
from toy_models.mixtures.low_rank import LowRankMixtureFlow
from toy_models.posteriors.guided_facts import BASELINE, DISTANCE, guided_facts
from toy_models.posteriors.measurements import measured_batch
from toy_models.problems.zoo import build

SUITE = "guidance"
__all__ = ["BASELINE", "DISTANCE"]
AnyMixtureFlow = MixtureFlow | LowRankMixtureFlow
SIDE, STEPS, MORE_STEPS, ITERATIONS = 8, 16, 64, 8
OPERATORS = ("box_inpainting", "super_resolution_2", "gaussian_deblurring")
NOISE, OTHER_NOISES = 0.2, (0.1, 0.4)
METRICS = ("sliced_wasserstein", "energy_distance", "mean_error", "log_density", "misfit")
PLACES = ("operator", "noise")
LIKELIHOOD = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
RESIDUAL = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # times the noise, as the rule's gradient is in units of 1/noise
DFLOW = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
MGPS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)
FLOWGRAD = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # times the variance of the noise, as the loss is in units of its inverse
DIAL = {k: v for k, v in ladder(STEPS).items() if k not in ("euler_8", "midpoint_8")}


def _posterior_guidance(rule: str, estimator: str, steps: int = STEPS) -> Method:
    options = {"rule": rule, "lookahead": DIAL[estimator], "steps": steps}
    candidates, power = (LIKELIHOOD, 0) if rule == "likelihood" else (RESIDUAL, 1)
    return Method("posterior_guidance", rule, options, "scale", candidates, power)


def _methods() -> dict[str, Method]:
    """Return all methods by name."""
    end = DIAL["end_to_end"]
    source = {"iterations": ITERATIONS, "gradient": end, "steps": STEPS, "optimiser": "adam"}
    controls = {"iterations": ITERATIONS, "intervals": 8, "steps": STEPS // 8}
    fitted = {"steps": STEPS, "inner": 4, "learning_rate": 0.1}
    methods = {
        "exact": Method("", "exact"),
        "unguided": Method("posterior_guidance", "unguided", {"steps": STEPS, "scale": 0.0}),
        "oracle_ode": Method("oracle_ode", "oracle", {"steps": STEPS}),
        "oracle_ode_more": Method("oracle_ode", "oracle", {"steps": MORE_STEPS}),
        "oracle_sde": Method("oracle_sde", "oracle", {"steps": STEPS}),
        "d_flow": Method("optimise_source", "d_flow", source, "learning_rate", DFLOW),
        "mgps": Method("midpoint_guidance", "mgps", fitted, "midpoint", MGPS),
        "flowgrad": Method("optimise_controls", "flowgrad", controls, "learning_rate", FLOWGRAD, 2),
    }
    for rule in ("likelihood", "dps"):
        methods |= {f"{rule}:{estimator}": _posterior_guidance(rule, estimator) for estimator in DIAL}
        methods[f"{rule}:greedy_more"] = _posterior_guidance(rule, "greedy", MORE_STEPS)
    return methods


METHODS = _methods()
STOCHASTIC = ("midpoint_guidance", "oracle_sde")
SWEPT = ("exact", "unguided", "oracle_ode", "likelihood:greedy", "likelihood:midpoint", "dps:greedy")
QUICK = SWEPT  # the cheap ones
SIZES = ("members", "exact", "held_out")  # samples and exact samples per measurement, measurements to tune on
SPEC: dict[str, dict[str, Any]] = {
    "quick": {"samples": 8, "members": 4, "exact": 16, "held_out": 4},
    "full": {"samples": 100, "members": 8, "exact": 64, "held_out": 12},
}


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator, noise and method; at all noise levels but one only the cheap methods run."""
    if options.quick:
        return [cell(options, OPERATORS[0], NOISE, name) for name in QUICK]
    main = [cell(options, operator, NOISE, name) for operator in OPERATORS for name in METHODS]
    swept = [(operator, noise) for operator in OPERATORS for noise in OTHER_NOISES]
    return main + [cell(options, *place, name) for place in swept for name in SWEPT]


def cell(options: Options, operator: str, noise: float, name: str) -> Cell:
    """Return the cell of a method on an operator at a noise level."""
    spec = options.of(SPEC)
    return Cell(
        measure=f"{__name__}:measure",
        factory="toy_models.problems.zoo:build",
        problem="digits",
        path="condot",
        samples=spec["samples"],
        variants=(Variant.of(name),),
        seed=options.seed,
        dtype=options.dtype,
        device=options.device,
        extra=(("operator", operator), ("noise", noise), *((name, spec[name]) for name in SIZES)),
    )


def tuning_and_reported(cell: Cell, flow: MixtureFlow) -> tuple[MeasuredBatch, MeasuredBatch]:
    """Draw measurements to tune on and measurements to report, of images drawn from the flow's mixture.

    The cell's generator does not depend on the method, so all methods of an operator share their measurements.

    Returns
    -------
    tuple
        The two batches.
    """
    extra, generator = cell.extra_dict, cell.generator()
    problem = inverse_problem(extra["operator"], SIDE, extra["noise"])
    sizes = {"members": extra["members"], "exact": extra["exact"]}

    def measured(count: int) -> MeasuredBatch:
        return measured_batch(flow.mixture, problem, flow.mixture.sample(count, generator), generator, **sizes)

    return measured(extra["held_out"]), measured(cell.samples)


def measure(cell: Cell) -> pd.DataFrame:
    """Tune the cell's method on some measurements and measure it on others: one row per measurement and metric."""
    flow = build(cell.problem, PATHS[cell.path]())
    assert isinstance(flow, MixtureFlow)
    return measure_method(cell, METHODS[cell.variants[0].estimator], flow, *tuning_and_reported(cell, flow))


def measure_method(
    cell: Cell, method: Method, flow: AnyMixtureFlow, tuning: MeasuredBatch, reported: MeasuredBatch
) -> pd.DataFrame:
    """Return a row per measurement and metric; a method that cannot run is NaN, with the reason."""
    extra = cell.extra_dict
    row = cell.columns() | {"truth": "exact", "estimator": cell.variants[0].estimator, "family": method.family}
    row |= {"operator": extra["operator"], "noise": extra["noise"], "samples": reported.members}
    row |= {"solver": None, "steps": method.options.get("steps"), "horizon": None, "fraction": None}
    try:
        x, outcome = _sample_method(cell, method, flow, tuning, reported)
    except ValueError as error:
        x, outcome = torch.full_like(reported.exact.independent, torch.nan), {"status": str(error)}
    options = {"operator": extra["operator"], "noise": extra["noise"], "chosen": outcome.pop("chosen", None)}
    row |= {"status": "ok", "options": json.dumps(options), "failed_samples": int((~torch.isfinite(x)).any(-1).sum())}
    return pd.DataFrame([row | outcome | values for values in _values(reported, x)])


def _sample_method(
    cell: Cell, method: Method, flow: AnyMixtureFlow, tuning: MeasuredBatch, reported: MeasuredBatch
) -> tuple[Tensor, dict[str, Any]]:
    """Return samples (Y, n, d) of the tuned method, with its cost, status and chosen option."""
    if not method.sampler:
        return reported.exact.independent, {"evaluations": 0.0, "vjps": 0.0, "seconds": 0.0, "bytes": None}
    device, dtype = cell.device, DTYPES[cell.dtype]
    moved, batches = flow.to(dtype, device), [batch.start_on(device, dtype) for batch in (tuning, reported)]
    options = _oracle_options(method, moved, reported) | _noise_options(method, reported)
    noise = _noise_options(method, tuning)
    run = tuned_run(method, moved, *batches, track_memory=True, trial_options=noise, **options)
    failed = int(run.sample.failed.sum())
    status = f"{failed} samples diverged: their measurements are left out" if failed else "ok"
    outcome = {"chosen": run.chosen, "status": status, "failed_samples": failed}
    return reported.finished(run.sample), asdict(run.sample.cost) | outcome


def _oracle_options(method: Method, flow: Flow, batch: MeasuredBatch) -> dict[str, Any]:
    """Return the exact score of a batch, for the samplers that follow it."""
    return {"score": batch.score(flow.path)} if method.sampler.startswith("oracle") else {}


def _noise_options(method: Method, batch: MeasuredBatch) -> dict[str, Any]:
    """Return a batch's generator of noise, for the samplers that draw some at every step."""
    return {"generator": torch.Generator().manual_seed(batch.seed)} if method.sampler in STOCHASTIC else {}


def _values(batch: MeasuredBatch, x: Tensor) -> Iterator[dict[str, Any]]:
    for metric, values in batch.metrics(x).items():
        for i, value in enumerate(values.tolist()):
            yield {"measurement": i, "metric": metric, "value": value}


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return means with intervals, paired differences to greedy under likelihood steps, and a table to print."""
    summary, paired = summarise(table, PLACES)
    tables = {"summary": summary, "paired": paired, "paper": printed_table(summary)}
    return tables | guided_facts(summary, paired)


def summarise(table: pd.DataFrame, places: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return means and medians, and means of paired differences, by place (columns of the table), method and metric."""
    summary, paired = [], []
    spent = ["steps", "evaluations", "vjps", "bytes", "failed_samples", "samples", "options", "status"]
    keys = [*places, "family", "estimator", "metric"]
    values = table.pivot_table(index=[*places, "metric", "measurement"], columns="estimator", values="value")
    for key, rows in table.groupby(keys, sort=False):
        row = dict(zip(keys, key, strict=True)) | rows.iloc[0][spent].to_dict()
        summary.append(row | {"median": rows["value"].median()} | asdict(intervals.interval(rows["value"].to_numpy())))
        greedy = values.loc[(*key[: len(places)], key[-1]), BASELINE].to_numpy()
        paired.append(row | asdict(intervals.paired_interval(rows["value"].to_numpy(), greedy)))
    return pd.DataFrame(summary), pd.DataFrame(paired)


def printed_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Return methods x operators, a row per metric, noise and method: "mean [low, high]", and failures where any."""
    cells = summary[summary["metric"].isin(METRICS)].copy()
    ends = zip(cells["mean"], cells["low"], cells["high"], cells["failed_samples"], strict=True)
    cells["text"] = [format_interval(*end) for end in ends]
    rows = ["metric", "noise", "estimator", "evaluations", "vjps"]
    return cells.pivot(index=rows, columns="operator", values="text").reset_index()


def format_interval(mean: float, low: float, high: float, diverged: int) -> str:
    """Return "mean [low, high]", followed by the number of diverged samples, if any."""
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]" + (f", {diverged} diverged" if diverged else "")

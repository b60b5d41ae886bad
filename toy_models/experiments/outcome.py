"""What guided samplers draw, judged against the exact posterior of the fitted digits under linear measurements.

Clean images are drawn from the mixture fitted to the 8x8 digits, of which the package ships no images. Every method has
one hyper-parameter and the same number of candidates for it; taken is the one with the least mean energy distance on
measurements that are not reported. The oracles, which know the exact likelihood score, have none. A cell is one method
on one operator and noise level; its rows are values per measurement, so that differences of methods are paired.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis import cost, intervals, provenance, sample_distances
from analysis.experiment import Cell
from analysis.guidance import SAMPLERS, Sample, ladder
from analysis.guidance.tuning import choose
from analysis.operators import inverse_problem
from analysis.paths import PATHS
from analysis.settings import DTYPES, Options, Variant
from toy_models.mixtures.gaussian import MixtureFlow
from toy_models.posteriors.measurements import Measured
from toy_models.problems.zoo import build

SIDE, STEPS, MORE_STEPS, ITERATIONS = 8, 16, 64, 8
OPERATORS = ("box_inpainting", "super_resolution_2", "gaussian_deblurring")
NOISE, OTHER_NOISES = 0.2, (0.1, 0.4)
METRICS = ("sliced_wasserstein", "energy_distance", "mean_error", "log_density", "misfit")
PLACES = ("operator", "noise")
BASELINE = "likelihood:greedy"
LIKELIHOOD = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
RESIDUAL = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # times the noise, as the rule's gradient is in units of 1/noise
DFLOW = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
FLOWGRAD = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # times the variance of the noise, as the loss is in units of its inverse
RUNGS = {k: v for k, v in ladder(STEPS).items() if k not in ("euler_8", "midpoint_8")}


@dataclass(frozen=True)
class Method:
    """A sampler with fixed options, and one hyper-parameter: candidates times noise to the given power.

    ``family`` groups methods that differ in their place on the dial alone.
    """

    sampler: str
    family: str
    fixed: dict[str, Any] = field(default_factory=dict)
    tuned: str | None = None
    candidates: tuple[float, ...] = ()
    power: int = 0

    def space(self, noise: float) -> dict[str, list[float]]:
        """Return the candidates at a noise level, as ``choose`` takes them."""
        return {self.tuned: [c * noise**self.power for c in self.candidates]} if self.tuned else {}


def _guided(rule: str, rung: str, steps: int = STEPS) -> Method:
    fixed = {"rule": rule, "lookahead": RUNGS[rung], "steps": steps}
    candidates, power = (LIKELIHOOD, 0) if rule == "likelihood" else (RESIDUAL, 1)
    return Method("posterior_guidance", rule, fixed, "scale", candidates, power)


def _methods() -> dict[str, Method]:
    """Return all methods by name."""
    end = RUNGS["end_to_end"]
    source = {"iterations": ITERATIONS, "gradient": end, "steps": STEPS, "optimiser": "adam"}
    controls = {"iterations": ITERATIONS, "intervals": 8, "steps": STEPS // 8}
    found = {
        "exact": Method("", "exact"),
        "unguided": Method("posterior_guidance", "unguided", {"steps": STEPS, "scale": 0.0}),
        "oracle_ode": Method("oracle_ode", "oracle", {"steps": STEPS}),
        "oracle_ode_more": Method("oracle_ode", "oracle", {"steps": MORE_STEPS}),
        "oracle_sde": Method("oracle_sde", "oracle", {"steps": STEPS}),
        "d_flow": Method("optimise_source", "d_flow", source, "learning_rate", DFLOW),
        "flowgrad": Method("optimise_controls", "flowgrad", controls, "learning_rate", FLOWGRAD, 2),
    }
    for rule in ("likelihood", "dps"):
        found |= {f"{rule}:{rung}": _guided(rule, rung) for rung in RUNGS}
        found[f"{rule}:greedy_more"] = _guided(rule, "greedy", MORE_STEPS)
    return found


METHODS = _methods()
SWEPT = ("exact", "unguided", "oracle_ode", "likelihood:greedy", "likelihood:midpoint", "dps:greedy")
QUICK = SWEPT  # the cheap ones


def cells(options: Options) -> list[Cell]:
    """Return a cell per operator, noise and method; noise levels but one have the cheap methods alone."""
    if options.quick:
        return [cell(options, OPERATORS[0], NOISE, name) for name in QUICK]
    found = [cell(options, operator, NOISE, name) for operator in OPERATORS for name in METHODS]
    swept = [(operator, noise) for operator in OPERATORS for noise in OTHER_NOISES]
    return found + [cell(options, *place, name) for place in swept for name in SWEPT]


def cell(options: Options, operator: str, noise: float, name: str) -> Cell:
    """Return the cell of a method on an operator at a noise level."""
    sizes = {"members": 4, "exact": 16, "held_out": 4} if options.quick else {"members": 8, "exact": 64, "held_out": 12}
    return Cell(
        measure="toy_models.experiments.outcome:measure",
        factory="toy_models.problems.zoo:build",
        problem="digits",
        path="condot",
        times=(),
        samples=8 if options.quick else 100,
        settings=(Variant.of(name),),
        seed=options.seed,
        dtype=options.dtype,
        device=options.device,
        extra=(("operator", operator), ("noise", noise), *sizes.items()),
    )


@dataclass(frozen=True)
class Split:
    """Measurements with exact sets to be judged by, exact sets and noise to be guided, and a seed for samplers."""

    measured: Measured
    exact: Tensor
    independent: Tensor
    x0: Tensor
    members: int
    seed: int

    @classmethod
    def draw(cls, flow: MixtureFlow, cell: Cell, count: int, generator: torch.Generator) -> Split:
        """Draw images of the mixture and all that ``of`` draws, so that all methods of an operator see the same."""
        problem = inverse_problem(dict(cell.extra)["operator"], SIDE, dict(cell.extra)["noise"])
        return cls.of(Measured.draw(flow, problem, count, generator), cell, generator)

    @classmethod
    def of(cls, measured: Measured, cell: Cell, generator: torch.Generator) -> Split:
        """Draw what measurements are judged and guided by, in one order."""
        extra, size = dict(cell.extra), measured.clean.shape
        n = extra["members"]
        exact, independent = measured.sample(extra["exact"], generator), measured.sample(n, generator)
        noise = torch.randn(size[0] * n, size[1], dtype=torch.float64, generator=generator)
        return cls(measured, exact, independent, noise, n, int(torch.randint(2**31, (1,), generator=generator)))

    def sets(self, x: Tensor) -> Tensor:
        """Return flat samples as sets (Y, n, d) in float64."""
        return x.double().cpu().unflatten(0, (-1, self.members))

    def oracle(self, sampler: str) -> dict[str, Any]:
        """Return the options that only oracles take."""
        given: dict[str, Any] = {"score": self.measured.score(self.members)} if sampler.startswith("oracle") else {}
        return given | ({"generator": torch.Generator().manual_seed(self.seed)} if sampler == "oracle_sde" else {})

    def start(self, cell: Cell) -> Tensor:
        """Return the noise in the cell's dtype and on its device."""
        return self.x0.to(cell.device, DTYPES[cell.dtype])

    def distances(self, found: Sample) -> Tensor:
        """Return for each sample the mean energy distance over all measurements."""
        return sample_distances.energy_distance(self.sets(found.x), self.exact).mean().expand(len(found.x))


def measure(cell: Cell) -> pd.DataFrame:
    """Tune the cell's method on one split and measure it on the other: one row per measurement and metric."""
    truth, generator = build(cell.problem, PATHS[cell.path]()), cell.generator()
    assert isinstance(truth, MixtureFlow)
    tuning, reported = (Split.draw(truth, cell, n, generator) for n in (dict(cell.extra)["held_out"], cell.samples))
    return judged(cell, METHODS[cell.settings[0].estimator], tuning, reported)


def judged(cell: Cell, method: Method, tuning: Split, reported: Split) -> pd.DataFrame:
    """Return a row per measurement and metric of a cell's method; one that cannot run is NaN, with the reason."""
    name, extra = cell.settings[0].estimator, dict(cell.extra)
    row: dict[str, Any] = {"problem": cell.problem, "truth": "exact", "path": cell.path, "estimator": name}
    row |= {"family": method.family, "operator": extra["operator"], "noise": extra["noise"], "horizon": None}
    row |= {"solver": None, "steps": method.fixed.get("steps"), "dtype": cell.dtype, "seed": cell.seed}
    row |= {"device": provenance.device_name(cell.device), "samples": reported.members}
    try:
        x, found = _drawn(cell, method, tuning, reported)
    except ValueError as error:
        x, found = torch.full_like(reported.independent, torch.nan), {"status": str(error)}
    options = {"operator": extra["operator"], "noise": extra["noise"], "chosen": found.pop("chosen", None)}
    row |= {"status": "ok", "options": json.dumps(options), "failed_samples": int((~torch.isfinite(x)).any(-1).sum())}
    return pd.DataFrame([row | found | values for values in _values(reported, x)])


def _drawn(cell: Cell, method: Method, tuning: Split, reported: Split) -> tuple[Tensor, dict[str, Any]]:
    """Return the sets that the tuned method draws, and what it took."""
    if not method.sampler:
        return reported.independent, {"evaluations": 0.0, "vjps": 0.0, "seconds": 0.0, "bytes": None}
    flow = reported.measured.flow.to(DTYPES[cell.dtype], cell.device)
    space = method.space(tuning.measured.problem.noise)
    chosen: dict[str, Any] = {}
    if space:
        arguments = method.sampler, flow, tuning.measured.loss(tuning.members), tuning.start(cell), space
        budget = len(method.candidates)
        chosen = choose(*arguments, budget=budget, seed=cell.seed, score=tuning.distances, **method.fixed).options
    options = method.fixed | chosen | reported.oracle(method.sampler)
    with cost.track_memory():
        found = SAMPLERS[method.sampler](
            flow, reported.measured.loss(reported.members), reported.start(cell), **options
        )
    failed = int(found.failed.sum())
    status = f"{failed} samples diverged, and are judged where they stopped" if failed else "ok"
    return reported.sets(found.x), asdict(found.cost) | {"chosen": chosen, "status": status, "failed_samples": failed}


def _values(split: Split, x: Tensor) -> Iterator[dict[str, Any]]:
    for metric, values in split.measured.judge(x, split.exact).items():
        for i, value in enumerate(values.tolist()):
            yield {"measurement": i, "metric": metric, "value": value}


def derive(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return means with intervals, paired differences to greedy with the likelihood's steps, and a table to print."""
    summary, paired = compared(table, PLACES)
    return {"summary": summary, "paired": paired, "paper": paper(summary)}


def compared(table: pd.DataFrame, places: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return by place (columns of the table), method and metric the mean, and that of paired differences to greedy."""
    summary, paired = [], []
    spent = ["steps", "evaluations", "vjps", "bytes", "failed_samples", "samples", "options", "status"]
    keys = [*places, "family", "estimator", "metric"]
    values = table.pivot_table(index=[*places, "metric", "measurement"], columns="estimator", values="value")
    for key, rows in table.groupby(keys, sort=False):
        row = dict(zip(keys, key, strict=True)) | rows.iloc[0][spent].to_dict()
        summary.append(row | asdict(intervals.interval(rows["value"].to_numpy())))
        greedy = values.loc[(*key[: len(places)], key[-1]), BASELINE].to_numpy()
        paired.append(row | asdict(intervals.paired_interval(rows["value"].to_numpy(), greedy)))
    return pd.DataFrame(summary), pd.DataFrame(paired)


def paper(summary: pd.DataFrame) -> pd.DataFrame:
    """Return methods x operators, a row per metric, noise and method: "mean [low, high]", and failures where any."""
    cells = summary[summary["metric"].isin(METRICS)].copy()
    ends = zip(cells["mean"], cells["low"], cells["high"], cells["failed_samples"], strict=True)
    cells["shown"] = [shown(*end) for end in ends]
    rows = ["metric", "noise", "estimator", "evaluations", "vjps"]
    return cells.pivot(index=rows, columns="operator", values="shown").reset_index()


def shown(mean: float, low: float, high: float, diverged: int) -> str:
    """Return "mean [low, high]", and how many samples diverged where any did."""
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]" + (f", {diverged} diverged" if diverged else "")

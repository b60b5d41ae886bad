"""Property-guided molecules: the estimators of the dial in three settings, over budgets, judged by four judges.

The task is that of the paper's table 1 (arXiv 2502.08006): molecules of 18 atoms whose property, as a second predictor
sees it, is near a wanted value. The settings are source optimisation (D-Flow, arXiv 2402.14017), per-step guidance and
control optimisation (OC-Flow, arXiv 2410.18070).

A cell is one estimator in one setting on one batch of targets, with all budgets (evaluations and products per molecule)
and all six properties. All estimators have the same targets and noise. Options are chosen on other targets: candidates
are run at the least budget, and the best is also used at the greater one. The score is the mean, over targets of all
properties, of the evaluator's error over the property's spread, so that all properties share their options.

The full run has ``BATCHES`` of ``EACH`` molecules of each property, in float32 on one thread: about ten minutes of an
idle core. More batches add targets, and leave the cells of others as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import torch

from analysis import solvers
from analysis.experiment import Cell
from analysis.flow import Flow
from analysis.guidance.dial import Choice, ladder
from analysis.guidance.regimes import Regime, count_within
from analysis.guidance.registry import SAMPLERS, Sample
from analysis.settings import DTYPES, Options, Variant
from real_models.molecules import comparison, judging
from real_models.molecules.flow import flow
from real_models.molecules.property_loss import predictor
from real_models.molecules.targets import ATOMS, Targets, draw

SUITE = "molecules"
PACKAGES = ("rdkit", "tblite")
BATCHES = 1
EACH, TUNING = 4, 1  # molecules of each property in a batch, to report and to tune on
END = 8  # midpoint steps of end-to-end
DIAL = ladder(END, "midpoint")  # greedy, two-step Euler, midpoint, and four and eight steps
SOLVE: dict[str, Any] = {"solver": "midpoint", "steps": 16}  # of unguided molecules, and from an optimised source
EARLY = 0.1  # the time of the optimised state
DIVERGENCE = 30.0  # times the norm of the noise; molecules have up to three times that norm
RATES = {"adam": (0.01, 0.03), "lbfgs": (1.0,)}
PRIORS = (0.0, 0.01)
SCALES = {"bounded": (3.0, 30.0), "dps": (0.1, 0.5)}
REGIMES = {
    "source": Regime("optimise_source", "gradient", "iterations", SOLVE | {"t": EARLY, "warm": 4}),
    "guidance": Regime("posterior_guidance", "lookahead", "steps"),
    "controls": Regime("optimise_controls", "gradient", "iterations", {"intervals": END, "steps": 2}),
}
CANDIDATES: dict[str, list[dict[str, Any]]] = {
    "source": [
        {"optimiser": name, "learning_rate": rate, "prior": prior}
        for name, rates in RATES.items()
        for rate in rates
        for prior in PRIORS
    ],
    "guidance": [{"rule": rule, "scale": scale} for rule, scales in SCALES.items() for scale in scales],
    "controls": [{"optimiser": "adam", "learning_rate": 0.1, "weight": weight} for weight in PRIORS],
}
KEPT = (6, 1)  # candidates at the least budget, and at the greater one
BUDGETS = {"source": (96, 384), "guidance": (192,), "controls": (192,)}
ESTIMATORS: dict[str, Sequence[str]] = {
    "source": tuple(DIAL),
    "guidance": ("greedy", "euler_4", "end_to_end"),
    "controls": ("greedy", "end_to_end"),
}
derive = comparison.derive


def cells(options: Options) -> list[Cell]:
    """Return a cell per batch, setting and estimator, and one per batch of unguided molecules."""
    if options.quick:
        return [_cell(options, "source", name, 0) for name in ("unguided", "greedy", "midpoint")]
    judging.required()
    names = [("source", "unguided"), *((setting, name) for setting, some in ESTIMATORS.items() for name in some)]
    return [_cell(options, *pair, batch) for batch in range(BATCHES) for pair in names]


def _cell(options: Options, setting: str, name: str, batch: int) -> Cell:
    quick = options.quick
    sizes: dict[str, Any] = {"properties": ("alpha", "gap")} if quick else {}
    sizes |= {"each": 1 if quick else EACH, "tuning": 0 if quick else TUNING, "physics": not quick}
    return Cell(
        measure=f"{__name__}:measure",
        problem="qm9",
        path="condot",
        samples=sizes["each"],
        variants=(Variant.of(name),),
        seed=options.seed + batch,
        dtype="float32",
        device="cpu",
        extra=(
            ("setting", setting),
            ("batch", batch),
            ("budgets", (48,) if quick else BUDGETS[setting]),
            *sizes.items(),
        ),
    )


def estimator(setting: str, name: str) -> Choice:
    """Return the estimator of a name: end-to-end is the exact adjoint of the controls' own solve."""
    return "adjoint" if (setting, name) == ("controls", "end_to_end") else DIAL[name]


class Runs:
    """The runs of one estimator in one setting: the guide is followed, and the evaluator scores."""

    def __init__(self, learned: Flow, setting: str, name: str) -> None:
        self.flow, self.setting, self.name = learned, setting, name
        self.regime = REGIMES[setting]
        self.guide, self.evaluator = predictor("guide"), predictor("evaluator")

    def run(self, trial: dict[str, Any], count: int, targets: Targets) -> Sample:
        """Return the molecules of a candidate with so many steps or iterations."""
        options = self.regime.call(trial, estimator(self.setting, self.name), 1.0) | {self.regime.counted: count}
        return SAMPLERS[self.regime.sampler](
            self.flow, targets.loss(self.guide), targets.x0, divergence=DIVERGENCE, **options
        )

    def count(self, trial: dict[str, Any], budget: float, targets: Targets) -> int:
        """Return how many steps or iterations fit into a budget, 0 for none."""
        costs = [self.run(trial, n, targets.first(1)).cost for n in (1, 2)]
        return count_within(budget, *(cost.evaluations + cost.vjps for cost in costs))

    def tried(self, trial: dict[str, Any], budget: float, targets: Targets) -> dict[str, Any]:
        """Return the row of a candidate: its score is infinite where a sample diverged or no step fits the budget."""
        count = self.count(trial, budget, targets)
        score = self.score(self.run(trial, count, targets), targets) if count else math.inf
        row = {"metric": "tuning", "chosen": json.dumps(trial), "value": score, "count": count}
        return row | {"status": "ok" if score < math.inf else "diverged" if count else "not one step fits the budget"}

    def score(self, sample: Sample, targets: Targets) -> float:
        """Return the mean error over the spread, as the evaluator sees it; infinite where a sample diverged."""
        errors = judging.predicted_errors(sample.x, targets, self.evaluator) / self.evaluator.scale[targets.index()]
        return float(torch.where(sample.failed, math.inf, errors).nan_to_num(nan=math.inf, posinf=math.inf).mean())


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per budget, molecule and metric, and one per candidate with its score (metric "tuning")."""
    extra, name, generator = cell.extra_dict, cell.variants[0].estimator, cell.generator()
    properties = {"properties": tuple(extra["properties"])} if "properties" in extra else {}
    reported = draw(extra["each"], generator, **properties)
    row = cell.columns() | {"truth": "wanted value", "estimator": name, "setting": extra["setting"]}
    learned = flow(ATOMS, DTYPES[cell.dtype])
    if name == "unguided":
        return pd.DataFrame([row | one for one in _unguided(learned, reported, cell)])
    runs = Runs(learned, extra["setting"], name)
    tuning = draw(extra["tuning"], generator) if extra["tuning"] else None
    return pd.DataFrame([row | one for one in _guided(runs, cell, reported, tuning)])


def _unguided(learned: Flow, reported: Targets, cell: Cell) -> Iterator[dict[str, Any]]:
    grid = torch.linspace(0, 1, SOLVE["steps"] + 1, dtype=torch.float64)
    x = solvers.solve(learned, reported.x0, solvers.plan(SOLVE["solver"], learned.path, grid))
    row = {"budget": 2 * len(grid) - 2, "count": 0, "evaluations": 2.0 * len(grid) - 2, "vjps": 0.0}
    yield from (row | one for one in _judged(x, torch.zeros(len(x), dtype=torch.bool), reported, cell))


def _guided(runs: Runs, cell: Cell, reported: Targets, tuning: Targets | None) -> Iterator[dict[str, Any]]:
    candidates = CANDIDATES[runs.setting] if tuning else CANDIDATES[runs.setting][1:2]
    for budget, kept in zip(cell.extra_dict["budgets"], KEPT, strict=False):
        row: dict[str, Any] = {"budget": budget}
        if tuning:
            tried = [runs.tried(trial, budget, tuning) for trial in candidates[:kept]]
            yield from (row | one for one in tried)
            candidates = [json.loads(one["chosen"]) for one in sorted(tried, key=lambda one: float(one["value"]))]
        count = runs.count(candidates[0], budget, reported)
        sample = runs.run(candidates[0], count, reported)
        row |= {"chosen": json.dumps(candidates[0]), "count": count}
        row |= {"evaluations": sample.cost.evaluations, "vjps": sample.cost.vjps}
        yield from (row | one for one in _judged(sample.x, sample.failed, reported, cell))


def _judged(x: torch.Tensor, failed: torch.Tensor, reported: Targets, cell: Cell) -> Iterator[dict[str, Any]]:
    guide, evaluator = predictor("guide"), predictor("evaluator")
    written, about = judging.text(x), judging.columns(reported, cell.extra_dict["batch"] * len(x))
    for metric, values, statuses in judging.judgements(x, reported, evaluator, guide, cell.extra_dict["physics"]):
        for i, (value, status) in enumerate(zip(values, statuses, strict=True)):
            lost = bool(failed[i])
            row = {"metric": metric, "value": math.nan if lost else value, "status": "diverged" if lost else status}
            yield about[i] | row | {"molecule": written[i] if metric == "error" else None}

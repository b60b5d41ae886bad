"""What a cell of the experiment ``molecules`` measures: molecules by one estimator in one setting, over budgets.

The cells themselves are listed in ``real_models.experiments.molecules``. What is measured does not know that list, so
that batches, estimators and properties can be added to it and finished cells stay current.

Options are found as for every regime (``analysis.search``), on targets that are not reported: trials all over the
ranges of the setting at the least budget, and at a larger budget the best of them again, or all of them where every
molecule of each diverged before. A budget is a limit: the best of what was tried within it is reported. Every estimator
has the same trials. The loss jumps from one iteration of the source to the next, as small moves end in other molecules;
so whether a molecule stops once its gradient's own prediction is near enough is one of the options. The score of a
trial is the mean over its targets, of all properties, of the evaluator's error over the property's scale, so that all
properties share their options; a molecule that diverged counts as ``LOST``. Options chosen so may break molecules. In
settings whose name ends in ``STABLE`` an error of a molecule with unstable atoms counts as no less than what the best
constant errs by, so that options are chosen that leave molecules whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis import solvers
from analysis.experiment import Cell
from analysis.flow import PredictionFlow
from analysis.guidance.regimes import Regime, gradient_in
from analysis.guidance.registry import Sample
from analysis.guidance.tuning import Range
from analysis.losses import Loss
from analysis.search import Search, Tried
from analysis.settings import DTYPES
from real_models.molecules import chemistry, judging
from real_models.molecules.flow import decode, flow, network
from real_models.molecules.predictor import Predictor
from real_models.molecules.property_loss import Scaled, predictor
from real_models.molecules.targets import Targets, draw
from real_models.replayed import Replayed

AIM = "error"
STABLE = "_stable"
LOST = 10.0  # what a diverged molecule counts as, in scales of its property, and the most for others
INTERVALS = 8  # of the controls
SOLVE: dict[str, Any] = {"solver": "midpoint", "steps": 8}  # of unguided molecules, and from an optimised source
BOUND = {"divergence": 30.0}  # times the norm of the noise; molecules have up to three times that norm
PRIORS = (0.0, 0.01, 0.1)
STOPS = (0.0, 0.005)  # losses at which a molecule stops: never, and at a tenth of the guide's scale
REGIMES = {
    "source": Regime(
        "optimise_source",
        "gradient",
        "iterations",
        options={**SOLVE, **BOUND, "warm": 4},
        space={
            "learning_rate": Range(0.01, 3.0),
            "optimiser": ("adam", "lbfgs_line_search"),
            "prior": PRIORS,
            "stop": STOPS,
            "t": (0.0, 0.1, 0.3),
        },
        length="learning_rate",
        unscaled=("optimiser", ("lbfgs_line_search",)),
    ),
    "guidance": Regime(
        "posterior_guidance",
        "lookahead",
        "steps",
        options=BOUND,
        space={"rule": ("dps", "bounded", "normalised"), "scale": Range(0.03, 100.0)},
        length="scale",
    ),
    "controls": Regime(
        "optimise_controls",
        "gradient",
        "iterations",
        options={**BOUND, "intervals": INTERVALS, "steps": 2},
        space={"learning_rate": Range(3e-3, 10.0), "optimiser": ("adam", "sgd"), "weight": PRIORS},
        length="learning_rate",
    ),
}


@dataclass(frozen=True)
class TargetBatch:
    """Targets with the guide as their loss; it has what a search asks of a batch of measurements."""

    targets: Targets
    guide: Scaled
    problem = SimpleNamespace(noise=1.0)  # the guide's loss is in units of the property's scale

    @property
    def x0(self) -> Tensor:
        """The noise (B, N, 8)."""
        return self.targets.x0

    def loss(self) -> Loss:
        """Return the guide's loss of these targets, infinite where it is no number, flat where its gradient is not."""
        plain = self.targets.loss(self.guide)

        def loss(x: Tensor) -> Tensor:
            value = plain(_without_lost_gradients(x))
            return value.masked_fill(value.isnan(), math.inf)  # one such molecule is to fail alone

        return loss

    def part(self, index: slice) -> TargetBatch:
        """Return the targets of a slice."""
        return replace(self, targets=self.targets.part(index))


def _without_lost_gradients(x: Tensor) -> Tensor:
    """Return x (B, N, 8) such that the gradient of a molecule is zero where it is not finite."""
    x = x.view_as(x)
    if x.requires_grad:
        x.register_hook(lambda g: torch.where(g.isfinite().all((1, 2), keepdim=True), g, 0.0))
    return x


@dataclass(frozen=True)
class Score:
    """The evaluator's mean error over the property's scale, as one value: the score of a trial.

    Attributes
    ----------
    evaluator : the predictor
    stable : whether a molecule with unstable atoms counts as no better than the best constant
    """

    evaluator: Predictor
    stable: bool = False

    def __call__(self, sample: Sample, batch: TargetBatch) -> dict[str, Tensor]:
        """Return the score (1,), in which what diverges, or makes the evaluator overflow, counts as ``LOST``."""
        x, failed = sample.x.cpu(), sample.failed.cpu()
        errors = judging.predicted_errors(x, batch.targets, self.evaluator)
        if self.stable:
            whole = chemistry.stable_atoms(*decode(x)).all(1)
            errors = torch.where(whole, errors, errors.clamp_min(batch.targets.spread()))
        errors = errors / self.evaluator.scale[batch.targets.index()]
        usable = errors.isfinite() & ~failed
        return {AIM: torch.where(usable, errors.clamp_max(LOST), LOST).mean()[None]}


class ReplayedGuide(Replayed):
    """A guide as recordings on a GPU."""

    module: Predictor

    @property
    def scale(self) -> Tensor:
        """The scales of the properties, (6,)."""
        return self.module.scale


def flow_of(cell: Cell, atoms: int) -> PredictionFlow:
    """Return the flow of molecules of so many atoms on the device of a cell."""
    dtype = DTYPES[cell.dtype]
    if cell.device == "cpu":
        return flow(atoms, dtype)
    return flow(atoms, velocity=Replayed(network(dtype, cell.device)))


def batch_of(cell: Cell, targets: Targets) -> TargetBatch:
    """Return targets and guide on the device of a cell; samples are judged on the CPU."""
    guide = predictor("guide", device=cell.device)
    return TargetBatch(targets.to(cell.device), guide if cell.device == "cpu" else ReplayedGuide(guide))


def search_of(cell: Cell, tuning: Targets) -> Search[TargetBatch]:
    """Return the trials of a cell on some targets."""
    learned, batch = flow_of(cell, tuning.atoms), batch_of(cell, tuning)
    setting = cell.extra_dict["setting"]
    regime = REGIMES[setting.removesuffix(STABLE)]
    gradient = gradient_in(setting, cell.extra_dict["name"], {cell.extra_dict["name"]: cell.variants[0]})
    score = Score(predictor("evaluator"), setting.endswith(STABLE))
    return Search(learned, regime, gradient, batch, score, {AIM: 1}, cell.seed)


def measure(cell: Cell) -> pd.DataFrame:
    """Return a row per budget, molecule and metric, and one per trial with its score (metric "tuning")."""
    extra, generator = cell.extra_dict, cell.generator()
    properties, atoms = tuple(extra["properties"]), extra["atoms"]
    reported = draw(extra["each"], generator, properties, atoms)
    row = cell.columns() | {"truth": "wanted value", "estimator": extra["name"], "setting": extra["setting"]}
    if extra["name"] == "unguided":
        rows = _unguided(cell, reported)
    else:
        search = search_of(cell, draw(extra["tuning"], generator, properties, atoms))
        rows = _guided(search, cell, reported)
    return pd.DataFrame([row | one for one in rows])


def _unguided(cell: Cell, reported: Targets) -> Iterator[dict[str, Any]]:
    learned = flow_of(cell, reported.atoms)
    grid = torch.linspace(0, 1, SOLVE["steps"] + 1, dtype=torch.float64)
    x = solvers.solve(learned, reported.to(cell.device).x0, solvers.plan(SOLVE["solver"], learned.path, grid))
    row = {"budget": 2 * len(grid) - 2, "count": 0, "evaluations": 2.0 * len(grid) - 2, "vjps": 0.0}
    yield from (row | one for one in _judged(x, torch.zeros(len(x), dtype=torch.bool), reported, cell))


def _guided(search: Search[TargetBatch], cell: Cell, reported: Targets) -> Iterator[dict[str, Any]]:
    batch, known = batch_of(cell, reported), list[Tried]()
    for budget, count in zip(cell.extra_dict["budgets"], cell.extra_dict["trials"], strict=True):
        if any(one.score(AIM) < LOST for one in known):
            tried = search.grown(known, cell.extra_dict["trials"][0], count, budget)
        else:  # the first budget, or after those at which all diverged, which says nothing of them
            tried = search.wide(cell.extra_dict["trials"][0], budget)
        known += tried
        row: dict[str, Any] = {"budget": budget}
        yield from (row | _trial(search, one) for one in tried)
        if not known:
            yield row | {"metric": "tuning", "status": "not one step fits the budget"}
            continue
        (best,) = search.best(known, AIM, 1)
        sample = search.run(best.options, batch)
        row |= {name: value for name, value in _trial(search, best).items() if name not in ("metric", "value")}
        row |= {"evaluations": sample.cost.evaluations, "vjps": sample.cost.vjps}
        yield from (row | one for one in _judged(sample.x, sample.failed, reported, cell))


def _trial(search: Search[TargetBatch], one: Tried) -> dict[str, Any]:
    """Return the row of a trial."""
    score, count = one.score(AIM), one.options[search.regime.counted]
    row = {"metric": "tuning", "chosen": json.dumps(one.trial, sort_keys=True), "value": score, "count": count}
    row |= {"at_end_of_range": search.regime.near_end(one.trial)}
    return row | {"status": "ok" if score < LOST else "diverged"}


def _judged(x: Tensor, failed: Tensor, reported: Targets, cell: Cell) -> Iterator[dict[str, Any]]:
    guide, evaluator, x, failed = predictor("guide"), predictor("evaluator"), x.cpu(), failed.cpu()
    written, about = judging.text(x), judging.columns(reported, cell.extra_dict["batch"] * len(x))
    for metric, values, statuses in judging.judgements(x, reported, evaluator, guide, cell.extra_dict["physics"]):
        for i, (value, status) in enumerate(zip(values, statuses, strict=True)):
            lost = bool(failed[i])
            row = {"metric": metric, "value": math.nan if lost else value, "status": "diverged" if lost else status}
            yield about[i] | row | {"molecule": written[i] if metric == "error" else None}

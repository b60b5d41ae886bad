"""What a cell of the experiment ``molecules`` measures: molecules by one estimator in one setting, over budgets.

The cells themselves are listed in ``real_models.experiments.molecules``. What is measured does not know that list, so
that batches, estimators and properties can be added to it and finished cells stay current.

Options are found as for every regime (``analysis.search``), on targets that are not reported: trials all over the
ranges of the setting at the least budget, and at a larger budget the best of them again, or all of them where every
molecule of each diverged before. Optimisers of controls, and rules of per-step guidance, want lengths of moves that
differ by decades, and are searched separately. A budget is a limit: the best of what was tried within it is reported.
Every estimator has the same trials. The loss jumps from one iteration of the source to the next, as small moves end in
other molecules; so whether a molecule stops once its gradient's own prediction is near enough is one of the options.

The score of a trial is the mean over its targets, of all properties, of the evaluator's error over the property's
scale, so that all properties share their options; a molecule that diverged counts as ``LOST``. Options chosen so may
break molecules. The trials of per-step guidance are judged by a second score as well, reported as the setting
"guidance_stable": an error of a molecule with unstable atoms counts as no less than what the best constant errs by, so
that options are chosen that leave molecules whole.
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
from analysis.fitted_search import FittedSearch
from analysis.flow import PredictionFlow
from analysis.guidance.regimes import gradient_in
from analysis.guidance.registry import Sample
from analysis.losses import Loss
from analysis.search import Search, Tried
from analysis.separate_search import SeparateSearches
from analysis.settings import DTYPES
from real_models.molecules import chemistry, judging
from real_models.molecules.flow import decode, flow, network
from real_models.molecules.predictor import Predictor
from real_models.molecules.property_loss import Scaled, predictor
from real_models.molecules.ranges import REGIMES, SOLVE
from real_models.molecules.targets import Targets, draw
from real_models.replayed import Replayed

AIM, STABLE = "error", "error_stable"
AIMS = {AIM: "", STABLE: "_stable"}  # what a setting's name ends in, by the score that its options are chosen by
LOST = 4.0  # what a diverged molecule counts as, in scales of its property, and the most for others
JUDGED = {"guidance": (AIM, STABLE)}  # the scores of a setting, ``AIM`` alone for others


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
    evaluator : the predictor; by ``STABLE`` a molecule with unstable atoms counts as no better than the best constant
    """

    evaluator: Predictor

    def __call__(self, sample: Sample, batch: TargetBatch) -> dict[str, Tensor]:
        """Return the scores (1,) by aim; what diverges, or makes the evaluator overflow, counts as ``LOST``."""
        x, failed = sample.x.cpu(), sample.failed.cpu()
        errors = judging.predicted_errors(x, batch.targets, self.evaluator)
        whole = chemistry.stable_atoms(*decode(x)).all(1)
        bounded = torch.where(whole, errors, errors.clamp_min(batch.targets.spread()))
        return {AIM: self._mean(errors, failed, batch), STABLE: self._mean(bounded, failed, batch)}

    def _mean(self, errors: Tensor, failed: Tensor, batch: TargetBatch) -> Tensor:
        errors = errors / self.evaluator.scale[batch.targets.index()]
        usable = errors.isfinite() & ~failed
        return torch.where(usable, errors.clamp_max(LOST), LOST).mean()[None]


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


def search_of(cell: Cell, tuning: Targets) -> SeparateSearches[TargetBatch]:
    """Return the trials of a cell on some targets."""
    learned, batch = flow_of(cell, tuning.atoms), batch_of(cell, tuning)
    setting, name = cell.extra_dict["setting"], cell.extra_dict["name"]
    gradient, score = gradient_in(setting, name, {name: cell.variants[0]}), Score(predictor("evaluator"))
    kind = FittedSearch if setting == "guidance" else Search  # a window makes its first steps cheaper than others
    aims = dict.fromkeys(JUDGED.get(setting, (AIM,)), 1)
    return SeparateSearches(
        [kind(learned, one, gradient, batch, score, aims, cell.seed) for one in REGIMES[setting]], LOST
    )


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


def _guided(search: SeparateSearches[TargetBatch], cell: Cell, reported: Targets) -> Iterator[dict[str, Any]]:
    extra, batch = cell.extra_dict, batch_of(cell, reported)
    judged: dict[int, list[dict[str, Any]]] = {}  # by trial, which may be the best by both scores and at many budgets
    for budget, count in zip(extra["budgets"], extra["trials"], strict=True):
        tried = search.grow(extra["trials"][0], count, budget)
        for aim in search.aims:
            row: dict[str, Any] = {"budget": budget, "setting": extra["setting"] + AIMS[aim]}
            yield from (row | _trial(*pair, aim) for pair in tried)
            if not search.known:
                yield row | {"metric": "tuning", "status": "not one step fits the budget"}
                continue
            by, best = search.best(aim)
            if id(best) not in judged:
                judged[id(best)] = list(_reported(by.run(best.options, batch), reported, cell))
            row |= {name: value for name, value in _trial(by, best, aim).items() if name not in ("metric", "value")}
            yield from (row | one for one in judged[id(best)])


def _reported(sample: Sample, reported: Targets, cell: Cell) -> Iterator[dict[str, Any]]:
    spent = {"evaluations": sample.cost.evaluations, "vjps": sample.cost.vjps}
    yield from (spent | one for one in _judged(sample.x, sample.failed, reported, cell))


def _trial(search: Search[TargetBatch], one: Tried, aim: str) -> dict[str, Any]:
    """Return the row of a trial by a score."""
    score, count = one.score(aim), one.options[search.regime.counted]
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

"""Guided molecules in small, with networks of random weights.

Truths: samplers called by hand, the cost of one iteration, and the line that installs a missing extra.
"""

import json
import math

import pytest
import torch

from analysis import suite
from analysis.guidance.registry import SAMPLERS, Sample
from analysis.settings import Options
from analysis.workers import Workers, WorkersError
from real_models.experiments import molecules
from real_models.molecules import chemistry, data, judging, targets
from real_models.molecules.flow import flow
from real_models.molecules.network import Velocity
from real_models.molecules.predictor import Predictor

SMALL = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "blocks": 2, "pairs": 8, "forces": 2, "context": 8}
GUIDE = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "pairs": 8, "forces": 2, "radial": 12}
QUICK = molecules.cells(Options(quick=True))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small networks in place of the committed ones."""

    def velocity(n, dtype=torch.float32, device="cpu"):
        torch.manual_seed(0)
        return flow(n, velocity=Velocity(**SMALL).to(dtype).requires_grad_(False))

    def predictor(name="guide", dtype=torch.float32, device="cpu"):
        torch.manual_seed(judging.METRICS.index("error") + len(name))
        return Predictor(**GUIDE).to(dtype).requires_grad_(False)

    monkeypatch.setattr(molecules, "flow", velocity)
    monkeypatch.setattr(molecules, "predictor", predictor)
    monkeypatch.setattr(targets, "ATOMS", 6)
    monkeypatch.setattr(molecules, "ATOMS", 6)


def test_all_estimators_of_a_batch_have_the_same_targets_and_other_batches_have_others():
    if not all(chemistry_and_physics()):
        pytest.skip("the extra molecules is not installed")
    full = molecules.cells(Options())
    names = {(cell.extra_dict["setting"], cell.variants[0].estimator) for cell in full}
    assert len(full) == molecules.BATCHES * len(names)
    assert {name for setting, name in names if setting == "source"} == {"unguided", *molecules.DIAL}
    assert len({cell.seed for cell in full}) == molecules.BATCHES
    first, second = (molecules._cell(Options(), "source", "greedy", batch) for batch in (0, 1))
    assert first in full
    assert not torch.equal(*(targets.draw(1, cell.generator()).wanted for cell in (first, second)))


def chemistry_and_physics():
    for package in (chemistry.require, molecules.judging.xtb.require):
        try:
            package()
        except ImportError:
            yield False
        else:
            yield True


def test_a_cell_is_the_sampler_called_by_hand():
    cell = QUICK[1]
    table = molecules.measure(cell)
    drawn = targets.draw(1, cell.generator(), ("alpha", "gap"))
    known = {"optimiser": "adam", "learning_rate": 0.01, "prior": 0.01, "gradient": "greedy"}
    known |= {"t": 0.1, "warm": 4, "solver": "midpoint", "steps": 16, "iterations": 4}
    loss = drawn.loss(molecules.predictor("guide"))
    sample = SAMPLERS["optimise_source"](molecules.flow(6), loss, drawn.x0, divergence=30.0, **known)
    errors = judging.predicted_errors(sample.x, drawn, molecules.predictor("evaluator"))
    rows = table[table["metric"] == "error"]
    assert rows["value"].tolist() == pytest.approx(errors.tolist())
    assert rows["molecule"].tolist() == judging.text(sample.x)
    assert set(rows["count"]) == {4}  # (48 - 40) / 2
    assert set(rows["evaluations"] + rows["vjps"]) == {48.0}
    assert set(table["property"]) == {"alpha", "gap"}


def test_the_best_candidate_at_the_least_budget_is_used_at_the_greater_one(monkeypatch):
    """Scores are replaced by the learning rate plus the prior, of which the least is 0.01 and 0."""
    cell = QUICK[1]
    extra = dict(cell.extra) | {"tuning": 1, "budgets": (48, 52)}
    cell = molecules.Cell(
        **{name: getattr(cell, name) for name in cell.__dataclass_fields__} | {"extra": (*extra.items(),)}
    )
    seen = []
    run = molecules.Runs.run

    def noted(self, trial, count, some):
        seen.append(trial)
        return run(self, trial, count, some)

    monkeypatch.setattr(molecules.Runs, "run", noted)
    monkeypatch.setattr(molecules.Runs, "score", lambda self, *_: seen[-1]["learning_rate"] + seen[-1]["prior"])
    table = molecules.measure(cell)
    tuning = table[table["metric"] == "tuning"]
    assert tuning["budget"].tolist() == [48] * 6 + [52]
    best = {"optimiser": "adam", "learning_rate": 0.01, "prior": 0.0}
    assert json.loads(tuning["chosen"].iloc[-1]) == best
    assert {json.loads(one)["prior"] for one in table.loc[table["metric"] == "error", "chosen"]} == {0.0}


def test_a_diverged_sample_scores_infinitely_and_has_a_status():
    runs = molecules.Runs(molecules.flow(6), "source", "greedy")
    drawn = targets.draw(1, torch.Generator().manual_seed(0), ("alpha", "gap"))
    failed_at = torch.tensor([-1, 3])
    sample = Sample(drawn.x0, torch.zeros(2), None, failed_at)
    assert runs.score(sample, drawn) == math.inf
    rows = list(molecules._judged(drawn.x0, sample.failed, drawn, QUICK[1]))
    assert {row["status"] for row in rows if row["order"] == 1} == {"diverged"}
    assert all(math.isnan(row["value"]) for row in rows if row["order"] == 1)
    assert {row["status"] for row in rows if row["order"] == 0} == {"ok"}


def test_the_budget_of_one_step_too_few_is_said(monkeypatch):
    runs = molecules.Runs(molecules.flow(6), "source", "end_to_end")
    row = runs.tried(molecules.CANDIDATES["source"][0], 41, targets.draw(1, torch.Generator(), ("alpha",)))
    assert (row["count"], row["value"], row["status"]) == (0, math.inf, "not one step fits the budget")


def test_the_wanted_values_lie_in_the_data():
    assert all(
        data.RANGES[name][0] <= low <= high <= data.RANGES[name][1] for name, (low, *_, high) in targets.DECILES.items()
    )


def test_a_missing_extra_ends_with_the_line_that_installs_it(monkeypatch, tmp_path):
    def missing():
        raise ImportError(chemistry.INSTALL)

    monkeypatch.setattr(chemistry, "require", missing)
    with pytest.raises(WorkersError, match=r'pip install -e "\.\[molecules\]"'):
        suite.make({"molecules": molecules}, Options(), tmp_path, Workers(jobs=1))

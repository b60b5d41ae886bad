"""What a cell of guided molecules measures, in small, with networks of random weights.

Truths: samplers called by hand, the cost of one iteration, and scores that are replaced by known ones.
"""

import json
import math
from dataclasses import replace

import pytest
import torch

from analysis import solvers
from analysis.gradients import ESTIMATORS
from analysis.guidance.controls import ADJOINT
from analysis.guidance.registry import SAMPLERS, Sample
from analysis.settings import Options
from real_models.experiments import molecules
from real_models.molecules import judging, measuring, targets
from real_models.molecules.flow import flow
from real_models.molecules.network import Velocity
from real_models.molecules.predictor import Predictor

SMALL = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "blocks": 2, "pairs": 8, "forces": 2, "context": 8}
GUIDE = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "pairs": 8, "forces": 2, "radial": 12}
PROPERTIES = "alpha", "gap"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small networks in place of the committed ones, and molecules of six atoms with the deciles of 18."""

    def velocity(n, dtype=torch.float32, device="cpu"):
        torch.manual_seed(0)
        return flow(n, velocity=Velocity(**SMALL).to(dtype).requires_grad_(False))

    def predictor(name="guide", dtype=torch.float32, device="cpu"):
        torch.manual_seed(len(name))
        made = Predictor(**GUIDE).to(dtype).requires_grad_(False)
        made.scale[:] = torch.tensor([30.0, 9000.0, 5000.0, 9000.0, 15.0, 20.0])
        return made

    monkeypatch.setattr(measuring, "flow", velocity)
    monkeypatch.setattr(measuring, "predictor", predictor)
    monkeypatch.setattr(targets, "statistics", lambda atoms: (targets.DECILES, targets.SPREAD))
    monkeypatch.setattr(molecules, "SIZES", (6,))


def cell_of(setting, name, **extra):
    cell = molecules.cell(Options(quick=True), setting, name, 0)
    return replace(cell, extra=tuple((dict(cell.extra) | extra).items()))


def test_a_cell_is_the_sampler_called_by_hand():
    cell = cell_of("source", "greedy")
    table = measuring.measure(cell)
    rows = table[table["metric"] == "error"]
    trial = json.loads(rows["chosen"].iloc[0])
    drawn = targets.draw(1, cell.generator(), PROPERTIES, 6)
    count = int(rows["count"].iloc[0])
    known = trial | {"gradient": "greedy", **measuring.SOLVE, "iterations": count}
    known["learning_rate"] *= 1 if trial["optimiser"] == "lbfgs_line_search" else 16 / count
    known |= {"warm": 4} if trial["t"] else {}
    loss = drawn.loss(measuring.predictor("guide"))
    sample = SAMPLERS["optimise_source"](measuring.flow(6), loss, drawn.x0, divergence=30.0, **known)
    errors = judging.predicted_errors(sample.x, drawn, measuring.predictor("evaluator"))
    assert rows["value"].tolist() == pytest.approx(errors.tolist())
    assert rows["molecule"].tolist() == judging.text(sample.x)
    solve = 2 * measuring.SOLVE["steps"] + (8 if trial["t"] else 0)  # midpoint's, and of the way to a warm start
    assert set(rows["count"]) == {(48 - solve) // 2}
    assert set(rows["evaluations"] + rows["vjps"]) == {48.0}
    assert table["property"].dropna().unique().tolist() == ["alpha", "gap"]
    assert rows["spread"].tolist() == [targets.SPREAD[name] for name in PROPERTIES]
    assert set(rows["atoms"]) == {6}


def test_unguided_molecules_are_solved_from_the_noise_of_the_others():
    table = measuring.measure(cell_of("source", "unguided"))
    assert set(table["evaluations"]) == {2.0 * measuring.SOLVE["steps"]}  # midpoint's
    assert table["status"].unique().tolist() == ["ok"]


def test_end_to_end_is_the_gradient_of_the_solve_that_makes_the_molecules():
    drawn = targets.draw(1, torch.Generator().manual_seed(0), PROPERTIES, 6)
    learned, loss = measuring.flow(6), drawn.loss(measuring.predictor("guide"))
    variant = molecules.DIAL["end_to_end"]
    x = drawn.x0.requires_grad_()
    grid = torch.linspace(0, 1, measuring.SOLVE["steps"] + 1, dtype=torch.float64)
    made = solvers.solve(learned, x, solvers.plan(measuring.SOLVE["solver"], learned.path, grid))
    (truth,) = torch.autograd.grad(loss(made).sum(), x)
    g = ESTIMATORS[variant.estimator](learned, loss, drawn.x0, torch.zeros(()), **dict(variant.options)).gradient
    assert torch.allclose(g, truth, rtol=1e-3, atol=1e-5 * float(truth.abs().max()))


def test_the_best_trials_of_the_least_budget_are_tried_again_at_a_larger_one(monkeypatch):
    """The score is replaced by the place of a trial among all, of which the third is best."""
    places = {}

    def score(self, sample, batch):
        value = torch.tensor([float(abs(places.setdefault(len(places), len(places)) - 2))])
        return {"error": value, "error_stable": value}

    monkeypatch.setattr(measuring.Score, "__call__", score)
    monkeypatch.setitem(measuring.REGIMES, "guidance", measuring.REGIMES["guidance"][:1])
    table = measuring.measure(cell_of("guidance", "greedy", budgets=(12, 24), trials=(5, 1)))
    table = table[table["setting"] == "guidance"]
    tuning = table[table["metric"] == "tuning"]
    assert tuning["budget"].tolist() == [12] * 5 + [24] * 2
    best = tuning["chosen"].iloc[2]
    assert set(table.loc[(table["metric"] == "error") & (table["budget"] == 12), "chosen"]) == {best}
    assert tuning["chosen"].iloc[5] == best
    assert tuning["value"].tolist() == [2, 1, 0, 1, 2, 3, 4]


def test_all_trials_are_made_again_at_a_larger_budget_where_all_diverged(monkeypatch):
    lost = torch.tensor([measuring.LOST])
    monkeypatch.setattr(measuring.Score, "__call__", lambda *_: {"error": lost, "error_stable": lost})
    table = measuring.measure(cell_of("guidance", "greedy", budgets=(6, 12), trials=(3, 1)))
    tuning = table[(table["metric"] == "tuning") & (table["setting"] == "guidance")]
    assert tuning["budget"].tolist() == [6] * 9 + [12] * 9  # of three rules
    assert set(tuning["status"]) == {"diverged"}


def rule_of(trial, setting):
    """The regime of a trial: the one whose optimiser or rule it has."""
    fits = [
        one
        for one in measuring.REGIMES[setting]
        if all(trial[name] in one.space[name] for name in ("rule", "optimiser") if name in one.space)
    ]
    assert len(fits) == 1
    return fits[0]


@pytest.mark.parametrize("setting", ["source", "late", "guidance", "controls"])
def test_every_setting_makes_molecules_and_says_whether_a_choice_is_at_an_end(setting):
    table = measuring.measure(cell_of(setting, "end_to_end", budgets=(120,), trials=(2,)))
    rows = table[(table["metric"] == "error") & (table["setting"] == setting)]
    assert len(rows) == 2
    trial = json.loads(rows["chosen"].iloc[0])
    assert set(rows["at_end_of_range"]) == {rule_of(trial, setting).near_end(trial)}
    tried = table.loc[(table["metric"] == "tuning") & (table["setting"] == setting), "chosen"]
    regimes = [rule_of(json.loads(one), setting) for one in tried]
    assert [regimes.count(one) for one in measuring.REGIMES[setting]] == [2] * len(measuring.REGIMES[setting])


def test_a_window_is_within_its_budget_and_spends_most_of_it():
    """Steps before the window are cheaper, so that one and two of them do not tell what many cost."""
    drawn = targets.draw(1, torch.Generator().manual_seed(0), PROPERTIES, 6)
    search, *_ = measuring.search_of(cell_of("guidance", "midpoint"), drawn).searches
    for start in (0.0, 0.3, 0.7):
        (one,) = search.tried([{"rule": "normalised", "scale": 0.1, "window": (start, 1.0)}], 96)
        cost = search.run(one.options, search.tuning).cost
        assert 0.6 * 96 <= cost.evaluations + cost.vjps <= 96


def test_options_that_leave_molecules_whole_are_chosen_from_the_same_trials():
    table = measuring.measure(cell_of("guidance", "greedy", budgets=(12, 24), trials=(3, 1)))
    tuning = table[table["metric"] == "tuning"]
    plain, whole = (tuning[tuning["setting"] == name] for name in ("guidance", "guidance_stable"))
    assert plain["chosen"].tolist() == whole["chosen"].tolist()
    assert (whole["value"].to_numpy() >= plain["value"].to_numpy() - 1e-6).all()
    for part in (plain, whole):
        least = part.loc[part["value"].idxmin()]
        rows = table[(table["metric"] == "error") & (table["setting"] == least["setting"])]
        assert set(rows.loc[rows["budget"] == 24, "chosen"]) == {least["chosen"]}


def test_the_controls_of_end_to_end_are_moved_by_the_adjoint_of_their_own_solve():
    drawn = targets.draw(1, torch.Generator().manual_seed(0), PROPERTIES, 6)
    for setting, name, gradient in (
        ("controls", "end_to_end", ADJOINT),
        ("controls", "midpoint", molecules.DIAL["midpoint"]),
        ("source", "end_to_end", molecules.DIAL["end_to_end"]),
    ):
        assert {one.estimator for one in measuring.search_of(cell_of(setting, name), drawn).searches} == {gradient}


def test_ranges_span_a_decade_or_more_and_rules_are_not_those_of_one_estimator():
    spaces = {name: [regime.space for regime in regimes] for name, regimes in measuring.REGIMES.items()}
    for name, option in (("source", "learning_rate"), ("controls", "learning_rate"), ("guidance", "scale")):
        assert all(space[option].high >= 100 * space[option].low for space in spaces[name])
    for name in ("source", "late"):
        assert {"adam", "lbfgs_line_search"} == {one for space in spaces[name] for one in space["optimiser"]}
    assert "normalised" in [space["rule"][0] for space in spaces["guidance"]]


def test_a_diverged_sample_counts_as_lost_and_has_a_status():
    cell = cell_of("source", "greedy")
    drawn = targets.draw(1, torch.Generator().manual_seed(0), PROPERTIES, 6)
    batch = measuring.TargetBatch(drawn, measuring.predictor("guide"))
    sample = Sample(drawn.x0, torch.zeros(2), None, torch.tensor([-1, 3]))
    score = measuring.Score(measuring.predictor("evaluator"))
    whole = replace(sample, failed_at=torch.tensor([-1, -1]))
    scale = measuring.predictor("evaluator").scale[drawn.index()]
    by_hand = judging.predicted_errors(drawn.x0, drawn, measuring.predictor("evaluator")) / scale
    assert float(score(whole, batch)["error"]) == pytest.approx(float(by_hand.mean()))
    assert float(score(sample, batch)["error"]) == pytest.approx((float(by_hand[0]) + measuring.LOST) / 2)
    rows = list(measuring._judged(drawn.x0, sample.failed, drawn, cell))
    assert {row["status"] for row in rows if row["order"] == 1} == {"diverged"}
    assert all(math.isnan(row["value"]) for row in rows if row["order"] == 1)
    assert {row["status"] for row in rows if row["order"] == 0} == {"ok"}


def test_a_broken_molecule_counts_as_no_better_than_the_best_constant(monkeypatch):
    """Errors and stability are given: a whole and a broken molecule err by nothing, another broken one by a lot."""
    drawn = targets.draw(3, torch.Generator().manual_seed(0), ("gap",), 6)
    batch, scale = measuring.TargetBatch(drawn, measuring.predictor("guide")), measuring.predictor("evaluator").scale[1]
    sample = Sample(drawn.x0, torch.zeros(3), None, torch.full((3,), -1))
    monkeypatch.setattr(judging, "predicted_errors", lambda *_: torch.tensor([0.0, 0.0, 2000.0]).double())
    whole = torch.tensor([[True] * 6, [True, False] * 3, [False] * 6])
    monkeypatch.setattr(measuring.chemistry, "stable_atoms", lambda atoms, position: whole)
    scored = measuring.Score(measuring.predictor("evaluator"))(sample, batch)
    assert float(scored["error"] * scale) == pytest.approx(2000 / 3)
    assert float(scored["error_stable"] * scale) == pytest.approx((targets.SPREAD["gap"] + 2000) / 3)
    assert measuring.search_of(cell_of("guidance", "greedy"), drawn).aims == ("error", "error_stable")
    assert measuring.search_of(cell_of("source", "greedy"), drawn).aims == ("error",)


def test_no_molecule_counts_for_more_than_a_lost_one(monkeypatch):
    drawn = targets.draw(1, torch.Generator().manual_seed(0), ("gap",), 6)
    batch = measuring.TargetBatch(drawn, measuring.predictor("guide"))
    monkeypatch.setattr(judging, "predicted_errors", lambda *_: torch.tensor([1e9]).double())
    sample = Sample(drawn.x0, torch.zeros(1), None, torch.tensor([-1]))
    assert float(measuring.Score(measuring.predictor("evaluator"))(sample, batch)["error"]) == measuring.LOST


def test_a_guide_without_a_number_for_one_molecule_loses_that_one_alone(monkeypatch):
    drawn = targets.draw(1, torch.Generator().manual_seed(0), PROPERTIES, 6)
    guide = measuring.predictor("guide")

    class Broken(torch.nn.Module):
        scale = guide.scale

        def forward(self, x):
            far = (x - drawn.x0[1]).flatten(1).norm(dim=1) < 1e-3
            return torch.where(far[:, None], math.nan, guide(x))

    loss = measuring.TargetBatch(drawn, Broken()).loss()
    sample = SAMPLERS["optimise_source"](
        measuring.flow(6), loss, drawn.x0, iterations=2, learning_rate=0.1, end="own", gradient="identity_jacobian"
    )
    assert sample.x.isfinite().all()
    assert loss(drawn.x0).tolist()[1] == math.inf


def test_a_molecule_at_which_the_gradient_overflows_is_not_moved():
    """The square root's gradient is infinite at zero, and times zero it is NaN."""
    drawn = targets.draw(1, torch.Generator().manual_seed(0), PROPERTIES, 6)
    guide = measuring.predictor("guide")

    class Overflowing(torch.nn.Module):
        scale = guide.scale

        def forward(self, x):
            return guide(torch.cat([x[:1], x[1:] + (0 * x[1:]).sqrt()]))

    x = drawn.x0.abs().requires_grad_()
    (gradient,) = torch.autograd.grad(measuring.TargetBatch(drawn, Overflowing()).loss()(x).sum(), x)
    (plain,) = torch.autograd.grad(drawn.loss(guide)(x).sum(), x)
    assert torch.equal(gradient[1], torch.zeros_like(x[1]))
    assert torch.allclose(gradient[0], plain[0])


def test_a_budget_of_less_than_one_step_is_said():
    table = measuring.measure(cell_of("source", "end_to_end", budgets=(41,)))
    assert table["status"].tolist() == ["not one step fits the budget"]

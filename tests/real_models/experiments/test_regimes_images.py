"""Restored digits in small, the statistics of a table made by hand, and the figures.

The truths are samplers called by hand, and a table in which misfit and PSNR follow the gradient's error with a chosen
sign, so that orders and correlations are known.
"""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.experiment import measure_cell
from analysis.guidance import SAMPLERS
from analysis.settings import Options
from figures import inverse_problems, regimes_images, source_images
from real_models.experiments import regimes_images as experiment
from real_models.restoration import by_optimiser, comparison, measure, methods
from real_models.restoration.digits import NAMES, restoration_metrics

CELLS = {(c.extra_dict["regime"], c.variants[0].estimator): c for c in experiment.cells(Options(quick=True))}
DIAL = ("greedy", "two_step_euler", "midpoint", "end_to_end")
ERRORS = dict(zip(DIAL, (0.6, 0.5, 0.3, 0.1), strict=True))
OPERATORS = NAMES[:3]


def synthetic(slope):
    """A table in which every outcome gets better by ``slope`` from one estimator of the dial to the next."""
    generator, rows = np.random.default_rng(0), []
    same = {"noise": 0.05, "at_end_of_range": False, "chosen": "{}", "count": 3, "status": "ok", "pixels": None}
    same |= {"evaluations": 2.0, "vjps": 1.0}
    for k, operator in enumerate(OPERATORS):
        for i, name in enumerate(DIAL):
            place = same | {"operator": operator, "regime": "source", "estimator": name}
            for budget in (96, 384):
                for aim in comparison.BETTER:
                    better = slope * i + (budget == 384)
                    outcomes = {"psnr": 20 + k + better, "misfit": 100.0 * (k + 1) * 2.0**-better, "label": 1.0}
                    for metric, value in outcomes.items():
                        row = place | {"budget": budget, "aim": aim, "metric": metric}
                        rows += [row | {"order": j, "value": value * (1 + 1e-3 * j)} for j in (-1, 0, 1)]
            error = place | {"regime": "errors", "metric": comparison.ERROR, "aim": None, "chosen": None}
            rows += [error | {"order": j, "value": ERRORS[name] * (1 + 0.1 * generator.random())} for j in range(4)]
    return pd.DataFrame(rows)


def with_larger(table):
    """The table with a larger budget on all operators but the last, at which end-to-end has a quarter of the misfit."""
    more = table[(table["budget"] == 384) & (table["operator"] != OPERATORS[-1])].assign(budget=1536)
    more.loc[(more["estimator"] == "end_to_end") & (more["metric"] == "misfit"), "value"] /= 4
    return pd.concat([table, more], ignore_index=True)


def tables_of(table):
    return {"regimes_images": table} | {f"regimes_images_{n}": part for n, part in comparison.derive(table).items()}


@pytest.fixture(scope="module")
def table():
    return pd.concat([measure_cell(cell) for cell in CELLS.values()], ignore_index=True)


@pytest.fixture(scope="module")
def full():
    table = synthetic(1.0)
    late = table[table["regime"] == "source"].assign(regime="source_late")
    return tables_of(pd.concat([table, late], ignore_index=True))


@pytest.mark.parametrize(("start", "t"), [("source", 0.0), ("source_late", 0.6)])
def test_a_row_is_what_the_sampler_gives_with_the_options_that_were_chosen(table, start, t):
    key = {"regime": start, "estimator": "end_to_end", "budget": 48, "aim": "psnr"}
    rows = table.loc[(table[list(key)] == pd.Series(key)).all(axis=1)]
    cell, trial = CELLS[start, "end_to_end"], json.loads(rows["chosen"].iloc[0])
    assert "t" not in trial
    _, reported = measure.batches(cell)
    regimes, estimator = by_optimiser.chosen(start, "end_to_end")
    assert {one.options["t"] for one in regimes.values()} == {t}
    options = regimes[trial["optimiser"]].call(trial, estimator, reported.problem.noise, int(rows["count"].iloc[0]))
    sample = SAMPLERS["optimise_source"](measure.flow_of(cell), reported.loss(), reported.x0, **options)
    assert sample.cost.evaluations + sample.cost.vjps <= 48
    for metric, values in restoration_metrics(reported, sample.x).items():
        assert rows.loc[rows["metric"] == metric, "value"].tolist() == pytest.approx(values.tolist())


def test_references_are_measured_and_the_clean_image_fits(table):
    means = table[table["regime"] == "references"].pivot_table(index="estimator", columns="metric", values="value")
    assert means.loc["clean", "misfit"] == pytest.approx(1, abs=0.5)
    assert np.isnan(means.loc["clean", "psnr"])
    assert means.loc["measurement", "misfit"] == pytest.approx(0, abs=1e-9)
    assert means.loc["unguided", "misfit"] > 10


def test_cells_repeat_and_another_seed_takes_other_images(table):
    cell = CELLS["published", "dps"]
    rows = table[table["estimator"] == "dps"]
    assert measure_cell(cell)["value"].tolist() == rows["value"].tolist()
    other = measure_cell(dataclasses.replace(cell, seed=1))
    assert set(other["image"]) != set(rows["image"])


def test_all_methods_of_a_regime_have_as_many_trials_and_all_the_same_images():
    cells = experiment.cells(Options())
    searched = [c for c in cells if c.extra_dict["regime"] not in ("references", "errors")]
    for regime in {c.extra_dict["regime"] for c in searched}:
        own = [c.extra_dict for c in searched if c.extra_dict["regime"] == regime]
        assert len({(one["trials"], one["kept"]) for one in own}) == 1
    assert len({c.extra_dict["tuning"] for c in searched}) == 1
    assert {c.extra_dict["operator"] for c in cells} == set(NAMES)
    assert len({c.key() for c in cells}) == len(cells)


@pytest.mark.parametrize("regime", experiment.ITERATED)
def test_end_to_end_has_a_hundred_iterations_where_these_are_needed(regime):
    for operator in experiment.LONGER:
        largest = experiment.cell(Options(), operator, regime, "end_to_end").extra_dict["budgets"][-1]
        assert largest >= 100 * 2 * methods.SOLVE  # an evaluation and a product in each step


def test_a_sample_that_diverges_is_a_row_that_names_the_step_and_has_no_value():
    cell = CELLS["guidance", "greedy"]
    _, reported = measure.batches(cell)
    x = reported.clean.clone()
    sample = measure.Sample(x, x.sum(1), measure.Cost(), torch.tensor([-1, 4]))
    rows = pd.DataFrame(list(measure._rows(sample, reported)))
    assert rows.loc[rows["order"] == 0, "status"].eq("ok").all()
    assert rows.loc[rows["order"] == 1, "status"].eq("diverged at step 4").all()
    assert rows.loc[rows["order"] == 1, "value"].isna().all()


def test_pigdm_says_why_it_cannot_run_on_a_nonlinear_measurement():
    rows = measure_cell(experiment.cell(Options(quick=True), "hdr_clipping", "published", "pigdm"))
    assert rows["status"].str.startswith("loss must be linear-Gaussian").all()
    found = comparison.derive(pd.concat([synthetic(1.0), rows], ignore_index=True))["facts"].iloc[0]
    assert (found["refused"], found["refused_on"]) == ("pigdm", 1)


def test_end_to_end_controls_are_the_exact_adjoint_and_others_estimators():
    assert methods.chosen("controls", "end_to_end")[1] == "adjoint"
    assert methods.chosen("controls", "greedy")[1] == methods.DIAL["greedy"]
    assert methods.chosen("published", "mgps")[0].draws


def test_a_method_is_shown_at_its_best_budget_and_one_at_which_most_fail_is_none():
    table = synthetic(1.0)
    best = comparison.derive(table)["best"]
    assert set(best["budget"]) == {384}
    lost = (table["budget"] == 384) & (table["order"] != 0)
    table.loc[lost, "value"] = np.nan
    assert set(comparison.derive(table)["best"]["budget"]) == {96}


def test_a_budget_that_only_some_operators_have_is_in_no_comparison_of_regimes():
    table = synthetic(-1.0)
    guided = table[table["regime"] == "source"].assign(regime="guidance")
    tables = comparison.derive(pd.concat([with_larger(table), guided], ignore_index=True))
    assert set(tables["best"]["budget"]) == {384}
    found = tables["budgets"].groupby("regime")
    assert found["budget"].unique().map(list).to_dict() == {"source": [96, 384, 1536], "guidance": [96, 384]}
    assert found["operators"].unique().map(list).to_dict() == {"source": [2], "guidance": [3]}


@pytest.mark.parametrize(
    ("ratios", "meets", "at"),
    [
        ((0.5, 0.4, 0.3), "meets", 96),
        ((2, 0.9, 0.3), "meets", 384),
        ((0.5, 2, 1), "meets", 1536),
        ((1, 1, 2), "never", None),
    ],
)
def test_end_to_end_meets_greedy_where_its_misfit_is_no_longer_larger(ratios, meets, at):
    ends = {f"over_greedy_{end}": ratios for end in ("mean", "low", "high")}
    none = pd.DataFrame(columns=["regime", "aim"])
    rows = pd.DataFrame({"budget": (96, 384, 1536), "over_greedy_operators": 4} | ends)
    found = comparison.source_facts(rows.assign(regime="source", estimator="end_to_end", aim="misfit"), none).iloc[0]
    assert (found["meets"], found.get("meets_at")) == (meets, at)
    assert (found["budget"], found["operators"], found["end_to_end_misfit"]) == (1536, 4, ratios[-1])
    late = comparison.source_facts(rows.assign(regime="source_late", estimator="end_to_end", aim="misfit"), none).iloc[
        0
    ]
    assert late.to_dict() == {f"late_{key}": value for key, value in found.items()}


@pytest.mark.parametrize(("slope", "order"), [(1.0, "end"), (-1.0, "greedy")])
def test_orders_and_correlations_have_the_sign_that_was_put_in(slope, order):
    tables = comparison.derive(synthetic(slope))
    facts, pools = tables["facts"].iloc[0], tables["pooled"].set_index(["aim", "estimator"])
    assert (facts["source_misfit_order"], facts["source_psnr_order"]) == (order, order)
    assert facts["source_misfit_rank"] == facts["source_psnr_rank"] == slope
    misfits = [max(1.0, 100.0 * (k + 1) * 2.0 ** -(1 + 3 * slope)) for k in range(3)]
    found = pools.loc[("misfit", "end_to_end"), "mean"]
    assert found == pytest.approx(np.exp(np.mean(np.log(misfits))), rel=1e-6)
    assert pools.loc[("psnr", "end_to_end"), "over_greedy_mean"] == pytest.approx(3 * slope)


def test_ranks_are_those_at_the_largest_budget_of_a_regime():
    table = with_larger(synthetic(-1.0))
    last = (table["budget"] == 1536) & (table["estimator"] == "end_to_end") & (table["metric"] == "misfit")
    table.loc[last, "value"] /= 16  # now the least, where greedy had it
    tables = comparison.derive(table)
    best = tables["correlation"].set_index(["regime", "aim"]).loc[("source", "misfit")]
    assert best[["operators", "mean"]].tolist() == [3, -1]
    facts = tables["source_facts"].iloc[0]
    assert facts["rank"] == pytest.approx(0.2)
    assert facts["rank_low"] == pytest.approx(facts["rank_high"])  # both operators are ordered alike


def test_no_order_is_stated_where_all_are_alike():
    facts = comparison.derive(synthetic(0.0))["facts"].iloc[0]
    assert facts["source_misfit_order"] is None
    assert "source_misfit_rank" not in facts


@pytest.mark.parametrize("figure", [inverse_problems, regimes_images, source_images])
@pytest.mark.parametrize("kind", ["quick", "full"])
def test_figures_draw_and_say_numbers(figure, kind, table, full):
    tables = tables_of(table) if kind == "quick" else full
    if kind == "full":
        pixels = np.where(tables["regimes_images"]["metric"] == "misfit", "7f" * 784, None)
        tables = tables | {"regimes_images": tables["regimes_images"].assign(pixels=pixels)}
    answer = figure.answer(tables)
    assert any(letter.isdigit() for letter in answer)
    assert "nan" not in answer
    figure.draw(tables)


def test_the_latex_tables_have_a_row_per_method(full):
    text = regimes_images.latex(full)["regimes_images_psnr"]
    assert text.count("source optimisation") == text.count("source, late start") == len(DIAL)
    assert r"\toprule" in text

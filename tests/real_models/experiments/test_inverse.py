"""The experiment on restored digits in small, its derived tables, and its figures.

The truths are tables made by hand, in which PSNR follows accuracy with a chosen sign, so that the correlation is known;
and a run of the restoring code with a recorded budget.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.experiment import measure_cell, split_timings
from analysis.settings import Options
from figures import inverse_problems, inverse_table
from real_models.experiments import inverse
from real_models.restoration import comparison
from real_models.restoration.accuracy import DIAL, TIMES
from real_models.restoration.digits import NAMES

QUICK = inverse.cells(Options(quick=True))
ERRORS = dict(zip(DIAL, (0.6, 0.5, 0.3, 0.2, 0.1, 0.05), strict=True))  # the further rung has the better gradient


def synthetic(slope, images=6, operators=NAMES[-2:]):
    """A full table in which PSNR rises by ``slope`` dB from rung to rung, and one method cannot run."""
    generator, rows = np.random.default_rng(0), []
    same = {"noise": 0.05, "budget": 96, "steps": 3, "evaluations": 2.0, "vjps": 1.0, "options": "{}"}
    for operator in operators:
        for name in (*inverse.REFERENCES, *inverse.ALL):
            rung = list(DIAL).index(name.removesuffix("_equal")) if name.removesuffix("_equal") in DIAL else 0
            family = inverse.ALL[name].family if name in inverse.ALL else "seen"
            lost = name == "pigdm"
            place = {"operator": operator, "estimator": name, "family": family, "failed_at": -1, "t": None}
            place |= {"status": "loss must be linear-Gaussian" if lost else "ok"}
            for metric in ("misfit", "label") if name == "clean" else inverse.METRICS:
                level = {"psnr": 20 + slope * rung, "ssim": 0.8, "misfit": 1.0}.get(metric, 1.0)
                for i in range(images):
                    value = np.nan if lost else level + 0.1 * generator.random() * (metric != "label")
                    pixels = "7f" * 784 if metric == "misfit" else None
                    rows.append(same | place | {"metric": metric, "order": i, "value": value, "pixels": pixels})
        for (rung, error), i, t in ((pair, i, t) for pair in ERRORS.items() for i in range(2) for t in TIMES):
            place = {"operator": operator, "estimator": rung, "family": "dial", "metric": comparison.ACCURACY}
            place |= {"order": i, "value": error * (1 + 0.1 * generator.random()), "t": t, "status": "ok"}
            rows.append(same | place | {"failed_at": -1, "pixels": None})
    return pd.DataFrame(rows)


def tables_of(table):
    return {"inverse": table} | {f"inverse_{name}": part for name, part in comparison.derive(table).items()}


@pytest.fixture(scope="module")
def table():
    return pd.concat([measure_cell(cell) for cell in QUICK], ignore_index=True)


@pytest.fixture(scope="module")
def full():
    return tables_of(synthetic(1.0))


def test_rows_are_per_image_and_metric_with_what_it_took(table):
    sizes = table.groupby("estimator").size()
    assert sizes.to_dict() == {"clean": 4} | dict.fromkeys(("measurement", "unguided", "greedy", "dps"), 10)
    greedy = table[table["estimator"] == "greedy"].iloc[0]
    assert (greedy["steps"], greedy["evaluations"], greedy["vjps"]) == (5, 10, 5)
    assert '"scale"' in greedy["options"]
    assert table["pixels"].notna().sum() == 2 * table["estimator"].nunique()
    parts = split_timings(table)
    assert "seconds" not in parts[""]


def test_guidance_helps_and_the_clean_image_fits(table):
    means = table.pivot_table(index="estimator", columns="metric", values="value")
    assert means.loc["greedy", "psnr"] > means.loc["unguided", "psnr"] + 1
    assert means.loc["greedy", "misfit"] < means.loc["unguided", "misfit"] / 2
    assert means.loc["clean", "misfit"] == pytest.approx(1, abs=0.5)


def test_cells_repeat_and_another_seed_takes_other_images(table):
    cell = next(c for c in QUICK if c.variants[0].estimator == "measurement")
    rows = table[table["estimator"] == "measurement"]
    assert measure_cell(cell)["value"].tolist() == rows["value"].tolist()
    other = measure_cell(dataclasses.replace(cell, seed=1))
    assert set(other["image"]) != set(rows["image"])


def test_a_sample_that_diverges_is_a_row_that_names_the_step(monkeypatch):
    greedy = inverse.ALL["greedy"]
    wild = dataclasses.replace(greedy, options=greedy.options | {"scale": 1e6}, tuned=None)
    monkeypatch.setitem(inverse.ALL, "greedy", wild)
    rows = measure_cell(next(c for c in QUICK if c.variants[0].estimator == "greedy"))
    assert rows["value"].isna().all()
    assert set(rows["status"]) == {"diverged at step 0"}
    assert set(rows["failed_at"]) == {0}


def test_pigdm_says_why_it_cannot_run_on_a_nonlinear_measurement():
    cell = inverse.cell(Options(quick=True), "hdr_clipping", "pigdm")
    rows = measure_cell(cell)
    assert rows["value"].isna().all()
    assert rows["status"].str.startswith("loss must be linear-Gaussian").all()


def test_the_full_run_has_every_method_on_every_operator():
    cells = inverse.cells(Options())
    places = {(c.extra_dict["operator"], c.variants[0].estimator) for c in cells}
    assert places == {(o, n) for o in NAMES for n in (*inverse.REFERENCES, *inverse.ALL)}
    assert len({c.key() for c in cells}) == len(cells)


@pytest.mark.parametrize(("slope", "expected"), [(1.0, 1.0), (-1.0, -1.0)])
def test_the_order_by_accuracy_is_compared_with_that_by_psnr(slope, expected):
    ranks = comparison.ranks(synthetic(slope))
    assert set(ranks["operator"]) == {*NAMES[-2:], "all"}
    assert ranks["spearman"].tolist() == pytest.approx([expected] * len(ranks))
    assert (ranks["low"] <= ranks["spearman"] + 1e-12).all()
    assert (ranks["high"] >= ranks["spearman"] - 1e-12).all()


def test_orders_that_noise_decides_have_wide_intervals():
    ranks = comparison.ranks(synthetic(0.0))
    one = ranks[ranks["operator"] != "all"]
    assert (one["high"] - one["low"] > 0.3).all()


def test_differences_are_paired_with_greedy_of_the_same_steps_and_failures_counted(full):
    paired = full["inverse_paired"].query("metric == 'psnr' and operator == 'hdr_clipping'").set_index("estimator")
    assert paired.loc["midpoint", "mean"] == pytest.approx(2, abs=0.1)
    assert paired.loc["midpoint_equal", "against"] == "greedy_equal"
    assert paired.loc["greedy_equal", ["mean", "low", "high"]].tolist() == [0, 0, 0]
    assert paired.loc["pigdm", "failed"] == 6
    printed = full["inverse_paper"].set_index(["metric", "estimator"])
    assert printed.loc[("psnr", "pigdm"), "hdr_clipping"].endswith("6 failed")
    dial = full["inverse_dial"].query("family == 'dial' and estimator == 'dto'")
    assert dial["error"].tolist() == pytest.approx([0.0525] * 2, rel=0.06)


@pytest.mark.parametrize("figure", [inverse_problems, inverse_table])
@pytest.mark.parametrize("kind", ["quick", "full"])
def test_figures_draw_and_say_numbers(figure, kind, table, full):
    tables = tables_of(table) if kind == "quick" else full
    answer = figure.answer(tables)
    assert any(letter.isdigit() for letter in answer)
    assert "nan" not in answer
    figure.draw(tables)


def test_captions_name_what_cannot_run(full):
    answer = inverse_table.answer(full)
    assert "ΠGDM cannot run on 2 operators." in answer
    assert "is 1.00 [1.00, 1.00] under one budget" in answer


def test_the_facts_count_what_leaves_zero_out(full):
    facts = full["inverse_facts"].to_dict("records")[0]
    paired = full["inverse_paired"].query("metric == 'psnr' and family != 'equal_steps'")
    paired = paired[~paired["estimator"].isin(["greedy", "clean", "measurement"]) & paired["mean"].notna()]
    better, worse = (paired["low"] > 0).sum(), (paired["high"] < 0).sum()
    assert (facts["better"], facts["worse"]) == (better, worse)
    assert (facts["refused"], facts["refused_on"]) == ("pigdm", 2)  # the nonlinear ones
    centred = full["inverse_dial"].groupby(["operator", "family"])["psnr_less_mean"].mean()
    assert centred.abs().max() < 1e-12

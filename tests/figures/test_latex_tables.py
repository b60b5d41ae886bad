"""The LaTeX tables of the figures. The truths are rules of LaTeX, and cells of the tables that they are made from."""

import importlib
import re

import pytest

from analysis import figure_files
from analysis.provenance import ROOT
from analysis.tables import only
from figures import adaptive, estimators, regimes, which_gradient
from figures.style import latex, names
from tests.support.tables import tables_of

PUBLISHED = ROOT / "figures" / "published"
MODULES = [importlib.import_module(f"figures.{path.stem}") for path in sorted((ROOT / "figures").glob("[a-z]*.py"))]
MADE = [module for module in MODULES if hasattr(module, "latex")]


def body(text):
    """Return the rows of a table as lists of cells."""
    rows = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)&", row.removesuffix(r"\\"))] for row in rows]


def published(module):
    return figure_files.read(PUBLISHED, module.__name__)[1]


def test_figures_that_a_paper_would_cite_have_tables():
    assert {estimators, adaptive, regimes, which_gradient} < set(MADE)


@pytest.mark.parametrize("kind", ["quick", "published"])
@pytest.mark.parametrize("module", MADE, ids=lambda module: module.__name__)
def test_a_table_is_whole_and_has_no_plain_text_mathematics(module, kind):
    if kind == "published" and not all((PUBLISHED / "tables" / f"{name}.parquet").exists() for name in module.TABLES):
        pytest.skip("its tables are not published")
    for name, text in module.latex(tables_of(module) if kind == "quick" else published(module)).items():
        assert [text.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 1, 1]
        assert text.count("{") == text.count("}")
        columns = re.search(r"\\begin\{tabular\}\{(.*)\}\n", text)[1]
        wide = len(re.sub(r"\{.*?\}", "", columns))
        assert {len(row) for row in body(text)} == {wide}
        assert not re.search(r"\bnan\b|\binf\b|\de[-+]\d|(?<!\d)-\d", re.sub(r"\$[^$]*\$", "", text)), name
        assert not re.search(r"(?<!\\)[_#^]", re.sub(r"\$[^$]*\$|\\label\{.*\}", "", text)), name


def test_every_estimator_has_its_errors_quartiles_and_cost_in_the_order_of_the_figure():
    tables = tables_of(estimators)
    rows = body(estimators.latex(tables)["estimators"])
    chosen = only(tables["estimators_chosen"], against=estimators.IDEAL, metric="relative_error").sort_values("value")
    assert [row[0] for row in rows] == [
        names.method(*key).replace("Π", r"$\Pi$") for key in zip(chosen["estimator"], chosen["solver"], strict=True)
    ]
    first = chosen.iloc[0]
    assert rows[0][1].startswith(rf"\shortstack{{{first['value']:.2g} \\ {{\scriptsize [{first['low']:.2g}, ")
    assert rows[0][4:] == [f"{first['evaluations']:.0f}", f"{first['vjps']:.0f}", f"{first['bytes'] / 1e6:.2f}"]


def test_adaptive_stands_beside_fixed_steps_at_every_tolerance():
    tables = published(adaptive)
    rows = body(adaptive.latex(tables)["adaptive"])
    pooled = only(tables["adaptive_summary"], problem="all")
    assert len(rows) == len(pooled) == 3 * pooled["tolerance"].nunique()
    assert ["0.01", "fixed, in t", "", "--", "--", "--", "--"] in rows
    row = only(pooled, estimator="adaptive", tolerance=0.1).iloc[0]
    numbers = [f"{row['within']:.3f}", f"{row['error_95']:.2g}", f"{row['evaluations']:.0f}", f"{row['vjps']:.0f}"]
    assert ["0.1", "adaptive", "", *numbers] in rows


def test_regimes_have_the_first_the_middle_and_the_last_budget_and_one_best_in_each():
    texts = regimes.latex(published(regimes))
    assert list(texts) == ["regimes_misfit", "regimes_energy_distance"]
    for text in texts.values():
        assert "& 48 & 384 & 3072" in text
        assert text.count(r"\textbf{") == 5 * 3
        assert "[" in body(text)[0][2]


def test_an_estimator_that_mostly_diverged_is_marked_and_is_never_best():
    tables = tables_of(regimes)
    summary = tables["regimes_summary"]
    summary.loc[summary["estimator"] == "greedy", ["failed", "mean"]] = 0.5, 1e-9
    for text in regimes.latex(tables).values():
        cells = [cell for row in body(text) if row[1] == "greedy" for cell in row[2:] if cell]
        assert len(cells) == 4
        assert all(cell == r"10$^{-9}$$^*$" for cell in cells)


def test_recommendations_have_a_row_per_outcome_and_budget_and_a_column_per_regime():
    texts = which_gradient.latex(published(which_gradient))
    chosen = published(which_gradient)["which_gradient_recommended"]
    rows = body(texts["which_gradient"])
    assert len(rows) == chosen["budget"].nunique() * chosen["aim"].nunique()
    first = {
        regime: only(chosen, regime=regime, aim="misfit", budget=48.0).iloc[0]
        for regime in names.REGIMES
        if regime != "source_own"
    }
    for cell, row in zip(rows[0][2:], first.values(), strict=True):
        assert names.sampler(row["estimator"]) in cell
        assert (f"{row['mean']:.2f}" in cell) == (row["estimator"] != "greedy")


def test_correlations_of_errors_and_outcomes_have_a_table_where_there_are_any():
    tables = published(which_gradient)
    rows = body(which_gradient.latex(tables)["which_gradient_correlation"])
    assert len(rows) == 4
    row = only(tables["which_gradient_correlation"], regime="source", aim="misfit", truth="score").iloc[0]
    shown = [latex.number(row[end], ".2f") for end in ("mean", "low", "high")]
    assert rf"{shown[0]} \\ {{\scriptsize [{shown[1]}, {shown[2]}]}}" in rows[1][4]
    empty = tables | {"which_gradient_correlation": tables["which_gradient_correlation"].iloc[:0]}
    assert list(which_gradient.latex(empty)) == ["which_gradient"]

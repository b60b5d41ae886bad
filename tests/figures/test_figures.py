"""Every figure, from the tables of a quick run. The truth is the rules of the room, read from source and result.

A figure declares what it needs, computes no statistics, imports no other figure, says at most 90 words, states facts
that its experiment derives, and draws panels that have data, also where a method or a problem is missing.
"""

import ast
import importlib

import pytest
from matplotlib.text import Text

from analysis import figure_files
from analysis.provenance import ROOT
from figures import style
from tests.support.legends import alike
from tests.support.tables import tables_of

NAMES = sorted(path.stem for path in (ROOT / "figures").glob("*.py") if path.stem != "__init__")
PUBLISHED = ROOT / "figures" / "published"
WORDS, HEADLINE, POINTS = 90, 20, 7
STATISTICS = {"agg", "corr", "cummin", "groupby", "idxmax", "idxmin", "median", "pivot_table", "polyfit", "quantile"}
STATISTICS |= {"rank", "spearmanr", "std", "transform", "var"}
# What a quick run has too few numbers for; ``test_facts`` and the experiments' own tests have tables for them.
NOT_IN_QUICK = {
    "adaptive": {"ratio_high", "ratio_low"},
    "audit_error": {"close_t"},
    "claims": {"fails_ids"},
    "convergence": {"declared", "path", "refused", "slope", "solver"},
    "dial": {f"{truth}{part}" for truth in ("ideal", "score") for part in ("", "_low", "_high")} | {"score_pays"},
    "gpu_cost": {"full"},
    "greedy_shrinks": {"failed"},
    "learning_vs_discretisation": {"below_high", "below_low", "last_t", "learning_last"},
    "molecule_gradients": {
        "end_to_end",
        "end_to_end_cosine",
        "farthest",
        "slope",
        "slope_high",
        "slope_low",
        "turned_float64",
        "wild",
    },
    "molecules_compute": {"best_stable", "evaluator_end", "evaluator_greedy", "least_stable"},
    "molecules_gallery": {"stable_atoms_end_to_end"},
    "molecules_judges": {f"{judge}_{part}" for judge in ("xtb", "dft") for part in ("order", "pairs")}
    | {f"{judge}_ratio_all" for judge in ("evaluator", "guide", "xtb")}
    | {"judged", "unjudged"},
    "molecules_settings": {
        f"{setting}_{order}" for setting in ("late", "guidance", "controls") for order in ("order", "xtb_order")
    },
    "molecules_table": {f"evaluator_{part}" for part in ("end", "greedy", "order", "ratio_alpha")}
    | {"guidance_order", "guidance_stable_order"},
    "outcome_vs_compute": {"better", "diverged", "further", "pays", "worse"},
    "posterior_gallery": {"guided_high", "guided_low"},
    "posterior_table": {"lost", "path_pairs", "same_order"},
    "real_flow": {"euler", "greedy", "midpoint", "practical", "rk4"},
    "regimes": {"guidance_energy_distance_end_to_end"},
    "regimes_images": {"guidance_psnr_end_to_end", "guidance_psnr_order"},
    "regimes_elsewhere": {
        f"{place}_{what}{end}"
        for place in ("noise_0_03", "noise_0_3", "mnist")
        for what in ("guidance_energy_distance", "source_misfit")
        for end in ("", "_low", "_high")
    },
    "source_mixtures": {"mnist_budget"}
    | {
        f"mnist_{aim}_end_to_end_over_{end}" for aim in ("misfit", "energy_distance") for end in ("mean", "low", "high")
    },
    "source_images": {"two_step_euler_misfit", "two_step_euler_psnr"},
    "superconvergence": {"refused"},
    "which_gradient": {f"{regime}_greedy_mean" for regime in ("guidance", "steps", "controls", "source", "source_late")}
    | {"source_greedy_low", "source_greedy_high"},
}


def _module(name):
    return importlib.import_module(f"figures.{name}")


@pytest.fixture(params=NAMES)
def figure(request):
    return _module(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_imports_no_other_and_computes_no_statistics(name):
    for node in ast.walk(ast.parse((ROOT / "figures" / f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module != "figures" or {alias.name for alias in node.names} == {"style"}
            assert node.module in ("figures", "figures.style") or not node.module.startswith("figures.")
            assert node.module.split(".")[0] not in ("torch", "toy_models", "real_models", "scipy")
        if isinstance(node, ast.Attribute):
            assert node.attr not in STATISTICS, f"line {node.lineno}: {node.attr}"


def test_a_figure_declares_its_tables_question_caption_and_drawing(figure):
    assert figure.TABLES
    assert figure.QUESTION.endswith("?")
    assert isinstance(figure.answer, style.Caption)
    assert callable(figure.draw)


def test_a_caption_is_short_and_has_its_numbers(figure):
    text = figure.answer(tables_of(figure))
    assert len(f"{figure_files.QUICK}{figure.QUESTION} {text}".split()) <= WORDS  # the tables are of a quick run
    assert not any(word in text for word in ("nan", "None", "{", "}", "-0 ", "e-0"))
    headline = figure.answer.headline(tables_of(figure))
    assert text.startswith(headline)
    assert 0 < len(headline.split()) <= HEADLINE


def test_the_facts_of_a_caption_are_columns_that_the_experiment_derives(figure):
    columns = {column for name, table in tables_of(figure).items() if name.endswith("_facts") for column in table}
    assert figure.answer.fields - columns == NOT_IN_QUICK.get(figure.__name__.removeprefix("figures."), set())


def test_a_figure_fits_the_page_with_legible_text_and_panels_that_all_have_data(figure):
    drawn = figure.draw(tables_of(figure))
    drawn.canvas.draw()
    width, height = drawn.get_size_inches()
    assert width == style.TEXT_WIDTH
    assert height <= style.PAGE_HEIGHT
    texts = [text for text in drawn.findobj(Text) if text.get_text().strip()]
    assert min(text.get_fontsize() for text in texts) >= POINTS
    assert alike(drawn) == []
    if figure.__name__ != "figures.claims":  # whose first and last panels hold text
        assert all(ax.has_data() for ax in drawn.axes if ax.get_label() != "<colorbar>")


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_of_published_tables_has_a_short_caption_and_entries_that_look_different(name):
    if not all((PUBLISHED / "tables" / f"{table}.parquet").exists() for table in _module(name).TABLES):
        pytest.skip("its tables are not published")
    figure, tables, _ = figure_files.read(PUBLISHED, f"figures.{name}")
    assert len(f"{figure.QUESTION} {figure.answer(tables)}".split()) <= WORDS
    drawn = figure.draw(tables)
    assert alike(drawn) == []
    drawn.canvas.draw()
    edges = [edge for legend in drawn.legends for edge in legend.get_window_extent().intervalx]
    assert not edges or (min(edges) >= 0 and max(edges) <= drawn.bbox.width)


@pytest.mark.parametrize("columns", [("estimator", "solver", "steps"), ("operator", "problem", "path", "bound")])
def test_a_figure_draws_where_the_last_of_several_is_missing(figure, columns):
    tables = tables_of(figure)
    several = ((c, t[c].dropna().unique()) for c in columns for t in tables.values() if c in t and t[c].nunique() > 1)
    column, values = next(several, (None, ()))
    if column is None:
        pytest.skip("the quick tables have one of each")
    left = {n: t[t[column] != values[-1]].copy() if column in t else t for n, t in tables.items()}
    assert figure.draw(left).axes

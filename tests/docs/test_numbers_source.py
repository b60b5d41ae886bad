"""Numbers on the optimised source that the pages state. The truth is the published tables, as in ``test_numbers``."""

import numpy as np
import pytest

from analysis.tables import only
from tests.docs.published import TABLE_1, WORDS, learned, missing, percent, spread, table
from tests.docs.test_numbers import ADVICE, AIMS, DIAL, PAGE
from toy_models.experiments import regime_tables


def ways():
    """The nearest samples of greedy per step and of an optimised source."""
    rows = only(table("regimes_summary"), metric="energy_distance", aim="energy_distance", **regime_tables.MAIN)
    means = rows.set_index(["regime", "estimator", "budget"])["mean"].sort_index()
    yield f"its distance at 48 is {means['guidance', 'greedy', 48]:.2f}"
    source, late, controls = (means[name].xs(3072, level="budget") for name in ("source", "source_late", "controls"))
    assert (source.idxmin(), means.idxmin()[:2]) == ("end_to_end", ("guidance", "greedy"))
    assert means["steps"].idxmin()[1] == 1536
    yield f"The best with an optimiser per step is {means['steps'].min():.2f} too, for 1,536"
    yield f"has {source.min():.2f} at 3,072, from t = 0 by end-to-end, the best controls have {controls.min():.2f}"
    yield f"and the best late start {late.min():.2f}"


def mnist():
    """End-to-end in the source on MNIST, nearest of all gradients."""
    row = table("source_mixtures_facts").iloc[0]
    yield f"its distance is {spread(row, 'mnist_energy_distance_end_to_end_over', '_mean')} of greedy's"
    assert min(DIAL, key=lambda name: row[f"mnist_energy_distance_{name}_over_mean"]) == "end_to_end"


def source():
    """The dial in source optimisation beside the paper's table 1: rows of outcomes over greedy's, by start."""
    row, paper = table("source_mixtures_facts").iloc[0], {k: np.array(v) for k, v in TABLE_1.items()}
    images = learned("source", "misfit").query("budget == budget.max()").set_index("estimator")
    for name in DIAL:
        places = [f"{problem}_{aim}_{name}_over" for problem in ("digits", "mnist") for aim in AIMS]
        image = spread(images.loc[name], "over_greedy", "_mean") if name in images.index else ""
        theirs = f"{np.exp(np.log(paper[name] / paper['greedy']).mean()):.2f}" if name in paper else ""
        ours = [spread(row, p, "_mean") if f"{p}_mean" in row.index else "" for p in places]
        yield f"| {WORDS[name]} | {' | '.join([*ours, image, theirs])} |"
        late = [f"{problem}_late_{aim}_{name}_over" for problem in ("digits", "mnist") for aim in AIMS]
        yield f"| {WORDS[name]} | {' | '.join(spread(row, p, '_mean') for p in late)} |"


def sources():
    """From which budget on end-to-end meets greedy in source optimisation, and outcomes on the way."""
    row = table("source_mixtures_facts").iloc[0]
    (first,) = {row[f"{problem}_{aim}_from"] for problem in ("digits", "mnist") for aim in AIMS}
    yield f"from {first:.0f} on, in misfit and in distance, on the digits and on MNIST"
    ends = [row[f"digits_energy_distance_seeds_{end}"] for end in ("low", "high")]
    yield f"With one seed its distance is {ends[0]:.2f} of greedy's, and with the other {ends[1]:.2f}"
    yield f"L-BFGS was chosen in {percent(row['line_search'])} of the cases"
    rows = table("source_mixtures_summary").query("problem == 'digits' and budget == 3072 and metric == aim")
    best = rows.groupby(["metric", "regime"])["mean"].min()
    near = best["energy_distance"]
    yield f"the best distance is {near['source']:.2f} from t = 0 and {near['source_late']:.2f} from the late start"
    assert best["misfit"]["source_late"] < best["misfit"]["source"]
    yield f"In {percent(row['at_end_of_range'])} of the cases the rate was near an end"
    floored = [spread(row, f"{problem}_floored", "_mean") for problem in ("digits", "mnist")]
    yield f"{floored[0]} of greedy's on the digits and {floored[1]} on MNIST"
    place = {"regime": "source", "budget": 1536, "aim": "misfit", "metric": "misfit", **regime_tables.MAIN}
    means = only(table("source_mixtures_summary"), **place).set_index("estimator")["mean"]
    said = [f"{means[name]:.2g} for {word}" for name, word in WORDS.items()]
    yield f"{', '.join(said[:-1])} and {said[-1]}"


def own():
    """Distances of samples that are the gradients' own endpoints."""
    rows = only(table("regimes_summary"), regime="source_own", budget=768, **regime_tables.MAIN).query("metric == aim")
    means = rows.set_index(["aim", "estimator"])["mean"]
    near = means["energy_distance"]
    assert (near.idxmin(), means["misfit"].idxmin(), means["misfit"].max() < 1) == ("greedy", "greedy", True)
    yield f"at a distance of {near['greedy']:.2f} (end-to-end's: {near['end_to_end']:.2f};"


def ties():
    """Which misfits from the late start do not tie."""
    place = {"regime": "source_late", "budget": 3072, "aim": "misfit", "metric": "misfit", **regime_tables.MAIN}
    medians = only(table("regimes"), **place).groupby(["operator", "estimator"])["value"].median().unstack()
    above = medians > 1
    assert not above.drop(columns="greedy").any(axis=None)
    yield f"only greedy's is above 1, on {above['greedy'].sum()} of {len(above)} operators"


@pytest.mark.parametrize("kind", [ways, mnist], ids=lambda kind: kind.__name__)
def test_the_advice_states_the_published_numbers_of_the_source(kind):
    assert missing(ADVICE, kind()) == []


@pytest.mark.parametrize("kind", [source, sources, own, ties], ids=lambda kind: kind.__name__)
def test_the_page_of_regimes_states_the_published_numbers_of_the_source(kind):
    assert missing(PAGE, kind()) == []

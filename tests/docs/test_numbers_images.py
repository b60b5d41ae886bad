"""Numbers that the pages state of restored digits with the learned flow. The truth is the published tables."""

import json

import pytest

from analysis.tables import only
from real_models.restoration import by_optimiser
from tests.docs.published import PLACES, learned, missing, percent, spread, table

OTHERS = ("two_step_euler", "midpoint", "end_to_end", "adaptive")


def restored():
    """The dial with the learned flow by regime: rows of PSNR and of misfits, each gradient at its best budget."""
    for aim, digits in (("psnr", ".1f"), ("misfit", ".2f")):
        for regime, place in PLACES.items():
            rows = learned(regime, aim, "pooled").set_index("estimator")
            others = [spread(rows.loc[name], "over_greedy", "_mean") for name in OTHERS]
            yield f"| {place} | {rows.loc['greedy', 'mean']:{digits}} | {' | '.join(others)} |"


def restored_with_care():
    """What the page says of restored digits beside their tables: fits, samples that diverged, choices and costs."""
    row = table("regimes_images_facts").iloc[0]
    fits = [spread(table("regimes_images_source_facts").iloc[0], "rank"), spread(row, "guidance_misfit_rank")]
    yield f"rank correlation with the misfit is {fits[0]} in the source from t = 0, at 1,536, and {fits[1]} per step"
    best = table("regimes_images_best")
    tuned = best[(best["aim"] == "misfit") & (best["metric"] == "misfit") & (best["estimator"] == "greedy")]
    medians = tuned.loc[tuned["regime"] == "steps", "median"]
    assert ((medians < 1).sum(), (medians < 0.1).sum(), len(medians)) == (8, 5, 8)
    published = learned("published", "psnr", "pooled").set_index("estimator")["mean"]
    yield f"{published['dps']:.1f} dB, MGPS {published['mgps']:.1f}, and ΠGDM {published['pigdm']:.1f} on the six"
    whole = best[(best["aim"] == "psnr") & (best["metric"] == "psnr")]
    by_operator = whole.pivot(index="operator", columns=["regime", "estimator"], values="median")
    linear = by_operator[by_operator["published", "pigdm"].notna()]
    assert len(linear) == 6
    yield f"linear operators, where greedy has {linear['guidance', 'greedy'].mean():.1f}"


def restored_searches():
    """Samples that diverged, and what the searches chose."""
    samples = table("regimes_images").query("metric == 'psnr' and chosen.notna()")
    lost = samples[samples["value"].isna()].groupby(["regime", "estimator"]).size()
    yield f"{lost.sum()} of {len(samples):,} samples diverged"
    choices = samples.drop_duplicates(["operator", "regime", "estimator", "budget", "aim"])
    ends = choices["at_end_of_range"].astype(bool)
    yield f"{ends.sum()} of {len(choices)} choices ({percent(ends.mean())}) lie at an end of a range"
    weights = choices["chosen"].map(json.loads).map(lambda one: one.get("prior", one.get("weight")))
    weighty = weights.eq(max(by_optimiser.WEIGHTS)).groupby(choices["regime"]).mean()
    shares = [percent(weighty[name]) for name in (*by_optimiser.STARTS, "controls")]
    yield f"The largest weight was chosen in {shares[0]} of the cases from t = 0, {shares[1]} from the late start and"
    yield f"{shares[2]} in controls"
    greedy = only(choices, regime="controls", estimator="greedy")["chosen"].map(json.loads)
    sgd = sum(one["optimiser"] == "sgd" for one in greedy)
    yield f"SGD was chosen in {sgd} of greedy's {len(greedy)} cases"
    steps = choices.query("estimator == 'adaptive' and regime == 'guidance'").groupby("budget")["count"].median()
    yield f"{steps[96]:.0f} steps at 96 and {steps[384]:.0f} at 384"


def test_what_is_better_than_greedy_by_its_interval():
    rows = table("regimes_images_budgets").query("regime != 'published' and estimator != 'greedy'")
    better = rows.query("(aim == 'misfit' and over_greedy_high < 1) or (aim == 'psnr' and over_greedy_low > 0)")
    assert {*better["regime"]} == {"source"}
    assert {*better.query("aim == 'misfit' and budget == 1536")["estimator"]} == {*OTHERS}
    fits = only(table("regimes_images_best"), regime="source", aim="misfit", metric="misfit")
    ahead = fits.loc[fits.groupby("operator")["median"].idxmin()].set_index("operator")["estimator"]
    assert list(ahead.index[ahead == "greedy"]) == ["hdr_clipping"]
    images = table("regimes_images_best").query("metric == 'psnr' and aim == 'psnr'")
    assert "source" not in {*images.loc[images.groupby("operator")["median"].idxmax(), "regime"]}


def restored_sources():
    """The source of the learned flow beside the table of source optimisation."""
    row = table("regimes_images_source_facts").iloc[0]
    assert (row["budget"], row["operators"], row["late_budget"], row["late_operators"]) == (1536, 4, 384, 8)
    gains = [f"{spread(row, f'{name}_psnr')} dB" for name in OTHERS]
    yield f"two Euler steps' PSNR less greedy's is {gains[0]}, one midpoint step's {gains[1]}, end-to-end's {gains[2]}"
    yield f"adaptive's misfit is {spread(row, 'adaptive_misfit')} of greedy's"
    fits = learned("source", "misfit", "pooled").set_index("estimator")
    names = ("end_to_end", "two_step_euler")
    yield " and two Euler steps' ".join(spread(fits.loc[name], "over_greedy", "_mean") for name in names)
    best = only(table("regimes_images_best"), regime="source", estimator="end_to_end", budget=384)
    yield f"At 384 it has {best['count'].max():.0f}"
    late = [spread(row, f"late_end_to_end_{aim}") for aim in ("misfit", "psnr")]
    yield f"end-to-end's misfit is {late[0]} of greedy's, and its PSNR less greedy's {late[1]} dB"
    choices = table("regimes_images").dropna(subset="chosen")
    choices = choices[choices["regime"].isin(by_optimiser.STARTS)]
    chosen = choices.drop_duplicates(["operator", "regime", "estimator", "budget", "aim"])["chosen"].map(json.loads)
    line_search = (chosen.map(lambda one: one["optimiser"]) == by_optimiser.LINE_SEARCH).sum()
    yield f"L-BFGS in {line_search} of {len(chosen)} choices"
    controls = learned("controls", "psnr").set_index(["budget", "estimator"])
    assert (
        learned("controls", "misfit").query("estimator == ['greedy', 'end_to_end'] and budget > 96")["mean"] == 1
    ).all()
    yield f"the adjoint's PSNR less greedy's is {spread(controls.loc[1536, 'end_to_end'], 'over_greedy', '_mean')} dB"


@pytest.mark.parametrize("kind", [restored, restored_with_care, restored_searches], ids=lambda kind: kind.__name__)
def test_the_page_of_learned_flows_states_the_published_numbers(kind):
    assert missing("docs/pages/samplers-and-learned-flows.md", kind()) == []


def test_the_page_of_gradients_states_the_published_numbers():
    assert missing("docs/pages/regimes.md", restored_sources()) == []

"""Numbers that README and the pages on gradients and samplers state. The truth is the published tables.

Every sentence and every row of a table below is written from them as the page has it: a table that is published again
with other numbers turns a test red, and its message holds the new words.
"""

import numpy as np
import pytest

from analysis.guidance.regimes import REGIMES
from analysis.tables import only
from tests.docs.published import PLACES, WORDS, missing, percent, spread, table
from toy_models.experiments import regime_tables

AIMS = ("misfit", "energy_distance")
DIAL = ("two_step_euler", "midpoint", "midpoint_4", "end_to_end")


def rule():
    """How good the rule is on what it has not seen."""
    row = table("which_gradient_facts").iloc[0]
    for regime, place in PLACES.items():
        over = [spread(row, f"{regime}_{name}", "_mean") for name in ("greedy", "end_to_end")]
        yield f"| {place} | {percent(row[f'{regime}_near'])} of {row[f'{regime}_cases']:.0f} | {' | '.join(over)} |"
    over = [spread(row, name, "_mean") for name in ("greedy", "end_to_end")]
    yield f"| all | {percent(row['near'])} of {row['cases']:.0f} | {' | '.join(over)} |"
    always = [percent(row[f"{name}_near"]) for name in ("greedy", "end_to_end")]
    yield f"Always greedy is in {always[0]} of all cases, and always end-to-end in {always[1]}"
    none = percent(1 - row["end_to_end_possible"])
    yield f"In {none} of the cases, the source at 48 from both starts, end-to-end cannot pay for one step"
    yield f"within 10 % of the best in {percent(row['transfer_near'])} of {row['transfer_cases']:.0f} cases there"
    moved = [spread(row, f"transfer_{name}", "_mean") for name in ("greedy", "end_to_end")]
    yield f"Its outcomes there are {moved[0]} of always greedy's and {moved[1]} of always end-to-end's"


def searches():
    """How often the best option was at the end of its range."""
    row = table("regimes_facts").iloc[0]
    near = percent(row["at_end_of_range"])
    yield f"In {near} of the cases the best option was near the smallest or largest one tried"
    yield f"the largest was chosen in {percent(row['at_end_of_list'])}"
    options = ("source_prior", "source_late_prior", "steps_inner", "controls_weight")
    shares = [percent(row[f"{name}_largest"]) for name in options]
    assert all(row[f"{name}_largest"] <= 0.1 for name in options)
    yield f"a prior of weight 100 in {shares[0]} from t = 0 and in {shares[1]} from the late start"
    yield f"8 moves per step in {shares[2]}, and a price of controls of 100 in {shares[3]}"
    every = table("regimes").query("regime == 'source' and chosen.notna()")
    every = every.drop_duplicates(["problem", "noise", "operator", "estimator", "budget", "aim", "seed"])
    strong = every["chosen"].str.contains('"prior": 100.0').groupby([every["problem"], every["noise"]]).mean()
    yield f"in {percent(strong['mnist', 0.1])} on MNIST and in {percent(strong['digits', 0.03])} at noise 0.03"
    for name, who in (("end_to_end", "the best runs of end-to-end have"), ("greedy", "those of greedy")):
        moves = [f"{row[f'{regime}_{name}_moves']:.0f}" for regime in PLACES]
        yield f"{who} {', '.join(moves[:-1])} and {moves[-1]}"


def lists():
    """What values beyond the lists of options would give."""
    row = table("option_lists_facts").iloc[0]
    assert (row["operators"], row["budget"]) == (3, 768)
    distance, misfit = ("source_t_energy_distance", "source_t_misfit")
    yield f"a start after 0.6 is the best in {percent(row[f'{distance}_beyond'])} of the {row['cases']:.0f} cases"
    yield f"Judged by misfit it is in {percent(row[f'{misfit}_beyond'])}"
    yield f"The best later start gives {row[f'{misfit}_gain']:.2f} times the misfit of the best up to 0.6"
    yield f"More than 8 moves per step are best by distance in {percent(row['steps_inner_energy_distance_beyond'])}"
    gains = [row[f"steps_inner_{aim}_gain"] for aim in ("energy_distance", "misfit")]
    yield f"they give {gains[0]:.2f} times the distance of the best choice up to 8, and {gains[1]:.2f} times its misfit"


def recommended():
    """The rule as rows of a table for each aim, with the outcome over greedy's."""
    chosen = table("which_gradient_recommended")
    for aim in ("energy_distance", "misfit"):
        for regime, place in PLACES.items():
            rows = chosen[(chosen["aim"] == aim) & (chosen["regime"] == regime)].set_index("budget")
            cells = [_cell(rows.loc[budget]) for budget in regime_tables.BUDGETS]
            yield f"| {place} | {' | '.join(cells)} |"


def _cell(row):
    return "greedy" if row["estimator"] == "greedy" else f"{WORDS[row['estimator']]} {row['mean']:.2f}"


def nearest_to_the_score():
    """Which gradient errs least against the likelihood score, early and late."""
    row = table("which_gradient_facts").iloc[0]
    assert (row["score_first"], row["score_last"]) == ("greedy", "greedy")
    least = [f"{row[f'score_{end}_error']:.2f} at t = {row[f'{end}_time']:.2f}" for end in ("first", "last")]
    yield f"greedy errs least against the score, by {least[0]} and {least[1]}"


def crossings():
    """From which budget on end-to-end's mean is at most greedy's."""
    row = table("which_gradient_facts").iloc[0]
    for regime, place in PLACES.items():
        budgets = [row[f"{regime}_{aim}_crossing"] for aim in ("energy_distance", "misfit")]
        yield f"| {place} | {' | '.join('at none' if np.isnan(b) else f'{b:.0f}' for b in budgets)} |"


def _over_greedy(summary, regime, aim, name, **place):
    rows = only(summary, regime=regime, aim=aim, metric=aim, estimator=name, **place)
    return spread(rows.iloc[0], "over_greedy", "_mean") if len(rows) else ""


def at_1536():
    """Adaptive lookahead's distance over greedy's per step, at the largest budget that adaptive was run with."""
    over = _over_greedy(
        table("regimes_summary"), "guidance", "energy_distance", "adaptive", budget=1536, **regime_tables.MAIN
    )
    yield f"{over} of greedy's distance at 1,536"


def last():
    """Distances to the posterior over greedy's at the largest budget."""
    summary = table("regimes_summary")
    for regime, place in PLACES.items():
        budget = regime_tables.BUDGETS[-1]
        cells = [
            _over_greedy(summary, regime, "energy_distance", name, budget=budget, **regime_tables.MAIN) for name in DIAL
        ]
        yield f"| {place} | {' | '.join(cells)} |"


def controls():
    """Misfits in control optimisation, means over operators of medians."""
    place = regime_tables.MAIN | {"regime": "controls", "aim": "misfit", "metric": "misfit"}
    rows = only(table("regimes_summary"), **place).set_index(["estimator", "budget"])
    for name in ("end_to_end", "greedy", "two_step_euler"):
        said = "exact adjoint" if name == "end_to_end" else WORDS[name]
        means = [f"{rows['mean'][name, budget]:.2g}" for budget in regime_tables.BUDGETS[1:]]
        yield f"| {said} | {' | '.join(means)} |"
    row = table("regimes_facts").iloc[0]
    greedy, dear = (percent(row[f"controls_{name}_sgd"]) for name in ("greedy", "end_to_end"))
    yield f"SGD was chosen in {greedy} of greedy's cases and in {dear} of the adjoint's"
    every = only(table("regimes"), estimator="greedy", **place)
    last = every[every["budget"] >= 768].groupby(["operator", "budget"])["value"].median().unstack()
    over = last[(last > 1).any(axis=1)].min(axis=1)
    assert over.index.tolist() == ["gaussian_deblurring", "super_resolution_2"]
    yield f"but Gaussian deblurring and super-resolution, where it falls to {over.iloc[0]:.1f} and {over.iloc[1]:.1f}"
    rule = table("which_gradient_recommended").query("regime == 'controls' and estimator != 'greedy'")
    assert (rule["aim"].unique().tolist(), rule["estimator"].unique().tolist()) == (["misfit"], ["end_to_end"])
    assert (rule["budget"].tolist(), rule["high"].min() > 1) == ([384, 768, 1536, 3072], True)


def control_optimisers():
    """End-to-end over greedy in controls, where each optimiser has trials of its own."""
    row = table("control_optimisers_facts").iloc[0]
    for budget in (row["first_budget"], 1536, row["budget"]):
        ratios = [spread(row, f"{aim}_best_{budget:.0f}", "_mean") for aim in ("energy_distance", "misfit")]
        yield f"| {budget:,.0f} | {' | '.join(ratios)} |"
    yield f"The largest budget pays end-to-end for {row['iterations']:.0f} iterations"
    yield f"its misfit at 4,864 is {spread(row, 'misfit_lbfgs_line_search', '_mean')} of greedy's"
    over = [spread(row, f"energy_distance_{name}_line_search", "_mean") for name in ("greedy", "end_to_end")]
    yield f"over Adam's it is {over[0]} for greedy and {over[1]} for end-to-end"


def elsewhere():
    """End-to-end's outcomes over greedy's at other noise levels and on other data, at the largest budget there."""
    row = table("regimes_elsewhere_facts").iloc[0]
    for place, said in (
        ("noise_0_03", "8×8 digits, noise 0.03"),
        ("noise_0_3", "8×8 digits, noise 0.3"),
        ("mnist", "MNIST"),
    ):
        names = [f"{place}_{one}" for one in ("guidance_energy_distance", "source_energy_distance", "source_misfit")]
        yield f"| {said} | {' | '.join(spread(row, name) if np.isfinite(row[name]) else '' for name in names)} |"


def on_mnist():
    """End-to-end's outcomes over greedy's on MNIST in every regime, at the largest budget there."""
    row = table("regimes_elsewhere_facts").iloc[0]
    for regime, place in PLACES.items():
        cells = [spread(row, f"mnist_{regime}_{aim}") for aim in ("energy_distance", "misfit")]
        yield f"| {place} | {' | '.join(cells)} |"


def windows():
    """Guidance in the first third of time over that in the last."""
    row = table("regime_windows_facts").iloc[0]
    for regime in REGIMES:
        cells = [spread(row, f"{regime}_{aim}") for aim in ("energy_distance", "misfit")]
        yield f"| {PLACES[regime]} | {' | '.join(cells)} |"


def correlations():
    """Which error of a gradient goes with its outcome."""
    row = table("which_gradient_facts").iloc[0]
    for regime, place in PLACES.items():
        for aim, said in (("energy_distance", "distance"), ("misfit", "misfit")):
            pairs = [f"{regime}_{aim}_{truth}" for truth in ("ideal", "score")]
            if all(name in row.index and np.isfinite(row[name]) for name in pairs):
                yield f"| {place}, {said} | {' | '.join(spread(row, name) for name in pairs)} |"


def dial():
    """Rank correlations of errors and distances where gradients stand in for the likelihood score."""
    found = table("dial_correlation")
    found = found[(found["operator"] == "all") & (found["end"] - found["start"] == 1)].set_index(["truth", "kind"])
    for truth, said in (("ideal", "the ideal gradient"), ("score", "the likelihood score")):
        cells = [
            spread(found.loc[(truth, kind)].rename({"low": "value_low", "high": "value_high"}), "value")
            for kind in ("matched", "tuned")
        ]
        yield f"| {said} | {' | '.join(cells)} |"


def posteriors():
    """On how many pairs of data set and operator a method is nearer to the posterior than greedy, or farther."""
    row = table("posterior_table_facts").iloc[0]
    others = (("lgd", "LGD is nearer"), ("identity_jacobian", "the Jacobian out, nearer"), ("tmpd", "it is nearer"))
    others += (("dtmpd", "row sums in place of its covariance, is nearer"),)
    for name, said in (("pigdm", "than greedy"), ("end_to_end", "End-to-end is nearer"), *others):
        better, worse = (row[f"likelihood_{name}_{key}"] for key in ("better", "worse"))
        yield f"{said} in {better} and farther in {worse}"
    assert (row["best"], row["wins"]) == ("mgps", row["places"])
    yield f"MGPS is nearer in all {row['mgps_better']}, and nearer than every other method"


def outcomes():
    """How near guided samplers of equal steps come to the posterior."""
    row = table("outcome_facts").iloc[0]
    yield f"greedy closes {100 * row['closed_low']:.0f} to {percent(row['closed_high'])} of the energy distance"
    assert row["reached"] == 0
    yield f"In none of {row['cases']} cases does the interval of its distance reach zero"
    counts = f"the dearer one is nearer to the posterior in {row['better']} and farther in {row['worse']}"
    yield f"Of {row['further']} comparisons of greedy with a dearer gradient of as many steps, {counts}"


def thin():
    """How many states adaptive lookahead keeps within its tolerance, or reports, where structure is thin."""
    row = table("adaptive_facts").iloc[0]
    said = [f"{100 * row[name]:.1f} %" for name in ("thin_within", "covered", "unsure", "unsure_smooth")]
    within = f"{said[0]} of the states and tolerances are within the tolerance"
    yield f"Of each kind at least {within}, and at least {said[1]} within it or unsure"
    yield f"Of all, {said[2]} are unsure; of those of smooth problems, {said[3]}"


ADVICE, PAGE = "docs/pages/which-gradient.md", "docs/pages/regimes.md"
SAMPLERS = "docs/pages/samplers-and-learned-flows.md"


OF_ADVICE = (rule, recommended)
OF_REGIMES = (
    searches,
    lists,
    nearest_to_the_score,
    crossings,
    at_1536,
    last,
    controls,
    control_optimisers,
    elsewhere,
    on_mnist,
    windows,
    correlations,
    dial,
    posteriors,
    thin,
)


@pytest.mark.parametrize("kind", OF_ADVICE, ids=lambda kind: kind.__name__)
def test_the_advice_states_the_published_numbers(kind):
    assert missing(ADVICE, kind()) == []


@pytest.mark.parametrize("kind", OF_REGIMES, ids=lambda kind: kind.__name__)
def test_the_page_of_regimes_states_the_published_numbers(kind):
    assert missing(PAGE, kind()) == []


def test_the_page_of_samplers_states_the_published_numbers():
    assert missing(SAMPLERS, outcomes()) == []


def test_the_readme_states_the_published_numbers():
    row = table("which_gradient_facts").iloc[0]
    said = [f"from t = 0 is {spread(row, 'source_end_to_end', '_mean')} times that of always using end-to-end"]
    said += [f"{spread(row, 'source_greedy', '_mean')} times that of always using greedy"]
    said += [f"{spread(row, 'source_late_greedy', '_mean')} from a late start"]
    said += [f"{spread(row, 'guidance_greedy', '_mean')} per step, {spread(row, 'steps_greedy', '_mean')} with"]
    said += [f"{spread(row, 'controls_greedy', '_mean')} in controls"]
    assert missing("README.md", said) == []

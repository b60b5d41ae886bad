"""Numbers that README and the page on gradients state. The truth is the published tables.

Every sentence and every row of a table below is written from them as the page has it: a table that is published again
with other numbers turns a test red, and its message holds the new words.
"""

import json
import re

import numpy as np
import pandas as pd
import pytest

from analysis import results
from analysis.guidance.regimes import REGIMES
from analysis.provenance import ROOT
from toy_models.experiments import regimes

PUBLISHED = ROOT / "figures" / "published" / "tables"
WORDS = {
    "greedy": "greedy",
    "two_step_euler": "two Euler steps",
    "midpoint": "one midpoint step",
    "midpoint_4": "four midpoint steps",
    "adaptive": "adaptive",
    "end_to_end": "end-to-end",
}
PLACES = dict(zip(REGIMES, ("per step", "optimiser per step", "source", "controls"), strict=True))
DIAL = ("two_step_euler", "midpoint", "midpoint_4", "end_to_end")
# Mean absolute errors of table 1 of arXiv 2502.08006: alpha, gap, HOMO, LUMO, mu and C_v.
TABLE_1 = {
    "greedy": (11.282, 1265, 725, 1092, 1.559, 6.469),
    "two_step_euler": (5.377, 1275, 560, 1204, 1.563, 2.975),
    "midpoint": (5.313, 1196, 599, 1057, 1.417, 2.967),
    "end_to_end": (1.404, 401, 176, 373, 0.372, 0.866),
}


def table(name):
    return results.read_table(PUBLISHED / f"{name}.parquet")


def percent(share):
    return f"{100 * share:.0f} %"


def spread(row, name="mean", middle=""):
    """A number with its interval."""
    return f"{row[name + middle]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]".replace("-", "−")


def rule():
    """How good the rule is on what it has not seen."""
    row = table("which_gradient_facts").iloc[0]
    yield f"within 10 % of the best in {percent(row['near'])} of {row['cases']:.0f} cases"
    yield f"{spread(row, 'greedy', '_mean')} of those of always greedy"
    yield f"{spread(row, 'end_to_end', '_mean')} of those of always end-to-end"
    none = percent(1 - row["end_to_end_possible"])
    yield f"In {none} of the cases, the source at 48, end-to-end cannot pay for one step"
    yield f"within 10 % of the best in {percent(row['transfer_near'])} of {row['transfer_cases']:.0f} cases there"
    ends = table("regimes_facts").iloc[0]
    near = percent(ends["at_end_of_range"])
    yield f"In {near} of the cases the best option was near the smallest or largest one tried"


def recommended():
    """The rule as rows of a table for each aim, with the outcome over greedy's."""
    chosen = table("which_gradient_recommended")
    for aim in ("energy_distance", "misfit"):
        for regime, place in PLACES.items():
            rows = chosen[(chosen["aim"] == aim) & (chosen["regime"] == regime)].set_index("budget")
            cells = [_cell(rows.loc[budget]) for budget in regimes.BUDGETS]
            yield f"| {place} | {' | '.join(cells)} |"


def _cell(row):
    return "greedy" if row["estimator"] == "greedy" else f"{WORDS[row['estimator']]} {row['mean']:.2f}"


def crossings():
    """From which budget on end-to-end's mean is at most greedy's."""
    row = table("which_gradient_facts").iloc[0]
    for regime, place in PLACES.items():
        budgets = [row[f"{regime}_{aim}_crossing"] for aim in ("energy_distance", "misfit")]
        yield f"| {place} | {' | '.join('at none' if np.isnan(b) else f'{b:.0f}' for b in budgets)} |"


def source():
    """The dial in source optimisation beside the paper's table 1: rows of misfits over greedy's."""
    summary, paper = table("regimes_summary"), {k: np.array(v) for k, v in TABLE_1.items()}
    learned = _learned("source", "misfit").query("budget == budget.max()").set_index("estimator")
    for name in DIAL:
        theirs = f"{np.exp(np.log(paper[name] / paper['greedy']).mean()):.2f}" if name in paper else ""
        ours = [_over_greedy(summary, "source", "misfit", name, budget=b, **place) for b, place in _sources()]
        image = spread(learned.loc[name], "over_greedy", "_mean") if name in learned.index else ""
        yield f"| {WORDS[name]} | {' | '.join([*ours, image, theirs])} |"


def _learned(regime, aim, part="budgets"):
    """Rows of restored digits with the learned flow."""
    rows = table(f"regimes_images_{part}")
    return rows[(rows["regime"] == regime) & (rows["aim"] == aim)]


def restored():
    """End-to-end beside greedy with the learned flow, by regime: rows of PSNR and misfits, each at its best budget."""
    for regime, place in PLACES.items():
        (psnr, misfit) = (_learned(regime, aim, "pooled").set_index("estimator") for aim in ("psnr", "misfit"))
        dear = [spread(rows.loc["end_to_end"], "over_greedy", "_mean") for rows in (psnr, misfit)]
        yield f"| {place} | {psnr.loc['greedy', 'mean']:.1f} | {' | '.join(dear)} |"


def restored_with_care():
    """What the page says of restored digits beside their tables: fits, samples that diverged, choices and costs."""
    row = table("regimes_images_facts").iloc[0]
    fits = [spread(row, f"{regime}_misfit_rank") for regime in ("source", "guidance")]
    yield f"rank correlation with the misfit is {fits[0]} in the source and {fits[1]} per step"
    best = table("regimes_images_best")
    tuned = best[(best["aim"] == "misfit") & (best["metric"] == "misfit") & (best["estimator"] == "greedy")]
    medians = tuned.loc[tuned["regime"] == "steps", "median"]
    assert ((medians < 1).sum(), (medians < 0.1).sum(), len(medians)) == (8, 5, 8)
    published = _learned("published", "psnr", "pooled").set_index("estimator")["mean"]
    yield f"{published['dps']:.1f} dB, MGPS {published['mgps']:.1f}, and ΠGDM {published['pigdm']:.1f} on the six"
    samples = table("regimes_images").query("metric == 'psnr' and chosen.notna()")
    lost = samples[samples["value"].isna()].groupby(["regime", "estimator"]).size()
    dear = lost["source", "end_to_end"]
    yield f"{lost.sum()} of {len(samples):,} samples diverged: {lost['published', 'pigdm']} of ΠGDM's, and {dear} of"
    choices = samples.drop_duplicates(["operator", "regime", "estimator", "budget", "aim"])
    ends = choices[choices["at_end_of_range"].astype(bool)]
    share, source = percent(row["at_end_of_range"]), (ends["regime"] == "source").sum()
    yield f"{len(ends)} of {len(choices)} choices ({share}) lie at an end of a range, {source} of"
    steps = choices[choices["estimator"] == "adaptive"].groupby("budget")["count"].median()
    yield f"{steps[96]:.0f} steps at 96 and {steps[384]:.0f} at 384, and"


CHOSEN = {"optimiser": "lbfgs_line_search", "t": 0.6}


def restored_sources():
    """The source of the learned flow beside the table of source optimisation."""
    row, fits = table("regimes_images_source_facts").iloc[0], _learned("source", "misfit", "pooled")
    for name in ("end_to_end", "two_step_euler"):
        yield f"{spread(row, f'{name}_psnr')} dB"
        yield spread(fits.set_index("estimator").loc[name], "over_greedy", "_mean")
    choices = table("regimes_images").dropna(subset="chosen").query("regime == 'source'")
    choices = choices.drop_duplicates(["operator", "estimator", "budget", "aim"])
    chosen = choices["chosen"].map(json.loads)
    shares = [(chosen.map(lambda one, key=key: one[key]) == value).sum() for key, value in CHOSEN.items()]
    yield f"L-BFGS in {shares[0]} of {len(choices)} choices, and a start at t = 0.6 in {shares[1]}"


def _sources():
    return (regimes.BUDGETS[-1], regimes.MAIN), (384, {"problem": "mnist", "noise": regimes.NOISE})


def _over_greedy(summary, regime, aim, name, **place):
    place |= {"regime": regime, "aim": aim, "metric": aim, "estimator": name}
    rows = summary.loc[(summary[list(place)] == pd.Series(place)).all(axis=1)]
    return spread(rows.iloc[0], "over_greedy", "_mean") if len(rows) else ""


def at_1536():
    """Misfits and adaptive lookahead's outcomes over greedy's, at the largest budget that adaptive was run with."""
    summary, names = table("regimes_summary"), {"budget": 1536, **regimes.MAIN}
    place = names | {"regime": "source", "aim": "misfit", "metric": "misfit"}
    means = summary.loc[(summary[list(place)] == pd.Series(place)).all(axis=1)].set_index("estimator")["mean"]
    said = [f"{means[name]:.2g} for {word}" for name, word in WORDS.items()]
    yield f"{', '.join(said[:-1])} and {said[-1]}"
    for regime in ("guidance", "source"):
        over = _over_greedy(summary, regime, "energy_distance", "adaptive", **names)
        yield f"{over} of greedy's distance at 1,536"


def last():
    """Distances to the posterior over greedy's at the largest budget."""
    summary = table("regimes_summary")
    for regime, place in PLACES.items():
        budget = regimes.BUDGETS[-1]
        cells = [_over_greedy(summary, regime, "energy_distance", name, budget=budget, **regimes.MAIN) for name in DIAL]
        yield f"| {place} | {' | '.join(cells)} |"


def controls():
    """Misfits in control optimisation, means over operators of medians."""
    summary = table("regimes_summary")
    for name in ("end_to_end", "greedy", "two_step_euler"):
        place = regimes.MAIN | {"regime": "controls", "aim": "misfit", "metric": "misfit", "estimator": name}
        rows = summary.loc[(summary[list(place)] == pd.Series(place)).all(axis=1)].set_index("budget")["mean"]
        said = "exact adjoint" if name == "end_to_end" else WORDS[name]
        yield f"| {said} | {' | '.join(f'{rows[budget]:.2g}' for budget in regimes.BUDGETS[1:])} |"


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


def windows():
    """Guidance in the first third of time over that in the last."""
    row = table("regime_windows_facts").iloc[0]
    for regime, place in PLACES.items():
        yield f"| {place} | {spread(row, f'{regime}_energy_distance')} | {spread(row, f'{regime}_misfit')} |"


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
    for name, said in (("pigdm", "than greedy"), ("end_to_end", "is nearer")):
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
    counts = f"{row['better']} of these are nearer to the posterior than greedy and {row['worse']} are farther"
    yield f"In {row['further']} comparisons with dearer gradients of as many steps, {counts}"


def devices():
    """Rows of the times of mixtures' gradients on a GPU, and the costs of a learned flow's there."""
    found = table("gpu_bench").set_index(["problem", "workload", "dtype"])
    for name in found.index.unique("problem"):
        cells = []
        for workload in ("surface", "end_to_end"):
            both = [found.loc[(name, workload, dtype)] for dtype in ("float64", "float32")]
            cells += [f"{1000 * row['seconds']:.0f}" for row in both]
            over = both[0]["ratio"]
            cells.append(f"{float(f'{over:.2g}'):g}" if over < 1000 else f"{over:.1e}".replace("e+0", "e"))
        yield f"| ({name.replace('x', ', ')}) | {' | '.join(cells)} |"
    found = table("gpu_cost").query("kind == 'cost' and problem == 'mnist_unet'")
    stored = found[found["memory"].isin([None, "store"])].set_index(["estimator", "arithmetic", "batch"])["seconds"]
    one = [1000 * stored["end_to_end" if dear else "greedy", "float32", 1] for dear in (False, True)]
    single = found.query("estimator == 'end_to_end' and memory == 'store' and arithmetic == 'float32' and batch == 1")
    low, high = (1000 * single[name].item() for name in ("seconds_min", "seconds_max"))
    between = f"(the three repetitions: {low:.0f} to {high:.0f} ms)"
    yield f"takes {one[0]:.0f} ms greedy and {one[1]:.0f} ms end-to-end {between}"
    many = [1000 * stored["end_to_end" if dear else "greedy", "float32", 512] / 512 for dear in (False, True)]
    yield f"an image takes {many[0]:.2g} and {many[1]:.1f} ms"
    shares = {name: stored["end_to_end", name, 512] / stored["end_to_end", "float32", 512] for name in ARITHMETICS}
    yield f"TF32 takes {shares['tf32']:.2f} of float32's time"
    yield f"bfloat16 {shares['bfloat16']:.2f}, and channels-last memory {shares['channels_last']:.2f}"
    precise = table("gpu_cost").query("kind == 'precision' and estimator == 'end_to_end'").set_index("arithmetic")
    errors = [f"{precise.loc[name, 'value']:.0e}".replace("e-0", "e-") for name in ARITHMETICS]
    yield f"measured on a batch of four, are {errors[0]}, {errors[1]} and {errors[2]}"
    kept = found.query("estimator == 'end_to_end' and arithmetic == 'float32' and batch == 512").set_index("memory")
    few, store = kept.loc["checkpoint"], kept.loc["store"]
    yield f"takes {store['bytes'] / 1e9:.1f} GB and {store['seconds']:.3f} s"
    yield f"{few['bytes'] / store['bytes']:.2f} of the memory ({few['bytes'] / 1e9:.2f} GB)"
    yield f"for {few['seconds'] / store['seconds']:.1f} times the time ({few['seconds']:.3f} s)"
    last = kept.loc["recursive"]
    yield f"eight steps ({last['bytes'] / 1e9:.2f} GB), and takes {last['seconds']:.3f} s"
    found = table("gpu_cost").query("kind == 'cost' and problem != 'mnist_unet'").set_index(["estimator", "batch"])
    whole = {key: f"{1000 * value:.0f}" for key, value in found["seconds"].items()}
    yield f"{whole['greedy', 1]} ms for one molecule and {whole['greedy', 64]} ms for a batch of 64"
    yield f"end-to-end takes {whole['end_to_end', 1]} and {whole['end_to_end', 64]} ms"


GRADIENTS, SAMPLERS, BENCH = "which-gradient", "samplers-and-learned-flows", "benchmarks"
ARITHMETICS = ("tf32", "bfloat16", "channels_last")
KINDS = dict.fromkeys((rule, recommended, crossings, source, at_1536, last, controls, elsewhere, windows), GRADIENTS)
KINDS |= {correlations: GRADIENTS, dial: GRADIENTS, posteriors: GRADIENTS, outcomes: SAMPLERS}
KINDS |= {devices: BENCH, restored: SAMPLERS, restored_with_care: SAMPLERS, restored_sources: GRADIENTS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_page_states_the_published_numbers(kind):
    page = _one_line((ROOT / "docs" / "pages" / f"{KINDS[kind]}.md").read_text())
    assert [said for said in kind() if _one_line(said) not in page] == []


def test_the_readme_states_the_published_numbers():
    row, page = table("which_gradient_facts").iloc[0], _one_line((ROOT / "README.md").read_text())
    assert f"{spread(row, 'greedy', '_mean')} of always greedy's" in page
    assert f"{spread(row, 'end_to_end', '_mean')} of always end-to-end's" in page


def _one_line(text):
    return re.sub(r"\s+", " ", text.replace("**", "")).replace("\u00a0", " ")

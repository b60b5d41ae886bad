"""The glossary: it has all that can be met in a table. The truth is the registries of the library."""

import inspect
import itertools

import pandas as pd
import pytest

from analysis.gradients import ESTIMATORS
from analysis.guidance import ladder
from analysis.operators import OPERATORS
from figures.style import looks, names
from real_models.restoration.digits import NAMES as DIGIT_OPERATORS
from real_models.restoration.methods import DIAL, PUBLISHED
from tests.support.legends import same_looks
from toy_models.experiments.convergence import SHOWN
from toy_models.experiments.outcome import METHODS
from toy_models.experiments.regime_outcomes import ESTIMATORS as ESTIMATORS_IN_REGIMES
from toy_models.problems.families import FAMILIES
from toy_models.problems.thin_judges import JUDGES
from toy_models.problems.zoo import PROBLEMS, ZOO_PATHS


def test_everything_that_is_registered_has_a_name_and_a_meaning():
    assert set(ESTIMATORS) <= set(names.METHODS)
    assert set(SHOWN) <= set(names.SOLVERS)
    assert set(ZOO_PATHS) <= set(names.PATHS)
    assert set(PROBLEMS) <= set(names.PROBLEMS)
    assert {*OPERATORS, *DIGIT_OPERATORS} <= set(names.OPERATORS)
    assert {*OPERATORS, *DIGIT_OPERATORS} <= set(looks.OPERATORS)
    table = names.table()
    assert (table["name"].str.len() > 0).all()
    assert (table["meaning"].str.len() > 0).all()
    assert not table.duplicated(["kind", "key"]).any()


@pytest.mark.parametrize("key", [*METHODS, *DIAL, *PUBLISHED, *(f"likelihood:{name}" for name in ladder(16))])
def test_every_sampler_has_a_printed_name_and_a_look(key):
    assert "_" not in names.sampler(key)
    assert ":" not in names.sampler(key)
    assert {"color", "marker"} <= looks.sampler(key).keys()


def test_one_name_for_one_method_whatever_its_key():
    assert (
        names.sampler("end_to_end")
        == names.sampler("likelihood:end_to_end")
        == names.method("end_to_end")
        == "end-to-end"
    )
    assert names.sampler("dps:greedy") == names.sampler("dps") == "DPS"
    assert names.sampler("pigdm") == names.sampler("likelihood:pigdm") == "ΠGDM"
    assert names.sampler("midpoint") == "one midpoint step"
    assert names.method("end_to_end", "midpoint_zeta", 4) == "end-to-end, midpoint in ζ 4"
    assert names.method("somebody's_own") == "somebody's own"


def test_methods_look_different_and_the_same_everywhere():
    plain = [looks.method("end_to_end", solver) for solver in ("euler", "midpoint", "heun", "rk4", "ddim")]
    plain += [looks.method(name) for name in ESTIMATORS if name not in ("lookahead", "end_to_end")]
    assert len({(look["color"], look["marker"]) for look in plain}) == len(plain)
    assert looks.method("lookahead", "euler")["color"] == looks.method("end_to_end", "euler")["color"]
    assert looks.method("lookahead", "euler")["markerfacecolor"] == "white"
    assert looks.method("somebody's own") == looks.method("somebody's own")
    assert looks.sampler("likelihood:greedy")["color"] == looks.sampler("dps:greedy")["color"]
    assert looks.sampler("dps:greedy")["markerfacecolor"] == "white"


@pytest.mark.parametrize("keys", [METHODS, {**DIAL, **PUBLISHED}, ESTIMATORS_IN_REGIMES, ladder(32)])
def test_no_two_methods_of_a_figure_look_the_same_in_grey(keys):
    shown = {names.sampler(key): looks.sampler(key) for key in keys if key != "exact"}
    assert len(shown) > 4
    same = [(a, b) for a, b in itertools.combinations(shown, 2) if same_looks(shown[a], shown[b])]
    assert same == []


@pytest.mark.parametrize("lookahead", [False, True])
def test_more_steps_are_darker_on_the_same_colour_and_marker(lookahead):
    estimator = "lookahead" if lookahead else "end_to_end"
    made = [looks.method(estimator, "midpoint", steps) for steps in (1, 2, 4, 8, 16)]
    assert {(look["color"], look["marker"]) for look in made} == {looks.METHODS["midpoint"]}
    greys = [sum(look["markerfacecolor"]) for look in made]
    assert greys == sorted(greys, reverse=True)
    assert len({str(look["linestyle"]) for look in made}) == 5
    assert {look["fillstyle"] for look in made} == {"bottom" if lookahead else "full"}
    assert looks.sampler("likelihood:midpoint_4") == looks.sampler("midpoint_4") == made[2] or lookahead


def test_a_key_that_ends_in_a_number_but_names_no_method_with_steps_has_a_look_of_its_own():
    assert looks.sampler("mine_2") == looks.method("mine_2")
    assert looks.sampler("euler_8") == looks.method("end_to_end", "euler", 8)


def test_operators_come_in_one_order():
    table = pd.DataFrame({"operator": ["own", "motion_deblurring", "all", "box_inpainting"]})
    assert looks.operators(table) == ["box_inpainting", "motion_deblurring", "own"]


def test_families_mean_what_their_builders_say_that_they_draw():
    said = {name: inspect.getdoc(builder) for name, builder in (FAMILIES | JUDGES).items()}
    assert said == {name: f"Draw {entry.meaning}." for name, entry in names.KINDS.items()}

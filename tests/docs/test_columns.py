"""The data dictionary. The truth is the tables that a quick run makes, and those that are derived of them."""

import pytest

from tests.support.tables import EXPERIMENTS, derived

pytest.importorskip("latex2mathml", reason='latex2mathml is not installed: pip install -e ".[docs]"')

from docs.generator import columns

MAKERS = sorted({*EXPERIMENTS, "audit"})


@pytest.fixture(scope="module")
def known():
    """Return the columns of every table of a quick run by its name."""
    return {name: list(table) for maker in MAKERS for name, table in derived(maker).items()}


@pytest.mark.parametrize("maker", MAKERS)
def test_every_column_of_a_quick_table_is_explained(maker):
    places = {(name, column) for name, table in derived(maker).items() for column in table}
    assert {place for place in places if columns.meaning(*place) is None} == set()


@pytest.mark.parametrize("maker", MAKERS)
def test_every_quick_table_is_in_the_dictionary(maker):
    assert set(derived(maker)) <= set(columns.dictionary()["tables"])


def test_the_dictionary_knows_no_table_that_is_not_made(known):
    assert set(columns.dictionary()["tables"]) == set(known)


def test_a_table_explains_no_column_that_it_has_not(known):
    """Facts have a column where there is something to state, and the quick run states less than a full one."""
    own = {name: entry.get("columns", {}) for name, entry in columns.dictionary()["tables"].items()}
    late = {("real_flow_fits", "low"), ("real_flow_fits", "high")}
    places = {(name, column) for name in own if not name.endswith("_facts") for column in own[name]}
    assert {place for place in places if place[1] not in known[place[0]]} <= late


def test_no_common_column_is_without_a_table(known):
    late = {"seconds", "refused", "lost"}  # in tables of timings, and in facts where something failed
    used = {column for some in known.values() for column in some}
    assert set(columns.dictionary()["columns"]) - used <= late


def test_a_table_that_nobody_has_heard_of_has_no_meaning():
    assert columns.meaning("adaptive", "no_such_column") is None
    assert (
        columns.meaning("regimes_facts", "source_misfit_end_to_end") == "Mean misfit of this estimator in this regime."
    )
    assert columns.meaning("outcome_paper", "box_inpainting") == "box inpainting: mean [interval]."

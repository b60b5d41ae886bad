"""Exact samples and posterior means beside the regimes; the truth is the batch of measurements they share."""

import dataclasses

import numpy as np
import pytest
import torch

from analysis.experiment import measure_cell
from analysis.settings import Options
from toy_models.experiments import regime_outcomes, regime_references, regime_tables, regimes


@pytest.fixture(scope="module")
def cell():
    (first, *_) = regime_references.cells(Options(quick=True))
    return dataclasses.replace(first, samples=5)


@pytest.fixture(scope="module")
def table(cell):
    return measure_cell(cell).set_index(["reference", "metric", "measurement"])["value"]


def test_measurements_are_those_of_the_regimes(cell):
    of_regimes = dataclasses.replace(regimes.cells(Options(quick=True))[0], samples=5)
    (_, _, mine), (_, _, theirs) = (regime_outcomes.batches(one) for one in (cell, of_regimes))
    assert torch.equal(mine.measurements, theirs.measurements)
    assert torch.equal(mine.exact.samples, theirs.exact.samples)


def test_the_mean_has_the_least_squared_error_on_average_and_no_spread(cell, table):
    batch = regime_outcomes.batches(cell)[2]
    mean, y = batch.exact.law.mean, batch.exact.samples
    assert table["posterior_mean", "mean_error"].abs().max() == 0
    expected = 2 * (mean[:, None] - y).norm(dim=-1).mean(1)  # the mean is at no distance from itself
    n = y.shape[1]
    expected -= torch.cdist(y, y).sum((1, 2)) / (n * (n - 1))
    assert table["posterior_mean", "energy_distance"].to_numpy() == pytest.approx(expected.numpy())
    assert table["posterior_mean", "psnr"].mean() > table["exact_samples", "psnr"].mean()


def test_exact_samples_have_misfits_near_one_and_no_distance():
    """The mean over operators and measurements, in units of its own spread."""
    rows = regime_references.derive(_all())["summary"].set_index(["reference", "metric"])
    assert rows.loc[("exact_samples", "misfit"), "mean"] == pytest.approx(1, abs=0.2)
    assert (
        rows.loc[("exact_samples", "energy_distance"), "low"]
        < 0
        < rows.loc[("exact_samples", "energy_distance"), "high"]
    )
    assert rows.loc[("posterior_mean", "energy_distance"), "low"] > 0


def _all():
    import pandas as pd

    cells = [c for c in regime_references.cells(Options()) if c.problem == "digits" and c.extra_dict["noise"] == 0.1]
    return pd.concat([measure_cell(dataclasses.replace(c, samples=8)) for c in cells], ignore_index=True)


def test_there_is_one_cell_for_each_place_and_operator():
    places = [(c.problem, c.extra_dict["noise"], c.extra_dict["operator"]) for c in regime_references.cells(Options())]
    assert len({*places}) == len(places) == 2 * len(regime_tables.OPERATORS) + 3 * len(regimes.OTHER_NOISES)
    assert np.all([c.variants == () for c in regime_references.cells(Options())])

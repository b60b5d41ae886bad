"""The claims on the flow of molecules: those that are cheap, and the flat subject they are measured on."""

import pytest
import torch

from analysis import gradients
from analysis.claims import HOLDS, judge
from analysis.experiment import measure_cell
from analysis.settings import Options
from real_models.claims.learned import MEASURES
from real_models.experiments import molecule_claims, real_claims
from real_models.molecules import flattened, subject
from tests.support.problems import EPS, distance


def test_the_claims_are_those_of_the_flow_of_images():
    assert [cell.problem for cell in molecule_claims.cells(Options())] == [
        cell.problem for cell in real_claims.cells(Options())
    ]
    assert {cell.problem for cell in molecule_claims.cells(Options())} == set(MEASURES)


def test_greedy_is_one_step_on_molecules_too():
    (cell,) = molecule_claims.cells(Options(quick=True))
    rows = measure_cell(cell)
    assert judge(rows)["verdict"] == HOLDS
    assert rows["value"].max() < 1e-8


@pytest.mark.parametrize("path", ["condot", "cosine"])
def test_flat_states_have_the_gradients_of_molecules(path):
    flat, whole = (
        flattened.subject("qm9_gap", path, "float64", "cpu"),
        subject.subject("qm9_gap", path, "float64", "cpu", atoms=flattened.ATOMS),
    )
    made = []
    for one in (flat, whole):
        x = one.states(torch.tensor([0.5, 0.9]), 2, torch.Generator().manual_seed(0))
        loss = one.loss(2, 2, torch.Generator().manual_seed(1))
        t = torch.tensor([0.5, 0.5, 0.9, 0.9], dtype=torch.float64)
        made.append(gradients.end_to_end(one.flow, loss, x, t, steps=2).gradient)
    assert made[0].shape == (4, 8 * flattened.ATOMS)
    assert distance(made[0], made[1].flatten(1)) <= 1e4 * EPS

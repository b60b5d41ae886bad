"""The predictor of properties.

Truths: the symmetries of a molecule's properties, central differences, the definition of the gap, and a least-squares
fit on labels that are linear in the composition.
"""

import pytest
import torch

from real_models.molecules import data, losses
from real_models.molecules.network import project
from real_models.molecules.predictor import Predictor
from tests.support.molecules import molecules

SMALL = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "pairs": 8, "forces": 2, "radial": 12}


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    made = Predictor(**SMALL).double()
    for part in made.parameters():
        part.data += 0.1 * torch.randn_like(part)
    return made.requires_grad_(False)


@pytest.fixture
def events():
    torch.manual_seed(1)
    return project(torch.randn(3, 7, 8, dtype=torch.float64))


def test_properties_stay_where_a_molecule_is_moved_turned_mirrored_or_renumbered(predictor, events):
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    moved = torch.cat([events[..., :3] @ turn + 2.0, events[..., 3:]], -1)[:, torch.randperm(7)]
    assert predictor(events).shape == (3, 6)
    torch.testing.assert_close(predictor(moved), predictor(events), rtol=1e-11, atol=1e-11)


def test_the_gap_is_the_difference_of_the_orbitals(predictor, events):
    values = dict(zip(data.PROPERTIES, predictor(events).unbind(1), strict=True))
    torch.testing.assert_close(values["gap"], values["lumo"] - values["homo"])


def test_gradients_in_coordinates_and_types_agree_with_differences(predictor, events):
    tangent = torch.randn_like(events)
    _, product = torch.func.jvp(predictor, (events,), (tangent,))
    step = 1e-5
    difference = (predictor(events + step * tangent) - predictor(events - step * tangent)) / (2 * step)
    torch.testing.assert_close(product, difference, rtol=1e-6, atol=1e-7)
    assert product.abs().min() > 0


def test_one_atom_and_atoms_on_top_of_each_other_have_finite_gradients(predictor):
    for n in (1, 4):
        x = torch.zeros(2, n, 8, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(predictor(x).sum(), x)
        assert gradient.isfinite().all()


def test_the_linear_part_is_fitted_to_labels_that_are_linear_in_the_composition():
    whole = molecules()  # property k is k plus the number of atoms
    made = Predictor(**SMALL)
    losses.fit_composition(made, whole)
    assert made.composition[:, 0] == pytest.approx([1, 1, 1, 1, 1, 0], abs=1e-4)
    assert made.composition[:, data.property_index("mu")].abs().max() == 0
    assert made.scale[data.property_index("mu")] == pytest.approx(whole.sizes.std(), rel=1e-5)


def test_errors_on_unseen_molecules_are_those_of_each_molecule_alone():
    torch.manual_seed(0)
    whole, made = molecules(), Predictor(**SMALL)
    errors = losses.prediction_errors(made, whole)
    assert errors.shape == (40, 6)
    alone = losses.prediction_errors(made, whole.select([17]))
    torch.testing.assert_close(errors[17:18], alone, rtol=1e-4, atol=1e-4)


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="heads must divide width"):
        Predictor(**SMALL | {"heads": 3})

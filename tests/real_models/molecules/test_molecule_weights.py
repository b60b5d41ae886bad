"""The committed weights of the flow and the predictors.

Truths: the symmetry and smoothness that any weights must show, records beside the weights, and the mean absolute
deviations of QM9, which a predictor that had learned nothing would be off by.
"""

import json

import pytest
import torch

from real_models.molecules import WEIGHTS, card, data
from real_models.molecules.flow import decode, encode, sample
from real_models.molecules.network import project
from real_models.molecules.property_loss import PREDICTORS, PropertyLoss, predictor

DEVIATIONS = {"alpha": 6.29, "gap": 1074, "homo": 439, "lumo": 1051, "mu": 1.16, "Cv": 3.21}
METHANE = [[0.0, 0, 0], [0.63, 0.63, 0.63], [-0.63, -0.63, 0.63], [-0.63, 0.63, -0.63], [0.63, -0.63, -0.63]]


def record(name):
    return json.loads((WEIGHTS / f"{name}.json").read_text())


def test_weights_are_small():
    limits = {"flow": 10e6, "guide": 4e6, "evaluator": 4e6}
    assert all((WEIGHTS / f"{name}.safetensors").stat().st_size <= limit for name, limit in limits.items())


def test_the_cards_are_those_of_the_records():
    assert (WEIGHTS / "flow.md").read_text() == card.text(record("flow"))
    assert (WEIGHTS / "predictors.md").read_text() == card.predictors_text({name: record(name) for name in PREDICTORS})


def test_samples_are_molecules_of_the_size_asked_for_with_types_near_one_of_the_five():
    for n, x in sample(3, steps=8, seed=2).items():
        atoms, position = decode(x)
        assert position.shape == (*atoms.shape, 3) == (len(x), n, 3)
        assert x.isfinite().all()
        assert (2 * x[..., 3:].amax(-1)).median() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_predictor_errs_far_less_than_the_data_vary(name):
    errors = record(name)["mae"]
    assert all(errors[key]["high"] < 0.5 * spread for key, spread in DEVIATIONS.items() if key != "homo")
    assert errors["homo"]["high"] < 0.6 * DEVIATIONS["homo"]


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_rotation_changes_a_prediction_by_round_off(name):
    torch.manual_seed(0)
    network = predictor(name, torch.float64)
    x = project(torch.randn(2, 9, 8, dtype=torch.float64))
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    turned = torch.cat([x[..., :3] @ turn, x[..., 3:]], -1)
    torch.testing.assert_close(network(turned), network(x), rtol=1e-11, atol=1e-9)


def test_methane_has_no_dipole_by_its_symmetry_and_the_guide_has_gradients_in_coordinates_and_types():
    x = encode(["C", "H", "H", "H", "H"], METHANE).requires_grad_()
    assert predictor()(x)[0, data.property_index("mu")].abs() < 1e-4
    (gradient,) = torch.autograd.grad(PropertyLoss(predictor(), "alpha", 60.0)(x).sum(), x)
    assert gradient[..., :3].abs().max() > 0
    assert gradient[..., 3:].abs().max() > 0

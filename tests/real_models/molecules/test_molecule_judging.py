"""Judgement of guided molecules. Truths: predictions by hand, molecules that are stable or not by their bonds."""

import math

import pytest
import torch

from real_models.molecules import data, judging, xtb
from real_models.molecules.flow import encode
from real_models.molecules.predictor import Predictor
from real_models.molecules.targets import Targets

METHANE = [[0.0, 0, 0], [0.63, 0.63, 0.63], [-0.63, -0.63, 0.63], [-0.63, 0.63, -0.63], [0.63, -0.63, -0.63]]
SMALL = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "pairs": 8, "forces": 2, "radial": 12}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Predictor(**SMALL).requires_grad_(False)


@pytest.fixture
def events():
    """Methane, and the same with one hydrogen far away; types are soft, as a flow makes them."""
    whole, torn = encode("CHHHH", METHANE), encode("CHHHH", [*METHANE[:4], [5.0, 5.0, 5.0]])
    x = torch.cat([whole, torn])
    x[..., 3:] = 0.8 * x[..., 3:] + 0.01
    return x


def judged(x, properties, wanted, network, physics=False):
    drawn = Targets(x, properties, torch.tensor(wanted, dtype=torch.float64))
    made = judging.judgements(x, drawn, network, network, physics)
    return {metric: (values, statuses) for metric, values, statuses in made}


def test_errors_are_of_the_decoded_molecule(network, events):
    values, statuses = judged(events, ("mu", "alpha"), [1.0, 60.0], network)["error"]
    own = network(encode("CHHHH", METHANE))[0, data.property_index("mu")]
    assert values[0] == pytest.approx(abs(float(own) - 1.0), abs=1e-5)
    assert statuses == ["ok", "ok"]


def test_stability_is_that_of_the_bonds(network, events):
    made = judged(events, ("mu", "mu"), [1.0, 1.0], network)
    assert made["stable"][0] == [1.0, 0.0]
    assert made["stable_atoms"][0] == pytest.approx([1.0, 3 / 5])
    assert set(made) == {"error", "guide_error", "stable", "stable_atoms"}


def test_a_prediction_that_overflows_has_a_status_and_no_value(events):
    class Overflowing(torch.nn.Module):
        def forward(self, x):
            return torch.tensor([[1.0] * 6, [math.inf] * 6])

    values, statuses = judged(events, ("mu", "mu"), [1.0, 1.0], Overflowing())["error"]
    assert values[0] == 0
    assert math.isnan(values[1])
    assert statuses == ["ok", "the predictor overflows"]


def test_physics_judges_what_it_can_and_says_why_not(network, events, monkeypatch):
    pytest.importorskip("rdkit", reason="rdkit is not installed")

    def predicted(atoms, position, name):
        if position.norm(dim=1).max() > 3:
            raise xtb.JudgeError("torn")
        return 1.25

    monkeypatch.setattr(xtb, "predicted", predicted)
    x = torch.cat([events, events[:1]])
    values, statuses = judged(x, ("mu", "mu", "Cv"), [1.0, 1.0, 30.0], network, physics=True)["xtb_error"]
    assert values[0] == 0.25
    assert all(math.isnan(value) for value in values[1:])
    assert statuses == ["ok", "torn", "not judged by this method"]
    assert judged(x, ("mu",) * 3, [1.0] * 3, network, physics=True)["valid"][0][0] == 1.0


def test_a_written_molecule_is_read_again(events):
    atoms, position = judging.read(judging.text(events)[0])
    assert atoms.tolist() == data.element_indices("CHHHH")
    torch.testing.assert_close(position, torch.tensor(METHANE, dtype=torch.float64), rtol=0, atol=6e-4)

"""Targets of guided molecules, and the loss that takes one property for each of them.

Truths: deciles of the data, and losses of single properties, one molecule at a time.
"""

import warnings

import numpy as np
import pytest
import torch

from real_models.molecules import data, targets
from real_models.molecules.network import project
from real_models.molecules.predictor import Predictor
from real_models.molecules.property_loss import PropertyLoss
from tests.support.molecules import molecules

SMALL = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "pairs": 8, "forces": 2, "radial": 12}


@pytest.fixture
def guide():
    torch.manual_seed(0)
    made = Predictor(**SMALL).double().requires_grad_(False)
    made.scale[:] = torch.tensor([3.0, 900.0, 500.0, 900.0, 1.5, 2.0])
    return made


def test_wanted_values_lie_between_the_deciles_and_have_their_median():
    for name, deciles in targets.DECILES.items():
        values = targets.wanted(name, 4000, torch.Generator().manual_seed(0))
        assert deciles[0] <= values.min() <= values.max() <= deciles[-1]
        assert float((values < deciles[4]).double().mean()) == pytest.approx(0.5, abs=0.03)


def test_targets_are_the_same_for_equal_seeds_and_have_noise_of_centred_molecules():
    one, other = (targets.draw(2, torch.Generator().manual_seed(3)) for _ in range(2))
    assert one.properties == tuple(name for name in data.PROPERTIES for _ in range(2))
    assert one.x0.shape == (12, targets.ATOMS, 8)
    torch.testing.assert_close(one.x0, other.x0, rtol=0, atol=0)
    torch.testing.assert_close(one.wanted, other.wanted, rtol=0, atol=0)
    assert one.x0[..., :3].mean(1).abs().max() < 1e-6
    assert len(one.part(slice(5))) == len(one.part(slice(5)).properties) == 5


@pytest.fixture
def made_up(monkeypatch):
    """Random chains in place of QM9, with the number of atoms in place of the first property."""
    monkeypatch.setattr(data, "load", lambda: molecules(1200))
    targets.statistics.cache_clear()
    yield molecules(1200)
    targets.statistics.cache_clear()


def test_molecules_of_another_size_are_wanted_as_those_of_the_data_are(made_up, monkeypatch):
    labels = made_up.properties[made_up.of_size(5)]
    deciles, spread = targets.statistics(5)
    assert deciles["mu"] == pytest.approx(np.quantile(labels[:, 4], np.arange(1, 10) / 10))
    assert spread["Cv"] == pytest.approx(np.abs(labels[:, 5] - np.median(labels[:, 5])).mean())
    drawn = targets.draw(2, torch.Generator().manual_seed(0), ("alpha",), 5)
    assert (drawn.atoms, drawn.x0.shape) == (5, (2, 5, 8))
    assert targets.statistics(targets.ATOMS) == (targets.DECILES, targets.SPREAD)


def test_sizes_that_hardly_any_molecule_has_are_refused(made_up):
    with pytest.raises(
        ValueError, match=r"atoms must be a number that 100 molecules of QM9 have, one of \[.*\], got 30"
    ):
        targets.draw(1, torch.Generator(), ("mu",), 30)
    with pytest.raises(ValueError, match="atoms must be"):
        targets.statistics(0)


def test_a_loss_of_several_properties_is_that_of_each_alone(guide):
    drawn = targets.draw(1, torch.Generator().manual_seed(1))
    x = project(torch.randn(6, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    together = drawn.loss(guide)(x)
    alone = [
        PropertyLoss(guide, name, float(value))(x[i : i + 1])[0]
        for i, (name, value) in enumerate(zip(drawn.properties, drawn.wanted, strict=True))
    ]
    torch.testing.assert_close(together, torch.stack(alone))


def test_malformed_targets_are_refused(guide):
    with pytest.raises(ValueError, match="each must be"):
        targets.draw(0, torch.Generator())
    with pytest.raises(ValueError, match="property must be one of alpha, gap, homo, lumo, mu, Cv, got 'mass'"):
        targets.draw(1, torch.Generator(), ("mass",))
    with pytest.raises(ValueError, match="property must be one of"):
        PropertyLoss(guide, ("alpha", "mass"), 60.0)
    with pytest.raises(ValueError, match=r"wanted must be one number or have shape \(2,\), as property does"):
        PropertyLoss(guide, ("alpha", "mu"), torch.tensor([60.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="property must name one for all, or one for each of 3 molecules, got 2"):
        PropertyLoss(guide, ("alpha", "mu"), torch.tensor([60.0, 2.0]))(torch.zeros(3, 5, 8, dtype=torch.float64))


def test_a_value_outside_the_range_of_its_own_property_warns(guide):
    with pytest.warns(UserWarning, match=r"wanted: mu of 998 in 1000 .* \[0, 13.5\] D, and a value outside"):
        PropertyLoss(guide, ("alpha", "mu"), torch.tensor([60.0, 60.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PropertyLoss(guide, ("alpha", "mu"), torch.tensor([60.0, 6.0]))

"""The flow of molecules, its samples, and the guide as a loss, with networks of random weights.

Truths: the contract of ``analysis.flow``, autograd in float64, the symmetry of the network, and molecules that go into
events and come out again.
"""

import numpy as np
import pytest
import torch

from analysis import gradients
from real_models import checkpoint
from real_models.molecules import data
from real_models.molecules.flow import decode, draw_sizes, encode, flow, network, noise, sample
from real_models.molecules.network import Velocity
from real_models.molecules.predictor import Predictor
from real_models.molecules.property_loss import PropertyLoss, predictor

SMALL = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "blocks": 2, "pairs": 8, "forces": 2, "context": 8}
GUIDE = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "pairs": 8, "forces": 2, "radial": 12}
WATER = np.array([[0.0, 0, 0], [0.9572, 0, 0], [-0.24, 0.9266, 0]])


@pytest.fixture
def velocity():
    torch.manual_seed(0)
    return Velocity(**SMALL).double().requires_grad_(False)


@pytest.fixture
def guide():
    torch.manual_seed(0)
    return Predictor(**GUIDE).double().requires_grad_(False)


def test_noise_has_no_centre_of_mass_and_the_flow_keeps_it(velocity):
    x = noise(3, 5, torch.Generator().manual_seed(0), torch.float64)
    assert x.shape == (3, 5, 8)
    learned = flow(5, velocity=velocity)
    for value in (x, learned.velocity(x, 0.3), learned.target(x, 0.3)):
        assert value[..., :3].mean(1).abs().max() < 1e-14


def test_samples_are_the_same_for_the_same_seed_and_of_the_numbers_asked_for(velocity):
    events = sample(6, steps=2, seed=1, velocity=velocity)
    again = sample(6, steps=2, seed=1, velocity=velocity)
    assert sum(len(x) for x in events.values()) == 6
    assert all(torch.equal(x, again[n]) and x.shape[1:] == (n, 8) for n, x in events.items())


def test_numbers_of_atoms_are_drawn_as_the_data_have_them():
    sizes = draw_sizes(20_000, torch.Generator().manual_seed(0))
    assert sizes.double().mean() == pytest.approx(18.03, abs=0.1)
    assert set(sizes.tolist()) <= set(data.SIZES)
    assert sum(data.SIZES.values()) == data.HALF


def test_estimators_run_on_it_and_greedy_is_autograds(velocity, guide):
    x, learned = noise(2, 5, torch.Generator().manual_seed(0), torch.float64), flow(5, velocity=velocity)
    loss = PropertyLoss(guide, "alpha", torch.tensor([50.0, 60.0]))
    estimated = gradients.greedy(learned, loss, x, 0.4).gradient
    y = x.clone().requires_grad_()
    ahead = y + 0.6 * velocity(y, torch.full((2,), 0.4, dtype=torch.float64))
    torch.testing.assert_close(estimated, torch.autograd.grad(loss(ahead).sum(), y)[0])


def test_a_molecule_comes_out_as_it_went_in():
    atoms, position = decode(encode(["O", "H", "H"], WATER + 7.0, torch.float64))
    assert [data.ELEMENTS[i] for i in atoms[0]] == ["O", "H", "H"]
    np.testing.assert_allclose(position[0], WATER - WATER.mean(0), atol=1e-12)


def test_bad_molecules_are_refused():
    with pytest.raises(ValueError, match="elements must be among H, C, N, O, F, got S"):
        encode(["S", "H", "H"], WATER)
    with pytest.raises(ValueError, match=r"1 to 29 atoms, got 30"):
        encode(["H"] * 30, np.zeros((30, 3)))
    with pytest.raises(ValueError, match=r"overlapping atoms; two are 0\.0957 Angstrom apart"):
        encode(["O", "H", "H"], WATER / 10)
    with pytest.raises(ValueError, match=r"position must have shape \(3, 3\)"):
        encode(["O", "H", "H"], WATER[:2])
    with pytest.raises(ValueError, match="position must be finite"):
        encode(["O", "H", "H"], WATER * np.nan)
    with pytest.raises(ValueError, match=r"x must have shape \(B, N, 8\)"):
        decode(torch.zeros(3, 8))


def test_bad_numbers_of_atoms_and_steps_are_refused(velocity):
    with pytest.raises(ValueError, match="at most 29 atoms"):
        flow(30, velocity=velocity)
    with pytest.raises(ValueError, match="n must be an integer of at least 1"):
        flow(0, velocity=velocity)
    with pytest.raises(ValueError, match="steps must be an integer"):
        sample(3, steps=0, velocity=velocity)
    with pytest.raises(ValueError, match="solver must be one of"):
        sample(3, solver="leapfrog", velocity=velocity)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 5, 8\)"):
        flow(5, velocity=velocity).velocity(torch.zeros(2, 4, 8, dtype=torch.float64), 0.5)


def test_weights_of_another_architecture_are_refused(tmp_path, velocity, guide):
    checkpoint.save(tmp_path / "guide.safetensors", velocity.state_dict(), config=velocity.config)
    checkpoint.save(tmp_path / "flow.safetensors", guide.state_dict(), config=guide.config)
    with pytest.raises(ValueError, match="another architecture than Predictor"):
        predictor("guide", folder=tmp_path)
    with pytest.raises(ValueError, match="another architecture than Velocity"):
        network(path=tmp_path / "flow.safetensors")
    with pytest.raises(ValueError, match="name must be one of evaluator, guide"):
        predictor("oracle")


def test_the_loss_is_zero_at_what_the_guide_says_and_half_at_one_spread(guide):
    x = noise(3, 6, torch.Generator().manual_seed(0), torch.float64)
    predicted = guide(x)[:, data.property_index("Cv")]
    with pytest.warns(UserWarning, match="Cv of 998 in 1000 molecules"):
        exact, away = PropertyLoss(guide, "Cv", predicted), PropertyLoss(guide, "Cv", predicted + guide.scale[0])
    assert exact(x).abs().max() == 0
    torch.testing.assert_close(away(x), torch.full((3,), 0.5, dtype=torch.float64))


def test_bad_wanted_values_are_refused_or_warned_of(guide):
    with pytest.raises(ValueError, match="property must be one of alpha"):
        PropertyLoss(guide, "mass", 1.0)
    with pytest.raises(ValueError, match="wanted must be finite"):
        PropertyLoss(guide, "alpha", float("nan"))
    with pytest.raises(ValueError, match=r"wanted must be one number or have shape \(B,\)"):
        PropertyLoss(guide, "alpha", torch.full((2, 6), 60.0))
    loss = PropertyLoss(guide, "alpha", torch.full((2,), 60.0))
    with pytest.raises(ValueError, match=r"wanted must be one number or have shape \(3,\)"):
        loss(torch.zeros(3, 6, 8, dtype=torch.float64))
    with pytest.warns(UserWarning, match=r"lies in \[40, 100.2\] Bohr\^3"):
        PropertyLoss(guide, "alpha", 300.0)

"""The velocity network.

Truths: the symmetries of molecules, central differences, and the moments of noise and data that the scaling is for.
"""

import pytest
import torch

from real_models.molecules.network import Velocity, project, scaling

SMALL = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "blocks": 2, "pairs": 8, "forces": 2, "context": 8}


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = Velocity(**SMALL).double()
    for part in made.parameters():
        part.data += 0.1 * torch.randn_like(part)
    return made


@pytest.fixture
def events():
    torch.manual_seed(1)
    return project(torch.randn(3, 7, 8, dtype=torch.float64))


TIMES = torch.tensor([0.0, 0.6, 1.0], dtype=torch.float64)


def test_the_velocity_turns_and_permutes_with_the_molecule_and_has_no_drift(network, events):
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    order = torch.randperm(7)
    moved = torch.cat([events[..., :3] @ turn + 2.0, events[..., 3:]], -1)[:, order]
    plain, changed = network(events, TIMES), network(moved, TIMES)
    expected = torch.cat([plain[..., :3] @ turn, plain[..., 3:]], -1)[:, order]
    torch.testing.assert_close(changed, expected, rtol=0, atol=1e-12)
    assert plain[..., :3].mean(1).abs().max() < 1e-14


def test_products_with_the_jacobian_agree_with_differences(network, events):
    tangent = torch.randn_like(events)
    _, product = torch.func.jvp(lambda x: network(x, TIMES), (events,), (tangent,))
    step = 1e-5
    difference = (network(events + step * tangent, TIMES) - network(events - step * tangent, TIMES)) / (2 * step)
    torch.testing.assert_close(product, difference, rtol=1e-6, atol=1e-7)


def test_atoms_on_top_of_each_other_give_finite_velocities_and_gradients(network):
    x = torch.zeros(2, 4, 8, dtype=torch.float64, requires_grad=True)
    value = network(x, TIMES[:2])
    (gradient,) = torch.autograd.grad(value.square().sum(), x)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


def test_what_is_left_after_the_skip_has_unit_variance_at_all_times():
    generator = torch.Generator().manual_seed(0)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    noise, x1 = (torch.randn(11, 200_000, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    x1 = x1 * torch.tensor([2.8] * 3 + [0.5 / 5**0.5] * 5)
    state = noise + t[:, None, None] * (x1 - noise)
    _, skip, out = scaling(t)
    left = (x1 - noise - skip * state) / out
    assert left.square().mean(1) == pytest.approx(torch.ones(11, 8), abs=0.02)
    assert (left * state).mean(1).abs().max() < 0.02


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="blocks must divide layers"):
        Velocity(**SMALL | {"blocks": 3})

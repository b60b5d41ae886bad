"""Muon for many matrices at once. Truth: torch's own, matrix by matrix."""

import pytest
import torch

from real_models.molecules.optimiser import Muon, muon, orthogonal

SHAPES = [(6, 4), (3, 5), (6, 4), (4, 4), (3, 5)]


def matrices():
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def moved(make, steps=4):
    parts = matrices()
    optimiser, generator = make(parts), torch.Generator().manual_seed(1)
    for _ in range(steps):
        for part in parts[:-1]:  # the last one has no gradient
            part.grad = torch.randn(part.shape, generator=generator)
        optimiser.step()
    return parts, optimiser


def test_it_moves_matrices_as_torch_does_to_the_round_off_of_bfloat16():
    options = {"lr": 0.1, "weight_decay": 0.2}
    ours, _ = moved(lambda parts: Muon(parts, **options))
    theirs, _ = moved(lambda parts: torch.optim.Muon(parts, **options, adjust_lr_fn="match_rms_adamw"))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=0.01)
    assert torch.equal(ours[-1], matrices()[-1])


def test_its_state_is_restored():
    def make(parts):
        return muon(parts, torch.nn.ParameterList([*parts, torch.nn.Parameter(torch.ones(2))]), 0.1, 0.0)

    _, optimiser = moved(make)
    again = make(matrices())
    again.load_state_dict(optimiser.state_dict())
    pairs = zip(optimiser.state_dict()["state"].values(), again.state_dict()["state"].values(), strict=True)
    assert all(torch.equal(one["momentum_buffer"], other["momentum_buffer"]) for one, other in pairs)


@pytest.mark.parametrize("shape", [(2, 7, 3), (2, 3, 7)])
def test_singular_values_are_near_one(shape):
    group = torch.optim.Muon([torch.nn.Parameter(torch.ones(2, 2))]).param_groups[0]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = orthogonal(x, group["ns_coefficients"], group["ns_steps"], group["eps"]).float()
    assert torch.linalg.svdvals(made).sub(1).abs().max() < 0.4

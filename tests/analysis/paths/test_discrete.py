"""Paths of discrete schedules; the truth at a timestep is the product of 1 - beta, in Python's own fractions."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from analysis import paths
from analysis.paths import LinearVP, from_alphas_cumprod, from_betas

BETAS = [Fraction(1, 100), Fraction(1, 20), Fraction(1, 8), Fraction(1, 2), Fraction(9, 10)]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_a_path_of_betas_goes_through_every_timestep(kind):
    path = from_betas(kind([float(b) for b in BETAS]))
    left = Fraction(1)
    for n, beta in enumerate(BETAS):
        left *= 1 - beta
        t = 1 - n / (len(BETAS) - 1)
        assert float(path.alpha(t) ** 2) == pytest.approx(float(left), rel=1e-6)
        assert float(path.sigma(t) ** 2) == pytest.approx(float(1 - left), rel=1e-6)
    same = from_alphas_cumprod((1 - torch.tensor([float(b) for b in BETAS], dtype=torch.float64)).cumprod(0))
    assert torch.allclose(same.alpha(0.37), path.alpha(0.37), rtol=1e-6)


@pytest.mark.parametrize(
    "betas", [[0.1, 0.2, 0.3], [0.0, 0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 1.1], [0.1, 0.2, 1.0, 0.3], [[0.1] * 4]]
)
def test_bad_betas_are_refused(betas):
    with pytest.raises(ValueError, match=r"betas must be at least four numbers|alphas_cumprod must be"):
        from_betas(betas)


def test_many_small_betas_are_the_variance_preserving_sde():
    """DDPM's betas are the rates of the SDE times the length of a step (arXiv 2011.13456, appendix B)."""
    n = 20_000
    path, sde = from_betas(torch.linspace(0.1, 20.0, n, dtype=torch.float64) / n), paths.VPSDE(0.1, 20.0)
    assert isinstance(sde, LinearVP)
    t = torch.linspace(0, 0.99, 25, dtype=torch.float64)
    assert torch.allclose(path.alpha(t), sde.alpha(t), atol=2e-3)
    assert torch.allclose(path.sigma(t), sde.sigma(t), atol=2e-3)

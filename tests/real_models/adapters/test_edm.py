"""EDM-preconditioned networks against their formulas written out, on their own path and at equal zeta on others."""

import math

import pytest
import torch

from analysis.paths import CondOT, LinearVP, VarianceExploding
from real_models.adapters import edm
from tests.support.adapters import DIM, Small, T, finite_at_the_ends, moved, plain, same_flow, same_reference
from tests.support.problems import f64, randn

NET, DATA = Small(), 0.7


def denoised(x, sigma):
    """Table 1 of Karras et al. 2022, as it stands there."""
    s, noise = sigma[:, None], sigma.log() / 4
    skip, out, into = DATA**2 / (s**2 + DATA**2), s * DATA / (DATA**2 + s**2).sqrt(), 1 / (s**2 + DATA**2).sqrt()
    return skip * x + out * NET(into * x, noise)


def velocity(path):
    """From the denoiser at sigma = zeta and the state of alpha = 1."""

    def by_hand(x, t):
        alpha, sigma, da, ds = (c(t)[:, None] for c in (path.alpha, path.sigma, path.d_alpha, path.d_sigma))
        clean = denoised(x / alpha, path.zeta(t))
        return da * clean + ds * (x - alpha * clean) / sigma

    return by_hand


@pytest.mark.parametrize("path", [VarianceExploding(), CondOT(), LinearVP()], ids=["ve", "condot", "vp"])
def test_a_preconditioned_network_is_the_flow_of_its_formulas(path):
    flow = edm.flow(edm.Preconditioned(NET, DATA), path=path)
    assert flow.path == path
    # On EDM's path 1 - t = sigma/80 is known to 80 round-offs of sigma = 1.
    same_flow(flow, plain(velocity(path), path), 1e-10, path.time_from_zeta(f64([20.0, 4.0, 1.0, 0.5, 0.1])))


def test_the_state_on_its_own_path_is_that_of_the_network():
    flow = edm.flow(denoised, sigma_max=10.0)
    assert flow.path == VarianceExploding(10.0)
    x = randn(5, DIM)
    torch.testing.assert_close(flow.target(x, T), denoised(x, 10 * (1 - T)), rtol=1e-13, atol=0)


def test_along_another_path_it_is_what_any_flow_along_another_path_is():
    flow = edm.flow(edm.Preconditioned(NET, DATA), path=CondOT())
    same_flow(flow, moved(flow, CondOT()), 1e-12)


def test_a_noise_level_beyond_its_range_is_moved_to_the_end():
    seen = []

    def network(x, sigma):
        seen.append(sigma)
        return denoised(x, sigma)

    flow = edm.flow(network, path=CondOT(), sigma_min=0.01, sigma_max=50.0)
    flow.target(randn(4, DIM), f64([0.0, 0.01, 0.5, 1.0]))
    torch.testing.assert_close(seen[0], f64([50.0, 50.0, 1.0, 0.01]), rtol=1e-12, atol=0)
    finite_at_the_ends(flow)
    finite_at_the_ends(edm.flow(network))


def test_near_the_data_a_float32_network_is_told_sigma_to_its_last_bits():
    seen = []

    def network(x, sigma):
        seen.append(sigma)
        return x

    edm.flow(network).target(torch.zeros(1, DIM), 1 - 0.0025 / 80)
    assert seen[0].dtype == torch.float32
    assert abs(seen[0].item() / 0.0025 - 1) <= 2 * torch.finfo(torch.float32).eps


def test_its_ideal_gradient_is_that_of_the_plain_network():
    flow = edm.flow(edm.Preconditioned(NET, DATA), path=CondOT(), sigma_min=1e-3)
    # The plain velocity is 0/0 at t = 1, where RK4's last stage asks.
    by_hand = velocity(CondOT())
    same_reference(flow, plain(lambda x, t: by_hand(x, t.clamp(max=0.999)), CondOT()))


def test_conditioning_and_events_reach_the_network():
    def network(x, sigma, class_labels):
        assert (x.shape, class_labels.shape) == ((5, 1, 3, 1), (5, 2))
        return x * class_labels.sum(1)[:, None, None, None]

    options = {"event_shape": (1, 3, 1), "flat": True, "conditioning": {"class_labels": torch.tensor([[0.0, 2.0]])}}
    flow = edm.flow(edm.Preconditioned(network, DATA), path=CondOT(), **options)
    x, t = randn(5, DIM), f64([0.5] * 5)
    skip, gain = DATA**2 / (1 + DATA**2), DATA / (1 + DATA**2) * 2
    torch.testing.assert_close(flow.target(x, t), (skip + gain) * 2 * x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: edm.flow(denoised, sigma_min=2.0, sigma_max=1.0), "sigma_min, sigma_max must satisfy"),
        (lambda: edm.flow(denoised, sigma_min=0.0), "sigma_min must be positive"),
        (lambda: edm.flow(denoised, sigma_max=math.inf), "sigma_max must be positive and finite"),
        (lambda: edm.flow("net.pt"), "network must be an nn.Module or a function, got str"),
        (lambda: edm.flow(denoised, path="ve"), "path must be an analysis.paths.AffinePath"),
        (lambda: edm.Preconditioned(NET, 0.0), "sigma_data must be positive"),
        (lambda: edm.Preconditioned(None), "network must be an nn.Module or a function"),
        (lambda: edm.flow(lambda x, s: x[:, :1]).velocity(randn(2, DIM), 0.5), "network must return a tensor of its"),
    ],
)
def test_what_is_no_edm_network_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()

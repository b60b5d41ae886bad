"""azula's denoisers and schedules against their formulas written out, on their own paths and on others."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch

from analysis.paths import CondOT, LinearVP, UserPath
from real_models import adapters
from tests.support.adapters import DIM, Small, T, finite_at_the_ends, moved, plain, same_flow, same_reference
from tests.support.problems import EPS, distance, f64, randn
from toy_models import GaussianFlow

noise = pytest.importorskip("azula.noise")
denoise = pytest.importorskip("azula.denoise")
covariance = pytest.importorskip("azula.linalg.covariance")

NET = Small()
LOW, HIGH = math.log(0.01), math.log(50.0)


def rounded(s, alpha):
    return alpha, (1 - alpha**2 + 0.02**2).sqrt()


# azula's schedule, and its formula in azula's time s, from its documentation
SCHEDULES = {
    "ve": (noise.VESchedule(0.01, 50.0), lambda s: (torch.ones_like(s), ((1 - s) * LOW + s * HIGH).exp())),
    "vp": (noise.VPSchedule(0.01, 0.02), lambda s: rounded(s, (s**2 * math.log(0.01)).exp())),
    "cosine": (noise.CosineSchedule(0.01, 0.02), lambda s: rounded(s, (s * math.acos(0.01)).cos())),
    "rectified": (noise.RectifiedSchedule(0.01, 0.02), lambda s: (1 - 0.99 * s, 0.02 + 0.98 * s)),
    "decay": (
        noise.DecaySchedule(0.01, 0.02, 0.1),
        lambda s: (1 - 0.99 * (1 - 0.1**s) / 0.9, 0.02 + 0.98 * (1 - 0.1**s) / 0.9),
    ),
}


def denoised(x, zeta):
    """KarrasDenoiser at alpha = 1: EDM's preconditioning with unit data and log(zeta) for the time."""
    r2 = (1 + zeta**2)[:, None]
    return x / r2 + zeta[:, None] / r2.sqrt() * NET(x / r2.sqrt(), zeta.log())


def velocity(path):
    def by_hand(x, t):
        alpha, sigma, da, ds = (c(t)[:, None] for c in (path.alpha, path.sigma, path.d_alpha, path.d_sigma))
        clean = denoised(x / alpha, path.zeta(t))
        return da * clean + ds * (x - alpha * clean) / sigma

    return by_hand


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_denoiser_is_the_flow_of_its_formulas_on_its_own_path(name):
    schedule, formula = SCHEDULES[name]
    flow = adapters.azula.flow(denoise.KarrasDenoiser(NET, schedule))
    path = UserPath(lambda t: formula(1 - t)[0], lambda t: formula(1 - t)[1])
    for one in ("alpha", "sigma", "d_alpha", "d_sigma"):
        torch.testing.assert_close(getattr(flow.path, one)(T), getattr(path, one)(T), rtol=1e-12, atol=1e-14)
    by_hand = plain(velocity(path), flow.path)
    same_flow(flow, by_hand, 1e-10)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_the_same_flow_along_one_path(name):
    """A Karras denoiser does not depend on its schedule but for its range, here zeta from 0.02 to 50."""
    for path in (CondOT(), LinearVP()):
        flow = adapters.azula.flow(denoise.KarrasDenoiser(NET, SCHEDULES[name][0]), path=path)
        t = path.time_from_zeta(f64([10.0, 4.0, 1.0, 0.5, 0.1]))
        same_flow(flow, plain(velocity(path), path), 1e-9, t)
        same_flow(flow, moved(flow, path), 1e-9, t)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_gaussian_s_denoiser_is_the_analytic_flow_at_times_of_its_own(name):
    mean, variance = f64([0.5, -1.0, 0.2]), 0.3
    denoiser = denoise.GaussianDenoiser(mean, covariance.IsotropicCovariance(f64(variance)), SCHEDULES[name][0])
    flow = adapters.azula.flow(denoiser)
    exact = GaussianFlow(mean, variance * torch.eye(DIM, dtype=torch.float64), flow.path)
    # Its formula subtracts numbers zeta^2 times larger than their difference.
    same_flow(flow, exact, 1e-8)


@pytest.mark.parametrize("name", SCHEDULES)
def test_zeta_is_inverted_to_round_off(name):
    path = adapters.azula.schedule_path(SCHEDULES[name][0])
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    zeta = path.zeta(t)
    # 1 - alpha^2 + sigma_min^2 has lost as much as sigma_min^2 = 4e-4 is smaller than 1.
    torch.testing.assert_close(path.zeta(path.time_from_zeta(zeta)), zeta, rtol=1e4 * EPS, atol=0)
    assert path.time_from_zeta(f64([0.0, math.inf])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("low", [0.01, 0.0])
@pytest.mark.parametrize("kind", [noise.CosineSchedule, noise.RectifiedSchedule, noise.DecaySchedule])
def test_the_ends_of_time_are_finite(kind, low):
    flow = adapters.azula.flow(denoise.KarrasDenoiser(NET, kind(low, low)))
    assert (flow.t_min, flow.t_max) == ((0.0, 1.0) if low else (0.001, 0.999))
    finite_at_the_ends(flow)
    finite_at_the_ends(flow.with_path(CondOT()))


def test_a_slope_that_autograd_loses_at_the_data_is_its_limit():
    path = adapters.azula.schedule_path(noise.CosineSchedule(0.0, 0.0))
    # sigma = sqrt(1 - cos^2) = sin, whose slope at 0 is pi/2; at 1e-5 the difference has lost half its digits.
    assert abs(path.d_sigma(1.0).item() / (-math.pi / 2) - 1) <= 1e-5
    assert path.d_alpha(f64([0.0, 0.5, 1.0])).isfinite().all()


def test_its_ideal_gradient_is_that_of_the_plain_network():
    flow = adapters.azula.flow(denoise.KarrasDenoiser(NET, noise.RectifiedSchedule(1e-3, 0.02)))
    same_reference(flow, plain(velocity(flow.path), flow.path))


def test_a_float32_denoiser_gives_float32_and_is_asked_at_its_own_dtype():
    denoiser = denoise.SimpleDenoiser(Small().float(), noise.VPSchedule())
    x = randn(5, DIM)
    found = adapters.azula.flow(denoiser, path=CondOT()).target(x.float(), T)
    expected = adapters.azula.flow(denoise.SimpleDenoiser(NET, noise.VPSchedule()), path=CondOT()).target(x, T)
    assert found.dtype == torch.float32
    assert distance(found.double(), expected) <= 1e-5


def test_older_schedules_and_posteriors_are_taken_too():
    class Old(torch.nn.Module):
        """As up to azula 0.2: the schedule adds an axis, and the posterior is any object with a mean."""

        def schedule(self, t):
            return (1 - t).unsqueeze(-1), (t + 0.01).unsqueeze(-1)

        def forward(self, x, t, label):
            return SimpleNamespace(mean=label * x)

    label = torch.arange(5.0, dtype=torch.float64)[:, None]
    flow = adapters.azula.flow(Old(), conditioning={"label": label}, event_shape=(DIM,))
    x = randn(5, DIM)
    assert torch.equal(flow.target(x, T), label * x)
    torch.testing.assert_close(flow.path.sigma(T), 1.01 - T)


@pytest.mark.parametrize(
    ("denoiser", "message"),
    [
        (NET, "denoiser must be an azula.denoise.Denoiser, which has a noise schedule; got Small"),
        ((NET, None), "denoiser must be an azula.denoise.Denoiser.*got tuple"),
        (denoise.KarrasDenoiser(NET, lambda t: (t, 1 - t)), "strictly decreasing"),
    ],
    ids=["module", "tuple", "reversed"],
)
def test_what_is_no_denoiser_is_refused(denoiser, message):
    with pytest.raises(ValueError, match=message):
        adapters.azula.flow(denoiser)


def test_answers_that_are_no_posterior_mean_are_refused():
    flow = adapters.azula.flow(denoise.KarrasDenoiser(lambda x, t: x, noise.VPSchedule()))
    for answer, message in ((f64([1.0]), "posterior with a tensor .mean"), (SimpleNamespace(mean=f64([1.0])), "shape")):
        flow.function.network.forward = lambda x, t, answer=answer: answer
        with pytest.raises(ValueError, match=message):
            flow.target(randn(5, DIM), 0.5)


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    for name in ("azula", "azula.denoise", "diffusers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'azula is not installed .*pip install -e ".\[models\]"'):
        adapters.azula.flow(NET)
    with pytest.raises(ImportError, match=r'diffusers is not installed .*pip install -e ".\[models\]"'):
        adapters.diffusers.flow(NET, None)

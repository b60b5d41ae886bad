"""The project's own network of digits, seen as a plain module, an azula denoiser, a diffusers model and an EDM one."""

import pytest
import torch

from analysis import gradients, losses
from analysis.paths import CondOT
from real_models import adapters, images
from tests.support.problems import distance, f64

SIDE = 28
EVENT = {"event_shape": (1, SIDE, SIDE), "flat": True}


def column(c):
    return c.reshape(-1, 1, 1, 1)


class Target(torch.nn.Module):
    """x1hat and x0hat of the network for a state of any scale at noise level zeta = sigma/alpha."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, alpha, zeta):
        t = 1 / (1 + zeta)
        state = x * column(t / alpha)
        u = self.network(state, t)
        return state + column(1 - t) * u, state - column(t) * u


@pytest.fixture(scope="module")
def network():
    return images.network("mnist")


@pytest.fixture(scope="module")
def module(network):
    return adapters.module.flow(network, CondOT(), **EVENT)


def as_azula(network):
    noise, denoise = pytest.importorskip("azula.noise"), pytest.importorskip("azula.denoise")

    class Denoiser(denoise.Denoiser):
        def __init__(self):
            super().__init__()
            self.both, self.schedule = Target(network), noise.VPSchedule()

        def forward(self, x, t):
            alpha, sigma = self.schedule(t)
            return denoise.DiracPosterior(self.both(x, alpha, sigma / alpha)[0])

    return adapters.azula.flow(Denoiser(), path=CondOT(), **EVENT)


def as_edm(network):
    both = Target(network)
    return adapters.edm.flow(lambda x, sigma: both(x, torch.ones_like(sigma), sigma)[0], path=CondOT(), **EVENT)


def as_ddpm(network):
    library = pytest.importorskip("diffusers")
    scheduler, both = library.DDPMScheduler(), Target(network)

    def noise(x, n):
        assert torch.equal(n, n.round())
        cumulative = scheduler.alphas_cumprod[n.long()].double()
        alpha, zeta = cumulative.sqrt(), ((1 - cumulative) / cumulative).sqrt()
        return both(x, alpha.to(x), zeta.to(x))[1]

    return adapters.diffusers.flow(noise, scheduler, path=CondOT(), **EVENT)


def as_flow_matching(network):
    library = pytest.importorskip("diffusers")
    scheduler = library.FlowMatchEulerDiscreteScheduler()
    return adapters.diffusers.flow(lambda x, n: (-network(x, 1 - n / 1000),), scheduler, **EVENT)


STRATEGIES = {"azula": as_azula, "edm": as_edm, "ddpm": as_ddpm, "flow_matching": as_flow_matching}


def times():
    """Times on the CondOT path at which a DDPM's zeta is that of an integer timestep."""
    betas = torch.linspace(1e-4, 0.02, 1000)  # float32, as the scheduler has them
    cumulative = torch.cumprod(1 - betas, 0)[[100, 300, 500, 700]].double()
    return 1 / (1 + ((1 - cumulative) / cumulative).sqrt())


def states(n):
    return torch.randn(n, SIDE**2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("way", STRATEGIES)
def test_one_network_has_one_velocity_however_it_is_wrapped(way, network, module):
    flow, t = STRATEGIES[way](network), times()
    x = states(len(t))
    assert flow.path == module.path == CondOT()
    assert flow.event_shape == module.event_shape == (SIDE**2,)
    expected = module.velocity(x, t)
    assert torch.equal(expected, network(x.view(-1, 1, SIDE, SIDE), t.float()).flatten(1))
    assert distance(flow.velocity(x, t), expected) <= 1e-5
    assert distance(images.flow("mnist").velocity(x, t), expected) <= 1e-5


@pytest.mark.parametrize("way", ["azula", "edm", "flow_matching"])
def test_its_guidance_gradients_are_the_same_however_it_is_wrapped(way, network, module):
    flow, x, t = STRATEGIES[way](network), states(2), f64([0.4, 0.6])
    loss = losses.HalfSquaredDistance(torch.zeros(SIDE**2))
    for name, options in (("greedy", {}), ("end_to_end", {"steps": 2, "solver": "ddim"})):
        one, other = (gradients.ESTIMATORS[name](f, loss, x, t, **options) for f in (flow, module))
        assert distance(one.gradient, other.gradient) <= 1e-4

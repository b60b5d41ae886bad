"""Samples in a line, against the sampler and the solve that they stand for."""

import inspect

import pytest
import torch

from analysis import flow as flows
from analysis import losses, solvers
from analysis.guidance import SAMPLERS, sample
from analysis.guidance.sampling import UNGUIDED, canonical_grid
from analysis.guidance.step_sizes import Move, bounded, likelihood
from analysis.paths import CondOT, LinearVP, VarianceExploding
from analysis.sample_distances import energy_distance
from tests.support.guidance import LOSS, MIXTURE, X0
from tests.support.problems import distance, every_path, f64, randn
from tests.support.trained import moons, trained
from toy_models import MixtureFlow

FLOW = MixtureFlow(MIXTURE, CondOT())


def test_without_a_loss_it_is_the_solve():
    plan = solvers.plan("ddim", FLOW.path, solvers.uniform_grid(f64(0.0), f64(1.0), 12))
    found = sample(FLOW, X0, steps=12, grid="t")
    assert distance(found.x, solvers.solve(FLOW, X0, plan)) <= 1e-12
    assert found.value.tolist() == [0.0] * 6
    assert (found.cost.evaluations, found.cost.vjps) == (12, 0)


def test_with_a_loss_it_is_posterior_guidance():
    options = {"steps": 6, "scale": 0.5, "rule": "likelihood", "grid": "t"}
    expected = SAMPLERS["posterior_guidance"](FLOW, LOSS, X0, lookahead="midpoint", **options)
    found = sample(FLOW, X0, LOSS, lookahead="midpoint", **options)
    assert torch.equal(found.x, expected.x)
    assert found.value.median() < sample(FLOW, X0, LOSS, scale=0.0).value.median()


def test_an_estimator_comes_with_its_options_and_a_rule_may_be_named():
    found = sample(FLOW, X0, LOSS, steps=3, lookahead=("adaptive", {"tolerance": 0.1}), rule="normalised", scale=0.1)
    assert not found.failed.any()


def test_what_the_sampler_refuses_is_refused():
    with pytest.raises(ValueError, match="lookahead must be one of"):
        sample(FLOW, X0, LOSS, lookahead="shooting")
    with pytest.raises(TypeError, match="posterior_guidance"):
        sample(FLOW, X0, LOSS, speed=3)
    with pytest.raises(ValueError, match="steps must"):
        sample(FLOW, X0, steps=0)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 2.0},
        {"rule": "dps"},
        {"lookahead": "midpoint"},
        {"lookahead": ("adaptive", {"tolerance": 0.1})},
        {"inner": 2},
        {"when": "with"},
        {"window": (0.0, 0.5)},
        {"window": f64([0.0, 0.5])},
    ],
    ids=lambda o: min(o),
)
def test_options_of_guidance_need_a_loss(options):
    with pytest.raises(ValueError, match=f"^{min(options)} can only be given with a loss"):
        sample(FLOW, X0, steps=3, **options)


def test_without_a_loss_usual_values_and_options_of_the_solve_are_taken():
    usual = {"inner": 1, "window": (0, 1), "rule": "bounded", "scale": 1}
    found = sample(FLOW, X0, steps=3, solver="euler", divergence=1e3, **usual)
    assert torch.equal(found.x, sample(FLOW, X0, steps=3, solver="euler").x)


def test_every_option_of_the_sampler_is_one_of_guidance_or_of_the_solve():
    options = set(inspect.signature(SAMPLERS["posterior_guidance"]).parameters) - {"flow", "loss", "x0"}
    guiding = {"scale", "rule", "lookahead", "inner", "when", "window"}
    assert options == guiding | {"steps", "grid", *UNGUIDED}


def test_a_loss_that_is_no_likelihood_is_taken():
    found = sample(FLOW, X0, losses.HalfSquaredDistance(torch.zeros(3).double()), steps=8, scale=0.2)
    assert torch.isfinite(found.x).all()


@pytest.mark.parametrize("path", [CondOT(), LinearVP(), VarianceExploding()], ids=lambda p: type(p).__name__)
def test_by_default_every_path_is_sampled_well(path):
    drawn = sample(MixtureFlow(MIXTURE, path), path.sigma(0.0) * randn(500, 3), steps=50)
    exact = [MIXTURE.sample(500, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    assert energy_distance(drawn.x, exact[0]) < 3 * energy_distance(*exact) + 0.02


@pytest.mark.parametrize("path", every_path().values(), ids=every_path())
def test_the_grid_has_equal_steps_of_the_angle(path):
    """The angle atan(zeta), by the path's own zeta; where it is flat at an end of time, round-off is of its root."""
    times = canonical_grid(path, 10)
    assert (times[0], times[-1]) == (0, 1)
    assert (times.diff() > 0).all()
    angle = torch.atan2(path.sigma(times), path.alpha(times))
    torch.testing.assert_close(angle, torch.linspace(float(angle[0]), float(angle[-1]), 11).double(), atol=1e-6, rtol=0)


def test_a_bounded_update_is_the_likelihoods_or_as_long_as_the_paths_change():
    g = torch.stack([1e-3 * randn(3), 1e3 * randn(3), torch.zeros(3).double()])
    move = Move(g, torch.ones(3).double(), CondOT(), f64(0.4), f64(0.5), 2.0, 1)
    size = bounded(move)
    assert size[0] == likelihood(move)[0]
    assert float(size[1] * g[1].norm()) == pytest.approx(3**0.5 * 0.2)  # sigma falls by 0.1 and alpha rises by 0.1
    assert size[2] == 0


def test_a_learned_noise_predictor_is_guided_without_divergence():
    """Its error is divided by alpha, 0.007 at the noise: the likelihood's step loses samples, the default none."""
    network = trained(LinearVP(), "source", True)
    flow = flows.from_noise_predictor(lambda x, t: network(x, 1 - t), LinearVP())
    loss = losses.HalfSquaredResidual(torch.eye(2), torch.tensor([1.0, 0.0]), noise=0.3)
    drawn = sample(flow, torch.randn(100, 2, generator=torch.Generator().manual_seed(0)), loss, steps=20)
    assert not drawn.failed.any()
    assert float(drawn.value.median()) < 1
    data = moons(2000, torch.Generator().manual_seed(1))
    assert float(torch.cdist(drawn.x, data).amin(1).median()) < 0.3


def test_adaptive_needs_no_options():
    same = [sample(FLOW, X0, LOSS, lookahead=g, steps=4).x for g in ("adaptive", ("adaptive", {"tolerance": 0.1}))]
    assert torch.equal(*same)


def test_no_signature_shows_what_a_user_does_not_pass():
    assert all("monitor" not in str(inspect.signature(sampler)) for sampler in SAMPLERS.values())

"""Routines that know nothing of molecules, on the flow of molecules with the committed weights.

Truths: single estimators for the cells of a surface, a fine solve for the leading term, and the unguided samples for
the samplers, which must move them.
"""

import re

import pytest
import torch

from analysis import gradients
from analysis.bounds.leading_term import leading_term
from analysis.guidance import SAMPLERS, sample
from analysis.provenance import ROOT
from real_models.molecules import subject
from real_models.molecules.flow import decode, flow, noise
from real_models.molecules.property_loss import PropertyLoss, predictor

ATOMS, B = 6, 3
PAGE = ROOT / "docs" / "pages" / "samplers-and-learned-flows.md"


@pytest.fixture(scope="module")
def task():
    """The flow in float64, noise, and a loss with a property for each molecule."""
    loss = PropertyLoss(predictor(dtype=torch.float64), ("alpha", "gap", "mu"), torch.tensor([40.0, 8000.0, 2.0]))
    return flow(ATOMS, torch.float64), noise(B, ATOMS, torch.Generator().manual_seed(0), torch.float64), loss


def test_a_surface_has_the_gradients_of_its_cells(task):
    mine, x0, loss = task
    x = subject.trajectories(mine, torch.tensor([0.4]), x0)
    surface = gradients.lookahead_surface(mine, loss, x, 0.4, steps=(1, 3), horizons=(0.7, 1.0))
    assert surface.gradient.shape == (2, 2, B, ATOMS, 8)
    one = gradients.lookahead(mine, loss, x, 0.4, steps=3, horizon=0.7)
    torch.testing.assert_close(surface.gradient[1, 0], one.gradient)


@pytest.mark.parametrize(("t", "share"), [(0.99, 0.9), (0.9999, 0.2), (0.99999, 0.02)])
def test_the_leading_term_brings_greedy_nearer_late(task, t, share):
    mine, x0, loss = task
    x = subject.trajectories(mine, torch.tensor([t]), x0)
    error = gradients.end_to_end(mine, loss, x, t, steps=8, solver="rk4").gradient
    error -= gradients.greedy(mine, loss, x, t).gradient
    left = (error - leading_term(mine, loss, x, t)).flatten(1).norm(dim=1)
    assert (left < share * error.flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        ("posterior_guidance", {"steps": 8, "scale": 0.1, "rule": "dps"}),
        ("optimise_steps", {"steps": 8, "inner": 2, "learning_rate": 0.02}),
        ("optimise_source", {"iterations": 4, "steps": 8, "learning_rate": 0.02, "gradient": "euler_4", "t": 0.2}),
        ("optimise_controls", {"iterations": 3, "intervals": 4, "steps": 2, "learning_rate": 0.02}),
        ("midpoint_guidance", {"steps": 8, "generator": 0}),
    ],
)
def test_every_guided_sampler_returns_molecules(task, sampler, options):
    mine, x0, loss = task
    if "generator" in options:
        options = options | {"generator": torch.Generator().manual_seed(0)}
    made = SAMPLERS[sampler](mine, loss, x0, **options)
    assert made.x.shape == (B, ATOMS, 8)
    assert not made.failed.all()
    atoms, position = decode(made.x[~made.failed])
    assert len(atoms) == len(position) == int((~made.failed).sum())
    assert (made.x - sample(mine, x0, steps=8).x)[~made.failed].abs().max() > 1e-3


def test_the_page_shows_how_to_guide_to_an_own_target():
    (code,) = [one for one in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "PropertyLoss" in one]
    made = {}
    exec(compile(code, "page", "exec"), made)
    assert made["made"].x.shape == (4, 18, 8)
    plain = sample(made["flow"](18), made["x0"], steps=16).x
    assert made["loss"](made["made"].x).median() < made["loss"](plain).median()

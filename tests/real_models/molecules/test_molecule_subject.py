"""The flow of molecules as a subject of experiments, with networks of random weights.

Truths: the flow's own velocity along a trajectory, and the map between paths of equal zeta.
"""

import pytest
import torch

from analysis import gradients
from analysis.audit import audit
from analysis.errors import relative_error
from analysis.paths import CondOT
from real_models.molecules import subject
from real_models.molecules.flow import flow, noise
from real_models.molecules.network import Velocity
from real_models.molecules.predictor import Predictor

SMALL = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "blocks": 2, "pairs": 8, "forces": 2, "context": 8}
GUIDE = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "pairs": 8, "forces": 2, "radial": 12}


@pytest.fixture
def small(monkeypatch):
    """Small networks in place of the committed ones."""

    def velocity(n, dtype=torch.float32, device="cpu"):
        torch.manual_seed(0)
        return flow(n, velocity=Velocity(**SMALL).to(dtype).requires_grad_(False))

    def guide(name="guide", dtype=torch.float32, device="cpu"):
        torch.manual_seed(1)
        return Predictor(**GUIDE).to(dtype).requires_grad_(False)

    monkeypatch.setattr(subject, "flow", velocity)
    monkeypatch.setattr(subject, "predictor", guide)


def test_states_lie_on_one_trajectory_whatever_the_order_of_the_times(small):
    learned = subject.flow(6, torch.float64)
    start = noise(2, 6, torch.Generator().manual_seed(0), torch.float64)
    times = torch.tensor([0.51, 0.0, 0.49, 0.5], dtype=torch.float64)
    late, first, early, between = subject.trajectories(learned, times, start).unflatten(0, (4, 2))
    torch.testing.assert_close(first, start)
    torch.testing.assert_close((late - early) / 0.02, learned.velocity(between, 0.5), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("path", ["condot", "vp_linear"])
def test_estimators_run_on_states_and_loss_of_every_path(small, path):
    made = subject.subject("qm9_gap", path, "float32", "cpu", atoms=6)
    times, generator = torch.tensor([0.3, 0.6], dtype=torch.float64), torch.Generator().manual_seed(0)
    x, loss = made.states(times, 3, generator), made.loss(2, 3, generator)
    assert x.dtype == torch.float64
    own = gradients.end_to_end(made.flow, loss, x.float(), times.repeat_interleave(3), steps=2).gradient
    twin = gradients.end_to_end(made.reference_flow, loss, x, times.repeat_interleave(3), steps=2).gradient
    assert own.shape == (6, 6, 8)
    torch.testing.assert_close(own.double(), twin, rtol=1e-3, atol=1e-3 * float(twin.abs().max()))


def test_states_of_another_path_are_those_of_condot_at_equal_zeta(small):
    times = torch.tensor([0.4], dtype=torch.float64)
    vp = subject.subject("qm9_mu", "vp_linear", "float64", "cpu", atoms=6)
    condot = subject.subject("qm9_mu", "condot", "float64", "cpu", atoms=6)
    same = CondOT().time_from_zeta(vp.flow.path.zeta(times))
    a, b = (one.states(at, 2, torch.Generator().manual_seed(0)) for one, at in ((vp, times), (condot, same)))
    torch.testing.assert_close(a / vp.flow.path.alpha(times), b / condot.flow.path.alpha(same))


def test_unknown_problems_are_refused(small):
    with pytest.raises(ValueError, match="problem must be one of qm9, qm9_Cv, qm9_alpha"):
        subject.subject("qm9_mass", "condot", "float32", "cpu", atoms=6)
    with pytest.raises(ValueError, match="n must be at most 29 atoms, the most in QM9, got 30"):
        subject.subject("qm9_mu", "condot", "float32", "cpu", atoms=30)


def test_the_audit_measures_it(small):
    made = subject.audited(atoms=6)
    x = made.data(0.5, 3, torch.Generator().manual_seed(0))
    assert (x.shape, x.dtype) == ((3, 6, 8), torch.float64)
    report = audit(made.flow, made.data, loss=made.loss, times=[0.5], samples=3, quick=True)
    greedy = report.tables["audit"].query("metric == 'relative_error'")["value"].item()
    times = torch.full((3,), 0.5, dtype=torch.float64)
    fine = gradients.end_to_end(made.flow, made.loss, x, times, steps=32, solver="rk4").gradient
    own = relative_error(gradients.greedy(made.flow, made.loss, x, times).gradient, fine).median()
    assert 0.2 < greedy / float(own) < 5  # of other states of the same flow

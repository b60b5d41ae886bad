"""Ways to save memory against the plain one, bit for bit, and what each may keep and recompute."""

import contextlib
import functools
import itertools

import pytest
import torch

from analysis import cost, gradients, losses, solvers
from analysis.cost import Cost, MeteredFlow, measured
from analysis.flow import from_velocity
from analysis.gradients import end_to_end
from analysis.losses import HalfSquaredDistance
from analysis.paths import CondOT
from analysis.solvers import checkpointing
from analysis.solvers.checkpointing import _advance_by
from tests.support.problems import f64, random_mixture, relative_l2
from toy_models import MixtureFlow
from toy_models.problems import zoo

LOSS = HalfSquaredDistance([2.0, 1.0])
T, ONE = torch.tensor(0.3, dtype=torch.float64), torch.ones((), dtype=torch.float64)


@pytest.fixture(scope="module")
def setting():
    subject = zoo.subject("overlapping", "condot")
    generator = torch.Generator().manual_seed(0)
    x = subject.states(T[None], 7, generator)
    return subject.flow, x, torch.randn(x.shape, dtype=torch.float64, generator=generator)


def differentiated(flow, x, solver, n, strategy, **options):
    """The end of a solve in n steps from T to 1, and its pullback."""
    grid = solvers.uniform_grid(T, ONE, n)
    plan = solvers.plan(solver, flow.path, grid)
    if strategy == "reversible":
        return checkpointing.reversible(flow, x, plan, solvers.plan(solver, flow.path, grid.flip(0)))
    return checkpointing.differentiate(flow, x, plan, strategy, **options)


def spent(flow, x, v, solver, steps, strategy, **options):
    """Return the product v^T J and what it cost."""
    found = Cost()
    with cost.track_memory(), measured(found, x.device):
        pull = differentiated(MeteredFlow(flow, len(x), found), x, solver, steps, strategy, **options)[1]
        product = pull(v)
    return product, found


@pytest.mark.parametrize("solver", ["euler", "rk4", "ab2", "ddim", "dpmpp_2m"])
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_storing_checkpointing_and_recursion_give_the_same_bits(setting, solver, steps):
    stored = spent(*setting, solver, steps, "store")[0]
    assert torch.equal(spent(*setting, solver, steps, "checkpoint")[0], stored)
    for slots in (1, 3, 50):
        assert torch.equal(spent(*setting, solver, steps, "recursive", slots=slots)[0], stored)


def test_the_price_in_evaluations_is_what_the_schedules_promise(setting):
    n = 20
    store, check = (spent(*setting, "euler", n, strategy)[1] for strategy in ("store", "checkpoint"))
    assert (store.evaluations, store.vjps) == (n, n)
    assert (check.evaluations, check.vjps) == (2 * n, n)
    one = spent(*setting, "euler", n, "recursive", slots=1)[1]
    assert one.evaluations == n + n * (n - 1) / 2 + n  # the forward sweep, all restarts from x, and the last step each
    more = [spent(*setting, "euler", n, "recursive", slots=s)[1].evaluations for s in (1, 2, 3, 5, 20)]
    assert more == sorted(more, reverse=True)
    assert more[-1] == 2 * n


@functools.cache
def least_advances(n, slots):
    """Return the fewest forward steps that reverse n steps in so many slots, of which one holds the start."""
    if n == 1 or slots == 1:
        return n * (n - 1) // 2
    return min(k + least_advances(n - k, slots - 1) + least_advances(k, slots) for k in range(1, n))


@pytest.mark.parametrize("slots", [2, 3, 4, 5])
@pytest.mark.parametrize("n", [5, 10, 15, 24])
def test_no_more_states_are_kept_than_there_are_slots(setting, slots, n):
    # With more slots than asked for, the way back would take fewer steps than the least for those that are free: the
    # part from the k-th state that the first sweep kept finds slots - k of them.
    starts = sorted(checkpointing._split_points(n, slots))
    parts = [end - start for start, end in itertools.pairwise([*starts, n])]
    again = sum(least_advances(part, slots - k) for k, part in enumerate(parts))
    assert len(starts) <= slots
    assert spent(*setting, "euler", n, "recursive", slots=slots)[1].evaluations == n + again + n


@pytest.mark.parametrize("slots", [2, 3, 4])
@pytest.mark.parametrize("n", [5, 10, 15])
def test_the_split_is_optimal(slots, n):
    def price(m, s, split):
        """Return the forward steps needed to reverse m steps with s slots, the first holding the start."""
        if m == 1:
            return 0
        if s == 1:
            return m * (m - 1) // 2
        k = split(m, s)
        return k + price(m - k, s - 1, split) + price(k, s, split)

    assert price(n, slots, _advance_by) == least_advances(n, slots)


def test_memory_grows_as_theory_says(setting):
    bytes_of = {
        strategy: [spent(*setting, "euler", n, strategy, slots=3)[1].bytes for n in (16, 32, 64)]
        for strategy in checkpointing.STRATEGIES
    }
    growth = {strategy: (b[2] - b[1]) / (b[1] - b[0]) for strategy, b in bytes_of.items()}
    state = setting[1].numel() * 8
    assert growth["store"] == pytest.approx(2, rel=0.05)
    assert growth["checkpoint"] == pytest.approx(2, rel=0.05)
    per_step = {strategy: (b[2] - b[0]) / 48 for strategy, b in bytes_of.items()}
    assert per_step["store"] > 10 * state
    assert state <= per_step["checkpoint"] < 4 * state
    assert per_step["recursive"] < state  # the coefficients of the plan alone grow
    assert per_step["reversible"] < state


@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_the_reversible_gradient_is_that_of_its_own_map(setting, solver):
    flow, x, v = setting
    grid = solvers.uniform_grid(T, ONE, 12)
    found = differentiated(flow, x, solver, 12, "reversible")[1](v)
    forth, back = solvers.plan(solver, flow.path, grid), solvers.plan(solver, flow.path, grid.flip(0))
    leaf = x.clone().requires_grad_()
    y = z = leaf
    for i in range(12):
        y = checkpointing.COUPLING * y + (1 - checkpointing.COUPLING) * z + solvers.step(flow, z, forth[i]) - z
        z = z - (solvers.step(flow, y, back[11 - i]) - y)
    (expected,) = torch.autograd.grad((y * v).sum(), leaf)
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_the_reversible_solver_has_the_order_of_its_base(setting):
    flow, x, _ = setting
    exact = solvers.solve(flow, x, solvers.plan("dopri5", flow.path, solvers.uniform_grid(T, ONE, 128)))
    errors = []
    for n in (16, 32):
        end, _ = differentiated(flow, x, "midpoint", n, "reversible")
        errors.append(float((end - exact).norm()))
    assert 3.4 < errors[0] / errors[1] < 4.8


def test_a_pullback_that_freed_its_states_says_so(setting):
    flow, x, v = setting
    _, pull = differentiated(flow, x, "euler", 4, "checkpoint")
    pull(v)
    with pytest.raises(RuntimeError, match="used once"):
        pull(v)


def test_a_reversible_solve_that_cannot_come_back_is_refused(setting):
    (flow, x, v), grid = setting, solvers.uniform_grid(T, ONE, 400)
    plans = [solvers.plan("euler", flow.path, times) for times in (grid, grid.flip(0))]
    with pytest.raises(ValueError, match=r"unstable|no stable reversible form"):
        checkpointing.reversible(flow, x, *plans, coupling=0.9)[1](v)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": "nothing"}, "memory must be one of checkpoint, recursive, reversible, store"),
        ({"memory": "recursive", "slots": 0}, "slots must be an integer of at least 1"),
        ({"memory": "reversible", "solver": "ab2"}, "one-step method"),
    ],
)
def test_bad_choices_are_refused(setting, options, message):
    flow, x, _ = setting
    with pytest.raises(ValueError, match=message):
        gradients.end_to_end(flow, HalfSquaredDistance(x[0]), x, 0.3, steps=4, **options)


def test_a_reversible_solve_from_the_origin_is_the_stored_one_to_its_order():
    flow, x = MixtureFlow(random_mixture(3, 2), CondOT()), torch.zeros(1, 2, dtype=torch.float64)
    near = torch.full_like(x, 1e-9)
    found, beside = (
        end_to_end(flow, LOSS, state, 0.3, steps=64, solver="rk4", memory="reversible").gradient for state in (x, near)
    )
    stored = end_to_end(flow, LOSS, x, 0.3, steps=64, solver="rk4", memory="store").gradient
    assert relative_l2(found, stored) <= 1e-5
    assert relative_l2(found, beside) <= 1e-6


def test_a_reversible_solve_is_judged_for_each_sample():
    """A stiff state of size one, refused alone, beside one of 1e8 that is at rest."""

    def stiff(x, t):
        return torch.cat([-40 * torch.sigmoid(50 * (x[:, 1:] - 0.5)) * x[:, :1], 0 * x[:, 1:]], 1)

    flow, loss = from_velocity(stiff, CondOT()), losses.Linear([1.0, 0.0])
    bad, large = f64([[1e-3, 1.0]]), f64([[1e8, 0.0]])
    for x, count in ((bad, "1 of 1"), (torch.cat([bad, large]), "1 of 2")):
        with pytest.raises(ValueError, match=f"too far in {count} samples"):
            end_to_end(flow, loss, x, 0.0, steps=8, memory="reversible")
    assert torch.isfinite(end_to_end(flow, loss, large, 0.0, steps=8, memory="reversible").gradient).all()


@pytest.mark.parametrize(("drift", "refused"), [(5e-4, False), (2e-3, True)])
def test_a_reversed_solve_must_end_within_a_thousandth_of_where_it_began(drift, refused):
    x = f64([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    start = x + drift * x.norm(dim=1, keepdim=True) * f64([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="in 1 of 2 samples") if refused else contextlib.nullcontext():
        checkpointing._check_return(start, x, f64(0.01), 8)

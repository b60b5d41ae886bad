"""Compiled solves of a mixture, and what they leave to others.

The truth is the generic loop over single evaluations (``solvers.solve_vjp``), which shares neither the layout nor the
arithmetic, and for bad numbers what the loop gives for them.
"""

import importlib
import logging
import math
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from analysis import solvers
from analysis.paths import CondOT, Cosine, VarianceExploding
from tests.support.problems import f64, randn, random_mixture, states
from toy_models import GaussianMixture, MixtureFlow
from toy_models.mixtures import compiled_solve, fused_solve

numba = pytest.importorskip("numba")
loops = importlib.import_module("toy_models.mixtures.compiled.loops")
ROOT = Path(__file__).parents[3]
METHODS = [name for name in solvers.SOLVERS if not name.endswith("logsnr")]
START, END = 0.2, 0.9


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(compiled_solve, "LEAST", 0)


def problem(samples, k=3, d=4, path=None, dtype=torch.float64):
    """Return a flow, states (1, samples, d) and cotangents."""
    mixture, path = random_mixture(k, d, 20.0), path or CondOT()
    x = states(mixture, path, f64(START).expand(samples), samples)
    return MixtureFlow(mixture, path, dtype), x.to(dtype)[None], randn(1, samples, d, seed=4).to(dtype)


def plan(flow, method, steps=6, start=START, end=END, samples=1):
    start, end = torch.broadcast_tensors(torch.as_tensor(start, dtype=torch.float64), torch.as_tensor(end).double())
    return solvers.plan(method, flow.path, solvers.uniform_grid(start, end, steps), samples)


def compiled(flow, x, v, plans):
    end, pull = compiled_solve.solve_vjp(flow.basis, flow.path, x, plans)
    return end, pull(v)


def loop(flow, x, v, plans):
    ends, pulls = zip(*[solvers.solve_vjp(flow, state, p) for state, p in zip(x, plans, strict=True)], strict=True)
    return torch.stack(ends), torch.stack([pull(w) for pull, w in zip(pulls, v, strict=True)])


def assert_close(found, expected, limit):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert float(((a - b).norm(dim=-1) / b.norm(dim=-1)).max()) <= limit


@pytest.mark.parametrize("method", METHODS)
def test_every_method_with_shared_times(method):
    flow, x, v = problem(33)
    plans = [plan(flow, method, samples=33)]
    assert_close(compiled(flow, x, v, plans), loop(flow, x, v, plans), 1e-12)


@pytest.mark.parametrize("path", [CondOT(), Cosine(), VarianceExploding()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("method", ["euler", "rk4_zeta", "dopri5", "ddim", "ab2", "dpmpp_2m", "heun_logsnr"])
def test_every_sample_with_times_and_a_horizon_of_its_own(method, path):
    flow, x, v = problem(21, path=path)
    start, end = torch.linspace(0.1, 0.3, 21).double(), torch.linspace(0.95, 0.5, 21).double()
    plans = [plan(flow, method, n, start, end) for n in (4, 1, 7)]
    x, v = x.repeat(3, 1, 1), v.repeat(3, 1, 1)
    assert_close(compiled(flow, x, v, plans), loop(flow, x, v, plans), 1e-12)


@pytest.mark.parametrize("samples", [1, 2, 7, 8, 16, 17, 40])
@pytest.mark.parametrize("cells", [1, 3])
def test_a_block_need_not_be_full(samples, cells):
    flow, x, v = problem(samples * cells)
    plans = [
        plan(flow, "midpoint", n, torch.full((cells,), START), torch.linspace(0.5, 1, cells), samples) for n in (3, 5)
    ]
    x, v = x.repeat(2, 1, 1), v.repeat(2, 1, 1)
    assert_close(compiled(flow, x, v, plans), loop(flow, x, v, plans), 1e-12)


@pytest.mark.parametrize(("k", "d"), [(1, 1), (2, 3), (5, 2), (4, 9), (10, 33), (2, 64)])
def test_float32_agrees_to_its_round_off(k, d):
    flow, x, v = problem(19, k, d, dtype=torch.float32)
    exact, _, _ = problem(19, k, d)
    plans = [plan(flow, "rk4", samples=19)]
    expected = loop(exact, x.double(), v.double(), plans)
    found = compiled(flow, x, v, plans)
    assert found[0].dtype == found[1].dtype == torch.float32
    assert_close([a.double() for a in found], expected, 2e-4)


def test_a_sample_does_not_depend_on_the_others():
    flow, x, v = problem(50)
    whole = compiled(flow, x, v, [plan(flow, "rk4", samples=50)])
    part = compiled(flow, x[:, 11:30], v[:, 11:30], [plan(flow, "rk4", samples=19)])
    for a, b in zip(whole, part, strict=True):
        assert torch.equal(a[:, 11:30], b)


def test_states_that_are_not_contiguous_and_stay_unchanged():
    flow, x, v = problem(20)
    strided = torch.stack([x, x + 1], -1)[..., 0]
    assert not strided.is_contiguous()
    plans, before = [plan(flow, "euler", samples=20)], strided.clone()
    assert_close(compiled(flow, strided, v, plans), compiled(flow, x, v, plans), 0.0)
    assert torch.equal(strided, before)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_bad_numbers_stay_with_their_sample(bad):
    flow, x, v = problem(20)
    plans = [plan(flow, "euler", samples=20)]
    expected = compiled(flow, x, v, plans)
    x = x.clone()
    x[0, 5] = bad
    found, wanted = compiled(flow, x, v, plans), loop(flow, x, v, plans)
    others = torch.arange(20) != 5
    for a, b, c in zip(found, wanted, expected, strict=True):
        assert torch.equal(a[:, others], c[:, others])
        assert torch.equal(torch.isfinite(a[0, 5]), torch.isfinite(b[0, 5]))


def test_far_states_and_denormal_likelihoods():
    """At these distances all likelihoods but one underflow, or nearly."""
    flow, x, v = problem(40, k=6)
    for scale in (10.0, 40.0, 1e3):
        plans = [plan(flow, "heun", samples=40)]
        assert_close(compiled(flow, scale * x, v, plans), loop(flow, scale * x, v, plans), 1e-9)


@pytest.mark.parametrize(("variance", "end"), [(1e-60, 1.0), (1e60, 0.9)])
def test_variances_out_of_range_are_left_to_others(variance, end):
    """Of float32: at time 1 the first is the marginal variance itself, and denormal."""
    eye = torch.eye(2, dtype=torch.float64)
    mixture = GaussianMixture(f64([0.5, 0.5]), f64([[1.0, 0], [-1.0, 0]]), variance * torch.stack([eye, eye]))
    flow, x = MixtureFlow(mixture, CondOT()), randn(1, 20, 2, seed=1)
    single = flow.to(torch.float32, "cpu")
    plans = [solvers.projection(flow.path, f64(end), 20)]
    assert compiled_solve.solve_vjp(flow.basis, flow.path, x, plans) is not None
    assert compiled_solve.solve_vjp(single.basis, flow.path, x.float(), plans) is None


def test_what_is_left_to_others(monkeypatch):
    flow, x, _ = problem(20)
    plans = [plan(flow, "rk4", samples=20)]

    def answer(x):
        return compiled_solve.solve_vjp(flow.basis, flow.path, x, plans)

    assert answer(x) is not None
    assert answer(x.clone().requires_grad_()) is None
    assert answer(x.to("meta")) is None
    assert answer(x.half()) is None
    seen = []
    torch.func.vmap(lambda y: (seen.append(answer(y[None])), y)[1])(x)
    torch.func.jvp(lambda y: (seen.append(answer(y)), y)[1], (x,), (x,))
    with torch.autograd.forward_ad.dual_level():
        seen.append(answer(torch.autograd.forward_ad.make_dual(x, x)))
    assert seen == [None, None, None]
    for name, value in {"LEAST": math.inf, "MOST": 0, "TAPE": 0}.items():
        with monkeypatch.context() as patch:
            patch.setattr(compiled_solve, name, value)
            assert answer(x) is None


def test_the_flow_falls_back_with_one_notice_without_numba(monkeypatch, caplog):
    flow, x, v = problem(64)
    plans = [plan(flow, "rk4", 16, samples=64)]
    expected = fused_solve.solve_vjp(flow.basis, flow.path, x, plans)
    monkeypatch.setitem(sys.modules, "numba", None)
    compiled_solve.installed.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            found = [flow.solve_vjp(x, plans) for _ in range(3)]
    finally:
        compiled_solve.installed.cache_clear()
    assert len(caplog.records) == 1
    assert 'pip install -e ".[fast]"' in caplog.text
    for end, pull in found:
        assert torch.equal(end, expected[0])
        assert torch.equal(pull(v), expected[1](v))


def test_threads_agree():
    flow, x, v = problem(64, k=5, d=6)
    plans = [plan(flow, "rk4", 32, samples=64)]
    expected = compiled(flow, x, v, plans)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: compiled(flow, x, v, plans), range(12)):
            assert torch.equal(found[0], expected[0])
            assert torch.equal(found[1], expected[1])


def test_a_pullback_does_not_depend_on_later_solves():
    flow, x, v = problem(24)
    plans = [plan(flow, "rk4", samples=24)]
    _, pull = compiled_solve.solve_vjp(flow.basis, flow.path, x, plans)
    first = pull(v)
    compiled(flow, 2 * x, v, plans)
    assert torch.equal(pull(v), first)


def test_a_mixture_changed_in_place_is_another_one():
    flow, x, v = problem(20)
    plans = [plan(flow, "rk4", samples=20)]
    assert plans[0].reused
    first = compiled(flow, x, v, plans)
    flow.basis.means.add_(0.5)
    flow.basis.centres.copy_(torch.einsum("dkj,kj->kd", flow.basis.into.unflatten(1, (3, 4)), flow.basis.means))
    changed = compiled(flow, x, v, plans)
    assert_close(changed, loop(flow, x, v, plans), 1e-12)
    assert not torch.equal(changed[0], first[0])


def test_exponential_to_round_off():
    """Against torch, over the range that a softmax uses."""
    vectors = importlib.import_module("toy_models.mixtures.compiled.vectors")

    @numba.njit
    def every(x, out):
        for i in range(0, len(x), vectors.block(x) // 2):
            vectors.store(out, i, vectors.exponential(vectors.load(x, i)))

    for dtype, least in ((torch.float64, -700.0), (torch.float32, -80.0)):
        x = torch.linspace(least, 0, 2**12, dtype=torch.float64).to(dtype)
        out = torch.empty_like(x)
        every(x.numpy(), out.numpy())
        error = (out.double() / x.double().exp() - 1).abs().max()
        assert float(error) <= 2 * torch.finfo(dtype).eps


SCRIPT = """
from tests.toy_models.mixtures.test_compiled_solve import compiled, compiled_solve, loops, plan, problem
compiled_solve.LEAST = 0
flow, x, v = problem(20)
compiled(flow, x, v, [plan(flow, "rk4", samples=20)])
print(sum(loops._CACHED[8].stats.cache_hits.values()))
"""


def test_another_process_takes_the_code_from_disk():
    flow, x, v = problem(20)
    compiled(flow, x, v, [plan(flow, "rk4", samples=20)])  # writes it, if it was not there
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "1\n"), run.stderr


@pytest.mark.parametrize("error", [EOFError, pickle.UnpicklingError, OSError, PermissionError])
def test_a_damaged_or_full_cache_is_done_without(monkeypatch, error):
    """Truncated files of the cache raise the first two, as was tried by hand."""

    def damaged(job, backward):
        raise error

    calls = []
    monkeypatch.setattr(loops, "_CACHED", {8: damaged})
    monkeypatch.setattr(loops, "_uncached", lambda entry: lambda job, backward: calls.append((entry, backward)))
    flow, x, v = problem(20)
    compiled(flow, x, v, [plan(flow, "rk4", samples=20)])
    assert calls == [(loops._ENTRIES[8], False), (loops._ENTRIES[8], True)]


def test_without_a_folder_to_cache_in(monkeypatch):
    def refused(**options):
        if "cache" in options:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: (function, options)

    monkeypatch.setattr(loops, "njit", refused)
    monkeypatch.setattr(loops, "_uncached", loops._uncached.__wrapped__)
    assert loops._cached(loops._ENTRIES[8])[0] is loops._ENTRIES[8]

"""Models and data that the audit refuses, and the sentence that it prints for each.

Each factory of this file has one fault that is built in, such as a wrong shape, randomness or a missing gradient; the
truth is that fault. A refusal must name it, and leave no files behind.
"""

import importlib
import re

import pytest
import torch

import reproduce
from analysis import reference
from analysis.audit import Audited, AuditError, examine, subject, truth
from analysis.audit.advice import best_lookahead
from analysis.audit.refusal import ask
from analysis.audit.report import facts
from analysis.flow import from_velocity
from analysis.paths import CondOT
from figures import audit_error
from tests.support.audits import Network, measured, options
from tests.support.problems import randn

NOT_CALLABLE = 3
FEW = randn(50, 2)


def own():
    return Audited(Network(), FEW, path=CondOT())


def nothing():
    return None


def broken():
    raise OSError("no such checkpoint")


def no_path():
    return Audited(Network(), FEW)


def no_function():
    return Audited("network", FEW, path=CondOT())


def no_states():
    return Audited(Network(), 3, path=CondOT())


def flat_data():
    return Audited(Network(), randn(50), path=CondOT())


def few_states():
    return Audited(Network().double(), lambda t, n, generator: randn(n - 1, 2), path=CondOT())


def of_function(function, **options):
    return Audited(function, FEW, **{"path": CondOT()} | options)


def wrong_shape():
    return of_function(lambda x, t: x.sum(1))


def wrong_dtype():
    return of_function(lambda x, t: x.float())


def wrong_device():
    return of_function(lambda x, t: x.to("meta"))


def no_tensor():
    return of_function(lambda x, t: [x])


def raises():
    return of_function(lambda x, t: x @ torch.ones(3, 3))


def random_model():
    return of_function(lambda x, t: x + torch.randn_like(x))


def unseeded():
    scale = torch.rand((), dtype=torch.float64)
    return of_function(lambda x, t: scale * x)


def detached():
    return of_function(lambda x, t: x.detach())


def partly_detached():
    return of_function(lambda x, t: 0.1 * x + x.detach().sin())


def rounded():
    return of_function(lambda x, t: (1e6 * x).round() / 1e6 + 0 * x)


def discrete_time():
    return of_function(lambda x, t: x * (1 + (999 * t).round()[:, None] / 999))


def embedded_time():
    table = torch.nn.Embedding(10, 2).double()
    return of_function(lambda x, t: x + table(9 * t))


def nan_at_a_time():
    return of_function(lambda x, t: torch.where(t[:, None] == 0.8, torch.nan, x))


def column_of_times():
    return of_function(lambda x, t: torch.cat([x, t], 1) @ torch.ones(3, 2, dtype=x.dtype))


def bad_loss():
    return of_function(lambda x, t: x, loss=lambda x: x.sum())


def unknown_prediction():
    return of_function(lambda x, t: x, prediction="speed")


REFUSED = {
    "not_there": "must name an importable module:attribute",
    "NOT_CALLABLE": "must be callable, got int",
    "nothing": r"must return analysis.audit.Audited\(...\) or \(flow, data\), got NoneType",
    "broken": r"broken: OSError: no such checkpoint \(test_audit_refused.py:\d+\)",
    "no_path": "path must come with a model that is a function",
    "no_function": "the model must be a Flow, an nn.Module or a function, got str",
    "no_states": "data must be a tensor, a tuple of tensors, a Dataset, .* got int 3",
    "flat_data": r"data must have shape \(B, \*event\), got \(50,\)",
    "few_states": r"states\(0.4, 5, generator\) must return 5 states, got shape \(4, 2\)",
    "wrong_shape": r"must return a tensor like x, \(5, 2\) torch.float64 on cpu; got \(5,\)",
    "wrong_dtype": r"must return a tensor like x.*got \(5, 2\) torch.float32 on cpu",
    "wrong_device": r"must return a tensor like x.*torch.float64 on meta",
    "no_tensor": "the model must return a tensor, got list",
    "raises": r"raises at t = 0.4: .* raises RuntimeError: .*\(test_audit_refused.py:\d+\)",
    "column_of_times": r"t arrives with shape \(B,\), and .*time_shape='column'\) passes \(B, 1\)",
    "random_model": r"two calls of the factory give other predictions: call .eval\(\)",
    "unseeded": "two calls of the factory give other predictions",
    "detached": "function must be differentiable",
    "partly_detached": "the flow is not differentiable: .* look for a jump, a rounding, .detach",
    "rounded": "the flow is not differentiable: along one direction autograd gives 0 where finite differences give",
    "discrete_time": r"takes discrete timesteps: over 0.0001 of time .*adapters.module.flow\(..., timesteps=N\)",
    "embedded_time": r"'indices'.*the model takes discrete timesteps: .*adapters.module.flow\(..., timesteps=N\)",
    "nan_at_a_time": "the model returns NaN or infinity at t = 0.8",
    "bad_loss": "loss must return one value per sample",
    "unknown_prediction": "prediction must be one of score, source, target, velocity",
}


def test_python_s_own_frames_are_not_the_place_of_an_error():
    with pytest.raises(AuditError, match=r"No module named 'nowhere_at_all'$"):
        ask("factory", importlib.import_module, "nowhere_at_all")


@pytest.mark.parametrize("factory", REFUSED)
def test_what_cannot_be_audited_is_refused_before_anything_is_measured(factory, tmp_path, capsys):
    command = ["audit", f"{__name__}:{factory}", "--quick", "--times", "0.4", "0.8", "--samples", "5", "--jobs", "1"]
    assert reproduce.main([*command, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert f"{__name__}:{factory}" in said
    assert re.search(REFUSED[factory], said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", [1e-6, 0.4, 0.5005, 1 - 1e-6])
def test_only_times_that_are_rounded_count_as_discrete(t, dtype):
    def checked(function):
        flow = from_velocity(function, CondOT())
        examine._check_time(subject.AuditStates(randn(5, 2).to(dtype), lambda x: x.sum(1), flow, flow), t)

    for smooth in (
        lambda x, t: x,
        lambda x, t: x * (1 + 1e-4 * t[:, None]),
        lambda x, t: x * torch.sin(9e3 * t[:, None]),
    ):
        checked(smooth)
    for steps in (50, 1000):
        with pytest.raises(AuditError, match="discrete timesteps"):
            checked(lambda x, t, n=steps: x + (n * t[:, None]).round() / n)


def test_modules_that_cannot_be_imported_are_refused(tmp_path, monkeypatch):
    (tmp_path / "no_python.py").write_text("def factory(:")
    monkeypatch.syspath_prepend(tmp_path)
    for name, said in (("nowhere:factory", "No module named 'nowhere'"), ("no_python:factory", "SyntaxError")):
        with pytest.raises(AuditError, match=said):
            subject.load(name, "cpu")


def nan_between():
    return of_function(lambda x, t: torch.where((t[:, None] > 0.6) & (t[:, None] < 0.7), torch.nan, x))


def stiff():
    return of_function(lambda x, t: 40 * torch.sin(3e4 * x))


def jumps_in_time():
    """A velocity that an adaptive solve steps across, and a fixed one does not settle on."""
    return of_function(lambda x, t: x * (1 + 30 * torch.sin(1e5 * t[:, None]).sign()))


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("nan_between", r"at t = 0.4: the model returns NaN or infinity at t = 0.6\d*$"),
        ("stiff", "at t = 0.4: the fine solve does not converge: in 5 of 5 states"),
        ("jumps_in_time", "at t = 0.4: the fine solve does not converge"),
    ],
)
def test_what_fails_between_the_times_is_refused_while_measuring(factory, said, monkeypatch):
    monkeypatch.setattr(truth, "MOST", 64)
    with pytest.raises(AuditError, match=said):
        measured(f"{__name__}:{factory}")


def test_an_adaptive_solve_that_breaks_down_is_a_fine_solve_that_does_not_converge(monkeypatch):
    def fail(*_, **__):
        raise reference.CertificationError("too stiff")

    monkeypatch.setattr(reference, "ideal_gradient", fail)
    with pytest.raises(AuditError, match="does not converge: too stiff"):
        measured(f"{__name__}:own")


def not_twice():
    return of_function(lambda x, t: Once.apply(x) * (1 + t[:, None]))


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v):
        return v * (1 - ctx.saved_tensors[0].tanh() ** 2)


def test_without_second_derivatives_all_but_the_estimate_is_measured():
    greedy = measured(f"{__name__}:not_twice").set_index("metric")
    assert "flow must be differentiable twice in x and t" in greedy.loc["leading_term", "status"]
    assert greedy.loc["leading_term", "failed"] == 5
    assert (greedy.loc["relative_error", "failed"] == 0).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"times": [0.0, 0.5]}, r"times must lie in \(0, 1\)"),
        ({"error": 1.5}, "error must lie in"),
        ({"samples": 0}, "samples must be an integer of at least 1"),
    ],
)
def test_bad_options_are_refused(changed, said):
    with pytest.raises(AuditError, match=said):
        options(f"{__name__}:own", **changed).settled()


def test_a_missing_estimate_is_said_and_drawn():
    table = measured(f"{__name__}:not_twice")
    greedy, ahead = (table[table["estimator"] == name] for name in ("greedy", "lookahead"))
    parts = {"audit": greedy, "audit_best": best_lookahead(greedy, ahead)}
    parts["audit_facts"] = facts(parts)
    assert "cannot be computed" in audit_error.answer(parts)
    audit_error.draw(parts)

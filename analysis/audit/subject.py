"""The subject of an audit: what a user's factory returns, and the checks that precede any measurement.

A factory is a callable without arguments, or with the one keyword ``device``. It returns ``Audited``, or the pair
(flow, states) of its first two fields. The factory itself loads a model's checkpoint: nothing is unpickled here.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from analysis import checks
from analysis.errors import relative
from analysis.flow import Flow, Prediction, PredictionFlow, usable_times
from analysis.losses import HalfSquaredDistance, Loss, value_and_gradient
from analysis.paths import AffinePath, expand
from analysis.probe import Probe, select_rows
from analysis.settings import resolve

Sampler = Callable[[float, int, torch.Generator], Tensor]
NOT_THEIRS = (Path(__file__).parents[1], Path(torch.__file__).parents[1], Path(inspect.__file__).parent)
DERIVATIVE_SLACK = 0.1  # of a derivative against finite differences: kinks pass, a detached branch does not


class AuditError(ValueError):
    """The audited model or data is invalid; the message says what is wrong."""


class Audited(NamedTuple):
    """The return value of a factory.

    Attributes
    ----------
    flow : an ``analysis.flow.Flow``; or an ``nn.Module`` or function (x (B, *event), t (B,)) -> (B, *event), together
        with ``path`` and ``prediction``
    states : ``(t, n, generator) -> (n, *event)``, n states at time t in (0, 1] drawn with the generator, on the CPU or
        the model's device; or a tensor (N, *event) of data, from whose rows X_t = alpha X_1 + sigma X_0 is drawn
    loss : x (B, *event) -> (B,); by default half the squared distance to another sample of the data
    path : an ``analysis.paths.AffinePath``; not needed with a ``Flow``
    prediction : "velocity", "target" (a denoiser), "source" (a noise predictor) or "score"
    t_max : the largest time that the model is asked for; by default 0.999 for a denoiser and 1 for others
    """

    flow: Flow | Prediction
    states: Sampler | Tensor
    loss: Loss | None = None
    path: AffinePath | None = None
    prediction: str = "velocity"
    t_max: float | None = None


@dataclass(frozen=True)
class Audit:
    """A checked subject: the user's flow, its float64 copy if it has one, and samplers of states and losses."""

    name: str
    flow: Flow
    reference_flow: Flow
    made: Audited
    device: str

    def draw(self, t: float, n: int, generator: torch.Generator) -> tuple[Tensor, Loss]:
        """Return n states (n, *event) at time t and their loss; equal generators give equal data and noise."""
        states = self.made.states
        if isinstance(states, Tensor):
            clean, other = states[torch.randint(len(states), (2, n), generator=generator)].cpu()
            noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64).to(clean)
            x = expand(self.flow.path.alpha(t), clean) * clean + expand(self.flow.path.sigma(t), clean) * noise
        else:
            x, other = (_sampled(states, s, n, generator) for s in (t, 1.0))
        x, other = (v.to(self.device, _dtype(self.flow, v)) for v in (x, other))
        return x, self.made.loss or HalfSquaredDistance(other)


class Guarded:
    """A user's function that raises ``AuditError``, with the time, for NaN or infinity at a finite state."""

    def __init__(self, function: Prediction) -> None:
        self.function = function

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return ``function(x, t)``; ``AuditError`` where it is not a tensor, or not finite at a finite state."""
        value = self.function(x, t)
        if not isinstance(value, Tensor):
            raise AuditError(f"the model must return a tensor, got {type(value).__name__}")
        if value.shape == x.shape and value.device == x.device:
            bad = _finite_rows(x) & ~_finite_rows(value)
            if bool(bad.any()):
                raise AuditError(f"the model returns NaN or infinity at t = {float(t.detach()[bad][0]):.6g}")
        return value

    def select_rows(self, rows: Tensor) -> Guarded:
        """Return the guarded function of the samples with indices ``rows`` (C,)."""
        return Guarded(select_rows(self.function, rows))


def load(name: str, device: str) -> Audit:
    """Import ``"package.module:factory"``, call it and check its return value.

    Returns
    -------
    Audited
        The return value.

    Raises
    ------
    AuditError
        If the factory cannot be imported or fails, and for another return value.
    """
    factory = _user(name, resolve, name)
    if not callable(factory):
        raise AuditError(f"{name} must be callable, got {type(factory).__name__}")
    takes_device = "device" in _user(name, inspect.signature, factory).parameters
    made = _user(name, factory, **({"device": device} if takes_device else {}))
    if not isinstance(made, tuple) or not 2 <= len(made) <= len(Audited._fields):
        raise AuditError(f"{name} must return analysis.audit.Audited(...) or (flow, states), got {_kind(made)}")
    made = Audited(*made)
    if not (isinstance(made.states, Tensor) or callable(made.states)):
        raise AuditError(f"{name}: states must be a tensor of data or a sampler, got {_kind(made.states)}")
    if isinstance(made.states, Tensor):
        _user(name, checks.state, made.states, None, "states")
    flow = _user(name, _flow, made)
    return Audit(name, _guarded(flow), _guarded(_twin(flow)), made, device)


def probe(audit: Audit, again: Audit, t: float, n: int, generator: Callable[[], torch.Generator]) -> str:
    """Check the flow at a time, and fingerprint its predictions, parameters, states, losses and source.

    ``again`` comes from a second call of the factory.

    Returns
    -------
    str
        The fingerprint.

    Raises
    ------
    AuditError
        For predictions of the wrong shape, dtype or device, NaN, a flow that differs between both calls, and one whose
        derivative is not that of its values.
    """
    digest = hashlib.sha256(audit.name.encode())
    source = sys.modules[audit.name.partition(":")[0]].__file__
    digest.update(Path(source).read_bytes() if source else b"")
    for module in _modules(audit.flow):
        for key, value in sorted(module.state_dict().items()):
            digest.update(key.encode() + (_bytes(value) if isinstance(value, Tensor) else repr(value).encode()))
    for value in _user(f"{audit.name} at t = {t:g}", _probe, audit, again, t, n, generator):
        digest.update(_bytes(value))
    return digest.hexdigest()[:16]


def _probe(audit: Audit, again: Audit, t: float, n: int, generator: Callable[[], torch.Generator]) -> list[Tensor]:
    x, loss = audit.draw(t, n, generator())
    value = audit.flow.velocity(x, t)
    if value.shape != x.shape or value.dtype != x.dtype or value.device != x.device:
        raise AuditError(f"the velocity must be like x, {_kind(x)}; got {_kind(value)}")
    checks.finite("the velocity", value)
    repeated = again.flow.velocity(again.draw(t, n, generator())[0], t)
    if bool((relative(repeated - value, value) > torch.finfo(x.dtype).eps ** 0.5).any()):
        raise AuditError("two calls of the factory give other predictions: call .eval(), and seed what is random")
    _check_derivative(audit.flow, x, t, value)
    return [x, value, value_and_gradient(loss, x)[0]]


def _check_derivative(flow: Flow, x: Tensor, t: float, value: Tensor) -> None:
    """Compare J v, v = u(x, t), by the estimators' products with finite differences; ``AuditError`` if they differ."""
    readout, time = flow.path.readout("velocity", t), torch.tensor(t, dtype=torch.float64)
    direction = value * (x.square().mean().sqrt() / value.square().mean().sqrt().clamp_min(torch.finfo(x.dtype).tiny))
    h = torch.finfo(x.dtype).eps ** (1 / 3)
    moved = (flow.predict(x + h * direction, time, readout) - flow.predict(x - h * direction, time, readout)) / (2 * h)
    expected = moved.double().square().sum()
    product = (flow.predict_vjp(x, time, readout)[1](moved) * direction).double().sum()
    if bool((product - expected).abs() > DERIVATIVE_SLACK * expected + h * x.double().square().sum()):
        raise AuditError(
            f"the flow is not differentiable: along one direction autograd gives {float(product):.3g} where finite "
            f"differences give {float(expected):.3g}; look for a jump, a rounding, .detach() or torch.no_grad()"
        )


def _flow(made: Audited) -> Flow:
    if isinstance(made.flow, Flow):
        return made.flow
    if not callable(made.flow):
        raise AuditError(f"flow must be a Flow, an nn.Module or a function, got {_kind(made.flow)}")
    if not isinstance(made.path, AffinePath):
        raise AuditError(f"path must come with a flow that is a function: analysis.paths has them; got {made.path!r}")
    first, last = usable_times(made.path, made.prediction)
    return PredictionFlow(made.flow, made.path, made.prediction, first, made.t_max or last)


def _twin(flow: Flow) -> Flow:
    """Return a float64 copy of a narrower network, or the flow itself where there can be no such copy."""
    if not isinstance(flow, PredictionFlow) or not isinstance(flow.function, nn.Module):
        return flow
    twin = copy.copy(flow)
    with contextlib.suppress(Exception):
        twin.function = copy.deepcopy(flow.function).double()
    return twin


def _guarded(flow: Flow) -> Flow:
    if not isinstance(flow, PredictionFlow):
        return flow
    guarded = copy.copy(flow)
    guarded.function = Guarded(flow.function)
    guarded.probe = Probe(derivative_asked=True)  # the audit refuses what this would warn of
    return guarded


def _modules(flow: Flow) -> list[nn.Module]:
    function = getattr(flow, "function", None)
    candidates = (flow, function.function if isinstance(function, Guarded) else function)
    return [module for module in candidates if isinstance(module, nn.Module)]


def _dtype(flow: Flow, x: Tensor) -> torch.dtype:
    """Return the flow's dtype: its own, its parameters', or that of the states."""
    floats = [p.dtype for module in _modules(flow) for p in module.parameters() if p.is_floating_point()]
    return flow.dtype or next(iter(floats), x.dtype)


def _sampled(states: Sampler, t: float, n: int, generator: torch.Generator) -> Tensor:
    x = checks.state(_user("states", states, t, n, generator), None, f"states({t:g}, {n}, generator)")
    if len(x) != n:
        raise AuditError(f"states({t:g}, {n}, generator) must return {n} states, got shape {tuple(x.shape)}")
    return x


def _finite_rows(x: Tensor) -> Tensor:
    return torch.isfinite(x.detach()).flatten(1).all(1)


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {value.dtype} on {value.device}"
    return type(value).__name__


def _user(name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a user's function, or code that runs it; any error becomes an ``AuditError`` that says where."""
    try:
        return function(*arguments, **options)
    except AuditError as error:
        raise AuditError(f"{name}: {error}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [f for f in frames if not any(Path(f.filename).is_relative_to(room) for room in NOT_THEIRS)]
        where = f" ({Path(theirs[-1].filename).name}:{theirs[-1].lineno})" if theirs else ""
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise AuditError(f"{name}: {kind}{error}{where}") from error

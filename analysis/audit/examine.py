"""What a subject passes before anything is measured: shapes, NaN, repeated answers, and derivatives."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from analysis import checks
from analysis.audit.model import modules
from analysis.audit.refusal import AuditError, ask
from analysis.audit.subject import Audit, AuditStates
from analysis.errors import relative
from analysis.flow import PredictionFlow
from analysis.losses import value_and_gradient

DERIVATIVE_SLACK = 0.1  # of a derivative against finite differences: kinks pass, a detached branch does not
NEAR, FAR = 1e-4, 0.02  # distances in time: networks that round it have tens to a few thousands of steps in [0, 1]


def probe(audit: Audit, again: Audit, t: float, n: int, generator: Callable[[], torch.Generator]) -> list[Tensor]:
    """Check the flow at a time; return states, velocities and losses there.

    ``again`` is the subject made or asked a second time.

    Returns
    -------
    list[Tensor]
        States (n, *event), velocities (n, *event) and losses (n,).

    Raises
    ------
    AuditError
        For predictions of the wrong shape, dtype or device, NaN, a flow that is not the same both times, a model that
        rounds its time, and one whose derivative is not that of its values.
    """
    return ask(f"{audit.name} at t = {t:g}", _probe, audit, again, t, n, generator)


def fingerprint(audit: Audit, values: list[Tensor]) -> str:
    """Return a digest of a factory's source, the parameters of its networks, and what ``probe`` has returned."""
    digest = hashlib.sha256(audit.name.encode())
    source = sys.modules[audit.name.partition(":")[0]].__file__
    digest.update(Path(source).read_bytes() if source else b"")
    for module in modules(audit.flow):
        for key, value in sorted(module.state_dict().items()):
            digest.update(key.encode() + (_bytes(value) if isinstance(value, Tensor) else repr(value).encode()))
    for value in values:
        digest.update(_bytes(value))
    return digest.hexdigest()[:16]


def _probe(audit: Audit, again: Audit, t: float, n: int, generator: Callable[[], torch.Generator]) -> list[Tensor]:
    states, second = audit.draw(t, n, generator()), again.draw(t, n, generator())
    x, value = states.x, states.flow.velocity(states.x, t)
    if value.shape != x.shape or value.dtype != x.dtype or value.device != x.device:
        raise AuditError(f"the velocity must be like x, {_like(x)}; got {_like(value)}")
    checks.finite("the velocity", value)
    repeated = second.flow.velocity(second.x, t)
    if bool((relative(repeated - value, value) > torch.finfo(x.dtype).eps ** 0.5).any()):
        raise AuditError("two calls of the factory give other predictions: call .eval(), and seed what is random")
    _check_time(states, t)
    _check_derivative(states, t, value)
    return [x, value, value_and_gradient(states.loss, x)[0]]


def _check_time(states: AuditStates, t: float) -> None:
    """Refuse a model that rounds its time: no solve converges on its jumps, and the finest takes minutes to say so."""
    flow, x = states.flow, states.x
    if not isinstance(flow, PredictionFlow):
        return
    t = min(max(t, flow.t_min + NEAR), flow.t_max - NEAR)
    times = torch.tensor([t, t - NEAR, t + NEAR, t + FAR if t < 0.5 else t - FAR], dtype=torch.float64)
    times = times[:, None].expand(-1, len(x)).to(x.device, flow.time_dtype or x.dtype)
    with torch.no_grad():
        here, before, after, far = (flow.function(x.clone(), some) for some in times)
    moved = float(relative(far - here, here).max())
    if moved * NEAR / FAR > 10 * torch.finfo(x.dtype).eps and (torch.equal(here, before) or torch.equal(here, after)):
        raise AuditError(
            f"the model takes discrete timesteps: over {NEAR:g} of time its predictions stay the same in every digit, "
            f"over {FAR:g} they change by up to {moved:.1g}. Give it whole timesteps and let the flow interpolate: "
            "real_models.adapters.module.flow(..., timesteps=N), or diffusers.flow(..., integer_timesteps=True)"
        )


def _check_derivative(states: AuditStates, t: float, value: Tensor) -> None:
    """Compare J v, v = u(x, t), with finite differences through the product that estimators use."""
    flow, x = states.flow, states.x
    readout, time = flow.path.readout("velocity", t), torch.tensor(t, dtype=torch.float64)
    direction = value * (x.square().mean().sqrt() / value.square().mean().sqrt().clamp_min(torch.finfo(x.dtype).tiny))
    h = torch.finfo(x.dtype).eps ** (1 / 3)
    moved = (flow.predict(x + h * direction, time, readout) - flow.predict(x - h * direction, time, readout)) / (2 * h)
    expected = moved.double().square().sum()
    pulled = (flow.predict_vjp(x, time, readout)[1](moved) * direction).double().sum()
    if bool((pulled - expected).abs() > DERIVATIVE_SLACK * expected + h * x.double().square().sum()):
        raise AuditError(
            f"the flow is not differentiable: along one direction autograd gives {float(pulled):.3g} where finite "
            f"differences give {float(expected):.3g}; look for a jump, a rounding, .detach() or torch.no_grad()"
        )


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _like(value: Tensor) -> str:
    return f"{tuple(value.shape)} {value.dtype} on {value.device}"

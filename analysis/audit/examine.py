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
from analysis.losses import value_and_gradient

DERIVATIVE_SLACK = 0.1  # of a derivative against finite differences: kinks pass, a detached branch does not


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
        For predictions of the wrong shape, dtype or device, NaN, a flow that is not the same both times, and one whose
        derivative is not that of its values.
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
    _check_derivative(states, t, value)
    return [x, value, value_and_gradient(states.loss, x)[0]]


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

"""What is audited: a flow or a model with its declaration, data, and a loss.

A factory of the command line is a callable without arguments, or with the one keyword ``device``. It returns
``Audited``, or the pair (flow, data) of its first two fields. A model with a checkpoint is loaded by the factory
itself: nothing is unpickled here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from analysis import checks
from analysis.audit.arguments import path, refusing
from analysis.audit.data import Extras, Rows, Source, WithExtras, rows_of, split, takes_extras
from analysis.audit.model import DIRECTIONS, Guarded, Turned, bound, double, dtype_of, with_function
from analysis.audit.refusal import AuditError, ask
from analysis.flow import Flow, Prediction, PredictionFlow, usable_times
from analysis.losses import HalfSquaredDistance, Loss
from analysis.paths import PREDICTIONS, AffinePath, expand
from analysis.probe import Probe
from analysis.settings import resolve


class Audited(NamedTuple):
    """What a factory returns.

    Attributes
    ----------
    flow : an ``analysis.flow.Flow``; or an ``nn.Module`` or function (x (B, *event), t (B,)) -> (B, *event), together
        with ``path`` and ``prediction``
    data : a tensor (N, *event), a ``Dataset`` or a ``DataLoader``, from whose rows X_t = alpha X_1 + sigma X_0 is
        drawn; or a sampler ``(t, n, generator) -> (n, *event)``, n states at time t in (0, 1] drawn with the generator,
        on the CPU or the model's device. A row (or what a sampler returns) may be (x1, extra, ...): extras go to the
        model and to the loss behind their own arguments, where their signatures take them.
    loss : x (B, *event) -> (B,); by default half the squared distance to another sample of the data
    path : an ``analysis.paths.AffinePath``; not needed with a ``Flow``
    prediction : "velocity", "target" (a denoiser), "source" (a noise predictor) or "score"
    t_max : the largest time that the model is asked for; by default 0.999 for a denoiser and 1 for others
    time : "noise_to_data", or "data_to_noise" for a model of s = 1 - t, whose velocity is dx/ds
    """

    flow: Flow | Prediction
    data: Source
    loss: Callable[..., Tensor] | None = None
    path: AffinePath | None = None
    prediction: str = "velocity"
    t_max: float | None = None
    time: str = "noise_to_data"


@dataclass(frozen=True)
class AuditStates:
    """States of an audit: x (B, *event), their loss, and the flow and its reference of these samples."""

    x: Tensor
    loss: Loss
    flow: Flow
    reference_flow: Flow


@dataclass(frozen=True)
class Audit:
    """A checked subject: the user's flow, its float64 twin where it has one, and where states and losses come from."""

    name: str
    flow: Flow
    reference_flow: Flow
    made: Audited
    rows: Rows | None
    device: str

    def draw(self, t: float, n: int, generator: torch.Generator) -> AuditStates:
        """Return n states at time t, the same data and noise for the same generator, and their loss."""
        if self.rows:
            picked = torch.randint(self.rows.count, (2, n), generator=generator).tolist()
            (clean, extras), (other, _) = (self.rows.pick(rows) for rows in picked)
            noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64).to(clean)
            x = expand(self.flow.path.alpha(t), clean) * clean + expand(self.flow.path.sigma(t), clean) * noise
        else:
            (x, extras), (other, _) = (_sampled(self.made.data, s, n, generator) for s in (t, 1.0))
        x, other = (v.to(self.device, dtype_of(self.flow, v)) for v in (x, other))
        flow, reference = (self._given(made, extras) for made in (self.flow, self.reference_flow))
        return AuditStates(x, self._loss(other, extras), flow, reference)

    def clean(self, n: int, generator: torch.Generator) -> tuple[Tensor, Flow]:
        """Return n samples of the data, those that there are where these are fewer, and the flow of these samples."""
        if self.rows:
            order = torch.randperm(self.rows.count, generator=generator)[:n].tolist()
            x1, extras = self.rows.pick(order)
        else:
            x1, extras = _sampled(self.made.data, 1.0, n, generator)
        return x1.to(self.device, dtype_of(self.flow, x1)), self._given(self.flow, extras)

    def _given(self, flow: Flow, extras: Extras) -> Flow:
        function = self.made.flow
        if not extras or isinstance(function, Flow) or not takes_extras(function, 2, len(extras), "the model"):
            return flow
        return bound(flow, extras)

    def _loss(self, other: Tensor, extras: Extras) -> Loss:
        loss = self.made.loss
        if loss is None:
            return HalfSquaredDistance(other)
        return WithExtras(loss, extras) if extras and takes_extras(loss, 1, len(extras), "the loss") else loss


def load(name: str, device: str) -> Audit:
    """Import ``"package.module:factory"``, call it and check what it returns.

    Returns
    -------
    Audit
        The checked subject.

    Raises
    ------
    AuditError
        Where the factory cannot be imported or fails, and where it returns something else.
    """
    factory = ask(name, resolve, name)
    if not callable(factory):
        raise AuditError(f"{name} must be callable, got {type(factory).__name__}")
    takes_device = "device" in ask(name, inspect.signature, factory).parameters
    made = ask(name, factory, **({"device": device} if takes_device else {}))
    if not isinstance(made, tuple) or not 2 <= len(made) <= len(Audited._fields):
        raise AuditError(f"{name} must return analysis.audit.Audited(...) or (flow, data), got {checks.kind(made)}")
    return of(Audited(*made), name, device)


def of(made: Audited, name: str, device: str) -> Audit:
    """Return the checked subject of a flow or model, its data and its loss.

    Returns
    -------
    Audit
        The checked subject.

    Raises
    ------
    AuditError
        For a declaration, data or a loss that cannot be audited; the message says what is wrong.
    """
    with refusing(f"{name}: "):
        checks.known("time", made.time, DIRECTIONS)
        checks.known("prediction", made.prediction, PREDICTIONS)
        if made.loss is not None:
            checks.loss(made.loss)
        if made.t_max is not None:
            checks.number("t_max", made.t_max)
        _check_model(made)
    rows = ask(name, rows_of, made.data)
    flow, twin = ask(name, _flow, made, False), ask(name, _flow, made, True)
    return Audit(name, _guarded(flow), _guarded(twin), made, rows, device)


def _check_model(made: Audited) -> None:
    """Check the model, and that what is declared of it is declared in one place."""
    if not isinstance(made.flow, Flow):
        if isinstance(made.flow, type) or not callable(made.flow):
            hint = ": make an instance of it" if isinstance(made.flow, type) else ""
            raise TypeError(f"the model must be a Flow, an nn.Module or a function, got {checks.kind(made.flow)}{hint}")
        if made.path is None:
            raise ValueError("path must come with a model that is a function: pass one of analysis.paths; got None")
        path(made.path)
        return
    own = {"path": made.flow.path, "prediction": getattr(made.flow, "prediction", None)}
    for name in ("path", "prediction", "t_max", "time"):
        given = getattr(made, name)
        if given not in (Audited._field_defaults[name], own.get(name)):
            raise ValueError(f"{name} must be left out with a Flow: say it where the flow is made; got {given!r}")


def _flow(made: Audited, twin: bool) -> Flow:
    if isinstance(made.flow, Flow):
        flow = made.flow
        return with_function(flow, double(flow.function)) if twin and isinstance(flow, PredictionFlow) else flow
    assert made.path is not None
    function = double(made.flow) if twin else made.flow
    function = function if made.time == DIRECTIONS[0] else Turned(function, made.prediction)
    first, last = usable_times(made.path, made.prediction)
    return PredictionFlow(function, made.path, made.prediction, first, last if made.t_max is None else made.t_max)


def _guarded(flow: Flow) -> Flow:
    if not isinstance(flow, PredictionFlow):
        return flow
    guarded = with_function(flow, Guarded(flow.function))
    guarded.probe = Probe(derivative_asked=True)  # the audit refuses what this would warn of
    return guarded


def _sampled(states: Any, t: float, n: int, generator: torch.Generator) -> tuple[Tensor, Extras]:
    call = f"states({t:g}, {n}, generator)"
    x, extras = ask(call, split, ask("states", states, t, n, generator))
    if len(x) != n:
        raise AuditError(f"{call} must return {n} states, got shape {tuple(x.shape)}")
    return x, extras

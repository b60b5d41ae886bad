r"""What the adapters share: a network asked in its own conventions, and the flow that it makes.

An adapted network lives on its *own* path, the one it was trained on with time turned to run from noise (0) to data
(1). There, flow and network agree on the state, and only the clock differs: t -> 1 - t, 1000 (1 - t), sigma(t). Times
are converted in float64 and rounded to the network's dtype last: rounding first would lose what 1 - t is made of near
the data. Asked along another path, the state is that of equal :math:`\zeta = \sigma/\alpha` and of the same radius
:math:`\sqrt{\alpha^2 + \sigma^2}`, as ``analysis.flow.PredictionFlow`` has it.
"""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis import checks
from analysis.flow import PredictionFlow
from analysis.paths import AffinePath, expand

END = 1e-3  # how far from a singular end of time a network is asked, where nothing else is said
TIME_SHAPES = {"batch": "(B,)", "column": "(B, 1)", "scalar": "()"}

Clock = Callable[[Tensor], Tensor]
Call = Callable[..., Any]  # (network, x, time, **conditioning)


def call(network: Callable[..., Any], x: Tensor, time: Tensor, **conditioning: Any) -> Any:
    """Return ``network(x, time, **conditioning)``, which is how most networks are called."""
    return network(x, time, **conditioning)


class Adapter(nn.Module):
    """A network behind its conventions: ``forward(x (B, *event), t (B,) float64) -> (B, *event)`` on its own path.

    Parameters
    ----------
    network : the user's, which stays as it is
    clock : t -> the network's time, elementwise in float64
    call : ``(network, x, time, **conditioning)`` -> the prediction, a tensor like x
    weight : t -> the factor that makes the network's output the prediction that the flow is told it is
    time_shape : "batch" (B,), "column" (B, 1) or "scalar" (), a network that takes one time per call: it is then called
        once for each distinct time
    event_shape : the event that the network takes, to which flat ones are reshaped; ``None`` leaves the state as it is
    conditioning : further keyword arguments of the network. A tensor has one row for all samples or as many as there
        are samples; a floating one is given x's dtype. Anything else is passed on as it is.
    half_times : whether a network in half precision takes its times in half precision too, rather than in float32

    Raises ``ValueError`` for an argument that is none of these, and for a prediction of another shape.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        clock: Clock,
        *,
        call: Call = call,
        weight: Clock | None = None,
        time_shape: str = "batch",
        event_shape: Sequence[int] | None = None,
        conditioning: Mapping[str, Any] | None = None,
        half_times: bool = False,
    ) -> None:
        super().__init__()
        if not callable(network):
            raise ValueError(f"network must be an nn.Module or a function, got {type(network).__name__}")
        self.network, self.clock, self.call, self.weight = network, clock, call, weight
        self.time_shape = checks.known("time_shape", time_shape, TIME_SHAPES)
        self.event_shape = event_shape and tuple(checks.count("event_shape", n) for n in event_shape)
        self.conditioning = {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" else value
            for name, value in (conditioning or {}).items()
        }
        self.half_times = half_times

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the prediction at states x and times t (B,) of the network's own path."""
        state = x.reshape(len(x), *self.event_shape) if self.event_shape else x
        time = self.clock(t).to(x.dtype if self.half_times else torch.promote_types(x.dtype, torch.float32))
        value = self._ask(state, time)
        if not isinstance(value, Tensor) or value.shape != state.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"network must return a tensor of its input's shape, {tuple(state.shape)}; got {got}")
        if self.weight is not None:
            value = expand(self.weight(t), value) * value
        return value.reshape(x.shape)

    def select_rows(self, rows: Tensor) -> Adapter:
        """Return the adapter of the samples ``rows`` (C,): conditioning with a row per sample is selected likewise."""
        if not any(_per_sample(value) for value in self.conditioning.values()):
            return self
        selected = copy.copy(self)
        selected.conditioning = {
            name: value[rows.to(value.device)] if _per_sample(value) else value
            for name, value in self.conditioning.items()
        }
        return selected

    def _ask(self, x: Tensor, time: Tensor) -> Any:
        conditioning = {name: self._rows(name, value, x) for name, value in self.conditioning.items()}
        if self.time_shape != "scalar":
            return self.call(self.network, x, time[:, None] if self.time_shape == "column" else time, **conditioning)
        which = time.detach().unique(return_inverse=True)[1]
        groups = [(which == i).nonzero()[:, 0] for i in range(int(which.max()) + 1)]
        values = [
            self.call(
                self.network, x[rows], time[rows[0]], **{k: _take(v, rows, len(x)) for k, v in conditioning.items()}
            )
            for rows in groups
        ]
        return values[0] if len(values) == 1 else torch.cat(values)[torch.cat(groups).argsort()]

    @staticmethod
    def _rows(name: str, value: Any, x: Tensor) -> Any:
        if not isinstance(value, Tensor) or not value.ndim:
            return value
        if len(value) not in (1, len(x)):
            raise ValueError(f"conditioning {name!r} must have 1 row or one per sample, {len(x)}; got {len(value)}")
        value = value.to(x) if value.is_floating_point() else value.to(x.device)
        return value.expand(len(x), *value.shape[1:])


def _take(value: Any, rows: Tensor, batch: int) -> Any:
    return value[rows] if isinstance(value, Tensor) and value.ndim and len(value) == batch else value


def _per_sample(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) > 1


class Plain:
    """An adapter of a function, which, unlike a network, cannot be copied to another dtype and must not look so."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the prediction, as the adapter does."""
        return self.adapter(x, t)

    def select_rows(self, rows: Tensor) -> Plain:
        """Return the same for the samples ``rows`` (C,)."""
        return Plain(self.adapter.select_rows(rows))


def network_flow(
    adapter: Adapter,
    own: AffinePath,
    prediction: str,
    path: AffinePath | None = None,
    *,
    t_min: float = 0.0,
    t_max: float = 1.0,
    event_shape: tuple[int, ...] | None = None,
) -> PredictionFlow:
    """Return the flow of an adapted network.

    Parameters
    ----------
    own, prediction : the path that the network was trained on, and what it predicts there
    path : the path of the flow; by default the network's own
    t_min, t_max : the range of own times it is asked for; a time outside is moved to its end
    event_shape : that of one sample, or ``None`` where any is accepted

    Raises
    ------
    ValueError : as ``analysis.flow.PredictionFlow`` does
    """
    # What holds no network cannot be copied to float64, and must not look as if it could.
    function = adapter if isinstance(adapter.network, nn.Module) else Plain(adapter)
    # Times are not rounded to the dtype of x: the adapter does that last.
    made = PredictionFlow(function, own, prediction, t_min, t_max, event_shape=event_shape, time_dtype=torch.float64)
    return made if path is None else made.with_path(path)


def event(shape: Sequence[int] | None, flat: bool) -> tuple[int, ...] | None:
    """Return the event shape of a flow whose network takes ``shape``; ``flat`` joins its axes in row-major order."""
    if flat and not shape:
        raise ValueError("event_shape must be given where events are flat: the shape that the network takes")
    if shape is None:
        return None
    return (math.prod(shape),) if flat else tuple(shape)


def required(name: str) -> ModuleType:
    """Import a package of the extra ``models``; the ``ImportError`` where it is missing says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(f'{package} is not installed ({error}); run: pip install -e ".[models]"') from error

r"""Code that the adapters share: a network called in its own conventions, and the flow made from it.

An adapted network lives on its *own* path: the one it was trained on, with time running from noise (0) to data (1). On
this path flow and network have the same states and differ only in the clock: t -> 1 - t, 1000 (1 - t), sigma(t). Times
are converted in float64 and rounded to the network's dtype last, since rounding first would lose the digits of 1 - t
near the data. Along another path, the network is called at the time of equal :math:`\zeta = \sigma/\alpha`, with the
state scaled to the radius :math:`\sqrt{\alpha^2 + \sigma^2}` of its own path, as ``analysis.flow.PredictionFlow`` does.
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
    network : the user's network, which is not changed
    clock : t -> the network's time, elementwise in float64
    call : ``(network, x, time, **conditioning)`` -> the prediction, a tensor like x
    weight : t -> the factor that turns the network's output into the prediction that the flow expects
    time_shape : "batch" (B,), "column" (B, 1) or "scalar" (), for a network that takes one time per call: it is then
        called once for each distinct time
    event_shape : the event shape that the network takes, to which flat events are reshaped; ``None`` for no reshaping
    conditioning : further keyword arguments of the network. A tensor has 1 row for all samples or one per sample; a
        floating one is cast to x's dtype; ``tensor(3)``, a label, holds for all. Other values are passed on unchanged.
    half_times : whether a network in half precision takes its times in half precision too, rather than in float32

    Raises
    ------
    ValueError
        For a network that is not callable, an unknown ``time_shape``, or an event shape with a size below 1; when
        called, for conditioning with another number of rows or a prediction of another shape.
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
        checks.function(network, "network")
        self.network, self.clock, self.call, self.weight = network, clock, call, weight
        self.time_shape = checks.known("time_shape", time_shape, TIME_SHAPES)
        self.event_shape = None if event_shape is None else event_counts(event_shape)
        self.conditioning = {name: _row(value) for name, value in _named(conditioning or {}).items()}
        self.half_times = half_times

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Compute the prediction at states x (B, *event) and times t (B,) of the network's own path.

        Returns
        -------
        Tensor
            (B, *event).

        Raises
        ------
        ValueError
            Where the network returns anything but a tensor of its input's shape, and where it refuses a number of the
            conditioning.
        TypeError
            As the network raises it.
        """
        state = x.reshape(len(x), *self.event_shape) if self.event_shape else x
        time = self.clock(t).to(x.dtype if self.half_times else torch.promote_types(x.dtype, torch.float32))
        try:
            value = self._ask(state, time)
        except TypeError as error:
            numbers = {k: v for k, v in self.conditioning.items() if isinstance(v, int) and not isinstance(v, bool)}
            if not numbers:
                raise
            said = ", ".join(f"{name!r} = {value}" for name, value in numbers.items())
            raise ValueError(
                f"conditioning must suit the network, which refuses {said}: a label is a tensor, such as "
                f"torch.tensor([1]) ({error})"
            ) from error
        if not isinstance(value, Tensor) or value.shape != state.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"network must return a tensor of its input's shape, {tuple(state.shape)}; got {got}")
        if self.weight is not None:
            value = expand(self.weight(t), value) * value
        return value.reshape(x.shape)

    def select_rows(self, rows: Tensor) -> Adapter:
        """Return the adapter for the samples with indices ``rows`` (C,), with their rows of the conditioning."""
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


def _named(conditioning: Any) -> Mapping[str, Any]:
    """Return further arguments by name; raises ``TypeError`` for what is no mapping from names."""
    if not isinstance(conditioning, Mapping) or not all(isinstance(name, str) for name in conditioning):
        raise TypeError(
            "conditioning must be a dictionary from names of the network's arguments to their values, such as "
            f'{{"class_labels": torch.tensor([3])}}; got {checks.kind(conditioning)}'
        )
    return conditioning


def _row(value: Any) -> Any:
    """Return an array as a tensor, and one label, a tensor of an integer without rows, as one row."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        value = torch.from_numpy(value)
    label = isinstance(value, Tensor) and not value.ndim and not value.is_floating_point() and value.dtype != torch.bool
    return value[None] if label else value


def _take(value: Any, rows: Tensor, batch: int) -> Any:
    return value[rows] if isinstance(value, Tensor) and value.ndim and len(value) == batch else value


def _per_sample(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) > 1


class Plain:
    """An adapter of a function: unlike a network, it cannot be copied to another dtype, so it is no ``nn.Module``."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the adapter's prediction (B, *event) at x (B, *event) and t (B,)."""
        return self.adapter(x, t)

    def select_rows(self, rows: Tensor) -> Plain:
        """Return the same function for the samples with indices ``rows`` (C,)."""
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
    """Make the flow of an adapted network.

    Parameters
    ----------
    adapter : the network in its conventions
    own, prediction : the path that the network was trained on, and the quantity that it predicts there
    path : the path of the flow; by default the network's own
    t_min, t_max : the range of own times at which the network is called; times outside are moved to its ends
    event_shape : of one sample, or ``None`` where any is accepted

    Returns
    -------
    PredictionFlow
        With states (B, *event).

    Raises
    ------
    ValueError
        As ``analysis.flow.PredictionFlow`` does.
    """
    # What holds no network cannot be copied to float64, and must not look as if it could.
    function = adapter if isinstance(adapter.network, nn.Module) else Plain(adapter)
    # Times are not rounded to the dtype of x: the adapter does that last.
    made = PredictionFlow(function, own, prediction, t_min, t_max, event_shape=event_shape, time_dtype=torch.float64)
    return made if path is None else made.with_path(path)


def event(shape: Sequence[int] | None, flat: bool) -> tuple[int, ...] | None:
    """Return the flow's event shape, ``shape`` or, if ``flat``, its size; raises ``ValueError`` without a shape."""
    if flat and not shape:
        raise ValueError("event_shape must be given where events are flat: the shape that the network takes")
    if shape is None:
        return None
    counts = event_counts(shape)
    return (math.prod(counts),) if flat else counts


def event_counts(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of an event, a sequence of integers of at least 1."""
    return tuple(checks.count("event_shape", n) for n in checks.sequence("event_shape", shape))


def required(name: str) -> ModuleType:
    """Import a package of the extra ``models``; ``ImportError`` says how to install it where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(f'{package} is not installed ({error}); run: pip install -e ".[models]"') from error

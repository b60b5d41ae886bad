"""A user's function is tested before it is trusted: faults that no gradient would show, by a few evaluations.

A flow made of a function (``analysis.flow.PredictionFlow``) is tested once, by the first public function that takes
gradients of it; all copies of the flow share the result. The tests use the first few samples of that call:

- whether the function changes its input in place: if so, it is given copies from then on;
- whether modules that it calls are in training mode where that matters, whether it returns the same twice, and whether
  it returns the same for a sample alone as in its batch: a ``RuntimeWarning`` names what fails;
- at the first product, whether autograd's derivative along one direction agrees with finite differences, which fails
  for a part under ``.detach()`` or ``torch.no_grad()``: a ``RuntimeWarning`` as well. Two step sizes must agree on it,
  so that neither a kink nor a field too stiff for them is mistaken for it.

A function that does not depend on its input through autograd at all is refused by the product itself.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from analysis.norms import norms, widened

Function = Callable[[Tensor, Tensor], Any]
ROWS = 4  # samples that are looked at
SLACK = 0.1  # of a derivative against finite differences: kinks pass, a detached part does not
BATCH_MODULES = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
RANDOM_MODULES = (nn.modules.dropout._DropoutNd, nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)
DROPPING_MODULES = (nn.RNNBase, nn.MultiheadAttention)  # those that drop numbers without a module for it
SCRIPTED = "TorchScript loses derivatives once a module was differentiated forwards (pytorch issues 73972 and 84681)"


@dataclass
class Probe:
    """The behaviour of a function, shared by all copies of a flow.

    Attributes
    ----------
    changes_input : whether it changes its input in place; ``None`` where it has not been asked
    derivative_asked : whether its derivative has been compared with finite differences
    """

    changes_input: bool | None = None
    derivative_asked: bool = False

    def look(self, function: Function, x: Tensor, t: Tensor) -> None:
        """On the first call, test a function at states x (B, *event) and times t (B,)."""
        if self.changes_input is None:
            some, x, t = part(function, x, t)
            first = select_rows(some, torch.zeros(1, dtype=torch.long, device=x.device))
            with _in_plain_words(function, x, t):
                self.changes_input = behaviour(some, first, x, t)

    def call(self, function: Function, x: Tensor, t: Tensor) -> Any:
        """Call ``function(x, t)``, with copies of both where the function may change them.

        Returns
        -------
        Any
            The function's result.

        Raises
        ------
        ValueError
            If a TorchScript module is differentiated in forward mode, which gives zeros or noise, and where the
            function raises an error of torch's: the message adds what it was given.
        """
        if unpack_dual(x).tangent is not None and scripted(function):
            raise ValueError(f"function must not be TorchScript for a forward-mode derivative: {SCRIPTED}")
        with _in_plain_words(function, x, t):  # here too: another call may have another dtype, shape or time
            if x.requires_grad and not self.derivative_asked:
                derivative(*part(function, x.detach(), t.detach()))
                self.derivative_asked = True
            return function(x, t) if self.changes_input is False else function(x.clone(), t.clone())


@contextlib.contextmanager
def _in_plain_words(function: Function, x: Tensor, t: Tensor) -> Iterator[None]:
    """Say what a function was given where it raises, out of memory aside: torch's own messages leave that out."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, TypeError, IndexError, AttributeError) as error:
        if "memory" in str(error) or "ALLOC_FAILED" in str(error):  # of the CPU's allocator, cuBLAS and cuDNN
            raise
        given = f"x {tuple(x.shape)} {x.dtype} and t {tuple(t.shape)} {t.dtype}"
        weights = {p.dtype for network in networks_in(function) for p in network.parameters()} - {x.dtype}
        hint = f"; its weights are {', '.join(map(str, weights))}: convert x or the network" if weights else ""
        if "'indices'" in str(error):  # of nn.Embedding
            hint = "; it takes discrete timesteps, which are supported: module.flow(..., timesteps=N) interpolates"
        raise ValueError(
            f"function must take {given}, and raises {type(error).__name__}: {error}{hint}; for times of another shape "
            "or scale use real_models.adapters.module.flow"
        ) from error


def select_rows(function: Function, rows: Tensor) -> Function:
    """Return the function for the samples ``rows``, by its own ``select_rows``, or itself without one."""
    select = getattr(function, "select_rows", None)
    selected = select(rows) if callable(select) else function
    # A compiled network passes the question on to the network, whose answer may be: myself.
    return function if selected is getattr(function, "_orig_mod", None) else selected


def part(function: Function, x: Tensor, t: Tensor) -> tuple[Function, Tensor, Tensor]:
    """Return the function of the first few samples, their states and times; or of all, if it must be called on all."""
    function = getattr(function, "_orig_mod", function)  # not to compile a network for other sizes of batch
    if len(x) > ROWS:
        with contextlib.suppress(Exception), _as_if_not_asked(function, x), torch.no_grad():
            some = select_rows(function, torch.arange(ROWS, device=x.device))
            if some(x[:ROWS].clone(), t[:ROWS].clone()).shape == x[:ROWS].shape:
                return some, x[:ROWS], t[:ROWS]
    return function, x, t


def behaviour(function: Function, first: Function, x: Tensor, t: Tensor) -> bool:
    """Test a function at states x (B, *event) and times t (B,), and warn of faults.

    ``first`` is the function of the first sample alone.

    Returns
    -------
    bool
        Whether the function changes its input in place.
    """
    training = training_modules(function)
    with _as_if_not_asked(function, x), torch.no_grad():
        given, times = x.clone(), t.clone()
        value = function(given, times)
        changed = not (torch.equal(given, x) and torch.equal(times, t))
        if training:
            _warn(function, f"is in training mode, which matters to {', '.join(training)}: call .eval() on it first")
        elif isinstance(value, Tensor) and value.shape == x.shape:
            alone = _alone(first, x, t)
            if _differ(value, function(x.clone(), t.clone())):
                _warn(function, "does not say the same twice: call .eval() on a network, and let nothing be random")
            elif alone is not None and _differ(value[:1], alone):
                _warn(function, "says something else of a sample alone than in a batch: samples influence each other")
    return changed


def _alone(first: Function, x: Tensor, t: Tensor) -> Tensor | None:
    """Return the prediction of the first sample alone; ``None`` if there is only one, or all must be called."""
    with contextlib.suppress(Exception):
        value = first(x[:1].clone(), t[:1].clone())
        return value if len(x) > 1 and value.shape == x[:1].shape else None
    return None


@contextlib.contextmanager
def _as_if_not_asked(function: Function, x: Tensor) -> Iterator[None]:
    """Put back what calls change: torch's random generators, and buffers of modules in training mode."""
    modules = (module for network in networks_in(function) for module in network.modules() if module.training)
    buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers(recurse=False)]
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        try:
            yield
        finally:
            for buffer, before in buffers:
                buffer.data.copy_(before)


def _differ(a: Tensor, b: Any) -> bool:
    """Return whether two predictions of the same samples differ by more than kernels of other sizes do."""
    return bool((norms(widened(b) - widened(a)) > torch.finfo(a.dtype).eps ** (1 / 3) * norms(a)).any())


def derivative(function: Function, x: Tensor, t: Tensor) -> None:
    """Warn if autograd's derivative of a function at x (B, *event), t (B,) is not that of its values.

    Raises
    ------
    ValueError
        If the function's output does not depend on x through autograd at all.
    """
    generator = torch.Generator().manual_seed(0)
    size = x.square().mean().sqrt().clamp_min(torch.finfo(x.dtype).eps)
    direction = size * torch.randn(x.shape, generator=generator).to(x)
    with _as_if_not_asked(function, x):
        with torch.no_grad():
            fine, coarse = (_difference(function, x, t, direction, h) for h in _steps(x.dtype))
        with torch.enable_grad():
            leaf = x.clone().requires_grad_()
            value = function(leaf.clone(), t.clone())
            (pulled,) = torch.autograd.grad(value, leaf, fine, allow_unused=True) if value.requires_grad else (None,)
    if pulled is None:
        raise ValueError(unrelated(function))
    if x.dtype not in (torch.float32, torch.float64):
        return  # finite differences have no digits left
    product, expected = (pulled.double() * direction).sum(), fine.double().square().sum()
    noise = 10 * torch.finfo(x.dtype).eps ** (2 / 3) * value.detach().double().norm() * fine.double().norm()
    settled = ((coarse.double() * fine).sum() - expected).abs() <= SLACK / 2 * expected
    if bool(settled & ((product - expected).abs() > SLACK * expected + noise)):
        _warn(
            function,
            f"has another derivative than its values: {float(product):.3g} by autograd and {float(expected):.3g} by "
            "finite differences along one direction; look for .detach() or torch.no_grad() in a part of it",
        )


def _steps(dtype: torch.dtype) -> tuple[float, float]:
    h = torch.finfo(dtype).eps ** (1 / 3)
    return h, 4 * h


def _difference(function: Function, x: Tensor, t: Tensor, direction: Tensor, h: float) -> Tensor:
    forth, back = (function(x + s * h * direction, t.clone()) for s in (1, -1))
    return (forth - back) / (2 * h)


def _warn(function: Function, what: str) -> None:
    name = getattr(function, "__name__", type(function).__name__)
    warnings.warn(f"the function of this flow, {name}, {what}", RuntimeWarning, stacklevel=2)


def unrelated(function: Function) -> str:
    """Return the error message for a function whose output does not depend on x through autograd."""
    known = f"; {SCRIPTED}: use the module that it was made of" if scripted(function) else ""
    return f"function must be differentiable: its output does not depend on x through autograd{known}"


def scripted(function: Any) -> bool:
    """Return whether a callable calls a module compiled by TorchScript, as far as can be seen."""
    modules = (module for network in networks_in(function) for module in network.modules())
    return any(isinstance(module, torch.jit.ScriptModule) for module in modules)


def training_modules(function: Any) -> list[str]:
    """Return at most three names, with kinds, of modules in training mode whose output depends on the mode."""
    return [
        f"{name or 'itself'} ({type(module).__name__})"
        for network in networks_in(function)
        for name, module in network.named_modules()
        if module.training and _depends_on_mode(module)
    ][:3]


def _depends_on_mode(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return module.track_running_stats
    if isinstance(module, DROPPING_MODULES):
        rate = getattr(module, "dropout", 0.0)
        return isinstance(rate, float) and rate > 0
    return isinstance(module, (*BATCH_MODULES, *RANDOM_MODULES)) and getattr(module, "p", 1.0) > 0


def networks_in(function: Any, depth: int = 3) -> Iterator[nn.Module]:
    """Yield the modules that a callable is, is bound to, holds or refers to, as far as can be seen."""
    if isinstance(function, nn.Module):
        yield function
    elif depth and not isinstance(function, type | ModuleType | Tensor):
        for value in _referred_to(function):
            yield from networks_in(value, depth - 1)


def _referred_to(function: Any) -> list[Any]:
    if isinstance(function, functools.partial):
        return [function.func, *function.args, *function.keywords.values()]
    if inspect.ismethod(function):
        return [function.__self__, function.__func__]
    if inspect.isfunction(function):
        variables = inspect.getclosurevars(function)
        return [*variables.nonlocals.values(), *variables.globals.values()]
    return list(getattr(function, "__dict__", {}).values())

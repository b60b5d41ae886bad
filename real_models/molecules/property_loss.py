"""The guide as a loss: the distance of a molecule's predicted property from a wanted value.

It is a loss like any other, (B, N, 8) to (B,), with gradients in coordinates and types.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from analysis import checks
from real_models import checkpoint
from real_models.molecules import WEIGHTS, data
from real_models.molecules.predictor import Predictor

PREDICTORS = ("guide", "evaluator")


def predictor(
    name: str = "guide", dtype: torch.dtype = torch.float32, device: str = "cpu", folder: Path = WEIGHTS
) -> Predictor:
    """Load the "guide" or the "evaluator", with its weights fixed.

    Returns
    -------
    Predictor
        From events (B, N, 8) to properties (B, 6).

    Raises
    ------
    ValueError
        For another name, and as ``checkpoint.load`` does.
    FileNotFoundError
        If there are no weights in ``folder``.
    """
    path = folder / f"{checks.known('name', name, PREDICTORS)}.safetensors"
    return checkpoint.load(path, Predictor).to(device, dtype).eval().requires_grad_(False)


class Scaled(Protocol):
    """A predictor, or what stands for one: it has the scales of the six properties, (6,)."""

    @property
    def scale(self) -> Tensor:
        """The scales."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return the properties (B, 6) of events x (B, N, 8)."""


@dataclass(frozen=True)
class PropertyLoss:
    """L(x) = (f(x) - wanted)^2 / (2 scale^2) of a property f; ``scale`` is its spread given the composition.

    A value outside ``data.RANGES`` gives a warning: no predictor was trained on such molecules.

    Parameters
    ----------
    network : the predictor of f; it computes in its own dtype, whatever that of x
    property : one of ``data.PROPERTIES`` for all molecules, or B of them, one for each
    wanted : the value, in ``data.UNITS``: one for all, or (B,)

    Raises
    ------
    ValueError
        For an unknown property, and values that are not finite or of another shape.
    """

    network: Scaled
    property: str | tuple[str, ...]
    wanted: Tensor | float

    def __post_init__(self) -> None:
        names = (self.property,) if isinstance(self.property, str) else self.property
        which = torch.tensor([data.property_index(name) for name in names])
        values = checks.finite("wanted", torch.as_tensor(self.wanted, dtype=torch.float64))
        if values.ndim > 1:
            raise ValueError(f"wanted must be one number or have shape (B,), got {tuple(values.shape)}")
        if not isinstance(self.property, str) and values.shape not in ((), which.shape):
            raise ValueError(f"wanted must be one number or have shape {tuple(which.shape)}, as property does")
        low, high = torch.tensor([data.RANGES[name] for name in data.PROPERTIES], dtype=torch.float64)[which].unbind(-1)
        outside = ((values < low) | (values > high)).expand(len(which) if values.ndim == 0 else len(values))
        for name in [name for name in data.PROPERTIES if name in names]:
            if bool(outside[torch.tensor([one == name for one in names]).expand(len(outside))].any()):
                _warn(name)

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the losses of events x (B, N, 8).

        Returns
        -------
        Tensor
            (B,).

        Raises
        ------
        ValueError
            If there are properties or wanted values for another number of events.
        """
        scale = self.network.scale
        names = [self.property] * len(x) if isinstance(self.property, str) else self.property
        if len(names) != len(x):
            raise ValueError(f"property must name one for all, or one for each of {len(x)} molecules, got {len(names)}")
        index = torch.tensor([data.property_index(name) for name in names], device=scale.device)
        wanted = torch.as_tensor(self.wanted).to(scale)
        if wanted.ndim and wanted.shape != x.shape[:1]:
            raise ValueError(f"wanted must be one number or have shape ({len(x)},), got {tuple(wanted.shape)}")
        predicted = self.network(x.to(scale)).gather(1, index[:, None])[:, 0]
        return (((predicted - wanted) / scale[index]).square() / 2).to(x)


def _warn(name: str) -> None:
    low, high = data.RANGES[name]
    text = f"wanted: {name} of 998 in 1000 molecules of QM9 lies in [{low:g}, {high:g}] {data.UNITS[name]}, "
    warnings.warn(f"{text}and a value outside is asked for; what is predicted there is a guess", stacklevel=4)

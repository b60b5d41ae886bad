"""Settings of a measurement: estimators with options, options of the command line, objects by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Variant:
    """An estimator's name and its options, as sorted pairs so that it can be hashed and compared."""

    estimator: str
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, estimator: str, **options: Any) -> Variant:
        """Make a variant from keyword options."""
        return cls(estimator, tuple(sorted(options.items())))


@dataclass(frozen=True)
class Options:
    """Options shared by all experiments."""

    quick: bool = False
    seed: int = 0
    dtype: str = "float64"
    device: str = "cpu"

    def of(self, spec: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the entry "quick" or "full" of an experiment's sizes."""
        return spec["quick" if self.quick else "full"]


def resolve(name: str) -> Any:
    """Return the object that "package.module:attribute" names.

    Returns
    -------
    Any
        The object.

    Raises
    ------
    ValueError
        For any other string, and if the import fails.
    """
    module, _, attribute = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not attribute or not module or module.startswith("."):
        raise ValueError(f"name must be a string module:attribute, such as 'package.module:function', got {name!r}")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name!r} must name an importable module:attribute ({error})") from error


def missing_device(device: str) -> str | None:
    """Return a sentence where torch cannot use a device here, else None."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        return f"{device} is not available ({str(error).splitlines()[0]})"
    return None

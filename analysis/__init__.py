"""The gradient-accuracy library: how good is a guidance gradient, and what does it cost?

Modules are imported when they are first used, so that ``analysis.results`` (all that figures need) does not import
torch: after ``import analysis``, ``analysis.gradients`` is available, and so is
``from analysis import gradients, losses``. A file ``analysis.py`` or a folder ``analysis`` beside a script hides this
package: rename it.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """Import a module of this package when it is first used; raises ``AttributeError`` for any other name."""
    if name not in __dir__() or name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    """Return the names of the modules, which an interactive shell completes."""
    return [module.name for module in pkgutil.iter_modules(__path__)] + ["__version__"]

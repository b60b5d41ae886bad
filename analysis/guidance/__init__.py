"""Guided samplers, one file per family, registered by name in ``SAMPLERS``.

Every module of this package is imported, so a new file adds a family without other changes.
"""

import importlib
import pkgutil

from analysis.guidance.controls import optimise_controls
from analysis.guidance.dial import LADDER, ladder
from analysis.guidance.midpoint import midpoint_guidance
from analysis.guidance.oracle import oracle_ode, oracle_sde
from analysis.guidance.per_step import optimise_steps
from analysis.guidance.posterior import posterior_guidance
from analysis.guidance.registry import SAMPLERS, Sample, register
from analysis.guidance.sampling import sample
from analysis.guidance.source import optimise_source
from analysis.guidance.tuning import Method, choose

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "LADDER",
    "SAMPLERS",
    "Method",
    "Sample",
    "choose",
    "ladder",
    "midpoint_guidance",
    "optimise_controls",
    "optimise_source",
    "optimise_steps",
    "oracle_ode",
    "oracle_sde",
    "posterior_guidance",
    "register",
    "sample",
]

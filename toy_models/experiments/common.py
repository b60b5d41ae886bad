"""What several experiments share: the variants that estimators declare, and the name of one in a figure."""

from __future__ import annotations

from analysis.gradients import ESTIMATORS
from analysis.settings import Options, Variant


def variants(options: Options) -> list[Variant]:
    """Return the variants that all estimators declare; in a quick run every third one."""
    stride = 3 if options.quick else 1
    return [Variant.of(name, **given) for name, one in ESTIMATORS.items() for given in one.variants[::stride]]


def label(setting: Variant) -> str:
    """Return the name a figure gives a setting."""
    steps = dict(setting.options).get("steps")
    if steps is None:
        return setting.estimator
    return f"{setting.estimator}, {steps} step{'s' if steps > 1 else ''}"

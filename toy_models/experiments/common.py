"""The name of a variant in a figure."""

from __future__ import annotations

from analysis.settings import Variant


def label(setting: Variant) -> str:
    """Return the name a figure gives a setting."""
    steps = dict(setting.options).get("steps")
    if steps is None:
        return setting.estimator
    return f"{setting.estimator}, {steps} step{'s' if steps > 1 else ''}"

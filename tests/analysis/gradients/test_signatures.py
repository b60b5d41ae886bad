"""What an editor sees of the estimators; the truth is a call, and the source of each rule."""

import inspect

import pytest
import torch

from analysis import gradients
from analysis.gradients import ESTIMATORS, Estimate, register


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_signature_is_that_of_the_call(name):
    estimator = ESTIMATORS[name]
    signature = inspect.signature(estimator)
    assert signature.return_annotation is Estimate
    assert list(signature.parameters)[:4] == ["flow", "loss", "x", "t"]
    assert signature.parameters["t"].annotation == torch.Tensor | float
    options = {
        p.name: p.default for p in inspect.signature(estimator.rule).parameters.values() if p.kind != p.VAR_KEYWORD
    }
    for option in list(options)[4:]:
        assert signature.parameters[option].default == options[option]
    for variant in estimator.variants:
        signature.bind(None, None, None, 0.5, **variant)
    assert repr(estimator) == f"{name}{signature}"


def test_estimators_of_the_package_are_named_in_it():
    """An editor reads names, and not the loop that imports every file."""
    source = inspect.getsource(gradients)
    assert all(f"{name}" in gradients.__all__ and name in source for name in ESTIMATORS)


def test_types_that_only_a_checker_imports_do_no_harm():
    try:

        @register("with_unknown_types")
        def rule(flow: "Unknown", loss, x, t, *, option: "Other" = 1):  # noqa: F821
            return x, x

        assert str(inspect.signature(rule).parameters["option"]) == "option: 'Other' = 1"
        assert inspect.signature(rule).return_annotation is Estimate
    finally:
        ESTIMATORS.pop("with_unknown_types")

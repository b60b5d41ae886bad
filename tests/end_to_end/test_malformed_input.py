"""A campaign of malformed calls over the registry of public functions: each refused in plain words, or right.

Thousands of calls, each with one argument replaced by a value that is none of its kind, or by a good value spelled in
another way. A refusal is a ``ValueError`` or ``TypeError`` that names the argument, raised in this project's code. What
is taken must give the result of the good value. Nothing else may happen: no error from the depths of a library, and no
result in silence. The values and what they stand for are in ``tests.support.malformed``, the functions beside it.
"""

import collections
import time
import warnings

import pytest

import toy_models
import toy_models.posteriors
from analysis import gradients, guidance, operators, paths
from analysis.gradients import ESTIMATORS
from analysis.guidance import SAMPLERS
from tests.support.malformed import KINDS
from tests.support.malformed_calls import CALLS

LEAST = 5000  # calls, and far more than the functions and kinds that they have to cover


@pytest.fixture(scope="module")
def outcomes():
    """The class of every call, and the ones that are not as they should be; warnings are not looked at here."""
    counts, wrong, began = collections.Counter(), [], time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in CALLS:
            expected = call.function(**call.good)
            for argument, value, refused in call.malformed():
                kind, said = call.outcome(argument, value, refused, expected)
                counts[kind] += 1
                if kind not in ("clear", "right"):
                    wrong.append(f"{kind}: {call.name}({argument}={str(value)[:60]!r}): {said}")
    return counts, wrong, time.process_time() - began


def test_every_call_is_refused_in_plain_words_or_right(outcomes):
    counts, wrong, _ = outcomes
    assert not wrong, "\n".join([str(dict(counts)), *wrong[:40]])


def test_the_campaign_is_large_and_quick(outcomes):
    counts, _, seconds = outcomes
    assert counts["clear"] >= LEAST * 4 / 5
    assert counts["right"] >= LEAST / 10
    assert sum(counts.values()) >= LEAST
    assert seconds <= 60


def test_every_kind_of_argument_estimator_and_sampler_has_its_part():
    used = {kind.removesuffix(" or None") for call in CALLS for kind in call.kinds.values()}
    assert used == set(KINDS)
    names = {call.name for call in CALLS}
    assert names >= set(ESTIMATORS) | set(SAMPLERS)


# What is returned or subclassed, and what takes no argument that could be malformed.
NOT_CALLED = {"Choices", "Estimate", "Sample", "Method", "AffinePath", "Readout", "CondOT", "Cosine", "LinearOperator"}
NOT_CALLED |= {"NonlinearOperator", "InverseProblem", "Schedule"}
# Those that others call with arguments which have passed the door, and those with a test of their own.
INSIDE = {"at_equal_zeta", "expand", "register", "choose", "super_resolution_2", "super_resolution_4"}


@pytest.mark.parametrize("package", [gradients, guidance, operators, paths, toy_models, toy_models.posteriors])
def test_every_public_function_has_its_part(package):
    called = {call.name.rpartition(".")[2] for call in CALLS} | {
        getattr(call.function, "__name__", None) for call in CALLS
    }
    public = {name for name in package.__all__ if callable(getattr(package, name))}
    missing = public - called - NOT_CALLED - INSIDE
    assert not missing, f"give {sorted(missing)} a call in tests/support/malformed_calls.py or malformed_models.py"


@pytest.mark.parametrize("registry", [ESTIMATORS, SAMPLERS])
def test_a_registry_is_still_a_dictionary(registry):
    assert "greed" not in registry
    assert registry.get("greed") is None
    assert dict(registry) == registry
    with pytest.raises(KeyError, match=f"{registry.kind} must be one of .*{next(iter(registry))}.*; got 'greed'"):
        registry["greed"]

"""The audit of a user's flow, measured against flows whose truth is known.

The flows are one mixture behind every interface that a user may have: its ideal gradient is exact, and its errors are
computed here by calling the estimators directly. Where a reference is refused, the test makes the disagreement itself.
"""

import dataclasses

import pytest
import torch

from analysis import errors, gradients, losses, reference
from analysis.audit import Audited, AuditError, truth
from analysis.audit import subject as audit_subject
from analysis.bounds.leading_term import leading_term
from analysis.paths import CondOT, LinearVP
from tests.support.audits import Network, cells, measured, options
from tests.support.problems import FromFormulas, f64, randn, random_rotation
from toy_models import ProductMixtureFlow

FACTORS = [
    (f64([0.3, 0.7]), f64([-1.5, 1.0]), f64([0.2, 0.4])),
    (f64([0.6, 0.4]), f64([-0.5, 1.2]), f64([0.3, 0.3])),
    (f64([1.0]), f64([0.5]), f64([0.3])),
]
LOSS = losses.HalfSquaredDistance(f64([1.0, -0.5, 0.3]))


def known(path):
    """A flow with an exact map."""
    return ProductMixtureFlow(FACTORS, random_rotation(3), path)


def data(path=None):
    return known(path or CondOT()).mixture.sample(50, torch.Generator().manual_seed(1))


def velocity_module():
    return Audited(FromFormulas(known(CondOT()), "velocity"), data(), LOSS, CondOT())


def denoiser():
    return Audited(FromFormulas(known(CondOT()), "target"), data(), LOSS, CondOT(), "target")


def noise_predictor():
    return Audited(FromFormulas(known(LinearVP()), "source"), data(), LOSS, LinearVP(), "source")


def analytic():
    return known(CondOT()), data()


def plain_function():
    flow = known(CondOT())
    return Audited(lambda x, t: flow.predict(x, t, flow.path.readout("velocity", t)), data(), LOSS, CondOT())


def learned(device):
    assert device == "cpu"
    return Audited(Network(), randn(50, 2), path=CondOT())


def direct(factory, path, t):
    """States as the audit draws them, greedy's error and the leading term, from the flow itself."""
    cell = cells(options(f"{__name__}:{factory}", times=[t]))[0]
    drawn = audit_subject.load(cell.factory, "cpu").draw(t, 5, torch.Generator().manual_seed(0))
    x, loss = drawn.x, drawn.loss
    ideal, gradient = (
        reference.ideal_gradient(known(path), loss, x, t),
        gradients.greedy(known(path), loss, x, t).gradient,
    )
    assert ideal.tier == "exact"
    found = {name: errors.summary(metric(gradient, ideal.gradient)) for name, metric in errors.METRICS.items()}
    return found | {"leading_term": errors.summary(errors.relative(leading_term(known(path), loss, x, t), gradient))}


@pytest.mark.parametrize(
    ("factory", "path", "tolerance"),
    [
        ("velocity_module", CondOT(), 1e-6),
        ("plain_function", CondOT(), 1e-6),
        ("noise_predictor", LinearVP(), 2e-3),  # like the next, its velocity stops changing at t = 0.999
        ("denoiser", CondOT(), 2e-3),
        ("analytic", CondOT(), 1e-12),
    ],
)
def test_measured_errors_are_the_direct_ones(factory, path, tolerance):
    table, expected = measured(f"{__name__}:{factory}"), direct(factory, path, 0.4)
    rows = table[table["estimator"] == "greedy"].set_index("metric")
    assert (rows["truth"] == ("exact" if factory == "analytic" else "converged")).all()
    assert (rows["failed"] == 0).all()
    for metric, summary in expected.items():
        for key in ("value", "low", "high"):
            assert rows.loc[metric, key] == pytest.approx(summary[key], rel=tolerance), (metric, key)
    fine = table[table["estimator"] == "fine_solve"].set_index("metric")
    assert fine.loc[["change_by_doubling"], "value"].iloc[-1] <= 0.05 / truth.MARGIN
    assert fine.loc["distance_to_reference", "value"] <= 2 * 0.05 / truth.MARGIN


def changed_for_the_second(part, change):
    """``reference.ideal_gradient`` with one of its parts changed for the second state."""
    ideal = reference.ideal_gradient

    def changed(*arguments, **options):
        found = ideal(*arguments, **options)
        value = getattr(found, part).clone()
        value[1] = change(value[1])
        return dataclasses.replace(found, **{part: value})

    return changed


@pytest.mark.parametrize(
    ("part", "change"), [("gradient", lambda g: 1.5 * g), ("error_bound", lambda b: b + 1)], ids=["gradient", "bound"]
)
def test_a_state_whose_two_solves_disagree_has_no_reference(part, change, monkeypatch):
    whole = measured(f"{__name__}:velocity_module")
    monkeypatch.setattr(reference, "ideal_gradient", changed_for_the_second(part, change))
    table = measured(f"{__name__}:velocity_module")
    for estimator in ("greedy", "lookahead"):
        rows = table[(table["estimator"] == estimator) & (table["metric"] == "relative_error")]
        assert (rows["failed"] == 1).all()
        assert (rows["samples"] == 5).all()
    before, after = (t[t["metric"] == "distance_to_reference"]["value"].item() for t in (whole, table))
    assert after == pytest.approx(before, rel=0.9)  # of the others
    assert table["reference_bound"].max() <= 0.05 / truth.MARGIN


def test_a_state_on_which_the_fixed_solve_has_not_settled_has_no_reference(monkeypatch):
    doubled = truth._doubled

    def second_goes_on(*arguments):
        fine, rows, settled = doubled(*arguments)
        settled[1] = False
        return fine, rows, settled

    monkeypatch.setattr(truth, "_doubled", second_goes_on)
    table = measured(f"{__name__}:velocity_module")
    greedy = table[(table["estimator"] == "greedy") & (table["metric"] == "relative_error")]
    assert greedy["failed"].item() == 1


def test_an_audit_goes_on_where_most_states_have_a_reference_and_else_not(monkeypatch):
    ideal = reference.ideal_gradient

    def first_are_bad(count):
        def changed(*arguments, **options):
            found = ideal(*arguments, **options)
            bound = torch.where(torch.arange(5) < count, 1.0, found.error_bound)
            return dataclasses.replace(found, error_bound=bound)

        return changed

    monkeypatch.setattr(reference, "ideal_gradient", first_are_bad(2))
    table = measured(f"{__name__}:velocity_module")
    assert table[table["estimator"] == "greedy"]["failed"].iloc[0] == 2
    monkeypatch.setattr(reference, "ideal_gradient", first_are_bad(3))
    with pytest.raises(AuditError, match="in 3 of 5 states the gradient is not known"):
        measured(f"{__name__}:velocity_module")


def test_lookahead_rows_are_those_of_lookahead():
    table = measured(f"{__name__}:plain_function", times=[0.4])
    cell = cells(options(f"{__name__}:plain_function", times=[0.4]))[0]
    subject = audit_subject.load(cell.factory, "cpu")
    drawn = subject.draw(0.4, 5, torch.Generator().manual_seed(0))
    x, loss = drawn.x, drawn.loss
    ideal = reference.ideal_gradient(known(CondOT()), loss, x, 0.4).gradient
    rows = table[(table["estimator"] == "lookahead") & (table["solver"] == "midpoint") & (table["steps"] == 2)]
    for row in rows.itertuples():
        found = gradients.lookahead(subject.flow, loss, x, 0.4, horizon=row.horizon, steps=2, solver="midpoint")
        assert row.value == pytest.approx(float(errors.relative_error(found.gradient, ideal).median()), rel=1e-6)
        assert row.evaluations == found.cost.evaluations
    assert rows["horizon"].tolist() == pytest.approx([0.55, 0.7, 0.85, 1.0])


def test_a_float32_network_is_compared_with_its_float64_copy():
    rows = measured(f"{__name__}:learned")
    assert set(rows["dtype"]) == {"float32"}
    assert set(rows["truth_dtype"]) == {"float64"}
    assert rows["reference_bound"].max() < 1e-8


def only_float32():
    network = Network()
    return Audited(lambda x, t: network(x, t), randn(50, 2).float(), path=CondOT())


def test_a_function_that_takes_no_float64_is_compared_in_float32():
    rows = measured(f"{__name__}:only_float32")
    assert set(rows["truth_dtype"]) == {"float32"}
    assert 1e-8 < rows["reference_bound"].max() < 0.05 / truth.MARGIN


def sampler():
    return Audited(Network(), lambda t, n, generator: torch.randn(n, 2, generator=generator) * (2 - t), path=CondOT())


def test_states_may_come_from_a_sampler():
    drawn = audit_subject.load(f"{__name__}:sampler", "cpu").draw(0.5, 5, torch.Generator().manual_seed(0))
    x, loss = drawn.x, drawn.loss
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(x, 1.5 * torch.randn(5, 2, generator=generator))
    assert torch.equal(loss.target, torch.randn(5, 2, generator=generator))


def test_data_become_states_of_the_path():
    subject = audit_subject.load(f"{__name__}:learned", "cpu")
    draws = [subject.draw(t, 4, torch.Generator().manual_seed(0)).x for t in (0.25, 0.5, 1.0)]
    assert draws[0].dtype == torch.float32
    assert all((draws[2][i] == randn(50, 2).float()).all(1).any() for i in range(4))
    noise = 2 * draws[1] - draws[2]
    torch.testing.assert_close(draws[0], 0.25 * draws[2] + 0.75 * noise)

"""The audit of a user's flow, measured against flows whose truth is known."""

import pytest
import torch

from analysis import errors, gradients, losses, reference
from analysis.audit import measure
from analysis.audit import subject as audit_subject
from analysis.audit.measure import Audited
from analysis.bounds.leading_term import leading_term
from analysis.paths import CondOT, LinearVP
from tests.support.audits import Network, measured, options
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
    cell = measure.cells(options(f"{__name__}:{factory}", times=[t]))[0]
    x, loss = audit_subject.load(cell.factory, "cpu").draw(t, 5, cell.generator())
    truth, gradient = (
        reference.ideal_gradient(known(path), loss, x, t),
        gradients.greedy(known(path), loss, x, t).gradient,
    )
    assert truth.tier == "exact"
    found = {name: errors.summary(metric(gradient, truth.gradient)) for name, metric in errors.METRICS.items()}
    return found | {"leading_term": errors.summary(errors.relative(leading_term(known(path), loss, x, t), gradient))}


@pytest.mark.parametrize(
    ("factory", "path", "tolerance"),
    [
        ("velocity_module", CondOT(), 1e-6),
        ("plain_function", CondOT(), 1e-6),
        ("noise_predictor", LinearVP(), 1e-6),
        ("denoiser", CondOT(), 2e-3),  # its velocity stops changing at t = 0.999
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
    assert fine.loc[["change_by_doubling"], "value"].iloc[-1] <= 0.05 / measure.MARGIN
    assert fine.loc["distance_to_reference", "value"] <= 2 * 0.05 / measure.MARGIN


def test_lookahead_rows_are_those_of_lookahead():
    table = measured(f"{__name__}:plain_function", times=[0.4])
    cell = measure.cells(options(f"{__name__}:plain_function", times=[0.4]))[0]
    subject = audit_subject.load(cell.factory, "cpu")
    x, loss = subject.draw(0.4, 5, cell.generator())
    truth = reference.ideal_gradient(known(CondOT()), loss, x, 0.4).gradient
    rows = table[(table["estimator"] == "lookahead") & (table["solver"] == "midpoint") & (table["steps"] == 2)]
    for row in rows.itertuples():
        found = gradients.lookahead(subject.flow, loss, x, 0.4, horizon=row.horizon, steps=2, solver="midpoint")
        assert row.value == pytest.approx(float(errors.relative_error(found.gradient, truth).median()), rel=1e-6)
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
    assert 1e-8 < rows["reference_bound"].max() < 0.05 / measure.MARGIN


def sampler():
    return Audited(Network(), lambda t, n, generator: torch.randn(n, 2, generator=generator) * (2 - t), path=CondOT())


def test_states_may_come_from_a_sampler():
    x, loss = audit_subject.load(f"{__name__}:sampler", "cpu").draw(0.5, 5, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(x, 1.5 * torch.randn(5, 2, generator=generator))
    assert torch.equal(loss.target, torch.randn(5, 2, generator=generator))


def test_data_become_states_of_the_path():
    subject = audit_subject.load(f"{__name__}:learned", "cpu")
    draws = [subject.draw(t, 4, torch.Generator().manual_seed(0))[0] for t in (0.25, 0.5, 1.0)]
    assert draws[0].dtype == torch.float32
    assert all((draws[2][i] == randn(50, 2).float()).all(1).any() for i in range(4))
    noise = 2 * draws[1] - draws[2]
    torch.testing.assert_close(draws[0], 0.25 * draws[2] + 0.75 * noise)

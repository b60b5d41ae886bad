"""Families of random problems: one problem per name, and separate seeds to set rules and to judge them.

The truths are a second build of the same name, which must be equal, and the sets of names themselves, which must not
meet.
"""

import math

import pytest
import torch

from analysis.paths import CondOT
from analysis.settings import Options
from toy_models.experiments import adaptive
from toy_models.problems import families, thin_families, thin_judges, zoo
from toy_models.problems.families import FAMILIES

MODULES = [(families, FAMILIES), (thin_families, thin_families.THIN), (thin_judges, thin_judges.JUDGES)]


@pytest.mark.parametrize(("module", "family"), [(module, name) for module, names in MODULES for name in names])
def test_a_name_is_a_draw(module, family):
    subject = module.subject(f"{family}_1", "vp_linear")
    times = torch.tensor([0.2, 0.7], dtype=torch.float64)
    x = subject.states(times, 3, torch.Generator().manual_seed(0))
    dim = zoo.distribution(subject.reference_flow).means.shape[1]
    assert x.shape == (6, dim)
    assert torch.isfinite(subject.flow.velocity(x, times.repeat_interleave(3))).all()
    again, other = (zoo.distribution(module.subject(f"{family}_{seed}", "condot").reference_flow) for seed in (1, 2))
    assert torch.equal(again.means, zoo.distribution(subject.reference_flow).means)
    assert again.means.shape != other.means.shape or not torch.equal(again.means, other.means)
    assert math.isclose(float(again.weights.sum()), 1, rel_tol=1e-12)


def test_the_rule_is_judged_on_draws_that_it_was_not_set_on():
    cells = adaptive.cells(Options())
    judged = {cell.problem for cell in cells}
    assert len(judged) == len(cells) == (len(FAMILIES) + len(thin_judges.JUDGES)) * len(adaptive.DRAWS)
    assert not judged & {f"{family}_{seed}" for family in FAMILIES for seed in families.RULE_SEEDS}
    assert not judged & set(zoo.PROBLEMS)
    assert not {adaptive.kind_of(problem) for problem in judged} & set(thin_families.THIN)
    assert {cell.factory.split(":")[0] for cell in cells} == {families.__name__, thin_judges.__name__}


@pytest.mark.parametrize(("module", "name"), [(thin_families, "between_2"), (thin_judges, "saddles_2")])
def test_states_between_two_samples_are_shorter_late_in_time(module, name):
    subject, late = module.subject(name, "condot"), torch.tensor([1.0], dtype=torch.float64)
    states = subject.states(late, 400, torch.Generator().manual_seed(0))
    sample = zoo.distribution(subject.reference_flow).sample(400, torch.Generator().manual_seed(0))
    assert float(states.var(0).sum() / sample.var(0).sum()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("grid", "problem must be a family and a seed, as in grid_0, got 'grid'"),
        ("grid_x", "problem must be a family and a seed"),
        ("gird_0", "the family of problem"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        families.build(name, CondOT())

"""The zoo: each problem is the same every time, and stresses what it promises.

The truths are the promises themselves, checked on the mixtures' parameters: condition numbers, distances between modes,
dimensions and counts of modes.
"""

import pytest
import torch

from analysis.paths import CondOT
from toy_models.mixtures.exact import ExactMap
from toy_models.problems import zoo

STRESSES = {"gaussian", "separated", "overlapping", "anisotropic", "ring8", "product256", "radial32", "digits"}


def test_the_zoo_has_the_problems_it_promises():
    assert set(zoo.PROBLEMS) >= STRESSES


@pytest.mark.parametrize("name", sorted(STRESSES))
def test_a_problem_is_the_same_each_time_and_its_states_have_its_dimension(name):
    first, second = (zoo.subject(name, "cosine") for _ in range(2))
    times = torch.tensor([0.2, 0.9], dtype=torch.float64)
    draws = [s.states(times, 5, torch.Generator().manual_seed(1)) for s in (first, second)]
    assert torch.equal(*draws)
    assert draws[0].shape == (10, *first.reference_flow.event_shape)
    assert torch.isfinite(first.flow.velocity(draws[0], times.repeat_interleave(5))).all()


def test_what_each_problem_stresses():
    data = {name: zoo.distribution(zoo.build(name, CondOT())) for name in STRESSES}
    condition = data["anisotropic"].eigenvalues.amax(1) / data["anisotropic"].eigenvalues.amin(1)
    torch.testing.assert_close(condition, torch.full((3,), 1e4, dtype=torch.float64))
    assert data["ring8"].means.norm(dim=1).tolist() == pytest.approx([3.0] * 8)
    assert len(data["product256"].weights) == 256
    assert (data["radial32"].dim, data["digits"].dim) == (32, 64)
    gaps = torch.pdist(data["separated"].means)
    assert gaps.min() > 7 * data["separated"].eigenvalues.max().sqrt()
    assert torch.pdist(data["overlapping"].means).median() < 4


def test_exact_families_have_a_map_and_the_others_have_none():
    exact = {name for name in STRESSES if isinstance(zoo.build(name, CondOT()), ExactMap)}
    assert exact == {"gaussian", "product256", "radial32"}


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match=r"problem must be one of anisotropic, digits"):
        zoo.build("nothing", CondOT())
    with pytest.raises(ValueError, match=r"path must be one of condot, cosine"):
        zoo.subject("ring8", "nothing")

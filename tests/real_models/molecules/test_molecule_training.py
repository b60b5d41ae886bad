"""Training the flow of molecules.

Truths: a run that is never stopped, for one that is; the closed form of the learning rate and of the density of times.
"""

import pytest
import torch

from real_models import checkpoint
from real_models.molecules import data, train
from real_models.molecules.budget import ENDLESS, Plan, Trainer, settled
from real_models.molecules.losses import Batches, flow_loss, held_out_loss, noised, times
from real_models.molecules.network import Velocity
from real_models.molecules.predictor import Predictor
from real_models.molecules.recording import BatchLoss, Recorder
from tests.support.molecules import molecules

SMALL = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "blocks": 2, "pairs": 8, "forces": 2, "context": 8}
PLAN = Plan(steps=10, learning_rate=0.01, warmup=3, bfloat16=True)
BATCHES = Batches(molecules())


def draw(generator):
    return noised(BATCHES.draw(4, generator)[0], generator)


loss = BatchLoss(draw, flow_loss)


def trainer(store, plan=PLAN):
    torch.manual_seed(0)
    return Trainer(Velocity(**SMALL), loss, plan, store)


def test_the_rate_is_constant_and_then_falls_to_zero():
    plan = Plan(steps=100, learning_rate=1.0, warmup=10, turn=60)
    assert [plan.rate(step) for step in (0, 9, 59)] == pytest.approx([0.1, 1, 1])
    assert plan.rate(70) == pytest.approx(0.5)
    assert plan.rate(100) == 0


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    straight = trainer(tmp_path / "a.safetensors")
    straight.spend(1e6)
    first = trainer(tmp_path / "b.safetensors")
    for _ in range(4):
        first.step()
    first.save_state()
    again = trainer(tmp_path / "b.safetensors")
    again.spend(1e6)
    pairs = zip(straight.average.parameters(), again.average.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_fall_begins_when_its_share_of_the_budget_is_left_and_is_kept(tmp_path, capsys):
    plan = Plan(ENDLESS, learning_rate=0.01, warmup=3)
    run = trainer(tmp_path / "state.safetensors", plan)
    run.spend(1.0, share=0.5)
    assert run.done == run.plan.steps == 2 * run.plan.turn
    assert settled(plan, run.store) == run.plan
    assert "of 1 s, loss" in capsys.readouterr().out


def test_times_are_spread_with_density_one_half_plus_t():
    t = times(1000, torch.Generator().manual_seed(0))
    assert t.mean() == pytest.approx(1 / 4 + 1 / 3, abs=1e-3)
    assert ((t >= 0) & (t <= 1)).all()


def test_held_out_loss_is_near_its_value_for_an_untrained_network():
    torch.manual_seed(0)
    losses = held_out_loss(Velocity(**SMALL), molecules())
    assert losses.shape == (40,)
    assert losses.isfinite().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="recordings need a GPU")
def test_a_recording_gives_the_gradients_of_the_loss_for_every_shape():
    torch.manual_seed(0)
    network = Velocity(**SMALL).cuda()
    recorder, generator = Recorder(loss, network, bfloat16=False), torch.Generator().manual_seed(0)
    again = torch.Generator().manual_seed(0)
    for _ in range(40):
        recorder.gradients(generator)
        wanted = torch.autograd.grad(loss(network, again), list(network.parameters()), allow_unused=True)
        pairs = zip(network.parameters(), wanted, strict=True)
        assert all(torch.allclose(one.grad, other, atol=1e-6) for one, other in pairs if other is not None)
    assert len(recorder.recordings) > 1


def test_a_budget_that_is_not_positive_is_refused(tmp_path):
    with pytest.raises(ValueError, match="seconds must be positive"):
        trainer(tmp_path / "state.safetensors").spend(0)


@pytest.mark.parametrize(("what", "build"), [("flow", Velocity), ("evaluator", Predictor)])
def test_the_command_trains_exports_and_goes_on_to_another_round(what, build, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "part", lambda name: molecules(20, seed=len(name)))
    monkeypatch.setattr(data, "splits", lambda: {"flow": range(20), "evaluator": range(20)})
    common = [what, "--width", "24", "--batch", "2", "--held-out", "6", "--out", str(tmp_path)]
    train.main([*common, "--seconds", "0.3", "--state", str(tmp_path / "state.safetensors")])
    record = checkpoint.read(tmp_path / f"{what}.safetensors")[1]["record"]
    assert record["steps_done"] >= 2
    assert record["start"] is None
    assert "note" not in record
    first = checkpoint.load(tmp_path / f"{what}.safetensors", build).state_dict()
    start = ["--start", str(tmp_path / f"{what}.safetensors"), "--state", str(tmp_path / "second.safetensors")]
    train.main([*common, *start, "--seconds", "0.2"])
    assert checkpoint.read(tmp_path / f"{what}.safetensors")[1]["record"]["start"]["steps_done"] == record["steps_done"]
    train.main([*common, "--export", "--state", str(tmp_path / "state.safetensors")])
    again = checkpoint.load(tmp_path / f"{what}.safetensors", build).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert "molecules that were not trained on" in capsys.readouterr().out


def test_exporting_what_was_never_trained_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "part", lambda name: molecules())
    with pytest.raises(SystemExit, match="there is no state of a training at"):
        train.main(["flow", "--width", "24", "--export", "--state", str(tmp_path / "none.safetensors")])

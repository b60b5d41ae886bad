"""Training: the plan, the average, and resuming bit for bit after being stopped or killed.

A resumed run is compared with one that was never stopped, the average with the recursion that defines it.
"""

import copy
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from real_models import checkpoint
from real_models.training import Plan, Trainer

PLAN = Plan(steps=7, learning_rate=0.01, warmup=3, bfloat16=True)


def module(width: int = 5) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, 2))


def loss(network: nn.Module, generator: torch.Generator) -> torch.Tensor:
    x = torch.randn(6, 2, generator=generator)
    return (network(x).float() - x.flip(1)).square().mean()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, stop):
    straight = Trainer(module(), loss, PLAN, tmp_path / "a.safetensors")
    straight.run()
    Trainer(module(), loss, PLAN, tmp_path / "b.safetensors").run(stop=stop)
    resumed = Trainer(module(), loss, PLAN, tmp_path / "b.safetensors")
    assert resumed.done == stop
    resumed.run()
    assert same(straight.average, resumed.average)
    assert same(straight.module, resumed.module)
    assert not same(straight.module, straight.average)


def test_what_is_lost_between_two_keeps_is_done_again(tmp_path):
    straight = Trainer(module(), loss, PLAN, tmp_path / "a.safetensors").run()
    stopped = Trainer(module(), loss, PLAN, tmp_path / "b.safetensors")
    stopped.run(every=2, stop=4)
    stopped.step()  # never kept
    assert same(straight, Trainer(module(), loss, PLAN, tmp_path / "b.safetensors").run())


def test_the_average_is_exponential_with_a_decay_that_rises(tmp_path):
    trainer = Trainer(module(), loss, PLAN, tmp_path / "a.safetensors")
    trainer.step()
    assert same(trainer.average, trainer.module)
    assert not any(p.requires_grad for p in trainer.average.parameters())
    expected = copy.deepcopy(trainer.module)
    for decay in (2 / 11, 3 / 12, 4 / 13):
        trainer.step()
        for average, new in zip(expected.parameters(), trainer.module.parameters(), strict=True):
            average.data = decay * average.data + (1 - decay) * new.data
        for average, found in zip(expected.parameters(), trainer.average.parameters(), strict=True):
            torch.testing.assert_close(average.data, found)
    assert Plan(steps=10, ema=0.9).decay(10**6) == 0.9


def test_the_rate_rises_then_falls():
    rates = [Plan(steps=1000, warmup=100).rate(step) for step in range(1000)]
    assert rates.index(max(rates)) == 99
    assert rates[0] == pytest.approx(1e-5)
    assert rates[-1] < 1e-8


def test_another_plan_or_architecture_is_refused(tmp_path):
    store = tmp_path / "a.safetensors"
    Trainer(module(), loss, PLAN, store).run(stop=2)
    with pytest.raises(ValueError, match="was trained with"):
        Trainer(module(), loss, replace(PLAN, steps=8), store)
    with pytest.raises(ValueError, match="another architecture"):
        Trainer(module(4), loss, PLAN, store)


def test_a_loss_that_is_not_finite_stops_with_its_step(tmp_path):
    trainer = Trainer(module(), lambda m, g: loss(m, g) * torch.nan, PLAN, tmp_path / "a.safetensors")
    with pytest.raises(FloatingPointError, match="nan at step 0"):
        trainer.run()


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps"):
        Plan(steps=0)


def test_the_command_goes_on_bit_for_bit_after_a_kill(tmp_path):
    command = [sys.executable, "-m", "real_models.images.train", "mixture", "--steps", "6", "--batch", "2"]
    command += ["--every", "2", "--draws", "1", "--learning-rate", "1e-4", "--out"]
    subprocess.run([*command, str(tmp_path / "a")], check=True, capture_output=True)
    state = tmp_path / "b" / "mixture.state.safetensors"
    killed = subprocess.Popen([*command, str(tmp_path / "b")], stdout=subprocess.DEVNULL)
    while not state.exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert checkpoint.read(state)[1]["done"] < 6
    subprocess.run([*command, str(tmp_path / "b")], check=True, capture_output=True)
    first, second = (checkpoint.read(tmp_path / name / "mixture.safetensors")[0] for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)

"""Measured memory and time: inside ``track_memory``, in the thread that entered it, and nowhere else.

The truths are whether a block tracks at all, by its place and thread, and calls that the test makes and counts itself.
"""

import threading

import torch

from analysis import cost, flow, gradients, losses, paths
from tests.support.problems import randn


def measured_bytes():
    f, loss = flow.from_velocity(lambda x, t: -x, paths.CondOT()), losses.Linear(torch.ones(2))
    return gradients.greedy(f, loss, randn(4, 2), 0.3).cost.bytes


def test_blocks_of_two_threads_that_overlap_leave_tracking_as_it_was():
    gate, found = threading.Barrier(2), {}

    def first():
        with cost.track_memory():
            gate.wait()  # the other thread's block opens in this one
            gate.wait()
        gate.wait()

    def second():
        gate.wait()
        found["before"] = measured_bytes()
        with cost.track_memory():
            gate.wait()
            gate.wait()  # and closes after it
            found["inside"] = measured_bytes()

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found["before"] is None
    assert found["inside"] > 0
    assert measured_bytes() is None


def test_blocks_nest():
    with cost.track_memory():
        with cost.track_memory():
            pass
        assert measured_bytes() > 0
    assert measured_bytes() is None


def test_evaluations_and_products_are_counted_as_often_as_they_are_made_and_per_sample():
    path, spent = paths.CondOT(), cost.Cost()
    counted = cost.MeteredFlow(flow.from_velocity(lambda x, t: -x, path), 4, spent)
    t = torch.tensor(0.3, dtype=torch.float64)
    readout = path.readout("velocity", t)
    counted.predict(randn(4, 2), t, readout)
    _, pull = counted.predict_vjp(randn(2, 2), t, readout)  # half of the batch
    assert (spent.evaluations, spent.vjps) == (1.5, 0)
    pull(randn(2, 2))
    pull(randn(2, 2))
    assert (spent.evaluations, spent.vjps) == (1.5, 1)

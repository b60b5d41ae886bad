"""Experiments on learned flows: each declares its cells and derives further tables from their table."""

from analysis.registration import EXPERIMENTS, enter

enter(EXPERIMENTS, __name__, __path__, helpers=("common",))

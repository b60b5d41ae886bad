"""Whole solves of a mixture as compiled loops, for which numba must be installed."""

"""Gaussian mixtures and the flows that they induce, in closed form."""

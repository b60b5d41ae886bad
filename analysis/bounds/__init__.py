"""Bounds and estimates of the errors of gradients."""

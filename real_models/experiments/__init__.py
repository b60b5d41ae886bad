"""Experiments on learned flows: each declares its cells and derives further tables from their table."""

"""Experiments on learned flows: each declares its cells, and what is derived from their table."""

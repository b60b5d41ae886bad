"""Learned flows, their data, training and checkpoints, and adapters for models of other libraries.

Nothing in ``analysis`` or ``toy_models`` imports this package.
"""

"""The figures, one module each, found by their names: pure functions of tables.

A module defines ``TABLES`` (the tables it is drawn from), ``QUESTION``, ``answer(tables) -> str`` and
``draw(tables) -> Figure``. The caption is the question and the answer. Nothing here imports torch.
"""

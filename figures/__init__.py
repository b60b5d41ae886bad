"""The figures, one module each, found by their names: pure drawings of tables.

A module defines ``TABLES`` (those it is drawn from), ``QUESTION``, ``answer`` (a ``style.Caption``: sentences over the
facts in its tables) and ``draw(tables) -> Figure``. It may define ``latex(tables) -> {name: LaTeX}``. The caption is
the question and the answer. Nothing here computes statistics, imports another figure, or imports torch; what all of
them share is in ``figures.style``.
"""

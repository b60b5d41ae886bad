"""The figures: one module each, loaded by name, each a pure drawing of tables.

A module defines ``TABLES`` (the tables that it reads), ``QUESTION``, ``answer`` (a ``style.Caption``: sentences over
the facts in those tables) and ``draw(tables) -> Figure``. It may define ``latex(tables) -> {name: LaTeX}``. The caption
is the question followed by the answer. Figures compute no statistics and import neither another figure nor torch; the
code that they share is in ``figures.style``. For results of one's own there is ``plot_surface``, and
``report.figures()`` of an audit.
"""

from analysis.registration import FIGURES, enter
from figures.style.surfaces import plot_surface

__all__ = ["plot_surface"]

enter(FIGURES, __name__, __path__, helpers=("style",))

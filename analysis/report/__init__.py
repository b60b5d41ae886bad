"""One page of HTML with everything of a run, and its facts as LaTeX macros."""

from analysis.report.macros import macros, write_macros
from analysis.report.page import Entry, page, write_page

__all__ = ["Entry", "macros", "page", "write_macros", "write_page"]

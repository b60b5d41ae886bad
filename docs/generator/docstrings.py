r"""Docstrings as Markdown: what the pages of the API reference are made of.

The docstrings of this project are NumPy style with LaTeX in ``:math:`` and ``.. math::``. Four things are changed
before they are parsed: formulas become code that ``docs.generator.maths`` renders, simple tables become Markdown
tables, and in a section an entry "name : words" becomes a name with words below it, since its type is in the signature,
and a paragraph that follows the entries becomes a note.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

SECTIONS = "Parameters|Attributes|Returns|Yields|Raises|Other Parameters"
INLINE = re.compile(r":math:`([^`]+)`")
DISPLAY = re.compile(r"^( *)\.\. math::(.*(?:\n(?:\1 +\S.*|[ ]*(?=\n\1 +\S)))*)", re.MULTILINE)
TABLE = re.compile(r"^( *=+(?: +=+)+)\n(.*)\n\1\n((?:.*\n)*?)\1$", re.MULTILINE)
SECTION = re.compile(rf"^(?:{SECTIONS})\n-+\n(?:.*\n?)*?(?=\n\w[^\n]*\n---|\Z)", re.MULTILINE)
NAMES = r"\*{0,2}\w[\w.]*(?:, \*{0,2}\w[\w.]*)*"
PARAGRAPH = re.compile(rf"\n\n(?=(?!{NAMES}(?: : .*)?\n)\S)")
ENTRY = re.compile(rf"^({NAMES}) : (.+)$", re.MULTILINE)


def markdown(text: str) -> str:
    """Return a docstring, without its common indent, with formulas, tables and sections as the site needs them."""
    text = TABLE.sub(_table, text)
    text = DISPLAY.sub(_display, text)
    text = INLINE.sub(lambda match: f"`#!math {' '.join(match[1].split())}`", text)
    return SECTION.sub(lambda match: _section(match[0]), text)


def _section(text: str) -> str:
    """Return a section with the words of each entry below its name, and what follows the entries as a note."""
    entries, *note = PARAGRAPH.split(text, maxsplit=1)
    return "\n\nNotes\n-----\n".join([ENTRY.sub(r"\1\n    \2", entries), *note])


def _display(match: re.Match[str]) -> str:
    """Return a displayed formula as a fenced block, at the indent of the paragraph that it belongs to."""
    formula = textwrap.dedent(match[2]).strip()
    return textwrap.indent(f"\n```math\n{formula}\n```\n", match[1])


def _table(match: re.Match[str]) -> str:
    """Return a simple table of reStructuredText as one of Markdown; a row without its first cell goes on."""
    starts = [bar.start() for bar in re.finditer("=+", match[1])]
    rows: list[list[str]] = []
    for line in (match[2], *match[3].splitlines()):
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1] = [f"{before} {more}".strip() for before, more in zip(rows[-1], cells, strict=True)]
    rows.insert(1, ["---"] * len(starts))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


class Docstrings(griffe.Extension):
    """Make every docstring Markdown before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of an object that has just been read."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)

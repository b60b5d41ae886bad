"""Pieces of Markdown: tables, code, links, numbers, and what docstrings say."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

from analysis import typeset
from docs.generator.docstrings import markdown


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; a bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(text: object) -> str:
    """Return text as inline code; nothing for nothing."""
    return f"`{text}`" if str(text) else ""


def sentence(text: str) -> str:
    """Return text with a capital and without its full stop, for a cell of a table."""
    first = text[:1]
    return (first.upper() if first.isascii() else first) + text[1:].removesuffix(".")


def number(value: float) -> str:
    """Return a number to four digits, with the signs of print."""
    return typeset.number(value, ".4g")


def linked(source: str) -> str:
    """Return a source, as a link where it is an arXiv number."""
    arxiv = source.removeprefix("arXiv ")
    return f"[{source}](https://arxiv.org/abs/{arxiv})" if arxiv != source else source


def prose(item: object) -> str:
    """Return the whole docstring of a module, class or function."""
    return single_ticks(markdown(inspect.getdoc(item) or ""))


def summary(item: object) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join(prose(item).split("\n\n")[0].split())


def single_ticks(text: str) -> str:
    """Return text with the double backticks of docstrings made single."""
    return re.sub(r"(?<!`)``(?!`)", "`", text)

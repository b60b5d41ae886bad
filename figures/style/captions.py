"""Captions: sentences over facts, the cells of one-row tables ``NAME_facts`` that experiments derive and tests check.

A sentence is a template, such as ``"Errors fall as ζ to the power {slope:.2f}."``. It is left out where one of its
numbers is missing. Which of several sentences is true is a fact too, and chosen by ``choose``. In a field,

- ``{low..high:.2f}`` writes "0.10 to 0.20", and one number where both print alike;
- ``{best!n}`` writes the printed name of a key, or of several with commas, by the glossary;
- ``{best!g}`` writes that of a gradient that guides: "midpoint" is one midpoint step there, and a solver elsewhere;
- ``{count!p:state}`` writes "1 state" or "2 states";
- an exponent of ten is set with superscripts, and zero has no sign.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.tables import FACTS
from analysis.typeset import number
from figures.style import names
from figures.style.layout import Tables

RANGE = ".."


@dataclass(frozen=True)
class Choice:
    """One sentence for each value that a fact may have."""

    fact: str
    sentences: Mapping[Any, str]


@dataclass(frozen=True)
class _Range:
    low: Any
    high: Any


@dataclass(frozen=True)
class _Counted:
    number: int


def choose(fact: str, sentences: Mapping[Any, str]) -> Choice:
    """Return the choice of a sentence by the value of a fact; where the fact is missing, nothing is written."""
    return Choice(fact, sentences)


class Caption:
    """A caption's sentences, or choices of sentences; call it with a figure's tables to get the text."""

    def __init__(self, *sentences: str | Choice) -> None:
        self.sentences = sentences

    def __call__(self, tables: Tables) -> str:
        """Return the caption, leaving out each sentence with a missing number."""
        known = facts(tables)
        return " ".join(text for text in (_sentence(s, known) for s in self.sentences) if text)

    def headline(self, tables: Tables) -> str:
        """Return the first sentence whose numbers are there: the answer in short."""
        known = facts(tables)
        return next((text for text in (_sentence(s, known) for s in self.sentences) if text), "")

    @property
    def fields(self) -> set[str]:
        """Return the names of all facts that the sentences use."""
        names: set[str] = set()
        for s in self.sentences:
            texts = [s] if isinstance(s, str) else [*s.sentences.values(), f"{{{s.fact}}}"]
            names |= {name for text in texts for name in _fields(text)}
        return names


def facts(tables: Tables) -> dict[str, Any]:
    """Return the facts in the tables whose names end in ``_facts``, without those that are missing."""
    rows = [table.to_dict("records")[0] for name, table in tables.items() if name.endswith(FACTS)]
    return {str(key): value for row in rows for key, value in row.items() if not pd.isna(value)}


def _sentence(sentence: str | Choice, known: Mapping[str, Any]) -> str:
    if isinstance(sentence, Choice):
        if sentence.fact not in known:
            return ""
        sentence = sentence.sentences[known[sentence.fact]]
    if not _fields(sentence) <= set(known):
        return ""
    text = _Writer().vformat(sentence, (), known)
    by_glossary = re.match(r"\{[^}]*![ng]", sentence)  # a user's own name stays as it is
    return text[0].upper() + text[1:] if by_glossary else text


def _fields(text: str) -> set[str]:
    named = (field for _, field, _, _ in string.Formatter().parse(text) if field)
    return {part for field in named for part in field.split(RANGE)}


class _Writer(string.Formatter):
    def get_field(self, field_name: str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        ends = [kwargs[part] for part in field_name.split(RANGE)]
        return (ends[0] if len(ends) == 1 else _Range(*ends)), field_name

    def convert_field(self, value: Any, conversion: Any) -> Any:
        if conversion == "p":
            return _Counted(value)
        if conversion == "g":
            return names.sampler(value)
        if conversion == "n":
            return ", ".join(map(names.label, value.split(", ")))
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> Any:
        if isinstance(value, _Counted):
            return f"{value.number:,} {format_spec}{'' if value.number == 1 else 's'}"
        if isinstance(value, _Range):
            ends = dict.fromkeys(number(v, format_spec) for v in (value.low, value.high))
            return " to ".join(ends)
        return number(value, format_spec)

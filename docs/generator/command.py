"""The command line's verbs and options, as its parsers know them."""

from __future__ import annotations

import argparse

from analysis.command_line import parsers
from analysis.suite import SUITES
from docs.generator.markdown import code, sentence, table


def verbs() -> str:
    """Return each verb, what it does, and its options."""
    parts = []
    for verb, parser in parsers("")[1].items():
        rows = [(_shown(action), sentence(action.help or "")) for action in parser._actions if action.dest != "help"]
        parts.append(f"### {verb}\n\n{sentence(parser.description or '')}.\n\n{table(('argument', 'meaning'), rows)}")
    return "\n\n".join(parts)


def _shown(action: argparse.Action) -> str:
    """Return an argument as it is typed, with its choices or its metavariable."""
    value = "|".join(action.choices) if action.choices else action.metavar or action.dest.upper()
    if not action.option_strings:
        return code(str(value))
    takes = "" if action.nargs == 0 else f" {value}"
    return code(f"{action.option_strings[-1]}{takes}")


def suites() -> str:
    """Return the suites and what they are."""
    return table(("suite", "what it makes"), [(code(name), sentence(text)) for name, text in SUITES.items()])

"""The glossary of printed names."""

from __future__ import annotations

from docs.generator.markdown import code, linked, sentence, table
from figures.style import names


def glossary() -> str:
    """Return every printed name by kind, with its meaning, its source and its key in tables."""
    parts = []
    for kind, entries in names.GLOSSARY.items():
        rows = [
            (f"**{_plain(n.label)}**", sentence(n.meaning), linked(n.source), code(key)) for key, n in entries.items()
        ]
        parts.append(f"## {kind.capitalize()}\n\n" + table(("name", "meaning", "source", "key in tables"), rows))
    return "\n\n".join(parts)


def _plain(label: str) -> str:
    """Return a label without the TeX that figures understand."""
    return label.replace("$", "").replace("x_t", "xₜ")

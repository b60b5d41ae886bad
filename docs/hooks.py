"""What mkdocs calls while it builds the site: the generated pages, the generated parts of pages, and formulas."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the packages that are documented need not be installed

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

from docs.generator import PARTS, maths, reference

MARK = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)


@event_priority(100)
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set formulas, and lead to the API reference."""
    extensions: dict[str, Any] = config.mdx_configs
    formula = {"name": "math", "class": "", "format": maths.inline}
    extensions.setdefault("pymdownx.inlinehilite", {})["custom_inline"] = [formula]
    extensions.setdefault("pymdownx.superfences", {})["custom_fences"] = [formula | {"format": maths.display}]
    config.nav = [*(config.nav or []), {"API": reference.navigation()}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the API reference."""
    for pages in reference.pages().values():
        for name, text in pages:
            files.append(File.generated(config, reference.path(name), content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Put generated text where a page asks for it with ``<!-- generated: NAME -->``."""
    return MARK.sub(lambda match: _generated(match[1]), markdown)


def _generated(name: str) -> str:
    if name not in PARTS:
        raise PluginError(f"no generated part is named {name!r}; there are {', '.join(PARTS)}")
    return PARTS[name]()

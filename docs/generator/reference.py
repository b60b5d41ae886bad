"""The pages of the API reference: one for each package and each module beside packages, found in the folders."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("analysis", "toy_models", "real_models", "figures")


def pages() -> dict[str, list[tuple[str, str]]]:
    """Return, for each room, the name of every page and its Markdown."""
    return {room: [(name, page(name)) for name in (room, *_children(room))] for room in ROOMS}


def navigation() -> list[dict[str, list[dict[str, str]]]]:
    """Return the part of the site's navigation that leads to these pages."""
    return [{room: [{name: path(name)} for name, _ in some]} for room, some in pages().items()]


def path(name: str) -> str:
    """Return where a page lies in the site's sources."""
    return f"api/{name}.md"


def page(name: str) -> str:
    """Return the page of a module, or of a package and all modules below it; of a room, its own docstring alone."""
    parts = [f"# {name}", _block(name, package=_is_package(name))]
    if name not in ROOMS:
        parts += [_block(module, package=_is_package(module)) for module in _below(name)]
    else:
        parts.append("\n".join(f"- [{child}]({child}.md)" for child in _children(name)))
    return "\n\n".join(parts) + "\n"


def _block(name: str, package: bool) -> str:
    """Return what asks mkdocstrings for a module; a package's members are shown where they are defined."""
    lines = [
        f"::: {name}",
        "    options:",
        f"      heading: {_public(name)}",
        f"      toc_label: {_public(name).split('.')[-1]}",
    ]
    return "\n".join([*lines, "      members: false"] if package else lines)


def _public(name: str) -> str:
    """Return the name under which a private module's members are imported."""
    return ".".join(part.removeprefix("_") for part in name.split("."))


def _children(package: str) -> list[str]:
    """Return the modules and packages right below a package."""
    folder = _folder(package)
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    return [f"{package}.{module}" for module in sorted(modules - {"__init__"})]


def _below(name: str) -> list[str]:
    """Return all modules below a package, at any depth; none below a module."""
    if not _is_package(name):
        return []
    return [module for child in _children(name) for module in (child, *_below(child))]


def _is_package(name: str) -> bool:
    """Say whether a name is that of a package."""
    return _folder(name).is_dir()


def _folder(name: str) -> Path:
    return ROOT.joinpath(*name.split("."))

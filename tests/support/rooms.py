"""The imports of a tree of Python packages, and the rules of the rooms that they must keep.

Imports are read from the source, so that those inside a function or under ``TYPE_CHECKING`` count as any other, and so
do objects that are named by a string "package.module:attribute".
"""

import ast
import re
from graphlib import CycleError, TopologicalSorter

from analysis.users_code import ROOMS

# The upper part of the library, which needs more than the numerical packages: the rest of it needs none of RUNNERS.
_RUNNING = (
    "experiment",
    "runner",
    "workers",
    "progress",
    "suite",
    "catalogue",
    "tables",
    "results",
    "provenance",
    "report",
    "slopes",
    "figure_files",
    "command_line",
)
UPPER = tuple(f"analysis.{name}" for name in (*_RUNNING, "claims", "audit"))
RUNNERS = frozenset({"pandas", "pyarrow", "joblib", "rich", "distributed", "dask"})
FOR_FIGURES = ("analysis.tables", "analysis.typeset", "analysis.registration")  # what figures take from the library
NAMED = re.compile(rf"((?:{'|'.join(ROOMS)})(?:\.\w+)+):\w+")


class Tree:
    """All modules under a folder: ``imports`` maps each to the modules it imports, others by their first name."""

    def __init__(self, root):
        files = {_name(path, root): path for room in ROOMS for path in sorted((root / room).rglob("*.py"))}
        self.packages = {name for name, path in files.items() if path.name == "__init__.py"}
        self.imports = {name: self._imports(name, path, files) for name, path in files.items()}

    def _imports(self, name, path, modules):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {target for node in ast.walk(tree) for target in _targets(node, name, name in self.packages)}
        return {_module(target, modules) for target in names} - {name}

    def edges(self):
        """Return the pairs (module, what it imports)."""
        return {(name, target) for name, targets in self.imports.items() for target in targets}

    def between_modules(self):
        """Return the imports between modules but ``__init__``, which re-exports the modules of its package."""
        return {(a, b) for a, b in self.edges() if b in self.imports and not {a, b} & self.packages}

    def between_folders(self, room):
        """Return the imports between a room's folders; a module beside them counts as a folder of its own."""
        inside = {(_folder(a), _folder(b)) for a, b in self.edges() if within(a, room) and within(b, room)}
        return {(a, b) for a, b in inside if a != b and room not in (a, b)}

    def reach(self, name):
        """Return all that importing a module imports, the packages it lies in included."""
        reached, waiting = set(), [name]
        while waiting:
            module = waiting.pop()
            if module not in reached:
                reached.add(module)
                waiting += self.imports.get(module, ())
                waiting += [".".join(module.split(".")[:i]) for i in range(1, module.count(".") + 1)]
        return reached

    def forbidden(self):
        """Return the imports that a rule of the rooms forbids."""
        return {(a, b) for a, b in self.edges() if not _allowed(a, b)}


def circle(pairs):
    """Return a circle among pairs (from, to), closed, or an empty list where there is none."""
    graph = {}
    for source, target in pairs:
        graph.setdefault(source, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def within(module, package):
    return module == package or module.startswith(f"{package}.")


def _name(path, root):
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _folder(module):
    return ".".join(module.split(".")[:2])


def _targets(node, name, is_package):
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = _absolute(node, name, is_package)
        yield from (f"{module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (named := NAMED.fullmatch(node.value)):
        yield named[1]


def _absolute(node, name, is_package):
    if not node.level:
        return node.module or ""
    parents = name.split(".") if is_package else name.split(".")[:-1]
    parents = parents[: len(parents) - node.level + 1]
    return ".".join([*parents, node.module] if node.module else parents)


def _module(target, modules):
    """Return the module that a dotted name lies in: of the tree, or the first name of another package."""
    while target not in modules and "." in target:
        target = target.rpartition(".")[0]
    return target


def _allowed(module, target):
    source, room = module.partition(".")[0], target.partition(".")[0]
    if room in ("tests", "reproduce"):
        return False
    if source == "analysis":
        return _allowed_in_library(module, target, room)
    if source == "toy_models":
        return room not in ("real_models", "figures")
    if source == "real_models":
        return room != "figures" and (room != "toy_models" or within(target, "toy_models.problems"))
    if room == "figures":
        return target == "figures" or within(target, "figures.style")
    return room not in ("toy_models", "real_models", "torch") and (room != "analysis" or target in FOR_FIGURES)


def _allowed_in_library(module, target, room):
    if room in ROOMS and room != "analysis":
        return False
    upper = any(within(module, name) for name in UPPER)
    return upper or not (room in RUNNERS or any(within(target, name) for name in UPPER))

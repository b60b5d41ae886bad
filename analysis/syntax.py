"""A module's source as top-level statements: the names that each binds and uses, and its text without docstrings."""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOOKUPS = ("known", "get")  # calls that only look a name up: checks.known(what, name, REGISTRY), REGISTRY.get(name)
Scope = (
    ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
)


@dataclass(frozen=True)
class Use:
    """A name used by a statement, with the attribute asked of it; ``sweeps`` unless it is only used for look-ups."""

    name: str
    attribute: str | None
    sweeps: bool


@dataclass
class Statement:
    """A top-level statement; ``patterns`` are its strings and f-strings, with a NUL for each computed part."""

    node: ast.stmt
    uses: set[Use] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)
    patterns: set[str] = field(default_factory=set)

    @functools.cached_property
    def text(self) -> str:
        """The statement without docstrings, comments and layout, the same in every version of Python."""
        return structure(self.node)


@dataclass
class Module:
    """A module's statements except imports, by the names that they bind.

    Attributes
    ----------
    statements : in their order
    bound : name -> places of the statements that bind it
    effects : places of the statements that do something whatever name is asked for
    imports : name -> (module, attribute), anywhere in the module; attribute None for a module
    decorated : (function, decorator, name) of every decorated function; the name is the decorator's first argument, if
        that is a string, or the function's own
    tables : names that are bound to an empty dictionary or ``checks.Registry``, which a decorator may fill
    """

    name: str
    statements: list[Statement] = field(default_factory=list)
    bound: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    effects: list[int] = field(default_factory=list)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    decorated: list[tuple[str, str, str]] = field(default_factory=list)
    tables: set[str] = field(default_factory=set)


def parse(name: str, path: Path) -> Module:
    """Read a module; the effects of a package's ``__init__``, which fill its registries, are left out."""
    is_package = path.name == "__init__.py"
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    module = Module(name, imports=dict(_imports(tree, name, is_package)))
    for node in _without_docstrings(tree).body:
        if isinstance(node, ast.Import | ast.ImportFrom) or _is_main(node):
            continue
        names, place = _bound(node), len(module.statements)
        module.statements.append(_read(node))
        for bound in names or ():
            module.bound[bound].append(place)
        if names is None and not is_package:
            module.effects.append(place)
        module.decorated += _decorated(node)
        if _is_empty_table(getattr(node, "value", None)):
            module.tables |= set(names or ())
    return module


def _imports(tree: ast.AST, name: str, is_package: bool) -> Iterator[tuple[str, tuple[str, str | None]]]:
    here = name.split(".") if is_package else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], (alias.name, None)
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield alias.asname or alias.name, (base, None if alias.name == "*" else alias.name)


def structure(node: object) -> str:
    """Write a node's structure in the same way in all versions of Python, as ``ast.unparse`` and ``ast.dump`` do not.

    Returns
    -------
    str
        Its type and fields, without those that are empty: newer versions add such.
    """
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({', '.join(f'{name}={structure(value)}' for name, value in fields)})"
    return f"[{', '.join(map(structure, node))}]" if isinstance(node, list) else repr(node)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            match node.body[0]:
                case ast.Expr(value=ast.Constant(value=str())):
                    node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
    return tree


def _is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test))


def _bound(node: ast.stmt) -> list[str] | None:
    """Return the names that a statement binds, or None where it does more than bind names."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets: list[ast.expr]
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    elif isinstance(node, ast.If) and all(isinstance(n, ast.Import | ast.ImportFrom) for n in node.body + node.orelse):
        return []  # under TYPE_CHECKING
    else:
        return None
    leaves = [leaf for t in targets for leaf in (t.elts if isinstance(t, ast.Tuple | ast.List) else [t])]
    names = [leaf.id for leaf in leaves if isinstance(leaf, ast.Name)]
    return names if len(names) == len(leaves) else None


def _is_empty_table(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rpartition(".")[2] == "Registry" and len(value.args) + len(value.keywords) == 1
    return isinstance(value, ast.Dict) and not value.keys


def _decorated(node: ast.stmt) -> Iterator[tuple[str, str, str]]:
    for decorator in getattr(node, "decorator_list", ()):
        called = isinstance(decorator, ast.Call)
        function = decorator.func if called else decorator
        first = decorator.args[0] if called and decorator.args else None
        if isinstance(function, ast.Name):
            named = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
            yield node.name, function.id, named or node.name  # type: ignore[attr-defined]


def _read(node: ast.stmt) -> Statement:
    statement = Statement(node)
    _Reader(statement).visit(node)
    return statement


class _Reader(ast.NodeVisitor):
    """Collect the global names that a statement uses; names bound inside a function or comprehension are local."""

    def __init__(self, statement: Statement) -> None:
        self.statement = statement
        self.own: list[set[str]] = []
        self.looks_up = False

    def _use(self, name: str, attribute: str | None) -> None:
        if not any(name in own for own in self.own):
            self.statement.uses.add(Use(name, attribute, not self.looks_up and attribute != "get"))

    def _looking_up(self, *nodes: ast.AST) -> None:
        before, self.looks_up = self.looks_up, True
        for node in nodes:
            self.visit(node)
        self.looks_up = before

    def visit_Name(self, node: ast.Name) -> None:
        """Record a name that is read; a name that is only written is not a use."""
        if not isinstance(node.ctx, ast.Store):
            self._use(node.id, None)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Record an attribute of a name, or visit what the attribute belongs to."""
        if isinstance(node.value, ast.Name):
            self._use(node.value.id, node.attr)
        else:
            self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """Treat ``REGISTRY[name]`` as a look-up."""
        self._looking_up(node.value)
        self.visit(node.slice)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Treat ``name in REGISTRY`` as a look-up."""
        self.visit(node.left)
        for operator, other in zip(node.ops, node.comparators, strict=True):
            (self._looking_up if isinstance(operator, ast.In | ast.NotIn) else self.visit)(other)

    def visit_Call(self, node: ast.Call) -> None:
        """Treat ``known(what, name, REGISTRY)`` as a look-up, and visit any other call."""
        named = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        parts = (node.func, *node.args, *node.keywords)
        if named in LOOKUPS:
            self._looking_up(*parts)
        else:
            for part in parts:
                self.visit(part)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Record a string."""
        if isinstance(node.value, str):
            self.statement.strings.add(node.value)
            self.statement.patterns.add(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Record an f-string."""
        parts = [p.value if isinstance(p, ast.Constant) else "\0" for p in node.values]
        self.statement.patterns.add("".join(map(str, parts)))
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.visit(part.value)

    def _scope(self, node: Any) -> None:
        inside = [n for part in ast.iter_child_nodes(node) for n in ast.walk(part)]
        stored = {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        named = {n.name for n in inside if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler) and n.name}
        outer = {name for n in inside if isinstance(n, ast.Global) for name in n.names}
        self.own.append((stored | named | {n.arg for n in inside if isinstance(n, ast.arg)}) - outer)
        self.generic_visit(node)
        self.own.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Visit a function; its decorators, defaults and annotations belong to the enclosing scope."""
        for part in (*node.decorator_list, node.args.defaults, node.args.kw_defaults, node.returns):
            for one in part if isinstance(part, list) else [part]:
                if one is not None:
                    self.visit(one)
        self._scope(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]
    visit_Lambda = visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _scope

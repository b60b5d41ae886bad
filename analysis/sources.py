"""The sources that a number depends on, determined by reading imports: statements of modules, and data files.

A cell of the cache is current as long as the sources that its measurement can reach are unchanged. Starting from names
("module:attribute", of the cell's measure and factory), they are collected statement by statement: a top-level
statement brings the statements, here and in the modules it imports from (imports inside functions and under
``TYPE_CHECKING`` too), that bind the names it uses. Docstrings, comments and layout do not count. An ``__init__``
passes on its imports.

Dynamic imports, which reading cannot see, are treated as follows:

- A *registry* is a dictionary that a decorator fills: ``@register("greedy")``, ``@claim("P1", ...)``, ``@problem``. A
  string of the cell or of a statement that contains a registered name, and no space, brings the entry of that name; if
  no string does, every entry of the registry is reached. A statement that looks names up (``ESTIMATORS[name]``) brings
  nothing more; one that uses a registry in any other way, such as by iterating over it, brings every entry.
- A string "module:attribute" brings that attribute. A module that is used as a value is taken whole, as is one that is
  asked for an unknown name.
- A string that ends in a suffix of ``DATA`` brings the files of that name in the module's top-level package. If part of
  the name is computed, it brings those whose part is a string of the cell or of a statement, or all if there is none.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from analysis.source_files import DATA, content_hash, data_files, is_decorated, parsed, strings
from analysis.syntax import Module, Statement

ROOT = Path(__file__).parents[1]
ROOMS = ("analysis", "toy_models", "real_models")
ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Closure:
    """The sources that some names depend on: a digest of their content, and the modules and files that hold them."""

    digest: str
    modules: tuple[str, ...]
    files: tuple[Path, ...]


@dataclass
class _Reach:
    """The statements, strings and names reached so far."""

    statements: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    strings: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    todo: list[tuple[str, str | None]] = field(default_factory=list)
    asked: set[tuple[str, str | None]] = field(default_factory=set)

    def need(self, module: str, name: str | None) -> None:
        """Request a name of a module, or all of it."""
        if (module, name) not in self.asked:
            self.asked.add((module, name))
            self.todo.append((module, name))


class Sources:
    """The sources below ``root``, each as on disk when it is first read."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self._paths: dict[str, Path | None] = {}
        self._modules: dict[str, Module] = {}
        self._closures: dict[frozenset[str], Closure] = {}

    def path(self, module: str) -> Path | None:
        """Return the file of a module of this repository, or None for other names."""
        if module not in self._paths:
            base = self.root.joinpath(*module.split("."))
            places = (base / "__init__.py", base.with_name(f"{base.name}.py")) if module.split(".")[0] in ROOMS else ()
            self._paths[module] = next((p for p in places if p.is_file()), None)
        return self._paths[module]

    def closure(self, names: Iterable[str]) -> Closure:
        """Return the sources that the names among these strings depend on."""
        given = frozenset(filter(self._matters, names))
        if given not in self._closures:
            self._closures[given] = self._computed(given)
        return self._closures[given]

    def _matters(self, string: str) -> bool:
        """Return whether a string can bring sources: an attribute, or part of the name of an entry or a data file."""
        return bool(ATTRIBUTE.fullmatch(string)) or any(name in string for name in self._names) or string in self._stems

    @functools.cached_property
    def _names(self) -> set[str]:
        return {name for entries in self.registered.values() for name in entries}

    @functools.cached_property
    def _stems(self) -> str:
        return " ".join(file.stem for room in ROOMS for file in data_files(self.root / room))

    def _computed(self, names: frozenset[str]) -> Closure:
        reach = _Reach()
        self._hear(reach, names)
        while reach.todo:
            while reach.todo:
                self._take(reach, *reach.todo.pop())
            words = " ".join(s for s in reach.strings if " " not in s)
            for home in reach.statements.keys() & self.registered.keys():
                entries = self.registered[home]
                for name in [name for name in entries if name in words] or entries:
                    reach.need(*entries[name])
        return self._sealed(reach)

    def _sealed(self, reach: _Reach) -> Closure:
        digest = hashlib.sha256("\n".join(sorted(reach.foreign)).encode())
        files = sorted({f for module in reach.statements for f in self._data(module, reach)})
        for module, taken in sorted(reach.statements.items()):
            text = "\n".join(self.module(module).statements[i].text for i in sorted(taken))
            digest.update(f"\0{module}\0{text}".encode())
        for file in files:
            stat = file.stat()
            content = content_hash(file, stat.st_mtime_ns, stat.st_size)
            digest.update(f"\0{file.relative_to(self.root).as_posix()}\0".encode() + content)
        modules = tuple(sorted(reach.statements))
        paths = (path for path in map(self.path, modules) if path)
        return Closure(digest.hexdigest()[:16], modules, (*paths, *files))

    def module(self, name: str) -> Module:
        """Return a module, which is read once."""
        if name not in self._modules:
            path = self.path(name)
            assert path is not None
            stat = path.stat()
            self._modules[name] = parsed(name, path, stat.st_mtime_ns, stat.st_size)
        return self._modules[name]

    @functools.cached_property
    def registered(self) -> dict[str, dict[str, tuple[str, str]]]:
        """The module of a registry -> the names in it -> (module, function)."""
        entries: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
        for path in (p for room in ROOMS for p in sorted((self.root / room).rglob("*.py"))):
            stat = path.stat()
            if not is_decorated(path, stat.st_mtime_ns, stat.st_size):
                continue
            parts = path.relative_to(self.root).with_suffix("").parts
            module = self.module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
            for function, decorator, name in module.decorated:
                home, _ = self._resolved(module, decorator)
                if self.path(home) and self.module(home).tables:
                    entries[home][name] = module.name, function
        return entries

    def _resolved(self, module: Module, name: str) -> tuple[str, str | None]:
        """Return the definition of a name used in a module: (module, name), or (module, None) for a module."""
        while name in module.imports and name not in module.bound:
            target, attribute = module.imports[name]
            if attribute is None:
                return target, None
            if inner := self._inner(target, attribute):
                return inner, None
            if not self.path(target):
                return target, attribute
            module, name = self.module(target), attribute
        return module.name, name

    def _inner(self, package: str, name: str) -> str | None:
        """Return the module behind a package's attribute, unless the package binds that name to something else."""
        inner = f"{package}.{name}"
        if not self.path(inner):
            return None
        outer = self.module(package)
        return None if name in outer.bound or outer.imports.get(name, (package, name)) != (package, name) else inner

    def _take(self, reach: _Reach, name: str, wanted: str | None) -> None:
        """Take the statements of a module that bind a name, or all of them."""
        module = self.module(name)
        first = name not in reach.statements
        taken = set(module.effects) if first else set()
        reach.statements.setdefault(name, set())
        if wanted is None:
            taken |= set(range(len(module.statements)))
        elif wanted in module.bound:
            taken |= set(module.bound[wanted])
        elif wanted in module.imports:
            self._follow(reach, module, wanted, None, sweeps=False)
        else:
            self._unknown(reach, module, wanted)
        for i in taken - reach.statements[name]:
            reach.statements[name].add(i)
            self._read(reach, module, module.statements[i])

    def _unknown(self, reach: _Reach, module: Module, wanted: str) -> None:
        """Resolve a name that a package has only at run time: a registered one, or any."""
        inside = f"{module.name}."
        known = [e[wanted] for e in self.registered.values() if wanted in e and e[wanted][0].startswith(inside)]
        if not known:
            reach.need(module.name, None)
        for target in known:
            reach.need(*target)

    def _read(self, reach: _Reach, module: Module, statement: Statement) -> None:
        self._hear(reach, statement.strings)
        for use in statement.uses:
            if use.name in module.bound:
                reach.need(module.name, use.name)
            elif use.name in module.imports:
                self._follow(reach, module, use.name, use.attribute, sweeps=use.sweeps)

    def _follow(self, reach: _Reach, module: Module, name: str, attribute: str | None, *, sweeps: bool) -> None:
        """Follow an imported name, or an attribute of an imported module."""
        target, defined = self._resolved(module, name)
        if not self.path(target):
            reach.foreign.add(f"{module.name}: {name} is {target}:{defined}")
            return
        if defined is None and attribute is not None:
            inner = self._inner(target, attribute)
            target, defined = (inner, None) if inner else self._resolved(self.module(target), attribute)
        if self.path(target):
            reach.need(target, defined)
            if sweeps and defined in self.module(target).tables:
                for entry in self.registered.get(target, {}).values():
                    reach.need(*entry)

    def _hear(self, reach: _Reach, strings: Iterable[str]) -> None:
        for string in set(strings) - reach.strings:
            reach.strings.add(string)
            if ATTRIBUTE.fullmatch(string) and self.path(string.partition(":")[0]):
                reach.need(*string.split(":"))

    def _data(self, name: str, reach: _Reach) -> Iterator[Path]:
        """Yield the data files named in the taken statements of a module."""
        module = self.module(name)
        patterns = {p for i in reach.statements[name] for p in module.statements[i].patterns if p.endswith(DATA)}
        for pattern in patterns:
            form = re.compile(re.escape(pattern).replace("\0", "(.+)"))
            matches = {file: form.fullmatch(file.name) for file in self._nearest(name, form)}
            matched = {file: match.groups() for file, match in matches.items() if match}
            yield from [f for f, parts in matched.items() if set(parts) <= reach.strings] or matched

    def _nearest(self, name: str, form: re.Pattern[str]) -> list[Path]:
        """Return the data files below the first package, from a module outwards, that has one of such a name."""
        parts = name.split(".")
        for count in range(len(parts), 0, -1):
            files = data_files(self.root.joinpath(*parts[:count]))
            if any(form.fullmatch(file.name) for file in files):
                return files
        return []


@functools.cache
def here() -> Sources:
    """Return this repository's sources, as first read by this process."""
    return Sources()


__all__ = ["Closure", "Sources", "here", "strings"]

"""The modules of a package as source: what each defines, imports and keeps, and where a dotted name leads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_MOST_HOPS = 8


@dataclass(slots=True, kw_only=True)
class Module:
    """One file.

    ``imports`` are dotted names by alias, ``values`` what is assigned at the top, ``rebound`` what a function declares
    ``global``.
    """

    name: str
    path: Path
    source: str
    tree: ast.Module
    imports: dict[str, str] = field(default_factory=dict)
    definitions: dict[str, Function | ast.ClassDef] = field(default_factory=dict)
    values: dict[str, ast.expr | None] = field(default_factory=dict)
    rebound: set[str] = field(default_factory=set)

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A function or a class of a module; ``owner`` is the class of a method."""

    module: Module
    node: Function | ast.ClassDef
    owner: ast.ClassDef | None = None

    @property
    def name(self) -> str:
        return self.node.name if self.owner is None else f"{self.owner.name}.{self.node.name}"


class Modules:
    """Modules by path and by name; those that an import leads to are read when they are needed."""

    def __init__(self) -> None:
        self._by_path: dict[Path, Module] = {}
        self._roots: dict[Path, None] = {}
        self._missing: set[tuple[str, ...]] = set()
        self.resolving: set[object] = set()
        """What is being looked up just now: ``path = path / "x"`` must not lead to itself for ever."""

    def at(self, path: Path, source: str | None = None) -> Module:
        """The module in this file. Raises ``SyntaxError`` and ``OSError``."""
        path = path.resolve()
        known = self._by_path.get(path)
        if known is not None:
            return known
        root = _root_of(path)
        if root not in self._roots:
            self._roots[root] = None
            self._missing.clear()
        text = path.read_text(encoding="utf-8") if source is None else source
        module = Module(
            name=_name_of(path, root), path=path, source=text, tree=ast.parse(text, filename=str(path))
        )
        _fill(module)
        self._by_path[path] = module
        return module

    def value(self, name: str) -> tuple[Module, str] | None:
        """The module that keeps the value with this dotted name, and its name there."""
        for _ in range(_MOST_HOPS):
            found = self._split(name)
            if found is None:
                return None
            module, rest = found
            if len(rest) == 1 and rest[0] in module.values:
                return module, rest[0]
            if not rest or rest[0] not in module.imports:
                return None
            name = ".".join([module.imports[rest[0]], *rest[1:]])
        return None

    def definition(self, name: str) -> Definition | None:
        """What a dotted name leads to, through imports and re-exports; None outside of the package.

        The engine is no part of anybody's package: what it does inside of a workflow is its own business.
        """
        if name.startswith("durable."):
            return None
        for _ in range(_MOST_HOPS):
            found = self._split(name)
            if found is None or not found[1]:
                return None
            module, rest = found
            node = module.definitions.get(rest[0])
            if node is not None:
                return _member(module, node, rest[1:])
            if rest[0] not in module.imports:
                return None
            name = ".".join([module.imports[rest[0]], *rest[1:]])
        return None

    def _split(self, name: str) -> tuple[Module, list[str]] | None:
        """The longest part of a dotted name that is a module here, and the rest."""
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            module = self._named(parts[:length])
            if module is not None:
                return module, parts[length:]
        return None

    def _named(self, parts: list[str]) -> Module | None:
        key = tuple(parts)
        if key in self._missing:
            return None
        for root in self._roots:
            base = root.joinpath(*parts)
            for path in (base.with_suffix(".py"), base / "__init__.py"):
                if path in self._by_path:
                    return self._by_path[path]
                if path.is_file():
                    try:
                        return self.at(path)
                    except (SyntaxError, OSError, ValueError):
                        break
        self._missing.add(key)
        return None


def _root_of(path: Path) -> Path:
    """The folder that the package of this file is imported from."""
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        folder = folder.parent
    return folder


def _name_of(path: Path, root: Path) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _member(module: Module, node: Function | ast.ClassDef, rest: list[str]) -> Definition | None:
    if not rest:
        return Definition(module=module, node=node)
    if len(rest) > 1 or not isinstance(node, ast.ClassDef):
        return None
    method = method_of(node, rest[0])
    return None if method is None else Definition(module=module, node=method, owner=node)


def method_of(cls: ast.ClassDef, name: str) -> Function | None:
    """The method of a class, written in its own body."""
    return next((each for each in cls.body if isinstance(each, _FUNCTIONS) and each.name == name), None)


# --- reading a module -------------------------------------------------------------------------------------------------


def _fill(module: Module) -> None:
    for node in _at_the_top(module.tree.body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imports.update(imported_by(node, module))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            module.definitions[node.name] = node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    module.values[target.id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            module.values[node.target.id] = node.value
    for found in ast.walk(module.tree):
        if isinstance(found, ast.Global):
            module.rebound.update(found.names)


def _at_the_top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported, also those in ``if`` and ``try``."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With):
                yield from _at_the_top(getattr(node, part, []))
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                yield from _at_the_top(handler.body)


def imported_by(node: ast.Import | ast.ImportFrom, module: Module) -> dict[str, str]:
    """Alias -> dotted name, for one statement."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: alias.name
            if alias.asname
            else alias.name.partition(".")[0]
            for alias in node.names
        }
    base = _base_of(node, module)
    return {alias.asname or alias.name: f"{base}.{alias.name}".lstrip(".") for alias in node.names}


def _base_of(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".") if module.name else []
    drop = node.level - (1 if module.is_package else 0)
    parts = parts[: len(parts) - drop] if drop else parts
    return ".".join([*parts, *([node.module] if node.module else [])])

"""From every workflow, through every call that stays in the package, to every function that runs in it."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from durable.lint.body import look_at_class, look_at_function
from durable.lint.findings import Finding, Step
from durable.lint.modules import Definition, Module, Modules, method_of
from durable.lint.scopes import Scope, role_of
from durable.lint.silence import Silences, silences_of

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_MADE_BY = ("__init__", "__new__", "__post_init__", "model_post_init")


def lint(paths: Iterable[Path | str], *, sources: dict[Path, str] | None = None) -> list[Finding]:
    """The findings in these files and folders, sorted by place.

    ``sources`` are texts to take instead of what is on the disk (an editor's). Raises ``OSError`` and ``SyntaxError``
    for files that cannot be read.
    """
    modules = Modules()
    given = {path.resolve(): text for path, text in (sources or {}).items()}
    files = [modules.at(path, given.get(path.resolve())) for path in _files(paths)]
    search = _Search(modules)
    for module in files:
        search.begin(_workflows_of(module, modules))
    search.go_on()
    found = [*search.findings, *(offence for module in files for offence in search.bad_silences(module))]
    return sorted(found, key=lambda each: (str(each.path), each.line, each.column, each.code))


def _files(paths: Iterable[Path | str]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(each for each in path.rglob("*.py") if not _is_hidden(each.relative_to(path)))
        else:
            yield path


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _workflows_of(module: Module, modules: Modules) -> Iterator[Definition]:
    """Decorated functions wherever they stand, and those that are handed to ``durable.workflow(...)`` by a call."""
    scope = Scope(modules, module, None)
    owners = {
        id(each): cls
        for cls in ast.walk(module.tree)
        if isinstance(cls, ast.ClassDef)
        for each in cls.body
        if isinstance(each, _FUNCTIONS)
    }
    for node in ast.walk(module.tree):
        if isinstance(node, _FUNCTIONS):
            found = Definition(module=module, node=node, owner=owners.get(id(node)))
            if role_of(found, modules) == "workflow":
                yield found
        elif isinstance(node, ast.Call) and _makes_a_workflow(node, scope):
            for argument in node.args[:1]:
                yield from _named(argument, module, scope)


def _named(argument: ast.expr, module: Module, scope: Scope) -> Iterator[Definition]:
    found = scope.definition(argument)
    if found is not None:
        yield found
    elif isinstance(argument, ast.Name):
        # A function inside of another one, which makes workflows.
        for node in ast.walk(module.tree):
            if isinstance(node, _FUNCTIONS) and node.name == argument.id:
                yield Definition(module=module, node=node)


def _makes_a_workflow(node: ast.Call, scope: Scope) -> bool:
    callee = node.func.func if isinstance(node.func, ast.Call) else node.func
    return scope.dotted(callee) == "durable.workflow"


@dataclass(frozen=True, slots=True)
class _Waiting:
    definition: Definition
    way: tuple[Step, ...]


class _Search:
    """Breadth first, so that the way that is shown is a shortest one. Each function is looked at once."""

    def __init__(self, modules: Modules) -> None:
        self.findings: list[Finding] = []
        self._modules = modules
        self._waiting: deque[_Waiting] = deque()
        self._seen: set[tuple[Path, int, str]] = set()
        self._silences: dict[Path, Silences] = {}
        self._told: set[tuple[Path, int, int, str]] = set()

    def begin(self, definitions: Iterable[Definition]) -> None:
        for each in definitions:
            self.reach(each, ())

    def go_on(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            self._look(waiting.definition, waiting.way)

    def reach(self, definition: Definition, way: tuple[Step, ...]) -> None:
        module, node = definition.module, definition.node
        key = (module.path, node.lineno, definition.name)
        if key not in self._seen:
            self._seen.add(key)
            if not self._is_silenced(module, _first_line(node), node.body[0].lineno - 1):
                self._waiting.append(_Waiting(definition, way))

    def _look(self, definition: Definition, way: tuple[Step, ...]) -> None:
        module, node = definition.module, definition.node
        if isinstance(node, ast.ClassDef):
            look_at_class(node, Scope(self._modules, module, None), _Sink(self, definition, way))
            for name in _MADE_BY:
                method = method_of(node, name)
                if method is not None:
                    self.reach(Definition(module=module, node=method, owner=node), way)
            return
        scope = Scope(self._modules, module, node)
        scope.owner = definition.owner
        look_at_function(node, scope, _Sink(self, definition, way))

    def tell(self, finding: Finding, module: Module, last_line: int) -> None:
        place = (finding.path, finding.line, finding.column, finding.code)
        if place not in self._told and not self._is_silenced(module, finding.line, last_line):
            self._told.add(place)
            self.findings.append(finding)

    def is_silenced(self, module: Module, node: ast.expr) -> bool:
        return self._is_silenced(module, node.lineno, node.end_lineno or node.lineno)

    def _is_silenced(self, module: Module, first: int, last: int) -> bool:
        return self._of(module).cover(first, max(first, last))

    def _of(self, module: Module) -> Silences:
        if module.path not in self._silences:
            self._silences[module.path] = silences_of(module.source)
        return self._silences[module.path]

    def bad_silences(self, module: Module) -> Iterator[Finding]:
        for line, column in self._of(module).without_reason:
            what = "# durable: ok"
            yield Finding(path=module.path, line=line, column=column, code="DUR100", what=what, way=())


class _Sink:
    def __init__(self, search: _Search, definition: Definition, way: tuple[Step, ...]) -> None:
        self._search = search
        self._definition = definition
        self._way = way

    def offence(self, node: ast.expr | ast.stmt | ast.excepthandler, code: str, what: str) -> None:
        module = self._definition.module
        last = node.lineno if isinstance(node, ast.excepthandler) else (node.end_lineno or node.lineno)
        finding = Finding(
            path=module.path,
            line=node.lineno,
            column=node.col_offset,
            code=code,
            what=what,
            way=(*self._way, self._step(node.lineno)),
        )
        self._search.tell(finding, module, last)

    def calls(self, definition: Definition, node: ast.expr) -> None:
        if not self._search.is_silenced(self._definition.module, node):
            self._search.reach(definition, (*self._way, self._step(node.lineno)))

    def _step(self, line: int) -> Step:
        return Step(path=self._definition.module.path, line=line, function=self._definition.name)


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(each.lineno for each in node.decorator_list)])

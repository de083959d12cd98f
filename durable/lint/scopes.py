"""What names mean inside of a function: dotted names, what variables hold, and whether a call gives a coroutine.

Types are guessed from annotations, and from assignments of calls (``path = Path(...)``). A name that is bound in the
function itself hides what the module calls so.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from durable.lint.modules import Definition, Function, Module, Modules, imported_by
from durable.lint.names import COROUTINES, MAKES_TASKS, SETS

Role = Literal["workflow", "activity", "plain"]

_OPAQUE = "?"
_ENGINE = "durable"
_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True, slots=True)
class Holding:
    """What a variable of a function was given: an expression, or an annotation alone."""

    value: ast.expr | None
    annotation: ast.expr | None


class Scope:
    """The names of one function, with those of the functions around it and of its module."""

    def __init__(
        self, modules: Modules, module: Module, node: Function | ast.Lambda | None, outer: Scope | None = None
    ) -> None:
        self.modules = modules
        self.module = module
        self.owner: ast.ClassDef | None = outer.owner if outer is not None else None
        self._outer = outer
        self.imports: dict[str, str] = {}
        self.holdings: dict[str, list[Holding]] = {}
        self.functions: dict[str, Function] = {}
        if node is not None:
            self._read(node)

    def _read(self, node: Function | ast.Lambda) -> None:
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            self._hold(argument.arg, None, argument.annotation)
        for rest in (arguments.vararg, arguments.kwarg):
            if rest is not None:
                self._hold(rest.arg, None, None)
        if isinstance(node, ast.Lambda):
            return
        for found in own_nodes(node):
            if isinstance(found, ast.Import | ast.ImportFrom):
                self.imports.update(imported_by(found, self.module))
            elif isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions[found.name] = found
                self._hold(found.name, None, None)
            elif isinstance(found, ast.Assign):
                for target in found.targets:
                    self._bind(target, found.value)
            elif isinstance(found, ast.AnnAssign) and isinstance(found.target, ast.Name):
                self._hold(found.target.id, found.value, found.annotation)
            elif isinstance(found, ast.NamedExpr):
                self._bind(found.target, found.value)
            elif isinstance(found, ast.For | ast.AsyncFor | ast.comprehension):
                self._bind(found.target, None)
            elif isinstance(found, ast.withitem) and found.optional_vars is not None:
                self._bind(found.optional_vars, None)
            elif isinstance(found, ast.ExceptHandler) and found.name:
                self._hold(found.name, None, None)

    def _bind(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name):
            self._hold(target.id, value, None)
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self._bind(part, None)
        elif isinstance(target, ast.Starred):
            self._bind(target.value, None)

    def _hold(self, name: str, value: ast.expr | None, annotation: ast.expr | None) -> None:
        self.holdings.setdefault(name, []).append(Holding(value, annotation))

    # --- dotted names -------------------------------------------------------------------------------------------------

    def dotted(self, node: ast.expr) -> str | None:
        """``time.time``, ``pathlib.Path().open``, ``shop.prices.total``; None for what is not known."""
        if isinstance(node, ast.Name):
            return self._of_name(node.id)
        if isinstance(node, ast.Attribute):
            kind = self.type_of(node.value)
            if kind is not None:
                return f"{kind}().{node.attr}"
            base = self.dotted(node.value)
            return None if base is None else f"{base}.{node.attr}"
        return None

    def _of_name(self, name: str) -> str | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.imports:
                return scope.imports[name]
            if name in scope.holdings:
                return None
            scope = scope._outer
        if name in self.module.imports:
            return self.module.imports[name]
        if name in self.module.definitions or name in self.module.values:
            return f"{self.module.name}.{name}"
        return name if name in _BUILTINS else None

    def local_function(self, name: str) -> tuple[Function, Scope] | None:
        """A function that is defined inside of this one, or around it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.functions:
                return scope.functions[name], scope
            if name in scope.holdings:
                return None
            scope = scope._outer
        return None

    # --- types --------------------------------------------------------------------------------------------------------

    def type_of(self, node: ast.expr) -> str | None:
        """The dotted name of the class of an expression, as far as it can be seen."""
        if isinstance(node, ast.Await):
            return None
        if isinstance(node, ast.Call):
            name = self.dotted(node.func)
            return name if name is not None and "()" not in name else None
        if isinstance(node, ast.Name):
            return self._type_of_name(node.id)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return self.type_of(node.left)  # a path
        if isinstance(node, ast.Attribute):
            return self._type_of_value(node)
        return None

    def _type_of_name(self, name: str) -> str | None:
        with self._once((id(self), name)) as first:
            return self._type_of_variable(name) if first else None

    @contextmanager
    def _once(self, key: object) -> Iterator[bool]:
        """False when the same look-up is under way already."""
        resolving = self.modules.resolving
        if key in resolving:
            yield False
            return
        resolving.add(key)
        try:
            yield True
        finally:
            resolving.discard(key)

    def _type_of_variable(self, name: str) -> str | None:
        held = self.held(name)
        if held is None:
            return self._type_of_value(ast.Name(id=name, ctx=ast.Load()))
        for holding in held:
            if holding.annotation is not None:
                return self.dotted(_plain(holding.annotation))
        if name == "self" and self.owner is not None:
            return f"{self.module.name}.{self.owner.name}"
        found = {self.type_of(holding.value) for holding in held if holding.value is not None}
        return found.pop() if len(found) == 1 and len(held) == 1 else None

    def _type_of_value(self, node: ast.expr) -> str | None:
        name = self.dotted(node) if isinstance(node, ast.Name) or _is_dotted(node) else None
        found = None if name is None else self.modules.value(name)
        if found is None:
            return None
        module, key = found
        value = module.values[key]
        if value is None:
            return None
        with self._once((module.path, key)) as first:
            return Scope(self.modules, module, None).type_of(value) if first else None

    def held(self, name: str) -> list[Holding] | None:
        """What a variable of this function, or of one around it, was given; None for names of the module."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.holdings:
                return scope.holdings[name]
            scope = scope._outer
        return None

    # --- definitions and coroutines -----------------------------------------------------------------------------------

    def definition(self, node: ast.expr) -> Definition | None:
        """The function, class or method of the package that an expression names."""
        name = self.dotted(node)
        return None if name is None else self.modules.definition(name.replace("()", ""))

    def is_coroutine(self, call: ast.expr) -> bool:
        """Whether calling this gives a coroutine that does nothing until it is awaited."""
        if not isinstance(call, ast.Call):
            return False
        callee = call.func
        if (
            isinstance(callee, ast.Call)
            and isinstance(callee.func, ast.Attribute)
            and callee.func.attr == "options"
        ):
            callee = callee.func.value
        if isinstance(callee, ast.Name) and (local := self.local_function(callee.id)) is not None:
            return isinstance(local[0], ast.AsyncFunctionDef) and not _is_generator(local[0])
        name = self.dotted(callee)
        if name in COROUTINES:
            return True
        found = self.definition(callee)
        if found is None or isinstance(found.node, ast.ClassDef):
            return False
        if role_of(found, self.modules) != "plain":
            return True
        return isinstance(found.node, ast.AsyncFunctionDef) and not _is_generator(found.node)

    def is_set(self, node: ast.expr | None, depth: int = 0) -> bool:
        """Whether an expression is a set whose order differs from process to process."""
        if node is None or depth > 5:
            return False
        if isinstance(node, ast.Set):
            return not all(_hashes_alike(element) for element in node.elts)
        if isinstance(node, ast.SetComp):
            return not _hashes_alike(node.elt)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
            return self.is_set(node.left, depth + 1) or self.is_set(node.right, depth + 1)
        if isinstance(node, ast.Call):
            return self._makes_a_set(node, depth)
        if isinstance(node, ast.Name):
            return self._holds_a_set(node.id, depth)
        return False

    def _makes_a_set(self, call: ast.Call, depth: int) -> bool:
        if self.dotted(call.func) in ("set", "frozenset"):
            argument = call.args[0] if call.args else None
            if isinstance(argument, ast.GeneratorExp | ast.ListComp):
                return not _hashes_alike(argument.elt)
            if isinstance(argument, ast.Call) and self.dotted(argument.func) == "range":
                return False
            return argument is not None
        if isinstance(call.func, ast.Attribute) and call.func.attr in _SET_METHODS:
            return self.is_set(call.func.value, depth + 1)
        return False

    def _holds_a_set(self, name: str, depth: int) -> bool:
        held = self.held(name)
        if held is None:
            return self._module_holds_a_set(name, depth)
        for holding in held:
            if holding.annotation is not None and self.dotted(_plain(holding.annotation)) in SETS:
                return not _of_tasks_or_numbers(holding.annotation)
        return any(
            self.is_set(holding.value, depth + 1) or self._is_filled(name, holding.value) for holding in held
        )

    def _module_holds_a_set(self, name: str, depth: int) -> bool:
        dotted = self._of_name(name)
        found = None if dotted is None else self.modules.value(dotted)
        if found is None:
            return False
        module, key = found
        return Scope(self.modules, module, None).is_set(module.values[key], depth + 1)

    def _is_filled(self, name: str, value: ast.expr | None) -> bool:
        """``x = set()``, to which something other than tasks is added later."""
        if not (isinstance(value, ast.Call) and self.dotted(value.func) == "set" and not value.args):
            return False
        added = [argument for found, argument in self._additions() if found == name]
        return any(not _hashes_alike(argument) for argument in added)

    def _additions(self) -> Iterator[tuple[str, ast.expr]]:
        for node in ast.walk(self.module.tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("add", "update")
                and isinstance(node.func.value, ast.Name)
                and node.args
            ):
                yield node.func.value.id, node.args[0]


_SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})


def role_of(found: Definition, modules: Modules) -> Role:
    """What the decorators make of a function."""
    scope = Scope(modules, found.module, None)
    for decorator in found.node.decorator_list:
        name = scope.dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
        if name is not None and name.startswith(f"{_ENGINE}."):
            last = name.rpartition(".")[2]
            if last == "workflow":
                return "workflow"
            if last == "activity":
                return "activity"
    return "plain"


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Everything in a function, without what is inside of functions and classes in it (they themselves are given)."""
    for child in ast.iter_child_nodes(function):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from own_nodes(child)


def _is_generator(node: ast.AsyncFunctionDef) -> bool:
    return any(isinstance(found, ast.Yield | ast.YieldFrom) for found in own_nodes(node))


def _is_dotted(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _plain(annotation: ast.expr) -> ast.expr:
    """``set[str]`` -> ``set``, ``Path | None`` -> ``Path``."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            return annotation
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return _plain(annotation.left)
    if isinstance(annotation, ast.Subscript):
        return annotation.value
    return annotation


def _of_tasks_or_numbers(annotation: ast.expr) -> bool:
    text = ast.unparse(annotation)
    return any(word in text for word in ("Task", "Future", "[int]", "[bool]"))


def _hashes_alike(element: ast.expr) -> bool:
    """Numbers, and the tasks and futures of a run, hash alike in every process."""
    if isinstance(element, ast.Constant):
        return isinstance(element.value, int | float)
    if isinstance(element, ast.Call):
        called = element.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", _OPAQUE)
        return name in MAKES_TASKS
    return False

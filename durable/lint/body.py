"""The rules, applied to the body of one function. What it calls in the package is handed on, to be looked at, too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from random import Random
from typing import Protocol

from durable.lint.modules import Definition, Function
from durable.lint.names import CLOCKS_WITHOUT, GENERATORS, MUTABLE, UNORDERED, rule_of
from durable.lint.scopes import Scope, own_nodes, role_of

_CALLS_IN_ORDER = frozenset({"list", "tuple", "iter", "enumerate", "zip", "map", "filter", "dict.fromkeys"})
_METHODS_IN_ORDER = frozenset({"join", "extend", "writelines"})
_MUTATORS = frozenset(
    {
        "append", "add", "update", "pop", "setdefault", "clear", "extend", "insert", "remove", "popitem", "discard",
        "appendleft", "popleft", "extendleft", "sort", "reverse",
    }
)  # fmt: skip
_PROCESS_STATE = frozenset({"os.environ", "os.environb", "sys.argv", "sys.flags"})
_SIDE_EFFECT = "durable.side_effect"
_CATCHES_ALL = frozenset({"BaseException"})
_CANCELLED = frozenset({"asyncio.CancelledError", "asyncio.exceptions.CancelledError"})


class Sink(Protocol):
    """Where a body tells what it found."""

    def offence(self, node: ast.expr | ast.stmt | ast.excepthandler, code: str, what: str) -> None: ...

    def calls(self, definition: Definition, node: ast.expr) -> None: ...


def look_at_function(node: Function, scope: Scope, sink: Sink) -> None:
    """Apply the rules to a function. ``scope`` is its own."""
    _defaults(node, scope, sink)
    body = _Body(scope, sink, node)
    for statement in node.body:
        body.visit(statement)


def look_at_class(node: ast.ClassDef, scope: Scope, sink: Sink) -> None:
    """What making an instance calls beside its methods: the factories of its fields."""
    for found in ast.walk(node):
        if isinstance(found, ast.keyword) and found.arg == "default_factory":
            _Body(scope, sink, None).visit(found.value)


def _defaults(node: Function | ast.Lambda, scope: Scope, sink: Sink) -> None:
    arguments = node.args
    for default in (*arguments.defaults, *(each for each in arguments.kw_defaults if each is not None)):
        if isinstance(default, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp) or (
            isinstance(default, ast.Call) and scope.dotted(default.func) in MUTABLE
        ):
            sink.offence(default, "DUR110", f"{ast.unparse(default)} is made once, for all calls")


class _Body(ast.NodeVisitor):
    def __init__(self, scope: Scope, sink: Sink, function: Function | None) -> None:
        self._scope = scope
        self._sink = sink
        self._function = function
        self._orderless: set[int] = set()
        self._called: set[int] = set()
        self._beside = set(_functions_of_side_effects(function, scope)) if function is not None else set()

    def _offence(self, node: ast.expr | ast.stmt | ast.excepthandler, code: str, what: str) -> None:
        self._sink.offence(node, code, what)

    # --- functions inside -------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._inner(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._inner(node)

    def _inner(self, node: Function) -> None:
        if node.name in self._beside:
            return
        look_at_function(node, Scope(self._scope.modules, self._scope.module, node, self._scope), self._sink)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        _defaults(node, self._scope, self._sink)
        inner = Scope(self._scope.modules, self._scope.module, node, self._scope)
        _Body(inner, self._sink, None).visit(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Its methods are called by nobody that could be seen."""

    # --- calls and names --------------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        name = self._scope.dotted(node.func)
        if name == _SIDE_EFFECT:
            return  # what it calls is recorded
        self._called.add(id(node.func))
        code = rule_of(name) if name is not None else None
        if code is not None:
            self._offence(node, code, f"{_spelled(name)}()")
        elif name == "random.Random" and not node.args:
            self._offence(node, "DUR102", "random.Random() takes its seed from the system")
        elif name is not None and len(node.args) < CLOCKS_WITHOUT.get(name, 0):
            self._offence(node, "DUR101", f"{name}() without a time")
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "run_in_executor":
            self._offence(node, "DUR103", "run_in_executor()")
        self._in_order(node, name)
        self._changes_state(node)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self._referenced(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._referenced(node)
        self.generic_visit(node)

    def _referenced(self, node: ast.Name | ast.Attribute) -> None:
        if not isinstance(node.ctx, ast.Load):
            return
        name = self._scope.dotted(node)
        if name is None:
            return
        if name in _PROCESS_STATE:
            self._offence(node, "DUR106", name)
        elif id(node) not in self._called and rule_of(name) in ("DUR101", "DUR102"):
            self._offence(node, rule_of(name) or "", f"{_spelled(name)} is handed on")
        elif self._is_rebound(name):
            self._offence(
                node,
                "DUR106",
                f"{node.id if isinstance(node, ast.Name) else node.attr} is rebound by a function",
            )
        found = self._scope.definition(node)
        if found is not None and role_of(found, self._scope.modules) == "plain":
            self._sink.calls(found, node)

    def _is_rebound(self, name: str) -> bool:
        found = self._scope.modules.value(name)
        return found is not None and found[1] in found[0].rebound

    # --- state ------------------------------------------------------------------------------------------------------

    def visit_Global(self, node: ast.Global) -> None:
        self._offence(node, "DUR106", f"global {', '.join(node.names)}")

    def _changes_state(self, node: ast.Call) -> None:
        if not isinstance(node.func, ast.Attribute):
            return
        if node.func.attr in _MUTATORS:
            self._changed(node.func.value, node, f".{node.func.attr}()")
        elif hasattr(Random, node.func.attr) and self._kept(node.func.value) in GENERATORS:
            what = f"{ast.unparse(node.func)}() draws from a generator that the module keeps"
            self._offence(node, "DUR106", what)

    def _kept(self, target: ast.expr) -> str | None:
        """What makes the value that a module keeps by this name, if a call does: ``random.Random``."""
        name = self._scope.dotted(target)
        found = None if name is None else self._scope.modules.value(name)
        value = None if found is None else found[0].values[found[1]]
        if found is None or not isinstance(value, ast.Call):
            return None
        return Scope(self._scope.modules, found[0], None).dotted(value.func)

    def _changed(self, target: ast.expr, node: ast.expr | ast.stmt, how: str) -> None:
        name = self._scope.dotted(target)
        found = None if name is None else self._scope.modules.value(name)
        if found is None:
            return
        module, key = found
        value = module.values[key]
        literal = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
        if isinstance(value, literal) or self._kept(target) in MUTABLE:
            self._offence(node, "DUR106", f"{key}{how} changes what the module keeps")

    def _assigned(self, target: ast.expr, node: ast.stmt) -> None:
        if isinstance(target, ast.Subscript):
            self._changed(target.value, node, "[...]")

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._assigned(target, node)
            if isinstance(target, ast.Tuple | ast.List):
                self._ordered(node.value, "is unpacked")
        if len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            self._forgotten(node.targets[0].id, node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._assigned(node.target, node)
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self._assigned(target, node)
        self.generic_visit(node)

    # --- the order of sets ------------------------------------------------------------------------------------------

    def _ordered(self, node: ast.expr, how: str) -> None:
        if self._scope.is_set(node):
            text = ast.unparse(node)
            self._offence(node, "DUR107", f"{text if len(text) < 40 else 'a set'} {how}")

    def _in_order(self, node: ast.Call, name: str | None) -> None:
        if name in UNORDERED:
            # `sorted(price(x) for x in some_set)` is as good as `sorted(some_set)`.
            self._orderless.update(
                id(each) for each in node.args if isinstance(each, ast.GeneratorExp | ast.ListComp)
            )
        method = node.func.attr if isinstance(node.func, ast.Attribute) else None
        if name in _CALLS_IN_ORDER or method in _METHODS_IN_ORDER:
            for argument in node.args:
                self._ordered(argument, f"goes to {name or method}()")
        if method == "pop" and not node.args and isinstance(node.func, ast.Attribute):
            self._ordered(node.func.value, "gives any of its elements")

    def visit_Starred(self, node: ast.Starred) -> None:
        if isinstance(node.ctx, ast.Load):
            self._ordered(node.value, "is unpacked")
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._ordered(node.iter, "is iterated")
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._comprehension(node)

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.DictComp) -> None:
        waits = any(isinstance(found, ast.Await) for found in ast.walk(node))
        if id(node) not in self._orderless or waits:
            for part in node.generators:
                self._ordered(part.iter, "is iterated")
        self.generic_visit(node)

    # --- coroutines -------------------------------------------------------------------------------------------------

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call) and self._scope.is_coroutine(node.value):
            self._offence(node.value, "DUR108", f"{ast.unparse(node.value.func)}() does nothing by itself")
        self.generic_visit(node)

    def _forgotten(self, name: str, value: ast.expr) -> None:
        if self._function is None or not self._scope.is_coroutine(value):
            return
        if not any(
            isinstance(found, ast.Name) and found.id == name and isinstance(found.ctx, ast.Load)
            for found in ast.walk(self._function)
        ):
            self._offence(value, "DUR108", f"{name} is a coroutine that nobody awaits")

    # --- cancellation -----------------------------------------------------------------------------------------------

    def visit_Try(self, node: ast.Try) -> None:
        self._handlers(node)
        self.generic_visit(node)

    def visit_TryStar(self, node: ast.TryStar) -> None:
        self._handlers(node)
        self.generic_visit(node)

    def _handlers(self, node: ast.Try | ast.TryStar) -> None:
        if not any(_waits(statement) for statement in node.body):
            return
        for handler in node.handlers:
            caught = set(self._caught(handler))
            raises = any(isinstance(found, ast.Raise) for found in own_nodes(handler))
            if raises and caught & _CANCELLED:
                return  # whatever comes behind does not see it
            if not raises and (handler.type is None or caught & _CATCHES_ALL):
                kind = "a bare except" if handler.type is None else "except BaseException"
                self._offence(handler, "DUR109", f"{kind} around an await does not raise again")

    def _caught(self, handler: ast.ExceptHandler) -> Iterator[str]:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        for kind in kinds:
            name = None if kind is None else self._scope.dotted(kind)
            if name is not None:
                yield name

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            manager = item.context_expr
            if (
                isinstance(manager, ast.Call)
                and self._scope.dotted(manager.func) == "contextlib.suppress"
                and any(self._scope.dotted(each) in _CATCHES_ALL for each in manager.args)
                and any(_waits(statement) for statement in node.body)
            ):
                self._offence(manager, "DUR109", "suppress(BaseException) around an await")
        self.generic_visit(node)


def _waits(statement: ast.stmt) -> bool:
    kinds = ast.Await | ast.AsyncFor | ast.AsyncWith
    return isinstance(statement, kinds) or any(isinstance(found, kinds) for found in own_nodes(statement))


def _functions_of_side_effects(function: Function, scope: Scope) -> Iterator[str]:
    for found in ast.walk(function):
        if isinstance(found, ast.Call) and scope.dotted(found.func) == _SIDE_EFFECT:
            for argument in found.args:
                if isinstance(argument, ast.Name):
                    yield argument.id


def _spelled(name: str | None) -> str:
    """``pathlib.Path().open`` -> ``Path.open``, for people."""
    parts = (name or "").replace("()", "").split(".")
    return ".".join(parts[-2:])

"""What a call of one function may look like: which arguments it takes, and how each of them is annotated.

A `CallSignature` is made once, where a function is decorated; its annotations are evaluated at the first use,
so that they may name classes that are defined further down. It checks a call as Python itself would, and
never changes one: positional arguments stay positional, keywords stay keywords, and defaults are not filled
in. A default belongs to the code, so a run that is replayed with newer code gets the newer default.

It is not the registry (name <-> function) and knows nothing of payloads.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from durable.errors import PayloadError

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Argument(NamedTuple):
    """One parameter of a call: how messages name it, and the annotation its value is encoded with."""

    name: str
    annotation: Any


class _Hints(NamedTuple):
    """The annotations of one function, evaluated, in the form in which they are looked up."""

    positional: tuple[Argument, ...]
    rest: Argument | None
    by_name: dict[str, Any]
    rest_by_name: Any
    result: Any


class CallSignature:
    """The parameters of ``function``; ``self`` of a bound method is not one of them.

    ``namespace`` holds further names that string annotations may use, such as the local variables of the
    function in which ``function`` was defined. It is read at the first use, not before. What ``function``
    closes over is known without it.

    Raises `TypeError` for an object without a signature.
    """

    __slots__ = (
        "_function",
        "_hints",
        "_least",
        "_most",
        "_namespace",
        "_signature",
        "argument_shapes",
        "name",
        "result_shape",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        namespace: Mapping[str, Any] | None = None,
    ) -> None:
        self.name: str = name or getattr(function, "__name__", None) or type(function).__name__
        self._function = function
        self._namespace = namespace
        self._signature = _read_signature(function, self.name)
        self._least, self._most = _positional_bounds(self._signature)
        self._hints: _Hints | None = None
        # What `durable.core.payload` makes of the annotations, looked up once and not at each call.
        self.argument_shapes: tuple[Any, ...] | None = None
        self.result_shape: Any = None

    def __repr__(self) -> str:
        return f"<CallSignature {self.name}{self._signature}>"

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Checks that the function could be called like this.

        Raises `TypeError` with the words of a real call: ``checkout() missing a required argument:
        'order_id'``.
        """
        # inspect's own bind costs several microseconds; nearly every call is positional and needs only
        # counting.
        if not kwargs and self._least <= len(args) <= self._most:
            return
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None

    def positional(self, index: int) -> Argument:
        """The parameter that the positional argument number ``index`` (from 0) of a checked call goes to."""
        hints = self._hints or self._evaluated()
        if index < len(hints.positional):
            return hints.positional[index]
        if hints.rest is None:
            raise TypeError(f"{self.name}() too many positional arguments")
        return Argument(f"{hints.rest.name}[{index - len(hints.positional)}]", hints.rest.annotation)

    def keyword(self, name: str) -> Argument:
        """The parameter that the keyword argument ``name`` of a checked call goes to."""
        hints = self._evaluated()
        rest = hints.rest_by_name
        if name in hints.by_name:
            return Argument(name, hints.by_name[name])
        return Argument(name, rest.get(name, Any) if isinstance(rest, dict) else rest)

    def positionals(self) -> tuple[Argument, ...]:
        """The parameters that positional arguments go to, but for ``*args``."""
        return self._evaluated().positional

    @property
    def result(self) -> Any:
        """The annotation of what the function returns (for ``async def``: of what awaiting it gives), or
        `Any`.
        """
        return self._evaluated().result

    def _evaluated(self) -> _Hints:
        if self._hints is None:
            self._hints = _arrange(self._signature, self._annotations())
        return self._hints

    def _annotations(self) -> dict[str, Any]:
        function = _annotated_function(self._function)
        local = {**_closed_over(function), **(self._namespace or {})}
        try:
            return typing.get_type_hints(function, localns=local or None, include_extras=True)
        except Exception as error:
            raise PayloadError(
                f"the annotations of {self.name}() cannot be evaluated ({type(error).__name__}: {error})."
                " Every name in them must exist at run time: an import under `if TYPE_CHECKING` is not enough"
            ) from error


def _read_signature(function: Callable[..., Any], name: str) -> inspect.Signature:
    try:
        if sys.version_info >= (3, 14):
            # Annotations are evaluated lazily from 3.14 on, and plain `signature` would evaluate them too
            # early.
            import annotationlib

            return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
        return inspect.signature(function)
    except ValueError as error:
        raise TypeError(
            f"{name} has no signature that Python can read: wrap it in a function of your own"
        ) from error


def _positional_bounds(signature: inspect.Signature) -> tuple[float, float]:
    """How many positional arguments a call without keywords has: at least, at most. (inf, ...) if there is
    none.
    """
    least: float = 0
    most: float = 0
    for parameter in signature.parameters.values():
        required = parameter.default is inspect.Parameter.empty
        if parameter.kind in _POSITIONAL:
            most += 1
            least += required
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            most = float("inf")
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY and required:
            least = float("inf")
    return least, most


def _arrange(signature: inspect.Signature, annotations: dict[str, Any]) -> _Hints:
    positional: list[Argument] = []
    by_name: dict[str, Any] = {}
    rest: Argument | None = None
    rest_by_name: Any = Any
    for name, parameter in signature.parameters.items():
        annotation = _usable(annotations.get(name, Any))
        if parameter.kind in _POSITIONAL:
            positional.append(Argument(name, annotation))
        if parameter.kind in _BY_NAME:
            by_name[name] = annotation
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            rest = Argument(name, annotation)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            rest_by_name = _unpacked(annotation)
    return _Hints(tuple(positional), rest, by_name, rest_by_name, _usable(annotations.get("return", Any)))


def _usable(annotation: Any) -> Any:
    """`Any` for ``*args: P.args`` and its like, which say nothing about a single value."""
    if isinstance(annotation, typing.ParamSpecArgs | typing.ParamSpecKwargs | typing.TypeVarTuple):
        return Any
    if typing.get_origin(annotation) is typing.Unpack and not _is_typed_dict(typing.get_args(annotation)[0]):
        return Any
    return annotation


def _unpacked(annotation: Any) -> Any:
    """``**options: Unpack[Options]``: the keys of ``Options`` with their annotations; anything else as it
    is.
    """
    if typing.get_origin(annotation) is not typing.Unpack:
        return annotation
    hints = typing.get_type_hints(typing.get_args(annotation)[0], include_extras=True)
    return {name: _without_qualifier(hint) for name, hint in hints.items()}


def _without_qualifier(annotation: Any) -> Any:
    while typing.get_origin(annotation) in (typing.Required, typing.NotRequired):
        annotation = typing.get_args(annotation)[0]
    return annotation


def _is_typed_dict(annotation: Any) -> bool:
    return typing.is_typeddict(annotation)


def _annotated_function(function: Any) -> Any:
    """The object that holds the annotations: partials and callable instances keep them elsewhere."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return type(function).__call__


def _closed_over(function: Any) -> dict[str, Any]:
    """The variables of enclosing functions that ``function`` uses, as far as they have a value yet."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    code = getattr(function, "__code__", None)
    found: dict[str, Any] = {}
    for name, cell in zip(
        getattr(code, "co_freevars", ()), getattr(function, "__closure__", None) or (), strict=False
    ):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found

"""Exceptions as records: what is stored of one that was raised, and what it comes out as elsewhere.

`failure_of` looks at an exception and never raises, whatever its author did to it. What it keeps is bounded:
16 KiB of message and of traceback each, ten levels of causes, 64 exceptions in all, 256 KiB of text. A
traceback is files, lines and function names: no source text, no locals, no values.

`rebuild` turns a record into an exception. A class is taken from the registry given (`known_exceptions`, a
snapshot that a worker makes when it starts), never imported. Its ``__init__`` and ``__new__`` are not called,
since nobody knows with which arguments: the instance is made by the built-in class beneath and gets the
``args`` and attributes that were stored, as far as their values are plain data (`durable.core.attributes`).
If its ``str()`` is then not the stored message, it gets the message as its only argument; if that does not
help either, or the class is not known, or is no `Exception` (`KeyboardInterrupt`, `SystemExit`, a
`asyncio.CancelledError`), it comes out as a `RemoteError` that is also an instance of its nearest built-in
base.

A rebuilt exception has the causes it had as ``__cause__`` (also those that were its ``__context__``: that is
what Python would have shown), its notes, and ``remote_traceback``, the text of where it was raised. The text
is an attribute and no note, because it would fill every log line that shows the exception. It is kept when
the exception is raised again and stored anew.
"""

from __future__ import annotations

import builtins
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType, MemberDescriptorType, ModuleType, TracebackType
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import to_json

from durable.core.attributes import NotPortable, from_portable, to_portable
from durable.errors import NonRetryable, PayloadError, RemoteError, RetryAfter, remote_error_class

MAX_TEXT = 16 * 1024
MAX_CAUSES = 10
MAX_EXCEPTIONS = 64
MAX_TOTAL_TEXT = 256 * 1024
_MAX_NAME = 500
_MAX_NOTES = 32
_MAX_BASES = 32
_MAX_PARTS = 16
_FIRST_FRAMES, _LAST_FRAMES = 20, 60

_TRACEBACK = "remote_traceback"
_ORIGINAL = "_failure"  # the record that a RemoteError was made of, so that passing it on loses nothing
# The attributes as Python keeps them, whatever a class of the user's defines under their names.
_RAW: Any = BaseException
_RAW_GROUP: Any = BaseExceptionGroup
_OURS = frozenset({"__notes__", _TRACEBACK, _ORIGINAL})
# Python cannot raise these into a coroutine, or treats them as its own signals; as a base they would do harm.
_NEVER_A_BASE = (StopIteration, StopAsyncIteration)


_BUILT_IN: dict[str, type[BaseException]] = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__name__ == name
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An exception, stored.

    ``type`` and ``bases`` (nearest first) are names as in tracebacks: ``module.qualname``, built-ins without
    module. ``args`` and ``state`` are portable data (`durable.core.attributes`), ``args`` None if it could
    not be kept. ``parts`` are the exceptions of a group, ``omitted`` says how many more it had.
    ``retry_after_seconds`` is what `RetryAfter` asked for.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True)

    type: str
    message: str = ""
    args: list[Any] | None = None
    state: dict[str, Any] | None = None
    traceback: str = ""
    bases: tuple[str, ...] = ()
    cause: Failure | None = None
    notes: tuple[str, ...] = ()
    parts: tuple[Failure, ...] = ()
    omitted: int = 0
    non_retryable: bool = False
    retry_after_seconds: float | None = None

    def to_text(self) -> str:
        """The record as JSON (the strict one, without NaN). Never raises for what `failure_of` or `from_text` gave."""
        return _STORED.dump_json(self, exclude_defaults=True, warnings=False).decode()

    @staticmethod
    def from_text(text: str) -> Failure:
        """The record that `to_text` wrote. Raises `PayloadError`, and nothing else, for any other text."""
        try:
            return _STORED.validate_json(text)
        except ValidationError as error:
            detail = error.errors(include_input=False, include_url=False)[0]["msg"]
            raise PayloadError(f"a stored failure cannot be decoded: {detail}"[:_MAX_NAME]) from error
        except Exception as error:
            raise PayloadError(f"a stored failure cannot be decoded: {type(error).__name__}") from error


_STORED: TypeAdapter[Failure] = TypeAdapter(Failure)


def type_name(kind: type) -> str:
    """The name of a class as a traceback shows it: ``shop.errors.CardDeclined``, ``ValueError``."""
    try:
        module, name = str(kind.__module__), str(kind.__qualname__)
    except Exception:  # a metaclass can do this
        return "Exception"
    return _clean(name if module == "builtins" else f"{module}.{name}", _MAX_NAME)


def known_exceptions(*namespaces: ModuleType | Mapping[str, Any]) -> Mapping[str, type[BaseException]]:
    """The exception classes that are loaded now, by `type_name`; nothing is imported.

    Of two classes with one name (a module loaded twice, local classes) the one defined later counts, and what
    stands in one of ``namespaces`` counts before all others.
    """
    found = {type_name(kind): kind for kind in _loaded(BaseException, set())}
    for namespace in namespaces:
        names = vars(namespace) if isinstance(namespace, ModuleType) else namespace
        for kind in list(names.values()):
            if isinstance(kind, type) and issubclass(kind, BaseException):
                found[type_name(kind)] = kind
    return MappingProxyType(found)


def _loaded(kind: type[BaseException], seen: set[type]) -> Iterator[type[BaseException]]:
    waiting = deque([kind])
    while waiting:
        kind = waiting.popleft()
        if kind not in seen:
            seen.add(kind)
            yield kind
            waiting.extend(type.__subclasses__(kind))


# ---------------------------------------------------------------------------------------------------------
# storing


def failure_of(error: BaseException) -> Failure:
    """The record of an exception, with its causes and, for a group, its parts. Never raises."""
    # `isinstance` asks the instance for its `__class__`, which may be code of the user's; `type` does not.
    budget = _Budget()
    budget.admits(error)
    return _record(error, budget, MAX_CAUSES)


class _Budget:
    """What may still be stored of one failure, and what was stored already: causes may form a circle."""

    def __init__(self) -> None:
        self._seen: dict[int, BaseException] = {}
        self._bytes = MAX_TOTAL_TEXT

    def admits(self, error: BaseException) -> bool:
        """Whether this exception is new, and one more may be kept."""
        if id(error) in self._seen or len(self._seen) >= MAX_EXCEPTIONS:
            return False
        self._seen[id(error)] = error
        return True

    def text(self, text: str, limit: int = MAX_TEXT) -> str:
        kept = _clean(text, min(limit, self._bytes))
        self._bytes -= len(kept)
        return kept

    def portable(self, value: Any) -> Any:
        """The value as portable data. Raises `NotPortable` if it cannot be, or takes too much room."""
        try:
            data = to_portable(value)
            size = len(to_json(data))
        except Exception as error:
            raise NotPortable from error
        if size > min(MAX_TEXT, self._bytes):
            raise NotPortable
        self._bytes -= size
        return data


def _record(error: BaseException, budget: _Budget, causes_left: int) -> Failure:
    original = _attributes(error).get(_ORIGINAL)
    if isinstance(original, Failure):
        record = replace(original, cause=None)
    elif _is_remote(error):
        record = _remote_record(error, budget)
    else:
        record = _own_record(error, budget, causes_left)
    return replace(
        record,
        traceback=budget.text(_traceback(error)),
        notes=_notes(error, budget),
        cause=_cause(error, budget, causes_left),
    )


def _own_record(error: BaseException, budget: _Budget, causes_left: int) -> Failure:
    message = budget.text(_text_of(error))
    args, state = _reduced(error)
    parts, omitted = _parts(error, budget, causes_left)
    return Failure(
        type=type_name(type(error)),
        message=message,
        args=_kept_args(args[:1] if parts else args, budget),
        state=_kept_state(state, budget),
        bases=_bases(type(error)),
        parts=parts,
        omitted=omitted,
        non_retryable=issubclass(type(error), NonRetryable),
        retry_after_seconds=_retry_after(error),
    )


def _is_remote(error: BaseException) -> bool:
    kind = type(error)
    return issubclass(type(error), RemoteError) and type_name(kind) == type_name(RemoteError)


def _remote_record(error: BaseException, budget: _Budget) -> Failure:
    """A `RemoteError` that somebody made by hand stands for the exception that it names."""
    bases = tuple(name for name in _bases(type(error)) if name in _BUILT_IN)
    attributes = _attributes(error)
    kind, message = attributes.get("type"), attributes.get("message")
    return Failure(
        type=_clean(kind, _MAX_NAME) if isinstance(kind, str) else "Exception",
        message=budget.text(message if isinstance(message, str) else _text_of(error)),
        bases=bases,
    )


def _bases(kind: type) -> tuple[str, ...]:
    return tuple(type_name(base) for base in kind.__mro__[1 : _MAX_BASES + 1] if base is not object)


def _text_of(error: BaseException) -> str:
    try:
        return str.__str__(str(error))  # of a subclass of str, the plain text
    except BaseException as problem:  # whatever a user's __str__ does, the failure must be stored
        return f"(the text of this exception cannot be had: __str__ raised {type_name(type(problem))})"


def _clean(text: str, limit: int) -> str:
    """The text as UTF-8 can hold it (lone surrogates escaped), in at most ``limit`` bytes."""
    # Cut before encoding too: a message of a gigabyte is not worth a copy.
    encoded = str.__str__(text)[: max(limit, 0) + 1].encode("utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode()
    return encoded[: max(limit - 3, 0)].decode(errors="ignore") + "..."[: max(limit, 0)]


def _traceback(error: BaseException) -> str:
    """File, line and function of each frame, outermost first; behind it where a rebuilt one was raised
    before.
    """
    here = _frames(_RAW.__traceback__.__get__(error))
    before = _attributes(error).get(_TRACEBACK)
    if not isinstance(before, str) or not before:
        return "\n".join(here)
    return "\n".join([before, "raised again:", *here]) if here else before


def _frames(traceback: TracebackType | None) -> list[str]:
    first: list[str] = []
    last: deque[str] = deque(maxlen=_LAST_FRAMES)
    count = 0
    while traceback is not None:
        code = traceback.tb_frame.f_code
        line = f'File "{code.co_filename}", line {traceback.tb_lineno}, in {code.co_qualname}'
        (first if count < _FIRST_FRAMES else last).append(line)
        count += 1
        traceback = traceback.tb_next
    left_out = count - len(first) - len(last)
    return [*first, *([f"({left_out} more frames)"] if left_out else []), *last]


def _notes(error: BaseException, budget: _Budget) -> tuple[str, ...]:
    notes = _attributes(error).get("__notes__")
    if not isinstance(notes, list | tuple):
        return ()
    return tuple(budget.text(note, 4096) for note in list(notes)[:_MAX_NOTES] if isinstance(note, str))


def _cause(error: BaseException, budget: _Budget, causes_left: int) -> Failure | None:
    cause = _RAW.__cause__.__get__(error)
    if cause is None and not _RAW.__suppress_context__.__get__(error):
        cause = _RAW.__context__.__get__(error)
    if cause is None or causes_left <= 0 or not budget.admits(cause):
        return None
    return _record(cause, budget, causes_left - 1)


def _parts(error: BaseException, budget: _Budget, causes_left: int) -> tuple[tuple[Failure, ...], int]:
    if not issubclass(type(error), BaseExceptionGroup):
        return (), 0
    inner = _RAW_GROUP.exceptions.__get__(error)
    kept = [each for each in inner[:_MAX_PARTS] if causes_left > 0 and budget.admits(each)]
    return tuple(_record(each, budget, causes_left - 1) for each in kept), len(inner) - len(kept)


def _retry_after(error: BaseException) -> float | None:
    delay = _attributes(error).get("delay_seconds") if issubclass(type(error), RetryAfter) else None
    if not isinstance(delay, int | float) or not math.isfinite(delay):
        return None
    return max(float(delay), 0.0)


def _attributes(error: BaseException) -> dict[str, Any]:
    """The instance's ``__dict__``, also where its class has something else under that name."""
    found: dict[str, Any] = _RAW.__dict__["__dict__"].__get__(error)
    return found


def _reduced(error: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What an exception is made of, as its built-in class sees it; a ``__reduce__`` of the user's is not
    asked.
    """
    try:
        made_of = _built_in_beneath(type(error)).__reduce__(error)
    except Exception:
        return _RAW.args.__get__(error), {}
    state = dict(made_of[2] or {}) if isinstance(made_of, tuple) and len(made_of) > 2 else {}
    for name, member in _slots(type(error)):
        try:
            state[name] = member.__get__(error)
        except AttributeError:  # never set
            continue
    return tuple(made_of[1]), state


def _slots(kind: type) -> Iterator[tuple[str, Any]]:
    for base in kind.__mro__:
        if _BUILT_IN.get(base.__name__) is not base:
            yield from (
                (name, each) for name, each in vars(base).items() if isinstance(each, MemberDescriptorType)
            )


def _kept_args(args: tuple[Any, ...], budget: _Budget) -> list[Any] | None:
    """All or none: half of the arguments would be other arguments."""
    try:
        return [budget.portable(each) for each in args]
    except NotPortable:
        return None


def _kept_state(state: dict[str, Any], budget: _Budget) -> dict[str, Any] | None:
    kept: dict[str, Any] = {}
    for name, value in state.items():
        if not isinstance(name, str) or name in _OURS:
            continue
        try:
            kept[_clean(name, _MAX_NAME)] = budget.portable(value)
        except NotPortable:
            continue
    return kept or None


# --------------------------------------------------------------------------------------------------------
# rebuilding


def rebuild(failure: Failure, known: Mapping[str, type[BaseException]]) -> Exception:
    """The exception that ``failure`` stands for, always an `Exception`; ``known`` is a `known_exceptions`."""
    error = _rebuilt_group(failure, known) if failure.parts else _rebuilt(failure, known)
    if error is None:
        error = _remote(failure)
    attributes = _attributes(error)
    attributes[_TRACEBACK] = failure.traceback
    if failure.notes:
        attributes["__notes__"] = list(failure.notes)
    if failure.cause is not None:
        _RAW.__cause__.__set__(error, rebuild(failure.cause, known))
    return error


def _rebuilt(failure: Failure, known: Mapping[str, type[BaseException]]) -> Exception | None:
    kind = known.get(failure.type)
    if kind is None or not issubclass(kind, Exception) or issubclass(kind, _NEVER_A_BASE):
        return None
    state = _restored_state(failure)
    for args in (_restored_args(failure), (failure.message,)):
        error = None if args is None else _instance(kind, args, state)
        # Cut and cleaned as it was when stored: a text over the limit cannot be compared in any other way.
        if error is not None and _clean(_text_of(error), MAX_TEXT) == failure.message:
            return error
    return None


def _rebuilt_group(failure: Failure, known: Mapping[str, type[BaseException]]) -> Exception | None:
    members = [rebuild(part, known) for part in failure.parts]
    if failure.omitted > 0:
        members.append(RemoteError(f"{failure.omitted} more exceptions of this group were not kept"))
    args = _restored_args(failure) or (failure.message,)
    message = args[0] if isinstance(args[0], str) else failure.message
    kind = known.get(failure.type, ExceptionGroup)
    if issubclass(kind, ExceptionGroup):
        error = _instance(kind, (message, members), _restored_state(failure))
        if error is not None and _has_text(error):
            return error
    return ExceptionGroup(message, members)


def _instance(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> Exception | None:
    """An instance made by the built-in class beneath ``kind``; code of the user's is not run."""
    made_by: Any = _built_in_beneath(kind)
    try:
        error = made_by.__new__(kind, *args)
        made_by.__init__(error, *args)
        for name, value in state.items():
            _restore(error, name, value)
    except Exception:
        return None
    return error if isinstance(error, Exception) else None


def _restore(error: Exception, name: str, value: Any) -> None:
    if name.startswith("__"):
        return
    for base in type(error).__mro__:
        if isinstance(member := vars(base).get(name), MemberDescriptorType):
            member.__set__(error, value)
            return
    _attributes(error)[name] = value


def _remote(failure: Failure) -> RemoteError:
    names = (failure.type, *failure.bases)
    found = (_BUILT_IN[name] for name in names if name in _BUILT_IN)
    base: Any = next(
        (each for each in found if issubclass(each, Exception) and each not in _NEVER_A_BASE), None
    )
    error = remote_error_class(base)(failure.message, type=failure.type, traceback=failure.traceback)
    _attributes(error)[_ORIGINAL] = failure
    return error


def _restored_args(failure: Failure) -> tuple[Any, ...] | None:
    try:
        return None if failure.args is None else tuple(from_portable(each) for each in failure.args)
    except NotPortable:
        return None


def _restored_state(failure: Failure) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name, value in (failure.state or {}).items():
        try:
            state[name] = from_portable(value)
        except NotPortable:
            continue
    return state


def _has_text(error: Exception) -> bool:
    try:
        str(error)
    except Exception:
        return False
    return True


def _built_in_beneath(kind: type[BaseException]) -> type[BaseException]:
    return next(base for base in kind.__mro__ if _BUILT_IN.get(base.__name__) is base)
